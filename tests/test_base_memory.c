/* links: ft_base */
#include "executor/base/alloc.h"

#include <pthread.h>

#include "executor/base/arena.h"
#include "executor/base/bytes.h"
#include "tests/support.h"

static void products_and_sums_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    size_t out = 1;
    assert_true(ft_mul_size(3, 4, &out) && out == 12);
    assert_false(ft_mul_size(SIZE_MAX, 2, &out));
    assert_int_equal(out, 0);
    assert_true(ft_add_size(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    assert_false(ft_add_size(SIZE_MAX, 1, &out));
    assert_int_equal(out, 0);
    assert_null(ft_calloc(SIZE_MAX / 2, 3));
    assert_null(ft_alloc(SIZE_MAX - 8));
}

static void memory_is_aligned_counted_and_freed(void **state)
{
    (void)state;
    struct ft_alloc_stats before = ft_alloc_stats();
    char *p = ft_alloc(100);
    char *q = ft_alloc(0);
    assert_int_equal((uintptr_t)p % FT_ALIGN, 0);
    assert_non_null(q);
    assert_int_equal(ft_alloc_stats().live_bytes, before.live_bytes + 100);
    assert_int_equal(ft_alloc_stats().live_blocks, before.live_blocks + 2);
    memset(p, 7, 100);
    ft_alloc_reset_peak();
    p = ft_realloc(p, 1000);
    assert_int_equal((uintptr_t)p % FT_ALIGN, 0);
    assert_int_equal(p[99], 7);
    assert_true(ft_alloc_stats().peak_bytes >= before.live_bytes + 1100);
    assert_int_equal(ft_alloc_stats().live_bytes, before.live_bytes + 1000);
    p = ft_realloc(p, 10);
    assert_int_equal(p[9], 7);
    ft_free(p);
    ft_free(q);
    ft_free(NULL);
    assert_int_equal(ft_alloc_stats().live_bytes, before.live_bytes);
    assert_int_equal(ft_alloc_stats().live_blocks, before.live_blocks);
    assert_int_equal(ft_alloc_stats().calls, before.calls + 4);
}

static void only_the_chosen_allocation_fails(void **state)
{
    (void)state;
    ft_alloc_fail_at(2);
    void *a = ft_alloc(1);
    void *b = ft_alloc(1);
    void *c = ft_alloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    ft_alloc_fail_at(1);
    assert_null(ft_realloc(a, 2)); /* a stays whole */
    ft_free(a);
    ft_free(c);
}

static void growing_doubles_and_zeroes(void **state)
{
    (void)state;
    struct ft_err err = {0};
    int *array = NULL;
    size_t capacity = 0;
    ASSERT_OK(ft_grow(&array, &capacity, 1, sizeof *array, &err));
    assert_int_equal(capacity, 8);
    array[7] = 5;
    int *same = array;
    ASSERT_OK(ft_grow(&array, &capacity, 8, sizeof *array, &err));
    assert_ptr_equal(array, same);
    ASSERT_OK(ft_grow(&array, &capacity, 9, sizeof *array, &err));
    assert_int_equal(capacity, 16);
    assert_int_equal(array[7], 5);
    assert_int_equal(array[8], 0);
    assert_int_equal(array[15], 0);
    assert_int_equal(ft_grow(&array, &capacity, SIZE_MAX / 2, sizeof *array, &err), FT_NOMEM);
    assert_int_equal(capacity, 16);
    assert_int_equal(array[7], 5);
    ft_free(array);
}

static enum ft_status use_arena(void *arg, struct ft_err *err)
{
    (void)arg;
    struct ft_arena arena = {0};
    enum ft_status st = FT_OK;
    for (size_t i = 0; i < 100; i++) {
        char *p = NULL;
        const char *text = NULL;
        FT_TRY(ft_arena_new(&arena, i * 37, 5, &p, err));
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t k = 0; k < i * 37 * 5; k++) {
            assert_int_equal(p[k], 0);
        }
        memset(p, 0xff, i * 37 * 5);
        FT_TRY(ft_arena_text(&arena, "some text", 4, &text, err));
        assert_string_equal(text, "some");
    }
    assert_true(arena.used >= (size_t)99 * 50 * 37 * 5);
done:
    ft_arena_release(&arena);
    assert_null(arena.last);
    return st;
}

static void arena_gives_zeroed_memory_and_frees_it_whole(void **state)
{
    (void)state;
    fail_each_allocation(use_arena, NULL);
    struct ft_arena arena = {0};
    struct ft_err err = {0};
    void *p = &arena;
    assert_int_equal(ft_arena_new(&arena, SIZE_MAX, 2, &p, &err), FT_NOMEM);
    assert_null(p);
    assert_int_equal(ft_arena_new(&arena, SIZE_MAX - 3, 1, &p, &err), FT_NOMEM);
}

