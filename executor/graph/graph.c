#include "executor/graph/graph.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "executor/graph/internal.h"

/* ---- bytes */

enum ft_status ft_blob_new(const void *data, size_t bytes, struct ft_blob **blob, struct ft_err *err)
{
    static_assert(sizeof(struct ft_blob) <= FT_ALIGN, "the header must fit in front of aligned data");
    size_t total = 0;
    *blob = NULL;
    if (!ft_add_size(bytes, FT_ALIGN, &total)) {
        return FT_FAIL(err, LIMIT, "%zu bytes do not fit the address space", bytes);
    }
    FT_RETURN_IF_FAILED(ft_new(1, total, blob, err));
    atomic_init(&(*blob)->refs, 1);
    (*blob)->bytes = bytes;
    memcpy((char *)*blob + FT_ALIGN, data, bytes);
    return FT_OK;
}

const void *ft_blob_data(const struct ft_blob *blob)
{
    return blob == NULL ? NULL : (const char *)blob + FT_ALIGN;
}

void ft_blob_drop(struct ft_blob *blob)
{
    if (blob != NULL && atomic_fetch_sub(&blob->refs, 1) == 1) {
        ft_free(blob);
    }
}

/* ---- life */

enum ft_status ft_graph_new(struct ft_graph **graph, struct ft_err *err)
{
    return ft_new(1, sizeof **graph, graph, err);
}

void ft_graph_free(struct ft_graph *graph)
{
    if (graph == NULL) {
        return;
    }
    for (size_t i = 0; i < graph->n_values; i++) {
        ft_blob_drop(graph->values[i]->blob);
    }
    ft_free(graph->values);
    ft_free(graph->nodes);
    ft_free(graph->inputs);
    ft_free(graph->params);
    ft_free(graph->outputs);
    ft_free(graph->names.slots);
    ft_arena_release(&graph->arena);
    ft_free(graph);
}

/* ---- values */

/* Nothing changes before everything that can fail has been done: `extra` values fit afterwards. */
static enum ft_status reserve_values(struct ft_graph *g, size_t extra, struct ft_err *err)
{
    if (g->n_values + extra > INT32_MAX / 2) {
        return FT_FAIL(err, LIMIT, "the graph has too many values");
    }
    FT_RETURN_IF_FAILED(
        ft_grow(&g->values, &g->values_capacity, g->n_values + extra, sizeof(struct ft_graph_value *), err));
    return ft_names_reserve(g, extra, err);
}

static ft_value commit_value(struct ft_graph *g, struct ft_graph_value *value)
{
    ft_value v = (ft_value)g->n_values;
    g->values[g->n_values++] = value;
    ft_names_insert(g, v);
    return v;
}

static enum ft_status new_value(struct ft_graph *g, const char *name, const char *stem, ft_value number,
                                struct ft_graph_value **out, struct ft_err *err)
{
    struct ft_graph_value *value = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&g->arena, 1, sizeof *value, &value, err));
    value->index = -1;
    if (name == NULL || name[0] == '\0') {
        value->auto_named = true;
        FT_RETURN_IF_FAILED(ft_names_fresh(g, stem, number, &value->name, err));
    } else {
        FT_RETURN_IF_FAILED(ft_names_claim(g, name, FT_NO_VALUE, err));
        FT_RETURN_IF_FAILED(ft_arena_text(&g->arena, name, strlen(name), &value->name, err));
    }
    *out = value;
    return FT_OK;
}

/* ft_type_bytes() asserts what this checks. */
static enum ft_status check_type(const char *what, const char *name, const struct ft_type *t, bool known,
                                 size_t *bytes, struct ft_err *err)
{
    size_t size = 0;
    if ((int)t->dtype < 0 || t->dtype >= FT_DTYPE_COUNT || t->rank < 0 || t->rank > FT_MAX_RANK) {
        return FT_FAIL(err, INVALID, "%s '%.200s' has no valid type", what, name);
    }
    size = ft_dtype_size(t->dtype);
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i].coef < 1) {
            return FT_FAIL(err, INVALID, "%s '%.200s': dimension %d is %lld, wanted at least 1", what, name,
                           i, (long long)t->dim[i].coef);
        }
        if (known && !ft_dim_is_known(t->dim[i])) {
            return FT_FAIL(err, INVALID, "%s '%.200s': dimension %d is symbolic", what, name, i);
        }
        if (!ft_mul_size(size, (size_t)t->dim[i].coef, &size) || size > FT_MAX_TENSOR_BYTES) {
            return FT_FAIL(err, LIMIT, "%s '%.200s' is larger than %zu bytes", what, name,
                           FT_MAX_TENSOR_BYTES);
        }
    }
    *bytes = size;
    return FT_OK;
}

