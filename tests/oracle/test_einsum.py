"""Einsum and MatMul as we read them, on both devices, against numpy: products, broadcasts and orders that onnx's node tests leave out."""
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

PROBE = Path(os.environ.get("FT_BUILD", "build")) / "tests" / "model_probe"
EINSUM = [
    ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),  # attention: transposed right
    ("bhij,bhjd->bhid", (2, 3, 4, 6), (2, 3, 6, 5)),
    ("bihd,bjhd->bhij", (2, 4, 3, 5), (2, 6, 3, 5)),
    ("bkm,bkn->bmn", (2, 3, 4), (2, 3, 5)),  # transposed left
    ("bkm,bnk->bnm", (2, 3, 4), (2, 5, 3)),
    ("nchw,co->nohw", (2, 3, 4, 5), (3, 6)),  # a 1 x 1 convolution
    ("nchw,kc->nkhw", (2, 3, 4, 5), (6, 3)),
    ("abc,cde->abde", (2, 3, 4), (4, 5, 6)),
    ("abcd,cdef->abef", (2, 3, 4, 5), (4, 5, 2, 3)),  # two labels are summed
    ("abcd,dcef->feba", (2, 3, 4, 5), (5, 4, 2, 3)),
    ("ab,ab->ab", (3, 4), (3, 4)),
    ("ab,bc->abc", (3, 4), (4, 5)),
    ("i,j->ij", (3,), (4,)),
    ("i,j->ji", (3,), (4,)),
    ("i,i", (5,), (5,)),
    ("ij,jk", (3, 4), (4, 5)),
    ("ba,ca", (3, 4), (5, 4)),
    ("...ij,...jk->...ik", (2, 3, 4, 5), (2, 3, 5, 6)),
    ("...ij,...jk->...ik", (2, 3, 4, 5), (5, 6)),  # the ellipsis is empty on one side
    ("...ij,...jk->...ik", (2, 1, 4, 5), (1, 3, 5, 6)),  # and is broadcast
    ("...i,i->...", (2, 3, 4), (4,)),
    ("aij,jk->ik", (2, 3, 4), (4, 5)),  # a label of one side alone is summed first
    ("ij,kl->", (2, 3), (4, 5)),
    ("abc->cab", (2, 3, 4), None),
    ("abc->b", (2, 3, 4), None),
    ("...c->c...", (2, 3, 4), None),
    ("abc->", (2, 3, 4), None),
    (" b i , i o -> b o ", (2, 3), (3, 4)),
    ("...ii->...i", (2, 3, 4, 4), None),  # a diagonal
    ("ijil->lj", (4, 3, 4, 2), None),  # of axes that are apart
    ("iii->i", (3, 3, 3), None),
    ("ii", (4, 4), None),  # a trace
    ("bii,bij->bj", (2, 3, 3), (2, 3, 5)),
    ("aab,bcc->ac", (3, 3, 4), (4, 2, 2)),
]
MATMUL = [
    ((5,), (5,)), ((5,), (5, 4)), ((3, 5), (5,)), ((2, 3, 5), (5,)), ((5,), (2, 5, 4)), ((2, 1, 3, 5), (1, 4, 5, 6)),
    ((2, 3, 5), (1, 5, 4)), ((1, 3, 5), (2, 5, 4)), ((2, 3, 4, 5), (3, 5, 6)), ((3, 4, 5), (2, 3, 5, 6)), ((1, 1, 3, 5), (2, 5, 4)),
]


def run(node, inputs, device, tmp):
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in zip("xw", inputs)]
    graph = helper.make_graph([node], "g", ports, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp / "m.onnx")
    words = [PROBE, tmp / "m.onnx", "--device", device, "--out", tmp / "y"]
    for i, a in enumerate(inputs):
        np.save(tmp / f"{i}.npy", a)
        words += ["--input", tmp / f"{i}.npy"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return np.fromfile(tmp / "y0.bin")


def compare(node, inputs, want, device, tmp):
    got = run(node, inputs, device, tmp)
    assert got.size == want.size
    # Sums of at most 20 products of numbers around 1, in float32.
    np.testing.assert_allclose(got, want.astype(np.float64).ravel(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", ["ref", "cpu"])
@pytest.mark.parametrize("equation,a,b", EINSUM)
def test_einsum(equation, a, b, device, tmp_path):
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in (a, b) if s is not None]
    node = helper.make_node("Einsum", ["x", "w"][: len(inputs)], ["y"], equation=equation)
    compare(node, inputs, np.einsum(equation.replace(" ", ""), *inputs), device, tmp_path)


@pytest.mark.parametrize("device", ["ref", "cpu"])
@pytest.mark.parametrize("a,b", MATMUL)
def test_matmul(a, b, device, tmp_path):
    rng = np.random.default_rng(6)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in (a, b)]
    compare(helper.make_node("MatMul", ["x", "w"], ["y"]), inputs, np.matmul(*inputs), device, tmp_path)
