#include <string.h>

#include "executor/graph/grad.h"

/* Normalisation and reductions other than sums. */

enum ft_status ft_grad_layernorm(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    ft_value out[FT_MAX_OUTPUTS];
    const ft_value in[5] = {c->dy[0], n->in[0], n->in[1], n->out[1], n->out[2]};
    FT_RETURN_IF_FAILED(ft_graph_add(c->g, FT_OP_LAYERNORM_BWD, &n->attrs, in, 5, n->origin, out, err));
    memcpy(c->dx, out, (size_t)n->n_in * sizeof *out);
    return FT_OK;
}

enum ft_status ft_grad_reduce(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    const ft_value in[3] = {c->dy[0], n->in[0], n->out[0]};
    return ft_grad_emit(c, FT_OP_REDUCE_BWD, &n->attrs, in, 3, &c->dx[0], err);
}
