"""Makes the tokenizers and cases.json of this folder: python make.py (sentencepiece 0.2.3, tokenizers 0.23.3, protobuf).

Everything is drawn with fixed seeds, from the words below.
"""

import base64
import io
import json
import random

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

WORDS = """
a an the of in on near behind red green blue yellow orange black white small large photo picture box ball cylinder cone door ramp person
robot forklift pallet corridor warehouse shelf open closed empty left right standing walking is are there two three 42 2024 3.5 m
ein eine der die das rote grüne blaue Kiste Kugel Tür Straße groß klein für über Gabelstapler Lagerhalle
une boîte rouge petite porte fermée à côté déjà été où garçon caja roja niño está aquí mañana pequeño ¿dónde ¡hola!
красный синий мяч дверь робот человек стоит рядом большой маленький κόκκινο κουτί πόρτα ρομπότ σκύλος
赤い 箱 青い ボール ロボット ドア 廊下 人 红色 的 盒子 蓝色 球 机器人 门 走廊 你好 빨간 상자 파란 공 로봇 문 사람
صندوق أحمر كرة زرقاء باب روبوت קופסה אדומה דלת लाल डिब्बा नीला गेंद दरवाज़ा
""".split()

# What Gemma has of the kind, and some that overlap.
SYMBOLS = ["<mask>", "<unused0>", "<unused1>", "<start>", "<h1>", "qu", "quq", "q u", " qu", "uq▁"]
SYMBOLS += ["\n" * n for n in range(1, 6)] + ["▁" * n for n in range(2, 8)]

TEXTS = [
    "a photo of a red box", "a red ball left of a blue ball", "A Photo of a RED box!", " two  spaces ", "", " ", "   ", "\n", "\n\n\n\n\n\n\n", "\t\r\n",
    "▁", "▁▁", "▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁", "a▁b", " ▁ ▁▁", "red box", "red bed box", "ququ", "quququ q uq ", "<mask>", "<mask", "a<mask>b", "<<mask>>", "<unused0><unused1>",
    "<pad>", "<eos>", "</s>", "<bos>", "<unk>", "<0x41>", "<0x0A>", "<h1>red</h1>", "¿dónde está el niño?", "Straße", "STRASSE", "ΣΊΣΥΦΟΣ", "İstanbul", "ǅ", "ﬁ", "e\u0301", "é",
    "你好", "赤い箱と青いボール", "빨간 상자", "ㅎㅏㄴ", "한국어", "صندوق أحمر", "קופסה", "दरवाज़ा", "ไทย", "🤖", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "👍🏽", "☃\ufe0f", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠜎𠜱", "\U0010ffff", "\ufffd", "\ufeffbom",
    "\u200b\u200d\u00ad", "\u202eabc\u202c", "\u2028\u2029", "\u00a0\u3000", "\x00", "a\x00b", "\x01\x02\x1f\x7f", "\x80\x9f", "tab\tand\nnewline", "C:\\path\\to \"x\" 'y'",
    "0123456789", "3.14159265358979", "2024-01-31", "...", "----", "()[]{}", "https://example.org/?a=b&c=d#e", "x" * 300, "red" * 100, "ab" * 200, "🤖" * 40, "箱" * 100, "redbox" * 60,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft", "pneumonoultramicroscopicsilicovolcanoconiosis", "a" * 1000, " " * 100, "a " * 100,
]  # fmt: skip

BROKEN = [
    b"\xff", b"a\xffb", b"\xc3", b"\xc3\x28", b"\xe4\xbd", b"\xe4\xbd\xe4\xbd\xa0", b"\xf0\x9f\xa4", b"\x80\x80", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"red \xe7\xae box", b"\xe2\x96", b"\xe2\x96\x81\xe2", b"<mas\xffk>",
]  # fmt: skip


def corpus(draw):
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randrange(2, 10))) for _ in range(4000)]


