"""TokLIP's image tower in plain PyTorch, as a yardstick for speed: the same network that toklip imports, run eagerly.

Weights come from a safetensors file in TokLIP's own naming (`toklip model synth --checkpoint`). Written after the
paper (arXiv 2505.05422) and checked against toklip's own tokens and embeddings by compare.py before anything is timed.
"""
import json
import mmap
import re

import numpy as np
import torch
import torch.nn.functional as F


def load_safetensors(path):
    """Maps the file and returns {name: tensor} over its memory."""
    with open(path, "rb") as f:
        mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    length = int.from_bytes(mapped[:8], "little")
    header = json.loads(mapped[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        values = np.frombuffer(mapped, np.float32, (end - begin) // 4, 8 + length + begin)
        tensors[name] = torch.from_numpy(values).reshape(t["shape"])
    return tensors


class Weights:
    """A view of the tensors under one prefix."""

    def __init__(self, tensors, prefix=""):
        self.tensors, self.prefix = tensors, prefix

    def __truediv__(self, part):
        return Weights(self.tensors, f"{self.prefix}{part}.")

    def __contains__(self, part):
        return any(k.startswith(f"{self.prefix}{part}.") for k in self.tensors)

    def __getitem__(self, leaf):
        return self.tensors[self.prefix + leaf]

    def count(self, part):
        found = [re.match(re.escape(f"{self.prefix}{part}.") + r"(\d+)\.", k) for k in self.tensors]
        return 1 + max((int(m[1]) for m in found if m), default=-1)


def module(cls, w, *args, **options):
    m = cls(*args, **options)
    m.load_state_dict({"weight": w["weight"], "bias": w["bias"]})
    return m


def conv(w, stride=1, padding=None):
    out, inside, k, _ = w["weight"].shape
    return module(torch.nn.Conv2d, w, inside, out, k, stride, k // 2 if padding is None else padding)


def group_norm(w):
    return module(torch.nn.GroupNorm, w, 32, len(w["weight"]), eps=1e-6)


def linear(w):
    return module(torch.nn.Linear, w, w["weight"].shape[1], w["weight"].shape[0])


def layer_norm(w):
    return module(torch.nn.LayerNorm, w, len(w["weight"]), eps=1e-6)


class ResBlock(torch.nn.Module):
    def __init__(self, w):
        super().__init__()
        self.norm1, self.conv1 = group_norm(w / "norm1"), conv(w / "conv1")
        self.norm2, self.conv2 = group_norm(w / "norm2"), conv(w / "conv2")
        self.shortcut = conv(w / "nin_shortcut") if "nin_shortcut" in w else torch.nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class ConvAttention(torch.nn.Module):
    def __init__(self, w):
        super().__init__()
        self.norm, self.q, self.k, self.v, self.out = group_norm(w / "norm"), conv(w / "q"), conv(w / "k"), conv(w / "v"), conv(w / "proj_out")

    def forward(self, x):
        b, c, height, width = x.shape
        h = self.norm(x)
        q, k, v = (f(h).reshape(b, c, -1) for f in (self.q, self.k, self.v))
        p = torch.softmax(torch.bmm(q.transpose(1, 2), k) * c**-0.5, dim=2)
        return x + self.out(torch.bmm(v, p.transpose(1, 2)).reshape(b, c, height, width))


class Downsample(torch.nn.Module):
    def __init__(self, w):
        super().__init__()
        self.conv = conv(w / "conv", stride=2, padding=0)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Tokenizer(torch.nn.Module):
    """image [B,3,S,S] in [-1,1] -> ids [B,N]"""

    def __init__(self, vq):
        super().__init__()
        w = vq / "encoder"
        layers = [conv(w / "conv_in")]
        for level in range(w.count("conv_blocks")):
            block = w / "conv_blocks" / level
            for i in range(block.count("res")):
                layers.append(ResBlock(block / "res" / i))
                if "attn" in block:
                    layers.append(ConvAttention(block / "attn" / i))
            if "downsample" in block:
                layers.append(Downsample(block / "downsample"))
        mid = w / "mid"
        layers += [ResBlock(mid / 0), ConvAttention(mid / 1), ResBlock(mid / 2)]
        layers += [group_norm(w / "norm_out"), torch.nn.SiLU(), conv(w / "conv_out"), conv(vq / "quant_conv")]
        self.layers = torch.nn.Sequential(*layers)
        self.register_buffer("codebook", F.normalize((vq / "quantize" / "embedding")["weight"], dim=1).T.contiguous())

    def forward(self, image):
        z = self.layers(image).flatten(2).transpose(1, 2)
        return (F.normalize(z, dim=2) @ self.codebook).argmax(2)


class Block(torch.nn.Module):
    def __init__(self, w, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = layer_norm(w / "norm1"), layer_norm(w / "norm2")
        self.qkv, self.proj = linear(w / "attn" / "qkv"), linear(w / "attn" / "proj")
        self.fc1, self.fc2 = linear(w / "mlp" / "fc1"), linear(w / "mlp" / "fc2")

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class TokenEncoder(torch.nn.Module):
    """ids [B,N] -> features [B,N,D], embedding [B,D]; the table is not folded, as in the original"""

    def __init__(self, w, heads):
        super().__init__()
        self.heads = heads
        self.register_buffer("codebook", F.normalize((w / "vq" / "quantize" / "embedding")["weight"], dim=1))
        self.table, self.mapping = linear(w / "vq_table"), linear(w / "vq_mapping")
        self.register_buffer("position", w["pos_embed"])
        self.blocks = torch.nn.ModuleList(Block(w / "blocks" / i, heads) for i in range(w.count("blocks")))
        self.norm = layer_norm(w / "norm")
        pool = w / "attn_pool"
        self.register_buffer("latent", pool["latent"])
        self.q, self.kv, self.proj, self.pool_norm = linear(pool / "q"), linear(pool / "kv"), linear(pool / "proj"), layer_norm(pool / "norm")
        self.fc1, self.fc2 = linear(pool / "mlp" / "fc1"), linear(pool / "mlp" / "fc2")

    def forward(self, ids):
        x = self.mapping(F.gelu(self.table(self.codebook[ids]))) + self.position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        b, n, d = x.shape
        q = self.q(self.latent.expand(b, -1, -1)).reshape(b, 1, self.heads, -1).transpose(1, 2)
        k, v = self.kv(x).reshape(b, n, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, 1, d))
        y = y + self.fc2(F.gelu(self.fc1(self.pool_norm(y)), approximate="tanh"))
        return x, y[:, 0]


def build(path, heads):
    """The two networks of a checkpoint, in evaluation mode."""
    w = Weights(load_safetensors(path)) / "visual" / "trunk"
    return Tokenizer(w / "vq").eval(), TokenEncoder(w, heads).eval()
