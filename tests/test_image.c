/* links: ft_codec ft_base */
#include "executor/codec/image.h"

#include <stdlib.h>
#include <unistd.h>

#include "executor/base/limits.h"
#include "tests/support.h"

static struct ft_dir_list images(void)
{
    struct ft_err err = {0};
    struct ft_dir_list list = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(FT_TEST_DATA, "codec", &path, &err));
    ASSERT_OK(ft_dir_list(path, &list, &err));
    ft_free(path);
    return list;
}

static struct ft_buf load(const char *name, const char *suffix)
{
    char path[256];
    (void)snprintf(path, sizeof path, "codec/%s%s", name, suffix);
    return golden(path);
}

/* Golden pixels are upright. `tolerance` of 0 for PNG and WebP; 1 for JPEG, whose inverse DCT and colour
 * tables may round otherwise in another version. */
static void expect_pillows_pixels(const char *name, int tolerance)
{
    struct ft_err err = {0};
    struct ft_image image = {0};
    struct ft_buf file = load(name, "");
    struct ft_buf want = load(name, ".ppm");
    char head[64];
    assert_true(ft_image_known(ft_buf_bytes(&file)));
    if (ft_image_decode(ft_buf_bytes(&file), 1 << 20, &image, &err) != FT_OK) {
        fail_msg("%s: %s", name, err.text);
    }
    bool told = strncmp(name, "exif_", 5) == 0;
    assert_int_equal(image.orientation, told ? name[5] - '0' : 1);
    ASSERT_OK(ft_image_upright(&image, &err));
    assert_int_equal(image.orientation, 1);
    int n = snprintf(head, sizeof head, "P6\n%d %d\n255\n", (int)image.width, (int)image.height);
    assert_memory_equal(want.data, head, (size_t)n);
    size_t bytes = (size_t)(image.width * image.height * 3);
    assert_int_equal(want.size, (size_t)n + bytes);
    for (size_t i = 0; i < bytes; i++) {
        int got = image.pixels[i];
        int pillow = want.data[(size_t)n + i];
        if (abs(got - pillow) > tolerance) {
            fail_msg("%s: byte %zu is %d, Pillow says %d", name, i, got, pillow);
        }
    }
    ft_image_release(&image);
    assert_null(image.pixels);
    ft_buf_release(&file);
    ft_buf_release(&want);
}

static void every_file_of_a_format_has_pillows_pixels(void **state)
{
    (void)state;
    static const struct {
        const char *suffix;
        int tolerance;
        size_t count;
    } formats[] = {{".png", 0, 40}, {".jpg", 1, 17}, {".webp", 0, 14}};
    struct ft_dir_list list = images();
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        size_t count = 0;
        for (size_t i = 0; i < list.count; i++) {
            if (ft_path_has_suffix(list.names[i], formats[f].suffix)) {
                expect_pillows_pixels(list.names[i], formats[f].tolerance);
                count++;
            }
        }
        assert_int_equal(count, formats[f].count);
    }
    ft_dir_list_release(&list);
}

/* Nothing may be left behind, printed or read beyond: sanitizers and the count of blocks watch. */
static void truncated_images_are_corrupt(void **state)
{
    (void)state;
    static const char *const names[] = {"png_c2_b8_adam7.png",      "png_c3_b4.png", "jpeg_420.jpg",
                                        "jpeg_progressive.jpg",     "jpeg_cmyk.jpg", "webp_lossy.webp",
                                        "webp_alpha_lossless.webp", "exif_6.jpg",    "exif_6.png"};
    size_t live = ft_alloc_stats().live_blocks;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct ft_buf file = load(names[k], "");
        for (size_t n = strstr(names[k], ".webp") != NULL ? 16 : 8; n < file.size; n += n < 60 ? 1 : 7) {
            struct ft_err err = {0};
            struct ft_image image = {0};
            uint8_t *copy = ft_alloc(n);
            memcpy(copy, file.data, n);
            if (ft_image_decode(ft_bytes_of(copy, n), 1 << 20, &image, &err) != FT_CORRUPT) {
                fail_msg("%s cut to %zu of %zu bytes: %s", names[k], n, file.size, err.text);
            }
            assert_null(image.pixels);
            ft_free(copy);
        }
        ft_buf_release(&file);
    }
    assert_int_equal(ft_alloc_stats().live_blocks, live);
}

