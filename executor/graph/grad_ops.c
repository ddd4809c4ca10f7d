#include <float.h>
#include <string.h>

#include "executor/graph/grad.h"

/* ---- small helpers */

bool ft_grad_needs(const struct ft_grad *c, int i)
{
    return c->reach[i] != FT_REACH_NONE;
}

static const struct ft_type *type_of(const struct ft_grad *c, ft_value v)
{
    return ft_graph_type(c->g, v);
}

enum ft_status ft_grad_emit(struct ft_grad *c, enum ft_op op, const struct ft_attrs *attrs,
                            const ft_value *in, int n_in, ft_value *out, struct ft_err *err)
{
    ft_value results[FT_MAX_OUTPUTS];
    enum ft_status st = ft_graph_add(c->g, op, attrs, in, n_in, c->node->origin, results, err);
    *out = results[0];
    return st;
}

static enum ft_status emit1(struct ft_grad *c, enum ft_op op, ft_value a, ft_value *out, struct ft_err *err)
{
    return ft_grad_emit(c, op, NULL, &a, 1, out, err);
}

static enum ft_status emit2(struct ft_grad *c, enum ft_op op, ft_value a, ft_value b, ft_value *out,
                            struct ft_err *err)
{
    const ft_value in[2] = {a, b};
    return ft_grad_emit(c, op, NULL, in, 2, out, err);
}

static enum ft_status emit_scale(struct ft_grad *c, ft_value x, float alpha, float beta, ft_value *out,
                                 struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = alpha;
    attrs.beta = beta;
    return ft_grad_emit(c, FT_OP_SCALE, &attrs, &x, 1, out, err);
}

/* dy * x, where dy is often the 1 that a loss starts with. */
static enum ft_status emit_times(struct ft_grad *c, ft_value dy, ft_value x, ft_value *out,
                                 struct ft_err *err)
{
    if (dy == c->one) {
        *out = x;
        return FT_OK;
    }
    return emit2(c, FT_OP_MUL, dy, x, out, err);
}

/* Undo broadcasting: d summed to the shape of v. */
static enum ft_status emit_sum_to(struct ft_grad *c, ft_value d, ft_value v, ft_value *out,
                                  struct ft_err *err)
{
    if (ft_type_same_shape(type_of(c, d), type_of(c, v))) {
        *out = d;
        return FT_OK;
    }
    return emit2(c, FT_OP_SUM_TO, d, v, out, err);
}

/* d broadcast to the shape of v. */
static enum ft_status emit_expand_to(struct ft_grad *c, ft_value d, ft_value v, ft_value *out,
                                     struct ft_err *err)
{
    if (ft_type_same_shape(type_of(c, d), type_of(c, v))) {
        *out = d;
        return FT_OK;
    }
    return emit2(c, FT_OP_EXPAND_TO, d, v, out, err);
}

/* ---- rows whose backward row reads (dy, y) or (dy, x) and the same attributes */

static enum ft_op backward_row(enum ft_op op)
{
    static const struct {
        enum ft_op forward, backward;
    } pairs[] = {
        {FT_OP_RELU, FT_OP_RELU_BWD},       {FT_OP_LEAKY_RELU, FT_OP_LEAKY_RELU_BWD},
        {FT_OP_SIGMOID, FT_OP_SIGMOID_BWD}, {FT_OP_TANH, FT_OP_TANH_BWD},
        {FT_OP_CLIP, FT_OP_CLIP_BWD},       {FT_OP_MAP, FT_OP_MAP_BWD},
        {FT_OP_SOFTMAX, FT_OP_SOFTMAX_BWD}, {FT_OP_LOG_SOFTMAX, FT_OP_LOG_SOFTMAX_BWD},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (pairs[i].forward == op) {
            return pairs[i].backward;
        }
    }
    return FT_OP_COUNT;
}

enum ft_status ft_grad_from_y(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[2] = {c->dy[0], c->node->out[0]};
    return ft_grad_emit(c, backward_row(c->node->op), &c->node->attrs, in, 2, &c->dx[0], err);
}

enum ft_status ft_grad_from_x(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[2] = {c->dy[0], c->node->in[0]};
    return ft_grad_emit(c, backward_row(c->node->op), &c->node->attrs, in, 2, &c->dx[0], err);
}

/* ---- normalisation */

