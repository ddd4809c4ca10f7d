#include "executor/model/onnx.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/import.h"

/* From 7 on broadcasting is NumPy's. 23 to 27 changed, of what we read, only narrow floats that we do not. */
enum { OPSET_MIN = 7, OPSET_MAX = 27 };

/* Collects "what (where), ..." of everything unsupported, so that a user sees it all in one run. */
struct complaints {
    char text[FT_ERR_TEXT - 200];
    size_t used;
    int count;
};

static void complain(struct complaints *c, const char *what, struct ft_bytes name)
{
    c->count++;
    if (c->used >= sizeof c->text - 1) {
        return;
    }
    int n = snprintf(c->text + c->used, sizeof c->text - c->used, "%s%s '%.*s'", c->used > 0 ? ", " : "",
                     what, ft_bytes_shown(name), name.data);
    if (n < 0 || (size_t)n >= sizeof c->text - c->used) {
        c->text[c->used] = '\0'; /* whole entries only */
        c->used = sizeof c->text;
        return;
    }
    c->used += (size_t)n;
}

static enum ft_status complaints_status(const struct complaints *c, struct ft_err *err)
{
    if (c->count == 0) {
        return FT_OK;
    }
    return FT_FAIL(err, UNSUPPORTED, "%d unsupported node%s: %s%s", c->count, c->count == 1 ? "" : "s",
                   c->text, c->used >= sizeof c->text ? ", ..." : "");
}

enum ft_status ft_import_check_ops(const struct ft_import *im, struct ft_err *err)
{
    struct complaints c = {{0}, 0, 0};
    for (int k = 0; k < im->n_order; k++) {
        const struct ft_onnx_node *node = &im->file->nodes[im->order[k]];
        char what[128];
        bool ours = node->domain.size == 0 || ft_bytes_is(node->domain, "ai.onnx");
        if (ft_import_find(node) != NULL) {
            continue;
        }
        int domain_size = ours ? 0 : node->domain.size > 40 ? 40 : (int)node->domain.size;
        (void)snprintf(what, sizeof what, "%.*s%s%.*s", domain_size, (const char *)node->domain.data,
                       ours ? "" : "::", node->op.size > 60 ? 60 : (int)node->op.size,
                       (const char *)node->op.data);
        complain(&c, what, node->name.size > 0 || node->n_out == 0 ? node->name : node->out[0]);
    }
    return complaints_status(&c, err);
}

/* ---- inputs */

/* One entry of --input-shape: "height=32", or an extent in order of the axes. */
static bool extent_of(const char *text, size_t size, int64_t *out)
{
    int64_t v = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, text[i] - '0', &v)) {
            return false;
        }
    }
    *out = v;
    return size > 0 && v > 0;
}

/* What the option says about one axis; *extent = 0: nothing, -1: keep it symbolic ("N"). */
static enum ft_status asked_extent(const char *option, int axis, struct ft_bytes symbol, int64_t *extent,
                                   struct ft_err *err)
{
    *extent = 0;
    int position = 0;
    for (const char *p = option; p != NULL && *p != '\0'; position++) {
        size_t size = strcspn(p, ",");
        const char *equals = memchr(p, '=', size);
        size_t key = equals == NULL ? 0 : (size_t)(equals - p);
        const char *value = equals == NULL ? p : equals + 1;
        size_t value_size = equals == NULL ? size : size - key - 1;
        int64_t v = 0;
        bool batch = equals == NULL && size == 1 && (*p == 'N' || *p == '?');
        if (!batch && !extent_of(value, value_size, &v)) {
            return FT_FAIL(err, USAGE,
                           "input shape '%s': '%.*s' is no extent: give N,3,32,32 or height=32,width=32",
                           option, (int)size, p);
        }
        bool here =
            equals == NULL ? position == axis : symbol.size == key && memcmp(symbol.data, p, key) == 0;
        if (here) {
            *extent = batch ? -1 : v;
        }
        p += size + (p[size] == ',');
    }
    return FT_OK;
}

