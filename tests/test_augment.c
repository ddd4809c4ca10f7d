/* Augmentation: options, what is drawn, and that nothing but seed, step and place decides it. The operations
 * themselves stand against Pillow and torchvision in tests/oracle/test_pixels_oracle.py. */
/* links: ft_prep ft_codec ft_base */
#include "executor/prep/augment.h"

#include <math.h>

#include "tests/support.h"

enum { PICTURE_H = 40, PICTURE_W = 60, SIZE = 24, ROW = 3 * SIZE * SIZE, DRAWS = 4000 };

static struct ft_augment parsed(const char *text)
{
    struct ft_err err = {0};
    struct ft_augment a;
    if (ft_augment_parse(text, &a, &err) != FT_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    return a;
}

static struct ft_prep prep_of(const char *options)
{
    struct ft_err err = {0};
    struct ft_prep prep;
    struct ft_json *json = NULL;
    ASSERT_OK(ft_prep_infer((const int64_t[]){3, SIZE, SIZE}, 3, &prep, &err));
    ASSERT_OK(ft_json_parse(ft_bytes_of_text(options), &json, &err));
    ASSERT_OK(ft_prep_read(json, &prep, &err));
    ft_json_free(json);
    return prep;
}

static struct ft_pixels picture(void)
{
    struct ft_err err = {0};
    struct ft_pixels p;
    ASSERT_OK(ft_pixels_new(PICTURE_H, PICTURE_W, 3, &p, &err));
    for (size_t i = 0; i < ft_pixels_bytes(&p); i++) {
        p.data[i] = (uint8_t)(i * i / 7 + i);
    }
    return p;
}

static struct ft_augment_draw drawn(const struct ft_augment *a, uint64_t step, uint64_t place)
{
    static const struct ft_pixels size = {NULL, PICTURE_H, PICTURE_W, 3};
    struct ft_prep prep = prep_of("{}");
    struct ft_augment_draw d;
    ft_augment_draw(a, &prep, &size, ft_rand_at(7, FT_RAND_AUGMENT, step), place, &d);
    return d;
}

static void make_row(const struct ft_augment_draw *d, const struct ft_prep *prep, float *row)
{
    struct ft_err err = {0};
    struct ft_pixels p = picture();
    ASSERT_OK(ft_augment_row(d, prep, &p, row, &err));
    ft_pixels_release(&p);
}

/* ---- options ---- */

static void names_and_json_say_the_same(void **state)
{
    (void)state;
    struct ft_augment none = parsed(NULL);
    assert_false(none.on);
    assert_false(parsed("none").on);
    assert_false(parsed("{}").on);
    assert_false(parsed("{\"sigma\": [1, 2]}").on);
    struct ft_augment light = parsed("light");
    assert_true(light.on && light.flip == 0.5 && light.crop[0] == 0.8 && light.crop[1] == 1.0);
    assert_true(light.brightness[0] == 0.9 && light.brightness[1] == 1.1);
    struct ft_augment over = parsed("{\"flip\": 0, \"preset\": \"light\", \"hue\": 0.25}");
    assert_true(over.flip == 0 && over.crop[0] == 0.8 && over.hue[0] == -0.25 && over.hue[1] == 0.25);
    struct ft_augment pairs = parsed("{\"brightness\": [0, 3], \"contrast\": 2, \"rotate\": [10, 20]}");
    assert_true(pairs.brightness[1] == 3 && pairs.contrast[0] == 0 && pairs.contrast[1] == 3);
    assert_true(pairs.rotate[0] == 10 && pairs.rotate[1] == 20);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    static const char *const texts[] = {"none", "light", "strong",
                                        "{\"pad\": 3, \"rotate\": 7.3, \"kernel\": 5, \"blur\": 0.1}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct ft_err err = {0};
        struct ft_augment a = parsed(texts[i]);
        struct ft_buf out = {0};
        ASSERT_OK(ft_augment_write(&a, &out, &err));
        struct ft_augment back = parsed((const char *)out.data);
        assert_memory_equal(&a, &back, sizeof a);
        ft_buf_release(&out);
    }
}

static void bad_options_say_what_is_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *said;
    } cases[] = {
        {"lite", "wanted none, light, strong or a JSON object"},
        {"{\"preset\": \"lite\"}", "wanted none, light, strong"},
        {"{\"preset\": 1}", "wanted none, light, strong"},
        {"{\"flipp\": 0.5}", "unknown augment option \"flipp\"; accepted: preset, crop, ratio"},
        {"{\"flip\": 1.5}", "\"flip\" must be a number, of 0 to 1"},
        {"{\"flip\": -1}", "\"flip\" must be"},
        {"{\"flip\": \"often\"}", "\"flip\" must be"},
        {"{\"flip\": [0, 1]}", "\"flip\" must be"},
        {"{\"crop\": 0.5}", "\"crop\" must be [low, high]"},
        {"{\"crop\": [0.5, 0.2]}", "\"crop\" must be"},
        {"{\"crop\": [0.5, 2]}", "\"crop\" must be"},
        {"{\"ratio\": [0, 1]}", "\"ratio\" must be"},
        {"{\"hue\": 0.6}", "\"hue\" must be"},
        {"{\"hue\": -0.1}", "\"hue\" must be"},
        {"{\"brightness\": -1}", "\"brightness\" must be"},
        {"{\"sigma\": [0, 1]}", "\"sigma\" must be"},
        {"{\"kernel\": 4}", "odd"},
        {"{\"pad\": 1.5}", "whole"},
        {"{\"crop\": [1, 2, 3]}", "\"crop\" must be"},
        {"{", "augment"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ft_err err = {0};
        struct ft_augment a;
        assert_int_equal(ft_augment_parse(cases[i].text, &a, &err), FT_INVALID);
        assert_false(a.on);
        if (strstr(err.text, cases[i].said) == NULL) {
            fail_msg("%s: %s", cases[i].text, err.text);
        }
    }
}

