/*
 * kernel_cases.h - the calls that each row of ops.def is tested with: cases_<op>(), all of them or
 * test_kernels.c does not compile. Windows, matrices and element-wise rows; the rest is in
 * kernel_cases_loss.h.
 */
#ifndef FT_TESTS_KERNEL_CASES_H
#define FT_TESTS_KERNEL_CASES_H

#include "kernel_suite.h"

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof *(array)))

enum { DEPTH = 4 }; /* of a volume: where a case has three spatial axes */

/* ---- convolution */

struct conv_case {
    int64_t n, c, h, w, m; /* h = 0: one spatial axis */
    struct ft_window window;
    int64_t group;
};

#define WINDOW2(kh, kw, sh, sw, dh, dw, ph, pw, eh, ew)                                                      \
    {                                                                                                        \
        .rank = 2, .kernel = {kh, kw}, .stride = {sh, sw}, .dilation = {dh, dw}, .pad_begin = {ph, pw},      \
        .pad_end = {                                                                                         \
            eh,                                                                                              \
            ew                                                                                               \
        }                                                                                                    \
    }
#define WINDOW3(kd, kh, kw, sd, sh, sw, dd, dh, dw, p, e)                                                    \
    {                                                                                                        \
        .rank = 3, .kernel = {kd, kh, kw}, .stride = {sd, sh, sw}, .dilation = {dd, dh, dw},                 \
        .pad_begin = {p, p, p}, .pad_end = {                                                                 \
            e,                                                                                               \
            e,                                                                                               \
            e                                                                                                \
        }                                                                                                    \
    }
#define WINDOW1(k, s, d, p, e)                                                                               \
    {                                                                                                        \
        .rank = 1, .kernel = {k}, .stride = {s}, .dilation = {d}, .pad_begin = {p}, .pad_end = { e }         \
    }

