#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/hf_internal.h"

/* What the blocks of text encoders are made of. */

static int64_t width_of(const struct ft_hf *hf, ft_value x)
{
    const struct ft_type *t = ft_graph_type(hf->graph, x);
    return t->dim[t->rank - 1].coef;
}

enum ft_status ft_hf_inputs(struct ft_hf *hf, bool types, struct ft_err *err)
{
    struct ft_type type = {.dtype = FT_I64, .rank = 2};
    type.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    type.dim[1] = ft_dim_symbol(FT_SYMBOL_LENGTH);
    hf->types = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_graph_input(hf->graph, "input_ids", &type, &hf->ids, err));
    FT_RETURN_IF_FAILED(ft_graph_input(hf->graph, "attention_mask", &type, &hf->mask, err));
    return types ? ft_graph_input(hf->graph, "token_type_ids", &type, &hf->types, err) : FT_OK;
}

enum ft_status ft_hf_node(struct ft_hf *hf, struct ft_hf_op what, const ft_value *in, int n_in, ft_value *out,
                          struct ft_err *err)
{
    char origin[FT_HF_NAME];
    ft_value results[FT_MAX_OUTPUTS];
    (void)snprintf(origin, sizeof origin, "%s%s%s%s", hf->shown, hf->scope,
                   hf->scope[0] != '\0' && what.module[0] != '\0' ? "." : "", what.module);
    FT_RETURN_IF_FAILED(ft_graph_add(hf->graph, what.op, what.attrs, in, n_in, origin, results, err));
    *out = results[0];
    return FT_OK;
}

static struct ft_attrs no_attrs(void)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    return a;
}

enum ft_status ft_hf_add(struct ft_hf *hf, const char *module, ft_value a, ft_value b, ft_value *out,
                         struct ft_err *err)
{
    const ft_value in[2] = {a, b};
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_ADD, NULL, module}, in, 2, out, err);
}

enum ft_status ft_hf_multiply(struct ft_hf *hf, const char *module, ft_value a, ft_value b, ft_value *out,
                              struct ft_err *err)
{
    const ft_value in[2] = {a, b};
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_MUL, NULL, module}, in, 2, out, err);
}

enum ft_status ft_hf_embed(struct ft_hf *hf, const char *module, ft_value ids, const int64_t shape[2],
                           ft_value *out, struct ft_err *err)
{
    char name[FT_HF_NAME];
    struct ft_attrs a = no_attrs();
    ft_value in[2] = {FT_NO_VALUE, ids};
    (void)snprintf(name, sizeof name, "%s.weight", module);
    FT_RETURN_IF_FAILED(ft_hf_weight(hf, name, 2, shape, &in[0], err));
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_GATHER, &a, module}, in, 2, out, err);
}

enum ft_status ft_hf_linear(struct ft_hf *hf, const char *module, ft_value x, int64_t width, bool bias,
                            ft_value *out, struct ft_err *err)
{
    char name[FT_HF_NAME];
    struct ft_attrs a = no_attrs();
    const int64_t dims[2] = {width, width_of(hf, x)};
    ft_value in[2] = {x, FT_NO_VALUE};
    ft_value b = FT_NO_VALUE;
    a.alpha = 1.0F;
    a.trans_b = 1;
    (void)snprintf(name, sizeof name, "%s.weight", module);
    FT_RETURN_IF_FAILED(ft_hf_weight(hf, name, 2, dims, &in[1], err));
    FT_RETURN_IF_FAILED(ft_hf_node(hf, (struct ft_hf_op){FT_OP_MATMUL, &a, module}, in, 2, out, err));
    if (!bias) {
        return FT_OK;
    }
    (void)snprintf(name, sizeof name, "%s.bias", module);
    FT_RETURN_IF_FAILED(ft_hf_weight(hf, name, 1, dims, &b, err));
    return ft_hf_add(hf, module, *out, b, out, err);
}

