/*
 * docarray_v1.h - docarray v1 Documents (docarray 0.13 .. 0.21) as bytes: read, write.
 *
 * Fields may come in any order and more than once, as protobuf's rules say: the last one wins, sub-messages
 * merge. Fields and wire types we do not know are passed over. docarray.h has what holds for both flavours.
 */
#ifndef FT_WIRE_DOCARRAY_V1_H
#define FT_WIRE_DOCARRAY_V1_H

#include "executor/wire/docarray.h"

/* Scan one DocumentProto. *doc borrows from `message` (doc->raw) and `arena`. Content is blob, tensor or
 * text, else the uri; empty blobs and texts do not count. tags.finetuner_label counts when it is non-empty
 * text or a finite number: anything else leaves has_label false. FT_CORRUPT: not a protobuf message;
 * FT_INVALID: a tensor whose shape, dtype and buffer disagree, text that is not UTF-8; FT_UNSUPPORTED: sparse
 * tensors, big-endian or unknown dtypes; FT_LIMIT. */
FT_MUST_CHECK enum ft_status ft_docarray_v1_scan(struct ft_bytes message, struct ft_arena *arena,
                                                 struct ft_document *doc, struct ft_err *err);

/* Append a DocumentProto made from id, label and content (raw is not looked at). */
FT_MUST_CHECK enum ft_status ft_docarray_v1_write(const struct ft_document *doc, struct ft_buf *out,
                                                  struct ft_err *err);
#endif
