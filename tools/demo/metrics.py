"""Figures of the towers; definitions in demo/README.md."""

import numpy as np

import captions
import scene as scenes


def auroc(score, truth):
    """Mann-Whitney, ties count half; truth is captions.YES, NO or UNKNOWN. None without both kinds."""
    keep = truth != captions.UNKNOWN
    s, t = score[keep], truth[keep] == captions.YES
    if t.all() or not t.any():
        return None
    values, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = t.sum(), (~t).sum()
    return float((rank[t].sum() - n * (n + 1) / 2) / (n * m))


def ensemble(embed_texts, name):
    """Unit embedding [D] of a label: the mean of its prompts' unit embeddings. embed_texts: strings -> unit rows [T, D]."""
    e = embed_texts([x.replace("{}", name) for x in captions.TEMPLATES]).mean(0)
    return e / np.linalg.norm(e)


def summary(embed_texts, images, truth, scale, bias, queries):
    """All figures. embed_texts: strings -> unit rows [T, D]; images: unit rows [N, D]; queries from captions.evaluation."""
    t = truth

    out = {"class": {}, "pair": {}}
    judged, fired = [], []
    for c, name in enumerate(scenes.CLASSES):
        score, true = images @ ensemble(embed_texts, name), captions.judge(t, ("cls", c))
        out["class"][name] = auroc(score, true)
        keep = true != captions.UNKNOWN
        judged.append(true[keep] == captions.YES)
        fired.append(1 / (1 + np.exp(-(scale * score[keep] + bias))) >= 0.5)
    for k, colour in enumerate(scenes.COLOUR_NAMES):
        for c, name in enumerate(scenes.CLASSES):
            true = captions.judge(t, ("pair", k, c))
            if (true == captions.YES).sum() >= 3:
                out["pair"][f"{colour} {name}"] = auroc(images @ ensemble(embed_texts, f"{colour} {name}"), true)
    best = np.argsort(-(embed_texts([q[1] for q in queries]) @ images.T), axis=1, kind="stable")[:, :10]
    found = [bool(set(b.tolist()) & set(q[2])) for b, q in zip(best, queries)]
    j, f = np.concatenate(judged), np.concatenate(fired)
    out |= {
        "class_mean": float(np.mean(list(out["class"].values()))),
        "class_lowest": min(out["class"].values()),
        "pair_mean": float(np.mean(list(out["pair"].values()))),
        "pair_lowest": min(out["pair"].values()),
        "pairs_judged": len(out["pair"]),
        "recall_at_10": float(np.mean(found)),
        "precision_at_half": float((j & f).sum() / max(1, f.sum())),
        "recall_at_half": float((j & f).sum() / j.sum()),
    }
    kinds = sorted({q[0][0] for q in queries})
    out["recall_by_kind"] = {
        k: [
            round(float(np.mean([x for x, q in zip(found, queries) if q[0][0] == k])), 3),
            sum(q[0][0] == k for q in queries),
        ]
        for k in kinds
    }
    return out


def brief(s):
    keys = (
        "class_mean",
        "class_lowest",
        "pair_mean",
        "pair_lowest",
        "recall_at_10",
        "precision_at_half",
        "recall_at_half",
    )
    return {k: round(s[k], 4) for k in keys}
