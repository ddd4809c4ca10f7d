#include <string.h>

#include "executor/model/import.h"

/*
 * If and Loop, where they fold: a known condition takes its branch, a known number of trips is unrolled. A
 * nested graph is an import of its own into the same graph; what it reads from outside are further inputs of
 * the node that holds it, so order and need come out right without looking inside again.
 */

enum { MOST_GRAPHS = 256, MOST_DEPTH = 8, MOST_TRIPS = 1024, MOST_NODES = 1 << 18 };

static bool holds_graphs(const struct ft_onnx_node *node)
{
    return ft_bytes_is(node->op, "If") || ft_bytes_is(node->op, "Loop");
}

/* ---- names from outside */

/* Graphs still to be looked into. */
struct graph_list {
    struct ft_bytes list[MOST_GRAPHS];
    int count;
};

static enum ft_status push_graphs(const struct ft_onnx_node *node, struct graph_list *work,
                                  struct ft_err *err)
{
    static const char *const names[] = {"then_branch", "else_branch", "body"};
    for (size_t i = 0; holds_graphs(node) && i < sizeof names / sizeof names[0]; i++) {
        struct ft_bytes message = {0};
        FT_RETURN_IF_FAILED(ft_onnx_attr_graph(node, names[i], &message, err));
        if (message.data == NULL) {
            continue;
        }
        if (work->count == MOST_GRAPHS) {
            return FT_FAIL(err, LIMIT, "more than %d graphs inside one node", MOST_GRAPHS);
        }
        work->list[work->count++] = message;
    }
    return FT_OK;
}

static void add_names(const struct ft_import *im, const struct ft_bytes *list, int count,
                      struct ft_names *seen)
{
    for (int i = 0; i < count; i++) {
        if (list[i].size > 0 && ft_model_names_find(&im->names, list[i]) >= 0) {
            (void)ft_model_names_add(seen, list[i]);
        }
    }
}

/* Names of ours that anything inside the node reads: inputs of nodes and outputs of graphs. */
static enum ft_status outer_names(struct ft_import *im, const struct ft_onnx_node *node,
                                  struct ft_names *seen, struct ft_err *err)
{
    struct graph_list *work = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, 1, sizeof *work, &work, err));
    FT_RETURN_IF_FAILED(ft_model_names_init(seen, im->names.count, &im->arena, err));
    FT_RETURN_IF_FAILED(push_graphs(node, work, err));
    for (int i = 0; i < work->count; i++) {
        struct ft_onnx_file inner;
        FT_RETURN_IF_FAILED(ft_onnx_parse_graph(work->list[i], &im->arena, &inner, err));
        for (int n = 0; n < inner.n_nodes; n++) {
            add_names(im, inner.nodes[n].in, inner.nodes[n].n_in, seen);
            FT_RETURN_IF_FAILED(push_graphs(&inner.nodes[n], work, err));
        }
        for (int k = 0; k < inner.n_outputs; k++) {
            add_names(im, &inner.outputs[k].name, 1, seen);
        }
    }
    return FT_OK;
}

enum ft_status ft_import_outer_inputs(struct ft_import *im, struct ft_err *err)
{
    for (int n = 0; n < im->file->n_nodes; n++) {
        struct ft_onnx_node *node = &im->file->nodes[n];
        struct ft_names seen;
        struct ft_bytes *in = NULL;
        if (!holds_graphs(node) || node->looked_into) {
            continue; /* a body that runs again has the same names around it */
        }
        FT_RETURN_IF_FAILED(outer_names(im, node, &seen, err));
        size_t all = (size_t)node->n_in + seen.count;
        FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, all, sizeof *in, &in, err));
        for (int i = 0; i < node->n_in; i++) {
            in[i] = node->in[i];
        }
        for (size_t i = 0; i < seen.count; i++) {
            in[(size_t)node->n_in + i] = seen.keys[i];
        }
        node->in = in;
        node->n_in = (int)all;
        node->n_outer = (int)seen.count;
        node->looked_into = true;
    }
    return FT_OK;
}

