#include "executor/model/model.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/model/artifact.h"
#include "executor/model/hf_internal.h"
#include "executor/model/internal.h"
#include "executor/model/onnx.h"

void ft_model_free(struct ft_model *model)
{
    if (model == NULL) {
        return;
    }
    ft_graph_free(model->graph);
    ft_free(model->name);
    ft_free(model->source);
    ft_json_free(model->prep);
    ft_json_free(model->meta);
    ft_free(model->producer);
    ft_hf_source_free(model->hf);
    ft_buf_release(&model->tokenizer);
    ft_free(model->prompt);
    ft_free(model);
}

/* Folder of a path, "." if it names none. */
static enum ft_status folder_of(const char *path, char **out, struct ft_err *err)
{
    size_t size = (size_t)(ft_path_base(path) - path);
    char *dir = NULL;
    *out = NULL;
    if (size == 0) {
        return ft_new_text(".", out, err);
    }
    FT_RETURN_IF_FAILED(ft_new(size + 1, 1, &dir, err));
    memcpy(dir, path, size);
    *out = dir;
    return FT_OK;
}

/* "classifier" of "models/classifier.onnx". */
static enum ft_status name_of(const char *path, char **out, struct ft_err *err)
{
    const char *base = ft_path_base(path);
    size_t size = strlen(base);
    FT_RETURN_IF_FAILED(ft_new_text(base, out, err));
    if (ft_path_has_suffix(base, ".onnx") && size > strlen(".onnx")) {
        (*out)[size - strlen(".onnx")] = '\0';
    }
    return FT_OK;
}

/* torch.save writes a zip archive, and before 1.6 a pickle; no ONNX file starts like either. */
static enum ft_status refuse_torch(const char *path, struct ft_bytes file, struct ft_err *err)
{
    bool zip = file.size >= 4 && memcmp(file.data, "PK\3\4", 4) == 0;
    bool pickle = file.size >= 2 && file.data[0] == 0x80 && file.data[1] >= 2 && file.data[1] <= 5;
    if (!zip && !pickle) {
        return FT_OK;
    }
    return FT_FAIL(err, UNSUPPORTED,
                   "%s is a %s, not an ONNX model: a PyTorch model comes here by torch.onnx.export(model, "
                   "example, \"model.onnx\")%s",
                   path, zip ? "zip archive, as torch.save writes" : "Python pickle, as torch.save wrote",
                   zip ? "; the name of an artifact ends in .zip" : "");
}

static enum ft_status load_onnx(const char *path, const struct ft_model_options *options,
                                struct ft_model **model, struct ft_err *err)
{
    struct ft_mapping map = {0};
    struct ft_model *m = NULL;
    char *dir = NULL;
    char *name = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(folder_of(path, &dir, err));
    FT_TRY(name_of(path, &name, err));
    FT_TRY(ft_file_map(path, &map, err));
    FT_TRY(refuse_torch(path, map.bytes, err));
    if ((st = ft_onnx_read(map.bytes, dir, options, &m, err)) != FT_OK) {
        (void)ft_err_wrap(err, "%s", path);
        goto done;
    }
    FT_TRY(ft_hf_beside(dir, m, err));
    ft_free(m->name);
    m->name = name;
    name = NULL;
    *model = m;
    m = NULL;
done:
    ft_model_free(m);
    ft_file_unmap(&map);
    ft_free(name);
    ft_free(dir);
    return st;
}

static enum ft_status folder_has(const char *dir, const char *name, bool *has, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(dir, name, &path, err));
    *has = *has || ft_path_kind(path) == FT_PATH_FILE;
    ft_free(path);
    return FT_OK;
}

/* A folder with config.json or modules.json: its safetensors, else the ONNX file that Optimum or
 * sentence-transformers put there. */
static enum ft_status load_folder(const char *path, const struct ft_model_options *options,
                                  struct ft_model **model, struct ft_err *err)
{
    static const char *const names[] = {"model.onnx", "onnx/model.onnx"};
    bool has = false;
    FT_RETURN_IF_FAILED(folder_has(path, "model.safetensors", &has, err));
    FT_RETURN_IF_FAILED(folder_has(path, "model.safetensors.index.json", &has, err));
    for (size_t i = 0; !has && i < sizeof names / sizeof *names; i++) {
        bool onnx = false;
        char *file = NULL;
        FT_RETURN_IF_FAILED(folder_has(path, names[i], &onnx, err));
        if (onnx) {
            FT_RETURN_IF_FAILED(ft_path_join(path, names[i], &file, err));
            enum ft_status st = load_onnx(file, options, model, err);
            ft_free(file);
            return st;
        }
    }
    return ft_hf_load(path, model, err);
}

static enum ft_status load_any(const char *path, const struct ft_model_options *options,
                               struct ft_model **model, struct ft_err *err)
{
    enum ft_path_kind kind = ft_path_kind(path);
    bool artifact = false;
    bool folder = false;
    if (kind == FT_PATH_NONE) {
        return FT_FAIL(err, NOT_FOUND, "no model at %s: it is a file or a folder here, nothing is downloaded",
                       path);
    }
    if (kind == FT_PATH_OTHER) {
        return FT_FAIL(err, INVALID, "%s is neither a file nor a folder", path);
    }
    FT_RETURN_IF_FAILED(ft_artifact_probe(path, &artifact, err));
    if (artifact) {
        return ft_artifact_read(path, options, model, err);
    }
    if (kind == FT_PATH_FILE && ft_path_has_suffix(path, ".zip")) {
        return FT_FAIL(err, INVALID,
                       "%s is not an artifact: not a whole .zip, or one without config.yml and models/",
                       path);
    }
    if (kind == FT_PATH_FILE) {
        return load_onnx(path, options, model, err);
    }
    FT_RETURN_IF_FAILED(folder_has(path, "modules.json", &folder, err));
    FT_RETURN_IF_FAILED(folder_has(path, "config.json", &folder, err));
    if (folder) {
        return load_folder(path, options, model, err);
    }
    return FT_FAIL(err, INVALID, "%s is not a model folder: no config.yml with models/, no config.json",
                   path);
}

enum ft_status ft_model_load(const char *path, const struct ft_model_options *options,
                             struct ft_model **model, struct ft_err *err)
{
    struct ft_model *m = NULL;
    enum ft_status st = FT_OK;
    *model = NULL;
    FT_TRY(load_any(path, options, &m, err));
    ft_free(m->source);
    m->source = NULL;
    FT_TRY(ft_new_text(path, &m->source, err));
    *model = m;
    m = NULL;
done:
    ft_model_free(m);
    return st;
}
