/*
 * server.h - a gRPC server: calls come in as messages, are answered later and from any thread. Wraps gRPC C
 * core, whose headers never show outside this room.
 *
 * A method is a row of callbacks. They run on the server's own threads, the ones that also answer HTTP/2
 * pings, so they must not block: no fsync, no database, no device, no lock held across such work. They hand
 * the call over and return. A struct ft_rpc_call stays valid until ft_rpc_finish(), which every call must get
 * exactly once, also a cancelled one. Thread-safety: all functions on calls and servers may be called from
 * any thread; one call is driven (read, send, finish) by one thread at a time.
 */
#ifndef FT_RPC_SERVER_H
#define FT_RPC_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"

/* gRPC's status codes, the ones we answer with. */
enum ft_rpc_code {
    FT_RPC_OK = 0,
    FT_RPC_CANCELLED = 1,
    FT_RPC_INVALID_ARGUMENT = 3,
    FT_RPC_DEADLINE_EXCEEDED = 4,
    FT_RPC_NOT_FOUND = 5,
    FT_RPC_ALREADY_EXISTS = 6,
    FT_RPC_RESOURCE_EXHAUSTED = 8,
    FT_RPC_FAILED_PRECONDITION = 9,
    FT_RPC_UNIMPLEMENTED = 12,
    FT_RPC_INTERNAL = 13,
    FT_RPC_UNAVAILABLE = 14
};

const char *ft_rpc_code_name(enum ft_rpc_code code); /* "OK", "CANCELLED" ... */

struct ft_rpc_call; /* opaque */
typedef void (*ft_rpc_event)(void *arg, struct ft_rpc_call *call);

struct ft_rpc_method {
    const char *path;     /* "/grpc.health.v1.Health/Check" */
    ft_rpc_event message; /* one has come in: ft_rpc_message(). The next is not read before ft_rpc_read(). */
    ft_rpc_event
        half_closed;     /* the client sends no more. NULL: unary in; no message at all is answered for you */
    ft_rpc_event closed; /* cancelled, or its connection is gone: still to be finished. May be NULL */
    void *arg;
    /* A message cannot be taken: ft_rpc_refusal() says why. The call is still to be finished. NULL: that is
     * done for you. */
    ft_rpc_event refused;
    /* For calls that answer with many messages; may be NULL. Both may come after ft_rpc_finish(): what
     * ft_rpc_user() points to must live until `gone`, in which nothing may be done with the call. */
    ft_rpc_event sent; /* a message of ours is on the wire: there is room for another */
    ft_rpc_event gone; /* the call's last event */
    bool to_the_end;   /* answered also once the server refuses calls: health */
    /* Its messages are small and read at once, whatever the load: health and its like. Larger than 64 KiB:
     * INVALID_ARGUMENT. */
    bool light;
    /* A stream whose every message is answered before the next is read. Once the server refuses calls, those
     * that have waited for their next message for half a second are ended with UNAVAILABLE: all was answered.
     */
    bool ends_idle;
};

/* What became of a call. */
struct ft_rpc_end {
    const struct ft_rpc_method *method; /* NULL: there is none of that name */
    enum ft_rpc_code code;              /* CANCELLED also when the client was gone before it got another */
    double seconds;                     /* since it came in */
    uint64_t bytes_in, bytes_out;       /* of its messages */
};

/* PEM, which the caller has checked: gRPC tells no reasons. */
struct ft_rpc_server_tls {
    struct ft_bytes certificate; /* the server's, and those that vouch for it */
    struct ft_bytes key;         /* without a passphrase */
    struct ft_bytes
        client_roots; /* empty: anybody may connect; else clients must show a certificate of these */
};

struct ft_rpc_server; /* opaque */
struct ft_rpc_options {
    const char *host;                    /* a name or an address; "0.0.0.0" = all of IPv4 */
    int port;                            /* 0 = any free one */
    const struct ft_rpc_server_tls *tls; /* copied; NULL: plain text */
    const struct ft_rpc_method *methods; /* borrowed while the server lives */
    size_t n_methods;
    size_t message_bytes_max; /* of one message, unpacked; 0: none. Larger ones: RESOURCE_EXHAUSTED */
    size_t memory_bytes_max;  /* of all messages in hand, either way, and those that are being read; 0: no
                                 limit. Without room for it a message is not read; a message that turns out too
                                 large for the room is answered with UNAVAILABLE. gRPC may hold twice as much
                                 before it closes connections */
    size_t waiting_max;       /* calls that may wait to be read for the first time; more: UNAVAILABLE */
    int keepalive_ms;         /* a connection that says nothing for so long is asked whether it is there, and
                                 closed when it does not answer in a third of that; 0: a minute */
    /* A call is over. On the server's threads: it must not wait. May be NULL. */
    void (*over)(void *arg, const struct ft_rpc_end *end);
    void *arg;
};
/* Listens and serves at once. FT_UNAVAILABLE: the port is taken or the host is not ours. */
FT_MUST_CHECK enum ft_status ft_rpc_server_new(const struct ft_rpc_options *options,
                                               struct ft_rpc_server **server, struct ft_err *err);
