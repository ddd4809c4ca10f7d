"""One export of each family of models that people bring (make_families.py): forward, tailored export and all gradients.

Forward of the whole network on `cpu` against onnxruntime, 1e-4 of the largest output. The tailored network's embedding
against what goes into the head in PyTorch, and against onnxruntime on the file that we write, 1e-4. Gradients of
sum(embedding * random numbers) by every parameter against PyTorch's autograd in double precision, 1e-4 of each one's norm: with
BatchNorm folded into convolutions, kept in evaluation form, and kept in training form.

bf16 (the processor's, else emulated) on one export of each family: outputs, embeddings and gradients point where those of f32
do.

Tolerances: float32 through a hundred layers. A ReLU or maximum within rounding of its edge goes the other way here and there, which
changes a gradient by one unit's share: 1e-2, where agreement is 1e-6. So `cpu` must agree on one of four sets of images, and where it
fails the first, `ref`, which computes in double as that PyTorch does, must agree there: then an edge was the cause. The last column
counts the sets passed over. Where `cpu` fails on all four, PyTorch's own float32 must fail on half of them, and `ref` stands for it.
"""
import contextlib
import copy
import io
import json
import os
import pathlib
import struct
import subprocess

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

import finetuner_cli as cli
import make_families as families

BUILD = pathlib.Path(os.environ.get("FT_BUILD", "build"))
ENV = dict(os.environ, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="PASSIVE")
FORWARD, GRADIENT = 1e-4, 1e-4
# bf16 has 8 bits: the embedding keeps its direction, which is what is searched by. Gradients are sums of rounded ones and pass
# through ReLUs that open or close. Over the statistics of four images most of them do, so the training form says nothing.
COSINE, COSINE_GRADIENT = 0.999, 0.99
PRECISION = cli.bf16_here()
CASES = [(name, export) for name, family in families.FAMILIES.items() for export in families.exports_of(family)]
# Parameters that the exporter computes away: they only enter through a constant.
FOLDED = {
    ("swin_t", "script"): ("relative_position_bias_table",),
    ("swin_t", "dynamo"): ("relative_position_bias_table",),
    ("swin_v2_t", "dynamo"): ("logit_scale", "cpb_mlp.0.weight"),
}
ROWS = []
BF16 = []
SEEDS = 4  # of images, until one is off every edge
torch.set_num_threads(1)  # another test runs beside this one


def probe(program, *args):
    done = subprocess.run([BUILD / "tests" / program, *map(str, args)], capture_output=True, text=True, env=ENV, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_ours(path, x, tmp, *args):
    np.save(tmp / "x.npy", x)
    facts = probe("model_probe", path, "--device", "cpu", "--input", tmp / "x.npy", "--out", tmp / "y", *args)
    return facts, np.fromfile(tmp / "y0.bin").reshape(len(x), -1)


def run_theirs(path, x):
    options = ort.SessionOptions()
    options.log_severity_level = 3  # not that an initializer is unused
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0].reshape(len(x), -1)


def difference(got, want):
    assert got.shape == want.shape, (got.shape, want.shape)
    return float(np.abs(got.astype(np.float64) - want).max() / np.abs(want).max())


# ---- gradients

def fold(net):
    """BatchNorm right behind a convolution of its width becomes part of it, as both exporters do."""
    net = copy.deepcopy(net)
    leaves = [(n, m) for n, m in net.named_modules() if not list(m.children())]
    for (at, conv), (behind, norm) in zip(leaves, leaves[1:]):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.out_channels == norm.num_features:
            for name, module in ((at, nn.utils.fusion.fuse_conv_bn_eval(conv, norm)), (behind, nn.Identity())):
                parent, _, leaf = name.rpartition(".")
                setattr(net.get_submodule(parent), leaf, module)
    return net.requires_grad_(True)


