"""Import, tailor and export against onnxruntime, onnx.checker and the real Finetuner's artifacts.

Models are made by torch's two exporters when the test runs; model_probe (tests/tools) drives executor/model on the
`ref` device (double) and on `cpu`. Tolerance: onnxruntime computes in float, so outputs differ by its rounding; 1e-5 of
the largest output, 3e-5 for ResNet-50 (50 layers).
"""
import json
import os
import pathlib
import subprocess
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

warnings.filterwarnings("ignore")
PROBE = os.path.join(os.environ.get("FT_BUILD", "build"), "tests", "model_probe")
torch.manual_seed(3)
torch.set_num_threads(2)


def probe(model, *args, fails=False):
    env = dict(os.environ, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="PASSIVE")
    done = subprocess.run([PROBE, str(model), *map(str, args)], capture_output=True, text=True, env=env, timeout=300)
    if fails:
        assert done.returncode == 1, done.stdout
        return done.stderr
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_ours(model, x, tmp, *args, device="ref"):
    np.save(tmp / "x.npy", x)
    facts = probe(model, "--device", device, "--input", tmp / "x.npy", "--out", tmp / "y", *args)
    return facts, np.fromfile(tmp / "y0.bin", dtype=np.float64)


def run_theirs(model, x):
    s = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return s.run(None, {s.get_inputs()[0].name: x})[0]


def close(ours, theirs, limit=1e-5):
    assert ours.size == theirs.size
    difference = np.abs(ours.ravel() - theirs.ravel()).max() / max(np.abs(theirs).max(), 1e-6)
    assert difference < limit, difference


def check_both_ways(model, x, tmp, *args, limit=1e-5, devices=("ref", "cpu")):
    """Ours equals onnxruntime; so does what we write, which onnx.checker accepts."""
    theirs = run_theirs(model, x)
    for device in devices:
        facts, ours = run_ours(model, x, tmp, *args, device=device)
        close(ours, theirs, limit)
    out = tmp / "again.onnx"
    probe(model, "--export", out, *args)
    onnx.checker.check_model(str(out), full_check=True)
    written = onnx.load(out)
    assert written.ir_version == 8 and [(o.domain, o.version) for o in written.opset_import] == [("", 17)]
    close(run_theirs(out, x).astype(np.float64), theirs, limit)
    again, _ = run_ours(out, x, tmp)
    assert again["ops"] == facts["ops"]
    assert sorted(p["type"] for p in again["params"]) == sorted(p["type"] for p in facts["params"])
    return facts


def export(module, x, path, opset=17, dynamo=False, dynamic=True, train=False, **more):
    module.train(train)
    if dynamo:
        shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
        torch.onnx.export(module, (x,), str(path), dynamo=True, opset_version=opset, dynamic_shapes=shapes,
                          input_names=["input"], verbose=False, external_data=False, **more)
    else:
        axes = {"input": {0: "batch"}} if dynamic else None
        torch.onnx.export(module, (x,), str(path), dynamo=False, opset_version=opset, dynamic_axes=axes,
                          input_names=["input"], output_names=["logits"], **more)
    return path


def images(n, channels, size, seed=0):
    return np.random.default_rng(seed).standard_normal((n, channels, size, size)).astype(np.float32)


# ---- the models

def digits_mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


class DigitsCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc(x.mean((2, 3)))


def bn_cnn():
    net = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                        nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    for m in net:
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            nn.init.normal_(m.weight)
            nn.init.normal_(m.bias)
    return net


