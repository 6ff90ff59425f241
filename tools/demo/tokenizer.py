"""The text tower's vocabulary: a small SentencePiece BPE with byte fallback, without a dummy prefix."""

import io
import re
import string

import numpy as np
import sentencepiece as spm

import captions

PAD, EOS = 0, 1
VOCABULARY = 512
DROPPED = str.maketrans("", "", string.punctuation.replace("_", ""))


def canonical(text):
    """As SigLIP's tokenization does: no punctuation, lower case, single spaces."""
    return re.sub(r"\s+", " ", text.replace("_", " ").translate(DROPPED).lower()).strip()


def train(path, truth, seed):
    """Writes a vocabulary made from captions that are true of frames of the truth."""
    rng = np.random.default_rng(seed)
    lines = [captions.words(t, rng) for _ in range(40) for t in captions.fixed()]
    for frame in rng.integers(0, len(truth["cls"]), 20000):
        t = captions.sample(truth, frame, rng)
        if t is not None:
            lines.append(captions.words(t, rng))
    # Single letters and digits, so that any English word is made of letters rather than of bytes.
    lines += [" ".join(string.ascii_lowercase + string.digits)] * 20
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        byte_fallback=True,
        add_dummy_prefix=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=PAD,
        eos_id=EOS,
        bos_id=2,
        unk_id=3,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
    )
    with open(path, "wb") as f:
        f.write(model.getvalue())


class Tokenizer:
    def __init__(self, path):
        self.sp = spm.SentencePieceProcessor(model_file=path)
        self.size = self.sp.get_piece_size()
        self.known = {}

    def encode(self, texts, context):
        """int64 [T, context]: pieces, end, padding."""
        out = np.full((len(texts), context), PAD, np.int64)
        for i, text in enumerate(texts):
            ids = self.known.get(text)
            if ids is None:
                ids = self.sp.encode(canonical(text))[: context - 1] + [EOS]
                self.known[text] = ids
            out[i, : len(ids)] = ids
        return out