/* ---- running a nested graph */

/* What a slot holds, under another name. */
static void take(struct ft_slot *to, const struct ft_slot *from)
{
    to->kind = from->kind;
    to->host = from->host;
    to->weight = from->weight;
    to->weight_name = from->weight_name;
    to->value = from->value;
    to->as_weight = from->as_weight;
    to->as_state = from->as_state;
    to->as_const = from->as_const;
    to->integer = from->integer;
}

/* Parameters made inside are the outer slot's too: a weight read twice stays one. */
static void give_back(struct ft_slot *to, const struct ft_slot *from)
{
    to->as_weight = from->as_weight;
    to->as_state = from->as_state;
    to->as_const = from->as_const;
}

static struct ft_slot *slot_of(struct ft_import *im, struct ft_bytes name)
{
    int slot = ft_model_names_find(&im->names, name);
    return slot < 0 ? NULL : &im->slots[slot];
}

struct nested {
    struct ft_onnx_file file;
    const struct ft_slot *args; /* of the graph's declared inputs */
    struct ft_slot *results;    /* of its outputs */
};

static enum ft_status run_inside(struct ft_at *at, struct nested *n, struct ft_import *sub,
                                 struct ft_err *err)
{
    const struct ft_bytes *outer = at->node->in + (at->node->n_in - at->node->n_outer);
    int64_t cost = (int64_t)n->file.n_nodes + n->file.n_tensors + n->file.n_inputs + sub->n_outer + 1;
    if (cost > MOST_NODES - sub->nested_nodes) {
        return FT_FAIL(err, LIMIT, "more than %d nodes in branches and unrolled loops", MOST_NODES);
    }
    sub->nested_nodes += (int)cost;
    FT_RETURN_IF_FAILED(ft_import_links(sub, err));
    FT_RETURN_IF_FAILED(ft_import_check_ops(sub, err));
    for (int i = 0; i < n->file.n_inputs; i++) {
        struct ft_slot *slot = slot_of(sub, n->file.inputs[i].name);
        if (slot->tensor == NULL) {
            take(slot, &n->args[i]);
        }
    }
    for (int i = 0; i < sub->n_outer; i++) {
        struct ft_slot *slot = slot_of(sub, outer[i]);
        if (slot->from_outside) {
            take(slot, slot_of(at->im, outer[i]));
        }
    }
    FT_RETURN_IF_FAILED(ft_import_run(sub, err));
    for (int i = 0; i < sub->n_outer; i++) {
        struct ft_slot *slot = slot_of(sub, outer[i]);
        if (slot->from_outside) {
            give_back(slot_of(at->im, outer[i]), slot);
        }
    }
    for (int i = 0; i < n->file.n_outputs; i++) {
        struct ft_slot *slot = &sub->slots[sub->roots[i]];
        if (slot->kind == FT_SLOT_TENSOR) { /* an initializer straight to an output */
            FT_RETURN_IF_FAILED(ft_host_decode(sub, slot->tensor, &slot->host, err));
            slot->kind = FT_SLOT_HOST;
        }
        n->results[i] = *slot;
    }
    return FT_OK;
}

/* Arena, mapped files and graph are lent to the inner import. */
static enum ft_status run_nested(struct ft_at *at, struct nested *n, struct ft_err *err)
{
    struct ft_import *im = at->im;
    struct ft_import sub;
    if (im->depth == MOST_DEPTH) {
        return FT_FAIL(err, LIMIT, "graphs nested more than %d deep", MOST_DEPTH);
    }
    n->file.opset = at->opset;
    memset(&sub, 0, sizeof sub);
    sub.arena = im->arena;
    sub.file = &n->file;
    sub.dir = im->dir;
    sub.externals = im->externals;
    sub.graph = im->graph;
    sub.rng = im->rng;
    sub.filled = im->filled;
    sub.fixed_batch = im->fixed_batch;
    sub.depth = im->depth + 1;
    sub.nested_nodes = im->nested_nodes;
    sub.outer = at->node->in + (at->node->n_in - at->node->n_outer);
    sub.n_outer = at->node->n_outer;
    enum ft_status st = run_inside(at, n, &sub, err);
    im->arena = sub.arena;
    im->externals = sub.externals;
    im->rng = sub.rng;
    im->filled = sub.filled;
    im->nested_nodes = sub.nested_nodes;
    return st;
}

