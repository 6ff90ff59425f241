# Shared by test-gpu.sh and bench-gpu.sh: what this machine has, and a log of the run. Sourced, not run.
# shellcheck shell=bash

# JetPack does not put CUDA's programs into PATH.
PATH=$PATH:/usr/local/cuda/bin

# First line of a command's output, or nothing.
first() { "$@" 2>/dev/null | head -n 1 || true; }

# Name of the GPU and what drives it. Empty without one.
gpu_name() {
	local model
	model=$(first nvidia-smi --query-gpu=name --format=csv,noheader)
	# On a Jetson nvidia-smi is absent, or tells no name.
	if [ -e /etc/nv_tegra_release ] || [ -d /sys/devices/platform/17000000.gpu ] || [ -d /sys/devices/platform/bus@0/17000000.gpu ]; then
		model=$({ tr -d '\0' </proc/device-tree/model; } 2>/dev/null || echo Jetson)
	fi
	echo "$model"
}

# Compute capability without the dot, such as 87; empty if it cannot be told.
gpu_sm() {
	local capability
	capability=$(first nvidia-smi --query-gpu=compute_cap --format=csv,noheader)
	if [[ $capability =~ ^[0-9]+\.[0-9]+$ ]]; then
		echo "${capability/./}"
		return
	fi
	local compatible
	compatible=$({ tr '\0' ' ' </proc/device-tree/compatible; } 2>/dev/null || true)
	case $compatible in
	*tegra194*) echo 72 ;;
	*tegra234*) echo 87 ;;
	*tegra264*) echo 110 ;;
	esac
}

# The header of a log: the machine and its versions.
machine() {
	echo "date      $(date -u +%Y-%m-%dT%H:%M:%SZ)"
	echo "commit    $(git rev-parse --short HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ', with changes')"
	echo "GPU       $(gpu_name), sm_$(gpu_sm)"
	if command -v nvidia-smi >/dev/null; then
		echo "driver    $(first nvidia-smi --query-gpu=driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader)"
	fi
	[ ! -e /etc/nv_tegra_release ] || echo "L4T       $(first cat /etc/nv_tegra_release)"
	if command -v nvpmodel >/dev/null; then echo "power     $(nvpmodel -q 2>/dev/null | tr '\n' ' ')"; fi
	echo "CPU       $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(awk '/MemTotal/ {printf "%d MB", $2 / 1024}' /proc/meminfo)"
	echo "system    $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), Linux $(uname -r) $(uname -m)"
	echo "compilers $(first g++ --version); nvcc $(nvcc --version 2>/dev/null | sed -n 's/.*release //p' || echo absent)"
}

# Runs a command with its output in the log and on the terminal; a failure is counted, not fatal.
failures=0
step() { # title command...
	local title=$1
	shift
	printf '\n== %s\n   %s\n' "$title" "$*"
	if "$@" 2>&1; then
		echo "   passed: $title"
	else
		echo "   FAILED: $title"
		failures=$((failures + 1))
	fi
}

# What a machine lacks, told at the end; it makes the run fail, since less was checked than was asked for.
lacking=()
lacks() { # sentence
	printf '\n-- not run: %s\n' "$*"
	lacking+=("$*")
}

# Name of the log: docs/gpu/KIND-GPU.log.
log_file() { # kind
	local name
	name=$(gpu_name | tr '[:upper:] ' '[:lower:]-' | tr -cd 'a-z0-9-')
	echo "docs/gpu/$1-${name:-unknown}.log"
}

# Where the programs that need a GPU are built.
kernels_build=$PWD/.cache/build/csrc-gpu

# Compiles the kernels and those programs; with targets, no more than these.
build_kernels() { # sm [target...]
	local sm=$1 log=$kernels_build.log
	shift
	mkdir -p "$kernels_build"
	if cmake -S csrc -B "$kernels_build" -DCMAKE_BUILD_TYPE=Release -DTOKLIP_TRT_TESTS=ON -DTOKLIP_TRT_SHIM=OFF \
		-DTOKLIP_TRT_GPU_TESTS=ON -DTOKLIP_CUDA_ARCHS="$sm" >"$log" 2>&1 &&
		cmake --build "$kernels_build" --parallel "$(nproc)" ${1:+--target "$@"} >>"$log" 2>&1; then
		grep 'toklip:' "$log"
	else
		tail -n 40 "$log"
		return 1
	fi
}

# Whether engines can be run here; says what lacks. Libraries of TENSORRT_ROOT are found from then on.
can_run_engines() {
	command -v go >/dev/null || {
		lacks "TensorRT: Go was not found"
		return 1
	}
	tools/trt/build.sh --headers >/dev/null || {
		lacks "TensorRT: NvInfer.h was not found (JetPack: sudo apt install nvidia-jetpack; else TENSORRT_ROOT=/folder/of/TensorRT)"
		return 1
	}
	[ -z "${TENSORRT_ROOT:-}" ] || export LD_LIBRARY_PATH=$TENSORRT_ROOT/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

no_gpu() {
	cat >&2 <<-'EOF'
		There is no NVIDIA GPU here, or its driver is missing: neither nvidia-smi nor a Jetson's GPU was found.
		Run this on a Jetson, or on a PC with an NVIDIA GPU and its driver. It needs:
		  the kernels    nvcc (CUDA toolkit), cmake, g++; compute-sanitizer for memory and race checks
		  the engines    the above, Go, and TensorRT with its headers (JetPack, or TENSORRT_ROOT=/folder/of/TensorRT)
		Everything that needs no GPU is part of: make test
	EOF
	exit 1
}

conclude() { # kind
	echo
	local sentence
	for sentence in "${lacking[@]}"; do echo "not run: $sentence"; done
	if [ "$failures" -gt 0 ]; then
		echo "$1: $failures failed"
		return 1
	fi
	if [ ${#lacking[@]} -gt 0 ]; then
		echo "$1: what was run passed, but not everything was run"
		return 1
	fi
	echo "$1: all passed"
}
