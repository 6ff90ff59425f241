"""Random indoor scenes for a small mobile robot, as MuJoCo XML.

A scene is a room or a corridor with up to four objects. Every object is of one class and one colour; which geoms
belong to which object is returned beside the XML, so that a segmentation rendering gives exact truth.
Units are metres and degrees; z is up; the floor is z = 0.
"""

import math
from dataclasses import dataclass, field

import numpy as np

CLASSES = ["box", "ball", "cylinder", "cone", "door", "ramp", "person", "robot"]

# Saturated and far apart in hue, so that they stay distinct in shade and in light.
COLOURS = {
    "red": (0.85, 0.06, 0.06),
    "orange": (1.00, 0.45, 0.02),
    "yellow": (0.98, 0.88, 0.08),
    "green": (0.08, 0.60, 0.12),
    "cyan": (0.10, 0.85, 0.88),
    "blue": (0.08, 0.16, 0.85),
    "purple": (0.42, 0.08, 0.62),
    "pink": (1.00, 0.45, 0.72),
    "black": (0.07, 0.07, 0.07),
    "white": (0.97, 0.97, 0.97),
}
COLOUR_NAMES = list(COLOURS)

DOOR = CLASSES.index("door")
SKIN = [(0.95, 0.78, 0.65), (0.80, 0.58, 0.42), (0.55, 0.36, 0.24), (0.36, 0.23, 0.16)]


@dataclass
class Thing:
    """One object of the scene: class and colour by index, centre on the floor, radius it needs there."""

    cls: int
    colour: int
    x: float
    y: float
    radius: float
    yaw: float = 0.0
    open: bool = False  # doors alone
    geoms: list = field(default_factory=list)  # names


@dataclass
class Scene:
    xml: str
    things: list
    corridor: bool
    half_x: float  # the floor reaches from -half_x to half_x
    half_y: float


