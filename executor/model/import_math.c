#include <math.h>
#include <string.h>

#include "executor/model/import.h"

/* Element by element, matrices, softmax, norms and dropout. */

static enum ft_status one_to_one(struct ft_at *at, enum ft_op op, const struct ft_attrs *attrs,
                                 struct ft_err *err)
{
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, op, attrs, &x, 1, &y, err));
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_unary(struct ft_at *at, int arg, struct ft_err *err)
{
    if (ft_at_all_host(at)) {
        return ft_fold_unary(at, (enum ft_op)arg, err);
    }
    if (arg == FT_OP_NEG && ft_at_dtype(at, 0) == FT_I64) {
        return ft_import_int_unary(at, err);
    }
    return one_to_one(at, (enum ft_op)arg, NULL, err);
}

enum ft_status ft_import_leaky_relu(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 0.01F;
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "alpha", &attrs.alpha, err));
    return one_to_one(at, FT_OP_LEAKY_RELU, &attrs, err);
}

/* relu(x) - slope relu(-x) */
enum ft_status ft_import_prelu(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    ft_value x = FT_NO_VALUE;
    ft_value slope = FT_NO_VALUE;
    ft_value above = FT_NO_VALUE;
    ft_value below = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_weight(at, 1, FT_PARAM_WEIGHT, &slope, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_RELU, NULL, &x, 1, &above, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_NEG, NULL, &x, 1, &below, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_RELU, NULL, &below, 1, &below, err));
    ft_value product[2] = {slope, below};
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MUL, NULL, product, 2, &below, err));
    ft_value both[2] = {above, below};
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SUB, NULL, both, 2, &above, err));
    return ft_at_set(at, 0, above, err);
}

/* Bounds are attributes before opset 11, then inputs. */
enum ft_status ft_import_clip(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.lo = -INFINITY;
    attrs.hi = INFINITY;
    if (at->opset < 11) {
        FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "min", &attrs.lo, err));
        FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "max", &attrs.hi, err));
    }
    if (ft_at_has(at, 1)) {
        FT_RETURN_IF_FAILED(ft_at_scalar(at, 1, &attrs.lo, err));
    }
    if (ft_at_has(at, 2)) {
        FT_RETURN_IF_FAILED(ft_at_scalar(at, 2, &attrs.hi, err));
    }
    return one_to_one(at, FT_OP_CLIP, &attrs, err);
}

/* ---- two tensors */

/* The vector, or single row, that is added to a product of matrices is a bias, whatever it is called, and so
 * are scale and bias after a spelled-out layer normalisation. */
static bool is_bias(const struct ft_at *at, enum ft_op op, int i, ft_value other)
{
    const struct ft_slot *slot = ft_at_slot(at, i);
    const struct ft_graph *g = at->im->graph;
    int producer = ft_graph_producer(g, other);
    const struct ft_type *type = ft_graph_type(g, other);
    if (producer >= 0 && ft_graph_node(g, producer)->op == FT_OP_LAYERNORM && slot->weight &&
        !ft_host_is_int(slot->host) && (op == FT_OP_ADD || op == FT_OP_MUL)) {
        const struct ft_type *scale = ft_graph_type(g, ft_graph_node(g, producer)->in[1]);
        bool same = scale->rank == slot->host->rank;
        for (int k = 0; same && k < scale->rank; k++) {
            same = ft_dim_equal(scale->dim[k], ft_dim_of(slot->host->dims[k]));
        }
        return same;
    }
    return op == FT_OP_ADD && slot->weight && producer >= 0 &&
           ft_graph_node(g, producer)->op == FT_OP_MATMUL && !ft_host_is_int(slot->host) &&
           slot->host->rank > 0 && slot->host->dims[slot->host->rank - 1] == slot->host->count &&
           ft_dim_equal(type->dim[type->rank - 1], ft_dim_of(slot->host->count));
}

