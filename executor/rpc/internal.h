/*
 * internal.h - what server.c and call.c share: the states of a call and the tags of its operations.
 */
#ifndef FT_RPC_INTERNAL_H
#define FT_RPC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>

#include "executor/rpc/server.h"

enum ft_rpc_op_kind {
    FT_RPC_OP_ACCEPT,  /* a new call came in */
    FT_RPC_OP_RECEIVE, /* a message, or the client's half-close */
    FT_RPC_OP_SEND,    /* messages or the status are on the wire */
    FT_RPC_OP_CLOSE,   /* the call is over */
    FT_RPC_OP_DOWN     /* the server has shut down */
};

/* What a completion queue's tag points to. */
struct ft_rpc_op {
    enum ft_rpc_op_kind kind;
    struct ft_rpc_call *call; /* NULL for DOWN */
    /* Stored before gRPC gets the tag, loaded when it comes back. gRPC's queue orders the two threads
     * already; this says it to tools that cannot see inside gRPC. */
    atomic_bool handed_over;
};
static inline void *ft_rpc_tag(struct ft_rpc_op *op)
{
    atomic_store_explicit(&op->handed_over, true, memory_order_release);
    return op;
}

struct ft_rpc_call {
    struct ft_rpc_server *server;
    const struct ft_rpc_method *method;
    grpc_call *grpc;
    grpc_call_details details;
    grpc_metadata_array metadata;
    struct ft_rpc_op accept, receive, send, close;
    atomic_int refs; /* one for the owner until finish, one for each operation under way */
    _Atomic(void *) user;

    grpc_byte_buffer *incoming;
    grpc_slice message; /* the whole message in one piece */
    bool has_message;
    bool got_any; /* at least one message came in */

    int cancelled_out; /* written by gRPC with CLOSE */
    atomic_bool cancelled;

    pthread_mutex_t mutex; /* guards all below */
    grpc_byte_buffer *pending[FT_RPC_SENDS];
    size_t n_pending;
    grpc_byte_buffer *sending;
    bool batch_out; /* a SEND is under way */
    bool started;   /* initial metadata went out */
    bool finishing; /* ft_rpc_finish() was called */
    bool status_out;
    bool broken; /* a SEND failed: nothing can be sent any more */
    enum ft_rpc_code code;
    bool is_error;
    grpc_slice status_text;
    grpc_slice status_details; /* empty: none */
    grpc_metadata trailers[2];
};

struct ft_rpc_server {
    grpc_server *grpc;
    grpc_completion_queue *queue;
    const struct ft_rpc_method *methods;
    size_t n_methods;
    int port;
    size_t bytes_max;
    atomic_size_t bytes; /* messages in hand */
    struct ft_thread **threads;
    struct ft_rpc_op down;

    pthread_mutex_t mutex;  /* guards all below */
    pthread_cond_t changed; /* down_done, or calls went to 0 */
    size_t calls;
    size_t lost_slots; /* calls that could not be asked for: no memory */
    bool draining;
    bool down_done;
};

/* Ask gRPC for one more call; without memory for it, the next call that ends asks again. */
void ft_rpc_accept_next(struct ft_rpc_server *server);
/* A call's operation completed. */
void ft_rpc_call_event(struct ft_rpc_op *op, bool ok);
/* Called once for each call that was accepted, when nothing refers to it any more. */
void ft_rpc_call_gone(struct ft_rpc_server *server);
const struct ft_rpc_method *ft_rpc_find(const struct ft_rpc_server *server, grpc_slice path);
void ft_rpc_call_unref(struct ft_rpc_call *call);
/* gRPC's own log lines go where ours go. */
void ft_rpc_log_init(void);
/* client.c: HOST:PORT of a target, which may have grpc:// in front. FT_INVALID, FT_UNSUPPORTED. */
enum ft_status ft_rpc_target(const char *target, const char **host, struct ft_err *err);
#endif
