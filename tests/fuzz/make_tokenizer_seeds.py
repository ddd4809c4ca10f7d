"""Seeds of fuzz_tokenizer: small tokenizers of every part, written by Hugging Face's `tokenizers`, each with a text.

Usage: make_tokenizer_seeds.py FOLDER   (tests/fuzz/fuzz_tokenizer)
"""
import io
import json
import sys
import tempfile
from pathlib import Path

import sentencepiece as spm
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers as N, pre_tokenizers as P, processors

TEXT = " The 12 caf\u00e9s, e\u0301 \ufb01 \u4e2d\u6587 \u1100\u1161 \U0001f468\u200d\U0001f469 don't WE'LL\n\n  x[MASK]y <s>\u0130".encode() + b"\xff\xed\xa0\x80"


def charsmap(rules="41\t61\nC4\t61\n65 301\tE9\nFB01\t66 69\n200B\t\n"):
    """sentencepiece's own has 300 KB: a small one of our rules."""
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as f:
        f.write(rules)
        f.flush()
        spm.SentencePieceTrainer.train(sentence_iterator=iter(["a b c abc"] * 9), model_writer=model, vocab_size=9, normalization_rule_tsv=f.name,
                                       hard_vocab_limit=False, minloglevel=2)
    from transformers.utils import sentencepiece_model_pb2_new as pb
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def main(folder):
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    letters = {c: i for i, c in enumerate("[UNK] [CLS] [SEP] [MASK] t h e ##h ##e c a f é 中 文 1 2 th the ##a do n ' '".split())}
    pres = [P.BertPreTokenizer(), P.Whitespace(), P.WhitespaceSplit(), P.Digits(True), P.Punctuation("merged_with_next"), P.CharDelimiterSplit("e"),
            P.Metaspace(prepend_scheme="first"), P.Split("e", "merged_with_previous"), P.Split(Regex(r"\w+|[^\w\s]+|\h\v|(?i:ab)\u0041\p{^L}"), "contiguous", invert=True),
            P.Split(Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"), P.ByteLevel()]
    norms = [N.BertNormalizer(), N.NFC(), N.NFD(), N.NFKC(), N.NFKD(), N.Lowercase(), N.Sequence([N.NFD(), N.StripAccents()]), N.Strip(), N.Replace(Regex(" {2,}|x"), "y"),
             N.Replace("e", "ee"), N.Prepend("a"), N.Nmt(), N.ByteLevel(), N.Precompiled(charsmap())]
    out = {}
    for i in range(14):
        t = Tokenizer([models.WordPiece(letters, unk_token="[UNK]"), models.WordLevel(letters, unk_token="[UNK]"),
                       models.BPE(letters, [("t", "h"), ("th", "e")], unk_token="[UNK]", fuse_unk=i % 2 == 0),
                       models.Unigram([("u", 0.0), ("\u2581", -2.5), ("a", -3.1), ("th", -1.5), ("e", -2.0), ("<0xFF>", -9.0)], unk_id=0, byte_fallback=i % 2 == 0)][i % 4])
        t.normalizer = norms[i]
        t.pre_tokenizer = P.Sequence([pres[i % 11], pres[(i + 5) % 11]]) if i % 3 else pres[i % 11]
        t.post_processor = processors.TemplateProcessing(single="[CLS]:1 $A [SEP]", pair="$A $B", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]) if i % 2 else \
            processors.Sequence([processors.ByteLevel(), processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))])
        t.add_special_tokens([AddedToken("[MASK]", lstrip=i % 2 == 0, rstrip=i % 3 == 0, single_word=i % 5 == 0)])
        t.add_tokens([AddedToken("Caf", normalized=True)])
        if i % 4 == 0:
            t.enable_truncation(5, direction="left")
        out[f"parts_{i}"] = t.to_str().encode() + b"\0" + TEXT
    alphabet = {c: i for i, c in enumerate(sorted(P.ByteLevel.alphabet()))} | {"th": 256, "the": 257, "<s>": 258, "<pad>": 259, "</s>": 260, "<unk>": 261, "<mask>": 262}
    short = {c: i for c, i in alphabet.items() if i > 255 or c in "theTHE12 \u0120"}
    vocab = json.dumps(short).encode()
    out["merges"] = b"m" + vocab + b"\0" + b"#version: 0.2\nt h\nth e\n\0" + TEXT + b"the" * 40
    t = Tokenizer(models.BPE({"a": 0, "a</w>": 1, "b": 2, "ab</w>": 3, "b</w>": 4}, [("a", "b</w>")], end_of_word_suffix="</w>"))
    out["suffix"] = t.to_str().encode() + b"\0aba ab"
    t = Tokenizer(models.BPE({"a": 0, "##b": 1, "ab": 2, "b": 3}, [("a", "##b")], continuing_subword_prefix="##", ignore_merges=True))
    out["prefix"] = t.to_str().encode() + b"\0ab" + b"ab" * 40
    t = Tokenizer(models.BPE({"<u>": 0, "<0xFF>": 1, "<0xC3>": 2, "<0xA9>": 3, "a": 4}, [], byte_fallback=True, unk_token="<u>"))
    out["bytes"] = t.to_str().encode() + b"\0a\xc3\xa9b\xc3\xa9"
    out["vocab"] = b"v[PAD]\n[UNK]\r\n[CLS]\n[SEP]\n[MASK]\nthe\n##e\ncafe\n,\n\0" + TEXT
    out["broken"] = b'{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}\0a'
    for name, data in out.items():
        (folder / name).write_bytes(data)


main(sys.argv[1])
