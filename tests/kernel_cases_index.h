/*
 * kernel_cases_index.h - calls for integers, booleans, choices and indexing; see kernel_cases.h.
 */
#ifndef FT_TESTS_KERNEL_CASES_INDEX_H
#define FT_TESTS_KERNEL_CASES_INDEX_H

#include "kernel_cases_loss.h"

static inline struct ft_type typed(enum ft_dtype dtype, struct ft_type t)
{
    t.dtype = dtype;
    return t;
}

/* ---- cast, compare, logic, where */

static void cases_cast(struct suite *s)
{
    static const enum ft_dtype from[] = {FT_F64, FT_I64, FT_I32, FT_BOOL};
    /* Truncation, both signs, what a byte and a short lose; beyond 64 bits a float has no integer. */
    const double floats[12] = {0.0,     -0.75, 2.9,  -2.9, 255.5, -129.0,
                               65536.5, 3e9,   -3e9, 1e30, -1e30, INFINITY};
    const double integers[12] = {0,   1,   -1,    127,        128,         -129,
                                 255, 256, 65535, 4294967296, -2147483649, 5000000000};
    const double small[12] = {0, 1, -1, 127, 128, -129, 255, 256, 65535, 65536, -2147483647, 2147483647};
    const double booleans[12] = {0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1};
    const double *const given[] = {floats, integers, small, booleans};
    for (int i = 0; i < COUNT_OF(from); i++) {
        for (int kind = FT_CAST_FLOAT; kind <= FT_CAST_U8; kind++) {
            struct kase k = kase_of(FT_OP_CAST, EXACT, 0.0, 0.0);
            k.attrs.kind = kind;
            if (from[i] == FT_F64 && kind == FT_CAST_FLOAT) {
                continue;
            }
            if (kind == FT_CAST_FLOAT) { /* the integers above 2^24 are rounded */
                k.rule = ELEMENT;
                k.factor = 1.0;
            }
            kase_given(&k, typed(from[i], T2(3, 4)), given[i]);
            check(s, &k);
            struct kase large = kase_of(FT_OP_CAST, EXACT, 0.0, 0.0);
            large.attrs.kind = kind;
            kase_in(&large, typed(from[i], T4(3, 5, 7, 11)), from[i] == FT_BOOL ? BITS : INTEGERS);
            check(s, &large);
        }
    }
}

static void cases_compare(struct suite *s)
{
    static const enum ft_dtype dtypes[] = {FT_F64, FT_I64, FT_I32, FT_BOOL};
    struct pair_of_types pairs[17];
    int n = broadcast_pairs(pairs);
    for (int i = 0; i < 2 * n; i++) {
        for (int d = 0; d < COUNT_OF(dtypes); d++) {
            int kind = dtypes[d] == FT_BOOL ? FT_EQUAL : i % (FT_GREATER_OR_EQUAL + 1);
            enum fill fill = dtypes[d] == FT_BOOL ? BITS : dtypes[d] == FT_F64 ? GRID : INTEGERS;
            struct kase k = kase_of(FT_OP_COMPARE, EXACT, 0.0, 0.0);
            k.attrs.kind = kind;
            kase_in(&k, typed(dtypes[d], i % 2 == 0 ? pairs[i / 2].a : pairs[i / 2].b), fill);
            kase_in(&k, typed(dtypes[d], i % 2 == 0 ? pairs[i / 2].b : pairs[i / 2].a), fill);
            check(s, &k);
        }
    }
    for (int kind = FT_EQUAL; kind <= FT_GREATER_OR_EQUAL; kind++) { /* a NaN is in no relation */
        const double a[6] = {NAN, 1.0, NAN, INFINITY, -INFINITY, 0.0};
        const double b[6] = {1.0, NAN, NAN, INFINITY, INFINITY, -0.0};
        struct kase k = kase_of(FT_OP_COMPARE, EXACT, 0.0, 0.0);
        k.attrs.kind = kind;
        kase_given(&k, T1(6), a);
        kase_given(&k, T1(6), b);
        check(s, &k);
    }
}

