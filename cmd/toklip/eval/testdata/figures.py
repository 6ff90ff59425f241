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

# Pictures: two pairs of 6x5 pixels, RGB.
a = rng.integers(0, 256, (2, 5, 6, 3))
b = np.clip(a + rng.integers(-30, 31, a.shape) * np.array([1, 3]).reshape(2, 1, 1, 1), 0, 255)


def chroma(x):
    r, g, bl = (x[..., k].astype(np.float64) for k in range(3))
    return np.stack([-0.168736 * r - 0.331264 * g + 0.5 * bl, 0.5 * r - 0.418688 * g - 0.081312 * bl], axis=-1)


# A held-out set of 40 frames: what is in them, and embeddings that know something of it.
kinds, colours = ["box", "ball", "cone"], ["red", "blue"]
frames = [{"file": f"{i}.png", "objects": [
    {"class": kinds[rng.integers(3)], "colour": colours[rng.integers(2)], "pixels": int(rng.integers(1, 400)), "box": [0, 0, 1, 1], "open": False}
    for _ in range(rng.integers(0, 4))]} for i in range(40)]
frames[0]["objects"] = [{"class": "cone", "colour": "red", "pixels": 163, "box": [0, 0, 1, 1], "open": False}]  # a sliver only
frames[1]["objects"] = [{"class": "cone", "colour": "red", "pixels": 164, "box": [0, 0, 1, 1], "open": False}]
names = kinds + [f"{c} {k}" for c in colours for k in kinds]
label_rows = rng.normal(size=(len(names), 8)).astype(np.float32)
shows = np.zeros((40, len(names)))
judged = np.ones((40, len(names)), bool)
for i, frame in enumerate(frames):
    for j, name in enumerate(names):
        sizes = [o["pixels"] for o in frame["objects"] if name in (o["class"], o["colour"] + " " + o["class"])]
        shows[i, j] = any(s >= 164 for s in sizes)
        judged[i, j] = bool(shows[i, j]) or not sizes
frame_rows = (shows @ label_rows + 2.5 * rng.normal(size=(40, 8))).astype(np.float32)
frame_rows[7] = frame_rows[6]
lc = np.array([[float(np.dot(x, y)) for y in unit(label_rows.astype(np.float64))] for x in unit(frame_rows.astype(np.float64))])


def area(j):
    hi, lo = lc[judged[:, j] & (shows[:, j] == 1), j], lc[judged[:, j] & (shows[:, j] == 0), j]
    if len(hi) == 0 or len(lo) == 0:
        return None, len(hi)
    return float(np.mean([[1.0 if x > y else 0.5 if x == y else 0.0 for y in lo] for x in hi])), len(hi)


areas = [area(j) for j in range(len(names))]
pair_areas = [x for x, n in areas[3:] if x is not None and n >= 3]
told, seen, ok = 1 / (1 + np.exp(-(6 * lc[:, :3] - 1))) >= 0.5, shows[:, :3] == 1, judged[:, :3]
held_captions = [{"text": f"caption {k}", "true_of": sorted(int(v) for v in rng.choice(40, rng.integers(1, 4), replace=False))} for k in range(25)]
caption_rows = (np.array([frame_rows[c["true_of"]].mean(axis=0) for c in held_captions]) + 6 * rng.normal(size=(25, 8))).astype(np.float32)
cc = np.array([[float(np.dot(x, y)) for y in unit(frame_rows.astype(np.float64))] for x in unit(caption_rows.astype(np.float64))])
found = [bool(set(np.argsort(-cc[k], kind="stable")[:10]) & set(c["true_of"])) for k, c in enumerate(held_captions)]

print(json.dumps({
    "retrieval": {"pictures": f32(pictures), "captions": f32(captions), "of": of.tolist(), "texts": texts, "images": images},
    "zeroshot": {"prompts": [f32(x) for x in prompts], "labels": labels.tolist(), "pictures": f32(shown), "ranks": ranks,
                 "top1": float(np.mean(np.array(ranks) <= 1)), "top5": float(np.mean(np.array(ranks) <= 5))},
    "auroc": {"scores": scores.tolist(), "positive": positive.tolist(), "area": auroc},
    "pixels": {"a": a.reshape(2, -1).tolist(), "b": b.reshape(2, -1).tolist(),
               "psnr": float(np.mean([10 * np.log10(255 ** 2 / np.mean((x - y).astype(np.float64) ** 2)) for x, y in zip(a, b)])),
               "chroma": float(np.mean(np.abs(chroma(a) - chroma(b)).sum(-1)) / np.mean(np.abs(chroma(a)).sum(-1)))},
    "heldout": {"truth": {"size": 128, "min_pixels": 164, "classes": kinds, "colours": colours, "templates": ["a {}"], "frames": frames, "captions": held_captions},
                "frames": f32(frame_rows), "labels": f32(label_rows), "captions": f32(caption_rows), "areas": [x for x, _ in areas], "positives": [n for _, n in areas],
                "class_mean": float(np.mean([x for x, _ in areas[:3]])), "pair_mean": float(np.mean(pair_areas)), "pair_lowest": min(pair_areas), "pairs": len(pair_areas),
                "precision": float((told & seen & ok).sum() / (told & ok).sum()), "recall": float((told & seen & ok).sum() / (seen & ok).sum()),
                "recall_at_10": float(np.mean(found))},
}))
