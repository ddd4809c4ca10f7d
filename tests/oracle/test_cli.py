"""The program at a shell: inspect, tailor, fit, encode and evaluate on digits, beside onnxruntime, PyTorch and numpy."""
import collections
import json
import os
import pty
import re
import shutil
import subprocess
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.datasets import load_digits

import finetuner_cli as cli

# The same numbers in float32, summed in another order: a row's cosine differs from 1 by rounding only.
COSINE = 0.9999
Place = collections.namedtuple("Place", "dir nets images labels")
Tuned = collections.namedtuple("Tuned", "path summary err")
METRICS = [
    "precision_at_k", "recall_at_k", "f1_score_at_k", "hit_at_k", "average_precision", "reciprocal_rank", "dcg_at_k",
    "ndcg_at_k", "precision_at_1", "r_precision", "map_at_r",
]
FIT = ["--epochs", 8, "--batch-size", 64, "--seed", 7]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two backbones and the digits as JSON lines: train and eval."""
    where = tmp_path_factory.mktemp("cli")
    nets = {"cnn": cli.half_trained(cli.Cnn), "mlp": cli.half_trained(cli.Mlp)}
    images, labels = cli.digits(1200)
    for name, net in nets.items():
        cli.export(net, where / f"{name}.onnx", net.SHAPE)
        cli.write_jsonl(where / f"{name}-train.jsonl", images[:600], labels[:600], net.SHAPE)
        cli.write_jsonl(where / f"{name}-eval.jsonl", images[600:], labels[600:], net.SHAPE)
    return Place(where, nets, images[600:], labels[600:])


def fit(place, name, out, *more):
    result = cli.ok(
        "fit", f"{name}.onnx", f"{name}-train.jsonl", "--eval", f"{name}-eval.jsonl", "--out", out, "--json", *FIT,
        *more, cwd=place.dir,
    )
    return Tuned(place.dir / out, result.json(), result.err)


@pytest.fixture(scope="module")
def tuned(place):
    """What `fit` makes: the CNN as a .zip, the MLP as a folder."""
    return {"cnn": fit(place, "cnn", "cnn-tuned.zip"), "mlp": fit(place, "mlp", "mlp-tuned")}


def rows_of(place, name):
    return (place.images / 16).reshape(-1, *place.nets[name].SHAPE).astype(np.float32)


def features(place, name):
    with torch.no_grad():
        return place.nets[name].features(torch.tensor(rows_of(place, name))).numpy()


def encode(place, model, data, *more, **kw):
    cli.ok("encode", model, data, "--out", "rows.npy", "--quiet", *more, cwd=place.dir, **kw)
    rows = np.load(place.dir / "rows.npy")
    assert rows.dtype == np.float32 and rows.ndim == 2
    return rows


def min_cosine(a, b):
    assert a.shape == b.shape
    a, b = a.astype(np.float64), b.astype(np.float64)
    return ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()


def artifact_files(path):
    """{name below the artifact's root: bytes} of a .zip or a folder."""
    if path.is_dir():
        return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        return {n.split("/", 1)[1]: z.read(n) for n in z.namelist() if not n.endswith("/")}


def artifact_onnx(path):
    files = artifact_files(path)
    names = [n for n in files if n.endswith("/model.onnx")]
    assert len(names) == 1
    return files[names[0]]


def run_onnx(model, rows):
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


# ---- inspect


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_inspect_tells_what_tailoring_would_do(place, name):
    told = cli.ok("inspect", f"{name}.onnx", "--json", cwd=place.dir).json()
    kept = place.nets[name].features
    # BatchNorm was folded by the exporter: a scale and a shift per channel became the convolution's bias.
    norms = [m for m in kept if isinstance(m, torch.nn.BatchNorm2d)]
    parameters = sum(p.numel() for p in kept.parameters()) - sum(m.weight.numel() for m in norms)
    assert told["parameters"] == told["trained_parameters"] == parameters
    assert told["dim"] == 32 and told["opset"] == 17 and told["producer"].startswith("pytorch")
    assert "32 -> 5" in told["head"] and told["why"]
    assert [layer["name"] for layer in told["layers"] if layer["cut"]] == [told["head"].split()[0]]
    table = cli.ok("inspect", f"{name}.onnx", cwd=place.dir).out
    for layer in told["layers"]:
        assert layer["name"] in table and layer["output"] in table
    assert told["why"] in table and "(N, 5)" in table and f"{parameters:,}" in table


def test_inspect_reads_the_newer_exporter(place):
    net = place.nets["mlp"]
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        net, (torch.zeros(2, 64),), str(place.dir / "dynamo.onnx"), dynamo=True, dynamic_shapes=({0: batch},),
        verbose=False,
    )
    told = cli.ok("inspect", "dynamo.onnx", "--json", cwd=place.dir).json()
    assert told["dim"] == 32 and "32 -> 5" in told["head"]
    assert min_cosine(encode(place, "dynamo.onnx", "mlp-eval.jsonl"), features(place, "mlp")) > COSINE


