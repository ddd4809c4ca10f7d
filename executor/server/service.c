#include "executor/server/service.h"

#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"
#include "executor/server/models.h"
#include "executor/server/monitor.h"
#include "executor/server/upload.h"

static void handler_main(void *arg)
{
    struct ft_service *service = arg;
    for (;;) {
        struct ft_request *request = ft_queue_pop(service->requests, -1);
        if (request == NULL) { /* closed and empty */
            return;
        }
        ft_dispatch(request);
    }
}

static enum ft_status start_handlers(struct ft_service *service, struct ft_err *err)
{
    size_t count = (size_t)service->config->handlers;
    FT_RETURN_IF_FAILED(ft_new(count, sizeof(struct ft_thread *), &service->handlers, err));
    for (size_t i = 0; i < count; i++) {
        FT_RETURN_IF_FAILED(ft_thread_start("handler", handler_main, service, &service->handlers[i], err));
    }
    return FT_OK;
}

/* Whoever starts a service with a model may not know that the workspace has one that was tuned. */
static void tell_other_model(const char *served, const char *configured)
{
    FT_LOG_WARNING_LINE("server",
                        "a tuned model is served instead of the configured one served=\"%s\" "
                        "configured=\"%s\" hint=\"a request gets the other by its name, model: %s; a "
                        "service without tuned models has a workspace of its own\"",
                        served, configured, ft_path_base(configured));
}

/* The model that the first request will ask for, if any is known. */
static enum ft_status load_model(struct ft_service *service, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_runs_newest(service->runs, &path, err));
    enum ft_status st = FT_OK;
    const char *configured = service->config->model;
    if (path == NULL && configured[0] != '\0') {
        st = ft_new_text(configured, &path, err);
    } else if (path != NULL && configured[0] != '\0') {
        tell_other_model(path, configured);
    }
    if (st == FT_OK && path != NULL) {
        st = ft_models_begin(ft_encode_models(service->encode), path, err);
    }
    ft_free(path);
    return st;
}

static size_t memory_bytes_max(const struct ft_config *config)
{
    return config->messages_mb > 0 ? (size_t)config->messages_mb << 20 : ft_memory_limit() / 2;
}

static enum ft_status listen_on(struct ft_service *service, struct ft_err *err)
{
    const struct ft_config *config = service->config;
    enum ft_status st = FT_OK;
    struct ft_tls tls;
    (void)ft_tls_changed(config, &service->tls_stamp);
    FT_TRY(ft_tls_read(config, &tls, err));
    const struct ft_rpc_options rpc = {.host = config->host,
                                       .tls = tls.texts.certificate.size > 0 ? &tls.texts : NULL,
                                       .port = (int)config->port,
                                       .methods = service->methods,
                                       .n_methods = ft_method_count(),
                                       .message_bytes_max = (size_t)config->message_mb << 20,
                                       .memory_bytes_max = memory_bytes_max(config),
                                       .waiting_max = (size_t)config->request_queue,
                                       .over = ft_monitor_over,
                                       .arg = service->monitor};
    atomic_store(&service->serving, true);
    FT_TRY(ft_rpc_server_new(&rpc, &service->rpc, err));
    FT_TRY(ft_monitor_listen(service->monitor, err));
done:
    ft_tls_release(&tls);
    return st;
}

static enum ft_status open_models(struct ft_service *service, struct ft_err *err)
{
    char *models = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(service->config->workspace, "models", &models, err));
    enum ft_status st =
        ft_uploads_new(models, (uint64_t)service->config->uploads_mb << 20, &service->uploads, err);
    ft_free(models);
    return st;
}

static enum ft_status start_parts(struct ft_service *service, struct ft_err *err)
{
    const struct ft_config *config = service->config;
    const struct ft_runs_options runs = {.data_dir = config->workspace,
                                         .at_once = config->runs_at_once,
                                         .threads = config->run_threads,
                                         .nice = config->run_nice,
                                         .device = config->device,
                                         .ended = ft_run_has_ended,
                                         .arg = service};
    FT_RETURN_IF_FAILED(ft_monitor_new(service, &service->monitor, err));
    FT_RETURN_IF_FAILED(ft_encode_new(service, &service->encode, err));
    FT_RETURN_IF_FAILED(ft_runs_open(&runs, &service->runs, err));
    FT_RETURN_IF_FAILED(open_models(service, err));
    FT_RETURN_IF_FAILED(
        ft_datasets_new(config->workspace, config->shard_kib * 1024, &service->datasets, err));
    FT_RETURN_IF_FAILED(load_model(service, err));
    FT_RETURN_IF_FAILED(start_handlers(service, err));
    FT_RETURN_IF_FAILED(ft_v1_new(service, &service->v1, err));
    FT_RETURN_IF_FAILED(ft_new(ft_method_count(), sizeof *service->methods, &service->methods, err));
    ft_methods_fill(service, service->methods);
    return listen_on(service, err);
}