static void broken_images_are_refused_in_silence(void **state)
{
    (void)state;
    struct ft_err err = {0};
    char path[] = "/tmp/ft-test-image-XXXXXX";
    int fd = mkstemp(path);
    int saved = dup(STDERR_FILENO);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    static const char *const names[] = {"png_c6_b8.png", "png_c3_b8.png", "jpeg_422.jpg", "jpeg_grey.jpg",
                                        "webp_lossless.webp"};
    size_t refused = 0;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct ft_buf file = load(names[k], "");
        for (size_t i = 8; i < file.size; i++) {
            struct ft_image image = {0};
            file.data[i] ^= 0x55;
            refused += ft_image_decode(ft_buf_bytes(&file), 1 << 16, &image, &err) != FT_OK;
            ft_image_release(&image);
            file.data[i] ^= 0x55;
        }
        ft_buf_release(&file);
    }
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0); /* nobody wrote to stderr */
    (void)close(fd);
    (void)unlink(path);
    assert_true(refused > 300);
}

static void the_limit_counts_before_pixels_are_decoded(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_image image = {0};
    struct ft_buf file = load("png_c2_b8.png", "");   /* 13 x 11 */
    struct ft_buf jpeg = load("jpeg_420.jpg", "");    /* 37 x 29 */
    struct ft_buf webp = load("webp_alpha.webp", ""); /* 37 x 29 */
    assert_int_equal(ft_image_decode(ft_buf_bytes(&webp), 37 * 29 - 1, &image, &err), FT_LIMIT);
    assert_false(ft_image_known(ft_bytes_of(webp.data, 15)));
    ft_buf_release(&webp);
    assert_int_equal(ft_image_decode(ft_buf_bytes(&file), 142, &image, &err), FT_LIMIT);
    assert_non_null(strstr(err.text, "13 x 11"));
    ASSERT_OK(ft_image_decode(ft_buf_bytes(&file), 143, &image, &err));
    ft_image_release(&image);
    assert_int_equal(ft_image_decode(ft_buf_bytes(&jpeg), 37 * 29 - 1, &image, &err), FT_LIMIT);
    assert_int_equal(ft_image_decode(ft_bytes_of_text("GIF89a and more"), 100, &image, &err), FT_UNSUPPORTED);
    assert_int_equal(ft_image_decode(ft_bytes_of(NULL, 0), 100, &image, &err), FT_UNSUPPORTED);
    assert_false(ft_image_known(ft_bytes_of(file.data, 7)));
    assert_false(ft_image_known(ft_bytes_of(jpeg.data, 2)));
    ft_buf_release(&file);
    ft_buf_release(&jpeg);
}

/* Each is a 13 x 11 picture that says nothing worth believing about how it was held. */
static void a_broken_exif_block_says_nothing(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf file = load("exif_6.jpg", "");
    size_t at = 0;
    while (memcmp(file.data + at, "Exif", 4) != 0) {
        at++;
    }
    size_t size = (size_t)file.data[at - 2] << 8 | file.data[at - 1]; /* of the segment, with these two */
    int kept = 0;
    for (size_t i = 0; i < size - 2; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct ft_image image = {0};
            file.data[at + i] ^= (uint8_t)(1 << bit);
            ASSERT_OK(ft_image_decode(ft_buf_bytes(&file), 1 << 16, &image, &err));
            assert_in_range(image.orientation, 1, 8);
            kept += image.orientation == 6;
            ASSERT_OK(ft_image_upright(&image, &err));
            ft_image_release(&image);
            file.data[at + i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_true(kept > 0 && kept < (int)(size - 2) * 8);
    /* A segment whose length points beyond the file ends the search and, for libjpeg, the picture. */
    struct ft_image image = {0};
    file.data[at - 2] = 0xff;
    assert_int_equal(ft_image_decode(ft_buf_bytes(&file), 1 << 16, &image, &err), FT_CORRUPT);
    ft_buf_release(&file);
}

static void other_formats_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        const char *said;
    } cases[] = {{"GIF89a and more", "a GIF image is not read, only PNG, JPEG and WebP"},
                 {"BM and more", "a BMP image"},
                 {"II*", "TIFF"}, /* with the zero that ends the text */
                 {"....ftypheic", "HEIC"},
                 {"....ftypavif", "AVIF"},
                 {"RIFF....WEBPVP9 ", "no PNG, JPEG or WebP"},
                 {"RIFF", "no PNG, JPEG or WebP"},
                 {"dear diary", "no PNG, JPEG or WebP"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ft_err err = {0};
        struct ft_image image = {0};
        struct ft_bytes file = ft_bytes_of(cases[i].bytes, strlen(cases[i].bytes) + (i == 2));
        assert_false(ft_image_known(file));
        assert_int_equal(ft_image_decode(file, 100, &image, &err), FT_UNSUPPORTED);
        if (strstr(err.text, cases[i].said) == NULL) {
            fail_msg("%s: %s", cases[i].bytes, err.text);
        }
    }
    struct ft_err err = {0};
    struct ft_image image = {0};
    struct ft_buf file = load("webp_animated.refused", "");
    assert_int_equal(ft_image_decode(ft_buf_bytes(&file), 1 << 16, &image, &err), FT_UNSUPPORTED);
    assert_non_null(strstr(err.text, "animated"));
    ft_buf_release(&file);
}

/* Scans appended to a progressive file: each costs a pass over the picture, and few bytes. */
static void a_jpeg_of_endless_scans_is_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_image image = {0};
    struct ft_buf file = load("jpeg_progressive.jpg", "");
    size_t last = file.size - 2; /* the last scan, without the end of the image */
    while (file.data[last] != 0xff || file.data[last + 1] != 0xda) {
        last--;
    }
    size_t size = file.size - 2 - last;
    struct ft_buf bomb = {0};
    ASSERT_OK(ft_buf_append(&bomb, file.data, file.size - 2, &err));
    for (int i = 0; i < 600; i++) {
        ASSERT_OK(ft_buf_append(&bomb, file.data + last, size, &err));
    }
    ASSERT_OK(ft_buf_append(&bomb, file.data + file.size - 2, 2, &err));
    assert_int_equal(ft_image_decode(ft_buf_bytes(&bomb), 1 << 20, &image, &err), FT_LIMIT);
    assert_non_null(strstr(err.text, "more than 500 scans"));
    ft_buf_release(&file);
    ft_buf_release(&bomb);
}