enum ft_status ft_grad_batchnorm(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    ft_value out[FT_MAX_OUTPUTS];
    if (ft_grad_needs(c, 3) || ft_grad_needs(c, 4)) {
        return FT_FAIL(err, UNSUPPORTED, "the mean and variance of a normalisation have no gradient");
    }
    const ft_value in[5] = {c->dy[0], n->in[0], n->in[1], n->in[3], n->in[4]};
    FT_RETURN_IF_FAILED(ft_graph_add(c->g, FT_OP_BATCHNORM_BWD, &n->attrs, in, 5, n->origin, out, err));
    memcpy(c->dx, out, 3 * sizeof *out);
    return FT_OK;
}

enum ft_status ft_grad_batchnorm_train(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    ft_value out[FT_MAX_OUTPUTS];
    const ft_value in[5] = {c->dy[0], n->in[0], n->in[1], n->out[1], n->out[2]};
    FT_RETURN_IF_FAILED(ft_graph_add(c->g, FT_OP_BATCHNORM_TRAIN_BWD, &n->attrs, in, 5, n->origin, out, err));
    memcpy(c->dx, out, 3 * sizeof *out);
    return FT_OK;
}

/* ---- matrices */

static enum ft_status emit_matmul(struct ft_grad *c, ft_value a, bool trans_a, ft_value b, bool trans_b,
                                  ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = c->node->attrs.alpha;
    attrs.trans_a = trans_a;
    attrs.trans_b = trans_b;
    const ft_value in[2] = {a, b};
    return ft_grad_emit(c, FT_OP_MATMUL, &attrs, in, 2, out, err);
}

/* (..., M, K) as (... x M, K). */
static enum ft_status emit_rows(struct ft_grad *c, ft_value x, ft_value *out, struct ft_err *err)
{
    const struct ft_type *t = type_of(c, x);
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.shape_rank = 2;
    attrs.shape[0] = t->dim[0];
    attrs.shape[1] = t->dim[t->rank - 1];
    for (int i = 1; i < t->rank - 1; i++) {
        if (!ft_dim_mul(attrs.shape[0], t->dim[i], &attrs.shape[0])) {
            return FT_FAIL(err, LIMIT, "a matrix has too many rows");
        }
    }
    return ft_grad_emit(c, FT_OP_RESHAPE, &attrs, &x, 1, out, err);
}

/* d op(a) = alpha dy op(b)^T, and its transpose when a was transposed. */
static enum ft_status matmul_da(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    bool ta = n->attrs.trans_a != 0;
    bool tb = n->attrs.trans_b != 0;
    ft_value d = FT_NO_VALUE;
    if (ta) {
        FT_RETURN_IF_FAILED(emit_matmul(c, n->in[1], tb, c->dy[0], true, &d, err));
    } else {
        FT_RETURN_IF_FAILED(emit_matmul(c, c->dy[0], false, n->in[1], !tb, &d, err));
    }
    return emit_sum_to(c, d, n->in[0], &c->dx[0], err);
}

/* d op(b) = alpha op(a)^T dy, and its transpose when b was transposed. */
static enum ft_status matmul_db(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    bool ta = n->attrs.trans_a != 0;
    bool tb = n->attrs.trans_b != 0;
    ft_value a = n->in[0];
    ft_value dy = c->dy[0];
    ft_value d = FT_NO_VALUE;
    /* One weight for a whole batch: all rows at once instead of one product a batch entry and a sum. */
    if (!ta && type_of(c, a)->rank > 2 && type_of(c, n->in[1])->rank == 2) {
        FT_RETURN_IF_FAILED(emit_rows(c, a, &a, err));
        FT_RETURN_IF_FAILED(emit_rows(c, dy, &dy, err));
    }
    if (tb) {
        FT_RETURN_IF_FAILED(emit_matmul(c, dy, true, a, ta, &d, err));
    } else {
        FT_RETURN_IF_FAILED(emit_matmul(c, a, !ta, dy, false, &d, err));
    }
    return emit_sum_to(c, d, n->in[1], &c->dx[1], err);
}

enum ft_status ft_grad_matmul(struct ft_grad *c, struct ft_err *err)
{
    if (ft_grad_needs(c, 0)) {
        FT_RETURN_IF_FAILED(matmul_da(c, err));
    }
    if (ft_grad_needs(c, 1)) {
        FT_RETURN_IF_FAILED(matmul_db(c, err));
    }
    if (c->node->n_in == 3 && ft_grad_needs(c, 2)) {
        FT_RETURN_IF_FAILED(emit_sum_to(c, c->dy[0], c->node->in[2], &c->dx[2], err));
    }
    return FT_OK;
}

/* ---- element by element */

