#include <assert.h>

#include "executor/base/clock.h"
#include "executor/rpc/internal.h"

/*
 * Which calls are read. How large a message is shows only once gRPC has all of it, so room for a guess is
 * kept while one is read: what the largest of late had, and at least LEAST_BYTES, so that a crowd of large
 * ones after a time of small ones does not come in all at once. Calls without room stand in line; of theirs
 * no more comes in than a window (server.c). Small messages are read at once and hold room for no time.
 *
 * Light methods take small messages only, and are read whatever is in hand. That a message is not small also
 * shows only once it is there, so no more than LIGHT_AT_ONCE are read at the same time.
 */

enum {
    LEAST_BYTES = 4 << 20, /* the limit that gRPC's users have unless they set one */
    FORGET = 64,           /* messages after which most of a large one is forgotten */
    PARTS = 4,             /* so many messages are read at once, whatever they may have */
    LIGHT_AT_ONCE =
        4096,      /* of which some may be calls that never send theirs: they must not hold up Health */
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

static struct ft_rpc_lane *lane_of(struct ft_rpc_call *call)
{
    return &call->server->lanes[call->method->light ? FT_RPC_LANE_LIGHT : FT_RPC_LANE_COMMON];
}

/* Mutex held, here and below. */
static void stop_expecting(struct ft_rpc_server *server, struct ft_rpc_call *call)
{
    take_out(&lane_of(call)->reading, call);
    server->expected -= call->expected;
}

static void stand_in_line(struct ft_rpc_server *server, struct ft_rpc_call *call)
{
    append(&lane_of(call)->waiting, call, FT_RPC_WAITING);
    (void)atomic_fetch_add(&server->waiting, 1);
}

static void step_out(struct ft_rpc_server *server, struct ft_rpc_call *call)
{
    take_out(&lane_of(call)->waiting, call);
    (void)atomic_fetch_sub(&server->waiting, 1);
}

/* Is there room for one more? */
static bool has_room(struct ft_rpc_server *server, size_t lane, double now)
{
    struct ft_rpc_line *reading = &server->lanes[lane].reading;
    while (reading->first != NULL && now - reading->first->reading_since > PATIENCE_S) {
        stop_expecting(server, reading->first);
    }
    if (lane == FT_RPC_LANE_LIGHT) {
        return reading->count < LIGHT_AT_ONCE;
    }
    size_t held = atomic_load(&server->bytes);
    size_t room = server->bytes_max > held ? server->bytes_max - held : 0;
    return server->expected + server->guess <= room || (held == 0 && server->expected == 0);
}

static void expect(struct ft_rpc_server *server, struct ft_rpc_call *call, double now)
{
    call->expected = call->method->light ? 0 : server->guess;
    call->reading_since = now;
    server->expected += call->expected;
    append(&lane_of(call)->reading, call, FT_RPC_READING);
}

bool ft_rpc_line_join(struct ft_rpc_call *call)
{
    struct ft_rpc_server *server = call->server;
    double now = ft_clock_seconds();
    (void)pthread_mutex_lock(&server->mutex);
    assert(call->place == FT_RPC_ELSEWHERE);
    struct ft_rpc_lane *lane = lane_of(call);
    /* Nothing more comes in of a call that is gone: reading says so. It may be told so just now: who tells
     * looks for it here afterwards. */
    bool gone = atomic_load(&call->cancelled);
    bool read_now =
        gone || (lane->waiting.count == 0 && has_room(server, (size_t)(lane - server->lanes), now));
    bool full = !read_now && !call->got_any && lane->waiting.count >= server->waiting_max;
    if (read_now && !gone) {
        expect(server, call, now);
    } else if (!read_now && !full) {
        (void)atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
        stand_in_line(server, call);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    if (read_now) {
        ft_rpc_call_receive(call);
    }
    return !full;
}

/* The next one for whom there is room, now among those that are read; NULL: none. */
static struct ft_rpc_call *next_with_room(struct ft_rpc_server *server)
{
    double now = ft_clock_seconds();
    struct ft_rpc_call *call = NULL;
    (void)pthread_mutex_lock(&server->mutex);
    for (size_t lane = FT_RPC_LANES; lane-- > 0 && call == NULL;) { /* light ones first */
        struct ft_rpc_call *first = server->lanes[lane].waiting.first;
        call = first != NULL && has_room(server, lane, now) ? first : NULL;
    }
    if (call != NULL) {
        step_out(server, call);
        expect(server, call, now);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return call;
}

void ft_rpc_line_move(struct ft_rpc_server *server)
{
    while (atomic_load(&server->waiting) > 0) {
        struct ft_rpc_call *call = next_with_room(server);
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
    (void)pthread_mutex_lock(&server->mutex);
    if (call->place == FT_RPC_READING) {
        stop_expecting(server, call);
    }
    if (!call->method->light) {
        update_guess(server, size);
    }
    (void)pthread_mutex_unlock(&server->mutex);
}

bool ft_rpc_line_leave(struct ft_rpc_call *call)
{
    struct ft_rpc_server *server = call->server;
    (void)pthread_mutex_lock(&server->mutex);
    bool waits = call->place == FT_RPC_WAITING;
    if (waits) {
        step_out(server, call);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return waits;
}
