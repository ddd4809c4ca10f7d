/*
 * shard_write.h - one shard from the live Documents of one or several segments that follow each other.
 * Private to store/.
 *
 * Written under a temporary name, fsync, rename, fsync of the folder: it is there whole or not at all, and
 * counts once a manifest names it. Memory: 4 bytes a Document of the sources.
 */
#ifndef FT_STORE_SHARD_WRITE_H
#define FT_STORE_SHARD_WRITE_H

#include "executor/base/thread.h"
#include "executor/store/segment.h"

#define FT_SHARD_GONE UINT32_MAX

struct ft_shard_source {
    const struct ft_segment *segment;
    const uint64_t *dead; /* bits of Documents to leave out; NULL: none */
    uint32_t *placed;     /* (documents) out: the number of each in the new shard, or FT_SHARD_GONE */
};
struct ft_shard_plan {
    const char *dir;
    uint64_t number;
    uint64_t salt; /* of the records' checksums */
    struct ft_shard_source *sources;
    size_t n_sources;
    bool drop_deletions; /* nothing older is left that they could delete */
    const struct ft_cancel *cancel;
};
/* *documents: how many it holds; 0: no file was written. FT_CORRUPT: a source's Document fails its checksum.
 */
FT_MUST_CHECK enum ft_status ft_shard_write(const struct ft_shard_plan *plan, size_t *documents,
                                            struct ft_err *err);
#endif
