/*
 * checkpoint.h - everything a stopped job needs to go on bit for bit, in one file; the newest two are kept.
 *
 * File checkpoint-<step>.ftc, little-endian: magic "FTCKPT\r\n", u32 version, u32 blobs, job hash (64 hex),
 * u64 length of the state JSON, the JSON, then each blob as u32 length of its name, name, u64 bytes, bytes;
 * at the end the CRC-32 of all before it. Written to a temporary name, fsync, rename, fsync of the folder. No
 * clock, host or path inside: equal jobs write equal files. Thread-safety: one thread a folder.
 */
#ifndef FT_TRAIN_CHECKPOINT_H
#define FT_TRAIN_CHECKPOINT_H

#include "executor/codec/digest.h"
#include "executor/codec/json.h"

struct ft_blob {
    const char *name;
    void *data;
    size_t bytes;
};
struct ft_checkpoint {
    char job[FT_SHA256_HEX]; /* options, data and model: a resume of another job is refused */
    int64_t step;
    const struct ft_json *state; /* plain numbers: step, epoch, sums, monitors */
    const struct ft_blob *blobs;
    size_t n_blobs;
};
FT_MUST_CHECK enum ft_status ft_checkpoint_save(const char *dir, const struct ft_checkpoint *checkpoint,
                                                struct ft_err *err);
/* Load the newest one that passes its checks into blobs (names and sizes must agree) and *state
 * (ft_json_free()); a damaged one is skipped for the one before. *state = NULL when there is none.
 * FT_INVALID: it belongs to another job. FT_CORRUPT: none of those there is whole. */
FT_MUST_CHECK enum ft_status ft_checkpoint_load(const char *dir, const char job[FT_SHA256_HEX],
                                                const struct ft_blob *blobs, size_t n_blobs,
                                                struct ft_json **state, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_checkpoint_any(const char *dir, bool *any, struct ft_err *err);
/* Remove all checkpoints of a folder. */
FT_MUST_CHECK enum ft_status ft_checkpoint_clear(const char *dir, struct ft_err *err);
#endif
