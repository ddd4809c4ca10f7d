/* links: ft_rpc ft_base */
/*
 * The gRPC server alone, over the loopback: what is counted, who waits to be read, who is refused.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/clock.h"
#include "executor/base/thread.h"
#include "executor/rpc/client.h"
#include "executor/rpc/server.h"
#include "executor/rpc/stream.h"
#include "tests/support.h"

static struct ft_err err;

enum { MIB = 1 << 20, ROOM = 16 * MIB, WAITING = 8, CLIENTS = 64, HELD = 64, KEEPALIVE_MS = 1500 };

/* ---- a server: /t/echo answers with what came, /t/hold keeps its calls, /t/light answers at once */

static struct {
    pthread_mutex_t mutex;
    struct ft_rpc_call *calls[HELD];
    size_t count;
    bool pass; /* answer at once from now on */
} held = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void reply(struct ft_rpc_call *call, struct ft_bytes with)
{
    struct ft_buf out = {0};
    struct ft_err e = {0};
    assert_int_equal(ft_buf_append(&out, with.data, with.size, &e), FT_OK);
    assert_true(ft_rpc_send(call, &out));
}

static void echo(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    reply(call, ft_rpc_message(call));
    ft_rpc_finish(call, FT_RPC_OK, NULL, false);
}

static void echo_on(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    reply(call, ft_rpc_message(call));
    ft_rpc_read(call);
}

static void ended(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    ft_rpc_finish(call, FT_RPC_OK, NULL, false);
}

static void light(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    reply(call, ft_bytes_of("ok", 2));
    ft_rpc_finish(call, FT_RPC_OK, NULL, false);
}

static void hold(void *arg, struct ft_rpc_call *call)
{
    (void)pthread_mutex_lock(&held.mutex);
    bool pass = held.pass;
    if (!pass) {
        assert_true(held.count < HELD);
        held.calls[held.count++] = call;
    }
    (void)pthread_mutex_unlock(&held.mutex);
    if (pass) {
        light(arg, call);
    }
}

static size_t held_now(void)
{
    (void)pthread_mutex_lock(&held.mutex);
    size_t count = held.count;
    (void)pthread_mutex_unlock(&held.mutex);
    return count;
}

static void let_go(void)
{
    (void)pthread_mutex_lock(&held.mutex);
    held.pass = true;
    for (size_t i = 0; i < held.count; i++) {
        light(NULL, held.calls[i]);
    }
    held.count = 0;
    (void)pthread_mutex_unlock(&held.mutex);
}

/* /t/later: keeps its message, and is read on when the test says so. */
static struct {
    _Atomic(struct ft_rpc_call *) call;
    atomic_bool closed, ended;
} later;

static void later_came(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    atomic_store(&later.call, call);
}

static void later_closed(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    (void)call;
    atomic_store(&later.closed, true);
}

static void later_ended(void *arg, struct ft_rpc_call *call)
{
    ended(arg, call);
    atomic_store(&later.ended, true);
}

static const struct ft_rpc_method METHODS[] = {
    {.path = "/t/later", .message = later_came, .half_closed = later_ended, .closed = later_closed},
    {.path = "/t/echo", .message = echo},
    {.path = "/t/stream", .message = echo_on, .half_closed = ended},
    {.path = "/t/idle", .message = echo_on, .half_closed = ended, .ends_idle = true},
    {.path = "/t/hold", .message = hold},
    {.path = "/t/light", .message = light, .light = true},
};

struct fixture {
    struct ft_rpc_server *server;
    char target[64];
};

/* keepalive_ms: small, a machine that is busy is taken for one that is gone. */
static int set_up_with(void **state, int keepalive_ms)
{
    static struct fixture f;
    const struct ft_rpc_options options = {.host = "127.0.0.1",
                                           .methods = METHODS,
                                           .n_methods = sizeof METHODS / sizeof METHODS[0],
                                           .message_bytes_max = 8 * MIB,
                                           .memory_bytes_max = ROOM,
                                           .waiting_max = WAITING,
                                           .keepalive_ms = keepalive_ms};
    held.pass = false;
    ASSERT_OK(ft_rpc_server_new(&options, &f.server, &err));
    (void)snprintf(f.target, sizeof f.target, "127.0.0.1:%d", ft_rpc_server_port(f.server));
    *state = &f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, 0);
}

