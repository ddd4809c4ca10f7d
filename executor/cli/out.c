/* --out: whether what is asked for can be written there, before the work that makes it. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/cli/cli.h"

/* In place: the folder that path lies in. */
static void to_parent(char *path)
{
    ft_path_trim(path);
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        (void)memcpy(path, ".", 2);
    } else {
        slash[slash == path ? 1 : 0] = '\0';
    }
}

static enum ft_status check_format(const char *out, const char *suffix, const char *other, struct ft_err *err)
{
    static const char *const models[] = {".onnx", ".npy",         ".zip",   ".pt", ".pth",
                                         ".bin",  ".safetensors", ".jsonl", ".csv"};
    if (out[0] == '\0') {
        return FT_FAIL(err, USAGE, "--out is empty");
    }
    if (strcmp(out, "-") == 0) {
        return FT_FAIL(err, USAGE, "--out is a file, not standard output");
    }
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        if (ft_path_has_suffix(out, models[i]) && strcmp(models[i], suffix) != 0 &&
            (other == NULL || strcmp(models[i], other) != 0)) {
            return FT_FAIL(err, USAGE, "--out %.300s: what is written here is %s%s%s", out, suffix,
                           other != NULL ? ", " : "", other != NULL ? other : "");
        }
    }
    return FT_OK;
}

static enum ft_status check_folder(const char *out, const char *dir, struct ft_err *err)
{
    enum ft_path_kind kind = ft_path_kind(dir);
    if (kind == FT_PATH_NONE) {
        return FT_FAIL(err, NOT_FOUND, "--out %.300s: there is no folder %.300s", out, dir);
    }
    if (kind != FT_PATH_DIR) {
        return FT_FAIL(err, USAGE, "--out %.300s: %.300s is no folder", out, dir);
    }
    if (access(dir, W_OK | X_OK) != 0) {
        return FT_FAIL(err, IO, "--out %.300s: cannot write in %.300s: %s", out, dir, strerror(errno));
    }
    return FT_OK;
}

enum ft_status ft_out_check(const char *out, const char *suffix, const char *other, struct ft_err *err)
{
    char *dir = NULL;
    if (out == NULL) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(check_format(out, suffix, other, err));
    bool zip = strcmp(suffix, ".zip") == 0 || (other != NULL && strcmp(other, ".zip") == 0);
    bool artifact = zip && !ft_path_has_suffix(out, ".onnx");
    if (!artifact && ft_path_kind(out) == FT_PATH_DIR) {
        return FT_FAIL(err, USAGE, "--out %.300s is a folder: name a file, %s", out, suffix);
    }
    FT_RETURN_IF_FAILED(ft_new_text(out, &dir, err));
    do {
        to_parent(dir);
    } while (artifact && ft_path_kind(dir) == FT_PATH_NONE && strcmp(dir, ".") != 0);
    enum ft_status st = check_folder(out, dir, err);
    ft_free(dir);
    return st;
}

enum ft_status ft_out_apart(const char *out, const char *model, struct ft_err *err)
{
    struct stat a;
    struct stat b;
    bool same = stat(out, &a) == 0 && stat(model, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    return same ? FT_FAIL(err, USAGE, "--out %.300s is the model itself, which would be gone: name another",
                          out)
                : FT_OK;
}

enum ft_status ft_out_make_folders(const char *out, struct ft_err *err)
{
    char *dir = NULL;
    FT_RETURN_IF_FAILED(ft_new_text(out, &dir, err));
    to_parent(dir);
    enum ft_status st = ft_dir_make(dir, err);
    ft_free(dir);
    return st;
}
