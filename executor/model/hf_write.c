#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/model/hf_tail.h"

/* What sentence_transformers.SentenceTransformer(dir) loads. */

struct writer {
    const struct ft_hf_out *what;
    const char *dir;
    const struct ft_hf_tail *tail;
};

static const char modules_name[] = "modules.json";

/* ---- files */

static enum ft_status put(const struct writer *w, const char *name, struct ft_bytes bytes, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(w->dir, name, &path, err));
    enum ft_status st = ft_file_write(path, bytes, err);
    ft_free(path);
    return st;
}

static enum ft_status put_json(const struct writer *w, const char *name, const struct ft_json *json,
                               struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_write(json, 2, &text, err));
    FT_TRY(ft_buf_text(&text, "\n", err));
    FT_TRY(put(w, name, ft_buf_bytes(&text), err));
done:
    ft_buf_release(&text);
    return st;
}

static enum ft_status put_tensors(const struct writer *w, const char *name,
                                  const struct ft_tensor_out *tensors, size_t n, struct ft_err *err)
{
    struct ft_buf bytes = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_safetensors_write(tensors, n, &bytes, err));
    FT_TRY(put(w, name, ft_buf_bytes(&bytes), err));
done:
    ft_buf_release(&bytes);
    return st;
}

/* "2_Dense" of the k-th module, the Transformer being the 0th. */
enum { FOLDER = 32 };
static const char *folder_of(const struct ft_hf_tail *tail, int step, char out[FOLDER])
{
    static const char *const names[] = {
        [FT_HF_POOLING] = "Pooling", [FT_HF_DENSE] = "Dense", [FT_HF_NORMALIZE] = "Normalize"};
    (void)snprintf(out, FOLDER, "%d_%s", step + 1, names[tail->steps[step].kind]);
    return out;
}

static enum ft_status make_folder(const struct writer *w, const char *folder, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(w->dir, folder, &path, err));
    enum ft_status st = ft_dir_make(path, err);
    ft_free(path);
    return st;
}

/* ---- the encoder */

/* Which values `v` is computed from. needed[] is cleared memory. */
static void mark_needed(const struct ft_graph *g, ft_value v, bool *needed)
{
    needed[v] = true;
    for (int n = ft_graph_nodes(g) - 1; n >= 0; n--) {
        const struct ft_node *node = ft_graph_node(g, n);
        bool used = false;
        for (int i = 0; i < node->n_out; i++) {
            used = used || needed[node->out[i]];
        }
        for (int i = 0; used && i < node->n_in; i++) {
            needed[node->in[i]] = true;
        }
    }
}

/* The encoder's parameters under their own names, which are the files'. */
static enum ft_status put_weights(const struct writer *w, struct ft_err *err)
{
    const struct ft_graph *g = w->what->graph;
    size_t count = (size_t)ft_graph_params(g);
    int64_t(*dims)[FT_MAX_RANK] = NULL;
    struct ft_tensor_out *tensors = NULL;
    bool *needed = NULL;
    size_t n = 0;
    enum ft_status st = FT_OK;
    FT_TRY(ft_new((size_t)ft_graph_values(g), sizeof *needed, &needed, err));
    FT_TRY(ft_new(count + 1, sizeof *tensors, &tensors, err));
    FT_TRY(ft_new(count + 1, sizeof *dims, &dims, err));
    mark_needed(g, w->tail->tokens, needed);
    for (size_t i = 0; i < count; i++) {
        ft_value v = ft_graph_param_at(g, (int)i);
        const struct ft_type *t = ft_graph_type(g, v);
        if (!needed[v]) {
            continue;
        }
        for (int k = 0; k < t->rank; k++) {
            dims[n][k] = t->dim[k].coef;
        }
        tensors[n] = (struct ft_tensor_out){
            .name = ft_graph_name(g, v), .rank = t->rank, .dims = dims[n], .data = ft_graph_data(g, v)};
        n++;
    }
    FT_TRY(put_tensors(w, "model.safetensors", tensors, n, err));
done:
    ft_free(needed);
    ft_free(tensors);
    ft_free(dims);
    return st;
}

/* As it came, but for the type of the weights: transformers computes in what is named there. */
static enum ft_status put_config(const struct writer *w, struct ft_err *err)
{
    static const char *const types[] = {"dtype", "torch_dtype"};
    struct ft_json *config = ft_json_copy(w->what->source->config);
    enum ft_status st = FT_OK;
    if (config == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for config.json");
    }
    for (size_t i = 0; i < 2; i++) {
        if (ft_json_get(config, types[i]) != NULL) {
            FT_TRY(ft_json_set(config, types[i], ft_json_of_text("float32"), err));
        }
    }
    FT_TRY(put_json(w, "config.json", config, err));
done:
    ft_json_free(config);
    return st;
}

