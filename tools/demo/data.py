"""Loads what render.py wrote."""

import glob

import numpy as np


def load(pattern):
    """All arrays of the files that match, joined in the order of their names."""
    parts = []
    for path in sorted(glob.glob(pattern)):
        with np.load(path) as z:
            parts.append({k: z[k] for k in z.files})
    if not parts:
        raise SystemExit(f"no rendered frames match {pattern}: run render.py first")
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