enum ft_status ft_grad_exp(struct ft_grad *c, struct ft_err *err)
{
    return emit_times(c, c->dy[0], c->node->out[0], &c->dx[0], err);
}

enum ft_status ft_grad_log(struct ft_grad *c, struct ft_err *err)
{
    return emit2(c, FT_OP_DIV, c->dy[0], c->node->in[0], &c->dx[0], err);
}

enum ft_status ft_grad_sqrt(struct ft_grad *c, struct ft_err *err)
{
    ft_value half = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(emit_scale(c, c->dy[0], 0.5F, 0.0F, &half, err));
    return emit2(c, FT_OP_DIV, half, c->node->out[0], &c->dx[0], err);
}

enum ft_status ft_grad_neg(struct ft_grad *c, struct ft_err *err)
{
    return emit1(c, FT_OP_NEG, c->dy[0], &c->dx[0], err);
}

enum ft_status ft_grad_scale(struct ft_grad *c, struct ft_err *err)
{
    return emit_scale(c, c->dy[0], c->node->attrs.alpha, 0.0F, &c->dx[0], err);
}

enum ft_status ft_grad_add(struct ft_grad *c, struct ft_err *err)
{
    for (int i = 0; i < 2; i++) {
        if (ft_grad_needs(c, i)) {
            FT_RETURN_IF_FAILED(emit_sum_to(c, c->dy[0], c->node->in[i], &c->dx[i], err));
        }
    }
    return FT_OK;
}

enum ft_status ft_grad_sub(struct ft_grad *c, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_grad_add(c, err));
    if (ft_grad_needs(c, 1)) {
        FT_RETURN_IF_FAILED(emit1(c, FT_OP_NEG, c->dx[1], &c->dx[1], err));
    }
    return FT_OK;
}

enum ft_status ft_grad_mul(struct ft_grad *c, struct ft_err *err)
{
    for (int i = 0; i < 2; i++) {
        ft_value d = FT_NO_VALUE;
        if (ft_grad_needs(c, i)) {
            FT_RETURN_IF_FAILED(emit_times(c, c->dy[0], c->node->in[1 - i], &d, err));
            FT_RETURN_IF_FAILED(emit_sum_to(c, d, c->node->in[i], &c->dx[i], err));
        }
    }
    return FT_OK;
}

/* y = a / b: da = dy / b, db = -dy y / b. */
enum ft_status ft_grad_div(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    ft_value d = FT_NO_VALUE;
    if (ft_grad_needs(c, 0)) {
        FT_RETURN_IF_FAILED(emit2(c, FT_OP_DIV, c->dy[0], n->in[1], &d, err));
        FT_RETURN_IF_FAILED(emit_sum_to(c, d, n->in[0], &c->dx[0], err));
    }
    if (ft_grad_needs(c, 1)) {
        FT_RETURN_IF_FAILED(emit_times(c, c->dy[0], n->out[0], &d, err));
        FT_RETURN_IF_FAILED(emit2(c, FT_OP_DIV, d, n->in[1], &d, err));
        FT_RETURN_IF_FAILED(emit1(c, FT_OP_NEG, d, &d, err));
        FT_RETURN_IF_FAILED(emit_sum_to(c, d, n->in[1], &c->dx[1], err));
    }
    return FT_OK;
}

/* The exponent when it is one constant number. */
static bool constant_exponent(const struct ft_grad *c, float *exponent)
{
    ft_value b = c->node->in[1];
    const struct ft_type *t = type_of(c, b);
    if (ft_graph_source(c->g, b) != FT_FROM_CONST || t->dtype != FT_F32 || ft_elements(t) != 1) {
        return false;
    }
    memcpy(exponent, ft_graph_data(c->g, b), sizeof *exponent);
    return true;
}

/* da = dy b a^(b - 1). */
static enum ft_status pow_da(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    float exponent = 0.0F;
    ft_value d = FT_NO_VALUE;
    if (constant_exponent(c, &exponent) && exponent == 2.0F) {
        FT_RETURN_IF_FAILED(emit_scale(c, n->in[0], 2.0F, 0.0F, &d, err));
    } else {
        ft_value less = FT_NO_VALUE;
        FT_RETURN_IF_FAILED(emit_scale(c, n->in[1], 1.0F, -1.0F, &less, err));
        FT_RETURN_IF_FAILED(emit2(c, FT_OP_POW, n->in[0], less, &d, err));
        FT_RETURN_IF_FAILED(emit2(c, FT_OP_MUL, d, n->in[1], &d, err));
    }
    FT_RETURN_IF_FAILED(emit_times(c, c->dy[0], d, &d, err));
    return emit_sum_to(c, d, n->in[0], &c->dx[0], err);
}

