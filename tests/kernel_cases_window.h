/*
 * kernel_cases_window.h - calls for padding and for slices in steps; see kernel_cases.h.
 */
#ifndef FT_TESTS_KERNEL_CASES_WINDOW_H
#define FT_TESTS_KERNEL_CASES_WINDOW_H

#include "kernel_cases.h"

/* ---- slices in steps, and their gradient */

static void strided_cases(struct suite *s, enum ft_op op)
{
    const struct ft_type types[] = {T1(7), T2(5, 7), T3(4, 1, 6), T4(2, 8, 5, 7), T5(2, 3, 2, 3, 2)};
    const int64_t steps[] = {2, 3, -1, -2};
    for (int i = 0; i < COUNT_OF(types) * COUNT_OF(steps); i++) {
        struct ft_type t = types[i / COUNT_OF(steps)];
        for (int axis = 0; axis < t.rank; axis++) {
            struct kase k = kase_of(op, EXACT, 0.0, 0.0);
            int64_t extent = ft_extent(&t, axis);
            int64_t step = steps[i % COUNT_OF(steps)];
            k.attrs.axis = axis;
            k.attrs.step = step;
            k.attrs.start = step > 0 ? (extent > 1 ? 1 : 0) : extent - 1;
            k.attrs.count = step > 0 ? (extent - 1 - k.attrs.start) / step + 1 : (extent - 1) / -step + 1;
            struct ft_type part = t;
            part.dim[axis] = ft_dim_of(k.attrs.count);
            kase_in(&k, op == FT_OP_SLICE ? t : part, NORMAL);
            if (op == FT_OP_PAD_LIKE) {
                kase_in(&k, t, NORMAL);
            }
            check(s, &k);
        }
    }
}

/* ---- padding */

static const struct pad_case {
    int kind;
    int rank;
    int64_t extent[5], begin[5], end[5];
} pad_cases[] = {
    {FT_PAD_CONSTANT, 1, {7}, {2}, {3}},
    {FT_PAD_CONSTANT, 4, {2, 5, 6, 7}, {0, 0, 1, 2}, {0, 0, 3, 1}},
    {FT_PAD_CONSTANT, 4, {2, 3, 1, 5}, {1, 1, 0, 0}, {0, 2, 0, 0}}, /* images and channels */
    {FT_PAD_CONSTANT, 2, {3, 4}, {0, 0}, {0, 0}},                   /* a copy */
    {FT_PAD_REFLECT, 4, {2, 3, 6, 7}, {0, 0, 2, 3}, {0, 0, 1, 5}},
    {FT_PAD_REFLECT, 3, {2, 1, 3}, {0, 2, 5}, {0, 1, 7}}, /* reflected several times; one element */
    {FT_PAD_EDGE, 4, {2, 3, 6, 7}, {0, 0, 2, 3}, {0, 0, 1, 9}},
    {FT_PAD_EDGE, 5, {2, 3, 2, 3, 2}, {1, 0, 0, 2, 1}, {0, 1, 0, 2, 1}},
    {FT_PAD_WRAP, 4, {2, 3, 6, 7}, {0, 0, 2, 3}, {0, 0, 1, 5}},
    {FT_PAD_WRAP, 2, {3, 4}, {4, 9}, {7, 2}},
    {FT_PAD_REFLECT, 4, {9, 17, 12, 12}, {0, 0, 1, 1}, {0, 0, 1, 1}},
};

/* What padding makes of the case's x, in *y. */
static struct kase pad_case(enum ft_op op, const struct pad_case *c, struct ft_type *x, struct ft_type *y)
{
    struct kase k = kase_of(op, EXACT, 0.0, 0.0);
    *x = type_f(c->rank, c->extent);
    *y = *x;
    k.attrs.kind = c->kind;
    k.attrs.alpha = -1.5F;
    for (int i = 0; i < c->rank; i++) {
        k.attrs.pad_begin[i] = c->begin[i];
        k.attrs.pad_end[i] = c->end[i];
        y->dim[i] = ft_dim_of(c->extent[i] + c->begin[i] + c->end[i]);
    }
    return k;
}

static void cases_pad(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(pad_cases); i++) {
        struct ft_type x;
        struct ft_type y;
        struct kase k = pad_case(FT_OP_PAD, &pad_cases[i], &x, &y);
        kase_in(&k, x, NORMAL);
        check(s, &k);
        k.fill[0] = INTEGERS;
        k.in[0].dtype = i % 2 == 0 ? FT_I64 : FT_I32;
        check(s, &k);
        k.fill[0] = BITS;
        k.in[0].dtype = FT_BOOL;
        check(s, &k);
    }
}

static void cases_pad_bwd(struct suite *s)
{
    for (int i = 0; i < COUNT_OF(pad_cases); i++) {
        struct ft_type x;
        struct ft_type y;
        struct kase k = pad_case(FT_OP_PAD_BWD, &pad_cases[i], &x, &y);
        k.rule = SUM;
        k.factor = sum_factor((double)ft_elements(&y) / (double)ft_elements(&x));
        kase_in(&k, y, NORMAL);
        kase_in(&k, x, NORMAL);
        check(s, &k);
    }
}

#endif
