#include "executor/store/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/codec/json.h"

enum { VERSION = 2 };

void ft_journal_name(uint64_t number, char name[FT_STORE_NAME])
{
    if (number == 0) {
        (void)snprintf(name, FT_STORE_NAME, "journal");
    } else {
        (void)snprintf(name, FT_STORE_NAME, "journal-%06llu", (unsigned long long)number);
    }
}

void ft_shard_name(uint64_t number, char name[FT_STORE_NAME])
{
    (void)snprintf(name, FT_STORE_NAME, "shard-%06llu.fts", (unsigned long long)number);
}

static bool listed(const struct ft_manifest_file *list, size_t count, const char *name,
                   void (*name_of)(uint64_t, char[FT_STORE_NAME]))
{
    char own[FT_STORE_NAME];
    for (size_t i = 0; i < count; i++) {
        name_of(list[i].number, own);
        if (strcmp(own, name) == 0) {
            return true;
        }
    }
    return false;
}

bool ft_manifest_is_left_over(const struct ft_manifest *manifest, const char *name)
{
    if (ft_path_has_suffix(name, ".tmp")) {
        return true;
    }
    if (strncmp(name, "journal", 7) == 0) {
        return !listed(manifest->journals, manifest->n_journals, name, ft_journal_name);
    }
    return strncmp(name, "shard-", 6) == 0 &&
           !listed(manifest->shards, manifest->n_shards, name, ft_shard_name);
}

void ft_manifest_release(struct ft_manifest *manifest)
{
    ft_free(manifest->shards);
    ft_free(manifest->journals);
    *manifest = (struct ft_manifest){0};
}

enum ft_status ft_manifest_add(struct ft_manifest_file **list, size_t *count, struct ft_manifest_file file,
                               struct ft_err *err)
{
    size_t capacity = *count;
    FT_RETURN_IF_FAILED(ft_grow(list, &capacity, *count + 1, sizeof **list, err));
    (*list)[(*count)++] = file;
    return FT_OK;
}

enum ft_status ft_manifest_copy(const struct ft_manifest *from, struct ft_manifest *to, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    *to = *from;
    to->shards = NULL;
    to->journals = NULL;
    FT_TRY(ft_new(from->n_shards + 1, sizeof *to->shards, &to->shards, err));
    FT_TRY(ft_new(from->n_journals + 1, sizeof *to->journals, &to->journals, err));
    for (size_t i = 0; i < from->n_shards; i++) {
        to->shards[i] = from->shards[i];
    }
    for (size_t i = 0; i < from->n_journals; i++) {
        to->journals[i] = from->journals[i];
    }
done:
    if (st != FT_OK) {
        ft_manifest_release(to);
    }
    return st;
}

/* ---- reading ---- */

static bool says(const struct ft_json *json, const char *key, const char *value)
{
    const char *got = ft_json_text(ft_json_get(json, key), NULL);
    return got != NULL && strcmp(got, value) == 0;
}

static bool number_of(const struct ft_json *json, uint64_t *number)
{
    *number = ft_json_int(json) < 0 ? 0 : (uint64_t)ft_json_int(json);
    return ft_json_is_integral(json) && ft_json_int(json) >= 0;
}

/* Numbers, each below `next`, of an array; *sound says whether all were. */
static enum ft_status read_list(const struct ft_json *array, uint64_t next, struct ft_manifest_file **list,
                                size_t *count, bool *sound, struct ft_err *err)
{
    *sound = *sound && ft_json_kind(array) == FT_JSON_ARRAY;
    for (size_t i = 0; i < ft_json_count(array) && *sound; i++) {
        struct ft_manifest_file file = {0};
        *sound = number_of(ft_json_at(array, i), &file.number) && file.number < next;
        FT_RETURN_IF_FAILED(ft_manifest_add(list, count, file, err));
    }
    return FT_OK;
}

