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

#endif