static int set_up_impatient(void **state)
{
    return set_up_with(state, KEEPALIVE_MS);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    let_go(); /* a test that failed may have left some, and the server waits for them */
    ft_rpc_server_free(f->server, 5000);
    return 0;
}

static void nap(int ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

/* ---- clients */

struct client {
    const char *target, *method;
    size_t size;
    int timeout_ms;
    enum ft_status st;
    struct ft_err why;
    struct ft_rpc_answer answer;
    struct ft_thread *thread;
};

static atomic_size_t over; /* threads that have their answer */

static void client_main(void *arg)
{
    struct client *c = arg;
    uint8_t *bytes = ft_calloc(c->size, 1);
    c->st =
        ft_rpc_call(c->target, c->method, ft_bytes_of(bytes, c->size), c->timeout_ms, &c->answer, &c->why);
    ft_free(bytes);
}

static void thread_main(void *arg)
{
    client_main(arg);
    (void)atomic_fetch_add(&over, 1);
}

static void begin(struct client *c, const struct fixture *f, const char *method, size_t size, int timeout_ms)
{
    *c = (struct client){.target = f->target, .method = method, .size = size, .timeout_ms = timeout_ms};
    ASSERT_OK(ft_thread_start("client", thread_main, c, &c->thread, &err));
}

static void end(struct client *c)
{
    ft_thread_join(c->thread);
    ft_buf_release(&c->answer.message);
}

static void light_answers(const struct fixture *f)
{
    struct client c = {.target = f->target, .method = "/t/light", .size = 10, .timeout_ms = 20000};
    client_main(&c);
    assert_int_equal(c.st, FT_OK);
    assert_int_equal(c.answer.message.size, 2);
    ft_buf_release(&c.answer.message);
}

/* All that was in hand is let go. */
static void nothing_stays(const struct fixture *f)
{
    for (int i = 0; i < 2000 && ft_rpc_server_bytes(f->server) > 0; i++) {
        nap(10);
    }
    assert_int_equal(ft_rpc_server_bytes(f->server), 0);
}

/* ---- tests */

static void what_was_answered_is_not_in_hand_any_more(void **state)
{
    const struct fixture *f = *state;
    for (int i = 0; i < 2 * ROOM / (3 * MIB); i++) {
        struct client c = {.target = f->target, .method = "/t/echo", .size = 3 * MIB, .timeout_ms = 20000};
        client_main(&c);
        assert_int_equal(c.st, FT_OK);
        assert_int_equal(c.answer.message.size, 3 * MIB);
        ft_buf_release(&c.answer.message);
    }
    nothing_stays(f);
}

/* 64 clients with 3 MB each, room for 16 MB, eight that may wait: some are held, eight wait, the rest are
 * refused at once; what is light is answered all the while; once there is room those that waited are read. */
static void a_crowd_waits_or_is_refused_and_light_calls_pass(void **state)
{
    const struct fixture *f = *state;
    static struct client clients[CLIENTS];
    size_t answered = 0;
    atomic_store(&over, 0);
    for (size_t i = 0; i < CLIENTS; i++) {
        begin(&clients[i], f, "/t/hold", 3 * MIB, 60000);
    }
    double began = ft_clock_seconds();
    while (ft_rpc_server_calls(f->server) != held_now() + WAITING || held_now() == 0) {
        assert_true(ft_clock_seconds() - began < 30);
        light_answers(f);
    }
    for (int i = 0; i < 30; i++) { /* and stays so, beyond the second for which room is kept */
        light_answers(f);
        assert_true(ft_rpc_server_bytes(f->server) <= ROOM);
        nap(50);
    }
    size_t kept = held_now();
    for (int i = 0; i < 2000 && atomic_load(&over) < CLIENTS - kept - WAITING; i++) { /* all have come */
        nap(10);
        kept = held_now();
    }
    assert_in_range(kept, 1, ROOM / (3 * MIB));
    let_go();
    for (size_t i = 0; i < CLIENTS; i++) {
        end(&clients[i]);
        answered += clients[i].st == FT_OK ? 1 : 0;
        if (clients[i].st != FT_OK) {
            assert_int_equal(clients[i].st, FT_UNAVAILABLE);
            if (strstr(clients[i].why.text, "try again") == NULL) { /* a slow one may meet a full hand */
                fail_msg("%s", clients[i].why.text);
            }
        }
    }
    assert_in_range(answered, kept, kept + WAITING); /* one of those that waited may be among the kept */
    nothing_stays(f);
}

static void who_leaves_while_waiting_makes_room(void **state)
{
    const struct fixture *f = *state;
    struct client full[4];
    struct client waits[WAITING];
    for (size_t i = 0; i < 4; i++) {
        begin(&full[i], f, "/t/hold", 4 * MIB - 100, 60000);
    }
    while (held_now() < 4) {
        nap(10);
    }
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < WAITING; i++) {
            begin(&waits[i], f, "/t/hold", 1000, 500);
        }
        for (size_t i = 0; i < WAITING; i++) {
            end(&waits[i]);
            assert_int_equal(waits[i].st, FT_UNAVAILABLE);
            assert_non_null(strstr(waits[i].why.text, "no answer in time"));
        }
        for (int i = 0; i < 2000 && ft_rpc_server_calls(f->server) > 4; i++) { /* it has seen them go */
            nap(10);
        }
        assert_int_equal(ft_rpc_server_calls(f->server), 4);
    }
    assert_int_equal(held_now(), 4);
    let_go();
    for (size_t i = 0; i < 4; i++) {
        end(&full[i]);
        assert_int_equal(full[i].st, FT_OK);
    }
    nothing_stays(f);
}

