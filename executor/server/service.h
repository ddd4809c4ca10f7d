/*
 * service.h - the service between start and stop: gRPC in front, handler threads, one thread that owns the
 * device, the registry of runs behind. ft_serve() runs one; tests run one with an engine of their own.
 *
 * A request's way: gRPC's thread puts it into a bounded queue -> a handler thread reads it and answers, or
 * puts it into the encode thread's bounded line -> it is computed together with others, a batch at a time,
 * and the answer goes out from there. Full queues are answered with BUSY. Thread-safety: start and stop from
 * one thread.
 */
#ifndef FT_SERVER_SERVICE_H
#define FT_SERVER_SERVICE_H

#include "executor/config/config.h"
#include "executor/server/engine.h"

struct ft_service; /* opaque */
/* Serving when it returns: the model is loaded. config and engine are borrowed while the service lives. */
FT_MUST_CHECK enum ft_status ft_service_start(const struct ft_config *config, const struct ft_engine *engine,
                                              struct ft_service **service, struct ft_err *err);
/* To be called about once a second: renewed certificates are taken. From one thread. */
void ft_service_tend(struct ft_service *service);
int ft_service_port(const struct ft_service *service);
int ft_service_monitor_port(const struct ft_service *service); /* of the page for Prometheus; 0: none */
bool ft_service_asked(const struct ft_service *service);       /* a health check has been answered */
size_t ft_service_waiting(const struct ft_service *service);   /* requests in line for a model */
/* NOT_SERVING, answer what is in hand for at most config->drain_seconds, stop workers, free. NULL is fine. */
void ft_service_stop(struct ft_service *service);
#endif
