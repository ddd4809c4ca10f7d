#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"

/* Everything here runs on gRPC's threads: small answers are made at once, data is handed over. */

/* Ours, then in the order in which Python's executors list theirs. */
static const char *const SERVICES[] = {
    "finetuner.v1.Finetuner",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "jina.JinaDataRequestRPC",
    "jina.JinaDiscoverEndpointsRPC",
    "jina.JinaGatewayDryRunRPC",
    "jina.JinaInfoRPC",
    "jina.JinaRPC",
    "jina.JinaSingleDataRequestRPC",
    "jina.JinaSingleDocumentRequestRPC",
};
enum { N_SERVICES = sizeof SERVICES / sizeof SERVICES[0] };

/* Answer a unary call with what was built, or with why not. */
static void reply(struct ft_rpc_call *call, enum ft_status st, struct ft_buf *out, const struct ft_err *err)
{
    if (st != FT_OK) {
        ft_buf_release(out);
        ft_rpc_finish(call, st == FT_NOMEM ? FT_RPC_RESOURCE_EXHAUSTED : FT_RPC_INVALID_ARGUMENT, err->text,
                      false);
        return;
    }
    (void)!ft_rpc_send(call, out); /* the first message of a call always finds room */
    ft_rpc_finish(call, FT_RPC_OK, NULL, false);
}

static void discovery(void *arg, struct ft_rpc_call *call)
{
    const struct ft_service *service = arg;
    const struct ft_list *named = &service->config->endpoints;
    struct ft_err err = {0};
    struct ft_buf out = {0};
    reply(call, ft_discovery_write((const char *const *)named->items, named->count, &out, &err), &out, &err);
}

static void dry_run(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    struct ft_err err = {0};
    struct ft_buf out = {0}; /* StatusProto{code: SUCCESS} is empty */
    reply(call, FT_OK, &out, &err);
}

static bool known_service(struct ft_bytes name)
{
    for (size_t i = 0; i < N_SERVICES; i++) {
        if (ft_bytes_is(name, SERVICES[i])) {
            return true;
        }
    }
    return name.size == 0;
}

static enum ft_health health_now(struct ft_service *service)
{
    atomic_store(&service->asked, true);
    return atomic_load(&service->serving) ? FT_HEALTH_SERVING : FT_HEALTH_NOT_SERVING;
}

static void health_check(void *arg, struct ft_rpc_call *call)
{
    struct ft_err err = {0};
    struct ft_buf out = {0};
    struct ft_bytes name;
    enum ft_status st = ft_health_read(ft_rpc_message(call), &name, &err);
    if (st == FT_OK && !known_service(name)) {
        ft_rpc_finish(call, FT_RPC_NOT_FOUND, "unknown service", false);
        return;
    }
    if (st == FT_OK) {
        st = ft_health_write(health_now(arg), &out, &err);
    }
    reply(call, st, &out, &err);
}

static void send_health(struct ft_rpc_call *call, enum ft_health health)
{
    struct ft_err err = {0};
    struct ft_buf out = {0};
    if (ft_health_write(health, &out, &err) != FT_OK || !ft_rpc_send(call, &out)) {
        ft_buf_release(&out); /* a watcher that does not read misses a change of a state it can ask for */
    }
}

/* True when the call was among the watchers: the caller finishes it. Mutex held. */
static bool forget_watcher(struct ft_service *service, const struct ft_rpc_call *call)
{
    for (size_t i = 0; i < service->n_watchers; i++) {
        if (service->watchers[i] == call) {
            service->watchers[i] = service->watchers[--service->n_watchers];
            return true;
        }
    }
    return false;
}

static void watch_closed(void *arg, struct ft_rpc_call *call)
{
    struct ft_service *service = arg;
    (void)pthread_mutex_lock(&service->watch_mutex);
    bool ours = forget_watcher(service, call);
    (void)pthread_mutex_unlock(&service->watch_mutex);
    if (ours) {
        ft_rpc_finish(call, FT_RPC_CANCELLED, NULL, false);
    }
}