static enum ft_status put_transformer(const struct writer *w, struct ft_err *err)
{
    const struct ft_json *came = w->what->source->transformer;
    struct ft_json *json = ft_json_kind(came) == FT_JSON_OBJECT ? ft_json_copy(came) : ft_json_object();
    const struct ft_json *length = ft_json_get(w->what->prep, "max_length");
    enum ft_status st = FT_OK;
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for sentence_bert_config.json");
    }
    if (length != NULL) {
        FT_TRY(ft_json_set(json, "max_seq_length", ft_json_copy(length), err));
    }
    if (ft_json_get(json, "do_lower_case") == NULL) {
        FT_TRY(ft_json_set(json, "do_lower_case", ft_json_of_bool(false), err));
    }
    FT_TRY(put_json(w, "sentence_bert_config.json", json, err));
done:
    ft_json_free(json);
    return st;
}

/* The name of the prompt that is this text; "default" where none is. */
static const char *prompt_named(const struct ft_json *prompts, const char *text)
{
    for (struct ft_json_iter *it = ft_json_first(prompts); it != NULL; it = ft_json_next(prompts, it)) {
        const char *there = ft_json_text(ft_json_value(it), NULL);
        if (there != NULL && strcmp(there, text) == 0) {
            return ft_json_key(it);
        }
    }
    return "default";
}

static enum ft_status set_prompt(struct ft_json *json, const char *text, struct ft_err *err)
{
    const struct ft_json *came = ft_json_get(json, "prompts");
    struct ft_json *prompts = ft_json_kind(came) == FT_JSON_OBJECT ? ft_json_copy(came) : ft_json_object();
    struct ft_json *name = NULL;
    enum ft_status st = FT_OK;
    if (prompts == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a prompt");
    }
    name = ft_json_of_text(prompt_named(prompts, text));
    st = name == NULL ? FT_FAIL(err, NOMEM, "no memory for a prompt")
                      : ft_json_set(prompts, ft_json_text(name, NULL), ft_json_of_text(text), err);
    if (st != FT_OK) {
        ft_json_free(prompts);
        ft_json_free(name);
        return st;
    }
    st = ft_json_set(json, "prompts", prompts, err);
    if (st != FT_OK) {
        ft_json_free(name);
        return st;
    }
    return ft_json_set(json, "default_prompt_name", name, err);
}

static enum ft_status put_prompts(const struct writer *w, struct ft_err *err)
{
    const struct ft_json *came = w->what->source->prompts;
    struct ft_json *json = ft_json_kind(came) == FT_JSON_OBJECT ? ft_json_copy(came) : ft_json_object();
    const char *prefix = ft_json_text(ft_json_get(w->what->prep, "prefix"), NULL);
    enum ft_status st = FT_OK;
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for config_sentence_transformers.json");
    }
    FT_TRY(prefix != NULL && prefix[0] != '\0'
               ? set_prompt(json, prefix, err)
               : ft_json_set(json, "default_prompt_name", ft_json_null(), err));
    FT_TRY(put_json(w, "config_sentence_transformers.json", json, err));
done:
    ft_json_free(json);
    return st;
}

/* ---- modules */

static enum ft_status put_pooling(const struct writer *w, const struct ft_hf_step *step, const char *folder,
                                  struct ft_err *err)
{
    char name[2 * FOLDER];
    struct ft_json *json = ft_json_object();
    enum ft_status st = FT_OK;
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a Pooling");
    }
    FT_TRY(ft_json_set(json, "word_embedding_dimension", ft_json_of_int(step->in), err));
    for (int i = 0; i < FT_HF_MODES; i++) {
        FT_TRY(ft_json_set(json, ft_hf_modes[i].flag, ft_json_of_bool(step->modes[i]), err));
    }
    FT_TRY(ft_json_set(json, "include_prompt", ft_json_of_bool(!w->what->source->prompt_apart), err));
    (void)snprintf(name, sizeof name, "%s/config.json", folder);
    FT_TRY(put_json(w, name, json, err));
done:
    ft_json_free(json);
    return st;
}

static enum ft_status put_dense(const struct writer *w, const struct ft_hf_step *step, const char *folder,
                                struct ft_err *err)
{
    char name[2 * FOLDER];
    char function[2 * FOLDER];
    const int64_t dims[2] = {step->out, step->in};
    const struct ft_tensor_out tensors[2] = {
        {.name = "linear.weight", .rank = 2, .dims = dims, .data = step->weight},
        {.name = "linear.bias", .rank = 1, .dims = dims, .data = step->bias}};
    struct ft_json *json = ft_json_object();
    enum ft_status st = FT_OK;
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a Dense");
    }
    (void)snprintf(function, sizeof function, "torch.nn.modules.%s", step->function);
    FT_TRY(ft_json_set(json, "in_features", ft_json_of_int(step->in), err));
    FT_TRY(ft_json_set(json, "out_features", ft_json_of_int(step->out), err));
    FT_TRY(ft_json_set(json, "bias", ft_json_of_bool(true), err));
    FT_TRY(ft_json_set(json, "activation_function", ft_json_of_text(function), err));
    (void)snprintf(name, sizeof name, "%s/config.json", folder);
    FT_TRY(put_json(w, name, json, err));
    (void)snprintf(name, sizeof name, "%s/model.safetensors", folder);
    FT_TRY(put_tensors(w, name, tensors, 2, err));
