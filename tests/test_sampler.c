/* links: ft_train ft_base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "executor/train/sampler.h"

/* Random class sizes; item numbers are positions in `pool`, so an item's class is known. */
enum { MAX_CLASSES = 60, MAX_ITEMS = 4000 };
struct data {
    uint32_t pool[MAX_ITEMS];
    int32_t class_of[MAX_ITEMS];
    const uint32_t *items[MAX_CLASSES];
    size_t counts[MAX_CLASSES];
    size_t total;
    struct ft_sampler_classes view;
};

static size_t count_of(const void *arg, size_t c)
{
    return ((const struct data *)arg)->counts[c];
}

static uint32_t item_of(const void *arg, size_t c, size_t k)
{
    return ((const struct data *)arg)->items[c][k];
}

static void make(struct data *d, size_t classes, struct ft_rand r, uint64_t most)
{
    memset(d, 0, sizeof *d);
    for (size_t c = 0; c < classes; c++) {
        d->items[c] = d->pool + d->total;
        d->counts[c] = (size_t)ft_rand_below(r, c, most + 1); /* empty classes too */
        for (size_t i = 0; i < d->counts[c]; i++) {
            d->pool[d->total] = (uint32_t)d->total;
            d->class_of[d->total++] = (int32_t)c;
        }
    }
    d->view = (struct ft_sampler_classes){classes, count_of, item_of, d};
}

/* What one draw of class c showed, checked against the promise of the header. */
struct seen {
    size_t items[MAX_ITEMS]; /* times each item was drawn */
    size_t classes[MAX_CLASSES];
};

static void check_counts_even(const struct data *d, const struct seen *s, size_t k)
{
    size_t low = SIZE_MAX, high = 0;
    for (size_t c = 0; c < d->view.classes; c++) {
        if (d->counts[c] == 0) {
            assert_int_equal(s->classes[c], 0);
            continue;
        }
        low = s->classes[c] < low ? s->classes[c] : low;
        high = s->classes[c] > high ? s->classes[c] : high;
        size_t ilow = SIZE_MAX, ihigh = 0;
        for (size_t i = 0; i < d->counts[c]; i++) {
            size_t n = s->items[d->items[c][i]];
            ilow = n < ilow ? n : ilow;
            ihigh = n > ihigh ? n : ihigh;
        }
        if (d->counts[c] >= k) {
            assert_true(ihigh - ilow <= 1);
        } else {
            assert_true(ilow >= s->classes[c] * (k / d->counts[c])); /* whole orders each time */
        }
    }
    assert_true(high - low <= 1);
}

static void check_batch(const struct data *d, const struct ft_sampler_shape *shape, const uint32_t *items,
                        const int32_t *classes, struct seen *s)
{
    size_t k = shape->items_per_class;
    for (size_t g = 0; g < shape->classes_per_batch; g++) {
        int32_t c = classes[g * k];
        for (size_t h = 0; h < g; h++) {
            assert_int_not_equal(classes[h * k], c);
        }
        s->classes[c]++;
        for (size_t i = g * k; i < g * k + k; i++) {
            assert_int_equal(classes[i], c);
            assert_int_equal(d->class_of[items[i]], c);
            s->items[items[i]]++;
            size_t same = 0;
            for (size_t j = g * k; j < g * k + k; j++) {
                same += items[j] == items[i];
            }
            assert_true(same <= (k + d->counts[c] - 1) / d->counts[c]);
        }
    }
}

