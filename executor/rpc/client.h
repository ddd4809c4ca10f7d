/*
 * client.h - a connection to a server, one unary gRPC call on it, and the health check that `finetuner ping`
 * and `jina ping` make. Calls of many messages are stream.h's.
 *
 * Targets: host:port, optionally with grpc:// in front, or with grpcs:// for TLS.
 * Thread-safety: any thread may make calls on a channel; opening and closing are its owner's.
 */
#ifndef FT_RPC_CLIENT_H
#define FT_RPC_CLIENT_H

#include <stdbool.h>

#include "executor/base/bytes.h"

/* PEM texts, borrowed for the call. roots: whose signature a server's certificate must have; empty: those
 * that the system trusts. certificate and key: what a server that wants to know its clients is shown; both or
 * neither. */
struct ft_rpc_tls {
    struct ft_bytes roots, certificate, key;
};

struct ft_rpc_channel; /* opaque */
/* tls NULL: plain, or with the system's roots if the target says grpcs://. Connects at the first call.
 * codec/pem.h says before whether the texts are what they should be: bad ones are calls that nobody answers.
 * FT_INVALID: the target, or gRPC takes no such texts; FT_NOT_FOUND: the system has no roots.
 * ft_rpc_channel_close(), after all calls. */
FT_MUST_CHECK enum ft_status ft_rpc_channel_open(const char *target, const struct ft_rpc_tls *tls,
                                                 struct ft_rpc_channel **channel, struct ft_err *err);
const char *ft_rpc_channel_host(const struct ft_rpc_channel *channel); /* HOST:PORT */
void ft_rpc_channel_close(struct ft_rpc_channel *channel);             /* NULL is fine */

struct ft_rpc_answer {
    struct ft_buf message; /* empty when the server sent none */
    int code;              /* gRPC status code */
    char details[FT_ERR_TEXT];
    bool is_error;        /* the trailing metadata held is-error: true (jina/SPEC.md 3.5) */
    struct ft_buf status; /* grpc-status-details-bin: a google.rpc.Status; empty when there is none */
};
void ft_rpc_answer_release(struct ft_rpc_answer *answer);

/* FT_OK: the server answered, whatever its code says; ft_rpc_answer_release(answer).
 * FT_UNAVAILABLE: no answer within timeout_ms or no connection. */
FT_MUST_CHECK enum ft_status ft_rpc_channel_call(struct ft_rpc_channel *channel, const char *method,
                                                 struct ft_bytes request, int timeout_ms,
                                                 struct ft_rpc_answer *answer, struct ft_err *err);
/* The same on a connection of its own; FT_INVALID: the target. */
FT_MUST_CHECK enum ft_status ft_rpc_call(const char *target, const char *method, struct ft_bytes request,
                                         int timeout_ms, struct ft_rpc_answer *answer, struct ft_err *err);

/* grpc.health.v1.Health/Check of the whole server. FT_OK only for SERVING; FT_UNAVAILABLE otherwise, saying
 * why. */
FT_MUST_CHECK enum ft_status ft_rpc_channel_ping(struct ft_rpc_channel *channel, int timeout_ms,
                                                 struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_rpc_ping(const char *target, int timeout_ms, struct ft_err *err);
/* The same of a server of which nothing is known: grpcs:// or grpc:// in front say whether it speaks TLS,
 * else that is found out. Who it is is not checked: nothing is told it that it could use. `own`: certificate
 * and key to show a server that asks for them, or empty. For health checks on its own machine, whose names
 * its certificate lacks. */
FT_MUST_CHECK enum ft_status ft_rpc_ping_any(const char *target, const struct ft_rpc_tls *own, int timeout_ms,
                                             struct ft_err *err);
#endif
