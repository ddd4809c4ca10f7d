#include "executor/model/import.h"

#include <string.h>

/* Names to slots, which nodes the outputs need, and an order to run them in. Worklists only: a hostile file
 * may be arbitrarily deep. */

static enum ft_status add_slot(struct ft_import *im, struct ft_bytes name, const char *what, int *out,
                               struct ft_err *err)
{
    if (name.size == 0) {
        return FT_FAIL(err, INVALID, "%s has no name", what);
    }
    int slot = ft_model_names_add(&im->names, name);
    if (slot < 0) {
        return FT_FAIL(err, INVALID, "'%.*s' is defined twice", ft_bytes_shown(name), name.data);
    }
    im->slots[slot] = (struct ft_slot){.name = name,
                                       .value = FT_NO_VALUE,
                                       .as_weight = FT_NO_VALUE,
                                       .as_state = FT_NO_VALUE,
                                       .as_const = FT_NO_VALUE,
                                       .producer = -1};
    *out = slot;
    return FT_OK;
}

static enum ft_status add_sources(struct ft_import *im, struct ft_err *err)
{
    const struct ft_onnx_file *file = im->file;
    int slot = 0;
    for (int i = 0; i < file->n_tensors; i++) {
        FT_RETURN_IF_FAILED(add_slot(im, file->tensors[i].name, "an initializer", &slot, err));
        im->slots[slot].kind = FT_SLOT_TENSOR;
        im->slots[slot].tensor = &file->tensors[i];
        im->slots[slot].weight = true;
        im->slots[slot].weight_name = file->tensors[i].name;
    }
    for (int i = 0; i < file->n_inputs; i++) {
        int known = ft_model_names_find(&im->names, file->inputs[i].name);
        if (known >= 0 && im->slots[known].kind == FT_SLOT_TENSOR) {
            continue; /* before IR 4 initializers are listed as inputs; later that means "has a default" */
        }
        FT_RETURN_IF_FAILED(add_slot(im, file->inputs[i].name, "an input", &slot, err));
    }
    return FT_OK;
}

static enum ft_status add_node_outputs(struct ft_import *im, struct ft_err *err)
{
    for (int n = 0; n < im->file->n_nodes; n++) {
        const struct ft_onnx_node *node = &im->file->nodes[n];
        FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)node->n_out, sizeof(int), &im->out[n], err));
        for (int i = 0; i < node->n_out; i++) {
            im->out[n][i] = -1;
            if (node->out[i].size > 0) {
                FT_RETURN_IF_FAILED(add_slot(im, node->out[i], "an output", &im->out[n][i], err));
                im->slots[im->out[n][i]].producer = n;
            }
        }
    }
    return FT_OK;
}

/* What a nested graph reads from outside and does not make itself. */
static enum ft_status add_outer(struct ft_import *im, struct ft_err *err)
{
    for (int i = 0; i < im->n_outer; i++) {
        int slot = 0;
        if (ft_model_names_find(&im->names, im->outer[i]) < 0) {
            FT_RETURN_IF_FAILED(add_slot(im, im->outer[i], "a name from outside", &slot, err));
            im->slots[slot].from_outside = true;
        }
    }
    return FT_OK;
}

static enum ft_status resolve_inputs(struct ft_import *im, struct ft_err *err)
{
    for (int n = 0; n < im->file->n_nodes; n++) {
        const struct ft_onnx_node *node = &im->file->nodes[n];
        FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)node->n_in, sizeof(int), &im->in[n], err));
        for (int i = 0; i < node->n_in; i++) {
            im->in[n][i] = node->in[i].size == 0 ? -1 : ft_model_names_find(&im->names, node->in[i]);
            if (im->in[n][i] < 0 && node->in[i].size > 0) {
                return FT_FAIL(err, INVALID, "%.*s node '%.*s' reads '%.*s', which nothing makes",
                               ft_bytes_shown(node->op), node->op.data, ft_bytes_shown(node->name),
                               node->name.data, ft_bytes_shown(node->in[i]), node->in[i].data);
            }
        }
    }
    return FT_OK;
}

