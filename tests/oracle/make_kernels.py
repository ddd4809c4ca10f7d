"""Golden calls of the rows of kernels/ops.def from PyTorch in float64: what device `ref` must reproduce.

Writes tests/data/kernels.bin: "FTKERN01", then little-endian float64 only. Number of cases; per case: op name as 24 bytes,
number of attributes, (index into ATTRS, value) pairs, number of inputs and outputs, per tensor: type (0 float, 1 int32, 2 int64),
rank, extents, elements. Gradients come from autograd.
"""
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ATTRS = ["rank"] + [f"{n}{i}" for n in ("kernel", "stride", "dilation", "begin", "end", "out") for i in range(2)]
ATTRS += "group axis count_include_pad kind trans_a trans_b alpha beta eps momentum lo hi count".split()
f32 = lambda x: float(np.float32(x))  # attributes are float32
rng = torch.Generator().manual_seed(7)
cases = []


def rand(*shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def leaf(x):
    return x.clone().requires_grad_()


def emit(op, attrs, inputs, outputs):
    cases.append((op, attrs, inputs, outputs))


def grads(y, dy, *inputs):
    return torch.autograd.grad(y, inputs, dy)


def window(kernel, stride=(1, 1), dilation=(1, 1), begin=(0, 0), end=None, out=(0, 0), rank=2):
    a = {"rank": rank}
    for name, values in (("kernel", kernel), ("stride", stride), ("dilation", dilation), ("begin", begin), ("end", end or begin), ("out", out)):
        for i in range(rank):
            a[f"{name}{i}"] = values[i]
    return a


def convolutions():
    for shape, w, group, bias, args in (
        ((2, 3, 7, 6), (4, 3, 3, 3), 1, True, dict(begin=(1, 1))),
        ((1, 6, 9, 8), (9, 2, 3, 2), 3, False, dict(stride=(1, 2), dilation=(2, 1), begin=(2, 1))),
        ((2, 4, 5, 5), (8, 1, 3, 3), 4, True, dict(stride=(2, 1))),
        ((2, 5, 11), (6, 5, 4), 1, True, dict(stride=(3,), begin=(2,), dilation=(1,))),
        ((1, 3, 5, 5), (2, 3, 3, 3), 1, False, dict(begin=(1, 0), end=(0, 2))),
    ):
        rank = len(shape) - 2
        args = {"stride": (1, 1)[:rank], "dilation": (1, 1)[:rank], "begin": (0, 0)[:rank], **args}
        end = args.pop("end", args["begin"])
        x, w, b = leaf(rand(*shape)), leaf(rand(*w)), rand(w[0]) if bias else None
        pads = [p for i in reversed(range(rank)) for p in (args["begin"][i], end[i])]
        conv = F.conv2d if rank == 2 else F.conv1d
        y = conv(F.pad(x, pads), w, b, stride=args["stride"], dilation=args["dilation"], groups=group)
        dy = rand(*y.shape)
        dx, dw = grads(y, dy, x, w)
        a = dict(window(tuple(w.shape[2:]), end=end, rank=rank, **args), group=group)
        emit("conv", a, [x, w] + ([b] if bias else []), [y])
        emit("conv_bwd_data", a, [dy, w, x], [dx])
        emit("conv_bwd_weight", a, [x, dy, w], [dw])


def normalisations():
    for shape in ((4, 3), (2, 5, 3, 4), (3, 2, 7)):
        for eps, momentum in ((f32(1e-5), f32(0.1)), (f32(1e-3), f32(0.3))):
            c = shape[1]
            x, scale, bias = leaf(rand(*shape)), leaf(rand(c)), leaf(rand(c))
            mean, var = rand(c), rand(c).abs() + 0.1
            a = {"eps": eps, "momentum": momentum}
            y = F.batch_norm(x, mean, var, scale, bias, False, momentum, eps)
            dy = rand(*shape)
            emit("batchnorm", a, [x, scale, bias, mean, var], [y])
            emit("batchnorm_bwd", a, [dy, x, scale, mean, var], list(grads(y, dy, x, scale, bias)))
            new_mean, new_var = mean.clone(), var.clone()
            y = F.batch_norm(x, new_mean, new_var, scale, bias, True, momentum, eps)
            dims = [0] + list(range(2, len(shape)))
            save_mean = x.detach().mean(dims)
            save_invstd = 1 / torch.sqrt(x.detach().var(dims, unbiased=False) + eps)
            emit("batchnorm_train", a, [x, scale, bias, mean, var], [y, save_mean, save_invstd, new_mean, new_var])
            emit("batchnorm_train_bwd", a, [dy, x, scale, save_mean, save_invstd], list(grads(y, dy, x, scale, bias)))


def pools():
    for shape, kernel, stride, pad, dilation, ceil in (
        ((2, 3, 8, 7), (2, 3), (2, 1), (0, 1), (1, 1), False),
        ((1, 2, 7, 8), (3, 3), (2, 2), (1, 1), (1, 1), True),
        ((1, 2, 6, 6), (3, 3), (2, 2), (0, 0), (1, 1), True),
        ((1, 2, 9, 9), (3, 2), (1, 2), (1, 1), (2, 3), False),
    ):
        x = leaf((rand(*shape) * 3).floor())  # ties
        y, where = F.max_pool2d(x, kernel, stride, pad, dilation, ceil, return_indices=True)
        dy = rand(*y.shape)
        a = window(kernel, stride, dilation, pad, out=tuple(y.shape[2:]))
        emit("maxpool", a, [x], [y, where.to(torch.int32)])
        emit("maxpool_bwd", a, [dy, where.to(torch.int32), x], [grads(y, dy, x)[0]])
        if dilation != (1, 1):
            continue
        for include in (0, 1):
            x = leaf(rand(*shape))
            y = F.avg_pool2d(x, kernel, stride, pad, ceil, bool(include))
            dy = rand(*y.shape)
            a = dict(window(kernel, stride, dilation, pad, out=tuple(y.shape[2:])), count_include_pad=include)
            emit("avgpool", a, [x], [y])
            emit("avgpool_bwd", a, [dy, x], [grads(y, dy, x)[0]])


def matrices():
    for a_shape, b_shape in (((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5))):
        for trans_a in (0, 1):
            for trans_b in (0, 1):
                a, b, bias = rand(*a_shape), rand(*b_shape), rand(5)
                y = 0.5 * (a @ b) + bias
                a = a.transpose(-1, -2).contiguous() if trans_a else a
                b = b.transpose(-1, -2).contiguous() if trans_b else b
                emit("matmul", {"trans_a": trans_a, "trans_b": trans_b, "alpha": 0.5}, [a, b, bias], [y])


def elements():
    grid = (rand(40) * 4).floor() / 4
    dy = rand(40)

    def both(op, attrs, function, x, keep="y"):
        x = leaf(x)
        y = function(x)
        emit(op, attrs, [x], [y])
        emit(op + "_bwd", attrs, [dy, y if keep == "y" else x], [grads(y, dy, x)[0]])

    both("relu", {}, torch.relu, grid)
    both("sigmoid", {}, torch.sigmoid, rand(40))
    both("tanh", {}, torch.tanh, rand(40))
    both("leaky_relu", {"alpha": f32(0.01)}, lambda x: F.leaky_relu(x, f32(0.01)), grid, "x")
    # The grid holds the bounds themselves: no gradient there, as hardtanh and relu6 have it, and clamp since 2.15.
    for lo, hi in ((-0.5, 0.75), (-np.inf, 0.5), (0.0, np.inf)):
        both("clip", {"lo": lo, "hi": hi}, lambda x: torch.clamp(x, lo, hi), grid, "x")
    both("clip", {"lo": -0.5, "hi": 0.75}, lambda x: F.hardtanh(x, -0.5, 0.75), grid, "x")
    for axis in range(3):
        x, dz = leaf(rand(3, 4, 5) * 5), rand(3, 4, 5)
        for op, function in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
            y = function(x, axis)
            emit(op, {"axis": axis}, [x], [y])
            emit(op + "_bwd", {"axis": axis}, [dz, y], [grads(y, dz, x)[0]])


def embeddings():
    rows = rand(6, 5)
    rows[1] = 0.0
    rows[2] *= 1e-9  # shorter than eps
    x, dy, eps = leaf(rows), rand(6, 5), f32(1e-6)
    y = F.normalize(x, dim=-1, eps=eps)
    emit("l2_normalize", {"eps": eps}, [x], [y, x.norm(dim=-1)])
    emit("l2_normalize_bwd", {"eps": eps}, [dy, y, x.norm(dim=-1)], [grads(y, dy, x)[0]])
    a, b = rand(7, 4), rand(5, 4)
    b[1], b[4] = a[0], a[6]  # distance 0: gradient 0
    a, b, dd = leaf(a), leaf(b), rand(7, 5)
    for kind in (0, 1):
        d = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        d = d * d if kind else d
        emit("pdist", {"kind": kind}, [a, b], [d])
        emit("pdist_bwd", {"kind": kind}, [dd, d, a, b], list(grads(d, dd, a, b)))


def optimisers():
    def steps(make, state_names, op, kind, hyper):
        p = leaf(rand(9))
        optimiser = make([p])
        for t in range(1, 4):
            state = optimiser.state[p]
            before = [p.detach().clone()] + [state.get(n).clone() if state.get(n) is not None else torch.zeros(9, dtype=torch.float64) for n in state_names]
            p.grad = rand(9)
            g = p.grad.clone()
            optimiser.step()
            state = optimiser.state[p]
            after = [p.detach().clone()] + [state[n].clone() if state.get(n) is not None else b for n, b in zip(state_names, before[1:])]
            h = torch.tensor(hyper(t), dtype=torch.float64)
            emit(op, {"kind": kind}, [before[0], g, *before[1:], h], after)

    for momentum, dampening, nesterov, decay in ((0, 0, False, 0), (0, 0, False, 0.1), (0.9, 0, False, 0.01), (0.9, 0.3, False, 0), (0.8, 0, True, 0.01)):
        steps(lambda p: torch.optim.SGD(p, 0.1, momentum, dampening, decay, nesterov), ["momentum_buffer"], "sgd_step", int(nesterov),
              lambda t: [0.1, momentum, dampening, 0, decay, 0.0 if t == 1 else 1.0, 0, 1])
    for kind, make in ((0, torch.optim.Adam), (1, torch.optim.AdamW)):
        for decay in (0.0, 0.05):
            steps(lambda p: make(p, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=decay), ["exp_avg", "exp_avg_sq"], "adam_step", kind,
                  lambda t: [0.01, 0.9, 0.99, 1e-8, decay, 1 - 0.9**t, 1 - 0.99**t, 1])


def batches():
    """Forms of sequences: (shape of the tokens, seq, rows of each sequence's tokens, their places)."""
    spans = [(1, 5), (6, 1), (7, 9)]  # filler before the first and behind the last
    rows = [torch.arange(b, b + n) for b, n in spans]
    yield (18,), torch.tensor(spans), rows, [r - r[0] for r in rows]
    mask = torch.tensor([[1] * 7, [0, 1, 1, 0, 1, 0, 0], [0] * 7, [1, 1, 0, 0, 0, 0, 0]])
    places = [m.nonzero().flatten() for m in mask]
    yield tuple(mask.shape), mask, [p + 7 * i for i, p in enumerate(places)], places


def attention():
    heads, size, window = 2, 3, 3
    for shape, seq, rows, places in batches():
        for distance, local in ((None, False), (2, False), (None, True), (4, True)):
            q, k, v = (leaf(rand(*shape, heads * size)) for _ in range(3))
            bias = None if distance is None else leaf(rand(heads, 2 * distance + 1))
            alpha = f32(0.7)
            y, lse = torch.zeros(q.numel() // 6, 6, dtype=torch.float64), torch.zeros(q.numel() // 6, heads, dtype=torch.float64)
            for r, p in zip(rows, places):
                if not len(r):
                    continue
                part = [x.reshape(-1, heads, size)[r].transpose(0, 1)[None] for x in (q, k, v)]
                away = p[None, :] - p[:, None]  # key - query
                added = torch.zeros(heads, len(r), len(r), dtype=torch.float64)
                if bias is not None:
                    added = added + bias[:, away.clamp(-distance, distance) + distance]
                if local:
                    added = added.masked_fill(away.abs() > window, -torch.inf)
                y = y.index_copy(0, r, F.scaled_dot_product_attention(*part, attn_mask=added[None], scale=alpha)[0].transpose(0, 1).reshape(len(r), -1))
                scores = alpha * part[0] @ part[1].transpose(-1, -2) + added
                lse = lse.index_copy(0, r, torch.logsumexp(scores, -1)[0].T)
            y, lse = y.reshape(q.shape), lse.reshape(*shape, heads)
            dy = rand(*y.shape)
            a = {"group": heads, "alpha": alpha, "count": window if local else 0}
            more = [] if bias is None else [bias]
            emit("attention", a, [q, k, v, seq] + more, [y, lse])
            g = grads(y, dy, q, k, v, *more)
            emit("attention_bwd", a, [dy, q, k, v, y, lse, seq] + more, list(g[:3]))
            if more:
                emit("attention_bwd_bias", a, [dy, q, k, v, y, lse, seq] + more, [g[3]])


def places():
    from transformers.models.gpt_neox.modeling_gpt_neox import rotate_half

    for shape, seq, rows, _ in batches():
        starts = torch.zeros(shape, dtype=torch.int64).flatten()  # filler stays where it is
        for r in rows if len(shape) == 1 else torch.arange(starts.numel()).reshape(shape):
            starts[r] = torch.arange(len(r))
        for rotated, base in ((4, 10000.0), (6, 500.0)):
            x = leaf(rand(*shape, 14))
            inv_freq = 1.0 / (base ** (torch.arange(0, rotated, 2, dtype=torch.int64).to(dtype=torch.float) / rotated))
            angle = (starts[:, None].float() * inv_freq).double().repeat(1, 2).reshape(*shape, 1, rotated)
            head = x.reshape(*shape, 2, 7)
            turned = head[..., :rotated] * angle.cos() + rotate_half(head[..., :rotated]) * angle.sin()
            y = torch.cat([turned, head[..., rotated:]], -1).reshape(x.shape)
            dy = rand(*y.shape)
            a = {"group": 2, "count": rotated, "alpha": base}
            emit("rope", a, [x, seq], [y])
            emit("rope", {**a, "kind": 1}, [dy, seq], list(grads(y, dy, x)))


def pooling():
    from sentence_transformers.sentence_transformer.modules import Pooling

    modes = ["mean", "max", "cls", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"]
    for shape, seq, rows, _ in batches():
        for kind, mode in enumerate(modes):
            x = leaf((rand(*shape, 5) * 3).floor())  # ties
            flat, y = x.reshape(-1, 5), []
            for i, r in enumerate(rows):
                n = 7 if len(shape) > 1 else len(r)
                first = 7 * i if len(shape) > 1 else int(r[0])
                mask = torch.zeros(1, n, dtype=torch.int64)
                mask[0, r - first] = 1
                if not len(r):  # theirs are NaN or -1e9
                    y.append(torch.zeros(5, dtype=torch.float64))
                    continue
                tokens = flat[first : first + n][None]
                if mode == "cls":  # theirs takes the first place, token or not
                    tokens, mask = flat[r][None], torch.ones(1, len(r), dtype=torch.int64)
                pooled = Pooling(5, pooling_mode=mode)({"token_embeddings": tokens.clone(), "attention_mask": mask})["sentence_embedding"][0]
                y.append(pooled)
            y = torch.stack(y)
            dy = rand(*y.shape)
            emit("seq_pool", {"kind": kind}, [x, seq], [y])
            emit("seq_pool_bwd", {"kind": kind}, [dy, x, y, seq], list(grads(y, dy, x)))


def numbers_of(t):
    t = t.detach()
    return [{torch.int32: 1.0, torch.int64: 2.0}.get(t.dtype, 0.0), float(t.dim()), *map(float, t.shape), *map(float, t.reshape(-1).tolist())]


def main(path):
    for part in (convolutions, normalisations, pools, matrices, elements, embeddings, optimisers, attention, places, pooling):
        part()
    out = [b"FTKERN01", struct.pack("<d", len(cases))]
    for op, attrs, inputs, outputs in cases:
        numbers = [float(len(attrs))]
        for name, value in attrs.items():
            numbers += [float(ATTRS.index(name)), float(value)]
        numbers += [float(len(inputs)), float(len(outputs))]
        for t in inputs + outputs:
            numbers += numbers_of(t)
        out += [op.encode().ljust(24, b"\0"), struct.pack(f"<{len(numbers)}d", *numbers)]
    data = b"".join(out)
    Path(path).write_bytes(data)
    print(f"{len(cases)} cases of {len({c[0] for c in cases})} ops, {len(data)} bytes; torch {torch.__version__}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "data" / "kernels.bin")