/* db = dy y log a. The smallest normal number is added so that 0^b has gradient 0 as in PyTorch, not 0 *
 * -inf; it is lost in every other sum. */
static enum ft_status pow_db(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    ft_value d = FT_NO_VALUE;
    ft_value log_a = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(emit_scale(c, n->in[0], 1.0F, FLT_MIN, &log_a, err));
    FT_RETURN_IF_FAILED(emit1(c, FT_OP_LOG, log_a, &log_a, err));
    FT_RETURN_IF_FAILED(emit2(c, FT_OP_MUL, n->out[0], log_a, &d, err));
    FT_RETURN_IF_FAILED(emit_times(c, c->dy[0], d, &d, err));
    return emit_sum_to(c, d, n->in[1], &c->dx[1], err);
}

enum ft_status ft_grad_pow(struct ft_grad *c, struct ft_err *err)
{
    if (ft_grad_needs(c, 0)) {
        FT_RETURN_IF_FAILED(pow_da(c, err));
    }
    if (ft_grad_needs(c, 1)) {
        FT_RETURN_IF_FAILED(pow_db(c, err));
    }
    return FT_OK;
}

/* The same mask again: it is a function of the node's number and rng. */
enum ft_status ft_grad_dropout(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[2] = {c->dy[0], c->node->in[1]};
    return ft_grad_emit(c, FT_OP_DROPOUT, &c->node->attrs, in, 2, &c->dx[0], err);
}

/* ---- reductions */

/* dy with the reduced axes back as ones, if they were dropped. */
static enum ft_status keep_axes(struct ft_grad *c, ft_value *out, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    const struct ft_type *x = type_of(c, n->in[0]);
    *out = c->dy[0];
    if (n->attrs.keepdims || n->attrs.axes_count == 0) {
        return FT_OK;
    }
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.shape_rank = x->rank;
    memcpy(attrs.shape, x->dim, sizeof attrs.shape);
    for (int i = 0; i < n->attrs.axes_count; i++) {
        attrs.shape[n->attrs.axes[i]] = ft_dim_of(1);
    }
    ft_value dy = c->dy[0];
    return ft_grad_emit(c, FT_OP_RESHAPE, &attrs, &dy, 1, out, err);
}

enum ft_status ft_grad_reduce_sum(struct ft_grad *c, struct ft_err *err)
{
    ft_value d = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(keep_axes(c, &d, err));
    return emit_expand_to(c, d, c->node->in[0], &c->dx[0], err);
}

/* d / (number of elements that went into each mean). A symbolic number is counted when the plan runs. */
static enum ft_status divide_by_count(struct ft_grad *c, ft_value d, ft_value *out, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    const struct ft_type *x = type_of(c, n->in[0]);
    struct ft_dim count = ft_dim_of(1);
    ft_value ones = FT_NO_VALUE;
    for (int i = 0; i < n->attrs.axes_count; i++) {
        if (!ft_dim_mul(count, x->dim[n->attrs.axes[i]], &count)) {
            return FT_FAIL(err, LIMIT, "a mean runs over too many elements");
        }
    }
    if (ft_dim_is_known(count)) {
        return emit_scale(c, d, (float)(1.0 / (double)count.coef), 0.0F, out, err);
    }
    FT_RETURN_IF_FAILED(emit2(c, FT_OP_EXPAND_TO, c->one, n->in[0], &ones, err));
    FT_RETURN_IF_FAILED(emit2(c, FT_OP_SUM_TO, ones, d, &ones, err));
    return emit2(c, FT_OP_DIV, d, ones, out, err);
}

enum ft_status ft_grad_reduce_mean(struct ft_grad *c, struct ft_err *err)
{
    ft_value d = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(keep_axes(c, &d, err));
    FT_RETURN_IF_FAILED(divide_by_count(c, d, &d, err));
    return emit_expand_to(c, d, c->node->in[0], &c->dx[0], err);
}

enum ft_status ft_grad_sum_to(struct ft_grad *c, struct ft_err *err)
{
    return emit_expand_to(c, c->dy[0], c->node->in[0], &c->dx[0], err);
}

enum ft_status ft_grad_expand_to(struct ft_grad *c, struct ft_err *err)
{
    return emit_sum_to(c, c->dy[0], c->node->in[0], &c->dx[0], err);
}

