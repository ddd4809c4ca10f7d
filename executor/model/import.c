#include "executor/model/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- table of ops: sorted by name. What is not here is refused, all at once, before anything is converted.
 */

static const struct ft_import_row rows[] = {
    {"Abs", 1, ft_import_map, FT_MAP_ABS},
    {"Acos", 1, ft_import_map, FT_MAP_ACOS},
    {"Acosh", 1, ft_import_map, FT_MAP_ACOSH},
    {"Add", 2, ft_import_binary, FT_OP_ADD},
    {"And", 2, ft_import_logic, FT_LOGIC_AND},
    {"ArgMax", 1, ft_import_arg_extreme, 0},
    {"ArgMin", 1, ft_import_arg_extreme, 1},
    {"Asin", 1, ft_import_map, FT_MAP_ASIN},
    {"Asinh", 1, ft_import_map, FT_MAP_ASINH},
    {"Atan", 1, ft_import_map, FT_MAP_ATAN},
    {"Atanh", 1, ft_import_map, FT_MAP_ATANH},
    {"Attention", 3, ft_import_attention, 0},
    {"AveragePool", 1, ft_import_pool, FT_OP_AVGPOOL},
    {"BatchNormalization", 5, ft_import_batchnorm, 0},
    {"Cast", 1, ft_import_cast, 0},
    {"CastLike", 2, ft_import_cast, 1},
    {"Ceil", 1, ft_import_map, FT_MAP_CEIL},
    {"Celu", 1, ft_import_map, FT_MAP_CELU},
    {"Clip", 1, ft_import_clip, 0},
    {"Concat", 1, ft_import_concat, 0},
    {"Constant", 0, ft_import_constant, 0},
    {"ConstantOfShape", 1, ft_import_constant_of_shape, 0},
    {"Conv", 2, ft_import_conv, 0},
    {"ConvTranspose", 2, ft_import_conv_transpose, 0},
    {"Cos", 1, ft_import_map, FT_MAP_COS},
    {"Cosh", 1, ft_import_map, FT_MAP_COSH},
    {"CumSum", 2, ft_import_cumsum, 0},
    {"DepthToSpace", 1, ft_import_depth_space, 0},
    {"Div", 2, ft_import_binary, FT_OP_DIV},
    {"Dropout", 1, ft_import_dropout, 0},
    {"Einsum", 1, ft_import_einsum, 0},
    {"Elu", 1, ft_import_map, FT_MAP_ELU},
    {"Equal", 2, ft_import_compare, FT_EQUAL},
    {"Erf", 1, ft_import_map, FT_MAP_ERF},
    {"Exp", 1, ft_import_unary, FT_OP_EXP},
    {"Expand", 2, ft_import_expand, 0},
    {"EyeLike", 1, ft_import_eye_like, 0},
    {"Flatten", 1, ft_import_flatten, 0},
    {"Floor", 1, ft_import_map, FT_MAP_FLOOR},
    {"Gather", 2, ft_import_gather, 0},
    {"GatherElements", 2, ft_import_gather_elements, 0},
    {"GatherND", 2, ft_import_gather_elements, 1},
    {"Gelu", 1, ft_import_map, FT_MAP_GELU},
    {"Gemm", 2, ft_import_gemm, 0},
    {"GlobalAveragePool", 1, ft_import_global_pool, FT_OP_REDUCE_MEAN},
    {"GlobalLpPool", 1, ft_import_lp_pool, 1},
    {"GlobalMaxPool", 1, ft_import_global_pool, FT_OP_MAXPOOL},
    {"Greater", 2, ft_import_compare, FT_GREATER},
    {"GreaterOrEqual", 2, ft_import_compare, FT_GREATER_OR_EQUAL},
    {"GroupNormalization", 3, ft_import_group_norm, 0},
    {"HardSigmoid", 1, ft_import_map, FT_MAP_HARD_SIGMOID},
    {"HardSwish", 1, ft_import_map, FT_MAP_HARD_SWISH},
    {"Hardmax", 1, ft_import_hardmax, 0},
    {"Identity", 1, ft_import_identity, 0},
    {"If", 1, ft_import_if, 0},
    {"InstanceNormalization", 3, ft_import_instance_norm, 0},
    {"IsInf", 1, ft_import_is_inf, 0},
    {"IsNaN", 1, ft_import_is_nan, 0},
    {"LRN", 1, ft_import_lrn, 0},
    {"LayerNormalization", 2, ft_import_layer_norm, 0},
    {"LeakyRelu", 1, ft_import_leaky_relu, 0},
    {"Less", 2, ft_import_compare, FT_LESS},
    {"LessOrEqual", 2, ft_import_compare, FT_LESS_OR_EQUAL},
    {"Log", 1, ft_import_unary, FT_OP_LOG},
    {"LogSoftmax", 1, ft_import_softmax, FT_OP_LOG_SOFTMAX},
    {"Loop", 0, ft_import_loop, 0},
    {"LpNormalization", 1, ft_import_lp_normalization, 0},
    {"LpPool", 1, ft_import_lp_pool, 0},
    {"MatMul", 2, ft_import_matmul, 0},
    {"Max", 1, ft_import_extreme, 1},
    {"MaxPool", 1, ft_import_pool, FT_OP_MAXPOOL},
    {"Mean", 1, ft_import_sum, 1},
    {"Min", 1, ft_import_extreme, 0},
    {"Mish", 1, ft_import_map, FT_MAP_MISH},
    {"Mod", 2, ft_import_mod, 0},
    {"Mul", 2, ft_import_binary, FT_OP_MUL},
    {"Neg", 1, ft_import_unary, FT_OP_NEG},
    {"Not", 1, ft_import_logic, FT_LOGIC_NOT},
    {"OneHot", 3, ft_import_one_hot, 0},
    {"Or", 2, ft_import_logic, FT_LOGIC_OR},
    {"PRelu", 2, ft_import_prelu, 0},
    {"Pad", 1, ft_import_pad, 0},
    {"Pow", 2, ft_import_binary, FT_OP_POW},
    {"Range", 3, ft_import_range, 0},
    {"Reciprocal", 1, ft_import_map, FT_MAP_RECIPROCAL},
    {"ReduceL1", 1, ft_import_reduce, FT_REDUCTION_L1},
    {"ReduceL2", 1, ft_import_reduce, FT_REDUCTION_L2},
    {"ReduceLogSum", 1, ft_import_reduce, FT_REDUCTION_LOG_SUM},
    {"ReduceLogSumExp", 1, ft_import_fold, FT_FOLD_LOG_SUM_EXP},
    {"ReduceMax", 1, ft_import_fold, FT_FOLD_MAX},
    {"ReduceMean", 1, ft_import_reduce, FT_REDUCTION_MEAN},
    {"ReduceMin", 1, ft_import_fold, FT_FOLD_MIN},
    {"ReduceProd", 1, ft_import_fold, FT_FOLD_PROD},
    {"ReduceSum", 1, ft_import_reduce, FT_REDUCTION_SUM},
    {"ReduceSumSquare", 1, ft_import_reduce, FT_REDUCTION_SUM_SQUARE},
    {"Relu", 1, ft_import_unary, FT_OP_RELU},
    {"Reshape", 2, ft_import_reshape, 0},
    {"Resize", 1, ft_import_resize, 0},
    {"Round", 1, ft_import_map, FT_MAP_ROUND},
    {"Scatter", 3, ft_import_scatter, 0},
    {"ScatterElements", 3, ft_import_scatter, 0},
    {"ScatterND", 3, ft_import_scatter, 1},
    {"Selu", 1, ft_import_map, FT_MAP_ELU},
    {"Shape", 1, ft_import_shape, 0},
    {"Shrink", 1, ft_import_map, FT_MAP_SHRINK},
    {"Sigmoid", 1, ft_import_unary, FT_OP_SIGMOID},
    {"Sign", 1, ft_import_map, FT_MAP_SIGN},
    {"Sin", 1, ft_import_map, FT_MAP_SIN},
    {"Sinh", 1, ft_import_map, FT_MAP_SINH},
    {"Size", 1, ft_import_size, 0},
    {"Slice", 1, ft_import_slice, 0},
    {"Softmax", 1, ft_import_softmax, FT_OP_SOFTMAX},
    {"Softplus", 1, ft_import_map, FT_MAP_SOFTPLUS},
    {"Softsign", 1, ft_import_map, FT_MAP_SOFTSIGN},
    {"SpaceToDepth", 1, ft_import_depth_space, 1},
    {"Split", 1, ft_import_split, 0},
    {"Sqrt", 1, ft_import_unary, FT_OP_SQRT},
    {"Squeeze", 1, ft_import_squeeze, 0},
    {"Sub", 2, ft_import_binary, FT_OP_SUB},
    {"Sum", 1, ft_import_sum, 0},
    {"Swish", 1, ft_import_map, FT_MAP_SILU},
    {"Tan", 1, ft_import_map, FT_MAP_TAN},
    {"Tanh", 1, ft_import_unary, FT_OP_TANH},
    {"ThresholdedRelu", 1, ft_import_map, FT_MAP_THRESHOLDED_RELU},
    {"Tile", 2, ft_import_tile, 0},
    {"TopK", 1, ft_import_topk, 0},
    {"Transpose", 1, ft_import_transpose, 0},
    {"Unsqueeze", 1, ft_import_unsqueeze, 0},
    {"Upsample", 2, ft_import_resize, 0},
    {"Where", 3, ft_import_where, 0},
    {"Xor", 2, ft_import_logic, FT_LOGIC_XOR},
};

