"""Encodes all rendered frames to tokens, once.

    python tokens.py WORK

Training frames and their mirror images, every other batch of them with the light, blur and noise of a camera.
"""

import argparse
import os

import numpy as np
import torch
import torch.nn.functional as F

import data
import parallel
import vqnet

DISTURBED = 0.5  # of the batches


def disturb(x, rng):
    """Light, blur and noise of a camera on images in [-1, 1]."""
    gain = torch.from_numpy(rng.uniform(0.92, 1.06, (len(x), 1, 1, 1)).astype(np.float32))
    mix = torch.from_numpy(rng.uniform(0, 0.7, (len(x), 1, 1, 1)).astype(np.float32))
    x = (x + 1) * gain - 1
    x = x * (1 - mix) + F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) * mix
    return x + torch.randn(x.shape) * float(rng.uniform(0, 0.02))


@torch.no_grad()
def encode(net, images, rng=None, mirror=False, bf16=True):
    out = []
    for i in range(0, len(images), 32):
        x = torch.from_numpy(np.ascontiguousarray(images[i : i + 32, :, ::-1] if mirror else images[i : i + 32]))
        x = x.permute(0, 3, 1, 2).float() / 127.5 - 1
        if rng is not None and rng.random() < DISTURBED:
            x = disturb(x, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            out.append(net.ids(x.contiguous(memory_format=torch.channels_last)).flatten(1).numpy().astype(np.uint16))
    return np.concatenate(out)


def load_tokenizer(work):
    net = vqnet.Tokenizer()
    net.load_state_dict(torch.load(f"{work}/vq.pt", weights_only=False)["net"])
    return net.eval().to(memory_format=torch.channels_last)


def worker(rank, a):
    """Each worker encodes its half of the frames."""
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    net = load_tokenizer(a.work)
    images = np.array_split(data.load(f"{a.work}/data/train*.npz")["image"], parallel.WORKERS)[rank]
    rng = np.random.default_rng([31, rank])
    plain = encode(net, images, rng)
    print(f"worker {rank}: {len(images)} frames", flush=True)
    np.savez(f"{a.work}/tokens{rank}.npz", plain=plain, mirrored=encode(net, images, rng, mirror=True))


def load(work):
    """train [2N, 64], mirror images behind the others, and val [N, 64]."""
    parts = [np.load(f"{work}/tokens{r}.npz") for r in range(parallel.WORKERS)]
    train = np.concatenate([p[k] for k in ("plain", "mirrored") for p in parts])
    return train, np.load(f"{work}/tokens_val.npz")["val"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("work")
    a = p.parse_args()
    parallel.spawn(worker, a)
    # Written last: train.sh takes it as a sign that all is there.
    val = encode(load_tokenizer(a.work), data.load(f"{a.work}/data/val.npz")["image"], bf16=False)
    np.savez(f"{a.work}/part.npz", val=val)
    os.replace(f"{a.work}/part.npz", f"{a.work}/tokens_val.npz")


if __name__ == "__main__":
    main()