static enum ft_status add_source(struct ft_graph *g, const char *name, const struct ft_graph_value *like,
                                 struct ft_graph_value **added, ft_value *out, struct ft_err *err)
{
    static const char *const stems[] = {[FT_FROM_INPUT] = "input",
                                        [FT_FROM_PARAM] = "param",
                                        [FT_FROM_CONST] = "const",
                                        [FT_FROM_NODE] = "node"};
    struct ft_graph_value *value = NULL;
    *out = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(reserve_values(g, 2, err)); /* claiming a name may rename another value */
    FT_RETURN_IF_FAILED(new_value(g, name, stems[like->source], (ft_value)g->n_values, &value, err));
    FT_RETURN_IF_FAILED(ft_grow(&g->inputs, &g->inputs_capacity, g->n_inputs + 1, sizeof *g->inputs, err));
    FT_RETURN_IF_FAILED(ft_grow(&g->params, &g->params_capacity, g->n_params + 1, sizeof *g->params, err));
    value->type = like->type;
    value->type.layout = FT_ROW_MAJOR;
    value->source = like->source;
    value->blob = like->blob;
    *added = value;
    *out = commit_value(g, value);
    return FT_OK;
}

static void list_input(struct ft_graph *g, struct ft_graph_value *value, ft_value v)
{
    value->index = (int)g->n_inputs;
    g->inputs[g->n_inputs++] = v;
}

static void list_param(struct ft_graph *g, struct ft_graph_value *value, ft_value v, enum ft_param_role role)
{
    value->index = (int)g->n_params;
    g->params[g->n_params++] = (struct ft_graph_param){.value = v, .role = role};
}

enum ft_status ft_graph_source_shared(struct ft_graph *g, const char *name, const struct ft_graph_value *like,
                                      ft_value *out, struct ft_err *err)
{
    struct ft_graph_value *value = NULL;
    FT_RETURN_IF_FAILED(add_source(g, name, like, &value, out, err));
    if (value->blob != NULL) {
        atomic_fetch_add(&value->blob->refs, 1);
    }
    if (like->source == FT_FROM_INPUT) {
        list_input(g, value, *out);
    } else if (like->source == FT_FROM_PARAM) {
        list_param(g, value, *out, FT_PARAM_WEIGHT);
    }
    return FT_OK;
}

enum ft_status ft_graph_input(struct ft_graph *g, const char *name, const struct ft_type *type, ft_value *out,
                              struct ft_err *err)
{
    size_t bytes = 0;
    struct ft_graph_value *value = NULL;
    struct ft_graph_value like = {.type = *type, .source = FT_FROM_INPUT};
    *out = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(check_type("input", name, type, false, &bytes, err));
    FT_RETURN_IF_FAILED(add_source(g, name, &like, &value, out, err));
    list_input(g, value, *out);
    return FT_OK;
}

/* A source with bytes of its own. */
static enum ft_status add_data(struct ft_graph *g, const char *name, enum ft_source source,
                               const struct ft_type *type, const void *data, ft_value *out,
                               struct ft_err *err)
{
    size_t bytes = 0;
    struct ft_graph_value *value = NULL;
    struct ft_graph_value like = {.type = *type, .source = source};
    const char *what = source == FT_FROM_PARAM ? "parameter" : "constant";
    *out = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(check_type(what, name, type, true, &bytes, err));
    FT_RETURN_IF_FAILED(ft_blob_new(data, bytes, &like.blob, err));
    enum ft_status st = add_source(g, name, &like, &value, out, err);
    if (st != FT_OK) {
        ft_blob_drop(like.blob);
    }
    return st;
}