static int compare_row(const void *key, const void *row)
{
    struct ft_bytes op = *(const struct ft_bytes *)key;
    const char *name = ((const struct ft_import_row *)row)->op;
    size_t size = strlen(name);
    int order = memcmp(op.data, name, op.size < size ? op.size : size);
    return order != 0 ? order : (op.size > size) - (op.size < size);
}

/* Of domain ai.onnx.ml. */
static const struct ft_import_row ml_rows[] = {
    {"Scaler", 1, ft_import_scaler, 0},
};

const struct ft_import_row *ft_import_find(const struct ft_onnx_node *node)
{
    struct ft_bytes op = node->op;
    bool ml = ft_bytes_is(node->domain, "ai.onnx.ml");
    if (op.size == 0 || (!ml && node->domain.size > 0 && !ft_bytes_is(node->domain, "ai.onnx"))) {
        return NULL;
    }
    return ml ? bsearch(&op, ml_rows, sizeof ml_rows / sizeof ml_rows[0], sizeof ml_rows[0], compare_row)
              : bsearch(&op, rows, sizeof rows / sizeof rows[0], sizeof rows[0], compare_row);
}

/* ---- inputs of a node */

bool ft_at_has(const struct ft_at *at, int i)
{
    return i < at->node->n_in && at->im->in[at->index][i] >= 0;
}

