#include "executor/graph/frontier.h"

#include <string.h>

#include "executor/graph/internal.h"
#include "executor/graph/pack.h"

/* ---- what an op does to rows */

enum rows_rule {
    MIXES,         /* an op that is not listed: its result is not kept, nor is anything behind it */
    KEEPS,         /* row i of the result depends on row i of the inputs */
    KEEPS_BUT_0,   /* unless it works along axis 0: a.axis */
    KEEPS_BUT_0S,  /* the same, a.axes */
    KEEPS_FIRST,   /* if axis 0 stays axis 0: a.perm */
    KEEPS_ROWS_OF, /* works along the last axis, which must not be axis 0 */
    KEEPS_LOOKUP,  /* in[0] at in[1]: numbers in a table, or of axes that are not axis 0: a.axis */
    KEEPS_BATCHED, /* the same; axis 0 is in[0]'s own with a.count */
};

struct op_rule {
    enum rows_rule rows;
    bool heavy; /* not to be done again for every step */
};

static struct op_rule rule_of(enum ft_op op)
{
    static const struct op_rule rules[FT_OP_COUNT] = {
        [FT_OP_CONV] = {KEEPS, true},
        [FT_OP_CONV_BWD_DATA] = {KEEPS, true}, /* forward: a transposed convolution */
        [FT_OP_MATMUL] = {KEEPS, true},
        [FT_OP_BATCHNORM] = {KEEPS, false},
        [FT_OP_MAXPOOL] = {KEEPS, false},
        [FT_OP_AVGPOOL] = {KEEPS, false},
        [FT_OP_RELU] = {KEEPS, false},
        [FT_OP_LEAKY_RELU] = {KEEPS, false},
        [FT_OP_SIGMOID] = {KEEPS, false},
        [FT_OP_TANH] = {KEEPS, false},
        [FT_OP_CLIP] = {KEEPS, false},
        [FT_OP_EXP] = {KEEPS, false},
        [FT_OP_LOG] = {KEEPS, false},
        [FT_OP_SQRT] = {KEEPS, false},
        [FT_OP_NEG] = {KEEPS, false},
        [FT_OP_SCALE] = {KEEPS, false},
        [FT_OP_ADD] = {KEEPS, false},
        [FT_OP_SUB] = {KEEPS, false},
        [FT_OP_MUL] = {KEEPS, false},
        [FT_OP_DIV] = {KEEPS, false},
        [FT_OP_POW] = {KEEPS, false},
        [FT_OP_MAP] = {KEEPS, false},
        [FT_OP_CAST] = {KEEPS, false},
        [FT_OP_COMPARE] = {KEEPS, false},
        [FT_OP_LOGIC] = {KEEPS, false},
        [FT_OP_WHERE] = {KEEPS, false},
        [FT_OP_MAXIMUM] = {KEEPS, false},
        [FT_OP_MINIMUM] = {KEEPS, false},
        [FT_OP_MOD] = {KEEPS, false},
        [FT_OP_PAD] = {KEEPS, false},
        [FT_OP_LAYERNORM] = {KEEPS_BUT_0, false},
        [FT_OP_GATHER] = {KEEPS_LOOKUP, false},
        [FT_OP_GATHER_ELEMENTS] = {KEEPS_BUT_0, false},
        [FT_OP_GATHER_ND] = {KEEPS_BATCHED, false},
        [FT_OP_SCATTER_ELEMENTS] = {KEEPS_BUT_0, false},
        [FT_OP_ARG_EXTREME] = {KEEPS_BUT_0, false},
        [FT_OP_TOPK] = {KEEPS_BUT_0, false},
        [FT_OP_CUMSUM] = {KEEPS_BUT_0, false},
        [FT_OP_REDUCE] = {KEEPS_BUT_0S, false},
        [FT_OP_REDUCE_SUM] = {KEEPS_BUT_0S, false},
        [FT_OP_REDUCE_MEAN] = {KEEPS_BUT_0S, false},
        [FT_OP_SUM_TO] = {KEEPS, false},
        [FT_OP_EXPAND_TO] = {KEEPS, false},
        [FT_OP_RESHAPE] = {KEEPS, false},
        [FT_OP_RESHAPE_LIKE] = {KEEPS, false},
        [FT_OP_TRANSPOSE] = {KEEPS_FIRST, false},
        [FT_OP_CONCAT] = {KEEPS_BUT_0, false},
        [FT_OP_SLICE] = {KEEPS_BUT_0, false},
        [FT_OP_PAD_LIKE] = {KEEPS_BUT_0, false},
        [FT_OP_SOFTMAX] = {KEEPS_BUT_0, false},
        [FT_OP_LOG_SOFTMAX] = {KEEPS_BUT_0, false},
        [FT_OP_L2_NORMALIZE] = {KEEPS_ROWS_OF, false},
        [FT_OP_ATTENTION] = {KEEPS, true},
        [FT_OP_ROPE] = {KEEPS, false},
        [FT_OP_POSITIONS] = {KEEPS, false},
        [FT_OP_SEQ_POOL] = {KEEPS, false},
    };
    return rules[op];
}

