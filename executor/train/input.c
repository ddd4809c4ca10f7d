#include "executor/train/input.h"

#include <string.h>

static bool is_batch(struct ft_dim d)
{
    return ft_dim_equal(d, ft_dim_symbol(FT_SYMBOL_BATCH));
}

static enum ft_status check_data(const struct ft_graph *g, ft_value v, struct ft_err *err)
{
    char text[FT_TYPE_TEXT];
    const struct ft_type *t = ft_graph_type(g, v);
    if (t->dtype != FT_F32 || t->rank < 2) {
        return FT_FAIL(err, UNSUPPORTED, "input \"%s\" is %s; images and vectors are rows of float32",
                       ft_graph_name(g, v), ft_type_text(t, text));
    }
    if (!is_batch(t->dim[0])) {
        return FT_FAIL(err, UNSUPPORTED,
                       "input \"%s\" is %s: its first axis is not an open batch; export the model with a "
                       "dynamic batch axis",
                       ft_graph_name(g, v), ft_type_text(t, text));
    }
    return FT_OK;
}

enum ft_status ft_input_find(const struct ft_graph *g, struct ft_input *input, struct ft_err *err)
{
    char text[FT_TYPE_TEXT];
    input->data = FT_NO_VALUE;
    input->rng = FT_NO_VALUE;
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        ft_value v = ft_graph_input_at(g, i);
        if (strcmp(ft_graph_name(g, v), "rng") == 0 && ft_graph_type(g, v)->dtype == FT_I64) {
            input->rng = v;
        } else if (input->data != FT_NO_VALUE) {
            return FT_FAIL(err, UNSUPPORTED,
                           "the model has several inputs (\"%s\", \"%s\"); one is supported",
                           ft_graph_name(g, input->data), ft_graph_name(g, v));
        } else {
            input->data = v;
        }
    }
    if (input->data == FT_NO_VALUE || ft_graph_outputs(g) < 1) {
        return FT_FAIL(err, INVALID, "the model has no input or no output");
    }
    FT_RETURN_IF_FAILED(check_data(g, input->data, err));
    input->embedding = ft_graph_output_at(g, 0);
    const struct ft_type *e = ft_graph_type(g, input->embedding);
    if (e->rank != 2 || !is_batch(e->dim[0]) || !ft_dim_is_known(e->dim[1])) {
        return FT_FAIL(err, INVALID, "the embedding is %s, wanted (N, D)", ft_type_text(e, text));
    }
    input->dim = e->dim[1].coef;
    return FT_OK;
}

enum ft_status ft_input_prep(const struct ft_graph *g, const struct ft_model *model,
                             const struct ft_json *options, struct ft_prep *prep, struct ft_err *err)
{
    struct ft_input input;
    int64_t dims[FT_MAX_RANK];
    FT_RETURN_IF_FAILED(ft_input_find(g, &input, err));
    const struct ft_type *t = ft_graph_type(g, input.data);
    for (int i = 1; i < t->rank; i++) {
        dims[i - 1] = ft_dim_is_known(t->dim[i]) ? t->dim[i].coef : 0;
    }
    FT_RETURN_IF_FAILED(ft_prep_infer(dims, t->rank - 1, prep, err));
    if (model->prep != NULL) {
        if (ft_prep_read(model->prep, prep, err) != FT_OK) {
            return ft_err_wrap(err, "preprocessing of %s", model->source);
        }
    }
    if (options != NULL) {
        if (ft_prep_read(options, prep, err) != FT_OK) {
            return ft_err_wrap(err, "prep_options");
        }
    }
    return FT_OK;
}

static bool tells_mean(const struct ft_json *options)
{
    return ft_json_get(options, "mean") != NULL || ft_json_get(options, "preset") != NULL;
}

const char *ft_input_hint(const struct ft_model *model, const struct ft_json *options,
                          const struct ft_prep *prep)
{
    return ft_prep_hint(prep, tells_mean(model->prep) || tells_mean(options));
}
