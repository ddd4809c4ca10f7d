#include "executor/config/config.h"

#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/base/log.h"
#include "executor/codec/yaml.h"
#include "executor/config/internal.h"

enum { WHERE_TEXT = 512 };

static const char *where_of(const char *path, int line, char out[WHERE_TEXT])
{
    (void)snprintf(out, WHERE_TEXT, "%.480s:%d", path, line);
    return out;
}

static enum ft_status set_scalar(struct ft_config *config, const struct ft_setting *setting,
                                 const char *where, const struct ft_yaml *value, struct ft_err *err)
{
    struct ft_buf text = {0};
    bool empty = value->kind == FT_JSON_NULL;
    enum ft_status st =
        ft_config_substitute(where, empty || value->text == NULL ? "" : value->text, &text, err);
    if (st == FT_OK) {
        st = ft_setting_text(config, setting, where, (const char *)text.data, err);
    }
    ft_buf_release(&text);
    return st;
}

static enum ft_status set_tree(struct ft_config *config, const struct ft_setting *setting, const char *where,
                               const struct ft_yaml *value, struct ft_err *err)
{
    struct ft_json *json = NULL;
    enum ft_status st = ft_yaml_to_json(value, &json, err);
    if (st == FT_OK) {
        st = ft_setting_substituted(config, setting, where, json, err);
    }
    ft_json_free(json);
    return st;
}

static enum ft_status read_with(struct ft_config *config, const char *path, const struct ft_yaml *with,
                                struct ft_err *err)
{
    char where[WHERE_TEXT];
    if (with->kind == FT_JSON_NULL) {
        return FT_OK;
    }
    if (with->kind != FT_JSON_OBJECT) {
        return FT_FAIL(err, INVALID, "%s: `with` is not a map of settings",
                       where_of(path, with->line, where));
    }
    for (size_t i = 0; i < with->count; i++) {
        const struct ft_setting *setting = ft_setting_find(with->keys[i]);
        const struct ft_yaml *value = with->items[i];
        (void)where_of(path, with->key_lines[i], where);
        if (setting == NULL) {
            (void)ft_setting_unknown(where, with->keys[i], err);
            return err->code = FT_INVALID; /* a file is input, not usage */
        }
        bool tree = value->kind == FT_JSON_ARRAY || value->kind == FT_JSON_OBJECT;
        FT_RETURN_IF_FAILED(tree ? set_tree(config, setting, where, value, err)
                                 : set_scalar(config, setting, where, value, err));
    }
    return FT_OK;
}

/* metas.name and metas.workspace are settings of ours by another name; the rest describes. */
static enum ft_status read_metas(struct ft_config *config, const char *path, const struct ft_yaml *metas,
                                 struct ft_err *err)
{
    static const char *const known[] = {"name", "workspace", "description", "url", "keywords", "py_modules"};
    char where[WHERE_TEXT];
    if (metas->kind != FT_JSON_OBJECT) {
        return metas->kind == FT_JSON_NULL
                   ? FT_OK
                   : FT_FAIL(err, INVALID, "%s: `metas` is not a map", where_of(path, metas->line, where));
    }
    for (size_t i = 0; i < metas->count; i++) {
        size_t k = 0;
        while (k < sizeof known / sizeof known[0] && strcmp(known[k], metas->keys[i]) != 0) {
            k++;
        }
        (void)where_of(path, metas->key_lines[i], where);
        if (k == sizeof known / sizeof known[0]) {
            return FT_FAIL(err, INVALID,
                           "%s: '%.64s' is not one of Jina's metas: name, workspace, description, url, "
                           "keywords, py_modules",
                           where, metas->keys[i]);
        }
        if (k < 2 && metas->items[i]->kind != FT_JSON_NULL) {
            FT_RETURN_IF_FAILED(set_scalar(config, ft_setting_find(known[k]), where, metas->items[i], err));
        }
    }
    return FT_OK;
}

/* Top-level keys of a Jina executor file. */
static enum ft_status read_root(struct ft_config *config, const char *path, const struct ft_yaml *root,
                                struct ft_err *err)
{
    char where[WHERE_TEXT];
    const struct ft_yaml *with = NULL;
    for (size_t i = 0; i < root->count; i++) {
        const char *key = root->keys[i];
        const struct ft_yaml *value = root->items[i];
        if (strcmp(key, "with") == 0) {
            with = value;
        } else if (strcmp(key, "metas") == 0) {
            FT_RETURN_IF_FAILED(read_metas(config, path, value, err));
        } else if (strcmp(key, "requests") == 0 || strcmp(key, "dynamic_batching") == 0 ||
                   strcmp(key, "py_modules") == 0) {
            if (value->count > 0) {
                FT_LOG_WARNING_LINE("config", "key of Jina's without effect here key=%s line=%d", key,
                                    root->key_lines[i]);
            }
        } else if (strcmp(key, "jtype") != 0) {
            return FT_FAIL(err, INVALID,
                           "%s: '%.64s' is not one of jtype, with, metas, py_modules, requests, "
                           "dynamic_batching; settings stand under `with`",
                           where_of(path, root->key_lines[i], where), key);
        }
    }
    return with != NULL ? read_with(config, path, with, err) : FT_OK; /* after metas, wherever it stands */
}

enum ft_status ft_config_read_text(struct ft_config *config, const char *path, struct ft_bytes text,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_arena arena = {0};
    struct ft_yaml *root = NULL;
    st = ft_yaml_parse(text, &arena, &root, err);
    if (st != FT_OK) {
        (void)ft_err_wrap(err, "%s", path);
        goto done;
    }
    if (root->kind == FT_JSON_OBJECT) {
        FT_TRY(read_root(config, path, root, err));
    } else if (root->kind != FT_JSON_NULL) {
        st = FT_FAIL(err, INVALID, "%s:%d: not a map of settings", path, root->line);
    }
done:
    ft_arena_release(&arena);
    return st;
}

enum ft_status ft_config_read_file(struct ft_config *config, const char *path, struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = ft_file_read(path, FT_MAX_CONFIG_BYTES, &text, err);
    if (st == FT_OK) {
        st = ft_config_read_text(config, path, ft_buf_bytes(&text), err);
    }
    ft_buf_release(&text);
    return st;
}
