/*
 * set.h - one dataset of the service, open for writing: Documents stored durably, each id once.
 * DATA_DIR/datasets/<id>/.
 *
 * One call is one atomic group: all of its Documents are stored or none, and what was answered is on the
 * disk; calls that wait at the same time share one fsync. A Document whose id is stored already with equal
 * bytes is a duplicate and not stored again; one with other bytes replaces it, its label too. A deleted id
 * is gone and may come back.
 *
 * Documents go to a journal (journal.h). One that has grown past seal_bytes is followed by a fresh one and
 * made into a shard (segment.h) by a thread of the set's; shards of like size that follow each other, and
 * those that hold many replaced Documents, are written anew without them. Where more comes than that thread
 * makes into shards (on a disk they share it gets about half, and writes what came several times), calls that
 * store wait once journals have eight times seal_bytes, or 64 MiB if that is more: opening a dataset reads
 * all of its journals. Where no shard can be made calls fail then, with the reason. What is live is the
 * manifest's to say (manifest.h): a crash at any moment leaves the old or the new state, and opening removes
 * what belongs to neither. When the disk refuses, the call fails, nothing acknowledged is lost, and later
 * calls try again. One process at a time has a dataset open: it holds the file `lock` there, which NFS can do
 * too.
 *
 * Memory: 21 to 43 bytes an id. Thread-safety: any thread, but for open and close.
 */
#ifndef FT_STORE_SET_H
#define FT_STORE_SET_H

#include <stdint.h>

#include "executor/wire/document.h"

struct ft_set; /* opaque */

enum { FT_SET_SEAL_BYTES = 64 << 20 };
/* Open `dir`'s dataset, making it when missing; recovers from a crash. seal_bytes 0: FT_SET_SEAL_BYTES.
 * FT_CORRUPT names file and offset; FT_UNAVAILABLE: another process (or this one) has it open.
 * ft_set_close().
 */
FT_MUST_CHECK enum ft_status ft_set_open(const char *dir, uint64_t seal_bytes, struct ft_set **set,
                                         struct ft_err *err);
void ft_set_close(struct ft_set *set); /* NULL is fine; all calls must have been answered */

/* The process is about to end: calls that wait for shards are stored at once, as are those that still come.
 */
void ft_set_hurry(struct ft_set *set);

struct ft_set_result {
    size_t stored;
    size_t duplicates; /* equal bytes were stored already */
    size_t deleted;
};
/* Store Documents: doc->raw as it is, or a DocumentProto written from a Document without raw. Those without
 * an id get a hash of content and label. Everything given is borrowed until `done` is called, exactly once,
 * by the thread that stores or before this returns: it must not call the set. why->code FT_OK: durable;
 * FT_INVALID: a Document without label or content, named by id and position; FT_IO: the disk refused,
 * nothing of this call is stored; FT_BUSY: very much waits for shards already. The caller waits while very
 * much waits to be written: never call it from a thread that must not. */
typedef void (*ft_set_done)(void *arg, const struct ft_set_result *result, const struct ft_err *why);
void ft_set_submit(struct ft_set *set, const struct ft_document *docs, size_t count, ft_set_done done,
                   void *arg);
/* The same, returning once it is answered; never FT_BUSY. */
FT_MUST_CHECK enum ft_status ft_set_append(struct ft_set *set, const struct ft_document *docs, size_t count,
                                           struct ft_set_result *result, struct ft_err *err);
/* Delete ids, durably when it returns; unknown ones are passed over (result->deleted counts the others). */
FT_MUST_CHECK enum ft_status ft_set_delete(struct ft_set *set, const struct ft_bytes *ids, size_t count,
                                           struct ft_set_result *result, struct ft_err *err);
/* Everything stored so far into one shard, without what is replaced or deleted; waits for it. */
FT_MUST_CHECK enum ft_status ft_set_compact(struct ft_set *set, struct ft_err *err);

struct ft_set_stats {
    uint64_t ids;           /* distinct Documents that are not deleted */
    uint64_t groups;        /* written since opening */
    uint64_t stored;        /* Documents written since opening, new and replaced ones */
    uint64_t duplicates;    /* Documents since opening that were stored already */
    uint64_t deleted;       /* since opening */
    uint64_t written;       /* bytes of journals since opening */
    uint64_t failures;      /* batches since opening that the disk refused */
    uint64_t syncs;         /* since opening; fewer than groups when callers shared them */
    uint64_t bytes;         /* of the journal that is appended to */
    uint64_t backlog;       /* ... and of those that are not shards yet */
    uint64_t cut;           /* bytes of unacknowledged tails that opening cut off */
    uint64_t seals, merges; /* shards written since opening, from a journal and from shards */
    uint64_t merges_failed; /* since opening: shards are damaged, or the disk is full */
    size_t shards, journals;
    bool working; /* its thread is making shards now */
    bool behind;  /* calls wait for it */
};
struct ft_set_stats ft_set_stats(struct ft_set *set);
#endif
