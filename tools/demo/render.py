"""Renders random scenes to frames of 128x128 with exact truth.

    python render.py OUT.npz --seed 1 --scenes 1000 [--views 4]

Arrays of OUT.npz, N frames of up to MOST objects (class -1 where there is none):
    image      uint8 [N, 128, 128, 3]
    cls, colour  int8 [N, MOST]      indices of scene.CLASSES and scene.COLOUR_NAMES
    pixels     int16 [N, MOST]       of 128*128 that show the object
    centre     float32 [N, MOST, 2]  x, y of these pixels' mean
    bbox       int16 [N, MOST, 4]    x0, y0, x1, y1, the last two exclusive
    open       bool [N, MOST]        an open door
    corridor   bool [N]
    cell_cls, cell_colour  int8 [N, 8, 8]  of the object that covers most of the cell; -1 nothing, -2 too little to say
    scene      int32 [N]             views of a scene share its number
"""

import argparse
import math
import os

os.environ.setdefault("MUJOCO_GL", "osmesa")
import mujoco
import numpy as np

import scene as scenes

SIZE = 128
GRID = 8
MOST = 6
ASPECTS = [4 / 3, 1.0, 16 / 9]  # of the camera; frames are squashed to a square as the model's pre-processing does
ASPECT_SHARE = [0.6, 0.2, 0.2]
SUPER = 2  # rendered at twice the size and averaged, as a camera's pixels average


class Camera:
    """One GL context for all scenes of a process: a new one for each would double the time of a frame."""

    def __init__(self, width=SIZE * SUPER, height=SIZE * SUPER):
        self.gl = mujoco.GLContext(width, height)
        self.gl.make_current()
        self.rect = mujoco.MjrRect(0, 0, width, height)
        self.rgb = np.zeros((height, width, 3), np.uint8)
        self.option = mujoco.MjvOption()
        self.context = None

    def load(self, scene):
        if self.context is not None:
            self.context.free()
        self.model = mujoco.MjModel.from_xml_string(scene.xml)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        self.context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.scene = mujoco.MjvScene(self.model, maxgeom=300)
        self.owner = np.full(self.model.ngeom + 1, -1, np.int16)  # geom -> object; the last is the background
        for i, thing in enumerate(scene.things):
            for name in thing.geoms:
                self.owner[self.model.geom(name).id] = i

    def aim(self, pose, aspect):
        """pose is x, y, z, yaw, pitch in metres and radians."""
        x, y, z, yaw, pitch = pose
        cam = mujoco.MjvCamera()
        cam.type = mujoco.mjtCamera.mjCAMERA_FREE
        forward = np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)])
        cam.lookat[:] = np.array([x, y, z]) + forward
        cam.distance, cam.azimuth, cam.elevation = 1.0, math.degrees(yaw), math.degrees(pitch)
        mujoco.mjv_updateScene(self.model, self.data, self.option, None, cam, mujoco.mjtCatBit.mjCAT_ALL, self.scene)
        for eye in self.scene.camera:
            eye.frustum_width = aspect * (eye.frustum_top - eye.frustum_bottom) / 2

    def draw(self):
        mujoco.mjr_render(self.rect, self.scene, self.context)
        mujoco.mjr_readPixels(self.rgb, None, self.rect, self.context)
        return self.rgb[::-1]

    def colour(self):
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 0
        self.scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        return self.draw().copy()

    def objects(self):
        """Index of the object each pixel shows, -1 for none."""
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 1
        self.scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        c = self.draw().astype(np.int32)
        index = c[..., 0] + (c[..., 1] << 8) + (c[..., 2] << 16) - 1
        table = np.full(self.scene.ngeom + 1, -1, np.int16)
        for i in range(self.scene.ngeom):
            g = self.scene.geoms[i]
            if g.segid >= 0 and g.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                table[g.segid] = self.owner[g.objid]
        index[(index < 0) | (index >= self.scene.ngeom)] = self.scene.ngeom
        return table[index]


