#include "executor/model/head.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "executor/base/alloc.h"
#include "executor/model/text_pool.h"

enum { LISTED = 12 }; /* layers or outputs named in a message */

const char *ft_layer_name(const struct ft_graph *g, int node, char out[FT_LAYER_NAME])
{
    (void)snprintf(out, FT_LAYER_NAME, "%s_%d", ft_op_info(ft_graph_node(g, node)->op)->name, node);
    return out;
}

void ft_layers_needed(const struct ft_graph *g, ft_value v, bool *needed)
{
    int last = ft_graph_producer(g, v);
    memset(needed, 0, (size_t)ft_graph_nodes(g) * sizeof *needed);
    if (last < 0) {
        return;
    }
    needed[last] = true;
    for (int n = last; n >= 0; n--) { /* inputs of a node exist before it */
        const struct ft_node *node = ft_graph_node(g, n);
        for (int i = 0; needed[n] && i < node->n_in; i++) {
            int from = ft_graph_producer(g, node->in[i]);
            if (from >= 0) {
                needed[from] = true;
            }
        }
    }
}

static const struct ft_node *producer_of(const struct ft_graph *g, ft_value v)
{
    int n = ft_graph_producer(g, v);
    return n < 0 ? NULL : ft_graph_node(g, n);
}

static enum ft_status keep_text(struct ft_arena *arena, struct ft_buf *text, const char **out,
                                struct ft_err *err)
{
    return ft_arena_text(arena, (const char *)text->data, text->size, out, err);
}

/* ---- --cut */

/* The last node with this layer name or origin; -1. */
static int find_node(const struct ft_graph *g, const char *name)
{
    char layer[FT_LAYER_NAME];
    for (int n = ft_graph_nodes(g) - 1; n >= 0; n--) {
        if (strcmp(ft_graph_node(g, n)->origin, name) == 0 || strcmp(ft_layer_name(g, n, layer), name) == 0) {
            return n;
        }
    }
    return -1;
}

static enum ft_status unknown_layer(const struct ft_graph *g, const char *name, struct ft_err *err)
{
    struct ft_buf list = {0};
    int nodes = ft_graph_nodes(g);
    enum ft_status st = FT_OK;
    for (int n = nodes > LISTED ? nodes - LISTED : 0; n < nodes; n++) {
        char layer[FT_LAYER_NAME];
        FT_TRY(ft_buf_printf(&list, err, "%s%s (%.60s)", list.size > 0 ? ", " : "",
                             ft_layer_name(g, n, layer), ft_graph_node(g, n)->origin));
    }
    st = FT_FAIL(err, INVALID, "there is no layer or value '%.200s' to cut at; the last layers are %s", name,
                 list.size > 0 ? (const char *)list.data : "none");
done:
    ft_buf_release(&list);
    return st;
}

static enum ft_status cut_at_name(const struct ft_graph *g, const char *name, struct ft_cut *cut,
                                  struct ft_err *err)
{
    ft_value v = ft_graph_find(g, name);
    int n = find_node(g, name);
    if (n >= 0) {
        v = ft_graph_node(g, n)->out[0];
    }
    for (int i = 0; v == FT_NO_VALUE && i < ft_graph_outputs(g); i++) {
        if (strcmp(ft_graph_output_name(g, i), name) == 0) {
            v = ft_graph_output_at(g, i);
        }
    }
    if (v == FT_NO_VALUE) {
        return unknown_layer(g, name, err);
    }
    if (ft_graph_source(g, v) != FT_FROM_NODE && ft_graph_source(g, v) != FT_FROM_INPUT) {
        return FT_FAIL(err, INVALID, "'%.200s' is a weight, not a layer to cut at", name);
    }
    cut->at = v;
    cut->why = "asked for with --cut";
    return FT_OK;
}

/* ---- head rule */

/* fc, head, classifier, ...; digits at the end do not matter. */
static bool is_classifier_word(const char *word, size_t size)
{
    static const char *const words[] = {"fc",     "head",   "heads", "classifier", "classification",
                                        "logits", "output", "dense", "linear",     "predictions",
                                        "probs"};
    while (size > 0 && (isdigit((unsigned char)word[size - 1]) || word[size - 1] == '_')) {
        size--;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i]) == size && strncasecmp(words[i], word, size) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_classifier_word(const char *name)
{
    while (*name != '\0') {
        size_t size = strcspn(name, "./:");
        if (is_classifier_word(name, size)) {
            return true;
        }
        name += size + (name[size] != '\0');
    }
    return false;
}

/* A module's name if the weight has one ("layer4.0.fc.weight"), else the node's: exporters call nodes after
 * their op
 * ("node_linear"), and weights without a module "onnx::MatMul_12". */
static bool named_as_classifier(const struct ft_graph *g, const struct ft_node *matmul)
{
    const char *weight = ft_graph_name(g, matmul->in[1]);
    return has_classifier_word(strchr(weight, '.') != NULL ? weight : matmul->origin);
}

struct finding {
    ft_value at;
    const struct ft_node *matmul; /* the head, or NULL */
    bool cut;                     /* the head goes */
    bool tail;                    /* softmax or the like went */
    const char *reason;           /* that it goes, or stays */
};