enum ft_status ft_graph_param(struct ft_graph *g, const char *name, const struct ft_type *type,
                              enum ft_param_role role, const void *data, ft_value *out, struct ft_err *err)
{
    *out = FT_NO_VALUE;
    if (type->dtype != FT_F32) {
        return FT_FAIL(err, INVALID, "parameter '%.200s' is not float32", name);
    }
    FT_RETURN_IF_FAILED(add_data(g, name, FT_FROM_PARAM, type, data, out, err));
    list_param(g, g->values[*out], *out, role);
    return FT_OK;
}

enum ft_status ft_graph_const(struct ft_graph *g, const char *name, const struct ft_type *type,
                              const void *data, ft_value *out, struct ft_err *err)
{
    return add_data(g, name, FT_FROM_CONST, type, data, out, err);
}

enum ft_status ft_graph_param_set(struct ft_graph *g, int param, const void *data, struct ft_err *err)
{
    struct ft_graph_value *value = g->values[ft_graph_param_at(g, param)];
    struct ft_blob *blob = NULL;
    FT_RETURN_IF_FAILED(ft_blob_new(data, value->blob->bytes, &blob, err));
    ft_blob_drop(value->blob);
    value->blob = blob;
    return FT_OK;
}

void ft_graph_param_freeze(struct ft_graph *g, int param, bool frozen)
{
    assert(param >= 0 && (size_t)param < g->n_params);
    g->params[param].frozen = frozen;
}

void ft_graph_mark_dropout(struct ft_graph *g, ft_value v, double probability)
{
    int producer = ft_graph_producer(g, v);
    assert(producer >= 0 && g->nodes[producer]->out[0] == v && probability >= 0 && probability <= 1);
    g->nodes[producer]->attrs.drops = 1;
    g->nodes[producer]->attrs.dropout = (float)probability;
}

/* ---- nodes */

static enum ft_status infer_types(const struct ft_graph *g, const struct ft_node *node, struct ft_type *out,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_type few[8];
    struct ft_type *types = few;
    struct ft_type *many = NULL;
    if (node->n_in > 8) {
        FT_TRY(ft_new((size_t)node->n_in, sizeof *many, &many, err));
        types = many;
    }
    for (int i = 0; i < node->n_in; i++) {
        types[i] = g->values[node->in[i]]->type;
    }
    st = ft_op_infer(node->op, &node->attrs, types, node->n_in, out, err);
    if (st != FT_OK && node->origin[0] != '\0') {
        (void)ft_err_wrap(err, "%.200s", node->origin);
    }
done:
    ft_free(many);
    return st;
}

static enum ft_status new_node(struct ft_graph *g, const struct ft_node *like, struct ft_node **out,
                               struct ft_err *err)
{
    struct ft_node *node = NULL;
    ft_value *in = NULL;
    ft_value *results = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&g->arena, 1, sizeof *node, &node, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&g->arena, (size_t)like->n_in, sizeof *in, &in, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&g->arena, (size_t)like->n_out, sizeof *results, &results, err));
    memcpy(node, like, sizeof *node); /* attributes are compared bytewise: padding too */
    memcpy(in, like->in, (size_t)like->n_in * sizeof *in);
    for (int i = 0; i < like->n_out; i++) {
        results[i] = (ft_value)g->n_values + i;
    }
    node->in = in;
    node->out = results;
    node->origin = "";
    if (like->origin != NULL && like->origin[0] != '\0') {
        FT_RETURN_IF_FAILED(ft_arena_text(&g->arena, like->origin, strlen(like->origin), &node->origin, err));
    }
    *out = node;
    return FT_OK;
}

