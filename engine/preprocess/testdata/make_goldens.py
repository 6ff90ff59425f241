"""Writes goldens.json: SHA-256 of what Pillow and OpenCV make of noise.

    python3 -m venv V && V/bin/pip install pillow==13.0.0 numpy opencv-python-headless==5.0.0.93
    V/bin/python make_goldens.py

Pillow: 13 or later, see layout.verticalFirst in geometry.go.
"""

import hashlib
import json
import os

import cv2
import numpy as np
import PIL
from PIL import Image

MASK = (1 << 64) - 1


def noise(n, seed):
    """xorshift64, as noise in bench_test.go."""
    out = bytearray(n)
    s = seed
    for i in range(n):
        s ^= (s << 13) & MASK
        s ^= s >> 7
        s ^= (s << 17) & MASK
        out[i] = (s >> 32) & 255
    return np.frombuffer(bytes(out), np.uint8)


def sha(a):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


resized = []
seed = 1
for w, h, s in [
    (97, 61, 64), (61, 97, 64), (64, 64, 64), (64, 200, 64), (200, 64, 64), (1, 1, 16), (3, 2, 40),
    (2, 300, 33), (300, 2, 33), (639, 7, 50), (7, 639, 50),
    (128, 191, 64), (128, 192, 64), (128, 193, 64),  # the order of the passes changes after 192
    (100, 137, 64), (63, 65, 64), (66, 68, 64), (66, 69, 64), (360, 640, 96), (640, 360, 96),
    (500, 333, 21), (333, 500, 21), (17, 400, 1), (400, 17, 1), (31, 31, 255),
]:
    seed += 1
    rgb = noise(3 * w * h, seed).reshape(h, w, 3)
    out = np.array(Image.fromarray(rgb).resize((s, s), Image.Resampling.BICUBIC))
    resized.append({"width": w, "height": h, "size": s, "seed": seed, "sha256": sha(out)})

converted = []
for name, code, shape in [
    ("nv12", cv2.COLOR_YUV2RGB_NV12, (96, 64)),
    ("yuyv", cv2.COLOR_YUV2RGB_YUY2, (64, 64, 2)),
]:
    seed += 1
    src = noise(int(np.prod(shape)), seed).reshape(shape)
    converted.append({"format": name, "edge": 64, "seed": seed, "sha256": sha(cv2.cvtColor(src, code))})

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "goldens.json")
with open(path, "w") as f:
    json.dump({"pillow": PIL.__version__, "opencv": cv2.__version__, "squash": resized, "yuv": converted}, f, indent=1)
    f.write("\n")