static void nothing_repeats_before_all_appeared(void **state)
{
    (void)state;
    static struct data d;
    static struct seen seen;
    uint32_t items[256];
    int32_t classes[256];
    for (uint64_t trial = 0; trial < 60; trial++) {
        struct ft_rand r = ft_rand_at(1234, FT_RAND_TEST, trial);
        struct ft_err err = {0};
        make(&d, 2 + (size_t)ft_rand_below(r, 1001, MAX_CLASSES - 1), r, 1 + ft_rand_below(r, 1002, 60));
        size_t batch = 4 + (size_t)ft_rand_below(r, 1003, 250);
        size_t k = 2 + (size_t)ft_rand_below(r, 1004, 7);
        struct ft_sampler_shape shape;
        if (ft_sampler_fit_shape(&d.view, batch, k, &shape, &err) != FT_OK) {
            assert_int_equal(err.code, FT_INVALID);
            continue;
        }
        assert_true(shape.batch <= batch && shape.batch >= 4);
        assert_true(shape.items_per_class >= 2 && shape.classes_per_batch >= 2);
        struct ft_sampler *s = NULL;
        assert_int_equal(ft_sampler_new(&d.view, &shape, trial, &s, &err), FT_OK);
        memset(&seen, 0, sizeof seen);
        uint64_t calls = ft_alloc_stats().calls;
        for (int b = 0; b < 100; b++) {
            ft_sampler_next(s, items, classes);
            check_batch(&d, &shape, items, classes, &seen);
            check_counts_even(&d, &seen, shape.items_per_class);
        }
        assert_int_equal(ft_alloc_stats().calls, calls);
        ft_sampler_free(s);
    }
}

static void seek_continues_the_same_sequence(void **state)
{
    (void)state;
    static struct data d;
    struct ft_err err = {0};
    make(&d, 13, ft_rand_at(7, FT_RAND_TEST, 1), 11);
    struct ft_sampler_shape shape;
    assert_int_equal(ft_sampler_fit_shape(&d.view, 24, 4, &shape, &err), FT_OK);
    struct ft_sampler *a = NULL, *b = NULL;
    assert_int_equal(ft_sampler_new(&d.view, &shape, 5, &a, &err), FT_OK);
    assert_int_equal(ft_sampler_new(&d.view, &shape, 5, &b, &err), FT_OK);
    uint32_t ia[64], ib[64];
    int32_t ca[64], cb[64];
    static const uint64_t places[] = {17, 3, 60, 0, 41};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        ft_sampler_free(a);
        assert_int_equal(ft_sampler_new(&d.view, &shape, 5, &a, &err), FT_OK);
        for (uint64_t n = 0; n <= places[i]; n++) {
            ft_sampler_next(a, ia, ca);
        }
        ft_sampler_seek(b, places[i]);
        assert_int_equal(ft_sampler_position(b), places[i]);
        ft_sampler_next(b, ib, cb);
        assert_memory_equal(ia, ib, shape.batch * sizeof *ia);
        assert_memory_equal(ca, cb, shape.batch * sizeof *ca);
    }
    ft_sampler_free(a);
    ft_sampler_free(b);
}

static void seeds_differ(void **state)
{
    (void)state;
    static struct data d;
    struct ft_err err = {0};
    make(&d, 20, ft_rand_at(8, FT_RAND_TEST, 1), 20);
    struct ft_sampler_shape shape;
    assert_int_equal(ft_sampler_fit_shape(&d.view, 32, 4, &shape, &err), FT_OK);
    uint32_t items[2][32];
    int32_t classes[32];
    for (uint64_t seed = 0; seed < 2; seed++) {
        struct ft_sampler *s = NULL;
        assert_int_equal(ft_sampler_new(&d.view, &shape, seed, &s, &err), FT_OK);
        ft_sampler_next(s, items[seed], classes);
        ft_sampler_free(s);
    }
    assert_memory_not_equal(items[0], items[1], sizeof items[0]);
}

static struct ft_sampler_shape shape_of(size_t classes, size_t each, size_t batch, size_t k)
{
    static struct data d;
    memset(&d, 0, sizeof d);
    for (size_t c = 0; c < classes; c++) {
        d.items[c] = d.pool;
        d.counts[c] = each;
    }
    d.view = (struct ft_sampler_classes){classes, count_of, item_of, &d};
    struct ft_err err = {0};
    struct ft_sampler_shape shape;
    assert_int_equal(ft_sampler_fit_shape(&d.view, batch, k, &shape, &err), FT_OK);
    return shape;
}