static bool is_tail(enum ft_op op)
{
    return op == FT_OP_SOFTMAX || op == FT_OP_LOG_SOFTMAX || op == FT_OP_SIGMOID;
}

static ft_value skip_dropout(const struct ft_graph *g, ft_value v)
{
    const struct ft_node *node = producer_of(g, v);
    while (node != NULL && node->op == FT_OP_DROPOUT) {
        v = node->in[0];
        node = producer_of(g, v);
    }
    return v;
}

/* Both probabilities of a binary classifier, 1 - p and p: p, else v. */
static ft_value without_complement(const struct ft_graph *g, ft_value v)
{
    const struct ft_node *node = producer_of(g, v);
    if (node == NULL || node->op != FT_OP_CONCAT || node->n_in != 2) {
        return v;
    }
    const struct ft_node *other = producer_of(g, node->in[0]);
    bool complement = other != NULL && other->op == FT_OP_SCALE && other->attrs.alpha == -1.0F &&
                      other->attrs.beta == 1.0F && other->in[0] == node->in[1];
    return complement ? node->in[1] : v;
}

/* MATMUL by a weight, perhaps with a bias added behind it. */
static const struct ft_node *linear_layer(const struct ft_graph *g, ft_value v)
{
    const struct ft_node *node = producer_of(g, v);
    if (node != NULL && node->op == FT_OP_ADD) {
        for (int i = 0; i < 2; i++) {
            const struct ft_node *product = producer_of(g, node->in[i]);
            if (product != NULL && product->op == FT_OP_MATMUL && ft_graph_producer(g, node->in[1 - i]) < 0) {
                node = product;
                break;
            }
        }
    }
    bool linear = node != NULL && node->op == FT_OP_MATMUL && ft_graph_param_of(g, node->in[1]) >= 0 &&
                  ft_graph_type(g, node->in[0])->rank == 2;
    return linear ? node : NULL;
}

/* Is anything learned in front of v? A single linear layer on the input cannot be cut off. */
static bool has_weights(const struct ft_graph *g, ft_value v, bool *needed)
{
    ft_layers_needed(g, v, needed);
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        const struct ft_node *node = ft_graph_node(g, n);
        for (int i = 0; needed[n] && i < node->n_in; i++) {
            if (ft_graph_param_of(g, node->in[i]) >= 0) {
                return true;
            }
        }
    }
    return false;
}

static int64_t width_of(const struct ft_graph *g, const struct ft_node *matmul)
{
    const struct ft_type *t = ft_graph_type(g, matmul->out[0]);
    return t->dim[t->rank - 1].coef;
}

static void apply_head_rule(const struct ft_graph *g, ft_value output, int64_t labels, bool *scratch,
                            struct finding *f)
{
    *f = (struct finding){.at = without_complement(g, skip_dropout(g, output))};
    const struct ft_node *node = producer_of(g, f->at);
    while (node != NULL && is_tail(node->op)) {
        f->tail = true;
        f->at = skip_dropout(g, node->in[0]);
        node = producer_of(g, f->at);
    }
    f->matmul = linear_layer(g, f->at);
    if (f->matmul == NULL) {
        f->reason = f->tail ? "its scores do not come from a linear layer: only the softmax or sigmoid goes"
                            : "the last layer is not linear, so nothing is cut";
        return;
    }
    ft_value feature = skip_dropout(g, f->matmul->in[0]);
    if (!has_weights(g, feature, scratch)) {
        f->reason = "the linear layer is the only one with weights, so it is kept";
    } else if (f->tail) {
        f->cut = true;
        f->reason = "its scores go into a softmax or sigmoid";
    } else if (named_as_classifier(g, f->matmul)) {
        f->cut = true;
        f->reason = "it is named as a classifier";
    } else if (labels > 0 && width_of(g, f->matmul) == labels) {
        f->cut = true;
        f->reason = "it has as many outputs as the data have labels";
    } else {
        f->reason =
            "the last linear layer has no softmax behind it, no classifier's name and not as many outputs as "
            "labels, so it is kept; --cut overrides";
    }
    if (f->cut) {
        f->at = feature;
    }
}

static enum ft_status several_outputs(const struct ft_graph *g, struct ft_err *err)
{
    struct ft_buf list = {0};
    enum ft_status st = FT_OK;
    for (int i = 0; i < ft_graph_outputs(g) && i < LISTED; i++) {
        char text[FT_TYPE_TEXT];
        FT_TRY(ft_buf_printf(&list, err, "%s%.60s %s", i > 0 ? ", " : "", ft_graph_output_name(g, i),
                             ft_type_text(ft_graph_type(g, ft_graph_output_at(g, i)), text)));
    }
    st = FT_FAIL(err, INVALID, "the model has %d outputs: %s; say with --cut which is the embedding",
                 ft_graph_outputs(g), (const char *)list.data);
done:
    ft_buf_release(&list);
    return st;
}

