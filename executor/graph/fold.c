#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/graph/internal.h"

/* A folded result larger than this is not kept, unless it is no larger than what it was made from:
 * broadcasting a number to a whole image would only make the model bigger. */
enum { MOST_BYTES = 1 << 20 };

struct fold {
    struct ft_graph_copier copier;
    struct ft_device *ref;
};

/* ---- evaluation on `ref` */

static struct ft_type ref_type(const struct ft_type *t)
{
    struct ft_type wide = *t;
    wide.dtype = t->dtype == FT_F32 ? FT_F64 : t->dtype;
    return wide;
}

/* The bytes of a constant as `ref` wants them. */
static enum ft_status load(const struct ft_graph *g, ft_value v, void **data, struct ft_err *err)
{
    const struct ft_type *t = ft_graph_type(g, v);
    struct ft_type wide = ref_type(t);
    FT_RETURN_IF_FAILED(ft_new(1, ft_type_bytes(&wide), data, err));
    if (t->dtype != FT_F32) {
        memcpy(*data, ft_graph_data(g, v), ft_type_bytes(t));
        return FT_OK;
    }
    const float *from = ft_graph_data(g, v);
    double *to = *data;
    int64_t count = ft_elements(t);
    for (int64_t i = 0; i < count; i++) {
        to[i] = (double)from[i];
    }
    return FT_OK;
}

/* Round to float in place: element i is read before anything at or after it is written. */
static void narrow(const struct ft_type *t, void *data)
{
    if (t->dtype != FT_F32) {
        return;
    }
    int64_t count = ft_elements(t);
    for (int64_t i = 0; i < count; i++) {
        double wide = 0.0;
        memcpy(&wide, (const char *)data + (size_t)i * sizeof wide, sizeof wide);
        float rounded = (float)wide;
        memcpy((char *)data + (size_t)i * sizeof rounded, &rounded, sizeof rounded);
    }
}

struct evaluation {
    struct ft_type *types; /* inputs, then outputs */
    struct ft_arg *args;   /* the same; data are owned */
    struct ft_kernel *kernel;
    void *scratch;
};

static void evaluation_release(struct evaluation *e, int n)
{
    for (int i = 0; e->args != NULL && i < n; i++) {
        ft_free(e->args[i].data);
    }
    ft_free(e->args);
    ft_free(e->types);
    ft_free(e->scratch);
    ft_kernel_free(e->kernel);
}

static enum ft_status evaluation_init(struct fold *f, const struct ft_node *node, const ft_value *in,
                                      struct evaluation *e, struct ft_err *err)
{
    const struct ft_graph *g = f->copier.to;
    size_t n = (size_t)node->n_in + (size_t)node->n_out;
    size_t scratch = 0;
    FT_RETURN_IF_FAILED(ft_new(n, sizeof *e->types, &e->types, err));
    FT_RETURN_IF_FAILED(ft_new(n, sizeof *e->args, &e->args, err));
    for (int i = 0; i < node->n_in; i++) {
        e->types[i] = ref_type(ft_graph_type(g, in[i]));
        if (!ft_node_shape_only(node->op, i)) {
            FT_RETURN_IF_FAILED(load(g, in[i], &e->args[i].data, err));
        }
    }
    for (int i = 0; i < node->n_out; i++) {
        int k = node->n_in + i;
        e->types[k] = ref_type(ft_graph_type(f->copier.from, node->out[i]));
        FT_RETURN_IF_FAILED(ft_new(1, ft_type_bytes(&e->types[k]), &e->args[k].data, err));
    }
    if (f->ref == NULL) {
        FT_RETURN_IF_FAILED(ft_device_open("ref", 1, &f->ref, err));
    }
    struct ft_call call = {.op = node->op, .n_in = node->n_in, .in = e->types, .out = e->types + node->n_in};
    memcpy(&call.attrs, &node->attrs, sizeof call.attrs);
    FT_RETURN_IF_FAILED(ft_kernel_prepare(f->ref, &call, &e->kernel, &scratch, err));
    return ft_new(1, scratch, &e->scratch, err);
}

/* The node's outputs become constants of the new graph. */
static enum ft_status evaluate(struct fold *f, const struct ft_node *node, const ft_value *in,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct evaluation e = {0};
    struct ft_graph_copier *c = &f->copier;
    FT_TRY(evaluation_init(f, node, in, &e, err));
    FT_TRY(ft_kernel_run(e.kernel, e.args, e.args + node->n_in, e.scratch, err));
    FT_TRY(ft_device_wait(f->ref, err));
    for (int i = 0; i < node->n_out; i++) {
        const struct ft_type *t = ft_graph_type(c->from, node->out[i]);
        narrow(t, e.args[node->n_in + i].data);
        FT_TRY(ft_graph_const(c->to, "", t, e.args[node->n_in + i].data, &c->map[node->out[i]], err));
        FT_TRY(ft_copy_name(c, node->out[i], c->map[node->out[i]], err));
    }
done:
    evaluation_release(&e, node->n_in + node->n_out);
    return st;
}

/* ---- what to do with a node */

