/*
 * A dataset of the service (or a run's snapshot of one) as struct ft_dataset: nothing is copied. Documents
 * are numbered class by class, inside a class in the order they came, so that the same Documents have the
 * same numbers whatever shards they lie in.
 */
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/store/internal.h"
#include "executor/wire/docarray.h"

enum {
    TRIES = 100
}; /* a file that the manifest named may be gone by the time it is opened: it is read again */

static enum ft_status open_segments(struct ft_dataset *ds, const char *dir, const struct ft_manifest *m,
                                    struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_new(m->n_shards + m->n_journals, sizeof *ds->segments, &ds->segments, err));
    for (size_t i = 0; i < m->n_shards; i++) {
        FT_RETURN_IF_FAILED(
            ft_segment_open_shard(dir, m->shards[i].number, &ds->segments[ds->n_segments], err));
        ds->n_segments++;
    }
    for (size_t i = 0; i < m->n_journals; i++) {
        FT_RETURN_IF_FAILED(
            ft_segment_open_journal(dir, &m->journals[i], m->salt, &ds->segments[ds->n_segments], err));
        ds->n_segments++;
    }
    return FT_OK;
}

static void close_segments(struct ft_dataset *ds)
{
    for (size_t i = 0; i < ds->n_segments; i++) {
        ft_segment_free(ds->segments[i]);
    }
    ft_free(ds->segments);
    ds->segments = NULL;
    ds->n_segments = 0;
}

static enum ft_status open_live(struct ft_dataset *ds, const char *dir, struct ft_err *err)
{
    enum ft_status st = FT_NOT_FOUND;
    uint64_t generation = UINT64_MAX;
    for (int i = 0; i < TRIES && st == FT_NOT_FOUND; i++) {
        struct ft_manifest m = {0};
        ft_err_clear(err);
        close_segments(ds);
        FT_RETURN_IF_FAILED(ft_manifest_read(dir, &m, err));
        bool same = m.generation == generation;
        generation = m.generation;
        ds->id_salt = m.salt;
        st = open_segments(ds, dir, &m, err);
        ft_manifest_release(&m);
        if (st == FT_NOT_FOUND && same) { /* nobody replaced it: a file is missing */
            return FT_FAIL(err, CORRUPT, "%.600s: a file that its manifest names is missing", dir);
        }
    }
    return st;
}

/* ---- classes of all segments, side by side ---- */

struct merging {
    struct ft_dataset *ds;
    size_t *at; /* (segments) the next class of each */
    size_t names_capacity, firsts_capacity;
};

static bool next_label(const struct merging *m, struct ft_bytes *label)
{
    bool any = false;
    for (size_t s = 0; s < m->ds->n_segments; s++) {
        if (m->at[s] < m->ds->segments[s]->classes) {
            struct ft_bytes mine = ft_segment_class(m->ds->segments[s], m->at[s]).label;
            *label = !any || ft_bytes_compare(mine, *label) < 0 ? mine : *label;
            any = true;
        }
    }
    return any;
}

/* Number the Documents of one class that stay. */
static void take_class(struct merging *m, struct ft_bytes label)
{
    struct ft_dataset *ds = m->ds;
    for (size_t s = 0; s < ds->n_segments; s++) {
        const struct ft_segment *segment = ds->segments[s];
        if (m->at[s] == segment->classes) {
            continue;
        }
        struct ft_segment_class c = ft_segment_class(segment, m->at[s]);
        if (!ft_bytes_equal(c.label, label)) {
            continue;
        }
        m->at[s]++;
        for (size_t i = c.first; i < c.first + c.count; i++) {
            if (ft_segment_is_dead(segment->dead, i)) {
                continue;
            }
            if (ds->places != NULL) {
                ds->places[ds->count] = (struct ft_dataset_place){(uint32_t)s, (uint32_t)i};
            }
            ds->count++;
        }
    }
}

/* With one shard of Documents that are all alive the numbers are the shard's own. */
static bool is_plain(const struct ft_dataset *ds, size_t *documents)
{
    size_t holders = 0;
    bool plain = true;
    *documents = 0;
    for (size_t s = 0; s < ds->n_segments; s++) {
        const struct ft_segment *segment = ds->segments[s];
        holders += segment->documents > 0 ? 1 : 0;
        plain = plain && (segment->documents == 0 || s == 0) && segment->n_dead == 0 &&
                ft_segment_deletions(segment) == 0;
        *documents += segment->documents - segment->n_dead;
    }
    return plain && holders <= 1;
}

