#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/hf_internal.h"

/*
 * sentence-transformers: modules.json lists the modules a text goes through, each with a folder of its own:
 * [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}, ...]. Types are
 * called by other packages in newer versions; the class at the end is what counts.
 */

static const char *class_of(const struct ft_json *module)
{
    const char *type = ft_json_text(ft_json_get(module, "type"), NULL);
    const char *dot = type != NULL ? strrchr(type, '.') : NULL;
    if (type == NULL || strncmp(type, "sentence_transformers.", strlen("sentence_transformers.")) != 0) {
        return type != NULL ? type : "";
    }
    return dot + 1;
}

enum ft_status ft_hf_module_path(const struct ft_json *module, const char **path, struct ft_err *err)
{
    *path = ft_json_text(ft_json_get(module, "path"), NULL);
    if (*path == NULL || (*path)[0] == '/' || strstr(*path, "..") != NULL || strchr(*path, '\\') != NULL ||
        strlen(*path) >= FT_HF_SCOPE - 2) {
        return FT_FAIL(err, INVALID, "modules.json: path \"%.60s\" is no folder of the model",
                       *path != NULL ? *path : "");
    }
    return FT_OK;
}

enum ft_status ft_hf_transformer(const struct ft_json *modules, const char **folder, struct ft_err *err)
{
    const struct ft_json *first = ft_json_at(modules, 0);
    *folder = "";
    if (modules == NULL) {
        return FT_OK;
    }
    if (ft_json_kind(modules) != FT_JSON_ARRAY || first == NULL) {
        return FT_FAIL(err, INVALID, "modules.json is no list of modules");
    }
    if (strcmp(class_of(first), "Transformer") != 0) {
        return FT_FAIL(err, UNSUPPORTED, "modules.json begins with %.100s; only Transformer is built there",
                       class_of(first));
    }
    return ft_hf_module_path(first, folder, err);
}

/* ---- one module: its config.json as hf's, in the folder at its path */

struct module {
    struct ft_hf hf; /* of its config and weights, on the model's graph */
    struct ft_files files;
    char *config_path;
    struct ft_json *config; /* NULL: it has none */
    char shown[FT_HF_SCOPE];
};

static enum ft_status open_module(const struct ft_hf *model, const struct ft_files *files,
                                  const struct ft_json *json, struct module *m, struct ft_err *err)
{
    const char *path = NULL;
    FT_RETURN_IF_FAILED(ft_hf_module_path(json, &path, err));
    m->files = ft_files_below(files, path);
    FT_RETURN_IF_FAILED(ft_files_path(&m->files, "config.json", &m->config_path, err));
    FT_RETURN_IF_FAILED(ft_hf_json(&m->files, "config.json", &m->config, err));
    (void)snprintf(m->shown, sizeof m->shown, "%s.", path);
    m->hf = (struct ft_hf){.graph = model->graph,
                           .source = model->source,
                           .config = m->config,
                           .config_path = m->config_path,
                           .prefix = "",
                           .shown = m->shown,
                           .ids = model->ids,
                           .mask = model->mask,
                           .types = model->types};
    return FT_OK;
}

static void close_module(struct module *m)
{
    ft_hf_release(&m->hf);
    ft_json_free(m->config);
    ft_free(m->config_path);
}

static int64_t width_of(const struct ft_hf *hf, ft_value x)
{
    const struct ft_type *t = ft_graph_type(hf->graph, x);
    return t->dim[t->rank - 1].coef;
}

static enum ft_status check_width(const struct ft_hf *hf, const char *key, ft_value x, struct ft_err *err)
{
    static const int64_t range[2] = {1, 1 << 24};
    int64_t width = width_of(hf, x);
    int64_t said = 0;
    FT_RETURN_IF_FAILED(ft_hf_int(hf, key, width, range, &said, err));
    return said == width ? FT_OK
                         : FT_FAIL(err, INVALID, "%s: %s is %lld, what comes in has %lld numbers",
                                   hf->config_path, key, (long long)said, (long long)width);
}

/* ---- Pooling */