def test_inspect_follows_the_options(place):
    def told(*more):
        return cli.ok("inspect", "mlp.onnx", "--json", *more, cwd=place.dir).json()

    assert told("--keep-head")["dim"] == 5 and told("--keep-head")["head"] == ""
    assert told("--keep-head=false")["dim"] == 32
    assert told("--cut", "relu_1")["dim"] == 48
    assert told("--output-dim", 12)["dim"] == 12
    frozen = told("--freeze", "all", "--output-dim", 12)
    projection = [layer for layer in frozen["layers"] if layer["origin"].startswith("projection_head")]
    assert frozen["trained_parameters"] == sum(layer["parameters"] for layer in projection) > 0
    assert not any(layer["trained"] for layer in frozen["layers"] if layer not in projection)


# ---- tailor


@pytest.mark.parametrize("name", ["cnn", "mlp"])
@pytest.mark.parametrize("out", ["tailored.onnx", "tailored.zip", "tailored-folder"])
def test_tailor_keeps_the_penultimate_layer(place, name, out):
    out = f"{name}-{out}"
    told = cli.ok("tailor", f"{name}.onnx", "--out", out, "--json", cwd=place.dir).json()
    assert told["out"] == out and told["dim"] == 32
    path = place.dir / out
    model = path.read_bytes() if out.endswith(".onnx") else artifact_onnx(path)
    want = features(place, name)
    peer = min_cosine(run_onnx(model, rows_of(place, name)), want)
    again = encode(place, out, f"{name}-eval.jsonl")
    ours = min_cosine(again, want)
    print(f"\ntailor {out}: least cosine with PyTorch's penultimate layer: onnxruntime {peer:.8f}, encode {ours:.8f}")
    assert peer > COSINE and ours > COSINE
    # Values too, not only directions: float32 sums of at most 144 terms of about 1.
    np.testing.assert_allclose(again, want, rtol=1e-4, atol=1e-5)


def test_tailor_projects_and_normalises(place):
    for options in (["--output-dim", 16], ["--normalize"], ["--output-dim", 16, "--normalize"], ["--pooler", "GeM"]):
        cli.ok("tailor", "cnn.onnx", "--out", "extra.onnx", *options, cwd=place.dir)
        got = run_onnx((place.dir / "extra.onnx").read_bytes(), rows_of(place, "cnn"))
        assert got.shape == (600, 16 if "--output-dim" in options else 32)
        assert min_cosine(encode(place, "extra.onnx", "cnn-eval.jsonl"), got) > COSINE
        if "--normalize" in options:
            np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
        (place.dir / "extra.onnx").unlink()


# ---- fit


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_fit_makes_retrieval_better(place, tuned, name):
    s = tuned[name].summary
    for key in ["run", "status", "metrics", "epochs", "steps", "samples_per_second", "seconds", "out"]:
        assert key in s
    assert s["status"] == "finished" and s["run"] == name and s["out"] == tuned[name].path.name
    assert s["epochs"] == 8 and s["steps"] == 8 * -(-600 // s["batch"]) and s["repeated_steps"] == 0
    assert s["samples_per_second"] > 0 and 0 < s["train_seconds"] < s["seconds"]
    before, after = s["metrics"]["before"], s["metrics"]["after"]
    assert list(before) == list(after) == METRICS
    for metric in ["precision_at_1", "map_at_r", "precision_at_k", "average_precision"]:
        print(f"\nfit {name}: {metric} {before[metric]:.4f} -> {after[metric]:.4f}", end="")
        assert after[metric] > before[metric]
    assert after["map_at_r"] > before["map_at_r"] + 0.05
    assert s["allocations_in_steps"] == 0 and s["peak_memory_bytes"] > 0
    assert not os.path.exists(f"{tuned[name].path}.work")


def test_fit_tells_its_story(place, tuned):
    err = tuned["cnn"].err
    assert "without matmul_" in err and "10 labels" in err and "FaceNetSemihardMiner" in err
    lines = [line for line in err.splitlines() if line.startswith("Training")]
    assert 3 <= len(lines) <= 40
    for line in lines:
        assert re.fullmatch(r"Training \[\d/8\] \d+/80 eta \d+:\d\d:\d\d loss \d+\.\d+  \d+ samples/s  active \d+%", line)
    assert "\r" not in err and "\033" not in err
    assert sum(line.startswith("epoch ") for line in err.splitlines()) == 8


def test_mix_goes_part_of_the_way(place):
    """Weights are linear in --mix, and what is measured is what is written."""
    def weights(share):
        s = cli.ok(
            "fit", "mlp.onnx", "mlp-train.jsonl", "--eval", "mlp-eval.jsonl", "--out", f"mix-{share}/", "--steps", 6, "--mix", share,
            "--json", "--quiet", cwd=place.dir,
        ).json()
        written = cli.ok("evaluate", f"mix-{share}", "mlp-eval.jsonl", "--json", "--quiet", cwd=place.dir).json()["metrics"]
        assert abs(s["metrics"]["after"]["map_at_r"] - written["map_at_r"]) < 1e-6
        [path] = (place.dir / f"mix-{share}").glob("models/*/model.onnx")
        return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}

    given, tuned, quarter = weights("0"), weights("1"), weights("0.25")
    moved = [k for k, w in given.items() if w.dtype == np.float32 and not np.array_equal(w, tuned[k])]
    assert len(moved) >= 2
    for k in moved:
        want = given[k] + 0.25 * (tuned[k].astype(np.float64) - given[k])
        np.testing.assert_allclose(quarter[k], want, rtol=1e-6, atol=1e-8)
    assert cli.finetuner("fit", "mlp.onnx", "mlp-train.jsonl", "--mix", "1.5", cwd=place.dir).code == 2


