/*
 * grad_cases.h - the problems of test_autodiff.c: for each differentiable op, graphs with inputs away from
 * kinks.
 */
#ifndef FT_TESTS_GRAD_CASES_H
#define FT_TESTS_GRAD_CASES_H

#include "tests/graph_test.h"

enum { MAX_INPUTS = 8 };

struct input {
    ft_value v;
    bool differentiated;
    struct ft_type type; /* known, as ref stores it */
    size_t count;
    double *data; /* or int64 / int32, by type */
};

struct problem {
    struct ft_graph *g;
    struct ft_rand rand;
    uint64_t drawn;
    struct input in[MAX_INPUTS];
    int n_in;
    int64_t batch;
    ft_value y;
};

/* ---- inputs */

static inline struct input *add_input(struct problem *p, struct ft_type t, bool differentiated)
{
    struct ft_err err = {0};
    assert_true(p->n_in < MAX_INPUTS);
    struct input *in = &p->in[p->n_in++];
    int64_t symbols[FT_MAX_SYMBOLS] = {p->batch};
    OK(ft_graph_input(p->g, "", &t, &in->v, &err));
    assert_true(ft_type_bind(&t, symbols, &in->type));
    in->type.dtype = t.dtype == FT_F32 ? FT_F64 : t.dtype;
    in->count = (size_t)ft_elements(&in->type);
    in->data = ft_calloc(in->count, 8);
    in->differentiated = differentiated;
    return in;
}

static inline double draw(struct problem *p, double lo, double hi)
{
    return test_uniform(p->rand, p->drawn++, lo, hi);
}

/* Differentiated, uniform in [lo, hi). */
static inline ft_value in_range(struct problem *p, struct ft_type t, double lo, double hi)
{
    struct input *in = add_input(p, t, true);
    for (size_t i = 0; i < in->count; i++) {
        in->data[i] = draw(p, lo, hi);
    }
    return in->v;
}

static inline ft_value any(struct problem *p, struct ft_type t)
{
    return in_range(p, t, -1.5, 1.5);
}

/* Both signs, at least 0.05 away from zero. */
static inline ft_value off_zero(struct problem *p, struct ft_type t)
{
    ft_value v = any(p, t);
    struct input *in = &p->in[p->n_in - 1];
    for (size_t i = 0; i < in->count; i++) {
        in->data[i] += in->data[i] < 0 ? -0.05 : 0.05;
    }
    return v;
}

/* No two elements closer than 0.01: a shuffled ladder. */
static inline ft_value distinct(struct problem *p, struct ft_type t)
{
    ft_value v = any(p, t);
    struct input *in = &p->in[p->n_in - 1];
    uint32_t order[512];
    assert_true(in->count <= 512);
    for (size_t i = 0; i < in->count; i++) {
        order[i] = (uint32_t)i;
    }
    ft_rand_shuffle(p->rand, order, in->count);
    for (size_t i = 0; i < in->count; i++) {
        in->data[i] = 0.02 * (double)order[i] + draw(p, 0, 0.01) - 1.0;
    }
    return v;
}

/* Not differentiated. */
static inline ft_value given(struct problem *p, struct ft_type t, double lo, double hi)
{
    ft_value v = in_range(p, t, lo, hi);
    p->in[p->n_in - 1].differentiated = false;
    return v;
}

static inline ft_value labels(struct problem *p, int rows, int classes)
{
    struct ft_type t = shape(1, rows);
    t.dtype = FT_I32;
    struct input *in = add_input(p, t, false);
    int32_t *data = (int32_t *)(void *)in->data;
    for (int i = 0; i < rows; i++) {
        data[i] = i % classes;
    }
    return in->v;
}

static inline ft_value rng_state(struct problem *p)
{
    struct ft_type t = shape(1, 2);
    t.dtype = FT_I64;
    struct input *in = add_input(p, t, false);
    int64_t *data = (int64_t *)(void *)in->data;
    data[0] = 42;
    data[1] = 3;
    return in->v;
}

/* ---- ops: each builder sets p->y */

static inline void conv_2d(struct problem *p)
{
    struct ft_attrs a = window2(3, 2, 1);
    a.group = 2;
    p->y = node(p->g, FT_OP_CONV, a, 3, any(p, batched(shape(4, 1, 4, 5, 6))), any(p, shape(4, 6, 2, 3, 3)),
                any(p, shape(1, 6)));
}