/* Integers are FT_I64 whatever the file has; *narrow remembers what they wrap to. */
static enum ft_status input_dtype(const struct ft_onnx_port *port, enum ft_dtype *out, enum ft_cast *narrow,
                                  struct ft_err *err)
{
    static const struct {
        int type;
        enum ft_dtype dtype;
        enum ft_cast narrow;
    } dtypes[] = {
        {FT_ONNX_FLOAT, FT_F32, 0},
        {FT_ONNX_FLOAT16, FT_F32, 0},
        {FT_ONNX_BFLOAT16, FT_F32, 0},
        {FT_ONNX_DOUBLE, FT_F32, 0},
        {FT_ONNX_BOOL, FT_BOOL, 0},
        {FT_ONNX_INT64, FT_I64, 0},
        {FT_ONNX_UINT64, FT_I64, 0},
        {FT_ONNX_INT32, FT_I64, FT_CAST_I32},
        {FT_ONNX_INT16, FT_I64, FT_CAST_I16},
        {FT_ONNX_INT8, FT_I64, FT_CAST_I8},
        {FT_ONNX_UINT32, FT_I64, FT_CAST_U32},
        {FT_ONNX_UINT16, FT_I64, FT_CAST_U16},
        {FT_ONNX_UINT8, FT_I64, FT_CAST_U8},
    };
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (dtypes[i].type == port->type) {
            *out = dtypes[i].dtype;
            *narrow = dtypes[i].narrow;
            return FT_OK;
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "input '%.*s' has ONNX element type %d", ft_bytes_shown(port->name),
                   port->name.data, (int)port->type);
}

static enum ft_status input_type(const struct ft_import *im, const struct ft_onnx_port *port,
                                 const char *asked, struct ft_type *type, enum ft_cast *narrow,
                                 struct ft_err *err)
{
    if (!port->has_tensor_type || !port->has_shape) {
        return FT_FAIL(err, UNSUPPORTED, "input '%.*s' has no tensor shape", ft_bytes_shown(port->name),
                       port->name.data);
    }
    enum ft_dtype dtype = FT_F32;
    FT_RETURN_IF_FAILED(input_dtype(port, &dtype, narrow, err));
    *type = ft_type_of(dtype, 0, NULL);
    type->rank = port->rank;
    for (int i = 0; i < port->rank; i++) {
        int64_t extent = 0;
        FT_RETURN_IF_FAILED(asked_extent(asked, i, port->dims[i].symbol, &extent, err));
        if (extent == 0 && port->dims[i].known) {
            extent = port->dims[i].extent;
        }
        if (i == 0 && im->fixed_batch > 0 && extent == im->fixed_batch) {
            extent = -1;
        }
        if (extent <= 0 && i == 1 && port->rank == 2 && dtype == FT_I64) { /* token numbers, their mask */
            type->dim[i] = ft_dim_symbol(FT_SYMBOL_LENGTH);
            continue;
        }
        if (extent <= 0 && i > 0) {
            return FT_FAIL(err, UNSUPPORTED,
                           "axis %d of input '%.*s' ('%.*s') is not fixed in the file: give its extent, e.g. "
                           "--input-shape N,3,224,224 or %.*s=224",
                           i, ft_bytes_shown(port->name), port->name.data,
                           ft_bytes_shown(port->dims[i].symbol), port->dims[i].symbol.data,
                           ft_bytes_shown(port->dims[i].symbol), port->dims[i].symbol.data);
        }
        type->dim[i] = extent <= 0 ? ft_dim_symbol(FT_SYMBOL_BATCH) : ft_dim_of(extent);
    }
    return FT_OK;
}

static enum ft_status make_inputs(struct ft_import *im, const char *asked, struct ft_err *err)
{
    for (int i = 0; i < im->file->n_inputs; i++) {
        const struct ft_onnx_port *port = &im->file->inputs[i];
        struct ft_slot *slot = &im->slots[ft_model_names_find(&im->names, port->name)];
        struct ft_type type;
        const char *name = NULL;
        if (slot->tensor != NULL || slot->readers == 0) {
            continue;
        }
        FT_RETURN_IF_FAILED(input_type(im, port, asked, &type, &slot->integer, err));
        FT_RETURN_IF_FAILED(
            ft_arena_text(&im->arena, (const char *)port->name.data, port->name.size, &name, err));
        FT_RETURN_IF_FAILED(ft_graph_input(im->graph, name, &type, &slot->value, err));
        slot->kind = FT_SLOT_GRAPH;
    }
    return FT_OK;
}

/* ---- nodes */