struct ft_slot *ft_at_slot(const struct ft_at *at, int i)
{
    return &at->im->slots[at->im->in[at->index][i]];
}

const struct ft_host *ft_at_host(const struct ft_at *at, int i)
{
    return ft_at_has(at, i) && ft_at_slot(at, i)->kind == FT_SLOT_HOST ? ft_at_slot(at, i)->host : NULL;
}

bool ft_at_all_host(const struct ft_at *at)
{
    for (int i = 0; i < at->node->n_in; i++) {
        if (ft_at_has(at, i) && ft_at_host(at, i) == NULL) {
            return false;
        }
    }
    return true;
}

enum ft_dtype ft_at_dtype(const struct ft_at *at, int i)
{
    const struct ft_slot *slot = ft_at_slot(at, i);
    return slot->kind == FT_SLOT_HOST ? slot->host->dtype : ft_at_type(at, slot->value)->dtype;
}

bool ft_at_tied(const struct ft_at *at, int i)
{
    struct ft_slot *slot = ft_at_slot(at, i);
    return slot->kind == FT_SLOT_HOST && slot->weight && !ft_host_is_int(slot->host) && slot->readers > 1;
}

enum ft_status ft_at_unsupported(struct ft_at *at, struct ft_err *err, const char *why)
{
    (void)at;
    return FT_FAIL(err, UNSUPPORTED, "%s", why);
}

