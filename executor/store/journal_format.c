#include "executor/store/journal_format.h"

#include <assert.h>
#include <string.h>

#include "executor/base/limits.h"
#include "executor/codec/digest.h"

static const char head_magic[8] = {'f', 't', 'j', 'o', 'u', 'r', 'n', 'l'};
enum { VERSION = 1 };
static const uint32_t group_magic = 0x47525446U;  /* "FTRG" */
static const uint32_t commit_magic = 0x4d4d4f43U; /* "COMM" */

static uint32_t salted(uint64_t salt, struct ft_bytes bytes)
{
    uint8_t start[8];
    ft_put_u64(start, salt);
    return ft_crc32(ft_crc32(0, ft_bytes_of(start, sizeof start)), bytes);
}

void ft_journal_put_head(uint8_t head[FT_JOURNAL_HEAD], uint64_t salt)
{
    memset(head, 0, FT_JOURNAL_HEAD);
    memcpy(head, head_magic, sizeof head_magic);
    ft_put_u32(head + 8, VERSION);
    ft_put_u32(head + 12, salted(salt, ft_bytes_of(head, 12)));
    ft_put_u64(head + 16, salt);
    ft_journal_put_slot(head + FT_JOURNAL_SLOT_AT, salt, FT_JOURNAL_HEAD, 0);
    ft_journal_put_slot(head + FT_JOURNAL_SLOT_AT + FT_JOURNAL_SLOT, salt, FT_JOURNAL_HEAD, 1);
}

void ft_journal_put_slot(uint8_t slot[FT_JOURNAL_SLOT], uint64_t salt, uint64_t acknowledged,
                         uint32_t sequence)
{
    ft_put_u64(slot, acknowledged);
    ft_put_u32(slot + 8, sequence);
    ft_put_u32(slot + 12, salted(salt, ft_bytes_of(slot, 12)));
}

static bool read_slot(const uint8_t *slot, uint64_t salt, struct ft_journal_head *head)
{
    uint32_t sequence = ft_get_u32(slot + 8);
    if (ft_get_u32(slot + 12) != salted(salt, ft_bytes_of(slot, 12)) || sequence < head->sequence) {
        return ft_get_u32(slot + 12) == salted(salt, ft_bytes_of(slot, 12));
    }
    head->sequence = sequence;
    head->acknowledged = ft_get_u64(slot);
    return true;
}

enum ft_status ft_journal_read_head(struct ft_bytes file, struct ft_journal_head *head, struct ft_err *err)
{
    *head = (struct ft_journal_head){0};
    if (file.size < FT_JOURNAL_HEAD || memcmp(file.data, head_magic, sizeof head_magic) != 0) {
        return FT_FAIL(err, CORRUPT, "it does not begin as a journal does (offset 0)");
    }
    head->salt = ft_get_u64(file.data + 16);
    if (ft_get_u32(file.data + 12) != salted(head->salt, ft_bytes_of(file.data, 12))) {
        return FT_FAIL(err, CORRUPT, "the checksum of its header is wrong (offset 0)");
    }
    if (ft_get_u32(file.data + 8) != VERSION) {
        return FT_FAIL(err, UNSUPPORTED, "it has version %u, this program reads %d",
                       ft_get_u32(file.data + 8), VERSION);
    }
    const uint8_t *slots = file.data + FT_JOURNAL_SLOT_AT;
    bool first = read_slot(slots, head->salt, head);
    bool second = read_slot(slots + FT_JOURNAL_SLOT, head->salt, head);
    if (!first && !second) {
        return FT_FAIL(err, CORRUPT, "both records of how much is acknowledged are broken (offset %d)",
                       FT_JOURNAL_SLOT_AT);
    }
    return FT_OK;
}

void ft_journal_put_group(uint8_t out[FT_JOURNAL_GROUP], uint64_t salt, uint32_t records, uint64_t body,
                          uint64_t durable)
{
    memset(out, 0, FT_JOURNAL_GROUP);
    ft_put_u32(out, group_magic);
    ft_put_u32(out + 4, records);
    ft_put_u64(out + 8, body);
    ft_put_u64(out + 16, durable);
    ft_put_u32(out + 28, salted(salt, ft_bytes_of(out, 28)));
}

void ft_journal_put_record(uint8_t out[FT_JOURNAL_RECORD], uint64_t salt, struct ft_bytes id,
                           struct ft_bytes doc)
{
    assert(id.size <= UINT32_MAX && doc.size <= UINT32_MAX);
    ft_put_u32(out, (uint32_t)id.size);
    ft_put_u32(out + 4, (uint32_t)doc.size);
    ft_put_u32(out + 8, ft_crc32(ft_crc32(salted(salt, ft_bytes_of(out, 8)), id), doc));
}