/* Decode what the node reads; *bad when something it reads could not be converted. */
static enum ft_status prepare_inputs(struct ft_at *at, bool *bad, struct ft_err *err)
{
    *bad = false;
    for (int i = 0; i < at->node->n_in; i++) {
        if (!ft_at_has(at, i)) {
            continue;
        }
        struct ft_slot *slot = ft_at_slot(at, i);
        if (slot->kind == FT_SLOT_TENSOR) {
            FT_RETURN_IF_FAILED(ft_host_decode(at->im, slot->tensor, &slot->host, err));
            slot->kind = FT_SLOT_HOST;
        }
        *bad = *bad || slot->kind == FT_SLOT_BAD;
        if (slot->kind == FT_SLOT_UNSET) {
            return FT_FAIL(err, INVALID, "input '%.*s' was not made by the node that lists it",
                           ft_bytes_shown(slot->name), slot->name.data);
        }
    }
    return FT_OK;
}

static void poison(struct ft_at *at)
{
    for (int i = 0; i < at->node->n_out; i++) {
        if (at->im->out[at->index][i] >= 0) {
            at->im->slots[at->im->out[at->index][i]].kind = FT_SLOT_BAD;
        }
    }
}

/* Integers that come out of a node have the type of those that went in, unless it said so itself (Cast). */
static void inherit_integer(struct ft_at *at)
{
    enum ft_cast narrow = 0;
    for (int i = at->node->n_in - 1; i >= 0; i--) {
        if (ft_at_has(at, i) && ft_at_dtype(at, i) == FT_I64) {
            narrow = ft_at_slot(at, i)->integer;
        }
    }
    for (int i = 0; i < at->node->n_out; i++) {
        int number = at->im->out[at->index][i];
        if (number >= 0 && !ft_bytes_is(at->node->op, "Cast") && !ft_bytes_is(at->node->op, "CastLike")) {
            at->im->slots[number].integer = narrow;
        }
    }
}

static enum ft_status run_node(struct ft_at *at, bool *bad, struct ft_err *err)
{
    const struct ft_import_row *row = ft_import_find(at->node);
    FT_RETURN_IF_FAILED(prepare_inputs(at, bad, err));
    if (*bad) {
        return FT_OK;
    }
    for (int i = 0; i < row->inputs; i++) {
        if (!ft_at_has(at, i)) {
            return FT_FAIL(err, INVALID, "input %d is missing", i);
        }
    }
    FT_RETURN_IF_FAILED(row->run(at, row->arg, err));
    inherit_integer(at);
    return FT_OK;
}

enum ft_status ft_import_run(struct ft_import *im, struct ft_err *err)
{
    struct complaints c = {{0}, 0, 0};
    for (int k = 0; k < im->n_order; k++) {
        struct ft_at at = {.im = im,
                           .node = &im->file->nodes[im->order[k]],
                           .index = im->order[k],
                           .opset = im->file->opset};
        struct ft_bytes name =
            at.node->name.size > 0 || at.node->n_out == 0 ? at.node->name : at.node->out[0];
        char what[320];
        bool bad = false;
        enum ft_status st = run_node(&at, &bad, err);
        if (bad || st == FT_UNSUPPORTED) {
            poison(&at);
        }
        if (st == FT_UNSUPPORTED) {
            const char *why = err->text; /* the graph has put the node's name in front */
            size_t n = name.size;
            why += n > 0 && strncmp(why, (const char *)name.data, n) == 0 && why[n] == ':' ? n + 2 : 0;
            (void)snprintf(what, sizeof what, "%.*s (%.240s)", ft_bytes_shown(at.node->op), at.node->op.data,
                           why);
            complain(&c, what, name);
            ft_err_clear(err);
        } else if (st != FT_OK) {
            return ft_err_wrap(err, "%.*s node '%.*s'", ft_bytes_shown(at.node->op), at.node->op.data,
                               ft_bytes_shown(name), name.data);
        }
    }
    return complaints_status(&c, err);
}

static enum ft_status make_outputs(struct ft_import *im, struct ft_err *err)
{
    for (int i = 0; i < im->n_roots; i++) {
        struct ft_slot *slot = &im->slots[im->roots[i]];
        struct ft_bytes name = im->root_names[i];
        const char *text = NULL;
        if (slot->kind == FT_SLOT_HOST) {
            FT_RETURN_IF_FAILED(ft_import_known(im, slot, err));
            slot->value = slot->as_const;
        } else if (slot->kind != FT_SLOT_GRAPH) {
            return FT_FAIL(err, UNSUPPORTED, "output '%.*s' does not depend on the inputs",
                           ft_bytes_shown(name), name.data);
        }
        FT_RETURN_IF_FAILED(ft_arena_text(&im->arena, (const char *)name.data, name.size, &text, err));
        FT_RETURN_IF_FAILED(ft_graph_output(im->graph, slot->value, text, err));
    }
    return FT_OK;
}