static enum ft_status host_type(const struct ft_host *h, struct ft_type *type, struct ft_err *err)
{
    *type = ft_type_of(h->dtype, 0, NULL);
    type->rank = h->rank;
    for (int i = 0; i < h->rank; i++) {
        if (h->dims[i] < 1) {
            return FT_FAIL(err, UNSUPPORTED, "an empty tensor takes part in the computation");
        }
        type->dim[i] = ft_dim_of(h->dims[i]);
    }
    return FT_OK;
}

/* A NUL-terminated copy of a slot's name if the graph has no such name yet, else "" (the graph finds one). */
static enum ft_status slot_name(struct ft_import *im, struct ft_bytes name, const char **out,
                                struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_arena_text(&im->arena, (const char *)name.data, name.size, out, err));
    if (ft_graph_find(im->graph, *out) != FT_NO_VALUE) {
        *out = "";
    }
    return FT_OK;
}

/* Most handlers compute with floats. */
static enum ft_status graph_value(const struct ft_at *at, int i, ft_value *out, struct ft_err *err)
{
    ft_value v = ft_at_slot(at, i)->value;
    if (ft_at_type(at, v)->dtype != FT_F32) {
        return FT_FAIL(err, UNSUPPORTED, "input %d is a tensor of %s: only float tensors are computed with",
                       i, ft_dtype_name(ft_at_type(at, v)->dtype));
    }
    *out = v;
    return FT_OK;
}

/* Elements of known integers or booleans as the graph stores them. */
static enum ft_status int_elements(struct ft_import *im, const struct ft_host *h, const void **out,
                                   struct ft_err *err)
{
    int64_t *ints = NULL;
    uint8_t *bits = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)h->count, sizeof *ints, &ints, err));
    bits = (uint8_t *)ints;
    for (int64_t k = 0; k < h->count; k++) {
        if (!ft_dim_is_known(h->ints[k])) {
            return FT_FAIL(err, UNSUPPORTED,
                           "a number that depends on the batch takes part in the computation");
        }
        if (h->dtype == FT_BOOL) {
            bits[k] = h->ints[k].coef != 0;
        } else {
            ints[k] = h->ints[k].coef;
        }
    }
    *out = ints;
    return FT_OK;
}

enum ft_status ft_import_known(struct ft_import *im, struct ft_slot *slot, struct ft_err *err)
{
    const struct ft_host *h = slot->host;
    const void *data = h->floats;
    const char *name = NULL;
    struct ft_type type;
    if (slot->as_const != FT_NO_VALUE) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(host_type(h, &type, err));
    FT_RETURN_IF_FAILED(slot_name(im, slot->name, &name, err));
    if (ft_host_is_int(h)) {
        FT_RETURN_IF_FAILED(int_elements(im, h, &data, err));
    }
    return ft_graph_const(im->graph, name, &type, data, &slot->as_const, err);
}

enum ft_status ft_at_weight(struct ft_at *at, int i, enum ft_param_role role, ft_value *out,
                            struct ft_err *err)
{
    struct ft_slot *slot = ft_at_slot(at, i);
    ft_value *made = role == FT_PARAM_STATE ? &slot->as_state : &slot->as_weight;
    struct ft_type type;
    const char *name = NULL;
    *out = FT_NO_VALUE;
    if (slot->kind == FT_SLOT_GRAPH) {
        return graph_value(at, i, out, err);
    }
    if (*made == FT_NO_VALUE) {
        if (ft_host_is_int(slot->host)) {
            return FT_FAIL(err, UNSUPPORTED, "input %d is an integer tensor, a weight is wanted", i);
        }
        FT_RETURN_IF_FAILED(host_type(slot->host, &type, err));
        FT_RETURN_IF_FAILED(slot_name(at->im, slot->weight ? slot->weight_name : slot->name, &name, err));
        FT_RETURN_IF_FAILED(ft_graph_param(at->im->graph, name, &type, role, slot->host->floats, made, err));
    }
    *out = *made;
    return FT_OK;
}

