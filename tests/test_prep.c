/* Preprocessing: options, tensors, errors and memory. Pixels against Pillow:
 * tests/oracle/test_prep_oracle.py. */
/* links: ft_prep ft_codec ft_base */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/codec/image.h"
#include "executor/prep/batch.h"
#include "executor/prep/prep.h"

static struct ft_prep inferred(size_t rank, const int64_t *dims)
{
    struct ft_prep prep;
    struct ft_err err = {0};
    assert_int_equal(ft_prep_infer(dims, (int)rank, &prep, &err), FT_OK);
    return prep;
}

static enum ft_status read_options(struct ft_prep *prep, const char *text, struct ft_err *err)
{
    struct ft_json *json = NULL;
    assert_int_equal(ft_json_parse(ft_bytes_of_text(text), &json, err), FT_OK);
    enum ft_status st = ft_prep_read(json, prep, err);
    ft_json_free(json);
    return st;
}

static void with_options(struct ft_prep *prep, const char *text)
{
    struct ft_err err = {0};
    if (read_options(prep, text, &err) != FT_OK) {
        fail_msg("%s: %s", text, err.text);
    }
}

static struct ft_content tensor(const char *dtype, const void *data, size_t size, int rank,
                                const int64_t *dims)
{
    struct ft_content c = {.kind = FT_CONTENT_TENSOR, .bytes = ft_bytes_of(data, size), .rank = rank};
    (void)snprintf(c.dtype, sizeof c.dtype, "%s", dtype);
    memcpy(c.dims, dims, (size_t)rank * sizeof *dims);
    return c;
}

#define DIMS(...)                                                                                            \
    (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                                  \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

/* ---- inference and options ---- */

static void shapes_say_what_the_input_is(void **state)
{
    (void)state;
    struct ft_prep p = inferred(DIMS(3, 224, 160));
    assert_int_equal(p.kind, FT_PREP_IMAGE);
    assert_false(p.channels_last);
    assert_int_equal(p.height, 224);
    assert_int_equal(p.width, 160);
    assert_int_equal(ft_prep_elements(&p), 3 * 224 * 160);
    p = inferred(DIMS(28, 28, 1));
    assert_int_equal(p.kind, FT_PREP_IMAGE);
    assert_true(p.channels_last);
    assert_int_equal(p.channels, 1);
    p = inferred(DIMS(784));
    assert_int_equal(p.kind, FT_PREP_VECTOR);
    assert_int_equal(ft_prep_elements(&p), 784);
    p = inferred(DIMS(8, 8, 8));
    assert_int_equal(p.kind, FT_PREP_VECTOR);
    p = inferred(DIMS(8, 8));
    assert_int_equal(p.kind, FT_PREP_VECTOR);
}

static void unknown_extents_name_the_option_that_gives_them(void **state)
{
    (void)state;
    struct ft_prep p;
    struct ft_err err = {0};
    const int64_t image[] = {3, 0, 0};
    assert_int_equal(ft_prep_infer(image, 3, &p, &err), FT_UNSUPPORTED);
    assert_non_null(strstr(err.text, "\"size\""));
    with_options(&p, "{\"size\": [10, 12]}");
    assert_int_equal(ft_prep_elements(&p), 360);
    assert_int_equal(p.dims[2], 12);
    const int64_t vector[] = {0};
    assert_int_equal(ft_prep_infer(vector, 1, &p, &err), FT_UNSUPPORTED);
    assert_non_null(strstr(err.text, "\"shape\""));
    assert_int_equal(read_options(&p, "{}", &err), FT_INVALID);
    with_options(&p, "{\"shape\": [17]}");
    assert_int_equal(ft_prep_elements(&p), 17);
    const int64_t absurd[] = {3, 4000000000, 4000000000};
    assert_int_equal(ft_prep_infer(absurd, 3, &p, &err), FT_LIMIT);
}

static void bad_options_say_what_is_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        const char *part;
    } cases[] = {
        {"{\"colour\": 1}", "unknown preprocess option \"colour\" of an image; accepted: kind, size"},
        {"{\"kind\": \"sound\"}", "\"image\", \"vector\" or \"text\""},
        {"{\"kind\": \"text\"}", "the model takes no texts"},
        {"{\"resize\": \"big\"}", "\"exact\", \"short\" or \"none\""},
        {"{\"filter\": 3}", "\"bilinear\", \"bicubic\", \"nearest\""},
        {"{\"layout\": \"nchw\"}", "\"chw\" or \"hwc\""},
        {"{\"size\": 0}", "\"size\" must be"},
        {"{\"size\": [1, 2, 3]}", "\"size\" must be"},
        {"{\"size\": 64}", "the model's input is 3 x 32 x 32"},
        {"{\"channels\": 2}", "1 or 3"},
        {"{\"channels\": 1}", "do not agree"},
        {"{\"resize_to\": -1}", "1 to 65536"},
        {"{\"scale\": 0}", "above 0"},
        {"{\"mean\": \"x\"}", "\"mean\" must be"},
        {"{\"mean\": [0.5, 0.5]}", "2 values for 3 channels"},
        {"{\"std\": [1, 0, 1]}", "above 0"},
        {"{\"std\": []}", "\"std\" must be"},
        {"{\"invert\": 1}", "true or false"},
        {"{\"exif\": 0}", "\"exif\" must be true or false"},
        {"{\"max_pixels\": 0}", "\"max_pixels\" must be 1 to 178956970"},
        {"{\"max_pixels\": 178956971}", "\"max_pixels\" must be 1 to 178956970"},
        {"{\"kind\": \"vector\", \"mean\": 0}", "of a vector; accepted: kind, shape"},
        {"{\"kind\": \"vector\", \"shape\": [3, 32]}", "as many as the model's input has"},
        {"{\"kind\": \"vector\", \"shape\": [3, 32, 31]}", "agree with the model's input"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_prep p = inferred(DIMS(3, 32, 32));
        struct ft_prep before = p;
        struct ft_err err = {0};
        assert_int_equal(read_options(&p, cases[i].options, &err), FT_INVALID);
        if (strstr(err.text, cases[i].part) == NULL) {
            fail_msg("%s: %s", cases[i].options, err.text);
        }
        assert_memory_equal(&p, &before, sizeof p);
    }
}

