#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/model/hf_internal.h"
#include "executor/model/text_pool.h"

/*
 * What lies beside an ONNX file of a text model: Optimum puts tokenizer.json and config.json into its folder,
 * sentence-transformers has the file in a folder "onnx" of its own, and reads its modules after it.
 */

/* Does the folder tell of texts? */
static enum ft_status tells(const struct ft_files *files, bool *yes, struct ft_err *err)
{
    static const char *const names[] = {"tokenizer.json", "vocab.txt", "vocab.json"};
    *yes = false;
    for (size_t i = 0; !*yes && i < sizeof names / sizeof *names; i++) {
        FT_RETURN_IF_FAILED(ft_files_has(files, names[i], yes, err));
    }
    return FT_OK;
}

enum ft_status ft_hf_beside_folder(const char *dir, char **out, struct ft_err *err)
{
    struct ft_files files = {.path = dir, .below = "", .root_name = ""};
    bool yes = false;
    char *path = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_new_text(dir, &path, err));
    FT_TRY(tells(&files, &yes, err));
    ft_path_trim(path);
    if (!yes && strcmp(ft_path_base(path), "onnx") == 0) {
        files.path = dir = ft_path_base(path) == path ? "." : path;
        path[ft_path_base(path) - path] = '\0';
        FT_TRY(tells(&files, &yes, err));
    }
    if (yes) {
        FT_TRY(ft_new_text(dir, out, err));
    }
done:
    ft_free(path);
    return st;
}

/* The places that the model has; the file itself does not say. 0: any number. */
static int64_t places_of(const struct ft_json *config)
{
    static const char *const behind_pad[] = {"roberta", "xlm-roberta", "camembert"};
    const char *type = ft_json_text(ft_json_get(config, "model_type"), NULL);
    const struct ft_json *pad = ft_json_get(config, "pad_token_id");
    int64_t places = ft_json_int(ft_json_get(config, "max_position_embeddings"));
    int64_t first = type != NULL && strcmp(type, "mpnet") == 0 ? 2 : 0; /* whatever its config says */
    for (size_t i = 0; type != NULL && i < sizeof behind_pad / sizeof *behind_pad; i++) {
        if (strcmp(type, behind_pad[i]) == 0) {
            int64_t number = ft_json_is_integral(pad) ? ft_json_int(pad) : 1;
            first = number < 0 || number > places ? places : number + 1;
        }
    }
    places -= first;
    return places > 0 ? places : 0;
}

/* The rows of tokens that modules.json goes on from; FT_NO_VALUE if the file pools itself. */
static ft_value tokens_of(const struct ft_graph *g)
{
    ft_value tokens = FT_NO_VALUE;
    for (int i = 0; i < ft_graph_outputs(g); i++) {
        const char *name = ft_graph_output_name(g, i);
        ft_value v = ft_graph_output_at(g, i);
        if (strcmp(name, "sentence_embedding") == 0) {
            return FT_NO_VALUE;
        }
        if (ft_is_token_map(ft_graph_type(g, v)) &&
            (ft_graph_outputs(g) == 1 || strcmp(name, "last_hidden_state") == 0 ||
             strcmp(name, "token_embeddings") == 0)) {
            tokens = v;
        }
    }
    return tokens;
}

static enum ft_status add_modules(const struct ft_files *files, struct ft_model *model, struct ft_err *err)
{
    struct ft_json *modules = NULL;
    struct ft_hf hf = {.graph = model->graph,
                       .source = model->hf,
                       .shown = "",
                       .ids = ft_graph_find(model->graph, "input_ids"),
                       .mask = ft_graph_find(model->graph, "attention_mask"),
                       .types = ft_graph_find(model->graph, "token_type_ids")};
    ft_value x = tokens_of(model->graph);
    enum ft_status st = FT_OK;
    if (x == FT_NO_VALUE || hf.mask == FT_NO_VALUE) {
        return FT_OK;
    }
    FT_TRY(ft_hf_json(files, "modules.json", &modules, err));
    if (modules == NULL) {
        goto done;
    }
    FT_TRY(ft_hf_modules(&hf, files, modules, &x, err));
    if (ft_graph_type(model->graph, x)->rank == 2) {
        ft_graph_clear_outputs(model->graph);
        FT_TRY(ft_graph_output(model->graph, x, "sentence_embedding", err));
    }
done:
    ft_json_free(modules);
    return st;
}

enum ft_status ft_hf_beside(const char *dir, struct ft_model *model, struct ft_err *err)
{
    char *folder = NULL;
    struct ft_json *config = NULL;
    enum ft_status st = FT_OK;
    if (!ft_graph_reads_texts(model->graph)) {
        return FT_OK;
    }
    FT_TRY(ft_hf_beside_folder(dir, &folder, err));
    if (folder == NULL) {
        goto done;
    }
    const struct ft_files files = {.path = folder, .below = "", .root_name = ""};
    FT_TRY(ft_hf_json(&files, "config.json", &config, err));
    int64_t places = places_of(config);
    FT_TRY(ft_hf_source_read(&files, &files, config, &model->hf, err));
    FT_TRY(ft_hf_text_options(&files, &files, places, model, err));
    FT_TRY(model->is_embedding ? FT_OK : add_modules(&files, model, err));
    model->prompt_apart = model->hf->prompt_apart;
done:
    ft_hf_source_free(model->hf); /* it tells how texts are read, not what is in the ONNX file */
    model->hf = NULL;
    ft_free(folder);
    return st;
}
