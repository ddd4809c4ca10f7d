"""Seeds of fuzz_onnx: small files that reach every handler of executor/model/import*.c. Writes tests/fuzz/fuzz_onnx/*.

By hand, what several nodes do together; from onnx's own node tests (tests/oracle/test_nodes.py), each way of writing each op, eight to
a file. Run it again when an op is added."""
import collections
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "oracle"))
import test_nodes  # noqa: E402

OUT = pathlib.Path(__file__).parent / "fuzz_onnx"
rng = np.random.default_rng(7)


def w(name, *dims, dtype=np.float32):
    return nh.from_array((rng.random(dims) + 0.5).astype(dtype), name)


def ints(name, *values):
    return nh.from_array(np.array(values, dtype=np.int64), name)


def scalar(name, value, dtype=np.float32):
    return nh.from_array(np.array(value, dtype=dtype), name)


def save(name, nodes, inits, shape=("n", 3, 6, 6), out="y", opset=17, ir=8, x_type=T.FLOAT):
    graph = h.make_graph(nodes, "g", [h.make_tensor_value_info("x", x_type, shape)],
                         [h.make_tensor_value_info(o, T.FLOAT, None) for o in out.split()], inits)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=ir)
    (OUT / name).write_bytes(model.SerializeToString())


def n(op, i, o, **attrs):
    return h.make_node(op, i.split(), o.split(), name=o.split()[0] + "_node", **attrs)


def spelling(model):
    """Ops and attributes, with the texts that choose between ways to work."""
    return tuple(sorted({(node.op_type, *sorted(a.name + (a.s.decode() if a.type == onnx.AttributeProto.STRING else "")
                                                for a in node.attribute)) for node in model.graph.node}))


def node_tests():
    """One case of each spelling that is read, several of one opset side by side in a graph."""
    refused, groups, seen = test_nodes.read_list(), collections.defaultdict(list), set()
    for name, folder in test_nodes.cases():
        model = onnx.load(f"{folder}/model.onnx")
        if name in refused or name.endswith("_expanded") or spelling(model) in seen:
            continue
        seen.add(spelling(model))
        inputs = [test_nodes.tensor(f"{folder}/test_data_set_0/input_{i}.pb") for i in range(len(model.graph.input))]
        groups[max(o.version for o in model.opset_import)].append(test_nodes.bound(model, inputs)[0])
    for opset, models in sorted(groups.items()):
        models.sort(key=spelling)
        for at in range(0, len(models), 8):
            graph = onnx.GraphProto(name="g")
            for i, model in enumerate(models[at:at + 8]):
                for node in model.graph.node:
                    node.name = node.doc_string = ""
                part = onnx.compose.add_prefix(model, f"{i}_").graph
                for field in ("node", "initializer", "input", "output"):
                    getattr(graph, field).extend(getattr(part, field))
            model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=10)
            (OUT / f"nodes-{opset}-{at // 8}").write_bytes(model.SerializeToString())


