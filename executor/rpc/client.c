#include "executor/rpc/client.h"

#include <stdio.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "executor/rpc/internal.h"

/* Everything one call holds; released whole. */
struct call_state {
    grpc_completion_queue *queue;
    grpc_channel *channel;
    grpc_call *call;
    grpc_byte_buffer *request, *response;
    grpc_metadata_array initial, trailing;
    grpc_status_code code;
    grpc_slice details;
};

enum ft_status ft_rpc_target(const char *target, const char **host, struct ft_err *err)
{
    *host = target;
    if (strncmp(target, "grpcs://", 8) == 0) {
        return FT_FAIL(err, UNSUPPORTED, "%s: TLS targets are not built", target);
    }
    if (strncmp(target, "grpc://", 7) == 0) {
        *host = target + 7;
    }
    if (strstr(*host, "://") != NULL || strchr(*host, ':') == NULL) {
        return FT_FAIL(err, INVALID, "'%s' is not a target: HOST:PORT or grpc://HOST:PORT", target);
    }
    return FT_OK;
}

static void open_call(struct call_state *s, const char *host, const char *method, struct ft_bytes request,
                      gpr_timespec deadline)
{
    grpc_arg args[2];
    memset(args, 0, sizeof args);
    args[0].type = GRPC_ARG_INTEGER;
    args[0].key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH;
    args[0].value.integer = -1;
    args[1].type = GRPC_ARG_INTEGER; /* a ping asks that address, not whatever a proxy setting names */
    args[1].key = (char *)(uintptr_t)GRPC_ARG_ENABLE_HTTP_PROXY;
    args[1].value.integer = 0;
    grpc_channel_args list = {2, args};
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    s->queue = grpc_completion_queue_create_for_pluck(NULL);
    s->channel = grpc_channel_create(host, plain, &list);
    grpc_channel_credentials_release(plain);
    grpc_slice path = grpc_slice_from_copied_string(method);
    s->call = grpc_channel_create_call(s->channel, NULL, GRPC_PROPAGATE_DEFAULTS, s->queue, path, NULL,
                                       deadline, NULL);
    grpc_slice_unref(path);
    grpc_slice body = grpc_slice_from_copied_buffer((const char *)request.data, request.size);
    s->request = grpc_raw_byte_buffer_create(&body, 1);
    grpc_slice_unref(body);
    grpc_metadata_array_init(&s->initial);
    grpc_metadata_array_init(&s->trailing);
    s->details = grpc_empty_slice();
}

static void close_call(struct call_state *s)
{
    grpc_byte_buffer_destroy(s->request);
    grpc_byte_buffer_destroy(s->response);
    grpc_metadata_array_destroy(&s->initial);
    grpc_metadata_array_destroy(&s->trailing);
    grpc_slice_unref(s->details);
    grpc_call_unref(s->call);
    grpc_channel_destroy(s->channel);
    grpc_completion_queue_shutdown(s->queue);
    while (grpc_completion_queue_pluck(s->queue, NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(s->queue);
}

/* Start everything at once and wait: the deadline is the call's own. */
static void exchange(struct call_state *s)
{
    grpc_op ops[6];
    memset(ops, 0, sizeof ops);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = s->request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &s->initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &s->response;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &s->trailing;
    ops[5].data.recv_status_on_client.status = &s->code;
    ops[5].data.recv_status_on_client.status_details = &s->details;
    grpc_call_error cause = grpc_call_start_batch(s->call, ops, 6, s, NULL);
    if (cause != GRPC_CALL_OK) {
        s->code = GRPC_STATUS_INTERNAL;
        return;
    }
    (void)grpc_completion_queue_pluck(s->queue, s, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
}

static enum ft_status read_answer(const struct call_state *s, struct ft_rpc_answer *answer,
                                  struct ft_err *err)
{
    answer->code = (int)s->code;
    size_t length = GRPC_SLICE_LENGTH(s->details);
    (void)snprintf(answer->details, sizeof answer->details, "%.*s",
                   (int)(length < sizeof answer->details ? length : sizeof answer->details - 1),
                   (const char *)GRPC_SLICE_START_PTR(s->details));
    for (size_t i = 0; i < s->trailing.count; i++) {
        const grpc_metadata *md = &s->trailing.metadata[i];
        if (grpc_slice_str_cmp(md->key, "is-error") == 0 && grpc_slice_str_cmp(md->value, "true") == 0) {
            answer->is_error = true;
        }
    }
    enum ft_status st = FT_OK;
    grpc_byte_buffer_reader reader;
    if (s->response != NULL && grpc_byte_buffer_reader_init(&reader, s->response) != 0) {
        grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
        st = ft_buf_append(&answer->message, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all), err);
        grpc_slice_unref(all);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    return st;
}

enum ft_status ft_rpc_call(const char *target, const char *method, struct ft_bytes request, int timeout_ms,
                           struct ft_rpc_answer *answer, struct ft_err *err)
{
    memset(answer, 0, sizeof *answer);
    const char *host = NULL;
    FT_RETURN_IF_FAILED(ft_rpc_target(target, &host, err));
    struct call_state s;
    memset(&s, 0, sizeof s);
    ft_rpc_log_init();
    grpc_init();
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
    open_call(&s, host, method, request, deadline);
    exchange(&s);
    enum ft_status st = FT_OK;
    if (s.code == GRPC_STATUS_UNAVAILABLE || s.code == GRPC_STATUS_DEADLINE_EXCEEDED) {
        st = FT_FAIL(err, UNAVAILABLE, "%s: %s: %.*s", host,
                     s.code == GRPC_STATUS_UNAVAILABLE ? "unavailable" : "no answer in time",
                     (int)GRPC_SLICE_LENGTH(s.details), (const char *)GRPC_SLICE_START_PTR(s.details));
    } else {
        st = read_answer(&s, answer, err);
    }
    close_call(&s);
    grpc_shutdown();
    if (st != FT_OK) {
        ft_buf_release(&answer->message);
        memset(answer, 0, sizeof *answer);
    }
    return st;
}

enum ft_status ft_rpc_ping(const char *target, int timeout_ms, struct ft_err *err)
{
    struct ft_rpc_answer answer;
    FT_RETURN_IF_FAILED(
        ft_rpc_call(target, "/grpc.health.v1.Health/Check", ft_bytes_of(NULL, 0), timeout_ms, &answer, err));
    static const uint8_t serving[] = {0x08, 0x01}; /* HealthCheckResponse{status: SERVING} */
    enum ft_status st = FT_OK;
    if (answer.code != 0) {
        st = FT_FAIL(err, UNAVAILABLE, "%s: gRPC status %d: %s", target, answer.code, answer.details);
    } else if (!ft_bytes_equal(ft_buf_bytes(&answer.message), ft_bytes_of(serving, sizeof serving))) {
        st = FT_FAIL(err, UNAVAILABLE, "%s: not serving", target);
    }
    ft_buf_release(&answer.message);
    return st;
}
