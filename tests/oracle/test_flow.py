"""If, Loop and Range, against onnxruntime: branches and bodies read names and weights from outside, are nested, carry
values from trip to trip and keep one of each; ranges go over a batch that is not known; what does not fold is refused by name."""
import os
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

PROBE = os.path.join(os.environ.get("FT_BUILD", "build"), "tests", "model_probe")
RNG = np.random.default_rng(11)
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name, *shape):
    return numpy_helper.from_array((RNG.standard_normal(shape) * 0.5).astype(np.float32), name)


def scalar(name, x, kind):
    return numpy_helper.from_array(np.array(x, helper.tensor_dtype_to_np_dtype(kind)), name)


def branch(name, *nodes, out, initializers=()):
    return helper.make_graph(list(nodes), name, [], [value(out)], list(initializers))


def save(path, nodes, initializers, outputs=("y",)):
    graph = helper.make_graph(nodes, "g", [value("x", shape=["N", 4])], [value(o) for o in outputs], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def probe(path, tmp, x, *more):
    np.save(tmp / "x.npy", x)
    words = [PROBE, str(path), "--device", "cpu", "--input", str(tmp / "x.npy"), "--out", str(tmp / "o"), *more]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def check(path, tmp):
    """Ours equals theirs, and theirs of what we write again."""
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    done = probe(path, tmp, x, "--export", str(tmp / "e.onnx"))
    assert done.returncode == 0, done.stderr
    want = onnxruntime.InferenceSession(str(path)).run(None, {"x": x})
    again = onnxruntime.InferenceSession(str(tmp / "e.onnx")).run(None, {"x": x})
    for i, w in enumerate(want):
        ours = np.fromfile(tmp / f"o{i}.bin", np.float64)
        np.testing.assert_allclose(ours, w.astype(np.float64).ravel(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(again[i], w, rtol=1e-5, atol=1e-6)
    return done


@pytest.mark.parametrize("takes", [3, 5])
def test_a_condition_of_shapes(tmp_path, takes):
    """As torch.jit.script writes them: the shape of x decides. The branch not taken need not even be supported."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["d"]),
        helper.make_node("Less", ["d", "limit"], ["c"]),
        helper.make_node(
            "If", ["c"], ["h"],
            then_branch=branch("t", helper.make_node("Mul", ["x", "w"], ["a"]), out="a"),
            else_branch=branch("e", helper.make_node("MatMul", ["x", "v"], ["b"]), out="b",
                               initializers=[weight("v", 4, 4)])),
        helper.make_node("Mul", ["h", "w"], ["y"]),
    ]
    save(tmp_path / "m.onnx", nodes, [scalar("one", 1, INT), scalar("limit", takes, INT), weight("w", 4)])
    check(tmp_path / "m.onnx", tmp_path)


def loop(trips=3, inner=None, keep=True):
    """h <- tanh(h w) + trip, each h kept; `inner` goes into the body."""
    body_nodes = [
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        *(inner or [helper.make_node("Tanh", ["m"], ["t"])]),
        helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
        helper.make_node("Add", ["t", "f"], ["next"]),
        helper.make_node("Identity", ["cond"], ["again"]),
        helper.make_node("Neg", ["next"], ["kept"]),
    ]
    outs = [value("again", BOOL, []), value("next")] + ([value("kept")] if keep else [])
    body = helper.make_graph(body_nodes, "body", [value("i", INT, []), value("cond", BOOL, []), value("h")], outs)
    return [helper.make_node("Loop", ["trips", "go", "x"], ["y", "all"] if keep else ["y"], body=body)], [
        scalar("trips", trips, INT), scalar("go", True, BOOL), weight("w", 4, 4)]


def test_a_loop_unrolled(tmp_path):
    nodes, initializers = loop()
    save(tmp_path / "m.onnx", nodes, initializers, outputs=("y", "all"))
    done = check(tmp_path / "m.onnx", tmp_path)
    assert done.stdout.count('"name": "w"') == 1, "the weight of three trips is one"


def test_an_if_inside_a_loop(tmp_path):
    odd = helper.make_node(
        "If", ["first"], ["t"],
        then_branch=branch("t1", helper.make_node("Relu", ["m"], ["r"]), out="r"),
        else_branch=branch("e1", helper.make_node("Mul", ["m", "u"], ["q"]), out="q"))
    nodes, initializers = loop(inner=[helper.make_node("Equal", ["i", "zero"], ["first"]), odd])
    save(tmp_path / "m.onnx", nodes, [*initializers, scalar("zero", 0, INT), weight("u", 4)], outputs=("y", "all"))
    check(tmp_path / "m.onnx", tmp_path)


def test_no_trip(tmp_path):
    nodes, initializers = loop(trips=0, keep=False)
    save(tmp_path / "m.onnx", [*nodes, helper.make_node("Add", ["y", "x"], ["z"])], initializers, outputs=("z",))
    check(tmp_path / "m.onnx", tmp_path)


def test_what_does_not_fold_is_named(tmp_path):
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["c"], to=BOOL),
        helper.make_node("If", ["c"], ["y"], name="choice",
                         then_branch=branch("t", helper.make_node("Neg", ["x"], ["a"]), out="a"),
                         else_branch=branch("e", helper.make_node("Abs", ["x"], ["b"]), out="b")),
    ]
    save(tmp_path / "m.onnx", nodes, [])
    done = probe(tmp_path / "m.onnx", tmp_path, np.ones((3, 4), np.float32))
    assert done.returncode != 0 and "If (a condition that depends on the input) 'choice'" in done.stderr
    nodes, initializers = loop(trips=5000, keep=False)
    save(tmp_path / "m.onnx", nodes, initializers)
    done = probe(tmp_path / "m.onnx", tmp_path, np.ones((3, 4), np.float32))
    assert done.returncode != 0 and "a loop of more than 1024 trips" in done.stderr


@pytest.mark.parametrize("depth, reads", [(8, True), (9, False)])
def test_nesting_has_a_limit(tmp_path, depth, reads):
    node = helper.make_node("Neg", ["x"], ["n0"])
    for k in range(depth):
        node = helper.make_node("If", ["go"], [f"n{k + 1}"],
                                then_branch=branch(f"g{k}", node, out=node.output[0]),
                                else_branch=branch(f"e{k}", helper.make_node("Abs", ["x"], [f"a{k}"]), out=f"a{k}"))
    save(tmp_path / "m.onnx", [node], [scalar("go", True, BOOL)], outputs=(f"n{depth}",))
    done = probe(tmp_path / "m.onnx", tmp_path, np.ones((3, 4), np.float32))
    assert (done.returncode == 0) == reads
    assert reads or "nested more than 8 deep" in done.stderr


def test_a_missing_branch_is_named(tmp_path):
    neg = branch("e", helper.make_node("Neg", ["x"], ["b"]), out="b")
    save(tmp_path / "m.onnx", [helper.make_node("If", ["go"], ["y"], else_branch=neg)], [scalar("go", True, BOOL)])
    done = probe(tmp_path / "m.onnx", tmp_path, np.ones((3, 4), np.float32))
    assert done.returncode != 0 and "its then_branch is missing" in done.stderr


def batch_range(first):
    """Numbers of rows, and every other element of x as one looks up what lies with strides, both by ranges over the batch."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Range", ["first", "n", "one"], ["rows"], name="rows"),
        helper.make_node("Cast", ["rows"], ["f"], to=FLOAT),
        helper.make_node("Unsqueeze", ["f", "axis"], ["column"]),
        helper.make_node("Add", ["x", "column"], ["y"]),
        helper.make_node("Mul", ["n", "four"], ["all"]),
        helper.make_node("Range", ["zero", "all", "two"], ["even"]),
        helper.make_node("Reshape", ["y", "flat"], ["v"]),
        helper.make_node("Gather", ["v", "even"], ["g"]),
        helper.make_node("Reshape", ["g", "pairs"], ["z"]),
    ]
    numbers = {"zero": 0, "one": 1, "two": 2, "four": 4, "first": first}
    lists = {"axis": [1], "flat": [-1], "pairs": [-1, 2]}
    return nodes, [scalar(k, v, INT) for k, v in (numbers | lists).items()]


def test_a_range_over_the_batch(tmp_path):
    nodes, initializers = batch_range(0)
    save(tmp_path / "m.onnx", nodes, initializers, outputs=("y", "z"))
    check(tmp_path / "m.onnx", tmp_path)


def test_a_range_over_part_of_the_batch_is_named(tmp_path):
    nodes, initializers = batch_range(1)
    save(tmp_path / "m.onnx", nodes, initializers, outputs=("y", "z"))
    done = probe(tmp_path / "m.onnx", tmp_path, np.ones((3, 4), np.float32))
    assert done.returncode != 0 and "Range (a range over the batch that does not go from 0 up to all of it) 'rows'" in done.stderr
