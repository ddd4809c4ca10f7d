"""The frozen prefix: computed once and kept, or in every step, the same bits; and what is kept is what it must be.

FT_BUILD names the build folder. The figures that are printed are of this machine.
"""
# alone: seconds are compared
import signal
import time

import numpy as np
import onnx
import pytest
import torch

import finetuner_cli as cli

SEED = 11
OPTIONS = ["--batch-size", 60, "--seed", SEED, "--quiet"]


class Residual(torch.nn.Module):
    """A network whose frozen part ends in the middle of residual and squeeze-excitation blocks."""

    SHAPE = (1, 8, 8)

    def __init__(self, classes=10, width=16):
        super().__init__()
        conv = torch.nn.Conv2d
        self.stem = torch.nn.Sequential(conv(1, width, 3, padding=1), torch.nn.ReLU())
        self.one = torch.nn.Sequential(conv(width, width, 3, padding=1), torch.nn.ReLU(), conv(width, width, 3, padding=1))
        self.gate = torch.nn.Sequential(
            torch.nn.AdaptiveAvgPool2d(1), conv(width, 4, 1), torch.nn.ReLU(), conv(4, width, 1), torch.nn.Sigmoid()
        )
        self.two = torch.nn.Sequential(conv(width, width, 3, padding=1), torch.nn.ReLU(), conv(width, width, 3, padding=1))
        self.pool = torch.nn.AdaptiveAvgPool2d(1)
        self.neck = torch.nn.Linear(width, 24)
        self.classifier = torch.nn.Linear(24, classes)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(x + self.one(x))
        x = x * self.gate(x)
        x = torch.relu(x + self.two(x))
        return self.classifier(torch.relu(self.neck(self.pool(x).flatten(1))))


def summary_of(words, cwd):
    return cli.ok("fit", *words, "--json", cwd=cwd).json()


def same_result(a, b):
    for key in ["metrics", "history", "loss", "steps", "epochs", "best_epoch"]:
        assert a[key] == b[key], key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp("prefix")
    images, labels = cli.digits(1000)
    for kind in (cli.Cnn, Residual):
        net = cli.half_trained(kind)
        cli.export(net, where / f"{kind.__name__}.onnx", net.SHAPE, keep_batchnorm=True)
    cli.export(cli.half_trained(cli.Mlp), where / "Mlp.onnx", cli.Mlp.SHAPE)
    cli.write_jsonl(where / "train.jsonl", images[:600], labels[:600])
    cli.write_jsonl(where / "eval.jsonl", images[600:], labels[600:])
    return where


CASES = [
    ("Cnn", "all", ["--output-dim", 24]),  # all that came with the model; the projection is trained
    ("Cnn", "all", []),  # all but the last layer
    ("Cnn", "2", []),  # conv and BatchNorm at the front
    ("Residual", "stem,one", []),
    ("Residual", "stem,one,gate", []),  # inside a squeeze-excitation
    ("Residual", "stem,two", []),  # not a prefix as a whole: only the stem is
    ("Residual", "all", ["--val-split", 0.2, "--callbacks", '[{"name": "BestModelCheckpoint"}]']),
    ("Mlp", "1", []),
]


@pytest.mark.parametrize("model,freeze,more", CASES)
def test_cached_is_uncached_bit_for_bit(files, model, freeze, more):
    words = [f"{model}.onnx", "train.jsonl", "--eval", "eval.jsonl", "--epochs", 3, "--freeze", freeze, *OPTIONS, *more]
    kept = summary_of([*words, "--out", "kept.zip"], files)
    again = summary_of([*words, "--out", "again.zip", "--activation-cache", "off"], files)
    assert kept["frozen_prefix"]["kept"] and not again["frozen_prefix"]["kept"]
    assert kept["frozen_prefix"]["values"] == again["frozen_prefix"]["values"]
    print(model, freeze, kept["frozen_prefix"])
    same_result(kept, again)
    assert (files / "kept.zip").read_bytes() == (files / "again.zip").read_bytes()
    assert kept["metrics"]["after"] != kept["metrics"]["before"]
    assert kept["allocations_in_steps"] == again["allocations_in_steps"] == 0


def test_memory_is_counted(files):
    """A file in its place is tested in test_prefix.c: no limit of memory so small is at hand here."""
    words = ["Cnn.onnx", "train.jsonl", "--epochs", 2, "--freeze", "all", "--output-dim", 24, *OPTIONS]
    summary = summary_of([*words, "--out", "mem.zip"], files)
    assert summary["frozen_prefix"]["memory_bytes"] == 600 * summary["frozen_prefix"]["bytes_per_item"]
    assert summary["frozen_prefix"]["file_bytes"] == 0


def test_what_is_not_a_prefix_has_none(files):
    for model, freeze in (("Residual", "two"), ("Cnn", "none"), ("Mlp", "layer-that-is-last")):
        if freeze == "layer-that-is-last":
            result = cli.finetuner("fit", f"{model}.onnx", "train.jsonl", "--freeze", freeze, *OPTIONS, cwd=files)
            assert result.code == 3 and freeze in result.err
            continue
        words = [f"{model}.onnx", "train.jsonl", "--steps", 12, "--freeze", freeze, *OPTIONS, "--out", "none.zip"]
        assert summary_of(words, files)["frozen_prefix"] is None


