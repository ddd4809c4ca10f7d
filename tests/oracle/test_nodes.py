"""ONNX's own node tests (onnx 1.22, inside the package) through our importer and both devices.

A case is ours if its opset is between 7 and 27, it stays in the default domain, its tensors are of the dtypes
that we compute with or widen, and its ops are in OPS. Inputs that say what shape a result has (SHAPE_LIKE) are bound as
constants, as every export has them. Each case passes, or stands in tests/data/nodes_refused.txt as

    name<TAB>reason        reason: a part of the refusal

A refusal outside the list, a listed case that passes, a reason that is no longer given, and any wrong result fail.
`python test_nodes.py --write` writes the list anew; wrong results are never written.
"""
import collections
import concurrent.futures
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

BUILD = os.environ.get("FT_BUILD", "build")
PROBE = os.path.join(BUILD, "tests", "model_probe")
LIST = Path(__file__).parent.parent / "data" / "nodes_refused.txt"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# onnx's own runner compares with 1e-3. A bfloat16 result is rounded to 8 bits by them and not by us.
RELATIVE, ABSOLUTE, BFLOAT16 = 1e-3, 1e-5, 2.0**-8

OPS = set(
    """Conv ConvTranspose AveragePool MaxPool GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool BatchNormalization
    InstanceNormalization GroupNormalization LayerNormalization LRN Relu LeakyRelu PRelu Elu Selu Celu Gelu Sigmoid
    HardSigmoid HardSwish Mish Softplus Softsign Tanh ThresholdedRelu Shrink Softmax LogSoftmax Hardmax MatMul Gemm Einsum
    Add Sub Mul Div Pow Neg Abs Sign Sqrt Exp Log Reciprocal Floor Ceil Round Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh
    Acosh Atanh Erf Mod Clip Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf Where Min Max Sum
    Mean ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare ArgMax ArgMin TopK CumSum Pad Concat Split Slice Gather GatherElements GatherND Scatter
    ScatterElements ScatterND Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Resize Upsample DepthToSpace
    SpaceToDepth Dropout Cast CastLike Shape Size Range ConstantOfShape EyeLike OneHot Identity Constant Attention If
    Loop""".split()
)
SHAPE_LIKE = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "Slice": (1, 2, 3, 4), "Pad": (1, 2, 3), "Resize": (1, 2, 3),
    "Upsample": (1,), "Squeeze": (1,), "Unsqueeze": (1,), "Split": (1,), "TopK": (1,), "OneHot": (1, 2), "CumSum": (1,),
    "ConstantOfShape": (0,), "Range": (0, 1, 2), "Clip": (1, 2), "Dropout": (1, 2), "If": (0,), "Loop": (0, 1),
}
SHAPE_LIKE.update({f"Reduce{kind}": (1,) for kind in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()})
DTYPES = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT32,
    TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL,
}


def is_ours(model):
    ops = {node.op_type for node in model.graph.node}
    opsets = {o.domain: o.version for o in model.opset_import}
    if set(opsets) - {"", "ai.onnx"} or not 7 <= max(opsets.values()) <= 27 or not ops <= OPS:
        return False
    values = [*model.graph.input, *model.graph.output]
    return all(v.type.HasField("tensor_type") and v.type.tensor_type.elem_type in DTYPES for v in values)


def cases():
    """(name, folder) of every case that is ours, in order."""
    found = {case.name: case.model_dir for case in load_model_tests(kind="node")}
    return [(n, d) for n, d in sorted(found.items()) if is_ours(onnx.load(os.path.join(d, "model.onnx")))]


def tensor(path):
    proto = TensorProto()
    proto.ParseFromString(Path(path).read_bytes())
    return proto


def reads(node):
    """Names that a node and the graphs inside it read."""
    inside = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    names = {n for n in node.input if n} | {out.name for g in inside for out in g.output}
    return names.union(*(reads(n) for g in inside for n in g.node))


