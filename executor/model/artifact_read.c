#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/yaml.h"
#include "executor/codec/zip.h"
#include "executor/model/artifact.h"
#include "executor/model/files.h"
#include "executor/model/hf_internal.h"
#include "executor/model/internal.h"
#include "executor/model/onnx.h"

/* ---- which model */

struct found {
    char *name; /* of the folder below models/ */
    int count;
    bool only_torch;
};

static enum ft_status take_name(struct found *found, const char *name, size_t size, struct ft_err *err)
{
    found->count++;
    if (found->name != NULL) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_new(size + 1, 1, &found->name, err));
    memcpy(found->name, name, size);
    return FT_OK;
}

static enum ft_status look_in_zip(const struct ft_files *f, struct found *found, struct ft_err *err)
{
    static const char models[] = "models/";
    for (size_t i = 0; i < ft_zip_count(f->zip); i++) {
        const char *entry = ft_zip_name(f->zip, i);
        if (strncmp(entry, f->root_name, f->root) != 0 ||
            strncmp(entry + f->root, models, strlen(models)) != 0) {
            continue;
        }
        const char *name = entry + f->root + strlen(models);
        const char *last = strrchr(name, '/');
        if (last != NULL && strcmp(last, "/model.onnx") == 0) {
            FT_RETURN_IF_FAILED(take_name(found, name, (size_t)(last - name), err));
        }
        found->only_torch = found->only_torch || (last != NULL && strcmp(last, "/model.pt") == 0);
    }
    return FT_OK;
}

static enum ft_status look_in_folder(const struct ft_files *f, struct found *found, struct ft_err *err)
{
    struct ft_dir_list list = {0};
    char *models = NULL;
    char *path = NULL;
    char *file = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_files_path(f, "models", &models, err));
    FT_TRY(ft_dir_list(models, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        FT_TRY(ft_path_join(models, list.names[i], &path, err));
        FT_TRY(ft_path_join(path, "model.onnx", &file, err));
        if (ft_path_kind(file) == FT_PATH_FILE) {
            FT_TRY(take_name(found, list.names[i], strlen(list.names[i]), err));
        }
        ft_free(file);
        file = NULL;
        FT_TRY(ft_path_join(path, "model.pt", &file, err));
        found->only_torch = found->only_torch || ft_path_kind(file) == FT_PATH_FILE;
        ft_free(file);
        ft_free(path);
        file = path = NULL;
    }
done:
    ft_free(file);
    ft_free(path);
    ft_free(models);
    ft_dir_list_release(&list);
    return st;
}

static enum ft_status check_found(const struct found *found, const char *path, struct ft_err *err)
{
    if (found->count == 1) {
        return FT_OK;
    }
    if (found->count > 1) {
        return FT_FAIL(err, UNSUPPORTED, "%s holds %d models; artifacts with one are read", path,
                       found->count);
    }
    if (found->only_torch) {
        return FT_FAIL(err, UNSUPPORTED,
                       "%s holds PyTorch weights only: an artifact with model.onnx is needed", path);
    }
    return FT_FAIL(err, CORRUPT, "%s holds no models/<name>/model.onnx", path);
}

/* ---- what lies around it */

/* A YAML file as JSON; NULL when it does not exist. */
static enum ft_status read_yaml(const struct ft_files *f, const char *name, struct ft_json **json,
                                struct ft_err *err)
{
    struct ft_buf text = {0};
    struct ft_arena arena = {0};
    struct ft_yaml *root = NULL;
    bool found = false;
    enum ft_status st = FT_OK;
    *json = NULL;
    FT_TRY(ft_files_read(f, name, FT_MAX_CONFIG_BYTES, &text, &found, err));
    if (found) {
        FT_TRY(ft_yaml_parse(ft_buf_bytes(&text), &arena, &root, err));
        FT_TRY(ft_yaml_to_json(root, json, err));
    }
done:
    ft_arena_release(&arena);
    ft_buf_release(&text);
    return st == FT_OK ? st : ft_err_wrap(err, "%s", name);
}

static enum ft_status read_meta(const struct ft_files *f, struct ft_model *model, struct ft_err *err)
{
    struct ft_json *meta = NULL;
    struct ft_json *config = NULL;
    struct ft_json *metrics = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(read_yaml(f, "config.yml", &config, err));
    FT_TRY(ft_files_json(f, "metrics.json", FT_MAX_CONFIG_BYTES, &metrics, err));
    if (metrics == NULL) {
        FT_TRY(read_yaml(f, "metrics.yml", &metrics, err));
    }
    meta = ft_json_object();
    if (meta == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory for metadata");
        goto done;
    }
    if (config != NULL) {
        struct ft_json *value = config;
        config = NULL;
        FT_TRY(ft_json_set(meta, "config", value, err));
    }
    if (metrics != NULL) {
        struct ft_json *value = metrics;
        metrics = NULL;
        FT_TRY(ft_json_set(meta, "metrics", value, err));
    }
    ft_json_free(model->meta);
    model->meta = meta;
    meta = NULL;
done:
    ft_json_free(meta);
    ft_json_free(config);
    ft_json_free(metrics);
    return st;
}

/* Of a model of texts that model.onnx tells of: its tokenizer, and how long a text may be, which is an option
 * like the others. */
