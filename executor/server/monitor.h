/*
 * monitor.h - what the service counts, and its page for Prometheus; private to server/.
 *
 * Counted where it happens: calls, Jina's requests, batches. What other parts know anyway (store, runs,
 * models, queues, memory) is asked when the page is. Jina's names are those of its own executors
 * (jina/SPEC.md 4.6); ours begin with finetuner_. Thread-safety: any thread, but for detach and free.
 */
#ifndef FT_SERVER_MONITOR_H
#define FT_SERVER_MONITOR_H

#include "executor/server/internal.h"

/* Counts from now on. *monitor: ft_monitor_free(). */
FT_MUST_CHECK enum ft_status ft_monitor_new(struct ft_service *service, struct ft_monitor **monitor,
                                            struct ft_err *err);
/* Serves the page where the config wants it; all parts of the service are there. FT_UNAVAILABLE: the port. */
FT_MUST_CHECK enum ft_status ft_monitor_listen(struct ft_monitor *monitor, struct ft_err *err);
int ft_monitor_port(const struct ft_monitor *monitor); /* 0: there is no page */
/* The parts of the service are about to end, one by one: from here on the page shows what they said last. It
 * is there until ft_monitor_free(), saying that we do not serve. NULL is fine. */
void ft_monitor_detach(struct ft_monitor *monitor);
void ft_monitor_free(struct ft_monitor *monitor); /* NULL is fine */

/* struct ft_rpc_options.over; arg is the monitor. */
void ft_monitor_over(void *monitor, const struct ft_rpc_end *end);
/* A request of Jina's is about to be answered with `sent` bytes. */
void ft_monitor_request(struct ft_monitor *monitor, const struct ft_request *request, size_t sent,
                        bool failed);
/* A batch was computed. */
void ft_monitor_batch(struct ft_monitor *monitor, size_t documents, double seconds);
#endif