static void options_survive_writing(void **state)
{
    (void)state;
    static const char *const options[] = {
        "{}",
        "{\"resize\": \"short\", \"resize_to\": 40, \"filter\": \"bicubic\", \"invert\": true}",
        "{\"mean\": [0.485, 0.456, 0.406], \"std\": [0.229, 0.224, 0.225], \"scale\": 1}",
        "{\"resize\": \"none\", \"mean\": 0.5, \"std\": 0.5}",
        "{\"kind\": \"vector\"}",
        "{\"exif\": false, \"max_pixels\": 1000}"};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        struct ft_prep p = inferred(DIMS(3, 32, 32));
        struct ft_prep back = p;
        struct ft_err err = {0};
        struct ft_json *json = NULL;
        with_options(&p, options[i]);
        assert_int_equal(ft_prep_write(&p, &json, &err), FT_OK);
        assert_int_equal(ft_prep_read(json, &back, &err), FT_OK);
        ft_json_free(json);
        assert_int_equal(back.kind, p.kind);
        assert_int_equal(back.resize, p.resize);
        assert_int_equal(back.resize_to, p.resize_to);
        assert_int_equal(back.filter, p.filter);
        assert_int_equal(back.invert, p.invert);
        assert_int_equal(back.exif, p.exif);
        assert_int_equal(back.max_pixels, p.max_pixels);
        assert_true(back.scale == p.scale);
        for (int k = 0; k < 3; k++) {
            assert_true(back.mean[k] == p.mean[k] && back.std[k] == p.std[k]);
        }
    }
}

/* An MLP on pixels: its input is a vector, its data are images. */
static void a_vector_input_can_be_fed_images(void **state)
{
    (void)state;
    struct ft_prep p = inferred(DIMS(12));
    struct ft_err err = {0};
    with_options(&p,
                 "{\"kind\": \"image\", \"channels\": 3, \"size\": 2, \"resize\": \"none\", \"scale\": 1}");
    const uint8_t pixels[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    const int64_t dims[] = {2, 2, 3};
    struct ft_content c = tensor("|u1", pixels, 12, 3, dims);
    float row[12];
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_OK);
    assert_true(row[0] == 0.0F && row[1] == 3.0F && row[4] == 1.0F);
    p = inferred(DIMS(12));
    assert_int_equal(read_options(&p, "{\"kind\": \"image\", \"channels\": 1, \"size\": 2}", &err),
                     FT_INVALID);
}

