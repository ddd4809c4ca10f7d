/*
 * journal.h - one file of Documents in the order they came, appended durably. Private to store/.
 *
 * File (little-endian): a header of 64 bytes with a random salt and, in two slots written in turn, how many
 * bytes are acknowledged; then groups: header (sizes, what was durable before it), records (id, Document,
 * CRC-32), commit mark (journal_format.h). A group is there whole or not at all. A bad group that was
 * acknowledged is FT_CORRUPT; one that never was is cut off. Thread-safety: none; one owner at a time.
 */
#ifndef FT_STORE_JOURNAL_H
#define FT_STORE_JOURNAL_H

#include "executor/store/journal_format.h"

struct ft_journal {
    char *path;
    int fd;
    uint64_t salt;
    uint64_t size;     /* bytes of whole groups, all durable */
    uint32_t sequence; /* of the acknowledgement slot written last */
    uint64_t cut;      /* bytes of an unacknowledged tail that opening cut off */
};

/* Called for each record in order; it may keep offsets (record->at), not pointers. */
typedef enum ft_status (*ft_journal_visit)(void *arg, const struct ft_journal_record *record,
                                           struct ft_err *err);
struct ft_journal_walk {
    ft_journal_visit visit;
    void *arg;
    uint64_t limit; /* bytes that count, at the end of a group; 0: as the file says */
    bool owner;     /* nobody else writes it: what follows the whole groups is a crash's */
};
/* Visit the records of a file in memory; *end is where its whole groups stop. Acknowledged bytes that are
 * missing or damaged are FT_CORRUPT, naming the offset and `path`. Without `owner` another process may be
 * writing behind what is acknowledged: complete groups count, and the first that is not ends it. */
FT_MUST_CHECK enum ft_status ft_journal_walk(struct ft_bytes file, const char *path,
                                             const struct ft_journal_walk *walk, struct ft_journal_head *head,
                                             uint64_t *end, struct ft_err *err);

/* A new empty journal, durable. */
FT_MUST_CHECK enum ft_status ft_journal_create(const char *path, struct ft_err *err);
/* Open for appending: checks everything, cuts off what a crash left, visits every record. *j is zeroed or
 * closed. */
FT_MUST_CHECK enum ft_status ft_journal_open(const char *path, ft_journal_visit visit, void *arg,
                                             struct ft_journal *j, struct ft_err *err);
void ft_journal_close(struct ft_journal *j); /* zeroed is fine */
/* Append whole groups made for offset j->size: durable and acknowledged when it returns. On failure the file
 * is as it was if *intact, else nothing can be said of what is behind j->size: no more may be written. */
FT_MUST_CHECK enum ft_status ft_journal_write(struct ft_journal *j, struct ft_bytes groups, bool *intact,
                                              struct ft_err *err);
/* The record at an offset, read into *buf, which is reused. */
FT_MUST_CHECK enum ft_status ft_journal_read(const struct ft_journal *j, uint64_t at, struct ft_buf *buf,
                                             struct ft_journal_record *record, struct ft_err *err);
#endif