done:
    ft_json_free(json);
    return st;
}

static enum ft_status list_module(struct ft_json *modules, int idx, const char *path, const char *class,
                                  struct ft_err *err)
{
    char text[96];
    struct ft_json *o = ft_json_object();
    enum ft_status st = FT_OK;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for %s", modules_name);
    }
    (void)snprintf(text, sizeof text, "%d", idx);
    FT_TRY(ft_json_set(o, "idx", ft_json_of_int(idx), err));
    FT_TRY(ft_json_set(o, "name", ft_json_of_text(text), err));
    FT_TRY(ft_json_set(o, "path", ft_json_of_text(path), err));
    (void)snprintf(text, sizeof text, "sentence_transformers.models.%s", class);
    FT_TRY(ft_json_set(o, "type", ft_json_of_text(text), err));
    st = ft_json_push(modules, o, err);
    o = NULL;
done:
    ft_json_free(o);
    return st;
}

static enum ft_status put_modules(const struct writer *w, struct ft_err *err)
{
    char folder[FOLDER];
    struct ft_json *modules = ft_json_array();
    enum ft_status st = FT_OK;
    if (modules == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for %s", modules_name);
    }
    FT_TRY(list_module(modules, 0, "", "Transformer", err));
    for (int i = 0; i < w->tail->n; i++) {
        const struct ft_hf_step *step = &w->tail->steps[i];
        folder_of(w->tail, i, folder);
        FT_TRY(list_module(modules, i + 1, folder, strchr(folder, '_') + 1, err));
        if (step->kind != FT_HF_NORMALIZE) { /* which has nothing to say */
            FT_TRY(make_folder(w, folder, err));
            FT_TRY(step->kind == FT_HF_POOLING ? put_pooling(w, step, folder, err)
                                               : put_dense(w, step, folder, err));
        }
    }
    FT_TRY(put_json(w, modules_name, modules, err));
done:
    ft_json_free(modules);
    return st;
}

static enum ft_status put_all(const struct writer *w, struct ft_err *err)
{
    const struct ft_hf_source *s = w->what->source;
    FT_RETURN_IF_FAILED(put_weights(w, err));
    FT_RETURN_IF_FAILED(put_config(w, err));
    FT_RETURN_IF_FAILED(put_transformer(w, err));
    FT_RETURN_IF_FAILED(put_prompts(w, err));
    FT_RETURN_IF_FAILED(put(w, "tokenizer.json", w->what->tokenizer, err));
    for (size_t i = 0; i < s->n_files; i++) {
        FT_RETURN_IF_FAILED(put(w, s->files[i].name, ft_buf_bytes(&s->files[i].text), err));
    }
    return put_modules(w, err);
}

/* What put_all() wrote, but for tokenizer.json, which an artifact has in any case. */
static enum ft_status remove_all(const struct writer *w, struct ft_err *err)
{
    static const char *const names[] = {modules_name, "model.safetensors", "config.json",
                                        "sentence_bert_config.json", "config_sentence_transformers.json"};
    enum { NAMES = sizeof names / sizeof *names };
    const struct ft_hf_source *s = w->what->source;
    size_t n = NAMES + s->n_files + (size_t)w->tail->n;
    for (size_t i = 0; i < n; i++) {
        char folder[FOLDER];
        char *path = NULL;
        const char *name = i < NAMES ? names[i]
                           : i < NAMES + s->n_files
                               ? s->files[i - NAMES].name
                               : folder_of(w->tail, (int)(i - NAMES - s->n_files), folder);
        FT_RETURN_IF_FAILED(ft_path_join(w->dir, name, &path, err));
        enum ft_status st = ft_path_remove(path, err);
        ft_free(path);
        FT_RETURN_IF_FAILED(st);
    }
    return FT_OK;
}

enum ft_status ft_hf_write(const struct ft_hf_out *what, const char *dir, char why[FT_ERR_TEXT],
                           struct ft_err *err)
{
    struct ft_hf_tail tail = {0};
    struct writer w = {.what = what, .dir = dir, .tail = &tail};
    enum ft_status st = FT_OK;
    why[0] = '\0';
    if (what->tokenizer.size == 0) {
        (void)snprintf(why, FT_ERR_TEXT, "the model brought no tokenizer");
        return FT_OK;
    }
    FT_TRY(ft_hf_tail_read(what->graph, &tail, why, err));
    if (why[0] != '\0') {
        goto done;
    }
    FT_TRY(put_all(&w, err));
    FT_TRY(ft_hf_compare(what->graph, dir, why, err));
    if (why[0] != '\0') {
        FT_TRY(remove_all(&w, err));
    }
done:
    ft_hf_tail_release(&tail);
    return st;
}
