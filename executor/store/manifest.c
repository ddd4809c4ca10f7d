#include "executor/store/manifest.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/codec/json.h"

static const char text[] =
    "{\"format\": \"finetuner-dataset\", \"version\": 1, \"documents\": \"docarray-v1\"}\n";

static bool says(const struct ft_json *json, const char *key, const char *value)
{
    const char *got = ft_json_text(ft_json_get(json, key), NULL);
    return got != NULL && strcmp(got, value) == 0;
}

static enum ft_status check(const char *path, struct ft_bytes bytes, struct ft_err *err)
{
    struct ft_json *json = NULL;
    struct ft_err syntax = {0};
    enum ft_status st = FT_OK;
    if (ft_json_parse(bytes, &json, &syntax) != FT_OK || ft_json_kind(json) != FT_JSON_OBJECT) {
        st = syntax.code == FT_NOMEM ? FT_FAIL(err, NOMEM, "no memory for %.600s", path)
                                     : FT_FAIL(err, CORRUPT, "%.600s is not a dataset's manifest", path);
    } else if (!says(json, "format", "finetuner-dataset") || ft_json_int(ft_json_get(json, "version")) != 1 ||
               !says(json, "documents", "docarray-v1")) {
        st = FT_FAIL(err, UNSUPPORTED, "%.600s: not a dataset of this version of finetuner", path);
    }
    ft_json_free(json);
    return st;
}

enum ft_status ft_manifest_check(const char *dir, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    char *path = NULL;
    FT_TRY(ft_path_join(dir, "manifest", &path, err));
    FT_TRY(ft_file_read(path, FT_MAX_CONFIG_BYTES, &file, err));
    FT_TRY(check(path, ft_buf_bytes(&file), err));
done:
    ft_buf_release(&file);
    ft_free(path);
    return st;
}

enum ft_status ft_manifest_ensure(const char *dir, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    FT_TRY(ft_path_join(dir, "manifest", &path, err));
    if (ft_path_kind(path) == FT_PATH_NONE) {
        st = ft_file_write(path, ft_bytes_of_text(text), err);
    } else {
        st = ft_manifest_check(dir, err);
    }
done:
    ft_free(path);
    return st;
}
