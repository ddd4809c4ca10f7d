"""Writes executor/prep/tok_unicode.inc: what the tokenizers of Hugging Face (PyPI's `tokenizers`) say about every code point.

Their Rust crates are of several Unicode versions, none of them utf8proc's or PCRE2's, so nothing is taken from a Unicode file:
each property is asked of the library itself, by letting its normalizers and pre-tokenizers loose on all 1,112,064 code points.
Usage: make_unicode.py OUT   (about a minute; needs libutf8proc.so.2, whose differences are written down)
"""
import ctypes
import sys
import unicodedata
from pathlib import Path

from tokenizers import Regex
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

CPS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
PARTS = [CPS[i:i + 4096] for i in range(0, len(CPS), 4096)]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
SEP = "\u16a0"  # a rune: no normalizer touches it
FLAGS = "WORD SPACE OTHER PUNCT BERT_MARK COMBINING NUMERIC NFKD_INERT NFC_INERT NEWER LOWER CJK EXTEND STANDIN".split()


def found(pattern):
    split, out = P.Split(Regex(pattern), "removed"), set()
    for part in PARTS:
        for piece, _ in split.pre_tokenize_str("".join(map(chr, part))):
            out.update(map(ord, piece))
    return out


def changed(normalizer, before=""):
    """code point -> what becomes of it, where that is something else."""
    out = {}
    for part in PARTS:
        part = [c for c in part if chr(c) != SEP]
        got = normalizer.normalize_str(SEP.join(before + chr(c) for c in part)).split(SEP)
        assert len(got) == len(part)
        out.update((c, g) for c, g in zip(part, got) if g != before + chr(c))
    return out


def alone(pre):
    """Code points that are a piece of their own between two letters."""
    out = set()
    for part in PARTS:
        for piece, _ in pre.pre_tokenize_str("a" + "".join(chr(c) + "a" for c in part)):
            if len(piece) == 1 and piece != "a":
                out.add(ord(piece))
    return out


def in_word(pre):
    out = set()
    for part in PARTS:
        for piece, _ in pre.pre_tokenize_str(" ".join("a" + chr(c) for c in part)):
            if len(piece) == 2 and piece[0] == "a":
                out.add(ord(piece[1]))
    return out


def bert(**kw):
    return N.BertNormalizer(**{"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False, **kw})


class Utf8proc:
    def __init__(self):
        self.lib = ctypes.CDLL("libutf8proc.so.2")
        self.buffer = (ctypes.c_int32 * 32)()
        self.lib.utf8proc_version.restype = self.lib.utf8proc_unicode_version.restype = ctypes.c_char_p
        self.lib.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_int16)

    def unicode(self):
        return self.lib.utf8proc_unicode_version().decode()

    def decomposed(self, c, compat):
        n = self.lib.utf8proc_decompose_char(c, self.buffer, 32, (1 << 4) | ((1 << 2) if compat else 0), ctypes.byref(ctypes.c_int()))
        return "".join(map(chr, self.buffer[:n]))

    def combining(self, c):
        return self.lib.utf8proc_get_property(c)[1]  # category, combining_class: the first two int16

    def lower(self, c):
        return chr(self.lib.utf8proc_tolower(c))


def normal_forms(u, newer):
    """Inert code points, and those that the library's crate does not know yet though utf8proc does."""
    nfd, nfkd, nfc = changed(N.NFD()), changed(N.NFKD()), changed(N.NFC())
    combining = {c for c in CPS if u.combining(c) != 0}
    for c in CPS:
        if u.decomposed(c, True) != nfkd.get(c, chr(c)) or u.decomposed(c, False) != nfd.get(c, chr(c)):
            assert c not in nfkd, hex(c)
            newer.add(c)
    # A mark that is known is sorted: in front of an acute accent (230) if below it, behind a grave below (220) if not.
    acute, behind = changed(N.NFD(), "a\u0301"), N.NFD()
    for c in combining - set(nfd):
        text = "a" + chr(c) + "\u0316"
        if c not in acute if u.combining(c) < 230 else behind.normalize_str(text) == text:
            newer.add(c)
    known = combining - newer
    # NFC_Quick_Check = Yes: nothing that stands in front can compose with it.
    joins = set()
    for c in CPS:
        d = u.decomposed(c, False)
        if len(d) > 1 and 0xAC00 > c or c > 0xD7A3 and len(d) > 1:
            joins.update(map(ord, d[1:]))
    joins |= set(range(0x1161, 0x1176)) | set(range(0x11A7, 0x11C3))
    nfkd_inert = {c for c in CPS if c not in nfkd and c not in known}
    nfc_inert = {c for c in CPS if c not in nfc and c not in known and c not in joins}
    return nfkd_inert, nfc_inert


def lower_case(u):
    lower = changed(N.Lowercase())
    special = {c: s for c, s in lower.items() if u.lower(c) != s}
    for c in CPS:
        if u.lower(c) != chr(c):
            assert c in lower, hex(c)
    return lower, special


def extending(charsmap):
    """Code points of up to 3 (behind a letter of one byte: 4) bytes that stay in the cluster of what is in front of them. Asked
    with the case folding charsmap of sentencepiece: the whole cluster "A" + c becomes "a"."""
    n = N.Precompiled(charsmap)
    got = changed(n, "A")
    plain = changed(n)
    return {c for c in CPS if got.get(c) == "a" and plain.get(c, chr(c)) != ""}


def charsmap():
    import io
    import sentencepiece as spm
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(["a b c d e f g h", "abc def gh ab"] * 50), model_writer=model, vocab_size=16,
                                   normalization_rule_name="nmt_nfkc_cf", hard_vocab_limit=False, minloglevel=2)
    from transformers.utils import sentencepiece_model_pb2_new as pb
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def stand_ins(category, word):
    """What PCRE2 10.42 (Unicode 14, Python 3.11's too) takes for something else, by ranges with a code point of the same length
    in UTF-8 that it takes for the same. U+180E is a space to PCRE2."""
    assert unicodedata.unidata_version == "14.0.0"
    size = lambda c: len(chr(c).encode())
    cased = {"Lu", "Ll", "Lt"}
    want = [c for c in CPS if unicodedata.category(chr(c)) != category[c] or c == 0x180E]
    pool = {}
    for c in CPS:
        if unicodedata.category(chr(c)) == category[c] and c != 0x180E:
            if category[c] in cased and (chr(c).lower() != chr(c) or chr(c).upper() != chr(c)):
                continue  # without a partner in the other case
            pool.setdefault((category[c], size(c), c in word), c)
    for c in CPS:  # where every one has a partner, one that has
        if unicodedata.category(chr(c)) == category[c]:
            pool.setdefault((category[c], size(c), c in word), c)
    ranges = []
    for c in want:
        s = pool[(category[c], size(c), c in word)]
        if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == s:
            ranges[-1][1] = c
        else:
            ranges.append([c, c, s])
    return set(want), ranges