static enum ft_status read_lists(const struct ft_json *json, struct ft_manifest *m, bool *sound,
                                 struct ft_err *err)
{
    const char *salt = ft_json_text(ft_json_get(json, "id_salt"), NULL);
    const struct ft_json *ends = ft_json_get(json, "ends");
    *sound = salt != NULL && strlen(salt) == 16 && strspn(salt, "0123456789abcdef") == 16 &&
             number_of(ft_json_get(json, "generation"), &m->generation) &&
             number_of(ft_json_get(json, "next"), &m->next);
    m->salt = *sound ? strtoull(salt, NULL, 16) : 0;
    FT_RETURN_IF_FAILED(
        read_list(ft_json_get(json, "shards"), m->next, &m->shards, &m->n_shards, sound, err));
    FT_RETURN_IF_FAILED(
        read_list(ft_json_get(json, "journals"), m->next, &m->journals, &m->n_journals, sound, err));
    *sound = *sound && m->n_journals > 0 && (ends == NULL || ft_json_count(ends) == m->n_journals);
    for (size_t i = 0; ends != NULL && *sound && i < m->n_journals; i++) {
        *sound = number_of(ft_json_at(ends, i), &m->journals[i].end);
    }
    return FT_OK;
}

static enum ft_status parse(const char *path, struct ft_bytes bytes, struct ft_manifest *m,
                            struct ft_err *err)
{
    struct ft_json *json = NULL;
    struct ft_err syntax = {0};
    enum ft_status st = FT_OK;
    bool sound = true;
    if (ft_json_parse(bytes, &json, &syntax) != FT_OK || ft_json_kind(json) != FT_JSON_OBJECT) {
        st = syntax.code == FT_NOMEM ? FT_FAIL(err, NOMEM, "no memory for %.600s", path)
                                     : FT_FAIL(err, CORRUPT, "%.600s is not a dataset's manifest", path);
        goto done;
    }
    int64_t version = ft_json_int(ft_json_get(json, "version"));
    if (!says(json, "format", "finetuner-dataset") || version < 1 || version > VERSION ||
        !says(json, "documents", "docarray-v1")) {
        st = FT_FAIL(err, UNSUPPORTED, "%.600s: not a dataset of this version of finetuner", path);
        goto done;
    }
    if (version == 1) {
        m->old = true;
        m->next = 1;
        FT_TRY(ft_manifest_add(&m->journals, &m->n_journals, (struct ft_manifest_file){0}, err));
        goto done;
    }
    FT_TRY(read_lists(json, m, &sound, err));
    if (!sound) {
        st = FT_FAIL(err, CORRUPT, "%.600s: its lists of files are broken", path);
    }
done:
    ft_json_free(json);
    return st;
}

enum ft_status ft_manifest_read(const char *dir, struct ft_manifest *manifest, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    char *path = NULL;
    *manifest = (struct ft_manifest){0};
    FT_TRY(ft_path_join(dir, "manifest", &path, err));
    FT_TRY(ft_file_read(path, FT_MAX_CONFIG_BYTES, &file, err));
    FT_TRY(parse(path, ft_buf_bytes(&file), manifest, err));
done:
    if (st != FT_OK) {
        ft_manifest_release(manifest);
    }
    ft_buf_release(&file);
    ft_free(path);
    return st;
}

/* ---- writing ---- */

static enum ft_status put_list(struct ft_buf *out, const char *key, const struct ft_manifest_file *list,
                               size_t count, bool ends, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_printf(out, err, ",\n \"%s\": [", key));
    for (size_t i = 0; i < count; i++) {
        uint64_t value = ends ? list[i].end : list[i].number;
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "%s%llu", i == 0 ? "" : ", ", (unsigned long long)value));
    }
    return ft_buf_text(out, "]", err);
}

enum ft_status ft_manifest_write(const char *dir, const struct ft_manifest *m, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf out = {0};
    char *path = NULL;
    FT_TRY(ft_path_join(dir, "manifest", &path, err));
    FT_TRY(ft_buf_printf(&out, err,
                         "{\"format\": \"finetuner-dataset\", \"version\": %d, \"documents\": "
                         "\"docarray-v1\",\n \"generation\": %llu, \"next\": %llu, \"id_salt\": \"%016llx\"",
                         VERSION, (unsigned long long)m->generation, (unsigned long long)m->next,
                         (unsigned long long)m->salt));
    FT_TRY(put_list(&out, "shards", m->shards, m->n_shards, false, err));
    FT_TRY(put_list(&out, "journals", m->journals, m->n_journals, false, err));
    if (m->journals[0].end > 0) {
        FT_TRY(put_list(&out, "ends", m->journals, m->n_journals, true, err));
    }
    FT_TRY(ft_buf_text(&out, "}\n", err));
    FT_TRY(ft_file_write(path, ft_buf_bytes(&out), err));
done:
    ft_buf_release(&out);
    ft_free(path);
    return st;
}
