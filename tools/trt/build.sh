#!/usr/bin/env bash
# Builds the shim over the TensorRT of this machine into bin/lib: libtoklip_trt8.so, libtoklip_trt10.so,
# libtoklip_trt11.so or libtoklip_trt_rtx.so, by the version of its headers. Needs those headers and cmake; with nvcc
# (/usr/local/cuda) the CUDA kernels are compiled too, without it pre-processing and search stay on the CPU.
#   tools/trt/build.sh               a machine without TensorRT's headers is an error
#   tools/trt/build.sh --if-present  there, nothing is done
#   tools/trt/build.sh --headers     only says where the headers are; exit code 1: nowhere
# TENSORRT_ROOT names the folder of an unpacked TensorRT; TOKLIP_CUDA_ARCHS the GPUs to compile for, such as "87;110".
set -euo pipefail
cd "$(dirname "$0")/../.."

# Where NvInfer.h is, as csrc/cmake/FindTensorRTHeaders.cmake looks for it.
headers() {
	local folder
	for folder in ${TENSORRT_ROOT:+"$TENSORRT_ROOT/include" "$TENSORRT_ROOT"} "/usr/include/$(uname -m)-linux-gnu" /usr/include \
		/usr/local/tensorrt/include /usr/local/TensorRT/include; do
		if [ -e "$folder/NvInfer.h" ]; then
			echo "$folder"
			return
		fi
	done
	return 1
}

if ! folder=$(headers); then
	case ${1:-} in
	--if-present) exit 0 ;;
	--headers) exit 1 ;;
	esac
	cat >&2 <<-'EOF'
		trt: NvInfer.h was not found, so there is no TensorRT to build for.
		     On a Jetson:    sudo apt install nvidia-jetpack   (or libnvinfer-dev libnvonnxparsers-dev)
		     On a PC:        install TensorRT's packages, or unpack TensorRT (or TensorRT-RTX) and give its folder:
		                     make trt TENSORRT_ROOT=/opt/TensorRT-10.16.1
		     Without it toklip runs on the CPU with ONNX Runtime.
	EOF
	exit 1
fi
if [ "${1:-}" = --headers ]; then
	echo "$folder"
	exit 0
fi
command -v cmake >/dev/null || {
	echo "trt: cmake was not found; run make deps, or: sudo apt install cmake" >&2
	exit 1
}

# JetPack does not put nvcc into PATH.
PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null ||
	echo "trt: nvcc was not found: pre-processing and codebook search will run on the CPU (JetPack: sudo apt install cuda-toolkit)" >&2
echo "trt: building the shim for the TensorRT in $folder"
build=.cache/build/trt
log=$build/build.log
# Another TensorRT may be of another family: nothing of the last one may be left over.
[ "$(cat "$build/headers" 2>/dev/null)" = "$folder" ] || rm -rf "$build"
mkdir -p "$build" bin/lib
echo "$folder" >"$build/headers"
{
	cmake -S csrc -B "$build" -DCMAKE_BUILD_TYPE=Release -DTOKLIP_TRT_SHIM=ON -DTOKLIP_TRT_TESTS=OFF \
		-DTensorRTHeaders_INCLUDE_DIR="$folder" ${TOKLIP_CUDA_ARCHS:+-DTOKLIP_CUDA_ARCHS="$TOKLIP_CUDA_ARCHS"} &&
		cmake --build "$build" --parallel "$(nproc)"
} >"$log" 2>&1 || {
	tail -n 40 "$log" >&2
	echo "trt: the build failed; all of its output is in $log" >&2
	exit 1
}
grep -h '^-- toklip: ' "$log" | sed 's/^-- toklip: /trt: /' || true
found=
while IFS= read -r library; do
	cp -u "$library" bin/lib/
	found=$found\ bin/lib/$(basename "$library")
done < <(find "$build" -name 'libtoklip_trt*.so' ! -name libtoklip_trt_test.so)
[ -n "$found" ] || {
	echo "trt: the build made no library; its output is in $log" >&2
	exit 1
}
echo "trt: built$found"