static void shape_is_the_nearest_workable(void **state)
{
    (void)state;
    struct ft_sampler_shape s = shape_of(42, 200, 128, 4);
    assert_int_equal(s.classes_per_batch, 32);
    assert_int_equal(s.items_per_class, 4);
    assert_int_equal(s.batches_per_epoch, (42 * 200 + 127) / 128);
    assert_false(s.adjusted);
    s = shape_of(10, 100, 128, 4); /* fewer classes: all of them */
    assert_int_equal(s.classes_per_batch, 10);
    assert_int_equal(s.items_per_class, 12);
    assert_int_equal(s.batch, 120);
    assert_true(s.adjusted);
    s = shape_of(50, 100, 128, 5); /* 5 does not divide 128 */
    assert_int_equal(s.items_per_class, 4);
    assert_int_equal(s.batch, 128);
    assert_true(s.adjusted);
    s = shape_of(50, 100, 31, 4); /* a prime batch */
    assert_int_equal(s.items_per_class, 4);
    assert_int_equal(s.batch, 28);
    s = shape_of(2, 3, 128, 4); /* few and short classes: no padding for its own sake */
    assert_int_equal(s.batch, 6);
    assert_int_equal(s.batches_per_epoch, 1);
}

static void impossible_shapes_are_refused(void **state)
{
    (void)state;
    static struct data d;
    struct ft_err err = {0};
    struct ft_sampler_shape shape;
    d.items[0] = d.pool;
    d.counts[0] = 100;
    d.view = (struct ft_sampler_classes){2, count_of, item_of, &d}; /* the second one is empty */
    assert_int_equal(ft_sampler_fit_shape(&d.view, 128, 4, &shape, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "two classes"));
    d.items[1] = d.pool;
    d.counts[1] = 100;
    assert_int_equal(ft_sampler_fit_shape(&d.view, 3, 4, &shape, &err), FT_INVALID);
    assert_int_equal(ft_sampler_fit_shape(&d.view, 128, 1, &shape, &err), FT_INVALID);
}

/* Classes that no memory holds: class c has 1000 + c % 7 items, numbered from c * 10000. */
static size_t long_count(const void *arg, size_t c)
{
    (void)arg;
    return 1000 + c % 7;
}

static uint32_t long_item(const void *arg, size_t c, size_t k)
{
    (void)arg;
    return (uint32_t)(c * 10000 + k);
}

/* Long orders, which are computed by place, keep the promise too: five passes over 80 classes and, of each,
 * over its items, with draws that go over the ends of passes. */
static void long_orders_keep_the_promise(void **state)
{
    (void)state;
    enum { CLASSES = 80, LONGEST = 1006, K = 18, P = 14 };
    const struct ft_sampler_classes data = {CLASSES, long_count, long_item, NULL};
    const struct ft_sampler_shape shape = {P, K, P * K, 1, false};
    struct ft_err err = {0};
    struct ft_sampler *s = NULL;
    static unsigned seen[CLASSES][LONGEST];
    unsigned rounds[CLASSES] = {0};
    uint32_t items[P * K];
    int32_t classes[P * K];
    memset(seen, 0, sizeof seen);
    assert_int_equal(ft_sampler_new(&data, &shape, 9, &s, &err), FT_OK);
    for (int b = 0; b < 5 * 1006 / K * CLASSES / P; b++) {
        ft_sampler_next(s, items, classes);
        for (size_t g = 0; g < P; g++) {
            size_t c = (size_t)classes[g * K];
            rounds[c]++;
            for (size_t i = g * K; i < g * K + K; i++) {
                assert_int_equal(classes[i], c);
                assert_int_equal(items[i] / 10000, c);
                seen[c][items[i] % 10000]++;
                for (size_t j = g * K; j < i; j++) {
                    assert_int_not_equal(items[i], items[j]);
                }
            }
            for (size_t h = 0; h < g; h++) {
                assert_int_not_equal(classes[h * K], c);
            }
            unsigned low = UINT32_MAX, high = 0;
            for (size_t i = 0; i < long_count(NULL, c); i++) {
                low = seen[c][i] < low ? seen[c][i] : low;
                high = seen[c][i] > high ? seen[c][i] : high;
            }
            assert_true(high - low <= 1);
        }
        unsigned low = UINT32_MAX, high = 0;
        for (size_t c = 0; c < CLASSES; c++) {
            low = rounds[c] < low ? rounds[c] : low;
            high = rounds[c] > high ? rounds[c] : high;
        }
        assert_true(high - low <= 1);
    }
    assert_true(rounds[0] >= 278);
    ft_sampler_free(s);
}

/* Where an item comes in a pass is uniform, whatever the item: chi squared over 16 parts of the pass, for 40
 * items of a class of 1000 in 4000 orders. 15 degrees of freedom; 44.3 is exceeded once in 10,000. */
