/*
 * docarray_v2.h - docarray v2 Documents (docarray from 0.30 on) as bytes: read, and written with a blob.
 *
 * A DocProto is a map from the names of a class's fields to values, and any class may come. These names are
 * read: `id`; `text`, `tensor`, `blob`, `bytes_`, `url`, `uri` (content); `finetuner_label` and `tags`
 * (label). Everything else, nested documents, lists and dicts included, is passed over without a look inside.
 * Of entries with one key the last wins, as maps do. docarray.h has what holds for both flavours.
 */
#ifndef FT_WIRE_DOCARRAY_V2_H
#define FT_WIRE_DOCARRAY_V2_H

#include "executor/codec/json.h"
#include "executor/wire/docarray.h"

/* Scan one DocProto. *doc borrows from `message` (doc->raw) and `arena`. Content is the first that is not
 * empty of text, tensor, blob, bytes_, url, uri: in docarray's own classes bytes_ is what text or tensor were
 * loaded from, and url where from. The label is the field finetuner_label, else that entry of the dict
 * `tags`: non-empty text or a finite number, anything else leaves has_label false. FT_CORRUPT: not a protobuf
 * message; FT_INVALID: a tensor whose shape, dtype and buffer disagree, text that is not UTF-8;
 * FT_UNSUPPORTED: big-endian or unknown dtypes (there are no sparse tensors in v2); FT_LIMIT. */
FT_MUST_CHECK enum ft_status ft_docarray_v2_scan(struct ft_bytes message, struct ft_arena *arena,
                                                 struct ft_document *doc, struct ft_err *err);

/* Append a DocProto {id, blob, tags}; `tags` is an object of texts and numbers. */
FT_MUST_CHECK enum ft_status ft_docarray_v2_blob(const char *id, struct ft_bytes blob,
                                                 const struct ft_json *tags, struct ft_buf *out,
                                                 struct ft_err *err);
#endif
