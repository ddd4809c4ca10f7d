#include "executor/rpc/stream.h"

#include <assert.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "executor/base/alloc.h"
#include "executor/rpc/internal.h"

struct ft_rpc_stream {
    grpc_completion_queue *queue;
    struct ft_rpc_channel *own; /* NULL: the channel is the caller's */
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *in;
    grpc_slice details;
    grpc_status_code code;
    /* Each is the tag of its own operation, true while that is under way. */
    bool opening, ending, sending, receiving;
    bool sent;     /* to be told */
    bool all_read; /* there is no further message */
    struct ft_rpc_answer answer;
};

/* False: gRPC does not take it, because the call is over; that is told by its status. */
static bool start(struct ft_rpc_stream *s, grpc_op *ops, size_t n, bool *tag)
{
    *tag = grpc_call_start_batch(s->call, ops, n, tag, NULL) == GRPC_CALL_OK;
    return *tag;
}

static void start_call(struct ft_rpc_stream *s)
{
    grpc_op ops[2];
    grpc_op end;
    memset(ops, 0, sizeof ops);
    memset(&end, 0, sizeof end);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &s->initial;
    end.op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    end.data.recv_status_on_client.trailing_metadata = &s->trailing;
    end.data.recv_status_on_client.status = &s->code;
    end.data.recv_status_on_client.status_details = &s->details;
    bool begun = start(s, ops, 2, &s->opening) && start(s, &end, 1, &s->ending);
    assert(begun); /* the first batches of a call are taken */
}

enum ft_status ft_rpc_stream_begin(struct ft_rpc_channel *channel, const char *method,
                                   struct ft_rpc_stream **stream, struct ft_err *err)
{
    struct ft_rpc_stream *s = NULL;
    *stream = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *s, &s, err));
    s->queue = grpc_completion_queue_create_for_next(NULL);
    s->call = ft_rpc_channel_begin(channel, s->queue, method, gpr_inf_future(GPR_CLOCK_MONOTONIC));
    grpc_metadata_array_init(&s->initial);
    grpc_metadata_array_init(&s->trailing);
    s->details = grpc_empty_slice();
    start_call(s);
    *stream = s;
    return FT_OK;
}

enum ft_status ft_rpc_stream_open(const char *target, const char *method, struct ft_rpc_stream **stream,
                                  struct ft_err *err)
{
    struct ft_rpc_channel *channel = NULL;
    *stream = NULL;
    FT_RETURN_IF_FAILED(ft_rpc_channel_open(target, NULL, &channel, err));
    enum ft_status st = ft_rpc_stream_begin(channel, method, stream, err);
    if (st != FT_OK) {
        ft_rpc_channel_close(channel);
        return st;
    }
    (*stream)->own = channel;
    return FT_OK;
}

bool ft_rpc_stream_may_send(const struct ft_rpc_stream *stream)
{
    return !stream->sending;
}

