#include "executor/model/proto.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/pb.h"

/* Field numbers of onnx.proto. */
enum {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_METADATA = 14,
    OPSET_DOMAIN = 1,
    OPSET_VERSION = 2,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    GRAPH_SPARSE = 15,
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_OP = 4,
    NODE_ATTRIBUTE = 5,
    NODE_DOMAIN = 7,
    ATTR_NAME = 1,
    ATTR_F = 2,
    ATTR_I = 3,
    ATTR_S = 4,
    ATTR_T = 5,
    ATTR_G = 6,
    ATTR_FLOATS = 7,
    ATTR_INTS = 8,
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TENSOR_EXTERNAL = 13,
    TENSOR_LOCATION = 14,
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

/* How often the wanted field numbers occur in a message: arrays are made once, at their size. */
static enum ft_status count_fields(struct ft_bytes message, const uint32_t *numbers, size_t *counts, size_t n,
                                   struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    memset(counts, 0, n * sizeof *counts);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        for (size_t i = 0; i < n; i++) {
            counts[i] += f.number == numbers[i];
        }
    }
}

static enum ft_status check_name(struct ft_bytes name, struct ft_err *err)
{
    if (name.size > FT_MAX_NAME_BYTES) {
        return FT_FAIL(err, LIMIT, "a name of %zu bytes; %d are the limit", name.size, FT_MAX_NAME_BYTES);
    }
    if (memchr(name.size > 0 ? (const char *)name.data : "", 0, name.size) != NULL || !ft_utf8_valid(name)) {
        return FT_FAIL(err, CORRUPT, "a name is not UTF-8 text");
    }
    return FT_OK;
}

static enum ft_status read_name(const struct ft_pb_field *f, struct ft_bytes *name, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_pb_bytes(f, name, err));
    return check_name(*name, err);
}

static enum ft_status read_pair(const struct ft_pb_field *field, struct ft_onnx_pair *pair,
                                struct ft_err *err)
{
    struct ft_bytes message;
    struct ft_pb_field f;
    bool more = false;
    FT_RETURN_IF_FAILED(ft_pb_bytes(field, &message, err));
    struct ft_pb_cursor c = ft_pb_open(message);
    *pair = (struct ft_onnx_pair){{0}, {0}};
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == PAIR_KEY) {
            FT_RETURN_IF_FAILED(read_name(&f, &pair->key, err));
        } else if (f.number == PAIR_VALUE) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &pair->value, err));
        }
    }
}

/* The bytes of the last field `number` of a message; *out stays as it is if there is none. */
static enum ft_status find_message(struct ft_bytes message, uint32_t number, struct ft_bytes *out,
                                   bool *found, struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    *found = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == number) {
            *found = true;
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, out, err));
        }
    }
}

/* ---- tensors */

static bool digits(struct ft_bytes text, int64_t *out)
{
    int64_t v = 0;
    for (size_t i = 0; i < text.size; i++) {
        int d = text.data[i] - '0';
        if (d < 0 || d > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v)) {
            return false;
        }
    }
    *out = v;
    return text.size > 0;
}

static enum ft_status read_external(const struct ft_pb_field *f, struct ft_onnx_tensor *t, struct ft_err *err)
{
    struct ft_onnx_pair pair;
    FT_RETURN_IF_FAILED(read_pair(f, &pair, err));
    if (ft_bytes_is(pair.key, "location")) {
        t->location = pair.value;
        return check_name(pair.value, err);
    }
    bool is_offset = ft_bytes_is(pair.key, "offset");
    if ((is_offset || ft_bytes_is(pair.key, "length")) &&
        !digits(pair.value, is_offset ? &t->offset : &t->length)) {
        return FT_FAIL(err, CORRUPT, "external data: %s '%.*s' is not a number",
                       is_offset ? "offset" : "length", ft_bytes_shown(pair.value), pair.value.data);
    }
    return FT_OK;
}

