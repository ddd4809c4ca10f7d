/*
 * internal.h - what both docarrays have in common on the wire: tensors, labels, embeddings.
 */
#ifndef FT_WIRE_INTERNAL_H
#define FT_WIRE_INTERNAL_H

#include "executor/wire/docarray.h"

/* Field numbers: jina/SPEC.md 1.2, 1.3. */
enum { FT_ND_DENSE = 1, FT_ND_SPARSE = 2 };
enum { FT_DENSE_BUFFER = 1, FT_DENSE_SHAPE = 2, FT_DENSE_DTYPE = 3 };
enum { FT_ENTRY_KEY = 1, FT_ENTRY_VALUE = 2 };

#define FT_LABEL_KEY "finetuner_label"

/* A dense NdArrayProto as far as it was read; several occurrences merge into it. */
struct ft_wire_tensor {
    bool sparse;
    struct ft_bytes buffer;
    struct ft_bytes dtype;
    int rank;
    int64_t dims[FT_MAX_RANK];
};
/* One NdArrayProto more. Only v1 has sparse ones; there field 2 is the tensor's parameters in v2. */
FT_MUST_CHECK enum ft_status ft_wire_tensor_scan(struct ft_bytes message, bool v1, struct ft_wire_tensor *t,
                                                 struct ft_err *err);
/* The content it makes: refused when sparse, empty, of an unknown dtype or of another size than its shape. */
FT_MUST_CHECK enum ft_status ft_wire_tensor_finish(const struct ft_wire_tensor *t, struct ft_content *content,
                                                   struct ft_err *err);

/* The key of a map entry; the last one counts, empty when there is none. */
FT_MUST_CHECK enum ft_status ft_wire_entry_key(struct ft_bytes entry, struct ft_bytes *key,
                                               struct ft_err *err);

/* A label found: text must be UTF-8 without NUL and not too long, empty text is none; a number that is not
 * finite is none. What was there before is gone in every case. */
void ft_wire_label_none(struct ft_document *doc);
FT_MUST_CHECK enum ft_status ft_wire_label_text(struct ft_document *doc, struct ft_bytes text,
                                                struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_wire_label_number(struct ft_document *doc, double number,
                                                  struct ft_arena *arena, struct ft_err *err);

/* id and text of a scanned Document: lengths and UTF-8. */
FT_MUST_CHECK enum ft_status ft_wire_check(const struct ft_document *doc, struct ft_err *err);
/* FT_LIMIT for a message larger than a Document may be. */
FT_MUST_CHECK enum ft_status ft_wire_check_size(struct ft_bytes message, struct ft_err *err);

size_t ft_wire_varint_size(uint64_t v);
size_t ft_wire_with_head(size_t size); /* of so many bytes behind a tag of one byte and their length */
/* An embedding's DenseNdArrayProto {buffer, shape (dim), dtype <f4}: its size, itself without a head. */
FT_MUST_CHECK enum ft_status ft_wire_dense_size(size_t dim, size_t *size, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_wire_put_dense(const float *embedding, size_t dim, struct ft_buf *out,
                                               struct ft_err *err);

/* Append `message` without the top-level fields for which `drop` says true, or only count when out is NULL.
 */
typedef bool (*ft_wire_drop)(const struct ft_pb_field *field);
FT_MUST_CHECK enum ft_status ft_wire_copy_without(struct ft_bytes message, ft_wire_drop drop,
                                                  struct ft_buf *out, size_t *kept, struct ft_err *err);
/* How a flavour holds an embedding; sizes are of the whole field, with tag and length. */
struct ft_wire_embedding {
    ft_wire_drop is_old;
    enum ft_status (*size)(size_t dim, size_t *size, struct ft_err *err);
    enum ft_status (*put)(const float *embedding, size_t dim, struct ft_buf *out, struct ft_err *err);
};
/* v1: field 16, dense <f4 of shape (dim), cls_name numpy. (A second field 16 would merge with the first.) */
extern const struct ft_wire_embedding ft_docarray_v1_embedding;
/* v2: the entry `embedding`, dense <f4 of shape (dim), of the type ndarray_embedding, which every class's
 * tensor fields take. */
extern const struct ft_wire_embedding ft_docarray_v2_embedding;
#endif