/* NULL: only the end. */
static void send(struct ft_rpc_stream *s, const struct ft_bytes *message, bool end)
{
    grpc_op ops[2];
    size_t n = 0;
    grpc_byte_buffer *request = NULL;
    assert(!s->sending);
    memset(ops, 0, sizeof ops);
    if (message != NULL) {
        grpc_slice body = grpc_slice_from_copied_buffer((const char *)message->data, message->size);
        request = grpc_raw_byte_buffer_create(&body, 1);
        grpc_slice_unref(body);
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = request;
    }
    if (end) {
        ops[n++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    }
    (void)start(s, ops, n, &s->sending);
    grpc_byte_buffer_destroy(request);
}

void ft_rpc_stream_send(struct ft_rpc_stream *stream, struct ft_bytes message)
{
    send(stream, &message, false);
}

void ft_rpc_stream_send_last(struct ft_rpc_stream *stream, struct ft_bytes message)
{
    send(stream, &message, true);
}

void ft_rpc_stream_send_end(struct ft_rpc_stream *stream)
{
    send(stream, NULL, true);
}

static void receive(struct ft_rpc_stream *s)
{
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &s->in;
    s->all_read = !start(s, &op, 1, &s->receiving);
}

/* One operation is over. */
static void note(struct ft_rpc_stream *s, bool *tag, bool ok)
{
    *tag = false;
    if (tag == &s->sending) {
        s->sent = ok; /* a broken call is told by its status */
    } else if (tag == &s->receiving) {
        s->all_read = s->in == NULL;
    }
}

/* What there is to tell without waiting. */
static enum ft_status look(struct ft_rpc_stream *s, enum ft_rpc_next *what, struct ft_buf *message,
                           struct ft_err *err)
{
    *what = FT_RPC_NEXT_NOTHING;
    if (!s->receiving && s->in != NULL) { /* gRPC fills it in before it says so */
        enum ft_status st = ft_rpc_take_message(s->in, message, err);
        grpc_byte_buffer_destroy(s->in);
        s->in = NULL;
        *what = FT_RPC_NEXT_MESSAGE;
        return st;
    }
    if (s->sent) {
        s->sent = false;
        *what = FT_RPC_NEXT_SENT;
    } else if (s->all_read && !s->ending) {
        *what = FT_RPC_NEXT_END;
        return ft_rpc_take_status(s->code, s->details, &s->trailing, &s->answer, err);
    }
    return FT_OK;
}

enum ft_status ft_rpc_stream_next(struct ft_rpc_stream *stream, int timeout_ms, enum ft_rpc_next *what,
                                  struct ft_buf *message, struct ft_err *err)
{
    gpr_timespec until =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
    message->size = 0;
    for (;;) {
        FT_RETURN_IF_FAILED(look(stream, what, message, err));
        if (*what != FT_RPC_NEXT_NOTHING) {
            return FT_OK;
        }
        if (!stream->receiving && !stream->all_read) {
            receive(stream);
        }
        grpc_event event = grpc_completion_queue_next(stream->queue, until, NULL);
        if (event.type == GRPC_QUEUE_TIMEOUT) {
            return FT_OK;
        }
        note(stream, event.tag, event.success != 0);
    }
}

const struct ft_rpc_answer *ft_rpc_stream_answer(const struct ft_rpc_stream *stream)
{
    return &stream->answer;
}

enum ft_status ft_rpc_stream_exchange(struct ft_rpc_stream *stream, struct ft_bytes message,
                                      struct ft_buf *answer, struct ft_err *err)
{
    enum { LONG_MS = 1 << 30 };
    enum ft_rpc_next what = FT_RPC_NEXT_NOTHING;
    bool asked = false;
    while (what != FT_RPC_NEXT_MESSAGE || !asked) {
        if (!asked && ft_rpc_stream_may_send(stream)) {
            ft_rpc_stream_send(stream, message);
            asked = true;
        }
        FT_RETURN_IF_FAILED(ft_rpc_stream_next(stream, LONG_MS, &what, answer, err));
        if (what == FT_RPC_NEXT_END) {
            answer->size = 0;
            return FT_FAIL(err, UNAVAILABLE, "the server went away or ended the call");
        }
    }
    return FT_OK;
}

void ft_rpc_stream_close(struct ft_rpc_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    (void)grpc_call_cancel(stream->call, NULL);
    grpc_completion_queue_shutdown(stream->queue);
    while (grpc_completion_queue_next(stream->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_call_unref(stream->call);
    grpc_completion_queue_destroy(stream->queue);
    grpc_byte_buffer_destroy(stream->in);
    grpc_metadata_array_destroy(&stream->initial);
    grpc_metadata_array_destroy(&stream->trailing);
    grpc_slice_unref(stream->details);
    ft_rpc_answer_release(&stream->answer);
    ft_rpc_channel_close(stream->own);
    ft_free(stream);
}
