#!/usr/bin/env bash
# All tests, as continuous integration and a new user run them. TEST_FLAGS adds flags to go test.
set -euo pipefail
cd "$(dirname "$0")/.."

# A missing real peer is a failure here, not a reason to skip.
export TOKLIP_REQUIRE_OPENCV=1
gotestsum=(go run gotest.tools/gotestsum@v1.13.0 --format pkgname-and-test-fails --format-hide-empty-pkg)

tools/trt/deps.sh

echo "test: C++, under sanitizers; the shim with its CUDA kernels (the first time compiles for some minutes)"
tools/trt/test-cpp.sh
tools/trt/test-shim.sh

echo "test: every package, race detector on"
"${gotestsum[@]}" --jsonfile .cache/test.json -- -race -timeout 15m ${TEST_FLAGS:-} ./...

echo "test: the full-size model against its goldens, its memory, TensorRT's parser and builder (about five minutes, 9 GB of disk and more in temporary folders)"
TOKLIP_FULL=1 "${gotestsum[@]}" -- -count 1 -timeout 20m -run 'Full|ImportMemory' ./model/... ./engine/... ./trt/... ./cmd/...
