#include "executor/cli/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/cli/cli.h"
#include "executor/cli/fold.h"

enum { PAGE_LINES = 30 }; /* of layers, so that all of it fits a terminal */

/* ---- layers */

static const char *fate(const struct ft_layer *layer)
{
    if (layer->cut_away) {
        return "cut";
    }
    if (layer->params == 0) {
        return "";
    }
    return layer->trainable ? "trained" : "frozen";
}

static void print_all(const struct ft_tailor_report *report)
{
    char shape[FT_TYPE_TEXT];
    char count[FT_COUNT_TEXT];
    printf("%-26s %-34s %14s  %s\n", "layer", "output", "parameters", "");
    for (size_t i = 0; i < report->n_layers; i++) {
        const struct ft_layer *layer = &report->layers[i];
        printf("%-26s %-34s %14s  %s\n", layer->name, ft_type_text(&layer->type, shape),
               layer->params > 0 ? ft_count_text(layer->params, count) : "", fate(layer));
    }
}

/* "trained" and "frozen" in one block are "partly trained". */
static const char *fate_of(const struct ft_layer *layers, const struct ft_fold_line *line, int64_t *params)
{
    const char *all = "";
    *params = 0;
    for (size_t i = 0; i < line->count * line->times; i++) {
        const char *one = fate(&layers[line->first + i]);
        *params += layers[line->first + i].params;
        if (all[0] == '\0') {
            all = one;
        } else if (one[0] != '\0' && strcmp(one, all) != 0) {
            all = "partly trained";
        }
    }
    return all;
}

static enum ft_status print_folded(const struct ft_tailor_report *report, struct ft_err *err)
{
    struct ft_fold fold;
    char name[FT_FOLD_NAME];
    char title[FT_FOLD_NAME + 32];
    char ops[FT_FOLD_OPS];
    char shape[FT_TYPE_TEXT];
    char count[FT_COUNT_TEXT];
    FT_RETURN_IF_FAILED(ft_fold_layers(report->layers, report->n_layers, PAGE_LINES, &fold, err));
    printf("%-28s %-19s %-36s %12s\n", "block", "output", "layers", "parameters");
    for (size_t i = 0; i < fold.n_lines; i++) {
        const struct ft_fold_line *line = &fold.lines[i];
        int64_t params = 0;
        const char *what = fate_of(report->layers, line, &params);
        const struct ft_layer *last = &report->layers[line->first + line->count * line->times - 1];
        (void)ft_fold_name(report->layers, line, name);
        if (line->times > 1) {
            (void)snprintf(title, sizeof title, "%s x %zu", name, line->times);
        } else {
            (void)snprintf(title, sizeof title, "%s", name);
        }
        (void)ft_type_text(&last->type, shape);
        const char *extents = strchr(shape, '(');
        printf("%-28s %-19s %-36s %12s  %s\n", title, extents != NULL ? extents : shape,
               ft_fold_ops(report->layers, line, ops), params > 0 ? ft_count_text(params, count) : "", what);
    }
    if (fold.n_lines < report->n_layers) {
        printf("%zu layers; --full lists them one by one\n", report->n_layers);
    }
    ft_free(fold.lines);
    return FT_OK;
}

/* ---- what it will cost */

static void print_cost(const struct ft_cost *c, bool texts)
{
    char of_texts[96] = "";
    if (texts) {
        (void)snprintf(of_texts, sizeof of_texts, " texts of %" PRId64 " tokens (the longest: %.0f MB)",
                       c->train_tokens, (double)c->full_bytes / 1e6);
    }
    printf("memory     training %.0f MB in batches of %" PRId64 "%s, encoding %.0f MB in batches of %" PRId64
           "; --memory limits it\n",
           (double)c->train_bytes / 1e6, c->train_batch, of_texts, (double)c->encode_bytes / 1e6,
           c->encode_batch);
    if (c->frozen_bytes > 0) {
        printf("frozen     the first %d of %d nodes run once for each document: %zu bytes of each are kept\n",
               c->frozen_nodes, c->nodes, c->frozen_bytes);
    }
    if (c->timed_batch > 0) {
        printf("time       for 1,000 documents: an epoch %.3g s%s (%s of %" PRId64
               "); encoding %.3g s; on this machine, without preparing them%s\n",
               c->train_seconds, c->frozen_bytes > 0 ? " from the second on" : "",
               c->step_is_measured ? "measured on a step" : "three times a forward pass", c->timed_batch,
               c->encode_seconds, texts ? "; texts of 64 tokens at most" : "");
    }
}