const struct ft_hf_mode ft_hf_modes[FT_HF_MODES] = {
    {"cls", "pooling_mode_cls_token", FT_SEQ_FIRST},
    {"max", "pooling_mode_max_tokens", FT_SEQ_MAX},
    {"mean", "pooling_mode_mean_tokens", FT_SEQ_MEAN},
    {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", FT_SEQ_MEAN_SQRT_LEN},
    {"weightedmean", "pooling_mode_weightedmean_tokens", FT_SEQ_WEIGHTED_MEAN},
    {"lasttoken", "pooling_mode_lasttoken", FT_SEQ_LAST},
};

struct pooled {
    ft_value x, parts[FT_HF_MODES];
    int n;
};

static enum ft_status pool(struct ft_hf *hf, size_t mode, struct pooled *p, struct ft_err *err)
{
    struct ft_attrs a;
    const ft_value in[2] = {p->x, hf->mask};
    memset(&a, 0, sizeof a);
    a.kind = (int)ft_hf_modes[mode].kind;
    if (p->n == FT_HF_MODES) {
        return FT_FAIL(err, INVALID, "%s: more than %d pooling modes", hf->config_path, FT_HF_MODES);
    }
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_SEQ_POOL, &a, ft_hf_modes[mode].name}, in, 2,
                      &p->parts[p->n++], err);
}

static enum ft_status pool_named(struct ft_hf *hf, const struct ft_json *name, struct pooled *p,
                                 struct ft_err *err)
{
    const char *text = ft_json_text(name, NULL);
    for (size_t i = 0; text != NULL && i < FT_HF_MODES; i++) {
        if (strcmp(text, ft_hf_modes[i].name) == 0) {
            return pool(hf, i, p, err);
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "%s: pooling_mode \"%.60s\" is not built", hf->config_path,
                   text != NULL ? text : "");
}

static bool is_mode_flag(const char *key)
{
    for (size_t i = 0; i < FT_HF_MODES; i++) {
        if (strcmp(key, ft_hf_modes[i].flag) == 0) {
            return true;
        }
    }
    return false;
}

/* Six flags; none set means the mean. A flag for something else is refused. */
static enum ft_status pool_flags(struct ft_hf *hf, struct pooled *p, struct ft_err *err)
{
    static const char stem[] = "pooling_mode_";
    for (struct ft_json_iter *it = ft_json_first(hf->config); it != NULL; it = ft_json_next(hf->config, it)) {
        const char *key = ft_json_key(it);
        if (strncmp(key, stem, strlen(stem)) == 0 && !is_mode_flag(key) && ft_json_bool(ft_json_value(it))) {
            return FT_FAIL(err, UNSUPPORTED, "%s: %.60s is not built", hf->config_path, key);
        }
    }
    for (size_t i = 0; i < FT_HF_MODES; i++) {
        bool set = false;
        FT_RETURN_IF_FAILED(ft_hf_flag(hf, ft_hf_modes[i].flag, false, &set, err));
        if (set) {
            FT_RETURN_IF_FAILED(pool(hf, i, p, err));
        }
    }
    return p->n > 0 ? FT_OK : pool(hf, 2, p, err);
}

static enum ft_status add_pooling(struct ft_hf *hf, ft_value *x, struct ft_err *err)
{
    struct pooled p = {.x = *x};
    struct ft_attrs a;
    const struct ft_json *mode = ft_json_get(hf->config, "pooling_mode");
    bool include = true;
    if (ft_graph_type(hf->graph, *x)->rank != 3) {
        return FT_FAIL(err, UNSUPPORTED, "modules.json: a second Pooling is not built");
    }
    FT_RETURN_IF_FAILED(check_width(hf, "word_embedding_dimension", *x, err));
    FT_RETURN_IF_FAILED(check_width(hf, "embedding_dimension", *x, err));
    FT_RETURN_IF_FAILED(ft_hf_flag(hf, "include_prompt", true, &include, err));
    hf->source->prompt_apart = !include;
    if (ft_json_kind(mode) == FT_JSON_ARRAY && ft_json_count(mode) > 0) {
        for (size_t i = 0; i < ft_json_count(mode); i++) {
            FT_RETURN_IF_FAILED(pool_named(hf, ft_json_at(mode, i), &p, err));
        }
    } else if (ft_json_kind(mode) != FT_JSON_NULL) {
        FT_RETURN_IF_FAILED(pool_named(hf, mode, &p, err));
    } else {
        FT_RETURN_IF_FAILED(pool_flags(hf, &p, err));
    }
    if (p.n == 1) {
        *x = p.parts[0];
        return FT_OK;
    }
    memset(&a, 0, sizeof a);
    a.axis = 1;
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_CONCAT, &a, "concat"}, p.parts, p.n, x, err);
}

/* ---- Dense: torch.nn.Linear and a function of torch.nn, Tanh if none is named */