/* ---- tensors ---- */

static void every_dtype_becomes_float(void **state)
{
    (void)state;
    static const struct {
        const char *dtype;
        uint8_t bytes[8];
        size_t size;
        float want;
    } cases[] = {{"<f4", {0, 0, 0x20, 0xc0}, 4, -2.5F},
                 {"<f8", {0, 0, 0, 0, 0, 0, 0xe0, 0x3f}, 8, 0.5F},
                 {"<f2", {0x00, 0x3c}, 2, 1.0F},
                 {"<f2", {0x01, 0x80}, 2, -5.9604644775390625e-8F},
                 {"<f2", {0xff, 0x7b}, 2, 65504.0F},
                 {"|u1", {200}, 1, 200.0F},
                 {"|i1", {200}, 1, -56.0F},
                 {"|b1", {7}, 1, 1.0F},
                 {"<i2", {0xfe, 0xff}, 2, -2.0F},
                 {"<u2", {0xfe, 0xff}, 2, 65534.0F},
                 {"<i4", {0xff, 0xff, 0xff, 0xff}, 4, -1.0F},
                 {"<u4", {0, 0, 0, 0x80}, 4, 2147483648.0F},
                 {"<i8", {0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 8, -3.0F},
                 {"<u8", {0, 0, 0, 0, 0, 0, 0, 0x80}, 8, 9223372036854775808.0F}};
    struct ft_prep p = inferred(DIMS(1));
    struct ft_err err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int64_t one[] = {1};
        struct ft_content c = tensor(cases[i].dtype, cases[i].bytes, cases[i].size, 1, one);
        float value = 0.0F;
        assert_int_equal(ft_prep_item(&p, &c, &value, &err), FT_OK);
        assert_true(value == cases[i].want);
    }
    static const uint8_t nan4[] = {0, 0, 0xc0, 0x7f};
    static const uint8_t inf2[] = {0, 0x7c};
    static const uint8_t big8[] = {0, 0, 0, 0, 0, 0, 0xf0, 0x7e};
    const int64_t one[] = {1};
    float value = 0.0F;
    struct ft_content c = tensor("<f4", nan4, 4, 1, one);
    assert_int_equal(ft_prep_item(&p, &c, &value, &err), FT_INVALID);
    c = tensor("<f2", inf2, 2, 1, one);
    assert_int_equal(ft_prep_item(&p, &c, &value, &err), FT_INVALID);
    c = tensor("<f8", big8, 8, 1, one);
    assert_int_equal(ft_prep_item(&p, &c, &value, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "element 0"));
    c = tensor("<c8", big8, 8, 1, one);
    assert_int_equal(ft_prep_item(&p, &c, &value, &err), FT_UNSUPPORTED);
}

static void vectors_must_fit(void **state)
{
    (void)state;
    struct ft_prep p = inferred(DIMS(4));
    struct ft_err err = {0};
    const float data[6] = {1, 2, 3, 4, 5, 6};
    const int64_t d22[] = {2, 2};
    const int64_t d6[] = {6};
    float row[4];
    struct ft_content c = tensor("<f4", data, 16, 2, d22);
    uint64_t calls = ft_alloc_stats().calls;
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_OK);
    assert_int_equal(ft_alloc_stats().calls, calls); /* nothing is allocated for a vector */
    assert_memory_equal(row, data, 16);
    c = tensor("<f4", data, 24, 1, d6);
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_INVALID);
    assert_string_equal(err.text, "the model wants a tensor of 4 numbers, this is a float32 tensor (6)");
    c = (struct ft_content){.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text("x")};
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "this is text"));
}

/* ---- images ---- */

