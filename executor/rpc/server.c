#include "executor/rpc/server.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <grpc/grpc_security.h>
#include <grpc/slice.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/thread.h"
#include "executor/rpc/internal.h"

enum {
    THREADS = 2,   /* one polls while the other runs a callback */
    ACCEPTING = 8, /* calls that may come in before a thread looks */
    /* How long a thread sleeps before it looks whether waiting calls have room, or streams are idle. */
    LOOK_MS = 1000,
    LOOK_BUSY_MS = 50,
    /* What gRPC takes in of a call that is not read: the price of a call that waits. */
    WINDOW_BYTES = 128 << 10
};

static void poll_queue(void *arg)
{
    struct ft_rpc_server *server = arg;
    for (;;) {
        bool busy = atomic_load(&server->waiting) > 0 || atomic_load(&server->refusing);
        int look_ms = busy ? LOOK_BUSY_MS : LOOK_MS;
        gpr_timespec until =
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(look_ms, GPR_TIMESPAN));
        grpc_event event = grpc_completion_queue_next(server->queue, until, NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return;
        }
        ft_rpc_line_move(server);
        ft_rpc_idle_sweep(server);
        if (event.type == GRPC_QUEUE_TIMEOUT) {
            ft_rpc_log_tend(false);
            continue;
        }
        struct ft_rpc_op *op = event.tag;
        (void)atomic_load_explicit(&op->handed_over, memory_order_acquire);
        if (op->kind == FT_RPC_OP_DOWN) {
            (void)pthread_mutex_lock(&server->mutex);
            server->down_done = true;
            (void)pthread_cond_broadcast(&server->changed);
            (void)pthread_mutex_unlock(&server->mutex);
        } else {
            ft_rpc_call_event(op, event.success != 0);
        }
    }
}

const struct ft_rpc_method *ft_rpc_find(const struct ft_rpc_server *server, grpc_slice path)
{
    for (size_t i = 0; i < server->n_methods; i++) {
        if (grpc_slice_str_cmp(path, server->methods[i].path) == 0) {
            return &server->methods[i];
        }
    }
    return NULL;
}

void ft_rpc_call_gone(struct ft_rpc_server *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    bool again = server->lost_slots > 0 && !server->draining;
    server->lost_slots -= again ? 1 : 0;
    (void)pthread_mutex_unlock(&server->mutex);
    if (again) { /* while this call still counts: the server cannot be freed meanwhile */
        ft_rpc_accept_next(server);
    }
    (void)pthread_mutex_lock(&server->mutex);
    server->calls--;
    if (server->calls == 0) {
        (void)pthread_cond_broadcast(&server->changed);
    }
    (void)pthread_mutex_unlock(&server->mutex);
}

static grpc_arg int_arg(const char *key, int value)
{
    grpc_arg arg;
    memset(&arg, 0, sizeof arg);
    arg.type = GRPC_ARG_INTEGER;
    arg.key = (char *)(uintptr_t)key; /* gRPC's struct lacks the const, it only reads */
    arg.value.integer = value;
    return arg;
}

static grpc_arg quota_arg(grpc_resource_quota *quota)
{
    grpc_arg arg;
    memset(&arg, 0, sizeof arg);
    arg.type = GRPC_ARG_POINTER;
    arg.key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA;
    arg.value.pointer.p = quota;
    arg.value.pointer.vtable = grpc_resource_quota_arg_vtable();
    return arg;
}

/* At least one message of the largest size finds room. */
static size_t bytes_max(const struct ft_rpc_options *options)
{
    if (options->memory_bytes_max == 0) {
        return SIZE_MAX;
    }
    return options->memory_bytes_max > options->message_bytes_max ? options->memory_bytes_max
                                                                  : options->message_bytes_max;
}