def peer_gradients(net, family, x, weights, training):
    net.train(training)
    for p in net.parameters():
        p.grad = None
    dtype = next(net.parameters()).dtype
    e = families.embed(net, family, torch.from_numpy(x).to(dtype))
    (e * torch.from_numpy(weights).to(dtype)).sum().backward()
    return {n: (p.detach().numpy(), p.grad.numpy()) for n, p in net.named_parameters() if p.grad is not None}


def our_gradients(path, x, weights, training, device, tmp, precision="f32"):
    with open(tmp / "batch.bin", "wb") as f:
        f.write(struct.pack("<qqq", 1, len(x), x[0].size) + x.tobytes() + weights.astype(np.float32).tobytes())
    (tmp / "options.json").write_text(json.dumps({"threads": 2, "device": device, "precision": precision}))
    facts = probe("train_probe", "--training" if training else "--evaluation", path, tmp / "options.json", tmp / "batch.bin",
                  tmp / "out.bin")
    flat = np.fromfile(tmp / "out.bin", np.float32)
    at = weights.size
    out = {}
    for name, trained, count in facts["params"]:
        if trained:
            out[name] = flat[at + count:at + 2 * count], flat[at:at + count]
        at += 2 * count
    assert at == flat.size
    return out


def away(a, b):
    return float(np.linalg.norm(a.astype(np.float64).ravel() - b.astype(np.float64).ravel()))


def match(ours, theirs):
    """{our name: their name, their gradient as ours lies}: by name, else by the numbers, which the exporters transpose.

    Swin v2 zeroes part of a bias when it runs, and dynamo writes that down as the bias: PyTorch then has no gradient to compare there.
    """
    out, free = {}, dict(theirs)
    for name, (value, _) in ours.items():
        if name in free and free[name][0].size == value.size and away(free[name][0], value) < 1e-5 * np.linalg.norm(value):
            out[name] = name, free.pop(name)[1]
    for name in ours.keys() - out.keys():
        value, own = ours[name]
        there = value != 0 if 0.5 < np.mean(value != 0) else np.full(value.shape, True)
        for other, (p, gradient) in free.items():
            if p.size != value.size:
                continue
            turned = next((t for t in (lambda a: a, np.transpose) if (p.ndim == 2 or t is not np.transpose) and
                           away(t(p).ravel()[there], value[there]) < 1e-4 * np.linalg.norm(value)), None)
            if turned:
                out[name] = other, np.where(there, turned(gradient).ravel(), own)
                del free[other]
                break
        else:
            raise AssertionError(f"{name} ({value.size} numbers) is no parameter of PyTorch's")
    return out, free


def relative(pairs):
    """The worst parameter. One whose gradient is zero but for rounding (a bias before BatchNorm) is measured against the whole."""
    whole = np.sqrt(sum(float(np.linalg.norm(want)) ** 2 for _, want in pairs.values()))
    return max((away(got, want) / max(float(np.linalg.norm(want)), 1e-4 * whole), name) for name, (got, want) in pairs.items())


def on_an_edge(net, family, x, want, weights, training):
    """Is PyTorch's own float32, in one of its layouts, away from its double on these images?"""
    for layout in (torch.contiguous_format, torch.channels_last):
        single = peer_gradients(copy.deepcopy(net).to(memory_format=layout), family, x, weights, training)
        if relative({n: (single[n][1], want[n][1]) for n in want})[0] > GRADIENT:
            return True
    return False


def compare_gradients(absent, ours, theirs):
    """How many parameters, the worst one's distance and its name."""
    matched, left = match(ours, theirs)
    assert set(left) == {n for n in left if any(n.endswith(f) for f in absent)}, sorted(left)
    return len(matched), *relative({n: (ours[n][1], want) for n, (_, want) in matched.items()})