static void help_names_every_option(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf out = {0};
    ASSERT_OK(ft_augment_help(&out, &err));
    static const char *const words[] = {"crop", "flip", "hue", "erase_ratio", "light", "strong"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        assert_non_null(strstr((const char *)out.data, words[i]));
    }
    ft_buf_release(&out);
}

/* ---- drawing ---- */

static void only_seed_step_and_place_decide(void **state)
{
    (void)state;
    struct ft_augment strong = parsed("strong");
    struct ft_augment_draw a = drawn(&strong, 12, 3);
    (void)drawn(&strong, 12, 4);
    struct ft_augment_draw again = drawn(&strong, 12, 3);
    struct ft_augment_draw place = drawn(&strong, 12, 4);
    struct ft_augment_draw step = drawn(&strong, 13, 3);
    assert_memory_equal(&a, &again, sizeof a);
    assert_memory_not_equal(&a, &place, sizeof a);
    assert_memory_not_equal(&a, &step, sizeof a);
}

/* One option more or less must not move the others' numbers: each has its own place in the stream. */
static void options_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct ft_augment a = parsed("{\"flip\": 0.5, \"brightness\": 0.4, \"crop\": [0.2, 1]}");
    struct ft_augment b = parsed("{\"flip\": 0.5, \"brightness\": 0.4, \"erase\": 1, \"rotate\": 5}");
    int flips = 0;
    for (uint64_t i = 0; i < 100; i++) {
        struct ft_augment_draw x = drawn(&a, 1, i);
        struct ft_augment_draw y = drawn(&b, 1, i);
        assert_true(x.flips == y.flips && x.factor[0] == y.factor[0] && x.order[0] == y.order[0]);
        flips += x.flips;
    }
    assert_in_range(flips, 25, 75);
}

static void check_window(const struct ft_augment_draw *d, double *area, double *aspect)
{
    assert_true(d->crops && d->top >= 0 && d->left >= 0 && d->height > 0 && d->width > 0);
    assert_true(d->top + d->height <= PICTURE_H && d->left + d->width <= PICTURE_W);
    *area = (double)(d->height * d->width) / (PICTURE_H * PICTURE_W);
    *aspect = (double)d->width / (double)d->height;
}

/* Rates and ranges of 4,000 draws; a rate of p lies within 5 standard deviations, sqrt(p (1 - p) / 4000). */
static void draws_have_the_ranges_asked_for(void **state)
{
    (void)state;
    struct ft_augment a = parsed(
        "{\"crop\": [0.2, 0.6], \"flip\": 0.25, \"pad\": 2, \"rotate\": 30, \"brightness\": 0.5, \"hue\": "
        "0.2, \"grayscale\": 0.1, \"blur\": 0.4, \"erase\": 0.5}");
    double flips = 0, greys = 0, blurs = 0, erased = 0, area_sum = 0, low = 2, high = 0;
    int first[4] = {0}, down[5] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct ft_augment_draw d = drawn(&a, i / 50, i % 50);
        double area = 0, aspect = 0;
        check_window(&d, &area, &aspect);
        assert_true(area > 0.17 && area < 0.65); /* rounded to whole pixels */
        assert_true(aspect > 0.68 && aspect < 1.46);
        assert_true(fabs(d.degrees) <= 30 && d.factor[0] >= 0.5 && d.factor[0] <= 1.5);
        assert_true(d.factor[1] == 1 && d.factor[2] == 1 && fabs(d.factor[3]) <= 0.2);
        assert_true(d.kernel == 3 && d.sigma >= 0.1 && d.sigma <= 2);
        assert_true(d.erase_top + d.erase_height <= SIZE && d.erase_left + d.erase_width <= SIZE);
        down[d.down + 2]++;
        first[d.order[0]]++;
        area_sum += area;
        low = d.factor[0] < low ? d.factor[0] : low;
        high = d.factor[0] > high ? d.factor[0] : high;
        flips += d.flips;
        greys += d.greys;
        blurs += d.blurs;
        erased += d.erase_height > 0;
    }
    assert_true(fabs(flips / DRAWS - 0.25) < 0.035 && fabs(greys / DRAWS - 0.1) < 0.024);
    assert_true(fabs(blurs / DRAWS - 0.4) < 0.039 && fabs(erased / DRAWS - 0.5) < 0.04);
    assert_true(fabs(area_sum / DRAWS - 0.4) < 0.02 && low < 0.51 && high > 1.49);
    for (int i = 0; i < 4; i++) {
        assert_in_range(first[i], DRAWS / 4 - 137, DRAWS / 4 + 137);
    }
    for (int i = 0; i < 5; i++) {
        assert_in_range(down[i], DRAWS / 5 - 127, DRAWS / 5 + 127);
    }
}

