#include "executor/train/input.h"

#include <string.h>

#include "executor/graph/pack.h"
#include "executor/model/hf.h"

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

/* ---- texts */

static bool is_tokens(const struct ft_type *t)
{
    return t->dtype == FT_I64 &&
           ((t->rank == 1 && ft_dim_equal(t->dim[0], ft_dim_symbol(FT_SYMBOL_TOKENS))) ||
            (t->rank == 2 && is_batch(t->dim[0]) &&
             ft_dim_equal(t->dim[1], ft_dim_symbol(FT_SYMBOL_LENGTH))));
}

static bool is_spans(const struct ft_type *t)
{
    return t->dtype == FT_I64 && t->rank == 2 && is_batch(t->dim[0]) && ft_dim_is_known(t->dim[1]) &&
           t->dim[1].coef == 2;
}

static enum ft_status take_text(const struct ft_graph *g, ft_value v, struct ft_text_inputs *t,
                                struct ft_err *err)
{
    char text[FT_TYPE_TEXT];
    const struct {
        const char *name;
        ft_value *at;
    } known[] = {{"input_ids", &t->ids},
                 {"token_type_ids", &t->types},
                 {"attention_mask", &t->seq},
                 {"spans", &t->seq}};
    const struct ft_type *type = ft_graph_type(g, v);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, ft_graph_name(g, v)) != 0) {
            continue;
        }
        if (i < 3 ? !is_tokens(type) : !is_spans(type)) {
            return FT_FAIL(
                err, UNSUPPORTED,
                "input \"%s\" is %s; wanted int64 (N, S) with open axes: export the model with a dynamic "
                "batch and length",
                known[i].name, ft_type_text(type, text));
        }
        *known[i].at = v;
        return FT_OK;
    }
    return FT_FAIL(err, UNSUPPORTED,
                   "the model reads \"%s\" besides \"input_ids\"; of a text it may read attention_mask and "
                   "token_type_ids",
                   ft_graph_name(g, v));
}

static enum ft_status find_text(const struct ft_graph *g, struct ft_input *input, struct ft_err *err)
{
    struct ft_text_inputs *t = &input->text;
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        ft_value v = ft_graph_input_at(g, i);
        if (v != input->rng) {
            FT_RETURN_IF_FAILED(take_text(g, v, t, err));
        }
    }
    t->packed = ft_graph_type(g, t->ids)->rank == 1;
    if (t->seq == FT_NO_VALUE) {
        return FT_FAIL(
            err, UNSUPPORTED,
            "the model reads \"input_ids\" but no \"attention_mask\": texts of several lengths cannot "
            "stand in one batch");
    }
    return FT_OK;
}

/* ---- all */

static enum ft_status find_data(const struct ft_graph *g, struct ft_input *input, struct ft_err *err)
{
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        ft_value v = ft_graph_input_at(g, i);
        if (v != input->rng && input->data != FT_NO_VALUE) {
            return FT_FAIL(
                err, UNSUPPORTED,
                "the model has several inputs (\"%s\", \"%s\"); one is supported, or those of a text",
                ft_graph_name(g, input->data), ft_graph_name(g, v));
        }
        input->data = v != input->rng ? v : input->data;
    }
    if (input->data == FT_NO_VALUE) {
        return FT_FAIL(err, INVALID, "the model has no input or no output");
    }
    return check_data(g, input->data, err);
}

/* An input of integers by that name, or FT_NO_VALUE. */
static ft_value integers(const struct ft_graph *g, const char *name)
{
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        ft_value v = ft_graph_input_at(g, i);
        if (strcmp(ft_graph_name(g, v), name) == 0 && ft_graph_type(g, v)->dtype == FT_I64) {
            return v;
        }
    }
    return FT_NO_VALUE;
}

enum ft_status ft_input_find(const struct ft_graph *g, struct ft_input *input, struct ft_err *err)
{
    char text[FT_TYPE_TEXT];
    *input = (struct ft_input){.data = FT_NO_VALUE,
                               .text = {FT_NO_VALUE, FT_NO_VALUE, FT_NO_VALUE, false},
                               .rng = integers(g, "rng"),
                               .is_text = integers(g, "input_ids") != FT_NO_VALUE};
    if (ft_graph_outputs(g) < 1) {
        return FT_FAIL(err, INVALID, "the model has no input or no output");
    }
    FT_RETURN_IF_FAILED(input->is_text ? find_text(g, input, err) : find_data(g, input, err));
    input->embedding = ft_graph_output_at(g, 0);
    const struct ft_type *e = ft_graph_type(g, input->embedding);
    if (e->rank != 2 || !is_batch(e->dim[0]) || !ft_dim_is_known(e->dim[1])) {
        return FT_FAIL(err, INVALID, "the embedding is %s, wanted (N, D)", ft_type_text(e, text));
    }
    input->dim = e->dim[1].coef;
    return FT_OK;
}

ft_value ft_input_rng(const struct ft_graph *graph)
{
    return integers(graph, "rng");
}