static const struct conv_case conv_cases[] = {
    {1, 1, 1, 1, 1, WINDOW2(1, 1, 1, 1, 1, 1, 0, 0, 0, 0), 1},
    {2, 3, 7, 5, 4, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1},
    {1, 8, 13, 11, 16, WINDOW2(3, 3, 2, 2, 1, 1, 1, 0, 0, 1), 1}, /* pads differ */
    {2, 6, 9, 9, 9, WINDOW2(3, 2, 1, 2, 2, 1, 2, 1, 2, 0), 3},    /* groups and dilation */
    {2, 7, 8, 8, 7, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 7},    /* depthwise */
    {2, 40, 9, 12, 40, WINDOW2(5, 5, 2, 2, 1, 1, 2, 2, 2, 2), 40},
    {1, 17, 5, 4, 17, WINDOW2(3, 9, 1, 1, 2, 1, 2, 4, 1, 4), 17}, /* every column at an edge */
    {2, 24, 10, 11, 24, WINDOW2(2, 3, 1, 2, 1, 3, 0, 3, 1, 2), 24},
    {3, 5, 6, 7, 10, WINDOW2(3, 3, 2, 1, 1, 1, 1, 1, 1, 1), 5},    /* depthwise, two features a channel */
    {2, 16, 17, 17, 31, WINDOW2(1, 1, 2, 2, 1, 1, 0, 0, 0, 0), 1}, /* stride beyond the kernel */
    {1, 32, 16, 16, 48, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1},
    {1, 3, 33, 33, 16, WINDOW2(7, 7, 2, 2, 1, 1, 3, 3, 3, 3), 1}, /* a ResNet's first layer */
    {1, 32, 6, 6, 64, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 2},
    {2, 8, 6, 6, 8, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 4},  /* groups too small for vectors */
    {13, 3, 5, 5, 2, WINDOW2(5, 5, 1, 1, 1, 1, 0, 0, 0, 0), 1}, /* one window */
    {1, 2, 3, 3, 3, WINDOW2(5, 5, 1, 1, 1, 1, 2, 2, 2, 2), 1},  /* kernel beyond x */
    /* 1, 5, 6, 7 pixels, 1, 3, 15, 17, 33 channels and features: parts of register tiles */
    {1, 3, 1, 1, 15, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1},
    {1, 15, 1, 5, 17, WINDOW2(1, 3, 1, 1, 1, 1, 0, 1, 0, 1), 1},
    {1, 17, 3, 2, 33, WINDOW2(2, 3, 1, 1, 1, 1, 0, 1, 1, 1), 1},
    {1, 33, 7, 1, 3, WINDOW2(3, 1, 1, 1, 2, 1, 2, 0, 2, 0), 1},
    {3, 17, 5, 7, 1, WINDOW2(3, 3, 2, 3, 2, 3, 2, 4, 1, 3), 1},  /* strides and dilations */
    {2, 16, 2, 3, 18, WINDOW2(2, 3, 1, 1, 1, 1, 4, 5, 3, 5), 1}, /* pads larger than the kernel */
    {2, 1, 9, 4, 33, WINDOW2(1, 1, 1, 1, 1, 1, 0, 0, 0, 0), 1},
    {5, 24, 11, 13, 40, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1}, /* several tiles a thread */
    /* sums over more channels than are added at once; of the gradient too */
    {1, 520, 3, 4, 70, WINDOW2(1, 1, 1, 1, 1, 1, 0, 0, 0, 0), 1},
    {1, 300, 5, 4, 70, WINDOW2(3, 3, 2, 2, 1, 1, 1, 1, 1, 1), 1},
    {1, 70, 5, 4, 300, WINDOW2(3, 3, 2, 1, 1, 1, 1, 1, 0, 1), 1},
    /* whole panels, for winograd.h: edges of every width, pads of every size, several blocks, parts of the
       depth */
    {1, 64, 4, 4, 32, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1},
    {2, 32, 7, 5, 64, WINDOW2(3, 3, 1, 1, 1, 1, 0, 2, 2, 0), 1},
    {2, 32, 3, 10, 32, WINDOW2(3, 3, 1, 1, 1, 1, 2, 0, 1, 1), 1},
    {1, 32, 17, 22, 32, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1},
    {1, 272, 4, 5, 32, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1},
    {2, 5, 0, 17, 6, WINDOW1(4, 3, 1, 2, 1), 1},
    {1, 4, 0, 9, 8, WINDOW1(3, 1, 2, 2, 2), 4},
    {2, 3, 5, 6, 4, WINDOW3(3, 2, 3, 1, 2, 1, 1, 1, 1, 1, 1), 1},
    {1, 4, 7, 5, 6, WINDOW3(2, 3, 1, 2, 1, 2, 2, 1, 1, 0, 1), 2},
    {1, 5, 4, 4, 5, WINDOW3(3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 5},
};

static struct ft_type conv_x(const struct conv_case *c)
{
    if (c->window.rank == 3) {
        return T5(c->n, c->c, DEPTH, c->h, c->w);
    }
    return c->h == 0 ? T3(c->n, c->c, c->w) : T4(c->n, c->c, c->h, c->w);
}

static struct ft_type conv_w(const struct conv_case *c)
{
    const int64_t *k = c->window.kernel;
    if (c->window.rank == 3) {
        return T5(c->m, c->c / c->group, k[0], k[1], k[2]);
    }
    return c->h == 0 ? T3(c->m, c->c / c->group, k[0]) : T4(c->m, c->c / c->group, k[0], k[1]);
}

static struct ft_attrs conv_attrs(const struct conv_case *c)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    a.window = c->window;
    a.group = c->group;
    return a;
}

static struct ft_type conv_y(const struct conv_case *c)
{
    struct ft_attrs a = conv_attrs(c);
    struct ft_type in[2] = {conv_x(c), conv_w(c)};
    struct ft_type y;
    struct ft_err err = {0};
    assert_int_equal(ft_op_infer(FT_OP_CONV, &a, in, 2, &y, &err), FT_OK);
    return y;
}

/* With and without [bias] and residual, `acts` activations from number `first` on. `k` has its first two
 * inputs, y is its result. */
static void epilogue_cases(struct suite *s, const struct kase *k, struct ft_type y, int64_t channels,
                           int first, int acts)
{
    for (int i = first; i < first + acts; i++) {
        int act = i % FT_ACT_COUNT;
        for (int more = 0; more < 4; more++) {
            bool residual = more >> 1 != 0;
            if ((residual && k->attrs.group > 1) || (acts == 1 && more % 2 != i % 2)) {
                continue; /* groups take no residual on cpu */
            }
            struct kase e = *k;
            e.attrs.act = (enum ft_act)act;
            e.attrs.act_a = act == FT_ACT_LEAKY_RELU ? 0.125F
                            : act == FT_ACT_SILU     ? 1.0F
                            : act == FT_ACT_CLIP     ? -0.5F
                                                     : 0.0F;
            e.attrs.act_b = act == FT_ACT_CLIP ? 1.5F : 0.0F;
            e.attrs.residual = more >> 1;
            e.floor = 1.0; /* the activations' own rounding; they stay below 1 where the sum does */
            if ((more & 1) != 0) {
                kase_in(&e, T1(channels), NORMAL);
            }
            if (more >> 1 != 0) {
                kase_in(&e, y, NORMAL);
            }
            check(s, &e);
        }
    }
}

