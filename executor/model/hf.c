#include "executor/model/hf.h"

#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/model/hf_internal.h"

/* ---- families */

/* Of models with a head, and of what transformers once saved beside the weights. */
static const char *const bert_ignored[] = {"pooler.",
                                           "cls.",
                                           "classifier.",
                                           "qa_outputs.",
                                           "lm_head.",
                                           "predictions.",
                                           "sop_classifier.",
                                           "pre_classifier.",
                                           "vocab_transform.",
                                           "vocab_layer_norm.",
                                           "vocab_projector.",
                                           "discriminator_predictions.",
                                           "generator_predictions.",
                                           "generator_lm_head.",
                                           "embeddings.position_ids",
                                           "embeddings.token_type_ids",
                                           NULL};
static const char *const t5_ignored[] = {"decoder.",    "lm_head.",    "classification_head.",
                                         "classifier.", "qa_outputs.", "encoder.embed_tokens.weight",
                                         NULL};
static const char *const modernbert_ignored[] = {"head.", "decoder.", "classifier.", "*inv_freq", NULL};
static const char *const nomic_ignored[] = {
    "pooler.", "cls.", "classifier.", "*inv_freq", "embeddings.position_ids", NULL};

static const struct ft_hf_family families[] = {
    {"bert", ft_hf_build_bert, FT_HF_BERT, {"bert."}, "embeddings.word_embeddings.weight", bert_ignored},
    {"distilbert",
     ft_hf_build_bert,
     FT_HF_DISTILBERT,
     {"distilbert."},
     "embeddings.word_embeddings.weight",
     bert_ignored},
    {"roberta",
     ft_hf_build_bert,
     FT_HF_ROBERTA,
     {"roberta."},
     "embeddings.word_embeddings.weight",
     bert_ignored},
    {"xlm-roberta",
     ft_hf_build_bert,
     FT_HF_ROBERTA,
     {"roberta.", "xlm_roberta."},
     "embeddings.word_embeddings.weight",
     bert_ignored},
    {"mpnet", ft_hf_build_bert, FT_HF_MPNET, {"mpnet."}, "embeddings.word_embeddings.weight", bert_ignored},
    {"albert",
     ft_hf_build_bert,
     FT_HF_ALBERT,
     {"albert."},
     "embeddings.word_embeddings.weight",
     bert_ignored},
    {"electra",
     ft_hf_build_bert,
     FT_HF_ELECTRA,
     {"electra."},
     "embeddings.word_embeddings.weight",
     bert_ignored},
    {"t5", ft_hf_build_t5, 0, {"transformer."}, "encoder.final_layer_norm.weight", t5_ignored},
    {"modernbert",
     ft_hf_build_modernbert,
     0,
     {"model."},
     "embeddings.tok_embeddings.weight",
     modernbert_ignored},
    {"nomic_bert",
     ft_hf_build_nomic,
     0,
     {"bert.", "nomic_bert."},
     "embeddings.word_embeddings.weight",
     nomic_ignored},
};

static enum ft_status unknown_family(const char *path, const char *model_type, struct ft_err *err)
{
    struct ft_buf list = {0};
    enum ft_status st = FT_OK;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        FT_TRY(ft_buf_printf(&list, err, "%s%s", i > 0 ? ", " : "", families[i].model_type));
    }
    st = FT_FAIL(err, UNSUPPORTED, "%s: model_type \"%.60s\" is not built; built are %s", path,
                 model_type != NULL ? model_type : "", (const char *)list.data);
done:
    ft_buf_release(&list);
    return st;
}

static enum ft_status find_family(const struct ft_hf *hf, const struct ft_hf_family **family,
                                  struct ft_err *err)
{
    const char *type = ft_json_text(ft_json_get(hf->config, "model_type"), NULL);
    for (size_t i = 0; type != NULL && i < sizeof families / sizeof *families; i++) {
        if (strcmp(type, families[i].model_type) == 0) {
            *family = &families[i];
            return FT_OK;
        }
    }
    return unknown_family(hf->config_path, type, err);
}

/* Models with a head put the base model below a name of its own. */
static void find_prefix(struct ft_hf *hf, const struct ft_hf_family *family)
{
    char name[FT_HF_NAME];
    hf->prefix = "";
    for (size_t i = 0; i < sizeof family->prefixes / sizeof *family->prefixes; i++) {
        if (family->prefixes[i] == NULL) {
            return;
        }
        (void)snprintf(name, sizeof name, "%s%s", family->prefixes[i], family->probe);
        if (ft_safetensors_find(hf->weights, name) != NULL) {
            hf->prefix = family->prefixes[i];
            return;
        }
    }
}

