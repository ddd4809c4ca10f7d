#!/usr/bin/env python3
"""Step time of the digits CNN (23 k weights, 8x8 images, batch 64) here and in PyTorch, in one run.

Ours is `finetuner fit --json`; the peer is a plain PyTorch loop with pytorch-metric-learning's semi-hard miner and AdamW,
channels_last, two threads. Rounds alternate; medians and their ratio are printed, with our peak memory and the number
of our allocations inside steps.

Usage: tools/bench digits
"""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from pytorch_metric_learning import losses, miners
from sklearn.datasets import load_digits

BATCH, STEPS, ROUNDS = 64, 300, 3


def net():
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
                         nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64))


def peer(x, y):
    model = net().train().to(memory_format=torch.channels_last)
    miner, loss = miners.TripletMarginMiner(0.2, "semihard"), losses.TripletMarginLoss(0.2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    by_class = [np.flatnonzero(y == c) for c in range(10)]
    rng = np.random.default_rng(0)
    x = torch.from_numpy(x).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(y)
    times = []
    for step in range(STEPS):
        start = time.perf_counter()
        rows = np.concatenate([rng.choice(by_class[c], 4, False) for c in np.arange(16) % 10])
        e = model(x[rows])
        value = loss(e, labels[rows], miner(e, labels[rows]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step >= 50:
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def ours(build, model, data):
    out = subprocess.run([build / "finetuner", "fit", model, data, "--keep-head", "--batch-size", str(BATCH), "--steps", str(STEPS),
                          "--miner", "TripletMarginMiner", "--miner-options", '{"margin": 0.2, "type_of_triplets": "semihard"}',
                          "--loss-options", '{"margin": 0.2}', "--optimizer", "AdamW", "--learning-rate", "0.001",
                          "--out", model.with_suffix(".zip"), "--json", "--quiet"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def main(build="build"):
    torch.set_num_threads(2)
    torch.manual_seed(0)
    digits = load_digits()
    x, y = (digits.images / 16).astype(np.float32)[:, None], digits.target
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, data = folder / "digits.onnx", folder / "digits.jsonl"
        torch.onnx.export(net(), torch.zeros(2, 1, 8, 8), model, dynamo=False, opset_version=17, input_names=["image"],
                          dynamic_axes={"image": {0: "batch"}})
        with open(data, "w") as f:
            for image, label in zip(x, y):
                f.write(json.dumps({"tensor": image.tolist(), "label": int(label)}) + "\n")
        rounds = [(ours(pathlib.Path(build), model, data), peer(x, y)) for _ in range(ROUNDS)]
    mine = statistics.median(BATCH / r["samples_per_second"] * 1e3 for r, _ in rounds)
    torchs = statistics.median(p for _, p in rounds)
    last = rounds[-1][0]
    print(f"digits CNN, batch {BATCH}, {STEPS} steps, median of {ROUNDS} rounds")
    print(f"  finetuner  {mine:7.3f} ms a step  {BATCH / mine * 1e3:9.0f} samples/s   peak memory {last['peak_memory_bytes'] / 1e6:.0f} MB"
          f"   allocations inside steps: {last['allocations_in_steps']}")
    print(f"  PyTorch    {torchs:7.3f} ms a step  {BATCH / torchs * 1e3:9.0f} samples/s")
    print(f"  ratio      {torchs / mine:7.2f} x")


if __name__ == "__main__":
    main(*sys.argv[1:])
