"""Trains token encoder and text tower on the frozen tokens. Resumes from its checkpoint.

    python towers.py WORK --minutes 50

Every image meets every text of a step: all classes, colours, colour-class pairs, doors and empty places, and one text of
two objects for some of the images that show two. Truth comes from the scene (captions.py), so that there are no false negatives;
what is unknown is left out. SigLIP's sigmoid loss, summed for each kind of text and divided by its positives, which keeps
the probabilities of each kind calibrated.

Two things are learnt beside it: the pool over a random rectangle of the tokens must tell what is in it ("where"), and a head
that is thrown away afterwards reads class and colour of each cell off the features.
"""

import argparse
import math
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

import captions
import data
import metrics
import parallel
import scene as scenes
import tokenizer
import tokens
import towernet
from session import Session, over

BATCH = 80  # of a worker
TWO = 28  # of these, whose pair of objects is described
RATE = 1e-3
WARM = 150
REGION = 0.4  # weight of the loss of the restricted pool
CELLS = 0.2
N_CLS, N_COL = len(scenes.CLASSES) + 1, len(scenes.COLOURS) + 1
GRID, CELL = 8, 16
# Weights of the kinds. Classes alone are the hardest to tell at 8x8 tokens, and get the most.
KINDS = {"cls": 3.5, "colour": 0.5, "pair": 0.8, "door": 0.2, "empty": 0.2, "two": 0.5}


class Set:
    """Tokens of the training frames and their mirror images, and what is true of them."""

    def __init__(self, work, seed):
        d = data.load(f"{work}/data/train*.npz")
        self.tokens, _ = tokens.load(work)
        self.truth = captions.truth_arrays(d)
        box = d["bbox"].astype(np.float32)
        flipped = box.copy()
        flipped[..., 0], flipped[..., 2] = 128 - box[..., 2], 128 - box[..., 0]
        self.box = np.concatenate([box, flipped])
        self.cells = [
            np.concatenate([d[k], d[k][..., ::-1]]).astype(np.int64).reshape(-1, 64)
            for k in ("cell_cls", "cell_colour")
        ]
        for a, n in zip(self.cells, (N_CLS, N_COL)):
            a[a == -1] = n - 1
            a[a == -2] = -100
        self.fixed = captions.fixed()
        self.matrix = np.stack([captions.judge(self.truth, t) for t in self.fixed], 1)
        self.count = len(self.matrix)
        self.rng = np.random.default_rng(seed)

    def batch(self):
        rng = self.rng
        i = rng.integers(0, self.count, BATCH)
        ids = self.tokens[i].astype(np.int64)
        some = {k: v[i] for k, v in self.truth.items()}
        two = [t for t in (captions.sample(some, f, rng) for f in range(TWO)) if t is not None]
        texts = self.fixed + two
        truth = np.concatenate([self.matrix[i], *(captions.judge(some, t)[:, None] for t in two)], 1)
        kinds = [t[0] for t in self.fixed] + ["two"] * len(two)
        mask, region = self.region(some, i)
        return ids, [captions.words(t, rng) for t in texts], truth, kinds, mask, region, [c[i] for c in self.cells]

    def region(self, some, i):
        """A random rectangle of cells for each image, mask [B, 64], and what is true of the fixed texts of classes, colours
        and pairs within it [B, T]: yes with at least 60 % of an object's box inside, no with none of it to speak of."""
        rng, n = self.rng, len(i)
        w, h = rng.integers(2, 6, n), rng.integers(2, 7, n)
        x, y = (rng.random(n) * (GRID + 1 - w)).astype(int), (rng.random(n) * (GRID + 1 - h)).astype(int)
        cx, cy = np.arange(GRID)[None, None, :], np.arange(GRID)[None, :, None]
        mask = (
            (cx >= x[:, None, None])
            & (cx < (x + w)[:, None, None])
            & (cy >= y[:, None, None])
            & (cy < (y + h)[:, None, None])
        )
        b = self.box[i]
        iw = np.minimum(b[..., 2], ((x + w) * CELL)[:, None]) - np.maximum(b[..., 0], (x * CELL)[:, None])
        ih = np.minimum(b[..., 3], ((y + h) * CELL)[:, None]) - np.maximum(b[..., 1], (y * CELL)[:, None])
        area = np.maximum((b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]), 1)
        inside = np.clip(iw, 0, None) * np.clip(ih, 0, None) / area
        real = some["cls"] >= 0
        yes, maybe = real & (inside >= 0.6) & (some["pixels"] >= captions.MIN_PIXELS), real & (inside > 0.05)
        out = []
        for t in self.fixed:
            if t[0] not in ("cls", "colour", "pair"):
                break
            m = np.ones_like(real)
            if t[0] != "colour":
                m &= some["cls"] == t[-1]
            if t[0] != "cls":
                m &= some["colour"] == t[1]
            out.append(
                np.where((m & yes).any(1), captions.YES, np.where((m & maybe).any(1), captions.UNKNOWN, captions.NO))
            )
        return mask.reshape(n, 64), np.stack(out, 1)


def sigmoid_loss(logits, truth, kinds):
    """Summed for each kind of text over the pairs that are known, divided by the kind's positives."""
    t = torch.from_numpy(truth)
    loss = F.binary_cross_entropy_with_logits(logits, (t == captions.YES).float(), reduction="none") * (
        t != captions.UNKNOWN
    )
    total = 0
    for kind, weight in KINDS.items():
        at = [j for j, k in enumerate(kinds) if k == kind]
        if at:
            total = total + weight * loss[:, at].sum() / ((t[:, at] == captions.YES).sum() + 1)
    return total / sum(KINDS.values())