def test_fit_prints_a_table(place):
    result = cli.ok(
        "fit", "mlp.onnx", "mlp-train.jsonl", "--eval", "mlp-eval.jsonl", "--out", "table.zip", "--steps", 3, "--quiet",
        cwd=place.dir,
    )
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0].split() == ["metric", "before", "after"]
    assert [line.split()[0] for line in lines[1:12]] == METRICS
    assert lines[12].startswith("3 steps, 1 epochs") and lines[13] == "artifact: table.zip"


def test_equal_seeds_give_equal_bytes(place, tuned):
    again = fit(place, "cnn", "again.zip")
    assert again.path.read_bytes() == tuned["cnn"].path.read_bytes()
    other = fit(place, "cnn", "other.zip", "--seed", 8)
    assert other.path.read_bytes() != tuned["cnn"].path.read_bytes()
    folder = fit(place, "mlp", "mlp-again")
    assert artifact_files(folder.path) == artifact_files(tuned["mlp"].path)


def test_artifact_holds_no_path_and_no_time(place, tuned):
    for t in tuned.values():
        files = artifact_files(t.path)
        assert {"config.yml", "metadata.yml", "metrics.json", "README.md", "preprocess/prep.json"} <= set(files)
        whole = b"".join(files.values())
        assert str(place.dir).encode() not in whole and b"/tmp" not in whole
        kept = json.loads(files["metrics.json"])
        assert kept["after"] == t.summary["metrics"]["after"] and kept["before"] == t.summary["metrics"]["before"]
    with zipfile.ZipFile(tuned["cnn"].path) as z:
        assert {i.date_time for i in z.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {i.compress_type for i in z.infolist()} == {zipfile.ZIP_STORED}
        assert {n.split("/")[0] for n in z.namelist()} == {"cnn"}


def test_frozen_layers_do_not_move(place):
    fit(place, "cnn", "frozen.zip", "--freeze", "all", "--output-dim", 16)
    cli.ok("tailor", "cnn.onnx", "--out", "start.onnx", "--output-dim", 16, "--seed", 7, cwd=place.dir)

    def weights(model):
        return {i.name: numpy_helper.to_array(i) for i in onnx.load_from_string(model).graph.initializer}

    old = weights((place.dir / "start.onnx").read_bytes())
    new = weights(artifact_onnx(place.dir / "frozen.zip"))
    assert old.keys() == new.keys()
    moved = {name for name in old if old[name].dtype == np.float32 and not np.array_equal(old[name], new[name])}
    assert moved and all("projection_head" in name for name in moved), moved


@pytest.mark.parametrize(
    "options",
    [
        ["--loss", "ContrastiveLoss", "--optimizer", "SGD", "--optimizer-options", '{"momentum": 0.9}'],
        ["--miner", "BatchHardMiner", "--scheduler", "linear", "--optimizer", "Adam"],
        ["--miner", "TripletMarginMiner", "--miner-options", '{"type_of_triplets": "hard", "margin": 0.3}'],
        ["--miner", "none", "--scheduler", "cosine", "--scheduler-options", '{"num_warmup_steps": 2}'],
        ["--normalize", "--val-split", "0.2", "--clip-norm", "0"],
        ["--freeze", "2", "--pooler", "GeM", "--output-dim", "8"],
        ["--device", "ref", "--batch-size", "40"],
        ["--learning_rate=1e-4", "--batch_size=32", "--num-items-per-class", "8"],
        ["--callbacks", '[{"name": "BestModelCheckpoint", "options": {"monitor": "map_at_r"}},'
         ' {"name": "EarlyStopping", "options": {"monitor": "train_loss", "patience": 1}}]', "--steps", "24"],
    ],
    ids=lambda options: " ".join(options[:4])[:48],
)
def test_fit_options_work(place, options):
    steps = [] if "--steps" in options else ["--steps", 6]
    s = cli.ok(
        "fit", "cnn.onnx", "cnn-train.jsonl", "--eval", "cnn-eval.jsonl", "--out", "options.zip", "--json", "--quiet",
        *steps, *options, cwd=place.dir,
    ).json()
    assert s["status"] == "finished" and np.isfinite(s["loss"]) and s["loss"] >= 0
    assert 0 < s["metrics"]["after"]["map_at_r"] <= 1
    encode(place, "options.zip", "cnn-eval.jsonl")


def test_an_artifact_is_tuned_again(place, tuned):
    s = cli.ok(
        "fit", "cnn-tuned.zip", "cnn-train.jsonl", "--eval", "cnn-eval.jsonl", "--out", "twice.zip", "--json", "--quiet",
        "--steps", 10, cwd=place.dir,
    ).json()
    now, then = s["metrics"]["before"], tuned["cnn"].summary["metrics"]["after"]
    # A round trip through ONNX: one query in 600 may change places by rounding.
    assert all(abs(now[m] - then[m]) <= 2e-3 * max(1, then[m]) for m in METRICS)


# ---- encode


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_artifact_in_onnxruntime_equals_encode(place, tuned, name):
    peer = run_onnx(artifact_onnx(tuned[name].path), rows_of(place, name))
    ours = encode(place, tuned[name].path.name, f"{name}-eval.jsonl")
    least = min_cosine(peer, ours)
    print(f"\nencode {tuned[name].path.name}: least cosine with onnxruntime over {len(ours)} documents {least:.8f}")
    assert least > COSINE
    np.testing.assert_allclose(ours, peer, rtol=1e-4, atol=1e-5)


def test_encode_tells_what_it_did(place, tuned):
    told = cli.ok("encode", "cnn-tuned.zip", "cnn-eval.jsonl", "--out", "told.npy", "--json", "--quiet", cwd=place.dir)
    told = told.json()
    assert told["count"] == 600 and told["dim"] == 32 and told["out"] == "told.npy" and told["seconds"] > 0
    line = cli.ok("encode", "cnn-tuned.zip", "cnn-eval.jsonl", cwd=place.dir).out
    assert re.fullmatch(r"600 documents, 32 dimensions, \d+\.\d+ s, \d+ documents/s -> embeddings\.npy\n", line)
    same = np.load(place.dir / "embeddings.npy")
    assert np.array_equal(same, np.load(place.dir / "told.npy"))


def test_encode_says_whose_row_is_whose(place, tuned, tmp_path):
    model, data = tuned["cnn"].path, place.dir / "cnn-eval.jsonl"
    images = tmp_path / "images"
    images.mkdir()
    for i, image in enumerate(load_digits().images[:3]):
        (images / f"käfer-{i}.png").write_bytes(cli.png(image))

    def lines(name):
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    for what, name in ((images, "images"), (data, "tensors")):
        for out in ("npy", "jsonl"):
            cli.ok("encode", model, what, "--out", tmp_path / f"{name}.{out}", "--quiet", cwd=place.dir)
        rows = np.array([line["embedding"] for line in lines(f"{name}.jsonl")], np.float32)
        assert np.array_equal(rows, np.load(tmp_path / f"{name}.npy"))
    assert [list(line) for line in lines("images.jsonl")] == 3 * [["id", "uri", "embedding"]]
    assert [line["uri"].rsplit("/", 1)[-1] for line in lines("images.jsonl")] == [f"käfer-{i}.png" for i in range(3)]
    given = [json.loads(line) for line in data.read_text().splitlines()]
    assert [(line["id"], line["label"]) for line in lines("tensors.jsonl")] == [(g["id"], str(g["label"])) for g in given]
    cli.ok("evaluate", model, data, "--out", tmp_path / "evaluated.jsonl", "--quiet", cwd=place.dir)
    assert (tmp_path / "evaluated.jsonl").read_bytes() == (tmp_path / "tensors.jsonl").read_bytes()


def test_encode_does_not_depend_on_the_batch(place, tuned):
    whole = encode(place, "cnn-tuned.zip", "cnn-eval.jsonl")
    for size in (1, 7, 600):
        other = encode(place, "cnn-tuned.zip", "cnn-eval.jsonl", "--batch-size", size)
        np.testing.assert_allclose(other, whole, rtol=1e-5, atol=1e-6)  # other blocking, other rounding


def test_every_form_of_data_gives_the_same_rows(place, tuned):
    images, labels = place.images[:60], place.labels[:60]
    at = place.dir / "forms"
    at.mkdir()
    order = cli.write_folder(at / "folder", images, labels)
    cli.write_csv(at / "list.csv", images, labels)
    cli.write_blobs(at / "blobs.jsonl", images, labels)
    cli.write_docarray(at / "pngs.bin", [cli.png(i) for i in images], [float(x) for x in labels])
    cli.write_docarray(at / "bytes.bin", [cli.pixels(i) for i in images], [str(x) for x in labels])
    cli.write_docarray(at / "chw.bin", [cli.pixels(i)[None] for i in images], [str(x) for x in labels])
    with open(at / "uris.jsonl", "w", encoding="utf-8") as out:
        for i, label in enumerate(labels):
            out.write(cli.jsonl_line(uri=f"pictures/{i:05d}.png", label=str(label)))
    want = encode(place, "cnn-tuned.zip", "forms/list.csv")
    assert want.shape == (60, 32)
    forms = ["blobs.jsonl", "uris.jsonl", "pngs.bin", "bytes.bin", "chw.bin"]
    for form in forms:
        assert np.array_equal(encode(place, "cnn-tuned.zip", f"forms/{form}"), want), form
    assert np.array_equal(encode(place, "cnn-tuned.zip", "forms/folder"), want[order])
    stdin = (at / "blobs.jsonl").read_bytes()
    assert np.array_equal(encode(place, "cnn-tuned.zip", "-", stdin=stdin), want)
    floats = np.stack([cli.pixels(i) for i in images])[:, None].astype(np.float32) / 255
    assert min_cosine(run_onnx(artifact_onnx(tuned["cnn"].path), floats), want) > COSINE
    every = [*forms, "list.csv", "folder"]
    scores = [
        cli.ok("evaluate", "cnn-tuned.zip", f"forms/{f}", "--json", "--quiet", cwd=place.dir).json() for f in every
    ]
    assert all(s["queries"] == scores[0]["queries"] for s in scores)
    for s in scores[:-1]:
        assert s["metrics"] == scores[0]["metrics"]


def test_fit_takes_every_form_of_data(place):
    at = place.dir / "fits"
    at.mkdir()
    images, labels = place.images[:120], place.labels[:120]
    cli.write_folder(at / "folder", images, labels)
    cli.write_csv(at / "list.csv", images, labels)
    cli.write_docarray(at / "pngs.bin", [cli.png(i) for i in images], [float(x) for x in labels])
    cli.write_blobs(at / "blobs.jsonl", images, labels)
    for form in ["folder", "list.csv", "pngs.bin", "blobs.jsonl", "-"]:
        data = form if form == "-" else f"fits/{form}"
        stdin = (at / "blobs.jsonl").read_bytes() if form == "-" else b""
        s = cli.ok(
            "fit", "cnn.onnx", data, "--out", "fits/out.zip", "--val-split", "0.3", "--json", "--quiet", "--steps", 4,
            cwd=place.dir, stdin=stdin,
        ).json()
        assert s["steps"] == 4 and set(s["metrics"]["after"]) == set(METRICS), form


# ---- evaluate


def by_hand(queries, labels, index, index_labels, k, same, metric="cosine"):
    """The definitions of finetuner/SPEC A.6 and of pytorch-metric-learning, one query after another, in float64."""
    q, x = queries.astype(np.float64), index.astype(np.float64)
    if metric == "cosine":
        q, x = q / np.linalg.norm(q, axis=1, keepdims=True), x / np.linalg.norm(x, axis=1, keepdims=True)
        distance = 1 - q @ x.T
    else:
        distance = (q**2).sum(1)[:, None] + (x**2).sum(1) - 2 * q @ x.T
    if same:
        np.fill_diagonal(distance, np.inf)
    discount = np.array([1.0] + [1 / np.log2(i) for i in range(2, len(x) + 1)])
    out = collections.defaultdict(list)
    for row, label in zip(distance, labels):
        order = np.argsort(row, kind="stable")[: len(x) - same]
        relevant = (index_labels[order] == label).astype(float)
        r = int(relevant.sum())
        if r == 0:
            continue
        top = relevant[:k]
        ranks = np.flatnonzero(top) + 1
        precision, recall = top.mean(), top.sum() / r
        out["precision_at_k"].append(precision)
        out["recall_at_k"].append(recall)
        out["f1_score_at_k"].append(2 * precision * recall / (precision + recall) if precision else 0)
        out["hit_at_k"].append(float(top.any()))
        precisions = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)  # at each rank
        out["average_precision"].append(precisions[ranks - 1].mean() if len(ranks) else 0)
        out["reciprocal_rank"].append(1 / ranks[0] if len(ranks) else 0)
        out["dcg_at_k"].append((top * discount[: len(top)]).sum())
        out["ndcg_at_k"].append((top * discount[: len(top)]).sum() / discount[: min(k, r)].sum())
        out["precision_at_1"].append(relevant[0])
        out["r_precision"].append(relevant[:r].mean())
        out["map_at_r"].append((precisions * relevant)[:r].sum() / r)
    return {name: float(np.mean(values)) for name, values in out.items()}, len(out["precision_at_1"])


