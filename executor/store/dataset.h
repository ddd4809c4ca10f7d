/*
 * dataset.h - labelled Documents indexed by class, from a file at a shell or from a dataset of the service.
 *
 * Documents are numbered 0 .. count-1 in input order (of the service: by class). Classes are numbered by
 * their label's byte order, so the same Documents in another order have the same classes. Duplicate ids: the
 * last one given wins, in the place of the first. Thread-safety: a const struct ft_dataset may be read by any
 * number of threads (ft_dataset_content too).
 */
#ifndef FT_STORE_DATASET_H
#define FT_STORE_DATASET_H

#include "executor/base/arena.h"
#include "executor/codec/digest.h"
#include "executor/wire/document.h"

struct ft_dataset; /* opaque */

/* DATA of the command line (DESIGN 4), errors name file and line:
 *   .jsonl   one object a line: one of text, uri, blob (base64), tensor (nested numbers); label (text or
 *            number), id.
 *   .csv     content,label; a first row such as text,label or uri,label is a header. Without one (or with
 *            "content"), a cell that names an existing file beside the CSV or below the current folder is an
 *            image, else text.
 *   folder   one folder per class holding .png, .jpg, .jpeg, .webp; hidden names and other files are passed
 * over. Where labels are not needed it may hold images itself. Order: by name. .bin
 * DocumentArray.save_binary() with protocol 'protobuf' or 'protobuf-array', plain or gzip.
 *   -        JSON lines on stdin.
 * Relative uris resolve against the data file's folder; local files must exist. need_labels: a Document
 * without a label is FT_INVALID naming file, line and id. Without it, CSV may have one column and texts may
 * be empty. */
FT_MUST_CHECK enum ft_status ft_dataset_open(const char *data, bool need_labels, struct ft_dataset **dataset,
                                             struct ft_err *err);
/* A dataset folder of the service, or a snapshot of one: what is acknowledged, also while it is written.
 * Documents stay in its mapped files; in memory there are at most 8 bytes a Document and 16 a class. They are
 * numbered class by class, in a class in the order they came, a replaced one where its successor came, so
 * numbers do not depend on which shards were made when. FT_NOT_FOUND; FT_CORRUPT names the file. */
FT_MUST_CHECK enum ft_status ft_dataset_open_set(const char *dir, struct ft_dataset **dataset,
                                                 struct ft_err *err);
/* Pick documents (indices) of another dataset, which is borrowed and must outlive this one; classes keep
 * their numbers. */
FT_MUST_CHECK enum ft_status ft_dataset_subset(const struct ft_dataset *all, const uint32_t *items,
                                               size_t count, struct ft_dataset **dataset, struct ft_err *err);
void ft_dataset_free(struct ft_dataset *dataset); /* NULL is fine */

size_t ft_dataset_count(const struct ft_dataset *dataset);
struct ft_bytes ft_dataset_id(const struct ft_dataset *dataset, size_t i); /* empty: none was given */
/* Not of a dataset of the service: its Documents are read when they are asked for. */
const struct ft_document *ft_dataset_doc(const struct ft_dataset *dataset, size_t i);
/* All of Document i; what is not the dataset's is in `arena`. */
FT_MUST_CHECK enum ft_status ft_dataset_read(const struct ft_dataset *dataset, size_t i,
                                             struct ft_arena *arena, struct ft_document *doc,
                                             struct ft_err *err);
/* "file.jsonl:17", the file's path, the service's folder: for messages. Borrowed. */
const char *ft_dataset_where(const struct ft_dataset *dataset, size_t i);
size_t ft_dataset_classes(const struct ft_dataset *dataset);
const char *ft_dataset_class_name(const struct ft_dataset *dataset, size_t c);
int32_t ft_dataset_class_of(const struct ft_dataset *dataset, size_t i); /* -1: no label */
/* How many Documents class c has; the k-th of them, ascending. */
size_t ft_dataset_class_count(const struct ft_dataset *dataset, size_t c);
uint32_t ft_dataset_class_item(const struct ft_dataset *dataset, size_t c, size_t k);
/* The content, with a `uri` that names a local file read into *own as a blob; http(s) URIs are
 * FT_UNSUPPORTED, and so are all uris of a dataset of the service. Otherwise borrowed from the dataset. *own
 * is zeroed or from an earlier call, is reused, and is released by the caller. Errors begin with
 * ft_dataset_where(). */
FT_MUST_CHECK enum ft_status ft_dataset_content(const struct ft_dataset *dataset, size_t i,
                                                struct ft_buf *own, struct ft_content *content,
                                                struct ft_err *err);
/* SHA-256 over (id or position, label, content) of all documents in order: the model card's dataset digest.
 */
FT_MUST_CHECK enum ft_status ft_dataset_digest(const struct ft_dataset *dataset, char hex[FT_SHA256_HEX],
                                               struct ft_err *err);
#endif
