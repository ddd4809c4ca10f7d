#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/pb.h"
#include "executor/model/export.h"
#include "executor/model/onnx.h"

enum { IR_VERSION = 8, OPSET = 17 };

/* Field numbers of onnx.proto. */
enum {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_METADATA = 14,
    OPSET_VERSION = 2,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_OP = 4,
    NODE_ATTRIBUTE = 5,
    ATTR_NAME = 1,
    ATTR_F = 2,
    ATTR_I = 3,
    ATTR_S = 4,
    ATTR_T = 5,
    ATTR_INTS = 8,
    ATTR_TYPE = 20,
    ATTR_TYPE_FLOAT = 1,
    ATTR_TYPE_INT = 2,
    ATTR_TYPE_STRING = 3,
    ATTR_TYPE_TENSOR = 4,
    ATTR_TYPE_INTS = 7,
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    PAIR_KEY = 1,
    PAIR_VALUE = 2,
    VALUE_NAME = 1,
    VALUE_TYPE = 2,
    TYPE_TENSOR = 1,
    TENSOR_TYPE_ELEM = 1,
    TENSOR_TYPE_SHAPE = 2,
    SHAPE_DIM = 1,
    DIM_VALUE = 1,
    DIM_PARAM = 2
};

/* ---- encoding */

static enum ft_status put_nested(struct ft_buf *out, uint32_t number, struct ft_buf *message,
                                 struct ft_err *err)
{
    enum ft_status st = ft_pb_put_bytes(out, number, ft_buf_bytes(message), err);
    ft_buf_release(message);
    return st;
}

static enum ft_status put_attr(struct ft_buf *out, const struct ft_export_attr *a, struct ft_err *err)
{
    struct ft_buf m = {0};
    int64_t type = a->kind == FT_ATTR_INT     ? ATTR_TYPE_INT
                   : a->kind == FT_ATTR_FLOAT ? ATTR_TYPE_FLOAT
                   : a->kind == FT_ATTR_TEXT  ? ATTR_TYPE_STRING
                                              : ATTR_TYPE_INTS;
    enum ft_status st = FT_OK;
    FT_TRY(ft_pb_put_text(&m, ATTR_NAME, a->name, err));
    if (a->kind == FT_ATTR_FLOAT) {
        FT_TRY(ft_pb_put_float(&m, ATTR_F, a->f, err));
    } else if (a->kind == FT_ATTR_TEXT) {
        FT_TRY(ft_pb_put_text(&m, ATTR_S, a->text, err));
    } else if (a->kind == FT_ATTR_INT) {
        FT_TRY(ft_pb_put_varint(&m, ATTR_I, (uint64_t)a->i, err));
    } else {
        for (int i = 0; i < a->count; i++) { /* not packed: the field is proto2 */
            FT_TRY(ft_pb_put_varint(&m, ATTR_INTS, (uint64_t)a->ints[i], err));
        }
    }
    FT_TRY(ft_pb_put_varint(&m, ATTR_TYPE, (uint64_t)type, err));
    FT_TRY(put_nested(out, NODE_ATTRIBUTE, &m, err));
done:
    ft_buf_release(&m);
    return st;
}

static uint64_t onnx_type(enum ft_dtype dtype)
{
    static const int32_t types[FT_DTYPE_COUNT] = {
        [FT_F32] = FT_ONNX_FLOAT, [FT_F64] = FT_ONNX_DOUBLE, [FT_I64] = FT_ONNX_INT64,
        [FT_I32] = FT_ONNX_INT32, [FT_U8] = FT_ONNX_UINT8,   [FT_BOOL] = FT_ONNX_BOOL};
    return (uint64_t)types[dtype];
}

/* A TensorProto up to and including the header of raw_data; `size` bytes of data follow. */
static enum ft_status put_tensor_head(struct ft_buf *out, const char *name, const struct ft_type *type,
                                      size_t size, struct ft_err *err)
{
    for (int i = 0; i < type->rank; i++) {
        FT_RETURN_IF_FAILED(ft_pb_put_varint(out, TENSOR_DIMS, (uint64_t)type->dim[i].coef, err));
    }
    FT_RETURN_IF_FAILED(ft_pb_put_varint(out, TENSOR_TYPE, onnx_type(type->dtype), err));
    if (name != NULL) {
        FT_RETURN_IF_FAILED(ft_pb_put_text(out, TENSOR_NAME, name, err));
    }
    return ft_pb_put_header(out, TENSOR_RAW, size, err);
}

/* ---- names */