static enum ft_status use_buffer(void *arg, struct ft_err *err)
{
    (void)arg;
    struct ft_buf buf = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_buf_text(&buf, "one", err));
    FT_TRY(ft_buf_append(&buf, NULL, 0, err));
    for (int i = 0; i < 100; i++) {
        FT_TRY(ft_buf_printf(&buf, err, " %d-%s", i, "x"));
    }
    assert_int_equal(buf.size, strlen((const char *)buf.data));
    assert_memory_equal(buf.data, "one 0-x 1-x", 11);
done:
    ft_buf_release(&buf);
    return st;
}

static void buffer_grows_and_ends_with_nul(void **state)
{
    (void)state;
    fail_each_allocation(use_buffer, NULL);
    struct ft_buf buf = {0};
    struct ft_err err = {0};
    assert_int_equal(ft_buf_reserve(&buf, SIZE_MAX, &err), FT_NOMEM);
    ASSERT_OK(ft_buf_append(&buf, "a\0b", 3, &err));
    assert_true(ft_bytes_equal(ft_buf_bytes(&buf), ft_bytes_of("a\0b", 3)));
    assert_false(ft_bytes_is(ft_buf_bytes(&buf), "a"));
    ft_buf_release(&buf);
    assert_true(ft_bytes_equal(ft_buf_bytes(&buf), ft_bytes_of("", 0)));
}

static bool utf8(const char *text)
{
    return ft_utf8_valid(ft_bytes_of_text(text));
}

static void utf8_is_checked_as_unicode_says(void **state)
{
    (void)state;
    assert_true(utf8("") && utf8("abc") && utf8("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80") &&
                utf8("\xf4\x8f\xbf\xbf"));
    assert_true(utf8("\xed\x9f\xbf") && utf8("\xee\x80\x80") && utf8("\xc2\x80"));
    assert_false(utf8("\x80"));             /* a tail alone */
    assert_false(utf8("\xc3"));             /* cut off */
    assert_false(utf8("\xe2\x82"));         /* cut off */
    assert_false(utf8("\xc0\xaf"));         /* overlong */
    assert_false(utf8("\xe0\x9f\xbf"));     /* overlong */
    assert_false(utf8("\xf0\x8f\xbf\xbf")); /* overlong */
    assert_false(utf8("\xed\xa0\x80"));     /* surrogate */
    assert_false(utf8("\xf4\x90\x80\x80")); /* beyond U+10FFFF */
    assert_false(utf8("\xff"));
    assert_false(utf8("\xc3(")); /* tail without its mark */
}

static void little_endian_numbers_round_trip(void **state)
{
    (void)state;
    uint8_t p[8];
    ft_put_u32(p, 0x01020304);
    assert_memory_equal(p, "\x04\x03\x02\x01", 4);
    assert_int_equal(ft_get_u32(p), 0x01020304);
    ft_put_u64(p, 0xf1f2f3f4f5f6f7f8ULL);
    assert_memory_equal(p, "\xf8\xf7\xf6\xf5\xf4\xf3\xf2\xf1", 8);
    assert_true(ft_get_u64(p) == 0xf1f2f3f4f5f6f7f8ULL);
}

static void *allocate_much(void *arg)
{
    for (size_t i = 0; i < 20000; i++) {
        ft_free(ft_alloc(i % 700));
    }
    return arg;
}

static void counters_stay_true_under_threads(void **state)
{
    (void)state;
    struct ft_alloc_stats before = ft_alloc_stats();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, allocate_much, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(ft_alloc_stats().calls, before.calls + 80000);
    assert_int_equal(ft_alloc_stats().live_bytes, before.live_bytes);
    assert_int_equal(ft_alloc_stats().live_blocks, before.live_blocks);
}

static void touched_memory_raises_the_peak(void **state)
{
    enum { SIZE = 64 << 20 };
    (void)state;
    int64_t before = ft_peak_memory();
    assert_true(before > 0);
    char *p = ft_alloc(SIZE);
    assert_non_null(p);
    memset(p, 1, SIZE);
    /* The sanitizers keep some of it for themselves: at least half shows. */
    assert_true(ft_peak_memory() >= before + SIZE / 2);
    ft_free(p);
    assert_true(ft_peak_memory() >= before + SIZE / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_and_sums_that_do_not_fit_are_refused),
        cmocka_unit_test(memory_is_aligned_counted_and_freed),
        cmocka_unit_test(only_the_chosen_allocation_fails),
        cmocka_unit_test(touched_memory_raises_the_peak),
        cmocka_unit_test(growing_doubles_and_zeroes),
        cmocka_unit_test(arena_gives_zeroed_memory_and_frees_it_whole),
        cmocka_unit_test(buffer_grows_and_ends_with_nul),
        cmocka_unit_test(utf8_is_checked_as_unicode_says),
        cmocka_unit_test(little_endian_numbers_round_trip),
        cmocka_unit_test(counters_stay_true_under_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