/* A node from a description that does not belong to the graph. */
static enum ft_status add_node(struct ft_graph *g, const struct ft_node *like, ft_value *out,
                               struct ft_err *err)
{
    struct ft_node *node = NULL;
    struct ft_graph_value *results[FT_MAX_OUTPUTS] = {NULL};
    struct ft_type types[FT_MAX_OUTPUTS];
    FT_RETURN_IF_FAILED(infer_types(g, like, types, err));
    FT_RETURN_IF_FAILED(reserve_values(g, (size_t)like->n_out, err));
    FT_RETURN_IF_FAILED(
        ft_grow(&g->nodes, &g->nodes_capacity, g->n_nodes + 1, sizeof(struct ft_node *), err));
    FT_RETURN_IF_FAILED(new_node(g, like, &node, err));
    for (int i = 0; i < like->n_out; i++) {
        FT_RETURN_IF_FAILED(
            new_value(g, NULL, ft_op_info(like->op)->name, (ft_value)g->n_values + i, &results[i], err));
        results[i]->type = types[i];
        results[i]->source = FT_FROM_NODE;
        results[i]->index = (int)g->n_nodes;
    }
    for (int i = 0; i < like->n_out; i++) {
        out[i] = commit_value(g, results[i]);
        assert(out[i] == node->out[i]);
    }
    g->nodes[g->n_nodes++] = node;
    return FT_OK;
}

/* `out` may be `in`. The door has one parameter more than our limit. */
/* NOLINTNEXTLINE(readability-function-size) */
enum ft_status ft_graph_add(struct ft_graph *g, enum ft_op op, const struct ft_attrs *attrs,
                            const ft_value *in, int n_in, const char *origin, ft_value *out,
                            struct ft_err *err)
{
    struct ft_node like;
    memset(&like, 0, sizeof like);
    like.op = op;
    like.n_in = n_in;
    like.n_out = ft_op_info(op)->outputs;
    like.in = in;
    like.origin = origin == NULL ? "" : origin;
    if (attrs != NULL) {
        memcpy(&like.attrs, attrs, sizeof like.attrs);
    }
    for (int i = 0; i < n_in; i++) {
        assert(in[i] >= 0 && (size_t)in[i] < g->n_values);
    }
    enum ft_status st = add_node(g, &like, out, err);
    for (int i = 0; st != FT_OK && i < like.n_out; i++) {
        out[i] = FT_NO_VALUE;
    }
    return st;
}

enum ft_status ft_graph_add1(struct ft_graph *g, enum ft_op op, ft_value a, ft_value *out, struct ft_err *err)
{
    ft_value results[FT_MAX_OUTPUTS];
    enum ft_status st = ft_graph_add(g, op, NULL, &a, 1, NULL, results, err);
    *out = results[0];
    return st;
}

enum ft_status ft_graph_add2(struct ft_graph *g, enum ft_op op, ft_value a, ft_value b, ft_value *out,
                             struct ft_err *err)
{
    ft_value results[FT_MAX_OUTPUTS];
    ft_value in[2] = {a, b};
    enum ft_status st = ft_graph_add(g, op, NULL, in, 2, NULL, results, err);
    *out = results[0];
    return st;
}

/* ---- outputs and names */

enum ft_status ft_graph_output(struct ft_graph *g, ft_value v, const char *name, struct ft_err *err)
{
    assert(v >= 0 && (size_t)v < g->n_values);
    const char *text = name == NULL || name[0] == '\0' ? g->values[v]->name : name;
    for (size_t i = 0; i < g->n_outputs; i++) {
        if (strcmp(g->outputs[i].name, text) == 0) {
            return FT_FAIL(err, EXISTS, "the graph has an output named '%.200s' already", text);
        }
    }
    FT_RETURN_IF_FAILED(
        ft_grow(&g->outputs, &g->outputs_capacity, g->n_outputs + 1, sizeof *g->outputs, err));
    struct ft_graph_output *output = &g->outputs[g->n_outputs];
    FT_RETURN_IF_FAILED(ft_arena_text(&g->arena, text, strlen(text), &output->name, err));
    output->value = v;
    g->n_outputs++;
    return FT_OK;
}

void ft_graph_clear_outputs(struct ft_graph *g)
{
    g->n_outputs = 0;
}

