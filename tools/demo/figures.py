"""Prints what docs/demo.md and demo/README.md say of the exported model, as Markdown.

    python figures.py summary demo/report.json     the held-out set's tables
    python figures.py sizes WORK demo              AUROC of each class by the size of its largest object (and frames)
    python figures.py thresholds WORK demo         precision and recall of labels by threshold, validation frames
    python figures.py clip demo                    the labels of demo/labels.json on every third frame of the clip

All are of the weights as exported (fp16), computed in fp32.
"""

import argparse
import json
import subprocess

import numpy as np
from PIL import Image

import captions
import clip as drive
import data
import metrics
import scene as scenes
from exported import Model

CLIP_STEP = 3
SIZES = [captions.MIN_PIXELS, 300, 600, 1200, 128 * 128 + 1]  # pixels
THRESHOLDS = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]
KINDS = {
    "and": "two objects",
    "left": "one left of another",
    "pair": "colour and class",
    "cls": "class",
    "colour": "colour",
    "door": "door open or closed",
    "empty": "empty place",
}


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(str(c) for c in row) + " |")
    print()


def against(value, goal, unit="", most=False):
    wanted = f"{goal:g}{unit}{' at most' if most else ''}"
    reached = value <= goal if most else value >= goal
    return wanted if reached else f"{wanted}: **not reached**"


def summary(a):
    with open(a.report) as f:
        h = json.load(f)["heldout"]
    lowest = lambda kind: f"{h[kind + '_lowest']:.3f} ({min(h[kind], key=h[kind].get)})"
    good = sum(v >= 0.9 for v in h["pair"].values())
    rows = [
        (f"label AUROC, mean of the {len(h['class'])} classes", f"{h['class_mean']:.3f}", ""),
        ("label AUROC, lowest class", lowest("class"), against(h["class_lowest"], 0.95)),
        (f"AUROC of colour-class pairs, mean of {h['pairs_judged']}", f"{h['pair_mean']:.3f}", ""),
        ("AUROC of pairs, lowest", lowest("pair"), against(h["pair_lowest"], 0.9)),
        ("pairs with an AUROC of at least 0.90", f"{good} of {h['pairs_judged']}", ""),
        (
            f"recall@10, {h['captions']} captions",
            f"{h['recall_at_10']:.3f}",
            against(h["recall_at_10"], 0.7),
        ),
        ("precision at 0.5, classes", f"{h['precision_at_half']:.3f}", ""),
        ("recall at 0.5, classes", f"{h['recall_at_half']:.3f}", ""),
        ("PSNR", f"{h['psnr']:.2f} dB", against(h["psnr"], 24, " dB")),
        ("chroma error ratio", f"{h['chroma_error_ratio']:.3f}", against(h["chroma_error_ratio"], 0.333, most=True)),
        ("tokens used, of 2048", h["tokens_used"], against(h["tokens_used"], 200)),
    ]
    table(("figure", "value", "wanted"), rows)
    table(("class", *h["class"]), [("AUROC", *(f"{v:.3f}" for v in h["class"].values()))])
    kinds = ", ".join(f"{KINDS[k]} {v[0]:.2f} of {v[1]}" for k, v in h["recall_by_kind"].items())
    print(f"recall@10 by kind of caption: {kinds}.")


def validation(a):
    d = data.load(f"{a.work}/data/val.npz")
    model = Model(a.model)
    n = len(d["cls"])
    seen = model.pool(model.features(model.ids(d["image"])))
    return model, seen, {k: v[:n] for k, v in captions.truth_arrays(d).items()}


def sizes(a):
    model, seen, truth = validation(a)
    rows = []
    for c, name in enumerate(scenes.CLASSES):
        p, true = model.probability(seen, name), captions.judge(truth, ("cls", c))
        largest = np.where(truth["cls"] == c, truth["pixels"], 0).max(1)
        row = []
        for low, high in zip(SIZES, SIZES[1:]):
            other = (true == captions.YES) & ~((largest >= low) & (largest < high))
            v = metrics.auroc(p, np.where(other, captions.UNKNOWN, true))
            count = ((true == captions.YES) & ~other).sum()
            row.append("" if v is None else f"{v:.3f} ({count})")
        rows.append((name, *row))
    spans = [f"{low} to {high - 1}" for low, high in zip(SIZES, SIZES[1:])]
    table(("class, by pixels of the largest object", *spans), rows)


def thresholds(a):
    model, seen, truth = validation(a)
    classes = [(name, ("cls", c)) for c, name in enumerate(scenes.CLASSES)]
    pairs = [
        (f"{colour} {name}", ("pair", k, c))
        for k, colour in enumerate(scenes.COLOUR_NAMES)
        for c, name in enumerate(scenes.CLASSES)
    ]
    for title, labels in (("classes", classes), ("pairs", pairs)):
        p = np.stack([model.probability(seen, name) for name, _ in labels])
        true = np.stack([captions.judge(truth, text) for _, text in labels])
        judged, present = true != captions.UNKNOWN, true == captions.YES
        rows = []
        for t in THRESHOLDS:
            told = (p >= t) & judged
            right = (told & present).sum()
            precision, recall = right / max(1, told.sum()), right / present.sum()
            f1 = 2 * precision * recall / max(1e-9, precision + recall)
            rows.append((f"{t:g}", f"{precision:.2f}", f"{recall:.2f}", f"{f1:.3f}"))
        table((title, "precision", "recall", "F1"), rows)


def frames_of(path):
    """RGB frames [N, 128, 128, 3] of every CLIP_STEP-th frame, squashed as the program does."""
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout
    video = np.frombuffer(raw, np.uint8).reshape(-1, drive.HEIGHT, drive.WIDTH, 3)[::CLIP_STEP]
    return np.stack([np.asarray(Image.fromarray(f).resize((128, 128), Image.BICUBIC)) for f in video])


def clip(a):
    with open(f"{a.model}/clip-truth.json") as f:
        truth = json.load(f)
    with open(f"{a.model}/labels.json") as f:
        labels = json.load(f)
    model = Model(a.model)
    seen = model.pool(model.features(model.ids(frames_of(f"{a.model}/clip.mp4"))))
    frames = truth["frames"][::CLIP_STEP]
    rows = []
    for label in labels:
        name = label["label"]
        of = lambda o: name in (o["class"], f"{o['colour']} {o['class']}")
        most = np.array([max([o["pixels"] for o in f["objects"] if of(o)], default=0) for f in frames])
        true = np.where(most >= truth["min_pixels"], captions.YES, np.where(most == 0, captions.NO, captions.UNKNOWN))
        p = model.probability(seen, name)
        told = p >= label["threshold"]
        yes, no = true == captions.YES, true == captions.NO
        rows.append((name, yes.sum(), (told & yes).sum(), no.sum(), (told & no).sum(), f"{metrics.auroc(p, true):.3f}"))
    head = (
        "label",
        "frames with it",
        "of them at or above the threshold",
        "frames without",
        "of them at or above",
        "AUROC",
    )
    table(head, rows)


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(required=True)
    s = sub.add_parser("summary")
    s.add_argument("report")
    s.set_defaults(run=summary)
    for name, run in (("sizes", sizes), ("thresholds", thresholds)):
        s = sub.add_parser(name)
        s.add_argument("work")
        s.add_argument("model")
        s.set_defaults(run=run)
    s = sub.add_parser("clip")
    s.add_argument("model")
    s.set_defaults(run=clip)
    a = p.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
