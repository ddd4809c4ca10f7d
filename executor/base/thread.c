#include "executor/base/thread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/alloc.h"

struct ft_thread {
    pthread_t id;
    ft_thread_main run;
    void *arg;
};

static void *thread_main(void *p)
{
    struct ft_thread *thread = p;
    thread->run(thread->arg);
    return NULL;
}

enum ft_status ft_thread_start(const char *name, ft_thread_main run, void *arg, struct ft_thread **thread,
                               struct ft_err *err)
{
    *thread = NULL;
    struct ft_thread *t = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *t, &t, err));
    t->run = run;
    t->arg = arg;
    /* A new thread inherits the mask: block all here, so that no signal ever runs on it. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int cause = pthread_create(&t->id, NULL, thread_main, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (cause != 0) {
        ft_free(t);
        return FT_FAIL(err, UNAVAILABLE, "cannot start thread %s: error %d", name, cause);
    }
    char shown[16];
    (void)snprintf(shown, sizeof shown, "%.15s", name);
    (void)pthread_setname_np(t->id, shown);
    *thread = t;
    return FT_OK;
}

void ft_thread_join(struct ft_thread *thread)
{
    if (thread == NULL) {
        return;
    }
    int cause = pthread_join(thread->id, NULL);
    assert(cause == 0);
    ft_free(thread);
}

struct ft_queue {
    pthread_mutex_t mutex;  /* guards all below */
    pthread_cond_t filled;  /* an item came in, or closed */
    pthread_cond_t drained; /* an item went out, or closed */
    void **items;
    size_t capacity;
    size_t first;
    size_t count;
    bool closed;
};

/* A condition on the monotonic clock: setting the wall clock must not stretch a timeout. */
static int cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int cause = pthread_condattr_init(&attr);
    if (cause != 0) {
        return cause;
    }
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    cause = pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    return cause;
}

enum ft_status ft_queue_new(size_t capacity, struct ft_queue **queue, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_queue *q = NULL;
    *queue = NULL;
    assert(capacity > 0);
    FT_TRY(ft_new(1, sizeof *q, &q, err));
    FT_TRY(ft_new(capacity, sizeof *q->items, &q->items, err));
    q->capacity = capacity;
    if (pthread_mutex_init(&q->mutex, NULL) != 0) {
        st = FT_FAIL(err, NOMEM, "cannot make a mutex");
        goto done;
    }
    if (cond_init(&q->filled) != 0 || cond_init(&q->drained) != 0) {
        (void)pthread_mutex_destroy(&q->mutex);
        st = FT_FAIL(err, NOMEM, "cannot make a condition");
        goto done;
    }
    *queue = q;
    q = NULL;
done:
    if (q != NULL) {
        ft_free(q->items);
        ft_free(q);
    }
    return st;
}

static bool push(struct ft_queue *queue, void *item, bool wait)
{
    assert(item != NULL);
    (void)pthread_mutex_lock(&queue->mutex);
    while (wait && queue->count == queue->capacity && !queue->closed) {
        (void)pthread_cond_wait(&queue->drained, &queue->mutex);
    }
    bool fits = !queue->closed && queue->count < queue->capacity;
    if (fits) {
        queue->items[(queue->first + queue->count) % queue->capacity] = item;
        queue->count++;
        (void)pthread_cond_signal(&queue->filled);
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return fits;
}

bool ft_queue_try_push(struct ft_queue *queue, void *item)
{
    return push(queue, item, false);
}

bool ft_queue_push(struct ft_queue *queue, void *item)
{
    return push(queue, item, true);
}

static struct timespec deadline_after(int timeout_ms)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += timeout_ms / 1000;
    t.tv_nsec += (long)(timeout_ms % 1000) * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    return t;
}

