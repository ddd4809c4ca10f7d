/* links: ft_eval ft_kernels ft_base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "executor/eval/metrics.h"

enum { MANY = 700, DIM = 7 };

static const char *const devices[] = {"ref", "cpu"};

static struct ft_device *open_device(const char *name)
{
    struct ft_device *device = NULL;
    struct ft_err err = {0};
    assert_int_equal(ft_device_open(name, 1, &device, &err), FT_OK);
    return device;
}

/* The whole matrix of distances in double and a full sort: what search must equal. */
struct pair {
    double distance;
    uint32_t id;
};

static int by_distance(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->distance != y->distance) {
        return x->distance < y->distance ? -1 : 1;
    }
    return x->id < y->id ? -1 : 1;
}

static double distance(enum ft_metric metric, const float *a, const float *b)
{
    double aa = 0, bb = 0, ab = 0, dd = 0;
    for (int i = 0; i < DIM; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
        dd += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    if (metric == FT_METRIC_COSINE) {
        return 1.0 - ab / sqrt(aa * bb);
    }
    return metric == FT_METRIC_EUCLIDEAN ? sqrt(dd) : dd;
}

static void fill(float *x, size_t count, uint64_t where)
{
    for (size_t i = 0; i < count; i++) {
        x[i] = (float)ft_rand_normal(ft_rand_at(99, FT_RAND_TEST, where), i);
    }
}

static void search_equals_a_full_sort(void **state)
{
    (void)state;
    static float queries[MANY * DIM], index[3 * MANY * DIM], distances[MANY * 30];
    static uint32_t ids[MANY * 30];
    static struct pair all[3 * MANY];
    fill(queries, MANY * DIM, 1);
    fill(index, (size_t)3 * MANY * DIM, 2);
    struct ft_err err = {0};
    for (size_t d = 0; d < 2; d++) {
        struct ft_device *device = open_device(devices[d]);
        for (int metric = 0; metric < 3; metric++) {
            struct ft_search s = {.queries = queries,
                                  .index = index,
                                  .n_queries = 300,
                                  .n_index = (size_t)3 * MANY,
                                  .dim = DIM,
                                  .k = 30,
                                  .metric = (enum ft_metric)metric};
            assert_int_equal(ft_search_run(device, &s, ids, distances, &err), FT_OK);
            for (size_t q = 0; q < s.n_queries; q++) {
                for (size_t i = 0; i < s.n_index; i++) {
                    all[i].distance = distance(s.metric, queries + q * DIM, index + i * DIM);
                    all[i].id = (uint32_t)i;
                }
                qsort(all, s.n_index, sizeof *all, by_distance);
                for (size_t k = 0; k < s.k; k++) {
                    /* Near-ties may swap: float products of 7 numbers differ from double by about 1e-6. */
                    assert_true(fabs((double)distances[q * s.k + k] - all[k].distance) <
                                1e-5 * (1 + all[k].distance) +
                                    2e-3 * (metric == 1 && all[k].distance < 1e-2));
                    if (k + 1 < s.k && k > 0 && all[k + 1].distance - all[k].distance > 1e-4 &&
                        all[k].distance - all[k - 1].distance > 1e-4) {
                        assert_int_equal(ids[q * s.k + k], all[k].id);
                    }
                }
            }
        }
        ft_device_close(device);
    }
}

struct told {
    size_t calls, done, total;
    bool sinks;
};

static void tell(void *arg, size_t done, size_t total)
{
    struct told *told = arg;
    told->sinks = told->sinks || done < told->done;
    told->done = done;
    told->total = total;
    told->calls++;
}

/* 300 queries are two tiles, each against 2,048 of the index and the rest of it. */
static void a_search_tells_how_far_it_is(void **state)
{
    (void)state;
    enum { INDEX = 3000 };
    static float queries[300 * DIM], index[INDEX * DIM], distances[300];
    fill(queries, 300 * DIM, 4);
    fill(index, (size_t)INDEX * DIM, 5);
    struct ft_err err = {0};
    struct told told = {0};
    struct ft_device *device = open_device(devices[0]);
    struct ft_search s = {.queries = queries,
                          .index = index,
                          .n_queries = 300,
                          .n_index = INDEX,
                          .dim = DIM,
                          .k = 1,
                          .progress = tell,
                          .progress_arg = &told};
    assert_int_equal(ft_search_run(device, &s, NULL, distances, &err), FT_OK);
    assert_int_equal(told.calls, 4);
    assert_int_equal(told.done, 300);
    assert_int_equal(told.total, 300);
    assert_false(told.sinks);
    ft_device_close(device);
}

static void ties_are_ordered_by_index_and_self_is_left_out(void **state)
{
    (void)state;
    static const float rows[] = {1, 0, 1, 0, 0, 1, 1, 0, 0, 0};
    uint32_t ids[5 * 6];
    float distances[5 * 6];
    struct ft_err err = {0};
    struct ft_device *device = open_device("ref");
    struct ft_search s = {.queries = rows,
                          .index = rows,
                          .n_queries = 5,
                          .n_index = 5,
                          .dim = 2,
                          .k = 6,
                          .metric = FT_METRIC_COSINE,
                          .exclude_self = true};
    assert_int_equal(ft_search_run(device, &s, ids, distances, &err), FT_OK);
    static const uint32_t first[] = {1, 3, 2, 4, UINT32_MAX, UINT32_MAX};
    assert_memory_equal(ids, first, sizeof first);
    assert_true(distances[0] == 0.0F && distances[2] == 1.0F && isinf(distances[5]));
    static const uint32_t zero_row[] = {0, 1,          2,
                                        3, UINT32_MAX, UINT32_MAX}; /* no direction: distance 1 to all */
    assert_memory_equal(ids + 24, zero_row, sizeof zero_row);
    ft_device_close(device);
}

static void bad_input_is_named(void **state)
{
    (void)state;
    float rows[] = {1, 0, NAN, 0};
    struct ft_err err = {0};
    uint32_t ids[2];
    enum ft_metric metric;
    assert_int_equal(ft_metric_parse("euclidean", &metric, &err), FT_OK);
    assert_int_equal(metric, FT_METRIC_EUCLIDEAN);
    assert_int_equal(ft_metric_parse("manhattan", &metric, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "cosine"));
    struct ft_device *device = open_device("ref");
    struct ft_search s = {.queries = rows,
                          .index = rows,
                          .n_queries = 1,
                          .n_index = 2,
                          .dim = 2,
                          .k = 1,
                          .metric = FT_METRIC_COSINE};
    assert_int_equal(ft_search_run(device, &s, ids, NULL, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "index embedding 1"));
    s.k = 0;
    assert_int_equal(ft_search_run(device, &s, ids, NULL, &err), FT_INVALID);
    rows[2] = 1e20F; /* its square is no float: all distances would come out as 0 */
    s.k = 1;
    s.metric = FT_METRIC_EUCLIDEAN;
    assert_int_equal(ft_search_run(device, &s, ids, NULL, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "index embedding 1"));
    s.metric = FT_METRIC_COSINE;
    float distance = 0;
    rows[0] = 1e-39F; /* 1 / length is no float: no direction, as with zeros */
    rows[2] = 1;
    assert_int_equal(ft_search_run(device, &s, ids, &distance, &err), FT_OK);
    assert_true(distance == 1.0F);
    rows[0] = 1;
    rows[2] = 0;
    s.k = 1;
    static const int32_t lonely[] = {0, 1};
    struct ft_metrics m;
    s.n_queries = 2;
    s.exclude_self = true;
    assert_int_equal(ft_metrics_run(device, &s, lonely, lonely, 20, &m, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "none of the 2 queries"));
    assert_int_equal(ft_metrics_run(device, &s, lonely, lonely, 0, &m, &err), FT_INVALID);
    ft_device_close(device);
}

/* One query whose ranking is written by hand: relevant at ranks 1, 3 and 6, R = 3, limit 4. */
static void metrics_of_a_known_ranking(void **state)
{
    (void)state;
    static const float index[] = {1, 2, 3, 4, 5, 6};
    static const float query[] = {0, 0};
    static const int32_t labels[] = {7, 1, 7, -1, 1, 7}, query_labels[] = {7, -1};
    struct ft_err err = {0};
    struct ft_metrics m;
    struct ft_device *device = open_device("ref");
    struct ft_search s = {.queries = query,
                          .index = index,
                          .n_queries = 2,
                          .n_index = 6,
                          .dim = 1,
                          .metric = FT_METRIC_SQEUCLIDEAN};
    assert_int_equal(ft_metrics_run(device, &s, query_labels, labels, 4, &m, &err), FT_OK);
    assert_int_equal(m.queries, 1);
    assert_int_equal(m.skipped, 1);
    double p = 0.5, r = 2.0 / 3.0, dcg = 1 + 1 / log2(3);
    double want[] = {p, r,       2 * p * r / (p + r), 1, (1 + 2.0 / 3) / 2, 1, dcg, dcg / (2 + 1 / log2(3)),
                     1, 2.0 / 3, (1 + 2.0 / 3) / 3};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        double value;
        assert_non_null(ft_metrics_at(&m, i, &value));
        assert_true(fabs(value - want[i]) < 1e-12);
    }
    double value;
    assert_null(ft_metrics_at(&m, sizeof want / sizeof *want, &value));
    ft_device_close(device);
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    static float rows[40 * DIM];
    static int32_t labels[40];
    fill(rows, (size_t)40 * DIM, 3);
    for (int i = 0; i < 40; i++) {
        labels[i] = i % 4;
    }
    struct ft_err err = {0};
    struct ft_device *device = open_device("ref");
    size_t live = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    for (uint64_t n = 1; st != FT_OK; n++) {
        struct ft_metrics m;
        struct ft_search s = {.queries = rows,
                              .index = rows,
                              .n_queries = 40,
                              .n_index = 40,
                              .dim = DIM,
                              .metric = FT_METRIC_COSINE,
                              .exclude_self = true};
        ft_alloc_fail_at(n);
        st = ft_metrics_run(device, &s, labels, labels, 20, &m, &err);
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        assert_int_equal(ft_alloc_stats().live_blocks, live);
        assert_true(n < 100);
    }
    ft_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_equals_a_full_sort),
        cmocka_unit_test(a_search_tells_how_far_it_is),
        cmocka_unit_test(ties_are_ordered_by_index_and_self_is_left_out),
        cmocka_unit_test(bad_input_is_named),
        cmocka_unit_test(metrics_of_a_known_ranking),
        cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
