"""Hostile models of texts: whatever stands in their files, the answer is a sentence and exit code 3 (4 where something lacks).

A small BERT that works is changed in one place at a time. A crash, or a sanitizer that finds something (FT_BUILD may name such a
build), has another exit code. Times are limited, and the processes' memory: nothing is allocated because a file says so.
"""
import json
import os
import resource
import shutil
import struct
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import finetuner_cli as cli
import test_artifact as artifact

MOST = 3 << 30  # bytes of address space; sanitizers reserve more than that for themselves
SANITIZED = b"__asan_init" in open(cli.PROGRAM, "rb").read()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "model"
    artifact.small(folder)
    (folder.parent / "texts.jsonl").write_text('{"text": "one"}\n')
    return folder


@pytest.fixture
def model(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "model")
    shutil.copy(sound.parent / "texts.jsonl", tmp_path)
    return tmp_path / "model"


def refused(model, *parts, codes=(3,)):
    limit = None if SANITIZED else lambda: resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST))
    done = subprocess.run([cli.PROGRAM, "encode", str(model), "texts.jsonl", "--out", "y.npy"], cwd=model.parent, env=cli.ENVIRONMENT,
                          capture_output=True, text=True, timeout=60, preexec_fn=limit)
    assert done.returncode in codes, (done.returncode, done.stderr)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("finetuner encode: "), done.stderr
    for part in parts:
        assert part in done.stderr, (part, done.stderr)


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def sparse(path, size):
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.truncate(size)


def test_the_model_itself_is_sound(model):
    cli.ok("encode", model, "texts.jsonl", "--out", "y.npy", cwd=model.parent)


# ---- safetensors

def split(model):
    data = (model / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def join(model, header, data, name="model.safetensors"):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (model / name).write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 0.5, 0.99, -1])
def test_truncated_weights(model, keep):
    path = model / "model.safetensors"
    size = path.stat().st_size
    os.truncate(path, int(size * keep) if isinstance(keep, float) else keep % size)
    refused(model, "model.safetensors")


@pytest.mark.parametrize("length", [0, 2**24 + 1, 2**63 - 1, 2**64 - 1])
def test_a_header_that_is_longer_than_the_file(model, length):
    path = model / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    refused(model, "model.safetensors")


NAME = "embeddings.word_embeddings.weight"


@pytest.mark.parametrize("how,value,part", [
    ("data_offsets", [0, 2**63 - 1], "bytes of data"),
    ("data_offsets", [-96, 2929920 - 96], "bytes of data"),
    ("data_offsets", [2929920, 0], "bytes of data"),
    ("data_offsets", [1e30, 2e30], "data_offsets"),
    ("data_offsets", [0], "data_offsets"),
    ("shape", [2**62, 2**62], "absurd"),
    ("shape", [2**32, 2**32], ""),
    ("shape", [-30522, -24], "no extent"),
    ("shape", [30522, 25], "do not take"),
    ("shape", [1] * 100, "dimensions"),
    ("shape", [], "do not take"),
    ("dtype", "F1024", "F1024"),
    ("dtype", None, "dtype"),
])
def test_a_tensor_that_lies_about_itself(model, how, value, part):
    header, data = split(model)
    header[NAME][how] = value
    join(model, header, data)
    refused(model, NAME, part)


def test_tensors_that_overlap_leave_gaps_or_lack(model):
    header, data = split(model)
    first, second = [name for name in header if name.endswith("attention.self.query.weight")]
    overlap = json.loads(json.dumps(header))
    overlap[second]["data_offsets"] = overlap[first]["data_offsets"]
    join(model, overlap, data)
    refused(model, "overlaps another one")
    join(model, header, data + b"\0" * 8)
    refused(model, "8 bytes of data belong to no tensor")
    join(model, {k: v for k, v in header.items() if k != second}, data)
    refused(model, "model.safetensors")
    join(model, b"[" * 100000, b"")
    refused(model, "model.safetensors")
    join(model, b'{"a":' * 100000, b"")
    refused(model, "model.safetensors")
    join(model, {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200001)}, b"")
    refused(model, "more than 200000 tensors")


