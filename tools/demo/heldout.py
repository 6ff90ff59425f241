"""Writes a held-out set as PNG files and truth.json, and evaluates the exported model on it.

    python heldout.py write WORK OUT --frames 2000 --captions 500
    python heldout.py evaluate WORK MODEL OUT REPORT.json

The fields and the figures are defined in demo/README.md. Scenes are seed 3 of render.py, which no training saw; evaluation reads the
weights as exported (fp16) and computes in fp32.
"""

import argparse
import json
import os

import numpy as np
import torch
from PIL import Image

import captions
import data
import metrics
import scene as scenes
from exported import Model


def part(work, frames):
    """The set's arrays, and its truth for captions.py. A smaller set takes frames evenly from the whole."""
    d = data.load(f"{work}/data/heldout.npz")
    at = np.linspace(0, len(d["cls"]) - 1, frames).round().astype(int)
    d = {k: v[at] for k, v in d.items()}
    return d, {k: v[:frames] for k, v in captions.truth_arrays(d).items()}


def write(a):
    d, truth = part(a.work, a.frames)
    queries = captions.evaluation(truth, a.captions, 7)
    os.makedirs(a.out, exist_ok=True)
    frames = []
    for i, image in enumerate(d["image"]):
        name = f"{i:04d}.png"
        Image.fromarray(image).save(f"{a.out}/{name}", optimize=True)
        objects = [
            {
                "class": scenes.CLASSES[d["cls"][i, o]],
                "colour": scenes.COLOUR_NAMES[d["colour"][i, o]],
                "pixels": int(d["pixels"][i, o]),
                "box": d["bbox"][i, o].tolist(),
                "open": bool(d["open"][i, o]),
            }
            for o in np.flatnonzero(d["cls"][i] >= 0)
        ]
        frames.append({"file": name, "objects": objects, "corridor": bool(d["corridor"][i])})
    head = {
        "size": 128,
        "min_pixels": captions.MIN_PIXELS,
        "classes": scenes.CLASSES,
        "colours": scenes.COLOUR_NAMES,
        "templates": captions.TEMPLATES,
    }
    with open(f"{a.out}/truth.json", "w") as f:
        f.write(json.dumps(head)[:-1] + ',\n"frames": [\n' + ",\n".join(json.dumps(x) for x in frames))
        f.write(
            '\n],\n"captions": [\n'
            + ",\n".join(json.dumps({"text": w, "true_of": t}) for _, w, t in queries)
            + "\n]}\n"
        )
    print(f"{a.out}: {len(frames)} frames, {len(queries)} captions")


@torch.no_grad()
def reconstruction(vq, images, ids):
    """PSNR in dB and chroma error ratio of the images decoded from ids."""
    psnr, error, grey = [], 0.0, 0.0
    weights = torch.tensor([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    for i in range(0, len(images), 50):
        x = torch.from_numpy(images[i : i + 50]).permute(0, 3, 1, 2).float()
        y = vq.decode(vq.quantize.lookup(torch.from_numpy(ids[i : i + 50]).view(-1, 8, 8)))
        y = ((y + 1) * 127.5).round().clamp(0, 255)
        psnr += (10 * torch.log10(255**2 / ((y - x) ** 2).mean((1, 2, 3)))).tolist()
        error += torch.einsum("kc,bchw->bkhw", weights, y - x).abs().sum().item()
        grey += torch.einsum("kc,bchw->bkhw", weights, x).abs().sum().item()
    return float(np.mean(psnr)), error / grey


def evaluate(a):
    with open(f"{a.out}/truth.json") as f:
        listed = json.load(f)
    d, truth = part(a.work, len(listed["frames"]))
    queries = captions.evaluation(truth, len(listed["captions"]), 7)
    assert [q[1] for q in queries] == [c["text"] for c in listed["captions"]], (
        "truth.json was written by another version: write it again"
    )
    model = Model(a.model)
    ids = model.ids(d["image"])
    images = model.pool(model.features(ids))
    report = metrics.summary(model.texts, images, truth, model.scale, model.bias, queries)
    report["psnr"], report["chroma_error_ratio"] = reconstruction(model.vq, d["image"], ids)
    report["tokens_used"] = int(len(np.unique(ids)))
    report["frames"], report["captions"] = len(ids), len(queries)
    rounded = json.loads(json.dumps(report), parse_float=lambda v: round(float(v), 4))
    with open(a.report, "w") as f:
        json.dump(rounded, f, indent=1)
        f.write("\n")
    print(json.dumps({k: v for k, v in rounded.items() if k != "pair"}, indent=1))


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(required=True)
    w = sub.add_parser("write")
    w.add_argument("work")
    w.add_argument("out")
    w.add_argument("--frames", type=int, default=2000)
    w.add_argument("--captions", type=int, default=500)
    w.set_defaults(run=write)
    e = sub.add_parser("evaluate")
    e.add_argument("work")
    e.add_argument("model")
    e.add_argument("out")
    e.add_argument("report")
    e.set_defaults(run=evaluate)
    a = p.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
