"""Golden losses, gradients and triplet counts from pytorch-metric-learning, in float64.

Writes tests/data/losses.bin: "FTLOSS01", then little-endian float64 only. Per case: 12 parameters (see FIELDS), labels (B),
embeddings (B, D), reference labels (R), reference embeddings (R, D), then loss, triplets that could be, triplets mined,
gradient (B, D), gradient of the references (R, D). R = 0: the batch is its own reference set.

FACENET_SEMIHARD is not in pytorch-metric-learning: it is written out here from sentence-transformers'
BatchSemiHardTripletLoss (negatives_outside, negatives_inside, mean over all positive pairs).
"""
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

FIELDS = "kind squared normalize miner miner_margin margin neg_margin reducer batch width refs seed".split()
NONE, ALL, HARD, SEMIHARD, EASY, BATCH_HARD, FACENET = range(7)
TRIPLET, CONTRASTIVE = range(2)
AVG_NON_ZERO, MEAN = range(2)
f32 = lambda x: float(np.float32(x))  # margins are float32 in struct ft_attrs


def labels_of(kind, n, rng):
    if kind == "mixed":  # duplicates and, nearly always, singletons
        return rng.integers(0, max(2, n // 2), n)
    if kind == "pairs":
        return rng.permutation(np.arange(n) // 2)
    if kind == "distinct":
        return rng.permutation(n)
    if kind == "alike":
        return np.zeros(n, dtype=np.int64)
    raise ValueError(kind)


def embeddings_of(n, width, rng, copies):
    e = rng.normal(size=(n, width)).astype(np.float32).astype(np.float64)
    if copies:  # equal rows, with equal and with different labels
        e[n // 2] = e[0]
        e[n - 1] = e[1]
        e[n // 3] = e[0]
    return e


def distance_of(c):
    return distances.LpDistance(normalize_embeddings=bool(c["normalize"]), p=2, power=2 if c["squared"] else 1)


def miner_of(c):
    kinds = {ALL: "all", HARD: "hard", SEMIHARD: "semihard", EASY: "easy"}
    if c["miner"] in kinds:
        return miners.TripletMarginMiner(margin=c["miner_margin"], type_of_triplets=kinds[c["miner"]], distance=distance_of(c))
    return miners.BatchHardMiner(distance=distance_of(c)) if c["miner"] == BATCH_HARD else None


def facenet(c, e, labels):
    """For each (anchor, positive): the nearest negative farther than the positive, else the farthest negative."""
    d = distance_of(c)(e)
    terms = []
    for i in range(len(labels)):
        negatives = (labels != labels[i]).nonzero().flatten()
        for j in range(len(labels)):
            if j == i or labels[j] != labels[i] or len(negatives) == 0:
                continue
            outside = d[i, negatives][d[i, negatives] > d[i, j]]
            negative = outside.min(dim=0).values if len(outside) else d[i, negatives].max(dim=0).values
            terms.append(torch.clamp(d[i, j] - negative + c["margin"], min=0))
    if not terms:
        return (e * 0).sum(), 0
    terms = torch.stack(terms)
    if c["reducer"] == MEAN:
        return terms.mean(), len(terms)
    active = terms[terms > 0]
    return (active.mean() if len(active) else (e * 0).sum()), len(terms)


def run(c, e, labels, refs, ref_labels):
    e = torch.tensor(e, requires_grad=True)
    labels = torch.tensor(labels)
    kwargs = {}
    if c["refs"]:
        refs = torch.tensor(refs, requires_grad=True)
        kwargs = {"ref_emb": refs, "ref_labels": torch.tensor(ref_labels)}
    possible = len(lmu.get_all_triplets_indices(labels, kwargs.get("ref_labels"))[0])
    if c["miner"] == FACENET:
        loss, mined = facenet(c, e, labels)
    else:
        reducer = reducers.AvgNonZeroReducer() if c["reducer"] == AVG_NON_ZERO else reducers.MeanReducer()
        if c["kind"] == TRIPLET:
            function = losses.TripletMarginLoss(margin=c["margin"], distance=distance_of(c), reducer=reducer)
        else:
            function = losses.ContrastiveLoss(pos_margin=c["margin"], neg_margin=c["neg_margin"], distance=distance_of(c), reducer=reducer)
        miner = miner_of(c)
        tuples = miner(e, labels, **kwargs) if miner else None
        mined = len(tuples[0]) if miner else possible
        loss = function(e, labels, tuples, **kwargs)
    loss.backward()
    # No loss, no graph: PML's zero loss does not touch the references.
    gradients = [torch.zeros_like(x).numpy() if x.grad is None else x.grad.numpy() for x in ([e, refs] if c["refs"] else [e])]
    return loss.item(), possible, mined, gradients


def cases():
    seed = 0
    for miner in (NONE, ALL, HARD, SEMIHARD, EASY, BATCH_HARD, FACENET):
        for reducer in (AVG_NON_ZERO, MEAN):
            for labels, copies, normalize, squared in (
                ("mixed", False, 1, 0),
                ("mixed", True, 1, 0),
                ("pairs", True, 0, 0),
                ("mixed", False, 0, 1),
                ("distinct", False, 1, 0),
                ("alike", False, 1, 0),
            ):
                seed += 1
                common = dict(miner=miner, reducer=reducer, labels=labels, copies=copies, normalize=normalize, squared=squared, seed=seed)
                yield dict(common, kind=TRIPLET, batch=10 + seed % 5, width=2 + seed % 5, margin=f32(0.05 if seed % 2 else 0.3),
                           miner_margin=f32(0.2), neg_margin=0.0, refs=0)
    for miner in (NONE, ALL, SEMIHARD, BATCH_HARD):
        for reducer in (AVG_NON_ZERO, MEAN):
            for labels, copies, pos_margin, neg_margin in (("mixed", False, 0.0, 1.0), ("mixed", True, 0.25, 0.75), ("pairs", True, 0.0, 0.5)):
                seed += 1
                yield dict(kind=CONTRASTIVE, miner=miner, reducer=reducer, labels=labels, copies=copies, normalize=1, squared=0, seed=seed,
                           batch=11 + seed % 3, width=3 + seed % 4, margin=pos_margin, neg_margin=neg_margin, miner_margin=f32(0.2), refs=0)
    for miner in (NONE, ALL, HARD, SEMIHARD, EASY, BATCH_HARD):  # a reference set of its own: cross-batch memory
        for kind in (TRIPLET, CONTRASTIVE):
            seed += 1
            yield dict(kind=kind, miner=miner, reducer=AVG_NON_ZERO, labels="mixed", copies=False, normalize=1, squared=0, seed=seed,
                       batch=7, width=4, margin=f32(0.1), neg_margin=0.75, miner_margin=f32(0.2), refs=13)


def main(path):
    out = [b"FTLOSS01"]
    every = list(cases())
    numbers = [float(len(every))]
    for c in every:
        rng = np.random.default_rng(c["seed"])
        labels = labels_of(c["labels"], c["batch"], rng)
        e = embeddings_of(c["batch"], c["width"], rng, c["copies"])
        ref_labels = labels_of("mixed", c["refs"], rng) % 5 if c["refs"] else np.zeros(0)
        labels = labels % 5 if c["refs"] else labels
        refs = embeddings_of(c["refs"], c["width"], rng, False) if c["refs"] else np.zeros((0, c["width"]))
        loss, possible, mined, gradients = run(c, e, labels, refs, ref_labels)
        numbers += [float(c[f]) for f in FIELDS]
        for part in (labels, e, ref_labels, refs, [loss, possible, mined], *gradients):
            numbers += [float(x) for x in np.asarray(part).ravel()]
    out.append(struct.pack(f"<{len(numbers)}d", *numbers))
    Path(path).write_bytes(b"".join(out))
    print(f"{len(every)} cases, {8 * len(numbers) + 8} bytes; pytorch-metric-learning, torch {torch.__version__}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "data" / "losses.bin")