def pose(rng, scene):
    """A view at a small robot's height: of an object, of two, or along the room."""
    margin = 0.35
    for _ in range(60):
        x = rng.uniform(-scene.half_x + margin, scene.half_x - margin)
        y = rng.uniform(-scene.half_y + margin, scene.half_y - margin)
        yaw = rng.uniform(0, 2 * math.pi)
        if any(math.hypot(x - t.x, y - t.y) < t.radius + 0.75 for t in scene.things):
            continue
        if scene.things and rng.random() < 0.9:
            t = scene.things[int(rng.integers(len(scene.things)))]
            distance = math.hypot(t.x - x, t.y - y)
            if not 1.3 < distance < 3.6:
                continue
            yaw = math.atan2(t.y - y, t.x - x) + rng.uniform(-0.42, 0.42)
        break
    return x, y, rng.uniform(0.55, 0.95), yaw, rng.uniform(-0.24, -0.02)


def measure(objects, things):
    """Truth of one frame from the object of each pixel [128, 128]."""
    out = {
        "cls": np.full(MOST, -1, np.int8),
        "colour": np.full(MOST, -1, np.int8),
        "pixels": np.zeros(MOST, np.int16),
        "centre": np.zeros((MOST, 2), np.float32),
        "bbox": np.zeros((MOST, 4), np.int16),
        "open": np.zeros(MOST, bool),
    }
    k = 0
    cells = np.zeros((len(things) + 1, GRID, GRID), np.int32)
    step = SIZE // GRID
    for i, t in enumerate(things):
        mask = objects == i
        n = int(mask.sum())
        if n == 0:
            continue
        ys, xs = np.nonzero(mask)
        out["cls"][k], out["colour"][k], out["pixels"][k], out["open"][k] = t.cls, t.colour, n, t.open
        out["centre"][k] = xs.mean(), ys.mean()
        out["bbox"][k] = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        cells[i] = mask.reshape(GRID, step, GRID, step).sum((1, 3))
        k += 1
    best = cells.argmax(0)
    cover = cells.max(0) / step**2
    for key, values in (("cell_cls", [t.cls for t in things]), ("cell_colour", [t.colour for t in things])):
        label = np.array(values + [-1], np.int8)[best]
        out[key] = np.where(cover >= 0.25, label, np.where(cover > 0.04, -2, -1)).astype(np.int8)
    return out


def shrink(image):
    h, w = image.shape[:2]
    total = image.reshape(h // SUPER, SUPER, w // SUPER, SUPER, 3).sum((1, 3), dtype=np.uint16)
    return ((total + SUPER**2 // 2) // SUPER**2).astype(np.uint8)


def frames(seed, count, views, first=0):
    """Yields (image, truth) for count scenes. Each scene has its own generator: any part can be rendered alone."""
    camera = Camera()
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        scene = scenes.make(rng)
        camera.load(scene)
        for _ in range(views):
            camera.aim(pose(rng, scene), rng.choice(ASPECTS, p=ASPECT_SHARE))
            image = shrink(camera.colour())
            truth = measure(camera.objects()[SUPER // 2 :: SUPER, SUPER // 2 :: SUPER], scene.things)
            truth["corridor"], truth["scene"] = scene.corridor, np.int32(number)
            yield image, truth


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--scenes", type=int, required=True)
    p.add_argument("--views", type=int, default=4)
    p.add_argument("--first", type=int, default=0)
    a = p.parse_args()
    images, truths = [], []
    for image, truth in frames(a.seed, a.scenes, a.views, a.first):
        images.append(image)
        truths.append(truth)
    arrays = {key: np.stack([t[key] for t in truths]) for key in truths[0]}
    with open(a.out + ".part", "wb") as f:
        np.savez(f, image=np.stack(images), **arrays)
    os.replace(a.out + ".part", a.out)
    print(f"{a.out}: {len(images)} frames")


if __name__ == "__main__":
    main()
