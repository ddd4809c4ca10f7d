/* links: ft_codec ft_base */
#include "executor/codec/pb.h"

#include <math.h>

#include "executor/base/clock.h"
#include "executor/base/limits.h"
#include "tests/support.h"

#define BYTES(text) ft_bytes_of(text, sizeof(text) - 1)

/* Examples of the encoding's own description (protobuf.dev, "Encoding"). */
static void the_descriptions_examples_are_read(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_pb_field field;
    bool more = false;
    struct ft_pb_cursor c = ft_pb_open(BYTES("\x08\x96\x01\x12\x07testing\x32\x06\x03\x8e\x02\x9e\xa7\x05"));
    ASSERT_OK(ft_pb_next(&c, &field, &more, &err));
    assert_true(more && field.number == 1 && field.wire == FT_PB_VARINT && field.varint == 150);
    assert_true(ft_bytes_equal(field.raw, BYTES("\x08\x96\x01")));
    ASSERT_OK(ft_pb_next(&c, &field, &more, &err));
    assert_true(more && field.number == 2 && field.wire == FT_PB_BYTES &&
                ft_bytes_is(field.bytes, "testing"));
    assert_true(ft_bytes_equal(field.raw, BYTES("\x12\x07testing")));
    ASSERT_OK(ft_pb_next(&c, &field, &more, &err));
    int64_t *values = NULL;
    size_t count = 0;
    size_t capacity = 0;
    ASSERT_OK(ft_pb_append_int64(&field, &values, &count, &capacity, &err));
    assert_int_equal(count, 3);
    assert_true(values[0] == 3 && values[1] == 270 && values[2] == 86942);
    ft_free(values);
    ASSERT_OK(ft_pb_next(&c, &field, &more, &err));
    assert_false(more);
    ASSERT_OK(ft_pb_next(&c, &field, &more, &err));
    assert_false(more);
}

struct tensor {
    int64_t *dims, *int64s;
    float *floats;
    double *doubles;
    size_t n[4], capacity[4];
    int64_t type;
    struct ft_bytes name, raw;
};

static enum ft_status take_field(struct tensor *t, const struct ft_pb_field *field, struct ft_err *err)
{
    switch (field->number) {
    case 1:
        return ft_pb_append_int64(field, &t->dims, &t->n[0], &t->capacity[0], err);
    case 2:
        return ft_pb_int64(field, &t->type, err);
    case 4:
        return ft_pb_append_float(field, &t->floats, &t->n[1], &t->capacity[1], err);
    case 7:
        return ft_pb_append_int64(field, &t->int64s, &t->n[2], &t->capacity[2], err);
    case 8:
        return ft_pb_bytes(field, &t->name, err);
    case 9:
        return ft_pb_bytes(field, &t->raw, err);
    case 10:
        return ft_pb_append_double(field, &t->doubles, &t->n[3], &t->capacity[3], err);
    default:
        return FT_FAIL(err, INTERNAL, "unexpected field %u", field->number);
    }
}

static void tensor_release(struct tensor *t)
{
    ft_free(t->dims);
    ft_free(t->int64s);
    ft_free(t->floats);
    ft_free(t->doubles);
    *t = (struct tensor){0};
}

static enum ft_status read_tensor(struct ft_bytes bytes, struct tensor *t, struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(bytes);
    for (;;) {
        struct ft_pb_field field;
        bool more = false;
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &field, &more, err));
        if (!more) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(take_field(t, &field, err));
    }
}

