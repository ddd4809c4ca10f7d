#include "executor/model/metadata.h"

#include <inttypes.h>
#include <string.h>

#include "executor/codec/yaml.h"

/* Finetuner's loader wants every key of its schema (finetuner/SPEC E.3). Names, shapes and types are the
 * model's own; builder, descriptor and options, which only its PyTorch loader uses, name the nearest kind it
 * knows. */

static const char batch_name[] = "batch-size";
static const char length_name[] = "sequence-length";

static bool is_kind(const struct ft_artifact *a, const char *wanted)
{
    const char *kind = ft_json_text(ft_json_get(a->prep, "kind"), NULL);
    return kind != NULL && strcmp(kind, wanted) == 0;
}

static bool is_image(const struct ft_artifact *a)
{
    return is_kind(a, "image");
}

static bool is_length(struct ft_dim d)
{
    return ft_dim_equal(d, ft_dim_symbol(FT_SYMBOL_LENGTH));
}

static struct ft_json *dim_json(struct ft_dim d)
{
    return ft_dim_is_known(d) ? ft_json_of_int(d.coef)
                              : ft_json_of_text(is_length(d) ? length_name : batch_name);
}

static enum ft_status shape_json(const struct ft_type *type, int from, struct ft_json **out,
                                 struct ft_err *err)
{
    struct ft_json *list = ft_json_array();
    enum ft_status st = FT_OK;
    *out = NULL;
    if (list == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for metadata");
    }
    for (int i = from; i < type->rank; i++) {
        FT_TRY(ft_json_push(list, dim_json(type->dim[i]), err));
    }
    *out = list;
    list = NULL;
done:
    ft_json_free(list);
    return st;
}

static enum ft_status set_text(struct ft_json *o, const char *key, const char *text, struct ft_err *err)
{
    return ft_json_set(o, key, ft_json_of_text(text), err);
}

/* {input: value} for every input; value is copied. */
static enum ft_status set_each_input(struct ft_json *o, const char *key, const struct ft_graph *g,
                                     const struct ft_json *value, struct ft_err *err)
{
    struct ft_json *map = ft_json_object();
    enum ft_status st = FT_OK;
    if (map == NULL || value == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory for metadata");
        goto done;
    }
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        FT_TRY(ft_json_set(map, ft_graph_name(g, ft_graph_input_at(g, i)), ft_json_copy(value), err));
    }
    st = ft_json_set(o, key, map, err);
    map = NULL;
done:
    ft_json_free(map);
    return st;
}

static enum ft_status set_inputs(struct ft_json *o, const struct ft_graph *g, struct ft_err *err)
{
    struct ft_json *names = ft_json_array();
    struct ft_json *shapes = ft_json_array();
    struct ft_json *types = ft_json_array();
    struct ft_json *shape = NULL;
    struct ft_json *taken = NULL;
    enum ft_status st = FT_OK;
    if (names == NULL || shapes == NULL || types == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory for metadata");
        goto done;
    }
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        ft_value v = ft_graph_input_at(g, i);
        const struct ft_type *type = ft_graph_type(g, v);
        FT_TRY(ft_json_push(names, ft_json_of_text(ft_graph_name(g, v)), err));
        FT_TRY(ft_json_push(types, ft_json_of_text(ft_dtype_name(type->dtype)), err));
        FT_TRY(shape_json(type, 0, &shape, err));
        taken = shape;
        shape = NULL;
        FT_TRY(ft_json_push(shapes, taken, err));
    }
    taken = names;
    names = NULL;
    FT_TRY(ft_json_set(o, "input_names", taken, err));
    taken = shapes;
    shapes = NULL;
    FT_TRY(ft_json_set(o, "input_shapes", taken, err));
    taken = types;
    types = NULL;
    FT_TRY(ft_json_set(o, "input_dtypes", taken, err));
done:
    ft_json_free(names);
    ft_json_free(shapes);
    ft_json_free(types);
    return st;
}

static enum ft_status set_output(struct ft_json *o, const struct ft_graph *g, struct ft_err *err)
{
    struct ft_json *shape = NULL;
    FT_RETURN_IF_FAILED(set_text(o, "output_name", ft_graph_output_name(g, 0), err));
    FT_RETURN_IF_FAILED(shape_json(ft_graph_type(g, ft_graph_output_at(g, 0)), 0, &shape, err));
    return ft_json_set(o, "output_shape", shape, err);
}

static bool has_length(const struct ft_graph *g, ft_value v)
{
    const struct ft_type *t = ft_graph_type(g, v);
    return t->rank > 1 && is_length(t->dim[1]);
}

