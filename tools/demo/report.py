"""Writes the training report: settings, curves and figures.

python report.py WORK OUT.json
"""

import argparse
import glob
import json

import numpy as np
import torch

import towernet
import towers
import vq
import vqnet


def frames(work, name):
    return sum(len(np.load(path)["cls"]) for path in glob.glob(f"{work}/data/{name}.npz"))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("work")
    p.add_argument("out")
    a = p.parse_args()
    v = torch.load(f"{a.work}/vq.pt", weights_only=False)
    t = torch.load(f"{a.work}/towers.pt", weights_only=False)
    with open(f"{a.work}/heldout2000.json") as f:
        figures = json.load(f)
    report = {
        "torch": torch.__version__,
        "seeds": {"train": 1, "val": 2, "heldout": 3, "clip": 4, "vq": 11, "towers": 23},
        "frames": {
            "train": frames(a.work, "train*"),
            "val": frames(a.work, "val"),
            "heldout": frames(a.work, "heldout"),
        },
        "vq": {
            "steps": v["step"],
            "minutes": round(v["spent"] / 60, 1),
            "batch": 2 * vq.BATCH,
            "decoded": 2 * vq.DECODED,
            "rate": vq.RATE,
            "cells_weight": vq.CELLS,
            "channels": vqnet.CH,
            "multipliers": vqnet.MULT,
            "z": vqnet.Z,
            "codes": vqnet.CODES,
            "norm_groups": vqnet.GROUPS,
            "val": v["log"],
        },
        "towers": {
            "steps": t["step"],
            "minutes": round(t["spent"] / 60, 1),
            "batch": 2 * towers.BATCH,
            "rate": towers.RATE,
            "width": towernet.DIM,
            "depth": towernet.DEPTH,
            "text_width": towernet.TEXT_WIDTH,
            "text_layers": towernet.TEXT_LAYERS,
            "val": t["log"],
        },
        "heldout": figures,
    }
    with open(a.out, "w") as f:
        json.dump(report, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
