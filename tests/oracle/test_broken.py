"""Broken input: one clear line on standard error and exit code 3 (4: it is not there; 2: the command line is wrong).

Never a signal, a sanitizer's report, a traceback or half an artifact. FT_BUILD may name a sanitized build.
"""
import base64
import collections
import json
import random
import re
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import finetuner_cli as cli

SEED = 20263
Place = collections.namedtuple("Place", "dir images labels")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a good model, a good artifact and good data; cases add what is broken."""
    where = tmp_path_factory.mktemp("broken")
    images, labels = cli.digits(120)
    net = cli.half_trained(cli.Cnn)
    cli.export(net, where / "good.onnx", net.SHAPE)
    mlp = cli.half_trained(cli.Mlp)
    cli.export(mlp, where / "flat.onnx", mlp.SHAPE)
    cli.write_jsonl(where / "good.jsonl", images, labels)
    cli.write_jsonl(where / "flat.jsonl", images, labels, (64,))
    cli.write_folder(where / "pictures", images, labels)
    cli.ok("tailor", "good.onnx", "--out", "good.zip", cwd=where)
    return Place(where, images, labels)


def refused(place, code, said, *words, stdin=b""):
    """One line that says what is wrong, and nothing else."""
    result = cli.finetuner(*words, cwd=place.dir, stdin=stdin, timeout=60)
    assert result.code == code, result
    lines = result.err.splitlines()
    assert len(lines) == 1 and result.out == "", result
    assert lines[0].startswith("finetuner") and 20 < len(lines[0]) < 1200 and lines[0].isprintable(), result
    assert re.search(said, lines[0]), result
    assert "executor/" not in lines[0] and not re.search(r"\.c:\d", lines[0]), result
    return lines[0]


# ---- models: name, what makes the bytes, words that the message must have


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"the_{op.lower()}", **attributes)


def model(nodes, inputs=(("x", ["N", 4]),), outputs=(("y", ["N", 3]),), weights=(), opset=17, dtype=TensorProto.FLOAT):
    """Unchecked: that is the point."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, dtype, s) for n, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [w if isinstance(w, TensorProto) else numpy_helper.from_array(w[1], w[0]) for w in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def floats(*shape):
    return np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)


def gemm(weights=(("w", floats(4, 3)),), **kw):
    return model([node("Gemm", ["x", "w"], ["y"])], weights=weights, **kw)


def tensor(name, dims, raw=b"", dtype=TensorProto.FLOAT):
    t = TensorProto(name=name, data_type=dtype, raw_data=raw)
    t.dims.extend(dims)
    return t