@pytest.mark.parametrize("model", ["cnn.onnx", "cnn-tuned.zip", "mlp.onnx", "mlp-tuned"])
@pytest.mark.parametrize("limit,metric", [(20, "cosine"), (5, "euclidean")])
def test_evaluate_agrees_with_numpy(place, tuned, model, limit, metric):
    data = f"{model[:3]}-eval.jsonl"
    got = cli.ok(
        "evaluate", model, data, "--limit", limit, "--metric", metric, "--json", "--quiet", cwd=place.dir
    ).json()
    rows = encode(place, model, data)
    want, queries = by_hand(rows, place.labels, rows, place.labels, limit, True, metric)
    worst = max(abs(got["metrics"][m] - want[m]) / max(1, want[m]) for m in METRICS)
    print(f"\nevaluate {model} limit {limit} {metric}: largest difference from numpy {worst:.2e}")
    assert list(got["metrics"]) == METRICS and got["queries"] == queries == 600 and got["seconds"] > 0
    # Neighbours nearer to each other than float32 can tell may change places: a swap moves a mean by under 1 / 600.
    assert worst < 1e-3


def test_evaluate_agrees_with_pytorch_metric_learning(place, tuned):
    got = cli.ok("evaluate", "cnn-tuned.zip", "cnn-eval.jsonl", "--json", "--quiet", cwd=place.dir).json()["metrics"]
    rows = torch.tensor(encode(place, "cnn-tuned.zip", "cnn-eval.jsonl"))
    names = {"precision_at_1": "precision_at_1", "r_precision": "r_precision", "mean_average_precision_at_r": "map_at_r"}
    calculator = AccuracyCalculator(include=tuple(names), k="max_bin_count", knn_func=CustomKNN(CosineSimilarity()))
    peer = calculator.get_accuracy(rows, torch.tensor(place.labels))
    for theirs, ours in names.items():
        print(f"\n{ours}: ours {got[ours]:.6f}, pytorch-metric-learning {peer[theirs]:.6f}", end="")
        assert abs(got[ours] - peer[theirs]) < 1e-3  # as above