enum ft_status ft_graph_rename(struct ft_graph *g, ft_value v, const char *name, struct ft_err *err)
{
    assert(v >= 0 && (size_t)v < g->n_values);
    const char *copy = NULL;
    if (name[0] == '\0') {
        return FT_FAIL(err, INVALID, "a value cannot be renamed to an empty name");
    }
    FT_RETURN_IF_FAILED(ft_names_reserve(g, 2, err));
    FT_RETURN_IF_FAILED(ft_names_claim(g, name, v, err));
    FT_RETURN_IF_FAILED(ft_arena_text(&g->arena, name, strlen(name), &copy, err));
    ft_names_remove(g, v);
    g->values[v]->name = copy;
    g->values[v]->auto_named = false;
    ft_names_insert(g, v);
    return FT_OK;
}

/* ---- reading */

static const struct ft_graph_value *value_at(const struct ft_graph *g, ft_value v)
{
    assert(v >= 0 && (size_t)v < g->n_values);
    return g->values[v];
}

int ft_graph_nodes(const struct ft_graph *g)
{
    return (int)g->n_nodes;
}

const struct ft_node *ft_graph_node(const struct ft_graph *g, int node)
{
    assert(node >= 0 && (size_t)node < g->n_nodes);
    return g->nodes[node];
}

int ft_graph_values(const struct ft_graph *g)
{
    return (int)g->n_values;
}

const struct ft_type *ft_graph_type(const struct ft_graph *g, ft_value v)
{
    return &value_at(g, v)->type;
}

const char *ft_graph_name(const struct ft_graph *g, ft_value v)
{
    return value_at(g, v)->name;
}

enum ft_source ft_graph_source(const struct ft_graph *g, ft_value v)
{
    return value_at(g, v)->source;
}

int ft_graph_producer(const struct ft_graph *g, ft_value v)
{
    const struct ft_graph_value *value = value_at(g, v);
    return value->source == FT_FROM_NODE ? value->index : -1;
}

const void *ft_graph_data(const struct ft_graph *g, ft_value v)
{
    return ft_blob_data(value_at(g, v)->blob);
}

int ft_graph_inputs(const struct ft_graph *g)
{
    return (int)g->n_inputs;
}

ft_value ft_graph_input_at(const struct ft_graph *g, int i)
{
    assert(i >= 0 && (size_t)i < g->n_inputs);
    return g->inputs[i];
}

int ft_graph_outputs(const struct ft_graph *g)
{
    return (int)g->n_outputs;
}

ft_value ft_graph_output_at(const struct ft_graph *g, int i)
{
    assert(i >= 0 && (size_t)i < g->n_outputs);
    return g->outputs[i].value;
}

const char *ft_graph_output_name(const struct ft_graph *g, int i)
{
    assert(i >= 0 && (size_t)i < g->n_outputs);
    return g->outputs[i].name;
}

int ft_graph_params(const struct ft_graph *g)
{
    return (int)g->n_params;
}

ft_value ft_graph_param_at(const struct ft_graph *g, int param)
{
    assert(param >= 0 && (size_t)param < g->n_params);
    return g->params[param].value;
}

enum ft_param_role ft_graph_param_role(const struct ft_graph *g, int param)
{
    assert(param >= 0 && (size_t)param < g->n_params);
    return g->params[param].role;
}

bool ft_graph_param_frozen(const struct ft_graph *g, int param)
{
    assert(param >= 0 && (size_t)param < g->n_params);
    return g->params[param].frozen;
}

int ft_graph_param_of(const struct ft_graph *g, ft_value v)
{
    const struct ft_graph_value *value = value_at(g, v);
    return value->source == FT_FROM_PARAM ? value->index : -1;
}

const char *ft_node_text(const struct ft_node *node, char out[FT_NODE_TEXT])
{
    if (node->origin[0] == '\0') {
        (void)snprintf(out, FT_NODE_TEXT, "%s", ft_op_info(node->op)->name);
    } else {
        (void)snprintf(out, FT_NODE_TEXT, "%s '%.200s'", ft_op_info(node->op)->name, node->origin);
    }
    return out;
}

bool ft_node_shape_only(enum ft_op op, int i)
{
    return i < 32 && (ft_op_info(op)->shape_only >> i & 1U) != 0;
}
