"""Dropout while training, against transformers in training mode.

Masks differ, so distributions are compared: of the loss and of the norm of all gradients over some hundred steps that
change next to nothing, on one batch, as PyTorch with the same weights, loss and probabilities gives them. Every family
has one layer and drops a lot, so that a place that is missing, or one too many, shows. FT_BUILD names the build folder.
"""
import json
import random

import numpy as np
import pytest
import torch
import transformers as tf
from pytorch_metric_learning.losses import TripletMarginLoss
from tokenizers import Tokenizer, models, pre_tokenizers

import finetuner_cli as cli
from test_hf import EVEN, SIZES, T5, DISTIL
from test_resume import checkpoints, journal, read_checkpoint

torch.set_num_threads(1)  # two wait for one another on models this small
STEPS = 400
DROP = dict(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.5)
ONE = dict(SIZES, num_hidden_layers=1)
FLAT = dict(EVEN, num_hidden_layers=1)

CASES = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**ONE, **DROP), add_pooling_layer=False),
    "roberta": lambda: tf.RobertaModel(tf.RobertaConfig(**ONE, **DROP, type_vocab_size=1), add_pooling_layer=False),
    "electra": lambda: tf.ElectraModel(tf.ElectraConfig(**ONE, **DROP, embedding_size=16)),
    "mpnet": lambda: tf.MPNetModel(tf.MPNetConfig(**ONE, **DROP), add_pooling_layer=False),
    "albert": lambda: tf.AlbertModel(tf.AlbertConfig(**ONE, **DROP, embedding_size=16), add_pooling_layer=False),
    "distilbert": lambda: tf.DistilBertModel(tf.DistilBertConfig(**{**DISTIL, "n_layers": 1}, dropout=0.3, attention_dropout=0.5)),
    "t5": lambda: tf.T5EncoderModel(tf.T5Config(**{**T5, "num_layers": 1}, dropout_rate=0.3, feed_forward_proj="gated-silu")),
    "modernbert": lambda: tf.ModernBertModel(tf.ModernBertConfig(
        **FLAT, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, embedding_dropout=0.2,
        attention_dropout=0.4, mlp_dropout=0.3)),
    "nomic": lambda: tf.NomicBertModel(tf.NomicBertConfig(**FLAT, **DROP)),
}
OPTIONS = ["--steps", STEPS, "--batch-size", 12, "--miner", "none", "--optimizer", "SGD", "--learning-rate", 1e-12,
           "--clip-norm", 0, "--loss-options", '{"margin": 1.0}', "--seed", 3, "--quiet", "--json"]


def made(name):
    torch.manual_seed(sorted(CASES).index(name))
    model = CASES[name]()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 1.0 / p.shape[1] ** 0.5 if "embed" not in key and "shared" not in key else 1.0)
            else:
                p.normal_(1.0 if "norm" in key.lower() and "weight" in key else 0.0, 0.2)
    return model


def folder_of(name, where):
    """A model and a tokenizer of single words; 12 texts of 3 classes as documents and as ids."""
    model = made(name)
    model.save_pretrained(where / "model")
    vocab = {"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i for i in range(2, 61)}}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(where / "model" / "tokenizer.json"))
    rng = random.Random(name)
    ids = [[rng.randrange(2, 61) for _ in range(rng.randrange(2, 20))] for _ in range(12)]
    with open(where / "train.jsonl", "w") as file:
        for i, row in enumerate(ids):
            file.write(json.dumps({"text": " ".join(f"w{k}" for k in row), "label": i % 3}) + "\n")
    return model, ids


def samples(model, ids, steps):
    """(loss, norm of the gradients) of so many passes."""
    model.train()
    torch.manual_seed(7)
    longest = max(map(len, ids))
    batch = torch.full((len(ids), longest), model.config.pad_token_id or 0)
    mask = torch.zeros_like(batch)
    for i, row in enumerate(ids):
        batch[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    loss_of = TripletMarginLoss(margin=1.0)
    found = []
    for _ in range(steps):
        model.zero_grad()
        hidden = model(input_ids=batch, attention_mask=mask).last_hidden_state
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        loss = loss_of(pooled, torch.arange(len(ids)) % 3)
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        found.append((loss.item(), norm.item()))
    return np.array(found)


def fit(where, *options):
    cli.ok("fit", "model", "train.jsonl", *OPTIONS, *options, "--work-dir", "work", cwd=where)
    told = np.array([(step["loss"], step["grad_norm"]) for step in journal(where / "work")])
    assert len(told) == STEPS
    return told


def distances(ours, theirs):
    """Of the means, in their standard errors, and of the deviations, as logarithms of what one is of the other."""
    error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
    return abs(ours.mean(0) - theirs.mean(0)) / error, abs(np.log(ours.std(0) / theirs.std(0)))


def is_the_same(ours, theirs):
    """Deviations of 400 draws are off by a few percent, and more where tails are long."""
    means, deviations = distances(ours, theirs)
    return (means < 4.5).all() and (deviations < 0.25).all()


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_spread_as_in_transformers(name, tmp_path):
    model, ids = folder_of(name, tmp_path)
    theirs = samples(model, ids, STEPS)
    ours = fit(tmp_path)
    means, deviations = distances(ours, theirs)
    print(f"{name}: loss {ours.mean(0)[0]:.4f} +- {ours.std(0)[0]:.4f}, theirs {theirs.mean(0)[0]:.4f} +- {theirs.std(0)[0]:.4f};"
          f" gradients {ours.mean(0)[1]:.3f} +- {ours.std(0)[1]:.3f}, theirs {theirs.mean(0)[1]:.3f} +- {theirs.std(0)[1]:.3f};"
          f" means {means.round(1)} errors apart")
    assert is_the_same(ours, theirs)


def test_the_comparison_can_fail_and_the_option_decides(tmp_path):
    model, ids = folder_of("bert", tmp_path)
    theirs = samples(model, ids, STEPS)
    assert not is_the_same(fit(tmp_path, "--dropout", 0.2), theirs)
    assert fit(tmp_path, "--dropout", 0).std(0).max() < 1e-4  # every step is the same
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    assert is_the_same(fit(tmp_path, "--dropout", 0.2), samples(model, ids, STEPS))


def test_resumed_with_dropout_bit_for_bit(tmp_path):
    folder_of("bert", tmp_path)
    words = ["model", "train.jsonl", "--steps", 12, "--batch-size", 12, "--miner", "none", "--learning-rate", 1e-3,
             "--checkpoint-steps", 5, "--seed", 3, "--quiet"]
    cli.ok("fit", *words, "--work-dir", "whole", cwd=tmp_path)
    cli.ok("fit", *words, "--work-dir", "cut", cwd=tmp_path)
    last = checkpoints(tmp_path / "cut")
    for step in last:
        if step > 5:
            last[step].unlink()
    cli.ok("fit", *words, "--work-dir", "cut", "--resume", cwd=tmp_path)
    whole, cut = (read_checkpoint(checkpoints(tmp_path / name)[12]) for name in ("whole", "cut"))
    for name in whole[2]:
        assert whole[2][name] == cut[2][name], name


@pytest.mark.parametrize("value,code", [("most", 2), ("1.5", 2), ("-0.1", 2)])
def test_what_is_no_probability_is_refused(value, code, tmp_path):
    folder_of("bert", tmp_path)
    result = cli.finetuner("fit", "model", "train.jsonl", "--dropout", value, cwd=tmp_path)
    assert result.code == code and "0 .. 1" in result.err