@pytest.mark.parametrize("name", ["../model/model.safetensors", "/etc/passwd", "..", "", ".hidden.safetensors", "a\\b.safetensors", 7, None])
def test_shards_outside_the_folder(model, name):
    header, _ = split(model)
    (model / "model.safetensors").rename(model / "a.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {k: name for k in header if k != "__metadata__"}}))
    refused(model, "no shard beside it")


def test_an_index_that_lies(model):
    header, data = split(model)
    (model / "model.safetensors").unlink()
    index = model / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "gone.safetensors"}}')
    refused(model, "gone.safetensors", codes=(3, 4))
    join(model, header, data, "a.safetensors")
    index.write_text('{"weight_map": {"x": "a.safetensors"}}')
    refused(model, "tensor x is in no shard")
    index.write_text(json.dumps({"weight_map": {f"t{i}": f"{i}.safetensors" for i in range(5000)}}))
    refused(model, "more than 4096 shards")
    index.write_text("[]")
    refused(model, "no weight_map")


# ---- config.json and the modules'

@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
                                 "max_position_embeddings", "type_vocab_size"])
@pytest.mark.parametrize("value", [0, 10**18, "24"])
def test_absurd_sizes(model, key, value):
    change(model / "config.json", **{key: value})
    refused(model, key)


@pytest.mark.parametrize("values,part", [
    ({"num_attention_heads": 5}, "not a multiple"),
    ({"num_hidden_layers": 1024}, "tensors that"),
    ({"vocab_size": 2**24}, NAME),
    ({"max_position_embeddings": 2**20}, "position_embeddings"),
    ({"layer_norm_eps": 0}, "layer_norm_eps"),
    ({"layer_norm_eps": -1e300}, "layer_norm_eps"),
    ({"model_type": "x" * 100000}, "is not built"),
    ({"model_type": None}, "is not built"),
    ({"hidden_act": "x" * 100000}, "hidden_act"),
    ({"model_type": "t5", "relative_attention_num_buckets": 10**18}, ""),
    ({"model_type": "modernbert", "local_attention": -1}, ""),
    ({"model_type": "albert", "num_hidden_groups": 0}, ""),
])
def test_absurd_values(model, values, part):
    change(model / "config.json", **values)
    refused(model, part)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\0", "[" * 100000, '{"a":' * 100000, '{"a":1,"a":2}', "\xff"])
def test_json_that_is_none(model, text):
    for name in ("config.json", "tokenizer.json"):
        before = (model / name).read_bytes()
        (model / name).write_bytes(text.encode("latin-1"))
        refused(model)
        (model / name).write_bytes(before)


@pytest.mark.parametrize("path", ["../model", "/etc", "a/../../model", "..", "x\\y", 7, "x" * 10000])
def test_modules_outside_the_folder(model, path):
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": path, "type": "sentence_transformers.models.Pooling"}]
    (model / "modules.json").write_text(json.dumps(modules))
    refused(model, "modules.json")
    modules[0]["path"] = path
    (model / "modules.json").write_text(json.dumps(modules))
    refused(model, "modules.json")


def test_modules_that_lie(model):
    first = {"path": "", "type": "sentence_transformers.models.Transformer"}
    pooling = {"path": "p", "type": "sentence_transformers.models.Pooling"}
    dense = {"path": "d", "type": "sentence_transformers.models.Dense"}
    for folder in ("p", "d"):
        (model / folder).mkdir()
    join(model / "d", {"linear.weight": {"dtype": "F32", "shape": [2, 24], "data_offsets": [0, 192]}}, b"\0" * 192)
    for modules in ({}, [], [7], [first, first], [pooling], [first, dense], [first, pooling, pooling], [first] + [pooling] * 100000):
        (model / "modules.json").write_text(json.dumps(modules))
        refused(model)
    (model / "modules.json").write_text(json.dumps([first, pooling, dense]))
    for sizes in ({"in_features": 24, "out_features": 10**18}, {"in_features": 23, "out_features": 2}, {"in_features": 24, "out_features": 0},
                  {"in_features": 24, "out_features": 3}, {"in_features": 24, "out_features": 2}, {"activation_function": "os.system"}):
        (model / "d" / "config.json").write_text(json.dumps(sizes))
        refused(model)
    for config in ({"word_embedding_dimension": 10**18}, {"pooling_mode": ["mean"] * 100000}, {"pooling_mode": "x" * 100000}, {"include_prompt": 7}):
        (model / "p" / "config.json").write_text(json.dumps(config))
        refused(model, "p/config.json")


@pytest.mark.parametrize("value", [0, -1, "x", 1.5, 1, 2])
def test_absurd_lengths(model, value):
    (model / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": value}))
    refused(model)


def test_a_token_that_the_table_lacks_is_told_with_its_document(model):
    rows = json.loads((model / "config.json").read_text())["vocab_size"]
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": rows, "content": "<ent>", "single_word": False, "lstrip": False, "rstrip": False,
                                      "normalized": False, "special": False})
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    (model.parent / "texts.jsonl").write_text('{"text": "one"}\n{"text": "one <ent>", "id": "b"}\n')
    done = cli.finetuner("encode", model, "texts.jsonl", cwd=model.parent)
    assert done.code == 3 and all(part in done.err for part in ("texts.jsonl:2", f"token {rows},", f"ends at {rows - 1}:")), done


