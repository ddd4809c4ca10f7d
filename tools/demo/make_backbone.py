#!/usr/bin/env python3
"""Makes tools/demo/characters.onnx: a small CNN classifier that PyTorch trained to tell ten characters apart.

It is the demo's backbone "made by another program": what a user brings. It sees the first ten of the training
characters, in the training fonts, and nothing else; the demo then fine-tunes it on all training characters and measures
retrieval on characters that neither has seen. BatchNorm is kept (not folded), as training needs it.

Usage: build/tools/glyphs OUT && python tools/demo/make_backbone.py OUT tools/demo/characters.onnx
"""
import pathlib
import sys

import numpy as np
import onnx
import torch
from PIL import Image


class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()

        def block(i, o):
            return [torch.nn.Conv2d(i, o, 3, padding=1, bias=False), torch.nn.BatchNorm2d(o), torch.nn.ReLU()]

        pool = torch.nn.MaxPool2d(2)
        self.features = torch.nn.Sequential(*block(1, 32), pool, *block(32, 64), pool, *block(64, 128), pool)
        self.pool = torch.nn.AdaptiveAvgPool2d(1)
        self.embed = torch.nn.Linear(128, 64)
        self.classifier = torch.nn.Linear(64, classes)

    def forward(self, x):
        x = torch.flatten(self.pool(self.features(x)), 1)
        return self.classifier(self.embed(x))  # a linear bottleneck: the embedding a user wants


def load(folder, classes):
    images, labels = [], []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).glob("*.png")):
            images.append(np.asarray(Image.open(path).convert("L"), np.float32) / 255)
            labels.append(label)
    return torch.from_numpy(np.stack(images)[:, None]), torch.tensor(labels)


def main(data, out):
    torch.manual_seed(0)
    torch.set_num_threads(2)
    train = pathlib.Path(data) / "train"
    classes = sorted(p.name for p in train.iterdir())[:10]
    x, y = load(train, classes)
    net = Net(len(classes)).train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    for epoch in range(12):
        for rows in torch.randperm(len(x)).split(128):
            loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}")
    net.eval()
    x, y = load(pathlib.Path(data) / "test", classes)
    with torch.no_grad():
        print(f"held-out fonts: accuracy {(net(x).argmax(1) == y).float().mean().item():.4f} on {', '.join(classes)}")
    torch.onnx.export(net, torch.zeros(2, 1, 32, 32), out, dynamo=False, opset_version=17,
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
                      input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}})
    onnx.checker.check_model(out)
    print(f"{out}: {pathlib.Path(out).stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