static enum ft_status read_text_parts(const struct ft_files *f, struct ft_model *model, struct ft_err *err)
{
    bool found = false;
    const struct ft_json *length = ft_json_get(model->prep, "max_length");
    FT_RETURN_IF_FAILED(
        ft_files_read(f, "tokenizer.json", FT_MAX_TOKENIZER_BYTES, &model->tokenizer, &found, err));
    model->max_length = ft_json_is_integral(length) && ft_json_int(length) > 0 ? ft_json_int(length) : 0;
    return !found || model->max_length > 0
               ? FT_OK
               : FT_FAIL(err, CORRUPT, "preprocess/prep.json has no max_length beside a tokenizer.json");
}

static enum ft_status read_around(const struct ft_files *f, const char *folder, struct ft_model *model,
                                  struct ft_err *err)
{
    struct ft_buf path = {0};
    struct ft_json *metadata = NULL;
    struct ft_json *prep = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_buf_printf(&path, err, "models/%s/metadata.yml", folder));
    FT_TRY(read_yaml(f, (const char *)path.data, &metadata, err));
    const char *name = ft_json_text(ft_json_get(metadata, "name"), NULL);
    ft_free(model->name);
    model->name = NULL;
    FT_TRY(ft_new_text(name != NULL && name[0] != '\0' ? name : folder, &model->name, err));
    FT_TRY(ft_files_json(f, "preprocess/prep.json", FT_MAX_CONFIG_BYTES, &prep, err));
    if (prep != NULL) {
        ft_json_free(model->prep);
        model->prep = prep;
        prep = NULL;
    }
    FT_TRY(read_meta(f, model, err));
    FT_TRY(model->hf == NULL ? read_text_parts(f, model, err) : FT_OK);
    model->is_embedding = true;
done:
    ft_json_free(prep);
    ft_json_free(metadata);
    ft_buf_release(&path);
    return st;
}

static enum ft_status read_model(const struct ft_files *f, const char *folder,
                                 const struct ft_model_options *options, struct ft_model **model,
                                 struct ft_err *err)
{
    struct ft_buf name = {0};
    struct ft_buf bytes = {0};
    struct ft_mapping map = {0};
    char *path = NULL;
    char *dir = NULL;
    bool found = false;
    enum ft_status st = FT_OK;
    FT_TRY(ft_buf_printf(&name, err, "models/%s", folder));
    if (f->zip == NULL) {
        FT_TRY(ft_files_path(f, (const char *)name.data, &dir, err));
        FT_TRY(ft_path_join(dir, "model.onnx", &path, err));
        FT_TRY(ft_file_map(path, &map, err));
        FT_TRY(ft_onnx_read(map.bytes, dir, options, model, err));
    } else {
        FT_TRY(ft_buf_text(&name, "/model.onnx", err));
        FT_TRY(ft_files_read(f, (const char *)name.data, FT_MAX_MODEL_BYTES, &bytes, &found, err));
        FT_TRY(ft_onnx_read(ft_buf_bytes(&bytes), NULL, options, model, err));
    }
done:
    ft_file_unmap(&map);
    ft_buf_release(&bytes);
    ft_buf_release(&name);
    ft_free(path);
    ft_free(dir);
    return st;
}

enum ft_status ft_artifact_read(const char *path, const struct ft_model_options *options,
                                struct ft_model **model, struct ft_err *err)
{
    struct ft_files f = {0};
    struct found found = {0};
    struct ft_model *m = NULL;
    bool folder = false;
    enum ft_status st = FT_OK;
    *model = NULL;
    FT_TRY(ft_files_open(path, &f, err));
    FT_TRY(f.zip == NULL ? look_in_folder(&f, &found, err) : look_in_zip(&f, &found, err));
    FT_TRY(check_found(&found, path, err));
    FT_TRY(ft_files_has(&f, "modules.json", &folder, err));
    st = folder ? ft_hf_read(&f, &m, err) : read_model(&f, found.name, options, &m, err);
    if (st != FT_OK || (st = read_around(&f, found.name, m, err)) != FT_OK) {
        (void)ft_err_wrap(err, "%s", path);
        goto done;
    }
    *model = m;
    m = NULL;
done:
    ft_model_free(m);
    ft_free(found.name);
    ft_files_close(&f);
    return st;
}

/* Not an artifact is an answer; no memory is a failure. */
enum ft_status ft_artifact_probe(const char *path, bool *known, struct ft_err *err)
{
    struct ft_files f = {0};
    char *config = NULL;
    char *models = NULL;
    enum ft_status st = FT_OK;
    *known = false;
    if (ft_path_kind(path) == FT_PATH_DIR) {
        FT_TRY(ft_path_join(path, "config.yml", &config, err));
        FT_TRY(ft_path_join(path, "models", &models, err));
        *known = ft_path_kind(config) == FT_PATH_FILE && ft_path_kind(models) == FT_PATH_DIR;
    } else if (ft_path_kind(path) == FT_PATH_FILE && ft_path_has_suffix(path, ".zip")) {
        st = ft_files_open(path, &f, err);
        *known = st == FT_OK;
        if (st != FT_NOMEM && st != FT_OK) {
            ft_err_clear(err);
            st = FT_OK;
        }
        ft_files_close(&f);
    }
done:
    ft_free(config);
    ft_free(models);
    return st;
}

bool ft_artifact_known(const char *path)
{
    struct ft_err ignored = {0};
    bool known = false;
    return ft_artifact_probe(path, &known, &ignored) == FT_OK && known;
}