def test_few_steps_are_not_worth_a_pass(files):
    words = ["Cnn.onnx", "train.jsonl", "--freeze", "all", "--output-dim", 24, *OPTIONS, "--out", "few.zip"]
    assert not summary_of([*words, "--steps", 9], files)["frozen_prefix"]["kept"]
    assert summary_of([*words, "--steps", 10], files)["frozen_prefix"]["kept"]


def test_resumed_with_the_cache_bit_for_bit(files):
    words = [
        "Residual.onnx", "train.jsonl", "--eval", "eval.jsonl", "--steps", 80, "--freeze", "stem,one,gate", *OPTIONS,
        "--checkpoint-steps", 7,
    ]
    whole = summary_of([*words, "--out", "whole.zip", "--work-dir", "whole"], files)
    assert whole["frozen_prefix"]["kept"]
    child = cli.start("fit", *words, "--out", "cut.zip", "--work-dir", "cut", cwd=files)
    journal = files / "cut" / "steps.jsonl"
    while child.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 25):
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    resumed = summary_of([*words, "--out", "cut.zip", "--work-dir", "cut", "--resume"], files)
    assert 0 < resumed["resumed_from"] < 80
    same_result(whole, resumed)
    assert (files / "whole.zip").read_bytes() == (files / "cut.zip").read_bytes()
    # A cache that is off goes on with what one that was on began, and ends the same.
    child = cli.start("fit", *words, "--out", "cut2.zip", "--work-dir", "cut2", cwd=files)
    journal = files / "cut2" / "steps.jsonl"
    while child.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 25):
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    other = [*words, "--out", "cut2.zip", "--work-dir", "cut2", "--resume", "--activation-cache", "off"]
    same_result(whole, summary_of(other, files))
    assert (files / "whole.zip").read_bytes() == (files / "cut2.zip").read_bytes()


def test_frozen_layers_are_in_the_artifact_as_they_were(files):
    """Frozen weights, and the statistics of frozen BatchNorms, leave as they came."""
    words = ["Cnn.onnx", "train.jsonl", "--epochs", 1, "--freeze", "all", "--output-dim", 24, *OPTIONS, "--out", "keep"]
    summary_of(words, files)
    before = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(files / "Cnn.onnx").graph.initializer}
    written = next((files / "keep" / "models").glob("*/model.onnx"))
    after = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(written).graph.initializer}
    held = [name for name in before if name in after and not name.startswith("classifier")]
    assert len([n for n in held if "running" in n]) == 4 and len(held) >= 10
    for name in held:
        assert np.array_equal(before[name], after[name]), name


class Deep(torch.nn.Module):
    """ResNet-18's blocks for 32 x 32 images in grey."""

    SHAPE = (1, 32, 32)

    class Block(torch.nn.Module):
        def __init__(self, a, b, stride):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(a, b, 3, stride, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(b)
            self.conv2 = torch.nn.Conv2d(b, b, 3, 1, 1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(b)
            self.down = torch.nn.Identity()
            if stride != 1 or a != b:
                self.down = torch.nn.Sequential(torch.nn.Conv2d(a, b, 1, stride, bias=False), torch.nn.BatchNorm2d(b))

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + self.down(x))

    def __init__(self, classes=10):
        super().__init__()
        wide = [64, 64, 128, 256, 512]
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(1, 64, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(64), torch.nn.ReLU())
        self.layers = torch.nn.Sequential(
            *[self.Block(wide[i // 2] if i % 2 == 0 else wide[i // 2 + 1], wide[i // 2 + 1], 2 if i in (2, 4, 6) else 1) for i in range(8)]
        )
        self.fc = torch.nn.Linear(512, classes)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


def test_the_second_epoch_is_ten_times_faster(tmp_path):
    """ResNet-18-like, 32 x 32: all but a projection frozen, against nothing frozen."""
    torch.manual_seed(SEED)
    cli.export(Deep().eval(), tmp_path / "deep.onnx", Deep.SHAPE, keep_batchnorm=True)
    images, labels = cli.digits(128)
    big = np.kron(images, np.ones((1, 4, 4), np.float32))
    cli.write_jsonl(tmp_path / "train.jsonl", big, labels, shape=Deep.SHAPE)
    words = ["deep.onnx", "train.jsonl", "--batch-size", 32, "--seed", SEED, "--output-dim", 64, "--quiet"]
    free = summary_of([*words, "--epochs", 1, "--out", "free.zip"], tmp_path)
    kept = summary_of([*words, "--epochs", 20, "--freeze", "all", "--out", "kept.zip"], tmp_path)
    assert free["frozen_prefix"] is None and kept["frozen_prefix"]["kept"]
    # The pass over all documents comes before the first step and is not counted with the steps.
    free_epoch, kept_epoch, once = free["train_seconds"], kept["train_seconds"] / 20, kept["frozen_prefix"]["seconds"]
    print(
        f"\nResNet-18-like, 128 images of 32 x 32, batch 32: unfrozen {free_epoch:.2f} s an epoch; frozen: one pass of"
        f" {once:.2f} s, then {kept_epoch:.4f} s an epoch: {free_epoch / kept_epoch:.0f} times faster"
    )
    assert free_epoch / kept_epoch >= 10
    assert once + kept_epoch < free_epoch  # faster from the first epoch on