/* ---- the batch */

/* The extent all inputs have on axis 0, when all have one and rank 2 or more: an export without dynamic axes.
 */
static int64_t common_batch(const struct ft_import *im, const char *asked)
{
    int64_t common = 0;
    for (int i = 0; i < im->file->n_inputs; i++) {
        const struct ft_onnx_port *port = &im->file->inputs[i];
        const struct ft_slot *slot = &im->slots[ft_model_names_find(&im->names, port->name)];
        if (slot->tensor != NULL || slot->readers == 0) {
            continue;
        }
        if (port->rank < 2 || !port->dims[0].known || (common > 0 && port->dims[0].extent != common)) {
            return 0;
        }
        common = port->dims[0].extent;
    }
    /* "1,3,32,32" asks for a fixed batch. */
    return asked != NULL && asked[0] >= '0' && asked[0] <= '9' && strchr(asked, '=') == NULL ? 0 : common;
}

/* With the batch made symbolic, does each output still look as the file declares, but for axis 0? */
static bool guess_holds(const struct ft_import *im)
{
    for (int i = 0; i < ft_graph_outputs(im->graph); i++) {
        const struct ft_type *t = ft_graph_type(im->graph, ft_graph_output_at(im->graph, i));
        if (t->rank < 1 || !ft_dim_equal(t->dim[0], ft_dim_symbol(FT_SYMBOL_BATCH))) {
            return false;
        }
        for (int k = 1; k < t->rank; k++) {
            if (!ft_dim_is_known(t->dim[k])) {
                return false;
            }
        }
        for (int p = 0; p < im->file->n_outputs; p++) {
            const struct ft_onnx_port *port = &im->file->outputs[p];
            if (!ft_bytes_is(port->name, ft_graph_output_name(im->graph, i)) || !port->has_shape ||
                ft_model_names_find(&im->names, port->name) != im->roots[i]) {
                continue;
            }
            bool same =
                port->rank == t->rank && (!port->dims[0].known || port->dims[0].extent == im->fixed_batch);
            for (int k = 1; same && k < t->rank; k++) {
                same = !port->dims[k].known || port->dims[k].extent == t->dim[k].coef;
            }
            if (!same) {
                return false;
            }
        }
    }
    return true;
}

/* What recognised patterns left behind (the parts of a norm, an unused half) goes. */
static enum ft_status drop_unused(struct ft_import *im, struct ft_err *err)
{
    int n = ft_graph_outputs(im->graph);
    struct ft_graph *clean = NULL;
    ft_value *values = NULL;
    const char **names = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)n, sizeof *values, &values, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)n, sizeof *names, &names, err));
    for (int i = 0; i < n; i++) {
        values[i] = ft_graph_output_at(im->graph, i);
        names[i] = ft_graph_output_name(im->graph, i);
    }
    FT_RETURN_IF_FAILED(ft_graph_extract(im->graph, values, names, n, &clean, err));
    ft_graph_free(im->graph);
    im->graph = clean;
    return FT_OK;
}

static enum ft_status convert(struct ft_import *im, const char *asked, struct ft_err *err)
{
    ft_graph_free(im->graph);
    im->graph = NULL;
    im->rng = FT_NO_VALUE;
    for (size_t i = 0; i < im->names.count; i++) { /* a second attempt starts over */
        struct ft_slot *slot = &im->slots[i];
        if (slot->kind != FT_SLOT_TENSOR && slot->tensor == NULL) {
            slot->kind = FT_SLOT_UNSET;
            slot->weight = false;
        }
        slot->value = slot->as_weight = slot->as_state = slot->as_const = FT_NO_VALUE;
    }
    FT_RETURN_IF_FAILED(ft_graph_new(&im->graph, err));
    FT_RETURN_IF_FAILED(make_inputs(im, asked, err));
    FT_RETURN_IF_FAILED(ft_import_run(im, err));
    FT_RETURN_IF_FAILED(make_outputs(im, err));
    return drop_unused(im, err);
}

static enum ft_status import_graph(struct ft_import *im, const char *asked, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_import_links(im, err));
    FT_RETURN_IF_FAILED(ft_import_check_ops(im, err));
    im->fixed_batch = common_batch(im, asked);
    if (im->fixed_batch > 0) {
        enum ft_status st = convert(im, asked, err);
        if (st == FT_NOMEM || (st == FT_OK && guess_holds(im))) {
            return st;
        }
        ft_err_clear(err);
        im->fixed_batch = 0;
    }
    return convert(im, asked, err);
}