def external(location, **keys):
    t = TensorProto(name="w", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    t.dims.extend([4, 3])
    for key, value in {"location": location, **keys}.items():
        t.external_data.add(key=key, value=str(value))
    return gemm(weights=[t])


def wrapped(payload, numbers, depth):
    """`payload` inside the fields `numbers`, outermost last, `depth` times over; sizes first, so that it is linear."""
    heads, size = [], len(payload)
    for _ in range(depth):
        for number in numbers:
            head = cli.varint(number << 3 | 2) + cli.varint(size)
            heads.append(head)
            size += len(head)
    return b"".join(reversed(heads)) + payload


def nested_graphs(depth):
    """A node whose attribute is a graph, which has a node whose attribute is a graph, and so on."""
    inner = wrapped(b"", (6, 5, 1), depth)  # AttributeProto.g, NodeProto.attribute, GraphProto.node
    whole = onnx.load_from_string(model([node("If", ["x"], ["y"])]))
    raw = whole.graph.node[0].SerializeToString() + cli.field(5, cli.field(6, inner))
    del whole.graph.node[:]
    graph = cli.field(1, raw) + whole.graph.SerializeToString()
    whole.ClearField("graph")
    return whole.SerializeToString() + cli.field(7, graph)


def nested_types(depth):
    """An input that is a sequence of sequences of sequences."""
    raw = wrapped(b"", (1, 4), depth)  # TypeProto.Sequence.elem_type, TypeProto.sequence_type
    whole = onnx.load_from_string(model([node("Identity", ["x"], ["y"])], inputs=()))
    graph = whole.graph.SerializeToString() + cli.field(11, cli.field(1, b"x") + cli.field(2, raw))
    whole.ClearField("graph")
    return whole.SerializeToString() + cli.field(7, graph)


def truncated(place):
    raw = (place.dir / "good.onnx").read_bytes()
    return raw[: len(raw) // 2]


def noise(_):
    return random.Random(SEED).randbytes(4096)


MODELS = {
    "truncated": (truncated, "not a whole ONNX model"),
    "random": (noise, "not a whole ONNX model"),
    "empty": (lambda _: b"", "not a whole ONNX model"),
    "text": (lambda _: b"this is no model\n" * 40, "not a whole ONNX model"),
    "a picture": (lambda p: cli.png(p.images[0]), "not a whole ONNX model"),
    "graphs nested 20,000 deep": (lambda _: nested_graphs(20000), "nest|deep|If"),
    "types nested 20,000 deep": (lambda _: nested_types(20000), "nest|deep|'x' has no tensor"),
    "groups nested 20,000 deep": (lambda _: b"\x3b" * 20000, "ONNX"),
    "cyclic": (
        lambda _: model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Flatten", ["b"], ["y"])]),
        "cycl|cycle",
    ),
    "reads itself": (lambda _: model([node("Add", ["x", "y"], ["y"])]), "cycl|cycle"),
    "reads nothing that is made": (lambda _: model([node("Add", ["x", "ghost"], ["y"])]), "ghost"),
    "one name twice": (
        lambda _: model([node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])], outputs=(("y", ["N", 4]),)), "'y'|\"y\""
    ),
    "no nodes": (lambda _: model([], outputs=(("y", ["N", 4]),)), "y"),
    "no graph": (
        lambda _: onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]).SerializeToString(), "graph"
    ),
    "no output": (lambda _: model([node("Relu", ["x"], ["y"])], outputs=()), "output"),
    "no input": (
        lambda _: model([node("Relu", ["w"], ["y"])], inputs=(), weights=[("w", floats(4, 3))]), "no input"
    ),
    "dims of 2^62": (lambda _: gemm(weights=[tensor("w", [2**62, 3], b"\0" * 48)]), "w"),
    "dims that overflow": (lambda _: gemm(weights=[tensor("w", [2**33, 2**33], b"\0" * 48)]), "w"),
    "negative dims": (lambda _: gemm(weights=[tensor("w", [-4, 3], b"\0" * 48)]), "w"),
    "a rank of 1,000": (lambda _: gemm(weights=[tensor("w", [1] * 1000, b"\0" * 4)]), "'w': more than 8 dimensions"),
    "fewer bytes than dims": (lambda _: gemm(weights=[tensor("w", [4, 3], b"\0" * 44)]), "w"),
    "no type": (lambda _: gemm(weights=[tensor("w", [4, 3], b"\0" * 48, 0)]), "w"),
    "a type nobody has": (lambda _: gemm(weights=[tensor("w", [4, 3], b"\0" * 48, 77)]), "w"),
    "input of absurd dims": (
        lambda _: model([node("Flatten", ["x"], ["y"])], inputs=(("x", ["N", 2**40, 2**40]),)), "x|large|limit"
    ),
    "shapes that do not fit": (lambda _: gemm(weights=[("w", floats(5, 3))]), "the_gemm"),
    "a kernel larger than the image": (
        lambda _: model(
            [node("Conv", ["x", "w"], ["y"], kernel_shape=[9, 9])], inputs=(("x", ["N", 1, 4, 4]),),
            outputs=(("y", ["N", 2, 1, 1]),), weights=[("w", floats(2, 1, 9, 9))],
        ),
        "the_conv",
    ),
    "a stride of zero": (
        lambda _: model(
            [node("Conv", ["x", "w"], ["y"], strides=[0, 0])], inputs=(("x", ["N", 1, 8, 8]),),
            outputs=(("y", ["N", 2, 6, 6]),), weights=[("w", floats(2, 1, 3, 3))],
        ),
        "the_conv",
    ),
    "padding of 2^40": (
        lambda _: model(
            [node("Conv", ["x", "w"], ["y"], pads=[2**40] * 4)], inputs=(("x", ["N", 1, 8, 8]),),
            outputs=(("y", ["N", 2, 6, 6]),), weights=[("w", floats(2, 1, 3, 3))],
        ),
        "the_conv",
    ),
    "groups that do not divide": (
        lambda _: model(
            [node("Conv", ["x", "w"], ["y"], group=3)], inputs=(("x", ["N", 4, 8, 8]),),
            outputs=(("y", ["N", 2, 6, 6]),), weights=[("w", floats(2, 1, 3, 3))],
        ),
        "the_conv",
    ),
    "an axis that is not there": (
        lambda _: model([node("Softmax", ["x"], ["y"], axis=9)], outputs=(("y", ["N", 4]),)), "the_softmax"
    ),
    "a permutation that is none": (
        lambda _: model([node("Transpose", ["x"], ["y"], perm=[0, 0])]), "the_transpose"
    ),
    "a reshape to another size": (
        lambda _: model([node("Reshape", ["x", "s"], ["y"])], weights=[("s", np.array([0, 5], np.int64))]), "the_reshape"
    ),
    "too few inputs": (lambda _: model([node("Gemm", ["x"], ["y"])]), "the_gemm"),
    "ops that are not built, all told": (
        lambda _: model([node("LSTM", ["x"], ["h"]), node("GRU", ["h"], ["y"])]),
        "LSTM.*GRU|GRU.*LSTM",
    ),
    "an op nobody has": (lambda _: model([node("Frobnicate", ["x"], ["y"])]), "Frobnicate"),
    "opset 99": (lambda _: gemm(opset=99), "opset"),
    "opset 1": (lambda _: gemm(opset=1), "opset"),
    "input of text": (lambda _: gemm(dtype=TensorProto.STRING), "x"),
    "input of an open size": (
        lambda _: model([node("Relu", ["x"], ["y"])], inputs=(("x", ["N", 3, "h", "w"]),)), "--input-shape"
    ),
    "external data that is not there": (lambda _: external("nowhere.bin"), "nowhere.bin"),
    "external data outside": (lambda _: external("../../../../../etc/passwd"), "passwd"),
    "external data at the root": (lambda _: external("/etc/passwd"), "passwd"),
    "external data beyond its file": (lambda _: external("good.jsonl", offset=2**40, length=48), "good.jsonl"),
    "external data of a negative offset": (lambda _: external("good.jsonl", offset=-8, length=48), "w|offset"),
}