/* Infinities reach the results whose windows they lie in and no other (but for kernels/cpu/winograd.h, which
 * does not take these shapes): nothing is multiplied with padding. Values are positive, so there is no NaN.
 * But oneDNN's gradient of weights in bf16 multiplies dy with the zeros around x (kernel.h). */
static void infinity_case(struct suite *s, enum ft_op op, const struct conv_case *c, int input)
{
    const struct ft_type x = conv_x(c);
    const struct ft_type w = conv_w(c);
    const struct ft_type y = conv_y(c);
    const struct ft_type last = op == FT_OP_CONV_BWD_DATA ? x : w; /* the shape of a gradient */
    struct kase k = kase_of(op, SUM, sum_factor((double)(ft_elements(&w) + ft_elements(&y))), 0.0);
    struct ft_type types[2] = {op == FT_OP_CONV_BWD_DATA ? y : x, op == FT_OP_CONV_BWD_WEIGHT ? y : w};
    double *values = random_values(s, &types[input], input, POSITIVE);
    values[0] = (double)INFINITY;
    k.attrs = conv_attrs(c);
    k.not_own = op == FT_OP_CONV_BWD_WEIGHT && input == 1;
    for (int i = 0; i < 2; i++) {
        if (i == input) {
            kase_given(&k, types[i], values);
        } else {
            kase_in(&k, types[i], POSITIVE);
        }
    }
    if (op != FT_OP_CONV) {
        kase_in(&k, last, POSITIVE);
    }
    check(s, &k);
    ft_free(values);
}

/* Sums of n terms. Where a device may transform tiles first (kernels/cpu/winograd.h), what is rounded are
 * sums of a whole tile, also for a result of few terms at its edge. */
static struct kase conv_kase(enum ft_op op, const struct conv_case *c, double n)
{
    const struct ft_window *w = &c->window;
    bool tiles = c->group == 1 && w->rank == 2;
    for (int i = 0; i < 2; i++) {
        tiles = tiles && w->kernel[i] == 3 && w->stride[i] == 1 && w->dilation[i] == 1;
    }
    return kase_of(op, SUM, sum_factor(n) + (tiles ? 128.0 : 0.0), tiles ? sqrt(n) : 0.0);
}

static void cases_conv(struct suite *s)
{
    static const struct conv_case bordered = {1, 16, 5, 6, 17, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1};
    static const struct conv_case deep = {1, 300, 3, 4, 70, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), 1};
    static const enum ft_op ops[3] = {FT_OP_CONV, FT_OP_CONV_BWD_DATA, FT_OP_CONV_BWD_WEIGHT};
    for (int i = 0; i < 6; i++) {
        infinity_case(s, ops[i / 2], &bordered, i % 2);
        infinity_case(s, ops[i / 2], &deep, i % 2);
    }
    for (int i = 0; i < COUNT_OF(conv_cases); i++) {
        const struct conv_case *c = &conv_cases[i];
        struct ft_type w = conv_w(c);
        struct kase k = conv_kase(FT_OP_CONV, c, (double)ft_elements(&w) / (double)c->m);
        k.attrs = conv_attrs(c);
        kase_in(&k, conv_x(c), NORMAL);
        kase_in(&k, w, NORMAL);
        epilogue_cases(s, &k, conv_y(c), c->m, i, i == 1 ? FT_ACT_COUNT : 1);
    }
    for (int i = 0; i < COUNT_OF(conv_cases) * 2; i++) {
        const struct conv_case *c = &conv_cases[i / 2];
        struct ft_type w = conv_w(c);
        struct kase k = conv_kase(FT_OP_CONV, c, (double)ft_elements(&w) / (double)c->m);
        k.attrs = conv_attrs(c);
        kase_in(&k, conv_x(c), NORMAL);
        kase_in(&k, w, NORMAL);
        if (i % 2 != 0) {
            kase_in(&k, T1(c->m), NORMAL);
        }
        check(s, &k);
    }
}

static void cases_conv_bwd_data(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(conv_cases); i++) {
        const struct conv_case *c = &conv_cases[i];
        struct ft_type w = conv_w(c);
        struct kase k =
            conv_kase(FT_OP_CONV_BWD_DATA, c, (double)ft_elements(&w) / (double)(c->c / c->group));
        k.attrs = conv_attrs(c);
        kase_in(&k, conv_y(c), NORMAL);
        kase_in(&k, w, NORMAL);
        kase_in(&k, conv_x(c), NORMAL);
        check(s, &k);
        k.n_in = 2; /* a transposed convolution: x's extents are given */
        for (int axis = 0; axis < c->window.rank; axis++) {
            k.attrs.window.out[axis] = k.in[2].dim[axis + 2].coef;
        }
        check(s, &k);
    }
}

