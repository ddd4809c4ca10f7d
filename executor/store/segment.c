#include "executor/store/segment.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"
#include "executor/codec/digest.h"

const char ft_shard_magic[8] = {'f', 't', 's', 'h', 'a', 'r', 'd', '\0'};

/* FNV-1a with a last mix, so that the low bits depend on all bytes. */
uint64_t ft_id_hash(uint64_t salt, struct ft_bytes id)
{
    uint64_t h = 0xcbf29ce484222325ULL ^ salt;
    for (size_t i = 0; i < id.size; i++) {
        h = (h ^ id.data[i]) * 0x100000001b3ULL;
    }
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    return h ^ h >> 33;
}

/* ---- looking ---- */

struct ft_segment_class ft_segment_class(const struct ft_segment *segment, size_t c)
{
    const uint8_t *p = segment->class_table + c * FT_SHARD_CLASS;
    assert(c < segment->classes);
    return (struct ft_segment_class){.label = ft_bytes_of(segment->labels + ft_get_u64(p), ft_get_u32(p + 8)),
                                     .first = (size_t)ft_get_u64(p + 16),
                                     .count = (size_t)ft_get_u64(p + 24)};
}

size_t ft_segment_first_class(const struct ft_segment *segment)
{
    return segment->classes > 0 && ft_segment_class(segment, 0).label.size == 0 ? 1 : 0;
}

size_t ft_segment_deletions(const struct ft_segment *segment)
{
    return ft_segment_first_class(segment) > 0 ? ft_segment_class(segment, 0).count : 0;
}

bool ft_segment_record(const struct ft_segment *segment, size_t i, struct ft_journal_record *record)
{
    struct ft_bytes all = segment->records;
    assert(i < segment->documents);
    uint64_t at = ft_get_u64(segment->offsets + i * FT_SHARD_OFFSET);
    *record = (struct ft_journal_record){0};
    if (at > all.size || all.size - at < FT_JOURNAL_RECORD) {
        return false;
    }
    uint64_t size = (uint64_t)ft_get_u32(all.data + at) + ft_get_u32(all.data + at + 4);
    if (all.size - at - FT_JOURNAL_RECORD < size) {
        return false;
    }
    *record = ft_journal_record_at(all, at);
    return true;
}

enum ft_status ft_segment_read(const struct ft_segment *segment, size_t i, struct ft_journal_record *record,
                               struct ft_err *err)
{
    uint8_t head[FT_JOURNAL_RECORD];
    if (!ft_segment_record(segment, i, record)) {
        return FT_FAIL(err, CORRUPT, "%.600s: the sizes of Document %zu leave the file", segment->path, i);
    }
    ft_journal_put_record(head, segment->salt, record->id, record->doc);
    if (memcmp(head, segment->records.data + record->at, sizeof head) != 0) {
        return FT_FAIL(err, CORRUPT, "%.600s: the checksum of Document %zu (id \"%.*s\") is wrong",
                       segment->path, i, ft_bytes_shown(record->id), (const char *)record->id.data);
    }
    return FT_OK;
}

struct ft_segment_id ft_segment_id(const struct ft_segment *segment, size_t k)
{
    const uint8_t *p = segment->ids + k * FT_SHARD_ID;
    assert(k < segment->documents);
    return (struct ft_segment_id){.hash = ft_get_u64(p), .document = ft_get_u32(p + 8)};
}

/* ---- what later segments replace ---- */

enum ft_status ft_segment_reserve_marks(struct ft_segment *segment, struct ft_err *err)
{
    return segment->dead != NULL
               ? FT_OK
               : ft_new(segment->documents / 64 + 1, sizeof *segment->dead, &segment->dead, err);
}

void ft_segment_mark(struct ft_segment *segment, size_t i)
{
    assert(i < segment->documents);
    segment->n_dead += ft_segment_is_dead(segment->dead, i) ? 0 : 1;
    segment->dead[i / 64] |= (uint64_t)1 << (i % 64);
}