static enum ft_status describe(const struct ft_graph *g, const struct finding *f, struct ft_arena *arena,
                               struct ft_cut *cut, struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    cut->at = f->at;
    cut->why = f->reason;
    if (f->cut) {
        const struct ft_type *in = ft_graph_type(g, f->matmul->in[0]);
        int n = ft_graph_producer(g, f->matmul->out[0]);
        char layer[FT_LAYER_NAME];
        FT_TRY(ft_buf_printf(&text, err, "%s%s%.200s%s %lld -> %lld", ft_layer_name(g, n, layer),
                             f->matmul->origin[0] != '\0' ? " (" : "", f->matmul->origin,
                             f->matmul->origin[0] != '\0' ? ")" : "", (long long)in->dim[1].coef,
                             (long long)width_of(g, f->matmul)));
        FT_TRY(keep_text(arena, &text, &cut->head, err));
    }
done:
    ft_buf_release(&text);
    return st;
}

/* Encoders of texts say what an output is by its name; others of theirs (pooler_output) were made for a task
 * that is not ours. */
static bool named_by_text_model(const struct ft_graph *g, struct ft_cut *cut)
{
    static const char *const names[] = {"sentence_embedding", "last_hidden_state", "token_embeddings"};
    for (size_t k = 0; ft_graph_reads_texts(g) && k < sizeof names / sizeof names[0]; k++) {
        for (int i = 0; i < ft_graph_outputs(g); i++) {
            if (strcmp(ft_graph_output_name(g, i), names[k]) == 0) {
                cut->at = ft_graph_output_at(g, i);
                cut->why = k == 0 ? "the model calls it its embedding" : "the rows of its tokens are pooled";
                return true;
            }
        }
    }
    return false;
}

static enum ft_status cut_by_rule(const struct ft_model *model, int64_t labels, struct ft_arena *arena,
                                  struct ft_cut *cut, struct ft_err *err)
{
    const struct ft_graph *g = model->graph;
    struct finding first = {0};
    bool *scratch = NULL;
    enum ft_status st = FT_OK;
    if (named_by_text_model(g, cut)) {
        return FT_OK;
    }
    FT_TRY(ft_new((size_t)ft_graph_nodes(g), sizeof *scratch, &scratch, err));
    for (int i = 0; i < ft_graph_outputs(g); i++) {
        struct finding f;
        apply_head_rule(g, ft_graph_output_at(g, i), labels, scratch, &f);
        if (i > 0 && f.at != first.at) {
            st = several_outputs(g, err);
            goto done;
        }
        if (i == 0 || (f.cut && !first.cut)) {
            first = f;
        }
    }
    FT_TRY(describe(g, &first, arena, cut, err));
done:
    ft_free(scratch);
    return st;
}

enum ft_status ft_cut_find(const struct ft_model *model, const struct ft_tailor_options *options,
                           struct ft_arena *arena, struct ft_cut *cut, struct ft_err *err)
{
    const struct ft_graph *g = model->graph;
    *cut = (struct ft_cut){.at = FT_NO_VALUE, .head = "", .why = ""};
    if (options->cut != NULL && options->cut[0] != '\0') {
        return cut_at_name(g, options->cut, cut, err);
    }
    bool is_folder = model->hf != NULL; /* what it says is the embedding has no head behind it */
    if (!options->keep_head && !model->is_embedding && !is_folder) {
        return cut_by_rule(model, options->labels, arena, cut, err);
    }
    if (ft_graph_outputs(g) != 1) {
        return several_outputs(g, err);
    }
    cut->at = ft_graph_output_at(g, 0);
    cut->why = model->is_embedding ? "it is an embedding model already"
               : is_folder         ? "its folder says what the embedding is"
                                   : "asked for with --keep-head";
    return FT_OK;
}

/* ---- pooling */

static bool one_by_one(const struct ft_type *t)
{
    for (int i = 2; i < t->rank; i++) {
        if (!ft_dim_is_one(t->dim[i])) {
            return false;
        }
    }
    return true;
}

static bool reduces_space(const struct ft_node *node, const struct ft_type *x)
{
    if (node->attrs.axes_count != x->rank - 2) {
        return false;
    }
    for (int i = 0; i < node->attrs.axes_count; i++) {
        if (node->attrs.axes[i] < 2) {
            return false;
        }
    }
    return true;
}

ft_value ft_pooled_map(const struct ft_graph *g, ft_value v)
{
    for (;;) {
        const struct ft_node *node = producer_of(g, v);
        const struct ft_type *t = ft_graph_type(g, v);
        if (t->rank >= 3 && !one_by_one(t)) {
            return v;
        }
        if (node == NULL) {
            return FT_NO_VALUE;
        }
        const struct ft_type *x = ft_graph_type(g, node->in[0]);
        bool pools = (node->op == FT_OP_REDUCE_MEAN && x->rank >= 3 && reduces_space(node, x)) ||
                     ((node->op == FT_OP_AVGPOOL || node->op == FT_OP_MAXPOOL) && one_by_one(t));
        if (pools) {
            return node->in[0];
        }
        if (node->op != FT_OP_RESHAPE && node->op != FT_OP_DROPOUT) {
            return FT_NO_VALUE;
        }
        v = node->in[0];
    }
}