static const struct {
    const char *name; /* below torch.nn.modules */
    const char *act;  /* of ft_hf_activate(); NULL: nothing */
} functions[] = {{"activation.Tanh", "tanh"},       {"linear.Identity", NULL},
                 {"activation.ReLU", "relu"},       {"activation.GELU", "gelu"},
                 {"activation.Sigmoid", "sigmoid"}, {"activation.SiLU", "silu"},
                 {"activation.Mish", "mish"},       {"activation.Hardswish", "hardswish"}};

const char *ft_hf_torch_function(const struct ft_node *node)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (functions[i].act != NULL && ft_hf_is_activation(node, functions[i].act)) {
            return functions[i].name;
        }
    }
    return NULL;
}

static enum ft_status activate(struct ft_hf *hf, ft_value *x, struct ft_err *err)
{
    const char *text = NULL;
    FT_RETURN_IF_FAILED(
        ft_hf_text(hf, "activation_function", "torch.nn.modules.activation.Tanh", &text, err));
    const char *dot = strrchr(text, '.');
    for (size_t i = 0; dot != NULL && i < sizeof functions / sizeof *functions; i++) {
        if (strncmp(text, "torch.nn.", strlen("torch.nn.")) == 0 &&
            strcmp(dot, strchr(functions[i].name, '.')) == 0) {
            return functions[i].act == NULL
                       ? FT_OK
                       : ft_hf_activate(hf, "activation_function", functions[i].act, *x, x, err);
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "%s: activation_function \"%.100s\" is not built", hf->config_path,
                   text);
}

static enum ft_status add_dense(struct ft_hf *hf, const struct ft_files *files, ft_value *x,
                                struct ft_err *err)
{
    static const char *const ignored[] = {NULL};
    static const int64_t widths[2] = {1, 1 << 20};
    int64_t width = 0;
    bool bias = true;
    FT_RETURN_IF_FAILED(check_width(hf, "in_features", *x, err));
    FT_RETURN_IF_FAILED(ft_hf_int(hf, "out_features", 0, widths, &width, err));
    FT_RETURN_IF_FAILED(ft_hf_flag(hf, "bias", true, &bias, err));
    FT_RETURN_IF_FAILED(ft_hf_only(hf, "use_residual", "false", err));
    FT_RETURN_IF_FAILED(ft_hf_open(hf, files, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "linear", *x, width, bias, x, err));
    FT_RETURN_IF_FAILED(ft_hf_finish(hf, ignored, err));
    return activate(hf, x, err);
}

static enum ft_status add_normalize(struct ft_hf *hf, ft_value *x, struct ft_err *err)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    a.eps = 1e-12F; /* torch.nn.functional.normalize */
    return ft_hf_node(hf, (struct ft_hf_op){FT_OP_L2_NORMALIZE, &a, "normalize"}, x, 1, x, err);
}

/* ---- all of them */

static enum ft_status add_module(struct module *m, const char *class, ft_value *x, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_hf_only(&m->hf, "module_input_name", "\"sentence_embedding\"", err));
    FT_RETURN_IF_FAILED(ft_hf_only(&m->hf, "module_output_name", "\"sentence_embedding\"", err));
    if (strcmp(class, "Pooling") == 0) {
        return add_pooling(&m->hf, x, err);
    }
    if (strcmp(class, "Dense") != 0 && strcmp(class, "Normalize") != 0) {
        return FT_FAIL(err, UNSUPPORTED,
                       "modules.json: %.100s is not built; Transformer, Pooling, Dense and Normalize are",
                       class);
    }
    if (ft_graph_type(m->hf.graph, *x)->rank != 2) {
        return FT_FAIL(err, UNSUPPORTED, "modules.json: %s in front of Pooling is not built", class);
    }
    return strcmp(class, "Dense") == 0 ? add_dense(&m->hf, &m->files, x, err) : add_normalize(&m->hf, x, err);
}

enum ft_status ft_hf_modules(struct ft_hf *hf, const struct ft_files *files, const struct ft_json *modules,
                             ft_value *x, struct ft_err *err)
{
    for (size_t i = 1; i < ft_json_count(modules); i++) {
        struct module m = {0};
        const struct ft_json *json = ft_json_at(modules, i);
        enum ft_status st = open_module(hf, files, json, &m, err);
        if (st == FT_OK) {
            st = add_module(&m, class_of(json), x, err);
        }
        close_module(&m);
        FT_RETURN_IF_FAILED(st);
    }
    return FT_OK;
}