static void every_item_comes_anywhere(void **state)
{
    (void)state;
    enum { ITEMS = 1000, ORDERS = 4000, PARTS = 16 };
    static unsigned seen[40][PARTS];
    const struct ft_sampler_classes data = {2, long_count, long_item, NULL};
    const struct ft_sampler_shape shape = {2, ITEMS / 4, ITEMS / 2, 1, false};
    struct ft_err err = {0};
    uint32_t items[ITEMS / 2];
    int32_t classes[ITEMS / 2];
    double worst = 0;
    memset(seen, 0, sizeof seen);
    for (uint64_t seed = 0; seed < ORDERS; seed++) {
        struct ft_sampler *s = NULL;
        assert_int_equal(ft_sampler_new(&data, &shape, seed, &s, &err), FT_OK);
        for (size_t b = 0; b < 4; b++) {
            ft_sampler_next(s, items, classes);
            for (size_t i = 0; i < ITEMS / 2; i++) {
                if (classes[i] == 0 && items[i] < 40) {
                    seen[items[i]][b * 4 + i % (ITEMS / 4) * 4 / (ITEMS / 4)]++;
                }
            }
        }
        ft_sampler_free(s);
    }
    for (size_t i = 0; i < 40; i++) {
        double chi = 0;
        for (size_t k = 0; k < PARTS; k++) {
            double want = (double)ORDERS / PARTS;
            chi += (seen[i][k] - want) * (seen[i][k] - want) / want;
        }
        worst = chi > worst ? chi : worst;
    }
    print_message("worst chi squared of 40: %.1f\n", worst);
    assert_true(worst < 44.3);
}

static size_t many_count(const void *arg, size_t c)
{
    (void)arg;
    return 10 + c % 2;
}

static uint32_t many_item(const void *arg, size_t c, size_t k)
{
    (void)arg;
    return (uint32_t)(c * 11 + k);
}

/* Ten million Documents in a million classes: the sampler's memory is that of a batch, and any place is at
 * once. */
static void memory_does_not_grow_with_the_data(void **state)
{
    (void)state;
    const struct ft_sampler_classes data = {1000000, many_count, many_item, NULL};
    struct ft_err err = {0};
    struct ft_sampler_shape shape;
    struct ft_sampler *s = NULL;
    uint32_t items[128];
    int32_t classes[128];
    assert_int_equal(ft_sampler_fit_shape(&data, 128, 4, &shape, &err), FT_OK);
    size_t before = ft_alloc_stats().live_bytes;
    assert_int_equal(ft_sampler_new(&data, &shape, 1, &s, &err), FT_OK);
    size_t bytes = ft_alloc_stats().live_bytes - before;
    print_message("a sampler over 10.5 million Documents has %zu bytes\n", bytes);
    assert_true(bytes < 4096);
    ft_sampler_seek(s, 123456789);
    ft_sampler_next(s, items, classes);
    for (size_t i = 0; i < 128; i++) {
        assert_int_equal(items[i] / 11, classes[i]);
    }
    ft_sampler_free(s);
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    static struct data d;
    struct ft_err err = {0};
    make(&d, 10, ft_rand_at(3, FT_RAND_TEST, 1), 9);
    struct ft_sampler_shape shape;
    assert_int_equal(ft_sampler_fit_shape(&d.view, 16, 4, &shape, &err), FT_OK);
    size_t live = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    for (uint64_t n = 1; st != FT_OK; n++) {
        struct ft_sampler *s = NULL;
        ft_alloc_fail_at(n);
        st = ft_sampler_new(&d.view, &shape, 5, &s, &err);
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || (st == FT_NOMEM && s == NULL));
        ft_sampler_free(s);
        assert_int_equal(ft_alloc_stats().live_blocks, live);
        assert_true(n < 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_repeats_before_all_appeared),
        cmocka_unit_test(seek_continues_the_same_sequence),
        cmocka_unit_test(seeds_differ),
        cmocka_unit_test(shape_is_the_nearest_workable),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(long_orders_keep_the_promise),
        cmocka_unit_test(every_item_comes_anywhere),
        cmocka_unit_test(memory_does_not_grow_with_the_data),
        cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
