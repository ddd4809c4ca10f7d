/* The index of a journal, in the form that a shard has on disk. */
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/arena.h"
#include "executor/store/journal.h"
#include "executor/store/segment.h"
#include "executor/wire/docarray.h"

struct entry {
    uint64_t hash;
    uint64_t at;
    struct ft_bytes label; /* empty: a deletion */
    size_t document;       /* its place once classes are sorted */
};

struct building {
    struct ft_segment *segment;
    uint64_t id_salt;
    struct entry *entries;
    size_t count, capacity;
    size_t classes, labels_size;
    struct ft_arena arena; /* labels that are numbers */
};

static enum ft_status add_entry(void *arg, const struct ft_journal_record *record, struct ft_err *err)
{
    struct building *b = arg;
    if (b->count >= UINT32_MAX) {
        return FT_FAIL(err, LIMIT, "more than %u Documents in one journal", UINT32_MAX);
    }
    FT_RETURN_IF_FAILED(ft_grow(&b->entries, &b->capacity, b->count + 1, sizeof *b->entries, err));
    b->entries[b->count++] = (struct entry){.hash = ft_id_hash(b->id_salt, record->id), .at = record->at};
    return FT_OK;
}

static int by_hash(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_label(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    size_t least = x->label.size < y->label.size ? x->label.size : y->label.size;
    int order = least == 0 ? 0 : memcmp(x->label.data, y->label.data, least);
    if (order == 0 && x->label.size != y->label.size) {
        order = x->label.size < y->label.size ? -1 : 1;
    }
    if (order != 0) {
        return order;
    }
    return x->at < y->at ? -1 : x->at > y->at;
}

static void sort(struct building *b, int (*order)(const void *, const void *))
{
    if (b->count > 0) { /* an empty list is NULL, which qsort() must not be given */
        qsort(b->entries, b->count, sizeof *b->entries, order);
    }
}

/* Sorted by hash: of those with one id the last stays. */
static void drop_replaced(struct building *b)
{
    struct ft_bytes file = b->segment->records;
    size_t kept = 0;
    for (size_t i = 0; i < b->count; i++) {
        bool replaced = false;
        struct ft_bytes id = ft_journal_record_at(file, b->entries[i].at).id;
        for (size_t j = i + 1; j < b->count && b->entries[j].hash == b->entries[i].hash && !replaced; j++) {
            replaced = ft_bytes_equal(id, ft_journal_record_at(file, b->entries[j].at).id);
        }
        if (!replaced) {
            b->entries[kept++] = b->entries[i];
        }
    }
    b->count = kept;
}

static enum ft_status find_labels(struct building *b, struct ft_err *err)
{
    for (size_t i = 0; i < b->count; i++) {
        struct ft_journal_record record = ft_journal_record_at(b->segment->records, b->entries[i].at);
        struct ft_document doc;
        if (record.doc.size == 0) {
            continue;
        }
        enum ft_status st = ft_docarray_scan(record.doc, FT_DOCARRAY_UNDECIDED, &b->arena, &doc, err);
        if (st == FT_OK && !doc.has_label) {
            st = FT_FAIL(err, CORRUPT, "it has no label");
        }
        if (st != FT_OK) {
            return ft_err_wrap(err, "%.600s: Document \"%.*s\"", b->segment->path, ft_bytes_shown(record.id),
                               (const char *)record.id.data);
        }
        b->entries[i].label = doc.label;
    }
    return FT_OK;
}

/* Sorted by label. */
static void count_classes(struct building *b)
{
    for (size_t i = 0; i < b->count; i++) {
        if (i == 0 || !ft_bytes_equal(b->entries[i].label, b->entries[i - 1].label)) {
            b->classes++;
            b->labels_size += b->entries[i].label.size + 1;
        }
    }
}

static void put_classes(struct building *b, uint8_t *table, uint8_t *labels, uint8_t *offsets)
{
    size_t label_at = 0;
    uint8_t *row = table - FT_SHARD_CLASS;
    for (size_t i = 0; i < b->count; i++) {
        struct ft_bytes label = b->entries[i].label;
        if (i == 0 || !ft_bytes_equal(label, b->entries[i - 1].label)) {
            row += FT_SHARD_CLASS;
            ft_put_u64(row, label_at);
            ft_put_u32(row + 8, (uint32_t)label.size);
            ft_put_u64(row + 16, i);
            if (label.size > 0) {
                memcpy(labels + label_at, label.data, label.size);
            }
            label_at += label.size + 1;
        }
        ft_put_u64(row + 24, ft_get_u64(row + 24) + 1);
        ft_put_u64(offsets + i * FT_SHARD_OFFSET, b->entries[i].at);
        b->entries[i].document = i;
    }
}

static enum ft_status put_sections(struct building *b, struct ft_err *err)
{
    struct ft_segment *s = b->segment;
    size_t table = b->classes * FT_SHARD_CLASS;
    size_t offsets = b->count * FT_SHARD_OFFSET;
    size_t ids = b->count * FT_SHARD_ID;
    FT_RETURN_IF_FAILED(ft_new(table + offsets + ids + b->labels_size + 1, 1, &s->built, err));
    uint8_t *offsets_at = s->built + table;
    uint8_t *ids_at = offsets_at + offsets;
    uint8_t *labels_at = ids_at + ids;
    put_classes(b, s->built, labels_at, offsets_at);
    sort(b, by_hash);
    for (size_t i = 0; i < b->count; i++) {
        ft_put_u64(ids_at + i * FT_SHARD_ID, b->entries[i].hash);
        ft_put_u32(ids_at + i * FT_SHARD_ID + 8, (uint32_t)b->entries[i].document);
    }
    s->class_table = s->built;
    s->offsets = offsets_at;
    s->ids = ids_at;
    s->labels = labels_at;
    s->classes = b->classes;
    s->documents = b->count;
    return FT_OK;
}

static enum ft_status build(struct building *b, const struct ft_manifest_file *file, struct ft_err *err)
{
    struct ft_segment *s = b->segment;
    struct ft_journal_head head;
    uint64_t end = 0;
    const struct ft_journal_walk walk = {.visit = add_entry, .arg = b, .limit = file->end};
    FT_RETURN_IF_FAILED(ft_journal_walk(s->map.bytes, s->path, &walk, &head, &end, err));
    s->salt = head.salt;
    s->records = ft_bytes_of(s->map.bytes.data, (size_t)end);
    sort(b, by_hash);
    drop_replaced(b);
    FT_RETURN_IF_FAILED(find_labels(b, err));
    sort(b, by_label);
    count_classes(b);
    return put_sections(b, err);
}

enum ft_status ft_segment_open_journal(const char *dir, const struct ft_manifest_file *file, uint64_t id_salt,
                                       struct ft_segment **segment, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct building b = {.id_salt = id_salt};
    char name[FT_STORE_NAME];
    *segment = NULL;
    ft_journal_name(file->number, name);
    FT_TRY(ft_new(1, sizeof *b.segment, &b.segment, err));
    b.segment->number = file->number;
    b.segment->is_journal = true;
    FT_TRY(ft_path_join(dir, name, &b.segment->path, err));
    FT_TRY(ft_file_map(b.segment->path, &b.segment->map, err));
    FT_TRY(build(&b, file, err));
    *segment = b.segment;
    b.segment = NULL;
done:
    ft_segment_free(b.segment);
    ft_free(b.entries);
    ft_arena_release(&b.arena);
    return st;
}
