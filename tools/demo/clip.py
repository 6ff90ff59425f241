"""Renders the demo's clip: a drive through three rooms never trained on.

    python clip.py OUT.mp4 TRUTH.json

The camera stands 0.7 m above the floor and drives past objects of known class and colour, with empty walls in between. 640x480, 15 frames a second, H.264 (ffmpeg). TRUTH.json lists for
every frame the objects with their pixels as share of the frame, in the fields of the held-out set's truth.
"""

import argparse
import json
import math
import subprocess

import numpy as np

import render
import scene as scenes

WIDTH, HEIGHT, FPS = 640, 480, 15
SEED = 4

# Three rooms in a row along x, 6 x 5 m each; a gap in the walls between them leads on.
HALF_X, HALF_Y, HEIGHT_HALF = 9.0, 2.5, 1.3
GAPS = [(-3.0, 1.5), (3.0, -1.5)]  # x of the wall, y of its gap
GAP = 0.65  # half its width
OBJECTS = [  # class, colour, x, y, yaw in degrees
    ("box", "red", -5.0, -1.0, 25),
    ("ball", "blue", -4.3, 0.1, 0),
    ("door", "yellow", -5.4, 2.5, -90),
    ("person", "green", 0.7, 1.0, 200),
    ("cone", "orange", 0.2, -0.9, 0),
    ("cylinder", "purple", -1.2, -1.5, 0),
    ("robot", "cyan", 6.4, 0.3, 205),
    ("ramp", "pink", 5.6, 1.6, 180),
    ("box", "black", 7.8, -1.3, 30),
    ("door", "red", 9.0, 0.6, 180),
]
OPEN = "yellow"  # the door that stands open

# Time in s, x, y, yaw and pitch in degrees: drives, looks to the side, turns on the spot, empty walls.
PATH = [
    (0, -8.3, -0.6, -4, -6),
    (3, -8.3, -0.6, -4, -6),
    (7, -7.0, -0.2, -2, -8),
    (10, -7.0, -0.2, 57, -3),
    (13, -7.0, -0.2, 57, -3),
    (17, -5.4, 1.3, 8, -6),
    (20, -3.2, 1.5, -6, -6),
    (23, -2.1, 1.4, -26, -7),
    (26, -1.6, 0.9, -14, -6),
    (29, -1.5, 0.8, -78, -10),
    (31, -1.5, 0.8, -78, -10),
    (34, -1.4, 0.6, 100, -6),
    (37, -1.4, 0.6, 105, -6),
    (41, 0.9, -0.1, -30, -6),
    (44, 2.2, -1.3, -10, -6),
    (47, 4.0, -1.5, 22, -6),
    (49, 4.0, -1.5, 24, -6),
    (52, 4.8, -1.1, 60, -7),
    (55, 5.8, -1.2, 6, -6),
    (57, 6.0, -1.2, -85, -5),
    (60, 6.0, -1.2, -85, -5),
]


def build(rng):
    b = scenes.Builder(rng)
    things = []
    for name, colour, x, y, yaw in OBJECTS:
        t = scenes.Thing(
            scenes.CLASSES.index(name),
            scenes.COLOUR_NAMES.index(colour),
            x,
            y,
            0.5,
            math.radians(yaw),
            name == "door" and colour == OPEN,
        )
        getattr(b, name)(t, np.array(scenes.COLOURS[colour]))
        things.append(t)
    scenes.material(rng, b, "floor", True)
    scenes.material(rng, b, "wall", False)
    for x, y in GAPS:
        for low, high in ((-HALF_Y, y - GAP), (y + GAP, HALF_Y)):
            size = f"0.08 {(high - low) / 2:.3f} {HEIGHT_HALF}"
            b.bodies.append(
                f'<geom type="box" size="{size}" pos="{x} {(low + high) / 2:.3f} {HEIGHT_HALF}" material="wall"/>'
            )
    return scenes.Scene(scenes.write(rng, b, HALF_X, HALF_Y, HEIGHT_HALF), things, False, HALF_X, HALF_Y)


def smooth(times, values, t):
    """Piecewise ease-in, ease-out: speed falls to nothing at every way-point."""
    i = int(np.clip(np.searchsorted(times, t, "right") - 1, 0, len(times) - 2))
    u = (t - times[i]) / (times[i + 1] - times[i])
    u = u * u * (3 - 2 * u)
    return values[i] + (values[i + 1] - values[i]) * u


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("truth")
    a = p.parse_args()
    rng = np.random.default_rng(SEED)
    scene = build(rng)
    camera = render.Camera(2 * WIDTH, 2 * HEIGHT)
    camera.load(scene)
    path = np.array(PATH, float)
    times = path[:, 0]
    command = [
        "ffmpeg",
        "-hide_banner",
        "-loglevel",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{WIDTH}x{HEIGHT}",
        "-r",
        str(FPS),
        "-i",
        "-",
        "-c:v",
        "libx264",
        "-preset",
        "veryslow",
        "-crf",
        "23",
        "-pix_fmt",
        "yuv420p",
        "-g",
        str(2 * FPS),
        "-movflags",
        "+faststart",
        "-map_metadata",
        "-1",
        "-threads",
        "1",
        a.out,
    ]
    video = subprocess.Popen(command, stdin=subprocess.PIPE)
    frames = []
    total = int(times[-1] * FPS)
    for n in range(total):
        t = n / FPS
        x, y, yaw, pitch = (smooth(times, path[:, i], t) for i in (1, 2, 3, 4))
        sway = 0.004 * math.sin(7 * t)
        camera.aim((x, y, 0.70 + sway, math.radians(yaw), math.radians(pitch)), WIDTH / HEIGHT)
        video.stdin.write(render.shrink(camera.colour()).tobytes())
        objects = camera.objects()
        objects = objects[np.arange(128) * objects.shape[0] // 128 + 4][:, np.arange(128) * objects.shape[1] // 128 + 5]
        seen = []
        for i, thing in enumerate(scene.things):
            pixels = int((objects == i).sum())
            if pixels:
                ys, xs = np.nonzero(objects == i)
                seen.append(
                    {
                        "class": scenes.CLASSES[thing.cls],
                        "colour": scenes.COLOUR_NAMES[thing.colour],
                        "pixels": pixels,
                        "box": [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1],
                        "open": thing.open,
                    }
                )
        frames.append({"objects": seen})
    video.stdin.close()
    if video.wait():
        raise SystemExit("ffmpeg could not encode the clip: its message is above")
    with open(a.truth, "w") as f:
        f.write('{"size": 128, "min_pixels": 164, "fps": %d, "frames": [\n' % FPS)
        f.write(",\n".join(json.dumps(x) for x in frames))
        f.write("\n]}\n")
    print(f"{a.out}: {total} frames")


if __name__ == "__main__":
    main()