static inline void conv_1d_dilated(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.group = 1;
    a.window.rank = 1;
    a.window.kernel[0] = 3;
    a.window.stride[0] = 1;
    a.window.dilation[0] = 2;
    a.window.pad_begin[0] = 1;
    a.window.pad_end[0] = 2;
    p->y = node(p->g, FT_OP_CONV, a, 2, any(p, shape(3, 2, 2, 7)), any(p, shape(3, 3, 2, 3)));
}

static inline void conv_3d(struct problem *p)
{
    struct ft_attrs a = window2(2, 1, 0);
    a.window.rank = 3;
    a.window.kernel[2] = 3;
    a.window.stride[2] = 2;
    a.window.dilation[2] = 1;
    a.window.pad_begin[2] = 1;
    p->y = node(p->g, FT_OP_CONV, a, 2, any(p, batched(shape(5, 1, 2, 2, 3, 4))),
                any(p, shape(5, 3, 2, 2, 2, 3)));
}

/* Transposed: 2 groups, and one row more than the smallest result has. */
static inline void conv_transposed(struct problem *p)
{
    struct ft_attrs a = window2(3, 2, 1);
    a.group = 2;
    a.window.out[0] = 6;
    a.window.out[1] = 5;
    p->y = node(p->g, FT_OP_CONV_BWD_DATA, a, 2, any(p, batched(shape(4, 1, 4, 3, 3))),
                any(p, shape(4, 4, 2, 3, 3)));
}

static inline void conv_bwd_data(struct problem *p)
{
    p->y = node(p->g, FT_OP_CONV_BWD_DATA, window2(2, 1, 0), 3, any(p, shape(4, 2, 3, 2, 3)),
                any(p, shape(4, 3, 2, 2, 2)), given(p, shape(4, 2, 2, 3, 4), 0, 1));
}

static inline void pad_kind(struct problem *p, enum ft_pad kind)
{
    struct ft_attrs a = with_alpha(0.5F);
    a.kind = (int)kind;
    for (int i = 1; i < 3; i++) {
        a.pad_begin[i] = i;
        a.pad_end[i] = 4;
    }
    p->y = node(p->g, FT_OP_PAD, a, 1, any(p, batched(shape(3, 1, 2, 3))));
}

static inline void pad_constant(struct problem *p)
{
    pad_kind(p, FT_PAD_CONSTANT);
}

static inline void pad_reflect(struct problem *p)
{
    pad_kind(p, FT_PAD_REFLECT);
}

static inline void pad_edge(struct problem *p)
{
    pad_kind(p, FT_PAD_EDGE);
}

static inline void pad_wrap(struct problem *p)
{
    pad_kind(p, FT_PAD_WRAP);
}

static inline void batchnorm(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.eps = 1e-3F;
    p->y = node(p->g, FT_OP_BATCHNORM, a, 5, any(p, batched(shape(4, 1, 3, 2, 2))), any(p, shape(1, 3)),
                any(p, shape(1, 3)), given(p, shape(1, 3), -1, 1), given(p, shape(1, 3), 0.5, 2));
}

static inline void batchnorm_train(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.eps = 1e-3F;
    a.momentum = 0.1F;
    p->y = node(p->g, FT_OP_BATCHNORM_TRAIN, a, 5, any(p, batched(shape(4, 1, 3, 2, 3))), any(p, shape(1, 3)),
                any(p, shape(1, 3)), given(p, shape(1, 3), -1, 1), given(p, shape(1, 3), 0.5, 2));
}

static inline void batchnorm_train_vectors(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.eps = 1e-5F;
    a.momentum = 0.1F;
    p->y = node(p->g, FT_OP_BATCHNORM_TRAIN, a, 5, any(p, shape(2, 7, 3)), any(p, shape(1, 3)),
                any(p, shape(1, 3)), given(p, shape(1, 3), -1, 1), given(p, shape(1, 3), 0.5, 2));
}

static inline void maxpool(struct problem *p)
{
    p->y = node(p->g, FT_OP_MAXPOOL, window2(3, 2, 1), 1, distinct(p, shape(4, 2, 2, 5, 6)));
}

static inline void avgpool(struct problem *p)
{
    p->y = node(p->g, FT_OP_AVGPOOL, window2(3, 2, 1), 1, any(p, batched(shape(4, 1, 2, 5, 5))));
}

static inline void avgpool_with_pad(struct problem *p)
{
    struct ft_attrs a = window2(2, 1, 1);
    a.count_include_pad = 1;
    p->y = node(p->g, FT_OP_AVGPOOL, a, 1, any(p, shape(4, 2, 2, 3, 4)));
}

