"""The networks of an exported checkpoint, in fp32."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import metrics
import tokenizer
import tokens
import towernet
import vqnet


class Model:
    """Tokenizer, towers and vocabulary of a folder, and what they say of images and texts."""

    def __init__(self, folder):
        tensors = {k: v.float() for k, v in load_file(f"{folder}/model.safetensors").items()}
        trunk = "visual.trunk."
        vq = {k.removeprefix(trunk + "vq."): v for k, v in tensors.items() if k.startswith(trunk + "vq.")}
        rest = {k: v for k, v in tensors.items() if not k.startswith(trunk + "vq.")}
        self.vq = vqnet.Tokenizer()
        self.vq.load_state_dict(vq)
        self.words = tokenizer.Tokenizer(f"{folder}/tokenizer.model")
        self.towers = towernet.Towers(self.vq.quantize.embedding.weight.detach(), self.words.size)
        self.towers.load_state_dict(
            {("image." + k.removeprefix(trunk) if k.startswith(trunk) else k): v for k, v in rest.items()}
        )
        self.vq.eval()
        self.towers.eval()
        self.scale, self.bias = self.towers.logit_scale.exp().item(), self.towers.logit_bias.item()

    def ids(self, images):
        """Tokens [N, 64] of uint8 images [N, 128, 128, 3]."""
        return tokens.encode(self.vq, images, bf16=False).astype(np.int64)

    @torch.no_grad()
    def features(self, ids):
        """Token features [N, 64, D] of tokens [N, 64]."""
        return torch.cat([self.towers.image.features(i) for i in torch.from_numpy(ids).split(250)])

    @torch.no_grad()
    def pool(self, features, masks=None):
        """Unit embeddings [N, D] of token features, or of those that masks [N, 64] let through."""
        if masks is None:
            parts = [self.towers.image.attn_pool(f)[0] for f in features.split(250)]
        else:
            both = zip(features.split(250), torch.from_numpy(masks).split(250))
            parts = [self.towers.image.attn_pool(f, [m])[1] for f, m in both]
        return F.normalize(torch.cat(parts), dim=-1).numpy()

    @torch.no_grad()
    def texts(self, texts):
        """Unit embeddings [T, D]."""
        ids = torch.from_numpy(self.words.encode(texts, towernet.CONTEXT))
        return F.normalize(self.towers.text(ids), dim=-1).numpy()

    @functools.cache
    def label(self, name):
        return metrics.ensemble(self.texts, name)

    def probability(self, seen, name):
        """Of a label, for unit embeddings [N, D] of images: [N]."""
        return 1 / (1 + np.exp(-(self.scale * (seen @ self.label(name)) + self.bias)))