static enum ft_status decode(void *arg, struct ft_err *err)
{
    const struct ft_buf *file = arg;
    struct ft_image image = {0};
    enum ft_status st = ft_image_decode(ft_buf_bytes(file), 1 << 20, &image, err);
    if (st == FT_OK) {
        st = ft_image_upright(&image, err);
    }
    ft_image_release(&image);
    return st;
}

static enum ft_status encode(void *arg, struct ft_err *err)
{
    struct ft_buf out = {0};
    enum ft_status st = ft_png_encode(arg, 8, 8, 3, &out, err);
    ft_buf_release(&out);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    (void)state;
    static const char *const names[] = {"png_c3_b4_adam7.png", "png_c0_b16.png", "jpeg_cmyk.jpg",
                                        "exif_5.webp"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct ft_buf file = load(names[k], "");
        fail_each_allocation(decode, &file);
        ft_buf_release(&file);
    }
    uint8_t pixels[192] = {0};
    fail_each_allocation(encode, pixels);
}

static void what_we_write_is_read_back_equal(void **state)
{
    (void)state;
    struct ft_err err = {0};
    uint8_t pixels[31 * 17 * 3];
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (uint8_t)(i * i >> 3);
    }
    for (int channels = 1; channels <= 3; channels += 2) {
        struct ft_buf a = {0};
        struct ft_buf b = {0};
        struct ft_image image = {0};
        ASSERT_OK(ft_png_encode(pixels, 31, 17, channels, &a, &err));
        ASSERT_OK(ft_png_encode(pixels, 31, 17, channels, &b, &err));
        assert_true(ft_bytes_equal(ft_buf_bytes(&a), ft_buf_bytes(&b)));
        ASSERT_OK(ft_image_decode(ft_buf_bytes(&a), 1000, &image, &err));
        assert_true(image.height == 31 && image.width == 17);
        for (int i = 0; i < 31 * 17 * 3; i++) {
            assert_int_equal(image.pixels[i], channels == 3 ? pixels[i] : pixels[i / 3]);
        }
        ft_image_release(&image);
        ft_buf_release(&a);
        ft_buf_release(&b);
    }
    struct ft_buf out = {0};
    assert_int_equal(ft_png_encode(pixels, 0, 5, 3, &out, &err), FT_INVALID);
    assert_int_equal(ft_png_encode(pixels, 5, 2000000, 3, &out, &err), FT_INVALID);
    assert_int_equal(out.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_of_a_format_has_pillows_pixels),
        cmocka_unit_test(truncated_images_are_corrupt),
        cmocka_unit_test(broken_images_are_refused_in_silence),
        cmocka_unit_test(a_broken_exif_block_says_nothing),
        cmocka_unit_test(other_formats_are_refused_by_name),
        cmocka_unit_test(a_jpeg_of_endless_scans_is_refused),
        cmocka_unit_test(the_limit_counts_before_pixels_are_decoded),
        cmocka_unit_test(memory_running_out_leaves_nothing_behind),
        cmocka_unit_test(what_we_write_is_read_back_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