/* `stem`, else stem_1, ...: what `names` does not hold yet. */
static enum ft_status fresh_in(struct ft_export *x, struct ft_names *names, const char *stem,
                               const char **out, struct ft_err *err)
{
    char text[FT_MAX_NAME_BYTES + 32];
    int n = snprintf(text, sizeof text, "%s", stem);
    for (int k = 1; n > 0 && (size_t)n < sizeof text; k++) {
        if (ft_model_names_find(names, ft_bytes_of_text(text)) < 0) {
            FT_RETURN_IF_FAILED(ft_arena_text(&x->arena, text, (size_t)n, out, err));
            (void)ft_model_names_add(names, ft_bytes_of_text(*out));
            return FT_OK;
        }
        n = snprintf(text, sizeof text, "%s_%d", stem, k);
    }
    return FT_FAIL(err, LIMIT, "no name can be made from '%.100s'", stem);
}

enum ft_status ft_export_fresh(struct ft_export *x, const char *stem, const char **out, struct ft_err *err)
{
    return fresh_in(x, &x->taken, stem, out, err);
}

/* The node's own name: where it came from, if no other node has that name, else one like its output's. */
static enum ft_status node_name(struct ft_export *x, const struct ft_export_node *node, const char **out,
                                struct ft_err *err)
{
    *out = node->origin;
    if (*out != NULL && (*out)[0] != '\0' &&
        ft_model_names_add(&x->node_names, ft_bytes_of_text(*out)) >= 0) {
        return FT_OK;
    }
    return fresh_in(x, &x->node_names, node->out, out, err);
}

enum ft_status ft_export_put_many(struct ft_export *x, const struct ft_export_node *node,
                                  const char *const *in, int n_in, struct ft_err *err)
{
    struct ft_buf m = {0};
    const char *name = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(node_name(x, node, &name, err));
    for (int i = 0; i < n_in; i++) {
        FT_TRY(ft_pb_put_text(&m, NODE_INPUT, in[i] == NULL ? "" : in[i], err));
    }
    FT_TRY(ft_pb_put_text(&m, NODE_OUTPUT, node->out, err));
    if (node->out2 != NULL) {
        FT_TRY(ft_pb_put_text(&m, NODE_OUTPUT, node->out2, err));
    }
    FT_TRY(ft_pb_put_text(&m, NODE_NAME, name, err));
    FT_TRY(ft_pb_put_text(&m, NODE_OP, node->op, err));
    for (int i = 0; i < node->n_attrs; i++) {
        FT_TRY(put_attr(&m, &node->attrs[i], err));
    }
    FT_TRY(put_nested(&x->nodes, GRAPH_NODE, &m, err));
done:
    ft_buf_release(&m);
    return st;
}

enum ft_status ft_export_put(struct ft_export *x, const struct ft_export_node *node, struct ft_err *err)
{
    return ft_export_put_many(x, node, node->in, node->n_in, err);
}

enum ft_status ft_export_constant(struct ft_export *x, const char *name, const struct ft_type *type,
                                  const void *data, struct ft_err *err)
{
    struct ft_buf tensor = {0};
    struct ft_buf attr = {0};
    struct ft_buf m = {0};
    const struct ft_export_node node = {.out = name};
    const char *own = NULL;
    size_t size = ft_type_bytes(type);
    enum ft_status st = FT_OK;
    FT_TRY(node_name(x, &node, &own, err));
    FT_TRY(put_tensor_head(&tensor, NULL, type, size, err));
    FT_TRY(ft_buf_append(&tensor, data, size, err));
    FT_TRY(ft_pb_put_text(&attr, ATTR_NAME, "value", err));
    FT_TRY(put_nested(&attr, ATTR_T, &tensor, err));
    FT_TRY(ft_pb_put_varint(&attr, ATTR_TYPE, ATTR_TYPE_TENSOR, err));
    FT_TRY(ft_pb_put_text(&m, NODE_OUTPUT, name, err));
    FT_TRY(ft_pb_put_text(&m, NODE_NAME, own, err));
    FT_TRY(ft_pb_put_text(&m, NODE_OP, "Constant", err));
    FT_TRY(put_nested(&m, NODE_ATTRIBUTE, &attr, err));
    FT_TRY(put_nested(&x->nodes, GRAPH_NODE, &m, err));
done:
    ft_buf_release(&tensor);
    ft_buf_release(&attr);
    ft_buf_release(&m);
    return st;
}

