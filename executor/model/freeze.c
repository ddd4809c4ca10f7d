#include "executor/model/freeze.h"

#include <ctype.h>
#include <fnmatch.h>
#include <string.h>
#include <strings.h>

#include "executor/base/alloc.h"
#include "executor/model/blocks.h"
#include "executor/model/text_pool.h"

enum { LONGEST_PATTERN = 256 }; /* of a pattern */

/* Parameters keep their names when a graph is extracted: names lead from the original graph to the tailored
 * one. */

static int param_in(const struct ft_graph *tailored, const struct ft_graph *original, ft_value v)
{
    ft_value there = ft_graph_find(tailored, ft_graph_name(original, v));
    return there == FT_NO_VALUE ? -1 : ft_graph_param_of(tailored, there);
}

/* Set the flag of every parameter that a node reads. Returns whether it has weights that the tailored graph
 * has. */
static bool flag_node(const struct ft_graph *original, int n, struct ft_graph *tailored, bool frozen)
{
    const struct ft_node *node = ft_graph_node(original, n);
    bool any = false;
    for (int i = 0; i < node->n_in; i++) {
        int p =
            ft_graph_param_of(original, node->in[i]) >= 0 ? param_in(tailored, original, node->in[i]) : -1;
        if (p >= 0) {
            ft_graph_param_freeze(tailored, p, frozen);
            any = true;
        }
    }
    return any;
}

static bool has_weights(const struct ft_graph *g, int n)
{
    const struct ft_node *node = ft_graph_node(g, n);
    for (int i = 0; i < node->n_in; i++) {
        int p = ft_graph_param_of(g, node->in[i]);
        if (p >= 0 && ft_graph_param_role(g, p) == FT_PARAM_WEIGHT) {
            return true;
        }
    }
    return false;
}

/* Everything that came from the original model. */
static void freeze_original(const struct ft_graph *original, struct ft_graph *tailored)
{
    for (int n = 0; n < ft_graph_nodes(original); n++) {
        (void)flag_node(original, n, tailored, true);
    }
}

/* The last layer with weights; a BatchNorm or bias behind a convolution or product is one layer with it. */
static void thaw_last_layer(const struct ft_graph *original, const bool *needed, struct ft_graph *tailored)
{
    int n = ft_graph_nodes(original) - 1;
    while (n >= 0 && !(needed[n] && has_weights(original, n))) {
        n--;
    }
    while (n >= 0) {
        const struct ft_node *node = ft_graph_node(original, n);
        (void)flag_node(original, n, tailored, false);
        bool follows = node->op == FT_OP_BATCHNORM || node->op == FT_OP_ADD;
        int x = node->op == FT_OP_ADD && ft_graph_param_of(original, node->in[0]) >= 0 ? 1 : 0;
        n = follows ? ft_graph_producer(original, node->in[x]) : -1;
        if (n >= 0 && !has_weights(original, n)) {
            return;
        }
    }
}

/* `name` is `whole`, or leads up to a '.' or '/' in it; a leading '/' of either does not matter. */
static bool is_prefix(const char *name, size_t size, const char *whole)
{
    if (size > 0 && name[0] == '/') {
        name++;
        size--;
    }
    whole += whole[0] == '/';
    return size > 0 && strncmp(whole, name, size) == 0 &&
           (whole[size] == '\0' || whole[size] == '.' || whole[size] == '/');
}

/* A pattern with '*' and '?' (which match '.' and '/' too), or a prefix. */
static bool is_meant(const char *name, size_t size, const char *whole)
{
    char pattern[LONGEST_PATTERN];
    if (memchr(name, '*', size) == NULL && memchr(name, '?', size) == NULL) {
        return is_prefix(name, size, whole);
    }
    if (name[0] == '/') {
        name++;
        size--;
    }
    if (size >= sizeof pattern) {
        return false;
    }
    memcpy(pattern, name, size);
    pattern[size] = '\0';
    return fnmatch(pattern, whole + (whole[0] == '/'), 0) == 0;
}