/* Is the last part of a dotted name this word? */
static bool ends_with_word(struct ft_bytes name, const char *word)
{
    size_t n = strlen(word);
    bool whole = name.size == n || (name.size > n && name.data[name.size - n - 1] == '.');
    return whole && memcmp(name.data + name.size - n, word, n) == 0;
}

bool ft_at_named_weight(const struct ft_at *at, int i)
{
    static const char *const words[] = {
        "weight", "bias", "gamma", "beta", "scale", "p", "alpha",
        /* of vision transformers: torchvision, timm, Hugging Face */
        "class_token", "cls_token", "dist_token", "class_embedding", "pos_embedding", "pos_embed",
        "position_embeddings", "positional_embedding", "relative_position_bias_table", "layer_scale",
        "layer_scale_parameter", "gamma_1", "gamma_2", "lambda1", "logit_scale", "temperature"};
    const struct ft_slot *slot = ft_at_slot(at, i);
    if (slot->kind != FT_SLOT_HOST || !slot->weight || ft_host_is_int(slot->host)) {
        return false;
    }
    if (ft_bytes_is(at->im->file->producer, FT_PRODUCER)) {
        return true;
    }
    for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
        if (ends_with_word(slot->weight_name, words[k])) {
            return true;
        }
    }
    return false;
}

bool ft_at_no_bias(const struct ft_at *at, int i)
{
    const struct ft_host *h = ft_at_host(at, i);
    if (h == NULL || ft_host_is_int(h) || ft_at_slot(at, i)->weight) {
        return false;
    }
    for (int64_t k = 0; k < h->count; k++) {
        if (ft_host_float(h, k) != 0.0F) {
            return false;
        }
    }
    return true;
}

enum ft_status ft_at_value(struct ft_at *at, int i, ft_value *out, struct ft_err *err)
{
    struct ft_slot *slot = ft_at_slot(at, i);
    *out = FT_NO_VALUE;
    if (slot->kind == FT_SLOT_GRAPH) {
        return graph_value(at, i, out, err);
    }
    ft_value trained = slot->as_weight != FT_NO_VALUE ? slot->as_weight : slot->as_state;
    if (trained != FT_NO_VALUE) {
        *out = trained;
        return FT_OK;
    }
    if (ft_at_named_weight(at, i)) {
        return ft_at_weight(at, i, FT_PARAM_WEIGHT, out, err);
    }
    if (ft_host_is_int(slot->host)) {
        return FT_FAIL(err, UNSUPPORTED,
                       "input %d is an integer tensor: only float tensors are computed with", i);
    }
    FT_RETURN_IF_FAILED(ft_import_known(at->im, slot, err));
    *out = slot->as_const;
    return FT_OK;
}

enum ft_status ft_at_tensor(struct ft_at *at, int i, ft_value *out, struct ft_err *err)
{
    struct ft_slot *slot = ft_at_slot(at, i);
    *out = FT_NO_VALUE;
    if (slot->kind == FT_SLOT_HOST && !ft_host_is_int(slot->host)) {
        return ft_at_value(at, i, out, err);
    }
    if (slot->kind == FT_SLOT_HOST && slot->host->count == 1 && slot->host->rank <= 1 &&
        !ft_dim_is_known(slot->host->ints[0]) && slot->host->ints[0].coef > 0) {
        return ft_at_extent(at, slot->host->ints[0], slot->host->rank, out, err);
    }
    if (slot->kind == FT_SLOT_HOST) {
        FT_RETURN_IF_FAILED(ft_import_known(at->im, slot, err));
    }
    *out = slot->kind == FT_SLOT_HOST ? slot->as_const : slot->value;
    return FT_OK;
}

enum ft_status ft_at_moved(struct ft_at *at, int i, ft_value *out, struct ft_err *err)
{
    return ft_at_tied(at, i) ? ft_at_weight(at, i, FT_PARAM_WEIGHT, out, err) : ft_at_tensor(at, i, out, err);
}

const struct ft_type *ft_at_type(const struct ft_at *at, ft_value v)
{
    return ft_graph_type(at->im->graph, v);
}