void ft_segment_revive(struct ft_segment *segment, size_t i)
{
    assert(i < segment->documents);
    segment->n_dead -= ft_segment_is_dead(segment->dead, i) ? 1 : 0;
    segment->dead[i / 64] &= ~((uint64_t)1 << (i % 64));
}

enum ft_status ft_segment_kill(struct ft_segment *segment, size_t i, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_segment_reserve_marks(segment, err));
    ft_segment_mark(segment, i);
    return FT_OK;
}

/* Entry k of segment s has a hash; mark those of earlier segments, at their places at[], with the same id. */
static enum ft_status kill_earlier(struct ft_segment *const *segments, size_t s, size_t k, const size_t *at,
                                   struct ft_err *err)
{
    struct ft_segment_id mine = ft_segment_id(segments[s], k);
    struct ft_journal_record new_one;
    struct ft_journal_record old_one;
    if (!ft_segment_record(segments[s], mine.document, &new_one)) {
        return ft_segment_read(segments[s], mine.document, &new_one, err);
    }
    for (size_t e = 0; e < s; e++) {
        for (size_t i = at[e]; i < segments[e]->documents; i++) {
            struct ft_segment_id other = ft_segment_id(segments[e], i);
            if (other.hash != mine.hash) {
                break;
            }
            if (!ft_segment_record(segments[e], other.document, &old_one)) {
                return ft_segment_read(segments[e], other.document, &old_one, err);
            }
            if (ft_bytes_equal(new_one.id, old_one.id)) {
                FT_RETURN_IF_FAILED(ft_segment_kill(segments[e], other.document, err));
            }
        }
    }
    return FT_OK;
}

/* All lists of ids are sorted by hash: walk them side by side. */
enum ft_status ft_segments_resolve(struct ft_segment *const *segments, size_t count, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t *at = NULL;
    FT_TRY(ft_new(count + 1, sizeof *at, &at, err));
    for (;;) {
        bool any = false;
        uint64_t least = UINT64_MAX;
        size_t holders = 0;
        for (size_t s = 0; s < count; s++) {
            if (at[s] < segments[s]->documents) {
                uint64_t hash = ft_segment_id(segments[s], at[s]).hash;
                holders = !any || hash < least ? 1 : holders + (hash == least ? 1 : 0);
                least = !any || hash < least ? hash : least;
                any = true;
            }
        }
        if (!any) {
            break;
        }
        for (size_t s = 0; s < count && holders > 1; s++) {
            for (size_t k = at[s]; k < segments[s]->documents && ft_segment_id(segments[s], k).hash == least;
                 k++) {
                FT_TRY(kill_earlier(segments, s, k, at, err));
            }
        }
        for (size_t s = 0; s < count; s++) {
            while (at[s] < segments[s]->documents && ft_segment_id(segments[s], at[s]).hash == least) {
                at[s]++;
            }
        }
    }
done:
    ft_free(at);
    return st;
}

/* ---- opening a shard ---- */

static uint64_t padded(uint64_t size)
{
    return (size + 7) / 8 * 8;
}

/* Labels ascend and end in NUL, classes follow each other without gaps. */
static const char *check_classes(const struct ft_segment *s, uint64_t labels_size)
{
    uint64_t next = 0;
    struct ft_segment_class before = {0};
    for (size_t c = 0; c < s->classes; c++) {
        const uint8_t *p = s->class_table + c * FT_SHARD_CLASS;
        uint64_t at = ft_get_u64(p);
        uint64_t size = ft_get_u32(p + 8);
        if (at >= labels_size || labels_size - at <= size || s->labels[at + size] != '\0' ||
            size > FT_MAX_LABEL_BYTES || ft_get_u64(p + 16) != next || ft_get_u64(p + 24) == 0 ||
            ft_get_u64(p + 24) > s->documents - next) {
            return "its table of classes is broken";
        }
        struct ft_segment_class now = ft_segment_class(s, c);
        size_t least = now.label.size < before.label.size ? now.label.size : before.label.size;
        int order = c == 0 ? -1 : memcmp(before.label.data, now.label.data, least);
        if (order > 0 || (order == 0 && before.label.size >= now.label.size)) {
            return "its classes are not in order";
        }
        next += now.count;
        before = now;
    }
    return next == s->documents ? NULL : "its classes do not hold all Documents";
}