/* ---- the model */

/* Last part of a path, without slashes at its end. */
static enum ft_status name_of(const char *dir, char **out, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_new_text(dir, &path, err));
    ft_path_trim(path);
    enum ft_status st = ft_new_text(ft_path_base(path), out, err);
    ft_free(path);
    return st;
}

static enum ft_status producer_of(const struct ft_json *config, char **out, struct ft_err *err)
{
    const char *version = ft_json_text(ft_json_get(config, "transformers_version"), NULL);
    char text[64] = "";
    if (version != NULL) {
        (void)snprintf(text, sizeof text, "transformers %.40s", version);
    }
    return ft_new_text(text, out, err);
}

static enum ft_status build_graph(struct ft_hf *hf, const struct ft_files *files, const struct ft_files *base,
                                  const struct ft_json *modules, struct ft_err *err)
{
    const struct ft_hf_family *family = NULL;
    ft_value x = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(find_family(hf, &family, err));
    FT_RETURN_IF_FAILED(ft_hf_only(hf, "quantization_config", "null", err));
    FT_RETURN_IF_FAILED(ft_hf_open(hf, base, err));
    find_prefix(hf, family);
    FT_RETURN_IF_FAILED(family->build(hf, family->arg, &x, err));
    FT_RETURN_IF_FAILED(ft_hf_finish(hf, family->ignored, err));
    if (modules == NULL) {
        return ft_graph_output(hf->graph, x, "last_hidden_state", err);
    }
    FT_RETURN_IF_FAILED(ft_hf_modules(hf, files, modules, &x, err));
    bool pooled = ft_graph_type(hf->graph, x)->rank == 2;
    return ft_graph_output(hf->graph, x, pooled ? "embedding" : "last_hidden_state", err);
}

static enum ft_status read_config(const struct ft_files *base, struct ft_json **config, char **path,
                                  struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_files_path(base, "config.json", path, err));
    FT_RETURN_IF_FAILED(ft_hf_json(base, "config.json", config, err));
    if (*config == NULL) {
        return FT_FAIL(err, NOT_FOUND, "no %s", *path);
    }
    if (ft_json_kind(*config) != FT_JSON_OBJECT) {
        ft_json_free(*config);
        *config = NULL;
        return FT_FAIL(err, INVALID, "%s is no object", *path);
    }
    return FT_OK;
}

enum ft_status ft_hf_read(const struct ft_files *files, struct ft_model **model, struct ft_err *err)
{
    struct ft_hf hf = {.shown = ""};
    struct ft_model *m = NULL;
    struct ft_json *modules = NULL;
    struct ft_json *config = NULL;
    char *path = NULL;
    const char *folder = "";
    enum ft_status st = FT_OK;
    *model = NULL;
    FT_TRY(ft_hf_json(files, "modules.json", &modules, err));
    FT_TRY(ft_hf_transformer(modules, &folder, err));
    const struct ft_files base = ft_files_below(files, folder);
    FT_TRY(read_config(&base, &config, &path, err));
    if ((st = ft_new(1, sizeof *m, &m, err)) != FT_OK) {
        ft_json_free(config);
        goto done;
    }
    FT_TRY(ft_hf_source_read(files, &base, config, &m->hf, err));
    FT_TRY(ft_graph_new(&m->graph, err));
    hf.graph = m->graph;
    hf.source = m->hf;
    hf.config = m->hf->config;
    hf.config_path = path;
    FT_TRY(build_graph(&hf, files, &base, modules, err));
    m->prompt_apart = m->hf->prompt_apart;
    FT_TRY(ft_hf_text_options(files, &base, hf.max_length, m, err));
    FT_TRY(name_of(files->path, &m->name, err));
    FT_TRY(producer_of(hf.config, &m->producer, err));
    *model = m;
    m = NULL;
done:
    ft_hf_release(&hf);
    ft_model_free(m);
    ft_json_free(modules);
    ft_free(path);
    return st;
}

enum ft_status ft_hf_load(const char *dir, struct ft_model **model, struct ft_err *err)
{
    const struct ft_files files = {.path = dir, .below = "", .root_name = ""};
    return ft_hf_read(&files, model, err);
}