static void cases_conv_bwd_weight(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(conv_cases); i++) {
        const struct conv_case *c = &conv_cases[i];
        struct ft_type y = conv_y(c);
        struct kase k = conv_kase(FT_OP_CONV_BWD_WEIGHT, c, (double)ft_elements(&y) / (double)c->m);
        k.attrs = conv_attrs(c);
        kase_in(&k, conv_x(c), NORMAL);
        kase_in(&k, y, NORMAL);
        kase_in(&k, conv_w(c), NORMAL);
        check(s, &k);
    }
}

/* ---- batch normalisation */

/* Roundings are relative to (|x| + |mean|) / std * |scale| + |bias|, around 8 for these values, plus a mean
 * over n. */
static struct kase batchnorm_case(enum ft_op op, const struct ft_type *x, int i)
{
    double n = (double)(ft_elements(x) / ft_extent(x, 1));
    struct kase k = kase_of(op, ELEMENT, sum_factor(n), 8.0);
    k.attrs.eps = i % 2 == 0 ? 1e-5F : 0.001F;
    k.attrs.momentum = i % 2 == 0 ? 0.1F : 0.25F;
    return k;
}

static int batchnorm_types(struct ft_type out[9])
{
    const struct ft_type all[9] = {T2(2, 3),          T2(67, 5),       T4(2, 3, 4, 5),
                                   T4(1, 17, 1, 3),   T4(4, 16, 8, 8), T3(3, 4, 7),
                                   T4(2, 64, 13, 11), T4(5, 1, 1, 1),  T4(3, 8, 56, 56)};
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static void cases_batchnorm(struct suite *s)
{
    struct ft_type xs[9];
    int n = batchnorm_types(xs);
    for (int i = 0; i < n; i++) {
        struct kase k = batchnorm_case(FT_OP_BATCHNORM, &xs[i], i);
        struct ft_type c = T1(ft_extent(&xs[i], 1));
        kase_in(&k, xs[i], NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, POSITIVE);
        check(s, &k);
    }
}

static void cases_batchnorm_bwd(struct suite *s)
{
    struct ft_type xs[9];
    int n = batchnorm_types(xs);
    for (int i = 0; i < n; i++) {
        struct kase k = batchnorm_case(FT_OP_BATCHNORM_BWD, &xs[i], i);
        struct ft_type c = T1(ft_extent(&xs[i], 1));
        k.floor += (double)(ft_elements(&xs[i]) / ft_extent(&xs[i], 1)); /* dscale and dbias are sums */
        kase_in(&k, xs[i], NORMAL);
        kase_in(&k, xs[i], NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, POSITIVE);
        check(s, &k);
    }
}

static void cases_batchnorm_train(struct suite *s)
{
    struct ft_type xs[9];
    int n = batchnorm_types(xs);
    for (int i = 0; i < n; i++) {
        struct kase k = batchnorm_case(FT_OP_BATCHNORM_TRAIN, &xs[i], i);
        struct ft_type c = T1(ft_extent(&xs[i], 1));
        kase_in(&k, xs[i], NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, POSITIVE);
        check(s, &k);
    }
}

static void cases_batchnorm_train_bwd(struct suite *s)
{
    struct ft_type xs[9];
    int n = batchnorm_types(xs);
    for (int i = 0; i < n; i++) {
        struct kase k = batchnorm_case(FT_OP_BATCHNORM_TRAIN_BWD, &xs[i], i);
        struct ft_type c = T1(ft_extent(&xs[i], 1));
        k.floor += (double)(ft_elements(&xs[i]) / ft_extent(&xs[i], 1));
        kase_in(&k, xs[i], NORMAL);
        kase_in(&k, xs[i], NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, NORMAL);
        kase_in(&k, c, POSITIVE);
        check(s, &k);
    }
}

static void cases_fold_batchnorm(struct suite *s)
{
    const struct ft_type ws[4] = {T4(1, 1, 1, 1), T4(7, 5, 3, 3), T3(33, 2, 4), T4(64, 128, 3, 3)};
    for (int i = 0; i < 8; i++) {
        struct kase k = kase_of(FT_OP_FOLD_BATCHNORM, ELEMENT, 8.0, 8.0);
        int64_t features = ft_extent(&ws[i / 2], 0);
        k.attrs.eps = 1e-5F;
        kase_in(&k, ws[i / 2], NORMAL);
        kase_in(&k, T1(features), NORMAL);
        kase_in(&k, T1(features), NORMAL);
        kase_in(&k, T1(features), NORMAL);
        kase_in(&k, T1(features), POSITIVE);
        if (i % 2 != 0) {
            kase_in(&k, T1(features), NORMAL);
        }
        check(s, &k);
    }
}

/* ---- pooling */

struct pool_case {
    int64_t n, c, h, w; /* h = 0: one spatial axis */
    struct ft_window window;
    int64_t out[3]; /* 0: computed */
};

static const struct pool_case pool_cases[] = {
    {1, 1, 1, 1, WINDOW2(1, 1, 1, 1, 1, 1, 0, 0, 0, 0), {0, 0}},
    {2, 3, 8, 6, WINDOW2(2, 2, 2, 2, 1, 1, 0, 0, 0, 0), {0, 0}},
    {1, 17, 13, 11, WINDOW2(3, 3, 2, 2, 1, 1, 1, 1, 1, 1), {0, 0}}, /* a ResNet's */
    {2, 16, 7, 7, WINDOW2(7, 7, 1, 1, 1, 1, 0, 0, 0, 0), {0, 0}},   /* global */
    {2, 5, 9, 10, WINDOW2(3, 2, 1, 3, 1, 1, 1, 0, 0, 1), {0, 0}},   /* pads differ */
    {1, 4, 6, 6, WINDOW2(3, 3, 2, 2, 1, 1, 0, 0, 0, 0), {3, 3}},    /* ceil_mode, no pads */
    {2, 3, 7, 8, WINDOW2(3, 3, 2, 2, 1, 1, 1, 1, 1, 1), {4, 5}},    /* ceil_mode with pads */
    {1, 32, 28, 28, WINDOW2(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), {0, 0}},
    {3, 2, 0, 11, WINDOW1(3, 2, 1, 1, 1), {0, 0}},
    {2, 1, 0, 7, WINDOW1(2, 2, 1, 0, 0), {4}},
    {2, 3, 5, 6, WINDOW3(2, 3, 2, 1, 2, 2, 1, 1, 1, 1, 0), {0}},
    {1, 2, 7, 5, WINDOW3(3, 2, 3, 2, 2, 1, 1, 1, 1, 1, 1), {2, 4, 5}}, /* ceil_mode */
};
/* PyTorch has no dilated average, ONNX has since opset 19. */
static const struct pool_case dilated_case = {2, 3, 9, 9, WINDOW2(3, 2, 1, 2, 2, 3, 1, 1, 1, 1), {0, 0}};

static struct ft_attrs pool_attrs(const struct pool_case *p)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    a.window = p->window;
    memcpy(a.window.out, p->out, sizeof p->out);
    return a;
}

