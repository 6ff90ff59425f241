"""Trains the VQ tokenizer. Resumes from its checkpoint.

    python vq.py WORK --minutes 110

Besides reconstruction (with chroma weighted, since PSNR alone is content with grey), two auxiliary heads that are thrown
away afterwards ask the quantised latents which class and which colour of object covers each cell: a codebook trained on
reconstruction alone spends its entries on walls and light, and carries too little of what the labels need.
"""

import argparse
import math

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

import data
import parallel
import scene as scenes
import vqnet
from session import Session, over

BATCH = 20  # of a worker
DECODED = 5  # of these; the rest trains the encoder through the heads alone, at a third of the cost
WARM = 150  # steps without quantisation
RATE = 6e-4
CELLS = 1.0  # weight of the auxiliary heads
N_CLS, N_COL = len(scenes.CLASSES) + 1, len(scenes.COLOURS) + 1  # the last is background


class Heads(nn.Module):
    """Class and colour of a cell, from its own latent and from the 5x5 cells around it."""

    def __init__(self):
        super().__init__()
        d, out = vqnet.CODE_DIM, N_CLS + N_COL
        self.own = nn.Sequential(nn.Conv2d(d, 128, 1), nn.GELU(), nn.Conv2d(128, out, 1))
        self.around = nn.Sequential(
            nn.Conv2d(d, 128, 1),
            nn.GELU(),
            nn.Conv2d(128, 160, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(160, 160, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(160, out, 1),
        )

    def forward(self, codes):
        return self.own(codes), self.around(codes)


def cell_weights(cls, colour):
    """Weights [B, 8, 8] of cells: 0.12 for background, nine of ten; cells of one class and colour weigh 1.8 times the root
    of their number together, or large objects, which are told anyway, would drown the small ones that are not."""
    what = (cls * N_COL + colour).flatten(1)
    cells = (what[:, :, None] == what[:, None, :]).sum(2).view_as(cls)
    w = torch.where(cls == N_CLS - 1, 0.12, 1.8 * cells.float().rsqrt())
    return w * (cls >= 0)


def cell_loss(logits, cls, colour):
    """Weighted cross-entropy of class and colour."""
    w = cell_weights(cls, colour)
    each = F.cross_entropy(logits[:, :N_CLS], cls, ignore_index=-100, reduction="none") + 0.5 * F.cross_entropy(
        logits[:, N_CLS:], colour, ignore_index=-100, reduction="none"
    )
    return (w * each).sum() / w.sum()


def chroma(x):
    r, g, b = x.unbind(1)
    return torch.stack([-0.168736 * r - 0.331264 * g + 0.5 * b, 0.5 * r - 0.418688 * g - 0.081312 * b], 1)


def image_loss(y, x, weight):
    d = (y - x) * weight
    c = (chroma(y) - chroma(x)) * weight
    blur = F.avg_pool2d(c, 8)
    gx = (y[..., 1:] - y[..., :-1]) - (x[..., 1:] - x[..., :-1])
    gy = (y[..., 1:, :] - y[..., :-1, :]) - (x[..., 1:, :] - x[..., :-1, :])
    return (
        d.abs().mean()
        + 2 * (d * d).mean()
        + 5 * c.abs().mean()
        + blur.abs().mean()
        + 0.2 * (gx.abs().mean() + gy.abs().mean())
    )


class Batches:
    """Random batches, half of them mirrored, with the light, blur and noise of a camera."""

    def __init__(self, d, seed):
        self.image, self.n = d["image"], len(d["image"])
        self.cls = self.cells(d["cell_cls"], N_CLS)
        self.colour = self.cells(d["cell_colour"], N_COL)
        self.rng = np.random.default_rng(seed)

    @staticmethod
    def cells(a, n):
        a = a.astype(np.int64)
        a[a == -1] = n - 1
        a[a == -2] = -100
        return a

    def next(self):
        i = self.rng.integers(0, self.n, BATCH)
        image, cls, colour = self.image[i], self.cls[i], self.colour[i]
        h = BATCH // 2
        image = np.concatenate([image[:h], image[h:, :, ::-1]])
        cls, colour = (np.concatenate([a[:h], a[h:, :, ::-1]]) for a in (cls, colour))
        perm = self.rng.permutation(BATCH)
        clean = torch.from_numpy(image[perm]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        gain = torch.from_numpy(self.rng.uniform(0.92, 1.06, (BATCH, 1, 1, 1)).astype(np.float32))
        clean = ((clean + 1) * gain - 1).clamp_(-1, 1)
        seen = clean
        if self.rng.random() < 0.4:
            mix = float(self.rng.uniform(0, 0.8))
            seen = seen * (1 - mix) + F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, 1) * mix
        if self.rng.random() < 0.5:
            seen = seen + torch.randn(seen.shape) * float(self.rng.uniform(0, 0.03))
        return clean, seen, torch.from_numpy(cls[perm]), torch.from_numpy(colour[perm])


def kmeans(x, k, steps=12):
    """Unit centres [k, d] of unit vectors [n, d]."""
    c = x[torch.randperm(len(x))[:k]].clone()
    for _ in range(steps):
        a = torch.cat([(p @ c.T).argmax(-1) for p in x.split(8192)])
        total = torch.zeros_like(c).index_add_(0, a, x)
        count = torch.bincount(a, minlength=k)
        empty = count == 0
        c = F.normalize(total, dim=-1)
        c[empty] = x[torch.randperm(len(x))[: int(empty.sum())]]
    return c


class RunningCodebook:
    """Moves entries to the running mean of the latents they stand for; revives those nobody uses."""

    def __init__(self, quantizer, decay=0.99):
        self.q, self.decay = quantizer, decay
        self.count = torch.ones(vqnet.CODES)
        self.total = quantizer.embedding.weight.data.clone()

    def update(self, flat, ids):
        n = torch.bincount(ids, minlength=vqnet.CODES).float()
        s = torch.zeros_like(self.total).index_add_(0, ids, flat)
        both = torch.cat([n[:, None], s], 1)
        dist.all_reduce(both)
        n, s = both[:, 0], both[:, 1:]
        self.count.mul_(self.decay).add_(n, alpha=1 - self.decay)
        self.total.mul_(self.decay).add_(s, alpha=1 - self.decay)
        live = self.count > 1e-3
        self.q.embedding.weight.data[live] = F.normalize(self.total[live], dim=-1)

    def revive(self, flat, below=0.02):
        dead = (self.count < below).nonzero().flatten()
        if len(dead):
            flat = parallel.gather(flat)
            new = flat[torch.randperm(len(flat))[: len(dead)]]
            dist.broadcast(new, 0)
            dead = dead[: len(new)]
            self.q.embedding.weight.data[dead] = new
            self.total[dead] = new * 0.2
            self.count[dead] = 0.2
        return len(dead)


@torch.no_grad()
def evaluate(net, heads, d, count=400):
    """Figures on the first frames of d; definitions as in demo/README.md."""
    psnr, err, grey, used = [], 0.0, 0.0, set()
    right = {"own": [0, 0], "around": [0, 0]}
    total = 0
    for i in range(0, min(count, len(d["image"])), 50):
        x = torch.from_numpy(d["image"][i : i + 50]).permute(0, 3, 1, 2).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = net.latents(x / 127.5 - 1)
            ids = net.quantize.search(z)
            codes = net.quantize.lookup(ids)
            y = net.decode(codes)
            own, around = heads(codes)
        y = ((y.float() + 1) * 127.5).round().clamp(0, 255)
        psnr += (10 * torch.log10(255**2 / ((y - x) ** 2).mean((1, 2, 3)))).tolist()
        err += (chroma(y) - chroma(x)).abs().sum().item()
        grey += chroma(x).abs().sum().item()
        used |= set(ids.flatten().tolist())
        cls, colour = (torch.from_numpy(d[k][i : i + 50]).long() for k in ("cell_cls", "cell_colour"))
        m = cls >= 0
        total += int(m.sum())
        for key, o in (("own", own), ("around", around)):
            right[key][0] += int((o[:, : N_CLS - 1].argmax(1) == cls)[m].sum())
            right[key][1] += int((o[:, N_CLS : N_CLS + N_COL - 1].argmax(1) == colour)[m].sum())
    r = {k: [round(v / total, 3) for v in right[k]] for k in right}
    return {"psnr": round(float(np.mean(psnr)), 2), "chroma": round(err / grey, 3), "used": len(used), **r}


def worker(rank, a):
    parallel.join(rank, a.work)
    session = Session(rank, f"{a.work}/vq.pt", a.minutes)
    torch.manual_seed(a.seed)
    train, val = data.load(f"{a.work}/data/train*.npz"), data.load(f"{a.work}/data/val.npz")
    net = vqnet.Tokenizer().to(memory_format=torch.channels_last)
    heads = Heads()
    params = [q for q in list(net.parameters()) + list(heads.parameters()) if q.requires_grad]
    opt = torch.optim.AdamW(params, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    book, latents = None, []
    if s := session.restore():
        net.load_state_dict(s["net"])
        heads.load_state_dict(s["heads"])
        opt.load_state_dict(s["opt"])
        if s["count"] is not None:
            book = RunningCodebook(net.quantize)
            book.count, book.total = s["count"], s["total"]
    batches = Batches(train, [a.seed, rank, session.step])
    torch.manual_seed(a.seed + 1000 * rank + session.step)
    if session.chief:
        print(f"{sum(q.numel() for q in net.parameters()) / 1e6:.2f} M parameters, {batches.n} frames", flush=True)
    session.begin()
    while True:
        progress, step = session.tick(), session.step
        decay = 1.0 if progress < 0.3 else 0.02 + 0.49 * (1 + math.cos(math.pi * min(1, (progress - 0.3) / 0.7)))
        for g in opt.param_groups:
            g["lr"] = RATE * min(1, (step + 1) / 100) * decay
        clean, seen, cls, colour = batches.next()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = net.latents(seen.to(memory_format=torch.channels_last))
            flat = z.detach().permute(0, 2, 3, 1).reshape(-1, vqnet.CODE_DIM)
            if step < WARM:
                codes, commit = z, z.new_zeros(())
                latents = latents[-40:] + [flat]
            else:
                if book is None:
                    centres = kmeans(parallel.gather(torch.cat(latents)), vqnet.CODES)
                    dist.broadcast(centres, 0)
                    net.quantize.embedding.weight.data = centres
                    book = RunningCodebook(net.quantize)
                with torch.no_grad():
                    ids = net.quantize.search(z)
                    near = net.quantize.lookup(ids)
                commit = ((z - near) ** 2).sum(1).mean()
                codes = z + (near - z).detach()
            y = net.decode(codes[:DECODED].contiguous(memory_format=torch.channels_last))
            own, around = heads(codes)
        covered = F.interpolate((cls[:DECODED] != N_CLS - 1).float()[:, None], scale_factor=16.0)
        li = image_loss(y, clean[:DECODED], 1 + 0.6 * covered)
        lh = 0.35 * cell_loss(own.float(), cls, colour) + cell_loss(around.float(), cls, colour)
        loss = li + CELLS * lh + 0.3 * commit
        opt.zero_grad(set_to_none=True)
        loss.backward()
        parallel.average_gradients(params)
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        revived = 0
        if book is not None:
            book.update(flat, ids.flatten())
            if step % 50 == 0 and progress < 0.8:
                revived = book.revive(flat)
        done = session.tock(
            [loss.item(), li.item(), lh.item(), commit.item()],
            lambda m: (
                f"loss {m[0]:.4f} image {m[1]:.4f} cells {m[2]:.3f} commit {m[3]:.3f} rate {opt.param_groups[0]['lr']:.1e} revived {revived}"
            ),
            lambda: evaluate(net, heads, val, 1000 if session.done else 200),
            lambda: {
                "net": net.state_dict(),
                "heads": heads.state_dict(),
                "opt": opt.state_dict(),
                "count": book.count if book else None,
                "total": book.total if book else None,
            },
            early=(100, 400),
        )
        if done:
            break
    parallel.leave()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("work")
    p.add_argument(
        "--minutes", type=float, required=True, help="of training; the learning rate falls towards nothing at their end"
    )
    p.add_argument("--seed", type=int, default=11)
    a = p.parse_args()
    if not over(f"{a.work}/vq.pt", a.minutes):
        parallel.spawn(worker, a)


if __name__ == "__main__":
    main()
