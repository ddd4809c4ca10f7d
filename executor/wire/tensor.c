#include <string.h>

#include "executor/base/alloc.h"
#include "executor/wire/internal.h"

#define DTYPE "<f4" /* of embeddings */

size_t ft_tensor_dtype_size(const char *dtype)
{
    static const struct {
        char text[4];
        size_t size;
    } known[] = {{"<f4", 4}, {"<f8", 8}, {"<f2", 2}, {"|u1", 1}, {"|i1", 1}, {"|b1", 1},
                 {"<i2", 2}, {"<u2", 2}, {"<i4", 4}, {"<u4", 4}, {"<i8", 8}, {"<u8", 8}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(dtype, known[i].text) == 0) {
            return known[i].size;
        }
    }
    return 0;
}

static enum ft_status add_dim(struct ft_wire_tensor *t, uint64_t extent, struct ft_err *err)
{
    if (t->rank == FT_MAX_RANK) {
        return FT_FAIL(err, LIMIT, "a tensor has more than %d dimensions", FT_MAX_RANK);
    }
    t->dims[t->rank++] = (int64_t)(uint32_t)extent; /* uint32 on the wire: protobuf keeps the low bits */
    return FT_OK;
}

/* Packed varints are read without an array, so that a long run of them costs nothing. */
static enum ft_status add_packed_dims(struct ft_wire_tensor *t, struct ft_bytes packed, struct ft_err *err)
{
    size_t at = 0;
    while (at < packed.size) {
        uint64_t value = 0;
        int shift = 0;
        uint8_t byte = 0x80;
        while ((byte & 0x80U) != 0) {
            if (at == packed.size || shift > 63) {
                return FT_FAIL(err, CORRUPT, "a tensor's packed shape is cut off");
            }
            byte = packed.data[at++];
            value |= (uint64_t)(byte & 0x7fU) << shift;
            shift += 7;
        }
        FT_RETURN_IF_FAILED(add_dim(t, value, err));
    }
    return FT_OK;
}

static enum ft_status scan_dense(struct ft_bytes message, struct ft_wire_tensor *t, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == FT_DENSE_BUFFER && f.wire == FT_PB_BYTES) {
            t->buffer = f.bytes;
        } else if (f.number == FT_DENSE_DTYPE && f.wire == FT_PB_BYTES) {
            t->dtype = f.bytes;
        } else if (f.number == FT_DENSE_SHAPE && f.wire == FT_PB_VARINT) {
            FT_RETURN_IF_FAILED(add_dim(t, f.varint, err));
        } else if (f.number == FT_DENSE_SHAPE && f.wire == FT_PB_BYTES) {
            FT_RETURN_IF_FAILED(add_packed_dims(t, f.bytes, err));
        }
    }
}

enum ft_status ft_wire_tensor_scan(struct ft_bytes message, bool v1, struct ft_wire_tensor *t,
                                   struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == FT_ND_DENSE && f.wire == FT_PB_BYTES) {
            if (t->sparse) { /* dense and sparse exclude each other: what came before is gone */
                *t = (struct ft_wire_tensor){0};
            }
            FT_RETURN_IF_FAILED(scan_dense(f.bytes, t, err));
        } else if (v1 && f.number == FT_ND_SPARSE && f.wire == FT_PB_BYTES) {
            *t = (struct ft_wire_tensor){.sparse = true};
        }
    }
}

enum ft_status ft_wire_tensor_finish(const struct ft_wire_tensor *t, struct ft_content *content,
                                     struct ft_err *err)
{
    size_t elements = 1;
    size_t bytes = 0;
    if (t->sparse) {
        return FT_FAIL(err, UNSUPPORTED, "sparse tensors are not read; send a dense one");
    }
    *content = (struct ft_content){.kind = FT_CONTENT_TENSOR, .bytes = t->buffer, .rank = t->rank};
    if (t->dtype.size < sizeof content->dtype) {
        memcpy(content->dtype, t->dtype.data == NULL ? (const uint8_t *)"" : t->dtype.data, t->dtype.size);
    }
    size_t item = ft_tensor_dtype_size(content->dtype);
    if (item == 0) {
        return FT_FAIL(err, UNSUPPORTED,
                       "a tensor of dtype \"%.*s\" is not read; send <f4, <f8, <f2, |u1 or another "
                       "little-endian number",
                       ft_bytes_shown(t->dtype), (const char *)t->dtype.data);
    }
    for (int i = 0; i < t->rank; i++) {
        content->dims[i] = t->dims[i];
        if (!ft_mul_size(elements, (size_t)t->dims[i], &elements)) {
            return FT_FAIL(err, INVALID, "a tensor's shape has more elements than memory");
        }
    }
    if (elements == 0) {
        return FT_FAIL(err, INVALID, "a tensor has no elements");
    }
    if (!ft_mul_size(elements, item, &bytes) || bytes != t->buffer.size) {
        return FT_FAIL(err, INVALID, "a tensor of %zu elements of %s comes with %zu bytes", elements,
                       content->dtype, t->buffer.size);
    }
    return FT_OK;
}

size_t ft_wire_varint_size(uint64_t v)
{
    size_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

size_t ft_wire_with_head(size_t size)
{
    return 1 + ft_wire_varint_size(size) + size;
}

enum ft_status ft_wire_dense_size(size_t dim, size_t *size, struct ft_err *err)
{
    *size = 0;
    if (dim == 0 || dim > FT_MAX_DOC_BYTES / sizeof(float)) {
        return FT_FAIL(err, LIMIT, "an embedding of %zu numbers does not fit a Document", dim);
    }
    *size = ft_wire_with_head(dim * sizeof(float)) + ft_wire_with_head(ft_wire_varint_size(dim)) +
            ft_wire_with_head(sizeof DTYPE - 1);
    return FT_OK;
}

enum ft_status ft_wire_put_dense(const float *embedding, size_t dim, struct ft_buf *out, struct ft_err *err)
{
    int64_t shape = (int64_t)dim;
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "floats are written as they lie in memory"
#endif
    FT_RETURN_IF_FAILED(
        ft_pb_put_bytes(out, FT_DENSE_BUFFER, ft_bytes_of(embedding, dim * sizeof(float)), err));
    FT_RETURN_IF_FAILED(ft_pb_put_packed(out, FT_DENSE_SHAPE, &shape, 1, err));
    return ft_pb_put_text(out, FT_DENSE_DTYPE, DTYPE, err);
}