void ft_journal_put_commit(uint8_t out[FT_JOURNAL_COMMIT], uint64_t salt, uint64_t at)
{
    ft_put_u32(out, commit_magic);
    ft_put_u64(out + 8, at);
    ft_put_u32(out + 4, salted(salt, ft_bytes_of(out + 8, 8)));
}

/* Only the header: its body may be anything. */
static bool read_group(struct ft_bytes file, uint64_t salt, uint64_t at, struct ft_journal_group *group,
                       uint64_t *body)
{
    if (file.size < FT_JOURNAL_GROUP || at > file.size - FT_JOURNAL_GROUP) {
        return false;
    }
    const uint8_t *p = file.data + at;
    if (ft_get_u32(p) != group_magic || ft_get_u32(p + 28) != salted(salt, ft_bytes_of(p, 28))) {
        return false;
    }
    *body = ft_get_u64(p + 8);
    *group = (struct ft_journal_group){.at = at, .records = ft_get_u32(p + 4), .durable = ft_get_u64(p + 16)};
    return true;
}

static const char *check_records(struct ft_bytes file, uint64_t salt, uint64_t at, uint64_t end,
                                 uint32_t records)
{
    for (uint32_t i = 0; i < records; i++) {
        if (end - at < FT_JOURNAL_RECORD) {
            return "a record is cut off";
        }
        const uint8_t *p = file.data + at;
        uint64_t size = (uint64_t)ft_get_u32(p) + ft_get_u32(p + 4);
        if (end - at - FT_JOURNAL_RECORD < size) {
            return "a record is cut off";
        }
        uint32_t crc =
            ft_crc32(salted(salt, ft_bytes_of(p, 8)), ft_bytes_of(p + FT_JOURNAL_RECORD, (size_t)size));
        if (crc != ft_get_u32(p + 8)) {
            return "the checksum of a record is wrong";
        }
        at += FT_JOURNAL_RECORD + size;
    }
    return at == end ? NULL : "the sizes of its records do not add up";
}

const char *ft_journal_check_group(struct ft_bytes file, uint64_t salt, uint64_t at,
                                   struct ft_journal_group *group)
{
    uint64_t body = 0;
    struct ft_journal_group g;
    *group = (struct ft_journal_group){0};
    if (!read_group(file, salt, at, &g, &body)) {
        return "the header of a group is broken";
    }
    uint64_t left = file.size - at - FT_JOURNAL_GROUP;
    if (left < FT_JOURNAL_COMMIT || left - FT_JOURNAL_COMMIT < body) {
        return "a group is cut off";
    }
    uint64_t body_at = at + FT_JOURNAL_GROUP;
    uint8_t commit[FT_JOURNAL_COMMIT];
    ft_journal_put_commit(commit, salt, at);
    if (memcmp(commit, file.data + body_at + body, sizeof commit) != 0) {
        return "the commit mark of a group is broken";
    }
    const char *wrong = check_records(file, salt, body_at, body_at + body, g.records);
    if (wrong == NULL) {
        g.end = body_at + body + FT_JOURNAL_COMMIT;
        *group = g;
    }
    return wrong;
}

bool ft_journal_was_durable(struct ft_bytes file, uint64_t salt, uint64_t from, uint64_t at)
{
    uint8_t first = (uint8_t)group_magic;
    while (from < file.size) {
        const uint8_t *p = memchr(file.data + from, first, file.size - (size_t)from);
        if (p == NULL) {
            return false;
        }
        struct ft_journal_group group;
        uint64_t body = 0;
        from = (uint64_t)(p - file.data);
        if (read_group(file, salt, from, &group, &body) && group.durable > at) {
            return true;
        }
        from++;
    }
    return false;
}

struct ft_journal_record ft_journal_record_at(struct ft_bytes file, uint64_t at)
{
    const uint8_t *p = file.data + at;
    size_t id = ft_get_u32(p);
    size_t doc = ft_get_u32(p + 4);
    struct ft_journal_record r = {.at = at,
                                  .end = at + FT_JOURNAL_RECORD + id + doc,
                                  .id = ft_bytes_of(p + FT_JOURNAL_RECORD, id),
                                  .doc = ft_bytes_of(p + FT_JOURNAL_RECORD + id, doc)};
    return r;
}
