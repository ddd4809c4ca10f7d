/* links: ft_codec ft_base */
/* covers: executor/codec/pb.c */
/* Any message: its fields put together again are the message; every view answers; the depth check agrees with
 * a walk. */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"
#include "executor/codec/pb.h"

static void try_views(const struct ft_pb_field *field)
{
    struct ft_err err = {0};
    int64_t integer = 0;
    float single = 0;
    double real = 0;
    struct ft_bytes bytes = {0};
    int64_t *integers = NULL;
    float *singles = NULL;
    double *reals = NULL;
    size_t count[3] = {0};
    size_t capacity[3] = {0};
    int fits = (ft_pb_int64(field, &integer, &err) == FT_OK) + (ft_pb_float(field, &single, &err) == FT_OK) +
               (ft_pb_double(field, &real, &err) == FT_OK) + (ft_pb_bytes(field, &bytes, &err) == FT_OK);
    assert(fits == 1);
    enum ft_status st = ft_pb_append_int64(field, &integers, &count[0], &capacity[0], &err);
    assert(st == FT_OK || st == FT_CORRUPT);
    st = ft_pb_append_float(field, &singles, &count[1], &capacity[1], &err);
    assert(st == FT_OK || st == FT_CORRUPT);
    st = ft_pb_append_double(field, &reals, &count[2], &capacity[2], &err);
    assert(st == FT_OK || st == FT_CORRUPT);
    if (count[0] > 0) {
        struct ft_buf packed = {0};
        int64_t *again = NULL;
        size_t again_count = 0;
        size_t again_capacity = 0;
        struct ft_pb_field read;
        bool more = false;
        st = ft_pb_put_packed(&packed, 1, integers, count[0], &err);
        assert(st == FT_OK);
        struct ft_pb_cursor cursor = ft_pb_open(ft_buf_bytes(&packed));
        st = ft_pb_next(&cursor, &read, &more, &err);
        assert(st == FT_OK && more);
        st = ft_pb_append_int64(&read, &again, &again_count, &again_capacity, &err);
        assert(st == FT_OK && again_count == count[0]);
        assert(memcmp(again, integers, again_count * sizeof *again) == 0);
        ft_free(again);
        ft_buf_release(&packed);
    }
    ft_free(integers);
    ft_free(singles);
    ft_free(reals);
}

static uint32_t bits32(float value)
{
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The field written by ourselves reads back as the same field; its own bytes may be longer (padded varints).
 */
static void write_and_read(const struct ft_pb_field *field)
{
    struct ft_err err = {0};
    struct ft_buf out = {0};
    struct ft_pb_field again;
    bool more = false;
    float single = 0;
    double real = 0;
    enum ft_status st = FT_OK;
    switch (field->wire) {
    case FT_PB_VARINT:
        st = ft_pb_put_varint(&out, field->number, field->varint, &err);
        break;
    case FT_PB_BYTES:
        st = ft_pb_put_bytes(&out, field->number, field->bytes, &err);
        break;
    case FT_PB_FIXED32:
        st = ft_pb_float(field, &single, &err);
        assert(st == FT_OK && bits32(single) == field->varint);
        st = ft_pb_put_float(&out, field->number, single, &err);
        break;
    case FT_PB_FIXED64:
        st = ft_pb_double(field, &real, &err);
        assert(st == FT_OK);
        st = ft_pb_put_double(&out, field->number, real, &err);
        break;
    }
    assert(st == FT_OK && out.size <= field->raw.size);
    struct ft_pb_cursor cursor = ft_pb_open(ft_buf_bytes(&out));
    st = ft_pb_next(&cursor, &again, &more, &err);
    assert(st == FT_OK && more && again.raw.size == out.size);
    assert(again.number == field->number && again.wire == field->wire && again.varint == field->varint);
    assert(ft_bytes_equal(again.bytes, field->bytes));
    ft_buf_release(&out);
}

/* The deepest level that parses as a message; at most one more than the limit is looked at. */
static int depth_of(struct ft_bytes message, int level)
{
    struct ft_err err = {0};
    struct ft_pb_cursor cursor = ft_pb_open(message);
    int deepest = level;
    size_t total = 0;
    for (;;) {
        struct ft_pb_field field;
        bool more = false;
        if (ft_pb_next(&cursor, &field, &more, &err) != FT_OK) {
            assert(err.code == FT_CORRUPT);
            return -1;
        }
        if (!more) {
            break;
        }
        assert(field.raw.data == message.data + total && field.raw.size > 0);
        total += field.raw.size;
        try_views(&field);
        write_and_read(&field);
        if (field.wire == FT_PB_BYTES && level <= FT_MAX_NESTING) {
            int below = depth_of(field.bytes, level + 1);
            deepest = below > deepest ? below : deepest;
        }
    }
    assert(total == message.size);
    return deepest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    int limit = size > 0 ? data[0] % (FT_MAX_NESTING + 1) : FT_MAX_NESTING;
    int depth = depth_of(ft_bytes_of(data, size), 0);
    enum ft_status st = ft_pb_check_depth(ft_bytes_of(data, size), limit, &err);
    if (depth > limit) {
        assert(st == FT_LIMIT);
    } else if (depth >= 0) {
        assert(st == FT_OK);
    } else {
        assert(st == FT_CORRUPT || st == FT_LIMIT);
    }
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