struct ft_text_inputs ft_input_texts(const struct ft_graph *graph)
{
    ft_value ids = integers(graph, "input_ids");
    ft_value spans = integers(graph, FT_PACK_SPANS);
    ft_value mask = integers(graph, FT_PACK_MASK);
    return (struct ft_text_inputs){.ids = ids,
                                   .types = integers(graph, "token_type_ids"),
                                   .seq = spans != FT_NO_VALUE ? spans : mask,
                                   .packed = mask == FT_NO_VALUE};
}

/* ---- preparation */

enum ft_status ft_input_tokenizer(const struct ft_model *model, struct ft_tokenizer **tokenizer,
                                  struct ft_err *err)
{
    *tokenizer = NULL;
    if (model->tokenizer.size == 0) {
        return FT_OK;
    }
    return ft_tokenizer_read(ft_buf_bytes(&model->tokenizer), model->source, tokenizer, err);
}

/* Rows of the table that the ids are looked up in; 0: there is none. */
static int64_t ids_end_of(const struct ft_graph *g)
{
    ft_value ids = ft_input_texts(g).ids;
    int64_t end = 0;
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        const struct ft_node *node = ft_graph_node(g, n);
        if (node->op == FT_OP_GATHER && node->attrs.axis == 0 && node->in[1] == ids &&
            ft_graph_source(g, node->in[0]) == FT_FROM_PARAM) {
            int64_t rows = ft_extent(ft_graph_type(g, node->in[0]), 0);
            end = end == 0 || rows < end ? rows : end;
        }
    }
    return end;
}

static enum ft_status infer_text(const struct ft_graph *g, const struct ft_model *model,
                                 const struct ft_tokenizer *tokenizer, struct ft_prep *prep,
                                 struct ft_err *err)
{
    if (tokenizer == NULL) {
        return FT_FAIL(
            err, UNSUPPORTED,
            "the model reads texts but brings no tokenizer; a Hugging Face folder has one in tokenizer.json");
    }
    size_t special = ft_tokenizer_special_count(tokenizer);
    if (model->max_length <= (int64_t)special) {
        return FT_FAIL(
            err, INVALID,
            "%s takes texts of at most %lld tokens, and %zu of them are special ones: nothing is left of a "
            "text (max_seq_length in sentence_bert_config.json, max_position_embeddings in config.json)",
            model->source, (long long)model->max_length, special);
    }
    ft_prep_infer_text(tokenizer, model->max_length, prep);
    prep->ids_end = ids_end_of(g);
    size_t size = model->prompt != NULL ? strlen(model->prompt) : 0;
    if (size >= sizeof prep->prefix) {
        return FT_FAIL(err, LIMIT, "the model's prompt has %zu bytes, at most %zu are taken", size,
                       sizeof prep->prefix - 1);
    }
    memcpy(prep->prefix, model->prompt != NULL ? model->prompt : "", size);
    return FT_OK;
}

static enum ft_status infer_rows(const struct ft_graph *g, ft_value data, struct ft_prep *prep,
                                 struct ft_err *err)
{
    int64_t dims[FT_MAX_RANK];
    const struct ft_type *t = ft_graph_type(g, data);
    for (int i = 1; i < t->rank; i++) {
        dims[i - 1] = ft_dim_is_known(t->dim[i]) ? t->dim[i].coef : 0;
    }
    return ft_prep_infer(dims, t->rank - 1, prep, err);
}

/* sentence-transformers' include_prompt: false, as INSTRUCTOR has it: without a prompt it says nothing. */
static enum ft_status check_prompt(const struct ft_model *model, const struct ft_prep *prep,
                                   struct ft_err *err)
{
    if (!model->prompt_apart || prep->prefix[0] == '\0') {
        return FT_OK;
    }
    return FT_FAIL(err, UNSUPPORTED,
                   "the Pooling of %s leaves out the tokens of a prompt (include_prompt is false), which is "
                   "not built, and there is one: \"%.100s\"; give no prefix (--prep-options "
                   "'{\"prefix\": \"\"}'), or set include_prompt to true",
                   model->source, prep->prefix);
}

enum ft_status ft_input_prep(const struct ft_graph *g, const struct ft_model *model,
                             const struct ft_tokenizer *tokenizer, const struct ft_json *options,
                             struct ft_prep *prep, struct ft_err *err)
{
    struct ft_input input;
    FT_RETURN_IF_FAILED(ft_input_find(g, &input, err));
    FT_RETURN_IF_FAILED(input.is_text ? infer_text(g, model, tokenizer, prep, err)
                                      : infer_rows(g, input.data, prep, err));
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
    return input.is_text ? check_prompt(model, prep, err) : FT_OK;
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

enum ft_status ft_input_pack(const struct ft_graph *g, struct ft_graph **packed, char padded[FT_ERR_TEXT],
                             struct ft_err *err)
{
    struct ft_input input;
    padded[0] = '\0';
    *packed = NULL;
    FT_RETURN_IF_FAILED(ft_input_find(g, &input, err));
    return input.is_text && !input.text.packed ? ft_graph_pack(g, packed, padded, err) : FT_OK;
}
