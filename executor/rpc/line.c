#include <assert.h>

#include "executor/base/clock.h"
#include "executor/rpc/internal.h"

/*
 * Which calls are read. How large a message is shows only once gRPC has all of it, so room for a guess is
 * kept while one is read: what the largest of late had, and at least LEAST_BYTES, so that a crowd of large
 * ones after a time of small ones does not come in all at once. Calls without room stand in line; of theirs
 * no more comes in than a window (server.c). Small messages are read at once and hold room for no time.
 */

enum {
    LEAST_BYTES = 4 << 20, /* the limit that gRPC's users have unless they set one */
    FORGET = 64,           /* messages after which most of a large one is forgotten */
    PARTS = 4,             /* so many messages are read at once, whatever they may have */
    PATIENCE_S = 1 /* for how long room is kept for one: streams that are quiet, clients that are gone */
};

static void append(struct ft_rpc_line *line, struct ft_rpc_call *call, enum ft_rpc_place place)
{
    call->place = place;
    call->before = line->last;
    call->after = NULL;
    *(line->last != NULL ? &line->last->after : &line->first) = call;
    line->last = call;
    line->count++;
}

static void take_out(struct ft_rpc_line *line, struct ft_rpc_call *call)
{
    *(call->before != NULL ? &call->before->after : &line->first) = call->after;
    *(call->after != NULL ? &call->after->before : &line->last) = call->before;
    call->place = FT_RPC_ELSEWHERE;
    line->count--;
}

/* A large message is remembered at once and forgotten slowly. Mutex held. */
static void update_guess(struct ft_rpc_server *server, size_t size)
{
    size_t most = server->bytes_max / PARTS;
    size_t guess = size > server->guess ? size : server->guess - (server->guess - size) / FORGET;
    guess = guess > LEAST_BYTES ? guess : LEAST_BYTES;
    server->guess = guess < most ? guess : most;
}

void ft_rpc_line_init(struct ft_rpc_server *server)
{
    update_guess(server, 0);
}

/* Mutex held. */
static void stop_expecting(struct ft_rpc_server *server, struct ft_rpc_call *call)
{
    take_out(&server->reading_line, call);
    server->expected -= call->expected;
}

/* Is there room for one more? Mutex held. */
static bool has_room(struct ft_rpc_server *server, double now)
{
    struct ft_rpc_line *reading = &server->reading_line;
    while (reading->first != NULL && now - reading->first->reading_since > PATIENCE_S) {
        stop_expecting(server, reading->first);
    }
    size_t held = atomic_load(&server->bytes);
    size_t room = server->bytes_max > held ? server->bytes_max - held : 0;
    return server->expected + server->guess <= room || (held == 0 && server->expected == 0);
}

/* Mutex held. */
static void expect(struct ft_rpc_server *server, struct ft_rpc_call *call, double now)
{
    call->expected = server->guess;
    call->reading_since = now;
    server->expected += call->expected;
    append(&server->reading_line, call, FT_RPC_READING);
}

bool ft_rpc_line_join(struct ft_rpc_call *call)
{
    struct ft_rpc_server *server = call->server;
    double now = ft_clock_seconds();
    (void)pthread_mutex_lock(&server->mutex);
    assert(call->place == FT_RPC_ELSEWHERE);
    struct ft_rpc_line *waiting = &server->waiting_line;
    bool read_now = waiting->count == 0 && has_room(server, now);
    bool full = !read_now && !call->got_any && waiting->count >= server->waiting_max;
    if (read_now) {
        expect(server, call, now);
    } else if (!full) {
        (void)atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
        append(waiting, call, FT_RPC_WAITING);
        atomic_store(&server->waiting, waiting->count);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    if (read_now) {
        ft_rpc_call_receive(call);
    }
    return !full;
}

void ft_rpc_line_move(struct ft_rpc_server *server)
{
    while (atomic_load(&server->waiting) > 0) {
        double now = ft_clock_seconds();
        (void)pthread_mutex_lock(&server->mutex);
        struct ft_rpc_call *call = server->waiting_line.first;
        if (call != NULL && !has_room(server, now)) {
            call = NULL;
        }
        if (call != NULL) {
            take_out(&server->waiting_line, call);
            atomic_store(&server->waiting, server->waiting_line.count);
            expect(server, call, now);
        }
        (void)pthread_mutex_unlock(&server->mutex);
        if (call == NULL) {
            return;
        }
        ft_rpc_call_receive(call);
        ft_rpc_call_unref(call);
    }
}

void ft_rpc_line_received(struct ft_rpc_call *call, size_t size)
{
    struct ft_rpc_server *server = call->server;
    if (call->method->light) {
        return;
    }
    (void)pthread_mutex_lock(&server->mutex);
    if (call->place == FT_RPC_READING) {
        stop_expecting(server, call);
    }
    update_guess(server, size);
    (void)pthread_mutex_unlock(&server->mutex);
}

bool ft_rpc_line_leave(struct ft_rpc_call *call)
{
    struct ft_rpc_server *server = call->server;
    (void)pthread_mutex_lock(&server->mutex);
    bool waits = call->place == FT_RPC_WAITING;
    if (waits) {
        take_out(&server->waiting_line, call);
        atomic_store(&server->waiting, server->waiting_line.count);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return waits;
}