def check_gradients(absent, family, net, path, training, tmp):
    """Parameters, the worst distance, and how many sets of images lay on an edge before `cpu` agreed."""
    weights = np.random.default_rng(7).standard_normal(families.embed(net.eval(), family, families.images(family)).shape)
    weights, edges = weights.astype(np.float32), 0
    for seed in range(SEEDS):
        x = families.images(family, seed).numpy()
        theirs = peer_gradients(copy.deepcopy(net).double(), family, x, weights, training)
        count, worst, where = compare_gradients(absent, our_gradients(path, x, weights, training, "cpu", tmp), theirs)
        if worst < GRADIENT:
            return count, worst, f"{seed} cpu"
        if seed == 0:
            count, exact, at = compare_gradients(absent, our_gradients(path, x, weights, training, "ref", tmp), theirs)
            assert exact < GRADIENT / 10, f"cpu {worst:.1e} away at {where}, and ref {exact:.1e} at {at}: no edge, a bug"
        edges += on_an_edge(net, family, x, theirs, weights, training)
    assert 2 * edges >= SEEDS, f"cpu agrees on no images, PyTorch's float32 on {SEEDS - edges} of {SEEDS}: {worst:.1e} at {where}"
    return count, exact, f"{SEEDS} ref"


# ---- the families

def make(name, export, path, family=None):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return families.write(name, export, path, family)


def check_forward(family, net, path, x, tmp):
    _, ours = run_ours(path, x, tmp)
    whole = difference(ours, run_theirs(path, x))
    out = tmp / "tailored.onnx"
    facts, ours = run_ours(path, x, tmp, "--tailor", "--export", out)
    net.eval()
    with torch.no_grad():
        want = families.embed(net, family, torch.from_numpy(x)).numpy().reshape(len(x), -1)
    assert facts["head"] and facts["dim"] == want.shape[1], facts["why"]
    embedding = difference(ours, want)
    onnx.checker.check_model(str(out), full_check=True)
    assert [(o.domain, o.version) for o in onnx.load(out).opset_import] == [("", 17)]
    again = difference(run_theirs(out, x), ours)
    assert max(whole, embedding, again) < FORWARD, (whole, embedding, again)
    return whole, embedding, again


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def check_bf16(name, path, x, tmp):
    """Whole network and embedding as bf16 computes them, against f32: onnxruntime's of the file, and of what we write of it."""
    _, whole = run_ours(path, x, tmp, "--precision", PRECISION)
    _, embedding = run_ours(path, x, tmp, "--precision", PRECISION, "--tailor")
    worst = min(cosines(whole, run_theirs(path, x)).min(), cosines(embedding, run_theirs(tmp / "tailored.onnx", x)).min())
    assert worst > COSINE, worst
    rows, width = embedding.shape
    weights = np.random.default_rng(7).standard_normal((rows, width)).astype(np.float32)
    one, other = (np.concatenate([g for _, (_, g) in sorted(our_gradients(path, x, weights, False, "cpu", tmp, p).items())])[None]
                  for p in ("f32", PRECISION))
    gradient = cosines(one.astype(np.float64), other.astype(np.float64))[0]
    assert gradient > COSINE_GRADIENT, gradient
    BF16.append((name, worst, gradient))


@pytest.mark.parametrize("name,export", CASES)
def test_family(name, export, tmp_path):
    family = families.FAMILIES[name]
    path = tmp_path / "model.onnx"
    net = make(name, export, path)
    x = families.images(family).numpy()
    numbers = check_forward(family, net, path, x, tmp_path)
    if export == families.exports_of(family)[0]:
        check_bf16(name, path, x, tmp_path)
    forms = (False, True) if export.endswith("kept") else (False,)
    for training in forms:
        folded = fold(net) if not export.endswith("kept") else net
        parameters, *gradients = check_gradients(FOLDED.get((name, export), ()), family, folded, path, training, tmp_path)
        ROWS.append((name, export + (" training" if training else ""), parameters, *numbers, *gradients))


