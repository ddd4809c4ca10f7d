#include <string.h>

#include "executor/graph/grad.h"

/* Sequences of tokens. */

enum ft_status ft_grad_attention(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    const ft_value *x = n->in; /* q, k, v, seq, [bias], [rng] */
    ft_value out[FT_MAX_OUTPUTS];
    ft_value in[9] = {c->dy[0], x[0], x[1], x[2], n->out[0], n->out[1], x[3]};
    for (int i = 4; i < n->n_in; i++) {
        in[i + 3] = x[i];
    }
    if (ft_grad_needs(c, 0) || ft_grad_needs(c, 1) || ft_grad_needs(c, 2)) {
        FT_RETURN_IF_FAILED(
            ft_graph_add(c->g, FT_OP_ATTENTION_BWD, &n->attrs, in, n->n_in + 3, n->origin, out, err));
        memcpy(c->dx, out, 3 * sizeof *out);
    }
    bool biased = n->n_in > 4 && ft_graph_type(c->g, x[4])->dtype == FT_F32;
    if (biased && ft_grad_needs(c, 4)) {
        return ft_grad_emit(c, FT_OP_ATTENTION_BWD_BIAS, &n->attrs, in, n->n_in + 3, &c->dx[4], err);
    }
    return FT_OK;
}

/* A rotation's gradient is the rotation back. */
enum ft_status ft_grad_rope(struct ft_grad *c, struct ft_err *err)
{
    struct ft_attrs attrs = c->node->attrs;
    const ft_value in[2] = {c->dy[0], c->node->n_in == 2 ? c->node->in[1] : FT_NO_VALUE};
    attrs.kind ^= 1;
    return ft_grad_emit(c, FT_OP_ROPE, &attrs, in, c->node->n_in, &c->dx[0], err);
}

enum ft_status ft_grad_seq_pool(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    const ft_value in[4] = {c->dy[0], n->in[0], n->out[0], n->in[1]};
    return ft_grad_emit(c, FT_OP_SEQ_POOL_BWD, &n->attrs, in, 4, &c->dx[0], err);
}
