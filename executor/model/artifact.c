#include "executor/model/artifact.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/yaml.h"
#include "executor/codec/zip.h"
#include "executor/model/hf.h"
#include "executor/model/internal.h"
#include "executor/model/metadata.h"
#include "executor/model/onnx.h"

/* ---- files below a folder */

static enum ft_status write_bytes(const char *dir, const char *name, struct ft_bytes text, struct ft_err *err)
{
    char *path = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_path_join(dir, name, &path, err));
    FT_TRY(ft_file_write(path, text, err));
done:
    ft_free(path);
    return st;
}

static enum ft_status write_file(const char *dir, const char *name, const struct ft_buf *text,
                                 struct ft_err *err)
{
    return write_bytes(dir, name, ft_buf_bytes(text), err);
}

typedef enum ft_status (*text_writer)(const struct ft_artifact *artifact, const char *name,
                                      struct ft_buf *out, struct ft_err *err);

static enum ft_status write_text(const char *dir, const char *file, text_writer writer,
                                 const struct ft_artifact *artifact, const char *name, struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    FT_TRY(writer(artifact, name, &text, err));
    FT_TRY(write_file(dir, file, &text, err));
done:
    ft_buf_release(&text);
    return st;
}

/* JSON, or the same as YAML; nothing is {}. */
static enum ft_status write_json(const char *dir, const char *file, const struct ft_json *json, bool yaml,
                                 struct ft_err *err)
{
    struct ft_json *none = ft_json_object();
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    const struct ft_json *value = json != NULL ? json : none;
    if (none == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for %s", file);
    }
    if (yaml) {
        FT_TRY(ft_yaml_write(value, &text, err));
    } else {
        FT_TRY(ft_json_write(value, 2, &text, err));
        FT_TRY(ft_buf_text(&text, "\n", err));
    }
    FT_TRY(write_file(dir, file, &text, err));
done:
    ft_json_free(none);
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_artifact_properties(const struct ft_json *prep, struct ft_json **out, struct ft_err *err)
{
    struct ft_json *o = ft_json_object();
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    *out = NULL;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for properties");
    }
    FT_TRY(ft_json_set(o, FT_PROPERTY_EMBEDDING, ft_json_of_text("true"), err));
    if (prep != NULL) {
        FT_TRY(ft_json_write(prep, 0, &text, err));
        FT_TRY(ft_json_set(o, FT_PROPERTY_PREP, ft_json_of_bytes(ft_buf_bytes(&text)), err));
    }
    *out = o;
    o = NULL;
done:
    ft_buf_release(&text);
    ft_json_free(o);
    return st;
}

static enum ft_status write_model(const char *dir, const struct ft_artifact *a, const char *name,
                                  struct ft_err *err)
{
    struct ft_buf path = {0};
    struct ft_buf bytes = {0};
    struct ft_json *properties = NULL;
    char *folder = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_buf_printf(&path, err, "models/%s", name));
    FT_TRY(ft_path_join(dir, (const char *)path.data, &folder, err));
    FT_TRY(ft_dir_make(folder, err));
    FT_TRY(ft_artifact_properties(a->prep, &properties, err));
    FT_TRY(ft_onnx_write(a->graph, name, properties, &bytes, err));
    FT_TRY(write_file(folder, "model.onnx", &bytes, err));
    FT_TRY(write_text(folder, "metadata.yml", ft_metadata_model, a, name, err));
done:
    ft_free(folder);
    ft_json_free(properties);
    ft_buf_release(&bytes);
    ft_buf_release(&path);
    return st;
}

static enum ft_status write_hf(const char *dir, const struct ft_artifact *a, char left_out[FT_ERR_TEXT],
                               struct ft_err *err)
{
    char why[FT_ERR_TEXT] = "";
    const struct ft_hf_out out = {
        .graph = a->graph, .source = a->hf, .tokenizer = a->tokenizer, .prep = a->prep};
    if (a->hf == NULL) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_hf_write(&out, dir, why, err));
    if (why[0] != '\0') {
        (void)snprintf(left_out, FT_ERR_TEXT, "No files for sentence-transformers are written: %.900s.", why);
    }
    return FT_OK;
}

static enum ft_status write_tree(const char *dir, const struct ft_artifact *a, const char *name,
                                 char left_out[FT_ERR_TEXT], struct ft_err *err)
{
    struct ft_buf card = {0};
    char *preprocess = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_path_join(dir, "preprocess", &preprocess, err));
    FT_TRY(ft_dir_make(preprocess, err));
    FT_TRY(write_model(dir, a, name, err));
    FT_TRY(write_text(dir, "models/input-map.yml", ft_metadata_input_map, a, name, err));
    FT_TRY(write_json(preprocess, "prep.json", a->prep, false, err));
    FT_TRY(a->tokenizer.size > 0 ? write_bytes(dir, "tokenizer.json", a->tokenizer, err) : FT_OK);
    FT_TRY(write_json(dir, "metrics.json", a->metrics, false, err));
    FT_TRY(write_json(dir, "metrics.yml", a->metrics, true, err));
    FT_TRY(write_text(dir, "metadata.yml", ft_metadata_run, a, name, err));
    FT_TRY(write_hf(dir, a, left_out, err));
    FT_TRY(ft_metadata_card(a, name, left_out, &card, err));
    FT_TRY(write_file(dir, "README.md", &card, err));
    FT_TRY(write_json(dir, "config.yml", a->config, true, err)); /* last: what makes it an artifact */
    FT_TRY(ft_dir_sync(dir, err));
