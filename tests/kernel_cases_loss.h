/*
 * kernel_cases_loss.h - calls for shapes, reductions, losses and optimisers; see kernel_cases.h.
 */
#ifndef FT_TESTS_KERNEL_CASES_LOSS_H
#define FT_TESTS_KERNEL_CASES_LOSS_H

#include "kernel_cases_map.h"
#include "kernel_cases_window.h"
#include "kernel_cases_norm.h"

/* ---- reductions and broadcasts */

static void reduce_case(struct suite *s, enum ft_op op, struct ft_type x, int count, const int *axes)
{
    for (int keep = 0; keep < 2; keep++) {
        struct kase k = kase_of(op, SUM, 0.0, 0.0);
        double terms = 1.0;
        k.attrs.axes_count = count;
        k.attrs.keepdims = keep;
        for (int i = 0; i < count; i++) {
            k.attrs.axes[i] = axes[i];
            terms *= (double)ft_extent(&x, axes[i]);
        }
        k.factor = sum_factor(terms);
        kase_in(&k, x, NORMAL);
        check(s, &k);
    }
}
#define AXES(...)                                                                                            \
    COUNT_OF(((const int[]){__VA_ARGS__})), (const int[])                                                    \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

static void reduce_cases(struct suite *s, enum ft_op op)
{
    reduce_case(s, op, T0, 0, NULL);
    reduce_case(s, op, T1(1), AXES(0));
    reduce_case(s, op, T1(10007), AXES(0));
    reduce_case(s, op, T2(5, 7), 0, NULL);
    reduce_case(s, op, T2(5, 7), AXES(0));
    reduce_case(s, op, T2(5, 7), AXES(1));
    reduce_case(s, op, T2(257, 3), AXES(1, 0));
    reduce_case(s, op, T3(2, 13, 1), AXES(0, 2));
    reduce_case(s, op, T3(3, 17, 5), AXES(1));
    reduce_case(s, op, T4(2, 3, 4, 5), AXES(2, 3));
    reduce_case(s, op, T4(2, 3, 4, 5), AXES(0, 2, 3));
    reduce_case(s, op, T4(2, 64, 7, 7), AXES(3, 2));
    reduce_case(s, op, T4(2, 3, 4, 5), AXES(1));
    reduce_case(s, op, T5(2, 3, 2, 3, 2), AXES(0, 2, 4));
}

static void cases_reduce_sum(struct suite *s)
{
    reduce_cases(s, FT_OP_REDUCE_SUM);
}

static void cases_reduce_mean(struct suite *s)
{
    reduce_cases(s, FT_OP_REDUCE_MEAN);
}