enum ft_status ft_hf_norm(struct ft_hf *hf, const char *module, ft_value x, double eps, bool bias,
                          ft_value *out, struct ft_err *err)
{
    char name[FT_HF_NAME];
    struct ft_attrs a = no_attrs();
    const int64_t dims[1] = {width_of(hf, x)};
    ft_value in[3] = {x, FT_NO_VALUE, FT_NO_VALUE};
    a.axis = ft_graph_type(hf->graph, x)->rank - 1;
    a.eps = (float)eps;
    (void)snprintf(name, sizeof name, "%s.weight", module);
    FT_RETURN_IF_FAILED(ft_hf_weight(hf, name, 1, dims, &in[1], err));
    if (bias) {
        (void)snprintf(name, sizeof name, "%s.bias", module);
        FT_RETURN_IF_FAILED(ft_hf_weight(hf, name, 1, dims, &in[2], err));
    }
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_LAYERNORM, &a, module}, in, bias ? 3 : 2, out, err);
}

enum ft_status ft_hf_rms_norm(struct ft_hf *hf, const char *module, ft_value x, double eps, ft_value *out,
                              struct ft_err *err)
{
    char name[FT_HF_NAME];
    struct ft_attrs mean = no_attrs();
    struct ft_attrs shift = no_attrs();
    const int64_t dims[1] = {width_of(hf, x)};
    ft_value w = FT_NO_VALUE;
    ft_value v = FT_NO_VALUE;
    mean.axes[0] = ft_graph_type(hf->graph, x)->rank - 1;
    mean.axes_count = mean.keepdims = 1;
    shift.alpha = 1.0F;
    shift.beta = (float)eps;
    (void)snprintf(name, sizeof name, "%s.weight", module);
    FT_RETURN_IF_FAILED(ft_hf_weight(hf, name, 1, dims, &w, err));
    FT_RETURN_IF_FAILED(ft_hf_multiply(hf, module, x, x, &v, err));
    FT_RETURN_IF_FAILED(ft_hf_node(hf, (struct ft_hf_op){FT_OP_REDUCE_MEAN, &mean, module}, &v, 1, &v, err));
    FT_RETURN_IF_FAILED(ft_hf_node(hf, (struct ft_hf_op){FT_OP_SCALE, &shift, module}, &v, 1, &v, err));
    FT_RETURN_IF_FAILED(ft_hf_node(hf, (struct ft_hf_op){FT_OP_SQRT, NULL, module}, &v, 1, &v, err));
    const ft_value quotient[2] = {x, v};
    FT_RETURN_IF_FAILED(ft_hf_node(hf, (struct ft_hf_op){FT_OP_DIV, NULL, module}, quotient, 2, &v, err));
    return ft_hf_multiply(hf, module, v, w, out, err);
}

/* ---- activations: names of transformers' ACT2FN */

static const struct {
    const char *name;
    enum ft_op op;
    enum ft_map map;
    float a;
} activations[] = {
    {"gelu", FT_OP_MAP, FT_MAP_GELU, 0.0F},
    {"gelu_python", FT_OP_MAP, FT_MAP_GELU, 0.0F},
    {"gelu_new", FT_OP_MAP, FT_MAP_GELU_TANH, 0.0F},
    {"gelu_fast", FT_OP_MAP, FT_MAP_GELU_TANH, 0.0F},
    {"gelu_accurate", FT_OP_MAP, FT_MAP_GELU_TANH, 0.0F},
    {"gelu_pytorch_tanh", FT_OP_MAP, FT_MAP_GELU_TANH, 0.0F},
    {"gelu_python_tanh", FT_OP_MAP, FT_MAP_GELU_TANH, 0.0F},
    {"quick_gelu", FT_OP_MAP, FT_MAP_SILU, 1.702F},
    {"silu", FT_OP_MAP, FT_MAP_SILU, 1.0F},
    {"swish", FT_OP_MAP, FT_MAP_SILU, 1.0F},
    {"mish", FT_OP_MAP, FT_MAP_MISH, 0.0F},
    {"hardswish", FT_OP_MAP, FT_MAP_HARD_SWISH, 0.0F},
    {"relu", FT_OP_RELU, FT_MAP_COUNT, 0.0F},
    {"tanh", FT_OP_TANH, FT_MAP_COUNT, 0.0F},
    {"sigmoid", FT_OP_SIGMOID, FT_MAP_COUNT, 0.0F},
};

