/* links: ft_base */
#include "executor/base/thread.h"

#include <pthread.h>
#include <signal.h>

#include "executor/base/clock.h"
#include "tests/support.h"

struct seen {
    char name[32];
    bool blocked;
};

static void look_around(void *arg)
{
    struct seen *seen = arg;
    sigset_t mask;
    (void)pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    seen->blocked = sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGTERM) == 1;
}

static void a_thread_blocks_signals_and_is_joined(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_thread *thread = NULL;
    struct seen seen = {0};
    sigset_t before;
    sigset_t after;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &before);
    ASSERT_OK(ft_thread_start("a-name-longer-than-15", look_around, &seen, &thread, &err));
    (void)pthread_sigmask(SIG_BLOCK, NULL, &after);
    ft_thread_join(thread);
    assert_true(seen.blocked);
    assert_int_equal(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
    ft_thread_join(NULL);
}

static void a_queue_is_bounded_and_in_order(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_queue *queue = NULL;
    int items[4];
    ASSERT_OK(ft_queue_new(3, &queue, &err));
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++) {
            assert_true(ft_queue_try_push(queue, &items[i]));
        }
        assert_false(ft_queue_try_push(queue, &items[3]));
        assert_int_equal(ft_queue_size(queue), 3);
        assert_ptr_equal(ft_queue_pop(queue, 0), &items[0]);
        assert_ptr_equal(ft_queue_pop(queue, -1), &items[1]);
        assert_ptr_equal(ft_queue_pop(queue, 10), &items[2]);
        assert_null(ft_queue_pop(queue, 0));
    }
    double start = ft_clock_seconds();
    assert_null(ft_queue_pop(queue, 50));
    assert_true(ft_clock_seconds() - start >= 0.049);
    assert_true(ft_queue_push(queue, &items[0]));
    ft_queue_close(queue);
    assert_false(ft_queue_push(queue, &items[1]));
    assert_false(ft_queue_try_push(queue, &items[1]));
    assert_ptr_equal(ft_queue_pop(queue, -1), &items[0]);
    assert_null(ft_queue_pop(queue, -1));
    ft_queue_free(queue);
    ft_queue_free(NULL);
}

enum { ITEMS = 5000, PRODUCERS = 3 };

struct traffic {
    struct ft_queue *queue;
    atomic_int taken[ITEMS * PRODUCERS];
    int values[ITEMS * PRODUCERS];
    atomic_int producer;
};

static void produce(void *arg)
{
    struct traffic *t = arg;
    int first = atomic_fetch_add(&t->producer, 1) * ITEMS;
    for (int i = 0; i < ITEMS; i++) {
        t->values[first + i] = first + i;
        if (!ft_queue_push(t->queue, &t->values[first + i])) {
            return;
        }
    }
}

static void consume(void *arg)
{
    struct traffic *t = arg;
    for (int *item = ft_queue_pop(t->queue, -1); item != NULL; item = ft_queue_pop(t->queue, -1)) {
        atomic_fetch_add(&t->taken[*item], 1);
    }
}

static void every_item_is_taken_once_under_threads(void **state)
{
    (void)state;
    static struct traffic t;
    struct ft_err err = {0};
    struct ft_thread *threads[PRODUCERS + 2];
    ASSERT_OK(ft_queue_new(7, &t.queue, &err));
    for (int i = 0; i < PRODUCERS + 2; i++) {
        ASSERT_OK(ft_thread_start("test", i < PRODUCERS ? produce : consume, &t, &threads[i], &err));
    }
    for (int i = 0; i < PRODUCERS; i++) {
        ft_thread_join(threads[i]);
    }
    ft_queue_close(t.queue);
    ft_thread_join(threads[PRODUCERS]);
    ft_thread_join(threads[PRODUCERS + 1]);
    for (int i = 0; i < ITEMS * PRODUCERS; i++) {
        assert_int_equal(atomic_load(&t.taken[i]), 1);
    }
    ft_queue_free(t.queue);
}

static void push_one(void *arg)
{
    int item = 0;
    (void)ft_queue_push(arg, &item); /* full: waits until closed */
}

static void closing_wakes_a_waiting_push(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_queue *queue = NULL;
    struct ft_thread *thread = NULL;
    int item = 0;
    ASSERT_OK(ft_queue_new(1, &queue, &err));
    assert_true(ft_queue_push(queue, &item));
    ASSERT_OK(ft_thread_start("push", push_one, queue, &thread, &err));
    ft_queue_close(queue);
    ft_thread_join(thread);
    assert_int_equal(ft_queue_size(queue), 1);
    ft_queue_free(queue);
}

static void count_up(void *arg, size_t i)
{
    atomic_int *counts = arg;
    atomic_fetch_add(&counts[i], 1);
}

static void a_pool_runs_each_index_once(void **state)
{
    (void)state;
    struct ft_err err = {0};
    static atomic_int counts[1000];
    for (size_t threads = 0; threads < 4; threads++) {
        struct ft_pool *pool = NULL;
        ASSERT_OK(ft_pool_new(threads, &pool, &err));
        for (int round = 1; round <= 50; round++) {
            size_t count = (size_t)round * 20;
            ft_pool_run(pool, count, count_up, counts);
            for (size_t i = 0; i < 1000; i++) {
                assert_int_equal(atomic_exchange(&counts[i], 0), i < count ? 1 : 0);
            }
        }
        ft_pool_run(pool, 0, count_up, counts);
        ft_pool_free(pool);
    }
    ft_pool_free(NULL);
}

static enum ft_status use_all(void *arg, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_queue *queue = NULL;
    struct ft_pool *pool = NULL;
    FT_TRY(ft_queue_new(3, &queue, err));
    FT_TRY(ft_pool_new(2, &pool, err));
    ft_pool_run(pool, 10, count_up, arg);
done:
    ft_queue_free(queue);
    ft_pool_free(pool);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    (void)state;
    static atomic_int counts[10];
    fail_each_allocation(use_all, counts);
}

static void cancelling_is_seen(void **state)
{
    (void)state;
    struct ft_cancel cancel = {0};
    assert_false(ft_cancelled(NULL));
    assert_false(ft_cancelled(&cancel));
    atomic_store(&cancel.asked, true);
    assert_true(ft_cancelled(&cancel));
    assert_true(ft_thread_cpus() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_blocks_signals_and_is_joined),
        cmocka_unit_test(a_queue_is_bounded_and_in_order),
        cmocka_unit_test(every_item_is_taken_once_under_threads),
        cmocka_unit_test(closing_wakes_a_waiting_push),
        cmocka_unit_test(a_pool_runs_each_index_once),
        cmocka_unit_test(memory_running_out_leaves_nothing_behind),
        cmocka_unit_test(cancelling_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
