#include "executor/base/clock.h"
#include "executor/rpc/internal.h"

/*
 * Streams that are open and say nothing. A client may keep one for as long as it lives, so a server that goes
 * down does not wait for its end: all that came was answered, and what comes next is for another server. One
 * that is busy (answer, next message, answer ...) goes on as long as it is.
 */

static const double PATIENCE_S = 0.5; /* between an answer and the next message of a busy client */

/* The server's mutex held. */
static void take_out(struct ft_rpc_server *server, struct ft_rpc_call *call)
{
    *(call->idle_before != NULL ? &call->idle_before->idle_after : &server->idle) = call->idle_after;
    if (call->idle_after != NULL) {
        call->idle_after->idle_before = call->idle_before;
    }
    call->idle = false;
}

void ft_rpc_idle_begin(struct ft_rpc_call *call)
{
    struct ft_rpc_server *server = call->server;
    if (!call->method->ends_idle) {
        return;
    }
    (void)pthread_mutex_lock(&server->mutex);
    call->idle = true;
    call->idle_since = ft_clock_seconds();
    call->idle_before = NULL;
    call->idle_after = server->idle;
    if (server->idle != NULL) {
        server->idle->idle_before = call;
    }
    server->idle = call;
    (void)pthread_mutex_unlock(&server->mutex);
}

bool ft_rpc_idle_end(struct ft_rpc_call *call)
{
    struct ft_rpc_server *server = call->server;
    if (!call->method->ends_idle) {
        return true;
    }
    (void)pthread_mutex_lock(&server->mutex);
    bool ours = call->idle;
    if (ours) {
        take_out(server, call);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return ours;
}

/* One that stands in line to be read has sent something. */
static struct ft_rpc_call *take_one(struct ft_rpc_server *server)
{
    double now = ft_clock_seconds();
    (void)pthread_mutex_lock(&server->mutex);
    struct ft_rpc_call *call = server->idle;
    while (call != NULL && (call->place == FT_RPC_WAITING || now - call->idle_since < PATIENCE_S)) {
        call = call->idle_after;
    }
    if (call != NULL) {
        take_out(server, call);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return call;
}

void ft_rpc_idle_sweep(struct ft_rpc_server *server)
{
    if (!atomic_load(&server->refusing)) {
        return;
    }
    for (struct ft_rpc_call *call = take_one(server); call != NULL; call = take_one(server)) {
        ft_rpc_finish(call, FT_RPC_UNAVAILABLE,
                      "the service is going down; all that came was answered, send the rest to another",
                      false);
    }
}
