/*
 * internal.h - what server.c, call.c, line.c and idle.c share: the states of a call and the tags of its
 * operations.
 */
#ifndef FT_RPC_INTERNAL_H
#define FT_RPC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

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

/* Metadata on its way out. */
enum { FT_RPC_METADATA = 4 };
struct ft_rpc_metadata {
    grpc_metadata items[FT_RPC_METADATA];
    size_t count;
};

/* A message on its way out. */
struct ft_rpc_answer_out {
    grpc_byte_buffer *buffer; /* gRPC empties it while it sends: the size stands beside it */
    size_t size;
};

/* Where a call stands that is to be read (line.c). */
enum ft_rpc_place { FT_RPC_ELSEWHERE, FT_RPC_WAITING, FT_RPC_READING };

struct ft_rpc_call {
    struct ft_rpc_server *server;
    const struct ft_rpc_method *method;
    grpc_call *grpc;
    grpc_call_details details;
    grpc_metadata_array metadata;
    struct ft_rpc_op accept, receive, send, close;
    atomic_int refs; /* one for the owner until finish, one for each operation under way */
    _Atomic(void *) user;

    double came_at;         /* ft_clock_seconds() */
    atomic_size_t bytes_in; /* of its messages, so far */
    atomic_size_t bytes_out;

    grpc_byte_buffer *incoming;
    grpc_slice message; /* the whole message in one piece */
    bool has_message;
    size_t held;         /* ft_rpc_hold() */
    bool got_any;        /* at least one message came in */
    const char *refusal; /* why a message was not taken */
    enum ft_rpc_code refusal_code;

    /* Guarded by the server's mutex: a call waits, or it is read, in the order of coming. */
    enum ft_rpc_place place;
    struct ft_rpc_call *before, *after;
    size_t expected;      /* bytes, while it is read */
    double reading_since; /* ft_clock_seconds() */
    /* Of a method that ends_idle, while its next message is waited for: whoever takes it out of that list may
     * finish it, or hand the message over. */
    bool idle;
    double idle_since;
    struct ft_rpc_call *idle_before, *idle_after;

    int cancelled_out; /* written by gRPC with CLOSE */
    atomic_bool cancelled;

    pthread_mutex_t mutex; /* guards all below */
    struct ft_rpc_answer_out pending[FT_RPC_SENDS];
    size_t n_pending;
    struct ft_rpc_answer_out sending;
    bool batch_out; /* a SEND is under way */
    bool started;   /* initial metadata went out */
    bool finishing; /* ft_rpc_finish() was called */
    bool status_out;
    bool broken; /* a SEND failed: nothing can be sent any more */
    enum ft_rpc_code code;
    grpc_slice status_text;
    struct ft_rpc_metadata initial, trailing;
};

struct ft_rpc_line {
    struct ft_rpc_call *first, *last;
    size_t count;
};
/* Calls of light methods have a lane of their own: no crowd of others stands before them. */
struct ft_rpc_lane {
    struct ft_rpc_line waiting; /* to be read once there is room */
    struct ft_rpc_line reading; /* being read, for whose messages room is kept */
};
enum { FT_RPC_LANE_COMMON, FT_RPC_LANE_LIGHT, FT_RPC_LANES };
/* What a message of a light method may have. */
enum { FT_RPC_LIGHT_BYTES = 1 << 16 };

struct ft_rpc_secure; /* secure.c: TLS, what is shown to new connections and asked of them */

struct ft_rpc_server {
    struct ft_rpc_secure *secure; /* NULL: plain text */
    grpc_server *grpc;
    grpc_completion_queue *queue;
    const struct ft_rpc_method *methods;
    size_t n_methods;
    int port;
    size_t bytes_max;
    size_t waiting_max;
    void (*over)(void *arg, const struct ft_rpc_end *end);
    void *arg;
    atomic_bool refusing;
    atomic_size_t bytes;   /* messages in hand, either way, and what they led to */
    atomic_size_t out;     /* of these: answers not yet on the wire */
    atomic_size_t waiting; /* calls in both lanes, to look at without the mutex */
    struct ft_thread **threads;
    struct ft_rpc_op down;