/* The same bytes as onnx's generated code writes: dims unpacked, data packed. */
static enum ft_status write_tensor(const struct tensor *t, struct ft_buf *out, struct ft_err *err)
{
    for (size_t i = 0; i < t->n[0]; i++) {
        FT_RETURN_IF_FAILED(ft_pb_put_varint(out, 1, (uint64_t)t->dims[i], err));
    }
    FT_RETURN_IF_FAILED(ft_pb_put_varint(out, 2, (uint64_t)t->type, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, 4, t->n[1] * 4, err));
    FT_RETURN_IF_FAILED(ft_buf_append(out, t->floats, t->n[1] * 4, err));
    FT_RETURN_IF_FAILED(ft_pb_put_packed(out, 7, t->int64s, t->n[2], err));
    FT_RETURN_IF_FAILED(ft_pb_put_packed(out, 7, t->int64s, 0, err));
    FT_RETURN_IF_FAILED(ft_pb_put_text(out, 8, "weight", err));
    FT_RETURN_IF_FAILED(ft_pb_put_bytes(out, 9, t->raw, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, 10, t->n[3] * 8, err));
    return ft_buf_append(out, t->doubles, t->n[3] * 8, err);
}

static enum ft_status round_trip(void *arg, struct ft_err *err)
{
    const struct ft_buf *file = arg;
    struct tensor t = {0};
    struct ft_buf out = {0};
    enum ft_status st = FT_OK;
    FT_TRY(read_tensor(ft_buf_bytes(file), &t, err));
    FT_TRY(write_tensor(&t, &out, err));
    assert_true(t.n[0] == 3 && t.dims[0] == 2 && t.dims[1] == 3 && t.dims[2] == -1);
    assert_true(t.type == 1 && ft_bytes_is(t.name, "weight") && t.raw.size == 5 && t.raw.data[4] == 4);
    assert_true(t.n[1] == 3 && t.floats[0] == 0.5F && t.floats[1] == -1.25F && t.floats[2] == 3e38F);
    assert_true(t.n[2] == 3 && t.int64s[0] == 1 && t.int64s[1] == -1 && t.int64s[2] == (int64_t)1 << 62);
    assert_true(t.n[3] == 2 && t.doubles[0] == 0.1 && t.doubles[1] == -2.5);
    assert_true(ft_bytes_equal(ft_buf_bytes(&out), ft_buf_bytes(file)));
done:
    tensor_release(&t);
    ft_buf_release(&out);
    return st;
}

static void onnxs_tensor_is_read_and_written_alike(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/tensor.pb");
    fail_each_allocation(round_trip, &file);
    ft_buf_release(&file);
}

static void every_truncation_is_corrupt_or_a_shorter_message(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/tensor.pb");
    size_t broken = 0;
    for (size_t n = 0; n < file.size; n++) {
        struct ft_err err = {0};
        struct tensor t = {0};
        uint8_t *copy = ft_alloc(n); /* so that a sanitizer sees a read beyond */
        memcpy(copy, file.data, n);
        enum ft_status st = read_tensor(ft_bytes_of(copy, n), &t, &err);
        assert_true(st == FT_OK || st == FT_CORRUPT);
        broken += st == FT_CORRUPT;
        tensor_release(&t);
        ft_free(copy);
    }
    assert_true(broken > file.size / 2);
    ft_buf_release(&file);
}

static enum ft_status first(struct ft_bytes message, struct ft_pb_field *field)
{
    struct ft_err err = {0};
    struct ft_pb_cursor c = ft_pb_open(message);
    bool more = false;
    enum ft_status st = ft_pb_next(&c, field, &more, &err);
    assert_true(st == FT_OK ? more : !more && err.text[0] != '\0');
    return st;
}