static void float_images_are_taken_as_they_are(void **state)
{
    (void)state;
    struct ft_prep p = inferred(DIMS(3, 2, 2));
    struct ft_err err = {0};
    with_options(&p, "{\"mean\": 0.5, \"std\": 0.5, \"invert\": true}");
    float data[12];
    float row[12];
    for (int i = 0; i < 12; i++) {
        data[i] = (float)i;
    }
    const int64_t chw[] = {3, 2, 2};
    const int64_t hwc[] = {2, 2, 3};
    struct ft_content c = tensor("<f4", data, sizeof data, 3, chw);
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_OK);
    assert_memory_equal(row, data, sizeof data);
    c = tensor("<f4", data, sizeof data, 3, hwc);
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_OK);
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 4; i++) {
            assert_true(row[k * 4 + i] == data[i * 3 + k]);
        }
    }
    struct ft_prep last = inferred(DIMS(2, 2, 3));
    c = tensor("<f4", data, sizeof data, 3, chw);
    assert_int_equal(ft_prep_item(&last, &c, row, &err), FT_OK);
    assert_true(row[1] == 4.0F && row[3] == 1.0F);
    const int64_t wrong[] = {2, 3, 2};
    c = tensor("<f4", data, sizeof data, 3, wrong);
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "a float32 tensor (2, 3, 2)"));
    struct ft_prep grey = inferred(DIMS(1, 3, 4));
    const int64_t flat[] = {3, 4};
    c = tensor("<f4", data, sizeof data, 2, flat);
    assert_int_equal(ft_prep_item(&grey, &c, row, &err), FT_OK);
    assert_memory_equal(row, data, sizeof data);
}

static void uint8_tensors_are_pixels(void **state)
{
    (void)state;
    struct ft_err err = {0};
    float row[27];
    uint8_t cube[27];
    for (int i = 0; i < 27; i++) {
        cube[i] = (uint8_t)(9 * i);
    }
    const int64_t d333[] = {3, 3, 3};
    struct ft_content c = tensor("|u1", cube, 27, 3, d333);
    struct ft_prep first = inferred(DIMS(3, 3, 3)); /* (3, 3, 3) is read as the model reads it */
    with_options(&first, "{\"scale\": 1}");
    assert_int_equal(ft_prep_item(&first, &c, row, &err), FT_OK);
    for (int i = 0; i < 27; i++) {
        assert_true(row[i] == (float)cube[i]);
    }
    /* Grey to a model of three channels, and three channels to a grey one. */
    const int64_t d93[] = {9, 3};
    c = tensor("|u1", cube, 27, 2, d93);
    struct ft_prep tall = inferred(DIMS(3, 9, 1));
    with_options(&tall, "{\"resize\": \"short\", \"resize_to\": 3, \"scale\": 1}");
    assert_int_equal(ft_prep_item(&tall, &c, row, &err), FT_OK);
    for (int i = 0; i < 27; i++) {
        assert_true(row[i] == (float)cube[i % 9 * 3 + 1]); /* the middle column, three times */
    }
    c = tensor("|u1", cube, 27, 3, d333);
    struct ft_prep grey = inferred(DIMS(1, 3, 3));
    with_options(&grey, "{\"scale\": 1, \"invert\": true}");
    assert_int_equal(ft_prep_item(&grey, &c, row, &err), FT_OK);
    double luma = (cube[0] * 19595.0 + cube[9] * 38470.0 + cube[18] * 7471.0) / 65536.0;
    assert_true(fabs((double)row[0] - (255.0 - luma)) <= 0.5);
    const int64_t odd[] = {27};
    c = tensor("|u1", cube, 27, 1, odd);
    assert_int_equal(ft_prep_item(&grey, &c, row, &err), FT_INVALID);
    c = tensor("<i4", cube, 24, 1, odd);
    assert_int_equal(ft_prep_item(&grey, &c, row, &err), FT_INVALID);
}

static void png_of(int64_t height, int64_t width, struct ft_buf *out)
{
    struct ft_err err = {0};
    static uint8_t pixels[64 * 64 * 3];
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (uint8_t)(i * 37);
    }
    assert_int_equal(ft_png_encode(pixels, height, width, 3, out, &err), FT_OK);
}