/* (large, small) where small broadcasts to large. */
static int expand_pairs(struct pair_of_types out[13])
{
    const struct pair_of_types all[13] = {
        {T0, T0},
        {T1(7), T0},
        {T1(1031), T1(1)},
        {T2(5, 7), T2(5, 7)},
        {T2(5, 7), T2(1, 7)},
        {T2(513, 7), T1(7)},
        {T2(5, 257), T2(5, 1)},
        {T3(4, 5, 6), T2(5, 1)},
        {T4(2, 3, 4, 5), T4(1, 3, 1, 1)},
        {T4(2, 16, 7, 7), T3(16, 1, 1)},
        {T4(2, 3, 4, 5), T4(2, 3, 1, 1)},
        {T4(2, 3, 4, 5), T1(5)},
        {T5(2, 3, 1, 4, 2), T4(3, 1, 1, 2)},
    };
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static void cases_sum_to(struct suite *s)
{
    struct pair_of_types pairs[13];
    int n = expand_pairs(pairs);
    for (int i = 0; i < n; i++) {
        double terms = (double)(ft_elements(&pairs[i].a) / ft_elements(&pairs[i].b));
        struct kase k = kase_of(FT_OP_SUM_TO, SUM, sum_factor(terms), 0.0);
        kase_in(&k, pairs[i].a, NORMAL);
        kase_in(&k, pairs[i].b, NORMAL);
        check(s, &k);
    }
}

static void cases_expand_to(struct suite *s)
{
    struct pair_of_types pairs[13];
    int n = expand_pairs(pairs);
    for (int i = 0; i < n; i++) {
        struct kase k = kase_of(FT_OP_EXPAND_TO, EXACT, 0.0, 0.0);
        kase_in(&k, pairs[i].b, NORMAL);
        kase_in(&k, pairs[i].a, NORMAL);
        check(s, &k);
    }
}

/* ---- moving elements */

static int reshape_pairs(struct pair_of_types out[8])
{
    const struct pair_of_types all[8] = {
        {T0, T1(1)},
        {T1(12), T3(2, 3, 2)},
        {T4(2, 3, 4, 5), T2(2, 60)},
        {T2(2, 60), T4(2, 3, 4, 5)},
        {T4(2, 3, 4, 5), T4(2, 6, 2, 5)},
        {T4(3, 16, 1, 1), T2(3, 16)},
        {T5(2, 1, 3, 1, 7), T2(6, 7)},
        {T1(10007), T2(1, 10007)},
    };
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static void cases_reshape(struct suite *s)
{
    struct pair_of_types pairs[8];
    int n = reshape_pairs(pairs);
    for (int i = 0; i < n; i++) {
        struct kase k = kase_of(FT_OP_RESHAPE, EXACT, 0.0, 0.0);
        k.attrs.shape_rank = pairs[i].b.rank;
        memcpy(k.attrs.shape, pairs[i].b.dim, sizeof k.attrs.shape);
        kase_in(&k, pairs[i].a, NORMAL);
        check(s, &k);
    }
}

static void cases_reshape_like(struct suite *s)
{
    struct pair_of_types pairs[8];
    int n = reshape_pairs(pairs);
    for (int i = 0; i < n; i++) {
        struct kase k = kase_of(FT_OP_RESHAPE_LIKE, EXACT, 0.0, 0.0);
        kase_in(&k, pairs[i].a, NORMAL);
        kase_in(&k, pairs[i].b, NORMAL);
        check(s, &k);
    }
}

static void transpose_case(struct suite *s, struct ft_type x, const int *perm)
{
    struct kase k = kase_of(FT_OP_TRANSPOSE, EXACT, 0.0, 0.0);
    memcpy(k.attrs.perm, perm, (size_t)x.rank * sizeof *perm);
    kase_in(&k, x, NORMAL);
    check(s, &k);
}

static void cases_transpose(struct suite *s)
{
    transpose_case(s, T1(7), (const int[]){0});
    transpose_case(s, T2(5, 7), (const int[]){1, 0});
    transpose_case(s, T2(129, 67), (const int[]){1, 0});
    transpose_case(s, T2(5, 7), (const int[]){0, 1});
    transpose_case(s, T3(2, 3, 5), (const int[]){2, 0, 1});
    transpose_case(s, T4(2, 3, 4, 5), (const int[]){0, 2, 3, 1});
    transpose_case(s, T4(2, 3, 4, 5), (const int[]){0, 3, 1, 2});
    transpose_case(s, T4(2, 3, 4, 5), (const int[]){3, 1, 2, 0});
    transpose_case(s, T4(2, 12, 16, 8), (const int[]){0, 2, 1, 3});
    transpose_case(s, T5(2, 3, 1, 4, 2), (const int[]){4, 2, 0, 3, 1});
}

static void concat_case(struct suite *s, struct ft_type first, int axis, int n, const int64_t *extents)
{
    struct kase k = kase_of(FT_OP_CONCAT, EXACT, 0.0, 0.0);
    k.attrs.axis = axis;
    for (int i = 0; i < n; i++) {
        struct ft_type t = first;
        t.dim[axis] = ft_dim_of(extents[i]);
        kase_in(&k, t, NORMAL);
    }
    check(s, &k);
}

static void cases_concat(struct suite *s)
{
    static const int64_t extents[] = {3, 1, 17, 2, 5};
    for (int n = 1; n <= COUNT_OF(extents); n++) {
        concat_case(s, T1(1), 0, n, extents);
        concat_case(s, T2(1, 7), 0, n, extents);
        concat_case(s, T2(5, 1), 1, n, extents);
        concat_case(s, T3(2, 1, 3), 1, n, extents);
        for (int axis = 0; axis < 4; axis++) {
            concat_case(s, T4(2, 3, 4, 5), axis, n, extents);
        }
    }
}

static void cases_slice(struct suite *s)
{
    const struct ft_type types[] = {T1(7), T2(5, 7), T3(4, 1, 6), T4(2, 8, 5, 7), T5(2, 3, 2, 3, 2)};
    for (int i = 0; i < COUNT_OF(types); i++) {
        for (int axis = 0; axis < types[i].rank; axis++) {
            for (int part = 0; part < 3; part++) { /* all, the first, the last half */
                struct kase k = kase_of(FT_OP_SLICE, EXACT, 0.0, 0.0);
                int64_t extent = ft_extent(&types[i], axis);
                k.attrs.axis = axis;
                k.attrs.start = part == 2 ? extent / 2 : 0;
                k.attrs.count = part == 0 ? extent : part == 1 ? 1 : extent - extent / 2;
                kase_in(&k, types[i], NORMAL);
                check(s, &k);
            }
        }
    }
    strided_cases(s, FT_OP_SLICE);
}

static void cases_pad_like(struct suite *s)
{
    const struct ft_type types[] = {T1(7), T2(5, 7), T3(4, 1, 6), T4(2, 8, 5, 7), T5(2, 3, 2, 3, 2)};
    for (int i = 0; i < COUNT_OF(types); i++) {
        for (int axis = 0; axis < types[i].rank; axis++) {
            for (int part = 0; part < 3; part++) {
                struct kase k = kase_of(FT_OP_PAD_LIKE, EXACT, 0.0, 0.0);
                int64_t extent = ft_extent(&types[i], axis);
                struct ft_type large = types[i];
                large.dim[axis] = ft_dim_of(extent + (part == 0 ? 0 : 3));
                k.attrs.axis = axis;
                k.attrs.start = part == 0 ? 0 : part == 1 ? 1 : 3;
                kase_in(&k, types[i], NORMAL);
                kase_in(&k, large, NORMAL);
                check(s, &k);
            }
        }
    }
    strided_cases(s, FT_OP_PAD_LIKE);
}

/* ---- softmax. x - log(sum) is rounded relative to |x| + |log(sum)|, 4 for most of these rows. */

static void softmax_cases(struct suite *s, enum ft_op op, double floor, bool backward)
{
    const struct ft_type types[] = {T1(1), T1(13), T2(5, 7), T2(3, 1031), T3(2, 5, 3), T4(2, 3, 4, 5)};
    for (int i = 0; i < COUNT_OF(types); i++) {
        for (int axis = 0; axis < types[i].rank; axis++) {
            double n = (double)ft_extent(&types[i], axis);
            struct kase k = kase_of(op, ELEMENT, sum_factor(n) + 16.0, floor);
            k.attrs.axis = axis;
            kase_in(&k, types[i], NORMAL);
            if (backward) { /* y as the forward pass makes it */
                struct kase fwd =
                    kase_of(op == FT_OP_SOFTMAX_BWD ? FT_OP_SOFTMAX : FT_OP_LOG_SOFTMAX, EXACT, 0.0, 0.0);
                fwd.attrs.axis = axis;
                kase_in(&fwd, types[i], NORMAL);
                double *x = random_values(s, &types[i], 0, NORMAL);
                double *y = forward(s, &fwd, &x, 0);
                kase_given(&k, types[i], y);
                k.floor = op == FT_OP_SOFTMAX_BWD ? 1.0 : 4.0 + sqrt(n);
                check(s, &k);
                ft_free(x);
                ft_free(y);
            } else {
                check(s, &k);
            }
        }
    }
}

static void cases_softmax(struct suite *s)
{
    softmax_cases(s, FT_OP_SOFTMAX, 0.0, false);
}

static void cases_softmax_bwd(struct suite *s)
{
    softmax_cases(s, FT_OP_SOFTMAX_BWD, 0.0, true);
}

static void cases_log_softmax(struct suite *s)
{
    softmax_cases(s, FT_OP_LOG_SOFTMAX, 4.0, false);
}

static void cases_log_softmax_bwd(struct suite *s)
{
    softmax_cases(s, FT_OP_LOG_SOFTMAX_BWD, 0.0, true);
}

/* ---- normalisation and distances */

/* Rows as they come, the second one zero and the third one shorter than eps. */
static double *awkward_rows(struct suite *s, const struct ft_type *x)
{
    double *values = random_values(s, x, 0, NORMAL);
    int64_t width = ft_extent(x, x->rank - 1);
    int64_t rows = ft_elements(x) / width;
    for (int64_t i = 0; i < width && rows > 2; i++) {
        values[width + i] = 0.0;
        values[2 * width + i] = values[i] * 0x1p-30;
    }
    return values;
}

static int row_types(struct ft_type out[7])
{
    const struct ft_type all[7] = {T1(1),       T1(17),      T2(5, 1),      T2(7, 31),
                                   T2(64, 128), T3(2, 3, 5), T4(2, 3, 4, 5)};
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static struct kase normalize_case(enum ft_op op, double width)
{
    struct kase k = kase_of(op, ELEMENT, sum_factor(width), 0.0);
    k.attrs.eps = 1e-5F;
    return k;
}

static void cases_l2_normalize(struct suite *s)
{
    struct ft_type types[7];
    int n = row_types(types);
    for (int i = 0; i < n; i++) {
        struct kase k = normalize_case(FT_OP_L2_NORMALIZE, (double)ft_extent(&types[i], types[i].rank - 1));
        double *x = awkward_rows(s, &types[i]);
        kase_given(&k, types[i], x);
        check(s, &k);
        ft_free(x);
    }
}

static void cases_l2_normalize_bwd(struct suite *s)
{
    struct ft_type types[7];
    int n = row_types(types);
    for (int i = 0; i < n; i++) {
        double width = (double)ft_extent(&types[i], types[i].rank - 1);
        struct kase fwd = normalize_case(FT_OP_L2_NORMALIZE, width);
        kase_in(&fwd, types[i], NORMAL);
        double *x = awkward_rows(s, &types[i]);
        double *y = forward(s, &fwd, &x, 0);
        double *norm = forward(s, &fwd, &x, 1);
        struct kase k = normalize_case(FT_OP_L2_NORMALIZE_BWD, width);
        struct ft_type norm_type = types[i];
        norm_type.rank--;
        double least = 1.0;
        for (int64_t r = 0; r < ft_elements(&norm_type); r++) {
            least = norm[r] >= (double)k.attrs.eps ? fmin(least, norm[r]) : least;
        }
        k.floor = 8.0 / least; /* dy - y (y . dy), divided by a norm */
        kase_in(&k, types[i], NORMAL);
        kase_given(&k, types[i], y);
        kase_given(&k, norm_type, norm);
        check(s, &k);
        ft_free(x);
        ft_free(y);
        ft_free(norm);
    }
}

static const int64_t pdist_cases[][3] = {{1, 1, 1},  {1, 7, 5},     {5, 1, 3},    {13, 13, 17},
                                         {31, 8, 2}, {64, 64, 128}, {128, 67, 33}};

/* Rows of b that are copies of rows of a: their distance is exactly 0. */
static double *rows_with_copies(struct suite *s, const struct ft_type *a, const struct ft_type *b,
                                const double *from)
{
    double *values = random_values(s, b, 1, NORMAL);
    int64_t width = ft_extent(a, 1);
    for (int64_t i = 0; i < ft_extent(a, 0) && i < ft_extent(b, 0); i += 3) {
        memcpy(&values[i * width], &from[i * width], (size_t)width * sizeof *values);
    }
    return values;
}

static void pdist_case(struct suite *s, int i, int kind, bool backward)
{
    const int64_t *c = pdist_cases[i];
    struct ft_type a = T2(c[0], c[2]);
    struct ft_type b = T2(c[1], c[2]);
    struct ft_type d = T2(c[0], c[1]);
    double *as = random_values(s, &a, 0, NORMAL);
    double *bs = rows_with_copies(s, &a, &b, as);
    double *data[2] = {as, bs};
    /* Squares add up without cancellation: relative error, and exactly 0 for equal rows. */
    struct kase fwd = kase_of(FT_OP_PDIST, ELEMENT, sum_factor((double)c[2]), 0.0);
    fwd.attrs.kind = kind;
    kase_given(&fwd, a, as);
    kase_given(&fwd, b, bs);
    if (backward) {
        double *ds = forward(s, &fwd, data, 0);
        struct kase k = kase_of(FT_OP_PDIST_BWD, ELEMENT, 16.0, 4.0 * (double)(c[0] > c[1] ? c[0] : c[1]));
        k.attrs.kind = kind;
        kase_in(&k, d, NORMAL);
        kase_given(&k, d, ds);
        kase_given(&k, a, as);
        kase_given(&k, b, bs);
        check(s, &k);
        ft_free(ds);
    } else {
        check(s, &fwd);
    }
    ft_free(as);
    ft_free(bs);
}

static void cases_pdist(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(pdist_cases) * 2; i++) {
        pdist_case(s, i / 2, i % 2, false);
    }
}

static void cases_pdist_bwd(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(pdist_cases) * 2; i++) {
        pdist_case(s, i / 2, i % 2, true);
    }
}

/* ---- triplets and pairs */

struct mining_case {
    int64_t m, n, offset;
    int64_t classes; /* 1: all alike; more than n: nearly all singletons */
};

static const struct mining_case mining_cases[] = {
    {1, 1, 0, 1},    {2, 2, 0, 1},    {2, 2, 0, 2},    {3, 3, 0, 2},    {7, 7, 0, 100},
    {12, 12, 0, 1},  {13, 13, 0, 4},  {32, 32, 0, 10}, {5, 17, 3, 4},   {17, 5, 0, 3},
    {6, 20, 100, 5}, {64, 64, 0, 16}, {67, 67, 0, 2},  {16, 48, 32, 8},
};

static struct ft_type labels_type(int64_t count)
{
    struct ft_type t = T1(count);
    t.dtype = FT_I32;
    return t;
}

/* Labels of columns, and of rows that are columns offset .. offset + m where those exist. */
static void make_labels(struct suite *s, const struct mining_case *c, double *la, double *lb)
{
    struct ft_rand r = ft_rand_at(s->seed, FT_RAND_TEST, s->case_number << 8 | 99);
    for (int64_t j = 0; j < c->n; j++) {
        lb[j] = (double)ft_rand_below(r, (uint64_t)j, (uint64_t)c->classes);
    }
    for (int64_t i = 0; i < c->m; i++) {
        bool own = i + c->offset < c->n;
        la[i] = own ? lb[i + c->offset] : (double)ft_rand_below(r, 1000 + (uint64_t)i, (uint64_t)c->classes);
    }
}

static void mining_attrs(struct ft_attrs *a, const struct mining_case *c, int miner, int variant)
{
    a->miner = (enum ft_miner)miner;
    a->offset = c->offset;
    a->margin = variant % 2 == 0 ? 0.05F : 0.25F;
    /* 0.25 and 0 are on the grid of the distances: gaps equal to the margin occur. */
    a->miner_margin = variant % 3 == 0 ? 0.2F : variant % 3 == 1 ? 0.25F : 0.0F;
    a->reducer = variant % 2 == 0 ? FT_REDUCE_AVG_NON_ZERO : FT_REDUCE_MEAN;
}

static void cases_triplet(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(mining_cases) * (FT_MINER_FACENET_SEMIHARD + 1) * 6; i++) {
        const struct mining_case *c = &mining_cases[i / ((FT_MINER_FACENET_SEMIHARD + 1) * 6)];
        double *la = new_values(c->m);
        double *lb = new_values(c->n);
        make_labels(s, c, la, lb);
        /* Terms are positive; a sum of T of them in float32 loses up to some sqrt(T) ulps. */
        double triplets = (double)c->m * (double)c->n * (double)c->n;
        struct kase k = kase_of(FT_OP_TRIPLET, ELEMENT, sum_factor(triplets), 0.0);
        mining_attrs(&k.attrs, c, i / 6 % (FT_MINER_FACENET_SEMIHARD + 1), i % 6);
        kase_in(&k, T2(c->m, c->n), DISTANCE);
        kase_in(&k, T2(c->m, c->n), DISTANCE);
        kase_given(&k, labels_type(c->m), la);
        kase_given(&k, labels_type(c->n), lb);
        k.same_memory = i % 6 == 5;
        check(s, &k);
        ft_free(la);
        ft_free(lb);
    }
}