@pytest.mark.parametrize("name", MODELS)
def test_broken_models(place, name):
    make, said = MODELS[name]
    path = place.dir / "case.onnx"
    path.write_bytes(make(place))
    code = 4 if name == "external data that is not there" else 3
    line = refused(place, code, said, "inspect", "case.onnx")
    print(f"\n{name}: {line}")
    refused(place, code, said, "fit", "case.onnx", "good.jsonl", "--out", "case.zip", "--quiet")
    assert not (place.dir / "case.zip").exists() and not (place.dir / "case.zip.work").exists()


def outcome(place, *words):
    """Broken at a random place: refused with one line, or not broken enough to notice."""
    result = cli.finetuner(*words, cwd=place.dir, timeout=60)
    lines = result.err.splitlines()
    assert result.code in (0, 3, 4), result
    assert len(lines) == (0 if result.code == 0 else 1), result
    return result.code


def damage(raw, rng):
    raw = bytearray(raw)
    how = rng.randrange(4)
    if how == 0:
        return bytes(raw[: rng.randrange(len(raw))])
    if how == 1:
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif how == 2:
        at = rng.randrange(len(raw))
        raw[at : at + rng.randint(1, 16)] = rng.randbytes(rng.randint(1, 16))
    else:
        at, size = rng.randrange(len(raw)), rng.randint(1, 64)
        raw[at:at] = raw[rng.randrange(len(raw)) :][:size]
    return bytes(raw)