static bool freeze_name(const struct ft_graph *original, const char *name, size_t size,
                        struct ft_graph *tailored)
{
    bool found = false;
    for (int n = 0; n < ft_graph_nodes(original); n++) {
        char layer[FT_LAYER_NAME];
        ft_layer_name(original, n, layer);
        if (is_meant(name, size, layer) || is_meant(name, size, ft_graph_node(original, n)->origin)) {
            found = true;
            (void)flag_node(original, n, tailored, true);
        }
    }
    for (int p = 0; p < ft_graph_params(original); p++) {
        ft_value v = ft_graph_param_at(original, p);
        if (is_meant(name, size, ft_graph_name(original, v))) {
            int there = param_in(tailored, original, v);
            found = true;
            if (there >= 0) {
                ft_graph_param_freeze(tailored, there, true);
            }
        }
    }
    return found;
}

/* The first `count` layers with weights, in the order of the graph. */
static enum ft_status freeze_leading(const struct ft_graph *original, const bool *needed, int64_t count,
                                     struct ft_graph *tailored, struct ft_err *err)
{
    int64_t there = 0;
    for (int n = 0; n < ft_graph_nodes(original); n++) {
        if (needed[n] && has_weights(original, n)) {
            if (there++ < count) {
                (void)flag_node(original, n, tailored, true);
            }
        }
    }
    if (count > there) {
        return FT_FAIL(err, INVALID, "freeze: %lld layers are asked for, the model has %lld with weights",
                       (long long)count, (long long)there);
    }
    return FT_OK;
}

/* ---- transformers: layers are blocks, and embeddings stand before them */

/* What the graph of a text model has of blocks; blocks = 0: none, or it is none. */
struct blocks {
    int count;
    int *depth; /* by parameter of the original */
};

static enum ft_status find_blocks(const struct ft_graph *original, struct blocks *b, struct ft_err *err)
{
    *b = (struct blocks){0};
    if (!ft_graph_reads_texts(original)) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_new((size_t)ft_graph_params(original), sizeof *b->depth, &b->depth, err));
    b->count = ft_block_depths(original, b->depth);
    return FT_OK;
}

/* Set the flag of what is at depth low .. high. */
static void flag_depths(const struct ft_graph *original, const struct blocks *b, int low, int high,
                        struct ft_graph *tailored, bool frozen)
{
    for (int p = 0; p < ft_graph_params(original); p++) {
        int there = param_in(tailored, original, ft_graph_param_at(original, p));
        if (there >= 0 && b->depth[p] >= low && b->depth[p] <= high) {
            ft_graph_param_freeze(tailored, there, frozen);
        }
    }
}

static enum ft_status freeze_blocks(const struct ft_graph *original, const struct blocks *b, int64_t count,
                                    struct ft_graph *tailored, struct ft_err *err)
{
    if (count > b->count) {
        return FT_FAIL(err, INVALID, "freeze: %lld layers are asked for, the model has %d", (long long)count,
                       b->count);
    }
    if (count > 0) {
        flag_depths(original, b, 0, (int)count, tailored, true);
    }
    return FT_OK;
}

static bool only_digits(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return false;
        }
    }
    return size > 0;
}

static bool is_word(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && strncasecmp(text, word, size) == 0;
}

static int64_t number(const char *digits, size_t size)
{
    int64_t count = 0;
    for (size_t i = 0; i < size && count < FT_MAX_NODES; i++) {
        count = count * 10 + (digits[i] - '0');
    }
    return count;
}

/* What freezing looks at. */
struct freezing {
    const struct ft_graph *original;
    const bool *needed; /* nodes of it */
    struct blocks blocks;
    bool projected; /* tailoring adds weights behind it */
    struct ft_graph *tailored;
};

