/* links: ft_train ft_model ft_graph ft_kernels ft_codec ft_base */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "tests/train_test.h"

#include "executor/base/rand.h"
#include "executor/train/prefix.h"

enum { IN = 8, WIDE = 37, DIM = 5, ITEMS = 100 };

struct world {
    char *dir;
    struct ft_dataset *data;
    struct ft_prep prep;
    struct ft_rows rows;
    struct ft_device *device;
    struct ft_graph *graph;
    struct ft_frontier frontier;
    struct ft_params params;
    struct ft_prefix *prefix;
};

static ft_value frozen_linear(struct ft_graph *g, const char *name, ft_value x, int from, int to)
{
    ft_value out = times_weight(g, name, x, (int[]){from, to}, 0.3F);
    ft_graph_param_freeze(g, ft_graph_param_of(g, ft_graph_find(g, name)), true);
    return out;
}

/* Two values are the frozen end: a and b. */
static void make_graph(struct world *w)
{
    struct ft_err err = {0};
    struct ft_type type = ft_type_of(FT_F32, 2, (const int64_t[]){1, IN});
    ft_value x, a, b, y;
    type.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    ASSERT_OK(ft_graph_new(&w->graph, &err));
    ASSERT_OK(ft_graph_input(w->graph, "x", &type, &x, &err));
    ASSERT_OK(ft_graph_add1(w->graph, FT_OP_TANH, frozen_linear(w->graph, "one", x, IN, WIDE), &a, &err));
    ASSERT_OK(ft_graph_add1(w->graph, FT_OP_TANH, frozen_linear(w->graph, "two", a, WIDE, DIM), &b, &err));
    ASSERT_OK(ft_graph_add2(w->graph, FT_OP_ADD, times_weight(w->graph, "three", a, (int[]){WIDE, DIM}, 0.3F),
                            b, &y, &err));
    ASSERT_OK(ft_graph_output(w->graph, y, "embedding", &err));
    ASSERT_OK(ft_frontier_find(w->graph, &w->frontier, &err));
    assert_int_equal(w->frontier.n, 2);
    assert_int_equal(w->frontier.row_elements, WIDE + DIM);
}

static void write_data(const char *path)
{
    struct ft_err err = {0};
    struct ft_buf text = {0};
    for (int i = 0; i < ITEMS; i++) {
        ASSERT_OK(ft_buf_text(&text, "{\"tensor\": [", &err));
        for (int d = 0; d < IN; d++) {
            double v = ft_rand_normal(ft_rand_at(1, FT_RAND_TEST, 9), (uint64_t)(i * IN + d));
            ASSERT_OK(ft_buf_printf(&text, &err, "%s%.6f", d > 0 ? ", " : "", v));
        }
        ASSERT_OK(ft_buf_printf(&text, &err, "], \"label\": %d}\n", i % 4));
    }
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&text), &err));
    ft_buf_release(&text);
}

static int set_up(void **state)
{
    struct ft_err err = {0};
    static struct world w;
    char *path = NULL;
    ASSERT_OK(ft_dir_temp("ft-prefix", &w.dir, &err));
    ASSERT_OK(ft_path_join(w.dir, "data.jsonl", &path, &err));
    write_data(path);
    ASSERT_OK(ft_dataset_open(path, true, &w.data, &err));
    ft_free(path);
    ASSERT_OK(ft_prep_infer((const int64_t[]){IN}, 1, &w.prep, &err));
    ASSERT_OK(ft_rows_init(&w.rows, w.data, &w.prep, 2, 0, NULL, &err));
    make_graph(&w);
    ASSERT_OK(ft_device_open("cpu", 2, &w.device, &err));
    ASSERT_OK(ft_params_init(&w.params, w.device, w.graph, NULL, &err));
    ASSERT_OK(ft_prefix_new(w.device, &w.frontier, &w.params, 0, &w.prefix, &err));
    *state = &w;
    return 0;
}

static int tear_down(void **state)
{
    struct ft_err err = {0};
    struct world *w = *state;
    ft_prefix_free(w->prefix);
    ft_params_release(&w->params);
    ft_device_close(w->device);
    ft_frontier_release(&w->frontier);
    ft_graph_free(w->graph);
    ft_rows_release(&w->rows);
    ft_dataset_free(w->data);
    ASSERT_OK(ft_path_remove(w->dir, &err));
    ft_free(w->dir);
    return 0;
}

/* ---- the cache */

static void fill_into(struct world *w, struct ft_prefix_fill how, struct ft_prefix_cache **cache)
{
    struct ft_err err = {0};
    how.rows = &w->rows;
    ASSERT_OK(ft_prefix_fill(w->prefix, &how, cache, &err));
}