/* ---- doing ---- */

static void nothing_drawn_is_the_plain_row(void **state)
{
    (void)state;
    static const char *const options[] = {"{}", "{\"resize\": \"short\", \"resize_to\": 28, \"mean\": 0.4}"};
    for (size_t i = 0; i < 2; i++) {
        struct ft_err err = {0};
        struct ft_prep prep = prep_of(options[i]);
        struct ft_augment none = parsed("none");
        struct ft_pixels p = picture();
        struct ft_content content = {.kind = FT_CONTENT_TENSOR,
                                     .bytes = ft_bytes_of(p.data, ft_pixels_bytes(&p)),
                                     .dtype = "|u1",
                                     .rank = 3,
                                     .dims = {PICTURE_H, PICTURE_W, 3}};
        struct ft_augment_draw d;
        float row[ROW], want[ROW];
        ft_augment_draw(&none, &prep, &p, ft_rand_at(7, FT_RAND_AUGMENT, 0), 0, &d);
        make_row(&d, &prep, row);
        ASSERT_OK(ft_prep_item(&prep, &content, want, &err));
        assert_memory_equal(row, want, sizeof row);
        struct ft_pixels back = {0};
        ASSERT_OK(ft_prep_pixels(&prep, &content, &back, &err));
        assert_memory_equal(back.data, p.data, ft_pixels_bytes(&p));
        ft_pixels_release(&back);
        ft_pixels_release(&p);
    }
}

/* The parts, one after another, by hand. */
static void a_row_is_its_operations_in_order(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_prep prep = prep_of("{\"mean\": [0.485, 0.456, 0.406], \"std\": [0.229, 0.224, 0.225]}");
    struct ft_augment a =
        parsed("{\"preset\": \"strong\", \"rotate\": 20, \"pad\": 3, \"blur\": 1, \"erase\": 1}");
    int seen = 0;
    for (uint64_t place = 0; place < 40; place++) {
        struct ft_augment_draw d = drawn(&a, 5, place);
        struct ft_pixels p = picture();
        struct ft_pixels q = {0};
        static void (*const adjust[4])(struct ft_pixels *, double) = {
            ft_pixels_brightness, ft_pixels_contrast, ft_pixels_saturation, ft_pixels_hue};
        float row[ROW];
        make_row(&d, &prep, row);
        ASSERT_OK(ft_pixels_window(&p, d.top, d.left, d.height, d.width, &q, &err));
        ft_pixels_release(&p);
        ASSERT_OK(ft_pixels_resize(&q, SIZE, SIZE, FT_FILTER_BILINEAR, &p, &err));
        ft_pixels_release(&q);
        ASSERT_OK(ft_pixels_window(&p, d.down, d.across, SIZE, SIZE, &q, &err));
        ft_pixels_release(&p);
        ASSERT_OK(ft_pixels_rotate(&q, d.degrees, &p, &err));
        ft_pixels_release(&q);
        if (d.flips) {
            ft_pixels_flip(&p);
        }
        for (int i = 0; i < 4; i++) {
            adjust[d.order[i]](&p, d.factor[d.order[i]]);
        }
        if (d.greys) {
            ft_pixels_grey(&p);
        }
        ASSERT_OK(ft_pixels_blur(&p, d.kernel, d.sigma, &err));
        for (int i = 0; i < ROW; i++) {
            int k = i / (SIZE * SIZE), y = i / SIZE % SIZE, x = i % SIZE;
            bool blank = y >= d.erase_top && y < d.erase_top + d.erase_height && x >= d.erase_left &&
                         x < d.erase_left + d.erase_width;
            float want = ((float)p.data[(y * SIZE + x) * 3 + k] * prep.scale - prep.mean[k]) / prep.std[k];
            assert_true(row[i] == (blank ? 0.0F : want));
        }
        seen += d.flips + d.greys;
        ft_pixels_release(&p);
    }
    assert_true(seen > 0);
}

