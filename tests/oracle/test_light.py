"""The nine `light_*` networks inside the onnx package: whole ImageNet classifiers whose weights are ConstantOfShape nodes.

Each whole, without cutting its head: as it is, against the output that onnx stores; and with random weights in place
of the constants, so that every layer counts, against onnxruntime, up to what goes into the softmax.
"""
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

PROBE = os.path.join(os.environ.get("FT_BUILD", "build"), "tests", "model_probe")
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MODELS = sorted(p.stem for p in LIGHT.glob("light_*.onnx"))
# onnx's own runner compares with rtol 1e-3, atol 1e-7.
RELATIVE, ABSOLUTE = 1e-3, 1e-7
LARGE = 4_000_000  # larger weights stay constant: a file of them would be half a gigabyte


def run_ours(model, x, tmp):
    np.save(tmp / "x.npy", x)
    words = [PROBE, str(model), "--device", "cpu", "--input", str(tmp / "x.npy"), "--out", str(tmp / "y")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-1000:]
    return np.fromfile(tmp / "y0.bin", np.float64)


def image_input(model):
    names = {t.name for t in model.graph.initializer}
    (port,) = [i for i in model.graph.input if i.name not in names]
    return port.name, tuple(d.dim_value for d in port.type.tensor_type.shape.dim)


def test_there_are_nine():
    assert len(MODELS) == 9


@pytest.mark.parametrize("name", MODELS)
def test_stored_outputs(name, tmp_path):
    path = LIGHT / f"{name}.onnx"
    _, shape = image_input(onnx.load(path))
    count = int(np.prod(shape))
    x = (np.arange(count).reshape(shape) / count).astype(np.float32)  # as onnx's runner makes it
    stored = TensorProto()
    stored.ParseFromString((LIGHT / f"{name}_output_0.pb").read_bytes())
    want = numpy_helper.to_array(stored).astype(np.float64).ravel()
    np.testing.assert_allclose(run_ours(path, x, tmp_path), want, rtol=RELATIVE, atol=ABSOLUTE)


def with_random_weights(model):
    """Scaled so that activations neither vanish nor overflow; vectors are positive, variances among them."""
    rng = np.random.default_rng(5)
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        dims = shapes.get(node.input[0]) if node.op_type == "ConstantOfShape" else None
        if dims is None or np.prod(dims) > LARGE:
            kept.append(node)
            continue
        dims = tuple(int(d) for d in dims)
        if len(dims) == 1:
            weight = rng.uniform(0.5, 1.5, dims)
        else:
            weight = rng.standard_normal(dims) * np.sqrt(2.0 / np.prod(dims[1:]))
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = 8  # initializers need not be inputs
    return model


@pytest.mark.parametrize("name", MODELS)
def test_random_weights_against_onnxruntime(name, tmp_path):
    model = with_random_weights(onnx.load(LIGHT / f"{name}.onnx"))
    # What stands in front of the softmax: behind it, one class may have taken everything.
    softmax = [n for n in model.graph.node if n.op_type == "Softmax"]
    out = softmax[-1].input[0] if softmax else model.graph.output[0].name
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(out, TensorProto.FLOAT, None))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    port, shape = image_input(model)
    x = np.random.default_rng(6).random(shape, np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    want = onnxruntime.InferenceSession(str(path), options).run(None, {port: x})[0].astype(np.float64).ravel()
    ours = run_ours(path, x, tmp_path)
    assert ours.shape == want.shape and np.abs(want).max() > 1e-6
    relative = np.linalg.norm(ours - want) / np.linalg.norm(want)
    print(f"\n{name}: relative difference {relative:.1e}")
    assert relative < 1e-4