class Builder:
    """Collects the geoms of a scene and the assets they need."""

    def __init__(self, rng):
        self.rng = rng
        self.assets, self.bodies, self.count = [], [], 0

    def u(self, low, high):
        return float(self.rng.uniform(low, high))

    def name(self):
        self.count += 1
        return f"g{self.count}"

    def geom(self, thing, kind, size, pos, rgb, euler=(0, 0, 0), extra=""):
        """A geom in the frame of the thing: turned by its yaw and moved to its place."""
        name = self.name()
        c, s = math.cos(thing.yaw), math.sin(thing.yaw)
        x, y = thing.x + c * pos[0] - s * pos[1], thing.y + s * pos[0] + c * pos[1]
        turn = (euler[0], euler[1], euler[2] + math.degrees(thing.yaw))
        size = " ".join(f"{v:.4f}" for v in size)
        size = f'size="{size}" ' if size else ""
        self.bodies.append(
            f'<geom name="{name}" type="{kind}" {size}{extra} pos="{x:.4f} {y:.4f} {pos[2]:.4f}" '
            f'euler="{turn[0]:.2f} {turn[1]:.2f} {turn[2]:.2f}" material="plain" '
            f'rgba="{rgb[0]:.3f} {rgb[1]:.3f} {rgb[2]:.3f} 1"/>'
        )
        thing.geoms.append(name)

    def mesh(self, thing, vertices, rgb):
        """The convex hull of vertices [n, 3] in the frame of the thing."""
        name = f"m{len(self.assets)}"
        flat = " ".join(f"{v:.4f}" for v in np.asarray(vertices).ravel())
        # MuJoCo moves a mesh's origin to its centre of mass and turns it to its axes of inertia, and undoes both in the
        # geom's pose: vertices stay where they are given.
        self.assets.append(f'<mesh name="{name}" vertex="{flat}"/>')
        self.geom(thing, "mesh", (), (0, 0, 0), rgb, extra=f'mesh="{name}"')

    # Classes. Each knows how large it is; `rgb` is its colour with a little jitter.

    def box(self, t, rgb):
        a, b, h = self.u(0.24, 0.38), self.u(0.24, 0.38), self.u(0.22, 0.38)
        self.geom(t, "box", (a, b, h), (0, 0, h), rgb)

    def ball(self, t, rgb):
        r = self.u(0.24, 0.40)
        self.geom(t, "sphere", (r,), (0, 0, r), rgb)

    def cylinder(self, t, rgb):
        r, h = self.u(0.20, 0.30), self.u(0.32, 0.52)
        self.geom(t, "cylinder", (r, h), (0, 0, h), rgb)

    def cone(self, t, rgb):
        r, h = self.u(0.28, 0.40), self.u(0.70, 1.05)
        angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        ring = [(r * math.cos(a), r * math.sin(a), 0.0) for a in angles]
        tip = [(0.03 * r * math.cos(a), 0.03 * r * math.sin(a), h) for a in angles[::6]]
        self.mesh(t, ring + tip, rgb)

    def ramp(self, t, rgb):
        a, b, h = self.u(0.50, 0.70), self.u(0.30, 0.42), self.u(0.40, 0.60)
        self.mesh(t, [(-a, -b, 0), (-a, b, 0), (a, -b, 0), (a, b, 0), (a, -b, h), (a, b, h)], rgb)

    def person(self, t, rgb):
        k = self.u(0.85, 1.05)
        skin = SKIN[int(self.rng.integers(len(SKIN)))]
        stride = self.u(-14, 14)
        for side in (-1, 1):
            self.geom(t, "capsule", (0.085 * k, 0.33 * k), (0, side * 0.11 * k, 0.42 * k), rgb, (0, side * stride, 0))
            arm = self.u(4, 30)
            self.geom(
                t,
                "capsule",
                (0.06 * k, 0.25 * k),
                (0, side * 0.27 * k, 1.10 * k),
                rgb,
                (-side * arm, -side * stride, 0),
            )
        self.geom(t, "capsule", (0.18 * k, 0.20 * k), (0, 0, 1.12 * k), rgb)
        self.geom(t, "sphere", (0.135 * k,), (0, 0, 1.62 * k), skin)

    def robot(self, t, rgb):
        k = self.u(0.85, 1.15)
        dark = (0.12, 0.12, 0.13)
        for sx in (-1, 1):
            for sy in (-1, 1):
                self.geom(
                    t, "cylinder", (0.13 * k, 0.05 * k), (sx * 0.22 * k, sy * 0.30 * k, 0.13 * k), dark, (90, 0, 0)
                )
        self.geom(t, "box", (0.34 * k, 0.24 * k, 0.15 * k), (0, 0, 0.27 * k), rgb)
        self.geom(t, "cylinder", (0.05 * k, 0.14 * k), (0, 0, 0.54 * k), (0.5, 0.5, 0.52))
        self.geom(t, "box", (0.16 * k, 0.20 * k, 0.12 * k), (0, 0, 0.78 * k), rgb)
        for sy in (-1, 1):
            self.geom(t, "sphere", (0.055 * k,), (0.15 * k, sy * 0.09 * k, 0.80 * k), dark)
            self.geom(t, "sphere", (0.055 * k,), (-0.15 * k, sy * 0.09 * k, 0.80 * k), dark)
        self.geom(t, "cylinder", (0.015 * k, 0.09 * k), (0, 0, 0.98 * k), dark)

    def door(self, t, rgb):
        """A door in a wall, facing +x of its own frame. The dark doorway is no part of the object: a closed door hides
        it, and an open one shows it beside the leaf."""
        w, h = self.u(0.40, 0.50), self.u(0.85, 0.98)
        for side in (-1, 1):
            self.geom(t, "box", (0.05, 0.05, h + 0.08), (0.02, side * (w + 0.05), h + 0.08), rgb)
        self.geom(t, "box", (0.05, w, 0.05), (0.02, 0, 2 * h + 0.09), rgb)
        hinge = -w if self.rng.random() < 0.5 else w
        inward = -1 if hinge > 0 else 1
        swing = math.radians(self.u(60, 105)) if t.open else 0.0
        # The leaf turns about the hinge into the room.
        direction = (math.sin(swing), inward * math.cos(swing))
        mid = (0.03 + w * direction[0], hinge + w * direction[1])
        turn = math.degrees(math.atan2(-direction[0], direction[1]))
        self.geom(t, "box", (0.025, w, h), (mid[0], mid[1], h), rgb, (0, 0, turn))
        tip = (0.03 + 1.75 * w * direction[0], hinge + 1.75 * w * direction[1])
        self.geom(t, "sphere", (0.05,), (tip[0], tip[1], h), (0.75, 0.72, 0.6))
        hole = Thing(-1, -1, t.x, t.y, 0, t.yaw)
        self.geom(hole, "box", (0.012, w, h), (0, 0, h), (0.015, 0.015, 0.02))


def material(rng, b, name, floor):
    """A muted texture: plain, chequered, tiled or speckled."""
    base = rng.uniform(0.36, 0.82)
    rgb = np.clip(base + rng.normal(0, 0.035, 3), 0.15, 0.88)
    other = np.clip(rgb * rng.uniform(0.80, 0.94), 0, 1)
    text = lambda c: " ".join(f"{v:.3f}" for v in c)
    pick = rng.random()
    if pick < 0.35:
        kind = f'builtin="flat" rgb1="{text(rgb)}" rgb2="{text(rgb)}"'
    elif pick < 0.60 and floor:
        kind = f'builtin="checker" rgb1="{text(rgb)}" rgb2="{text(other)}"'
    elif pick < 0.85:
        kind = f'builtin="flat" rgb1="{text(rgb)}" rgb2="{text(rgb)}" mark="edge" markrgb="{text(other * 0.9)}"'
    else:
        kind = f'builtin="gradient" rgb1="{text(rgb)}" rgb2="{text(other)}"'
    repeat = rng.uniform(1, 2.2) if floor else rng.uniform(0.6, 1.5)
    b.assets.append(f'<texture name="{name}" type="2d" width="64" height="64" {kind}/>')
    b.assets.append(
        f'<material name="{name}" texture="{name}" texuniform="true" texrepeat="{repeat:.2f} {repeat:.2f}" '
        f'specular="0.05" shininess="0.1" reflectance="0"/>'
    )