static void cases_logic(struct suite *s)
{
    struct pair_of_types pairs[17];
    int n = broadcast_pairs(pairs);
    for (int i = 0; i < 3 * n; i++) {
        struct kase k = kase_of(FT_OP_LOGIC, EXACT, 0.0, 0.0);
        k.attrs.kind = FT_LOGIC_AND + i % 3;
        kase_in(&k, typed(FT_BOOL, pairs[i / 3].a), BITS);
        kase_in(&k, typed(FT_BOOL, pairs[i / 3].b), BITS);
        check(s, &k);
    }
    for (int i = 0; i < n; i++) {
        struct kase k = kase_of(FT_OP_LOGIC, EXACT, 0.0, 0.0);
        k.attrs.kind = FT_LOGIC_NOT;
        kase_in(&k, typed(FT_BOOL, pairs[i].a), BITS);
        check(s, &k);
    }
}

static void cases_where(struct suite *s)
{
    static const enum ft_dtype dtypes[] = {FT_F64, FT_I64, FT_BOOL};
    const struct ft_type shapes[][3] = {
        {T0, T0, T0},
        {T2(3, 4), T2(3, 4), T2(3, 4)},
        {T1(7), T0, T0},
        {T0, T2(3, 1), T2(1, 5)},
        {T4(2, 3, 4, 5), T3(3, 1, 1), T4(2, 3, 4, 5)},
        {T4(2, 1, 4, 5), T4(2, 3, 4, 5), T1(5)},
        {T4(2, 3, 1, 1), T4(2, 3, 4, 5), T0},
        {T1(100003), T1(100003), T1(1)},
    };
    for (int i = 0; i < COUNT_OF(shapes); i++) {
        for (int d = 0; d < COUNT_OF(dtypes); d++) {
            enum fill fill = dtypes[d] == FT_BOOL ? BITS : dtypes[d] == FT_F64 ? NORMAL : INTEGERS;
            struct kase k = kase_of(FT_OP_WHERE, EXACT, 0.0, 0.0);
            kase_in(&k, typed(FT_BOOL, shapes[i][0]), BITS);
            kase_in(&k, typed(dtypes[d], shapes[i][1]), fill);
            kase_in(&k, typed(dtypes[d], shapes[i][2]), fill);
            check(s, &k);
        }
    }
}

/* ---- numbers */

static void cases_maximum(struct suite *s)
{
    broadcast_cases(s, FT_OP_MAXIMUM, 0.0, GRID, GRID);
    integer_cases(s, FT_OP_MAXIMUM, INTEGERS, INTEGERS);
}

static void cases_minimum(struct suite *s)
{
    broadcast_cases(s, FT_OP_MINIMUM, 0.0, GRID, GRID);
    integer_cases(s, FT_OP_MINIMUM, INTEGERS, INTEGERS);
}

static void cases_mod(struct suite *s)
{
    struct pair_of_types pairs[17];
    int n = broadcast_pairs(pairs);
    for (int i = 0; i < n; i++) { /* fmod is exact */
        struct kase k = kase_of(FT_OP_MOD, EXACT, 0.0, 0.0);
        k.attrs.kind = 1;
        kase_in(&k, pairs[i].a, NORMAL);
        kase_in(&k, pairs[i].b, POSITIVE);
        check(s, &k);
    }
    integer_cases(s, FT_OP_MOD, INTEGERS, NONZERO);
    const double a[8] = {7, -7, 7, -7, 6, -6, 0, 5};
    const double b[8] = {3, 3, -3, -3, 3, -3, 4, -1};
    for (int kind = 0; kind < 2; kind++) {
        struct kase k = kase_of(FT_OP_MOD, EXACT, 0.0, 0.0);
        k.attrs.kind = kind;
        kase_given(&k, typed(FT_I64, T1(8)), a);
        kase_given(&k, typed(FT_I64, T1(8)), b);
        check(s, &k);
    }
}

/* ---- indexing */

/* Random indices of an axis, from both ends. Owned by the caller. */
static double *indices_below(struct suite *s, const struct ft_type *t, int64_t extent)
{
    double *values = new_values(ft_elements(t));
    struct ft_rand r = ft_rand_at(s->seed, FT_RAND_TEST, s->case_number << 8 | 77U);
    for (int64_t i = 0; i < ft_elements(t); i++) {
        values[i] = (double)ft_rand_below(r, (uint64_t)i, (uint32_t)(2 * extent)) - (double)extent;
    }
    return values;
}