static void health_watch(void *arg, struct ft_rpc_call *call)
{
    struct ft_service *service = arg;
    struct ft_err err = {0};
    struct ft_bytes name;
    if (ft_health_read(ft_rpc_message(call), &name, &err) != FT_OK) {
        ft_rpc_finish(call, FT_RPC_INVALID_ARGUMENT, err.text, false);
        return;
    }
    bool known = known_service(name);
    (void)pthread_mutex_lock(&service->watch_mutex);
    enum ft_status st = ft_grow(&service->watchers, &service->watchers_capacity, service->n_watchers + 1,
                                sizeof(struct ft_rpc_call *), &err);
    if (st == FT_OK) {
        send_health(call, known ? health_now(service) : FT_HEALTH_SERVICE_UNKNOWN);
        service->watchers[service->n_watchers++] = call;
    }
    (void)pthread_mutex_unlock(&service->watch_mutex);
    if (st != FT_OK) {
        ft_rpc_finish(call, FT_RPC_RESOURCE_EXHAUSTED, err.text, false);
    } else if (ft_rpc_cancelled(call)) {
        watch_closed(service, call); /* it may have closed before it was on the list */
    }
}

void ft_health_changed(struct ft_service *service, bool last)
{
    (void)pthread_mutex_lock(&service->watch_mutex);
    for (size_t i = 0; i < service->n_watchers; i++) {
        send_health(service->watchers[i], health_now(service));
        if (last) {
            ft_rpc_finish(service->watchers[i], FT_RPC_UNAVAILABLE, "shutting down", false);
        }
    }
    service->n_watchers = last ? 0 : service->n_watchers;
    (void)pthread_mutex_unlock(&service->watch_mutex);
}

static void reflection(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    struct ft_err err = {0};
    struct ft_buf out = {0};
    enum ft_status st = ft_reflection_answer(ft_rpc_message(call), SERVICES, N_SERVICES, &out, &err);
    if (st != FT_OK || !ft_rpc_send(call, &out)) {
        ft_buf_release(&out);
        ft_rpc_finish(call, FT_RPC_INVALID_ARGUMENT, err.text, false);
        return;
    }
    ft_rpc_read(call);
}

static void stream_ended(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    ft_rpc_finish(call, FT_RPC_OK, NULL, ft_rpc_user(call) != NULL); /* user: see mark_failed() */
}

static enum ft_status set_text(struct ft_json *object, const char *key, const char *text, struct ft_err *err)
{
    return ft_json_set(object, key, ft_json_of_text(text), err);
}

/* As the environment has it, or as Jina says that it has not. */
static enum ft_status set_environment(struct ft_json *envs, struct ft_err *err)
{
    static const char *const names[] = {"JINA_DEFAULT_HOST",
                                        "JINA_DEFAULT_TIMEOUT_CTRL",
                                        "JINA_DEPLOYMENT_NAME",
                                        "JINA_DISABLE_UVLOOP",
                                        "JINA_EARLY_STOP",
                                        "JINA_FULL_CLI",
                                        "JINA_GATEWAY_IMAGE",
                                        "JINA_GRPC_RECV_BYTES",
                                        "JINA_GRPC_SEND_BYTES",
                                        "JINA_HUB_NO_IMAGE_REBUILD",
                                        "JINA_K8S_ACCESS_MODES",
                                        "JINA_K8S_STORAGE_CAPACITY",
                                        "JINA_K8S_STORAGE_CLASS_NAME",
                                        "JINA_LOCKS_ROOT",
                                        "JINA_LOG_CONFIG",
                                        "JINA_LOG_LEVEL",
                                        "JINA_LOG_NO_COLOR",
                                        "JINA_MP_START_METHOD",
                                        "JINA_OPTOUT_TELEMETRY",
                                        "JINA_RANDOM_PORT_MAX",
                                        "JINA_RANDOM_PORT_MIN",
                                        "JINA_STREAMER_ARGS"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        FT_RETURN_IF_FAILED(set_text(envs, names[i], value != NULL ? value : "(unset)", err));
    }
    return FT_OK;
}

/* The keys of Jina's own executors that mean something here, and `finetuner`. What Python has and we have not
 * (jina, docarray, python, pyyaml ...) is left out rather than made up. */
static enum ft_status fill_info(struct ft_service *service, struct ft_json *jina, struct ft_json *envs,
                                struct ft_err *err)
{
    struct utsname host;
    char uptime[32];
    memset(&host, 0, sizeof host);
    (void)uname(&host);
    (void)snprintf(uptime, sizeof uptime, "%.0f", ft_clock_seconds() - service->started_at);
    FT_RETURN_IF_FAILED(set_text(jina, "finetuner", FT_VERSION, err));
    FT_RETURN_IF_FAILED(set_text(jina, "name", service->config->name, err));
    FT_RETURN_IF_FAILED(set_text(jina, "jina-proto", "0.1.27", err));
    FT_RETURN_IF_FAILED(set_text(jina, "grpc", ft_rpc_version(), err));
    FT_RETURN_IF_FAILED(set_text(jina, "platform", host.sysname, err));
    FT_RETURN_IF_FAILED(set_text(jina, "platform-release", host.release, err));
    FT_RETURN_IF_FAILED(set_text(jina, "platform-version", host.version, err));
    FT_RETURN_IF_FAILED(set_text(jina, "architecture", host.machine, err));
    FT_RETURN_IF_FAILED(set_text(jina, "uptime", uptime, err));
    return set_environment(envs, err);
}

