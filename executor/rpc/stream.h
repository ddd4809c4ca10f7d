/*
 * stream.h - one gRPC call of many messages: one goes out, its answer is waited for, and so on.
 *
 * Targets as in client.h. Thread-safety: one thread at a time uses a stream; each has a connection of its
 * own.
 */
#ifndef FT_RPC_STREAM_H
#define FT_RPC_STREAM_H

#include "executor/base/bytes.h"

struct ft_rpc_stream; /* opaque */
/* A call that begins at once; whether anybody is there shows at the first exchange. ft_rpc_stream_close(). */
FT_MUST_CHECK enum ft_status ft_rpc_stream_open(const char *target, const char *method,
                                                struct ft_rpc_stream **stream, struct ft_err *err);
/* Send a message and wait for one. *answer is emptied first and is the caller's. FT_UNAVAILABLE: the server
 * went away or ended the call; nothing more can be sent. */
FT_MUST_CHECK enum ft_status ft_rpc_stream_exchange(struct ft_rpc_stream *stream, struct ft_bytes message,
                                                    struct ft_buf *answer, struct ft_err *err);
void ft_rpc_stream_close(struct ft_rpc_stream *stream); /* cancels what is under way; NULL is fine */
#endif