/* Which axes vary: {name: {0: batch-size}}. The inner key is a number in Finetuner's files; see
 * unquote_axes(). */
static enum ft_status set_dynamic_axes(struct ft_json *o, const struct ft_graph *g, struct ft_err *err)
{
    struct ft_json *map = ft_json_object();
    struct ft_json *axis = NULL;
    enum ft_status st = FT_OK;
    for (int i = 0; i <= ft_graph_inputs(g); i++) {
        const char *name =
            i < ft_graph_inputs(g) ? ft_graph_name(g, ft_graph_input_at(g, i)) : ft_graph_output_name(g, 0);
        struct ft_json *taken = NULL;
        axis = ft_json_object();
        if (map == NULL || axis == NULL) {
            st = FT_FAIL(err, NOMEM, "no memory for metadata");
            goto done;
        }
        FT_TRY(set_text(axis, "0", batch_name, err));
        if (i < ft_graph_inputs(g) && has_length(g, ft_graph_input_at(g, i))) {
            FT_TRY(set_text(axis, "1", length_name, err));
        }
        taken = axis;
        axis = NULL;
        FT_TRY(ft_json_set(map, name, taken, err));
    }
    struct ft_json *taken = map;
    map = NULL;
    st = ft_json_set(o, "dynamic_axes", taken, err);
done:
    ft_json_free(axis);
    ft_json_free(map);
    return st;
}

/* Finetuner's names for how content becomes input. Size and normalisation are what its options can say; all
 * of it stands in preprocess/prep.json. */
static enum ft_status set_preprocess(struct ft_json *o, const struct ft_artifact *a, struct ft_err *err)
{
    bool text = is_kind(a, "text");
    struct ft_json *kind = ft_json_of_text(is_image(a) ? "VisionPreprocess"
                                           : text      ? "TextPreprocess"
                                                       : "DefaultPreprocess");
    struct ft_json *collate = ft_json_of_text(text ? "TransformersCollate" : "DefaultCollate");
    struct ft_json *none = ft_json_object();
    struct ft_json *options = ft_json_object();
    const struct ft_type *type = ft_graph_type(a->graph, ft_graph_input_at(a->graph, 0));
    enum ft_status st = FT_OK;
    if (options == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory for metadata");
        goto done;
    }
    if (is_image(a) && type->rank == 4) {
        bool last = type->dim[3].coef <= 4 && ft_dim_is_known(type->dim[3]) && type->dim[1].coef > 4;
        FT_TRY(ft_json_set(options, "height", dim_json(type->dim[last ? 1 : 2]), err));
        FT_TRY(ft_json_set(options, "width", dim_json(type->dim[last ? 2 : 3]), err));
        FT_TRY(ft_json_set(options, "move_channel_axis", ft_json_of_bool(!last), err));
    }
    FT_TRY(set_each_input(o, "preprocess_types", a->graph, kind, err));
    FT_TRY(set_each_input(o, "collate_types", a->graph, collate, err));
    FT_TRY(set_each_input(o, "preprocess_options", a->graph, options, err));
    FT_TRY(set_each_input(o, "collate_options", a->graph, none, err));
done:
    ft_json_free(kind);
    ft_json_free(collate);
    ft_json_free(none);
    ft_json_free(options);
    return st;
}

/* model.freeze and model.output_dim of the run's options, null if it had none. */
static struct ft_json *config_value(const struct ft_artifact *a, const char *key)
{
    const struct ft_json *value = ft_json_get(ft_json_get(a->config, "model"), key);
    return value == NULL ? ft_json_null() : ft_json_copy(value);
}

static enum ft_status set_tailoring(struct ft_json *o, const struct ft_artifact *a, struct ft_err *err)
{
    const struct ft_type *type = ft_graph_type(a->graph, ft_graph_input_at(a->graph, 0));
    const struct ft_json *freeze = ft_json_get(ft_json_get(a->config, "model"), "freeze");
    struct ft_json *shape = NULL;
    bool frozen = ft_json_bool(freeze) || ft_json_kind(freeze) == FT_JSON_TEXT;
    FT_RETURN_IF_FAILED(ft_json_set(o, "options", ft_json_object(), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "embedding_layer", ft_json_null(), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "output_dim", config_value(a, "output_dim"), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "freeze", ft_json_of_bool(frozen), err));
    FT_RETURN_IF_FAILED(shape_json(type, 1, &shape, err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "tailor_input_shape", shape, err));
    return set_text(o, "tailor_input_dtype", ft_dtype_name(type->dtype), err);
}

