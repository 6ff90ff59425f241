"""What is true of a frame, in words.

A text is made of clauses about objects; each clause is true, false or unknown of a frame. An object that covers at least
MIN_PIXELS counts as present; one that covers fewer (a sliver at the edge, something far behind a box) neither makes a
text true nor false: whatever hangs on it is unknown, and neither trained on nor judged.

Texts are tuples:
    ("cls", c) · ("colour", k) · ("pair", k, c)
    ("door", k or None, open)
    ("and", (k, c), (k, c)) · ("left", (k, c), (k, c))   k may be None
    ("empty", corridor)
"""

import numpy as np

import scene as scenes

MIN_PIXELS = 164  # 1 % of 128 * 128
MARGIN = 10  # pixels between the centres for one object to be left of another
TEMPLATES = ["a photo of a {}", "{}"]  # the prompt ensemble of a label, the daemon's default

NO, YES, UNKNOWN = 0, 1, -1


def truth_arrays(d):
    """The fields of render.py that texts are judged by, mirrored frames behind the others."""
    keys = ("cls", "colour", "pixels", "open", "corridor")
    out = {k: np.concatenate([d[k], d[k]]) for k in keys}
    x = d["centre"][..., 0]
    out["x"] = np.concatenate([x, 127 - x])
    return out


def _match(t, k, c):
    """present, possible [N, MOST]: objects of class c (None: any) and colour k (None: any)."""
    m = t["cls"] >= 0
    if c is not None:
        m = m & (t["cls"] == c)
    if k is not None:
        m = m & (t["colour"] == k)
    return m & (t["pixels"] >= MIN_PIXELS), m


def _three(yes, maybe):
    return np.where(yes, YES, np.where(maybe, UNKNOWN, NO)).astype(np.int8)


def judge(t, text):
    """int8 [N]: YES, NO or UNKNOWN of every frame."""
    kind = text[0]
    if kind == "cls":
        p, m = _match(t, None, text[1])
        return _three(p.any(1), m.any(1))
    if kind == "colour":
        p, m = _match(t, text[1], None)
        return _three(p.any(1), m.any(1))
    if kind == "pair":
        p, m = _match(t, text[1], text[2])
        return _three(p.any(1), m.any(1))
    if kind == "door":
        p, m = _match(t, text[1], scenes.DOOR)
        state = t["open"] == text[2]
        return _three((p & state).any(1), (m & state).any(1))
    if kind in ("and", "left"):
        (pa, ma), (pb, mb) = _match(t, *text[1]), _match(t, *text[2])
        n = pa.shape[1]
        other = ~np.eye(n, dtype=bool)[None]
        gap = t["x"][:, None, :] - t["x"][:, :, None]  # of b to the right of a
        near, far = (other, other) if kind == "and" else (other & (gap > 0), other & (gap >= MARGIN))
        yes = (pa[:, :, None] & pb[:, None, :] & far).any((1, 2))
        maybe = (ma[:, :, None] & mb[:, None, :] & near).any((1, 2))
        return _three(yes, maybe)
    if kind == "empty":
        none = (t["cls"] < 0).all(1)
        some = (t["pixels"] >= MIN_PIXELS).any(1)
        right = np.ones(len(none), bool) if text[1] is None else t["corridor"] == text[1]
        return np.where(~right | some, NO, np.where(none, YES, UNKNOWN)).astype(np.int8)
    raise ValueError(f"unknown kind of text {kind!r}")


def noun(k, c):
    return scenes.CLASSES[c] if k is None else f"{scenes.COLOUR_NAMES[k]} {scenes.CLASSES[c]}"


