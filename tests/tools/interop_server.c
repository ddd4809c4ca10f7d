/* interop_server: grpc.testing.TestService of gRPC's doc/interop-test-descriptions.md on our gRPC server, for
 * tests/oracle/test_interop.py. Prints its port, serves until standard input ends. */
/* links: ft_rpc ft_codec ft_base */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/grpc.h>

#include "executor/base/alloc.h"
#include "executor/codec/pb.h"
#include "executor/rpc/internal.h"
#include "executor/rpc/server.h"

/* src/proto/grpc/testing/messages.proto */
enum { PAYLOAD_BODY = 2 };
enum { SIMPLE_SIZE = 2, SIMPLE_PAYLOAD = 3, SIMPLE_STATUS = 7, SIMPLE_COMPRESSED = 8 };
enum { IN_PAYLOAD = 1, IN_COMPRESSED = 2 };
enum { OUT_PARAMETERS = 2, OUT_STATUS = 7 };
enum { STATUS_CODE = 1, STATUS_MESSAGE = 2, PARAMETERS_SIZE = 1, BOOL_VALUE = 1 };
enum { SIZES_MAX = 16 };
enum { MESSAGE_BYTES_MAX = 64 << 20 };

/* What a request asks for, of any of the three kinds. */
struct ask {
    size_t sizes[SIZES_MAX]; /* of answers */
    size_t count;
    size_t payload; /* bytes that came */
    bool has_status, expects, compressed;
    int64_t code;
    struct ft_bytes message;
};

/* gRPC's own tests ask this of it, too: whether the message that came last was compressed on the wire. */
extern uint32_t message_flags(grpc_call *call) __asm__(
    "_Z37grpc_call_test_only_get_message_flagsP9grpc_call");
static const uint32_t WAS_COMPRESSED = 0x40000000u; /* GRPC_WRITE_INTERNAL_TEST_ONLY_WAS_COMPRESSED */

typedef enum ft_status (*take_field)(void *out, const struct ft_pb_field *f, struct ft_err *err);

static enum ft_status each(struct ft_bytes message, take_field take, void *out, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(take(out, &f, err));
    }
}

static enum ft_status take_body(void *out, const struct ft_pb_field *f, struct ft_err *err)
{
    (void)err;
    *(size_t *)out += f->number == PAYLOAD_BODY ? f->bytes.size : 0;
    return FT_OK;
}

static enum ft_status take_size(void *out, const struct ft_pb_field *f, struct ft_err *err)
{
    (void)err;
    if (f->number == PARAMETERS_SIZE) {
        *(size_t *)out = f->varint;
    }
    return FT_OK;
}

static enum ft_status take_bool(void *out, const struct ft_pb_field *f, struct ft_err *err)
{
    (void)err;
    if (f->number == BOOL_VALUE) {
        *(bool *)out = f->varint != 0;
    }
    return FT_OK;
}

static enum ft_status take_status(void *out, const struct ft_pb_field *f, struct ft_err *err)
{
    struct ask *ask = out;
    if (f->number == STATUS_MESSAGE) {
        return ft_pb_bytes(f, &ask->message, err);
    }
    return f->number == STATUS_CODE ? ft_pb_int64(f, &ask->code, err) : FT_OK;
}

static enum ft_status add_status(struct ask *ask, const struct ft_pb_field *f, struct ft_err *err)
{
    ask->has_status = true;
    return each(f->bytes, take_status, ask, err);
}

static enum ft_status expect_compressed(struct ask *ask, const struct ft_pb_field *f, struct ft_err *err)
{
    ask->expects = true;
    return each(f->bytes, take_bool, &ask->compressed, err);
}

static enum ft_status add_size(struct ask *ask, size_t size, struct ft_err *err)
{
    if (ask->count == SIZES_MAX || size > MESSAGE_BYTES_MAX) {
        return FT_FAIL(err, LIMIT, "an answer too many, or too large");
    }
    ask->sizes[ask->count++] = size;
    return FT_OK;
}

static enum ft_status take_simple(void *out, const struct ft_pb_field *f, struct ft_err *err)
{
    struct ask *ask = out;
    switch (f->number) {
    case SIMPLE_SIZE:
        ask->count = 0;
        return add_size(ask, f->varint, err);
    case SIMPLE_PAYLOAD:
        return each(f->bytes, take_body, &ask->payload, err);
    case SIMPLE_STATUS:
        return add_status(ask, f, err);
    case SIMPLE_COMPRESSED:
        return expect_compressed(ask, f, err);
    default:
        return FT_OK;
    }
}

