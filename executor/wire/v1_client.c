/* finetuner.v1 as a client reads and writes it. */
#include <string.h>

#include "executor/wire/v1.h"

enum { BATCH_HEAD = 1, BATCH_DOCUMENTS = 2 };
enum { EMBEDDING = 1, EMBEDDING_VALUES = 2 };
enum { CHUNK_OFFSET = 1, CHUNK_SIZE = 2, CHUNK_SHA256 = 3, CHUNK_DATA = 4 };

/* The next field of that number; *more = false at the end. */
static enum ft_status next_of(struct ft_pb_cursor *cursor, uint32_t number, struct ft_pb_field *f, bool *more,
                              struct ft_err *err)
{
    do {
        FT_RETURN_IF_FAILED(ft_pb_next(cursor, f, more, err));
    } while (*more && f->number != number);
    return FT_OK;
}

/* The last bytes field of that number; empty when there is none. */
static enum ft_status last_bytes(struct ft_bytes message, uint32_t number, struct ft_bytes *out,
                                 struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    *out = (struct ft_bytes){0};
    for (;;) {
        FT_RETURN_IF_FAILED(next_of(&cursor, number, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(ft_pb_bytes(&f, out, err));
    }
}

/* ---- google.rpc */

/* BadRequest {field_violations: {field, description}}: the first one. */
static enum ft_status read_violation(struct ft_bytes request, struct ft_v1_fault *fault, struct ft_err *err)
{
    struct ft_bytes violation;
    struct ft_bytes field;
    FT_RETURN_IF_FAILED(last_bytes(request, 1, &violation, err));
    FT_RETURN_IF_FAILED(last_bytes(violation, 1, &field, err));
    size_t size = field.size < sizeof fault->field ? field.size : sizeof fault->field - 1;
    if (size > 0) {
        memcpy(fault->field, field.data, size);
    }
    fault->field[size] = '\0';
    return FT_OK;
}

/* RetryInfo {retry_delay: Duration {seconds, nanos}} */
static enum ft_status read_retry(struct ft_bytes info, struct ft_v1_fault *fault, struct ft_err *err)
{
    struct ft_bytes delay;
    struct ft_pb_field f;
    bool more = true;
    FT_RETURN_IF_FAILED(last_bytes(info, 1, &delay, err));
    struct ft_pb_cursor cursor = ft_pb_open(delay);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.wire == FT_PB_VARINT && (f.number == 1 || f.number == 2)) {
            fault->retry_seconds += (double)f.varint * (f.number == 1 ? 1 : 1e-9);
        }
    }
}

enum ft_status ft_v1_status_read(struct ft_bytes message, struct ft_v1_fault *fault, struct ft_err *err)
{
    enum { DETAILS = 3, ANY_TYPE = 1, ANY_VALUE = 2 };
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    *fault = (struct ft_v1_fault){{0}, 0};
    for (;;) {
        struct ft_bytes any;
        struct ft_bytes type;
        struct ft_bytes value;
        FT_RETURN_IF_FAILED(next_of(&cursor, DETAILS, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &any, err));
        FT_RETURN_IF_FAILED(last_bytes(any, ANY_TYPE, &type, err));
        FT_RETURN_IF_FAILED(last_bytes(any, ANY_VALUE, &value, err));
        if (ft_bytes_is(type, "type.googleapis.com/google.rpc.BadRequest")) {
            FT_RETURN_IF_FAILED(read_violation(value, fault, err));
        } else if (ft_bytes_is(type, "type.googleapis.com/google.rpc.RetryInfo")) {
            FT_RETURN_IF_FAILED(read_retry(value, fault, err));
        }
    }
}

/* ---- answers */

enum ft_status ft_v1_chunk_read(struct ft_bytes message, struct ft_v1_chunk *chunk, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    struct ft_bytes hash;
    bool more = true;
    *chunk = (struct ft_v1_chunk){0};
    FT_RETURN_IF_FAILED(last_bytes(message, CHUNK_DATA, &chunk->data, err));
    FT_RETURN_IF_FAILED(last_bytes(message, CHUNK_SHA256, &hash, err));
    if (hash.size != sizeof chunk->sha256 - 1) {
        return FT_FAIL(err, CORRUPT, "a chunk's hash has %zu digits", hash.size);
    }
    memcpy(chunk->sha256, hash.data, hash.size);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            break;
        }
        if (f.wire == FT_PB_VARINT && f.number == CHUNK_OFFSET) {
            chunk->offset = f.varint;
        } else if (f.wire == FT_PB_VARINT && f.number == CHUNK_SIZE) {
            chunk->size = f.varint;
        }
    }
    if (chunk->offset > chunk->size || chunk->data.size > chunk->size - chunk->offset) {
        return FT_FAIL(err, CORRUPT, "a chunk reaches beyond the end of what it is a part of");
    }
    return FT_OK;
}

enum ft_status ft_v1_embeddings_dim(struct ft_bytes message, size_t *dim, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    struct ft_bytes values;
    bool more = true;
    FT_RETURN_IF_FAILED(next_of(&cursor, EMBEDDING, &f, &more, err));
    if (!more || f.wire != FT_PB_BYTES) {
        return FT_FAIL(err, CORRUPT, "an answer without embeddings");
    }
    FT_RETURN_IF_FAILED(last_bytes(f.bytes, EMBEDDING_VALUES, &values, err));
    *dim = values.size / sizeof(float);
    return *dim > 0 ? FT_OK : FT_FAIL(err, CORRUPT, "an embedding without numbers");
}

enum ft_status ft_v1_embeddings_read(struct ft_bytes message, size_t count, size_t dim, float *rows,
                                     struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    for (size_t i = 0;; i++) {
        struct ft_bytes embedding;
        struct ft_bytes values;
        FT_RETURN_IF_FAILED(next_of(&cursor, EMBEDDING, &f, &more, err));
        if (!more) {
            return i == count ? FT_OK : FT_FAIL(err, CORRUPT, "%zu embeddings for %zu documents", i, count);
        }
        FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &embedding, err));
        FT_RETURN_IF_FAILED(last_bytes(embedding, EMBEDDING_VALUES, &values, err));
        if (i >= count || values.size != dim * sizeof *rows) {
            return FT_FAIL(err, CORRUPT, "embedding %zu of %zu has %zu numbers, not %zu", i, count,
                           values.size / sizeof *rows, dim);
        }
        memcpy(rows + i * dim, values.data, values.size);
    }
}

/* ---- requests */

enum ft_status ft_v1_batch_head(const char *name, struct ft_buf *out, struct ft_err *err)
{
    return name[0] != '\0' ? ft_pb_put_text(out, BATCH_HEAD, name, err) : FT_OK;
}

enum ft_status ft_v1_batch_add(const struct ft_document *doc, struct ft_buf *scratch, struct ft_buf *out,
                               struct ft_err *err)
{
    scratch->size = 0;
    FT_RETURN_IF_FAILED(ft_v1_document_write(doc, scratch, err));
    return ft_pb_put_bytes(out, BATCH_DOCUMENTS, ft_buf_bytes(scratch), err);
}