static bool counts_rows(struct ft_dim d)
{
    return d.power[FT_SYMBOL_BATCH] > 0 || d.power[FT_SYMBOL_TOKENS] > 0;
}

/* Axis 0 is the batch, or the batch times a number (an item's own rows, one after the other), or the same of
 * the tokens, and no other axis is. */
static bool is_row_major(const struct ft_type *t)
{
    if (t->rank < 1 || t->dim[0].power[FT_SYMBOL_BATCH] + t->dim[0].power[FT_SYMBOL_TOKENS] != 1) {
        return false;
    }
    for (int i = 1; i < t->rank; i++) {
        if (counts_rows(t->dim[i])) {
            return false;
        }
    }
    return true;
}

static bool is_of_tokens(const struct ft_type *t)
{
    return t->dim[0].power[FT_SYMBOL_TOKENS] == 1;
}

/* `data`: by value, depends on the model's input. */
static bool keeps_rows(const struct ft_graph *g, const struct ft_node *node, const bool *data)
{
    const struct ft_attrs *a = &node->attrs;
    switch (rule_of(node->op).rows) {
    case MIXES:
        return false;
    case KEEPS:
        return true;
    case KEEPS_BUT_0:
        return a->axis != 0;
    case KEEPS_BUT_0S:
        for (int i = 0; i < a->axes_count; i++) {
            if (a->axes[i] == 0) {
                return false;
            }
        }
        return a->axes_count > 0;
    case KEEPS_FIRST:
        return a->perm[0] == 0;
    case KEEPS_ROWS_OF:
        return ft_graph_type(g, node->in[0])->rank > 1;
    case KEEPS_LOOKUP:
        return !data[node->in[0]] || a->axis != 0;
    case KEEPS_BATCHED:
        return !data[node->in[0]] || a->count > 0;
    }
    return false;
}

/* ---- what is frozen */

struct finder {
    const struct ft_graph *g;
    bool *needed; /* by node */
    bool *data;   /* by value: depends on the model's input */
    bool *open;   /* by value: and is not frozen, or depends on what is trained */
    bool *early;  /* by value: frozen, and a frozen heavy node stands behind it */
    bool *moved;  /* by parameter: a state that training moves */
};

static bool is_trained(const struct ft_graph *g, ft_value v)
{
    int p = ft_graph_param_of(g, v);
    return p >= 0 && ft_graph_param_role(g, p) == FT_PARAM_WEIGHT && !ft_graph_param_frozen(g, p);
}

/* As ft_graph_train_form() decides. */
static bool is_live_batchnorm(const struct ft_graph *g, const struct ft_node *node)
{
    return node->op == FT_OP_BATCHNORM && (is_trained(g, node->in[1]) || is_trained(g, node->in[2]));
}

static void mark_needed(struct finder *f)
{
    const struct ft_graph *g = f->g;
    ft_value output = ft_graph_output_at(g, 0);
    int last = ft_graph_producer(g, output);
    if (last < 0) {
        return;
    }
    f->needed[last] = true;
    for (int n = last; n >= 0; n--) {
        const struct ft_node *node = ft_graph_node(g, n);
        for (int i = 0; f->needed[n] && i < node->n_in; i++) {
            int producer = ft_graph_producer(g, node->in[i]);
            if (producer >= 0) {
                f->needed[producer] = true;
            }
        }
    }
}

