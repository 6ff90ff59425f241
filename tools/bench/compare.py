#!/usr/bin/env python3
"""Times toklip's graphs beside PyTorch eager and a torch-exported graph, interleaved in one run.

    compare.py CHECKPOINT.safetensors MODEL_DIR [--heads 16] [--rounds 7] [--threads 2]

Every round runs each contender once, in turn, so that a change of the machine's speed meets all of them. Before anything is
timed the contenders must agree: equal tokens wherever the choice is clear, equal embeddings. `make bench` calls this.
"""
import argparse
import os
import statistics
import sys
import tempfile
import time
import tomllib

import numpy as np
import onnxruntime
import torch

import toklip_torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint")
parser.add_argument("model")
parser.add_argument("--heads", type=int, default=16)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--threads", type=int, default=os.cpu_count())
options = parser.parse_args()

torch.set_grad_enabled(False)
torch.set_num_threads(options.threads)


def session(path):
    o = onnxruntime.SessionOptions()
    o.intra_op_num_threads = options.threads
    return onnxruntime.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def ours(manifest, role, precision):
    for graph in manifest["graph"]:
        if graph["role"] == role and graph["precision"] == precision and "onnxruntime" in graph["backends"]:
            return session(os.path.join(options.model, graph["file"]["name"]))
    return None


def cosine(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def exported(module, example, name, directory):
    path = os.path.join(directory, name + ".onnx")
    torch.onnx.export(module, (example,), path, dynamo=True, external_data=True, verbose=False)
    s = session(path)
    return s, s.get_inputs()[0].name


with open(os.path.join(options.model, "model.toml"), "rb") as f:
    manifest = tomllib.load(f)
size = manifest["image"]["size"]
tokenizer, encoder = toklip_torch.build(options.checkpoint, options.heads)

rng = np.random.default_rng(0)
y, x = np.mgrid[0:size, 0:size] / size
image = np.stack([np.sin(7 * x + 3 * c) * np.cos(5 * y - c) for c in range(3)])[None] + 0.05 * rng.standard_normal((1, 3, size, size))
image = image.clip(-1, 1).astype(np.float32)
image_torch = torch.from_numpy(image)

ids_torch = tokenizer(image_torch)
features_torch, embedding_torch = encoder(ids_torch)
ids64, ids32 = ids_torch.numpy(), ids_torch.numpy().astype(np.int32)

work = tempfile.TemporaryDirectory()
tokenizer_fp32, encoder_fp32, encoder_int8 = ours(manifest, "tokenizer", "fp32"), ours(manifest, "encoder", "fp32"), ours(manifest, "encoder", "int8")
export_tokenizer, export_tokenizer_in = exported(tokenizer, image_torch, "tokenizer", work.name)
export_encoder, export_encoder_in = exported(encoder, ids_torch, "encoder", work.name)

channels_last = toklip_torch.build(options.checkpoint, options.heads)[0].to(memory_format=torch.channels_last)
image_channels_last = image_torch.to(memory_format=torch.channels_last)

contenders = {
    ("tokenizer", "PyTorch eager"): lambda: tokenizer(image_torch),
    ("tokenizer", "PyTorch eager, channels last"): lambda: channels_last(image_channels_last),
    ("tokenizer", "torch export in ONNX Runtime"): lambda: export_tokenizer.run(None, {export_tokenizer_in: image}),
    ("tokenizer", "toklip fp32"): lambda: tokenizer_fp32.run(None, {"image": image}),
    ("encoder", "PyTorch eager"): lambda: encoder(ids_torch),
    ("encoder", "torch export in ONNX Runtime"): lambda: export_encoder.run(None, {export_encoder_in: ids64}),
    ("encoder", "toklip fp32"): lambda: encoder_fp32.run(None, {"ids": ids32}),
}
if encoder_int8:
    contenders["encoder", "toklip int8"] = lambda: encoder_int8.run(None, {"ids": ids32})

# Agreement first: a fast wrong answer is worth nothing.
differing = int((tokenizer_fp32.run(["ids"], {"image": image})[0] != ids32).sum())
features, embedding = encoder_fp32.run(["features", "embedding"], {"ids": ids32})
agree = cosine(embedding, embedding_torch.numpy())
print(f"agreement with PyTorch: {differing} of {ids32.size} tokens differ, embedding cosine {agree:.7f}")
if differing > ids32.size // 100 or agree < 0.99999:
    sys.exit("compare: toklip and PyTorch do not agree; nothing was timed")
if encoder_int8:
    f8, e8 = encoder_int8.run(["features", "embedding"], {"ids": ids32})
    worst = min(cosine(a, b) for a, b in zip(f8[0], features[0]))
    print(f"int8 against fp32: embedding cosine {cosine(e8, embedding):.6f}, worst token feature {worst:.6f}")

times = {c: [] for c in contenders}
for r in range(options.rounds + 1):
    for c, run in contenders.items():
        begin = time.perf_counter()
        run()
        if r > 0:  # the first round warms up
            times[c].append(time.perf_counter() - begin)

print(f"\n{options.threads} threads, {options.rounds} interleaved rounds, milliseconds a frame of {size} px")
print(f"{'':10}{'':32}{'min':>8}{'median':>8}{'max':>8}")
for (stage, name), t in times.items():
    print(f"{stage:10}{name:32}" + "".join(f"{1000 * v:8.0f}" for v in (min(t), statistics.median(t), max(t))))


def ratio(slow, fast):
    """Median over the rounds of the ratio within a round."""
    return statistics.median(sum(times[c][r] for c in slow) / sum(times[c][r] for c in fast) for r in range(options.rounds))


whole = [("tokenizer", "toklip fp32"), ("encoder", "toklip fp32")]
rows = [
    ("whole frame fp32 against PyTorch eager", [("tokenizer", "PyTorch eager"), ("encoder", "PyTorch eager")], whole),
    ("whole frame fp32 against PyTorch eager, channels last", [("tokenizer", "PyTorch eager, channels last"), ("encoder", "PyTorch eager")], whole),
    ("whole frame fp32 against the torch export", [("tokenizer", "torch export in ONNX Runtime"), ("encoder", "torch export in ONNX Runtime")], whole),
    ("tokenizer fp32 against PyTorch eager", [("tokenizer", "PyTorch eager")], whole[:1]),
    ("encoder fp32 against PyTorch eager", [("encoder", "PyTorch eager")], whole[1:]),
]
if encoder_int8:
    rows.append(("encoder int8 against toklip fp32", whole[1:], [("encoder", "toklip int8")]))
print("\ntimes faster (median of the rounds' ratios)")
for label, slow, fast in rows:
    print(f"  {label:54}{ratio(slow, fast):6.2f}")
