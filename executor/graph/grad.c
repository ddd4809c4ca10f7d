#include "executor/graph/grad.h"

#include <assert.h>
#include <string.h>

/* Rows that are not listed have no gradient: miners' choices, backward rows (second derivatives are not
 * taken, but where such a row is also a forward one) and optimisers. */
static const struct ft_grad_row rows[FT_OP_COUNT] = {
    [FT_OP_CONV] = {ft_grad_conv, 0x0, 0x1},
    [FT_OP_CONV_BWD_DATA] = {ft_grad_conv_bwd_data, 0x4, 0x1}, /* a transposed convolution */
    [FT_OP_BATCHNORM] = {ft_grad_batchnorm, 0x0, 0x1},
    /* The running statistics that come in do not take part in y. */
    [FT_OP_BATCHNORM_TRAIN] = {ft_grad_batchnorm_train, 0x18, 0x1},
    [FT_OP_LAYERNORM] = {ft_grad_layernorm, 0x0, 0x1},
    [FT_OP_MAXPOOL] = {ft_grad_maxpool, 0x0, 0x1},
    [FT_OP_AVGPOOL] = {ft_grad_avgpool, 0x0, 0x1},
    [FT_OP_PAD] = {ft_grad_pad, 0x0, 0x1},
    [FT_OP_MATMUL] = {ft_grad_matmul, 0x0, 0x1},
    [FT_OP_RELU] = {ft_grad_from_y, 0x0, 0x1},
    [FT_OP_LEAKY_RELU] = {ft_grad_from_x, 0x0, 0x1},
    [FT_OP_SIGMOID] = {ft_grad_from_y, 0x0, 0x1},
    [FT_OP_TANH] = {ft_grad_from_y, 0x0, 0x1},
    [FT_OP_CLIP] = {ft_grad_from_x, 0x0, 0x1},
    [FT_OP_MAP] = {ft_grad_from_x, 0x0, 0x1},
    [FT_OP_EXP] = {ft_grad_exp, 0x0, 0x1},
    [FT_OP_LOG] = {ft_grad_log, 0x0, 0x1},
    [FT_OP_SQRT] = {ft_grad_sqrt, 0x0, 0x1},
    [FT_OP_NEG] = {ft_grad_neg, 0x0, 0x1},
    [FT_OP_SCALE] = {ft_grad_scale, 0x0, 0x1},
    [FT_OP_ADD] = {ft_grad_add, 0x0, 0x1},
    [FT_OP_SUB] = {ft_grad_sub, 0x0, 0x1},
    [FT_OP_MUL] = {ft_grad_mul, 0x0, 0x1},
    [FT_OP_DIV] = {ft_grad_div, 0x0, 0x1},
    [FT_OP_POW] = {ft_grad_pow, 0x0, 0x1},
    [FT_OP_WHERE] = {ft_grad_where, 0x0, 0x1},
    [FT_OP_MAXIMUM] = {ft_grad_extreme, 0x0, 0x1},
    [FT_OP_MINIMUM] = {ft_grad_extreme, 0x0, 0x1},
    [FT_OP_MOD] = {ft_grad_mod, 0x0, 0x1},
    [FT_OP_GATHER] = {ft_grad_gather, 0x2, 0x1},
    [FT_OP_GATHER_ELEMENTS] = {ft_grad_gather_elements, 0x2, 0x1},
    [FT_OP_GATHER_ND] = {ft_grad_gather_nd, 0x2, 0x1},
    [FT_OP_SCATTER_ELEMENTS] = {ft_grad_scatter_elements, 0x2, 0x1},
    [FT_OP_SCATTER_ND] = {ft_grad_scatter_nd, 0x2, 0x1},
    [FT_OP_TOPK] = {ft_grad_topk, 0x0, 0x1},
    [FT_OP_CUMSUM] = {ft_grad_cumsum, 0x0, 0x1},
    [FT_OP_DROPOUT] = {ft_grad_dropout, 0x2, 0x1},
    [FT_OP_REDUCE_SUM] = {ft_grad_reduce_sum, 0x0, 0x1},
    [FT_OP_REDUCE_MEAN] = {ft_grad_reduce_mean, 0x0, 0x1},
    [FT_OP_REDUCE] = {ft_grad_reduce, 0x0, 0x1},
    [FT_OP_SUM_TO] = {ft_grad_sum_to, 0x2, 0x1},
    [FT_OP_EXPAND_TO] = {ft_grad_expand_to, 0x2, 0x1},
    [FT_OP_RESHAPE] = {ft_grad_reshape, 0x0, 0x1},
    [FT_OP_RESHAPE_LIKE] = {ft_grad_reshape, 0x2, 0x1},
    [FT_OP_TRANSPOSE] = {ft_grad_transpose, 0x0, 0x1},
    [FT_OP_CONCAT] = {ft_grad_concat, 0x0, 0x1},
    [FT_OP_SLICE] = {ft_grad_slice, 0x0, 0x1},
    [FT_OP_PAD_LIKE] = {ft_grad_pad_like, 0x2, 0x1},
    [FT_OP_SOFTMAX] = {ft_grad_from_y, 0x0, 0x1},
    [FT_OP_LOG_SOFTMAX] = {ft_grad_from_y, 0x0, 0x1},
    [FT_OP_ATTENTION] = {ft_grad_attention, 0x8, 0x1},
    [FT_OP_ROPE] = {ft_grad_rope, 0x2, 0x1},
    [FT_OP_SEQ_POOL] = {ft_grad_seq_pool, 0x2, 0x1},
    [FT_OP_L2_NORMALIZE] = {ft_grad_l2_normalize, 0x0, 0x1},
    [FT_OP_PDIST] = {ft_grad_pdist, 0x0, 0x1},
    /* What a triplet is mined on only selects. */
    [FT_OP_TRIPLET] = {ft_grad_triplet, 0xd, 0x1},
    [FT_OP_PAIRS] = {NULL, 0x1, 0x0}, /* which pairs there are is a choice, not a function */
    [FT_OP_MASKED_MEAN] = {ft_grad_masked_mean, 0x0, 0x1},
    [FT_OP_SUM_SQUARES] = {ft_grad_sum_squares, 0x0, 0x1},
};