class Mixed(nn.Module):
    """LeakyReLU, Sigmoid, Tanh, AveragePool with padding and ceil_mode, Concat, slices, Hardswish, a parametric ReLU,
    LayerNorm-free arithmetic, Softmax."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(3, 6, 3, padding=2, dilation=2)
        self.prelu = nn.PReLU(6)
        self.gamma = nn.Parameter(torch.rand(12, 1, 1))
        self.out = nn.Linear(12, 5, bias=False)
        self.bias = nn.Parameter(torch.randn(5))
        self.pool = nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=True)
        self.pool2 = nn.AvgPool2d(2, 2, count_include_pad=False)
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))

    def forward(self, x):
        x = (x - self.mean) / 0.5
        a = torch.nn.functional.leaky_relu(self.a(x), 0.2)
        b = torch.sigmoid(self.b(x)) * torch.tanh(self.prelu(self.b(x)))
        y = torch.cat([a[:, 1:4], b, a[:, :3]], 1)
        y = torch.nn.functional.hardswish(self.pool2(self.pool(y) * self.gamma))
        y = y.mean([-2, -1])
        y = self.out(y) + self.bias
        return torch.softmax(torch.clamp(y, -3.0, 2.0) ** 2 + torch.exp(-y) * 0.1, 1)


def resnet(name):
    import torchvision

    torch.manual_seed(5)
    net = getattr(torchvision.models, name)(weights=None)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.8, 1.2)
            nn.init.uniform_(m.weight, 0.5, 1.0)
            nn.init.normal_(m.bias, 0, 0.1)
    return net.eval()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


# ---- plain models, both exporters, old opsets

@pytest.mark.parametrize("dynamo", [False, True])
def test_digits_mlp(made, tmp_path, dynamo):
    path = export(digits_mlp(), torch.randn(2, 1, 8, 8), made / f"mlp{dynamo}.onnx", 18 if dynamo else 17, dynamo)
    facts = check_both_ways(path, images(5, 1, 8), tmp_path)
    assert len(facts["params"]) == 4 and list(facts["inputs"].values()) == ["float32 (N, 1, 8, 8)"]


@pytest.mark.parametrize("dynamo", [False, True])
def test_digits_cnn(made, tmp_path, dynamo):
    path = export(DigitsCnn(), torch.randn(2, 1, 8, 8), made / f"cnn{dynamo}.onnx", 18 if dynamo else 17, dynamo)
    facts = check_both_ways(path, images(5, 1, 8), tmp_path)
    assert len(facts["params"]) == 6


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17])
def test_old_opsets(tmp_path, opset):
    x = images(3, 3, 17)
    path = export(bn_cnn(), torch.from_numpy(x[:1]), tmp_path / "m.onnx", opset)
    check_both_ways(path, x, tmp_path)
    if opset >= 14 or opset <= 11:
        return
    path = export(nn.Sequential(DigitsCnn(), nn.Dropout(0.3), nn.LogSoftmax(1)), torch.randn(1, 1, 8, 8),
                  tmp_path / "s.onnx", opset)
    check_both_ways(path, images(3, 1, 8), tmp_path)


@pytest.mark.parametrize("dynamo", [False, True])
def test_mixed_ops(tmp_path, dynamo):
    x = images(3, 3, 11)
    path = export(Mixed(), torch.from_numpy(x[:2]), tmp_path / "m.onnx", 18 if dynamo else 17, dynamo)
    facts = check_both_ways(path, x, tmp_path)
    assert sum(not p["state"] for p in facts["params"]) == 8  # gamma, bias and the PReLU's slope among them


def test_one_dimensional_convolution(tmp_path):
    net = nn.Sequential(nn.Conv1d(3, 4, 5, padding=2, stride=2), nn.ReLU(), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1),
                        nn.Flatten(), nn.Linear(4, 2))
    x = np.random.default_rng(1).standard_normal((3, 3, 21)).astype(np.float32)
    path = export(net, torch.from_numpy(x[:2]), tmp_path / "m.onnx")
    check_both_ways(path, x, tmp_path)


@pytest.mark.parametrize("train", [False, True])
def test_batchnorm_kept(tmp_path, train):
    """training=PRESERVE keeps BatchNormalization; in train() it has training_mode = 1, which means the same model."""
    x = images(4, 3, 17)
    net = bn_cnn()
    path = export(net, torch.from_numpy(x), tmp_path / "m.onnx", training=torch.onnx.TrainingMode.PRESERVE,
                  do_constant_folding=False, train=train)
    net.eval()
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    facts, ours = run_ours(path, x, tmp_path)
    assert facts["ops"]["batchnorm"] == 2 and sum(p["state"] for p in facts["params"]) == 4
    if train:  # the exporter has run the module once in train() and moved its statistics
        out = tmp_path / "eval.onnx"
        probe(path, "--export", out)
        close(ours, run_theirs(out, x))
    else:
        close(ours, want)


def test_static_batch_becomes_dynamic(tmp_path):
    x = images(4, 3, 17)
    path = export(bn_cnn(), torch.from_numpy(x[:1]), tmp_path / "m.onnx", dynamic=False)
    facts, ours = run_ours(path, x, tmp_path)
    assert list(facts["inputs"].values()) == ["float32 (N, 3, 17, 17)"]
    close(ours, np.concatenate([run_theirs(path, x[i:i + 1]) for i in range(4)]))

    class Pinned(nn.Module):  # the reshape is true for one image only
        def forward(self, v):
            return torch.relu(v.reshape(3, 100))

    path = export(Pinned(), torch.randn(1, 3, 10, 10), tmp_path / "p.onnx", dynamic=False)
    y = images(1, 3, 10)
    close(run_ours(path, y, tmp_path)[1], run_theirs(path, y))
    assert "fixed batch" in probe(path, "--tailor", fails=True)


def test_symbolic_size_needs_input_shape(tmp_path):
    x = images(2, 3, 16)
    path = tmp_path / "m.onnx"
    torch.onnx.export(bn_cnn().eval(), (torch.from_numpy(x),), str(path), dynamo=False, opset_version=17,
                      input_names=["input"], dynamic_axes={"input": {0: "n", 2: "height", 3: "width"}})
    assert "--input-shape" in probe(path, fails=True)
    for shape in ("N,3,16,16", "height=16,width=16"):
        _, ours = run_ours(path, x, tmp_path, "--input-shape", shape)
        close(ours, run_theirs(path, x))


def test_external_data(tmp_path):
    x = images(3, 3, 17)
    path = export(bn_cnn(), torch.from_numpy(x[:1]), tmp_path / "m.onnx")
    model = onnx.load(path)
    for t in model.graph.initializer:
        onnx.external_data_helper.set_external_data(t, "weights.bin")
    (tmp_path / "ext").mkdir()
    onnx.save_model(model, tmp_path / "ext" / "m.onnx", save_as_external_data=True, location="weights.bin",
                    size_threshold=0)
    _, ours = run_ours(tmp_path / "ext" / "m.onnx", x, tmp_path)
    close(ours, run_theirs(path, x))
    data = (tmp_path / "ext" / "weights.bin").read_bytes()
    (tmp_path / "ext" / "weights.bin").write_bytes(data[:-8])
    assert "corrupt" in probe(tmp_path / "ext" / "m.onnx", fails=True)
    (tmp_path / "ext" / "weights.bin").unlink()
    assert "not found" in probe(tmp_path / "ext" / "m.onnx", fails=True)


def test_half_precision_weights(tmp_path):
    x = images(3, 3, 17)
    path = export(bn_cnn(), torch.from_numpy(x[:1]), tmp_path / "m.onnx")
    model = onnx.load(path)
    for t in model.graph.initializer:  # widened again: the f32 model with rounded weights
        value = onnx.numpy_helper.to_array(t)
        if value.dtype == np.float32:
            t.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16).astype(np.float32), t.name))
    onnx.save(model, tmp_path / "rounded.onnx")
    for t in model.graph.initializer:
        value = onnx.numpy_helper.to_array(t)
        if value.dtype == np.float32:
            t.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), t.name))
    onnx.save(model, tmp_path / "half.onnx")
    _, ours = run_ours(tmp_path / "half.onnx", x, tmp_path)
    close(ours, run_theirs(tmp_path / "rounded.onnx", x))


def test_unsupported_nodes_are_named(tmp_path):
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [node("Frobnicate", ["x"], ["a"], name="first"), node("Attention", ["a"], ["b"], name="second", domain="com.microsoft"),
         node("TreeEnsembleClassifier", ["b"], ["y", "z"], name="third", domain="ai.onnx.ml")], "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", 4])], [onnx.helper.make_tensor_value_info("y", 1, ["n", 4])])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    message = probe(tmp_path / "m.onnx", fails=True)
    assert "3 unsupported nodes" in message
    for part in ("Frobnicate 'first'", "com.microsoft::Attention 'second'", "ai.onnx.ml::TreeEnsembleClassifier 'third'"):
        assert part in message


# ---- onnx's own tests of single nodes

DTYPES = [np.dtype(t) for t in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")]


def node_cases(ops):
    import importlib
    import pkgutil

    import onnx.backend.test.case.node as node

    for module in pkgutil.iter_modules(node.__path__):
        importlib.import_module(node.__name__ + "." + module.name)
    for case in node.collect_testcases(None):
        model = case.model
        if model is None or len(model.graph.node) != 1 or model.graph.node[0].op_type not in ops:
            continue
        inputs, outputs = case.data_sets[0]
        if not inputs or not all(isinstance(v, np.ndarray) for v in inputs) or not isinstance(outputs[0], np.ndarray):
            continue
        if any(np.asarray(v).dtype not in DTYPES for v in (*inputs, *outputs)):
            continue
        static = onnx.ModelProto()
        static.CopyFrom(model)
        for port, value in list(zip(static.graph.input, inputs))[1:]:  # all but the first are known
            static.graph.initializer.append(onnx.numpy_helper.from_array(value, port.name))
        del static.graph.input[1:]
        for opset in static.opset_import:  # since 23 these ops only took more element types
            opset.version = min(opset.version, 22)
        yield case.name, static, inputs[0], outputs[0]


def test_onnx_node_tests(tmp_path):
    """With all inputs but the first as constants: equal, or refused as unsupported. test_nodes.py has the other form."""
    table = pathlib.Path(__file__).parents[2] / "executor" / "model" / "import.c"
    ops = {line.split('"')[1] for line in table.read_text().splitlines() if line.startswith('    {"')}
    ops.discard("ArgMax")  # at the very end it is taken for the label maker of a classifier
    equal, refused = set(), {}
    for name, model, x, want in node_cases(ops):
        onnx.save(model, tmp_path / "m.onnx")
        np.save(tmp_path / "x.npy", x.astype(np.int64 if x.dtype.kind in "iub" else np.float32))  # as the probe reads them
        done = subprocess.run([PROBE, tmp_path / "m.onnx", "--input", tmp_path / "x.npy", "--out", tmp_path / "y"],
                              capture_output=True, text=True)
        if done.returncode == 1:
            refused[name] = done.stderr
            continue
        assert done.returncode == 0, (name, done.stderr)
        ours = np.fromfile(tmp_path / "y0.bin")
        # 1e-3: some expected values are given with four digits.
        np.testing.assert_allclose(ours, want.astype(np.float64).ravel(), 1e-3, 1e-5, err_msg=name)
        equal.add(name)
    print(len(equal), "node tests equal,", len(refused), "refused")
    # What needs only the shape of its input is known at import: such a graph has no input to give.
    allowed = ("unsupported", "usage: 1 inputs are given, the graph has 0")
    odd = {n: t for n, t in refused.items() if not t.startswith(allowed)}
    assert not odd, odd
    assert len(equal) >= 630
    never = ("conv", "gemm", "batchnorm_e", "relu", "softmax", "flatten", "transpose", "globalaverage", "concat_2d")
    assert not [n for n in refused if n.split("test_")[1].startswith(never) and "training" not in n], refused


# ---- ResNets

def penultimate(path, x):
    """The input of the last Gemm, by onnxruntime."""
    model = onnx.load(path)
    gemm = [n for n in model.graph.node if n.op_type in ("Gemm", "MatMul")][-1]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(gemm.input[0], 1, None))
    s = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return s.run(None, {s.get_inputs()[0].name: x})[0]


RESNETS = [("resnet18", False, {}), ("resnet18", True, {}),
           ("resnet18", False, {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}),
           ("resnet18", True, {"optimize": False}), ("resnet50", False, {}), ("resnet50", True, {})]


@pytest.mark.parametrize("name,dynamo,more", RESNETS, ids=lambda v: str(v) if isinstance(v, (str, bool)) else len(v))
def test_resnet(tmp_path, name, dynamo, more):
    x = images(2, 3, 64)
    limit = 1e-5 if name == "resnet18" else 3e-5
    path = export(resnet(name), torch.from_numpy(x), tmp_path / "m.onnx", 18 if dynamo else 17, dynamo, **more)
    if name == "resnet18":
        facts = check_both_ways(path, x, tmp_path, limit=limit, devices=("cpu",))
        weights = [p for p in facts["params"] if not p["state"]]
        assert facts["ops"].get("batchnorm", 0) == (20 if more else 0)
        # Equal tensors that the legacy exporter merged are separate parameters again.
        assert len(weights) == (20 + 40 + 2 if more else 20 * 2 + 2), len(weights)
        assert sum(p["state"] for p in facts["params"]) == (40 if more else 0)
    want = penultimate(path, x)
    out = tmp_path / "tailored.onnx"
    facts, ours = run_ours(path, x, tmp_path, "--tailor", "--export", out, device="cpu")
    assert facts["dim"] == want.size // 2 and facts["head"]
    close(ours, want, limit)
    onnx.checker.check_model(str(out), full_check=True)
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["embedding"]
    close(session.run(None, {session.get_inputs()[0].name: x})[0].astype(np.float64), want, limit)


# ---- tailoring

def test_projection_and_normalisation(made, tmp_path):
    x = images(6, 1, 8)
    path = export(DigitsCnn(), torch.randn(2, 1, 8, 8), tmp_path / "m.onnx")
    out = tmp_path / "t.onnx"
    args = ("--output-dim", 7, "--normalize", "--seed", 4, "--freeze", "all", "--export", out)
    facts, ours = run_ours(path, x, tmp_path, *args)
    onnx.checker.check_model(str(out), full_check=True)
    w = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    stem = "projection_head.head_layers."
    assert w[stem + "0.weight"].shape == (16, 16) and w[stem + "3.weight"].shape == (7, 16)
    bound = 1 / np.sqrt(16)
    both = np.concatenate([w[stem + "0.weight"].ravel(), w[stem + "3.weight"].ravel()])
    assert np.abs(both).max() <= bound and both.std() > 0.4 * bound and abs(both.mean()) < 0.2 * bound
    f = torch.from_numpy(penultimate(path, x))
    f = torch.relu(f @ torch.from_numpy(w[stem + "0.weight"].T.copy()) / np.sqrt(1 + 1e-5))
    f = f @ torch.from_numpy(w[stem + "3.weight"].T.copy()) / np.sqrt(1 + 1e-5)
    want = torch.nn.functional.normalize(f).numpy()
    close(ours, want)
    close(run_theirs(out, x).astype(np.float64), want)
    frozen = {p["name"]: p["frozen"] for p in facts["params"]}
    assert all(f != n.startswith("projection_head") for n, f in frozen.items())
    again, ours2 = run_ours(out, x, tmp_path)  # normalisation is recognised again
    assert again["ops"]["l2_normalize"] == 1
    close(ours2, want)


@pytest.mark.parametrize("dynamo", [False, True])
def test_gem_replaces_the_pooling(tmp_path, dynamo):
    net = bn_cnn().eval()
    x = images(3, 3, 17)
    path = export(net, torch.from_numpy(x), tmp_path / "m.onnx", 18 if dynamo else 17, dynamo)
    out = tmp_path / "t.onnx"
    facts, ours = run_ours(path, x, tmp_path, "--labels", 4, "--pooler", "GeM", "--gem-p", 2.5, "--export", out)
    with torch.no_grad():
        m = net[:7](torch.from_numpy(x))
        want = m.clamp(min=1e-6).pow(2.5).mean((2, 3)).pow(1 / 2.5).numpy()
    close(ours, want, 2e-5)  # pow in float
    onnx.checker.check_model(str(out), full_check=True)
    close(run_theirs(out, x).astype(np.float64), want, 2e-5)
    again, _ = run_ours(out, x, tmp_path)
    assert [p["name"] for p in again["params"] if p["name"].startswith("gem")] == ["gem.p"]


def test_cut_at_a_spatial_map_pools_it(tmp_path):
    net = bn_cnn().eval()
    x = images(3, 3, 17)
    path = export(net, torch.from_numpy(x), tmp_path / "m.onnx")
    with torch.no_grad():
        want = net[:3](torch.from_numpy(x)).mean((2, 3)).numpy()
    _, ours = run_ours(path, x, tmp_path, "--cut", "/2/Relu")
    close(ours, want)
    _, ours = run_ours(path, x, tmp_path, "--cut", "relu_1")
    close(ours, want)


def test_artifact_round_trip(tmp_path):
    x = images(3, 1, 8)
    path = export(DigitsCnn(), torch.randn(2, 1, 8, 8), tmp_path / "backbone.onnx")
    want = penultimate(path, x)
    for target in (tmp_path / "folder", tmp_path / "packed.zip"):
        probe(path, "--tailor", "--artifact", target)
        facts, ours = run_ours(target, x, tmp_path, "--tailor")
        assert facts["is_embedding"] and facts["name"] == "backbone" and facts["head"] == ""
        close(ours, want)
    lines = (tmp_path / "folder" / "models" / "backbone" / "metadata.yml").read_text().splitlines()
    keys = {line.split(":")[0] for line in lines}
    required = ("builder options descriptor input_names input_shapes output_name output_shape embedding_layer output_dim "
                "freeze tailor_input_shape tailor_input_dtype preprocess_types preprocess_options collate_types "
                "collate_options name").split()
    assert not set(required) - keys
    assert "  - [batch-size, 1, 8, 8]" in lines and "output_shape: [batch-size, 16]" in lines
    at = lines.index("dynamic_axes:")
    assert lines[at + 1:at + 5] == ["  input:", "    0: batch-size", "  embedding:", "    0: batch-size"]


def test_artifacts_of_the_real_finetuner(tmp_path):
    data = pathlib.Path(__file__).parent.parent / "data" / "model"
    facts = json.loads((data / "finetuner.json").read_text())
    for name, known in facts.items():
        x = np.array(known["input"], dtype=np.float32)
        ours_facts, ours = run_ours(data / f"{name}.zip", x, tmp_path)
        assert ours_facts["is_embedding"] and ours_facts["name"] == "mlp"
        close(ours, np.array(known["embedding"], dtype=np.float32))
