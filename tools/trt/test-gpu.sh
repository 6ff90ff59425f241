#!/usr/bin/env bash
# What only an NVIDIA GPU can show: the CUDA kernels against the goldens, also under compute-sanitizer, and toklip on the real
# TensorRT: goldens, conformance, judgement, graphs, a soak. Writes docs/gpu/test-GPU.log.
#   tools/trt/test-gpu.sh          everything; what cannot be run is told, and the exit code is 1
#   tools/trt/test-gpu.sh kernels  the kernels alone: needs nvcc, cmake, g++ (and Go for the comparison with the goldens)
#   tools/trt/test-gpu.sh engines  TensorRT alone: needs Go, TensorRT and its headers
# TENSORRT_ROOT names an unpacked TensorRT; TOKLIP_GPU_SOAK how long the soak takes (1m).
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/trt/gpu.sh
. tools/trt/gpu.sh

parts=${1:-all}
case $parts in
all | kernels | engines) ;;
*)
	echo "usage: tools/trt/test-gpu.sh [all | kernels | engines]" >&2
	exit 2
	;;
esac
[ -n "$(gpu_name)" ] || no_gpu

kernels() {
	local sm
	sm=$(gpu_sm)
	command -v nvcc >/dev/null || {
		lacks "the kernels: nvcc was not found (CUDA toolkit; JetPack: sudo apt install cuda-toolkit)"
		return
	}
	step "kernels: build for sm_${sm:-all}" build_kernels "$sm"
	local check=$kernels_build/test/toklip_kernels_check gpu=$kernels_build/test/toklip_gpu_kernels
	[ -x "$check" ] || return 0
	[ ! -x "$gpu" ] || step "kernels: GPU against CPU" "$gpu"
	if ! command -v go >/dev/null; then
		lacks "the kernels against the goldens: Go was not found"
	else
		step "kernels: against the goldens" env TOKLIP_KERNELS_CHECK="$check" go test -count 1 -run '/gpu' -skip '^TestCompile$' ./csrc/test/kernels
	fi
	[ -x "$gpu" ] || return 0
	if ! command -v compute-sanitizer >/dev/null; then
		lacks "the kernels under compute-sanitizer: it was not found (part of the CUDA toolkit)"
		return
	fi
	local tool
	for tool in memcheck racecheck initcheck synccheck; do
		step "kernels: $tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "$gpu"
	done
}

engines() {
	can_run_engines || return 0
	step "TensorRT: build the program and the shim" make build
	step "TensorRT: doctor" bin/toklip doctor
	# Go's tests run in their packages' folders.
	local shim
	shim=$(bin/toklip doctor | sed -n 's/^✓ TensorRT .*driven by //p')
	step "TensorRT: goldens, conformance, graphs, full size, soak" env TOKLIP_GPU=1 ${shim:+"TOKLIP_TRT_SHIM=$(realpath "$shim")"} \
		go test -count 1 -timeout 60m -v -run GPU ./cmd/toklip/tensorrt
}

run() {
	machine
	[ "$parts" = engines ] || kernels
	[ "$parts" = kernels ] || engines
	conclude test-gpu
}

log=$(log_file test)
mkdir -p "$(dirname "$log")"
echo "test-gpu: the log goes to $log"
run 2>&1 | tee "$log"