done:
    ft_buf_release(&card);
    ft_free(preprocess);
    return st;
}

/* ---- where it goes */

/* A folder name made from a model's name: letters, digits, '.', '_' and '-', not starting with a dot. */
static enum ft_status folder_name(const char *name, char **out, struct ft_err *err)
{
    char *copy = NULL;
    FT_RETURN_IF_FAILED(ft_new_text(name != NULL && name[0] != '\0' ? name : "model", &copy, err));
    for (char *p = copy; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-' && (*p != '.' || p == copy)) {
            *p = '-';
        }
    }
    *out = copy;
    return FT_OK;
}

static enum ft_status check_artifact(const struct ft_artifact *a, struct ft_err *err)
{
    if (ft_graph_outputs(a->graph) != 1 || ft_graph_inputs(a->graph) < 1) {
        return FT_FAIL(err, INVALID,
                       "an artifact holds a graph with inputs and one output, this one has %d and %d",
                       ft_graph_inputs(a->graph), ft_graph_outputs(a->graph));
    }
    const char *run = a->run_name;
    if (run == NULL || run[0] == '\0' || run[0] == '.' || strlen(run) > FT_MAX_NAME_BYTES / 2 ||
        strpbrk(run, "/\\") != NULL) {
        return FT_FAIL(err, INVALID, "'%.200s' is no name for a run: it becomes a folder's",
                       run == NULL ? "" : run);
    }
    return FT_OK;
}

enum ft_status ft_artifact_check_place(const char *path, struct ft_err *err)
{
    bool zip = ft_path_has_suffix(path, ".zip");
    enum ft_path_kind kind = ft_path_kind(path);
    struct ft_dir_list list = {0};
    bool known = false;
    FT_RETURN_IF_FAILED(ft_artifact_probe(path, &known, err));
    if (kind == FT_PATH_NONE || known) {
        return kind == FT_PATH_DIR && zip ? FT_FAIL(err, EXISTS, "%s is a folder", path) : FT_OK;
    }
    if (kind == FT_PATH_DIR && !zip) {
        FT_RETURN_IF_FAILED(ft_dir_list(path, &list, err));
        size_t count = list.count;
        ft_dir_list_release(&list);
        if (count == 0) {
            return FT_OK;
        }
    }
    return FT_FAIL(err, EXISTS, "%s exists and is not an artifact: move it away, or write to another place",
                   path);
}

/* New beside old, old aside, new in place, old gone: at every moment one of them is whole. */
static enum ft_status swap_folders(const char *fresh, const char *path, struct ft_err *err)
{
    struct ft_buf aside = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_buf_printf(&aside, err, "%s.old", path));
    if (ft_path_kind(path) == FT_PATH_DIR) {
        FT_TRY(ft_path_remove((const char *)aside.data, err));
        FT_TRY(ft_path_rename(path, (const char *)aside.data, err));
    }
    FT_TRY(ft_path_rename(fresh, path, err));
    FT_TRY(ft_path_remove((const char *)aside.data, err));
done:
    ft_buf_release(&aside);
    return st;
}

enum ft_status ft_artifact_write(const struct ft_artifact *artifact, const char *path,
                                 char left_out[FT_ERR_TEXT], struct ft_err *err)
{
    bool zip = ft_path_has_suffix(path, ".zip");
    struct ft_buf part = {0};
    struct ft_buf prefix = {0};
    char *name = NULL;
    char *to = NULL;
    bool made = false;
    enum ft_status st = FT_OK;
    left_out[0] = '\0';
    FT_TRY(check_artifact(artifact, err));
    FT_TRY(ft_new_text(path, &to, err));
    ft_path_trim(to); /* renames need the name itself */
    FT_TRY(ft_artifact_check_place(to, err));
    FT_TRY(folder_name(artifact->model_name, &name, err));
    FT_TRY(ft_buf_printf(&part, err, "%s.part", to));
    FT_TRY(ft_path_remove((const char *)part.data, err));
    made = true;
    FT_TRY(ft_dir_make((const char *)part.data, err));
    FT_TRY(write_tree((const char *)part.data, artifact, name, left_out, err));
    if (zip) {
        FT_TRY(ft_buf_printf(&prefix, err, "%s/", artifact->run_name));
        FT_TRY(ft_zip_pack((const char *)part.data, (const char *)prefix.data, to, err));
    } else {
        FT_TRY(swap_folders((const char *)part.data, to, err));
    }
done:
    if (made) {
        struct ft_err ignored = {0}; /* the first failure is the one to tell */
        if (ft_path_remove((const char *)part.data, &ignored) != FT_OK && st == FT_OK) {
            *err = ignored;
            st = ignored.code;
        }
    }
    ft_buf_release(&part);
    ft_buf_release(&prefix);
    ft_free(name);
    ft_free(to);
    return st;
}
