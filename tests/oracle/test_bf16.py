"""--precision bf16: refused where the processor lacks it, f32 outside; the same bits again and after a kill. Else emulated.

What bf16 does to embeddings and gradients of each family of models is in test_families.py. FT_BUILD names the build folder.
"""
import random
import signal
import zipfile

import numpy as np
import onnx
import pytest

import finetuner_cli as cli
from test_resume import STEPS, Job, checkpoints
from test_text import encode, texts, write

HERE = cli.bf16_here()
BF16 = ["--precision", HERE]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("bf16"), options=BF16)


@pytest.mark.parametrize("words", [["fit", "net.onnx", "train.jsonl", "--steps", 2, "--out", "no.zip"], ["encode", "net.onnx", "train.jsonl", "--out", "no.npy"],
                                   ["evaluate", "net.onnx", "eval.jsonl"]], ids=lambda w: w[0])
def test_bf16_is_computed_or_says_what_is_missing(job, words):
    result = cli.finetuner(*words, "--precision", "bf16", "--quiet", cwd=job.dir)
    if HERE == "bf16":
        assert result.code == 0, result
        return
    assert result.code == 5 and len(result.err.splitlines()) == 1, result
    assert "AVX-512" in result.err and "bf16-emulated" in result.err
    assert not list(job.dir.glob("no.*"))


def test_a_processor_that_computes_it_says_if_it_is_slow(job):
    said = cli.ok("encode", "whole.zip", "eval.jsonl", "--out", "said.npy", *BF16, cwd=job.dir).err
    slow = HERE == "bf16" and not {"avx512_bf16", "amx_bf16"} & cli.flags()  # of the emulated one --help says it
    assert ("slower than f32" in said) == slow, said


def test_embeddings_keep_their_direction(job):
    for name, words in (("f32", []), ("bf16", BF16)):
        cli.ok("encode", "whole.zip", "eval.jsonl", "--out", f"{name}.npy", "--quiet", *words, cwd=job.dir)
    a, b = (np.load(job.dir / f"{name}.npy").astype(np.float64) for name in ("f32", "bf16"))
    assert np.load(job.dir / "bf16.npy").dtype == np.float32
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    print(f"\n{len(a)} embeddings, the worst cosine {cosine.min():.6f}")
    assert cosine.min() > 0.999 and not np.array_equal(a, b)


def test_texts_keep_their_direction(tmp_path):
    write(tmp_path / "texts.jsonl", texts()[::40])
    wide, narrow = (encode(tmp_path, "texts.jsonl", "--precision", p)[0].astype(np.float64) for p in ("f32", HERE))
    cosine = (wide * narrow).sum(1) / np.linalg.norm(wide, axis=1) / np.linalg.norm(narrow, axis=1)
    print(f"\n{len(wide)} texts, the worst cosine {cosine.min():.6f}")
    assert cosine.min() > 0.999 and not np.array_equal(wide, narrow)


def test_what_is_written_is_f32(job):
    """The artifact is what a run in f32 writes, with other numbers; they are masters, not rounded."""
    cli.ok("fit", "net.onnx", "train.jsonl", "--steps", 4, "--batch-size", 60, "--output-dim", 24, "--out", "f32.zip", "--quiet", cwd=job.dir)
    graphs = []
    for name in ("f32.zip", "whole.zip"):
        with zipfile.ZipFile(job.dir / name) as file:
            graphs.append(onnx.load_from_string(file.read(next(n for n in file.namelist() if n.endswith("model.onnx")))).graph)
    shapes = [[(t.name, t.data_type, tuple(t.dims)) for t in g.initializer] for g in graphs]
    nodes = [[(n.op_type, tuple(n.input), tuple(n.output)) for n in g.node] for g in graphs]
    assert shapes[0] == shapes[1] and nodes[0] == nodes[1]
    weights = [onnx.numpy_helper.to_array(t) for t in graphs[1].initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]
    assert len(weights) >= 3
    assert all((w.view(np.uint32) & 0xffff).any() for w in weights)


def test_the_same_bits_again_and_after_a_kill(job):
    job.check_equal("once-more", job.finish("once-more"))
    code, _, _ = job.kill("killed", random.Random(cli.SEED).randrange(20, STEPS - 20))
    newest = max(checkpoints(job.dir / "killed"))
    summary = job.finish("killed", "--resume")
    assert code == -signal.SIGKILL and summary["resumed_from"] == newest > 0
    job.check_equal("killed", summary)


def test_another_precision_is_another_job(job):
    job.kill("mine", 30)
    result = cli.finetuner(*job.words("mine", "--resume", "--quiet", "--precision", "f32"), cwd=job.dir)
    assert result.code == 3 and "another job" in result.err, result