static void status(void *arg, struct ft_rpc_call *call)
{
    struct ft_err err = {0};
    struct ft_buf out = {0};
    struct ft_json *jina = ft_json_object();
    struct ft_json *envs = ft_json_object();
    enum ft_status st = jina != NULL && envs != NULL ? FT_OK : FT_FAIL(&err, NOMEM, "out of memory");
    if (st == FT_OK) {
        st = fill_info(arg, jina, envs, &err);
    }
    if (st == FT_OK) {
        st = ft_info_write(jina, envs, &out, &err);
    }
    ft_json_free(jina);
    ft_json_free(envs);
    reply(call, st, &out, &err);
}

/* Put a message into the handlers' queue; a full one is answered here. */
static void hand_over(struct ft_service *service, struct ft_rpc_call *call, enum ft_jina_form form,
                      bool stream)
{
    struct ft_request *request = ft_calloc(1, sizeof *request);
    if (request == NULL) {
        ft_rpc_finish(call, FT_RPC_RESOURCE_EXHAUSTED, "out of memory", false);
        return;
    }
    request->service = service;
    request->call = call;
    request->form = form;
    request->stream = stream;
    request->came_at = ft_clock_seconds();
    if (ft_queue_try_push(service->requests, request)) {
        return;
    }
    struct ft_err err = {0};
    struct ft_err full = {0};
    (void)FT_FAIL(&full, BUSY, "too many requests wait (request_queue = %lld): try again",
                  (long long)service->config->request_queue);
    (void)!ft_request_read(request, &err); /* to echo what can be read */
    ft_request_fail(request, &full);
}

static void single_data(void *arg, struct ft_rpc_call *call)
{
    hand_over(arg, call, FT_JINA_DATA, false);
}

static void list_data(void *arg, struct ft_rpc_call *call)
{
    hand_over(arg, call, FT_JINA_LIST, false);
}

static void stream_data(void *arg, struct ft_rpc_call *call)
{
    hand_over(arg, call, FT_JINA_DATA, true);
}

static void single_document(void *arg, struct ft_rpc_call *call)
{
    hand_over(arg, call, FT_JINA_SINGLE, false);
}

static const struct ft_rpc_method METHODS[] = {
    {.path = "/grpc.health.v1.Health/Check", .message = health_check, .to_the_end = true, .light = true},
    {.path = "/grpc.health.v1.Health/Watch", .message = health_watch, .closed = watch_closed, .light = true},
    {.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
     .message = reflection,
     .half_closed = stream_ended,
     .light = true,
     .ends_idle = true},
    {.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
     .message = reflection,
     .half_closed = stream_ended,
     .light = true,
     .ends_idle = true},
    {.path = "/jina.JinaDataRequestRPC/process_data", .message = list_data},
    {.path = "/jina.JinaDiscoverEndpointsRPC/endpoint_discovery", .message = discovery, .light = true},
    {.path = "/jina.JinaGatewayDryRunRPC/dry_run", .message = dry_run, .light = true},
    {.path = "/jina.JinaInfoRPC/_status", .message = status, .light = true},
    {.path = "/jina.JinaRPC/Call", .message = stream_data, .half_closed = stream_ended, .ends_idle = true},
    {.path = "/jina.JinaSingleDataRequestRPC/process_single_data", .message = single_data},
    {.path = "/jina.JinaSingleDocumentRequestRPC/stream_doc", .message = single_document},
};

enum { N_METHODS = sizeof METHODS / sizeof METHODS[0] };

size_t ft_method_count(void)
{
    return N_METHODS + ft_v1_method_count;
}

void ft_methods_fill(struct ft_service *service, struct ft_rpc_method *methods)
{
    for (size_t i = 0; i < N_METHODS; i++) {
        methods[i] = METHODS[i];
        methods[i].arg = service;
    }
    ft_v1_methods_fill(service, methods + N_METHODS);
}