void ft_at_shape(const struct ft_at *at, struct ft_dim dims[FT_MAX_RANK], int *rank)
{
    const struct ft_slot *slot = ft_at_slot(at, 0);
    if (slot->kind == FT_SLOT_HOST) {
        *rank = slot->host->rank;
        for (int i = 0; i < *rank; i++) {
            dims[i] = ft_dim_of(slot->host->dims[i]);
        }
        return;
    }
    const struct ft_type *type = ft_at_type(at, slot->value);
    *rank = type->rank;
    memcpy(dims, type->dim, sizeof type->dim);
}

enum ft_status ft_at_ints(struct ft_at *at, int i, int64_t **out, int *count, struct ft_err *err)
{
    const struct ft_host *h = ft_at_host(at, i);
    *out = NULL;
    *count = -1;
    if (h == NULL || !ft_host_is_int(h) || h->rank > 1) {
        return FT_FAIL(err, UNSUPPORTED, "input %d must be a known list of integers", i);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)h->count, sizeof **out, out, err));
    for (int64_t k = 0; k < h->count; k++) {
        if (!ft_dim_is_known(h->ints[k])) {
            return FT_FAIL(err, UNSUPPORTED, "input %d depends on the batch", i);
        }
        (*out)[k] = h->ints[k].coef;
    }
    *count = (int)h->count;
    return FT_OK;
}

enum ft_status ft_at_list(struct ft_at *at, const char *name, int i, int64_t **out, int *count,
                          struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_onnx_attr_ints(at->node, name, &at->im->arena, out, count, err));
    if (*count < 0 && ft_at_has(at, i)) {
        return ft_at_ints(at, i, out, count, err);
    }
    return FT_OK;
}

enum ft_status ft_at_axis(struct ft_at *at, int64_t given, int rank, int *out, struct ft_err *err)
{
    (void)at;
    int64_t axis = given < 0 ? given + rank : given;
    *out = 0;
    if (axis < 0 || axis >= rank) {
        return FT_FAIL(err, INVALID, "axis %lld does not exist in a tensor of rank %d", (long long)given,
                       rank);
    }
    *out = (int)axis;
    return FT_OK;
}

enum ft_status ft_at_scalar(struct ft_at *at, int i, float *out, struct ft_err *err)
{
    const struct ft_host *h = ft_at_host(at, i);
    if (h == NULL || h->count != 1 || ft_host_is_int(h)) {
        return FT_FAIL(err, UNSUPPORTED, "input %d must be a known number", i);
    }
    *out = ft_host_float(h, 0);
    return FT_OK;
}

/* ---- new nodes and outputs */

/* What messages and `inspect` call the node: its name, else its first output's. */
static enum ft_status origin_of(const struct ft_at *at, const char **out, struct ft_err *err)
{
    struct ft_bytes name = at->node->name;
    if (name.size == 0 && at->node->n_out > 0) {
        name = at->node->out[0];
    }
    return ft_arena_text(&at->im->arena, (const char *)name.data, name.size, out, err);
}

enum ft_status ft_at_add_all(struct ft_at *at, enum ft_op op, const struct ft_attrs *attrs,
                             const ft_value *in, int n_in, ft_value *out, struct ft_err *err)
{
    const char *origin = NULL;
    FT_RETURN_IF_FAILED(origin_of(at, &origin, err));
    return ft_graph_add(at->im->graph, op, attrs, in, n_in, origin, out, err);
}

enum ft_status ft_at_add(struct ft_at *at, enum ft_op op, const struct ft_attrs *attrs, const ft_value *in,
                         int n_in, ft_value *out, struct ft_err *err)
{
    ft_value results[FT_MAX_OUTPUTS]; /* `out` may be one of `in`: it is written last */
    if (n_in < 1 || n_in > 2) {
        FT_RETURN_IF_FAILED(ft_at_add_all(at, op, attrs, in, n_in, results, err));
    } else {
        struct ft_spelled s;
        memset(&s, 0, sizeof s); /* attributes are compared bytewise */
        s.op = op;
        s.n_in = n_in;
        memcpy(s.in, in, (size_t)n_in * sizeof *in);
        if (attrs != NULL) {
            memcpy(&s.attrs, attrs, sizeof s.attrs);
        }
        FT_RETURN_IF_FAILED(ft_rewrite(at, &s, err));
        FT_RETURN_IF_FAILED(ft_at_add_all(at, s.op, &s.attrs, s.in, s.n_in, results, err));
    }
    *out = results[0];
    return FT_OK;
}