static void freeze_all(const struct freezing *f)
{
    freeze_original(f->original, f->tailored);
    if (f->projected) {
        return;
    }
    if (f->blocks.count > 0) {
        flag_depths(f->original, &f->blocks, f->blocks.count, f->blocks.count + 1, f->tailored, false);
    } else {
        thaw_last_layer(f->original, f->needed, f->tailored);
    }
}

static enum ft_status freeze_entry(const struct freezing *f, const char *p, size_t size, struct ft_err *err)
{
    if (size == 0 || is_word(p, size, "false") || is_word(p, size, "none")) {
        return FT_OK;
    }
    if (is_word(p, size, "all") || is_word(p, size, "true")) {
        freeze_all(f);
        return FT_OK;
    }
    if (only_digits(p, size)) {
        int64_t count = number(p, size);
        return f->blocks.count > 0 ? freeze_blocks(f->original, &f->blocks, count, f->tailored, err)
                                   : freeze_leading(f->original, f->needed, count, f->tailored, err);
    }
    if (is_word(p, size, "embeddings") && f->blocks.count > 0) {
        flag_depths(f->original, &f->blocks, 0, 0, f->tailored, true);
        return FT_OK;
    }
    if (!freeze_name(f->original, p, size, f->tailored)) {
        return FT_FAIL(err, INVALID,
                       "freeze: '%.*s' is no layer, node or weight of the model; `inspect` lists them",
                       size > 200 ? 200 : (int)size, p);
    }
    return FT_OK;
}

enum ft_status ft_freeze(const struct ft_graph *original, ft_value at,
                         const struct ft_tailor_options *options, struct ft_graph *tailored,
                         struct ft_err *err)
{
    bool *needed = NULL;
    const char *p = options->freeze;
    enum ft_status st = FT_OK;
    struct freezing f = {.original = original, .projected = options->output_dim > 0, .tailored = tailored};
    if (p == NULL || p[0] == '\0') {
        return FT_OK;
    }
    FT_TRY(ft_new((size_t)ft_graph_nodes(original), sizeof *needed, &needed, err));
    ft_layers_needed(original, at, needed);
    f.needed = needed;
    FT_TRY(find_blocks(original, &f.blocks, err));
    while (*p != '\0') {
        size_t size = strcspn(p, ",");
        size_t lead = strspn(p, " ");
        size_t tail = size;
        lead = lead > size ? size : lead;
        while (tail > lead && p[tail - 1] == ' ') {
            tail--;
        }
        FT_TRY(freeze_entry(&f, p + lead, tail - lead, err));
        p += size + (p[size] == ',');
    }
done:
    ft_free(f.blocks.depth);
    ft_free(needed);
    return st;
}

/* ---- the report */

struct counting {
    const struct ft_graph *g;        /* whose node it is */
    const struct ft_graph *tailored; /* whose flags count */
    bool *counted;                   /* parameters of g */
};

static void count_params(struct counting *c, int n, struct ft_layer *layer)
{
    const struct ft_node *node = ft_graph_node(c->g, n);
    for (int i = 0; i < node->n_in; i++) {
        int p = ft_graph_param_of(c->g, node->in[i]);
        if (p < 0 || c->counted[p] || ft_graph_param_role(c->g, p) == FT_PARAM_STATE) {
            continue;
        }
        int there = param_in(c->tailored, c->g, node->in[i]);
        c->counted[p] = true;
        layer->params += ft_elements(ft_graph_type(c->g, node->in[i]));
        layer->trainable = layer->trainable || (there >= 0 && !ft_graph_param_frozen(c->tailored, there));
    }
}

static enum ft_status describe_node(struct counting *c, struct ft_arena *arena, int n, int number,
                                    struct ft_layer *layer, struct ft_err *err)
{
    const struct ft_node *node = ft_graph_node(c->g, n);
    struct ft_buf name = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_buf_printf(&name, err, "%s_%d", ft_op_info(node->op)->name, number));
    FT_TRY(ft_arena_text(arena, (const char *)name.data, name.size, &layer->name, err));
    FT_TRY(ft_arena_text(arena, node->origin, strlen(node->origin), &layer->origin, err));
    layer->op = ft_op_info(node->op)->name;
    layer->type = *ft_graph_type(c->g, node->out[0]);
    count_params(c, n, layer);