static enum ft_status take_input(void *out, const struct ft_pb_field *f, struct ft_err *err)
{
    struct ask *ask = out;
    if (f->number == IN_COMPRESSED) {
        return expect_compressed(ask, f, err);
    }
    return f->number == IN_PAYLOAD ? each(f->bytes, take_body, &ask->payload, err) : FT_OK;
}

static enum ft_status take_output(void *out, const struct ft_pb_field *f, struct ft_err *err)
{
    struct ask *ask = out;
    size_t size = 0;
    if (f->number == OUT_STATUS) {
        return add_status(ask, f, err);
    }
    if (f->number != OUT_PARAMETERS) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(each(f->bytes, take_size, &size, err));
    return add_size(ask, size, err);
}

static void fail(struct ft_rpc_call *call, const struct ft_err *why)
{
    ft_rpc_finish(call, FT_RPC_INVALID_ARGUMENT, why->text, false);
}

/* Reads the message in hand; false: the call was failed. */
static bool read_ask(struct ft_rpc_call *call, take_field take, struct ask *ask)
{
    struct ft_err err = {0};
    *ask = (struct ask){.count = 0};
    enum ft_status st = each(ft_rpc_message(call), take, ask, &err);
    bool was_compressed = (message_flags(call->grpc) & WAS_COMPRESSED) != 0;
    if (st == FT_OK && ask->expects && ask->compressed != was_compressed) {
        st = FT_FAIL(&err, INVALID, "the message was%s compressed", was_compressed ? "" : " not");
    }
    if (st != FT_OK) {
        fail(call, &err);
    }
    return st == FT_OK;
}

/* The keys that custom_metadata sends are sent back. */
static void echo_metadata(struct ft_rpc_call *call)
{
    static const char initial[] = "x-grpc-test-echo-initial";
    static const char trailing[] = "x-grpc-test-echo-trailing-bin";
    struct ft_bytes value = ft_rpc_metadata(call, initial);
    if (value.size > 0) {
        ft_rpc_add_metadata(call, false, initial, value);
    }
    value = ft_rpc_metadata(call, trailing);
    if (value.size > 0) {
        ft_rpc_add_metadata(call, true, trailing, value);
    }
}

/* {payload: {body: size zeros}}, as SimpleResponse and StreamingOutputCallResponse have it. */
static void send_payload(struct ft_rpc_call *call, size_t size)
{
    struct ft_err err = {0};
    struct ft_buf payload = {0};
    struct ft_buf out = {0};
    uint8_t *zeros = ft_calloc(size + 1, 1);
    enum ft_status st = ft_pb_put_bytes(&payload, PAYLOAD_BODY, ft_bytes_of(zeros, size), &err);
    st = st == FT_OK ? ft_pb_put_bytes(&out, 1, ft_buf_bytes(&payload), &err) : st;
    assert(st == FT_OK);
    bool sent = ft_rpc_send(call, &out);
    assert(sent);
    ft_buf_release(&payload);
    ft_free(zeros);
}

/* True: the request asked for a status, and got it. */
static bool answer_status(struct ft_rpc_call *call, const struct ask *ask)
{
    struct ft_err err = {0};
    struct ft_buf text = {0};
    if (!ask->has_status || ask->code == 0) {
        return false;
    }
    enum ft_status st = ft_buf_append(&text, ask->message.data, ask->message.size, &err);
    st = st == FT_OK ? ft_buf_append(&text, "", 1, &err) : st;
    assert(st == FT_OK);
    ft_rpc_finish(call, (enum ft_rpc_code)ask->code, (const char *)text.data, false);
    ft_buf_release(&text);
    return true;
}

static void empty_call(void *arg, struct ft_rpc_call *call)
{
    struct ft_buf nothing = {0};
    (void)arg;
    bool sent = ft_rpc_send(call, &nothing);
    assert(sent);
    ft_rpc_finish(call, FT_RPC_OK, NULL, false);
}

static void unary_call(void *arg, struct ft_rpc_call *call)
{
    struct ask ask;
    (void)arg;
    if (!read_ask(call, take_simple, &ask)) {
        return;
    }
    echo_metadata(call);
    if (!answer_status(call, &ask)) {
        send_payload(call, ask.count > 0 ? ask.sizes[0] : 0);
        ft_rpc_finish(call, FT_RPC_OK, NULL, false);
    }
}

/* ---- streams; ft_rpc_user() points to what they sum up */

