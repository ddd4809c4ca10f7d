#include <string.h>

#include "executor/graph/grad.h"

/* Choices and indexing. */

static enum ft_status emit2(struct ft_grad *c, enum ft_op op, ft_value a, ft_value b, ft_value *out,
                            struct ft_err *err)
{
    const ft_value in[2] = {a, b};
    return ft_grad_emit(c, op, NULL, in, 2, out, err);
}

/* d summed to the shape of input i. */
static enum ft_status give(struct ft_grad *c, ft_value d, int i, struct ft_err *err)
{
    ft_value x = c->node->in[i];
    if (ft_type_same_shape(ft_graph_type(c->g, d), ft_graph_type(c->g, x))) {
        c->dx[i] = d;
        return FT_OK;
    }
    return emit2(c, FT_OP_SUM_TO, d, x, &c->dx[i], err);
}

static enum ft_status zero(struct ft_grad *c, ft_value *out, struct ft_err *err)
{
    const float nothing = 0.0F;
    struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    return ft_graph_const(c->g, "", &scalar, &nothing, out, err);
}

/* What is not chosen gets 0, also where dy is infinite: a product with the mask would make it NaN. */
enum ft_status ft_grad_where(struct ft_grad *c, struct ft_err *err)
{
    ft_value none = FT_NO_VALUE;
    ft_value d = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(zero(c, &none, err));
    for (int i = 1; i < 3; i++) {
        const ft_value in[3] = {c->node->in[0], i == 1 ? c->dy[0] : none, i == 1 ? none : c->dy[0]};
        if (ft_grad_needs(c, i)) {
            FT_RETURN_IF_FAILED(ft_grad_emit(c, FT_OP_WHERE, NULL, in, 3, &d, err));
            FT_RETURN_IF_FAILED(give(c, d, i, err));
        }
    }
    return FT_OK;
}

