#include <string.h>

#include "executor/graph/internal.h"

/* The values that state parameters have after the nodes copied so far; FT_NO_VALUE: the parameter itself. A
 * layer that is applied twice moves its statistics twice, as it does in PyTorch. */
struct train_form {
    struct ft_graph_copier copier;
    ft_value *moved; /* by parameter number */
    double dropout;  /* at all marks; below 0: as each says */
    ft_value rng;    /* FT_NO_VALUE: nothing drops */
    int64_t next;    /* number of a node that drops */
};

static bool trains(const struct ft_graph *g, ft_value v)
{
    int param = ft_graph_param_of(g, v);
    return param >= 0 && !ft_graph_param_frozen(g, param);
}

static int state_of(const struct ft_graph *g, ft_value v)
{
    int param = ft_graph_param_of(g, v);
    return param >= 0 && ft_graph_param_role(g, param) == FT_PARAM_STATE ? param : -1;
}

static enum ft_status train_batchnorm(struct train_form *f, const struct ft_node *node, struct ft_err *err)
{
    enum { SCALE_IN = 1, BIAS_IN = 2, MEAN_IN = 3, VAR_IN = 4, NEW_MEAN = 3, NEW_VAR = 4 };
    struct ft_graph_copier *c = &f->copier;
    int mean = state_of(c->from, node->in[MEAN_IN]);
    int var = state_of(c->from, node->in[VAR_IN]);
    char text[FT_NODE_TEXT];
    if (mean < 0 || var < 0 || mean == var) {
        return FT_FAIL(err, UNSUPPORTED,
                       "%s cannot be trained: its mean and variance are not state parameters",
                       ft_node_text(node, text));
    }
    ft_value in[5];
    ft_value out[FT_MAX_OUTPUTS];
    for (int i = 0; i < 5; i++) {
        in[i] = c->map[node->in[i]];
    }
    in[MEAN_IN] = f->moved[mean] == FT_NO_VALUE ? in[MEAN_IN] : f->moved[mean];
    in[VAR_IN] = f->moved[var] == FT_NO_VALUE ? in[VAR_IN] : f->moved[var];
    FT_RETURN_IF_FAILED(
        ft_graph_add(c->to, FT_OP_BATCHNORM_TRAIN, &node->attrs, in, node->n_in, node->origin, out, err));
    c->map[node->out[0]] = out[0];
    f->moved[mean] = out[NEW_MEAN];
    f->moved[var] = out[NEW_VAR];
    return ft_copy_name(c, node->out[0], out[0], err);
}

/* ---- dropout */

static double probability_of(const struct train_form *f, const struct ft_node *node)
{
    double marked = f->dropout < 0 ? (double)node->attrs.dropout : f->dropout;
    return node->attrs.drops != 0 ? marked : 0;
}

/* Random numbers, if anything drops, and the first number for a node that no DROPOUT of the graph has. */
static enum ft_status prepare_dropout(struct train_form *f, struct ft_err *err)
{
    const struct ft_graph *g = f->copier.from;
    const int64_t two = 2;
    struct ft_type type = ft_type_of(FT_I64, 1, &two);
    ft_value there = ft_graph_find(g, "rng");
    bool any = false;
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        const struct ft_node *node = ft_graph_node(g, n);
        any = any || probability_of(f, node) > 0;
        if (node->op == FT_OP_DROPOUT && node->attrs.node >= f->next) {
            f->next = node->attrs.node + 1;
        }
    }
    f->rng = FT_NO_VALUE;
    if (!any) {
        return FT_OK;
    }
    if (there == FT_NO_VALUE || ft_graph_source(g, there) != FT_FROM_INPUT) {
        return ft_graph_input(f->copier.to, "rng", &type, &f->rng, err);
    }
    FT_RETURN_IF_FAILED(ft_copy_source(&f->copier, there, err));
    f->rng = f->copier.map[there];
    return FT_OK;
}

static enum ft_status drop_weights(struct train_form *f, const struct ft_node *node, double p,
                                   struct ft_err *err)
{
    struct ft_graph_copier *c = &f->copier;
    struct ft_attrs attrs = node->attrs;
    ft_value in[6];
    ft_value out[FT_MAX_OUTPUTS];
    attrs.dropout = (float)p;
    attrs.node = f->next++;
    for (int i = 0; i < node->n_in; i++) {
        in[i] = c->map[node->in[i]];
    }
    in[node->n_in] = f->rng;
    FT_RETURN_IF_FAILED(ft_graph_add(c->to, node->op, &attrs, in, node->n_in + 1, node->origin, out, err));
    for (int i = 0; i < node->n_out; i++) {
        c->map[node->out[i]] = out[i];
        FT_RETURN_IF_FAILED(ft_copy_name(c, node->out[i], out[i], err));
    }
    return FT_OK;
}

static enum ft_status copy_node(struct train_form *f, int number, struct ft_err *err)
{
    struct ft_graph_copier *c = &f->copier;
    const struct ft_node *node = ft_graph_node(c->from, number);
    double p = probability_of(f, node);
    struct ft_attrs attrs;
    if (p > 0 && node->op == FT_OP_ATTENTION) {
        return drop_weights(f, node, p, err);
    }
    FT_RETURN_IF_FAILED(ft_copy_node(c, number, err));
    if (p <= 0) {
        return FT_OK;
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = (float)p;
    attrs.node = f->next++;
    ft_value *y = &c->map[node->out[0]];
    const ft_value in[2] = {*y, f->rng};
    return ft_graph_add(c->to, FT_OP_DROPOUT, &attrs, in, 2, node->origin, y, err);
}

/* ---- all values */

static enum ft_status convert_values(struct train_form *f, struct ft_err *err)
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
            continue;
        }
        const struct ft_node *node = ft_graph_node(c->from, producer);
        bool live =
            node->op == FT_OP_BATCHNORM && (trains(c->from, node->in[1]) || trains(c->from, node->in[2]));
        if (live) {
            FT_RETURN_IF_FAILED(train_batchnorm(f, node, err));
        } else {
            FT_RETURN_IF_FAILED(copy_node(f, producer, err));
        }
    }
    return FT_OK;
}

static enum ft_status list_updates(const struct train_form *f, struct ft_train_form *out, struct ft_err *err)
{
    int n_params = ft_graph_params(f->copier.to);
    FT_RETURN_IF_FAILED(ft_new((size_t)n_params, sizeof *out->updates, &out->updates, err));
    for (int p = 0; p < n_params; p++) {
        if (f->moved[p] != FT_NO_VALUE) {
            out->updates[out->n_updates++] = (struct ft_state_update){.param = p, .value = f->moved[p]};
        }
    }
    return FT_OK;
}

enum ft_status ft_graph_train_form(const struct ft_graph *g, double dropout, struct ft_train_form *out,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_graph *to = NULL;
    struct train_form f = {.dropout = dropout};
    memset(out, 0, sizeof *out);
    FT_TRY(ft_graph_new(&to, err));
    FT_TRY(ft_copier_init(&f.copier, g, to, err));
    FT_TRY(ft_new(g->n_params, sizeof *f.moved, &f.moved, err));
    for (size_t i = 0; i < g->n_params; i++) {
        f.moved[i] = FT_NO_VALUE;
    }
    FT_TRY(prepare_dropout(&f, err));
    FT_TRY(convert_values(&f, err));
    FT_TRY(ft_copy_outputs(&f.copier, err));
    FT_TRY(list_updates(&f, out, err));
    out->graph = to;
    to = NULL;
done:
    ft_copier_release(&f.copier);
    ft_free(f.moved);
    ft_graph_free(to);
    return st;
}
