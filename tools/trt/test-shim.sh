#!/usr/bin/env bash
# The whole shim with its CUDA kernels, as a device builds it: compiled against TensorRT 10.16's headers, the kernels by the pinned
# nvcc for Orin, Hopper and Thor, warnings as errors; then opened over a real TensorRT, which must find the kernels inside. No GPU.
# Needs tools/trt/deps.sh. The build lies in .cache/build/csrc-shim; a second run compiles only what has changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=.cache/build/csrc-shim
nvidia=$PWD/.cache/nvidia
log=$build.log
mkdir -p .cache/build
# One at a time: two would compile into the same folder.
exec 9>"$build.lock"
flock 9
{
	# Tests on: that makes nvcc's warnings errors, and builds the programs for a GPU, too.
	cmake -S csrc -B "$build" -DCMAKE_BUILD_TYPE=Release -DTOKLIP_TRT_TESTS=ON -DTOKLIP_TRT_GPU_TESTS=ON \
		-DTOKLIP_TRT_HEADERS="$nvidia/headers/trt-10.16" -DTOKLIP_NVCC="$nvidia/cuda-13.0/bin/nvcc" "-DTOKLIP_CUDA_ARCHS=87;90;110" &&
		cmake --build "$build" --parallel "$(nproc)" --target toklip_trt10 toklip_describe toklip_gpu_kernels
} >"$log" 2>&1 || {
	tail -n 60 "$log" >&2
	echo "test-shim: the build failed; all of its output is in $log" >&2
	exit 1
}
# 1 says that there is no GPU, or another trouble: what it printed decides.
described=$("$(find "$build" -name describe -type f)" -l "$nvidia/trt-10.15/lib/libnvinfer.so.10" 2>&1) || true
for line in 'family: trt10' 'version: 10.15.1.29' 'kernels: sm_87 sm_90 sm_110'; do
	grep -qx "$line" <<<"$described" || {
		echo "test-shim: no line \"$line\" in what the shim says of itself:" >&2
		echo "$described" >&2
		exit 1
	}
done
echo "test-shim: TensorRT 10's shim with CUDA kernels for sm_87, sm_90, sm_110"