def a(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def words(text, rng=None):
    """The text in English; with rng one of several wordings, else the plainest."""
    pick = (
        (lambda *options: options[int(rng.integers(len(options)))])
        if rng is not None
        else (lambda *options: options[0])
    )
    kind = text[0]
    if kind in ("cls", "pair"):
        n = noun(None, text[1]) if kind == "cls" else noun(text[1], text[2])
        return pick(
            a(n),
            n,
            f"a photo of {a(n)}",
            f"there is {a(n)} in front of the camera",
            a(n),
            f"{a(n)} in the room",
            f"the {n}",
            f"a {n}",
            f"a photo of a {n}",
        )
    if kind == "colour":
        n = scenes.COLOUR_NAMES[text[1]]
        return pick(f"something {n}", f"{a(n)} object", f"{a(n)} thing", f"a photo of something {n}", n)
    if kind == "door":
        n, state = (noun(text[1], scenes.DOOR), "open" if text[2] else "closed")
        return pick(f"{a(n)} is {state}", f"{a(state)} {n}", f"the {n} is {state}", f"a photo of {a(state)} {n}")
    if kind == "and":
        return f"{a(noun(*text[1]))} and {a(noun(*text[2]))}"
    if kind == "left":
        l, r = a(noun(*text[1])), a(noun(*text[2]))
        return pick(
            f"{l} left of {r}",
            f"{r} right of {l}",
            f"{l} is left of {r}",
            f"{r} is right of {l}",
            f"{l} to the left of {r}",
            f"{r} to the right of {l}",
        )
    place = "scene" if text[1] is None else "corridor" if text[1] else "room"
    return pick(
        f"an empty {place}", f"an empty {place}", f"a photo of an empty {place}", f"there is nothing in the {place}"
    )


def fixed():
    """The texts every batch is asked about: all classes, colours, pairs, doors, empty places."""
    c, k = range(len(scenes.CLASSES)), range(len(scenes.COLOURS))
    out = [("cls", i) for i in c] + [("colour", j) for j in k] + [("pair", j, i) for j in k for i in c]
    out += [("door", j, o) for j in [None, *k] for o in (False, True)]
    return out + [("empty", None), ("empty", True), ("empty", False)]


def sample(t, frame, rng):
    """A random text of two objects that is true of the frame; None where it shows fewer than two."""
    seen = np.flatnonzero(t["pixels"][frame] >= MIN_PIXELS)
    if len(seen) < 2:
        return None
    i, j = rng.permutation(seen)[:2]
    if t["x"][frame, i] > t["x"][frame, j]:
        i, j = j, i
    name = lambda o: (int(t["colour"][frame, o]) if rng.random() < 0.8 else None, int(t["cls"][frame, o]))
    p, q = name(i), name(j)
    if rng.random() < 0.25 or t["x"][frame, j] - t["x"][frame, i] < MARGIN:
        return ("and", p, q) if rng.random() < 0.5 else ("and", q, p)
    return ("left", p, q)


def evaluation(t, count, seed):
    """count different texts, each true of at least one frame of t: (text, words, frames it is true of)."""
    rng = np.random.default_rng(seed)
    frames, out, known = len(t["cls"]), [], set()
    while len(out) < count:
        f = int(rng.integers(frames))
        kind = rng.random()
        seen = np.flatnonzero(t["pixels"][f] >= MIN_PIXELS)
        text = None
        if kind < 0.6:
            text = sample(t, f, rng)
        elif len(seen) == 0:
            text = ("empty", bool(t["corridor"][f]))
        else:
            o = int(rng.choice(seen))
            k, c = int(t["colour"][f, o]), int(t["cls"][f, o])
            if c == scenes.DOOR:
                text = ("door", k if kind < 0.9 else None, bool(t["open"][f, o]))
            elif kind < 0.92:
                text = ("pair", k, c)
            elif kind < 0.95:
                text = ("cls", c)
            else:
                text = ("colour", k)
        if text is None:
            continue
        w = words(text, rng)
        true = np.flatnonzero(judge(t, text) == YES)
        if w in known or len(true) == 0:
            continue
        known.add(w)
        out.append((text, w, true.tolist()))
    return out
