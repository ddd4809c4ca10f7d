/*
 * kernel_cases_sequence.h - calls of the rows of sequences, padded and packed; see kernel_cases.h.
 */
#ifndef FT_TESTS_KERNEL_CASES_SEQUENCE_H
#define FT_TESTS_KERNEL_CASES_SEQUENCE_H

#include "kernel_cases_index.h"

enum { MAX_SEQUENCES = 6 };

/* Lengths of sequences. Padded: all are `padded` long, with 1 in the mask up to their length; packed: one
 * after the other. With `holes` every third token of the mask is left out, or filler lies around sequences.
 */
struct batch_case {
    int count;
    int64_t length[MAX_SEQUENCES];
    int64_t padded;
    bool holes;
};

static const struct batch_case batch_cases[] = {
    {1, {1}, 0, false},
    {3, {5, 1, 7}, 0, false},
    {6, {33, 64, 1, 31, 2, 80}, 0, false},
    {1, {513}, 0, false},
    {4, {5, 1, 3, 40}, 0, true},
    {1, {1}, 1, false},
    {4, {7, 3, 0, 1}, 7, false}, /* one without a token */
    {5, {9, 37, 64, 1, 65}, 65, true},
};

static int64_t filler_before(const struct batch_case *b, int i)
{
    return b->holes ? (i * 2 + 3) % 4 : 0; /* 3, 1, 3, 1, 3 */
}

static struct ft_type batch_x(const struct batch_case *b, int64_t channels)
{
    int64_t tokens = 0;
    for (int i = 0; i < b->count; i++) {
        tokens += filler_before(b, i) + b->length[i];
    }
    tokens += filler_before(b, b->count);
    return b->padded == 0 ? T2(tokens, channels) : T3(b->count, b->padded, channels);
}

static struct ft_type batch_seq(const struct batch_case *b)
{
    return typed(FT_I64, b->padded == 0 ? T2(b->count, 2) : T2(b->count, b->padded));
}

/* Spans or mask. Owned by the caller. */
static double *batch_values(const struct batch_case *b)
{
    struct ft_type t = batch_seq(b);
    double *values = new_values(ft_elements(&t));
    int64_t start = 0;
    for (int i = 0; i < b->count; i++) {
        for (int64_t j = 0; j < b->padded; j++) {
            values[i * b->padded + j] = j < b->length[i] && !(b->holes && j % 3 == 1) ? 1.0 : 0.0;
        }
        if (b->padded == 0) {
            start += filler_before(b, i);
            values[2 * i] = (double)start;
            values[2 * i + 1] = (double)b->length[i];
            start += b->length[i];
        }
    }
    return values;
}

/* ---- attention */

struct attention_case {
    int batch; /* of batch_cases */
    int64_t heads, size, window;
    int64_t most; /* distance with a bias of its own; -1: no bias */
    float alpha;
    float dropout; /* 0: no random numbers are read */
};

static const struct attention_case attention_cases[] = {
    {0, 1, 1, 0, -1, 1.0F, 0},        {1, 3, 5, 0, -1, 0.5F, 0},        {1, 2, 8, 1, 1, 0.25F, 0},
    {2, 2, 32, 0, -1, 0.1768F, 0},    {2, 3, 64, 0, 16, 0.125F, 0},     {2, 2, 17, 7, -1, 0.25F, 0},
    {2, 1, 80, 0, -1, 0.1118F, 0},    {2, 2, 128, 40, 3, 0.0884F, 0},   {2, 2, 32, 1000, 0, -0.2F, 0},
    {3, 1, 32, 0, -1, 0.1768F, 0},    {3, 1, 7, 0, 200, 0.378F, 0},     {3, 1, 16, 64, -1, 0.25F, 0},
    {5, 2, 4, 0, -1, 0.5F, 0},        {6, 2, 8, 0, -1, 0.354F, 0},      {6, 3, 3, 2, 2, 0.577F, 0},
    {7, 2, 32, 0, -1, 0.1768F, 0},    {7, 1, 64, 0, 30, 0.125F, 0},     {7, 3, 9, 5, 3, 0.333F, 0},
    {7, 2, 32, 0, -1, 4.0F, 0}, /* softmax that chooses */
    {4, 2, 8, 0, -1, 0.354F, 0},      {4, 2, 5, 2, 2, 0.447F, 0},       {1, 3, 5, 0, -1, 0.5F, 0.3F},
    {2, 2, 32, 0, 16, 0.1768F, 0.1F}, {3, 1, 16, 64, -1, 0.25F, 0.5F},  {6, 2, 8, 0, -1, 0.354F, 0.25F},
    {7, 3, 9, 5, 3, 0.333F, 0.9F},    {7, 2, 32, 0, -1, 0.1768F, 0.1F}, {4, 2, 5, 0, -1, 0.447F, 1.0F},
};

