/*
 * set_internal.h - a dataset's inside: the queue of calls, the index of ids, the files.
 *
 * `mutex` guards the queue, the flags and the figures. Whoever set `writing` owns everything from `active`
 * to `old` without the mutex: the thread that stores batches, or the one that makes shards. The manifest
 * belongs to the latter (to the opener before it runs).
 */
#ifndef FT_STORE_SET_INTERNAL_H
#define FT_STORE_SET_INTERNAL_H

#include <pthread.h>

#include "executor/base/arena.h"
#include "executor/base/thread.h"
#include "executor/store/journal.h"
#include "executor/store/segment.h"
#include "executor/store/set.h"

/* A Document ready to be written; a deletion has an empty message. */
struct ft_set_item {
    struct ft_bytes id;
    struct ft_bytes message;
};

/* One call in hand. */
struct ft_set_request {
    struct ft_arena arena;
    struct ft_set_item *items;
    size_t count, bytes;
    bool deletes; /* its items are ids to be deleted: few bytes, which wait for no shards */
    struct ft_set_result result;
    struct ft_err why;
    ft_set_done done;
    void *arg;
    struct ft_set_request *next;
};

/* Where the last record with some id lies: a file's number << FT_PLACE_BITS | offset in a journal or number
 * in a shard. 0: the slot is free; FT_PLACE_GONE: it was used. */
enum { FT_PLACE_BITS = 40 };
#define FT_PLACE_GONE UINT64_MAX
struct ft_set_slot {
    uint64_t hash;
    uint64_t place;
};
struct ft_set_undo {
    size_t slot;
    struct ft_set_slot before;
};

struct ft_set_journal {
    uint64_t number;
    struct ft_journal file;
};

struct ft_set {
    char *dir;
    int lock_fd; /* DIR/lock, held by flock() */
    uint64_t seal_bytes;
    uint64_t salt; /* of hashes of ids */

    pthread_mutex_t mutex;
    pthread_cond_t turn;   /* a batch or a piece of the thread's work is done */
    pthread_cond_t wake;   /* the thread that makes shards has work */
    pthread_cond_t filled; /* a call waits to be stored */
    struct ft_set_request *first, **last;
    size_t pending_bytes, pending_deletions;
    bool writing;
    unsigned waiting; /* want to be the writer without a call */
    bool calls_next;  /* they had the last turn */
    bool asked;       /* the thread that makes shards shall look for work */
    bool force;       /* all into one shard */
    struct ft_err forced;
    bool paused;         /* calls wait until shards keep up */
    bool hurry;          /* they do not any more */
    struct ft_err stuck; /* why no shard could be made the last time; code FT_OK: it could */
    struct ft_set_stats stats;

    struct ft_set_journal active;
    bool broken;                    /* nothing is known of what is behind its end: it needs a successor */
    struct ft_set_journal *sealing; /* earlier ones, not yet shards, oldest first */
    size_t n_sealing, sealing_capacity;
    struct ft_segment **shards; /* in the manifest's order */
    size_t n_shards, shards_capacity;
    struct ft_set_slot *slots;
    size_t n_slots; /* a power of two */
    size_t used;    /* gone ones too */
    uint64_t live;
    struct ft_set_undo *undo; /* of the batch being built */
    size_t n_undo, undo_capacity;
    uint64_t live_before;
    struct ft_buf batch; /* groups not yet written; begins at offset active.file.size */
    struct ft_buf old;   /* a stored record, read for comparing */

    struct ft_thread *storer, *thread; /* store calls; make shards: each starts when first needed */
    struct ft_cancel cancel;
    struct ft_manifest manifest;
};

/* set_index.c */
static inline uint64_t ft_place(uint64_t number, uint64_t where)
{
    return number << FT_PLACE_BITS | where;
}
/* Room for `more` new ids. */
FT_MUST_CHECK enum ft_status ft_index_reserve(struct ft_set *set, size_t more, struct ft_err *err);
/* The slot of `id`; *record is what it holds, or zero and the slot is free. Valid until the next call. */
FT_MUST_CHECK enum ft_status ft_index_find(struct ft_set *set, struct ft_bytes id, uint64_t hash,
                                           size_t *slot, struct ft_journal_record *record,
                                           struct ft_err *err);
/* Let a slot hold another record, taking down how to undo it if asked; what it held is dead. `before` and
 * `after`: a Document, not a deletion, is there. */
FT_MUST_CHECK enum ft_status ft_index_set(struct ft_set *set, size_t slot, struct ft_set_slot now,
                                          bool before, bool after, bool undo, struct ft_err *err);
void ft_index_roll_back(struct ft_set *set);
/* Entry k of `from`'s ids has moved: placed[] as in shard_write.h, to == NULL: nothing was written. */
void ft_index_move(struct ft_set *set, const struct ft_segment *from, size_t k, const uint32_t *placed,
                   struct ft_segment *to);

/* set_prepare.c: FT_INVALID names the Document. */
FT_MUST_CHECK enum ft_status ft_set_prepare(struct ft_set_request *request, const struct ft_document *docs,
                                            size_t count, struct ft_err *err);

/* Bytes of journals above which calls wait. */
static inline uint64_t ft_set_backlog_max(const struct ft_set *set)
{
    uint64_t seal_bytes = set->seal_bytes < FT_SET_SEAL_BYTES / 8 ? FT_SET_SEAL_BYTES / 8 : set->seal_bytes;
    return 8 * seal_bytes;
}

/* The figures that follow from the files. As the writer, mutex held. */
void ft_set_count_files(struct ft_set *set);
/* set_commit.c: be the writer, for about a millisecond. */
void ft_set_enter(struct ft_set *set);
void ft_set_leave(struct ft_set *set);

/* set_seal.c */
void ft_set_worker(void *set);
/* Mutex held: let the thread look for work, starting it if need be. */
void ft_set_ask(struct ft_set *set);
#endif