/* ---- the model around the graph */

static enum ft_status check_versions(const struct ft_onnx_file *file, struct ft_err *err)
{
    if (file->opset < OPSET_MIN || file->opset > OPSET_MAX) {
        return FT_FAIL(err, UNSUPPORTED,
                       "ONNX opset %" PRId64 ": %d to %d are read; export with opset_version=17", file->opset,
                       OPSET_MIN, OPSET_MAX);
    }
    if (file->sparse) {
        return FT_FAIL(err, UNSUPPORTED, "sparse initializers are not read");
    }
    return FT_OK;
}

static enum ft_status read_properties(const struct ft_onnx_file *file, struct ft_model *model,
                                      struct ft_err *err)
{
    struct ft_json *meta = NULL;
    enum ft_status st = FT_OK;
    if (file->n_metadata == 0) {
        return FT_OK;
    }
    if ((meta = ft_json_object()) == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for metadata");
    }
    for (int i = 0; i < file->n_metadata; i++) {
        const struct ft_onnx_pair *pair = &file->metadata[i];
        char key[256];
        if (pair->key.size == 0 || pair->key.size >= sizeof key || !ft_utf8_valid(pair->value) ||
            memchr(pair->value.size > 0 ? (const char *)pair->value.data : "", 0, pair->value.size) != NULL) {
            continue; /* free-form notes of other programs: what is not text is nothing to us */
        }
        memcpy(key, pair->key.data, pair->key.size);
        key[pair->key.size] = '\0';
        FT_TRY(ft_json_set(meta, key, ft_json_of_bytes(pair->value), err));
        if (strcmp(key, FT_PROPERTY_PREP) == 0) {
            ft_json_free(model->prep);
            model->prep = NULL;
            FT_TRY(ft_json_parse(pair->value, &model->prep, err));
        }
        model->is_embedding = model->is_embedding || strcmp(key, FT_PROPERTY_EMBEDDING) == 0;
    }
    model->meta = meta;
    meta = NULL;
done:
    ft_json_free(meta);
    return st;
}

static enum ft_status describe(struct ft_import *im, struct ft_model *model, struct ft_err *err)
{
    const struct ft_onnx_file *file = im->file;
    struct ft_buf producer = {0};
    struct ft_bytes name = file->graph_name;
    enum ft_status st = FT_OK;
    FT_TRY(ft_buf_append(&producer, file->producer.data, file->producer.size, err));
    if (file->producer_version.size > 0) {
        FT_TRY(ft_buf_text(&producer, " ", err));
        FT_TRY(ft_buf_append(&producer, file->producer_version.data, file->producer_version.size, err));
    }
    FT_TRY(ft_new_text((const char *)producer.data, &model->producer, err));
    FT_TRY(ft_new(name.size + 1, 1, &model->name, err));
    if (name.size > 0) {
        memcpy(model->name, name.data, name.size);
    }
    FT_TRY(ft_new_text("", &model->source, err));
    FT_TRY(read_properties(file, model, err));
    model->opset = (int)file->opset;
done:
    ft_buf_release(&producer);
    return st;
}

enum ft_status ft_onnx_read(struct ft_bytes bytes, const char *dir, const struct ft_model_options *options,
                            struct ft_model **model, struct ft_err *err)
{
    struct ft_import im;
    struct ft_onnx_file file;
    struct ft_model *m = NULL;
    const char *asked = options == NULL ? NULL : options->input_shape;
    enum ft_status st = FT_OK;
    *model = NULL;
    memset(&im, 0, sizeof im);
    im.file = &file;
    im.dir = dir;
    st = ft_onnx_parse(bytes, &im.arena, &file, err);
    if (st == FT_CORRUPT) { /* protobuf's words alone do not tell a text file from a broken download */
        st = ft_err_wrap(err, "not a whole ONNX model");
    }
    FT_TRY(st);
    FT_TRY(check_versions(&file, err));
    FT_TRY(import_graph(&im, asked, err));
    FT_TRY(ft_new(1, sizeof *m, &m, err));
    FT_TRY(describe(&im, m, err));
    m->graph = im.graph;
    im.graph = NULL;
    *model = m;
    m = NULL;
done:
    ft_model_free(m);
    ft_graph_free(im.graph);
    ft_import_release_externals(&im);
    ft_arena_release(&im.arena);
    return st;
}
