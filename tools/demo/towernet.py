"""Token encoder and text tower in TokLIP's layout (names as in its checkpoints), small."""

import math

import torch
import torch.nn.functional as F
from torch import nn

import vqnet

TOKENS = 64
DIM, DEPTH, HEADS = 192, 6, 3
CONTEXT, TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 24, 144, 4, 3
EPS = 1e-6


def heads(x, n):
    b, t, d = x.shape
    return x.view(b, t, n, d // n).transpose(1, 2)


def joined(x):
    b, h, t, d = x.shape
    return x.transpose(1, 2).reshape(b, t, h * d)


def attention(q, k, v, mask=None):
    """Written out: in bfloat16 on a CPU the fused operator's gradient takes ten times as long."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).to(v.dtype) @ v


class MLP(nn.Module):
    def __init__(self, d, up, down):
        super().__init__()
        self.names = up, down
        setattr(self, up, nn.Linear(d, 4 * d))
        setattr(self, down, nn.Linear(4 * d, d))

    def forward(self, x):
        up, down = self.names
        return getattr(self, down)(F.gelu(getattr(self, up)(x), approximate="tanh"))


class CausalAttention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.register_buffer("seen", torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril(), persistent=False)

    def forward(self, x):
        q, k, v = (heads(p, HEADS) for p in self.qkv(x).chunk(3, -1))
        return self.proj(joined(attention(q, k, v, self.seen)))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(d, EPS), CausalAttention(d)
        self.norm2, self.mlp = nn.LayerNorm(d, EPS), MLP(d, "fc1", "fc2")

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Pool(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.latent = nn.Parameter(torch.randn(1, 1, d) * d**-0.5)
        self.q, self.kv, self.proj = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.norm, self.mlp = nn.LayerNorm(d, EPS), MLP(d, "fc1", "fc2")

    def forward(self, x, masks=()):
        """Embeddings [B, D] of features [B, N, D]; then one more for each mask [B, N] of the tokens it lets through."""
        q = heads(self.q(self.latent), HEADS).expand(x.shape[0], -1, -1, -1)
        k, v = (heads(p, HEADS) for p in self.kv(x).chunk(2, -1))
        out = []
        for mask in (None, *masks):
            m = None if mask is None else mask[:, None, None, :]
            y = self.proj(joined(attention(q, k, v, m)))
            out.append((y + self.mlp(self.norm(y)))[:, 0])
        return out


class TokenEncoder(nn.Module):
    def __init__(self, codebook):
        super().__init__()
        self.register_buffer("codebook", F.normalize(codebook, dim=-1), persistent=False)
        self.vq_table, self.vq_mapping = nn.Linear(vqnet.CODE_DIM, 4 * DIM), nn.Linear(4 * DIM, DIM)
        nn.init.normal_(self.vq_table.weight, std=1.5)
        self.pos_embed = nn.Parameter(torch.randn(1, TOKENS, DIM) * 0.1)
        self.blocks = nn.ModuleList([Block(DIM) for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(DIM, EPS)
        self.attn_pool = Pool(DIM)

    def features(self, ids):
        table = self.vq_mapping(F.gelu(self.vq_table(self.codebook)))
        x = F.embedding(ids, table.float()) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class TextAttention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.randn(3 * d, d) * d**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d))
        self.out_proj = nn.Linear(d, d)

    def forward(self, x):
        q, k, v = (heads(p, TEXT_HEADS) for p in F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1))
        return self.out_proj(joined(attention(q, k, v)))


class TextBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(d, EPS), TextAttention(d)
        self.ln_2, self.mlp = nn.LayerNorm(d, EPS), MLP(d, "c_fc", "c_proj")

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.resblocks = nn.ModuleList([TextBlock(TEXT_WIDTH) for _ in range(TEXT_LAYERS)])


class TextTower(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, TEXT_WIDTH)
        nn.init.normal_(self.token_embedding.weight, std=0.3)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, TEXT_WIDTH) * 0.1)
        self.transformer = Transformer()
        self.ln_final = nn.LayerNorm(TEXT_WIDTH, EPS)
        self.text_projection = nn.Linear(TEXT_WIDTH, DIM)

    def forward(self, tokens):
        x = self.token_embedding(tokens) + self.positional_embedding
        for block in self.transformer.resblocks:
            x = block(x)
        return self.text_projection(self.ln_final(x)[:, -1])


class Towers(nn.Module):
    def __init__(self, codebook, vocabulary):
        super().__init__()
        self.image, self.text = TokenEncoder(codebook), TextTower(vocabulary)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.logit_bias = nn.Parameter(torch.tensor(-4.0))

    def logits(self, images, texts):
        """[B, T] of embeddings [B, D] and [T, D]."""
        i, t = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
        return self.logit_scale.exp() * (i @ t.T) + self.logit_bias