static enum ft_status model_json(const struct ft_artifact *a, const char *name, struct ft_json *o,
                                 struct ft_err *err)
{
    static const char *const kinds[3][3] = {{"any", "mlp", "MLPBuilder"},
                                            {"image-to-image", "cnn", "CNNBuilder"},
                                            {"text-to-text", "transformer", "TextTransformerBuilder"}};
    const char *const *kind = kinds[is_image(a) ? 1 : is_kind(a, "text") ? 2 : 0];
    FT_RETURN_IF_FAILED(set_text(o, "name", name, err));
    FT_RETURN_IF_FAILED(set_text(o, "descriptor", name, err));
    FT_RETURN_IF_FAILED(
        set_text(o, "description",
                 is_kind(a, "text") ? "tuned from a model of texts" : "tuned from an ONNX model", err));
    FT_RETURN_IF_FAILED(set_text(o, "task", kind[0], err));
    FT_RETURN_IF_FAILED(set_text(o, "architecture", kind[1], err));
    FT_RETURN_IF_FAILED(set_text(o, "builder", kind[2], err));
    FT_RETURN_IF_FAILED(set_inputs(o, a->graph, err));
    FT_RETURN_IF_FAILED(set_output(o, a->graph, err));
    FT_RETURN_IF_FAILED(set_dynamic_axes(o, a->graph, err));
    FT_RETURN_IF_FAILED(set_preprocess(o, a, err));
    return set_tailoring(o, a, err);
}

/* The only keys "0" stand in dynamic_axes: YAML's integer 0 there, as Finetuner writes it. */
static enum ft_status unquote_axes(const struct ft_buf *text, struct ft_buf *out, struct ft_err *err)
{
    static const char *const quoted[4] = {"'0': ", "\"0\": ", "'1': ", "\"1\": "};
    const char *p = (const char *)text->data;
    while (*p != '\0') {
        const char *end = strchr(p, '\n');
        size_t size = end == NULL ? strlen(p) : (size_t)(end - p) + 1;
        size_t indent = strspn(p, " ");
        for (int i = 0; i < 4; i++) {
            if (indent > 0 && strncmp(p + indent, quoted[i], strlen(quoted[i])) == 0) {
                FT_RETURN_IF_FAILED(ft_buf_append(out, p, indent, err));
                FT_RETURN_IF_FAILED(ft_buf_text(out, i < 2 ? "0: " : "1: ", err));
                p += indent + strlen(quoted[i]);
                size -= indent + strlen(quoted[i]);
            }
        }
        FT_RETURN_IF_FAILED(ft_buf_append(out, p, size, err));
        p += size;
    }
    return FT_OK;
}

enum ft_status ft_metadata_model(const struct ft_artifact *artifact, const char *name, struct ft_buf *out,
                                 struct ft_err *err)
{
    struct ft_json *o = ft_json_object();
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for metadata");
    }
    FT_TRY(model_json(artifact, name, o, err));
    FT_TRY(ft_yaml_write(o, &text, err));
    FT_TRY(unquote_axes(&text, out, err));
done:
    ft_json_free(o);
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_metadata_run(const struct ft_artifact *artifact, const char *name, struct ft_buf *out,
                               struct ft_err *err)
{
    struct ft_json *o = ft_json_object();
    const char *experiment = ft_json_text(ft_json_get(artifact->config, "experiment_name"), NULL);
    enum ft_status st = FT_OK;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for metadata");
    }
    FT_TRY(set_text(o, "name", artifact->run_name, err));
    FT_TRY(set_text(o, "experiment", experiment == NULL ? "default" : experiment, err));
    FT_TRY(set_text(o, "finetuner_version", FT_VERSION, err));
    FT_TRY(set_text(o, "model_type", name, err));
    FT_TRY(set_text(o, "metrics", "", err));
    FT_TRY(set_text(o, "example_results", "", err));
    FT_TRY(set_text(o, "product", "finetuner", err));
    FT_TRY(set_text(o, "artifact_type", "run", err));
    FT_TRY(ft_yaml_write(o, out, err));
done:
    ft_json_free(o);
    return st;
}

enum ft_status ft_metadata_input_map(const struct ft_artifact *artifact, const char *name, struct ft_buf *out,
                                     struct ft_err *err)
{
    struct ft_json *o = ft_json_object();
    struct ft_json *list = ft_json_array();
    enum ft_status st = FT_OK;
    if (o == NULL || list == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory for metadata");
        goto done;
    }
    FT_TRY(ft_json_push(list, ft_json_of_text(name), err));
    for (int i = 0; i < ft_graph_inputs(artifact->graph); i++) {
        const char *input = ft_graph_name(artifact->graph, ft_graph_input_at(artifact->graph, i));
        FT_TRY(ft_json_set(o, input, ft_json_copy(list), err));
    }
    FT_TRY(ft_yaml_write(o, out, err));
done:
    ft_json_free(list);
    ft_json_free(o);
    return st;
}