static enum ft_status number_documents(struct merging *m, struct ft_err *err)
{
    struct ft_dataset *ds = m->ds;
    struct ft_bytes label = {0};
    size_t documents = 0;
    FT_RETURN_IF_FAILED(ft_segments_resolve(ds->segments, ds->n_segments, err));
    bool plain = is_plain(ds, &documents);
    if (documents >= UINT32_MAX) {
        return FT_FAIL(err, LIMIT, "%.600s: more than %u Documents", ds->folder, UINT32_MAX - 1);
    }
    if (!plain) {
        FT_RETURN_IF_FAILED(ft_new(documents, sizeof *ds->places, &ds->places, err));
    }
    for (size_t s = 0; s < ds->n_segments; s++) {
        m->at[s] = ft_segment_first_class(ds->segments[s]);
    }
    while (next_label(m, &label)) {
        size_t first = ds->count;
        take_class(m, label);
        if (ds->count == first) {
            continue;
        }
        if (ds->classes >= INT32_MAX) {
            return FT_FAIL(err, LIMIT, "more than %zu classes", ds->classes);
        }
        FT_RETURN_IF_FAILED(
            ft_grow(&ds->class_names, &m->names_capacity, ds->classes + 1, sizeof *ds->class_names, err));
        FT_RETURN_IF_FAILED(
            ft_grow(&ds->class_first, &m->firsts_capacity, ds->classes + 2, sizeof *ds->class_first, err));
        ds->class_names[ds->classes] = (const char *)label.data;
        ds->class_first[ds->classes++] = first;
        ds->class_first[ds->classes] = ds->count;
    }
    return FT_OK;
}

enum ft_status ft_dataset_open_set(const char *dir, struct ft_dataset **dataset, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct merging m = {0};
    *dataset = NULL;
    FT_TRY(ft_new(1, sizeof *m.ds, &m.ds, err));
    m.ds->need_labels = true;
    FT_TRY(ft_new_text(dir, &m.ds->folder, err));
    FT_TRY(open_live(m.ds, dir, err));
    FT_TRY(ft_new(m.ds->n_segments, sizeof *m.at, &m.at, err));
    FT_TRY(number_documents(&m, err));
    *dataset = m.ds;
    m.ds = NULL;
done:
    ft_free(m.at);
    ft_dataset_free(m.ds);
    return st;
}

/* ---- looking ---- */

static const struct ft_segment *place_of(const struct ft_dataset *ds, size_t i, size_t *document)
{
    if (ds->places == NULL) {
        *document = i;
        return ds->segments[0];
    }
    *document = ds->places[i].document;
    return ds->segments[ds->places[i].segment];
}

struct ft_bytes ft_set_source_id(const struct ft_dataset *ds, size_t i)
{
    struct ft_journal_record record;
    size_t document = 0;
    const struct ft_segment *segment = place_of(ds, i, &document);
    return ft_segment_record(segment, document, &record) ? record.id : (struct ft_bytes){0};
}

enum ft_status ft_set_source_read(const struct ft_dataset *ds, size_t i, struct ft_arena *arena,
                                  struct ft_document *doc, struct ft_err *err)
{
    struct ft_journal_record record;
    size_t document = 0;
    const struct ft_segment *segment = place_of(ds, i, &document);
    *doc = (struct ft_document){0};
    FT_RETURN_IF_FAILED(ft_segment_read(segment, document, &record, err));
    enum ft_status st = ft_docarray_scan(record.doc, FT_DOCARRAY_UNDECIDED, arena, doc, err);
    if (st != FT_OK) {
        return ft_err_wrap(err, "%.600s: Document \"%.*s\"", segment->path, ft_bytes_shown(record.id),
                           (const char *)record.id.data);
    }
    doc->id = record.id; /* also of Documents that came without one */
    return FT_OK;
}

void ft_set_source_close(struct ft_dataset *ds)
{
    close_segments(ds);
    ft_free(ds->places);
}