bool ft_onnx_count(int rank, const int64_t *dims, int64_t *count)
{
    int64_t span = 1; /* with 1 for 0, so that no partial product overflows later either */
    *count = 1;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0 || __builtin_mul_overflow(span, dims[i] > 0 ? dims[i] : 1, &span) ||
            (uint64_t)span > FT_MAX_TENSOR_BYTES) {
            *count = 0;
            return false;
        }
        *count *= dims[i];
    }
    return true;
}

static enum ft_status append_dims(const struct ft_pb_field *f, struct ft_onnx_tensor *t, struct ft_err *err)
{
    int64_t *dims = NULL;
    size_t n = 0;
    size_t capacity = 0;
    enum ft_status st = FT_OK;
    FT_TRY(ft_pb_append_int64(f, &dims, &n, &capacity, err));
    for (size_t i = 0; i < n; i++) {
        if (t->rank == FT_MAX_RANK) {
            st = FT_FAIL(err, UNSUPPORTED, "more than %d dimensions", FT_MAX_RANK);
            goto done;
        }
        t->dims[t->rank++] = dims[i];
    }
done:
    ft_free(dims);
    return st;
}

static enum ft_status read_tensor_field(const struct ft_pb_field *f, struct ft_onnx_tensor *t,
                                        struct ft_err *err)
{
    int64_t number = 0;
    switch (f->number) {
    case TENSOR_DIMS:
        return append_dims(f, t, err);
    case TENSOR_TYPE:
        FT_RETURN_IF_FAILED(ft_pb_int64(f, &number, err));
        t->type = number > 0 && number < INT32_MAX ? (int32_t)number : 0;
        return FT_OK;
    case TENSOR_RAW:
        t->has_raw = true;
        return ft_pb_bytes(f, &t->raw, err);
    case TENSOR_EXTERNAL:
        return read_external(f, t, err);
    case TENSOR_LOCATION:
        FT_RETURN_IF_FAILED(ft_pb_int64(f, &number, err));
        t->external = number == 1;
        return FT_OK;
    default:
        return FT_OK;
    }
}

enum ft_status ft_onnx_parse_tensor(struct ft_bytes message, struct ft_onnx_tensor *tensor,
                                    struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    bool named = false;
    *tensor = (struct ft_onnx_tensor){.message = message, .length = -1};
    /* First, though it stands behind the dimensions: what fails should say in which tensor. */
    FT_RETURN_IF_FAILED(find_message(message, TENSOR_NAME, &tensor->name, &named, err));
    FT_RETURN_IF_FAILED(check_name(tensor->name, err));
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            break;
        }
        enum ft_status st = read_tensor_field(&f, tensor, err);
        if (st != FT_OK) {
            return ft_err_wrap(err, "tensor '%.*s'", ft_bytes_shown(tensor->name), tensor->name.data);
        }
    }
    if (!ft_onnx_count(tensor->rank, tensor->dims, &tensor->count)) {
        return FT_FAIL(err, LIMIT, "tensor '%.*s' has a negative dimension or more than %zu elements",
                       ft_bytes_shown(tensor->name), tensor->name.data, FT_MAX_TENSOR_BYTES);
    }
    return FT_OK;
}

/* ---- types of inputs and outputs */

static enum ft_status read_dim(struct ft_bytes message, struct ft_onnx_port *port, struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    int axis = port->rank;
    if (axis == FT_MAX_RANK) {
        return FT_FAIL(err, UNSUPPORTED, "'%.*s' has more than %d dimensions", ft_bytes_shown(port->name),
                       port->name.data, FT_MAX_RANK);
    }
    port->rank++;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == DIM_VALUE) {
            FT_RETURN_IF_FAILED(ft_pb_int64(&f, &port->dims[axis].extent, err));
            /* Old exporters write 0 or -1 for "any". */
            port->dims[axis].known = port->dims[axis].extent > 0;
        } else if (f.number == DIM_PARAM) {
            FT_RETURN_IF_FAILED(read_name(&f, &port->dims[axis].symbol, err));
            port->dims[axis].known = false;
        }
    }
}

