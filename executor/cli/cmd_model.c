/* inspect and tailor: both show or write what tailoring makes of a model. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/file.h"
#include "executor/cli/cli.h"
#include "executor/model/artifact.h"
#include "executor/model/onnx.h"
#include "executor/prep/prep.h"
#include "executor/train/input.h"

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

static void print_layers(const struct ft_tailor_report *report)
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

static void print_report(const struct ft_model *model, const struct ft_tailor_report *report,
                         const char *prep, const char *hint)
{
    char total[FT_COUNT_TEXT];
    char trained[FT_COUNT_TEXT];
    char shape[FT_TYPE_TEXT];
    print_layers(report);
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
    printf("prepared   %s\n", prep);
    if (hint != NULL) {
        printf("hint       %s\n", hint);
    }
    printf("head       %s\n", report->head[0] != '\0' ? report->head : "none is cut");
    printf("embedding  %s, %" PRId64 " dimensions\n", report->embedding_at, report->dim);
    printf("why        %s\n", report->why);
    printf("parameters %s, of them trained %s\n", ft_count_text(report->params_total, total),
           ft_count_text(report->params_trainable, trained));
}

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

static enum ft_status print_report_json(const struct ft_model *model, const struct ft_tailor_report *report,
                                        const struct ft_json *prep, const char *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *json = ft_json_object();
    struct ft_json *layers = ft_json_array();
    FT_TRY(ft_json_set(json, "model", ft_json_of_text(model->name), err));
    FT_TRY(ft_json_set(json, "opset", ft_json_of_int(model->opset), err));
    FT_TRY(ft_json_set(json, "producer", ft_json_of_text(model->producer), err));
    FT_TRY(ft_json_set(json, "head", ft_json_of_text(report->head), err));
    FT_TRY(ft_json_set(json, "embedding", ft_json_of_text(report->embedding_at), err));
    FT_TRY(ft_json_set(json, "dim", ft_json_of_int(report->dim), err));
    FT_TRY(ft_json_set(json, "why", ft_json_of_text(report->why), err));
    FT_TRY(ft_json_set(json, "parameters", ft_json_of_int(report->params_total), err));
    FT_TRY(ft_json_set(json, "trained_parameters", ft_json_of_int(report->params_trainable), err));
    if (prep != NULL) {
        FT_TRY(ft_json_set(json, "prep", ft_json_copy(prep), err));
    }
    if (out != NULL) {
        FT_TRY(ft_json_set(json, "out", ft_json_of_text(out), err));
    }
    FT_TRY(layers_json(report, layers, err));
    struct ft_json *taken = layers;
    layers = NULL;
    FT_TRY(ft_json_set(json, "layers", taken, err));
    FT_TRY(ft_print_json(json, err));
done:
    ft_json_free(layers);
    ft_json_free(json);
    return st;
}

/* Preprocessing as `fit` would store it. */
static enum ft_status prep_json(const struct ft_model *model, const struct ft_graph *graph,
                                const struct ft_json *asked, struct ft_json **out, const char **hint,
                                struct ft_err *err)
{
    struct ft_prep prep;
    FT_RETURN_IF_FAILED(ft_input_prep(graph, model, asked, &prep, err));
    *hint = ft_input_hint(model, asked, &prep);
    return ft_prep_write(&prep, out, err);
}

static enum ft_status write_onnx(const struct ft_model *model, const struct ft_graph *graph,
                                 const struct ft_json *prep, const char *path, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    struct ft_json *properties = NULL;
    FT_TRY(ft_artifact_properties(prep, &properties, err));
    FT_TRY(ft_onnx_write(graph, model->name, properties, &file, err));
    FT_TRY(ft_file_write(path, ft_buf_bytes(&file), err));
done:
    ft_json_free(properties);
    ft_buf_release(&file);
    return st;
}

static enum ft_status write_artifact(const struct ft_model *model, const struct ft_graph *graph,
                                     const struct ft_json *prep, const char *path, struct ft_err *err)
{
    struct ft_json *empty = ft_json_object();
    struct ft_artifact artifact = {.run_name = model->name,
                                   .model_name = model->name,
                                   .graph = graph,
                                   .prep = prep,
                                   .config = empty,
                                   .metrics = empty,
                                   .card = empty};
    enum ft_status st = ft_artifact_write(&artifact, path, err);
    ft_json_free(empty);
    return st;
}

/* What `inspect` prints: a model that cannot be prepared for is still worth looking at. */
static enum ft_status prep_text(const struct ft_json *prep, const struct ft_err *why, struct ft_buf *out,
                                struct ft_err *err)
{
    if (prep == NULL) {
        return ft_buf_text(out, why->text, err);
    }
    return ft_json_write(prep, 0, out, err);
}

static enum ft_status show(int argc, char **argv, bool write, const char *usage, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_args args;
    struct ft_model_args m = {0};
    struct ft_model *model = NULL;
    struct ft_graph *graph = NULL;
    struct ft_tailor_report report = {0};
    struct ft_json *prep = NULL;
    const char *hint = NULL;
    struct ft_buf text = {0};
    struct ft_err why = {0};
    FT_TRY(ft_args_parse(argc, argv, ft_model_args_flag, &args, err));
    FT_TRY(ft_model_args_read(write ? "tailor" : "inspect", &args, &m, err));
    FT_TRY(ft_args_want(&args, 1, usage, err));
    if (write && m.out == NULL) {
        FT_TRY(FT_FAIL(err, USAGE, "tailor needs --out FILE.onnx, FILE.zip or a folder"));
    }
    FT_TRY(ft_out_check(m.out, ".onnx", ".zip", err));
    FT_TRY(ft_model_load(args.positional[0], &m.model, &model, err));
    FT_TRY(ft_tailor(model, &m.tailor, &graph, &report, err));
    if (prep_json(model, graph, m.prep, &prep, &hint, &why) != FT_OK && (write || m.prep != NULL)) {
        *err = why;
        FT_TRY(why.code);
    }
    if (write) {
        bool onnx = ft_path_has_suffix(m.out, ".onnx");
        FT_TRY(onnx ? write_onnx(model, graph, prep, m.out, err)
                    : write_artifact(model, graph, prep, m.out, err));
    }
    if (m.json) {
        FT_TRY(print_report_json(model, &report, prep, write ? m.out : NULL, err));
    } else if (write) {
        printf("%s: %" PRId64 " dimensions, cut at %s (%s)\n", m.out, report.dim, report.embedding_at,
               report.why);
    } else {
        FT_TRY(prep_text(prep, &why, &text, err));
        print_report(model, &report, (const char *)text.data, hint);
    }
done:
    ft_buf_release(&text);
    ft_json_free(prep);
    ft_tailor_report_release(&report);
    ft_graph_free(graph);
    ft_model_free(model);
    ft_model_args_release(&m);
    return st;
}

enum ft_status ft_cmd_inspect(int argc, char **argv, struct ft_err *err)
{
    return show(argc, argv, false, ft_command_find("inspect")->usage, err);
}

enum ft_status ft_cmd_tailor(int argc, char **argv, struct ft_err *err)
{
    return show(argc, argv, true, ft_command_find("tailor")->usage, err);
}
