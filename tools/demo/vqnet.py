"""The VQ tokenizer in TokLIP's layout (names as in its checkpoints), small: one residual block a level in both halves.

GroupNorm has 4 groups: with TokLIP's 32 it would normalise every channel of a network this narrow by itself, and the
picture's absolute colour would have no way through.
"""

import torch
import torch.nn.functional as F
from torch import nn

GROUPS = 4
EPS = 1e-6
CH, MULT, Z = 16, (1, 2, 4, 8, 8), 64
CODES, CODE_DIM = 2048, 8


def conv(i, o, k=3, stride=1, gain=1.0):
    """A convolution that keeps the variance of its input (times gain squared), whatever the width."""
    c = nn.Conv2d(i, o, k, stride, padding=0 if stride == 2 else k // 2)
    nn.init.normal_(c.weight, std=gain / (i * k * k) ** 0.5)
    nn.init.zeros_(c.bias)
    return c


def norm(ch):
    return nn.GroupNorm(GROUPS, ch, eps=EPS)


class Residual(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.norm1, self.conv1 = norm(i), conv(i, o, gain=1.5)
        # Nearly linear at first: the branch adds little.
        self.norm2, self.conv2 = norm(o), conv(o, o, gain=0.15)
        if i != o:
            self.nin_shortcut = conv(i, o, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class Attention(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.norm = norm(ch)
        self.q, self.k, self.v = conv(ch, ch, 1), conv(ch, ch, 1), conv(ch, ch, 1)
        self.proj_out = conv(ch, ch, 1, gain=0.1)

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.norm(x)
        q, k, v = (f(n).flatten(2).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj_out(y.transpose(1, 2).reshape(b, c, h, w))


class Sample(nn.Module):
    def __init__(self, ch, down):
        super().__init__()
        self.down = down
        self.conv = conv(ch, ch, stride=2 if down else 1)

    def forward(self, x):
        if self.down:
            return self.conv(F.pad(x, (0, 1, 0, 1)))
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    def __init__(self, i, o, attention, sample):
        super().__init__()
        self.res = nn.ModuleList([Residual(i, o)])
        if attention:
            self.attn = nn.ModuleList([Attention(o)])
        if sample == "down":
            self.downsample = Sample(o, True)
        elif sample == "up":
            self.upsample = Sample(o, False)

    def forward(self, x):
        for i, block in enumerate(self.res):
            x = block(x)
            if hasattr(self, "attn"):
                x = self.attn[i](x)
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        if hasattr(self, "upsample"):
            x = self.upsample(x)
        return x


def middle(ch):
    return nn.ModuleList([Residual(ch, ch), Attention(ch), Residual(ch, ch)])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in = conv(3, CH)
        self.conv_blocks = nn.ModuleList()
        at = CH
        for l, m in enumerate(MULT):
            last = l == len(MULT) - 1
            self.conv_blocks.append(Level(at, CH * m, last, None if last else "down"))
            at = CH * m
        self.mid = middle(at)
        self.norm_out, self.conv_out = norm(at), conv(at, Z, gain=1.5)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.conv_blocks:
            x = level(x)
        for block in self.mid:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        at = CH * MULT[-1]
        self.conv_in = conv(Z, at)
        self.mid = middle(at)
        self.conv_blocks = nn.ModuleList()
        for l, m in enumerate(reversed(MULT)):
            last = l == len(MULT) - 1
            self.conv_blocks.append(Level(at, CH * m, l == 0, None if last else "up"))
            at = CH * m
        self.norm_out, self.conv_out = norm(at), conv(at, 3, gain=0.5)

    def forward(self, x):
        x = self.conv_in(x)
        for block in self.mid:
            x = block(x)
        for level in self.conv_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Quantizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(CODES, CODE_DIM)
        self.embedding.weight.requires_grad_(False)  # moved by running means, not by gradients

    def search(self, unit):
        """ids [B, 8, 8] of the nearest entries, by cosine, of unit latents [B, 8, 8, 8]."""
        flat = unit.permute(0, 2, 3, 1).reshape(-1, CODE_DIM)
        ids = (flat @ F.normalize(self.embedding.weight, dim=-1).T).argmax(-1)
        return ids.view(unit.shape[0], *unit.shape[2:])

    def lookup(self, ids):
        return F.normalize(self.embedding.weight, dim=-1)[ids].permute(0, 3, 1, 2)


class Tokenizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.quantize = Encoder(), Decoder(), Quantizer()
        self.quant_conv, self.post_quant_conv = conv(Z, CODE_DIM, 1), conv(CODE_DIM, Z, 1, gain=8**0.5)

    def latents(self, image):
        """Unit latents [B, 8, 8, 8] of images in [-1, 1] [B, 3, 128, 128]; in fp32 from the last convolution on."""
        z = self.encoder(image).float()
        with torch.autocast("cpu", enabled=False):
            return F.normalize(self.quant_conv(z), dim=1)

    def ids(self, image):
        return self.quantize.search(self.latents(image))

    def decode(self, codes):
        """Images in about [-1, 1] from unit entries [B, 8, 8, 8]."""
        return self.decoder(self.post_quant_conv(codes)).float()