static enum ft_status read_shape(struct ft_bytes message, struct ft_onnx_port *port, struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(message);
    struct ft_pb_field f;
    struct ft_bytes dim;
    bool more = false;
    port->has_shape = true;
    port->rank = 0;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == SHAPE_DIM) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &dim, err));
            FT_RETURN_IF_FAILED(read_dim(dim, port, err));
        }
    }
}

static enum ft_status read_tensor_type(struct ft_bytes message, struct ft_onnx_port *port, struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(message);
    struct ft_pb_field f;
    struct ft_bytes shape;
    bool more = false;
    int64_t type = 0;
    port->has_tensor_type = true;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == TENSOR_TYPE_ELEM) {
            FT_RETURN_IF_FAILED(ft_pb_int64(&f, &type, err));
            port->type = type > 0 && type < INT32_MAX ? (int32_t)type : 0;
        } else if (f.number == TENSOR_TYPE_SHAPE) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &shape, err));
            FT_RETURN_IF_FAILED(read_shape(shape, port, err));
        }
    }
}

static enum ft_status read_port(const struct ft_pb_field *field, struct ft_onnx_port *port,
                                struct ft_err *err)
{
    struct ft_bytes message = {0};
    struct ft_bytes type = {0};
    struct ft_bytes tensor = {0};
    bool found = false;
    *port = (struct ft_onnx_port){0};
    FT_RETURN_IF_FAILED(ft_pb_bytes(field, &message, err));
    FT_RETURN_IF_FAILED(find_message(message, VALUE_NAME, &port->name, &found, err));
    FT_RETURN_IF_FAILED(check_name(port->name, err));
    FT_RETURN_IF_FAILED(find_message(message, VALUE_TYPE, &type, &found, err));
    if (found) {
        FT_RETURN_IF_FAILED(find_message(type, TYPE_TENSOR, &tensor, &found, err));
    }
    return found ? read_tensor_type(tensor, port, err) : FT_OK;
}

/* ---- nodes */

static enum ft_status read_node_field(const struct ft_pb_field *f, struct ft_onnx_node *node,
                                      struct ft_err *err)
{
    bool found = false;
    switch (f->number) {
    case NODE_INPUT:
        return read_name(f, &node->in[node->n_in++], err);
    case NODE_OUTPUT:
        return read_name(f, &node->out[node->n_out++], err);
    case NODE_NAME:
        return read_name(f, &node->name, err);
    case NODE_OP:
        return read_name(f, &node->op, err);
    case NODE_DOMAIN:
        return read_name(f, &node->domain, err);
    case NODE_ATTRIBUTE: {
        struct ft_onnx_attr *attr = &node->attrs[node->n_attrs++];
        FT_RETURN_IF_FAILED(ft_pb_bytes(f, &attr->message, err));
        FT_RETURN_IF_FAILED(find_message(attr->message, ATTR_NAME, &attr->name, &found, err));
        return check_name(attr->name, err);
    }
    default:
        return FT_OK;
    }
}

static enum ft_status read_node(const struct ft_pb_field *field, struct ft_arena *arena,
                                struct ft_onnx_node *node, struct ft_err *err)
{
    static const uint32_t numbers[] = {NODE_INPUT, NODE_OUTPUT, NODE_ATTRIBUTE};
    struct ft_bytes message;
    struct ft_pb_field f;
    size_t counts[3];
    bool more = false;
    FT_RETURN_IF_FAILED(ft_pb_bytes(field, &message, err));
    FT_RETURN_IF_FAILED(count_fields(message, numbers, counts, 3, err));
    for (int i = 0; i < 3; i++) {
        if (counts[i] > FT_MAX_NODES) {
            return FT_FAIL(err, LIMIT, "a node has %zu inputs, outputs or attributes", counts[i]);
        }
    }
    FT_RETURN_IF_FAILED(ft_arena_new(arena, counts[0], sizeof *node->in, &node->in, err));
    FT_RETURN_IF_FAILED(ft_arena_new(arena, counts[1], sizeof *node->out, &node->out, err));
    FT_RETURN_IF_FAILED(ft_arena_new(arena, counts[2], sizeof *node->attrs, &node->attrs, err));
    struct ft_pb_cursor c = ft_pb_open(message);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(read_node_field(&f, node, err));
    }
}