static void mark_moved(struct finder *f)
{
    for (int n = 0; n < ft_graph_nodes(f->g); n++) {
        const struct ft_node *node = ft_graph_node(f->g, n);
        for (int i = 3; f->needed[n] && is_live_batchnorm(f->g, node) && i < node->n_in; i++) {
            int p = ft_graph_param_of(f->g, node->in[i]);
            if (p >= 0) {
                f->moved[p] = true;
            }
        }
    }
}

static bool is_open_source(const struct finder *f, ft_value v)
{
    int p = ft_graph_param_of(f->g, v);
    return is_trained(f->g, v) || (p >= 0 && f->moved[p]);
}

static void mark_node(struct finder *f, const struct ft_node *node)
{
    bool data = false;
    bool open = node->op == FT_OP_DROPOUT || is_live_batchnorm(f->g, node);
    for (int i = 0; i < node->n_in; i++) {
        data = data || f->data[node->in[i]];
        open = open || f->open[node->in[i]];
    }
    open = open || (data && !keeps_rows(f->g, node, f->data));
    for (int i = 0; i < node->n_out; i++) {
        ft_value v = node->out[i];
        f->data[v] = data;
        f->open[v] = open || (data && !is_row_major(ft_graph_type(f->g, v)));
    }
}

/* Numbers of an item or of its tokens; random numbers, and spans, which both parts read, are no data. */
static bool is_data(const struct ft_graph *g, ft_value v)
{
    const struct ft_type *t = ft_graph_type(g, v);
    return t->dtype == FT_F32 || (is_row_major(t) && strcmp(ft_graph_name(g, v), FT_PACK_SPANS) != 0);
}

static void mark_values(struct finder *f)
{
    const struct ft_graph *g = f->g;
    for (int v = 0; v < ft_graph_values(g); v++) {
        if (ft_graph_source(g, v) == FT_FROM_INPUT) {
            f->data[v] = is_data(g, v);
            f->open[v] = !is_row_major(ft_graph_type(g, v));
        } else if (ft_graph_source(g, v) != FT_FROM_NODE) {
            f->open[v] = is_open_source(f, v);
        }
    }
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        mark_node(f, ft_graph_node(g, n));
    }
}

static bool is_frozen(const struct finder *f, ft_value v)
{
    return f->data[v] && !f->open[v];
}

/* Frozen, and on the way to the output. */
static bool is_frozen_node(const struct finder *f, int n)
{
    return f->needed[n] && is_frozen(f, ft_graph_node(f->g, n)->out[0]);
}

static void mark_early(struct finder *f)
{
    for (int n = ft_graph_nodes(f->g) - 1; n >= 0; n--) {
        const struct ft_node *node = ft_graph_node(f->g, n);
        bool early = rule_of(node->op).heavy;
        for (int i = 0; i < node->n_out; i++) {
            early = early || f->early[node->out[i]];
        }
        for (int i = 0; early && is_frozen_node(f, n) && i < node->n_in; i++) {
            f->early[node->in[i]] = true;
        }
    }
}

/* ---- the cheapest cut: most bytes that flow from what is computed before it to what reads behind it. A
 * value is two vertices, 2v and 2v + 1, with an edge of its size between them. */

struct edge {
    int to, next;
    int64_t room;
};

struct flow {
    struct edge *edges; /* e and e ^ 1 lead both ways */
    size_t n_edges, edges_capacity;
    int *first; /* by vertex, -1 ends */
    int *from;  /* by vertex: edge by which the search came, -1: it did not */
    int *queue;
    int vertices, source, sink;
};

static const int64_t UNLIMITED = INT64_MAX / 4;
enum { USUAL_TOKENS = 64 };

static enum ft_status connect(struct flow *w, int from, int to, int64_t room, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_grow(&w->edges, &w->edges_capacity, w->n_edges + 2, sizeof *w->edges, err));
    w->edges[w->n_edges] = (struct edge){to, w->first[from], room};
    w->edges[w->n_edges + 1] = (struct edge){from, w->first[to], 0};
    w->first[from] = (int)w->n_edges;
    w->first[to] = (int)w->n_edges + 1;
    w->n_edges += 2;
    return FT_OK;
}