static enum ft_status check_ids(const struct ft_segment *s, const char **wrong, struct ft_err *err)
{
    uint64_t *seen = NULL;
    uint64_t before = 0;
    FT_RETURN_IF_FAILED(ft_new(s->documents / 64 + 1, sizeof *seen, &seen, err));
    for (size_t k = 0; k < s->documents && *wrong == NULL; k++) {
        struct ft_segment_id id = ft_segment_id(s, k);
        if (id.hash < before || id.document >= s->documents || ft_segment_is_dead(seen, id.document)) {
            *wrong = "its list of ids is broken";
            break;
        }
        seen[id.document / 64] |= (uint64_t)1 << (id.document % 64);
        before = id.hash;
    }
    ft_free(seen);
    return FT_OK;
}

static const char *check_offsets(const struct ft_segment *s)
{
    uint64_t before = 0;
    for (size_t i = 0; i < s->documents; i++) {
        uint64_t at = ft_get_u64(s->offsets + i * FT_SHARD_OFFSET);
        if ((i == 0 ? at != 0 : at < before + FT_JOURNAL_RECORD) || at > s->records.size ||
            s->records.size - at < FT_JOURNAL_RECORD) {
            return "its offsets are broken";
        }
        before = at;
    }
    return NULL;
}

static const char *check_head(struct ft_bytes file)
{
    uint8_t head[FT_SHARD_HEAD];
    if (file.size < FT_SHARD_HEAD || memcmp(file.data, ft_shard_magic, sizeof ft_shard_magic) != 0) {
        return "it does not begin as a shard does";
    }
    memcpy(head, file.data, sizeof head);
    ft_put_u32(head + 12, 0);
    if (ft_crc32(0, ft_bytes_of(head, sizeof head)) != ft_get_u32(file.data + 12)) {
        return "the checksum of its head is wrong";
    }
    return ft_get_u64(file.data + 56) == file.size ? NULL : "it is cut off";
}

/* Where the sections lie, from the counts of the head; each count alone is below the file's size. */
static const char *place_sections(struct ft_bytes file, struct ft_segment *s, uint64_t *labels_size)
{
    uint64_t classes = ft_get_u64(file.data + 24);
    uint64_t documents = ft_get_u64(file.data + 32);
    uint64_t records = ft_get_u64(file.data + 48);
    *labels_size = ft_get_u64(file.data + 40);
    if (classes > file.size / FT_SHARD_CLASS || documents > file.size / FT_SHARD_ID ||
        documents > UINT32_MAX || *labels_size > file.size || records > file.size) {
        return "its counts are broken";
    }
    const uint64_t sizes[FT_SHARD_SECTIONS] = {classes * FT_SHARD_CLASS, *labels_size,
                                               documents * FT_SHARD_OFFSET, documents * FT_SHARD_ID};
    const uint8_t **sections[FT_SHARD_SECTIONS] = {&s->class_table, &s->labels, &s->offsets, &s->ids};
    uint64_t at = FT_SHARD_HEAD;
    for (int k = 0; k < FT_SHARD_SECTIONS; k++) {
        if (at > file.size || file.size - at < padded(sizes[k])) {
            return "its sections leave the file";
        }
        *sections[k] = file.data + at;
        if (ft_crc32(0, ft_bytes_of(file.data + at, (size_t)sizes[k])) !=
            ft_get_u32(file.data + 64 + 4 * k)) {
            return "the checksum of a section is wrong";
        }
        at += padded(sizes[k]);
    }
    if (file.size - at != records) {
        return "its records are cut off";
    }
    s->records = ft_bytes_of(file.data + at, (size_t)records);
    s->classes = (size_t)classes;
    s->documents = (size_t)documents;
    return NULL;
}