const struct ft_grad_row *ft_grad_row_of(enum ft_op op)
{
    assert((int)op >= 0 && op < FT_OP_COUNT);
    return &rows[op];
}

/* One call of ft_graph_backward(). Only nodes that stood in the graph before are looked at. */
struct backward {
    struct ft_graph *g;
    int n_nodes;
    int n_values;
    enum ft_reach *reach; /* by value */
    ft_value *grad;       /* by value */
    ft_value one;
    enum ft_reach *node_reach; /* room for the inputs of any node */
    ft_value *node_dx;
};

/* Nothing flows into integers and booleans, whatever the op: they do not change with a small step. */
static bool stopped(const struct backward *b, const struct ft_node *node, int i)
{
    return ft_node_shape_only(node->op, i) || (i < 32 && (rows[node->op].stops >> i & 1U) != 0) ||
           ft_graph_type(b->g, node->in[i])->dtype != FT_F32;
}

/* How the outputs of a node depend on what is asked for, given its inputs. */
static enum ft_reach reach_of(const struct backward *b, const struct ft_node *node)
{
    enum ft_reach most = FT_REACH_NONE;
    for (int i = 0; i < node->n_in; i++) {
        enum ft_reach r = stopped(b, node, i) ? FT_REACH_NONE : b->reach[node->in[i]];
        most = r > most ? r : most;
    }
    return rows[node->op].build == NULL && most == FT_REACH_SMOOTH ? FT_REACH_MINED : most;
}

static void mark_reach(struct backward *b, const ft_value *wrt, int n_wrt)
{
    for (int i = 0; i < n_wrt; i++) {
        b->reach[wrt[i]] = FT_REACH_SMOOTH;
    }
    for (int n = 0; n < b->n_nodes; n++) {
        const struct ft_node *node = ft_graph_node(b->g, n);
        enum ft_reach r = reach_of(b, node);
        for (int i = 0; i < node->n_out; i++) {
            enum ft_reach *out = &b->reach[node->out[i]];
            *out = r > *out ? r : *out;
        }
    }
}