static void broken_fields_are_corrupt(void **state)
{
    (void)state;
    struct ft_pb_field f;
    assert_int_equal(first(BYTES("\x00\x01"), &f), FT_CORRUPT); /* number 0 */
    assert_int_equal(first(BYTES("\x0b\x0c"), &f), FT_CORRUPT); /* group */
    assert_int_equal(first(BYTES("\x0c"), &f), FT_CORRUPT);     /* end of group */
    assert_int_equal(first(BYTES("\x0e"), &f), FT_CORRUPT);     /* wire type 6 */
    assert_int_equal(first(BYTES("\x0f"), &f), FT_CORRUPT);     /* wire type 7 */
    assert_int_equal(first(BYTES("\x08"), &f), FT_CORRUPT);     /* no value */
    assert_int_equal(first(BYTES("\x88"), &f), FT_CORRUPT);     /* tag cut off */
    assert_int_equal(first(BYTES("\x0a\x05"
                                 "abcd"),
                           &f),
                     FT_CORRUPT);                                       /* too short */
    assert_int_equal(first(BYTES("\x0d\x01\x02\x03"), &f), FT_CORRUPT); /* too short */
    assert_int_equal(first(BYTES("\x09\x01\x02\x03\x04\x05\x06\x07"), &f), FT_CORRUPT);
    assert_int_equal(first(BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &f), FT_CORRUPT);
    assert_int_equal(first(BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &f), FT_CORRUPT);
    assert_int_equal(first(BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &f), FT_OK);
    assert_true(f.varint == UINT64_MAX);
    assert_int_equal(first(BYTES("\x0a\x00"), &f), FT_OK);
    assert_int_equal(f.bytes.size, 0);
}

static void views_refuse_another_wire_type(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_pb_field varint;
    struct ft_pb_field f32;
    struct ft_pb_field f64;
    struct ft_pb_field text;
    assert_int_equal(first(BYTES("\x38\x05"), &varint), FT_OK);
    assert_int_equal(first(BYTES("\x3d\x00\x00\x80\xbf"), &f32), FT_OK);
    assert_int_equal(first(BYTES("\x39\x00\x00\x00\x00\x00\x00\xf8\x3f"), &f64), FT_OK);
    assert_int_equal(first(BYTES("\x3a\x01x"), &text), FT_OK);
    int64_t i = 9;
    float f = 9;
    double d = 9;
    struct ft_bytes b = {0};
    ASSERT_OK(ft_pb_int64(&varint, &i, &err));
    ASSERT_OK(ft_pb_float(&f32, &f, &err));
    ASSERT_OK(ft_pb_double(&f64, &d, &err));
    ASSERT_OK(ft_pb_bytes(&text, &b, &err));
    assert_true(i == 5 && f == -1.0F && d == 1.5 && ft_bytes_is(b, "x"));
    assert_int_equal(ft_pb_int64(&text, &i, &err), FT_CORRUPT);
    assert_non_null(strstr(err.text, "field 7"));
    assert_int_equal(ft_pb_float(&f64, &f, &err), FT_CORRUPT);
    assert_int_equal(ft_pb_double(&f32, &d, &err), FT_CORRUPT);
    assert_int_equal(ft_pb_bytes(&varint, &b, &err), FT_CORRUPT);
    assert_true(i == 0 && f == 0.0F && d == 0.0 && b.data == NULL);
    float *floats = NULL;
    double *doubles = NULL;
    int64_t *ints = NULL;
    size_t count = 0;
    size_t capacity = 0;
    assert_int_equal(ft_pb_append_float(&text, &floats, &count, &capacity, &err), FT_CORRUPT); /* 1 byte */
    assert_int_equal(ft_pb_append_float(&varint, &floats, &count, &capacity, &err), FT_CORRUPT);
    assert_int_equal(ft_pb_append_double(&f32, &doubles, &count, &capacity, &err), FT_CORRUPT);
    assert_int_equal(ft_pb_append_int64(&f32, &ints, &count, &capacity, &err), FT_CORRUPT);
    assert_int_equal(first(BYTES("\x3a\x02\x01\x80"), &text), FT_OK);
    assert_int_equal(ft_pb_append_int64(&text, &ints, &count, &capacity, &err), FT_CORRUPT);
    assert_int_equal(count, 0);
    capacity = 0; /* that was the integers' */
    ASSERT_OK(ft_pb_append_float(&f32, &floats, &count, &capacity, &err));
    assert_true(count == 1 && floats[0] == -1.0F);
    ft_free(floats);
    ft_free(ints);
}

