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

/* ---- indexing */

static inline ft_value int_input(struct problem *p, struct ft_type t, const int64_t *values)
{
    t.dtype = FT_I64;
    struct input *in = add_input(p, t, false);
    memcpy(in->data, values, in->count * sizeof *values);
    return in->v;
}

static inline struct ft_attrs along(int axis, int kind)
{
    struct ft_attrs a = of_kind(kind);
    a.axis = axis;
    return a;
}

static inline void gather(struct problem *p)
{
    static const int64_t index[6] = {0, 2, -1, 2, 1, 2}; /* one several times, from both ends */
    p->y = node(p->g, FT_OP_GATHER, along(1, 0), 2, any(p, batched(shape(3, 1, 4, 2))),
                int_input(p, shape(2, 2, 3), index));
}

static inline void gather_elements(struct problem *p)
{
    static const int64_t index[6] = {0, 2, -1, 2, 0, -3};
    p->y = node(p->g, FT_OP_GATHER_ELEMENTS, along(0, 0), 2, any(p, shape(2, 3, 4)),
                int_input(p, shape(2, 2, 3), index));
}

static inline void gather_nd(struct problem *p)
{
    static const int64_t index[4] = {1, -1, 1, 2};
    struct ft_attrs a = no_attrs();
    a.count = 1;
    p->y =
        node(p->g, FT_OP_GATHER_ND, a, 2, any(p, shape(3, 2, 3, 4)), int_input(p, shape(3, 2, 2, 1), index));
}

static inline void scatter_elements(struct problem *p)
{
    /* No place twice: the gradient of what is lost is no slope. */
    static const int64_t index[4] = {0, -1, 1, 1};
    p->y = node(p->g, FT_OP_SCATTER_ELEMENTS, along(0, FT_SCATTER_SET), 3, any(p, shape(2, 3, 4)),
                int_input(p, shape(2, 2, 2), index), any(p, shape(2, 2, 2)));
}

static inline void scatter_elements_add(struct problem *p)
{
    static const int64_t index[4] = {0, -1, 0, 2};
    p->y = node(p->g, FT_OP_SCATTER_ELEMENTS, along(0, FT_SCATTER_ADD), 3, any(p, shape(2, 3, 4)),
                int_input(p, shape(2, 2, 2), index), any(p, shape(2, 2, 2)));
}

static inline void scatter_nd(struct problem *p)
{
    static const int64_t index[4] = {0, -1, 2, 0};
    p->y = node(p->g, FT_OP_SCATTER_ND, of_kind(FT_SCATTER_SET), 3, any(p, shape(3, 3, 4, 2)),
                int_input(p, shape(2, 2, 2), index), any(p, shape(2, 2, 2)));
}

static inline void topk(struct problem *p)
{
    struct ft_attrs a = along(1, 0);
    a.count = 2;
    p->y = node(p->g, FT_OP_TOPK, a, 1, distinct(p, shape(3, 3, 4, 2)));
}

static inline void cumsum(struct problem *p)
{
    p->y = node(p->g, FT_OP_CUMSUM, along(1, 0), 1, any(p, batched(shape(3, 1, 4, 2))));
}

static inline void cumsum_reverse(struct problem *p)
{
    p->y = node(p->g, FT_OP_CUMSUM, along(0, FT_CUMSUM_EXCLUSIVE | FT_CUMSUM_REVERSE), 1,
                any(p, shape(2, 3, 4)));
}

#endif