static struct ft_type pool_x(const struct pool_case *p)
{
    if (p->window.rank == 3) {
        return T5(p->n, p->c, DEPTH, p->h, p->w);
    }
    return p->h == 0 ? T3(p->n, p->c, p->w) : T4(p->n, p->c, p->h, p->w);
}

static struct ft_type pool_y(const struct pool_case *p)
{
    struct ft_attrs a = pool_attrs(p);
    struct ft_type x = pool_x(p);
    struct ft_type y[2];
    struct ft_err err = {0};
    assert_int_equal(ft_op_infer(FT_OP_MAXPOOL, &a, &x, 1, y, &err), FT_OK);
    return y[0];
}

static const struct pool_case *any_pool_case(int i)
{
    return i == 0 ? &dilated_case : &pool_cases[i - 1];
}

static void cases_maxpool(struct suite *s)
{
    for (int i = 0; i < (COUNT_OF(pool_cases) + 1) * 2; i++) {
        struct kase k = kase_of(FT_OP_MAXPOOL, EXACT, 0.0, 0.0);
        k.attrs = pool_attrs(any_pool_case(i / 2));
        kase_in(&k, pool_x(any_pool_case(i / 2)), i % 2 == 0 ? NORMAL : GRID); /* ties: the first wins */
        check(s, &k);
    }
}