static const enum ft_dtype moved_dtypes[] = {FT_F64, FT_I64, FT_BOOL};

static enum fill fill_of(enum ft_dtype dtype)
{
    return dtype == FT_BOOL ? BITS : dtype == FT_F64 ? NORMAL : INTEGERS;
}

struct gather_case {
    struct ft_type x;
    int axis;
    struct ft_type index;
};

static int gather_cases(struct gather_case out[8])
{
    const struct gather_case all[] = {
        {T1(5), 0, T0},
        {T1(1), 0, T1(3)},
        {T2(7, 3), 0, T1(5)},
        {T2(7, 3), 1, T2(2, 4)},
        {T3(2, 5, 3), 1, T1(1)},
        {T4(2, 3, 4, 5), 2, T2(3, 3)},
        {T4(2, 3, 4, 5), 3, T1(7)},
        {T2(1009, 64), 0, T2(31, 17)},
    };
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static void cases_gather(struct suite *s)
{
    struct gather_case all[8];
    int n = gather_cases(all);
    for (int i = 0; i < n * COUNT_OF(moved_dtypes); i++) {
        const struct gather_case *c = &all[i % n];
        enum ft_dtype dtype = moved_dtypes[i / n];
        double *given = indices_below(s, &c->index, ft_extent(&c->x, c->axis));
        struct kase k = kase_of(FT_OP_GATHER, EXACT, 0.0, 0.0);
        k.attrs.axis = c->axis;
        kase_in(&k, typed(dtype, c->x), fill_of(dtype));
        kase_given(&k, typed(FT_I64, c->index), given);
        check(s, &k);
        ft_free(given);
    }
}

static void cases_gather_bwd(struct suite *s)
{
    struct gather_case all[8];
    int n = gather_cases(all);
    for (int i = 0; i < n; i++) {
        const struct gather_case *c = &all[i];
        const struct ft_type in[2] = {c->x, typed(FT_I64, c->index)};
        double *given = indices_below(s, &c->index, ft_extent(&c->x, c->axis));
        struct kase k = kase_of(FT_OP_GATHER_BWD, SUM, sum_factor((double)ft_elements(&c->index)), 0.0);
        struct ft_type dy;
        struct ft_err err = {0};
        k.attrs.axis = c->axis;
        assert_int_equal(ft_op_infer(FT_OP_GATHER, &k.attrs, in, 2, &dy, &err), FT_OK);
        for (int64_t j = 0; j < ft_elements(&c->index);
             j++) { /* magnitudes take absolute values of all inputs */
            given[j] = given[j] < 0 ? given[j] + (double)ft_extent(&c->x, c->axis) : given[j];
        }
        kase_in(&k, dy, NORMAL);
        kase_given(&k, typed(FT_I64, c->index), given);
        kase_in(&k, c->x, NORMAL);
        check(s, &k);
        ft_free(given);
    }
}

static int elements_cases(struct gather_case out[6])
{
    const struct gather_case all[] = {
        {T1(5), 0, T1(3)},
        {T2(7, 3), 0, T2(2, 3)},
        {T2(7, 3), 1, T2(5, 9)},
        {T3(2, 5, 3), 1, T3(2, 4, 2)},
        {T4(2, 3, 4, 5), 3, T4(2, 3, 4, 1)},
        {T3(5, 67, 31), 2, T3(5, 67, 40)},
    };
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static void cases_gather_elements(struct suite *s)
{
    struct gather_case all[6];
    int n = elements_cases(all);
    for (int i = 0; i < n * COUNT_OF(moved_dtypes); i++) {
        const struct gather_case *c = &all[i % n];
        enum ft_dtype dtype = moved_dtypes[i / n];
        double *given = indices_below(s, &c->index, ft_extent(&c->x, c->axis));
        struct kase k = kase_of(FT_OP_GATHER_ELEMENTS, EXACT, 0.0, 0.0);
        k.attrs.axis = c->axis;
        kase_in(&k, typed(dtype, c->x), fill_of(dtype));
        kase_given(&k, typed(FT_I64, c->index), given);
        check(s, &k);
        ft_free(given);
    }
}

/* GRID and powers of two: sums and products are exact, so that the order alone could differ. */
static void scatter_cases(struct suite *s, struct kase *k, const struct ft_type *x,
                          const struct ft_type *index, const double *given, const struct ft_type *u)
{
    for (int kind = FT_SCATTER_SET; kind <= FT_SCATTER_MIN; kind++) {
        for (int d = 0; d < COUNT_OF(moved_dtypes); d++) {
            enum ft_dtype dtype = moved_dtypes[d];
            enum fill fill = dtype == FT_F64 ? GRID : fill_of(dtype);
            if (dtype == FT_BOOL && kind != FT_SCATTER_SET) {
                continue;
            }
            k->n_in = 0;
            k->attrs.kind = kind;
            kase_in(k, typed(dtype, *x), fill);
            kase_given(k, typed(FT_I64, *index), given);
            kase_in(k, typed(dtype, *u), fill);
            check(s, k);
        }
    }
}

static void cases_scatter_elements(struct suite *s)
{
    struct gather_case all[6];
    int n = elements_cases(all);
    for (int i = 0; i < n; i++) {
        const struct gather_case *c = &all[i];
        double *given = indices_below(s, &c->index, ft_extent(&c->x, c->axis));
        /* Products of many quarters are rounded: a few roundings of the result's size. */
        struct kase k = kase_of(FT_OP_SCATTER_ELEMENTS, ELEMENT, 32.0, 0.0);
        k.attrs.axis = c->axis;
        scatter_cases(s, &k, &c->x, &c->index, given, &c->index);
        ft_free(given);
    }
}

struct nd_case {
    struct ft_type x, index;
    int64_t batch;
    int64_t below; /* the smallest extent that an index addresses */
};

static int nd_cases(struct nd_case out[6])
{
    const struct nd_case all[] = {
        {T1(5), T1(1), 0, 5},
        {T2(2, 3), T2(4, 2), 0, 2},
        {T3(4, 3, 5), T2(7, 1), 0, 4},
        {T3(2, 4, 5), T2(2, 1), 1, 4},
        {T4(2, 3, 4, 5), T3(2, 6, 2), 1, 3},
        {T3(31, 17, 64), T3(5, 7, 2), 0, 17},
    };
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static void cases_gather_nd(struct suite *s)
{
    struct nd_case all[6];
    int n = nd_cases(all);
    for (int i = 0; i < n * COUNT_OF(moved_dtypes); i++) {
        const struct nd_case *c = &all[i % n];
        enum ft_dtype dtype = moved_dtypes[i / n];
        double *given = indices_below(s, &c->index, c->below);
        struct kase k = kase_of(FT_OP_GATHER_ND, EXACT, 0.0, 0.0);
        k.attrs.count = c->batch;
        kase_in(&k, typed(dtype, c->x), fill_of(dtype));
        kase_given(&k, typed(FT_I64, c->index), given);
        check(s, &k);
        ft_free(given);
    }
}

static void cases_scatter_nd(struct suite *s)
{
    struct nd_case all[6];
    int n = nd_cases(all);
    for (int i = 0; i < n; i++) {
        const struct nd_case *c = &all[i];
        const struct ft_type in[2] = {c->x, typed(FT_I64, c->index)};
        double *given = indices_below(s, &c->index, c->below);
        struct kase k = kase_of(FT_OP_SCATTER_ND, ELEMENT, 32.0, 0.0);
        struct ft_type u;
        struct ft_err err = {0};
        k.attrs.count = c->batch;
        assert_int_equal(ft_op_infer(FT_OP_GATHER_ND, &k.attrs, in, 2, &u, &err), FT_OK);
        scatter_cases(s, &k, &c->x, &c->index, given, &u);
        ft_free(given);
    }
}

/* ---- along one axis */

static int axis_cases(struct gather_case out[7])
{
    const struct gather_case all[] = {
        {T1(1), 0, T0},          {T1(9), 0, T0},          {T2(5, 7), 0, T0},       {T2(5, 7), 1, T0},
        {T4(2, 3, 4, 5), 1, T0}, {T4(2, 3, 4, 5), 3, T0}, {T3(31, 257, 3), 1, T0},
    };
    memcpy(out, all, sizeof all);
    return COUNT_OF(all);
}

static void cases_arg_extreme(struct suite *s)
{
    struct gather_case all[7];
    int n = axis_cases(all);
    for (int i = 0; i < 16 * n; i++) { /* GRID has ties */
        struct kase k = kase_of(FT_OP_ARG_EXTREME, EXACT, 0.0, 0.0);
        k.attrs.axis = all[i % n].axis;
        k.attrs.kind = i / n & 1;
        k.attrs.count = i / n >> 1 & 1;
        k.attrs.keepdims = i / n >> 2 & 1;
        kase_in(&k, typed(i / n >> 3 == 0 ? FT_F64 : FT_I64, all[i % n].x),
                i / n >> 3 == 0 ? GRID : INTEGERS);
        check(s, &k);
    }
    for (int i = 0; i < 4; i++) { /* a NaN is found at both ends */
        const double x[6] = {1.0, NAN, 5.0, -7.0, NAN, 0.0};
        struct kase k = kase_of(FT_OP_ARG_EXTREME, EXACT, 0.0, 0.0);
        k.attrs.kind = i & 1;
        k.attrs.count = i >> 1;
        kase_given(&k, T1(6), x);
        check(s, &k);
    }
}

static void cases_topk(struct suite *s)
{
    struct gather_case all[7];
    int n = axis_cases(all);
    for (int i = 0; i < 4 * n; i++) {
        const struct ft_type *x = &all[i % n].x;
        int64_t extent = ft_extent(x, all[i % n].axis);
        const int64_t counts[3] = {1, (extent + 1) / 2, extent};
        for (int c = 0; c < 3; c++) {
            struct kase k = kase_of(FT_OP_TOPK, EXACT, 0.0, 0.0);
            k.attrs.axis = all[i % n].axis;
            k.attrs.kind = i / n & 1;
            k.attrs.count = counts[c];
            kase_in(&k, typed(i / n < 2 ? FT_F64 : FT_I64, *x), i / n < 2 ? GRID : INTEGERS);
            check(s, &k);
        }
    }
}

static void cases_cumsum(struct suite *s)
{
    struct gather_case all[7];
    int n = axis_cases(all);
    for (int i = 0; i < 8 * n; i++) {
        bool integers = i / n >> 2 != 0;
        struct kase k =
            kase_of(FT_OP_CUMSUM, SUM, sum_factor((double)ft_extent(&all[i % n].x, all[i % n].axis)), 0.0);
        k.attrs.axis = all[i % n].axis;
        k.attrs.kind = i / n & 3;
        kase_in(&k, typed(integers ? FT_I64 : FT_F64, all[i % n].x), integers ? INTEGERS : NORMAL);
        check(s, &k);
    }
}

static void cases_maxpool_indices(struct suite *s)
{
    const struct ft_type where[] = {T3(2, 3, 4), T4(2, 3, 2, 3), T4(1, 1, 1, 1)};
    const struct ft_type x[] = {T3(2, 3, 9), T4(2, 3, 5, 7), T4(1, 1, 3, 3)};
    for (int i = 0; i < 2 * COUNT_OF(where); i++) {
        const struct ft_type *t = &where[i / 2];
        int64_t plane = 1;
        for (int d = 2; d < t->rank; d++) {
            plane *= ft_extent(&x[i / 2], d);
        }
        double *given = indices_below(s, t, plane);
        for (int64_t j = 0; j < ft_elements(t); j++) {
            given[j] = given[j] < 0 ? given[j] + (double)plane : given[j];
        }
        struct kase k = kase_of(FT_OP_MAXPOOL_INDICES, EXACT, 0.0, 0.0);
        k.attrs.kind = t->rank == 4 ? i % 2 : 0;
        kase_given(&k, typed(FT_I32, *t), given);
        kase_in(&k, x[i / 2], NORMAL);
        check(s, &k);
        ft_free(given);
    }
}

#endif