/* ---- graph and model */

static enum ft_status read_graph_field(const struct ft_pb_field *f, struct ft_arena *arena,
                                       struct ft_onnx_file *file, struct ft_err *err)
{
    struct ft_bytes message;
    switch (f->number) {
    case GRAPH_NODE:
        if (read_node(f, arena, &file->nodes[file->n_nodes++], err) != FT_OK) {
            return ft_err_wrap(err, "node %d", file->n_nodes - 1);
        }
        return FT_OK;
    case GRAPH_NAME:
        return read_name(f, &file->graph_name, err);
    case GRAPH_INITIALIZER:
        FT_RETURN_IF_FAILED(ft_pb_bytes(f, &message, err));
        return ft_onnx_parse_tensor(message, &file->tensors[file->n_tensors++], err);
    case GRAPH_INPUT:
        return read_port(f, &file->inputs[file->n_inputs++], err);
    case GRAPH_OUTPUT:
        return read_port(f, &file->outputs[file->n_outputs++], err);
    case GRAPH_SPARSE:
        file->sparse = true;
        return FT_OK;
    default:
        return FT_OK;
    }
}

static enum ft_status read_graph(struct ft_bytes message, struct ft_arena *arena, struct ft_onnx_file *file,
                                 struct ft_err *err)
{
    static const uint32_t numbers[] = {GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT};
    size_t counts[4];
    struct ft_pb_field f;
    bool more = false;
    FT_RETURN_IF_FAILED(count_fields(message, numbers, counts, 4, err));
    for (int i = 0; i < 4; i++) {
        if (counts[i] > FT_MAX_NODES) {
            return FT_FAIL(err, LIMIT,
                           "the graph has %zu nodes, initializers, inputs or outputs; %d are the limit",
                           counts[i], FT_MAX_NODES);
        }
    }
    FT_RETURN_IF_FAILED(ft_arena_new(arena, counts[0], sizeof *file->nodes, &file->nodes, err));
    FT_RETURN_IF_FAILED(ft_arena_new(arena, counts[1], sizeof *file->tensors, &file->tensors, err));
    FT_RETURN_IF_FAILED(ft_arena_new(arena, counts[2], sizeof *file->inputs, &file->inputs, err));
    FT_RETURN_IF_FAILED(ft_arena_new(arena, counts[3], sizeof *file->outputs, &file->outputs, err));
    struct ft_pb_cursor c = ft_pb_open(message);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(read_graph_field(&f, arena, file, err));
    }
}

static enum ft_status read_opset(const struct ft_pb_field *field, struct ft_onnx_file *file,
                                 struct ft_err *err)
{
    struct ft_bytes message;
    struct ft_bytes domain = {0};
    struct ft_pb_field f;
    int64_t version = 0;
    bool more = false;
    FT_RETURN_IF_FAILED(ft_pb_bytes(field, &message, err));
    struct ft_pb_cursor c = ft_pb_open(message);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            break;
        }
        if (f.number == OPSET_DOMAIN) {
            FT_RETURN_IF_FAILED(read_name(&f, &domain, err));
        } else if (f.number == OPSET_VERSION) {
            FT_RETURN_IF_FAILED(ft_pb_int64(&f, &version, err));
        }
    }
    if (domain.size == 0 || ft_bytes_is(domain, "ai.onnx")) {
        file->opset = version;
    }
    return FT_OK;
}