enum ft_status ft_at_reshape(struct ft_at *at, ft_value x, const struct ft_dim *shape, int rank,
                             ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs;
    const struct ft_type *type = ft_at_type(at, x);
    bool same = type->rank == rank;
    memset(&attrs, 0, sizeof attrs);
    if (rank > FT_MAX_RANK) {
        return FT_FAIL(err, UNSUPPORTED, "more than %d dimensions", FT_MAX_RANK);
    }
    attrs.shape_rank = rank;
    for (int i = 0; i < rank; i++) {
        attrs.shape[i] = shape[i];
        same = same && ft_dim_equal(type->dim[i], shape[i]);
    }
    if (same) {
        *out = x;
        return FT_OK;
    }
    return ft_at_add(at, FT_OP_RESHAPE, &attrs, &x, 1, out, err);
}

enum ft_status ft_at_const(struct ft_at *at, const struct ft_type *type, const float *data, ft_value *out,
                           struct ft_err *err)
{
    return ft_graph_const(at->im->graph, "", type, data, out, err);
}

enum ft_status ft_at_set(struct ft_at *at, int i, ft_value v, struct ft_err *err)
{
    int number = i < at->node->n_out ? at->im->out[at->index][i] : -1;
    const char *name = NULL;
    if (number < 0) {
        return FT_OK;
    }
    struct ft_slot *slot = &at->im->slots[number];
    slot->kind = FT_SLOT_GRAPH;
    slot->value = v;
    if (ft_graph_source(at->im->graph, v) != FT_FROM_NODE || at->im->depth > 0) {
        return FT_OK; /* a nested graph may run several times */
    }
    /* A value that passed through unchanged keeps the name of the slot that made it. */
    for (int k = 0; k < at->node->n_in; k++) {
        if (ft_at_has(at, k) && ft_at_slot(at, k)->kind == FT_SLOT_GRAPH && ft_at_slot(at, k)->value == v) {
            return FT_OK;
        }
    }
    FT_RETURN_IF_FAILED(
        ft_arena_text(&at->im->arena, (const char *)slot->name.data, slot->name.size, &name, err));
    return ft_graph_rename(at->im->graph, v, name, err);
}

void ft_at_set_host(struct ft_at *at, int i, const struct ft_host *host)
{
    int number = i < at->node->n_out ? at->im->out[at->index][i] : -1;
    if (number >= 0) {
        at->im->slots[number].kind = FT_SLOT_HOST;
        at->im->slots[number].host = host;
    }
}

enum ft_status ft_at_pass(struct ft_at *at, struct ft_err *err)
{
    struct ft_slot *from = ft_at_slot(at, 0);
    if (from->kind == FT_SLOT_GRAPH) {
        return ft_at_set(at, 0, from->value, err);
    }
    ft_at_set_host(at, 0, from->host);
    int number = at->node->n_out > 0 ? at->im->out[at->index][0] : -1;
    if (number >= 0 && from->weight) {
        /* Exporters merge equal tensors and hand them out through Identity: each reader gets its own. */
        at->im->slots[number].weight = true;
        at->im->slots[number].weight_name = at->im->slots[number].name;
    }
    return FT_OK;
}

void ft_at_keep_weight(struct ft_at *at, int i)
{
    const struct ft_slot *from = ft_at_slot(at, 0);
    int number = i < at->node->n_out ? at->im->out[at->index][i] : -1;
    if (number >= 0) {
        at->im->slots[number].weight = from->weight;
        at->im->slots[number].weight_name = from->weight_name;
    }
}

bool ft_at_wants(const struct ft_at *at, int i)
{
    int number = i < at->node->n_out ? at->im->out[at->index][i] : -1;
    return number >= 0 && at->im->slots[number].readers > 0;
}