static const double attention_rng[2] = {9876543210987.0, 41.0};

/* q, k, v, seq, [bias], [rng]; the caller owns `seq`. */
static struct kase attention_kase(const struct attention_case *c, const double *seq)
{
    const struct batch_case *b = &batch_cases[c->batch];
    struct ft_type x = batch_x(b, c->heads * c->size);
    /* A score is off by the rounding of a sum of `size` products, of about alpha size; that is the relative
     * error of its weight, and y is a mean of values up to 4. */
    double scores = 1.0 + fabs((double)c->alpha) * sqrt((double)c->size);
    struct kase k = kase_of(FT_OP_ATTENTION, ELEMENT, sum_factor((double)c->size), 4.0 * scores);
    k.attrs.group = c->heads;
    k.attrs.alpha = c->alpha;
    k.attrs.count = c->window;
    for (int i = 0; i < 3; i++) {
        kase_in(&k, x, NORMAL);
    }
    kase_given(&k, batch_seq(b), seq);
    if (c->most >= 0) {
        kase_in(&k, T2(c->heads, 2 * c->most + 1), NORMAL);
    }
    if (c->dropout > 0) {
        struct ft_type rng = T1(2);
        rng.dtype = FT_I64;
        kase_given(&k, rng, attention_rng);
        k.attrs.dropout = c->dropout;
        k.attrs.node = 77;
        k.floor /= c->dropout < 1 ? 1.0 - (double)c->dropout : 1.0; /* what is kept is larger */
    }
    return k;
}

static void cases_attention(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(attention_cases); i++) {
        double *seq = batch_values(&batch_cases[attention_cases[i].batch]);
        struct kase k = attention_kase(&attention_cases[i], seq);
        check(s, &k);
        ft_free(seq);
    }
}

/* y and lse are those of q, k, v. Gradients are sums over as many queries as there are keys; dbias over all
 * pairs at one distance. */
static void attention_bwd_case(struct suite *s, const struct attention_case *c, enum ft_op op)
{
    double *seq = batch_values(&batch_cases[c->batch]);
    struct kase fwd = attention_kase(c, seq);
    double *data[6] = {NULL};
    int most = fwd.n_in - (c->dropout > 0);
    for (int i = 0; i < most; i++) {
        data[i] = i == 3 ? seq : random_values(s, &fwd.in[i], 10 + i, NORMAL);
    }
    data[most] = c->dropout > 0 ? (double *)(uintptr_t)attention_rng : NULL;
    double *y = forward(s, &fwd, data, 0);
    double *lse = forward(s, &fwd, data, 1);
    struct kase k = kase_of(op, ELEMENT, fwd.factor, 4.0 * fwd.floor);
    struct ft_type lse_type = fwd.in[0];
    lse_type.dim[lse_type.rank - 1] = ft_dim_of(c->heads);
    k.floor *= op == FT_OP_ATTENTION_BWD_BIAS ? sqrt((double)ft_elements(&fwd.in[0])) : 4.0;
    k.attrs = fwd.attrs;
    kase_in(&k, fwd.in[0], NORMAL);
    for (int i = 0; i < 3; i++) {
        kase_given(&k, fwd.in[i], data[i]);
    }
    kase_given(&k, fwd.in[0], y);
    kase_given(&k, lse_type, lse);
    kase_given(&k, fwd.in[3], seq);
    for (int i = 4; i < fwd.n_in; i++) {
        kase_given(&k, fwd.in[i], data[i]);
    }
    check(s, &k);
    free_values(data, most);
    ft_free(y);
    ft_free(lse);
}

static void cases_attention_bwd(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(attention_cases); i++) {
        attention_bwd_case(s, &attention_cases[i], FT_OP_ATTENTION_BWD);
    }
}

static void cases_attention_bwd_bias(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(attention_cases); i++) {
        if (attention_cases[i].most >= 0) {
            attention_bwd_case(s, &attention_cases[i], FT_OP_ATTENTION_BWD_BIAS);
        }
    }
}

/* ---- places */