static enum ft_status read_model_field(const struct ft_pb_field *f, struct ft_onnx_file *file,
                                       struct ft_bytes *graph, bool *has_graph, struct ft_err *err)
{
    switch (f->number) {
    case MODEL_IR_VERSION:
        return ft_pb_int64(f, &file->ir_version, err);
    case MODEL_PRODUCER:
        return read_name(f, &file->producer, err);
    case MODEL_PRODUCER_VERSION:
        return read_name(f, &file->producer_version, err);
    case MODEL_GRAPH:
        if (*has_graph) {
            return FT_FAIL(err, CORRUPT, "the file holds two graphs");
        }
        *has_graph = true;
        return ft_pb_bytes(f, graph, err);
    case MODEL_OPSET:
        return read_opset(f, file, err);
    case MODEL_METADATA:
        return read_pair(f, &file->metadata[file->n_metadata++], err);
    default:
        return FT_OK;
    }
}

enum ft_status ft_onnx_parse(struct ft_bytes bytes, struct ft_arena *arena, struct ft_onnx_file *file,
                             struct ft_err *err)
{
    static const uint32_t numbers[] = {MODEL_METADATA};
    struct ft_pb_cursor c = ft_pb_open(bytes);
    struct ft_pb_field f;
    struct ft_bytes graph = {0};
    size_t count = 0;
    bool more = false;
    bool has_graph = false;
    *file = (struct ft_onnx_file){0};
    if (bytes.size > FT_MAX_MODEL_BYTES) {
        return FT_FAIL(err, LIMIT, "an ONNX file of %zu bytes; %zu are the limit", bytes.size,
                       FT_MAX_MODEL_BYTES);
    }
    FT_RETURN_IF_FAILED(count_fields(bytes, numbers, &count, 1, err));
    if (count > FT_MAX_NODES) {
        return FT_FAIL(err, LIMIT, "the file has %zu metadata properties; %d are the limit", count,
                       FT_MAX_NODES);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(arena, count, sizeof *file->metadata, &file->metadata, err));
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            break;
        }
        FT_RETURN_IF_FAILED(read_model_field(&f, file, &graph, &has_graph, err));
    }
    if (!has_graph) {
        return FT_FAIL(err, CORRUPT, "no graph inside");
    }
    return read_graph(graph, arena, file, err);
}

enum ft_status ft_onnx_parse_graph(struct ft_bytes message, struct ft_arena *arena, struct ft_onnx_file *file,
                                   struct ft_err *err)
{
    *file = (struct ft_onnx_file){0};
    return read_graph(message, arena, file, err);
}

/* ---- attributes */

const struct ft_onnx_attr *ft_onnx_attr(const struct ft_onnx_node *node, const char *name)
{
    for (int i = 0; i < node->n_attrs; i++) {
        if (ft_bytes_is(node->attrs[i].name, name)) {
            return &node->attrs[i];
        }
    }
    return NULL;
}

/* The last field `number` of the attribute `name`. */
static enum ft_status attr_field(const struct ft_onnx_node *node, const char *name, uint32_t number,
                                 struct ft_pb_field *out, bool *found, struct ft_err *err)
{
    const struct ft_onnx_attr *attr = ft_onnx_attr(node, name);
    struct ft_pb_field f;
    bool more = attr != NULL;
    *found = false;
    if (attr == NULL) {
        return FT_OK;
    }
    struct ft_pb_cursor c = ft_pb_open(attr->message);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == number) {
            *out = f;
            *found = true;
        }
    }
}

enum ft_status ft_onnx_attr_int(const struct ft_onnx_node *node, const char *name, int64_t *out,
                                struct ft_err *err)
{
    struct ft_pb_field f;
    bool found = false;
    FT_RETURN_IF_FAILED(attr_field(node, name, ATTR_I, &f, &found, err));
    if (found) {
        return ft_pb_int64(&f, out, err);
    }
    if (ft_onnx_attr(node, name) != NULL) {
        *out = 0; /* proto3 leaves zeros out */
    }
    return FT_OK;
}

enum ft_status ft_onnx_attr_float(const struct ft_onnx_node *node, const char *name, float *out,
                                  struct ft_err *err)
{
    struct ft_pb_field f;
    bool found = false;
    FT_RETURN_IF_FAILED(attr_field(node, name, ATTR_F, &f, &found, err));
    if (found) {
        return ft_pb_float(&f, out, err);
    }
    if (ft_onnx_attr(node, name) != NULL) {
        *out = 0.0F;
    }
    return FT_OK;
}