/* A message whose field 1 holds a message whose field 1 ... `depth` times. */
static struct ft_buf nest(int depth)
{
    struct ft_err err = {0};
    struct ft_buf inner = {0};
    for (int i = 0; i < depth; i++) {
        struct ft_buf outer = {0};
        ASSERT_OK(ft_pb_put_bytes(&outer, 1, ft_buf_bytes(&inner), &err));
        ft_buf_release(&inner);
        inner = outer;
    }
    return inner;
}

static void depth_is_checked_exactly(void **state)
{
    (void)state;
    struct ft_err err = {0};
    for (int depth = 1; depth <= FT_MAX_NESTING; depth += 7) {
        struct ft_buf at = nest(depth);
        struct ft_buf over = nest(depth + 1);
        ASSERT_OK(ft_pb_check_depth(ft_buf_bytes(&at), depth, &err));
        assert_int_equal(ft_pb_check_depth(ft_buf_bytes(&over), depth, &err), FT_LIMIT);
        ft_buf_release(&at);
        ft_buf_release(&over);
    }
    ASSERT_OK(ft_pb_check_depth(BYTES("\x0a\x05\x0a\xff\xff\xff\xff"), 0, &err)); /* not a message inside */
    ASSERT_OK(ft_pb_check_depth(BYTES(""), 0, &err));
    assert_int_equal(ft_pb_check_depth(BYTES("\x0a\x05"), 5, &err), FT_CORRUPT);
}

static void depth_of_a_hostile_message_is_found_fast(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf deep = nest(20000);
    assert_int_equal(ft_pb_check_depth(ft_buf_bytes(&deep), FT_MAX_NESTING, &err), FT_LIMIT);
    ft_buf_release(&deep);
    /* Many small fields below 60 levels: a scan of everything at every level would take 60 times as long. */
    struct ft_buf wide = {0};
    for (int i = 0; i < 500000; i++) {
        ASSERT_OK(ft_buf_append(&wide, "\x0a\x00", 2, &err));
    }
    for (int i = 0; i < 60; i++) {
        struct ft_buf outer = {0};
        ASSERT_OK(ft_pb_put_bytes(&outer, 1, ft_buf_bytes(&wide), &err));
        ft_buf_release(&wide);
        wide = outer;
    }
    double start = ft_clock_seconds();
    ASSERT_OK(ft_pb_check_depth(ft_buf_bytes(&wide), FT_MAX_NESTING, &err));
    assert_true(ft_clock_seconds() - start <
                5.0); /* some 20 ms; sanitizers and a loaded machine are allowed for */
    ft_buf_release(&wide);
}

static void numbers_are_put_as_the_wire_says(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf out = {0};
    ASSERT_OK(ft_pb_put_varint(&out, 1, 150, &err));
    ASSERT_OK(ft_pb_put_float(&out, 2, -1.0F, &err));
    ASSERT_OK(ft_pb_put_double(&out, 3, 1.5, &err));
    ASSERT_OK(ft_pb_put_text(&out, 16, "hi", &err));
    ASSERT_OK(ft_pb_put_varint(&out, (1U << 29) - 1, UINT64_MAX, &err));
    assert_true(ft_bytes_equal(
        ft_buf_bytes(&out),
        BYTES("\x08\x96\x01\x15\x00\x00\x80\xbf\x19\x00\x00\x00\x00\x00\x00\xf8\x3f\x82\x01\x02hi"
              "\xf8\xff\xff\xff\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")));
    ft_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_descriptions_examples_are_read),
        cmocka_unit_test(onnxs_tensor_is_read_and_written_alike),
        cmocka_unit_test(every_truncation_is_corrupt_or_a_shorter_message),
        cmocka_unit_test(broken_fields_are_corrupt),
        cmocka_unit_test(views_refuse_another_wire_type),
        cmocka_unit_test(depth_is_checked_exactly),
        cmocka_unit_test(depth_of_a_hostile_message_is_found_fast),
        cmocka_unit_test(numbers_are_put_as_the_wire_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