/* All eight: (a, b both batched or one of rank 2) x transpositions, with bias and alpha. */
static inline void matmul_case(struct problem *p, bool batch_a, bool batch_b, int trans)
{
    struct ft_attrs a = with_alpha(0.7F);
    a.trans_a = trans & 1;
    a.trans_b = trans >> 1;
    int m = 3;
    int k = 4;
    int n = 2;
    int ar = a.trans_a ? k : m;
    int ac = a.trans_a ? m : k;
    int br = a.trans_b ? n : k;
    int bc = a.trans_b ? k : n;
    struct ft_type ta = batch_a ? shape(4, 2, 3, ar, ac) : shape(2, ar, ac);
    struct ft_type tb = batch_b ? shape(4, 2, 3, br, bc) : shape(2, br, bc);
    p->y = node(p->g, FT_OP_MATMUL, a, 3, any(p, ta), any(p, tb), any(p, shape(1, n)));
}

#define MATMUL_TRANSPOSED(X, ba, bb) X(ba, bb, 0) X(ba, bb, 1) X(ba, bb, 2) X(ba, bb, 3)
#define MATMUL_CASES(X)                                                                                      \
    MATMUL_TRANSPOSED(X, 1, 1)                                                                               \
    MATMUL_TRANSPOSED(X, 1, 0) MATMUL_TRANSPOSED(X, 0, 1) MATMUL_TRANSPOSED(X, 0, 0)
#define MATMUL_BUILDER(ba, bb, t)                                                                            \
    static inline void matmul_##ba##bb##t(struct problem *p)                                                 \
    {                                                                                                        \
        matmul_case(p, ba, bb, t);                                                                           \
    }
MATMUL_CASES(MATMUL_BUILDER)

static inline void matmul_batch_symbol(struct problem *p)
{
    p->y = node(p->g, FT_OP_MATMUL, with_alpha(1.0F), 2, any(p, batched(shape(3, 1, 2, 4))),
                any(p, shape(2, 4, 3)));
}

#define UNARY(name, OP, input)                                                                               \
    static inline void name(struct problem *p)                                                               \
    {                                                                                                        \
        p->y = node(p->g, FT_OP_##OP, no_attrs(), 1, input);                                                 \
    }
UNARY(relu, RELU, off_zero(p, shape(2, 3, 5)))
UNARY(sigmoid, SIGMOID, any(p, shape(2, 3, 5)))
UNARY(tanh_, TANH, any(p, shape(2, 3, 5)))
UNARY(exp_, EXP, any(p, shape(2, 3, 5)))
UNARY(log_, LOG, in_range(p, shape(2, 3, 5), 0.3, 2))
UNARY(sqrt_, SQRT, in_range(p, shape(2, 3, 5), 0.3, 2))
UNARY(neg, NEG, any(p, shape(2, 3, 5)))
UNARY(sum_squares, SUM_SQUARES, any(p, shape(2, 3, 5)))

static inline void leaky_relu(struct problem *p)
{
    p->y = node(p->g, FT_OP_LEAKY_RELU, with_alpha(0.1F), 1, off_zero(p, shape(2, 3, 5)));
}

static inline void clip(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.lo = -0.025F; /* off_zero() draws nothing within 0.05 of zero */
    a.hi = 10.0F;
    p->y = node(p->g, FT_OP_CLIP, a, 1, off_zero(p, shape(2, 3, 5)));
}

static inline void scale(struct problem *p)
{
    struct ft_attrs a = with_alpha(-1.7F);
    a.beta = 0.3F;
    p->y = node(p->g, FT_OP_SCALE, a, 1, any(p, shape(2, 3, 5)));
}

/* Both sides are broadcast. */
#define BINARY(name, OP, range)                                                                              \
    static inline void name(struct problem *p)                                                               \
    {                                                                                                        \
        p->y = node(p->g, FT_OP_##OP, no_attrs(), 2, range(p, batched(shape(3, 1, 1, 4))),                   \
                    range(p, shape(2, 3, 1)));                                                               \
    }                                                                                                        \
    static inline void name##_same(struct problem *p)                                                        \
    {                                                                                                        \
        p->y = node(p->g, FT_OP_##OP, no_attrs(), 2, range(p, shape(2, 3, 4)), range(p, shape(2, 3, 4)));    \
    }                                                                                                        \
    static inline void name##_scalars(struct problem *p)                                                     \
    {                                                                                                        \
        p->y = node(p->g, FT_OP_##OP, no_attrs(), 2, range(p, shape(0)), range(p, shape(0)));                \
    }
static inline ft_value positive(struct problem *p, struct ft_type t)
{
    return in_range(p, t, 0.4, 2.0);
}
BINARY(add, ADD, any)
BINARY(sub, SUB, any)
BINARY(mul, MUL, any)
BINARY(div_, DIV, positive)
BINARY(pow_, POW, positive)

static inline void pow_constant(struct problem *p, float exponent)
{
    struct ft_err err = {0};
    struct ft_type t = shape(0);
    ft_value e = FT_NO_VALUE;
    OK(ft_graph_const(p->g, "", &t, &exponent, &e, &err));
    p->y = node(p->g, FT_OP_POW, no_attrs(), 2, positive(p, shape(2, 3, 4)), e);
}

static inline void pow_2(struct problem *p)
{
    pow_constant(p, 2.0F);
}

static inline void pow_3(struct problem *p)
{
    pow_constant(p, 3.0F);
}

static inline void mul_with_itself(struct problem *p)
{
    ft_value x = any(p, shape(2, 3, 4));
    p->y = node(p->g, FT_OP_MUL, no_attrs(), 2, x, x);
}

static inline void dropout(struct problem *p)
{
    struct ft_attrs a = with_alpha(0.4F);
    a.node = 5;
    p->y = node(p->g, FT_OP_DROPOUT, a, 2, any(p, batched(shape(2, 1, 9))), rng_state(p));
}

static inline struct ft_attrs axes(int keepdims, int count, int a0, int a1)
{
    struct ft_attrs a = no_attrs();
    a.keepdims = keepdims;
    a.axes_count = count;
    a.axes[0] = a0;
    a.axes[1] = a1;
    return a;
}

static inline void reduce_sum(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE_SUM, axes(0, 2, 2, 0), 1, any(p, batched(shape(4, 1, 3, 2, 2))));
}

static inline void reduce_sum_keep(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE_SUM, axes(1, 1, 1, 0), 1, any(p, batched(shape(3, 1, 3, 2))));
}

static inline void reduce_mean(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE_MEAN, axes(0, 2, 2, 3), 1, any(p, batched(shape(4, 1, 3, 2, 3))));
}