void *ft_queue_pop(struct ft_queue *queue, int timeout_ms)
{
    struct timespec deadline = deadline_after(timeout_ms < 0 ? 0 : timeout_ms);
    int cause = 0;
    void *item = NULL;
    (void)pthread_mutex_lock(&queue->mutex);
    while (queue->count == 0 && !queue->closed && cause != ETIMEDOUT) {
        cause = timeout_ms < 0 ? pthread_cond_wait(&queue->filled, &queue->mutex)
                               : pthread_cond_timedwait(&queue->filled, &queue->mutex, &deadline);
    }
    if (queue->count > 0) {
        item = queue->items[queue->first];
        queue->first = (queue->first + 1) % queue->capacity;
        queue->count--;
        (void)pthread_cond_signal(&queue->drained);
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return item;
}

size_t ft_queue_size(struct ft_queue *queue)
{
    (void)pthread_mutex_lock(&queue->mutex);
    size_t count = queue->count;
    (void)pthread_mutex_unlock(&queue->mutex);
    return count;
}

void ft_queue_close(struct ft_queue *queue)
{
    (void)pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    (void)pthread_cond_broadcast(&queue->filled);
    (void)pthread_cond_broadcast(&queue->drained);
    (void)pthread_mutex_unlock(&queue->mutex);
}

void ft_queue_free(struct ft_queue *queue)
{
    if (queue == NULL) {
        return;
    }
    (void)pthread_cond_destroy(&queue->filled);
    (void)pthread_cond_destroy(&queue->drained);
    (void)pthread_mutex_destroy(&queue->mutex);
    ft_free(queue->items);
    ft_free(queue);
}

struct ft_pool {
    pthread_mutex_t mutex; /* guards all up to `next` */
    pthread_cond_t work;   /* a new round, or stopping */
    pthread_cond_t idle;   /* the last thread of a round is done */
    ft_pool_body body;
    void *arg;
    size_t count;
    uint64_t round;
    size_t busy; /* threads that have not finished this round */
    bool stopping;
    atomic_size_t next; /* the first index nobody took */
    size_t threads;
    struct ft_thread **members;
};

static void run_items(struct ft_pool *pool, ft_pool_body body, void *arg, size_t count)
{
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (i >= count) {
            return;
        }
        body(arg, i);
    }
}

static void pool_main(void *p)
{
    struct ft_pool *pool = p;
    uint64_t seen = 0;
    (void)pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (pool->round == seen && !pool->stopping) {
            (void)pthread_cond_wait(&pool->work, &pool->mutex);
        }
        if (pool->stopping) {
            break;
        }
        seen = pool->round;
        ft_pool_body body = pool->body;
        void *arg = pool->arg;
        size_t count = pool->count;
        (void)pthread_mutex_unlock(&pool->mutex);
        run_items(pool, body, arg, count);
        (void)pthread_mutex_lock(&pool->mutex);
        if (--pool->busy == 0) {
            (void)pthread_cond_signal(&pool->idle);
        }
    }
    (void)pthread_mutex_unlock(&pool->mutex);
}

enum ft_status ft_pool_new(size_t threads, struct ft_pool **pool, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pool *p = NULL;
    *pool = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *p, &p, err));
    if (pthread_mutex_init(&p->mutex, NULL) != 0 || cond_init(&p->work) != 0 || cond_init(&p->idle) != 0) {
        ft_free(p);
        return FT_FAIL(err, NOMEM, "cannot make a mutex or a condition");
    }
    FT_TRY(ft_new(threads, sizeof(struct ft_thread *), &p->members, err));
    for (; p->threads < threads; p->threads++) {
        FT_TRY(ft_thread_start("ft-pool", pool_main, p, &p->members[p->threads], err));
    }
    *pool = p;
    p = NULL;
done:
    ft_pool_free(p);
    return st;
}

void ft_pool_run(struct ft_pool *pool, size_t count, ft_pool_body body, void *arg)
{
    if (pool->threads == 0 || count < 2) {
        for (size_t i = 0; i < count; i++) {
            body(arg, i);
        }
        return;
    }
    (void)pthread_mutex_lock(&pool->mutex);
    assert(pool->busy == 0);
    pool->body = body;
    pool->arg = arg;
    pool->count = count;
    pool->busy = pool->threads;
    pool->round++;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    (void)pthread_cond_broadcast(&pool->work);
    (void)pthread_mutex_unlock(&pool->mutex);
    run_items(pool, body, arg, count);
    (void)pthread_mutex_lock(&pool->mutex);
    while (pool->busy > 0) {
        (void)pthread_cond_wait(&pool->idle, &pool->mutex);
    }
    (void)pthread_mutex_unlock(&pool->mutex);
}

void ft_pool_free(struct ft_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->work);
    (void)pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < pool->threads; i++) {
        ft_thread_join(pool->members[i]);
    }
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_cond_destroy(&pool->idle);
    (void)pthread_mutex_destroy(&pool->mutex);
    ft_free(pool->members);
    ft_free(pool);
}

size_t ft_thread_cpus(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) {
        return (size_t)CPU_COUNT(&set);
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1;
}