static void cases_pairs(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(mining_cases) * (FT_MINER_FACENET_SEMIHARD + 1) * 3; i++) {
        const struct mining_case *c = &mining_cases[i / ((FT_MINER_FACENET_SEMIHARD + 1) * 3)];
        double *la = new_values(c->m);
        double *lb = new_values(c->n);
        make_labels(s, c, la, lb);
        struct kase k = kase_of(FT_OP_PAIRS, EXACT, 0.0, 0.0);
        mining_attrs(&k.attrs, c, i / 3 % (FT_MINER_FACENET_SEMIHARD + 1), i % 3);
        kase_in(&k, T2(c->m, c->n), DISTANCE);
        kase_given(&k, labels_type(c->m), la);
        kase_given(&k, labels_type(c->n), lb);
        check(s, &k);
        ft_free(la);
        ft_free(lb);
    }
}

static void cases_masked_mean(struct suite *s)
{
    const struct ft_type types[] = {T0, T1(1), T1(7), T2(17, 17), T2(64, 131), T4(2, 3, 4, 5)};
    for (int i = 0; i < COUNT_OF(types) * 4; i++) {
        double terms = (double)ft_elements(&types[i / 4]);
        /* Losses are not negative, so the mean's terms do not cancel and the error is relative. */
        struct kase k = kase_of(FT_OP_MASKED_MEAN, ELEMENT, 2.0 * sum_factor(terms), 0.0);
        double *none = new_values(ft_elements(&types[i / 4])); /* no loss above 0, or no pair */
        k.attrs.reducer = i % 2 == 0 ? FT_REDUCE_AVG_NON_ZERO : FT_REDUCE_MEAN;
        kase_in(&k, types[i / 4], DISTANCE);
        kase_in(&k, types[i / 4], DISTANCE);
        if (i % 4 >= 2) {
            k.fill[i / 4 % 2] = GIVEN;
            k.given[i / 4 % 2] = none;
        }
        check(s, &k);
        ft_free(none);
    }
}