static void a_stream_goes_on_when_others_make_room(void **state)
{
    const struct fixture *f = *state;
    static uint8_t message[MIB];
    struct client full[4];
    struct ft_rpc_stream *stream = NULL;
    struct ft_buf answer = {0};
    ASSERT_OK(ft_rpc_stream_open(f->target, "/t/stream", &stream, &err));
    ASSERT_OK(ft_rpc_stream_exchange(stream, ft_bytes_of(message, sizeof message), &answer, &err));
    for (size_t i = 0; i < 4; i++) {
        begin(&full[i], f, "/t/hold", 4 * MIB - 100, 60000);
    }
    while (held_now() < 4) {
        nap(10);
    }
    /* The read that is under way is answered; the next one stands in line until the others are gone. */
    ASSERT_OK(ft_rpc_stream_exchange(stream, ft_bytes_of(message, 100), &answer, &err));
    let_go();
    for (size_t i = 0; i < 30; i++) {
        ASSERT_OK(ft_rpc_stream_exchange(stream, ft_bytes_of(message, sizeof message), &answer, &err));
        assert_int_equal(answer.size, sizeof message);
    }
    ft_buf_release(&answer);
    ft_rpc_stream_close(stream);
    for (size_t i = 0; i < 4; i++) {
        end(&full[i]);
        assert_int_equal(full[i].st, FT_OK);
    }
    nothing_stays(f);
}