static grpc_server *make_server(const struct ft_rpc_options *options)
{
    size_t max = options->message_bytes_max;
    size_t bytes = bytes_max(options);
    int keepalive_ms = options->keepalive_ms > 0 ? options->keepalive_ms : 60000;
    grpc_resource_quota *quota = grpc_resource_quota_create("finetuner");
    /* What gRPC itself holds: pieces of messages that still come in. The last resort only: reaching it costs
     * whole connections, whoever they belong to. line.c keeps them below memory_bytes_max as far as its guess
     * is right; pieces take more memory than the bytes in them, and a guess may be wrong: so twice that. */
    if (bytes < SIZE_MAX) {
        grpc_resource_quota_resize(quota, 2 * bytes);
    }
    grpc_arg args[] = {
        /* Jina sets no limit either way (jina/SPEC.md 3.6). */
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, max == 0 || max > INT_MAX ? -1 : (int)max),
        int_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1),
        /* A window that does not grow by itself: of a call that is not read so much comes in and no more. A
         * message that is read gets the window it needs. */
        int_arg(GRPC_ARG_HTTP2_BDP_PROBE, 0),
        int_arg(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, WINDOW_BYTES),
        /* Gateways ping every 10 s with or without calls: never answer that with GOAWAY(too_many_pings). */
        int_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000),
        int_arg(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0),
        int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        /* Half-open connections are found within a minute and a half, also those that were quiet for long:
         * gRPC would stop asking after two questions without data in between. */
        int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms),
        int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_ms / 3),
        int_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        /* Two servers on one port would share its connections in silence. */
        int_arg(GRPC_ARG_ALLOW_REUSEPORT, 0),
        quota_arg(quota),
    };
    grpc_channel_args list = {sizeof args / sizeof args[0], args};
    grpc_server *server = grpc_server_create(&list, NULL);
    grpc_resource_quota_unref(quota);
    return server;
}

static enum ft_status listen_on(struct ft_rpc_server *server, const char *host, int port, struct ft_err *err)
{
    char address[300];
    /* An IPv6 address needs brackets in front of the port. */
    const char *form = strchr(host, ':') != NULL && host[0] != '[' ? "[%s]:%d" : "%s:%d";
    int length = form[0] == '[' ? snprintf(address, sizeof address, "[%s]:%d", host, port)
                                : snprintf(address, sizeof address, "%s:%d", host, port);
    if (length < 0 || (size_t)length >= sizeof address) {
        return FT_FAIL(err, INVALID, "host is longer than %zu bytes", sizeof address - 10);
    }
    grpc_server_credentials *credentials = server->secure != NULL ? ft_rpc_secure_credentials(server->secure)
                                                                  : grpc_insecure_server_credentials_create();
    server->port = grpc_server_add_http2_port(server->grpc, address, credentials);
    grpc_server_credentials_release(credentials);
    if (server->port == 0) {
        return FT_FAIL(err, UNAVAILABLE,
                       "cannot listen on %s: the port is taken or the address is not of this machine",
                       address);
    }
    return FT_OK;
}

static void init_conditions(struct ft_rpc_server *server)
{
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&server->mutex, NULL);
    (void)pthread_cond_init(&server->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
}

enum ft_status ft_rpc_server_new(const struct ft_rpc_options *options, struct ft_rpc_server **server,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_rpc_server *s = NULL;
    struct ft_thread **threads = NULL;
    struct ft_rpc_secure *secure = NULL;
    *server = NULL;
    FT_TRY(ft_new(1, sizeof *s, &s, err));
    FT_TRY(ft_new(THREADS, sizeof *threads, &threads, err));
    if (options->tls != NULL) {
        FT_TRY(ft_rpc_secure_new(options->tls, &secure, err));
    }
    init_conditions(s);
    s->secure = secure;
    s->methods = options->methods;
    s->n_methods = options->n_methods;
    s->bytes_max = bytes_max(options);
    s->waiting_max = options->waiting_max;
    s->over = options->over;
    s->arg = options->arg;
    ft_rpc_line_init(s);
    s->down = (struct ft_rpc_op){.kind = FT_RPC_OP_DOWN};
    s->threads = threads;
    threads = NULL;
    ft_rpc_log_init();
    grpc_init();
    s->grpc = make_server(options);
    s->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(s->grpc, s->queue, NULL);
    st = listen_on(s, options->host, options->port, err);
    grpc_server_start(s->grpc);
    /* Threads first: whatever fails from here on, shutting down needs one that polls. */
    for (size_t i = 0; i < THREADS && st == FT_OK; i++) {
        st = ft_thread_start("rpc", poll_queue, s, &s->threads[i], err);
    }
    if (st == FT_OK) {
        for (size_t i = 0; i < ACCEPTING; i++) {
            ft_rpc_accept_next(s);
        }
        *server = s;
    } else {
        ft_rpc_server_free(s, 0);
    }
    s = NULL;
done:
    ft_free(threads);
    ft_free(s);
    return st;
}

enum ft_status ft_rpc_server_renew(struct ft_rpc_server *server, const struct ft_rpc_server_tls *tls,
                                   struct ft_err *err)
{
    assert(server->secure != NULL);
    return ft_rpc_secure_renew(server->secure, tls, err);
}

const char *ft_rpc_version(void)
{
    return grpc_version_string();
}