static void cases_masked_mean_bwd(struct suite *s)
{
    static const double counts[] = {37.5, 0.0};
    const struct ft_type types[] = {T0, T1(1), T1(7), T2(17, 17), T2(64, 131), T4(2, 3, 4, 5)};
    for (int i = 0; i < COUNT_OF(types) * 4; i++) {
        struct kase k = kase_of(FT_OP_MASKED_MEAN_BWD, ELEMENT, 4.0, 0.0);
        k.attrs.reducer = i % 2 == 0 ? FT_REDUCE_AVG_NON_ZERO : FT_REDUCE_MEAN;
        kase_in(&k, T0, NORMAL);
        kase_in(&k, types[i / 4], DISTANCE);
        kase_in(&k, types[i / 4], DISTANCE);
        kase_given(&k, T0, &counts[i % 4 / 2]);
        check(s, &k);
    }
}

/* ---- optimisers */

static const int64_t buffer_sizes[] = {1, 7, 64, 1031, 100003};

static void cases_sum_squares(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(buffer_sizes); i++) {
        struct kase k = kase_of(FT_OP_SUM_SQUARES, ELEMENT, 4.0, 0.0); /* in double, rounded once or twice */
        kase_in(&k, T1(buffer_sizes[i]), NORMAL);
        check(s, &k);
    }
}

