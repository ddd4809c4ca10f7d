/*
 * grad.h - what gradient builders see; private to executor/graph.
 *
 * One builder a differentiable row of ops.def. It appends nodes that compute the gradients of the needed
 * inputs from those of the outputs. Table in grad.c; builders in grad_*.c.
 */
#ifndef FT_GRAPH_GRAD_H
#define FT_GRAPH_GRAD_H

#include "executor/graph/internal.h"

/* How a value depends on what gradients are asked for. */
enum ft_reach {
    FT_REACH_NONE,
    FT_REACH_MINED, /* only through ops without a gradient, such as a miner's choice */
    FT_REACH_SMOOTH
};

struct ft_grad {
    struct ft_graph *g;
    const struct ft_node *node;
    ft_value one;               /* the constant 1 that everything starts from */
    const ft_value *dy;         /* gradient of each output, FT_NO_VALUE where none arrives */
    const enum ft_reach *reach; /* of each input */
    ft_value *dx;               /* out: gradient of each input; FT_NO_VALUE to start with */
};
typedef enum ft_status (*ft_grad_builder)(struct ft_grad *c, struct ft_err *err);

struct ft_grad_row {
    ft_grad_builder build; /* NULL: the row has no gradient */
    uint32_t stops;        /* bit mask of inputs that never get a gradient, by definition of the op */
    uint32_t outputs;      /* bit mask of outputs through which a gradient may come */
};
/* Also for the test that every row is accounted for. */
const struct ft_grad_row *ft_grad_row_of(enum ft_op op);

/* Is the gradient of input i wanted? */
bool ft_grad_needs(const struct ft_grad *c, int i);
/* A node with the first output taken; its origin is that of the forward node, so that messages lead there. */
FT_MUST_CHECK enum ft_status ft_grad_emit(struct ft_grad *c, enum ft_op op, const struct ft_attrs *attrs,
                                          const ft_value *in, int n_in, ft_value *out, struct ft_err *err);

#define FT_OP_GRAD(NAME) enum ft_status ft_grad_##NAME(struct ft_grad *c, struct ft_err *err);
FT_OP_GRAD(conv)
FT_OP_GRAD(conv_bwd_data)
FT_OP_GRAD(batchnorm)
FT_OP_GRAD(batchnorm_train)
FT_OP_GRAD(layernorm)
FT_OP_GRAD(maxpool)
FT_OP_GRAD(avgpool)
FT_OP_GRAD(pad)
FT_OP_GRAD(matmul)
FT_OP_GRAD(from_y)
FT_OP_GRAD(from_x)
FT_OP_GRAD(exp)
FT_OP_GRAD(log)
FT_OP_GRAD(sqrt)
FT_OP_GRAD(neg)
FT_OP_GRAD(scale)
FT_OP_GRAD(add)
FT_OP_GRAD(sub)
FT_OP_GRAD(mul)
FT_OP_GRAD(div)
FT_OP_GRAD(pow)
FT_OP_GRAD(where)
FT_OP_GRAD(extreme)
FT_OP_GRAD(mod)
FT_OP_GRAD(gather)
FT_OP_GRAD(gather_elements)
FT_OP_GRAD(gather_nd)
FT_OP_GRAD(scatter_elements)
FT_OP_GRAD(scatter_nd)
FT_OP_GRAD(topk)
FT_OP_GRAD(cumsum)
FT_OP_GRAD(dropout)
FT_OP_GRAD(reduce_sum)
FT_OP_GRAD(reduce_mean)
FT_OP_GRAD(reduce)
FT_OP_GRAD(sum_to)
FT_OP_GRAD(expand_to)
FT_OP_GRAD(reshape)
FT_OP_GRAD(transpose)
FT_OP_GRAD(concat)
FT_OP_GRAD(slice)
FT_OP_GRAD(pad_like)
FT_OP_GRAD(attention)
FT_OP_GRAD(rope)
FT_OP_GRAD(seq_pool)
FT_OP_GRAD(l2_normalize)
FT_OP_GRAD(pdist)
FT_OP_GRAD(triplet)
FT_OP_GRAD(masked_mean)
FT_OP_GRAD(sum_squares)
#undef FT_OP_GRAD

#endif