def train(lines, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", normalization_rule_name="identity",
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, num_threads=1, minloglevel=2, **options,
    )  # fmt: skip
    proto = model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    proto.trainer_spec.ClearField("model_prefix")
    return proto


def to_json(proto):
    """The tokenizer as Hugging Face's conversion of Gemma's makes it: every pair of pieces whose joint text is one merges."""
    scores = [(p.piece, p.score) for p in proto.pieces]
    tab = next(i for i, (piece, _) in enumerate(scores) if piece == "<0x09>")
    scores[tab] = ("\t", 0.0)
    vocabulary = {piece: i for i, (piece, _) in enumerate(scores)}
    merges = []
    for piece, score in scores:
        pairs = [(piece[:i], piece[i:], score) for i in range(1, len(piece)) if piece[:i] in vocabulary and piece[i:] in vocabulary]
        merges += sorted(pairs, key=lambda m: (vocabulary[m[0]], vocabulary[m[1]]))
    merges.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    tokenizer = Tokenizer(models.BPE(vocabulary, [(a, b) for a, b, _ in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    added = [p for p in proto.pieces if p.type in (p.UNKNOWN, p.CONTROL, p.USER_DEFINED)]
    tokenizer.add_tokens([AddedToken(p.piece, normalized=False, special=p.type != p.USER_DEFINED) for p in added])
    tokenizer.encode_special_tokens = True  # "<eos>" in text is text
    return tokenizer


def texts(draw):
    """The texts above, and random ones of words, symbols and characters of all kinds."""

    def character():
        ranges = [(0x20, 0x7F), (0x20, 0x7F), (0, 0x20), (0xA0, 0x600), (0x900, 0x980), (0x3040, 0x3100), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0x1F300, 0x1FA00), (0xE000, 0x110000)]
        return chr(draw.randrange(*draw.choice(ranges)))

    yield from TEXTS
    for _ in range(60):
        yield "".join(character() for _ in range(draw.randrange(1, 16)))
    for _ in range(60):
        yield "".join(draw.choice(SYMBOLS + list("boxqu ▁\n") + [" "]) for _ in range(draw.randrange(1, 16)))
    for _ in range(60):
        parts = [draw.choice(WORDS) for _ in range(draw.randrange(1, 8))]
        parts[draw.randrange(len(parts))] += character()
        yield draw.choice(["", " ", "  "]).join(parts)


def main():
    lines = corpus(random.Random(1))
    gemma = train(
        lines, vocab_size=900, byte_fallback=True, character_coverage=0.995, add_dummy_prefix=False, remove_extra_whitespaces=False,
        split_digits=True, allow_whitespace_only_pieces=True, eos_piece="<eos>", bos_piece="<bos>", user_defined_symbols=SYMBOLS,
    )  # fmt: skip
    odd = train(lines, vocab_size=500, byte_fallback=False, character_coverage=0.98, user_defined_symbols=["red  box", " x", "<mask>"])
    draw = random.Random(2)
    for piece in odd.pieces:
        if piece.type == piece.NORMAL and draw.random() < 0.2:
            piece.type = piece.UNUSED
    for name, proto in (("gemma", gemma), ("odd", odd)):
        with open(f"{name}.model", "wb") as f:
            f.write(proto.SerializeToString())
    converted = to_json(gemma)
    converted.save("gemma.json", pretty=False)

    processors = {name: sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString()) for name, proto in (("gemma", gemma), ("odd", odd))}
    cases = []
    for text in [*(t.encode() for t in texts(random.Random(3))), *BROKEN]:
        case = {name: processor.encode(text) for name, processor in processors.items()}
        try:
            case["text"] = text.decode()
            case["gemma.json"] = converted.encode(text.decode(), add_special_tokens=False).ids
        except UnicodeDecodeError:
            case["base64"] = base64.b64encode(text).decode()
        cases.append(case)
    with open("cases.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in cases) + "\n]\n")


main()