enum ft_status ft_grad_sum_squares(struct ft_grad *c, struct ft_err *err)
{
    ft_value d = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(emit_scale(c, c->node->in[0], 2.0F, 0.0F, &d, err));
    return emit_times(c, c->dy[0], d, &c->dx[0], err);
}

/* ---- moving elements */

enum ft_status ft_grad_reshape(struct ft_grad *c, struct ft_err *err)
{
    return emit2(c, FT_OP_RESHAPE_LIKE, c->dy[0], c->node->in[0], &c->dx[0], err);
}

enum ft_status ft_grad_transpose(struct ft_grad *c, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    int rank = type_of(c, c->node->in[0])->rank;
    for (int i = 0; i < rank; i++) {
        attrs.perm[c->node->attrs.perm[i]] = i;
    }
    ft_value dy = c->dy[0];
    return ft_grad_emit(c, FT_OP_TRANSPOSE, &attrs, &dy, 1, &c->dx[0], err);
}

/* Elements `start` .. of dy along `axis`, as many as `like` has. */
static enum ft_status emit_slice(struct ft_grad *c, int axis, int64_t start, ft_value like, ft_value *out,
                                 struct ft_err *err)
{
    const struct ft_type *t = type_of(c, like);
    struct ft_attrs attrs;
    if (!ft_dim_is_known(t->dim[axis])) {
        return FT_FAIL(err, UNSUPPORTED, "axis %d of '%.200s' must be known", axis,
                       ft_graph_name(c->g, like));
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = axis;
    attrs.start = start;
    attrs.count = t->dim[axis].coef;
    ft_value dy = c->dy[0];
    return ft_grad_emit(c, FT_OP_SLICE, &attrs, &dy, 1, out, err);
}

enum ft_status ft_grad_concat(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    int axis = n->attrs.axis;
    int64_t start = 0;
    for (int i = 0; i < n->n_in; i++) {
        if (ft_grad_needs(c, i)) {
            FT_RETURN_IF_FAILED(emit_slice(c, axis, start, n->in[i], &c->dx[i], err));
        }
        start += type_of(c, n->in[i])->dim[axis].coef;
    }
    return FT_OK;
}

enum ft_status ft_grad_slice(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[2] = {c->dy[0], c->node->in[0]};
    return ft_grad_emit(c, FT_OP_PAD_LIKE, &c->node->attrs, in, 2, &c->dx[0], err);
}

enum ft_status ft_grad_pad_like(struct ft_grad *c, struct ft_err *err)
{
    struct ft_attrs attrs = c->node->attrs;
    struct ft_dim extent = type_of(c, c->node->in[0])->dim[attrs.axis];
    attrs.count = extent.coef; /* known: pad_like wants it so */
    return ft_grad_emit(c, FT_OP_SLICE, &attrs, &c->dy[0], 1, &c->dx[0], err);
}

/* ---- embeddings and losses */

enum ft_status ft_grad_l2_normalize(struct ft_grad *c, struct ft_err *err)
{
    const ft_value in[3] = {c->dy[0], c->node->out[0], c->node->out[1]};
    return ft_grad_emit(c, FT_OP_L2_NORMALIZE_BWD, &c->node->attrs, in, 3, &c->dx[0], err);
}

enum ft_status ft_grad_pdist(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    ft_value out[FT_MAX_OUTPUTS];
    const ft_value in[4] = {c->dy[0], n->out[0], n->in[0], n->in[1]};
    FT_RETURN_IF_FAILED(ft_graph_add(c->g, FT_OP_PDIST_BWD, &n->attrs, in, 4, n->origin, out, err));
    c->dx[0] = out[0];
    c->dx[1] = out[1];
    return FT_OK;
}

/* The forward row has computed d loss / d dist already. */
enum ft_status ft_grad_triplet(struct ft_grad *c, struct ft_err *err)
{
    return emit_times(c, c->dy[0], c->node->out[1], &c->dx[1], err);
}

enum ft_status ft_grad_masked_mean(struct ft_grad *c, struct ft_err *err)
{
    const struct ft_node *n = c->node;
    /* Weights that a miner chose are constants; others would need a gradient that the op does not define. */
    if (c->reach[1] == FT_REACH_SMOOTH) {
        return FT_FAIL(err, UNSUPPORTED, "the weights of a masked mean have no gradient");
    }
    if (!ft_grad_needs(c, 0)) {
        return FT_OK;
    }
    const ft_value in[4] = {c->dy[0], n->in[0], n->in[1], n->out[1]};
    return ft_grad_emit(c, FT_OP_MASKED_MEAN_BWD, &n->attrs, in, 4, &c->dx[0], err);
}
