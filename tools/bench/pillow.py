#!/usr/bin/env python3
"""Our resize beside Pillow's: same frame, one thread each, interleaved, bytes compared.

    .cache/bench-venv/bin/python tools/bench/pillow.py [--width 1920 --height 1080 --size 256 --rounds 60]

Needs Go, and Pillow 13 or later with numpy in the Python that runs it:

    python3 -m venv .cache/bench-venv && .cache/bench-venv/bin/pip install pillow numpy
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import PIL
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# x/sys/cpu takes features away when told to, so slower kernels can be measured too.
VARIANTS = {"fastest": "", "avx2": "cpu.avx512vl=off", "generic": "cpu.avx512vl=off,cpu.avx2=off"}


class Ours:
    def __init__(self, binary, godebug, *args):
        env = dict(os.environ, GOMAXPROCS="1", GODEBUG=godebug)
        self.process = subprocess.Popen([binary, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def ask(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"pillow.py: the Go half ended with {self.process.wait()}")
        return line.decode().strip()

    def ms(self, command):
        return int(self.ask(command)) / 1e6

    def pixels(self, n):
        self.process.stdin.write(b"bytes\n")
        self.process.stdin.flush()
        return np.frombuffer(self.process.stdout.read(n), np.uint8)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--width", type=int, default=1920)
    p.add_argument("--height", type=int, default=1080)
    p.add_argument("--size", type=int, default=256)
    p.add_argument("--rounds", type=int, default=60)
    a = p.parse_args()
    size = (a.size, a.size)

    # A picture, not noise: a photograph enlarged, with some grain.
    photo = Image.open(os.path.join(ROOT, "testdata/reference/images/coffee.png")).convert("RGB")
    rgb = np.array(photo.resize((a.width, a.height), Image.Resampling.BICUBIC)).astype(np.int16)
    rgb = (rgb + np.random.default_rng(0).integers(-6, 7, rgb.shape)).clip(0, 255).astype(np.uint8)
    image, bgr = Image.fromarray(rgb), np.ascontiguousarray(rgb[..., ::-1])

    def pillow_resize():
        return image.resize(size, Image.Resampling.BICUBIC)

    def pillow_tensor():
        # What a service has to do: camera bytes to RGB, resize, normalise, planes.
        out = Image.frombuffer("RGB", (a.width, a.height), bgr, "raw", "BGR", 0, 1).resize(size, Image.Resampling.BICUBIC)
        return np.ascontiguousarray((np.asarray(out, np.float32).transpose(2, 0, 1) / 255 - 0.5) / 0.5)

    with tempfile.TemporaryDirectory() as tmp:
        binary, frame = os.path.join(tmp, "resize"), os.path.join(tmp, "frame")
        subprocess.run(["go", "build", "-o", binary, "./tools/bench/resize"], cwd=ROOT, check=True)
        bgr.tofile(frame)
        ours = {}
        for name, godebug in VARIANTS.items():
            o = Ours(binary, godebug, frame, a.width, a.height, a.size, "squash")
            kernel = o.ask("kernel")
            if kernel in ours:
                o.close()
            else:
                ours[kernel] = o

        times = {"Pillow resize": [], "Pillow to tensor": []}
        for _ in range(a.rounds):
            for name, f in (("Pillow resize", pillow_resize), ("Pillow to tensor", pillow_tensor)):
                start = time.perf_counter()
                f()
                times[name].append((time.perf_counter() - start) * 1e3)
            for kernel, o in ours.items():
                times.setdefault(f"ours resize, {kernel}", []).append(o.ms("rgb"))
                times.setdefault(f"ours to tensor, {kernel}", []).append(o.ms("tensor"))

        want = np.asarray(pillow_resize()).reshape(-1).astype(int)
        print(f"{a.width}x{a.height} BGR -> {a.size} squash, one thread, {a.rounds} rounds interleaved, Pillow {PIL.__version__}")
        print("| | median ms | min ms | Pillow / ours (medians) | bytes that differ from Pillow |")
        print("| --- | --- | --- | --- | --- |")
        for name, t in times.items():
            base = times["Pillow to tensor" if "tensor" in name else "Pillow resize"]
            row = [name, f"{statistics.median(t):.2f}", f"{min(t):.2f}"]
            if name.startswith("ours"):
                row.append(f"{statistics.median(base) / statistics.median(t):.1f} x")
                o = ours[name.split(", ")[1]]
                d = np.abs(o.pixels(want.size).astype(int) - want)
                row.append(f"{(d > 0).sum()} of {want.size}, by up to {d.max()}")
            else:
                row += ["1", "-"]
            print("| " + " | ".join(row) + " |")
        for o in ours.values():
            o.close()


if __name__ == "__main__":
    main()