/* The server stops while calls wait in line: they end, nothing hangs. */
static void stopping_ends_those_who_wait(void **state)
{
    struct fixture *f = *state;
    struct client full[4];
    struct client waits[3];
    for (size_t i = 0; i < 4; i++) {
        begin(&full[i], f, "/t/hold", 4 * MIB - 100, 60000);
    }
    while (held_now() < 4) {
        nap(10);
    }
    for (size_t i = 0; i < 3; i++) {
        begin(&waits[i], f, "/t/hold", 1000, 60000);
    }
    while (ft_rpc_server_calls(f->server) < 7) {
        nap(10);
    }
    ft_rpc_server_drain(f->server);
    let_go();
    ft_rpc_server_free(f->server, 2000);
    f->server = NULL;
    for (size_t i = 0; i < 4; i++) {
        end(&full[i]);
        assert_int_equal(full[i].st, FT_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        end(&waits[i]); /* they had room again: read and answered */
        assert_int_equal(waits[i].st, FT_OK);
    }
}

static void too_large_a_message_is_refused(void **state)
{
    const struct fixture *f = *state;
    struct client c = {.target = f->target, .method = "/t/echo", .size = 8 * MIB + 1, .timeout_ms = 20000};
    client_main(&c);
    assert_int_equal(c.st, FT_OK);
    assert_int_equal(c.answer.code, FT_RPC_RESOURCE_EXHAUSTED);
    ft_buf_release(&c.answer.message);
    light_answers(f);
    nothing_stays(f);
}

static void a_light_method_takes_small_messages_only(void **state)
{
    const struct fixture *f = *state;
    for (size_t size = 1 << 16; size <= (1 << 16) + 1; size++) {
        struct client c = {.target = f->target, .method = "/t/light", .size = size, .timeout_ms = 20000};
        client_main(&c);
        assert_int_equal(c.st, FT_OK);
        assert_int_equal(c.answer.code, size > 1 << 16 ? FT_RPC_INVALID_ARGUMENT : FT_RPC_OK);
        ft_buf_release(&c.answer.message);
    }
    nothing_stays(f);
}

static void wait_until(atomic_bool *it)
{
    for (int i = 0; i < 2000 && !atomic_load(it); i++) {
        nap(10);
    }
    assert_true(atomic_load(it));
}

/* Its client has gone before it is read on, and there is no room: it must not wait for any. */
static void a_stream_that_is_gone_does_not_stand_in_line(void **state)
{
    const struct fixture *f = *state;
    struct client full[4];
    struct client goes;
    atomic_store(&later.call, NULL);
    atomic_store(&later.closed, false);
    atomic_store(&later.ended, false);
    begin(&goes, f, "/t/later", 100, 700);
    while (atomic_load(&later.call) == NULL) {
        nap(10);
    }
    for (size_t i = 0; i < 4; i++) {
        begin(&full[i], f, "/t/hold", 4 * MIB - 100, 60000);
    }
    while (held_now() < 4) {
        nap(10);
    }
    end(&goes); /* its time was up */
    wait_until(&later.closed);
    ft_rpc_read(atomic_load(&later.call));
    wait_until(&later.ended);
    assert_int_equal(held_now(), 4);
    let_go();
    for (size_t i = 0; i < 4; i++) {
        end(&full[i]);
        assert_int_equal(full[i].st, FT_OK);
    }
    nothing_stays(f);
}

/* ---- a client by hand: frames of HTTP/2 */

enum { FRAME_HEAD = 9, HEADERS = 1, SETTINGS = 4, PING = 6, ACK = 1, END_HEADERS = 4 };

static void write_all(int fd, const void *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static void write_frame(int fd, uint8_t type, uint8_t flags, uint8_t stream, const void *body, size_t size)
{
    uint8_t frame[256] = {0, 0, (uint8_t)size, type, flags, 0, 0, 0, stream};
    assert_true(size < sizeof frame - FRAME_HEAD);
    if (size > 0) {
        memcpy(frame + FRAME_HEAD, body, size);
    }
    write_all(fd, frame, FRAME_HEAD + size);
}

static void put_header(struct ft_buf *out, const char *key, const char *value)
{
    const uint8_t lengths[2] = {(uint8_t)strlen(key),
                                (uint8_t)strlen(value)}; /* literal, new name, below 127 */
    ASSERT_OK(ft_buf_append(out, "", 1, &err));
    ASSERT_OK(ft_buf_append(out, &lengths[0], 1, &err));
    ASSERT_OK(ft_buf_text(out, key, &err));
    ASSERT_OK(ft_buf_append(out, &lengths[1], 1, &err));
    ASSERT_OK(ft_buf_text(out, value, &err));
}

/* Connects and begins a call, whose message never comes. */
static int begin_by_hand(const struct fixture *f)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)ft_rpc_server_port(f->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct ft_buf headers = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    write_all(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    write_frame(fd, SETTINGS, 0, 0, NULL, 0);
    put_header(&headers, ":method", "POST");
    put_header(&headers, ":scheme", "http");
    put_header(&headers, ":path", "/t/later");
    put_header(&headers, ":authority", "localhost");
    put_header(&headers, "te", "trailers");
    put_header(&headers, "content-type", "application/grpc");
    write_frame(fd, HEADERS, END_HEADERS, 1, headers.data, headers.size);
    ft_buf_release(&headers);
    return fd;
}

static bool read_all(int fd, uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = recv(fd, bytes + at, size - at, 0);
        if (n <= 0) {
            errno = n == 0 ? 0 : errno;
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

/* The next PING of the server's, without an answer; false: it has closed the connection, or 30 s are over. */
static bool next_ping(int fd, uint8_t data[8])
{
    static uint8_t body[1 << 14];
    uint8_t head[FRAME_HEAD];
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 30}, sizeof(struct timeval));
    while (read_all(fd, head, sizeof head)) {
        size_t size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (size > sizeof body || !read_all(fd, body, size)) {
            return false;
        }
        if (head[3] == PING && head[4] == 0) {
            memcpy(data, body, 8);
            return true;
        }
    }
    assert_true(errno != EAGAIN && errno != EWOULDBLOCK); /* it gave the connection up, not we */
    return false;
}

/* A client that vanishes without a word: the connection stays, nobody answers on it. One that was there for a
 * while, answering and without a message, is found as well. */
static void a_client_that_vanished_is_let_go(void **state)
{
    const struct fixture *f = *state;
    for (int answers = 0; answers <= 4; answers += 4) {
        uint8_t data[8];
        int fd = begin_by_hand(f);
        for (int i = 0; i < answers; i++) {
            assert_true(next_ping(fd, data));
            write_frame(fd, PING, ACK, 0, data, sizeof data);
        }
        for (int i = 0; i < 1000 && ft_rpc_server_calls(f->server) == 0; i++) {
            nap(10);
        }
        assert_int_equal(ft_rpc_server_calls(f->server), 1);
        double began = ft_clock_seconds();
        while (next_ping(fd, data)) { /* no answer */
        }
        double took = ft_clock_seconds() - began;
        print_message("vanished after %d answers: let go after %.1f s, asked every %.1f s\n", answers, took,
                      KEEPALIVE_MS / 1000.0);
        assert_true(took < 15);
        for (int i = 0; i < 1000 && ft_rpc_server_calls(f->server) > 0; i++) {
            nap(10);
        }
        assert_int_equal(ft_rpc_server_calls(f->server), 0);
        (void)close(fd);
    }
    light_answers(f);
    nothing_stays(f);
}

/* What Documents lead to is counted with their message, and let go with it. */
static void memory_beside_a_message_is_counted(void **state)
{
    const struct fixture *f = *state;
    struct client c;
    begin(&c, f, "/t/hold", 1000, 60000);
    while (held_now() < 1) {
        nap(10);
    }
    (void)pthread_mutex_lock(&held.mutex);
    struct ft_rpc_call *call = held.calls[0];
    assert_true(ft_rpc_hold(call, ROOM / 2));
    assert_false(ft_rpc_hold(call, ROOM / 2));
    assert_false(ft_rpc_hold(call, SIZE_MAX));
    assert_true(ft_rpc_could_hold(call, ROOM / 2 - 1000)); /* later, that is */
    assert_false(ft_rpc_could_hold(call, ROOM / 2));
    assert_false(ft_rpc_could_hold(call, SIZE_MAX));
    assert_int_equal(ft_rpc_server_bytes(f->server), ROOM / 2 + 1000);
    (void)pthread_mutex_unlock(&held.mutex);
    let_go();
    end(&c);
    assert_int_equal(c.st, FT_OK);
    nothing_stays(f);
}

/* How a stream ended that says nothing. */
static int end_of(struct ft_rpc_stream *stream)
{
    enum ft_rpc_next what = FT_RPC_NEXT_NOTHING;
    struct ft_buf message = {0};
    while (what != FT_RPC_NEXT_END) {
        ASSERT_OK(ft_rpc_stream_next(stream, 20000, &what, &message, &err));
        assert_int_not_equal(what, FT_RPC_NEXT_NOTHING);
    }
    ft_buf_release(&message);
    return ft_rpc_stream_answer(stream)->code;
}

/* A server that goes down does not wait for streams that say nothing, also those that never did; one that is
 * busy goes on until it is not. */
static void idle_streams_are_ended_once_calls_are_refused(void **state)
{
    const struct fixture *f = *state;
    struct ft_rpc_stream *idle[4] = {0};
    struct ft_rpc_stream *busy = NULL;
    struct ft_rpc_stream *other = NULL;
    struct ft_buf answer = {0};
    ASSERT_OK(ft_rpc_stream_open(f->target, "/t/stream", &other, &err)); /* of a method that waits */
    ASSERT_OK(ft_rpc_stream_exchange(other, ft_bytes_of("o", 1), &answer, &err));
    ASSERT_OK(ft_rpc_stream_open(f->target, "/t/idle", &busy, &err));
    for (size_t i = 0; i < 4; i++) {
        ASSERT_OK(ft_rpc_stream_open(f->target, "/t/idle", &idle[i], &err));
        if (i > 0) {
            ASSERT_OK(ft_rpc_stream_exchange(idle[i], ft_bytes_of("i", 1), &answer, &err));
        }
    }
    for (int i = 0; i < 2000 && ft_rpc_server_calls(f->server) < 6; i++) {
        nap(10);
    }
    assert_int_equal(ft_rpc_server_calls(f->server), 6);
    ASSERT_OK(ft_rpc_stream_exchange(busy, ft_bytes_of("b", 1), &answer, &err));
    ft_rpc_server_refuse(f->server);
    double gap = 0; /* the longest in which the busy one said nothing: this thread may have been held up */
    for (double now = ft_clock_seconds(), began = now, last = now; now - began < 1.5; last = now) {
        enum ft_status st = ft_rpc_stream_exchange(busy, ft_bytes_of("b", 1), &answer, &err);
        now = ft_clock_seconds();
        gap = now - last > gap ? now - last : gap;
        if (st != FT_OK) {
            print_message("the busy stream was held up for %.2f s\n", gap);
            assert_true(gap > 0.4);
            break;
        }
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(end_of(idle[i]), FT_RPC_UNAVAILABLE);
        ft_rpc_stream_close(idle[i]);
    }
    (void)!ft_rpc_stream_exchange(busy, ft_bytes_of("b", 1), &answer, &err); /* and now it is idle */
    for (int i = 0; i < 2000 && ft_rpc_server_calls(f->server) > 1; i++) {
        nap(10);
    }
    assert_int_equal(ft_rpc_server_calls(f->server), 1);
    ASSERT_OK(ft_rpc_stream_exchange(other, ft_bytes_of("o", 1), &answer, &err));
    ft_rpc_stream_close(busy);
    ft_rpc_stream_close(other);
    ft_buf_release(&answer);
    nothing_stays(f);
}

/* A connection under way that gRPC takes for a failed one, as after a call between connect() and errno. */
static atomic_int connects_to_spoil;

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
    int done = (int)syscall(SYS_connect, fd, address.__sockaddr__, length);
    if (done < 0 && errno == EINPROGRESS && atomic_fetch_sub(&connects_to_spoil, 1) > 0) {
        errno = ENOENT;
    }
    return done;
}

static void a_first_connection_that_fails_is_tried_again(void **state)
{
    const struct fixture *f = *state;
    struct ft_rpc_answer answer;
    struct ft_rpc_stream *stream = NULL;
    struct ft_buf message = {0};
    atomic_store(&connects_to_spoil, 1);
    ASSERT_OK(ft_rpc_call(f->target, "/t/light", ft_bytes_of("x", 1), 20000, &answer, &err));
    assert_true(atomic_load(&connects_to_spoil) <= 0);
    ft_rpc_answer_release(&answer);
    atomic_store(&connects_to_spoil, 1);
    ASSERT_OK(ft_rpc_stream_open(f->target, "/t/stream", &stream, &err));
    ASSERT_OK(ft_rpc_stream_exchange(stream, ft_bytes_of("x", 1), &message, &err));
    assert_true(atomic_load(&connects_to_spoil) <= 0);
    ft_rpc_stream_close(stream);
    ft_buf_release(&message);
    nothing_stays(f);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* gRPC's own locks are not seen by ThreadSanitizer. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "ignore_noninstrumented_modules=1";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_was_answered_is_not_in_hand_any_more),
        CASE(a_crowd_waits_or_is_refused_and_light_calls_pass),
        CASE(who_leaves_while_waiting_makes_room),
        CASE(a_stream_goes_on_when_others_make_room),
        CASE(stopping_ends_those_who_wait),
        CASE(too_large_a_message_is_refused),
        CASE(a_light_method_takes_small_messages_only),
        CASE(a_stream_that_is_gone_does_not_stand_in_line),
        CASE(memory_beside_a_message_is_counted),
        CASE(idle_streams_are_ended_once_calls_are_refused),
        CASE(a_first_connection_that_fails_is_tried_again),
        cmocka_unit_test_setup_teardown(a_client_that_vanished_is_let_go, set_up_impatient, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