/* All of dy to the winner, half to each of equals, as torch.maximum: ((a >= b) + (a > b)) / 2. */
static enum ft_status share(struct ft_grad *c, int i, ft_value *out, struct ft_err *err)
{
    static const enum ft_compare kinds[2][2] = {{FT_GREATER_OR_EQUAL, FT_GREATER},
                                                {FT_LESS_OR_EQUAL, FT_LESS}};
    struct ft_attrs attrs;
    ft_value part[2] = {FT_NO_VALUE, FT_NO_VALUE};
    for (int k = 0; k < 2; k++) {
        memset(&attrs, 0, sizeof attrs);
        attrs.kind = (int)kinds[(c->node->op == FT_OP_MINIMUM) != (i == 1)][k];
        FT_RETURN_IF_FAILED(ft_grad_emit(c, FT_OP_COMPARE, &attrs, c->node->in, 2, &part[k], err));
        attrs.kind = FT_CAST_FLOAT;
        FT_RETURN_IF_FAILED(ft_grad_emit(c, FT_OP_CAST, &attrs, &part[k], 1, &part[k], err));
    }
    FT_RETURN_IF_FAILED(emit2(c, FT_OP_ADD, part[0], part[1], out, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 0.5F;
    return ft_grad_emit(c, FT_OP_SCALE, &attrs, out, 1, out, err);
}

enum ft_status ft_grad_extreme(struct ft_grad *c, struct ft_err *err)
{
    for (int i = 0; i < 2; i++) {
        ft_value d = FT_NO_VALUE;
        if (ft_grad_needs(c, i)) {
            FT_RETURN_IF_FAILED(share(c, i, &d, err));
            FT_RETURN_IF_FAILED(emit2(c, FT_OP_MUL, c->dy[0], d, &d, err));
            FT_RETURN_IF_FAILED(give(c, d, i, err));
        }
    }
    return FT_OK;
}

/* y = a - q b with a whole number q = (a - y) / b. */
enum ft_status ft_grad_mod(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    if (ft_grad_needs(c, 0)) {
        FT_RETURN_IF_FAILED(give(c, c->dy[0], 0, err));
    }
    if (ft_grad_needs(c, 1)) {
        ft_value d = FT_NO_VALUE;
        FT_RETURN_IF_FAILED(emit2(c, FT_OP_SUB, n->out[0], n->in[0], &d, err));
        FT_RETURN_IF_FAILED(emit2(c, FT_OP_DIV, d, n->in[1], &d, err));
        FT_RETURN_IF_FAILED(emit2(c, FT_OP_MUL, c->dy[0], d, &d, err));
        FT_RETURN_IF_FAILED(give(c, d, 1, err));
    }
    return FT_OK;
}

/* ---- indexing */

/* 0 in the shape of v. */
static enum ft_status zeros_like(struct ft_grad *c, ft_value v, ft_value *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(zero(c, out, err));
    return emit2(c, FT_OP_EXPAND_TO, *out, v, out, err);
}

enum ft_status ft_grad_gather(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[3] = {c->dy[0], c->node->in[1], c->node->in[0]};
    return ft_grad_emit(c, FT_OP_GATHER_BWD, &c->node->attrs, in, 3, &c->dx[0], err);
}

/* Added up where they were read, by the scattering row beside the gathering one. */
static enum ft_status scatter_back(struct ft_grad *c, enum ft_op op, ft_value index, ft_value d,
                                   struct ft_err *err)
{
    struct ft_attrs attrs = c->node->attrs;
    ft_value none = FT_NO_VALUE;
    attrs.kind = FT_SCATTER_ADD;
    FT_RETURN_IF_FAILED(zeros_like(c, c->node->in[0], &none, err));
    const ft_value in[3] = {none, index, d};
    return ft_grad_emit(c, op, &attrs, in, 3, &c->dx[0], err);
}

enum ft_status ft_grad_gather_elements(struct ft_grad *c, struct ft_err *err)
{
    return scatter_back(c, FT_OP_SCATTER_ELEMENTS, c->node->in[1], c->dy[0], err);
}

enum ft_status ft_grad_gather_nd(struct ft_grad *c, struct ft_err *err)
{
    return scatter_back(c, FT_OP_SCATTER_ND, c->node->in[1], c->dy[0], err);
}

enum ft_status ft_grad_topk(struct ft_grad *c, struct ft_err *err)
{
    return scatter_back(c, FT_OP_SCATTER_ELEMENTS, c->node->out[1], c->dy[0], err);
}

/* What was put in gets dy from its place, what was overwritten nothing. Where several were put at one place,
 * dy goes to each of them (PyTorch's too), although the last one stays. */
static enum ft_status scatter_grad(struct ft_grad *c, enum ft_op gather, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    struct ft_attrs attrs = n->attrs;
    if (attrs.kind != FT_SCATTER_SET && attrs.kind != FT_SCATTER_ADD) {
        return FT_FAIL(err, UNSUPPORTED, "a scatter that multiplies or keeps an extreme has no gradient");
    }
    if (ft_grad_needs(c, 0) && attrs.kind == FT_SCATTER_ADD) {
        c->dx[0] = c->dy[0];
    } else if (ft_grad_needs(c, 0)) {
        ft_value none = FT_NO_VALUE;
        FT_RETURN_IF_FAILED(zeros_like(c, n->in[2], &none, err));
        const ft_value in[3] = {c->dy[0], n->in[1], none};
        FT_RETURN_IF_FAILED(ft_grad_emit(c, n->op, &n->attrs, in, 3, &c->dx[0], err));
    }
    if (ft_grad_needs(c, 2)) {
        const ft_value in[2] = {c->dy[0], n->in[1]};
        attrs.kind = 0;
        FT_RETURN_IF_FAILED(ft_grad_emit(c, gather, &attrs, in, 2, &c->dx[2], err));
    }
    return FT_OK;
}

enum ft_status ft_grad_scatter_elements(struct ft_grad *c, struct ft_err *err)
{
    return scatter_grad(c, FT_OP_GATHER_ELEMENTS, err);
}

enum ft_status ft_grad_scatter_nd(struct ft_grad *c, struct ft_err *err)
{
    return scatter_grad(c, FT_OP_GATHER_ND, err);
}

/* The sum from the other end. */
enum ft_status ft_grad_cumsum(struct ft_grad *c, struct ft_err *err)
{
    struct ft_attrs attrs = c->node->attrs;
    attrs.kind ^= FT_CUMSUM_REVERSE;
    return ft_grad_emit(c, FT_OP_CUMSUM, &attrs, &c->dy[0], 1, &c->dx[0], err);
}