@pytest.mark.parametrize("what", ["good.onnx", "flat.onnx", "good.zip", "good.jsonl", "good.bin", "good.csv"])
def test_damaged_at_random(place, what):
    rng = random.Random(f"{SEED} {what}")
    path = place.dir / what
    if what == "good.bin":
        cli.write_docarray(path, [cli.png(i) for i in place.images[:20]], [str(x) for x in place.labels[:20]])
    if what == "good.csv":
        path.write_text("".join(f"pictures/{x}/{i:05d}.png,{x}\n" for i, x in enumerate(place.labels)))
    raw = path.read_bytes()
    if what == "flat.onnx":  # the network's structure, not its numbers: fewer of them
        raw = gemm()
    case = "random" + path.suffix
    seen = collections.Counter()
    for _ in range(60):
        (place.dir / case).write_bytes(damage(raw, rng))
        words = ["inspect", case] if path.suffix == ".onnx" else ["encode", case, "good.jsonl", "--quiet", "--json"]
        if path.suffix in (".jsonl", ".bin", ".csv"):
            words = ["evaluate", "good.onnx", case, "--quiet", "--json"]
        seen[outcome(place, *words)] += 1
    print(f"\n{what}: seed {SEED}, 60 damaged: {seen[3] + seen[4]} refused, {seen[0]} still whole enough")
    assert seen[3] > 0


# ---- data


def line(**keys):
    return cli.jsonl_line(**keys).encode()


def row(label="a", **keys):
    return line(tensor=np.zeros((1, 8, 8)).tolist(), label=label, **keys)