static struct ask *sum_of(struct ft_rpc_call *call)
{
    struct ask *sum = ft_rpc_user(call);
    if (sum == NULL) {
        sum = ft_calloc(1, sizeof *sum);
        ft_rpc_set_user(call, sum);
        echo_metadata(call);
    }
    return sum;
}

static void gone(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    ft_free(ft_rpc_user(call));
}

static void input_came(void *arg, struct ft_rpc_call *call)
{
    struct ask ask;
    (void)arg;
    if (read_ask(call, take_input, &ask)) {
        sum_of(call)->payload += ask.payload;
        ft_rpc_read(call);
    }
}

static void input_ended(void *arg, struct ft_rpc_call *call)
{
    struct ft_err err = {0};
    struct ft_buf out = {0};
    (void)arg;
    enum ft_status st = ft_pb_put_varint(&out, 1, sum_of(call)->payload, &err);
    assert(st == FT_OK);
    bool sent = ft_rpc_send(call, &out);
    assert(sent);
    ft_rpc_finish(call, FT_RPC_OK, NULL, false);
}

static void output_call(void *arg, struct ft_rpc_call *call)
{
    struct ask ask;
    (void)arg;
    if (!read_ask(call, take_output, &ask)) {
        return;
    }
    echo_metadata(call);
    for (size_t i = 0; i < ask.count; i++) {
        send_payload(call, ask.sizes[i]);
    }
    if (!answer_status(call, &ask)) {
        ft_rpc_finish(call, FT_RPC_OK, NULL, false);
    }
}

static void duplex_came(void *arg, struct ft_rpc_call *call)
{
    struct ask ask;
    (void)arg;
    if (!read_ask(call, take_output, &ask)) {
        return;
    }
    (void)sum_of(call);
    for (size_t i = 0; i < ask.count; i++) {
        send_payload(call, ask.sizes[i]);
    }
    if (!answer_status(call, &ask)) {
        ft_rpc_read(call);
    }
}

static void duplex_ended(void *arg, struct ft_rpc_call *call)
{
    (void)arg;
    ft_rpc_finish(call, FT_RPC_OK, NULL, false);
}

/* Answers once all has come. */
static void half_came(void *arg, struct ft_rpc_call *call)
{
    struct ask ask;
    struct ft_err err = {0};
    enum ft_status st = FT_OK;
    (void)arg;
    if (!read_ask(call, take_output, &ask)) {
        return;
    }
    for (size_t i = 0; i < ask.count && st == FT_OK; i++) {
        st = add_size(sum_of(call), ask.sizes[i], &err);
    }
    if (st != FT_OK) {
        fail(call, &err);
    } else {
        ft_rpc_read(call);
    }
}

static void half_ended(void *arg, struct ft_rpc_call *call)
{
    const struct ask *sum = sum_of(call);
    (void)arg;
    for (size_t i = 0; i < sum->count; i++) {
        send_payload(call, sum->sizes[i]);
    }
    ft_rpc_finish(call, FT_RPC_OK, NULL, false);
}

#define SERVICE "/grpc.testing.TestService/"
static const struct ft_rpc_method METHODS[] = {
    {.path = SERVICE "EmptyCall", .message = empty_call},
    {.path = SERVICE "UnaryCall", .message = unary_call},
    {.path = SERVICE "CacheableUnaryCall", .message = unary_call},
    {.path = SERVICE "StreamingInputCall", .message = input_came, .half_closed = input_ended, .gone = gone},
    {.path = SERVICE "StreamingOutputCall", .message = output_call},
    {.path = SERVICE "FullDuplexCall", .message = duplex_came, .half_closed = duplex_ended, .gone = gone},
    {.path = SERVICE "HalfDuplexCall", .message = half_came, .half_closed = half_ended, .gone = gone},
}; /* UnimplementedCall and UnimplementedService: not there, that is the test */

int main(void)
{
    struct ft_err err = {0};
    struct ft_rpc_server *server = NULL;
    const struct ft_rpc_options options = {.host = "127.0.0.1",
                                           .methods = METHODS,
                                           .n_methods = sizeof METHODS / sizeof METHODS[0],
                                           .message_bytes_max = MESSAGE_BYTES_MAX,
                                           .memory_bytes_max = (size_t)4 * MESSAGE_BYTES_MAX,
                                           .waiting_max = 64};
    if (ft_rpc_server_new(&options, &server, &err) != FT_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%d\n", ft_rpc_server_port(server));
    (void)fflush(stdout);
    while (getchar() != EOF) {
    }
    size_t held = ft_rpc_server_bytes(server);
    ft_rpc_server_free(server, 2000);
    return held == 0 ? 0 : 2; /* nothing of any call stays in hand */
}