def main():
    OUT.mkdir(exist_ok=True)
    node_tests()
    save("cnn", [n("Conv", "x w b", "a", pads=[1, 1, 1, 1], strides=[2, 2]), n("BatchNormalization", "a s t m v", "c"),
                 n("Relu", "c", "d"), n("MaxPool", "d", "e", kernel_shape=[2, 2], ceil_mode=1),
                 n("AveragePool", "e", "f", kernel_shape=[2, 2], auto_pad="SAME_LOWER", count_include_pad=1),
                 n("GlobalAveragePool", "f", "g"), n("Flatten", "g", "h"), n("Gemm", "h k q", "i", transB=1, alpha=0.5),
                 n("Softmax", "i", "y")],
         [w("w", 4, 3, 3, 3), w("b", 4), w("s", 4), w("t", 4), w("m", 4), w("v", 4), w("k", 5, 4), w("q", 5)])
    save("shapes", [n("Shape", "x", "s"), n("Gather", "s zero", "b"), n("Unsqueeze", "b axis0", "b1"),
                    n("Concat", "b1 rest", "t", axis=0), n("Reshape", "x t", "r"), n("Slice", "r one two axis1", "sl"),
                    n("Split", "r parts", "p q", axis=1), n("Concat", "sl p q", "c", axis=1),
                    n("Transpose", "c", "tr", perm=[0, 1]), n("Squeeze", "tr", "y")],
         [scalar("zero", 0, np.int64), ints("axis0", 0), ints("rest", -1), ints("one", 1), ints("two", 3),
          ints("axis1", 1), ints("parts", 8, 100)])
    save("arithmetic", [n("Shape", "x", "s"), n("Gather", "s axis1", "c"), n("Mul", "c two", "c2"), n("Div", "c2 two", "c3"),
                        n("Sub", "c3 two", "c4"), n("Equal", "c3 c", "eq"), n("Where", "eq c c2", "wh"),
                        n("Less", "c c2", "lt"), n("Not", "lt", "no"), n("And", "eq no", "an"), n("Or", "an eq", "orr"),
                        n("Where", "orr wh c2", "wh2"), n("Max", "wh2 c", "mx"), n("Min", "mx c", "mi"),
                        n("Range", "zero three step", "ra"), n("Cast", "ra", "fl", to=1), n("Floor", "fl", "fo"),
                        n("Ceil", "fo", "ce"), n("Pow", "ce half", "po"), n("Sqrt", "po", "sq"), n("Neg", "sq", "ne"),
                        n("Exp", "ne", "ex"), n("ConstantOfShape", "three1", "co"), n("Add", "ex co", "ad"),
                        n("Reshape", "ad shape", "re"), n("Expand", "re full", "ee"), n("CastLike", "ee x", "cl"),
                        n("Mul", "x cl", "mm"), n("Concat", "axis0 mi m1", "tt", axis=0), n("Reshape", "mm tt", "y")],
         [ints("axis1", 1), ints("two", 2), scalar("zero", 0, np.int64), scalar("three", 3, np.int64),
          scalar("step", 1, np.int64), scalar("half", 0.5), ints("three1", 3), ints("shape", 3, 1, 1),
          ints("full", 1, 3, 6, 6), ints("axis0", 0), ints("m1", -1)])
    save("elementwise", [n("LeakyRelu", "x", "a", alpha=0.1), n("Sigmoid", "a", "b"), n("Tanh", "b", "c"),
                         n("HardSwish", "c", "d"), n("HardSigmoid", "d", "e"), n("PRelu", "e slope", "f"),
                         n("Clip", "f lo hi", "g"), n("Abs", "g", "h"), n("Pow", "h two", "i"), n("Reciprocal", "hi", "rr"),
                         n("Mul", "i rr", "j"), n("Sum", "j i h", "k"), n("Log", "k", "l"), n("Sub", "l k", "m"),
                         n("Div", "m slope", "o"), n("GlobalMaxPool", "o", "gm"), n("Flatten", "gm", "y")],
         [w("slope", 3, 1, 1), scalar("lo", 0), scalar("hi", 6), scalar("two", 2)], opset=14)
    save("normalize", [n("ReduceMean", "x", "m", axes=[2, 3], keepdims=0), n("ReduceL2", "m", "l", axes=[-1]),
                       n("Clip", "l eps", "c"), n("Shape", "m", "s"), n("Expand", "c s", "e"), n("Div", "m e", "d"),
                       n("LpNormalization", "d", "y", axis=-1)], [scalar("eps", 1e-12)])
    save("matmul", [n("Transpose", "w", "t", perm=[1, 0]), n("MatMul", "x t", "a"), n("Add", "a b", "c"),
                    n("Identity", "w", "w2"), n("MatMul", "c w2", "d"), n("Dropout", "d ratio training", "e"),
                    n("ReduceSum", "e ax", "f", keepdims=0), n("LogSoftmax", "f", "g", axis=1), n("ArgMax", "g", "y")],
         [w("w", 4, 6), w("b", 4), scalar("ratio", 0.5), scalar("training", True, np.bool_), ints("ax", 1)],
         shape=("n", 3, 6), opset=13)
    save("old", [n("Conv", "x w", "a", auto_pad="SAME_UPPER"), n("Clip", "a", "b", min=0.0, max=6.0),
                 n("Slice", "b", "c", starts=[0, 1], ends=[3, -1], axes=[1, 2]), n("Dropout", "c", "d"),
                 n("Softmax", "d", "e", axis=1), n("Squeeze", "e", "f"), n("Flatten", "f", "g"),
                 n("ReduceSum", "g", "h", axes=[1]), n("Unsqueeze", "h", "y", axes=[1])],
         [w("w", 4, 3, 3, 3, dtype=np.float16)], opset=9, ir=3)
    save("conv1d", [n("Conv", "x w", "a", group=3, dilations=[2]), n("MaxPool", "a", "b", kernel_shape=[2]),
                    n("Constant", "", "k", value_floats=[1.0, 2.0, 3.0]), n("Constant", "", "i", value_ints=[1, 3, 1]),
                    n("Reshape", "k i", "k3"), n("Add", "b k3", "c"), n("Pad", "c zeros", "d"),
                    n("Gather", "d first", "e", axis=2), n("Size", "w", "sz"), n("Cast", "sz", "fz", to=1),
                    n("Mul", "e fz", "y")],
         [w("w", 3, 1, 3), ints("zeros", 0, 0, 0, 0, 0, 0), scalar("first", 0, np.int64)], shape=(2, 3, 11))
    save("unsupported", [n("Erf", "x", "a"), n("Gather", "x x", "b"), n("Add", "a b", "y")], [])
    save("cycle", [n("Add", "x b", "a"), n("Relu", "a", "b"), n("Relu", "b", "y")], [])
    save("unsorted", [n("Relu", "b", "y"), n("Tanh", "x", "b")], [])
    save("int8", [n("Cast", "w", "f", to=1), n("Mul", "x f", "y")], [nh.from_array(np.array([1, -2, 3, 4, 5, 6], np.int8), "w")])
    t = T(name="w", data_type=1, dims=[6])
    t.data_location = 1
    for k, v in (("location", "../w.bin"), ("offset", "0"), ("length", "24")):
        t.external_data.add(key=k, value=v)
    save("external", [n("Mul", "x w", "y")], [t])
    t = T(name="w", data_type=11, dims=[6])
    t.double_data.extend([1, 2, 3, 4, 5, 6])
    save("doubles", [n("Mul", "x w", "y")], [t])


if __name__ == "__main__":
    main()
