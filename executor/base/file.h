/*
 * file.h - files and folders; every error names the path and the operating system's reason.
 *
 * Writing is atomic and durable: temporary name in the same folder, fsync, rename, fsync of the folder.
 * Thread-safety: any thread.
 */
#ifndef FT_BASE_FILE_H
#define FT_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ft_path_kind { FT_PATH_NONE, FT_PATH_FILE, FT_PATH_DIR, FT_PATH_OTHER };
enum ft_path_kind ft_path_kind(const char *path);

/* "dir/name" (one slash); *out is the caller's: ft_free(). An absolute `name` is still put below dir. */
FT_MUST_CHECK enum ft_status ft_path_join(const char *dir, const char *name, char **out, struct ft_err *err);
const char *ft_path_base(const char *path); /* after the last '/', borrowed */
void ft_path_trim(char *path);              /* slashes at its end go; "/" stays */
/* That absolute folder and the '/' behind it out of all paths in a text, for those who need not know where it
 * lies. A relative one says nothing of that, and stays. */
void ft_path_hide(char *text, const char *folder);
bool ft_path_has_suffix(const char *path, const char *suffix); /* ".onnx"; letters in any case */

/* Whole file; FT_NOT_FOUND, FT_IO, FT_LIMIT above max_bytes. *buf is the caller's: ft_buf_release(). */
FT_MUST_CHECK enum ft_status ft_file_read(const char *path, size_t max_bytes, struct ft_buf *buf,
                                          struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_file_write(const char *path, struct ft_bytes bytes, struct ft_err *err);

/* A file mapped read-only: bytes stay valid until ft_file_unmap(). An empty file maps to {NULL, 0}. */
struct ft_mapping {
    struct ft_bytes bytes;
};
FT_MUST_CHECK enum ft_status ft_file_map(const char *path, struct ft_mapping *map, struct ft_err *err);
void ft_file_unmap(struct ft_mapping *map);

FT_MUST_CHECK enum ft_status ft_dir_make(const char *path,
                                         struct ft_err *err); /* with parents; existing is fine */
FT_MUST_CHECK enum ft_status ft_dir_sync(const char *path, struct ft_err *err); /* fsync of a folder */
/* Names in a folder, sorted by byte value, without "." and ".."; ft_dir_list_release(). */
struct ft_dir_list {
    char **names;
    size_t count;
};
FT_MUST_CHECK enum ft_status ft_dir_list(const char *path, struct ft_dir_list *list, struct ft_err *err);
void ft_dir_list_release(struct ft_dir_list *list);
/* Remove a file, or a folder with all in it; symbolic links are removed, not followed. Missing is fine. */
FT_MUST_CHECK enum ft_status ft_path_remove(const char *path, struct ft_err *err);
/* The same for all in a folder that `goes` says, which is asked of each name once, in the order of
 * ft_dir_list(). Ends with the first that cannot be removed. */
FT_MUST_CHECK enum ft_status ft_dir_sweep(const char *path, bool (*goes)(void *arg, const char *name),
                                          void *arg, struct ft_err *err);
/* A fresh private folder below $TMPDIR or /tmp; *out is the caller's: ft_free(). */
FT_MUST_CHECK enum ft_status ft_dir_temp(const char *prefix, char **out, struct ft_err *err);
/* rename() and fsync of the target's folder. */
FT_MUST_CHECK enum ft_status ft_path_rename(const char *from, const char *to, struct ft_err *err);

#ifdef __cplusplus
}
#endif
#endif