/* Gradients of one value that comes to use several times are added in the order in which they are found: from
 * the last reader to the first. */
static enum ft_status add_gradient(struct backward *b, ft_value v, ft_value d, struct ft_err *err)
{
    if (b->grad[v] == FT_NO_VALUE) {
        b->grad[v] = d;
        return FT_OK;
    }
    return ft_graph_add2(b->g, FT_OP_ADD, b->grad[v], d, &b->grad[v], err);
}

static enum ft_status check_outputs(const struct backward *b, const struct ft_node *node, struct ft_err *err)
{
    char text[FT_NODE_TEXT];
    const struct ft_grad_row *row = &rows[node->op];
    if (row->build == NULL) {
        return FT_FAIL(err, UNSUPPORTED, "%s has no gradient", ft_node_text(node, text));
    }
    for (int i = 0; i < node->n_out; i++) {
        if (b->grad[node->out[i]] != FT_NO_VALUE && (row->outputs >> i & 1U) == 0) {
            return FT_FAIL(err, UNSUPPORTED, "%s has no gradient through its output %d ('%.200s')",
                           ft_node_text(node, text), i, ft_graph_name(b->g, node->out[i]));
        }
    }
    return FT_OK;
}

static enum ft_status node_backward(struct backward *b, const struct ft_node *node, struct ft_err *err)
{
    ft_value dy[FT_MAX_OUTPUTS];
    bool arrives = false;
    bool wanted = false;
    for (int i = 0; i < node->n_out; i++) {
        dy[i] = b->grad[node->out[i]];
        arrives = arrives || dy[i] != FT_NO_VALUE;
    }
    for (int i = 0; i < node->n_in; i++) {
        b->node_reach[i] = stopped(b, node, i) ? FT_REACH_NONE : b->reach[node->in[i]];
        b->node_dx[i] = FT_NO_VALUE;
        wanted = wanted || b->node_reach[i] != FT_REACH_NONE;
    }
    if (!arrives || !wanted) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(check_outputs(b, node, err));
    struct ft_grad c = {
        .g = b->g, .node = node, .one = b->one, .dy = dy, .reach = b->node_reach, .dx = b->node_dx};
    if (rows[node->op].build(&c, err) != FT_OK) {
        char text[FT_NODE_TEXT];
        return ft_err_wrap(err, "gradient of %s", ft_node_text(node, text));
    }
    for (int i = 0; i < node->n_in; i++) {
        if (b->node_dx[i] != FT_NO_VALUE && b->node_reach[i] != FT_REACH_NONE) {
            FT_RETURN_IF_FAILED(add_gradient(b, node->in[i], b->node_dx[i], err));
        }
    }
    return FT_OK;
}

static enum ft_status backward_init(struct backward *b, struct ft_graph *g, struct ft_err *err)
{
    const float one = 1.0F;
    struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    size_t most = 1;
    b->g = g;
    b->n_nodes = ft_graph_nodes(g);
    b->n_values = ft_graph_values(g);
    for (int n = 0; n < b->n_nodes; n++) {
        size_t n_in = (size_t)ft_graph_node(g, n)->n_in;
        most = n_in > most ? n_in : most;
    }
    FT_RETURN_IF_FAILED(ft_new((size_t)b->n_values, sizeof *b->reach, &b->reach, err));
    FT_RETURN_IF_FAILED(ft_new((size_t)b->n_values, sizeof *b->grad, &b->grad, err));
    FT_RETURN_IF_FAILED(ft_new(most, sizeof *b->node_reach, &b->node_reach, err));
    FT_RETURN_IF_FAILED(ft_new(most, sizeof *b->node_dx, &b->node_dx, err));
    for (int v = 0; v < b->n_values; v++) {
        b->grad[v] = FT_NO_VALUE;
    }
    return ft_graph_const(g, "", &scalar, &one, &b->one, err);
}

