#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/store/internal.h"

/* FNV-1a with a last mix, so that the low bits depend on all bytes. */
static uint64_t hash_of(struct ft_bytes id)
{
    uint64_t h = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < id.size; i++) {
        h = (h ^ id.data[i]) * 0x100000001b3ULL;
    }
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    return h ^ h >> 33;
}

/* The slot that holds `id`, or the free one where it belongs. */
static size_t slot_of(const struct ft_dataset *ds, struct ft_bytes id)
{
    size_t at = (size_t)hash_of(id) & (ds->n_slots - 1);
    while (ds->slots[at] != 0 && !ft_bytes_equal(ds->rows[ds->slots[at] - 1].doc.id, id)) {
        at = (at + 1) & (ds->n_slots - 1);
    }
    return at;
}

static enum ft_status grow_slots(struct ft_dataset *ds, struct ft_err *err)
{
    uint32_t *old = ds->slots;
    size_t n_old = ds->n_slots;
    size_t n = n_old == 0 ? 64 : 2 * n_old;
    uint32_t *fresh = NULL;
    FT_RETURN_IF_FAILED(ft_new(n, sizeof *fresh, &fresh, err));
    ds->slots = fresh;
    ds->n_slots = n;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i] != 0) {
            ds->slots[slot_of(ds, ds->rows[old[i] - 1].doc.id)] = old[i];
        }
    }
    ft_free(old);
    return FT_OK;
}

/* The row for this Document: that of its id, or a new one. */
static enum ft_status row_for(struct ft_dataset *ds, struct ft_bytes id, size_t *row, struct ft_err *err)
{
    size_t slot = 0;
    if (id.size > 0) {
        if (2 * ds->n_ids >= ds->n_slots) {
            FT_RETURN_IF_FAILED(grow_slots(ds, err));
        }
        slot = slot_of(ds, id);
        if (ds->slots[slot] != 0) {
            *row = ds->slots[slot] - 1;
            return FT_OK;
        }
    }
    if (ds->count >= UINT32_MAX - 1) {
        return FT_FAIL(err, LIMIT, "more than %zu Documents", ds->count);
    }
    FT_RETURN_IF_FAILED(ft_grow(&ds->rows, &ds->capacity, ds->count + 1, sizeof *ds->rows, err));
    *row = ds->count;
    ds->count++;
    if (id.size > 0) {
        /* The row's id is set by the caller before anybody looks this slot up. */
        ds->slots[slot] = (uint32_t)*row + 1;
        ds->n_ids++;
    }
    return FT_OK;
}

static enum ft_status check_content(const struct ft_dataset *ds, const struct ft_document *doc,
                                    struct ft_err *err)
{
    const struct ft_content *content = &doc->content;
    if (content->kind == FT_CONTENT_NONE) {
        return FT_FAIL(err, INVALID, "no content: text, uri, blob or tensor");
    }
    /* An empty text can be embedded; nothing can be learnt from it. */
    if (content->bytes.size == 0 && (ds->need_labels || content->kind != FT_CONTENT_TEXT)) {
        return FT_FAIL(err, INVALID, "the content is empty");
    }
    if (content->kind != FT_CONTENT_URI || !ds->read_files) {
        return FT_OK;
    }
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_dataset_resolve(ds, content->bytes, &path, err));
    enum ft_status st = FT_OK;
    if (ft_path_kind(path) != FT_PATH_FILE) {
        st = FT_FAIL(err, NOT_FOUND, "uri \"%.*s\": there is no file %.400s", ft_bytes_shown(content->bytes),
                     (const char *)content->bytes.data, path);
    }
    ft_free(path);
    return st;
}