static void image_files_are_read_and_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf png = {0};
    float row[3 * 8 * 8];
    png_of(20, 33, &png);
    struct ft_prep p = inferred(DIMS(3, 8, 8));
    struct ft_content c = {.kind = FT_CONTENT_BLOB, .bytes = ft_buf_bytes(&png)};
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_OK);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        assert_true(row[i] >= 0.0F && row[i] <= 1.0F);
    }
    with_options(&p, "{\"resize\": \"none\"}");
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "20 x 33"));
    c.bytes.size = 100;
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_CORRUPT);
    c.bytes = ft_bytes_of_text("no image");
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_UNSUPPORTED);
    c = (struct ft_content){.kind = FT_CONTENT_URI, .bytes = ft_bytes_of_text("a.png")};
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "this is a uri"));
    ft_buf_release(&png);
}

/* One row of pixels resized by its short side would be a bomb: 65536 x 65536 * 60000. */
static void absurd_enlargements_are_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    static uint8_t line[60000];
    const int64_t dims[] = {1, 60000};
    struct ft_content c = tensor("|u1", line, sizeof line, 2, dims);
    struct ft_prep p = inferred(DIMS(1, 8, 8));
    float row[64];
    with_options(&p, "{\"resize\": \"short\", \"resize_to\": 60000}");
    assert_int_equal(ft_prep_item(&p, &c, row, &err), FT_LIMIT);
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    struct ft_buf png = {0};
    png_of(20, 33, &png);
    float row[64];
    struct ft_content c = {.kind = FT_CONTENT_BLOB, .bytes = ft_buf_bytes(&png)};
    bool failed = true;
    uint64_t n = 1;
    for (; failed; n++) {
        struct ft_err err = {0};
        struct ft_json *json = NULL;
        struct ft_prep p = inferred(DIMS(1, 8, 8));
        with_options(&p, "{\"resize\": \"short\", \"resize_to\": 10}");
        size_t before = ft_alloc_stats().live_blocks;
        ft_alloc_fail_at(n);
        enum ft_status st = ft_prep_item(&p, &c, row, &err);
        if (st == FT_OK) {
            st = ft_prep_write(&p, &json, &err);
        }
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        failed = st != FT_OK;
        ft_json_free(json);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
    }
    assert_true(n > 8);
    ft_buf_release(&png);
}

/* ---- batches ---- */

static void batches_hold_their_rows(void **state)
{
    (void)state;
    const struct ft_batch_input inputs[] = {{.name = "a", .row_elements = 5},
                                            {.name = "b", .row_elements = 7}};
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct ft_err err = {0};
        struct ft_batch batch;
        size_t before = ft_alloc_stats().live_blocks;
        ft_alloc_fail_at(n);
        enum ft_status st = ft_batch_init(&batch, inputs, 2, 3, 0, &err);
        ft_alloc_fail_at(0);
        failed = st == FT_NOMEM;
        if (st == FT_OK) {
            assert_int_equal(batch.n_inputs, 2);
            assert_string_equal(batch.input[1].name, "b");
            batch.input[1].data[3 * 7 - 1] = 1.0F;
            assert_int_equal(batch.labels[2], -1);
            assert_int_equal(batch.rows, 0);
        }
        ft_batch_release(&batch);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
    }
    struct ft_err err = {0};
    struct ft_batch batch;
    const struct ft_batch_input huge = {.name = "h", .row_elements = SIZE_MAX / 2};
    assert_int_equal(ft_batch_init(&batch, &huge, 1, 4, 0, &err), FT_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_say_what_the_input_is),
        cmocka_unit_test(unknown_extents_name_the_option_that_gives_them),
        cmocka_unit_test(bad_options_say_what_is_accepted),
        cmocka_unit_test(options_survive_writing),
        cmocka_unit_test(a_vector_input_can_be_fed_images),
        cmocka_unit_test(every_dtype_becomes_float),
        cmocka_unit_test(vectors_must_fit),
        cmocka_unit_test(float_images_are_taken_as_they_are),
        cmocka_unit_test(uint8_tensors_are_pixels),
        cmocka_unit_test(image_files_are_read_and_refused),
        cmocka_unit_test(absurd_enlargements_are_refused),
        cmocka_unit_test(out_of_memory_leaks_nothing),
        cmocka_unit_test(batches_hold_their_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