enum ft_status ft_hf_activate(struct ft_hf *hf, const char *key, const char *act, ft_value x, ft_value *out,
                              struct ft_err *err)
{
    struct ft_attrs a = no_attrs();
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        if (strcmp(act, activations[i].name) == 0) {
            a.kind = activations[i].op == FT_OP_MAP ? (int)activations[i].map : 0;
            a.alpha = activations[i].a;
            return ft_hf_node(hf, (struct ft_hf_op){activations[i].op, &a, act}, &x, 1, out, err);
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "%s: %s \"%.60s\" is not built", hf->config_path, key, act);
}

bool ft_hf_is_activation(const struct ft_node *node, const char *act)
{
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        if (strcmp(act, activations[i].name) == 0) {
            return node->op == activations[i].op &&
                   (node->op != FT_OP_MAP ||
                    (node->attrs.kind == (int)activations[i].map && node->attrs.alpha == activations[i].a));
        }
    }
    return false;
}

/* ---- attention */

enum ft_status ft_hf_columns(struct ft_hf *hf, const char *module, ft_value x, int64_t start, int64_t count,
                             ft_value *out, struct ft_err *err)
{
    struct ft_attrs a = no_attrs();
    a.axis = ft_graph_type(hf->graph, x)->rank - 1;
    a.start = start;
    a.count = count;
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_SLICE, &a, module}, &x, 1, out, err);
}

enum ft_status ft_hf_rotate(struct ft_hf *hf, const char *module, int64_t heads, int64_t rotated, double base,
                            ft_value *x, struct ft_err *err)
{
    struct ft_attrs a = no_attrs();
    const ft_value in[2] = {*x, hf->mask};
    a.group = heads;
    a.count = rotated;
    a.alpha = (float)base;
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_ROPE, &a, module}, in, 2, x, err);
}

enum ft_status ft_hf_attend(struct ft_hf *hf, const char *module, const struct ft_hf_attention *t,
                            ft_value *out, struct ft_err *err)
{
    struct ft_attrs a = no_attrs();
    const ft_value in[5] = {t->q, t->k, t->v, hf->mask, t->bias};
    a.group = t->heads;
    a.alpha = (float)t->scale;
    a.count = t->window;
    FT_RETURN_IF_FAILED(ft_hf_node(hf, (struct ft_hf_op){FT_OP_ATTENTION, &a, module}, in,
                                   t->bias == FT_NO_VALUE ? 4 : 5, out, err));
    ft_graph_mark_dropout(hf->graph, *out, t->dropout);
    return FT_OK;
}

/* T5's bucket of the distance j - i, both directions: half of them for keys behind, of each half the first
 * half exact, the rest logarithmic up to max_distance. In float, as torch computes it. */
static int64_t bucket_of(int64_t distance, const struct ft_hf_buckets *b)
{
    int64_t half = b->buckets / 2;
    int64_t exact = half / 2;
    int64_t n = distance < 0 ? -distance : distance;
    int64_t first = distance > 0 ? half : 0;
    if (n < exact) {
        return first + n;
    }
    float scale = (float)log((double)b->max_distance / (double)exact);
    float large = logf((float)n / (float)exact) / scale * (float)(half - exact);
    int64_t bucket = exact + (int64_t)large;
    return first + (bucket < half - 1 ? bucket : half - 1);
}

enum ft_status ft_hf_relative(struct ft_hf *hf, const char *module, const struct ft_hf_buckets *b,
                              ft_value *out, struct ft_err *err)
{
    struct ft_attrs turn = no_attrs();
    const int64_t shape[2] = {b->table_rows, b->heads};
    const int64_t n = 2 * b->max_distance + 1;
    struct ft_type type = ft_type_of(FT_I64, 1, &n);
    int64_t *index = NULL;
    ft_value ids = FT_NO_VALUE;
    ft_value rows = FT_NO_VALUE;
    enum ft_status st = FT_OK;
    turn.perm[0] = 1;
    FT_TRY(ft_new((size_t)n, sizeof *index, &index, err));
    for (int64_t i = 0; i < n; i++) {
        index[i] = bucket_of(i - b->max_distance, b);
    }
    FT_TRY(ft_graph_const(hf->graph, "", &type, index, &ids, err));
    FT_TRY(ft_hf_embed(hf, module, ids, shape, &rows, err));
    FT_TRY(ft_hf_node(hf, (struct ft_hf_op){FT_OP_TRANSPOSE, &turn, module}, &rows, 1, out, err));
done:
    ft_free(index);
    return st;
}