/* In any order, in any company, at any place in a batch: the same bits as out of the cache. */
static void rows_do_not_depend_on_their_batch(void **state)
{
    struct world *w = *state;
    struct ft_err err = {0};
    struct ft_prefix_cache *cache = NULL;
    struct ft_batch raw, computed, kept;
    struct ft_batch_input input = {.name = "x", .row_elements = IN};
    fill_into(w, (struct ft_prefix_fill){.memory_max = SIZE_MAX}, &cache);
    assert_false(ft_prefix_cache_is_file(cache));
    assert_int_equal(ft_prefix_cache_bytes(cache), ITEMS * (WIDE + DIM) * 2);
    ASSERT_OK(ft_batch_init(&raw, &input, 1, 50, 0, &err));
    ASSERT_OK(ft_prefix_batch_init(&w->frontier, 50, 0, &computed, &err));
    ASSERT_OK(ft_prefix_batch_init(&w->frontier, 50, 0, &kept, &err));
    assert_int_equal(computed.n_inputs, 2);
    for (uint32_t round = 0; round < 20; round++) {
        raw.rows = round % 2 == 0 ? 50 : 1 + round;
        for (uint32_t r = 0; r < raw.rows; r++) {
            raw.items[r] = (r * 37 + round * 11) % ITEMS;
            raw.labels[r] = (int32_t)r;
            ASSERT_OK(ft_rows_get(&w->rows, raw.items[r], raw.input[0].data + (size_t)r * IN, &err));
            kept.items[r] = raw.items[r];
        }
        kept.rows = raw.rows;
        ft_prefix_cache_batch(cache, &kept);
        ASSERT_OK(ft_prefix_batch(w->prefix, &raw, &computed, &err));
        assert_int_equal(computed.rows, raw.rows);
        assert_memory_equal(computed.items, raw.items, raw.rows * sizeof *raw.items);
        assert_memory_equal(computed.labels, raw.labels, raw.rows * sizeof *raw.labels);
        assert_memory_equal(computed.input[0].data, kept.input[0].data, raw.rows * WIDE * sizeof(float));
        assert_memory_equal(computed.input[1].data, kept.input[1].data, raw.rows * DIM * sizeof(float));
    }
    ft_batch_release(&raw);
    ft_batch_release(&computed);
    ft_batch_release(&kept);
    ft_prefix_cache_free(cache);
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The first value is tanh(x w): near it, and a bf16 number. */
static void what_is_kept_is_rounded(void **state)
{
    struct world *w = *state;
    struct ft_err err = {0};
    struct ft_prefix_cache *cache = NULL;
    struct ft_batch kept;
    float row[IN];
    fill_into(w, (struct ft_prefix_fill){.memory_max = SIZE_MAX}, &cache);
    ASSERT_OK(ft_prefix_batch_init(&w->frontier, 1, 0, &kept, &err));
    const float *weight = ft_graph_data(w->graph, ft_graph_find(w->graph, "one"));
    for (size_t i = 0; i < ITEMS; i++) {
        kept.items[0] = (uint32_t)i;
        kept.rows = 1;
        ft_prefix_cache_batch(cache, &kept);
        ASSERT_OK(ft_rows_get(&w->rows, i, row, &err));
        for (int k = 0; k < WIDE; k++) {
            double sum = 0;
            for (int d = 0; d < IN; d++) {
                sum += (double)row[d] * (double)weight[d * WIDE + k];
            }
            float got = kept.input[0].data[k];
            assert_int_equal(bits_of(got) & 0xffff, 0);
            /* Half a step of 8 bits, and the error of float arithmetic. */
            assert_true(fabs((double)got - tanh(sum)) <= fabs(tanh(sum)) / 256 + 1e-5);
        }
    }
    ft_batch_release(&kept);
    ft_prefix_cache_free(cache);
}

static void a_file_holds_what_memory_holds_and_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct ft_err err = {0};
    struct ft_prefix_cache *caches[2] = {NULL, NULL};
    struct ft_dir_list list;
    struct ft_batch b[2];
    fill_into(w, (struct ft_prefix_fill){.memory_max = SIZE_MAX}, &caches[0]);
    fill_into(w, (struct ft_prefix_fill){.memory_max = 100, .dir = w->dir}, &caches[1]);
    assert_true(ft_prefix_cache_is_file(caches[1]));
    for (int k = 0; k < 2; k++) {
        ASSERT_OK(ft_prefix_batch_init(&w->frontier, ITEMS, 0, &b[k], &err));
        for (size_t i = 0; i < ITEMS; i++) {
            b[k].items[i] = (uint32_t)i;
        }
        b[k].rows = ITEMS;
        ft_prefix_cache_batch(caches[k], &b[k]);
    }
    assert_memory_equal(b[0].input[0].data, b[1].input[0].data, ITEMS * WIDE * sizeof(float));
    assert_memory_equal(b[0].input[1].data, b[1].input[1].data, ITEMS * DIM * sizeof(float));
    ASSERT_OK(ft_dir_list(w->dir, &list, &err));
    assert_int_equal(list.count, 1); /* the data */
    ft_dir_list_release(&list);
    for (int k = 0; k < 2; k++) {
        ft_batch_release(&b[k]);
        ft_prefix_cache_free(caches[k]);
    }
}