static enum ft_status make_slots(struct ft_import *im, struct ft_err *err)
{
    const struct ft_onnx_file *file = im->file;
    size_t most = (size_t)file->n_tensors + (size_t)file->n_inputs + (size_t)im->n_outer;
    size_t edges = 0;
    for (int n = 0; n < file->n_nodes; n++) {
        most += (size_t)file->nodes[n].n_out;
        edges += (size_t)file->nodes[n].n_in;
    }
    if (most > INT32_MAX / 4 || edges > INT32_MAX / 4) {
        return FT_FAIL(err, LIMIT, "the graph has %zu names and %zu connections", most, edges);
    }
    FT_RETURN_IF_FAILED(ft_model_names_init(&im->names, most, &im->arena, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, most, sizeof *im->slots, &im->slots, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)file->n_nodes, sizeof *im->in, &im->in, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)file->n_nodes, sizeof *im->out, &im->out, err));
    FT_RETURN_IF_FAILED(add_sources(im, err));
    FT_RETURN_IF_FAILED(add_node_outputs(im, err));
    FT_RETURN_IF_FAILED(add_outer(im, err));
    FT_RETURN_IF_FAILED(ft_import_outer_inputs(im, err));
    return resolve_inputs(im, err);
}

/* ---- outputs */

/* Turns scores into labels: no use for embeddings, and integers or maps that no kernel makes. */
static bool makes_labels(const struct ft_onnx_node *node)
{
    return ft_bytes_is(node->op, "ArgMax") || ft_bytes_is(node->op, "ZipMap");
}

/* What a node at the very end hands on of its input `*from`: labels looked up by number, cast, put in shape.
 */
static bool hands_on(const struct ft_onnx_node *node, int *from)
{
    *from = ft_bytes_is(node->op, "ArrayFeatureExtractor") ? 1 : 0;
    return *from == 1 || ft_bytes_is(node->op, "Cast") || ft_bytes_is(node->op, "Reshape") ||
           ft_bytes_is(node->op, "Squeeze") || ft_bytes_is(node->op, "Identity");
}

/* The scores of which labels are made that reach `slot`; -1 if it has none of that. Each step goes to another
 * node's input, at most n_nodes times. */
static int behind_labels(const struct ft_import *im, int slot)
{
    for (int steps = 0; steps < im->file->n_nodes && slot >= 0 && im->slots[slot].producer >= 0; steps++) {
        int n = im->slots[slot].producer;
        const struct ft_onnx_node *node = &im->file->nodes[n];
        int from = 0;
        bool labels = makes_labels(node);
        if ((!labels && !hands_on(node, &from)) || from >= node->n_in) {
            return -1;
        }
        slot = im->in[n][from];
        if (labels) {
            return slot;
        }
    }
    return -1;
}

/* The slot behind labels at the end of the graph. */
static int peel_labels(const struct ft_import *im, int slot)
{
    for (int steps = 0; steps < im->file->n_nodes; steps++) {
        int behind = behind_labels(im, slot);
        if (behind < 0) {
            return slot;
        }
        slot = behind;
    }
    return slot;
}

static enum ft_status find_roots(struct ft_import *im, struct ft_err *err)
{
    const struct ft_onnx_file *file = im->file;
    size_t n = (size_t)file->n_outputs;
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, n, sizeof *im->roots, &im->roots, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, n, sizeof *im->root_names, &im->root_names, err));
    if (file->n_outputs == 0 && im->depth == 0) {
        return FT_FAIL(err, INVALID, "the graph has no outputs");
    }
    for (int i = 0; i < file->n_outputs; i++) {
        struct ft_bytes name = file->outputs[i].name;
        int slot = ft_model_names_find(&im->names, name);
        if (slot < 0) {
            return FT_FAIL(err, INVALID, "output '%.*s' is made by nothing", ft_bytes_shown(name), name.data);
        }
        int peeled = im->depth == 0 ? peel_labels(im, slot) : slot;
        int k = im->depth == 0 ? 0 : im->n_roots; /* every output of a nested graph is one */
        while (k < im->n_roots && (im->roots[k] != peeled || ft_bytes_equal(im->root_names[k], name))) {
            k++;
        }
        if (k < im->n_roots) { /* labels and their scores: the scores' own name wins */
            im->root_names[k] = peeled == slot ? name : im->root_names[k];
            continue;
        }
        im->roots[im->n_roots] = peeled;
        im->root_names[im->n_roots++] = name;
    }
    return FT_OK;
}

/* ---- which nodes, in which order */