/* Numbers of a row of v; 0: it cannot be kept. */
static int64_t elements_of(const struct ft_graph *g, ft_value v)
{
    const struct ft_type *t = ft_graph_type(g, v);
    int64_t elements = 1;
    if (ft_graph_source(g, v) == FT_FROM_INPUT || t->dtype != FT_F32 || t->dim[0].coef != 1) {
        return 0;
    }
    for (int i = 1; i < t->rank; i++) {
        if (!ft_dim_is_known(t->dim[i]) || elements > UNLIMITED / (4 * USUAL_TOKENS) / t->dim[i].coef) {
            return 0;
        }
        elements *= t->dim[i].coef;
    }
    return elements;
}

/* What it costs to keep v: bytes an item, as a text is usually long; UNLIMITED: it cannot be kept. */
static int64_t cost_of(const struct ft_graph *g, ft_value v)
{
    int64_t bytes = 2 * elements_of(g, v);
    return bytes == 0 ? UNLIMITED : is_of_tokens(ft_graph_type(g, v)) ? bytes * USUAL_TOKENS : bytes;
}

static bool is_heavy_result(const struct finder *f, ft_value v)
{
    int n = ft_graph_producer(f->g, v);
    return n < 0 || rule_of(ft_graph_node(f->g, n)->op).heavy;
}

static enum ft_status connect_node(const struct finder *f, struct flow *w, int n, struct ft_err *err)
{
    const struct ft_node *node = ft_graph_node(f->g, n);
    for (int i = 0; i < node->n_in; i++) {
        ft_value v = node->in[i];
        if (!is_frozen(f, v)) {
            continue;
        }
        if (!is_frozen_node(f, n)) {
            FT_RETURN_IF_FAILED(connect(w, 2 * v + 1, w->sink, UNLIMITED, err));
            continue;
        }
        for (int k = 0; k < node->n_out; k++) {
            FT_RETURN_IF_FAILED(connect(w, 2 * v + 1, 2 * node->out[k], UNLIMITED, err));
        }
    }
    return FT_OK;
}

static enum ft_status build_flow(const struct finder *f, struct flow *w, struct ft_err *err)
{
    int values = ft_graph_values(f->g);
    w->vertices = 2 * values + 2;
    w->source = 2 * values;
    w->sink = w->source + 1;
    FT_RETURN_IF_FAILED(ft_new((size_t)w->vertices, sizeof *w->first, &w->first, err));
    FT_RETURN_IF_FAILED(ft_new((size_t)w->vertices, sizeof *w->from, &w->from, err));
    FT_RETURN_IF_FAILED(ft_new((size_t)w->vertices, sizeof *w->queue, &w->queue, err));
    for (int i = 0; i < w->vertices; i++) {
        w->first[i] = -1;
    }
    for (int v = 0; v < values; v++) {
        if (is_frozen(f, v)) {
            FT_RETURN_IF_FAILED(connect(w, 2 * v, 2 * v + 1, cost_of(f->g, v), err));
            if (f->early[v] || is_heavy_result(f, v)) {
                FT_RETURN_IF_FAILED(connect(w, w->source, 2 * v, UNLIMITED, err));
            }
        }
    }
    for (int n = 0; n < ft_graph_nodes(f->g); n++) {
        if (f->needed[n]) {
            FT_RETURN_IF_FAILED(connect_node(f, w, n, err));
        }
    }
    return FT_OK;
}

/* Breadth first from `at` along edges with room, backwards if asked; from[] then tells who was reached. */
static void search(struct flow *w, int at, bool backwards)
{
    int begin = 0;
    int end = 0;
    for (int i = 0; i < w->vertices; i++) {
        w->from[i] = -1;
    }
    w->from[at] = (int)w->n_edges; /* reached, by no edge */
    w->queue[end++] = at;
    while (begin < end) {
        int v = w->queue[begin++];
        for (int e = w->first[v]; e >= 0; e = w->edges[e].next) {
            int to = w->edges[e].to;
            if (w->edges[backwards ? e ^ 1 : e].room > 0 && w->from[to] < 0) {
                w->from[to] = e;
                w->queue[end++] = to;
            }
        }
    }
}