enum ft_status ft_service_start(const struct ft_config *config, const struct ft_engine *engine,
                                struct ft_service **service, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_service *s = NULL;
    *service = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *s, &s, err));
    s->config = config;
    s->engine = engine;
    s->started_at = ft_clock_seconds();
    (void)pthread_mutex_init(&s->mutex, NULL);
    (void)pthread_mutex_init(&s->models_mutex, NULL);
    (void)pthread_mutex_init(&s->watch_mutex, NULL);
    FT_TRY(ft_queue_new((size_t)config->request_queue, &s->requests, err));
    FT_TRY(start_parts(s, err));
    *service = s;
    s = NULL;
done:
    ft_service_stop(s);
    return st;
}

void ft_service_tend(struct ft_service *service)
{
    struct ft_err err = {0};
    struct ft_tls tls;
    if (!ft_tls_changed(service->config, &service->tls_stamp)) {
        return;
    }
    enum ft_status st = ft_tls_read(service->config, &tls, &err);
    st = st == FT_OK ? ft_rpc_server_renew(service->rpc, &tls.texts, &err) : st;
    if (st != FT_OK) { /* half of a renewal, perhaps: the other half is another change */
        if (strcmp(err.text, service->tls_refused) != 0) {
            FT_LOG_WARNING_LINE("server", "the old certificate is kept reason=\"%s\"", err.text);
        }
        (void)snprintf(service->tls_refused, sizeof service->tls_refused, "%s", err.text);
        if (st == FT_NOMEM || st == FT_IO) { /* it may pass: looked at again the next time */
            service->tls_stamp = (struct ft_tls_stamp){0};
        }
    } else {
        service->tls_refused[0] = '\0';
        FT_LOG_INFO_LINE("server", "the new certificate is taken file=\"%s\"", service->config->tls_cert);
    }
    ft_tls_release(&tls);
}

int ft_service_port(const struct ft_service *service)
{
    return ft_rpc_server_port(service->rpc);
}

int ft_service_monitor_port(const struct ft_service *service)
{
    return ft_monitor_port(service->monitor);
}

bool ft_service_asked(const struct ft_service *service)
{
    return atomic_load(&service->asked);
}

size_t ft_service_waiting(const struct ft_service *service)
{
    return ft_encode_waiting(service->encode);
}

/* From the front to the back: nothing new comes in, what is in hand goes out, then the threads behind it end.
 */
void ft_service_stop(struct ft_service *service)
{
    if (service == NULL) {
        return;
    }
    int grace_ms = (int)service->config->drain_seconds * 1000;
    double until = ft_clock_seconds() + (double)service->config->drain_seconds;
    atomic_store(&service->serving, false);
    if (service->runs != NULL) {
        ft_runs_stop(service->runs, grace_ms); /* workers checkpoint while requests drain */
    }
    if (service->rpc != NULL) {
        ft_rpc_server_refuse(service->rpc);
    }
    ft_health_changed(service, true);
    ft_release_waiters(service);
    ft_datasets_hurry(service->datasets);
    if (service->v1 != NULL) {
        ft_v1_stop(service->v1);
    }
    if (service->rpc != NULL) {
        ft_rpc_server_wait(service->rpc, grace_ms);
        size_t left = ft_rpc_server_calls(service->rpc);
        if (left > 0) {
            FT_LOG_WARNING_LINE("server", "the time is over, calls are cut off calls=%zu drain_seconds=%lld",
                                left, (long long)service->config->drain_seconds);
        }
    }
    ft_monitor_detach(service->monitor); /* its page asks the parts that end from here on */
    double time_left = until - ft_clock_seconds();
    ft_rpc_server_free(service->rpc, time_left > 0 ? (int)(time_left * 1000) : 0);
    ft_v1_free(service->v1);
    if (service->requests != NULL) {
        ft_queue_close(service->requests);
    }
    for (int64_t i = 0; service->handlers != NULL && i < service->config->handlers; i++) {
        ft_thread_join(service->handlers[i]);
    }
    ft_runs_close(service->runs, grace_ms);
    ft_encode_free(service->encode);
    ft_datasets_free(service->datasets);
    ft_monitor_free(service->monitor);
    ft_queue_free(service->requests);
    (void)pthread_mutex_destroy(&service->mutex);
    (void)pthread_mutex_destroy(&service->models_mutex);
    (void)pthread_mutex_destroy(&service->watch_mutex);
    ft_uploads_free(service->uploads);
    ft_free(service->handlers);
    ft_free(service->methods);
    ft_free(service->watchers);
    ft_free(service->waiters);
    ft_free(service);
}
