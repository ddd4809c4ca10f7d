/*
 * thread.h - threads, bounded queues and a pool for work outside the device (prep, journals, gRPC's
 * handlers).
 *
 * Only the thread that owns a device enters OpenMP; everything else runs here.
 * Thread-safety: as said at each function. Built on pthreads.
 */
#ifndef FT_BASE_THREAD_H
#define FT_BASE_THREAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/base/status.h"

struct ft_thread; /* opaque */
typedef void (*ft_thread_main)(void *arg);
/* `name` is shown by ps (cut at 15 bytes). *thread is owned by the caller: ft_thread_join(). All signals are
 * blocked in the new thread: the main thread handles them. */
FT_MUST_CHECK enum ft_status ft_thread_start(const char *name, ft_thread_main run, void *arg,
                                             struct ft_thread **thread, struct ft_err *err);
void ft_thread_join(struct ft_thread *thread); /* waits and frees; NULL is fine */

/* A bounded first-in first-out queue of pointers; the queue never owns them. */
struct ft_queue; /* opaque */
FT_MUST_CHECK enum ft_status ft_queue_new(size_t capacity, struct ft_queue **queue, struct ft_err *err);
/* False when full (try) or closed. ft_queue_push() blocks while full. */
bool ft_queue_try_push(struct ft_queue *queue, void *item);
bool ft_queue_push(struct ft_queue *queue, void *item);
/* Blocks until an item, or NULL once closed and empty. timeout_ms < 0 waits for ever; NULL after the timeout
 * too. */
void *ft_queue_pop(struct ft_queue *queue, int timeout_ms);
size_t ft_queue_size(struct ft_queue *queue);
void ft_queue_close(struct ft_queue *queue); /* wakes all; items already in can still be popped */
void ft_queue_free(struct ft_queue *queue);  /* must be empty of waiters; NULL is fine */

/* Run body(arg, i) for every i < count on `threads` pool threads and the caller; returns when all are done.
 * The pool may be used by one caller at a time. */
struct ft_pool; /* opaque */
typedef void (*ft_pool_body)(void *arg, size_t i);
FT_MUST_CHECK enum ft_status ft_pool_new(size_t threads, struct ft_pool **pool, struct ft_err *err);
void ft_pool_run(struct ft_pool *pool, size_t count, ft_pool_body body, void *arg);
void ft_pool_free(struct ft_pool *pool);

/* Processors this process may use (affinity, not cgroup quota), at least 1. */
size_t ft_thread_cpus(void);

/* One flag that says stop; polled, never waited for. */
struct ft_cancel {
    atomic_bool asked;
};
static inline bool ft_cancelled(const struct ft_cancel *cancel)
{
    return cancel != NULL && atomic_load_explicit(&cancel->asked, memory_order_relaxed);
}

#endif
