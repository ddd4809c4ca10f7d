/*
 * grad_cases_index.h - problems of choices and indexing; included by grad_cases.h only.
 */
#ifndef FT_TESTS_GRAD_CASES_INDEX_H
#define FT_TESTS_GRAD_CASES_INDEX_H

BINARY(maximum, MAXIMUM, any)
BINARY(minimum, MINIMUM, any)

static inline struct ft_attrs of_kind(int kind)
{
    struct ft_attrs a = no_attrs();
    a.kind = kind;
    return a;
}

/* a > b ? x : y: the condition moves too, and gets no gradient. */
static inline void where(struct problem *p)
{
    ft_value a = any(p, shape(2, 3, 4));
    ft_value condition =
        node(p->g, FT_OP_COMPARE, of_kind(FT_GREATER), 2, a, given(p, shape(1, 4), -1.5, 1.5));
    ft_value chosen = node(p->g, FT_OP_WHERE, no_attrs(), 3, condition, a, any(p, shape(2, 3, 1)));
    p->y = node(p->g, FT_OP_WHERE, no_attrs(), 3, condition, any(p, batched(shape(3, 1, 1, 4))), chosen);
}

/* max(x, x) has slope 1: half from each side. */
static inline void maximum_of_equals(struct problem *p)
{
    ft_value x = any(p, shape(2, 3, 4));
    p->y = node(p->g, FT_OP_MAXIMUM, no_attrs(), 2, x, x);
}

static inline void mod(struct problem *p)
{
    p->y = node(p->g, FT_OP_MOD, of_kind(1), 2, in_range(p, shape(2, 3, 4), -9.0, 9.0),
                in_range(p, shape(1, 4), 1.0, 2.0));
}

#endif
