"""--memory: the batch that fits is taken, what does not fit is refused with the figures, and the system agrees.

FT_BUILD names the build folder. Figures are of this machine; resident memory is the system's count (VmHWM).
"""
import re

import numpy as np
import pytest
import torch

import finetuner_cli as cli


class Wide(torch.nn.Module):
    """Few weights, large activations: batches decide what it takes."""

    SHAPE = (3, 64, 64)

    def __init__(self, classes=10):
        super().__init__()
        conv = torch.nn.Conv2d
        self.features = torch.nn.Sequential(
            conv(3, 32, 3, padding=1), torch.nn.ReLU(), conv(32, 32, 3, padding=1), torch.nn.ReLU(),
            conv(32, 32, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        )
        self.classifier = torch.nn.Linear(32, classes)

    def forward(self, x):
        return self.classifier(self.features(x))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp("memory")
    torch.manual_seed(cli.SEED)
    cli.export(Wide().eval(), where / "wide.onnx", Wide.SHAPE)
    rng = np.random.default_rng(cli.SEED)
    with open(where / "train.jsonl", "w", encoding="utf-8") as out:
        for i in range(128):
            out.write(cli.jsonl_line(tensor=rng.random(Wide.SHAPE).round(2).tolist(), label=i % 32))
    return where


WORDS = ["fit", "wide.onnx", "train.jsonl", "--eval", "train.jsonl", "--steps", 2, "--quiet", "--out", "out.zip"]


def test_the_batch_that_fits_is_taken(files):
    free = cli.ok(*WORDS, "--json", cwd=files).json()
    assert free["batch"] == 128
    print(f"\n{'memory':>8} {'batch':>6} {'resident':>9}")
    print(f"{'':>8} {free['batch']:6d} {free['peak_memory_bytes'] / 1e6:7.0f}MB")
    batches = []
    for text, size in (("300M", 300 << 20), ("220M", 220 << 20), ("160M", 160 << 20)):
        told = cli.ok(*WORDS, "--json", "--memory", text, cwd=files).json()
        print(f"{text:>8} {told['batch']:6d} {told['peak_memory_bytes'] / 1e6:7.0f}MB")
        assert told["peak_memory_bytes"] <= size
        assert told["batch"] % 4 == 0 and 8 <= told["batch"] < 128
        batches.append(told["batch"])
    assert batches == sorted(set(batches), reverse=True)
    # Enough is enough: the default stays, and a budget does not change the result.
    rich = cli.ok(*WORDS, "--json", "--memory", "8G", cwd=files).json()
    assert rich["batch"] == 128 and rich["loss"] == free["loss"]


def test_what_does_not_fit_is_refused_with_the_figures(files):
    result = cli.finetuner(*WORDS, "--memory", "220M", "--batch-size", 128, cwd=files)
    assert result.code == 3 and len(result.err.splitlines()) == 1, result
    print("\n" + result.err)
    figures = re.search(r"batches of 128 documents need (\d+) MB .* memory is limited to (\d+) MB: .* fits is (\d+) = (\d+) labels x 4", result.err)
    need, has, fits, labels = map(int, figures.groups())
    assert need > has == 231 and fits == labels * 4
    assert cli.ok(*WORDS, "--json", "--memory", "220M", "--batch-size", fits, cwd=files).json()["batch"] == fits
    assert cli.finetuner(*WORDS, "--memory", "220M", "--batch-size", fits + 4, cwd=files).code == 3
    small = cli.finetuner(*WORDS, "--memory", "80M", cwd=files)
    assert small.code == 3 and "not even two labels fit" in small.err
    for text in ("lots", "-1", "1.5G", "5 M"):
        assert cli.finetuner(*WORDS, "--memory", text, cwd=files).code == 2


def test_encode_takes_smaller_batches(files):
    words = ["encode", "wide.onnx", "train.jsonl", "--batch-size", 128]
    cli.ok(*words, "--quiet", "--out", "a.npy", cwd=files)
    result = cli.ok(*words, "--memory", "110M", "--out", "b.npy", cwd=files)
    fits = int(re.search(r"batches of (\d+) documents, the most that fits", result.err).group(1))
    assert 1 <= fits < 128
    a, b = np.load(files / "a.npy"), np.load(files / "b.npy")
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # other batches, the same sums in another order
    result = cli.finetuner(*words, "--memory", "30M", "--out", "c.npy", cwd=files)
    assert result.code == 3 and "batches of 1 documents need" in result.err
    assert cli.finetuner(*words, "--memory", "much", "--out", "c.npy", cwd=files).code == 2
