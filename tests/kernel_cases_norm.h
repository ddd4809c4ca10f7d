/*
 * kernel_cases_norm.h - calls of layer normalisation and of the reductions that are not sums; included by
 * kernel_cases_loss.h.
 */
#ifndef FT_TESTS_KERNEL_CASES_NORM_H
#define FT_TESTS_KERNEL_CASES_NORM_H

#include "kernel_cases_map.h"

struct ln_case {
    struct ft_type x;
    int axis;
};

static int ln_cases(struct ln_case out[9])
{
    const struct ln_case all[9] = {{T2(3, 7), 1},        {T2(67, 1), 1},       {T3(2, 5, 384), 2},
                                   {T3(4, 197, 192), 2}, {T4(2, 3, 4, 5), 1},  {T4(2, 3, 4, 5), 0},
                                   {T1(1031), 0},        {T4(1, 7, 7, 96), 3}, {T3(2, 1, 3001), 1}};
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static struct ft_type ln_scale(const struct ln_case *c)
{
    int64_t extents[FT_MAX_RANK] = {0};
    for (int i = c->axis; i < c->x.rank; i++) {
        extents[i - c->axis] = ft_extent(&c->x, i);
    }
    return type_f(c->x.rank - c->axis, extents);
}

/* Roundings are relative to |x - mean| / std * |scale| + |bias|, around 8 for these values; the mean and the
 * deviation are sums over the row. Rows of one value are 0 / sqrt(eps): there the mean is exact. */
static void cases_layernorm(struct suite *s)
{
    struct ln_case cases[9];
    int n = ln_cases(cases);
    for (int i = 0; i < 2 * n; i++) {
        const struct ln_case *c = &cases[i / 2];
        struct ft_type scale = ln_scale(c);
        struct kase k = kase_of(FT_OP_LAYERNORM, ELEMENT, sum_factor((double)ft_elements(&scale)), 8.0);
        k.attrs.axis = c->axis;
        k.attrs.eps = i % 2 == 0 ? 1e-5F : 1e-3F;
        kase_in(&k, c->x, NORMAL);
        kase_in(&k, scale, NORMAL);
        if (i % 2 != 0) {
            kase_in(&k, scale, NORMAL);
        }
        check(s, &k);
    }
}

/* mean and invstd are those of x; dscale and dbias are sums over the rows. */
static void cases_layernorm_bwd(struct suite *s)
{
    struct ln_case cases[9];
    int n = ln_cases(cases);
    for (int i = 0; i < n; i++) {
        const struct ln_case *c = &cases[i];
        struct ft_type scale = ln_scale(c);
        struct kase fwd = kase_of(FT_OP_LAYERNORM, EXACT, 0.0, 0.0);
        fwd.attrs.axis = c->axis;
        fwd.attrs.eps = 1e-3F;
        kase_in(&fwd, c->x, NORMAL);
        kase_in(&fwd, scale, NORMAL);
        double *in[2] = {random_values(s, &c->x, 1, NORMAL), random_values(s, &scale, 2, NORMAL)};
        double *mean = forward(s, &fwd, in, 1);
        double *invstd = forward(s, &fwd, in, 2);
        struct ft_type moment = c->x;
        for (int axis = c->axis; axis < moment.rank; axis++) {
            moment.dim[axis] = ft_dim_of(1);
        }
        double rows = (double)ft_elements(&moment);
        /* A row of one value has invstd 1 / sqrt(eps) = 32, which multiplies what cancels. */
        double floor = (8.0 + rows) * (ft_elements(&scale) == 1 ? 32.0 : 1.0);
        struct kase k = kase_of(FT_OP_LAYERNORM_BWD, ELEMENT, sum_factor((double)ft_elements(&scale)), floor);
        k.attrs = fwd.attrs;
        kase_in(&k, c->x, NORMAL);
        kase_given(&k, c->x, in[0]);
        kase_given(&k, scale, in[1]);
        kase_given(&k, moment, mean);
        kase_given(&k, moment, invstd);
        check(s, &k);
        ft_free(in[0]);
        ft_free(in[1]);
        ft_free(mean);
        ft_free(invstd);
    }
}

/* ---- reductions that are not sums. `cpu` computes in double and rounds once; a log of sums may cancel
 * against its largest exponent. GRID has ties, and zeros among the factors of a product. */

struct fold_case {
    struct ft_type x;
    int count;
    int axes[3];
};

static int fold_cases(struct fold_case out[12])
{
    const struct fold_case all[12] = {
        {T0, 0, {0}},
        {T1(1), 1, {0}},
        {T1(1009), 1, {0}},
        {T2(5, 7), 0, {0}},
        {T2(5, 7), 1, {0}},
        {T2(5, 7), 1, {1}},
        {T2(131, 3), 2, {1, 0}},
        {T3(2, 13, 1), 2, {0, 2}},
        {T3(3, 17, 5), 1, {1}},
        {T4(2, 3, 4, 5), 2, {2, 3}},
        {T4(2, 8, 5, 7), 3, {0, 2, 3}},
        {T5(2, 3, 2, 3, 2), 3, {0, 2, 4}},
    };
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static struct kase fold_case(const struct fold_case *c, enum ft_op op, int fold, int keep)
{
    struct kase k = kase_of(op, ELEMENT, fold == FT_FOLD_MAX || fold == FT_FOLD_MIN ? 1.0 : 4.0,
                            fold == FT_FOLD_LOG_SUM_EXP ? 1.0 : 0.0);
    k.attrs.kind = fold;
    k.attrs.keepdims = keep;
    k.attrs.axes_count = c->count;
    memcpy(k.attrs.axes, c->axes, (size_t)c->count * sizeof *c->axes);
    return k;
}

/* Factors around 1 and -1, so that no product leaves the floats. */
static double *fold_values(struct suite *s, const struct ft_type *t, int fold, bool grid)
{
    double *x = random_values(s, t, 1, grid ? GRID : NORMAL);
    for (int64_t i = 0; fold == FT_FOLD_PROD && !grid && i < ft_elements(t); i++) {
        x[i] = (double)(float)(exp(0.05 * x[i]) * (x[i] < 0 ? -1.0 : 1.0));
    }
    return x;
}

static void cases_reduce(struct suite *s)
{
    struct fold_case cases[12];
    int n = fold_cases(cases);
    for (int i = 0; i < n * FT_FOLD_COUNT * 2; i++) {
        const struct fold_case *c = &cases[i % n];
        struct kase k = fold_case(c, FT_OP_REDUCE, i / n / 2, i / n % 2);
        double *x = fold_values(s, &c->x, i / n / 2, i / n % 2 != 0);
        kase_given(&k, c->x, x);
        check(s, &k);
        ft_free(x);
    }
}

static void cases_reduce_bwd(struct suite *s)
{
    struct fold_case cases[12];
    int n = fold_cases(cases);
    for (int i = 0; i < n * FT_FOLD_COUNT * 2; i++) {
        const struct fold_case *c = &cases[i % n];
        struct kase fwd = fold_case(c, FT_OP_REDUCE, i / n / 2, i / n % 2);
        struct ft_type y;
        struct ft_err err = {0};
        kase_in(&fwd, c->x, NORMAL);
        assert_int_equal(ft_op_infer(FT_OP_REDUCE, &fwd.attrs, &c->x, 1, &y, &err), FT_OK);
        double *in[1] = {fold_values(s, &c->x, i / n / 2, i / n % 2 != 0)};
        double *result = forward(s, &fwd, in, 0);
        struct kase k = fold_case(c, FT_OP_REDUCE_BWD, i / n / 2, i / n % 2);
        kase_in(&k, y, NORMAL);
        kase_given(&k, c->x, in[0]);
        kase_given(&k, y, result);
        check(s, &k);
        ft_free(in[0]);
        ft_free(result);
    }
}

#endif
