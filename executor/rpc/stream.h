/*
 * stream.h - one gRPC call of many messages, either way.
 *
 * A caller that sends and receives at the same time asks ft_rpc_stream_next() what has happened and sends
 * when ft_rpc_stream_may_send(). One that only takes turns uses ft_rpc_stream_exchange().
 * Thread-safety: one thread at a time uses a stream.
 */
#ifndef FT_RPC_STREAM_H
#define FT_RPC_STREAM_H

#include "executor/rpc/client.h"

struct ft_rpc_stream; /* opaque */
/* A call that begins at once; whether anybody is there shows at the first exchange. ft_rpc_stream_close().
 * With a target the stream has a connection of its own. */
FT_MUST_CHECK enum ft_status ft_rpc_stream_open(const char *target, const char *method,
                                                struct ft_rpc_stream **stream, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_rpc_stream_begin(struct ft_rpc_channel *channel, const char *method,
                                                 struct ft_rpc_stream **stream, struct ft_err *err);
void ft_rpc_stream_close(struct ft_rpc_stream *stream); /* cancels what is under way; NULL is fine */

/* Nothing that was sent is still on its way to the connection, which takes as much as the server reads. */
bool ft_rpc_stream_may_send(const struct ft_rpc_stream *stream);
/* Only when it may. What becomes of it shows at ft_rpc_stream_next(). */
void ft_rpc_stream_send(struct ft_rpc_stream *stream, struct ft_bytes message);
void ft_rpc_stream_send_last(struct ft_rpc_stream *stream, struct ft_bytes message); /* and no more */
void ft_rpc_stream_send_end(struct ft_rpc_stream *stream); /* no more messages; only when it may */

enum ft_rpc_next {
    FT_RPC_NEXT_NOTHING, /* timeout_ms are over */
    FT_RPC_NEXT_SENT,    /* more may be sent */
    FT_RPC_NEXT_MESSAGE, /* one came: *message, emptied first, the caller's */
    FT_RPC_NEXT_END      /* the call is over: ft_rpc_stream_answer() says how */
};
FT_MUST_CHECK enum ft_status ft_rpc_stream_next(struct ft_rpc_stream *stream, int timeout_ms,
                                                enum ft_rpc_next *what, struct ft_buf *message,
                                                struct ft_err *err);
const struct ft_rpc_answer *ft_rpc_stream_answer(
    const struct ft_rpc_stream *stream); /* its message is empty */

/* Send a message and wait for one. *answer is emptied first and is the caller's. FT_UNAVAILABLE: the server
 * went away or ended the call; nothing more can be sent. */
FT_MUST_CHECK enum ft_status ft_rpc_stream_exchange(struct ft_rpc_stream *stream, struct ft_bytes message,
                                                    struct ft_buf *answer, struct ft_err *err);
#endif
