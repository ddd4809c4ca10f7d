/*
 * docarray_v1.h - docarray v1 Documents (docarray 0.13 .. 0.21) as bytes: read, splice an embedding in,
 * write.
 *
 * Nothing is copied and nothing recurses: a scanned Document borrows from the message, which must outlive it
 * (only the text of a numeric label is made, in an arena). Fields may come in any order and more than once,
 * as protobuf's rules say: the last one wins, sub-messages merge. Fields and wire types we do not know are
 * passed over. Thread-safety: pure functions on caller-owned structs.
 */
#ifndef FT_WIRE_DOCARRAY_V1_H
#define FT_WIRE_DOCARRAY_V1_H

#include "executor/base/arena.h"
#include "executor/codec/pb.h"
#include "executor/wire/document.h"

/* Scan one DocumentProto. *doc borrows from `message` (doc->raw) and `arena`. Content is blob, tensor or
 * text, else the uri; empty blobs and texts do not count. tags.finetuner_label counts when it is non-empty
 * text or a finite number: anything else leaves has_label false. FT_CORRUPT: not a protobuf message;
 * FT_INVALID: a tensor whose shape, dtype and buffer disagree, text that is not UTF-8; FT_UNSUPPORTED: sparse
 * tensors, big-endian or unknown dtypes; FT_LIMIT. */
FT_MUST_CHECK enum ft_status ft_docarray_v1_scan(struct ft_bytes message, struct ft_arena *arena,
                                                 struct ft_document *doc, struct ft_err *err);

/* The next Document's bytes of a DocumentArrayProto opened with ft_pb_open(); *more = false at the end. */
FT_MUST_CHECK enum ft_status ft_docarray_v1_next(struct ft_pb_cursor *docs, struct ft_bytes *message,
                                                 bool *more, struct ft_err *err);

/* Append `message` without its field 16 and with a new embedding: dense <f4 of shape (dim), cls_name numpy.
 * Every other byte stays as it was. (Appending a second field 16 would merge with the first.) `embedding` is
 * native floats. */
FT_MUST_CHECK enum ft_status ft_docarray_v1_splice(struct ft_bytes message, const float *embedding,
                                                   size_t dim, struct ft_buf *out, struct ft_err *err);
/* Size of what ft_docarray_v1_splice() appends: for the length in front of it. */
FT_MUST_CHECK enum ft_status ft_docarray_v1_splice_size(struct ft_bytes message, size_t dim, size_t *size,
                                                        struct ft_err *err);

/* Append a DocumentProto made from id, label and content (raw is not looked at). */
FT_MUST_CHECK enum ft_status ft_docarray_v1_write(const struct ft_document *doc, struct ft_buf *out,
                                                  struct ft_err *err);

/* Which docarray wrote a Document: jina/SPEC.md 3.8. An empty message fits both. */
enum ft_docarray_flavour { FT_DOCARRAY_UNDECIDED, FT_DOCARRAY_V1, FT_DOCARRAY_V2 };
enum ft_docarray_flavour ft_docarray_sniff(struct ft_bytes message);
/* FT_UNSUPPORTED when the Document is docarray v2's. */
FT_MUST_CHECK enum ft_status ft_docarray_require_v1(struct ft_bytes message, struct ft_err *err);

/* A number as label text: the shortest that reads back equal, integers without a point ("3", "0.5", "1e+30").
 */
enum { FT_LABEL_NUMBER_TEXT = 32 };
void ft_label_number_text(double number, char out[FT_LABEL_NUMBER_TEXT]); /* finite */
/* Bytes of one element of a NumPy dtype.str we read ("<f4", "|u1", ...); 0: not one of them. */
size_t ft_tensor_dtype_size(const char *dtype);
#endif
