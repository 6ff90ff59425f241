#!/usr/bin/env bash
# Speed and memory on this machine, printed as one report. About 15 minutes on two cores, 12 GB of disk below .cache.
set -euo pipefail
cd "$(dirname "$0")/../.."

threads=$(nproc)
data=.cache/bench
mkdir -p "$data"
title() { printf '\n## %s\n\n' "$1"; }

title "Machine"
echo "$(lscpu | sed -n 's/^Model name: *//p'), $(nproc) cores, $(free -g | awk '/^Mem/ {print $2}') GiB, Linux $(uname -r), $(go version | cut -d' ' -f3), toklip $(bin/toklip version | cut -d' ' -f2), $(date +%F)"
echo "load before: $(cut -d' ' -f1-3 /proc/loadavg)"

python=.cache/bench-venv/bin/python
if ! $python -c 'import torch, onnx, onnxscript, onnxruntime, PIL' 2>/dev/null; then
	echo "bench: installing PyTorch, ONNX Runtime and Pillow for comparison into .cache/bench-venv"
	python3 -m venv .cache/bench-venv
	$python -m pip install -q --disable-pip-version-check torch==2.9.1 numpy onnx onnxscript onnxruntime==1.30.0 "pillow>=13"
fi

title "Import: the full checkpoint, 4.6 GB with its text tower"
[ -e "$data/s256.safetensors" ] || bin/toklip model synth --preset s256 --checkpoint "$data/s256.safetensors"
rm -rf "$data/s256"
# The reference's small tokenizer stands for the real one: how long a text runs does not depend on its ids.
bin/toklip model import "$data/s256.safetensors" --out "$data/s256" --precision fp32,int8 --tokenizer testdata/reference/golden/tiny_tokenizer.model

title "Networks beside PyTorch, interleaved"
$python tools/bench/compare.py "$data/s256.safetensors" "$data/s256" --threads "$threads"

title "Resize: 1080p to 256 px beside Pillow, interleaved, one thread"
$python tools/bench/pillow.py

title "Stages of a frame, overhead over the bare backend, cameras"
for cameras in 1 2 4; do
	bin/toklip bench --model "$data/s256" --frames 12 --cameras $cameras
done
bin/toklip bench --model "$data/s256" --precision int8 --frames 20
bin/toklip bench --model "$data/s256" --frames 12 --labels 100
bin/toklip model import demo/model.safetensors --out "$data/demo" --overwrite >/dev/null
bin/toklip bench --model "$data/demo" --frames 500 --width 640 --height 480
bin/toklip bench --model "$data/demo" --frames 500 --width 640 --height 480 --labels 12

title "Memory of the daemon beside its weights"
tools/bench/memory.sh "$data/s256" fp32
tools/bench/memory.sh "$data/s256" int8

title "A change of labels while frames flow"
tools/bench/text.sh "$data/s256"

title "Hot paths"
go test -run '^$' -bench . -benchmem ./engine/... ./capture/... ./api/... ./mqtt/... ./model/... | grep -E '^(Benchmark|pkg|ok)'