@pytest.mark.parametrize("name", families.FULL_SIZE)
def test_full_size_forward(name, tmp_path):
    family = families.FULL_SIZE[name]
    net = make(name, "script", tmp_path / "model.onnx", family)
    x = families.images(family).numpy()
    ROWS.append((name, "script, full size", 0, *check_forward(family, net, tmp_path / "model.onnx", x, tmp_path), 0, ""))


# ---- tables and TensorFlow

@pytest.mark.parametrize("classes,activation,zipmap", [(2, "relu", True), (2, "relu", False), (4, "tanh", True), (4, "logistic", False)])
def test_sklearn(classes, activation, zipmap, tmp_path):
    path, out = tmp_path / "model.onnx", tmp_path / "tailored.onnx"
    model = families.sklearn_mlp(path, classes, activation, zipmap)
    scaler, net = model[0], model[1]
    x = (3 * np.random.default_rng(1).standard_normal((9, 12)) + 1).astype(np.float32)
    _, whole = run_ours(path, x, tmp_path)
    forward = difference(whole, model.predict_proba(x))
    facts, ours = run_ours(path, x, tmp_path, "--tailor", "--export", out)

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.ParameterList(torch.from_numpy(c) for c in net.coefs_)
            self.b = nn.ParameterList(torch.from_numpy(c) for c in net.intercepts_)
            self.head = nn.Identity()

        def forward(self, v):
            v = (v - torch.from_numpy(scaler.mean_)) / torch.from_numpy(scaler.scale_)
            for w, b in list(zip(self.w, self.b))[:-1]:
                v = {"relu": torch.relu, "tanh": torch.tanh, "logistic": torch.sigmoid}[activation](v @ w + b)
            return self.head(v)

    family = families.Family(Torch, "head", rows=9)
    peer = Torch().double()
    want = families.embed(peer, family, torch.from_numpy(x).double())
    assert facts["head"] and facts["dim"] == 16
    embedding, again = difference(ours, want.detach().numpy()), difference(run_theirs(out, x), ours)
    weights = np.random.default_rng(7).standard_normal(want.shape).astype(np.float32)
    gradients = our_gradients(path, x, weights, False, "cpu", tmp_path)
    matched, left = match(gradients, peer_gradients(peer, family, x, weights, False))
    assert not left and len(matched) == 4
    worst, _ = relative({n: (gradients[n][1], g) for n, (_, g) in matched.items()})
    assert max(forward, embedding, again) < FORWARD and worst < GRADIENT
    ROWS.append(("sklearn MLP", f"{classes} classes, {activation}", len(matched), forward, embedding, again, worst, "0 cpu"))


def test_tensorflow(tmp_path):
    path = tmp_path / "model.onnx"
    net = families.nhwc_network(path)
    family = families.Family(None, "head", rows=4)

    def images(_, seed=0):
        return torch.randn(4, 33, 33, 3, generator=torch.Generator().manual_seed(seed))

    families_images, families.images = families.images, images
    try:
        x = images(family).numpy()
        numbers = check_forward(family, net, path, x, tmp_path)
        for training in (False, True):
            parameters, *gradients = check_gradients((), family, net, path, training, tmp_path)
            ROWS.append(("tf2onnx, NHWC", "kept" + (" training" if training else ""), parameters, *numbers, *gradients))
    finally:
        families.images = families_images


def test_table():
    print(f"\n{'family':18} {'export':22} {'parameters':>10} {'forward':>9} {'embedding':>9} {'written':>9} {'gradients':>9} {'passed':>7}")
    for row in ROWS:
        print(f"{row[0]:18} {row[1]:22} {row[2]:10d} " + " ".join(f"{v:9.1e}" for v in row[3:-1]) + f" {row[-1]:>7}")
    print("\nbf16 against f32, cosines: forward and embedding (the worst image), all gradients as one vector")
    for row in BF16:
        print(f"{row[0]:18} {row[1]:.6f} {row[2]:.4f}")
