#include <string.h>

#include "executor/graph/grad.h"

/* Convolution, pooling, padding. */

enum ft_status ft_grad_conv(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    ft_value dy = c->dy[0];
    if (ft_grad_needs(c, 0)) {
        const ft_value in[3] = {dy, n->in[1], n->in[0]};
        FT_RETURN_IF_FAILED(ft_grad_emit(c, FT_OP_CONV_BWD_DATA, &n->attrs, in, 3, &c->dx[0], err));
    }
    if (ft_grad_needs(c, 1)) {
        const ft_value in[3] = {n->in[0], dy, n->in[1]};
        FT_RETURN_IF_FAILED(ft_grad_emit(c, FT_OP_CONV_BWD_WEIGHT, &n->attrs, in, 3, &c->dx[1], err));
    }
    if (n->n_in == 3 && ft_grad_needs(c, 2)) {
        struct ft_attrs attrs;
        memset(&attrs, 0, sizeof attrs);
        int rank = ft_graph_type(c->g, dy)->rank;
        for (int axis = 0; axis < rank; axis++) { /* all but the channels */
            if (axis != 1) {
                attrs.axes[attrs.axes_count++] = axis;
            }
        }
        FT_RETURN_IF_FAILED(ft_grad_emit(c, FT_OP_REDUCE_SUM, &attrs, &dy, 1, &c->dx[2], err));
    }
    return FT_OK;
}

/* y = the x of a convolution whose result is in[0]: its gradients are that convolution of dy, and the weight
 * gradient with the two exchanged. */
enum ft_status ft_grad_conv_bwd_data(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    struct ft_attrs attrs = n->attrs;
    memset(attrs.window.out, 0, sizeof attrs.window.out);
    if (ft_grad_needs(c, 0)) {
        const ft_value in[2] = {c->dy[0], n->in[1]};
        FT_RETURN_IF_FAILED(ft_grad_emit(c, FT_OP_CONV, &attrs, in, 2, &c->dx[0], err));
    }
    if (ft_grad_needs(c, 1)) {
        const ft_value in[3] = {c->dy[0], n->in[0], n->in[1]};
        FT_RETURN_IF_FAILED(ft_grad_emit(c, FT_OP_CONV_BWD_WEIGHT, &attrs, in, 3, &c->dx[1], err));
    }
    return FT_OK;
}

enum ft_status ft_grad_maxpool(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[3] = {c->dy[0], c->node->out[1], c->node->in[0]};
    return ft_grad_emit(c, FT_OP_MAXPOOL_BWD, &c->node->attrs, in, 3, &c->dx[0], err);
}

enum ft_status ft_grad_avgpool(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[2] = {c->dy[0], c->node->in[0]};
    return ft_grad_emit(c, FT_OP_AVGPOOL_BWD, &c->node->attrs, in, 2, &c->dx[0], err);
}

/* ---- padding and strided slices */

enum ft_status ft_grad_pad(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[2] = {c->dy[0], c->node->in[0]};
    return ft_grad_emit(c, FT_OP_PAD_BWD, &c->node->attrs, in, 2, &c->dx[0], err);
}