def place(rng, b, things, cls, half_x, half_y):
    """A free place for an object of class cls, or None. Doors stand in the walls, all else on the floor."""
    radius = {"door": 0.7, "ramp": 0.75, "person": 0.45, "robot": 0.5}.get(CLASSES[cls], 0.42)
    for _ in range(20):
        if cls == DOOR:
            # A wall, and where on it; the door faces the room.
            wall = int(rng.integers(4))
            if wall < 2:
                side = 1 if wall == 0 else -1
                x, y, yaw = side * half_x, rng.uniform(-half_y + 0.8, half_y - 0.8), math.pi if side > 0 else 0.0
            else:
                side = 1 if wall == 2 else -1
                x, y, yaw = rng.uniform(-half_x + 0.8, half_x - 0.8), side * half_y, -side * math.pi / 2
        else:
            x = rng.uniform(-half_x + radius, half_x - radius)
            y = rng.uniform(-half_y + radius, half_y - radius)
            yaw = rng.uniform(0, 2 * math.pi)
        if all(math.hypot(x - t.x, y - t.y) > radius + t.radius + 0.1 for t in things):
            return float(x), float(y), radius, float(yaw)
    return None


def make(rng, pairs=None, corridor=None):
    """A random scene. pairs, where given, are the (class, colour) of its objects."""
    b = Builder(rng)
    corridor = rng.random() < 0.3 if corridor is None else corridor
    half_x, half_y = (b.u(3.0, 4.5), b.u(1.1, 1.5)) if corridor else (b.u(2.2, 3.6), b.u(2.2, 3.6))
    if pairs is None:
        count = int(rng.choice([0, 1, 2, 3, 4, 5], p=[0.06, 0.08, 0.20, 0.28, 0.24, 0.14]))
        pairs = [(int(rng.integers(len(CLASSES))), int(rng.integers(len(COLOURS)))) for _ in range(count)]
    things = []
    for cls, colour in pairs:
        at = place(rng, b, things, cls, half_x, half_y)
        if at is None:
            continue
        t = Thing(cls, colour, at[0], at[1], at[2], at[3], cls == DOOR and rng.random() < 0.5)
        rgb = np.clip(np.array(COLOURS[COLOUR_NAMES[colour]]) + rng.normal(0, 0.02, 3), 0, 1)
        getattr(b, CLASSES[cls])(t, rgb)
        things.append(t)
    material(rng, b, "floor", True)
    material(rng, b, "wall", False)
    return Scene(write(rng, b, half_x, half_y), things, corridor, half_x, half_y)


def write(rng, b, half_x, half_y, height=None):
    height = height or b.u(1.15, 1.4)  # half
    thick = 0.1
    walls = "".join(
        f'<geom type="box" size="{sx:.3f} {sy:.3f} {height:.3f}" pos="{x:.3f} {y:.3f} {height:.3f}" material="wall"/>'
        for sx, sy, x, y in [
            (thick, half_y + 2 * thick, half_x + thick, 0),
            (thick, half_y + 2 * thick, -half_x - thick, 0),
            (half_x, thick, 0, half_y + thick),
            (half_x, thick, 0, -half_y - thick),
        ]
    )
    ambient, head, sun = b.u(0.38, 0.50), b.u(0.12, 0.26), b.u(0.30, 0.48)
    tint = np.clip(1 + rng.normal(0, 0.03, 3), 0.9, 1.1)
    lit = lambda v: " ".join(f"{v * c:.3f}" for c in tint)
    shadow = "true" if rng.random() < 0.7 else "false"
    x, y = b.u(-0.6, 0.6), b.u(-0.6, 0.6)
    sky = lit(b.u(0.45, 0.75))
    return f"""<mujoco>
<visual><headlight ambient="{lit(ambient)}" diffuse="{lit(head)}" specular="0 0 0"/><quality shadowsize="1024" offsamples="0"/>
<global offwidth="1280" offheight="960" fovy="60"/><map znear="0.02" zfar="30" shadowclip="1.2"/></visual>
<asset><texture type="skybox" builtin="flat" rgb1="{sky}" rgb2="{sky}" width="8" height="8"/><material name="plain" specular="0.08" shininess="0.2" reflectance="0" emission="0.06"/>{"".join(b.assets)}</asset>
<worldbody><light directional="true" castshadow="{shadow}" pos="0 0 4" dir="{x:.3f} {y:.3f} -1" diffuse="{lit(sun)}" specular="0.05 0.05 0.05"/>
<geom type="plane" size="{half_x:.3f} {half_y:.3f} 0.1" material="floor"/>{walls}
{"".join(b.bodies)}</worldbody></mujoco>"""
