/*
 * check.h - what the shape rules of check*.c share; private to them and to device.c.
 *
 * ft_op_infer() has checked arity, element types, ranks and extents before a rule runs; a rule looks at
 * shapes and attributes only. Thread-safety: pure functions.
 */
#ifndef FT_KERNELS_CHECK_H
#define FT_KERNELS_CHECK_H

#include "kernels/internal.h"

/* A type's text inside one expression, for messages. */
#define FT_SHOW(type) ft_type_text((type), (char[FT_TYPE_TEXT]){0})

/* The same shape and element type, row-major. */
struct ft_type ft_check_like(const struct ft_type *t);
/* Product of the dimensions `from .. to - 1`. FT_LIMIT: overflow. */
FT_MUST_CHECK enum ft_status ft_check_product(const char *op, const struct ft_type *t, int from, int to,
                                              struct ft_dim *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_check_rank(const char *op, const char *name, const struct ft_type *t,
                                           int rank, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_check_axis(const char *op, const struct ft_type *t, int axis,
                                           struct ft_err *err);
/* [bias] and [residual] behind the first two inputs of CONV and MATMUL; `channels`: the extent of the bias.
 */
FT_MUST_CHECK enum ft_status ft_check_epilogue(enum ft_op op, const struct ft_attrs *attrs,
                                               const struct ft_type *in, int n_in, struct ft_dim channels,
                                               const struct ft_type *y, struct ft_err *err);
/* Two operands that must have one shape. */
FT_MUST_CHECK enum ft_status ft_check_same(const char *op, const char *names, const struct ft_type *a,
                                           const struct ft_type *b, struct ft_err *err);
/* `t` must be what the other operands imply. */
FT_MUST_CHECK enum ft_status ft_check_implied(const char *op, const char *name, const struct ft_type *t,
                                              const struct ft_type *want, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_check_vector(const char *op, const char *name, const struct ft_type *t,
                                             struct ft_dim extent, struct ft_err *err);
/* NumPy's broadcasting of two operands; the element type is that of the first. */
FT_MUST_CHECK enum ft_status ft_check_broadcast(const char *op, const struct ft_type *l,
                                                const struct ft_type *r, struct ft_type *out,
                                                struct ft_err *err);

/* What is left of x after its axes a.axes are reduced, with a.keepdims. */
FT_MUST_CHECK enum ft_status ft_check_reduce(const char *op, const struct ft_attrs *attrs,
                                             const struct ft_type *x, struct ft_type *out,
                                             struct ft_err *err);

#endif