/* Edmonds and Karp. False: no finite cut, or nothing to cut. */
static bool run_flow(struct flow *w)
{
    int64_t total = 0;
    for (;;) {
        int64_t room = UNLIMITED;
        search(w, w->source, false);
        if (w->from[w->sink] < 0) {
            return total > 0;
        }
        for (int v = w->sink; v != w->source; v = w->edges[w->from[v] ^ 1].to) {
            room = w->edges[w->from[v]].room < room ? w->edges[w->from[v]].room : room;
        }
        total += room;
        if (total >= UNLIMITED / 2) {
            return false;
        }
        for (int v = w->sink; v != w->source; v = w->edges[w->from[v] ^ 1].to) {
            w->edges[w->from[v]].room -= room;
            w->edges[w->from[v] ^ 1].room += room;
        }
    }
}

static void release_flow(struct flow *w)
{
    ft_free(w->edges);
    ft_free(w->first);
    ft_free(w->from);
    ft_free(w->queue);
}

/* Of equal cuts the last one: nothing is left to do twice. */
static enum ft_status find_cut(const struct finder *f, struct ft_frontier *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct flow w = {0};
    int values = ft_graph_values(f->g);
    FT_TRY(build_flow(f, &w, err));
    if (!run_flow(&w)) {
        goto done;
    }
    search(&w, w.sink, true);
    FT_TRY(ft_new((size_t)values, sizeof *out->values, &out->values, err));
    FT_TRY(ft_new((size_t)values, sizeof *out->elements, &out->elements, err));
    FT_TRY(ft_new((size_t)values, sizeof *out->of_tokens, &out->of_tokens, err));
    for (ft_value v = 0; v < values; v++) {
        if (w.from[2 * v] < 0 && w.from[2 * v + 1] >= 0) {
            size_t elements = (size_t)elements_of(f->g, v);
            bool of_tokens = is_of_tokens(ft_graph_type(f->g, v));
            *(of_tokens ? &out->token_elements : &out->row_elements) += elements;
            out->elements[out->n] = elements;
            out->of_tokens[out->n] = of_tokens;
            out->values[out->n++] = v;
        }
    }
done:
    release_flow(&w);
    return st;
}

/* ---- the two parts */

/* Values that `out` needs, going back no further than values that are there already. */
static void mark_kept(const struct ft_graph_copier *c, const ft_value *out, int n_out, bool *keep)
{
    for (int i = 0; i < n_out; i++) {
        keep[out[i]] = c->map[out[i]] == FT_NO_VALUE;
    }
    for (int n = ft_graph_nodes(c->from) - 1; n >= 0; n--) {
        const struct ft_node *node = ft_graph_node(c->from, n);
        bool needed = false;
        for (int i = 0; i < node->n_out; i++) {
            needed = needed || keep[node->out[i]];
        }
        for (int i = 0; needed && i < node->n_in; i++) {
            keep[node->in[i]] = keep[node->in[i]] || c->map[node->in[i]] == FT_NO_VALUE;
        }
    }
}

/* A node whose other output is a value that is there already leaves that as it is. */
static enum ft_status copy_node(struct ft_graph_copier *c, int n, struct ft_err *err)
{
    const struct ft_node *node = ft_graph_node(c->from, n);
    ft_value there[FT_MAX_OUTPUTS];
    for (int i = 0; i < node->n_out; i++) {
        there[i] = c->map[node->out[i]];
    }
    FT_RETURN_IF_FAILED(ft_copy_node(c, n, err));
    for (int i = 0; i < node->n_out; i++) {
        c->map[node->out[i]] = there[i] != FT_NO_VALUE ? there[i] : c->map[node->out[i]];
    }
    return FT_OK;
}

static enum ft_status copy_kept(struct ft_graph_copier *c, const bool *keep, struct ft_err *err)
{
    for (ft_value v = 0; v < ft_graph_values(c->from); v++) {
        int producer = ft_graph_producer(c->from, v);
        if (c->map[v] != FT_NO_VALUE || !keep[v]) {
            continue;
        }
        FT_RETURN_IF_FAILED(producer < 0 ? ft_copy_source(c, v, err) : copy_node(c, producer, err));
    }
    return FT_OK;
}