enum ft_status ft_dataset_add(struct ft_dataset *ds, const struct ft_document *doc, const char *where,
                              struct ft_err *err)
{
    const char *kept = NULL;
    size_t row = 0;
    FT_RETURN_IF_FAILED(check_content(ds, doc, err));
    if (doc->has_label && (doc->label.size == 0 || doc->label.size > FT_MAX_LABEL_BYTES)) {
        return FT_FAIL(err, LIMIT, "a label has %zu bytes; 1 to %d are accepted", doc->label.size,
                       FT_MAX_LABEL_BYTES);
    }
    if (doc->id.size > FT_MAX_ID_BYTES) {
        return FT_FAIL(err, LIMIT, "an id has %zu bytes, more than %d", doc->id.size, FT_MAX_ID_BYTES);
    }
    if (ds->need_labels && !doc->has_label) {
        if (doc->id.size == 0) {
            return FT_FAIL(err, INVALID, "no label (text or a number)");
        }
        return FT_FAIL(err, INVALID, "no label (text or a number); id \"%.*s\"", ft_bytes_shown(doc->id),
                       (const char *)doc->id.data);
    }
    FT_RETURN_IF_FAILED(ft_arena_text(&ds->arena, where, strlen(where), &kept, err));
    FT_RETURN_IF_FAILED(row_for(ds, doc->id, &row, err));
    ds->rows[row] = (struct ft_dataset_row){.doc = *doc, .where = kept, .class_no = -1};
    return FT_OK;
}

enum ft_status ft_dataset_keep(struct ft_dataset *ds, struct ft_bytes bytes, struct ft_bytes *kept,
                               struct ft_err *err)
{
    const char *copy = NULL;
    *kept = (struct ft_bytes){0};
    FT_RETURN_IF_FAILED(ft_arena_text(&ds->arena, (const char *)bytes.data, bytes.size, &copy, err));
    *kept = ft_bytes_of(copy, bytes.size);
    return FT_OK;
}

/* ---- classes ---- */

struct labelled {
    struct ft_bytes label;
    uint32_t row;
};

static int by_label(const void *a, const void *b)
{
    const struct labelled *x = a;
    const struct labelled *y = b;
    size_t least = x->label.size < y->label.size ? x->label.size : y->label.size;
    int order = memcmp(x->label.data, y->label.data, least);
    if (order != 0) {
        return order;
    }
    return x->label.size < y->label.size ? -1 : x->label.size > y->label.size;
}

enum ft_status ft_dataset_index(struct ft_dataset *ds, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct labelled *sorted = NULL;
    size_t n = 0;
    size_t capacity = 0;
    FT_TRY(ft_new(ds->count, sizeof *sorted, &sorted, err));
    for (size_t i = 0; i < ds->count; i++) {
        ds->rows[i].class_no = -1;
        if (ds->rows[i].doc.has_label) {
            sorted[n++] = (struct labelled){.label = ds->rows[i].doc.label, .row = (uint32_t)i};
        }
    }
    qsort(sorted, n, sizeof *sorted, by_label);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !ft_bytes_equal(sorted[i].label, sorted[i - 1].label)) {
            const char *name = NULL;
            if (ds->classes >= INT32_MAX) {
                st = FT_FAIL(err, LIMIT, "more than %zu classes", ds->classes);
                goto done;
            }
            FT_TRY(ft_arena_text(&ds->arena, (const char *)sorted[i].label.data, sorted[i].label.size, &name,
                                 err));
            FT_TRY(ft_grow(&ds->class_names, &capacity, ds->classes + 1, sizeof *ds->class_names, err));
            ds->class_names[ds->classes++] = name;
        }
        ds->rows[sorted[i].row].class_no = (int32_t)ds->classes - 1;
    }
    FT_TRY(ft_dataset_group(ds, err));
done:
    ft_free(sorted);
    return st;
}

/* Counting sort: rows stay ascending inside a class. */
enum ft_status ft_dataset_group(struct ft_dataset *ds, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t *next = NULL;
    FT_TRY(ft_new(ds->classes + 1, sizeof *ds->class_first, &ds->class_first, err));
    FT_TRY(ft_new(ds->classes + 1, sizeof *next, &next, err));
    FT_TRY(ft_new(ds->count, sizeof *ds->class_items, &ds->class_items, err));
    for (size_t i = 0; i < ds->count; i++) {
        int32_t c = ft_dataset_class_of(ds, i);
        if (c >= 0) {
            ds->class_first[c + 1]++;
        }
    }
    for (size_t c = 0; c < ds->classes; c++) {
        ds->class_first[c + 1] += ds->class_first[c];
        next[c] = ds->class_first[c];
    }
    for (size_t i = 0; i < ds->count; i++) {
        int32_t c = ft_dataset_class_of(ds, i);
        if (c >= 0) {
            ds->class_items[next[c]++] = (uint32_t)i;
        }
    }
done:
    ft_free(next);
    return st;
}
