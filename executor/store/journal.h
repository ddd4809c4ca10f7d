/*
 * journal.h - the service's datasets: Documents appended durably, each at most once.
 * DATA_DIR/datasets/<id>/journal.
 *
 * One call is one atomic group: all of its Documents are stored or none. A call returns once its group is on
 * the disk; calls of several threads share one fsync. A Document whose id is stored already with equal bytes
 * is counted as a duplicate and not stored again; one with other bytes replaces it (readers take the last).
 *
 * File (little-endian): a header of 64 bytes with a random salt and, in two slots written in turn, how many
 * bytes are acknowledged; then groups: header (sizes, what was durable before it), records (id, Document,
 * CRC-32), commit mark. Opening checks every group. A bad group that was acknowledged is FT_CORRUPT; one that
 * never was is cut off. Thread-safety: ft_journal_append() and ft_journal_stats() from any thread; open and
 * close by the owner alone.
 */
#ifndef FT_STORE_JOURNAL_H
#define FT_STORE_JOURNAL_H

#include <stdint.h>

#include "executor/wire/document.h"

struct ft_journal; /* opaque */

/* Open `dir`'s journal for appending, making both when missing; recovers from a crash. FT_CORRUPT names the
 * offset; FT_UNAVAILABLE: another process (or this one) has it open. ft_journal_close(). */
FT_MUST_CHECK enum ft_status ft_journal_open(const char *dir, struct ft_journal **journal,
                                             struct ft_err *err);
void ft_journal_close(struct ft_journal *journal); /* NULL is fine; no append may be running */

struct ft_journal_result {
    size_t stored;
    size_t duplicates; /* equal bytes were stored already */
};
/* Append Documents: doc->raw as it is, or a DocumentProto written from a Document without raw. Those without
 * an id get a hash of content and label. Blocks until they are durable: never call it from a thread that must
 * not wait. FT_INVALID: a Document without label or content, named by id and position; FT_IO: the disk
 * refused, nothing of this call is stored (after a failed fsync every later call fails too, until the journal
 * is opened anew). */
FT_MUST_CHECK enum ft_status ft_journal_append(struct ft_journal *journal, const struct ft_document *docs,
                                               size_t count, struct ft_journal_result *result,
                                               struct ft_err *err);

struct ft_journal_stats {
    uint64_t ids;    /* distinct Documents */
    uint64_t groups; /* written since opening */
    uint64_t syncs;  /* since opening; fewer than groups when callers shared them */
    uint64_t bytes;  /* of the file */
    uint64_t cut;    /* bytes of an unacknowledged tail that opening cut off */
};
struct ft_journal_stats ft_journal_stats(struct ft_journal *journal);
#endif