def bound(model, inputs):
    """The model with its shape-like inputs made constants, and the names of the inputs that remain."""
    names = [v.name for v in model.graph.input]
    fixed = set()
    for node in model.graph.node:
        fixed |= {node.input[i] for i in SHAPE_LIKE.get(node.op_type, ()) if i < len(node.input)}
    for node in reversed(model.graph.node):  # and what they are computed from, but for shapes
        if fixed & set(node.output) and node.op_type not in ("Shape", "Size"):
            fixed |= reads(node)
    for name in fixed & set(names):
        proto = TensorProto()
        proto.CopyFrom(inputs[names.index(name)])
        proto.name = name
        model.graph.initializer.append(proto)
    kept = [v for v in model.graph.input if v.name not in fixed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model, [v.name for v in kept]


def kept_to_the_end(model):
    """Importing takes ArgMax at the very end off as a label maker: here it is what we want to see."""
    for i, out in enumerate(model.graph.output):
        if any(out.name in node.output and node.op_type == "ArgMax" for node in model.graph.node):
            model.graph.node.append(onnx.helper.make_node("Cast", [out.name], [f"cast_{i}"], to=TensorProto.FLOAT))
            model.graph.node.append(onnx.helper.make_node("Neg", [f"cast_{i}"], [f"negative_{i}"]))
            model.graph.node.append(onnx.helper.make_node("Neg", [f"negative_{i}"], [f"kept_{i}"]))
            model.graph.output[i].CopyFrom(onnx.helper.make_tensor_value_info(f"kept_{i}", TensorProto.FLOAT, None))
    return model


def widened(array):
    """Floats as float32, all integers and booleans as int64: what the probe reads."""
    kind = np.asarray(array)
    if kind.dtype.kind in "iub":
        return np.ascontiguousarray(kind.astype(np.int64))
    return np.ascontiguousarray(kind.astype(np.float32))


def run_case(name, folder, device):
    """("passed" | "refused" | "wrong", text)"""
    model = onnx.load(os.path.join(folder, "model.onnx"))
    data = os.path.join(folder, "test_data_set_0")
    inputs = [tensor(os.path.join(data, f"input_{i}.pb")) for i in range(len(model.graph.input))]
    by_name = dict(zip([v.name for v in model.graph.input], inputs))
    outputs = [tensor(os.path.join(data, f"output_{i}.pb")) for i in range(len(model.graph.output))]
    model, names = bound(model, inputs)
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "m.onnx")
        onnx.save(kept_to_the_end(model), path)
        words = [PROBE, path, "--device", device, "--out", os.path.join(tmp, "y")]
        for i, n in enumerate(names):
            np.save(os.path.join(tmp, f"{i}.npy"), widened(numpy_helper.to_array(by_name[n])))
            words += ["--input", f"{n}=" + os.path.join(tmp, f"{i}.npy")]
        done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode < 0 or "Sanitizer" in done.stderr:
            return "wrong", f"died: {done.returncode} {done.stderr[-300:]}"
        if done.returncode != 0:
            return "refused", (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1].replace(tmp, "")
        for i, want in enumerate(outputs):
            got = np.fromfile(os.path.join(tmp, f"y{i}.bin"), np.float64)
            limit = BFLOAT16 if want.data_type == TensorProto.BFLOAT16 else RELATIVE
            want = np.asarray(numpy_helper.to_array(want)).astype(np.float64).ravel()
            if got.size != want.size or not np.allclose(got, want, rtol=limit, atol=ABSOLUTE, equal_nan=True):
                return "wrong", f"output {i}: {got[:4]} against {want[:4]}"
    return "passed", ""


def run_all():
    jobs = [(n, d, device) for n, d in cases() for device in ("ref", "cpu")]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip([(n, device) for n, _, device in jobs], pool.map(lambda j: run_case(*j), jobs)))


def read_list():
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("\t", 1) for line in lines)


def test_node_cases():
    assert onnx.__version__.startswith("1.22.")
    results, listed, faults = run_all(), read_list(), []
    for (name, device), (verdict, text) in results.items():
        if verdict == "wrong" or (verdict == "refused" and listed.get(name, "\0") not in text):
            faults.append(f"{name} on {device}: {verdict}: {text}")
        elif verdict == "passed" and name in listed:
            faults.append(f"{name} on {device} passes: take it off the list")
    faults += [f"{name} is listed and is no case" for name in set(listed) - {n for n, _ in results}]
    counts = collections.Counter(verdict for verdict, _ in results.values())
    print(f"\nnode tests: {len(results) // 2} cases on 2 devices: {dict(counts)}, {len(listed)} on the list")
    assert not faults, "\n".join(faults[:50])


def write_list():
    results = run_all()
    refused = {n: text for (n, device), (verdict, text) in results.items() if verdict == "refused" and device == "cpu"}
    LIST.write_text("# Node tests that are refused, and why; see tests/oracle/test_nodes.py\n"
                    + "".join(f"{n}\t{text}\n" for n, text in sorted(refused.items())))
    wrong = [f"{n} {device}: {text}" for (n, device), (verdict, text) in results.items() if verdict == "wrong"]
    print(collections.Counter(v for v, _ in results.values()), *wrong, sep="\n")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write_list()