def pooled(folder, divisor):
    """Rows of a table, summed where the mask is 1, over one number for the whole batch, or over none."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["h"]),
             helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
             helper.make_node("Unsqueeze", ["m", "last"], ["m3"]),
             helper.make_node("Mul", ["h", "m3"], ["hm"]),
             helper.make_node("ReduceSum", ["hm", "one"], ["sum"], keepdims=0)]
    if divisor:
        nodes.append(helper.make_node("ReduceSum", ["m"], ["all"], keepdims=0))
        nodes.append(helper.make_node("Div", ["sum", "all"], ["y"]))
    else:
        nodes[-1] = helper.make_node("ReduceSum", ["h", "one"], ["y"], keepdims=0)
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"]) for n in ("input_ids", "attention_mask")]
    numbers = [onnx.numpy_helper.from_array(np.ones((50, 4), np.float32), "table"), onnx.numpy_helper.from_array(np.array([-1]), "last"),
               onnx.numpy_helper.from_array(np.array([1]), "one")]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])], numbers)
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("divisor,part", [(True, "tokenizer"), (False, "attention_mask")])
def test_poolings_that_cannot_be_packed_are_looked_at(tmp_path, divisor, part):
    done = cli.finetuner("inspect", pooled(tmp_path / "m", divisor), cwd=tmp_path)
    assert done.code == 0 and part in done.out, done


# ---- tokenizer.json

@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "tokenizer_config.json", "vocab.txt"])
def test_a_gigabyte_is_not_read(model, name):
    if name == "vocab.txt":
        (model / "tokenizer.json").unlink()
    sparse(model / name, 1 << 30)
    refused(model, name, "has 1073741824 bytes, more than the limit")


def wordpiece(**more):
    return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}, **more}


def bpe(**more):
    return {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], **more}


def unigram(**more):
    return {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]], **more}


def nested(depth):
    inner = {"type": "Lowercase"}
    for _ in range(depth):
        inner = {"type": "Sequence", "normalizers": [inner]}
    return inner


@pytest.mark.parametrize("changes", [
    {"model": 7}, {"model": {"type": "Magic"}}, {"model": wordpiece(vocab={})}, {"model": wordpiece(vocab=[])},
    {"model": wordpiece(vocab={"[UNK]": -1})}, {"model": wordpiece(vocab={"[UNK]": 10**18})}, {"model": wordpiece(vocab={"[UNK]": 1e300})},
    {"model": wordpiece(unk_token="gone")}, {"model": wordpiece(max_input_chars_per_word=-1)},
    {"model": bpe(merges=["a c"])}, {"model": bpe(merges=["a b c d"])}, {"model": bpe(merges=[["a"]])}, {"model": bpe(merges=7)},
    {"model": bpe(merges=["b a"])}, {"model": bpe(vocab={"a": 2**40})},
    {"model": unigram(unk_id=99)}, {"model": unigram(unk_id=-1)}, {"model": unigram(vocab=[])}, {"model": unigram(vocab=[["a"]])},
    {"model": unigram(vocab=[["a", "b"]])},
    {"added_tokens": 7},
    {"added_tokens": [{"content": 7}]},
    {"normalizer": nested(300)}, {"normalizer": {"type": "Magic"}},
    {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/" * 99996}},
    {"normalizer": {"type": "Replace", "pattern": {"Regex": "(" * 10000}, "content": ""}},
    {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a*)*b" * 1000}, "behavior": "Isolated", "invert": False}},
    {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "gone", "type_id": 0}}], "pair": [], "special_tokens": {}}},
], ids=lambda changes: next(iter(changes)))
def test_tokenizers_that_lie(model, changes):
    change(model / "tokenizer.json", **changes)
    refused(model)


def test_ids_beyond_the_models_table(model):
    """A tokenizer of more tokens than the model has rows: a text that has such a token is refused, not looked up."""
    change(model / "tokenizer.json", added_tokens=[{"id": 30522, "content": "qzqzq", "single_word": False, "lstrip": False, "rstrip": False,
                                                    "normalized": False, "special": True}])
    cli.ok("encode", model, "texts.jsonl", "--out", "y.npy", cwd=model.parent)
    (model.parent / "texts.jsonl").write_text('{"text": "one qzqzq"}\n')
    result = cli.finetuner("encode", model, "texts.jsonl", "--out", "y.npy", cwd=model.parent)
    assert result.code == 3 and "30522" in result.err, result


# ---- ONNX

def onnx_model(path, nodes, outputs=("y",), inputs=("input_ids", "attention_mask")):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [helper.make_tensor("w", TensorProto.FLOAT, [9, 4], np.ones(36, np.float32))])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


@pytest.mark.parametrize("nodes,part", [
    ([helper.make_node("Add", ["y", "y"], ["y"])], "cycle"),
    ([helper.make_node("Gather", ["w", "input_ids"], ["e"]), helper.make_node("Add", ["e", "b"], ["a"]), helper.make_node("Mul", ["a", "a"], ["b"]),
      helper.make_node("Relu", ["b"], ["y"])], "cycle"),
    ([helper.make_node("Add", [f"v{i}", f"v{(i + 1) % 5000}"], [f"v{(i + 2) % 5000}"]) for i in range(5000)] +
     [helper.make_node("Relu", ["v7"], ["y"])], "cycle"),
    ([helper.make_node("Gather", ["w", "gone"], ["y"])], "gone"),
    ([helper.make_node("Gather", ["w", "input_ids"], ["y"]), helper.make_node("Relu", ["w"], ["y"])], "defined twice"),
    ([helper.make_node("Magic", ["input_ids"], ["y"])], "Magic"),
], ids=["itself", "two", "5000", "nothing", "twice", "magic"])
def test_graphs_that_lie(model, nodes, part):
    path = model / "model.onnx"
    onnx_model(path, nodes)
    shutil.copy(model.parent / "texts.jsonl", model)
    refused(path, part)
    os.truncate(path, path.stat().st_size // 2)
    refused(path)
