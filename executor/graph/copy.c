#include <assert.h>
#include <string.h>

#include "executor/graph/internal.h"

/* ---- the copier */

enum ft_status ft_copier_init(struct ft_graph_copier *c, const struct ft_graph *from, struct ft_graph *to,
                              struct ft_err *err)
{
    memset(c, 0, sizeof *c);
    c->from = from;
    c->to = to;
    FT_RETURN_IF_FAILED(ft_new(from->n_values, sizeof *c->map, &c->map, err));
    for (size_t i = 0; i < from->n_values; i++) {
        c->map[i] = FT_NO_VALUE;
    }
    return FT_OK;
}

void ft_copier_release(struct ft_graph_copier *c)
{
    ft_free(c->map);
    ft_free(c->node_in);
    c->map = NULL;
    c->node_in = NULL;
}

enum ft_status ft_copy_name(struct ft_graph_copier *c, ft_value v, ft_value out, struct ft_err *err)
{
    const struct ft_graph_value *value = c->from->values[v];
    return value->auto_named ? FT_OK : ft_graph_rename(c->to, out, value->name, err);
}

enum ft_status ft_copy_source(struct ft_graph_copier *c, ft_value v, struct ft_err *err)
{
    const struct ft_graph_value *value = c->from->values[v];
    ft_value out = FT_NO_VALUE;
    assert(value->source != FT_FROM_NODE);
    FT_RETURN_IF_FAILED(
        ft_graph_source_shared(c->to, value->auto_named ? "" : value->name, value, &out, err));
    if (value->source == FT_FROM_PARAM) {
        struct ft_graph_param *param = &c->to->params[c->to->values[out]->index];
        param->role = c->from->params[value->index].role;
        param->frozen = c->from->params[value->index].frozen;
    }
    c->map[v] = out;
    return FT_OK;
}

enum ft_status ft_copy_node(struct ft_graph_copier *c, int number, struct ft_err *err)
{
    const struct ft_node *node = c->from->nodes[number];
    ft_value out[FT_MAX_OUTPUTS];
    FT_RETURN_IF_FAILED(
        ft_grow(&c->node_in, &c->node_in_capacity, (size_t)node->n_in, sizeof *c->node_in, err));
    for (int i = 0; i < node->n_in; i++) {
        c->node_in[i] = c->map[node->in[i]];
        assert(c->node_in[i] != FT_NO_VALUE);
    }
    FT_RETURN_IF_FAILED(
        ft_graph_add(c->to, node->op, &node->attrs, c->node_in, node->n_in, node->origin, out, err));
    for (int i = 0; i < node->n_out; i++) {
        c->map[node->out[i]] = out[i];
        FT_RETURN_IF_FAILED(ft_copy_name(c, node->out[i], out[i], err));
    }
    return FT_OK;
}

enum ft_status ft_copy_outputs(struct ft_graph_copier *c, struct ft_err *err)
{
    for (size_t i = 0; i < c->from->n_outputs; i++) {
        const struct ft_graph_output *output = &c->from->outputs[i];
        FT_RETURN_IF_FAILED(ft_graph_output(c->to, c->map[output->value], output->name, err));
    }
    return FT_OK;
}

/* All values marked in `keep` (NULL: all of them), in their order, so that what stays stays in order. */
static enum ft_status copy_values(struct ft_graph_copier *c, const bool *keep, struct ft_err *err)
{
    for (size_t i = 0; i < c->from->n_values; i++) {
        ft_value v = (ft_value)i;
        if (c->map[v] != FT_NO_VALUE || (keep != NULL && !keep[v])) {
            continue;
        }
        if (c->from->values[v]->source == FT_FROM_NODE) {
            FT_RETURN_IF_FAILED(ft_copy_node(c, c->from->values[v]->index, err));
        } else {
            FT_RETURN_IF_FAILED(ft_copy_source(c, v, err));
        }
    }
    return FT_OK;
}

/* ---- whole graphs */

enum ft_status ft_graph_copy(const struct ft_graph *graph, struct ft_graph **copy, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_graph *to = NULL;
    struct ft_graph_copier c = {0};
    *copy = NULL;
    FT_TRY(ft_graph_new(&to, err));
    FT_TRY(ft_copier_init(&c, graph, to, err));
    FT_TRY(copy_values(&c, NULL, err));
    FT_TRY(ft_copy_outputs(&c, err));
    *copy = to;
    to = NULL;
done:
    ft_copier_release(&c);
    ft_graph_free(to);
    return st;
}

/* Nodes stand in topological order, so one walk from the end is enough. */
void ft_mark_needed(const struct ft_graph *g, bool *keep)
{
    for (size_t n = g->n_nodes; n-- > 0;) {
        const struct ft_node *node = g->nodes[n];
        bool needed = false;
        for (int i = 0; i < node->n_out; i++) {
            needed = needed || keep[node->out[i]];
        }
        for (int i = 0; needed && i < node->n_out; i++) {
            keep[node->out[i]] = true;
        }
        for (int i = 0; needed && i < node->n_in; i++) {
            keep[node->in[i]] = true;
        }
    }
}

enum ft_status ft_graph_extract(const struct ft_graph *g, const ft_value *outputs, const char *const *names,
                                int n_outputs, struct ft_graph **out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_graph *to = NULL;
    struct ft_graph_copier c = {0};
    bool *keep = NULL;
    *out = NULL;
    for (int i = 0; i < n_outputs; i++) {
        assert(outputs[i] >= 0 && (size_t)outputs[i] < g->n_values);
    }
    FT_TRY(ft_new(g->n_values, sizeof *keep, &keep, err));
    for (int i = 0; i < n_outputs; i++) {
        keep[outputs[i]] = true;
    }
    ft_mark_needed(g, keep);
    FT_TRY(ft_graph_new(&to, err));
    FT_TRY(ft_copier_init(&c, g, to, err));
    FT_TRY(copy_values(&c, keep, err));
    for (int i = 0; i < n_outputs; i++) {
        FT_TRY(ft_graph_output(to, c.map[outputs[i]], names == NULL ? "" : names[i], err));
    }
    *out = to;
    to = NULL;
done:
    ft_free(keep);
    ft_copier_release(&c);
    ft_graph_free(to);
    return st;
}