/* x + c, x - c, x * c with one known number c is SCALE. */
static bool as_scale(const struct ft_at *at, enum ft_op op, int known, const struct ft_type *x,
                     struct ft_attrs *attrs)
{
    const struct ft_host *h = ft_at_host(at, known);
    if (h == NULL || ft_host_is_int(h) || h->count != 1 || h->rank > x->rank) {
        return false;
    }
    float c = ft_host_float(h, 0);
    memset(attrs, 0, sizeof *attrs);
    attrs->alpha = 1.0F;
    if (op == FT_OP_ADD) {
        attrs->beta = c;
    } else if (op == FT_OP_SUB) {
        attrs->alpha = known == 0 ? -1.0F : 1.0F;
        attrs->beta = known == 0 ? c : -c;
    } else if (op == FT_OP_MUL) {
        attrs->alpha = c;
    } else {
        return false;
    }
    return true;
}

/* A product with a number and then a sum with one are a single SCALE. Returns what it reads. */
static ft_value merge_scale(const struct ft_graph *g, ft_value x, struct ft_attrs *attrs)
{
    int producer = ft_graph_producer(g, x);
    const struct ft_node *node = producer < 0 ? NULL : ft_graph_node(g, producer);
    if (node == NULL || node->op != FT_OP_SCALE || node->attrs.beta != 0.0F || attrs->alpha != 1.0F) {
        return x;
    }
    attrs->alpha = node->attrs.alpha;
    return node->in[0];
}

/* The x of |x|, else v. */
static ft_value without_sign(const struct ft_graph *g, ft_value v)
{
    int producer = ft_graph_producer(g, v);
    const struct ft_node *node = producer < 0 ? NULL : ft_graph_node(g, producer);
    return node != NULL && node->op == FT_OP_MAP && node->attrs.kind == FT_MAP_ABS ? node->in[0] : v;
}

/* x^2 is x x, x^0.5 the square root: exact, and with a gradient for every x. An exponent may be an integer.
 */
