# toklip: build, demo, test. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X main.version=$(VERSION)
GOLANGCI_LINT_VERSION := v2.15.0
GOTESTSUM_VERSION := v1.13.0

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: deps
deps: ## Install what building, running and testing need (apt, ONNX Runtime); does nothing the second time
	@tools/deps.sh

.PHONY: build
build: deps ## Build bin/toklip and bin/toklip-capture, and the shim over TensorRT where its headers are installed
	@mkdir -p bin/lib
	@cp -u .cache/lib/libonnxruntime.so.* bin/lib/ && ln -sfn "$$(cd bin/lib && ls libonnxruntime.so.* | tail -n 1)" bin/lib/libonnxruntime.so
	@echo "build: bin/toklip bin/toklip-capture (the first build compiles OpenCV's bindings: a minute or two)"
	@go build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...
	@tools/trt/build.sh --if-present

.PHONY: trt
trt: ## Build the shim over this machine's TensorRT into bin/lib (make build does so too where it finds NvInfer.h)
	@tools/trt/build.sh

.PHONY: demo
demo: build ## Live tokens, embeddings and labels of a video over MQTT, nothing else needed
	@bin/toklip run --demo

.PHONY: demo-eval
demo-eval: build ## How well the demo's model sees: its figures, recomputed from the held-out frames in demo/heldout
	@bin/toklip eval demo demo/heldout

.PHONY: test
test: deps ## All tests, race detector on, full-size model included
	@tools/test.sh

.PHONY: lint
lint: ## gofmt, clang-format, vet, golangci-lint (with the import directions), tidy, shell scripts
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'lint: run gofmt -w on the files above' >&2; exit 1; }
	@tools/trt/format.sh --check
	@for script in $$(git ls-files '*.sh'); do bash -n "$$script"; done
	@if command -v shellcheck >/dev/null; then git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck --severity warning; fi
	@go mod tidy -diff
	@go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION) run ./...

.PHONY: format
format: ## gofmt and clang-format over everything
	@gofmt -w .
	@tools/trt/format.sh

.PHONY: test-gpu
test-gpu: ## On a machine with an NVIDIA GPU: kernels against the goldens, TensorRT end to end; a log in docs/gpu
	@tools/trt/test-gpu.sh

.PHONY: bench-gpu
bench-gpu: ## On a machine with an NVIDIA GPU: latency of each stage, graphs, frames in flight; a log in docs/gpu
	@tools/trt/bench-gpu.sh

.PHONY: bench
bench: build ## Measure speed and memory on this machine (about 15 minutes); docs/performance.md explains the figures
	@tools/bench/bench.sh

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 20s)
	@tools/fuzz.sh

.PHONY: proto
proto: ## Regenerate api/toklipv1 from the protobuf schema
	@tools/proto.sh

.PHONY: clean
clean: ## Remove what was built; downloads in .cache stay
	@rm -rf bin dist