enum ft_status ft_export_ints(struct ft_export *x, const char *stem, const int64_t *values, int count,
                              const char **out, struct ft_err *err)
{
    char text[FT_MAX_NAME_BYTES + 8];
    const int64_t dims[1] = {count > 0 ? count : 1};
    struct ft_type type = ft_type_of(FT_I64, 1, dims);
    (void)snprintf(text, sizeof text, "%s_ints", stem);
    FT_RETURN_IF_FAILED(ft_export_fresh(x, text, out, err));
    if (count == 0) { /* the shape of a scalar: an empty list, which no ft_type can say */
        type.dim[0].coef = 0;
    }
    return ft_export_constant(x, *out, &type, values, err);
}

enum ft_status ft_export_float(struct ft_export *x, const char *stem, float value, const char **out,
                               struct ft_err *err)
{
    char text[FT_MAX_NAME_BYTES + 8];
    struct ft_type type = ft_type_of(FT_F32, 0, NULL);
    (void)snprintf(text, sizeof text, "%s_number", stem);
    FT_RETURN_IF_FAILED(ft_export_fresh(x, text, out, err));
    return ft_export_constant(x, *out, &type, &value, err);
}

/* ---- inputs and outputs */

static enum ft_status put_dim(struct ft_buf *shape, struct ft_dim d, struct ft_err *err)
{
    struct ft_buf m = {0};
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    if (ft_dim_is_known(d)) {
        FT_TRY(ft_pb_put_varint(&m, DIM_VALUE, (uint64_t)d.coef, err));
    } else {
        for (int k = 0; k < FT_MAX_SYMBOLS; k++) {
            for (int p = 0; p < d.power[k]; p++) {
                FT_TRY(ft_buf_text(&text, text.size > 0 ? "*" : "", err));
                FT_TRY(k == FT_SYMBOL_BATCH ? ft_buf_text(&text, "batch-size", err)
                                            : ft_buf_printf(&text, err, "axis-%d", k));
            }
        }
        if (d.coef != 1) {
            FT_TRY(ft_buf_printf(&text, err, "*%lld", (long long)d.coef));
        }
        FT_TRY(ft_pb_put_text(&m, DIM_PARAM, (const char *)text.data, err));
    }
    FT_TRY(put_nested(shape, SHAPE_DIM, &m, err));
done:
    ft_buf_release(&m);
    ft_buf_release(&text);
    return st;
}

static enum ft_status put_port(struct ft_buf *out, uint32_t number, const char *name,
                               const struct ft_type *type, struct ft_err *err)
{
    struct ft_buf shape = {0};
    struct ft_buf tensor = {0};
    struct ft_buf holder = {0};
    struct ft_buf m = {0};
    enum ft_status st = FT_OK;
    for (int i = 0; i < type->rank; i++) {
        FT_TRY(put_dim(&shape, type->dim[i], err));
    }
    FT_TRY(ft_pb_put_varint(&tensor, TENSOR_TYPE_ELEM, onnx_type(type->dtype), err));
    FT_TRY(put_nested(&tensor, TENSOR_TYPE_SHAPE, &shape, err));
    FT_TRY(put_nested(&holder, TYPE_TENSOR, &tensor, err));
    FT_TRY(ft_pb_put_text(&m, VALUE_NAME, name, err));
    FT_TRY(put_nested(&m, VALUE_TYPE, &holder, err));
    FT_TRY(put_nested(out, number, &m, err));
done:
    ft_buf_release(&shape);
    ft_buf_release(&tensor);
    ft_buf_release(&holder);
    ft_buf_release(&m);
    return st;
}

/* ---- what is needed, and what it is called */

static void mark_reached(struct ft_export *x)
{
    for (int i = 0; i < ft_graph_outputs(x->graph); i++) {
        x->reached[ft_graph_output_at(x->graph, i)] = true;
    }
    for (int n = ft_graph_nodes(x->graph) - 1; n >= 0; n--) {
        const struct ft_node *node = ft_graph_node(x->graph, n);
        bool wanted = false;
        for (int i = 0; i < node->n_out; i++) {
            wanted = wanted || x->reached[node->out[i]];
        }
        int n_in =
            node->op == FT_OP_DROPOUT ? 1 : node->n_in; /* dropout is left out, its randomness with it */
        for (int i = 0; wanted && i < n_in; i++) {
            x->reached[node->in[i]] = true;
        }
    }
}

