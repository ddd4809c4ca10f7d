/*
 * manifest.h - which files of a dataset folder are live. Private to store/.
 *
 * A small JSON file, replaced whole (temporary name, fsync, rename, fsync of the folder), so that at any
 * moment either the old or the new list holds; files that no manifest names are left over from a crash.
 * Documents came in the order of its lists: shards first, journals after them, the last journal being the one
 * that is appended to. Version 1, which had one journal and no shards, is read as such a list.
 * Thread-safety: a struct belongs to one thread at a time.
 */
#ifndef FT_STORE_MANIFEST_H
#define FT_STORE_MANIFEST_H

#include <stdbool.h>

#include "executor/base/bytes.h"

struct ft_manifest_file {
    uint64_t number;
    uint64_t end; /* of a journal in a snapshot: the bytes that count; 0: as far as it is acknowledged */
};

struct ft_manifest {
    uint64_t generation; /* counts replacements */
    uint64_t next;       /* the number of the next file */
    uint64_t salt;       /* of the hashes of ids in shards */
    struct ft_manifest_file *shards, *journals;
    size_t n_shards, n_journals;
    bool old; /* it was of version 1 */
};

/* FT_NOT_FOUND: no dataset is there; FT_UNSUPPORTED: another program's or a newer version's; FT_CORRUPT.
 * *manifest is zeroed or released. */
FT_MUST_CHECK enum ft_status ft_manifest_read(const char *dir, struct ft_manifest *manifest,
                                              struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_manifest_write(const char *dir, const struct ft_manifest *manifest,
                                               struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_manifest_copy(const struct ft_manifest *from, struct ft_manifest *to,
                                              struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_manifest_add(struct ft_manifest_file **list, size_t *count,
                                             struct ft_manifest_file file, struct ft_err *err);
void ft_manifest_release(struct ft_manifest *manifest);

enum { FT_STORE_NAME = 48 };
/* "journal" or "journal-000007"; "shard-000007.fts". */
void ft_journal_name(uint64_t number, char name[FT_STORE_NAME]);
void ft_shard_name(uint64_t number, char name[FT_STORE_NAME]);
/* True for a journal or shard, or a temporary file on the way to one, that the manifest does not name. */
bool ft_manifest_is_left_over(const struct ft_manifest *manifest, const char *name);
#endif