def test_evaluate_writes_what_it_embedded(place, tuned):
    cli.ok("encode", "cnn-tuned.zip", "cnn-eval.jsonl", "--out", "encoded.npy", "--quiet", cwd=place.dir)
    cli.ok("evaluate", "cnn-tuned.zip", "cnn-eval.jsonl", "--out", "evaluated.npy", "--quiet", cwd=place.dir)
    assert (place.dir / "evaluated.npy").read_bytes() == (place.dir / "encoded.npy").read_bytes()


def test_evaluate_searches_another_set(place, tuned):
    cli.write_jsonl(place.dir / "some.jsonl", place.images[:200], place.labels[:200])
    known = place.labels[200:] != 3  # the index has no 3: those queries are left out
    cli.write_jsonl(place.dir / "index.jsonl", place.images[200:][known], place.labels[200:][known])
    got = cli.ok(
        "evaluate", "cnn-tuned.zip", "some.jsonl", "--index", "index.jsonl", "--json", "--quiet", cwd=place.dir
    ).json()
    want, queries = by_hand(
        encode(place, "cnn-tuned.zip", "some.jsonl"), place.labels[:200],
        encode(place, "cnn-tuned.zip", "index.jsonl"), place.labels[200:][known], 20, False,
    )
    assert got["queries"] == queries == int((place.labels[:200] != 3).sum())
    # One swap among 180 queries.
    assert max(abs(got["metrics"][m] - want[m]) / max(1, want[m]) for m in METRICS) < 3e-3
    table = cli.ok("evaluate", "cnn-tuned.zip", "some.jsonl", "--index", "index.jsonl", "--quiet", cwd=place.dir).out
    assert [line.split()[0] for line in table.splitlines()[:11]] == METRICS
    assert f"{queries} queries, {200 - queries} left out" in table