const char *ft_rpc_code_name(enum ft_rpc_code code)
{
    switch (code) {
    case FT_RPC_OK:
        return "OK";
    case FT_RPC_CANCELLED:
        return "CANCELLED";
    case FT_RPC_INVALID_ARGUMENT:
        return "INVALID_ARGUMENT";
    case FT_RPC_DEADLINE_EXCEEDED:
        return "DEADLINE_EXCEEDED";
    case FT_RPC_NOT_FOUND:
        return "NOT_FOUND";
    case FT_RPC_ALREADY_EXISTS:
        return "ALREADY_EXISTS";
    case FT_RPC_RESOURCE_EXHAUSTED:
        return "RESOURCE_EXHAUSTED";
    case FT_RPC_FAILED_PRECONDITION:
        return "FAILED_PRECONDITION";
    case FT_RPC_UNIMPLEMENTED:
        return "UNIMPLEMENTED";
    case FT_RPC_INTERNAL:
        return "INTERNAL";
    case FT_RPC_UNAVAILABLE:
        break;
    }
    return "UNAVAILABLE";
}

int ft_rpc_server_port(const struct ft_rpc_server *server)
{
    return server->port;
}

size_t ft_rpc_server_calls(struct ft_rpc_server *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    size_t calls = server->calls;
    (void)pthread_mutex_unlock(&server->mutex);
    return calls;
}

size_t ft_rpc_server_bytes(const struct ft_rpc_server *server)
{
    return atomic_load(&server->bytes);
}

size_t ft_rpc_server_waiting(const struct ft_rpc_server *server)
{
    return atomic_load(&server->waiting);
}

void ft_rpc_server_drain(struct ft_rpc_server *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    bool begin = !server->draining;
    server->draining = true;
    (void)pthread_mutex_unlock(&server->mutex);
    if (begin) {
        grpc_server_shutdown_and_notify(server->grpc, server->queue, ft_rpc_tag(&server->down));
    }
}

void ft_rpc_server_refuse(struct ft_rpc_server *server)
{
    atomic_store(&server->refusing, true);
    ft_rpc_idle_sweep(server);
}

static struct timespec in_ms(int timeout_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = (int64_t)until.tv_nsec + (int64_t)timeout_ms * 1000000;
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    return until;
}

void ft_rpc_server_wait(struct ft_rpc_server *server, int timeout_ms)
{
    const struct timespec until = in_ms(timeout_ms);
    int cause = 0;
    (void)pthread_mutex_lock(&server->mutex);
    while (cause == 0 && server->calls > 0) {
        cause = pthread_cond_timedwait(&server->changed, &server->mutex, &until);
    }
    (void)pthread_mutex_unlock(&server->mutex);
}

/* True when the server is down and no call is left. Mutex held. */
static bool wait_down(struct ft_rpc_server *server, int timeout_ms)
{
    const struct timespec until = in_ms(timeout_ms);
    int cause = 0;
    while (cause == 0 && !(server->down_done && server->calls == 0)) {
        cause = timeout_ms < 0 ? pthread_cond_wait(&server->changed, &server->mutex)
                               : pthread_cond_timedwait(&server->changed, &server->mutex, &until);
    }
    return server->down_done && server->calls == 0;
}

/* Without a thread nobody polls: do it here. */
static void poll_here(struct ft_rpc_server *server)
{
    grpc_completion_queue_shutdown(server->queue);
    poll_queue(server);
}

void ft_rpc_server_free(struct ft_rpc_server *server, int grace_ms)
{
    if (server == NULL) {
        return;
    }
    ft_rpc_server_drain(server);
    if (server->threads[0] == NULL) {
        poll_here(server);
    } else {
        (void)pthread_mutex_lock(&server->mutex);
        if (!wait_down(server, grace_ms)) {
            (void)pthread_mutex_unlock(&server->mutex);
            grpc_server_cancel_all_calls(server->grpc);
            (void)pthread_mutex_lock(&server->mutex);
            (void)wait_down(server, -1);
        }
        (void)pthread_mutex_unlock(&server->mutex);
        grpc_completion_queue_shutdown(server->queue);
        for (size_t i = 0; i < THREADS; i++) {
            ft_thread_join(server->threads[i]);
        }
    }
    ft_rpc_log_tend(true);
    grpc_server_destroy(server->grpc);
    grpc_completion_queue_destroy(server->queue);
    grpc_shutdown();
    ft_rpc_secure_free(server->secure);
    (void)pthread_cond_destroy(&server->changed);
    (void)pthread_mutex_destroy(&server->mutex);
    ft_free(server->threads);
    ft_free(server);
}