static enum ft_status plain_power(struct ft_at *at, ft_value x, ft_value *exponent, bool *done,
                                  struct ft_err *err)
{
    const struct ft_host *h = ft_at_host(at, 1);
    const struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    ft_value y = FT_NO_VALUE;
    *done = false;
    if (h == NULL || h->count != 1 || h->rank > ft_at_type(at, x)->rank ||
        (ft_host_is_int(h) && !ft_dim_is_known(h->ints[0]))) {
        return FT_OK;
    }
    float power = ft_host_is_int(h) ? (float)h->ints[0].coef : ft_host_float(h, 0);
    if (power == 2.0F) {
        ft_value base = without_sign(at->im->graph, x);
        ft_value in[2] = {base, base};
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MUL, NULL, in, 2, &y, err));
    } else if (power == 0.5F) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SQRT, NULL, &x, 1, &y, err));
    } else {
        return ft_at_const(at, &scalar, &power, exponent, err);
    }
    *done = true;
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_binary(struct ft_at *at, int arg, struct ft_err *err)
{
    enum ft_op op = (enum ft_op)arg;
    struct ft_attrs attrs;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    if (ft_at_all_host(at) && !ft_at_named_weight(at, 0) && !ft_at_named_weight(at, 1)) {
        return ft_fold_binary(at, op, 0, err);
    }
    if (ft_at_dtype(at, 0) == FT_I64 ||
        (op == FT_OP_POW && ft_at_dtype(at, 1) == FT_I64 && ft_at_host(at, 1) == NULL)) {
        return ft_import_int_binary(at, op, 0, err);
    }
    for (int i = 0; i < 2; i++) { /* also when both are known: 1 / p of a GeM pooling stays trainable */
        if (ft_at_named_weight(at, i)) {
            FT_RETURN_IF_FAILED(ft_at_weight(at, i, FT_PARAM_WEIGHT, &in[i], err));
        }
    }
    int known = ft_at_host(at, 0) != NULL ? 0 : ft_at_host(at, 1) != NULL ? 1 : -1;
    if (known >= 0 && in[known] == FT_NO_VALUE && ft_at_host(at, 1 - known) == NULL) {
        FT_RETURN_IF_FAILED(ft_at_value(at, 1 - known, &in[1 - known], err));
        if (is_bias(at, op, known, in[1 - known])) {
            FT_RETURN_IF_FAILED(ft_at_weight(at, known, FT_PARAM_WEIGHT, &in[known], err));
        } else if (ft_at_slot(at, known)->as_weight == FT_NO_VALUE &&
                   as_scale(at, op, known, ft_at_type(at, in[1 - known]), &attrs)) {
            ft_value x = merge_scale(at->im->graph, in[1 - known], &attrs);
            FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SCALE, &attrs, &x, 1, &y, err));
            return ft_at_set(at, 0, y, err);
        }
    }
    if (op == FT_OP_POW && in[0] != FT_NO_VALUE && in[1] == FT_NO_VALUE) {
        bool done = false;
        FT_RETURN_IF_FAILED(plain_power(at, in[0], &in[1], &done, err));
        if (done) {
            return FT_OK;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (in[i] == FT_NO_VALUE) {
            FT_RETURN_IF_FAILED(ft_at_value(at, i, &in[i], err));
        }
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, op, NULL, in, 2, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* Of any number of tensors, and their mean. */
enum ft_status ft_import_sum(struct ft_at *at, int mean, struct ft_err *err)
{
    ft_value sum = FT_NO_VALUE;
    if (at->node->n_in == 1) {
        return ft_at_pass(at, err);
    }
    for (int i = 0; i < at->node->n_in; i++) {
        ft_value both[2] = {sum, FT_NO_VALUE};
        if (!ft_at_has(at, i)) {
            return FT_FAIL(err, INVALID, "input %d is missing", i);
        }
        FT_RETURN_IF_FAILED(ft_at_value(at, i, &both[1], err));
        if (i == 0) {
            sum = both[1];
            continue;
        }
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_ADD, NULL, both, 2, &sum, err));
    }
    if (mean) {
        struct ft_attrs attrs;
        memset(&attrs, 0, sizeof attrs);
        attrs.alpha = 1.0F / (float)at->node->n_in;
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SCALE, &attrs, &sum, 1, &sum, err));
    }
    return ft_at_set(at, 0, sum, err);
}

/* ---- matrices */

/* beta C, added by broadcasting when it is not simply a bias vector. */
static enum ft_status add_scaled(struct ft_at *at, ft_value product, ft_value c, float beta, ft_value *out,
                                 struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = beta;
    if (beta != 1.0F) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SCALE, &attrs, &c, 1, &c, err));
    }
    ft_value in[2] = {product, c};
    return ft_at_add(at, FT_OP_ADD, NULL, in, 2, out, err);
}

enum ft_status ft_import_gemm(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    ft_value in[3] = {FT_NO_VALUE, FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    float beta = 1.0F;
    int64_t swap[2] = {0, 0};
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "alpha", &attrs.alpha, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "beta", &beta, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "transA", &swap[0], err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "transB", &swap[1], err));
    attrs.trans_a = swap[0] != 0;
    attrs.trans_b = swap[1] != 0;
    bool has_c = ft_at_has(at, 2) && beta != 0.0F && !ft_at_no_bias(at, 2);
    for (int i = 0; i < (has_c ? 3 : 2); i++) {
        FT_RETURN_IF_FAILED(ft_at_weight(at, i, FT_PARAM_WEIGHT, &in[i], err));
    }
    const struct ft_type *b = ft_at_type(at, in[1]);
    if (ft_at_type(at, in[0])->rank != 2 || b->rank != 2) {
        return FT_FAIL(err, INVALID, "Gemm takes matrices: ranks are %d and %d", ft_at_type(at, in[0])->rank,
                       b->rank);
    }
    const struct ft_type *c = has_c ? ft_at_type(at, in[2]) : NULL;
    bool bias =
        has_c && beta == 1.0F && c->rank == 1 && ft_dim_equal(c->dim[0], b->dim[attrs.trans_b ? 0 : 1]);
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MATMUL, &attrs, in, bias ? 3 : 2, &y, err));
    if (has_c && !bias) {
        if (c->rank > 2) {
            return FT_FAIL(err, INVALID, "C has rank %d", c->rank);
        }
        FT_RETURN_IF_FAILED(add_scaled(at, y, in[2], beta, &y, err));
    }
    return ft_at_set(at, 0, y, err);
}