static enum ft_status mark_needed(struct ft_import *im, struct ft_err *err)
{
    int *work = NULL;
    int n_work = 0;
    int n_needed = 0;
    size_t n_nodes = (size_t)im->file->n_nodes;
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, n_nodes, sizeof *work, &work, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, n_nodes, sizeof *im->needed, &im->needed, err));
    for (int i = 0; i < im->n_roots; i++) {
        int n = im->slots[im->roots[i]].producer;
        im->slots[im->roots[i]].readers++;
        if (n >= 0 && !im->needed[n]) {
            im->needed[n] = true;
            work[n_work++] = n;
        }
    }
    while (n_work > 0) {
        int n = work[--n_work];
        n_needed++;
        for (int i = 0; i < im->file->nodes[n].n_in; i++) {
            int slot = im->in[n][i];
            if (slot < 0) {
                continue;
            }
            im->slots[slot].readers++;
            int from = im->slots[slot].producer;
            if (from >= 0 && !im->needed[from]) {
                im->needed[from] = true;
                work[n_work++] = from;
            }
        }
    }
    im->n_order = n_needed;
    return ft_arena_new(&im->arena, (size_t)n_needed, sizeof *im->order, &im->order, err);
}

/* Does the file's own order hold, as the format promises? It then fills `order`. */
static enum ft_status try_file_order(struct ft_import *im, bool *holds, struct ft_err *err)
{
    bool *placed = NULL;
    int at = 0;
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)im->file->n_nodes, sizeof *placed, &placed, err));
    *holds = true;
    for (int n = 0; n < im->file->n_nodes; n++) {
        if (!im->needed[n]) {
            continue;
        }
        for (int i = 0; i < im->file->nodes[n].n_in; i++) {
            int from = im->in[n][i] < 0 ? -1 : im->slots[im->in[n][i]].producer;
            if (from >= 0 && !placed[from]) {
                *holds = false;
                return FT_OK;
            }
        }
        placed[n] = true;
        im->order[at++] = n;
    }
    return FT_OK;
}

/* Consumers of each needed node as one array: those of node n are list[first[n] .. first[n + 1]). */
struct edges {
    int *first;
    int *list;
    int *waiting; /* inputs not yet made, by node */
};

static enum ft_status make_edges(struct ft_import *im, struct edges *e, struct ft_err *err)
{
    size_t n_nodes = (size_t)im->file->n_nodes;
    int *fill = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, n_nodes + 1, sizeof *e->first, &e->first, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, n_nodes, sizeof *e->waiting, &e->waiting, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, n_nodes, sizeof *fill, &fill, err));
    for (int pass = 0; pass < 2; pass++) {
        for (int n = 0; n < im->file->n_nodes; n++) {
            for (int i = 0; im->needed[n] && i < im->file->nodes[n].n_in; i++) {
                int from = im->in[n][i] < 0 ? -1 : im->slots[im->in[n][i]].producer;
                if (from < 0) {
                    continue;
                }
                if (pass == 0) {
                    e->first[from + 1]++;
                    e->waiting[n]++;
                } else {
                    e->list[e->first[from] + fill[from]++] = n;
                }
            }
        }
        if (pass == 0) {
            for (size_t n = 0; n < n_nodes; n++) {
                e->first[n + 1] += e->first[n];
            }
            FT_RETURN_IF_FAILED(
                ft_arena_new(&im->arena, (size_t)e->first[n_nodes], sizeof *e->list, &e->list, err));
        }
    }
    return FT_OK;
}

static enum ft_status sort_nodes(struct ft_import *im, struct ft_err *err)
{
    struct edges e;
    int done = 0;
    int ready = 0;
    FT_RETURN_IF_FAILED(make_edges(im, &e, err));
    for (int n = 0; n < im->file->n_nodes; n++) {
        if (im->needed[n] && e.waiting[n] == 0) {
            im->order[ready++] = n;
        }
    }
    while (done < ready) { /* `order` is the queue too */
        int n = im->order[done++];
        for (int k = e.first[n]; k < e.first[n + 1]; k++) {
            if (--e.waiting[e.list[k]] == 0) {
                im->order[ready++] = e.list[k];
            }
        }
    }
    for (int n = 0; done < im->n_order && n < im->file->n_nodes; n++) {
        if (im->needed[n] && e.waiting[n] > 0) {
            const struct ft_onnx_node *node = &im->file->nodes[n];
            return FT_FAIL(err, INVALID, "the graph has a cycle: %.*s node '%.*s' waits for its own result",
                           ft_bytes_shown(node->op), node->op.data, ft_bytes_shown(node->name),
                           node->name.data);
        }
    }
    return FT_OK;
}

enum ft_status ft_import_links(struct ft_import *im, struct ft_err *err)
{
    bool holds = false;
    FT_RETURN_IF_FAILED(make_slots(im, err));
    FT_RETURN_IF_FAILED(find_roots(im, err));
    FT_RETURN_IF_FAILED(mark_needed(im, err));
    FT_RETURN_IF_FAILED(try_file_order(im, &holds, err));
    return holds ? FT_OK : sort_nodes(im, err);
}
