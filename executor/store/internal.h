/*
 * internal.h - what the sources (JSONL, CSV, folders, DocumentArrays, the service's sets) share with
 * dataset.c. Private to store/.
 */
#ifndef FT_STORE_INTERNAL_H
#define FT_STORE_INTERNAL_H

#include "executor/base/arena.h"
#include "executor/base/file.h"
#include "executor/store/dataset.h"
#include "executor/store/segment.h"

struct ft_dataset_row {
    struct ft_document doc;
    const char *where; /* in the arena */
    int32_t class_no;  /* -1: no label */
};

/* Where a Document of a dataset of the service lies. */
struct ft_dataset_place {
    uint32_t segment;
    uint32_t document;
};

struct ft_dataset {
    struct ft_arena arena; /* texts, decoded blobs and tensors */
    struct ft_mapping map; /* the data file, when Documents borrow from it */
    char *folder;          /* relative uris resolve against it; NULL: the current folder */
    bool need_labels;
    bool read_files; /* uris of local files may be read: not in a dataset of the service */
    struct ft_dataset_row *rows;
    size_t count;
    size_t capacity;
    uint32_t *slots; /* hash table of ids: row + 1, 0 = free; a power of two of them */
    size_t n_slots;
    size_t n_ids;
    const char **class_names; /* (classes), sorted */
    size_t classes;
    uint32_t *class_items;           /* rows grouped by class */
    size_t *class_first;             /* (classes + 1) offsets into class_items */
    const struct ft_dataset *root;   /* a subset: whose rows these are */
    uint32_t *picked;                /* a subset: (count) rows of root */
    struct ft_segment **segments;    /* of the service: shards and journals; there are no rows then, and */
    size_t n_segments;               /* Documents of a class have numbers that follow each other */
    uint64_t id_salt;                /* of the hashes in segments */
    struct ft_dataset_place *places; /* (count); NULL: document i of segment 0 */
};

/* Add one Document whose bytes live in ds->arena or ds->map. `where` is copied. Checks label, content and
 * that a local uri exists. A known id replaces the row that has it. Errors do not name `where`: the source
 * does. */
FT_MUST_CHECK enum ft_status ft_dataset_add(struct ft_dataset *ds, const struct ft_document *doc,
                                            const char *where, struct ft_err *err);
/* Number the classes once all rows are in. */
FT_MUST_CHECK enum ft_status ft_dataset_index(struct ft_dataset *ds, struct ft_err *err);
/* Group `count` rows by class into ds->class_items and ds->class_first. */
FT_MUST_CHECK enum ft_status ft_dataset_group(struct ft_dataset *ds, struct ft_err *err);
/* A copy in ds->arena. */
FT_MUST_CHECK enum ft_status ft_dataset_keep(struct ft_dataset *ds, struct ft_bytes bytes,
                                             struct ft_bytes *kept, struct ft_err *err);
/* The path of a local file that a uri names: ft_free(). FT_UNSUPPORTED for other schemes. */
FT_MUST_CHECK enum ft_status ft_dataset_resolve(const struct ft_dataset *ds, struct ft_bytes uri, char **path,
                                                struct ft_err *err);

/* The sources: add every Document of `data` (or of `text`, already in memory; `name` is for messages). */
FT_MUST_CHECK enum ft_status ft_source_jsonl(struct ft_dataset *ds, const char *name, struct ft_bytes text,
                                             struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_source_csv(struct ft_dataset *ds, const char *name, struct ft_bytes text,
                                           struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_source_docarray(struct ft_dataset *ds, const char *name,
                                                struct ft_bytes bytes, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_source_folder(struct ft_dataset *ds, const char *path, struct ft_err *err);
/* True when the first bytes are those of a docarray file, readable or not. */
bool ft_source_docarray_known(struct ft_bytes bytes);

/* source_set.c: Documents of a dataset of the service. */
struct ft_bytes ft_set_source_id(const struct ft_dataset *ds, size_t i);
FT_MUST_CHECK enum ft_status ft_set_source_read(const struct ft_dataset *ds, size_t i, struct ft_arena *arena,
                                                struct ft_document *doc, struct ft_err *err);
void ft_set_source_close(struct ft_dataset *ds);

/* For fuzzing and tests: a dataset from text in memory as `kind` "jsonl", "csv" or "docarray". */
FT_MUST_CHECK enum ft_status ft_dataset_open_memory(const char *kind, struct ft_bytes text, bool need_labels,
                                                    struct ft_dataset **dataset, struct ft_err *err);
#endif
