/*
 * client.h - one unary gRPC call, and the health check that `finetuner ping` and `jina ping` make.
 *
 * Targets: host:port, optionally with grpc:// in front (grpcs:// is FT_UNSUPPORTED).
 * Thread-safety: any thread; a call opens a connection of its own.
 */
#ifndef FT_RPC_CLIENT_H
#define FT_RPC_CLIENT_H

#include <stdbool.h>

#include "executor/base/bytes.h"

struct ft_rpc_answer {
    struct ft_buf message; /* empty when the server sent none */
    int code;              /* gRPC status code */
    char details[256];
    bool is_error; /* the trailing metadata held is-error: true (jina/SPEC.md 3.5) */
};
/* FT_OK: the server answered, whatever its code says; release with ft_buf_release(&answer->message).
 * FT_UNAVAILABLE: no answer within timeout_ms or no connection; FT_INVALID: target. */
FT_MUST_CHECK enum ft_status ft_rpc_call(const char *target, const char *method, struct ft_bytes request,
                                         int timeout_ms, struct ft_rpc_answer *answer, struct ft_err *err);

/* grpc.health.v1.Health/Check of the whole server. FT_OK only for SERVING; FT_UNAVAILABLE otherwise, saying
 * why. */
FT_MUST_CHECK enum ft_status ft_rpc_ping(const char *target, int timeout_ms, struct ft_err *err);
#endif