enum ft_status ft_segment_of_bytes(struct ft_bytes file, struct ft_segment *segment, struct ft_err *err)
{
    uint64_t labels_size = 0;
    const char *name = segment->path != NULL ? segment->path : "shard";
    const char *wrong = check_head(file);
    if (wrong == NULL && ft_get_u32(file.data + 8) != FT_SHARD_VERSION) {
        return FT_FAIL(err, UNSUPPORTED, "%.600s has version %u, this program reads %d", name,
                       ft_get_u32(file.data + 8), FT_SHARD_VERSION);
    }
    if (wrong == NULL) {
        segment->salt = ft_get_u64(file.data + 16);
        wrong = place_sections(file, segment, &labels_size);
    }
    wrong = wrong == NULL ? check_classes(segment, labels_size) : wrong;
    wrong = wrong == NULL ? check_offsets(segment) : wrong;
    if (wrong == NULL) {
        FT_RETURN_IF_FAILED(check_ids(segment, &wrong, err));
    }
    return wrong == NULL ? FT_OK : FT_FAIL(err, CORRUPT, "%.600s: %s", name, wrong);
}

enum ft_status ft_segment_open_shard(const char *dir, uint64_t number, struct ft_segment **segment,
                                     struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_segment *s = NULL;
    char name[FT_STORE_NAME];
    *segment = NULL;
    ft_shard_name(number, name);
    FT_TRY(ft_new(1, sizeof *s, &s, err));
    s->number = number;
    FT_TRY(ft_path_join(dir, name, &s->path, err));
    FT_TRY(ft_file_map(s->path, &s->map, err));
    FT_TRY(ft_segment_of_bytes(s->map.bytes, s, err));
    *segment = s;
    s = NULL;
done:
    ft_segment_free(s);
    return st;
}

void ft_segment_free(struct ft_segment *segment)
{
    if (segment == NULL) {
        return;
    }
    ft_file_unmap(&segment->map);
    ft_free(segment->path);
    ft_free(segment->built);
    ft_free(segment->dead);
    ft_free(segment);
}

/* ---- verifying ---- */

/* A shard's records follow each other without gaps. */
static enum ft_status verify_places(const struct ft_segment *s, struct ft_err *err)
{
    struct ft_journal_record record = {0};
    uint64_t next = 0;
    for (size_t i = 0; i < s->documents; i++) {
        FT_RETURN_IF_FAILED(ft_segment_read(s, i, &record, err));
        if (!s->is_journal && record.at != next) {
            return FT_FAIL(err, CORRUPT, "%.600s: Document %zu is not where the one before it ends", s->path,
                           i);
        }
        next = record.end;
    }
    if (!s->is_journal && next != s->records.size) {
        return FT_FAIL(err, CORRUPT, "%.600s: bytes follow the last Document", s->path);
    }
    return FT_OK;
}

enum ft_status ft_segment_verify(const struct ft_segment *segment, uint64_t id_salt, struct ft_err *err)
{
    struct ft_journal_record record;
    size_t deletions = ft_segment_deletions(segment);
    FT_RETURN_IF_FAILED(verify_places(segment, err));
    for (size_t k = 0; k < segment->documents; k++) {
        struct ft_segment_id id = ft_segment_id(segment, k);
        if (!ft_segment_record(segment, id.document, &record) || ft_id_hash(id_salt, record.id) != id.hash) {
            return FT_FAIL(err, CORRUPT, "%.600s: the id of Document %zu is not the one that is listed",
                           segment->path, id.document);
        }
        if ((record.doc.size == 0) != (id.document < deletions)) {
            return FT_FAIL(err, CORRUPT, "%.600s: Document %zu is in the wrong class", segment->path,
                           id.document);
        }
    }
    return FT_OK;
}