static void rows_of_the_other_layout_are_the_same_numbers(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_prep first = prep_of("{}");
    struct ft_prep last;
    ASSERT_OK(ft_prep_infer((const int64_t[]){SIZE, SIZE, 3}, 3, &last, &err));
    struct ft_augment a = parsed("{\"preset\": \"strong\", \"erase\": 1}");
    struct ft_augment_draw d = drawn(&a, 2, 9);
    float one[ROW], other[ROW];
    make_row(&d, &first, one);
    make_row(&d, &last, other);
    for (int i = 0; i < ROW; i++) {
        assert_true(one[i] == other[i % (SIZE * SIZE) * 3 + i / (SIZE * SIZE)]);
    }
}

/* A line one pixel high has no window of the asked aspect: torchvision's fallback, and never an empty one. */
static void narrow_pictures_have_windows_too(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_prep prep = prep_of("{}");
    struct ft_augment a = parsed("{\"preset\": \"strong\", \"blur\": 1, \"erase\": 1}");
    static const int64_t sizes[][2] = {{1, 1}, {1, 500}, {500, 1}, {2, 3}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct ft_pixels p;
        float row[ROW];
        ASSERT_OK(ft_pixels_new(sizes[i][0], sizes[i][1], 3, &p, &err));
        memset(p.data, 77, ft_pixels_bytes(&p));
        for (uint64_t place = 0; place < 50; place++) {
            struct ft_augment_draw d;
            ft_augment_draw(&a, &prep, &p, ft_rand_at(1, FT_RAND_AUGMENT, 0), place, &d);
            assert_true(d.height > 0 && d.width > 0 && d.top >= 0 && d.left >= 0);
            assert_true(d.top + d.height <= p.height && d.left + d.width <= p.width);
            ASSERT_OK(ft_augment_row(&d, &prep, &p, row, &err));
        }
        ft_pixels_release(&p);
    }
}

static void what_has_no_pixels_is_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_prep prep = prep_of("{}");
    struct ft_pixels p = {0};
    float numbers[ROW] = {0};
    struct ft_content floats = {.kind = FT_CONTENT_TENSOR,
                                .bytes = ft_bytes_of(numbers, sizeof numbers),
                                .dtype = "<f4",
                                .rank = 3,
                                .dims = {3, SIZE, SIZE}};
    assert_int_equal(ft_prep_pixels(&prep, &floats, &p, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "a float32 tensor (3, 24, 24) has no 8-bit pixels"));
    struct ft_content text = {.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text("hello")};
    assert_int_equal(ft_prep_pixels(&prep, &text, &p, &err), FT_INVALID);
    assert_null(p.data);
}

static enum ft_status one_row(void *arg, struct ft_err *err)
{
    struct ft_prep prep = prep_of("{}");
    struct ft_pixels p = picture();
    struct ft_augment a = parsed("{\"preset\": \"strong\", \"rotate\": 20, \"pad\": 3, \"blur\": 1}");
    struct ft_augment_draw d = drawn(&a, 5, 1);
    float row[ROW];
    ft_alloc_fail_at(*(uint64_t *)arg);
    enum ft_status st = ft_augment_row(&d, &prep, &p, row, err);
    ft_alloc_fail_at(0);
    ft_pixels_release(&p);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    (void)state;
    size_t live = ft_alloc_stats().live_blocks;
    uint64_t n = 1;
    for (;; n++) {
        struct ft_err err = {0};
        enum ft_status st = one_row(&n, &err);
        assert_int_equal(ft_alloc_stats().live_blocks, live);
        if (st == FT_OK) {
            break;
        }
        assert_int_equal(st, FT_NOMEM);
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_json_say_the_same),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(bad_options_say_what_is_accepted),
        cmocka_unit_test(help_names_every_option),
        cmocka_unit_test(only_seed_step_and_place_decide),
        cmocka_unit_test(options_do_not_disturb_each_other),
        cmocka_unit_test(draws_have_the_ranges_asked_for),
        cmocka_unit_test(nothing_drawn_is_the_plain_row),
        cmocka_unit_test(a_row_is_its_operations_in_order),
        cmocka_unit_test(rows_of_the_other_layout_are_the_same_numbers),
        cmocka_unit_test(narrow_pictures_have_windows_too),
        cmocka_unit_test(what_has_no_pixels_is_refused),
        cmocka_unit_test(memory_running_out_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