done:
    ft_buf_release(&name);
    return st;
}

static void count_totals(const struct ft_graph *t, struct ft_tailor_report *report)
{
    for (int p = 0; p < ft_graph_params(t); p++) {
        int64_t n = ft_elements(ft_graph_type(t, ft_graph_param_at(t, p)));
        if (ft_graph_param_role(t, p) == FT_PARAM_WEIGHT) {
            report->params_total += n;
            report->params_trainable += ft_graph_param_frozen(t, p) ? 0 : n;
        }
    }
}

static enum ft_status fill_layers(const struct ft_graph *original, const bool *needed,
                                  const struct ft_graph *tailored, struct ft_arena *arena,
                                  struct ft_tailor_report *report, struct ft_err *err)
{
    int kept = 0;
    int nodes = ft_graph_nodes(original);
    struct counting c = {original, tailored, NULL};
    for (int n = 0; n < nodes; n++) {
        kept += needed[n];
    }
    int added = ft_graph_nodes(tailored) - kept;
    report->n_layers = (size_t)nodes + (size_t)added;
    FT_RETURN_IF_FAILED(ft_arena_new(arena, report->n_layers, sizeof *report->layers, &report->layers, err));
    FT_RETURN_IF_FAILED(
        ft_arena_new(arena, (size_t)ft_graph_params(original), sizeof(bool), &c.counted, err));
    for (int n = 0; n < nodes; n++) {
        FT_RETURN_IF_FAILED(describe_node(&c, arena, n, n, &report->layers[n], err));
        report->layers[n].cut_away = !needed[n];
    }
    struct counting more = {tailored, tailored, NULL};
    FT_RETURN_IF_FAILED(
        ft_arena_new(arena, (size_t)ft_graph_params(tailored), sizeof(bool), &more.counted, err));
    for (int i = 0; i < added; i++) {
        FT_RETURN_IF_FAILED(
            describe_node(&more, arena, kept + i, nodes + i, &report->layers[nodes + i], err));
    }
    return FT_OK;
}

enum ft_status ft_tailor_describe(const struct ft_graph *original, ft_value at, const struct ft_cut *cut,
                                  const struct ft_graph *tailored, struct ft_tailor_report *report,
                                  struct ft_err *err)
{
    struct ft_arena arena = {0};
    bool *needed = NULL;
    int producer = ft_graph_producer(original, cut->at);
    enum ft_status st = FT_OK;
    FT_TRY(ft_new((size_t)ft_graph_nodes(original), sizeof *needed, &needed, err));
    ft_layers_needed(original, at, needed);
    FT_TRY(fill_layers(original, needed, tailored, &arena, report, err));
    FT_TRY(ft_arena_text(&arena, cut->head, strlen(cut->head), &report->head, err));
    FT_TRY(ft_arena_text(&arena, cut->why, strlen(cut->why), &report->why, err));
    report->embedding_at = producer >= 0 ? report->layers[producer].name : "input";
    const struct ft_type *type = ft_graph_type(tailored, ft_graph_output_at(tailored, 0));
    report->dim = type->dim[1].coef;
    count_totals(tailored, report);
    report->memory = arena.last;
    arena = (struct ft_arena){0};
done:
    ft_free(needed);
    ft_arena_release(&arena);
    if (st != FT_OK) {
        *report = (struct ft_tailor_report){0};
    }
    return st;
}

void ft_tailor_report_release(struct ft_tailor_report *report)
{
    struct ft_arena arena = {.last = report->memory};
    ft_arena_release(&arena);
    *report = (struct ft_tailor_report){0};
}