static enum ft_status cost_json(const struct ft_cost *c, struct ft_json *o, struct ft_err *err)
{
    bool timed = c->timed_batch > 0;
    FT_RETURN_IF_FAILED(ft_json_set(o, "train_batch", ft_json_of_int(c->train_batch), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "train_memory_bytes", ft_json_of_int((int64_t)c->train_bytes), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "train_tokens", ft_json_of_int(c->train_tokens), err));
    FT_RETURN_IF_FAILED(
        ft_json_set(o, "train_memory_bytes_longest", ft_json_of_int((int64_t)c->full_bytes), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "encode_batch", ft_json_of_int(c->encode_batch), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "encode_memory_bytes", ft_json_of_int((int64_t)c->encode_bytes), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "frozen_nodes", ft_json_of_int(c->frozen_nodes), err));
    FT_RETURN_IF_FAILED(
        ft_json_set(o, "frozen_bytes_per_item", ft_json_of_int((int64_t)c->frozen_bytes), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "timed_batch", ft_json_of_int(c->timed_batch), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "step_is_measured", ft_json_of_bool(c->step_is_measured), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "epoch_seconds_per_1000",
                                    timed ? ft_json_of_real(c->train_seconds) : ft_json_null(), err));
    return ft_json_set(o, "encode_seconds_per_1000",
                       timed ? ft_json_of_real(c->encode_seconds) : ft_json_null(), err);
}

/* ---- the whole */

enum ft_status ft_inspect_print(const struct ft_inspection *in, struct ft_err *err)
{
    const struct ft_model *model = in->model;
    const struct ft_tailor_report *report = in->report;
    char total[FT_COUNT_TEXT];
    char trained[FT_COUNT_TEXT];
    char shape[FT_TYPE_TEXT];
    if (in->full || report->n_layers <= PAGE_LINES) {
        print_all(report);
    } else {
        FT_RETURN_IF_FAILED(print_folded(report, err));
    }
    printf("\nmodel      %s", model->name);
    if (model->opset > 0) {
        printf(" (opset %d%s%s)", model->opset, model->producer[0] != '\0' ? ", " : "", model->producer);
    }
    putchar('\n');
    for (int i = 0; i < ft_graph_inputs(model->graph); i++) {
        ft_value v = ft_graph_input_at(model->graph, i);
        printf("input      %s %s\n", ft_graph_name(model->graph, v),
               ft_type_text(ft_graph_type(model->graph, v), shape));
    }
    printf("prepared   %s\n", in->prep_text);
    if (in->padded != NULL) {
        printf("texts      %s%s\n",
               in->padded[0] == '\0' ? "without padding" : "padded to the longest of a batch: ", in->padded);
    }
    if (in->hint != NULL) {
        printf("hint       %s\n", in->hint);
    }
    printf("head       %s\n", report->head[0] != '\0' ? report->head : "none is cut");
    printf("embedding  %s, %" PRId64 " dimensions\n", report->embedding_at, report->dim);
    printf("why        %s\n", report->why);
    printf("parameters %s, of them trained %s\n", ft_count_text(report->params_total, total),
           ft_count_text(report->params_trainable, trained));
    if (in->cost != NULL) {
        print_cost(in->cost, in->padded != NULL);
    } else {
        printf("training   %s\n", in->no_cost);
    }
    return FT_OK;
}

