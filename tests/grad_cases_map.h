/*
 * grad_cases_map.h - the functions of maps.def that have a slope, for grad_cases.h.
 */
#ifndef FT_TESTS_GRAD_CASES_MAP_H
#define FT_TESTS_GRAD_CASES_MAP_H

#define MAP_SHAPE shape(2, 3, 5)
/* name, function, input, a, b: ranges stay away from kinks and poles */
#define MAP_CASES(X)                                                                                         \
    X(abs, ABS, off_zero(p, MAP_SHAPE), 0, 0)                                                                \
    X(reciprocal, RECIPROCAL, in_range(p, MAP_SHAPE, 0.5, 2), 0, 0)                                          \
    X(sin, SIN, any(p, MAP_SHAPE), 0, 0)                                                                     \
    X(cos, COS, any(p, MAP_SHAPE), 0, 0)                                                                     \
    X(tan, TAN, in_range(p, MAP_SHAPE, -1, 1), 0, 0)                                                         \
    X(asin, ASIN, in_range(p, MAP_SHAPE, -0.8, 0.8), 0, 0)                                                   \
    X(acos, ACOS, in_range(p, MAP_SHAPE, -0.8, 0.8), 0, 0)                                                   \
    X(atan, ATAN, any(p, MAP_SHAPE), 0, 0)                                                                   \
    X(sinh, SINH, any(p, MAP_SHAPE), 0, 0)                                                                   \
    X(cosh, COSH, any(p, MAP_SHAPE), 0, 0)                                                                   \
    X(asinh, ASINH, any(p, MAP_SHAPE), 0, 0)                                                                 \
    X(acosh, ACOSH, in_range(p, MAP_SHAPE, 1.5, 3), 0, 0)                                                    \
    X(atanh, ATANH, in_range(p, MAP_SHAPE, -0.8, 0.8), 0, 0)                                                 \
    X(erf, ERF, any(p, MAP_SHAPE), 0, 0)                                                                     \
    X(gelu, GELU, any(p, MAP_SHAPE), 0, 0)                                                                   \
    X(gelu_tanh, GELU_TANH, any(p, MAP_SHAPE), 0, 0)                                                         \
    X(elu, ELU, off_zero(p, MAP_SHAPE), 0.7F, 1.3F)                                                          \
    X(celu, CELU, off_zero(p, MAP_SHAPE), 0.7F, 0)                                                           \
    X(softplus, SOFTPLUS, any(p, MAP_SHAPE), 0, 0)                                                           \
    X(softsign, SOFTSIGN, off_zero(p, MAP_SHAPE), 0, 0)                                                      \
    X(mish, MISH, any(p, MAP_SHAPE), 0, 0)                                                                   \
    X(silu, SILU, any(p, MAP_SHAPE), 1.702F, 0)                                                              \
    X(hard_sigmoid, HARD_SIGMOID, in_range(p, MAP_SHAPE, -5, 5), 0.2F, 0.5F)                                 \
    X(hard_swish, HARD_SWISH, in_range(p, MAP_SHAPE, -5, 5), 0, 0)                                           \
    X(thresholded_relu, THRESHOLDED_RELU, any(p, MAP_SHAPE), 0.5F, 0)                                        \
    X(shrink, SHRINK, any(p, MAP_SHAPE), 0.5F, 0.25F)

#define MAP_BUILDER(name, NAME, input, a, b)                                                                 \
    static inline void map_##name(struct problem *p)                                                         \
    {                                                                                                        \
        struct ft_attrs attrs = with_kind(FT_MAP_##NAME);                                                    \
        attrs.alpha = a;                                                                                     \
        attrs.beta = b;                                                                                      \
        p->y = node(p->g, FT_OP_MAP, attrs, 1, input);                                                       \
    }
MAP_CASES(MAP_BUILDER)
#define MAP_ROW(name, NAME, input, a, b) {FT_OP_MAP, "map " #name, map_##name},

static inline void layernorm(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.eps = 1e-3F;
    a.axis = 1;
    p->y = node(p->g, FT_OP_LAYERNORM, a, 3, any(p, batched(shape(3, 1, 3, 4))), any(p, shape(2, 3, 4)),
                any(p, shape(2, 3, 4)));
}

static inline void layernorm_no_bias(struct problem *p)
{
    struct ft_attrs a = no_attrs();
    a.eps = 1e-5F;
    a.axis = 2;
    p->y = node(p->g, FT_OP_LAYERNORM, a, 2, any(p, shape(3, 2, 3, 7)), any(p, shape(1, 7)));
}

static inline struct ft_attrs fold_axes(int fold, int keepdims)
{
    struct ft_attrs a = axes(keepdims, 2, 2, 0);
    a.kind = fold;
    return a;
}

static inline void reduce_max(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE, fold_axes(FT_FOLD_MAX, 0), 1, distinct(p, batched(shape(4, 1, 3, 2, 4))));
}

static inline void reduce_min(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE, fold_axes(FT_FOLD_MIN, 1), 1, distinct(p, shape(3, 4, 3, 4)));
}

static inline void reduce_prod(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE, fold_axes(FT_FOLD_PROD, 1), 1, any(p, shape(3, 2, 3, 3)));
}

static inline void reduce_log_sum_exp(struct problem *p)
{
    p->y = node(p->g, FT_OP_REDUCE, fold_axes(FT_FOLD_LOG_SUM_EXP, 0), 1, any(p, shape(4, 2, 3, 2, 2)));
}

#endif
