/*
 * journal_format.h - the bytes of a journal, shared by its writer and its reader. Private to store/.
 */
#ifndef FT_STORE_JOURNAL_FORMAT_H
#define FT_STORE_JOURNAL_FORMAT_H

#include "executor/base/bytes.h"

enum {
    FT_JOURNAL_HEAD = 64,    /* magic 8, version 4, crc 4, salt 8, zeros 8, two slots of 16 */
    FT_JOURNAL_SLOT_AT = 32, /* slot: acknowledged bytes 8, sequence 4, crc 4 */
    FT_JOURNAL_SLOT = 16,
    FT_JOURNAL_GROUP = 32,  /* magic 4, records 4, body bytes 8, durable bytes before it 8, zeros 4, crc 4 */
    FT_JOURNAL_RECORD = 12, /* id bytes 4, Document bytes 4, crc of both sizes, id and Document 4 */
    FT_JOURNAL_COMMIT = 16  /* magic 4, crc 4, offset of the group 8 */
};

struct ft_journal_head {
    uint64_t
        salt; /* goes into every checksum: a Document that holds a journal's bytes is no group of this one */
    uint64_t acknowledged;
    uint32_t sequence; /* of the slot that says so */
};

void ft_journal_put_head(uint8_t head[FT_JOURNAL_HEAD], uint64_t salt);
void ft_journal_put_slot(uint8_t slot[FT_JOURNAL_SLOT], uint64_t salt, uint64_t acknowledged,
                         uint32_t sequence);
/* FT_CORRUPT, FT_UNSUPPORTED (a newer version). */
FT_MUST_CHECK enum ft_status ft_journal_read_head(struct ft_bytes file, struct ft_journal_head *head,
                                                  struct ft_err *err);

void ft_journal_put_group(uint8_t out[FT_JOURNAL_GROUP], uint64_t salt, uint32_t records, uint64_t body,
                          uint64_t durable);
void ft_journal_put_record(uint8_t out[FT_JOURNAL_RECORD], uint64_t salt, struct ft_bytes id,
                           struct ft_bytes doc);
void ft_journal_put_commit(uint8_t out[FT_JOURNAL_COMMIT], uint64_t salt, uint64_t at);

struct ft_journal_group {
    uint64_t at;
    uint64_t end; /* offset after the commit mark */
    uint32_t records;
    uint64_t durable; /* bytes that were durable when it was written */
};
/* Verify the whole group at `at`: NULL, or what is wrong with it (a constant text; *group is zero then). */
const char *ft_journal_check_group(struct ft_bytes file, uint64_t salt, uint64_t at,
                                   struct ft_journal_group *group);
/* True when some group header at or after `from` proves that more than `at` bytes had been durable. */
bool ft_journal_was_durable(struct ft_bytes file, uint64_t salt, uint64_t from, uint64_t at);

struct ft_journal_record {
    uint64_t at;
    uint64_t end;
    struct ft_bytes id;
    struct ft_bytes doc;
};
/* The record at `at` of a group that was checked. */
struct ft_journal_record ft_journal_record_at(struct ft_bytes file, uint64_t at);
#endif
