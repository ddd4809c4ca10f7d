#include "executor/server/stored.h"

#include <string.h>
#include <sys/stat.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/store/folder.h"

/* As it is, or with a suffix that we can read. */
static enum ft_status find_root(const char *models, const char *name, char **root, struct ft_err *err)
{
    static const char *const suffixes[] = {"", ".onnx", ".zip"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0] && *root == NULL; i++) {
        struct ft_buf tail = {0};
        enum ft_status st = ft_buf_printf(&tail, err, "%s%s", name, suffixes[i]);
        if (st == FT_OK) {
            st = ft_path_join(models, (const char *)tail.data, root, err);
        }
        ft_buf_release(&tail);
        FT_RETURN_IF_FAILED(st);
        if (ft_path_kind(*root) == FT_PATH_NONE) {
            ft_free(*root);
            *root = NULL;
        }
    }
    return FT_OK;
}

static enum ft_status take_about(const struct ft_json *about, struct ft_stored *s, struct ft_err *err)
{
    const char *entry = ft_json_text(ft_json_get(about, "entry"), NULL);
    const char *sha256 = ft_json_text(ft_json_get(about, "sha256"), NULL);
    int64_t bytes = ft_json_int(ft_json_get(about, "bytes"));
    if (entry == NULL || sha256 == NULL || strlen(sha256) != FT_SHA256_HEX - 1 || bytes < 0) {
        return FT_FAIL(err, CORRUPT, "%.300s/" FT_UPLOAD_ABOUT " does not say what the model is", s->root);
    }
    memcpy(s->sha256, sha256, FT_SHA256_HEX);
    s->bytes = (uint64_t)bytes;
    return ft_path_join(s->root, entry, &s->path, err);
}

/* Where there is such a file. */
static enum ft_status read_about(struct ft_stored *s, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    struct ft_buf text = {0};
    struct ft_json *about = NULL;
    FT_TRY(ft_path_join(s->root, FT_UPLOAD_ABOUT, &path, err));
    if (ft_path_kind(path) == FT_PATH_FILE) {
        FT_TRY(ft_file_read(path, FT_MAX_CONFIG_BYTES, &text, err));
        FT_TRY(ft_json_parse_named(ft_buf_bytes(&text), path, &about, err));
        FT_TRY(take_about(about, s, err));
    }
done:
    ft_json_free(about);
    ft_buf_release(&text);
    ft_free(path);
    return st == FT_INVALID ? (err->code = FT_CORRUPT) : st;
}

/* What is loaded is all of it. */
static enum ft_status by_hand(struct ft_stored *stored, struct ft_err *err)
{
    struct stat s;
    if (stat(stored->root, &s) == 0 && S_ISREG(s.st_mode)) {
        stored->bytes = (uint64_t)s.st_size;
    }
    return ft_new_text(stored->root, &stored->path, err);
}

enum ft_status ft_stored_find(const char *models, const char *name, struct ft_stored *stored,
                              struct ft_err *err)
{
    *stored = (struct ft_stored){0};
    if (!ft_dataset_name_valid(name)) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(find_root(models, name, &stored->root, err));
    if (stored->root == NULL) {
        return FT_OK;
    }
    if (ft_path_kind(stored->root) == FT_PATH_DIR) {
        FT_RETURN_IF_FAILED(read_about(stored, err));
    }
    return stored->path != NULL ? FT_OK : by_hand(stored, err);
}

enum ft_status ft_stored_at(const char *path, struct ft_stored *stored, struct ft_err *err)
{
    *stored = (struct ft_stored){0};
    FT_RETURN_IF_FAILED(ft_new_text(path, &stored->root, err));
    return by_hand(stored, err);
}

void ft_stored_release(struct ft_stored *stored)
{
    ft_free(stored->root);
    ft_free(stored->path);
    *stored = (struct ft_stored){0};
}