/* For connections from now on; of a server that was made with TLS, with client_roots again or not. */
FT_MUST_CHECK enum ft_status ft_rpc_server_renew(struct ft_rpc_server *server,
                                                 const struct ft_rpc_server_tls *tls, struct ft_err *err);
int ft_rpc_server_port(const struct ft_rpc_server *server);
size_t ft_rpc_server_calls(struct ft_rpc_server *server); /* accepted and not yet over */
/* Of messages that came in and were not let go, and of answers not yet on the wire. */
size_t ft_rpc_server_bytes(const struct ft_rpc_server *server);
size_t ft_rpc_server_waiting(const struct ft_rpc_server *server); /* calls that wait for room to be read */
/* From now on new calls are answered with UNAVAILABLE, but for methods that go on to the end: who asks for
 * the health shall hear NOT_SERVING rather than nothing. So are streams that are idle (ends_idle).
 * Connections stay. */
void ft_rpc_server_refuse(struct ft_rpc_server *server);
/* Until no call is in hand, at most that long. */
void ft_rpc_server_wait(struct ft_rpc_server *server, int timeout_ms);
/* No new calls; connections get GOAWAY; calls in hand go on. Once. */
void ft_rpc_server_drain(struct ft_rpc_server *server);
/* Drains if that was not done, waits up to grace_ms for the calls in hand, cancels the rest, waits until all
 * have been finished by their owners, stops the threads. NULL is fine. */
void ft_rpc_server_free(struct ft_rpc_server *server, int grace_ms);

const char *ft_rpc_version(void); /* gRPC's */

/* The message that came in last; valid until ft_rpc_read() or ft_rpc_finish(). */
struct ft_bytes ft_rpc_message(const struct ft_rpc_call *call);
/* A value of the request's metadata; empty: none. Valid until ft_rpc_finish(). Keys are lower case. */
struct ft_bytes ft_rpc_metadata(const struct ft_rpc_call *call, const char *key);
void ft_rpc_read(struct ft_rpc_call *call);
/* Why a message was not taken, and the status it deserves: UNAVAILABLE, no room for it now; INVALID_ARGUMENT,
 * it never can be. */
const char *ft_rpc_refusal(const struct ft_rpc_call *call, enum ft_rpc_code *code);
/* Memory that the message in hand leads to, counted with it until ft_rpc_read() or ft_rpc_finish(). False,
 * not counted: there is no room for it. */
FT_MUST_CHECK bool ft_rpc_hold(struct ft_rpc_call *call, size_t size);
/* Whether so much could ever be held beside the message: if nothing else were in hand. */
bool ft_rpc_could_hold(const struct ft_rpc_call *call, size_t size);
bool ft_rpc_cancelled(const struct ft_rpc_call *call);
/* The caller's own pointer. */
void ft_rpc_set_user(struct ft_rpc_call *call, void *user);
void *ft_rpc_user(const struct ft_rpc_call *call);

/* Sends a message; the buffer is taken over and left empty. At most FT_RPC_SENDS may wait for the wire: false
 * (the buffer is kept) beyond that. After a cancellation messages are dropped, true. */
enum { FT_RPC_SENDS = 16 };
FT_MUST_CHECK bool ft_rpc_send(struct ft_rpc_call *call, struct ft_buf *take_message);
/* A key and value of ours, copied: before the first message is sent, or `trailing`, before the last word.
 * Keys are lower case; those that end in -bin may have any bytes. A few a call, ours included. */
void ft_rpc_add_metadata(struct ft_rpc_call *call, bool trailing, const char *key, struct ft_bytes value);
/* Whether an answer of that size finds room: those of all calls that are not yet on the wire have half of
 * memory_bytes_max. For answers that can be made later, where clients may be slow to read; ft_rpc_send()
 * takes others all the same. */
bool ft_rpc_has_room(const struct ft_rpc_call *call, size_t size);
/* The last word, after all messages sent before: the status (details may be NULL) and, if is_error, the
 * trailing metadata is-error: true of jina/SPEC.md 3.5. The call must not be used afterwards. */
void ft_rpc_finish(struct ft_rpc_call *call, enum ft_rpc_code code, const char *details, bool is_error);
/* The same with the trailing metadata grpc-status-details-bin: a google.rpc.Status, copied. */
void ft_rpc_finish_detailed(struct ft_rpc_call *call, enum ft_rpc_code code, const char *text,
                            struct ft_bytes details);
#endif