static enum ft_status open_nested(struct ft_at *at, const char *name, struct nested *n, struct ft_err *err)
{
    struct ft_bytes message = {0};
    memset(n, 0, sizeof *n);
    FT_RETURN_IF_FAILED(ft_onnx_attr_graph(at->node, name, &message, err));
    if (message.data == NULL) {
        return FT_FAIL(err, INVALID, "its %s is missing", name);
    }
    FT_RETURN_IF_FAILED(ft_onnx_parse_graph(message, &at->im->arena, &n->file, err));
    return ft_arena_new(&at->im->arena, (size_t)n->file.n_outputs, sizeof *n->results, &n->results, err);
}

/* Output i of the node is what `from` holds. */
static enum ft_status set_output(struct ft_at *at, int i, const struct ft_slot *from, struct ft_err *err)
{
    int number = i < at->node->n_out ? at->im->out[at->index][i] : -1;
    if (number < 0) {
        return FT_OK;
    }
    if (from->kind == FT_SLOT_GRAPH) {
        at->im->slots[number].integer = from->integer;
        return ft_at_set(at, i, from->value, err);
    }
    struct ft_slot *slot = &at->im->slots[number];
    take(slot, from);
    return FT_OK;
}

/* ---- If */

/* A known boolean; *known = false when it depends on the input. */
static void known_truth(const struct ft_slot *slot, bool *known, bool *truth)
{
    *known = slot->kind == FT_SLOT_HOST && ft_host_is_int(slot->host) && slot->host->count == 1 &&
             ft_dim_is_known(slot->host->ints[0]);
    *truth = *known && slot->host->ints[0].coef != 0;
}

enum ft_status ft_import_if(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct nested n;
    bool known = false;
    bool truth = false;
    known_truth(ft_at_slot(at, 0), &known, &truth);
    if (!known) {
        return ft_at_unsupported(at, err, "a condition that depends on the input");
    }
    FT_RETURN_IF_FAILED(open_nested(at, truth ? "then_branch" : "else_branch", &n, err));
    if (n.file.n_inputs != 0 || n.file.n_outputs != at->node->n_out) {
        return FT_FAIL(err, INVALID, "a branch has %d inputs and %d outputs", n.file.n_inputs,
                       n.file.n_outputs);
    }
    FT_RETURN_IF_FAILED(run_nested(at, &n, err));
    for (int i = 0; i < at->node->n_out; i++) {
        FT_RETURN_IF_FAILED(set_output(at, i, &n.results[i], err));
    }
    return FT_OK;
}

/* ---- Loop */

struct loop {
    struct nested body;
    int carried, scans;    /* values from trip to trip; values kept of each */
    int64_t trips;         /* at most */
    struct ft_slot *state; /* trip number, condition, carried values */
    struct ft_slot *kept;  /* (trips, scans) */
};

