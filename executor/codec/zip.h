/*
 * zip.h - zip archives: read safely, write deterministically (stored, no clock, fixed order). Wraps libzip.
 *
 * Names in archives are relative, '/'-separated, without "..", ".", backslash, drive or NUL: others are
 * refused. Limits: FT_MAX_ZIP_ENTRIES, FT_MAX_NAME_BYTES, size per entry as asked by the caller.
 * Thread-safety: one thread at a time for each object.
 */
#ifndef FT_CODEC_ZIP_H
#define FT_CODEC_ZIP_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"

struct ft_zip_reader; /* opaque */
FT_MUST_CHECK enum ft_status ft_zip_open(const char *path, struct ft_zip_reader **zip, struct ft_err *err);
size_t ft_zip_count(const struct ft_zip_reader *zip);
const char *ft_zip_name(const struct ft_zip_reader *zip, size_t i); /* borrowed; folders end with '/' */
/* All entries together have at most so many bytes once they are decompressed: as they say, which
 * ft_zip_read() holds them to. */
bool ft_zip_fits(const struct ft_zip_reader *zip, uint64_t max_bytes);
/* Whole entry, decompressed, checksum verified. FT_LIMIT above max_bytes, FT_CORRUPT. */
FT_MUST_CHECK enum ft_status ft_zip_read(struct ft_zip_reader *zip, size_t i, size_t max_bytes,
                                         struct ft_buf *out, struct ft_err *err);
void ft_zip_close(struct ft_zip_reader *zip); /* NULL is fine */

/* Pack every file below `dir` (sorted names, prefix + relative name) into `path`: equal trees give equal
 * bytes. Atomic and durable like ft_file_write(). A folder without files is FT_INVALID. */
FT_MUST_CHECK enum ft_status ft_zip_pack(const char *dir, const char *prefix, const char *path,
                                         struct ft_err *err);
/* Unpack below `dir`, which is made, and removed again on failure if it was not there; FT_LIMIT when the sum
 * of sizes exceeds max_bytes; FT_EXISTS: nothing is overwritten. */
FT_MUST_CHECK enum ft_status ft_zip_unpack(const char *path, const char *dir, size_t max_bytes,
                                           struct ft_err *err);
#endif
