/* Batches of augmented pictures: what decides them, what is kept, what is refused. */
/* links: ft_train ft_model ft_graph ft_kernels ft_codec ft_base */
#include <stdlib.h>
#include <unistd.h>

#include "tests/train_test.h"

#include "executor/train/feed.h"

#define FAILS(code, part, call)                                                                              \
    do {                                                                                                     \
        enum ft_status fails_ = (call);                                                                      \
        if (fails_ != FT_##code || strstr(err.text, part) == NULL) {                                         \
            fail_msg("%s: '%s' does not tell of '%s'", ft_status_text(fails_), err.text, part);              \
        }                                                                                                    \
    } while (0)

static struct ft_dataset *dataset_of(const struct ft_buf *lines)
{
    struct ft_err err = {0};
    struct ft_dataset *data = NULL;
    char path[] = "/tmp/ft-test-feed-XXXXXX.jsonl";
    int fd = mkstemps(path, 6);
    assert_true(fd >= 0);
    (void)close(fd);
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(lines), &err));
    ASSERT_OK(ft_dataset_open(path, true, &data, &err));
    (void)unlink(path);
    return data;
}

/* Whatever is kept, however many threads, and from whichever step on: the same augmented batches. */
static void augmented_batches_depend_on_seed_step_and_place_only(void **state)
{
    (void)state;
    enum { ROWS = 48, PIXELS = 3 * 16 * 16, SETS = 4, STEPS = 12, FROM = 5 };
    static const struct {
        int threads;
        size_t keep_max;
        uint64_t start;
    } sets[SETS] = {{1, SIZE_MAX, 0}, {4, 0, 0}, {3, 20 * 37 * 29 * 3, 0}, {2, SIZE_MAX, FROM}};
    struct ft_err err = {0};
    struct ft_dataset *data = NULL;
    struct ft_prep prep;
    struct ft_augment augment;
    struct ft_rows rows[SETS];
    struct ft_sampler *sampler[SETS];
    struct ft_feed *feed[SETS];
    struct ft_sampler_shape shape;
    struct ft_buf text = {0};
    for (int i = 0; i < ROWS; i++) {
        ASSERT_OK(ft_buf_printf(&text, &err, "{\"uri\": \"%s/codec/jpeg_42%d.jpg\", \"label\": \"%d\"}\n",
                                FT_TEST_DATA, i % 2 * 2, i % 6));
    }
    data = dataset_of(&text);
    ASSERT_OK(ft_prep_infer((const int64_t[]){3, 16, 16}, 3, &prep, &err));
    ASSERT_OK(ft_augment_parse("strong", &augment, &err));
    for (int i = 0; i < SETS; i++) {
        struct ft_rows_augmented how = {&prep, &augment, 5, sets[i].threads, sets[i].keep_max};
        ASSERT_OK(ft_rows_init_augmented(&rows[i], data, &how, NULL, &err));
        sampler[i] = sampler_of(data, &shape);
        ft_sampler_seek(sampler[i], sets[i].start);
        ASSERT_OK(
            ft_feed_new(&rows[i], NULL, sampler[i], &(struct ft_feed_size){shape.batch, 0}, &feed[i], &err));
    }
    assert_int_equal(ft_rows_bytes(&rows[0]), ROWS * 37 * 29 * 3);
    assert_int_equal(ft_rows_bytes(&rows[1]), 0);
    assert_int_equal(ft_rows_bytes(&rows[2]), 20 * 37 * 29 * 3);
    float *before = NULL;
    ASSERT_OK(ft_new(shape.batch * PIXELS, sizeof *before, &before, &err));
    for (int n = 0; n < STEPS; n++) {
        const struct ft_batch *b[SETS] = {NULL};
        size_t bytes = shape.batch * PIXELS * sizeof(float);
        for (int i = 0; i < SETS; i++) {
            if (i < SETS - 1 || n >= FROM) {
                ASSERT_OK(ft_feed_next(feed[i], &b[i], &err));
                assert_memory_equal(b[i]->items, b[0]->items, shape.batch * sizeof(uint32_t));
                assert_memory_equal(b[i]->input[0].data, b[0]->input[0].data, bytes);
            }
        }
        assert_memory_not_equal(b[0]->input[0].data, before, bytes);
        memcpy(before, b[0]->input[0].data, bytes);
        for (int i = 0; i < SETS; i++) {
            ft_feed_done(feed[i], b[i]);
        }
    }
    for (int i = 0; i < SETS; i++) {
        ft_feed_free(feed[i]);
        ft_sampler_free(sampler[i]);
        ft_rows_release(&rows[i]);
    }
    ft_free(before);
    ft_dataset_free(data);
    ft_buf_release(&text);
}

/* What training would not see is told before it starts. */
static void what_cannot_be_augmented_is_named(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_dataset *data = NULL;
    struct ft_prep prep;
    struct ft_augment augment;
    struct ft_rows rows;
    struct ft_buf text = {0};
    ASSERT_OK(ft_augment_parse("light", &augment, &err));
    ASSERT_OK(ft_buf_text(&text, "{\"tensor\": [1, 2, 3, 4], \"label\": \"a\"}\n", &err));
    data = dataset_of(&text);
    ASSERT_OK(ft_prep_infer((const int64_t[]){4}, 1, &prep, &err));
    struct ft_rows_augmented how = {&prep, &augment, 5, 2, SIZE_MAX};
    FAILS(INVALID, "augment is for images", ft_rows_init_augmented(&rows, data, &how, NULL, &err));
    ASSERT_OK(ft_prep_infer((const int64_t[]){3, 8, 8}, 3, &prep, &err));
    FAILS(INVALID, ".jsonl:1", ft_rows_init_augmented(&rows, data, &how, NULL, &err));
    assert_null(rows.pixels);
    ft_dataset_free(data);
    ft_buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(augmented_batches_depend_on_seed_step_and_place_only),
        cmocka_unit_test(what_cannot_be_augmented_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