static enum ft_status read_loop(struct ft_at *at, struct loop *l, struct ft_err *err)
{
    memset(l, 0, sizeof *l);
    int given = at->node->n_in - at->node->n_outer;
    const struct ft_host *most = ft_at_host(at, 0);
    FT_RETURN_IF_FAILED(open_nested(at, "body", &l->body, err));
    l->carried = l->body.file.n_inputs - 2;
    l->scans = l->body.file.n_outputs - 1 - l->carried;
    if (l->carried < 0 || l->scans < 0 || given - 2 != l->carried ||
        at->node->n_out > l->carried + l->scans) {
        return FT_FAIL(err, INVALID, "its body has %d inputs and %d outputs", l->body.file.n_inputs,
                       l->body.file.n_outputs);
    }
    l->trips = MOST_TRIPS + 1;
    if (ft_at_has(at, 0)) {
        if (most == NULL || !ft_host_is_int(most) || most->count != 1 || !ft_dim_is_known(most->ints[0])) {
            return ft_at_unsupported(at, err, "a number of trips that depends on the input");
        }
        l->trips = most->ints[0].coef;
    }
    int64_t kept = l->trips > MOST_TRIPS ? MOST_TRIPS : l->trips < 0 ? 0 : l->trips;
    FT_RETURN_IF_FAILED(
        ft_arena_new(&at->im->arena, (size_t)(l->carried + 2), sizeof *l->state, &l->state, err));
    FT_RETURN_IF_FAILED(
        ft_arena_new(&at->im->arena, (size_t)(kept * l->scans), sizeof *l->kept, &l->kept, err));
    for (int i = 0; i < l->carried; i++) {
        if (!ft_at_has(at, i + 2)) {
            return FT_FAIL(err, INVALID, "input %d is missing", i + 2);
        }
        take(&l->state[i + 2], ft_at_slot(at, i + 2));
    }
    l->body.args = l->state;
    return FT_OK;
}

static enum ft_status host_scalar(struct ft_at *at, enum ft_dtype dtype, int64_t value, struct ft_slot *slot,
                                  struct ft_err *err)
{
    struct ft_host *h = NULL;
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, dtype, 0, NULL, &h, NULL, err));
    h->ints[0] = ft_dim_of(value);
    *slot = (struct ft_slot){.kind = FT_SLOT_HOST,
                             .host = h,
                             .value = FT_NO_VALUE,
                             .as_weight = FT_NO_VALUE,
                             .as_state = FT_NO_VALUE,
                             .as_const = FT_NO_VALUE};
    return FT_OK;
}

static enum ft_status one_trip(struct ft_at *at, struct loop *l, int64_t trip, bool *more, struct ft_err *err)
{
    bool known = false;
    FT_RETURN_IF_FAILED(host_scalar(at, FT_I64, trip, &l->state[0], err));
    FT_RETURN_IF_FAILED(host_scalar(at, FT_BOOL, 1, &l->state[1], err));
    FT_RETURN_IF_FAILED(run_nested(at, &l->body, err));
    known_truth(&l->body.results[0], &known, more);
    if (!known) {
        return ft_at_unsupported(at, err, "a condition that depends on the input");
    }
    for (int i = 0; i < l->carried; i++) {
        take(&l->state[i + 2], &l->body.results[i + 1]);
    }
    for (int i = 0; i < l->scans; i++) {
        take(&l->kept[trip * l->scans + i], &l->body.results[1 + l->carried + i]);
    }
    return FT_OK;
}

/* A slot's content as a value of the graph. */
static enum ft_status value_of(struct ft_at *at, const struct ft_slot *slot, ft_value *out,
                               struct ft_err *err)
{
    struct ft_type type = ft_type_of(FT_F32, 0, NULL);
    *out = slot->value;
    if (slot->kind == FT_SLOT_GRAPH) {
        return FT_OK;
    }
    if (ft_host_is_int(slot->host)) {
        return ft_at_unsupported(at, err, "known integers are kept of each trip");
    }
    type.rank = slot->host->rank;
    for (int i = 0; i < type.rank; i++) {
        type.dim[i] = ft_dim_of(slot->host->dims[i]);
    }
    return ft_graph_const(at->im->graph, "", &type, slot->host->floats, out, err);
}