enum ft_status ft_onnx_attr_text(const struct ft_onnx_node *node, const char *name, struct ft_bytes *out,
                                 struct ft_err *err)
{
    struct ft_pb_field f;
    bool found = false;
    FT_RETURN_IF_FAILED(attr_field(node, name, ATTR_S, &f, &found, err));
    if (found) {
        return ft_pb_bytes(&f, out, err);
    }
    if (ft_onnx_attr(node, name) != NULL) {
        *out = (struct ft_bytes){0};
    }
    return FT_OK;
}

enum ft_status ft_onnx_attr_graph(const struct ft_onnx_node *node, const char *name, struct ft_bytes *out,
                                  struct ft_err *err)
{
    struct ft_pb_field f;
    bool found = false;
    *out = (struct ft_bytes){0};
    FT_RETURN_IF_FAILED(attr_field(node, name, ATTR_G, &f, &found, err));
    return found ? ft_pb_bytes(&f, out, err) : FT_OK;
}

enum ft_status ft_onnx_attr_tensor(const struct ft_onnx_node *node, const char *name, struct ft_bytes *out,
                                   struct ft_err *err)
{
    struct ft_pb_field f;
    bool found = false;
    *out = (struct ft_bytes){0};
    FT_RETURN_IF_FAILED(attr_field(node, name, ATTR_T, &f, &found, err));
    return found ? ft_pb_bytes(&f, out, err) : FT_OK;
}

/* Walk an attribute's list field, packed or not, into heap arrays; exactly one of ints and floats is given.
 */
static enum ft_status collect(struct ft_bytes message, uint32_t number, int64_t **ints, float **floats,
                              size_t *count, struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(message);
    struct ft_pb_field f;
    size_t capacity = 0;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == number && ints != NULL) {
            FT_RETURN_IF_FAILED(ft_pb_append_int64(&f, ints, count, &capacity, err));
        } else if (f.number == number) {
            FT_RETURN_IF_FAILED(ft_pb_append_float(&f, floats, count, &capacity, err));
        }
    }
}

enum ft_status ft_onnx_attr_ints(const struct ft_onnx_node *node, const char *name, struct ft_arena *arena,
                                 int64_t **out, int *count, struct ft_err *err)
{
    const struct ft_onnx_attr *attr = ft_onnx_attr(node, name);
    int64_t *list = NULL;
    size_t n = 0;
    enum ft_status st = FT_OK;
    *out = NULL;
    *count = -1;
    if (attr == NULL) {
        return FT_OK;
    }
    FT_TRY(collect(attr->message, ATTR_INTS, &list, NULL, &n, err));
    if (n > FT_MAX_NODES) {
        st = FT_FAIL(err, LIMIT, "attribute '%s' lists %zu numbers", name, n);
        goto done;
    }
    FT_TRY(ft_arena_new(arena, n, sizeof *list, out, err));
    if (n > 0) {
        memcpy(*out, list, n * sizeof *list);
    }
    *count = (int)n;
done:
    ft_free(list);
    return st;
}

enum ft_status ft_onnx_attr_floats(const struct ft_onnx_node *node, const char *name, struct ft_arena *arena,
                                   float **out, int *count, struct ft_err *err)
{
    const struct ft_onnx_attr *attr = ft_onnx_attr(node, name);
    float *list = NULL;
    size_t n = 0;
    enum ft_status st = FT_OK;
    *out = NULL;
    *count = -1;
    if (attr == NULL) {
        return FT_OK;
    }
    FT_TRY(collect(attr->message, ATTR_FLOATS, NULL, &list, &n, err));
    if (n > FT_MAX_NODES) {
        st = FT_FAIL(err, LIMIT, "attribute '%s' lists %zu numbers", name, n);
        goto done;
    }
    FT_TRY(ft_arena_new(arena, n, sizeof *list, out, err));
    if (n > 0) {
        memcpy(*out, list, n * sizeof *list);
    }
    *count = (int)n;
done:
    ft_free(list);
    return st;
}
