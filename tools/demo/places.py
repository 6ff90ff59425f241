"""Prints how well the exported model says where things are, on the validation frames.

    python places.py WORK demo

Regions: the rectangle of the cells that an object's box touches is asked for every class (AUROC of regions around an object of the class
against regions around others that hold no part of one). Heat maps: the label of colour and class of an object that is the
only one of its kind in the frame; a hit is a highest cell that the object's box touches ("pointing game", Zhang et al.,
Top-down Neural Attention by Excitation Backprop, 2016). Neighbourhoods are those of the daemon, 3x3 cells. Objects that count as
present, by captions.MIN_PIXELS, are asked for.
"""

import argparse

import numpy as np

import captions
import data
import metrics
import scene as scenes
from exported import Model
from figures import table

GRID, CELL = 8, 16


def touched(box):
    """bool [N, 64]: the cells that boxes [N, 4] (x0, y0, x1, y1 in pixels, the last two exclusive) touch."""
    low, high = np.arange(GRID) * CELL, np.arange(1, GRID + 1) * CELL
    x = (box[:, 0, None] < high) & (box[:, 2, None] > low)
    y = (box[:, 1, None] < high) & (box[:, 3, None] > low)
    return (y[:, :, None] & x[:, None, :]).reshape(-1, GRID * GRID)


def neighbourhoods():
    """bool [64, 64]: the cells at most one row and one column away from each."""
    at = np.arange(GRID)
    near = np.abs(at[:, None] - at[None, :]) <= 1
    return (near[:, None, :, None] & near[None, :, None, :]).reshape(GRID * GRID, -1)


def holds(mask, d, frames, c):
    """Whether regions [N, 64] of frames [N] touch a cell that the box of an object of class c touches."""
    out = np.zeros(len(frames), bool)
    for o in range(d["cls"].shape[1]):
        out |= (d["cls"][frames, o] == c) & (mask & touched(d["bbox"][frames, o])).any(1)
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("work")
    p.add_argument("model")
    a = p.parse_args()
    d = data.load(f"{a.work}/data/val.npz")
    model = Model(a.model)
    features = model.features(model.ids(d["image"]))
    frames, objects = np.nonzero((d["cls"] >= 0) & (d["pixels"] >= captions.MIN_PIXELS))
    mask = touched(d["bbox"][frames, objects])
    cls, colour = d["cls"][frames, objects], d["colour"][frames, objects]
    seen = model.pool(features[frames], mask)
    near = neighbourhoods()
    rows = []
    for c, name in enumerate(scenes.CLASSES):
        true = np.where(cls == c, captions.YES, np.where(holds(mask, d, frames, c), captions.UNKNOWN, captions.NO))
        region = metrics.auroc(model.probability(seen, name), true)
        hits = []
        for i in np.flatnonzero(cls == c):
            row = d["cls"][frames[i]] == c
            if (row & (d["colour"][frames[i]] == colour[i])).sum() > 1:
                continue
            heat = model.pool(features[frames[i]].expand(len(near), -1, -1), near)
            best = model.probability(heat, f"{scenes.COLOUR_NAMES[colour[i]]} {name}").argmax()
            hits.append((mask[i, best], mask[i].mean()))
        hit, chance = np.mean(hits, 0)
        rows.append((name, (true == captions.YES).sum(), f"{region:.3f}", len(hits), f"{hit:.2f}", f"{chance:.2f}"))
    head = (
        "class",
        "regions with it",
        "AUROC of regions",
        "heat maps",
        "highest cell touches its box",
        "share of such cells",
    )
    table(head, rows)


if __name__ == "__main__":
    main()
