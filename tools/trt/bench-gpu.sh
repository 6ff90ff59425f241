#!/usr/bin/env bash
# Speed on an NVIDIA GPU: build times and sizes of engines, time of every stage of a frame, one CUDA graph against single calls, one
# batch in flight against two, pre-processing on the GPU against the CPU, fp16 against int8, one camera against four.
# Writes docs/gpu/bench-GPU.log. The model is TokLIP's 256 px architecture with synthetic weights: as fast as the real one.
#   tools/trt/bench-gpu.sh
# TENSORRT_ROOT names an unpacked TensorRT; FRAMES how many frames each figure is of (500); MODEL a model folder to use instead.
# On a Jetson set the power mode and clocks first (docs/jetson.md, step 7): the log records them.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/trt/gpu.sh
. tools/trt/gpu.sh

frames=${FRAMES:-500}
model=${MODEL:-.cache/bench/s256-gpu}
cache=.cache/bench/engines
[ -n "$(gpu_name)" ] || no_gpu

# One row of figures: what differs, then the flags of toklip bench.
figures() { # title flags...
	local title=$1
	shift
	step "$title" bin/toklip bench --model "$model" --backend tensorrt --cache-dir "$cache" --frames "$frames" "$@"
}

clocks() {
	if command -v nvidia-smi >/dev/null && [ ! -e /etc/nv_tegra_release ]; then
		echo "clocks now: $(first nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv,noheader)"
	elif [ -e /etc/nv_tegra_release ]; then
		echo "clocks now: $(timeout 3 tegrastats --interval 500 2>/dev/null | head -n 1 || true)"
	fi
}

kernels() {
	local program=$kernels_build/test/toklip_gpu_kernels
	command -v nvcc >/dev/null || {
		lacks "the kernels by themselves: nvcc was not found"
		return
	}
	step "kernels: build" build_kernels "$(gpu_sm)" toklip_gpu_kernels
	[ ! -x "$program" ] || step "kernels by themselves" "$program" --bench
}

engines() {
	can_run_engines || return 0
	step "build the program and the shim" make build
	step "doctor" bin/toklip doctor
	if [ ! -e "$model/model.toml" ]; then
		mkdir -p "$(dirname "$model")"
		step "model: TokLIP's 256 px architecture, synthetic weights" \
			bin/toklip model synth --preset s256 --no-text --precision fp32,fp16,int8 --out "$model"
	fi
	local precision batch
	for precision in fp16 int8; do
		for batch in 1 4; do
			step "engines in $precision for $batch frames: build" bin/toklip engine build --model "$model" --precision $precision \
				--batch $batch --cache-dir "$cache" --again
		done
	done
	step "engines" bin/toklip engine list --cache-dir "$cache"
	clocks
	figures "fp16, as the daemon has it" --precision fp16
	figures "fp16, one batch in flight" --precision fp16 --in-flight 1
	figures "fp16, two batches in flight" --precision fp16 --in-flight 2
	figures "fp16, no CUDA graph" --precision fp16 --in-flight 1 --no-cuda-graph
	figures "fp16, pre-processing and search on the CPU" --precision fp16 --in-flight 1 --no-kernels
	figures "fp16, four cameras" --precision fp16 --cameras 4
	figures "fp16, 4K frames" --precision fp16 --width 3840 --height 2160
	figures "int8" --precision int8
	figures "int8, four cameras" --precision int8 --cameras 4
	clocks
	step "resize on the CPU, for comparison" go test -run '^$' -bench Resize1080p ./engine/preprocess
}

run() {
	machine
	kernels
	engines
	conclude bench-gpu
}

log=$(log_file bench)
mkdir -p "$(dirname "$log")" .cache/bench
echo "bench-gpu: the log goes to $log"
run 2>&1 | tee "$log"