/* Inputs keep their names, outputs get theirs, the rest makes way. */
static enum ft_status give_names(struct ft_export *x, struct ft_err *err)
{
    const struct ft_graph *g = x->graph;
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        ft_value v = ft_graph_input_at(g, i);
        if (x->reached[v]) {
            x->names[v] = ft_graph_name(g, v);
            (void)ft_model_names_add(&x->taken, ft_bytes_of_text(x->names[v]));
        }
    }
    for (int i = 0; i < ft_graph_outputs(g); i++) {
        ft_value v = ft_graph_output_at(g, i);
        const char *name = ft_graph_output_name(g, i);
        if (ft_model_names_add(&x->taken, ft_bytes_of_text(name)) < 0) {
            return FT_FAIL(err, INVALID, "'%s' is the name of an input and of an output", name);
        }
        if (ft_graph_source(g, v) == FT_FROM_NODE && !x->reserved[v]) {
            x->names[v] = name;
            x->reserved[v] = true;
        }
    }
    for (ft_value v = 0; v < ft_graph_values(g); v++) {
        if (x->reached[v] && x->names[v] == NULL) {
            FT_RETURN_IF_FAILED(ft_export_fresh(x, ft_graph_name(g, v), &x->names[v], err));
        }
    }
    return FT_OK;
}

static enum ft_status prepare(struct ft_export *x, struct ft_err *err)
{
    const struct ft_graph *g = x->graph;
    size_t values = (size_t)ft_graph_values(g);
    size_t nodes = (size_t)ft_graph_nodes(g);
    /* No writer makes more than 16 names. */
    size_t names = values + (size_t)ft_graph_outputs(g) + 16 * nodes + 16;
    FT_RETURN_IF_FAILED(ft_arena_new(&x->arena, values, sizeof *x->names, &x->names, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&x->arena, values, sizeof *x->reached, &x->reached, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&x->arena, values, sizeof *x->reserved, &x->reserved, err));
    FT_RETURN_IF_FAILED(ft_model_names_init(&x->taken, names, &x->arena, err));
    FT_RETURN_IF_FAILED(ft_model_names_init(&x->node_names, 2 * names, &x->arena, err));
    mark_reached(x);
    return give_names(x, err);
}

static bool node_reached(const struct ft_export *x, const struct ft_node *node)
{
    for (int i = 0; i < node->n_out; i++) {
        if (x->reached[node->out[i]]) {
            return true;
        }
    }
    return false;
}

static enum ft_status write_nodes(struct ft_export *x, struct ft_err *err)
{
    const struct ft_graph *g = x->graph;
    for (ft_value v = 0; v < ft_graph_values(g); v++) {
        if (x->reached[v] && ft_graph_source(g, v) == FT_FROM_CONST) {
            FT_RETURN_IF_FAILED(
                ft_export_constant(x, x->names[v], ft_graph_type(g, v), ft_graph_data(g, v), err));
        }
    }
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        const struct ft_node *node = ft_graph_node(g, n);
        if (node_reached(x, node)) {
            FT_RETURN_IF_FAILED(ft_export_op(x, node, err));
        }
    }
    for (int i = 0; i < ft_graph_outputs(g); i++) {
        const char *name = ft_graph_output_name(g, i);
        ft_value v = ft_graph_output_at(g, i);
        if (strcmp(x->names[v], name) != 0) { /* an input or weight itself, or one value under two names */
            struct ft_export_node n = {.op = "Identity", .in = {x->names[v]}, .n_in = 1, .out = name};
            FT_RETURN_IF_FAILED(ft_export_put(x, &n, err));
        }
    }
    return FT_OK;
}

/* ---- the file */

/* Tag, length and head of one initializer; its data follow. */
static enum ft_status initializer_head(const struct ft_export *x, ft_value v, struct ft_buf *out,
                                       size_t *data_size, struct ft_err *err)
{
    struct ft_buf head = {0};
    enum ft_status st = FT_OK;
    *data_size = ft_type_bytes(ft_graph_type(x->graph, v));
    FT_TRY(put_tensor_head(&head, x->names[v], ft_graph_type(x->graph, v), *data_size, err));
    FT_TRY(ft_pb_put_header(out, GRAPH_INITIALIZER, head.size + *data_size, err));
    FT_TRY(ft_buf_append(out, head.data, head.size, err));
done:
    ft_buf_release(&head);
    return st;
}

/* All parameters; with out == NULL only their encoded size is added up. */
static enum ft_status put_params(const struct ft_export *x, struct ft_buf *out, size_t *size,
                                 struct ft_err *err)
{
    struct ft_buf head = {0};
    enum ft_status st = FT_OK;
    for (int i = 0; i < ft_graph_params(x->graph); i++) {
        ft_value v = ft_graph_param_at(x->graph, i);
        size_t data_size = 0;
        if (!x->reached[v]) {
            continue;
        }
        head.size = 0;
        FT_TRY(initializer_head(x, v, &head, &data_size, err));
        *size += head.size + data_size;
        if (out != NULL) {
            FT_TRY(ft_buf_append(out, head.data, head.size, err));
            FT_TRY(ft_buf_append(out, ft_graph_data(x->graph, v), data_size, err));
        }
    }
done:
    ft_buf_release(&head);
    return st;
}

