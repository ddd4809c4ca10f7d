#include "executor/codec/pb.h"

#include <assert.h>
#include <pb_decode.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"

struct ft_pb_cursor ft_pb_open(struct ft_bytes message)
{
    struct ft_pb_cursor c = {.message = message, .at = 0};
    return c;
}

static struct ft_bytes rest_of(const pb_istream_t *stream, struct ft_bytes in)
{
    size_t at = in.size - stream->bytes_left;
    return ft_bytes_of(in.data + at, stream->bytes_left);
}

static bool read_payload(pb_istream_t *stream, struct ft_bytes in, pb_wire_type_t wire,
                         struct ft_pb_field *field)
{
    uint32_t narrow = 0;
    switch (wire) {
    case PB_WT_VARINT:
        field->wire = FT_PB_VARINT;
        return pb_decode_varint(stream, &field->varint);
    case PB_WT_64BIT:
        field->wire = FT_PB_FIXED64;
        return pb_decode_fixed64(stream, &field->varint);
    case PB_WT_32BIT:
        field->wire = FT_PB_FIXED32;
        if (!pb_decode_fixed32(stream, &narrow)) {
            return false;
        }
        field->varint = narrow;
        return true;
    case PB_WT_STRING: {
        uint64_t size = 0;
        field->wire = FT_PB_BYTES;
        if (!pb_decode_varint(stream, &size) || size > stream->bytes_left) {
            return false;
        }
        field->bytes = ft_bytes_of(rest_of(stream, in).data, (size_t)size);
        return pb_read(stream, NULL, (size_t)size);
    }
    case PB_WT_PACKED: /* nanopb's own mark; never on the wire */
    default:
        return false;
    }
}

/* NULL, or what is wrong with the field at the cursor; *more = false at the end. */
static const char *scan_field(struct ft_pb_cursor *cursor, struct ft_pb_field *field, bool *more)
{
    *field = (struct ft_pb_field){0};
    *more = false;
    if (cursor->at >= cursor->message.size) {
        return NULL;
    }
    struct ft_bytes in = ft_bytes_of(cursor->message.data + cursor->at, cursor->message.size - cursor->at);
    pb_istream_t stream = pb_istream_from_buffer(in.data, in.size);
    pb_wire_type_t wire = PB_WT_VARINT;
    bool eof = false;
    if (!pb_decode_tag(&stream, &wire, &field->number, &eof)) {
        return "its tag is cut off or too long";
    }
    if (field->number == 0) {
        return "the field number is 0";
    }
    if (!read_payload(&stream, in, wire, field)) {
        return wire == PB_WT_VARINT || wire == PB_WT_STRING || wire == PB_WT_32BIT || wire == PB_WT_64BIT
                   ? "its value is cut off"
                   : "groups and unknown wire types are not read";
    }
    size_t used = in.size - stream.bytes_left;
    field->raw = ft_bytes_of(in.data, used);
    cursor->at += used;
    *more = true;
    return NULL;
}

enum ft_status ft_pb_next(struct ft_pb_cursor *cursor, struct ft_pb_field *field, bool *more,
                          struct ft_err *err)
{
    const char *wrong = scan_field(cursor, field, more);
    if (wrong != NULL) {
        unsigned number = field->number;
        *field = (struct ft_pb_field){0};
        return FT_FAIL(err, CORRUPT, "protobuf field %u at byte %zu: %s", number, cursor->at, wrong);
    }
    return FT_OK;
}

static enum ft_status wrong_wire(const struct ft_pb_field *field, const char *wanted, struct ft_err *err)
{
    return FT_FAIL(err, CORRUPT, "protobuf field %u has wire type %d where %s is meant", field->number,
                   (int)field->wire, wanted);
}

enum ft_status ft_pb_int64(const struct ft_pb_field *field, int64_t *out, struct ft_err *err)
{
    *out = 0;
    if (field->wire != FT_PB_VARINT) {
        return wrong_wire(field, "an integer", err);
    }
    *out = (int64_t)field->varint;
    return FT_OK;
}