    pthread_mutex_t mutex;  /* guards all below */
    pthread_cond_t changed; /* down_done, or calls went to 0 */
    struct ft_rpc_lane lanes[FT_RPC_LANES];
    struct ft_rpc_call *idle; /* the list of those that wait for their next message, in any order */
    size_t expected;          /* of all that the common lane reads */
    size_t guess;             /* bytes that a message may have: see line.c */
    size_t calls;
    size_t lost_slots; /* calls that could not be asked for: no memory */
    bool draining;
    bool down_done;
};

/* Texts are copied. *secure: ft_rpc_secure_free(), after the server that it is for. */
FT_MUST_CHECK enum ft_status ft_rpc_secure_new(const struct ft_rpc_server_tls *tls,
                                               struct ft_rpc_secure **secure, struct ft_err *err);
void ft_rpc_secure_free(struct ft_rpc_secure *secure); /* NULL is fine */
/* For connections from now on. */
FT_MUST_CHECK enum ft_status ft_rpc_secure_renew(struct ft_rpc_secure *secure,
                                                 const struct ft_rpc_server_tls *tls, struct ft_err *err);
grpc_server_credentials *ft_rpc_secure_credentials(struct ft_rpc_secure *secure); /* the caller's */

/* Ask gRPC for one more call; without memory for it, the next call that ends asks again. */
void ft_rpc_accept_next(struct ft_rpc_server *server);
/* A call's operation completed. */
void ft_rpc_call_event(struct ft_rpc_op *op, bool ok);
/* Start to read a call's next message, now. */
void ft_rpc_call_receive(struct ft_rpc_call *call);

void ft_rpc_line_init(struct ft_rpc_server *server); /* bytes_max is set */
/* line.c. A message is read now or once there is room for it. False, nothing done: too many wait already;
 * only a call that was not read before is told so. */
bool ft_rpc_line_join(struct ft_rpc_call *call);
/* A message of `size` bytes came, or none: no room need be kept for it any longer. */
void ft_rpc_line_received(struct ft_rpc_call *call, size_t size);
/* True when the call was waiting: its reference from ft_rpc_line_join() is the caller's now. */
bool ft_rpc_line_leave(struct ft_rpc_call *call);
void ft_rpc_line_move(struct ft_rpc_server *server); /* read those for whom there is room now */

/* idle.c. The call's next message is waited for. */
void ft_rpc_idle_begin(struct ft_rpc_call *call);
/* It came, or will not. False: the call was ended meanwhile, and is nobody else's. */
bool ft_rpc_idle_end(struct ft_rpc_call *call);
/* End those that have been idle for long enough, once the server refuses calls. */
void ft_rpc_idle_sweep(struct ft_rpc_server *server);

/* Called once for each call that was accepted, when nothing refers to it any more. */
void ft_rpc_call_gone(struct ft_rpc_server *server);
const struct ft_rpc_method *ft_rpc_find(const struct ft_rpc_server *server, grpc_slice path);
void ft_rpc_call_unref(struct ft_rpc_call *call);
/* log.c. gRPC's own log lines go where ours go, its errors at most once a minute for each place in gRPC. */
void ft_rpc_log_init(void);
/* To be called now and then: says how many were left out in the minute that is over; `all`: in any. */
void ft_rpc_log_tend(bool all);

/* speaks.c. HOST:PORT accepts connections and says nothing first: TLS, most likely. */
bool ft_rpc_waits_for_client(const char *target, int timeout_ms);

/* client.c, for stream.c */
struct ft_rpc_channel;
struct ft_rpc_answer;
grpc_call *ft_rpc_channel_begin(struct ft_rpc_channel *channel, grpc_completion_queue *queue,
                                const char *method, gpr_timespec deadline);
enum ft_status ft_rpc_take_message(grpc_byte_buffer *message, struct ft_buf *out, struct ft_err *err);
enum ft_status ft_rpc_take_status(grpc_status_code code, grpc_slice details,
                                  const grpc_metadata_array *trailing, struct ft_rpc_answer *answer,
                                  struct ft_err *err);
#endif
