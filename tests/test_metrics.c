/* links: ft_base */
#include "executor/base/metrics.h"

#include <pthread.h>

#include "tests/support.h"

static const struct ft_metric FAMILIES[] = {
    {.name = "calls_total",
     .kind = FT_METRIC_COUNTER,
     .help = "Calls",
     .labels = {"method", "code"},
     .created = true},
    {.name = "waiting", .kind = FT_METRIC_GAUGE, .help = "Now"},
    {.name = "size", .kind = FT_METRIC_HISTOGRAM, .help = "Sizes", .bounds = {1, 2.5, 100}},
    {.name = "seconds", .kind = FT_METRIC_SUMMARY, .help = "Time", .labels = {"method"}},
};
enum { CALLS, WAITING, SIZE, SECONDS, COUNT, THREADS = 4, EACH = 20000 };

static struct ft_metrics *new_metrics(void)
{
    struct ft_err err = {0};
    struct ft_metrics *metrics = NULL;
    ASSERT_OK(ft_metrics_new(FAMILIES, COUNT, &metrics, &err));
    return metrics;
}

static struct ft_series *call_series(struct ft_metrics *metrics, const char *method, const char *code)
{
    const char *const values[] = {method, code};
    return ft_metrics_series(metrics, CALLS, values);
}

static struct ft_buf page_of(const struct ft_metrics *metrics)
{
    struct ft_err err = {0};
    struct ft_buf page = {0};
    ASSERT_OK(ft_metrics_write(metrics, &page, &err));
    return page;
}

static void has(const struct ft_buf *page, const char *text)
{
    if (strstr((const char *)page->data, text) == NULL) {
        fail_msg("'%s' is not in\n%s", text, (const char *)page->data);
    }
}

/* What prometheus_client's parser makes of a page is in tests/oracle/test_metrics.py. */
static void a_page_is_as_the_format_says(void **state)
{
    (void)state;
    struct ft_metrics *metrics = new_metrics();
    const char *const method[] = {"a"};
    ft_series_set(ft_metrics_series(metrics, WAITING, NULL), 2.5);
    ft_series_add(ft_metrics_series(metrics, SIZE, NULL), 1);
    ft_series_add(ft_metrics_series(metrics, SIZE, NULL), 1.5);
    ft_series_add(ft_metrics_series(metrics, SIZE, NULL), 1000);
    ft_series_add(ft_metrics_series(metrics, SECONDS, method), 0.25);
    struct ft_buf page = page_of(metrics);
    assert_string_equal((const char *)page.data,
                        "# HELP waiting Now\n# TYPE waiting gauge\nwaiting 2.5\n"
                        "# HELP size Sizes\n# TYPE size histogram\n"
                        "size_bucket{le=\"1\"} 1\nsize_bucket{le=\"2.5\"} 2\n"
                        "size_bucket{le=\"100\"} 2\nsize_bucket{le=\"+Inf\"} 3\n"
                        "size_count 3\nsize_sum 1002.5\n"
                        "# HELP seconds Time\n# TYPE seconds summary\n"
                        "seconds_count{method=\"a\"} 1\nseconds_sum{method=\"a\"} 0.25\n");
    ft_buf_release(&page);
    ft_metrics_free(metrics);
    ft_metrics_free(NULL);
}

static void values_of_labels_stay_one_line_of_utf8(void **state)
{
    (void)state;
    struct ft_metrics *metrics = new_metrics();
    ft_series_count(call_series(metrics, "a\"b\\c\nd", "\xff\xc3\xa9\xe2\x82"), 1);
    ft_series_count(call_series(metrics, "", "\r"), 3);
    struct ft_buf page = page_of(metrics);
    has(&page,
        "calls_total{method=\"a\\\"b\\\\c\\nd\",code=\"\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\"} 1\n");
    has(&page, "calls_total{method=\"\",code=\"\xef\xbf\xbd\"} 3\n");
    has(&page, "# TYPE calls_created gauge\ncalls_created{");
    assert_true(ft_utf8_valid(ft_buf_bytes(&page)));
    ft_buf_release(&page);
    ft_metrics_free(metrics);
}

static void *count_calls(void *arg)
{
    static const char *const codes[] = {"OK", "NOT_FOUND", "CANCELLED"};
    for (int i = 0; i < EACH; i++) {
        ft_series_count(call_series(arg, "same", codes[i % 3]), 1);
        ft_series_add(ft_metrics_series(arg, SIZE, NULL), 1.0 / 64);
    }
    return NULL;
}

/* Two who want the same new series at once get one, and nothing that is counted gets lost. */
static void threads_count_together(void **state)
{
    (void)state;
    struct ft_metrics *metrics = new_metrics();
    pthread_t threads[THREADS];
    char want[64];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_calls, metrics), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        struct ft_buf page = page_of(metrics); /* beside them */
        ft_buf_release(&page);
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    struct ft_buf page = page_of(metrics);
    (void)snprintf(want, sizeof want, "code=\"CANCELLED\"} %d\n", THREADS * (EACH / 3));
    has(&page, want);
    (void)snprintf(want, sizeof want, "size_count %d\nsize_sum %d\n", THREADS * EACH, THREADS * EACH / 64);
    has(&page, want);
    const char *first = strstr((const char *)page.data, "code=\"OK\"");
    assert_non_null(first);
    assert_null(strstr(strchr(first, '\n'), "total{method=\"same\",code=\"OK\""));
    ft_buf_release(&page);
    ft_metrics_free(metrics);
}

static void without_memory_there_is_a_status_and_no_leak(void **state)
{
    (void)state;
    size_t before = ft_alloc_stats().live_blocks;
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        struct ft_err err = {0};
        struct ft_metrics *metrics = NULL;
        struct ft_buf page = {0};
        ft_alloc_fail_at(n);
        enum ft_status st = ft_metrics_new(FAMILIES, COUNT, &metrics, &err);
        if (st == FT_OK) {
            ft_series_count(call_series(metrics, "a", "b"), 1); /* NULL is fine */
            st = ft_metrics_write(metrics, &page, &err);
        }
        ft_alloc_fail_at(0);
        bool counted = st == FT_OK && strstr((const char *)page.data, "code=\"b\"") != NULL;
        assert_true(st == FT_OK || st == FT_NOMEM);
        ft_buf_release(&page);
        ft_metrics_free(metrics);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
        if (counted) {
            break;
        }
        failures++;
    }
    assert_true(failures > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_as_the_format_says),
        cmocka_unit_test(values_of_labels_stay_one_line_of_utf8),
        cmocka_unit_test(threads_count_together),
        cmocka_unit_test(without_memory_there_is_a_status_and_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
