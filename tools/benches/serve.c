/*
 * A load generator: CLIENTS connections, each with one unary gRPC call under way at any time, for SECONDS.
 *
 * usage: bench_serve HOST:PORT METHOD CLIENTS SECONDS [REQUEST_FILE] [--gap MS]
 * Prints one JSON object: answered, refused (a gRPC status, or Jina's is-error trailer), per_second, and the
 * latencies in ms of what was answered. Only calls that end within the time count for per_second; calls under
 * way at its end are waited for and count for the latencies. A client waits MS between its calls (0).
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"

enum { PATIENCE_S = 300, REQUEST_MAX = 1 << 30, TICK_MS = 10 };

struct client {
    grpc_channel *channel;
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *request, *response;
    grpc_status_code code;
    grpc_slice details;
    double began;
    double wakes_at; /* 0: a call is under way, or it is done for good */
};

struct load {
    grpc_completion_queue *queue;
    grpc_slice method;
    grpc_slice body;
    double end; /* ft_clock_seconds() */
    int gap_ms;
    double *latencies; /* seconds */
    size_t answered, room, in_time, refused;
    char refusal[256]; /* the first one's details */
};

static grpc_arg int_arg(const char *key, int value)
{
    grpc_arg arg;
    memset(&arg, 0, sizeof arg);
    arg.type = GRPC_ARG_INTEGER;
    arg.key = (char *)(uintptr_t)key; /* gRPC's struct lacks the const, it only reads */
    arg.value.integer = value;
    return arg;
}

static grpc_channel *connect_to(const char *target)
{
    grpc_arg args[] = {
        int_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1), /* a connection of its own */
        int_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1),
    };
    grpc_channel_args list = {sizeof args / sizeof args[0], args};
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, plain, &list);
    grpc_channel_credentials_release(plain);
    return channel;
}

static void begin(struct load *load, struct client *c)
{
    grpc_op ops[6];
    memset(ops, 0, sizeof ops);
    c->call = grpc_channel_create_call(
        c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, load->queue, load->method, NULL,
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(PATIENCE_S, GPR_TIMESPAN)), NULL);
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    c->response = NULL;
    c->request = grpc_raw_byte_buffer_create(&load->body, 1); /* sending empties it */
    c->details = grpc_empty_slice();
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = c->request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &c->response;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &c->trailing;
    ops[5].data.recv_status_on_client.status = &c->code;
    ops[5].data.recv_status_on_client.status_details = &c->details;
    c->began = ft_clock_seconds();
    if (grpc_call_start_batch(c->call, ops, 6, c, NULL) != GRPC_CALL_OK) {
        (void)fprintf(stderr, "gRPC does not take a call\n");
        exit(1);
    }
}

static bool is_refused(const struct client *c)
{
    bool refused = c->code != GRPC_STATUS_OK;
    for (size_t i = 0; i < c->trailing.count; i++) {
        refused = refused || grpc_slice_str_cmp(c->trailing.metadata[i].key, "is-error") == 0;
    }
    return refused;
}

/* A call has ended. */
static void count(struct load *load, struct client *c)
{
    double now = ft_clock_seconds();
    struct ft_err err = {0};
    if (is_refused(c)) {
        if (load->refused++ == 0) {
            (void)snprintf(load->refusal, sizeof load->refusal, "%d %.*s", (int)c->code,
                           (int)GRPC_SLICE_LENGTH(c->details),
                           (const char *)GRPC_SLICE_START_PTR(c->details));
        }
    } else {
        if (ft_grow(&load->latencies, &load->room, load->answered + 1, sizeof(double), &err) != FT_OK) {
            (void)fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
        load->latencies[load->answered++] = now - c->began;
        load->in_time += now <= load->end ? 1 : 0;
    }
    grpc_byte_buffer_destroy(c->request);
    grpc_byte_buffer_destroy(c->response);
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_slice_unref(c->details);
    grpc_call_unref(c->call);
}

/* What the client does next. False: nothing, time is over. */
static bool go_on(struct load *load, struct client *c)
{
    if (ft_clock_seconds() >= load->end) {
        return false;
    }
    if (load->gap_ms > 0) {
        c->wakes_at = ft_clock_seconds() + load->gap_ms / 1000.0;
    } else {
        begin(load, c);
    }
    return true;
}

static void wake(struct load *load, struct client *clients, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (clients[i].wakes_at > 0 && clients[i].wakes_at <= ft_clock_seconds()) {
            clients[i].wakes_at = 0;
            begin(load, &clients[i]);
        }
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double at(const struct load *load, double part)
{
    size_t n = load->answered;
    return n > 0 ? 1000 * load->latencies[(size_t)(part * (double)(n - 1) + 0.5)] : 0;
}

static void run(struct load *load, struct client *clients, size_t n, double seconds)
{
    load->end = ft_clock_seconds() + seconds;
    for (size_t i = 0; i < n; i++) {
        begin(load, &clients[i]);
    }
    for (size_t active = n; active > 0;) {
        gpr_timespec until = gpr_inf_future(GPR_CLOCK_MONOTONIC);
        if (load->gap_ms > 0) {
            until = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(TICK_MS, GPR_TIMESPAN));
        }
        grpc_event event = grpc_completion_queue_next(load->queue, until, NULL);
        if (event.type == GRPC_OP_COMPLETE) {
            count(load, event.tag);
            active -= go_on(load, event.tag) ? 0 : 1;
        }
        wake(load, clients, n);
    }
    qsort(load->latencies, load->answered, sizeof(double), ascending);
    printf("{\"answered\": %zu, \"refused\": %zu, \"refusal\": \"%s\", \"per_second\": %.3f, \"p50\": %.3f, "
           "\"p99\": %.3f, \"max\": %.3f}\n",
           load->answered, load->refused, load->refusal, (double)load->in_time / seconds, at(load, 0.5),
           at(load, 0.99), at(load, 1));
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    struct ft_buf body = {0};
    struct load load = {0};
    bool gap = argc > 2 && strcmp(argv[argc - 2], "--gap") == 0;
    int words = gap ? argc - 2 : argc;
    if (words != 5 && words != 6) {
        (void)fprintf(stderr,
                      "usage: bench_serve HOST:PORT METHOD CLIENTS SECONDS [REQUEST_FILE] [--gap MS]\n");
        return 2;
    }
    size_t n = (size_t)strtoul(argv[3], NULL, 10);
    if (words == 6 && ft_file_read(argv[5], REQUEST_MAX, &body, &err) != FT_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    load.gap_ms = gap ? (int)strtol(argv[argc - 1], NULL, 10) : 0;
    grpc_init();
    load.queue = grpc_completion_queue_create_for_next(NULL);
    load.method = grpc_slice_from_copied_string(argv[2]);
    load.body = grpc_slice_from_copied_buffer((const char *)body.data, body.size);
    struct client *clients = ft_calloc(n, sizeof *clients);
    for (size_t i = 0; i < n && clients != NULL; i++) {
        clients[i].channel = connect_to(argv[1]);
    }
    if (clients != NULL && n > 0) {
        run(&load, clients, n, strtod(argv[4], NULL));
    }
    return load.answered + load.refused > 0 ? 0 : 1; /* what is left ends with the program */
}