static float float_of(uint32_t bits)
{
    float value = 0.0F;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double double_of(uint64_t bits)
{
    double value = 0.0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum ft_status ft_pb_float(const struct ft_pb_field *field, float *out, struct ft_err *err)
{
    *out = 0.0F;
    if (field->wire != FT_PB_FIXED32) {
        return wrong_wire(field, "a float", err);
    }
    *out = float_of((uint32_t)field->varint);
    return FT_OK;
}

enum ft_status ft_pb_double(const struct ft_pb_field *field, double *out, struct ft_err *err)
{
    *out = 0.0;
    if (field->wire != FT_PB_FIXED64) {
        return wrong_wire(field, "a double", err);
    }
    *out = double_of(field->varint);
    return FT_OK;
}

enum ft_status ft_pb_bytes(const struct ft_pb_field *field, struct ft_bytes *out, struct ft_err *err)
{
    *out = (struct ft_bytes){0};
    if (field->wire != FT_PB_BYTES) {
        return wrong_wire(field, "text, bytes or a message", err);
    }
    *out = field->bytes;
    return FT_OK;
}

/* How many varints end in these bytes: an upper bound good enough to grow once. */
static size_t count_varints(struct ft_bytes packed)
{
    size_t n = 0;
    for (size_t i = 0; i < packed.size; i++) {
        n += packed.data[i] < 0x80 ? 1 : 0;
    }
    return n;
}

enum ft_status ft_pb_append_int64(const struct ft_pb_field *field, int64_t **array, size_t *count,
                                  size_t *capacity, struct ft_err *err)
{
    if (field->wire == FT_PB_VARINT) {
        FT_RETURN_IF_FAILED(ft_grow(array, capacity, *count + 1, sizeof **array, err));
        (*array)[(*count)++] = (int64_t)field->varint;
        return FT_OK;
    }
    if (field->wire != FT_PB_BYTES) {
        return wrong_wire(field, "repeated integers", err);
    }
    FT_RETURN_IF_FAILED(ft_grow(array, capacity, *count + count_varints(field->bytes), sizeof **array, err));
    pb_istream_t stream = pb_istream_from_buffer(field->bytes.data, field->bytes.size);
    size_t n = *count;
    while (stream.bytes_left > 0) {
        uint64_t value = 0;
        if (!pb_decode_varint(&stream, &value)) {
            return FT_FAIL(err, CORRUPT, "protobuf field %u: a packed integer is cut off or too long",
                           field->number);
        }
        assert(n < *capacity);
        (*array)[n++] = (int64_t)value;
    }
    *count = n;
    return FT_OK;
}

/* Room for the values of one field of fixed width; *more is their number, *from their bytes when packed. */
static enum ft_status fixed_values(const struct ft_pb_field *field, enum ft_pb_wire single, size_t width,
                                   size_t *more, struct ft_err *err)
{
    if (field->wire == single) {
        *more = 1;
        return FT_OK;
    }
    if (field->wire != FT_PB_BYTES) {
        return wrong_wire(field, "repeated numbers", err);
    }
    if (field->bytes.size % width != 0) {
        return FT_FAIL(err, CORRUPT, "protobuf field %u: %zu bytes are no whole number of %zu-byte values",
                       field->number, field->bytes.size, width);
    }
    *more = field->bytes.size / width;
    return FT_OK;
}

enum ft_status ft_pb_append_float(const struct ft_pb_field *field, float **array, size_t *count,
                                  size_t *capacity, struct ft_err *err)
{
    size_t more = 0;
    FT_RETURN_IF_FAILED(fixed_values(field, FT_PB_FIXED32, sizeof(float), &more, err));
    FT_RETURN_IF_FAILED(ft_grow(array, capacity, *count + more, sizeof **array, err));
    if (field->wire == FT_PB_FIXED32) {
        (*array)[(*count)++] = float_of((uint32_t)field->varint);
        return FT_OK;
    }
    for (size_t i = 0; i < more; i++) {
        (*array)[*count + i] = float_of(ft_get_u32(field->bytes.data + i * sizeof(float)));
    }
    *count += more;
    return FT_OK;
}

enum ft_status ft_pb_append_double(const struct ft_pb_field *field, double **array, size_t *count,
                                   size_t *capacity, struct ft_err *err)
{
    size_t more = 0;
    FT_RETURN_IF_FAILED(fixed_values(field, FT_PB_FIXED64, sizeof(double), &more, err));
    FT_RETURN_IF_FAILED(ft_grow(array, capacity, *count + more, sizeof **array, err));
    if (field->wire == FT_PB_FIXED64) {
        (*array)[(*count)++] = double_of(field->varint);
        return FT_OK;
    }
    for (size_t i = 0; i < more; i++) {
        (*array)[*count + i] = double_of(ft_get_u64(field->bytes.data + i * sizeof(double)));
    }
    *count += more;
    return FT_OK;
}

static bool is_fields(struct ft_bytes bytes)
{
    struct ft_pb_cursor cursor = ft_pb_open(bytes);
    struct ft_pb_field field;
    bool more = true;
    while (more) {
        if (scan_field(&cursor, &field, &more) != NULL) {
            return false;
        }
    }
    return true;
}

/* Linear: a byte is read as (part of) a field's head or value at exactly one level, once to see whether the
 * level parses and once to walk it. */
enum ft_status ft_pb_check_depth(struct ft_bytes message, int depth, struct ft_err *err)
{
    struct ft_pb_cursor stack[FT_MAX_NESTING + 1];
    assert(depth >= 0 && depth <= FT_MAX_NESTING);
    int level = 0;
    stack[0] = ft_pb_open(message);
    while (level >= 0) {
        struct ft_pb_field field;
        bool more = false;
        FT_RETURN_IF_FAILED(ft_pb_next(&stack[level], &field, &more, err));
        if (!more) {
            level--;
            continue;
        }
        if (field.wire != FT_PB_BYTES || !is_fields(field.bytes)) {
            continue;
        }
        if (level == depth) {
            return FT_FAIL(err, LIMIT, "protobuf message is nested more than %d levels deep", depth);
        }
        stack[++level] = ft_pb_open(field.bytes);
    }
    return FT_OK;
}

enum { VARINT_BYTES = 10 };

static size_t encode_varint(uint8_t out[VARINT_BYTES], uint64_t value)
{
    size_t n = 0;
    while (value >= 0x80) {
        out[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[n++] = (uint8_t)value;
    return n;
}

static size_t encode_tag(uint8_t out[VARINT_BYTES], uint32_t number, enum ft_pb_wire wire)
{
    assert(number > 0 && number < 1U << 29);
    return encode_varint(out, (uint64_t)number << 3 | (uint64_t)wire);
}

enum ft_status ft_pb_put_varint(struct ft_buf *out, uint32_t number, uint64_t value, struct ft_err *err)
{
    uint8_t bytes[2 * VARINT_BYTES];
    size_t n = encode_tag(bytes, number, FT_PB_VARINT);
    n += encode_varint(bytes + n, value);
    return ft_buf_append(out, bytes, n, err);
}

enum ft_status ft_pb_put_float(struct ft_buf *out, uint32_t number, float value, struct ft_err *err)
{
    uint8_t bytes[VARINT_BYTES + 4];
    size_t n = encode_tag(bytes, number, FT_PB_FIXED32);
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    ft_put_u32(bytes + n, bits);
    return ft_buf_append(out, bytes, n + 4, err);
}

enum ft_status ft_pb_put_double(struct ft_buf *out, uint32_t number, double value, struct ft_err *err)
{
    uint8_t bytes[VARINT_BYTES + 8];
    size_t n = encode_tag(bytes, number, FT_PB_FIXED64);
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    ft_put_u64(bytes + n, bits);
    return ft_buf_append(out, bytes, n + 8, err);
}

enum ft_status ft_pb_put_header(struct ft_buf *out, uint32_t number, size_t size, struct ft_err *err)
{
    uint8_t bytes[2 * VARINT_BYTES];
    size_t n = encode_tag(bytes, number, FT_PB_BYTES);
    n += encode_varint(bytes + n, size);
    return ft_buf_append(out, bytes, n, err);
}

enum ft_status ft_pb_put_bytes(struct ft_buf *out, uint32_t number, struct ft_bytes value, struct ft_err *err)
{
    size_t before = out->size;
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, number, value.size, err));
    enum ft_status st = ft_buf_append(out, value.data, value.size, err);
    if (st != FT_OK) {
        out->size = before;
    }
    return st;
}

enum ft_status ft_pb_put_text(struct ft_buf *out, uint32_t number, const char *value, struct ft_err *err)
{
    return ft_pb_put_bytes(out, number, ft_bytes_of_text(value), err);
}

enum ft_status ft_pb_put_packed(struct ft_buf *out, uint32_t number, const int64_t *values, size_t count,
                                struct ft_err *err)
{
    uint8_t bytes[VARINT_BYTES];
    size_t size = 0;
    if (count == 0) {
        return FT_OK;
    }
    for (size_t i = 0; i < count; i++) {
        size += encode_varint(bytes, (uint64_t)values[i]);
    }
    size_t head = 0;
    if (!ft_add_size(size, (size_t)2 * VARINT_BYTES, &head)) {
        return FT_FAIL(err, NOMEM, "%zu packed integers are too many", count);
    }
    FT_RETURN_IF_FAILED(ft_buf_reserve(out, head, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, number, size, err));
    for (size_t i = 0; i < count; i++) {
        FT_RETURN_IF_FAILED(ft_buf_append(out, bytes, encode_varint(bytes, (uint64_t)values[i]), err));
    }
    return FT_OK;
}