/* Reads `in`, the node's inputs as values of the new graph. */
static bool is_constant(const struct fold *f, const struct ft_node *node, const ft_value *in)
{
    const struct ft_graph *g = f->copier.to;
    size_t bytes_in = 0;
    size_t bytes_out = 0;
    bool any = false;
    for (int i = 0; i < node->n_in; i++) {
        if (!ft_type_is_known(ft_graph_type(g, in[i]))) {
            return false;
        }
        if (ft_node_shape_only(node->op, i)) {
            continue;
        }
        if (ft_graph_source(g, in[i]) != FT_FROM_CONST) {
            return false;
        }
        any = true;
        bytes_in += ft_type_bytes(ft_graph_type(g, in[i]));
    }
    for (int i = 0; i < node->n_out; i++) {
        bytes_out += ft_type_bytes(ft_graph_type(f->copier.from, node->out[i]));
    }
    return any && (bytes_out <= MOST_BYTES || bytes_out <= bytes_in);
}

static bool is_identity_perm(const struct ft_node *node, int rank)
{
    for (int i = 0; i < rank; i++) {
        if (node->attrs.perm[i] != i) {
            return false;
        }
    }
    return true;
}

/* Does the node give its first input back, element by element, in the same shape? */
static bool is_identity(const struct ft_graph *from, const struct ft_node *node)
{
    const struct ft_type *x = ft_graph_type(from, node->in[0]);
    bool same = ft_type_same_shape(x, ft_graph_type(from, node->out[0]));
    const struct ft_attrs *a = &node->attrs;
    switch ((int)node->op) {
    case FT_OP_RESHAPE:
    case FT_OP_RESHAPE_LIKE:
    case FT_OP_EXPAND_TO:
    case FT_OP_SUM_TO:
    case FT_OP_SLICE:
    case FT_OP_PAD_LIKE:
        return same;
    case FT_OP_REDUCE_SUM:
    case FT_OP_REDUCE_MEAN:
        return a->axes_count == 0;
    case FT_OP_TRANSPOSE:
        return is_identity_perm(node, x->rank);
    case FT_OP_CONCAT:
        return node->n_in == 1;
    case FT_OP_SCALE:
        return a->alpha == 1.0F && a->beta == 0.0F;
    case FT_OP_CLIP:
        return isinf(a->lo) && a->lo < 0.0F && isinf(a->hi) && a->hi > 0.0F;
    default:
        return false;
    }
}

/* ---- the walk */

static enum ft_status fold_node(struct fold *f, int number, struct ft_err *err)
{
    struct ft_graph_copier *c = &f->copier;
    const struct ft_node *node = ft_graph_node(c->from, number);
    if (is_identity(c->from, node)) {
        c->map[node->out[0]] = c->map[node->in[0]];
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(
        ft_grow(&c->node_in, &c->node_in_capacity, (size_t)node->n_in, sizeof *c->node_in, err));
    for (int i = 0; i < node->n_in; i++) {
        c->node_in[i] = c->map[node->in[i]];
    }
    return is_constant(f, node, c->node_in) ? evaluate(f, node, c->node_in, err)
                                            : ft_copy_node(c, number, err);
}

static enum ft_status fold_values(struct fold *f, struct ft_err *err)
{
    struct ft_graph_copier *c = &f->copier;
    for (size_t i = 0; i < c->from->n_values; i++) {
        ft_value v = (ft_value)i;
        int producer = ft_graph_producer(c->from, v);
        if (c->map[v] != FT_NO_VALUE) {
            continue;
        }
        if (producer < 0) {
            FT_RETURN_IF_FAILED(ft_copy_source(c, v, err));
        } else {
            FT_RETURN_IF_FAILED(fold_node(f, producer, err));
        }
    }
    return FT_OK;
}

/* Constants that nothing reads any more are left out; everything else stays. */
static enum ft_status drop_unread(const struct ft_graph *g, struct ft_graph **out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_graph *to = NULL;
    struct ft_graph_copier c = {0};
    bool *is_output = NULL;
    FT_TRY(ft_graph_new(&to, err));
    FT_TRY(ft_copier_init(&c, g, to, err));
    FT_TRY(ft_new(g->n_values, sizeof *is_output, &is_output, err));
    for (size_t i = 0; i < g->n_outputs; i++) {
        is_output[g->outputs[i].value] = true;
    }
    for (size_t i = 0; i < g->n_values; i++) {
        ft_value v = (ft_value)i;
        const struct ft_graph_value *value = g->values[v];
        if (c.map[v] != FT_NO_VALUE) {
            continue;
        }
        if (value->source == FT_FROM_NODE) {
            FT_TRY(ft_copy_node(&c, value->index, err));
        } else if (value->source != FT_FROM_CONST || value->uses > 0 || is_output[v]) {
            FT_TRY(ft_copy_source(&c, v, err));
        }
    }
    FT_TRY(ft_copy_outputs(&c, err));
    *out = to;
    to = NULL;
done:
    ft_free(is_output);
    ft_copier_release(&c);
    ft_graph_free(to);
    return st;
}

enum ft_status ft_graph_fold(const struct ft_graph *g, struct ft_graph **out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct fold f = {0};
    struct ft_graph *to = NULL;
    *out = NULL;
    FT_TRY(ft_graph_new(&to, err));
    FT_TRY(ft_copier_init(&f.copier, g, to, err));
    FT_TRY(fold_values(&f, err));
    FT_TRY(ft_copy_outputs(&f.copier, err));
    FT_TRY(drop_unread(to, out, err));
done:
    ft_copier_release(&f.copier);
    ft_graph_free(to);
    ft_device_close(f.ref);
    return st;
}