GOOD = b"".join(row(label=x) for x in "aabb")
PNG = base64.b64encode(cli.png(np.zeros((8, 8)))).decode()
JSONL = {
    "empty file": (b"", "holds no Documents"),
    "only blank lines": (b"\n\n\n", "holds no Documents"),
    "not JSON": (GOOD + b"hello\n", ":5"),
    "an array": (GOOD + b"[1, 2]\n", ":5"),
    "cut short": (GOOD + row()[:50], ":5"),
    "an unknown key": (GOOD + row(colour="red"), ":5.*colour"),
    "two contents": (GOOD + row(text="x"), ":5"),
    "no content": (GOOD + line(label="a"), ":5"),
    "no label": (GOOD + line(tensor=[1.0] * 64), ":5.*label"),
    "an empty label": (GOOD + row(label=""), ":5.*label"),
    "a label that is an object": (GOOD + row(label={"a": 1}), ":5.*label"),
    "a ragged tensor": (GOOD + line(tensor=[[1, 2], [3]], label="a"), ":5.*(ragged|regular|lengths)"),
    "an empty tensor": (GOOD + line(tensor=[], label="a"), ":5"),
    "text inside a tensor": (GOOD + line(tensor=[1, "2"], label="a"), ":5"),
    "a number too large": (GOOD + b'{"tensor": [1e999], "label": "a"}\n', ":5"),
    "NaN": (GOOD + b'{"tensor": [NaN], "label": "a"}\n', ":5"),
    "a tensor of another shape": (GOOD + line(tensor=[[1.0, 2.0]], label="a"), r":5.*\(1, 2\)"),
    "nested 20,000 deep": (GOOD + b'{"tensor": ' + b"[" * 20000 + b"]" * 20000 + b', "label": "a"}\n', ":5"),
    "bad base64": (GOOD + line(blob="****", label="a"), ":5.*base64"),
    "a text as image": (GOOD + line(blob=base64.b64encode(b"dear diary").decode(), label="a"), ":5"),
    "half an image": (GOOD + line(blob=PNG[: len(PNG) // 2 // 4 * 4], label="a"), ":5"),
    "a text for an image model": (GOOD + line(text="hello", label="a"), ":5.*text"),
    "bytes that are not UTF-8": (GOOD + b'{"text": "\xff\xfe", "label": "a"}\n', ":5"),
    "a zero byte": (GOOD + b'{"text": "a\\u0000b", "label": "a"}\n', ":5"),
    "one label only": (b"".join(row() for _ in range(8)), 'no triplet.*"a"'),
    "only singletons": (b"".join(row(label=str(i)) for i in range(8)), 'no triplet.*single.*|single'),
    "one document": (row(), "no triplet"),
}


@pytest.mark.parametrize("name", JSONL)
def test_broken_jsonl(place, name):
    raw, said = JSONL[name]
    (place.dir / "case.jsonl").write_bytes(raw)
    text = refused(place, 3, said, "fit", "good.onnx", "case.jsonl", "--out", "case.zip", "--quiet")
    print(f"\n{name}: {text}")
    said = said.replace("file", "stdin")
    refused(place, 3, said, "fit", "good.onnx", "-", "--out", "case.zip", "--quiet", stdin=raw)
    assert not (place.dir / "case.zip").exists()


def test_missing_files(place):
    (place.dir / "gone.jsonl").write_bytes(GOOD + line(uri="gone.png", label="a"))
    (place.dir / "gone.csv").write_text("uri,label\ngone.png,a\n")
    for words, said in [
        (["inspect", "gone.onnx"], "gone.onnx"),
        (["inspect", "gone.zip"], "gone.zip"),
        (["inspect", "gone"], "gone"),
        (["fit", "gone.onnx", "good.jsonl"], "gone.onnx"),
        (["fit", "good.onnx", "nothere.jsonl"], "nothere.jsonl"),
        (["fit", "good.onnx", "good.jsonl", "--eval", "nothere"], "nothere"),
        (["fit", "good.onnx", "gone.jsonl"], "gone.jsonl:5.*gone.png"),
        (["fit", "good.onnx", "gone.csv"], "gone.csv:2.*gone.png"),
        (["encode", "good.onnx", "nothere.csv"], "nothere.csv"),
        (["evaluate", "good.onnx", "nothere.bin"], "nothere.bin"),
        (["evaluate", "good.onnx", "good.jsonl", "--index", "nothere.jsonl"], "nothere.jsonl"),
        (["serve", "--config", "nothere.yml"], "nothere.yml"),
    ]:
        print(refused(place, 4, said, *words, *([] if words[0] in ("inspect", "serve") else ["--quiet"])))


def folder(place, name, files):
    at = place.dir / name
    at.mkdir()
    for path, content in files.items():
        (at / path).parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            (at / path).write_bytes(content)
    return name


def test_broken_folders(place):
    good = cli.png(place.images[0])
    wide = cli.png(np.zeros((8, 8)))
    cases = {
        "no-classes": ({"keep": None}, "folder|class|image"),
        "empty-classes": ({"a/keep": None, "b/keep": None}, "folder|class|image"),
        "only-texts": ({"a/1.txt": b"x", "b/1.txt": b"x"}, "image|folder"),
        "pictures-at-the-top": ({"1.png": good, "2.png": good}, "class|folder"),
        "one-class": ({"a/1.png": good, "a/2.png": good}, 'no triplet.*"a"'),
        "singletons": ({"a/1.png": good, "b/1.png": good}, "no triplet.*single"),
        "a-text-named-png": ({"a/1.png": good, "a/2.png": b"dear diary", "b/1.png": good}, "a/2.png"),
        "half-a-picture": ({"a/1.png": good, "a/2.png": good[: len(good) - 20], "b/1.png": wide}, "a/2.png"),
        "an-empty-picture": ({"a/1.jpg": b"", "a/2.png": good, "b/1.png": good}, "a/1.jpg"),
        "a-bomb": (
            {"a/1.png": good[:16] + b"\x7f\xff\xff\xff\x7f\xff\xff\xff" + good[24:], "a/2.png": good, "b/1.png": good},
            "a/1.png",
        ),
    }
    for name, (files, said) in cases.items():
        folder(place, name, files)
        if name == "no-classes" or name == "empty-classes":
            for p in (place.dir / name).rglob("keep"):
                p.unlink()
        print(refused(place, 3, said, "fit", "good.onnx", name, "--out", "case.zip", "--quiet"))


def test_broken_csv(place):
    cases = {
        "three columns": ("a,b,c\n", ":1"),
        "one column": ("pictures/0/00000.png\n", ":1"),
        "an open quote": ('"abc,d\n', "quote|:1"),
        "a text as image": ("good.jsonl,a\nflat.jsonl,a\ngood.onnx,b\n", "case.csv:1.*PNG, JPEG or WebP"),
        "text for an image model": ("hello,a\nthere,a\nworld,b\n", "case.csv:1.*text"),
        "no label": ("good.jsonl,\n", ":1.*label"),
        "not UTF-8": ("\xff\xfe,a\n", ":1"),
        "header only": ("content,label\n", "holds no Documents"),
        "a web address": ("https://example.invalid/a.png,a\nhttps://example.invalid/b.png,a\n", "http"),
    }
    for name, (text, said) in cases.items():
        (place.dir / "case.csv").write_bytes(text.encode("latin-1"))
        print(f"{name}: " + refused(place, 3, said, "fit", "good.onnx", "case.csv", "--out", "case.zip", "--quiet"))


def test_broken_docarrays(place):
    good = (cli.write_docarray(place.dir / "ok.bin", [cli.png(i) for i in place.images[:8]], list("aabbaabb"))).read_bytes()
    deep = b""
    for _ in range(20000):  # Struct inside Value inside Struct
        deep = deep if len(deep) > 200000 else cli.field(1, cli.field(1, b"k") + cli.field(2, cli.field(5, deep)))
    deep = cli.field(17, deep)
    deep = b"\x01" + (1).to_bytes(8, "big") + len(deep).to_bytes(4, "big") + deep
    array = cli.tensor_field(np.zeros((8, 8), np.uint8))
    wrong = array.replace(cli.field(2, b"\x08\x08"), cli.field(2, b"\x08\x09"))
    assert wrong != array
    message = wrong + cli.label_field("a")
    wrong = b"\x01" + (1).to_bytes(8, "big") + len(message).to_bytes(4, "big") + message
    cases = {
        "empty": (b"", "case.bin"),
        "cut": (good[: len(good) // 2], "ends"),
        "more than it says": (good + b"xyz", "3 bytes after"),
        "too many promised": (b"\x01" + b"\xff" * 8 + good[9:], "ends"),
        "pickle": (b"\x80\x04\x95" + b"\0" * 40, "pickle"),
        "lz4": (b"\x04\x22\x4d\x18" + b"\0" * 40, "lz4"),
        "half a gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\0\1\2\3", "case.bin"),
        "random": (random.Random(SEED).randbytes(5000), "case.bin"),
        "deep tags": (deep, "case.bin|deep|nest"),
        "a tensor of other size than its shape": (wrong, "Document 0"),
    }
    for name, (raw, said) in cases.items():
        (place.dir / "case.bin").write_bytes(raw)
        print(f"{name}: " + refused(place, 3, said, "fit", "good.onnx", "case.bin", "--out", "case.zip", "--quiet"))


# ---- options

OPTIONS = [
    (2, "learning_rate.*nan", "--learning-rate", "nan"),
    (2, "learning_rate", "--learning-rate", "-1"),
    (2, "learning_rate.*1e-3x", "--learning-rate", "1e-3x"),
    (2, "learning_rate.*inf", "--learning-rate", "inf"),
    (2, "epochs.*wanted", "--epochs", "0"),
    (2, "epochs.*wanted", "--epochs", "2.5"),
    (2, "batch_size", "--batch-size", "99999999999999999999"),
    (2, "val_split", "--val-split", "1"),
    (2, "TripletMarginLoss", "--loss", "NoSuchLoss"),
    (2, "FaceNetSemihardMiner|BatchHardMiner", "--miner", "NoSuchMiner"),
    (2, "SGD", "--optimizer", "Sgdx"),
    (2, "cosine", "--scheduler", "sometimes"),
    (3, "margn", "--loss-options", '{"margn": 1}'),
    (3, "margin", "--loss-options", '{"margin": "wide"}'),
    (2, "loss_options", "--loss-options", "{"),
    (2, "loss_options", "--loss-options", "[1]"),
    (2, "loss_options", "--loss-options", "[" * 20000 + "]" * 20000),
    (3, "momentun", "--optimizer", "SGD", "--optimizer-options", '{"momentun": 0.9}'),
    (3, "type_of_triplets", "--miner", "TripletMarginMiner", "--miner-options", '{"type_of_triplets": "best"}'),
    (3, "warm", "--scheduler", "linear", "--scheduler-options", '{"warmup": 3}'),
    (3, "BestModel", "--callbacks", '[{"name": "NoSuchCallback"}]'),
    (3, "evaluation data|val_split", "--callbacks", '[{"name": "BestModelCheckpoint"}]'),
    (2, "callbacks", "--callbacks", '{"name": "EarlyStopping"}'),
    (3, "nolayer", "--freeze", "nolayer"),
    (3, "nolayer", "--cut", "nolayer"),
    (2, "pooler", "--pooler", "biggest"),
    (2, "device.*abacus", "--device", "abacus"),
    (5, "cuda", "--device", "cuda"),  # not there now: the same command works where it is
    (2, "precision", "--precision", "f8"),
    (3, "colour", "--prep-options", '{"colour": true}'),
    (3, "size", "--prep-options", '{"size": -3}'),
    (3, "std", "--prep-options", '{"std": 0}'),
    (3, "preset.*imagenet, .*clip", "--prep-options", '{"preset": "imagenette"}'),
    (3, "colour images", "--prep-options", '{"preset": "imagenet"}'),  # the model takes grey ones
    (3, "max_pixels.*178956970", "--prep-options", '{"max_pixels": 0}'),
    (3, "none, light, strong", "--augment", "medium"),
    (3, "flipp.*accepted.*flip", "--augment", '{"flipp": 1}'),
    (3, "hue.*0.5", "--augment", '{"hue": 3}'),
    (3, r"good.jsonl:1.*float.* tensor \(1, 8, 8\) has no 8-bit pixels to augment", "--augment", "light"),
    (2, "lerning.rate.*learning_rate", "--lerning-rate", "1"),
    (2, "needs a value", "--seed"),
]


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: " ".join(row[2:])[:60])
def test_broken_options(place, row):
    code, said, *words = row
    print("\n" + refused(place, code, said, "fit", "good.onnx", "good.jsonl", "--out", "case.zip", "--quiet", *words))
    assert not (place.dir / "case.zip").exists()


def test_a_divergence_stops_the_run(place):
    line = refused(
        place, 1, r"step \d+.*(finite|NaN|nan|inf)", "fit", "flat.onnx", "flat.jsonl", "--out", "case.zip", "--quiet", "--optimizer",
        "SGD", "--learning-rate", "100", "--clip-norm", "0", "--steps", "500", "--optimizer-options",
        '{"weight_decay": 10}',
    )
    print("\n" + line)


def test_wrong_shapes(place):
    for words, said in [
        (["encode", "flat.onnx", "pictures"], "pictures.*64"),
        (["fit", "flat.onnx", "pictures"], "pictures.*64"),
        (["evaluate", "good.onnx", "flat.jsonl"], r"flat.jsonl:1.*\(64\)"),
        (["encode", "good.onnx", "good.jsonl", "--input-shape", "N,1,2,2"], r"good.jsonl:1.*1 x 2 x 2.*\(1, 8, 8\)"),
    ]:
        print(refused(place, 3, said, *words, *([] if words[0] == "inspect" else ["--quiet"])))


# ---- artifacts


def test_broken_artifacts(place):
    raw = (place.dir / "good.zip").read_bytes()
    with zipfile.ZipFile(place.dir / "good.zip") as z:
        files = {n: z.read(n) for n in z.namelist()}
    onnx_name = next(n for n in files if n.endswith("model.onnx"))

    def packed(**changes):
        with zipfile.ZipFile(place.dir / "case-packed.zip", "w") as z:
            for name, content in files.items():
                content = changes.get(name.split("/")[-1].replace(".", "_"), content)
                if content is not None:
                    z.writestr(name, content)
        return (place.dir / "case-packed.zip").read_bytes()

    at = raw.index(files[onnx_name]) + 3000
    cases = {
        "cut": raw[: len(raw) // 2],
        "random": random.Random(SEED).randbytes(3000),
        "text": b"I am a zip file\n",
        "empty": b"",
        "a flipped bit in the model": raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :],
        "no model": packed(model_onnx=None),
        "no config": packed(config_yml=None),
        "a broken model": packed(model_onnx=files[onnx_name][:500]),
        "a broken prep.json": packed(prep_json=b"{"),
        "an unknown prep option": packed(prep_json=b'{"kind": "image", "colour": 1}'),
        "a prep for another size": packed(prep_json=b'{"kind": "image", "size": [99, 99]}'),
        "a broken metadata.yml": packed(metadata_yml=b"a: [1\nb: }"),
    }
    for name, content in cases.items():
        (place.dir / "case-a.zip").write_bytes(content)
        print(f"{name}: " + refused(place, 3, "case-a.zip", "encode", "case-a.zip", "good.jsonl", "--quiet"))
    with zipfile.ZipFile(place.dir / "case-a.zip", "w") as z:
        z.writestr("../../outside.txt", "x")
        for name, content in files.items():
            z.writestr(name, content)
    result = cli.finetuner("inspect", "case-a.zip", cwd=place.dir)
    assert result.code in (0, 3) and not (place.dir.parent.parent / "outside.txt").exists()
    (place.dir / "bare").mkdir()
    print(refused(place, 3, "bare", "inspect", "bare"))
    (place.dir / "hf").mkdir()
    (place.dir / "hf" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    print(refused(place, 4, "model.safetensors", "inspect", "hf"))


# ---- configuration


@pytest.mark.parametrize(
    "code,said,text",
    [
        (3, "2.*prot|prot.*port", "with:\n  prot: 1\n"),
        (3, "port.*65535", "with:\n  port: 70000\n"),
        (3, "port", "with:\n  port: many\n"),
        (3, "line|:2", "with: [1\nb: }"),
        (3, "map", "- 1\n- 2\n"),
        (3, "deep|nest", "with: " + "[" * 20000 + "]" * 20000 + "\n"),
        (3, "alias|anchor", "with: &a\n  model: *a\n"),
        (3, "runs_at_once", "with:\n  runs_at_once: 0\n"),
        (3, "stands already", "with:\n  port: 1\n  port: 2\n"),
    ],
    ids=["unknown key", "out of range", "not a number", "not YAML", "a list", "20,000 deep", "alias", "zero", "twice"],
)
def test_broken_configs(place, code, said, text):
    (place.dir / "case.yml").write_text(text)
    print("\n" + refused(place, code, said, "serve", "--config", "case.yml"))


@pytest.mark.parametrize(
    "said,words",
    [
        ("prot.*port", ["--prot", "1"]),
        ("port.*65535", ["--port", "70000"]),
        ("needs a value", ["--port"]),
        ("not a flag", ["extra"]),
    ],
)
def test_broken_flags_of_serve(place, said, words):
    print("\n" + refused(place, 2, said, "serve", *words))