@torch.no_grad()
def evaluate(net, tok, ids, truth, queries):
    net.eval()
    images = []
    for part in torch.from_numpy(ids.astype(np.int64)).split(250):
        images.append(F.normalize(net.image.attn_pool(net.image.features(part))[0], dim=-1))
    images = torch.cat(images).numpy()
    embed = lambda texts: F.normalize(net.text(torch.from_numpy(tok.encode(texts, towernet.CONTEXT))), dim=-1).numpy()
    s = metrics.summary(embed, images, truth, net.logit_scale.exp().item(), net.logit_bias.item(), queries)
    net.train()
    return s


def worker(rank, a):
    parallel.join(rank, a.work)
    session = Session(rank, f"{a.work}/towers.pt", a.minutes)
    torch.manual_seed(a.seed)
    vocabulary = f"{a.work}/tokenizer.model"
    if session.chief and not os.path.exists(vocabulary):
        tokenizer.train(vocabulary, captions.truth_arrays(data.load(f"{a.work}/data/train*.npz")), a.seed)
    dist.barrier()
    tok = tokenizer.Tokenizer(vocabulary)
    codebook = torch.load(f"{a.work}/vq.pt", weights_only=False)["net"]["quantize.embedding.weight"]
    net = towernet.Towers(codebook, tok.size)
    cells = nn.Linear(towernet.DIM, N_CLS + N_COL)
    named = [
        (n, q)
        for n, q in [*net.named_parameters(), *(("cells." + n, q) for n, q in cells.named_parameters())]
        if q.requires_grad
    ]
    params = [q for _, q in named]
    plain = [q for n, q in named if q.ndim < 2 or "embed" in n or "latent" in n]
    opt = torch.optim.AdamW(
        [
            {"params": plain, "weight_decay": 0.0},
            {"params": [q for _, q in named if all(q is not p for p in plain)], "weight_decay": 0.05},
        ],
        lr=RATE,
        betas=(0.9, 0.98),
    )
    if s := session.restore():
        net.load_state_dict(s["net"])
        cells.load_state_dict(s["cells"])
        opt.load_state_dict(s["opt"])
    train = Set(a.work, [a.seed, rank, session.step])
    torch.manual_seed(a.seed + 1000 * rank + session.step)
    # Tokens are replaced now and then by one that looks much alike, as noise does in a camera's picture.
    unit = F.normalize(codebook, dim=-1)
    alike = (unit @ unit.T).topk(5).indices[:, 1:]
    if session.chief:
        val = data.load(f"{a.work}/data/val.npz")
        truth = {k: v[: len(val["cls"])] for k, v in captions.truth_arrays(val).items()}
        queries = captions.evaluation(truth, 250, 5)
        val_ids = tokens.load(a.work)[1]
        print(
            f"{sum(q.numel() for q in net.parameters()) / 1e6:.2f} M parameters, {tok.size} pieces, {train.count} frames with mirror images",
            flush=True,
        )
    session.begin()
    while True:
        progress = session.tick()
        rate = (
            RATE * min(1, (session.step + 1) / WARM) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, progress))))
        )
        for g in opt.param_groups:
            g["lr"] = rate
        ids, texts, true, kinds, mask, region, (cls, colour) = train.batch()
        ids = torch.from_numpy(ids)
        swap = torch.rand(ids.shape) < 0.06
        ids = torch.where(swap, alike[ids, torch.randint(0, 4, ids.shape)], ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = net.image.features(ids)
            whole, part = net.image.attn_pool(features, [torch.from_numpy(mask)])
            text = net.text(torch.from_numpy(tok.encode(texts, towernet.CONTEXT)))
            cell = cells(features)
        main_loss = sigmoid_loss(net.logits(whole, text), true, kinds)
        n = region.shape[1]
        region_loss = sigmoid_loss(net.logits(part, text[:n]), region, kinds[:n])
        w = torch.ones(N_CLS), torch.ones(N_COL)
        w[0][-1] = w[1][-1] = 0.12
        c = cell.float().flatten(0, 1)
        cell_loss = F.cross_entropy(c[:, :N_CLS], torch.from_numpy(cls).flatten(), w[0]) + F.cross_entropy(
            c[:, N_CLS:], torch.from_numpy(colour).flatten(), w[1]
        )
        loss = main_loss + REGION * region_loss + CELLS * cell_loss
        opt.zero_grad(set_to_none=True)
        loss.backward()
        parallel.average_gradients(params)
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        done = session.tock(
            [main_loss.item(), region_loss.item(), cell_loss.item()],
            lambda m: (
                f"main {m[0]:.4f} region {m[1]:.4f} cells {m[2]:.4f} scale {net.logit_scale.exp().item():.2f} bias {net.logit_bias.item():.2f} rate {rate:.1e}"
            ),
            lambda: metrics.brief(evaluate(net, tok, val_ids, truth, queries)),
            lambda: {"net": net.state_dict(), "cells": cells.state_dict(), "opt": opt.state_dict()},
        )
        if done:
            break
    parallel.leave()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("work")
    p.add_argument(
        "--minutes", type=float, required=True, help="of training; the learning rate falls towards nothing at their end"
    )
    p.add_argument("--seed", type=int, default=23)
    a = p.parse_args()
    if not over(f"{a.work}/towers.pt", a.minutes):
        parallel.spawn(worker, a)


if __name__ == "__main__":
    main()