/* All that was kept is known: so is the stack. *out = NULL where it is not. */
static enum ft_status stack_known(struct ft_at *at, const struct loop *l, int scan, int64_t trips,
                                  struct ft_host **out, struct ft_err *err)
{
    int64_t dims[FT_MAX_RANK + 1] = {trips};
    float *floats = NULL;
    const struct ft_host *first = trips > 0 ? l->kept[scan].host : NULL;
    *out = NULL;
    for (int64_t t = 0; t < trips; t++) {
        const struct ft_slot *slot = &l->kept[t * l->scans + scan];
        if (slot->kind != FT_SLOT_HOST || slot->host->dtype != first->dtype ||
            slot->host->rank != first->rank ||
            memcmp(slot->host->dims, first->dims, (size_t)first->rank * sizeof *dims) != 0) {
            return FT_OK;
        }
    }
    if (first == NULL) {
        return FT_OK;
    }
    memcpy(dims + 1, first->dims, sizeof first->dims);
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, first->dtype, first->rank + 1, dims, out, &floats, err));
    for (int64_t i = 0; i < (*out)->count; i++) {
        const struct ft_host *from = l->kept[i / first->count * l->scans + scan].host;
        if (ft_host_is_int(first)) {
            (*out)->ints[i] = from->ints[i % first->count];
        } else {
            floats[i] = ft_host_float(from, i % first->count);
        }
    }
    return FT_OK;
}

/* What was kept of each trip, along a new first axis. */
static enum ft_status stack(struct ft_at *at, const struct loop *l, int scan, int64_t trips, ft_value *out,
                            struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value *in = NULL;
    if (trips < 1) {
        return ft_at_unsupported(at, err, "an empty tensor: no trip is made");
    }
    if (trips > ft_op_info(FT_OP_CONCAT)->inputs_max) {
        return ft_at_unsupported(at, err, "too many trips whose results are kept");
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)trips, sizeof *in, &in, err));
    for (int64_t t = 0; t < trips; t++) {
        struct ft_dim dims[FT_MAX_RANK + 1] = {ft_dim_of(1)};
        FT_RETURN_IF_FAILED(value_of(at, &l->kept[t * l->scans + scan], &in[t], err));
        const struct ft_type *type = ft_at_type(at, in[t]);
        memcpy(dims + 1, type->dim, sizeof type->dim);
        FT_RETURN_IF_FAILED(ft_at_reshape(at, in[t], dims, type->rank + 1, &in[t], err));
    }
    memset(&attrs, 0, sizeof attrs);
    *out = in[0];
    return trips == 1 ? FT_OK : ft_at_add(at, FT_OP_CONCAT, &attrs, in, (int)trips, out, err);
}

enum ft_status ft_import_loop(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct loop l;
    bool known = true;
    bool more = true;
    int64_t trip = 0;
    FT_RETURN_IF_FAILED(read_loop(at, &l, err));
    if (ft_at_has(at, 1)) {
        known_truth(ft_at_slot(at, 1), &known, &more);
    }
    if (!known) {
        return ft_at_unsupported(at, err, "a condition that depends on the input");
    }
    if (l.trips > 1 && l.body.file.n_tensors > 0) {
        return ft_at_unsupported(at, err, "weights inside a body that runs several times");
    }
    for (; more && trip < l.trips; trip++) {
        if (trip == MOST_TRIPS) {
            return FT_FAIL(err, LIMIT, "a loop of more than %d trips", MOST_TRIPS);
        }
        FT_RETURN_IF_FAILED(one_trip(at, &l, trip, &more, err));
    }
    for (int i = 0; i < l.carried; i++) {
        FT_RETURN_IF_FAILED(set_output(at, i, &l.state[i + 2], err));
    }
    for (int i = 0; i < l.scans; i++) {
        ft_value y = FT_NO_VALUE;
        struct ft_host *known_stack = NULL;
        FT_RETURN_IF_FAILED(stack_known(at, &l, i, trip, &known_stack, err));
        if (known_stack != NULL) {
            ft_at_set_host(at, l.carried + i, known_stack);
        } else if (ft_at_wants(at, l.carried + i)) {
            FT_RETURN_IF_FAILED(stack(at, &l, i, trip, &y, err));
            FT_RETURN_IF_FAILED(ft_at_set(at, l.carried + i, y, err));
        }
    }
    return FT_OK;
}
