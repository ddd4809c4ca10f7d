#include "executor/model/files.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"

/* config.yml at the top or one folder down says where an artifact begins. */
static bool find_root(struct ft_files *f)
{
    for (size_t i = 0; i < ft_zip_count(f->zip); i++) {
        const char *entry = ft_zip_name(f->zip, i);
        const char *slash = strchr(entry, '/');
        const char *rest = slash == NULL ? entry : slash + 1;
        if (strcmp(rest, "config.yml") == 0) {
            f->root = (size_t)(rest - entry);
            f->root_name = entry;
            return true;
        }
    }
    return false;
}

enum ft_status ft_files_open(const char *path, struct ft_files *files, struct ft_err *err)
{
    *files = (struct ft_files){.path = path, .below = "", .root_name = ""};
    if (ft_path_kind(path) == FT_PATH_DIR) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_zip_open(path, &files->zip, err));
    if (!find_root(files)) {
        ft_files_close(files);
        return FT_FAIL(err, CORRUPT, "%s is not an artifact: no config.yml inside", path);
    }
    return FT_OK;
}

void ft_files_close(struct ft_files *files)
{
    ft_zip_close(files->zip);
    files->zip = NULL;
}

struct ft_files ft_files_below(const struct ft_files *files, const char *folder)
{
    struct ft_files f = *files;
    f.below = folder;
    return f;
}

/* "below/name" */
static enum ft_status name_in(const struct ft_files *f, const char *name, char **out, struct ft_err *err)
{
    return f->below[0] == '\0' ? ft_new_text(name, out, err) : ft_path_join(f->below, name, out, err);
}

enum ft_status ft_files_path(const struct ft_files *files, const char *name, char **out, struct ft_err *err)
{
    char *inside = NULL;
    *out = NULL;
    FT_RETURN_IF_FAILED(name_in(files, name, &inside, err));
    enum ft_status st = ft_path_join(files->path, inside, out, err);
    ft_free(inside);
    return st;
}

/* The entry of the .zip, SIZE_MAX if there is none. */
static enum ft_status find_entry(const struct ft_files *f, const char *name, size_t *out, struct ft_err *err)
{
    char *inside = NULL;
    *out = SIZE_MAX;
    FT_RETURN_IF_FAILED(name_in(f, name, &inside, err));
    for (size_t i = 0; *out == SIZE_MAX && i < ft_zip_count(f->zip); i++) {
        const char *entry = ft_zip_name(f->zip, i);
        if (strncmp(entry, f->root_name, f->root) == 0 && strcmp(entry + f->root, inside) == 0) {
            *out = i;
        }
    }
    ft_free(inside);
    return FT_OK;
}

enum ft_status ft_files_has(const struct ft_files *files, const char *name, bool *has, struct ft_err *err)
{
    char *path = NULL;
    size_t entry = 0;
    *has = false;
    if (files->zip != NULL) {
        FT_RETURN_IF_FAILED(find_entry(files, name, &entry, err));
        *has = entry != SIZE_MAX;
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_files_path(files, name, &path, err));
    *has = ft_path_kind(path) == FT_PATH_FILE;
    ft_free(path);
    return FT_OK;
}

enum ft_status ft_files_read(const struct ft_files *files, const char *name, size_t max_bytes,
                             struct ft_buf *buf, bool *found, struct ft_err *err)
{
    char *path = NULL;
    size_t entry = SIZE_MAX;
    bool there = false;
    enum ft_status st = FT_OK;
    if (files->zip != NULL) {
        FT_TRY(find_entry(files, name, &entry, err));
        there = entry != SIZE_MAX;
        FT_TRY(there ? ft_zip_read(files->zip, entry, max_bytes, buf, err) : FT_OK);
        goto done;
    }
    FT_TRY(ft_files_path(files, name, &path, err));
    there = ft_path_kind(path) != FT_PATH_NONE;
    FT_TRY(there ? ft_file_read(path, max_bytes, buf, err) : FT_OK);
done:
    if (found != NULL) {
        *found = there && st == FT_OK;
    }
    ft_free(path);
    return st;
}

enum ft_status ft_files_json(const struct ft_files *files, const char *name, size_t max_bytes,
                             struct ft_json **json, struct ft_err *err)
{
    char *path = NULL;
    struct ft_buf text = {0};
    bool found = false;
    enum ft_status st = FT_OK;
    *json = NULL;
    FT_TRY(ft_files_path(files, name, &path, err));
    FT_TRY(ft_files_read(files, name, max_bytes, &text, &found, err));
    if (found) {
        FT_TRY(ft_json_parse_named(ft_buf_bytes(&text), path, json, err));
    }
done:
    ft_buf_release(&text);
    ft_free(path);
    return st;
}