static void cases_maxpool_bwd(struct suite *s)
{
    for (int i = 0; i <= COUNT_OF(pool_cases); i++) {
        const struct pool_case *p = any_pool_case(i);
        struct kase fwd = kase_of(FT_OP_MAXPOOL, EXACT, 0.0, 0.0);
        fwd.attrs = pool_attrs(p);
        kase_in(&fwd, pool_x(p), GRID);
        double *x = random_values(s, &fwd.in[0], 0, GRID);
        double *where = forward(s, &fwd, &x, 1);
        struct kase k = kase_of(FT_OP_MAXPOOL_BWD, SUM, 16.0, 0.0);
        k.attrs = fwd.attrs;
        struct ft_type where_type = pool_y(p);
        where_type.dtype = FT_I32;
        kase_in(&k, pool_y(p), NORMAL);
        kase_given(&k, where_type, where);
        kase_in(&k, pool_x(p), NORMAL);
        check(s, &k);
        ft_free(x);
        ft_free(where);
    }
}

static void cases_avgpool(struct suite *s)
{
    for (int i = 0; i < (COUNT_OF(pool_cases) + 1) * 2; i++) {
        struct kase k = kase_of(FT_OP_AVGPOOL, SUM, 32.0, 0.0);
        k.attrs = pool_attrs(any_pool_case(i / 2));
        k.attrs.count_include_pad = i % 2;
        kase_in(&k, pool_x(any_pool_case(i / 2)), NORMAL);
        check(s, &k);
    }
}

static void cases_avgpool_bwd(struct suite *s)
{
    for (int i = 0; i < (COUNT_OF(pool_cases) + 1) * 2; i++) {
        struct kase k = kase_of(FT_OP_AVGPOOL_BWD, SUM, 32.0, 0.0);
        k.attrs = pool_attrs(any_pool_case(i / 2));
        k.attrs.count_include_pad = i % 2;
        kase_in(&k, pool_y(any_pool_case(i / 2)), NORMAL);
        kase_in(&k, pool_x(any_pool_case(i / 2)), NORMAL);
        check(s, &k);
    }
}

/* ---- matrices */

static void matmul_case(struct suite *s, struct ft_type a, struct ft_type b, int variant)
{
    struct kase k = kase_of(FT_OP_MATMUL, SUM, 0.0, 0.0);
    k.attrs.trans_a = variant & 1;
    k.attrs.trans_b = variant >> 1 & 1;
    k.attrs.alpha = variant == 0 ? 1.0F : variant == 1 ? 0.5F : variant == 2 ? -2.0F : 1.0F;
    struct ft_type in[2] = {a, b};
    for (int i = 0; i < 2; i++) { /* given as (M, K) and (K, N): store transposed what is to be transposed */
        if (i == 0 ? k.attrs.trans_a : k.attrs.trans_b) {
            int last = in[i].rank - 1;
            struct ft_dim d = in[i].dim[last];
            in[i].dim[last] = in[i].dim[last - 1];
            in[i].dim[last - 1] = d;
        }
        kase_in(&k, in[i], NORMAL);
    }
    k.factor = sum_factor((double)ft_extent(&a, a.rank - 1));
    check(s, &k);
    kase_in(&k, T1(ft_extent(&b, b.rank - 1)), NORMAL);
    check(s, &k);
}

static void matmul_epilogues(struct suite *s, struct ft_type a, struct ft_type b, struct ft_type y)
{
    struct kase k = kase_of(FT_OP_MATMUL, SUM, sum_factor((double)ft_extent(&a, a.rank - 1)), 0.0);
    k.attrs.alpha = 1.0F;
    kase_in(&k, a, NORMAL);
    kase_in(&k, b, NORMAL);
    epilogue_cases(s, &k, y, ft_extent(&b, b.rank - 1), 0, FT_ACT_COUNT);
}

static void cases_matmul(struct suite *s)
{
    matmul_epilogues(s, T2(13, 17), T2(17, 11), T2(13, 11));
    matmul_epilogues(s, T3(3, 4, 64), T2(64, 128), T3(3, 4, 128));
    matmul_epilogues(s, T3(2, 5, 7), T3(2, 7, 3), T3(2, 5, 3));
    for (int variant = 0; variant < 4; variant++) {
        matmul_case(s, T2(1, 1), T2(1, 1), variant);
        matmul_case(s, T2(1, 7), T2(7, 1), variant);
        matmul_case(s, T2(5, 1), T2(1, 3), variant);
        matmul_case(s, T2(13, 17), T2(17, 11), variant);
        matmul_case(s, T2(64, 64), T2(64, 64), variant);
        matmul_case(s, T2(3, 128), T2(128, 257), variant);
        matmul_case(s, T2(131, 1009), T2(1009, 37), variant);
        matmul_case(s, T3(2, 5, 7), T3(2, 7, 3), variant);
        matmul_case(s, T4(2, 3, 4, 8), T4(2, 3, 8, 5), variant);
        matmul_case(s, T3(3, 4, 6), T2(6, 5), variant);
        matmul_case(s, T2(4, 6), T3(3, 6, 5), variant);
        matmul_case(s, T4(2, 1, 4, 6), T2(6, 5), variant);
    }
}

