/*
 * files.h - the files of a model: a folder's, or those of a .zip, where an artifact lies below one folder
 * named after its run; private to model/.
 *
 * Names are relative: "models/x/model.onnx". Thread-safety: one thread.
 */
#ifndef FT_MODEL_FILES_H
#define FT_MODEL_FILES_H

#include "executor/base/bytes.h"
#include "executor/codec/json.h"
#include "executor/codec/zip.h"

struct ft_files {
    const char *path;          /* folder or .zip, borrowed */
    const char *below;         /* folder in it that names are relative to, borrowed; "": none */
    struct ft_zip_reader *zip; /* NULL: a folder */
    const char *root_name;     /* an entry of the .zip whose first `root` bytes are "<run name>/" */
    size_t root;
};
/* path is borrowed as long as the files are. FT_CORRUPT: a .zip without config.yml at the top or one folder
 * down. */
FT_MUST_CHECK enum ft_status ft_files_open(const char *path, struct ft_files *files, struct ft_err *err);
void ft_files_close(struct ft_files *files);
/* The same files seen from a folder in them; nothing to close. */
struct ft_files ft_files_below(const struct ft_files *files, const char *folder);

/* "path/below/name", for messages and of a folder's file to open it; *out is the caller's: ft_free(). */
FT_MUST_CHECK enum ft_status ft_files_path(const struct ft_files *files, const char *name, char **out,
                                           struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_files_has(const struct ft_files *files, const char *name, bool *has,
                                          struct ft_err *err);
/* *found = false when there is no such file; found may be NULL. FT_LIMIT above max_bytes. */
FT_MUST_CHECK enum ft_status ft_files_read(const struct ft_files *files, const char *name, size_t max_bytes,
                                           struct ft_buf *buf, bool *found, struct ft_err *err);
/* *json is NULL when there is no such file; what is wrong is told with its path. ft_json_free(). */
FT_MUST_CHECK enum ft_status ft_files_json(const struct ft_files *files, const char *name, size_t max_bytes,
                                           struct ft_json **json, struct ft_err *err);
#endif