enum ft_status ft_graph_backward(struct ft_graph *g, ft_value loss, const ft_value *wrt, int n_wrt,
                                 ft_value *grad, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct backward b = {0};
    for (int i = 0; i < n_wrt; i++) {
        grad[i] = FT_NO_VALUE;
        assert(wrt[i] >= 0 && wrt[i] < ft_graph_values(g));
    }
    const struct ft_type *type = ft_graph_type(g, loss);
    if (type->rank != 0 || type->dtype != FT_F32) {
        char text[FT_TYPE_TEXT];
        return FT_FAIL(err, INVALID, "the loss '%.200s' is %s, not a float32 scalar", ft_graph_name(g, loss),
                       ft_type_text(type, text));
    }
    FT_TRY(backward_init(&b, g, err));
    mark_reach(&b, wrt, n_wrt);
    b.grad[loss] = b.one;
    for (int n = b.n_nodes - 1; n >= 0; n--) {
        FT_TRY(node_backward(&b, ft_graph_node(g, n), err));
    }
    for (int i = 0; i < n_wrt; i++) {
        grad[i] = b.grad[wrt[i]];
    }
done:
    ft_free(b.reach);
    ft_free(b.grad);
    ft_free(b.node_reach);
    ft_free(b.node_dx);
    return st;
}

/* The first node that the gradient of `v` does not come through: it reads v's descendants and is read by the
 * loss. */
static const struct ft_node *blocker_of(const struct ft_graph *g, ft_value v, const bool *read, bool *reached)
{
    memset(reached, 0, (size_t)ft_graph_values(g) * sizeof *reached);
    reached[v] = true;
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        const struct ft_node *node = ft_graph_node(g, n);
        bool arrives = false;
        for (int i = 0; i < node->n_in; i++) {
            arrives = arrives || (reached[node->in[i]] && !ft_node_shape_only(node->op, i));
        }
        for (int i = 0; arrives && i < node->n_out; i++) {
            bool flows = rows[node->op].build != NULL && ft_graph_type(g, node->out[i])->dtype == FT_F32;
            if (!flows && read[node->out[i]]) {
                return node;
            }
            reached[node->out[i]] = flows;
        }
    }
    return NULL;
}

/* Values whose data the loss is computed from. */
static void mark_read(const struct ft_graph *g, ft_value loss, bool *read)
{
    read[loss] = true;
    for (int n = ft_graph_nodes(g) - 1; n >= 0; n--) {
        const struct ft_node *node = ft_graph_node(g, n);
        bool wanted = false;
        for (int i = 0; i < node->n_out; i++) {
            wanted = wanted || read[node->out[i]];
        }
        for (int i = 0; wanted && i < node->n_in; i++) {
            read[node->in[i]] = read[node->in[i]] || !ft_node_shape_only(node->op, i);
        }
    }
}

enum ft_status ft_graph_check_trained(const struct ft_graph *g, ft_value loss, const ft_value *wrt, int n_wrt,
                                      const ft_value *grad, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    bool *read = NULL;
    bool *reached = NULL;
    FT_TRY(ft_new((size_t)ft_graph_values(g), sizeof *read, &read, err));
    FT_TRY(ft_new((size_t)ft_graph_values(g), sizeof *reached, &reached, err));
    mark_read(g, loss, read);
    for (int i = 0; i < n_wrt; i++) {
        const struct ft_node *node =
            grad[i] == FT_NO_VALUE && read[wrt[i]] ? blocker_of(g, wrt[i], read, reached) : NULL;
        if (node != NULL) {
            char text[FT_NODE_TEXT];
            st = FT_FAIL(err, UNSUPPORTED,
                         "'%.200s' cannot be trained: nothing flows back through %s; freeze it",
                         ft_graph_name(g, wrt[i]), ft_node_text(node, text));
            goto done;
        }
    }
done:
    ft_free(read);
    ft_free(reached);
    return st;
}