static inline void reduce_mean_keep(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE_MEAN, axes(1, 2, 2, 3), 1, any(p, batched(shape(4, 1, 3, 2, 3))));
}

static inline void reduce_mean_batch(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE_MEAN, axes(0, 2, 0, 1), 1, any(p, batched(shape(3, 1, 3, 2))));
}

static inline void sum_to(struct problem *p)
{
    p->y = node(p->g, FT_OP_SUM_TO, no_attrs(), 2, any(p, shape(3, 2, 3, 4)), given(p, shape(2, 3, 1), 0, 1));
}

static inline void expand_to(struct problem *p)
{
    p->y =
        node(p->g, FT_OP_EXPAND_TO, no_attrs(), 2, any(p, shape(2, 3, 1)), given(p, shape(3, 2, 3, 4), 0, 1));
}

static inline void reshape(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.shape_rank = 2;
    a.shape[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    a.shape[1] = ft_dim_of(6);
    p->y = node(p->g, FT_OP_RESHAPE, a, 1, any(p, batched(shape(3, 1, 3, 2))));
}

static inline void reshape_like(struct problem *p)
{
    p->y = node(p->g, FT_OP_RESHAPE_LIKE, no_attrs(), 2, any(p, shape(3, 2, 3, 2)),
                given(p, shape(2, 4, 3), 0, 1));
}

static inline void transpose(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.perm[0] = 2;
    a.perm[1] = 0;
    a.perm[2] = 1;
    p->y = node(p->g, FT_OP_TRANSPOSE, a, 1, any(p, batched(shape(3, 1, 3, 4))));
}

static inline void concat(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.axis = 1;
    ft_value x = any(p, batched(shape(3, 1, 3, 2)));
    p->y = node(p->g, FT_OP_CONCAT, a, 4, x, any(p, batched(shape(3, 1, 1, 2))), x,
                any(p, batched(shape(3, 1, 2, 2))));
}

static inline void slice(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.axis = 1;
    a.start = 1;
    a.count = 2;
    p->y = node(p->g, FT_OP_SLICE, a, 1, any(p, batched(shape(3, 1, 4, 2))));
}

static inline void pad_like(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.axis = 1;
    a.start = 1;
    p->y = node(p->g, FT_OP_PAD_LIKE, a, 2, any(p, shape(3, 2, 2, 2)), given(p, shape(3, 2, 5, 2), 0, 1));
}

static inline void slice_backwards(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.axis = 1;
    a.start = 4;
    a.step = -2;
    a.count = 2;
    p->y = node(p->g, FT_OP_SLICE, a, 1, any(p, batched(shape(3, 1, 5, 2))));
}

static inline void pad_like_steps(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.axis = 1;
    a.start = 1;
    a.step = 2;
    p->y = node(p->g, FT_OP_PAD_LIKE, a, 2, any(p, shape(3, 2, 2, 2)), given(p, shape(3, 2, 5, 2), 0, 1));
}

static inline void softmax_axis(struct problem *p, enum ft_op op, int axis)
{
    struct ft_attrs a = no_attrs();
    a.axis = axis;
    p->y = node(p->g, op, a, 1, any(p, batched(shape(3, 1, 4, 3))));
}

static inline void softmax(struct problem *p)
{
    softmax_axis(p, FT_OP_SOFTMAX, 2);
}

static inline void softmax_inner(struct problem *p)
{
    softmax_axis(p, FT_OP_SOFTMAX, 1);
}

static inline void log_softmax(struct problem *p)
{
    softmax_axis(p, FT_OP_LOG_SOFTMAX, 2);
}

static inline void l2_normalize(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.eps = 1e-12F;
    p->y = node(p->g, FT_OP_L2_NORMALIZE, a, 1, off_zero(p, batched(shape(2, 1, 5))));
}

/* Norms below eps: a plain division. */
static inline void l2_normalize_clamped(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.eps = 100.0F;
    p->y = node(p->g, FT_OP_L2_NORMALIZE, a, 1, off_zero(p, shape(2, 3, 5)));
}

static inline struct ft_attrs with_kind(int kind)
{
    struct ft_attrs a = no_attrs();
    a.kind = kind;
    return a;
}

static inline void pdist(struct problem *p)
{
    p->y = node(p->g, FT_OP_PDIST, with_kind(FT_DIST_EUCLIDEAN), 2, any(p, shape(2, 4, 3)),
                any(p, shape(2, 5, 3)));
}

static inline void pdist_squared(struct problem *p)
{
    p->y = node(p->g, FT_OP_PDIST, with_kind(FT_DIST_SQEUCLIDEAN), 2, any(p, shape(2, 4, 3)),
                any(p, shape(2, 5, 3)));
}

static inline void pdist_with_itself(struct problem *p)
{
    ft_value x = any(p, batched(shape(2, 1, 3)));
    p->y = node(p->g, FT_OP_PDIST, with_kind(FT_DIST_EUCLIDEAN), 2, x, x);
}

/* dist is differentiated; what is mined on is another matrix. */
static inline void triplet_of(struct problem *p, enum ft_miner miner, enum ft_reducer reducer)
{
    struct ft_attrs a = no_attrs();
    a.miner = miner;
    a.reducer = reducer;
    a.margin = 0.2F;
    a.miner_margin = 0.3F;
    ft_value mine = given(p, shape(2, 6, 6), 0.1, 2);
    ft_value dist = in_range(p, shape(2, 6, 6), 0.1, 2);
    ft_value la = labels(p, 6, 3);
    p->y = node(p->g, FT_OP_TRIPLET, a, 4, mine, dist, la, la);
}

#define TRIPLET_CASES(X)                                                                                     \
    X(NONE, AVG_NON_ZERO)                                                                                    \
    X(NONE, MEAN)                                                                                            \
    X(MARGIN_ALL, AVG_NON_ZERO)                                                                              \
    X(MARGIN_HARD, AVG_NON_ZERO)                                                                             \
    X(MARGIN_SEMIHARD, MEAN) X(MARGIN_EASY, MEAN) X(BATCH_HARD, AVG_NON_ZERO) X(FACENET_SEMIHARD, MEAN)
#define TRIPLET_BUILDER(miner, reducer)                                                                      \
    static inline void triplet_##miner##_##reducer(struct problem *p)                                        \
    {                                                                                                        \
        triplet_of(p, FT_MINER_##miner, FT_REDUCE_##reducer);                                                \
    }
TRIPLET_CASES(TRIPLET_BUILDER)

static inline void masked_mean_of(struct problem *p, enum ft_reducer reducer)
{
    struct ft_attrs a = no_attrs();
    a.reducer = reducer;
    /* Losses of pairs: not negative, and zero is a kink of the divisor. */
    p->y = node(p->g, FT_OP_MASKED_MEAN, a, 2, positive(p, shape(2, 3, 4)), given(p, shape(2, 3, 4), 0.2, 1));
}

static inline void masked_mean(struct problem *p)
{
    masked_mean_of(p, FT_REDUCE_AVG_NON_ZERO);
}

static inline void masked_mean_all(struct problem *p)
{
    masked_mean_of(p, FT_REDUCE_MEAN);
}

/* ---- composites */

static inline ft_value normalized(struct problem *p, ft_value x)
{
    struct ft_attrs a = no_attrs();
    a.eps = 1e-12F;
    return node(p->g, FT_OP_L2_NORMALIZE, a, 1, x);
}

/* Triplet margin loss with respect to the embeddings, mined on the same distances. */
static inline void triplet_loss(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.miner = FT_MINER_MARGIN_SEMIHARD;
    a.margin = 0.4F;
    a.miner_margin = 0.6F;
    ft_value e = normalized(p, any(p, shape(2, 8, 4)));
    ft_value d = node(p->g, FT_OP_PDIST, with_kind(FT_DIST_EUCLIDEAN), 2, e, e);
    ft_value la = labels(p, 8, 3);
    p->y = node(p->g, FT_OP_TRIPLET, a, 4, d, d, la, la);
}

/* Contrastive loss: mean of d over positive pairs plus mean of relu(1 - d) over negative ones, weights from a
 * miner. */
static inline void contrastive_loss(struct problem *p)
{
    struct ft_err err = {0};
    struct ft_attrs a = no_attrs();
    struct ft_attrs flip = with_alpha(-1.0F);
    a.miner = FT_MINER_MARGIN_ALL;
    a.miner_margin = 0.5F;
    flip.beta = 1.0F;
    ft_value e = normalized(p, any(p, shape(2, 8, 4)));
    ft_value d = node(p->g, FT_OP_PDIST, with_kind(FT_DIST_EUCLIDEAN), 2, e, e);
    ft_value la = labels(p, 8, 3);
    ft_value in[3] = {d, la, la};
    ft_value pairs[FT_MAX_OUTPUTS];
    OK(ft_graph_add(p->g, FT_OP_PAIRS, &a, in, 3, "miner", pairs, &err));
    ft_value near = node(p->g, FT_OP_RELU, no_attrs(), 1, node(p->g, FT_OP_SCALE, flip, 1, d));
    ft_value pos = node(p->g, FT_OP_MASKED_MEAN, no_attrs(), 2, d, pairs[0]);
    ft_value neg = node(p->g, FT_OP_MASKED_MEAN, no_attrs(), 2, near, pairs[1]);
    p->y = node(p->g, FT_OP_ADD, no_attrs(), 2, pos, neg);
}

/* Convolution, normalisation by the batch, residual, pooling, projection, triplets: a training step in small.
 */
static inline void small_network(struct problem *p)
{
    struct ft_attrs bn = no_attrs();
    bn.eps = 1e-3F;
    bn.momentum = 0.1F;
    ft_value x = any(p, batched(shape(4, 1, 2, 5, 5)));
    ft_value h = node(p->g, FT_OP_CONV, window2(3, 1, 1), 2, x, any(p, shape(4, 2, 2, 3, 3)));
    h = node(p->g, FT_OP_BATCHNORM_TRAIN, bn, 5, h, any(p, shape(1, 2)), any(p, shape(1, 2)),
             given(p, shape(1, 2), 0, 1), given(p, shape(1, 2), 0.5, 1));
    h = node(p->g, FT_OP_ADD, no_attrs(), 2, h, x);
    h = node(p->g, FT_OP_SIGMOID, no_attrs(), 1, h);
    h = node(p->g, FT_OP_MAXPOOL, window2(2, 2, 0), 1, h);
    h = node(p->g, FT_OP_REDUCE_MEAN, axes(0, 2, 2, 3), 1, h);
    h = node(p->g, FT_OP_MATMUL, with_alpha(1.0F), 2, h, any(p, shape(2, 2, 3)));
    ft_value d = node(p->g, FT_OP_PDIST, with_kind(FT_DIST_SQEUCLIDEAN), 2, h, h);
    p->y = node(p->g, FT_OP_MASKED_MEAN, no_attrs(), 2, d, given(p, *ft_graph_type(p->g, d), 0.1, 1));
}

#include "tests/grad_cases_map.h"

/* ---- tables */

#include "tests/grad_cases_index.h"
#include "tests/grad_cases_sequence.h"

struct row {
    enum ft_op op; /* FT_OP_COUNT: a composite */
    const char *name;
    void (*build)(struct problem *p);
};

#define MATMUL_ROW(ba, bb, t) {FT_OP_MATMUL, "matmul " #ba #bb #t, matmul_##ba##bb##t},
#define TRIPLET_ROW(miner, reducer)                                                                          \
    {FT_OP_TRIPLET, "triplet " #miner " " #reducer, triplet_##miner##_##reducer},
#define BINARY_ROWS(OP, name)                                                                                \
    {FT_OP_##OP, #name, name}, {FT_OP_##OP, #name " same", name##_same},                                     \
    {                                                                                                        \
        FT_OP_##OP, #name " scalars", name##_scalars                                                         \
    }

static const struct row table[] = {
    {FT_OP_CONV, "conv 2d", conv_2d},
    {FT_OP_CONV, "conv 1d dilated", conv_1d_dilated},
    {FT_OP_CONV, "conv 3d", conv_3d},
    {FT_OP_CONV_BWD_DATA, "conv transposed", conv_transposed},
    {FT_OP_CONV_BWD_DATA, "conv_bwd_data", conv_bwd_data},
    {FT_OP_PAD, "pad constant", pad_constant},
    {FT_OP_PAD, "pad reflect", pad_reflect},
    {FT_OP_PAD, "pad edge", pad_edge},
    {FT_OP_PAD, "pad wrap", pad_wrap},
    {FT_OP_BATCHNORM, "batchnorm", batchnorm},
    {FT_OP_BATCHNORM_TRAIN, "batchnorm_train", batchnorm_train},
    {FT_OP_BATCHNORM_TRAIN, "batchnorm_train vectors", batchnorm_train_vectors},
    {FT_OP_LAYERNORM, "layernorm", layernorm},
    {FT_OP_LAYERNORM, "layernorm no bias", layernorm_no_bias},
    {FT_OP_MAXPOOL, "maxpool", maxpool},
    {FT_OP_AVGPOOL, "avgpool", avgpool},
    {FT_OP_AVGPOOL, "avgpool with pad", avgpool_with_pad},
    MATMUL_CASES(MATMUL_ROW){FT_OP_MATMUL, "matmul batch symbol", matmul_batch_symbol},
    {FT_OP_RELU, "relu", relu},
    {FT_OP_LEAKY_RELU, "leaky_relu", leaky_relu},
    {FT_OP_SIGMOID, "sigmoid", sigmoid},
    {FT_OP_TANH, "tanh", tanh_},
    {FT_OP_CLIP, "clip", clip},
    {FT_OP_EXP, "exp", exp_},
    {FT_OP_LOG, "log", log_},
    {FT_OP_SQRT, "sqrt", sqrt_},
    {FT_OP_NEG, "neg", neg},
    {FT_OP_SCALE, "scale", scale},
    MAP_CASES(MAP_ROW) BINARY_ROWS(ADD, add),
    BINARY_ROWS(SUB, sub),
    BINARY_ROWS(MUL, mul),
    BINARY_ROWS(DIV, div_),
    BINARY_ROWS(POW, pow_),
    {FT_OP_POW, "pow 2", pow_2},
    {FT_OP_POW, "pow 3", pow_3},
    {FT_OP_MUL, "mul with itself", mul_with_itself},
    {FT_OP_WHERE, "where", where},
    BINARY_ROWS(MAXIMUM, maximum),
    BINARY_ROWS(MINIMUM, minimum),
    {FT_OP_MAXIMUM, "maximum of equals", maximum_of_equals},
    {FT_OP_MOD, "mod", mod},
    {FT_OP_GATHER, "gather", gather},
    {FT_OP_GATHER_ELEMENTS, "gather_elements", gather_elements},
    {FT_OP_GATHER_ND, "gather_nd", gather_nd},
    {FT_OP_SCATTER_ELEMENTS, "scatter_elements", scatter_elements},
    {FT_OP_SCATTER_ELEMENTS, "scatter_elements add", scatter_elements_add},
    {FT_OP_SCATTER_ND, "scatter_nd", scatter_nd},
    {FT_OP_TOPK, "topk", topk},
    {FT_OP_CUMSUM, "cumsum", cumsum},
    {FT_OP_CUMSUM, "cumsum reverse exclusive", cumsum_reverse},
    {FT_OP_DROPOUT, "dropout", dropout},
    {FT_OP_REDUCE_SUM, "reduce_sum", reduce_sum},
    {FT_OP_REDUCE_SUM, "reduce_sum keep", reduce_sum_keep},
    {FT_OP_REDUCE_MEAN, "reduce_mean", reduce_mean},
    {FT_OP_REDUCE_MEAN, "reduce_mean keep", reduce_mean_keep},
    {FT_OP_REDUCE_MEAN, "reduce_mean batch", reduce_mean_batch},
    {FT_OP_REDUCE, "reduce max", reduce_max},
    {FT_OP_REDUCE, "reduce min", reduce_min},
    {FT_OP_REDUCE, "reduce prod", reduce_prod},
    {FT_OP_REDUCE, "reduce log sum exp", reduce_log_sum_exp},
    {FT_OP_SUM_TO, "sum_to", sum_to},
    {FT_OP_EXPAND_TO, "expand_to", expand_to},
    {FT_OP_RESHAPE, "reshape", reshape},
    {FT_OP_RESHAPE_LIKE, "reshape_like", reshape_like},
    {FT_OP_TRANSPOSE, "transpose", transpose},
    {FT_OP_CONCAT, "concat", concat},
    {FT_OP_SLICE, "slice", slice},
    {FT_OP_SLICE, "slice backwards", slice_backwards},
    {FT_OP_PAD_LIKE, "pad_like", pad_like},
    {FT_OP_PAD_LIKE, "pad_like steps", pad_like_steps},
    {FT_OP_SOFTMAX, "softmax", softmax},
    {FT_OP_SOFTMAX, "softmax inner axis", softmax_inner},
    {FT_OP_LOG_SOFTMAX, "log_softmax", log_softmax},
    {FT_OP_ATTENTION, "attention packed", attention_packed},
    {FT_OP_ATTENTION, "attention packed window", attention_packed_window},
    {FT_OP_ATTENTION, "attention packed bias", attention_packed_bias},
    {FT_OP_ATTENTION, "attention padded", attention_padded},
    {FT_OP_ATTENTION, "attention padded window bias", attention_padded_window_bias},
    {FT_OP_ATTENTION, "attention packed dropout", attention_packed_dropout},
    {FT_OP_ATTENTION, "attention padded window bias dropout", attention_padded_dropout},
    {FT_OP_ROPE, "rope packed", rope_packed},
    {FT_OP_ROPE, "rope padded back", rope_padded},
    SEQ_POOL_CASES(SEQ_POOL_ROW){FT_OP_L2_NORMALIZE, "l2_normalize", l2_normalize},
    {FT_OP_L2_NORMALIZE, "l2_normalize clamped", l2_normalize_clamped},
    {FT_OP_PDIST, "pdist", pdist},
    {FT_OP_PDIST, "pdist squared", pdist_squared},
    {FT_OP_PDIST, "pdist with itself", pdist_with_itself},
    TRIPLET_CASES(TRIPLET_ROW){FT_OP_MASKED_MEAN, "masked_mean", masked_mean},
    {FT_OP_MASKED_MEAN, "masked_mean all", masked_mean_all},
    {FT_OP_SUM_SQUARES, "sum_squares", sum_squares},
    {FT_OP_COUNT, "triplet loss", triplet_loss},
    {FT_OP_COUNT, "contrastive loss", contrastive_loss},
    {FT_OP_COUNT, "small network", small_network},
};

/* clang-format off */
static const enum ft_op without_gradient[] = {
    FT_OP_PAD_BWD, FT_OP_CONV_BWD_WEIGHT, FT_OP_BATCHNORM_BWD, FT_OP_BATCHNORM_TRAIN_BWD,
    FT_OP_MAXPOOL_BWD, FT_OP_AVGPOOL_BWD, FT_OP_RELU_BWD, FT_OP_LEAKY_RELU_BWD,
    FT_OP_SIGMOID_BWD, FT_OP_TANH_BWD, FT_OP_CLIP_BWD, FT_OP_SOFTMAX_BWD,
    FT_OP_LOG_SOFTMAX_BWD, FT_OP_L2_NORMALIZE_BWD, FT_OP_PDIST_BWD, FT_OP_PAIRS,
    FT_OP_MASKED_MEAN_BWD, FT_OP_SGD_STEP, FT_OP_ADAM_STEP, FT_OP_MAP_BWD,
    FT_OP_LAYERNORM_BWD, FT_OP_CAST, FT_OP_COMPARE, FT_OP_LOGIC,
    FT_OP_FOLD_BATCHNORM, FT_OP_GATHER_BWD, FT_OP_ARG_EXTREME, FT_OP_MAXPOOL_INDICES,
    FT_OP_REDUCE_BWD, FT_OP_ATTENTION_BWD, FT_OP_ATTENTION_BWD_BIAS, FT_OP_POSITIONS,
    FT_OP_SEQ_POOL_BWD,
};
/* clang-format on */

#endif
