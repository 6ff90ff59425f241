#!/usr/bin/env python3
"""Figures as NumPy computes them, the plain way, for the tests of package eval: python3 figures.py > figures.json

Every figure is computed by its definition: sorted lists, every pair of a positive and a negative, one pixel after the
other. Rows are repeated so that scores are equal.
"""
import json
import numpy as np

rng = np.random.default_rng(5)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def f32(x):
    return [[float(v) for v in row] for row in x.astype(np.float32)]


# Retrieval: 37 pictures (more than two blocks of the Go code), 80 captions of 30 of them; some rows are equal.
pictures = rng.normal(size=(37, 7)).astype(np.float32)
pictures[20] = pictures[3]
pictures[36] = pictures[3]
of = np.concatenate([np.arange(30), rng.integers(0, 30, 50)])
captions = (0.6 * pictures[of] + rng.normal(size=(80, 7))).astype(np.float32)
captions[70] = captions[4]
captions[41] = captions[40]
p, c = unit(pictures.astype(np.float64)), unit(captions.astype(np.float64))
cosine = np.array([[float(np.dot(a, b)) for b in c] for a in p])  # pair by pair: equal rows give equal products
texts, images = [], []
for i in range(len(p)):
    order = list(np.argsort(-cosine[i], kind="stable"))
    own = [order.index(j) + 1 for j in range(len(c)) if of[j] == i]
    if own:
        texts.append(int(min(own)))
for j in range(len(c)):
    images.append(int(list(np.argsort(-cosine[:, j], kind="stable")).index(of[j]) + 1))

# Zero-shot: 12 classes of three prompts each, 60 pictures; two classes have the same prompts.
prompts = rng.normal(size=(12, 3, 9)).astype(np.float32) * rng.uniform(0.1, 10, size=(12, 3, 1)).astype(np.float32)
prompts[9] = prompts[2]
classes = unit(unit(prompts.astype(np.float64)).mean(axis=1))
labels = rng.integers(0, 12, 60)
shown = (classes[labels] + 0.7 * rng.normal(size=(60, 9))).astype(np.float32)
zs = np.array([[float(np.dot(a, b)) for b in classes] for a in unit(shown.astype(np.float64))])
ranks = [int(list(np.argsort(-zs[i], kind="stable")).index(labels[i]) + 1) for i in range(60)]

# AUROC: every pair.
scores = np.round(rng.normal(size=200), 1)  # many equal ones
positive = rng.random(200) < 1 / (1 + np.exp(-scores))
pos, neg = scores[positive], scores[~positive]
auroc = float(np.mean([[1.0 if a > b else 0.5 if a == b else 0.0 for b in neg] for a in pos]))

# Pictures: two of 6x5 pixels, RGB.
a = rng.integers(0, 256, (5, 6, 3))
b = np.clip(a + rng.integers(-30, 31, (5, 6, 3)), 0, 255)


def chroma(x):
    """Cb and Cr of ITU-R BT.601, full range, as JPEG has them, in units of the whole range."""
    r, g, bl = (x[..., k].astype(np.float64) / 255 for k in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * bl
    return np.stack([(bl - y) / 1.772, (r - y) / 1.402], axis=-1)


print(json.dumps({
    "retrieval": {"pictures": f32(pictures), "captions": f32(captions), "of": of.tolist(), "texts": texts, "images": images},
    "zeroshot": {"prompts": [f32(x) for x in prompts], "labels": labels.tolist(), "pictures": f32(shown), "ranks": ranks,
                 "top1": float(np.mean(np.array(ranks) <= 1)), "top5": float(np.mean(np.array(ranks) <= 5))},
    "auroc": {"scores": scores.tolist(), "positive": positive.tolist(), "area": auroc},
    "pixels": {"a": a.reshape(-1).tolist(), "b": b.reshape(-1).tolist(),
               "psnr": float(10 * np.log10(255 ** 2 / np.mean((a - b).astype(np.float64) ** 2))),
               "chroma": float(np.mean(np.abs(chroma(a) - chroma(b)))), "grey": float(np.mean(np.abs(chroma(a))))},
}))