static enum ft_status list_params(const struct ft_graph_copier *c, int **params, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_new((size_t)ft_graph_params(c->to), sizeof **params, params, err));
    for (int p = 0; p < ft_graph_params(c->from); p++) {
        ft_value there = c->map[ft_graph_param_at(c->from, p)];
        if (there != FT_NO_VALUE) {
            (*params)[ft_graph_param_of(c->to, there)] = p;
        }
    }
    return FT_OK;
}

/* The part of `g` that makes `out` from `in` and whatever else it needs. */
static enum ft_status copy_part(const struct ft_graph *g, const struct ft_frontier *f, bool behind,
                                struct ft_graph **part, int **params, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_graph *to = NULL;
    struct ft_graph_copier c = {0};
    bool *keep = NULL;
    ft_value last = ft_graph_output_at(g, 0);
    FT_TRY(ft_new(g->n_values, sizeof *keep, &keep, err));
    FT_TRY(ft_graph_new(&to, err));
    FT_TRY(ft_copier_init(&c, g, to, err));
    for (int i = 0; behind && i < f->n; i++) {
        ft_value v = f->values[i];
        const char *name = g->values[v]->auto_named ? "" : ft_graph_name(g, v);
        FT_TRY(ft_graph_input(to, name, ft_graph_type(g, v), &c.map[v], err));
    }
    mark_kept(&c, behind ? &last : f->values, behind ? 1 : f->n, keep);
    FT_TRY(copy_kept(&c, keep, err));
    for (int i = 0; !behind && i < f->n; i++) {
        FT_TRY(ft_graph_output(to, c.map[f->values[i]], "", err));
    }
    if (behind) {
        FT_TRY(ft_graph_output(to, c.map[last], ft_graph_output_name(g, 0), err));
    }
    FT_TRY(list_params(&c, params, err));
    *part = to;
    to = NULL;
done:
    ft_free(keep);
    ft_copier_release(&c);
    ft_graph_free(to);
    return st;
}

/* ---- the whole */

static bool has_heavy(const struct ft_graph *g)
{
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        if (rule_of(ft_graph_node(g, n)->op).heavy) {
            return true;
        }
    }
    return false;
}

static enum ft_status init_finder(struct finder *f, const struct ft_graph *g, struct ft_err *err)
{
    size_t values = (size_t)ft_graph_values(g);
    f->g = g;
    FT_RETURN_IF_FAILED(ft_new((size_t)ft_graph_nodes(g), sizeof(bool), &f->needed, err));
    FT_RETURN_IF_FAILED(ft_new(values, sizeof(bool), &f->data, err));
    FT_RETURN_IF_FAILED(ft_new(values, sizeof(bool), &f->open, err));
    FT_RETURN_IF_FAILED(ft_new(values, sizeof(bool), &f->early, err));
    return ft_new((size_t)ft_graph_params(g), sizeof(bool), &f->moved, err);
}

static void release_finder(struct finder *f)
{
    ft_free(f->needed);
    ft_free(f->data);
    ft_free(f->open);
    ft_free(f->early);
    ft_free(f->moved);
}

enum ft_status ft_frontier_find(const struct ft_graph *graph, struct ft_frontier *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct finder f = {0};
    memset(out, 0, sizeof *out);
    FT_TRY(init_finder(&f, graph, err));
    mark_needed(&f);
    mark_moved(&f);
    mark_values(&f);
    mark_early(&f);
    FT_TRY(find_cut(&f, out, err));
    if (out->n > 0) {
        FT_TRY(copy_part(graph, out, false, &out->prefix, &out->prefix_params, err));
        if (!has_heavy(out->prefix)) {
            ft_frontier_release(out);
            goto done;
        }
        FT_TRY(copy_part(graph, out, true, &out->suffix, &out->suffix_params, err));
        out->nodes_before = ft_graph_nodes(out->prefix);
        out->nodes_after = ft_graph_nodes(out->suffix);
    }
done:
    release_finder(&f);
    if (st != FT_OK || out->n == 0) {
        ft_frontier_release(out);
    }
    return st;
}

void ft_frontier_release(struct ft_frontier *f)
{
    ft_free(f->values);
    ft_free(f->elements);
    ft_free(f->of_tokens);
    ft_graph_free(f->prefix);
    ft_graph_free(f->suffix);
    ft_free(f->prefix_params);
    ft_free(f->suffix_params);
    memset(f, 0, sizeof *f);
}