/* ---- softmax: before opset 13 it works on the tensor coerced to a matrix at `axis` */

static enum ft_status coerced_softmax(struct ft_at *at, enum ft_op op, ft_value x, int axis,
                                      struct ft_err *err)
{
    struct ft_attrs attrs;
    struct ft_type type = *ft_at_type(at, x);
    struct ft_dim matrix[2] = {ft_dim_of(1), ft_dim_of(1)};
    ft_value y = FT_NO_VALUE;
    for (int i = 0; i < type.rank; i++) {
        if (!ft_dim_mul(matrix[i >= axis], type.dim[i], &matrix[i >= axis])) {
            return FT_FAIL(err, LIMIT, "the tensor is too large");
        }
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = 1;
    FT_RETURN_IF_FAILED(ft_at_reshape(at, x, matrix, 2, &y, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, op, &attrs, &y, 1, &y, err));
    FT_RETURN_IF_FAILED(ft_at_reshape(at, y, type.dim, type.rank, &y, err));
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_softmax(struct ft_at *at, int arg, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    int64_t given = at->opset < 13 ? 1 : -1;
    memset(&attrs, 0, sizeof attrs);
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "axis", &given, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    int rank = ft_at_type(at, x)->rank;
    FT_RETURN_IF_FAILED(ft_at_axis(at, given, rank, &attrs.axis, err));
    if (at->opset < 13 && attrs.axis != rank - 1) {
        return coerced_softmax(at, (enum ft_op)arg, x, attrs.axis, err);
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, (enum ft_op)arg, &attrs, &x, 1, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* ---- dropout */

static enum ft_status make_rng(struct ft_at *at, struct ft_err *err)
{
    const int64_t two = 2;
    struct ft_type type = ft_type_of(FT_I64, 1, &two);
    const char *name = ft_model_names_find(&at->im->names, ft_bytes_of_text("rng")) < 0 ? "rng" : "";
    return at->im->rng != FT_NO_VALUE ? FT_OK : ft_graph_input(at->im->graph, name, &type, &at->im->rng, err);
}

enum ft_status ft_import_dropout(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    const struct ft_host *training = ft_at_host(at, 2);
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 0.5F;
    attrs.node = at->index;
    if (ft_at_has(at, 2) && (training == NULL || training->count != 1 || !ft_host_is_int(training))) {
        return ft_at_unsupported(at, err, "whether it is in training mode depends on the input");
    }
    bool drops = training != NULL && training->ints[0].coef != 0; /* never before opset 12 */
    if (drops && ft_at_has(at, 1)) {
        FT_RETURN_IF_FAILED(ft_at_scalar(at, 1, &attrs.alpha, err));
        drops = attrs.alpha != 0.0F;
    }
    if (drops) {
        FT_RETURN_IF_FAILED(make_rng(at, err));
    }
    if (ft_at_wants(at, 1)) {
        FT_RETURN_IF_FAILED(ft_import_dropout_mask(at, &attrs, drops ? at->im->rng : FT_NO_VALUE, err));
    }
    if (!drops) {
        return ft_at_pass(at, err);
    }
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &in[0], err));
    in[1] = at->im->rng;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_DROPOUT, &attrs, in, 2, &y, err));
    return ft_at_set(at, 0, y, err);
}
