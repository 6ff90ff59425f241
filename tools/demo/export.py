"""Writes the trained model as a TokLIP checkpoint: fp16 safetensors with the tokenizer beside it.

    python export.py WORK OUT

Names and shapes are those of TokLIP's own checkpoints. What they do not tell is in the metadata: heads, text_heads,
norm_groups. The auxiliary heads of the training stay behind.
"""

import argparse
import os
import shutil

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import towernet
import vqnet


def rename(key):
    if key.startswith("image."):
        return "visual.trunk." + key.removeprefix("image.")
    return key


def export(work, out):
    vq = torch.load(f"{work}/vq.pt", weights_only=False)["net"]
    towers = torch.load(f"{work}/towers.pt", weights_only=False)["net"]
    tensors = {"visual.trunk.vq." + k: v for k, v in vq.items()}
    tensors |= {rename(k): v for k, v in towers.items()}
    book = "visual.trunk.vq.quantize.embedding.weight"
    tensors[book] = F.normalize(tensors[book], dim=-1)
    # Scale and bias decide probabilities: kept exact.
    exact = ("logit_scale", "logit_bias")
    tensors = {k: (v.float() if k in exact else v.half()).contiguous().clone() for k, v in tensors.items()}
    bad = [k for k, v in tensors.items() if not torch.isfinite(v).all()]
    if bad:
        raise SystemExit(f"tensor {bad[0]} is not finite in half precision")
    os.makedirs(out, exist_ok=True)
    path = f"{out}/model.safetensors"
    save_file(
        tensors,
        path,
        {
            "name": "toklip-demo",
            "heads": str(towernet.HEADS),
            "text_heads": str(towernet.TEXT_HEADS),
            "norm_groups": str(vqnet.GROUPS),
            "license": "Apache-2.0",
        },
    )
    os.chmod(path, 0o644)
    shutil.copyfile(f"{work}/tokenizer.model", f"{out}/tokenizer.model")
    print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path) / 1e6:.2f} MB")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("work")
    p.add_argument("out")
    a = p.parse_args()
    export(a.work, a.out)


if __name__ == "__main__":
    main()