static void cases_rope(struct suite *s)
{
    static const struct {
        int64_t heads, size, rotated;
        float base;
    } shapes[] = {{1, 2, 2, 10000.0F}, {3, 7, 4, 10000.0F}, {2, 64, 64, 160000.0F}, {12, 32, 32, 1000.0F}};
    for (int i = 0; i < COUNT_OF(batch_cases) * COUNT_OF(shapes) * 2; i++) {
        const struct batch_case *b = &batch_cases[i / 2 % COUNT_OF(batch_cases)];
        int shape = i / 2 / COUNT_OF(batch_cases);
        double *seq = batch_values(b);
        struct kase k = kase_of(FT_OP_ROPE, ELEMENT, 4.0, 4.0); /* two products of numbers up to 4 */
        k.attrs.group = shapes[shape].heads;
        k.attrs.count = shapes[shape].rotated;
        k.attrs.alpha = shapes[shape].base;
        k.attrs.kind = i % 2;
        kase_in(&k, batch_x(b, shapes[shape].heads * shapes[shape].size), NORMAL);
        if (b->padded == 0 || shape % 2 == 0) { /* padded does not need it */
            kase_given(&k, batch_seq(b), seq);
        }
        check(s, &k);
        ft_free(seq);
    }
}

static void cases_positions(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(batch_cases) * 2; i++) {
        const struct batch_case *b = &batch_cases[i / 2];
        struct ft_type ids = batch_x(b, 1);
        double *seq = batch_values(b);
        struct kase k = kase_of(FT_OP_POSITIONS, EXACT, 0.0, 0.0);
        ids.rank--;
        kase_given(&k, batch_seq(b), seq);
        kase_in(&k, typed(FT_I64, ids), INTEGERS);
        if (i % 2 != 0) {
            kase_in(&k, typed(FT_I64, ids), INTEGERS);
        }
        check(s, &k);
        ft_free(seq);
    }
}

/* ---- pooling */

static const int64_t pooled_channels[] = {1, 7, 64, 129};

static void cases_seq_pool(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(batch_cases) * FT_SEQ_COUNT * COUNT_OF(pooled_channels); i++) {
        const struct batch_case *b = &batch_cases[i % COUNT_OF(batch_cases)];
        int kind = i / COUNT_OF(batch_cases) % FT_SEQ_COUNT;
        struct ft_type x = batch_x(b, pooled_channels[i / COUNT_OF(batch_cases) / FT_SEQ_COUNT]);
        double *seq = batch_values(b);
        bool moved = kind == FT_SEQ_MAX || kind == FT_SEQ_FIRST || kind == FT_SEQ_LAST;
        struct kase k = kase_of(FT_OP_SEQ_POOL, moved ? EXACT : SUM, moved ? 0.0 : sum_factor(513.0), 0.0);
        k.attrs.kind = kind;
        kase_in(&k, x, kind == FT_SEQ_MAX ? GRID : NORMAL);
        kase_given(&k, batch_seq(b), seq);
        check(s, &k);
        ft_free(seq);
    }
}

static void cases_seq_pool_bwd(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(batch_cases) * FT_SEQ_COUNT * COUNT_OF(pooled_channels); i++) {
        const struct batch_case *b = &batch_cases[i % COUNT_OF(batch_cases)];
        struct ft_type x = batch_x(b, pooled_channels[i / COUNT_OF(batch_cases) / FT_SEQ_COUNT]);
        struct ft_type y = T2(b->count, ft_extent(&x, x.rank - 1));
        struct kase fwd = kase_of(FT_OP_SEQ_POOL, EXACT, 0.0, 0.0);
        double *data[2] = {random_values(s, &x, 10, GRID), batch_values(b)};
        fwd.attrs.kind = i / COUNT_OF(batch_cases) % FT_SEQ_COUNT;
        kase_given(&fwd, x, data[0]);
        kase_given(&fwd, batch_seq(b), data[1]);
        double *pooled = forward(s, &fwd, data, 0);
        struct kase k = kase_of(FT_OP_SEQ_POOL_BWD, ELEMENT, 4.0, 0.0); /* a weight and a product */
        k.attrs = fwd.attrs;
        kase_in(&k, y, NORMAL);
        kase_given(&k, x, data[0]);
        kase_given(&k, y, pooled);
        kase_given(&k, batch_seq(b), data[1]);
        check(s, &k);
        free_values(data, 2);
        ft_free(pooled);
    }
}

#endif
