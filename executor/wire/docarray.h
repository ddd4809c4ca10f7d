/*
 * docarray.h - a Document of either docarray as bytes: which one wrote it, what it holds, an embedding put
 * in.
 *
 * Both docarrays call their messages docarray.*, so the bytes alone tell (jina/SPEC.md 3.8). Nothing is
 * copied and nothing recurses: a scanned Document borrows from the message, which must outlive it (only the
 * text of a numeric label is made, in an arena). Thread-safety: pure functions on caller-owned structs.
 */
#ifndef FT_WIRE_DOCARRAY_H
#define FT_WIRE_DOCARRAY_H

#include "executor/base/arena.h"
#include "executor/codec/pb.h"
#include "executor/wire/document.h"

/* v1: docarray 0.13 .. 0.21, DocumentProto. v2: docarray from 0.30 on, DocProto. An empty message fits both.
 */
enum ft_docarray_flavour { FT_DOCARRAY_UNDECIDED, FT_DOCARRAY_V1, FT_DOCARRAY_V2 };
enum ft_docarray_flavour ft_docarray_sniff(struct ft_bytes message);

/* Scan one Document of that flavour; UNDECIDED sniffs first. What is read and refused: docarray_v1.h,
 * docarray_v2.h. */
FT_MUST_CHECK enum ft_status ft_docarray_scan(struct ft_bytes message, enum ft_docarray_flavour flavour,
                                              struct ft_arena *arena, struct ft_document *doc,
                                              struct ft_err *err);

/* The next Document's bytes of a DocumentArrayProto or DocListProto opened with ft_pb_open(); *more = false
 * at the end. */
FT_MUST_CHECK enum ft_status ft_docarray_next(struct ft_pb_cursor *docs, struct ft_bytes *message, bool *more,
                                              struct ft_err *err);

/* Append `message` with a new embedding of `dim` native floats instead of any it had; every other byte stays.
 * UNDECIDED counts as v1. */
FT_MUST_CHECK enum ft_status ft_docarray_splice(struct ft_bytes message, enum ft_docarray_flavour flavour,
                                                const float *embedding, size_t dim, struct ft_buf *out,
                                                struct ft_err *err);
/* Size of what ft_docarray_splice() appends: for the length in front of it. */
FT_MUST_CHECK enum ft_status ft_docarray_splice_size(struct ft_bytes message,
                                                     enum ft_docarray_flavour flavour, size_t dim,
                                                     size_t *size, struct ft_err *err);

/* A number as label text: the shortest that reads back equal, integers without a point ("3", "0.5", "1e+30").
 */
enum { FT_LABEL_NUMBER_TEXT = 32 };
void ft_label_number_text(double number, char out[FT_LABEL_NUMBER_TEXT]); /* finite */
/* Bytes of one element of a NumPy dtype.str we read ("<f4", "|u1", ...); 0: not one of them. */
size_t ft_tensor_dtype_size(const char *dtype);
#endif