/* ---- element by element */

static int element_types(struct ft_type out[11])
{
    const struct ft_type all[11] = {
        T0,          T1(1),          T1(7),           T1(1031),        T1(100003),       T2(16, 1),
        T3(2, 3, 5), T4(2, 3, 4, 5), T4(1, 17, 1, 1), T4(4, 64, 9, 7), T5(2, 3, 2, 1, 5)};
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

/* One input of kind `a`, or two. */
static void element_cases(struct suite *s, struct kase k, enum fill a, bool two, enum fill b)
{
    struct ft_type types[11];
    int n = element_types(types);
    for (int i = 0; i < n; i++) {
        struct kase one = k;
        kase_in(&one, types[i], a);
        if (two) {
            kase_in(&one, types[i], b);
        }
        check(s, &one);
    }
}

#define ELEMENT_CASES_1(name, NAME, rule, factor, floor, fill)                                               \
    static void cases_##name(struct suite *s)                                                                \
    {                                                                                                        \
        element_cases(s, kase_of(FT_OP_##NAME, rule, factor, floor), fill, false, NORMAL);                   \
    }
#define ELEMENT_CASES_2(name, NAME, rule, factor, floor, a, b)                                               \
    static void cases_##name(struct suite *s)                                                                \
    {                                                                                                        \
        element_cases(s, kase_of(FT_OP_##NAME, rule, factor, floor), a, true, b);                            \
    }

/* Factors: an IEEE operation rounds once; exp, log, tanh and their like are good to some ulps in float32; a
 * floor stands for the size of the terms inside. */
ELEMENT_CASES_1(relu, RELU, EXACT, 0.0, 0.0, GRID)
ELEMENT_CASES_2(relu_bwd, RELU_BWD, EXACT, 0.0, 0.0, NORMAL, GRID)
ELEMENT_CASES_1(sigmoid, SIGMOID, ELEMENT, 16.0, 0.0, NORMAL)
ELEMENT_CASES_2(sigmoid_bwd, SIGMOID_BWD, ELEMENT, 8.0, 0.0, NORMAL, NORMAL)
ELEMENT_CASES_1(tanh, TANH, ELEMENT, 16.0, 0.0, NORMAL)
ELEMENT_CASES_2(tanh_bwd, TANH_BWD, ELEMENT, 8.0, 8.0, NORMAL, NORMAL)
ELEMENT_CASES_1(exp, EXP, ELEMENT, 16.0, 0.0, NORMAL)
ELEMENT_CASES_1(log, LOG, ELEMENT, 8.0, 1.0, POSITIVE)
ELEMENT_CASES_1(sqrt, SQRT, ELEMENT, 2.0, 0.0, POSITIVE)
ELEMENT_CASES_1(neg, NEG, EXACT, 0.0, 0.0, GRID)

static struct kase leaky_case(enum ft_op op)
{
    struct kase k = kase_of(op, ELEMENT, 2.0, 0.0);
    k.attrs.alpha = 0.01F;
    return k;
}

static void cases_leaky_relu(struct suite *s)
{
    element_cases(s, leaky_case(FT_OP_LEAKY_RELU), GRID, false, NORMAL);
}

static void cases_leaky_relu_bwd(struct suite *s)
{
    element_cases(s, leaky_case(FT_OP_LEAKY_RELU_BWD), NORMAL, true, GRID);
}

/* The last ones stand the wrong way round: everything becomes the upper bound, as in torch.clamp. */
static const float clip_bounds[][2] = {
    {-0.5F, 0.75F}, {0.0F, 6.0F}, {-INFINITY, 0.25F}, {-0.25F, INFINITY}, {0.75F, -0.5F}};

static struct kase clip_case(enum ft_op op, int i)
{
    struct kase k = kase_of(op, EXACT, 0.0, 0.0);
    k.attrs.lo = clip_bounds[i][0];
    k.attrs.hi = clip_bounds[i][1];
    return k;
}

static void cases_clip(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(clip_bounds); i++) {
        element_cases(s, clip_case(FT_OP_CLIP, i), GRID, false, NORMAL);
    }
}

static void cases_clip_bwd(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(clip_bounds); i++) { /* the grid holds the bounds themselves */
        element_cases(s, clip_case(FT_OP_CLIP_BWD, i), NORMAL, true, GRID);
    }
}

static void cases_scale(struct suite *s)
{
    static const float factors[][2] = {{1.0F, 0.0F}, {-0.3F, 2.5F}, {0.0F, 1.0F}};
    for (int i = 0; i < COUNT_OF(factors); i++) {
        struct kase k = kase_of(FT_OP_SCALE, ELEMENT, 4.0, 3.0);
        k.attrs.alpha = factors[i][0];
        k.attrs.beta = factors[i][1];
        element_cases(s, k, NORMAL, false, NORMAL);
    }
}

static void cases_dropout(struct suite *s)
{
    static const float probabilities[] = {0.0F, 0.1F, 0.5F, 1.0F};
    struct ft_type types[11];
    int n = element_types(types);
    for (int i = 0; i < n * COUNT_OF(probabilities); i++) {
        struct kase k = kase_of(FT_OP_DROPOUT, ELEMENT, 4.0, 0.0);
        double rng[2] = {1234567890123.0, (double)(i * 17)};
        struct ft_type rng_type = T1(2);
        rng_type.dtype = FT_I64;
        k.attrs.alpha = probabilities[i % COUNT_OF(probabilities)];
        k.attrs.node = i * 1001;
        kase_in(&k, types[i / COUNT_OF(probabilities)], POSITIVE);
        kase_given(&k, rng_type, rng);
        check(s, &k);
    }
}

struct pair_of_types {
    struct ft_type a, b;
};

static int broadcast_pairs(struct pair_of_types out[17])
{
    const struct pair_of_types all[17] = {
        {T0, T0},
        {T1(1), T1(7)},
        {T1(1031), T0},
        {T2(5, 7), T2(5, 7)},
        {T2(5, 1), T2(1, 7)},
        {T2(5, 7), T1(7)},
        {T2(37, 61), T2(37, 1)},
        {T3(4, 1, 6), T2(5, 1)},
        {T4(2, 3, 4, 5), T4(2, 3, 4, 5)},
        {T4(2, 3, 4, 5), T1(5)},
        {T4(2, 3, 4, 5), T3(3, 1, 1)},
        {T4(2, 3, 4, 5), T4(1, 3, 1, 1)},
        {T4(2, 16, 4, 5), T4(2, 16, 1, 1)},
        {T4(2, 3, 1, 1), T4(1, 1, 4, 5)},
        {T4(2, 3, 4, 5), T0},
        {T4(4, 64, 9, 7), T4(4, 1, 9, 7)},
        {T1(100003), T1(1)},
    };
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static void broadcast_cases(struct suite *s, enum ft_op op, double factor, enum fill a, enum fill b)
{
    struct pair_of_types pairs[17];
    int n = broadcast_pairs(pairs);
    for (int i = 0; i < 2 * n; i++) {
        struct kase k = kase_of(op, ELEMENT, factor, 0.0);
        kase_in(&k, i % 2 == 0 ? pairs[i / 2].a : pairs[i / 2].b, a);
        kase_in(&k, i % 2 == 0 ? pairs[i / 2].b : pairs[i / 2].a, b);
        check(s, &k);
    }
}

static void integer_cases(struct suite *s, enum ft_op op, enum fill a, enum fill b)
{
    struct pair_of_types pairs[17];
    int n = broadcast_pairs(pairs);
    for (int i = 0; i < n; i++) {
        struct kase k = kase_of(op, EXACT, 0.0, 0.0);
        kase_in(&k, pairs[i].a, a);
        kase_in(&k, pairs[i].b, b);
        k.in[0].dtype = k.in[1].dtype = FT_I64;
        check(s, &k);
    }
}

#define BROADCAST_CASES(name, NAME, factor, a, b, i, j)                                                      \
    static void cases_##name(struct suite *s)                                                                \
    {                                                                                                        \
        broadcast_cases(s, FT_OP_##NAME, factor, a, b);                                                      \
        integer_cases(s, FT_OP_##NAME, i, j);                                                                \
    }

BROADCAST_CASES(add, ADD, 1.0, NORMAL, NORMAL, INTEGERS, INTEGERS)
BROADCAST_CASES(sub, SUB, 1.0, NORMAL, NORMAL, INTEGERS, INTEGERS)
BROADCAST_CASES(mul, MUL, 1.0, NORMAL, NORMAL, INTEGERS, INTEGERS)
BROADCAST_CASES(div, DIV, 2.0, NORMAL, POSITIVE, INTEGERS, NONZERO)
/* exp(b log a) loses some |b log a| ulps, below 12 for these values */
BROADCAST_CASES(pow, POW, 64.0, POSITIVE, NORMAL, INTEGERS, EXPONENTS)

#endif
