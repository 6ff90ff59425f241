#!/usr/bin/env bash
# Resident memory of the whole daemon beside the size of its weights: memory.sh MODEL_DIR PRECISION [SECONDS]
# A 1080p test pattern runs through worker, pipeline and embedded broker meanwhile.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1 precision=$2 seconds=${3:-40}

source tools/bench/pattern.sh
start_pattern bench-memory "$model" <<TOML
[engine]
precision = "$precision"
TOML
sleep "$seconds"
metrics=$(mosquitto_sub -p "$port" -t 'toklip/bench-memory/metrics' -C 1 -W 20)
status() { awk -v key="$1:" '$1 == key {printf "%.0f", $2 * 1024}' "/proc/$daemon/status"; }
python3 - "$model" "$precision" "$(status VmRSS)" "$(status VmHWM)" "$metrics" <<'PYTHON'
import json, os, sys, tomllib
model, precision, rss, peak, metrics = sys.argv[1:]
with open(os.path.join(model, "model.toml"), "rb") as f:
    manifest = tomllib.load(f)
fp32 = {d["name"] for g in manifest["graph"] if g["precision"] == "fp32" for d in g["data"]}
weights = 0
for g in manifest["graph"]:
    if "onnxruntime" in g["backends"] and (g["role"] == "tokenizer" or g["role"] == "encoder" and g["precision"] == precision):
        # Of fp32's files int8 reads the token table only: they do not count for it.
        weights += g["file"]["size"] + sum(d["size"] for d in g["data"] if g["precision"] == "fp32" or d["name"] not in fp32)
frames = json.loads(metrics)["cameras"]["pattern"]["sequence"]
rss, peak = int(rss), int(peak)
print(f"{precision}: daemon {rss / 1e6:.0f} MB (peak {peak / 1e6:.0f}), weights {weights / 1e6:.0f} MB: {(rss - weights) / 1e6:.0f} MB beside them, after frame {frames} of a 1080p pattern")
PYTHON