static enum ft_status put_ports(const struct ft_export *x, struct ft_buf *out, struct ft_err *err)
{
    const struct ft_graph *g = x->graph;
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        ft_value v = ft_graph_input_at(g, i);
        if (x->reached[v]) {
            FT_RETURN_IF_FAILED(put_port(out, GRAPH_INPUT, x->names[v], ft_graph_type(g, v), err));
        }
    }
    for (int i = 0; i < ft_graph_outputs(g); i++) {
        const struct ft_type *type = ft_graph_type(g, ft_graph_output_at(g, i));
        FT_RETURN_IF_FAILED(put_port(out, GRAPH_OUTPUT, ft_graph_output_name(g, i), type, err));
    }
    return FT_OK;
}

static enum ft_status put_properties(const struct ft_json *properties, struct ft_buf *out, struct ft_err *err)
{
    struct ft_buf m = {0};
    enum ft_status st = FT_OK;
    if (ft_json_kind(properties) != FT_JSON_OBJECT) {
        return FT_OK;
    }
    for (struct ft_json_iter *it = ft_json_first(properties); it != NULL; it = ft_json_next(properties, it)) {
        const char *text = ft_json_text(ft_json_value(it), NULL);
        if (text == NULL) {
            st = FT_FAIL(err, INVALID, "property '%s' is not a text", ft_json_key(it));
            goto done;
        }
        FT_TRY(ft_pb_put_text(&m, PAIR_KEY, ft_json_key(it), err));
        FT_TRY(ft_pb_put_text(&m, PAIR_VALUE, text, err));
        FT_TRY(put_nested(out, MODEL_METADATA, &m, err));
    }
done:
    ft_buf_release(&m);
    return st;
}

static enum ft_status put_model(const struct ft_export *x, const char *graph_name,
                                const struct ft_json *properties, struct ft_buf *out, struct ft_err *err)
{
    struct ft_buf name = {0};
    struct ft_buf ports = {0};
    struct ft_buf opset = {0};
    size_t weights = 0;
    enum ft_status st = FT_OK;
    FT_TRY(ft_pb_put_text(&name, GRAPH_NAME, graph_name, err));
    FT_TRY(put_ports(x, &ports, err));
    FT_TRY(put_params(x, NULL, &weights, err));
    FT_TRY(ft_pb_put_varint(&opset, OPSET_VERSION, OPSET, err));
    size_t graph = x->nodes.size + name.size + ports.size;
    if (!ft_add_size(graph, weights, &graph) || graph > INT32_MAX - (1 << 20)) {
        st = FT_FAIL(err, LIMIT,
                     "the model would be %zu bytes; ONNX files without external data end at 2 GiB", graph);
        goto done;
    }
    FT_TRY(ft_buf_reserve(out, graph + 4096, err));
    FT_TRY(ft_pb_put_varint(out, MODEL_IR_VERSION, IR_VERSION, err));
    FT_TRY(ft_pb_put_text(out, MODEL_PRODUCER, FT_PRODUCER, err));
    FT_TRY(ft_pb_put_text(out, MODEL_PRODUCER_VERSION, FT_VERSION, err));
    FT_TRY(ft_pb_put_header(out, MODEL_GRAPH, graph, err));
    FT_TRY(ft_buf_append(out, x->nodes.data, x->nodes.size, err));
    FT_TRY(ft_buf_append(out, name.data, name.size, err));
    weights = 0;
    FT_TRY(put_params(x, out, &weights, err));
    FT_TRY(ft_buf_append(out, ports.data, ports.size, err));
    FT_TRY(ft_pb_put_bytes(out, MODEL_OPSET, ft_buf_bytes(&opset), err));
    FT_TRY(put_properties(properties, out, err));
done:
    ft_buf_release(&name);
    ft_buf_release(&ports);
    ft_buf_release(&opset);
    return st;
}

enum ft_status ft_onnx_write(const struct ft_graph *graph, const char *graph_name,
                             const struct ft_json *properties, struct ft_buf *out, struct ft_err *err)
{
    struct ft_export x;
    size_t start = out->size;
    enum ft_status st = FT_OK;
    memset(&x, 0, sizeof x);
    x.graph = graph;
    FT_TRY(prepare(&x, err));
    FT_TRY(write_nodes(&x, err));
    FT_TRY(put_model(&x, graph_name, properties, out, err));
done:
    if (st != FT_OK) {
        out->size = start;
    }
    ft_buf_release(&x.nodes);
    ft_arena_release(&x.arena);
    return st;
}