/* ---- JSON */

static enum ft_status layers_json(const struct ft_tailor_report *report, struct ft_json *list,
                                  struct ft_err *err)
{
    char shape[FT_TYPE_TEXT];
    for (size_t i = 0; i < report->n_layers; i++) {
        const struct ft_layer *layer = &report->layers[i];
        struct ft_json *row = ft_json_object();
        enum ft_status st = FT_OK;
        FT_TRY(ft_json_set(row, "name", ft_json_of_text(layer->name), err));
        FT_TRY(ft_json_set(row, "op", ft_json_of_text(layer->op), err));
        FT_TRY(ft_json_set(row, "origin", ft_json_of_text(layer->origin), err));
        FT_TRY(ft_json_set(row, "output", ft_json_of_text(ft_type_text(&layer->type, shape)), err));
        FT_TRY(ft_json_set(row, "parameters", ft_json_of_int(layer->params), err));
        FT_TRY(ft_json_set(row, "trained", ft_json_of_bool(layer->trainable), err));
        FT_TRY(ft_json_set(row, "cut", ft_json_of_bool(layer->cut_away), err));
        struct ft_json *taken = row;
        row = NULL;
        FT_TRY(ft_json_push(list, taken, err));
    done:
        ft_json_free(row);
        FT_RETURN_IF_FAILED(st);
    }
    return FT_OK;
}

enum ft_status ft_inspect_print_json(const struct ft_inspection *in, struct ft_err *err)
{
    const struct ft_model *model = in->model;
    const struct ft_tailor_report *report = in->report;
    enum ft_status st = FT_OK;
    struct ft_json *json = ft_json_object();
    struct ft_json *layers = ft_json_array();
    struct ft_json *costs = in->cost != NULL ? ft_json_object() : ft_json_null();
    FT_TRY(ft_json_set(json, "model", ft_json_of_text(model->name), err));
    FT_TRY(ft_json_set(json, "opset", ft_json_of_int(model->opset), err));
    FT_TRY(ft_json_set(json, "producer", ft_json_of_text(model->producer), err));
    FT_TRY(ft_json_set(json, "head", ft_json_of_text(report->head), err));
    FT_TRY(ft_json_set(json, "embedding", ft_json_of_text(report->embedding_at), err));
    FT_TRY(ft_json_set(json, "dim", ft_json_of_int(report->dim), err));
    FT_TRY(ft_json_set(json, "why", ft_json_of_text(report->why), err));
    FT_TRY(ft_json_set(json, "parameters", ft_json_of_int(report->params_total), err));
    FT_TRY(ft_json_set(json, "trained_parameters", ft_json_of_int(report->params_trainable), err));
    if (in->padded != NULL) {
        FT_TRY(ft_json_set(json, "packed", ft_json_of_bool(in->padded[0] == '\0'), err));
    }
    if (in->padded != NULL && in->padded[0] != '\0') {
        FT_TRY(ft_json_set(json, "padded_because", ft_json_of_text(in->padded), err));
    }
    if (in->prep != NULL) {
        FT_TRY(ft_json_set(json, "prep", ft_json_copy(in->prep), err));
    }
    if (in->out != NULL) {
        FT_TRY(ft_json_set(json, "out", ft_json_of_text(in->out), err));
    }
    if (in->cost != NULL) {
        FT_TRY(cost_json(in->cost, costs, err));
    }
    if (in->out == NULL) {
        struct ft_json *made = costs;
        costs = NULL;
        FT_TRY(ft_json_set(json, "costs", made, err));
    }
    FT_TRY(layers_json(report, layers, err));
    struct ft_json *taken = layers;
    layers = NULL;
    FT_TRY(ft_json_set(json, "layers", taken, err));
    FT_TRY(ft_print_json(json, err));
done:
    ft_json_free(costs);
    ft_json_free(layers);
    ft_json_free(json);
    return st;
}
