/* inspect and tailor: both show or write what tailoring makes of a model. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/file.h"
#include "executor/cli/cli.h"
#include "executor/cli/inspect.h"
#include "executor/model/artifact.h"
#include "executor/model/onnx.h"
#include "executor/prep/prep.h"
#include "executor/train/input.h"

/* Preprocessing as `fit` would store it. */
static enum ft_status prep_json(const struct ft_model *model, const struct ft_graph *graph,
                                const struct ft_json *asked, struct ft_json **out, const char **hint,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_prep prep;
    struct ft_tokenizer *tokenizer = NULL;
    FT_TRY(ft_input_tokenizer(model, &tokenizer, err));
    FT_TRY(ft_input_prep(graph, model, tokenizer, asked, &prep, err));
    *hint = ft_input_hint(model, asked, &prep);
    FT_TRY(ft_prep_write(&prep, out, err));
done:
    ft_tokenizer_free(tokenizer);
    return st;
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
                                   .tokenizer = ft_buf_bytes(&model->tokenizer),
                                   .hf = model->hf,
                                   .config = empty,
                                   .metrics = empty,
                                   .card = empty};
    char left_out[FT_ERR_TEXT];
    enum ft_status st = ft_artifact_write(&artifact, path, left_out, err);
    if (left_out[0] != '\0') {
        (void)fprintf(stderr, "%s\n", left_out);
    }
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

/* A model that cannot be trained is still worth looking at, too. */
static enum ft_status inspect(const struct ft_model_args *m, const struct ft_graph *graph,
                              struct ft_inspection *what, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_cost cost;
    struct ft_err why = {0};
    struct ft_input input;
    struct ft_graph *packed = NULL;
    char padded[FT_ERR_TEXT];
    const enum ft_cost_measure measure = strcmp(m->measure, "yes") == 0  ? FT_COST_ALWAYS
                                         : strcmp(m->measure, "no") == 0 ? FT_COST_NEVER
                                                                         : FT_COST_AUTO;
    if (ft_input_find(graph, &input, &why) == FT_OK && input.is_text) {
        FT_TRY(ft_input_pack(graph, &packed, padded, err));
        what->padded = padded;
    }
    if (why.code == FT_OK && ft_cost_find(packed != NULL ? packed : graph, what->model->max_length, measure,
                                          &cost, &why) == FT_OK) {
        what->cost = &cost;
    }
    what->no_cost = why.text;
    what->full = m->full;
    st = m->json ? ft_inspect_print_json(what, err) : ft_inspect_print(what, err);
    what->cost = NULL;
    what->padded = NULL;
done:
    ft_graph_free(packed);
    return st;
}

static enum ft_status write_out(const struct ft_model_args *m, const struct ft_graph *graph,
                                struct ft_inspection *what, struct ft_err *err)
{
    bool onnx = ft_path_has_suffix(m->out, ".onnx");
    FT_RETURN_IF_FAILED(onnx ? write_onnx(what->model, graph, what->prep, m->out, err)
                             : write_artifact(what->model, graph, what->prep, m->out, err));
    if (onnx && what->model->tokenizer.size > 0 && !m->quiet) {
        (void)fprintf(stderr,
                      "%s has no tokenizer: keep tokenizer.json beside it, or take it along with --out of a "
                      "folder or a .zip\n",
                      m->out);
    }
    if (m->json) {
        what->out = m->out;
        return ft_inspect_print_json(what, err);
    }
    printf("%s: %" PRId64 " dimensions, cut at %s (%s)\n", m->out, what->report->dim,
           what->report->embedding_at, what->report->why);
    return FT_OK;
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
    FT_TRY(write ? ft_out_apart(m.out, args.positional[0], err) : FT_OK);
    FT_TRY(ft_model_load(args.positional[0], &m.model, &model, err));
    FT_TRY(ft_tailor(model, &m.tailor, &graph, &report, err));
    if (prep_json(model, graph, m.prep, &prep, &hint, &why) != FT_OK && (write || m.prep != NULL)) {
        *err = why;
        FT_TRY(why.code);
    }
    FT_TRY(prep_text(prep, &why, &text, err));
    struct ft_inspection what = {
        .model = model, .report = &report, .prep = prep, .prep_text = (const char *)text.data, .hint = hint};
    FT_TRY(write ? write_out(&m, graph, &what, err) : inspect(&m, graph, &what, err));
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