def rows(out, values, per=24, fmt="{}"):
    for i in range(0, len(values), per):
        out.append("    " + ", ".join(fmt.format(v) for v in values[i:i + per]) + ",")


def main(path):
    u = Utf8proc()
    category = {}
    for name in CATEGORIES:
        category.update(dict.fromkeys(found(rf"[^\p{{{name}}}]+"), name))
    clean = changed(bert(clean_text=True))
    marks = {c for c, s in changed(bert(strip_accents=True)).items() if s == ""}
    newer = set()
    nfkd_inert, nfc_inert = normal_forms(u, newer)
    lower, special = lower_case(u)
    word = in_word(P.Whitespace())
    different, ranges = stand_ins(category, word)
    sets = {
        "WORD": word,
        "SPACE": found(r"[^\s]+"),
        "OTHER": {c for c, s in clean.items() if s == ""},
        "PUNCT": alone(P.BertPreTokenizer()),
        "BERT_MARK": marks,
        "COMBINING": {c for c, s in changed(N.StripAccents()).items() if s == ""},
        "NUMERIC": alone(P.Digits(individual_digits=True)),
        "NFKD_INERT": nfkd_inert,
        "NFC_INERT": nfc_inert,
        "NEWER": newer,
        "LOWER": set(lower),
        "CJK": {c for c, s in changed(bert(handle_chinese_chars=True)).items()},
        "EXTEND": extending(charsmap()),
        "STANDIN": different,
    }
    assert sets["PUNCT"] == alone(P.Punctuation("isolated"))
    assert {c for c, s in clean.items() if s == " "} | {32} == sets["SPACE"] - {0x0B, 0x0C, 0x85}
    classes, blocks, index, table = {}, {}, [], []
    for block in range(0x110000 // 64):
        row = []
        for c in range(block * 64, block * 64 + 64):
            flags = CATEGORIES.index(category.get(c, "Cn"))
            for bit, name in enumerate(FLAGS):
                flags |= (c in sets[name]) << (5 + bit)
            row.append(classes.setdefault(flags, len(classes)))
        row = tuple(row)
        if row not in blocks:
            blocks[row] = len(blocks)
            table.extend(row)
        index.append(blocks[row])
    assert len(classes) <= 256 and len(blocks) <= 65536
    out = [
        "/* Made by tests/oracle/make_unicode.py from what PyPI's tokenizers answers for every code point. Not edited by hand. */",
        "enum {",
    ]
    out += [f"    FT_TOK_{name.upper()}," for name in CATEGORIES]
    out[-1] = out[-1][:-1]
    out += ["};", "enum {"]
    out += [f"    FT_TOK_{name} = 1 << {5 + bit}," for bit, name in enumerate(FLAGS)]
    out[-1] = out[-1][:-1]
    out += ["};", "#ifdef FT_TOK_UNICODE_TABLES", "static const uint32_t class_flags[] = {"]
    rows(out, list(classes), 12, "0x{:x}")
    out += ["};", "static const uint8_t class_of[] = {"]
    rows(out, table, 32)
    out += ["};", "static const uint16_t block_of[] = {"]
    rows(out, index, 28)
    out += ["};", f"/* Lower case where utf8proc's (Unicode {u.unicode()}) is another. */",
            "static const struct {", "    uint32_t from;", "    uint32_t to[2];", "} lower_special[] = {"]
    for c, s in sorted(special.items()):
        assert 1 <= len(s) <= 2
        out.append(f"    {{0x{c:x}, {{0x{ord(s[0]):x}, 0x{ord(s[1]) if len(s) == 2 else 0:x}}}}},")
    out += ["};", "/* What PCRE2 takes for something else: first, last, what stands in for them. */",
            "static const struct {", "    uint32_t first, last, as;", "} stand_ins[] = {"]
    rows(out, ranges, 4, "{{0x{0[0]:x}, 0x{0[1]:x}, 0x{0[2]:x}}}")
    out += ["};", "#endif", ""]
    Path(path).write_text("\n".join(out))
    print(len(classes), "classes,", len(blocks), "blocks,", len(special), "lower,", len(ranges), "stand-ins,", len(newer), "newer",
          {k: len(v) for k, v in sets.items()})


if __name__ == "__main__":
    main(sys.argv[1])