static void no_room_is_said_with_the_figure(void **state)
{
    struct world *w = *state;
    struct ft_err err = {0};
    struct ft_prefix_cache *cache = NULL;
    struct ft_prefix_fill how = {.rows = &w->rows, .dir = w->dir};
    struct rlimit old, less = {1000, 1000};
    how.dir = "/nonexistent/ft";
    assert_int_equal(ft_prefix_fill(w->prefix, &how, &cache, &err), FT_IO);
    assert_non_null(strstr(err.text, "/nonexistent/ft/frozen-"));
    /* A file that may not grow stands for a disk that is full. */
    ft_err_clear(&err);
    how.dir = w->dir;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    less.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
    enum ft_status st = ft_prefix_fill(w->prefix, &how, &cache, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(st, FT_IO);
    assert_null(cache);
    assert_non_null(strstr(err.text, "0.0 MB"));
    assert_non_null(strstr(err.text, w->dir));
    assert_non_null(strstr(err.text, "activation_cache off"));
}

struct watcher {
    struct ft_cancel cancel;
    size_t calls, last;
};

static void watch(void *arg, size_t done, size_t count)
{
    struct watcher *s = arg;
    assert_true(done > s->last && done <= count);
    s->calls++;
    s->last = done;
    if (s->calls == 2) {
        atomic_store(&s->cancel.asked, true);
    }
}

static void filling_can_be_watched_and_cancelled(void **state)
{
    struct world *w = *state;
    struct ft_err err = {0};
    struct ft_prefix_cache *cache = NULL;
    struct watcher watcher = {.calls = 0};
    struct ft_prefix_fill how = {.rows = &w->rows,
                                 .memory_max = SIZE_MAX,
                                 .cancel = &watcher.cancel,
                                 .progress = watch,
                                 .arg = &watcher};
    atomic_init(&watcher.cancel.asked, false);
    size_t live = ft_alloc_stats().live_blocks;
    assert_int_equal(ft_prefix_fill(w->prefix, &how, &cache, &err), FT_CANCELLED);
    assert_int_equal(watcher.calls, 2);
    assert_int_equal(watcher.last, 2 * FT_PREFIX_ROWS);
    assert_int_equal(ft_alloc_stats().live_blocks, live);
}

static enum ft_status make_and_fill(void *arg, struct ft_err *err)
{
    struct world *w = arg;
    struct ft_prefix *prefix = NULL;
    struct ft_prefix_cache *cache = NULL;
    struct ft_prefix_fill how = {.rows = &w->rows, .threads = 1, .memory_max = SIZE_MAX};
    enum ft_status st = ft_prefix_new(w->device, &w->frontier, &w->params, 0, &prefix, err);
    if (st == FT_OK) {
        st = ft_prefix_fill(prefix, &how, &cache, err);
    }
    ft_prefix_cache_free(cache);
    ft_prefix_free(prefix);
    return st;
}

/* Documents are prepared again when an allocation failed, so some failures pass: only leaks count there. */
static void out_of_memory_leaks_nothing(void **state)
{
    struct world *w = *state;
    struct ft_err err = {0};
    ASSERT_OK(make_and_fill(w, &err));
    size_t live = ft_alloc_stats().live_blocks;
    uint64_t calls = ft_alloc_stats().calls;
    ASSERT_OK(make_and_fill(w, &err));
    calls = ft_alloc_stats().calls - calls;
    uint64_t refused = 0;
    for (uint64_t n = 1; n <= calls; n++) {
        ft_err_clear(&err);
        ft_alloc_fail_at(n);
        enum ft_status st = make_and_fill(w, &err);
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        refused += st == FT_NOMEM;
        assert_int_equal(ft_alloc_stats().live_blocks, live);
    }
    assert_true(refused >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_do_not_depend_on_their_batch),
        cmocka_unit_test(what_is_kept_is_rounded),
        cmocka_unit_test(a_file_holds_what_memory_holds_and_leaves_nothing),
        cmocka_unit_test(no_room_is_said_with_the_figure),
        cmocka_unit_test(filling_can_be_watched_and_cancelled),
        cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
