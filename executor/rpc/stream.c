#include "executor/rpc/stream.h"

#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "executor/base/alloc.h"
#include "executor/rpc/internal.h"

struct ft_rpc_stream {
    grpc_completion_queue *queue;
    grpc_channel *channel;
    grpc_call *call;
    grpc_metadata_array initial;
    bool begun; /* initial metadata went out */
    bool over;
};

static void add_int(grpc_arg *arg, const char *key, int value)
{
    memset(arg, 0, sizeof *arg);
    arg->type = GRPC_ARG_INTEGER;
    arg->key = (char *)(uintptr_t)key;
    arg->value.integer = value;
}

enum ft_status ft_rpc_stream_open(const char *target, const char *method, struct ft_rpc_stream **stream,
                                  struct ft_err *err)
{
    struct ft_rpc_stream *s = NULL;
    const char *host = NULL;
    *stream = NULL;
    FT_RETURN_IF_FAILED(ft_rpc_target(target, &host, err));
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *s, &s, err));
    ft_rpc_log_init();
    grpc_init();
    grpc_arg args[3];
    add_int(&args[0], GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1);
    add_int(&args[1], GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    add_int(&args[2], GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); /* a connection of its own */
    const grpc_channel_args list = {3, args};
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    s->queue = grpc_completion_queue_create_for_pluck(NULL);
    s->channel = grpc_channel_create(host, plain, &list);
    grpc_channel_credentials_release(plain);
    grpc_slice path = grpc_slice_from_copied_string(method);
    s->call = grpc_channel_create_call(s->channel, NULL, GRPC_PROPAGATE_DEFAULTS, s->queue, path, NULL,
                                       gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_slice_unref(path);
    grpc_metadata_array_init(&s->initial);
    *stream = s;
    return FT_OK;
}

/* The first exchange begins the call; *response stays NULL when the server has ended it. */
static bool exchange(struct ft_rpc_stream *s, grpc_byte_buffer *request, grpc_byte_buffer **response)
{
    grpc_op ops[4];
    size_t n = 0;
    memset(ops, 0, sizeof ops);
    if (!s->begun) {
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
        ops[n].op = GRPC_OP_RECV_INITIAL_METADATA;
        ops[n++].data.recv_initial_metadata.recv_initial_metadata = &s->initial;
        s->begun = true;
    }
    ops[n].op = GRPC_OP_SEND_MESSAGE;
    ops[n++].data.send_message.send_message = request;
    ops[n].op = GRPC_OP_RECV_MESSAGE;
    ops[n++].data.recv_message.recv_message = response;
    if (grpc_call_start_batch(s->call, ops, n, s, NULL) != GRPC_CALL_OK) {
        return false;
    }
    grpc_event event = grpc_completion_queue_pluck(s->queue, s, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    return event.success != 0 && *response != NULL;
}

static enum ft_status take(grpc_byte_buffer *response, struct ft_buf *answer, struct ft_err *err)
{
    grpc_byte_buffer_reader reader;
    if (grpc_byte_buffer_reader_init(&reader, response) == 0) {
        return FT_FAIL(err, CORRUPT, "an answer cannot be read");
    }
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    enum ft_status st = ft_buf_append(answer, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all), err);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    return st;
}

enum ft_status ft_rpc_stream_exchange(struct ft_rpc_stream *stream, struct ft_bytes message,
                                      struct ft_buf *answer, struct ft_err *err)
{
    answer->size = 0;
    if (stream->over) {
        return FT_FAIL(err, UNAVAILABLE, "the call is over");
    }
    grpc_slice body = grpc_slice_from_copied_buffer((const char *)message.data, message.size);
    grpc_byte_buffer *request = grpc_raw_byte_buffer_create(&body, 1);
    grpc_byte_buffer *response = NULL;
    grpc_slice_unref(body);
    enum ft_status st = FT_OK;
    if (exchange(stream, request, &response)) {
        st = take(response, answer, err);
    } else {
        stream->over = true;
        st = FT_FAIL(err, UNAVAILABLE, "the server went away or ended the call");
    }
    grpc_byte_buffer_destroy(request);
    grpc_byte_buffer_destroy(response);
    return st;
}

void ft_rpc_stream_close(struct ft_rpc_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    (void)grpc_call_cancel(stream->call, NULL);
    grpc_call_unref(stream->call);
    grpc_metadata_array_destroy(&stream->initial);
    grpc_channel_destroy(stream->channel);
    grpc_completion_queue_shutdown(stream->queue);
    while (grpc_completion_queue_pluck(stream->queue, NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(stream->queue);
    grpc_shutdown();
    ft_free(stream);
}