/* ---- README.md */

/* One line of Markdown: what would end a table cell or a line is replaced. */
static enum ft_status put_cell(struct ft_buf *out, const struct ft_json *value, struct ft_err *err)
{
    size_t size = 0;
    const char *text = ft_json_text(value, &size);
    struct ft_buf json = {0};
    enum ft_status st = FT_OK;
    if (text == NULL) {
        FT_TRY(ft_json_write(value, 0, &json, err));
        text = (const char *)json.data;
        size = json.size;
    }
    for (size_t i = 0; i < size; i++) {
        const char c[2] = {text[i] == '|' || text[i] == '\n' || text[i] == '\r' ? ' ' : text[i], '\0'};
        FT_TRY(ft_buf_append(out, c, 1, err));
    }
done:
    ft_buf_release(&json);
    return st;
}

static enum ft_status put_facts(const struct ft_json *card, struct ft_buf *out, struct ft_err *err)
{
    if (ft_json_count(card) == 0 || ft_json_kind(card) != FT_JSON_OBJECT) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_buf_text(out, "\n## How it was made\n\n| | |\n|---|---|\n", err));
    for (struct ft_json_iter *it = ft_json_first(card); it != NULL; it = ft_json_next(card, it)) {
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "| %s | ", ft_json_key(it)));
        FT_RETURN_IF_FAILED(put_cell(out, ft_json_value(it), err));
        FT_RETURN_IF_FAILED(ft_buf_text(out, " |\n", err));
    }
    return FT_OK;
}

static enum ft_status put_metrics(const struct ft_json *metrics, struct ft_buf *out, struct ft_err *err)
{
    const struct ft_json *before = ft_json_get(metrics, "before");
    const struct ft_json *after = ft_json_get(metrics, "after");
    if (ft_json_kind(after) != FT_JSON_OBJECT || ft_json_count(after) == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(
        ft_buf_text(out, "\n## Retrieval\n\n| metric | before | after |\n|---|---|---|\n", err));
    for (struct ft_json_iter *it = ft_json_first(after); it != NULL; it = ft_json_next(after, it)) {
        const struct ft_json *old = ft_json_get(before, ft_json_key(it));
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "| %s | ", ft_json_key(it)));
        if (old != NULL) {
            FT_RETURN_IF_FAILED(put_cell(out, old, err));
        }
        FT_RETURN_IF_FAILED(ft_buf_text(out, " | ", err));
        FT_RETURN_IF_FAILED(put_cell(out, ft_json_value(it), err));
        FT_RETURN_IF_FAILED(ft_buf_text(out, " |\n", err));
    }
    return FT_OK;
}

/* What sentence-transformers finds, or why it finds nothing. */
static enum ft_status put_folder(const struct ft_artifact *artifact, const char *left_out, struct ft_buf *out,
                                 struct ft_err *err)
{
    if (artifact->hf == NULL) {
        return FT_OK;
    }
    return left_out[0] != '\0'
               ? ft_buf_printf(out, err, "\n%s\n", left_out)
               : ft_buf_text(
                     out,
                     "\nThe folder is one of sentence-transformers too: `SentenceTransformer(folder)` "
                     "gives the same embeddings.\n",
                     err);
}

enum ft_status ft_metadata_card(const struct ft_artifact *artifact, const char *name, const char *left_out,
                                struct ft_buf *out, struct ft_err *err)
{
    const struct ft_graph *g = artifact->graph;
    char in[FT_TYPE_TEXT];
    char to[FT_TYPE_TEXT];
    ft_value input = ft_graph_input_at(g, 0);
    FT_RETURN_IF_FAILED(ft_buf_printf(
        out, err,
        "# %s\n\nAn embedding model, tuned by finetuner " FT_VERSION " in the run `%s`.\n\n"
        "`models/%s/model.onnx` is the whole model: `%s` %s in, `%s` %s out.\n"
        "`preprocess/prep.json` says how content becomes its input%s.\n",
        name, artifact->run_name, name, ft_graph_name(g, input), ft_type_text(ft_graph_type(g, input), in),
        ft_graph_output_name(g, 0), ft_type_text(ft_graph_type(g, ft_graph_output_at(g, 0)), to),
        artifact->tokenizer.size > 0 ? ", with `tokenizer.json`" : ""));
    FT_RETURN_IF_FAILED(put_folder(artifact, left_out, out, err));
    FT_RETURN_IF_FAILED(put_metrics(artifact->metrics, out, err));
    return put_facts(artifact->card, out, err);
}