def test_fit_and_evaluate_say_the_same(place, tuned):
    for name, t in tuned.items():
        for when, model in (("before", f"{name}.onnx"), ("after", t.path.name)):
            told = cli.ok("evaluate", model, f"{name}-eval.jsonl", "--json", "--quiet", cwd=place.dir).json()
            for metric in METRICS:
                a, b = told["metrics"][metric], t.summary["metrics"][when][metric]
                assert abs(a - b) < 2e-3 * max(1, b)  # other batch sizes round otherwise


# ---- the shell's side


def at_a_terminal(place, *words):
    """What a command shows there: its standard error; standard output is a file."""
    primary, secondary = pty.openpty()
    child = subprocess.Popen(
        [cli.PROGRAM, *map(str, words)], cwd=place.dir, env=cli.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=secondary,
    )
    os.close(secondary)
    seen = b""
    while True:
        try:
            piece = os.read(primary, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(primary)
    assert child.wait() == 0
    return seen.decode()


def test_a_terminal_gets_a_bar(place):
    text = at_a_terminal(place, "fit", "mlp.onnx", "mlp-train.jsonl", "--out", "bar.zip", "--steps", 200)
    assert "\r\033[K" in text and "\u2501" in text and "eta" in text and "200/200" in text


@pytest.mark.parametrize("words,titles", [
    (["fit", "mlp.onnx", "mlp-train.jsonl", "--eval", "mlp-eval.jsonl", "--out", "measured.zip", "--steps", "2"],
     ["Measuring", "Searching"]),
    (["evaluate", "mlp.onnx", "mlp-eval.jsonl"], ["Encoding", "Searching"]),
])
def test_measuring_has_a_bar_at_a_terminal_only(place, words, titles):
    text = at_a_terminal(place, *words)
    for title in titles:
        assert re.search(rf"\r\033\[K{title} \u2501+ 600/600 eta 0:00:00", text), (title, text)
    assert "\u2501" not in text[text.rindex("\r\033[K"):]  # the last one is wiped
    for silent in (["--json"], ["--quiet"], ["--json", "--quiet"]):
        text = at_a_terminal(place, *words, *silent)
        assert "Measuring" not in text and "Searching" not in text, text
    told = cli.ok(*words, cwd=place.dir)
    assert "Measuring" not in told.err and "Searching" not in told.err and "\033" not in told.err


def test_help(place):
    overview = cli.ok("help", cwd=place.dir).out
    assert cli.ok("--help", cwd=place.dir).out == overview
    commands = ["fit", "encode", "evaluate", "inspect", "tailor", "serve", "ping"]
    for command in commands:
        assert f"\n  {command} " in overview
        text = cli.ok("help", command, cwd=place.dir).out
        assert text.startswith(f"usage: finetuner {command} ") and text == cli.ok(command, "--help", cwd=place.dir).out
    fit_help = cli.ok("help", "fit", cwd=place.dir).out
    for option in ["--loss", "--miner-options", "--learning-rate", "--val-split", "--resume", "--checkpoint-steps"]:
        assert f"  {option} " in fit_help
    assert len(fit_help.splitlines()) < 90 and "finetuner help presets" in fit_help and "efficientnet-b4" not in fit_help
    for topic, words in {"presets": ["imagenet-v2", "efficientnet-b4", "clip"], "augment": ["erase_ratio", "strong"]}.items():
        assert f"\n  {topic} " in overview
        text = cli.ok("help", topic, cwd=place.dir).out
        assert all(f"\n  {word} " in text for word in words) and not text.startswith("\n")
        assert cli.finetuner(topic, cwd=place.dir).code == 2  # it is no command
    assert "Hugging Face" in cli.ok("serve", "--help", cwd=place.dir).out
    for option in ["--cut", "--keep-head", "--prep-options", "--index", "--limit", "--json"]:
        assert f"  {option} " in cli.ok("help", "evaluate", cwd=place.dir).out
    assert "--port" in cli.ok("help", "serve", cwd=place.dir).out
    assert re.fullmatch(r"finetuner \d+\.\d+\.\d+\n", cli.ok("--version", cwd=place.dir).out)


@pytest.mark.parametrize(
    "words,said",
    [
        ([], None),
        (["frobnicate"], "unknown command 'frobnicate'"),
        (["help", "frobnicate"], "unknown command 'frobnicate'"),
        (["fit"], "usage: finetuner fit MODEL DATA"),
        (["fit", "cnn.onnx"], "usage: finetuner fit MODEL DATA"),
        (["fit", "cnn.onnx", "cnn-train.jsonl", "--lerning-rate", "1"], "lerning-rate"),
        (["fit", "cnn.onnx", "cnn-train.jsonl", "--epochs"], "--epochs needs a value"),
        (["fit", "cnn.onnx", "cnn-train.jsonl", "-e", "3"], "unknown option -e"),
        (["encode", "cnn.onnx"], "usage: finetuner encode MODEL DATA"),
        (["encode", "cnn.onnx", "a", "b"], "usage: finetuner encode MODEL DATA"),
        (["evaluate", "cnn.onnx", "cnn-eval.jsonl", "--limit", "0"], "--limit takes a whole number from 1"),
        (["evaluate", "cnn.onnx", "cnn-eval.jsonl", "--limit", "2x"], "not '2x'"),
        (["evaluate", "cnn.onnx", "cnn-eval.jsonl", "--bogus", "2"], "unknown option --bogus"),
        (["inspect"], "usage: finetuner inspect MODEL"),
        (["inspect", "cnn.onnx", "--pooler", "biggest"], "--pooler takes default|avg|mean|GeM"),
        (["tailor", "cnn.onnx"], "--out"),
        (["inspect", "cnn.onnx", "--json=yes"], "--json is a flag"),
        (["fit", "cnn.onnx", "cnn-train.jsonl", "--quiet=often"], "--quiet is a flag"),
        (["ping"], "usage: finetuner ping HOST:PORT"),
        (["worker"], "usage: finetuner worker"),
    ],
)
def test_usage_errors_exit_with_2(place, words, said):
    result = cli.finetuner(*words, cwd=place.dir)
    assert result.code == 2, result
    if said is None:
        assert "Commands:" in result.out
        return
    assert result.out == "" and said in result.err and len(result.err.splitlines()) == 1, result


def test_a_weight_that_only_decides_is_refused_by_name(place):
    """`gate` takes part in a comparison alone: PyTorch would leave it where it is and say nothing."""
    h, rng = onnx.helper, np.random.default_rng(5)
    weights = {"gate.w": (64, 16), "body.w": (64, 16), "fc.w": (16, 10)}
    nodes = [
        h.make_node("Flatten", ["x"], ["flat"]),
        h.make_node("MatMul", ["flat", "gate.w"], ["gate"], "gate"),
        h.make_node("MatMul", ["flat", "body.w"], ["body"], "body"),
        h.make_node("Greater", ["gate", "body"], ["mask"], "decide"),
        h.make_node("Neg", ["body"], ["other"]),
        h.make_node("Where", ["mask", "body", "other"], ["chosen"], "choose"),
        h.make_node("MatMul", ["chosen", "fc.w"], ["logits"], "fc"),
    ]
    shape = list(place.nets["mlp"].SHAPE)
    graph = h.make_graph(
        nodes, "gated", [h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", *shape])],
        [h.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in weights.items()],
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), place.dir / "gated.onnx")
    words = ["fit", "gated.onnx", "mlp-train.jsonl", "--out", "gated", "--epochs", "1", "--output-dim", "8"]
    result = cli.finetuner(*words, cwd=place.dir)
    assert result.code == 3 and "'gate.w' cannot be trained" in result.err and "decide" in result.err, result.err
    cli.ok(*words, "--freeze", "gate", cwd=place.dir)


def test_nobody_there_exits_with_5(place):
    result = cli.finetuner("ping", "127.0.0.1:1", cwd=place.dir)
    assert result.code == 5 and len(result.err.splitlines()) == 1, result


def test_writing_where_one_cannot(place):
    for words in (
        ["encode", "cnn.onnx", "cnn-eval.jsonl", "--out", "no/such/folder.npy"],
        ["tailor", "cnn.onnx", "--out", "no/such/model.onnx"],
    ):
        result = cli.finetuner(*words, "--quiet", cwd=place.dir)
        assert result.code in (1, 4) and "no/such" in result.err and len(result.err.splitlines()) == 1, result
    folder = place.dir / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear reader")
    result = cli.finetuner("tailor", "cnn.onnx", "--out", "mine", cwd=place.dir)
    assert result.code == 3 and "mine" in result.err, result
    assert (folder / "letter.txt").read_text() == "dear reader"
    (folder / "mine.zip").write_text("dear reader")
    for out in ("mine", "mine/mine.zip"):  # before the first step, not after the last
        result = cli.finetuner("fit", "cnn.onnx", "cnn-train.jsonl", "--out", out, cwd=place.dir)
        assert result.code == 3 and f"{out} exists and is not an artifact" in result.err and "Training" not in result.err, result
    assert sorted(p.name for p in folder.iterdir()) == ["letter.txt", "mine.zip"] and not (place.dir / "mine.work").exists()
    shutil.rmtree(folder)


def test_a_model_is_not_written_over_by_what_is_made_of_it(place, tuned):
    before = (place.dir / "cnn.onnx").read_bytes()
    for words in (["tailor", "cnn.onnx", "--out", "./cnn.onnx"], ["fit", tuned["mlp"].path, "mlp-train.jsonl", "--out", tuned["mlp"].path]):
        result = cli.finetuner(*words, cwd=place.dir)
        assert result.code == 2 and "is the model itself" in result.err, result
    assert (place.dir / "cnn.onnx").read_bytes() == before


def test_options_of_services_say_so(place):
    for words in (["--dataset", "x"], ["--detach"], ["--eval-dataset", "x"], ["--idempotency-key", "x"]):
        for data in ([], ["cnn-train.jsonl"]):
            result = cli.finetuner("fit", "cnn.onnx", *data, *words, cwd=place.dir)
            assert result.code == 2 and f"{words[0]} goes with --server" in result.err, result


def test_all_commands_cut_at_the_same_place(place):
    """A head that only its width gives away: evaluate and encode know the labels of their data as fit does."""
    torch.manual_seed(3)
    nn = torch.nn
    plain = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    cli.export(plain, place.dir / "plain.onnx", (64,))
    rows = [{"tensor": np.asarray(json.loads(line)["tensor"]).ravel().tolist(), "label": json.loads(line)["label"]}
            for line in open(place.dir / "cnn-eval.jsonl")]
    (place.dir / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = cli.ok("fit", "plain.onnx", "plain.jsonl", "--eval", "plain.jsonl", "--out", "plain.zip", "--steps", 1, "--json",
                    "--quiet", cwd=place.dir).json()["metrics"]["before"]
    told = cli.ok("evaluate", "plain.onnx", "plain.jsonl", "--json", cwd=place.dir)
    assert "embedding of 32 numbers" in told.err
    assert told.json()["metrics"]["map_at_r"] == pytest.approx(before["map_at_r"], abs=1e-6)
    assert cli.ok("encode", "plain.onnx", "plain.jsonl", "--out", "p.npy", "--json", cwd=place.dir).json()["dim"] == 32


def test_a_tailored_onnx_is_an_embedding_model(place):
    cli.ok("tailor", "cnn.onnx", "--out", "tailored.onnx", "--prep-options", '{"mean": [0.25]}', cwd=place.dir)
    again = cli.ok("inspect", "tailored.onnx", "--json", cwd=place.dir).json()
    assert again["head"] == "" and again["prep"]["mean"] == [0.25]


@pytest.mark.parametrize("words", [("fit", "cnn.onnx", "cnn-train.jsonl", "--out", "x.onnx"),
                                   ("tailor", "cnn.onnx", "--out", "x.pt"),
                                   ("encode", "cnn.onnx", "cnn-eval.jsonl", "--out", "-")])
def test_out_of_another_format_is_a_slip(place, words):
    result = cli.finetuner(*words, cwd=place.dir)
    assert result.code == 2 and "--out" in result.err
    assert not (place.dir / "x.onnx").exists() and not (place.dir / "x.pt").exists()
