"""--precision int8: how near embeddings stay to f32, the same bits alone and in a batch, what is said, and what is refused.

The model is all-MiniLM-L6-v2; that f32 is sentence-transformers' is in test_text.py. What a product in int8 is: tests/test_int8.c.
"""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import finetuner_cli as cli
from test_text import COUNT, MODEL, encode, texts, write


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """Where, the texts, their embeddings in f32 and int8, and what encode says of the latter."""
    where = tmp_path_factory.mktemp("int8")
    rows = texts()
    write(where / "texts.jsonl", rows)
    wide, _ = encode(where, "texts.jsonl")
    narrow, summary = encode(where, "texts.jsonl", "--precision", "int8")
    return where, rows, wide.astype(np.float64), narrow, summary


def test_embeddings_keep_their_direction(encoded):
    _, _, wide, narrow, summary = encoded
    assert narrow.dtype == np.float32 and len(narrow) == COUNT and summary["int8_products"] == "36 of 36"
    cosine = (wide * narrow).sum(1) / np.linalg.norm(wide, axis=1) / np.linalg.norm(narrow, axis=1)
    print(f"int8 against f32, {COUNT} texts: cosine {cosine.min():.5f} at worst, mean {cosine.mean():.5f}")
    assert cosine.min() > 0.99  # promised; measured: 0.9965, of the empty text
    assert cosine.max() < 1 - 1e-7  # it is another computation


def test_a_text_alone_is_as_in_a_batch(encoded):
    where, rows, _, narrow, _ = encoded
    some = [i for i in range(0, COUNT, 67)]
    write(where / "some.jsonl", [rows[i] for i in some])
    for options in (["--batch-size", "1", "--threads", "1"], ["--batch-size", "3", "--threads", "2"]):
        found, _ = encode(where, "some.jsonl", "--precision", "int8", *options)
        assert np.array_equal(found, narrow[some])


def test_what_is_said(encoded):
    where = encoded[0]
    result = cli.ok("encode", MODEL, "some.jsonl", "--out", "said.npy", "--precision", "int8", cwd=where)
    assert "36 of 36 products in int8" in result.err


def test_a_fit_is_refused(encoded):
    where = encoded[0]
    write(where / "train.jsonl", ["a", "b", "c", "d"], ["x", "x", "y", "y"])
    result = cli.finetuner("fit", MODEL, "train.jsonl", "--out", "no.zip", "--precision", "int8", "--quiet", cwd=where)
    assert result.code == 2 and "int8" in result.err and "wanted f32|bf16" in result.err and len(result.err.splitlines()) == 1, result
    assert not (where / "no.zip").exists()


def test_a_model_without_such_products_is_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["p"]),
         helper.make_node("Flatten", ["p"], ["y"])], "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor("w", TensorProto.FLOAT, [4, 1, 3, 3], np.ones(36, np.float32))])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "conv.onnx")
    (tmp_path / "data.jsonl").write_text(json.dumps({"tensor": np.zeros((1, 8, 8)).tolist()}) + "\n")
    result = cli.finetuner("encode", "conv.onnx", "data.jsonl", "--out", "no.npy", "--precision", "int8", "--quiet", cwd=tmp_path)
    assert result.code != 0 and "int8" in result.err and "f32" in result.err and len(result.err.splitlines()) == 1, result
    assert not (tmp_path / "no.npy").exists()