/* Steps of a size that shows (a rate of 0.5): what is compared is p, of size 1. */
static void step_case(struct suite *s, enum ft_op op, int64_t size, int kind, const double hyper[8])
{
    for (int in_place = 0; in_place < 2; in_place++) {
        struct kase k = kase_of(op, ELEMENT, 32.0, 4.0);
        double rounded[8];
        for (int i = 0; i < 8; i++) {
            rounded[i] = (double)(float)hyper[i];
        }
        k.attrs.kind = kind;
        k.in_place = in_place != 0;
        k.place[0] = 0;
        k.place[1] = 2;
        k.place[2] = 3;
        kase_in(&k, T1(size), NORMAL);
        kase_in(&k, T1(size), NORMAL);
        kase_in(&k, T1(size), NORMAL);
        if (op == FT_OP_ADAM_STEP) {
            kase_in(&k, T1(size), POSITIVE);
        }
        kase_given(&k, T1(8), rounded);
        check(s, &k);
    }
}

static void cases_sgd_step(struct suite *s)
{
    static const double hypers[][8] = {
        {0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0},   /* plain */
        {0.5, 0.9, 0.0, 0.0, 0.01, 0.0, 0.0, 1.0},  /* first step with momentum */
        {0.5, 0.9, 0.25, 0.0, 0.01, 0.1, 0.0, 0.5}, /* later, dampened, clipped */
        {0.5, 0.0, 0.0, 0.0, 0.1, 0.1, 0.0, 1.0},
    };
    for (int i = 0; i < COUNT_OF(hypers) * COUNT_OF(buffer_sizes); i++) {
        const double *hyper = hypers[i % COUNT_OF(hypers)];
        step_case(s, FT_OP_SGD_STEP, buffer_sizes[i / COUNT_OF(hypers)], 0, hyper);
        step_case(s, FT_OP_SGD_STEP, buffer_sizes[i / COUNT_OF(hypers)], 1, hyper);
    }
}

static void cases_adam_step(struct suite *s)
{
    static const double hypers[][8] = {
        {0.5, 0.9, 0.999, 1e-8, 0.0, 0.1, 0.001, 1.0},
        {0.5, 0.9, 0.999, 1e-8, 0.01, 0.271, 0.003, 0.5},
        {0.5, 0.8, 0.95, 1e-6, 0.1, 1.0, 1.0, 1.0},
    };
    for (int i = 0; i < COUNT_OF(hypers) * COUNT_OF(buffer_sizes); i++) {
        const double *hyper = hypers[i % COUNT_OF(hypers)];
        step_case(s, FT_OP_ADAM_STEP, buffer_sizes[i / COUNT_OF(hypers)], 0, hyper);
        step_case(s, FT_OP_ADAM_STEP, buffer_sizes[i / COUNT_OF(hypers)], 1, hyper);
    }
}

#endif
