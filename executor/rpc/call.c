#include "executor/rpc/server.h"

#include <assert.h>
#include <string.h>

#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/rpc/internal.h"

void ft_rpc_accept_next(struct ft_rpc_server *server)
{
    struct ft_rpc_call *call = ft_calloc(1, sizeof *call);
    if (call == NULL) {
        FT_LOG_ERROR_LINE("rpc", "no memory to accept a call");
        (void)pthread_mutex_lock(&server->mutex);
        server->lost_slots++;
        (void)pthread_mutex_unlock(&server->mutex);
        return;
    }
    call->server = server;
    call->accept = (struct ft_rpc_op){.kind = FT_RPC_OP_ACCEPT, .call = call};
    call->receive = (struct ft_rpc_op){.kind = FT_RPC_OP_RECEIVE, .call = call};
    call->send = (struct ft_rpc_op){.kind = FT_RPC_OP_SEND, .call = call};
    call->close = (struct ft_rpc_op){.kind = FT_RPC_OP_CLOSE, .call = call};
    atomic_init(&call->refs, 1);
    (void)pthread_mutex_init(&call->mutex, NULL);
    call->status_text = grpc_empty_slice();
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    grpc_call_error cause =
        grpc_server_request_call(server->grpc, &call->grpc, &call->details, &call->metadata, server->queue,
                                 server->queue, ft_rpc_tag(&call->accept));
    assert(cause == GRPC_CALL_OK);
}

static size_t message_bytes(const struct ft_rpc_call *call)
{
    return call->has_message ? GRPC_SLICE_LENGTH(call->message) : 0;
}

/* An answer is on the wire, or nobody wants it any more. */
static void drop_answer(struct ft_rpc_server *server, struct ft_rpc_answer_out *answer)
{
    (void)atomic_fetch_sub(&server->bytes, answer->size);
    (void)atomic_fetch_sub(&server->out, answer->size);
    grpc_byte_buffer_destroy(answer->buffer);
    *answer = (struct ft_rpc_answer_out){0};
}

static void drop_message(struct ft_rpc_call *call)
{
    (void)atomic_fetch_sub(&call->server->bytes, message_bytes(call) + call->held);
    call->held = 0;
    if (call->has_message) {
        grpc_slice_unref(call->message);
        call->has_message = false;
    }
}

static void tell_end(const struct ft_rpc_call *call)
{
    const struct ft_rpc_end end = {.method = call->method,
                                   .code = atomic_load(&call->cancelled) ? FT_RPC_CANCELLED : call->code,
                                   .seconds = ft_clock_seconds() - call->came_at,
                                   .bytes_in = atomic_load(&call->bytes_in),
                                   .bytes_out = atomic_load(&call->bytes_out)};
    call->server->over(call->server->arg, &end);
}

static void drop_metadata(struct ft_rpc_metadata *metadata)
{
    for (size_t i = 0; i < metadata->count; i++) {
        grpc_slice_unref(metadata->items[i].key);
        grpc_slice_unref(metadata->items[i].value);
    }
}

void ft_rpc_call_unref(struct ft_rpc_call *call)
{
    if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct ft_rpc_server *server = call->server;
    bool accepted = call->grpc != NULL;
    if (call->method != NULL && call->method->gone != NULL) {
        call->method->gone(call->method->arg, call);
    }
    if (accepted && server->over != NULL) {
        tell_end(call);
    }
    drop_message(call);
    grpc_byte_buffer_destroy(call->incoming);
    drop_answer(server, &call->sending);
    for (size_t i = 0; i < call->n_pending; i++) {
        drop_answer(server, &call->pending[i]);
    }
    grpc_slice_unref(call->status_text);
    drop_metadata(&call->initial);
    drop_metadata(&call->trailing);
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    if (accepted) {
        grpc_call_unref(call->grpc);
    }
    (void)pthread_mutex_destroy(&call->mutex);
    ft_free(call);
    if (accepted) {
        ft_rpc_call_gone(server);
    }
}

static void start(struct ft_rpc_call *call, const grpc_op *ops, size_t count, struct ft_rpc_op *tag)
{
    (void)atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
    grpc_call_error cause = grpc_call_start_batch(call->grpc, ops, count, ft_rpc_tag(tag), NULL);
    assert(cause == GRPC_CALL_OK);
}

void ft_rpc_add_metadata(struct ft_rpc_call *call, bool trailing, const char *key, struct ft_bytes value)
{
    struct ft_rpc_metadata *metadata = trailing ? &call->trailing : &call->initial;
    (void)pthread_mutex_lock(&call->mutex);
    assert(metadata->count < FT_RPC_METADATA && !(trailing ? call->finishing : call->started));
    grpc_metadata *item = &metadata->items[metadata->count++];
    item->key = grpc_slice_from_copied_string(key);
    item->value = grpc_slice_from_copied_buffer((const char *)value.data, value.size);
    (void)pthread_mutex_unlock(&call->mutex);
}

/* Send what waits: initial metadata, one message, and the status once no message is left. Mutex held. */
static void pump(struct ft_rpc_call *call)
{
    bool status = call->finishing && !call->status_out && call->n_pending <= 1;
    if (call->batch_out || call->broken || (call->n_pending == 0 && !status)) {
        return;
    }
    grpc_op ops[3];
    memset(ops, 0, sizeof ops);
    size_t n = 0;
    if (!call->started) {
        ops[n].data.send_initial_metadata.count = call->initial.count;
        ops[n].data.send_initial_metadata.metadata = call->initial.items;
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
        call->started = true;
    }
    if (call->n_pending > 0) {
        call->sending = call->pending[0];
        call->n_pending--;
        memmove(call->pending, call->pending + 1, call->n_pending * sizeof call->pending[0]);
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = call->sending.buffer;
    }
    if (status) {
        ops[n].data.send_status_from_server.trailing_metadata_count = call->trailing.count;
        ops[n].data.send_status_from_server.trailing_metadata = call->trailing.items;
        ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        ops[n].data.send_status_from_server.status = (grpc_status_code)call->code;
        ops[n++].data.send_status_from_server.status_details = &call->status_text;
        call->status_out = true;
    }
    call->batch_out = true;
    start(call, ops, n, &call->send);
}

/* Which thread of gRPC's lets an answer go is gRPC's affair, and ordered by it; this says so to tools that
 * cannot see inside gRPC, as struct ft_rpc_op does. */
static atomic_uint answers_given;

static void free_slice(void *data)
{
    (void)atomic_fetch_add_explicit(&answers_given, 0, memory_order_acquire);
    ft_free(data);
}

bool ft_rpc_send(struct ft_rpc_call *call, struct ft_buf *take_message)
{
    bool taken = true;
    (void)pthread_mutex_lock(&call->mutex);
    assert(!call->finishing);
    if (call->broken || atomic_load(&call->cancelled)) {
        ft_buf_release(take_message);
    } else if (call->n_pending == FT_RPC_SENDS) {
        taken = false;
    } else {
        size_t size = take_message->size;
        grpc_slice slice = grpc_empty_slice();
        (void)atomic_fetch_add(&call->server->bytes, size);
        (void)atomic_fetch_add(&call->bytes_out, size);
        (void)atomic_fetch_add(&call->server->out, size);
        if (size > 0) {
            (void)atomic_fetch_add_explicit(&answers_given, 1, memory_order_release);
            slice = grpc_slice_new(take_message->data, size, free_slice);
            *take_message = (struct ft_buf){0};
        } else {
            ft_buf_release(take_message);
        }
        call->pending[call->n_pending++] =
            (struct ft_rpc_answer_out){.buffer = grpc_raw_byte_buffer_create(&slice, 1), .size = size};
        grpc_slice_unref(slice);
        pump(call);
    }
    (void)pthread_mutex_unlock(&call->mutex);
    return taken;
}

bool ft_rpc_has_room(const struct ft_rpc_call *call, size_t size)
{
    const struct ft_rpc_server *server = call->server;
    size_t most = server->bytes_max / 2; /* the other half is for what comes in */
    size_t out = atomic_load(&server->out);
    return size <= most && out <= most - size;
}

bool ft_rpc_hold(struct ft_rpc_call *call, size_t size)
{
    struct ft_rpc_server *server = call->server;
    size_t before = atomic_fetch_add(&server->bytes, size);
    if (size > server->bytes_max || before > server->bytes_max - size) {
        (void)atomic_fetch_sub(&server->bytes, size);
        return false;
    }
    call->held += size;
    return true;
}

bool ft_rpc_could_hold(const struct ft_rpc_call *call, size_t size)
{
    size_t most = call->server->bytes_max;
    size_t message = message_bytes(call) + call->held;
    return message <= most && size <= most - message;
}

void ft_rpc_finish(struct ft_rpc_call *call, enum ft_rpc_code code, const char *details, bool is_error)
{
    if (is_error) {
        ft_rpc_add_metadata(call, true, "is-error", ft_bytes_of_text("true"));
    }
    (void)pthread_mutex_lock(&call->mutex);
    assert(!call->finishing);
    call->finishing = true;
    call->code = code;
    drop_message(call); /* it may be large, and the answer may take its time */
    if (details != NULL && details[0] != '\0') {
        call->status_text = grpc_slice_from_copied_string(details);
    }
    pump(call);
    (void)pthread_mutex_unlock(&call->mutex);
    if (ft_rpc_line_leave(call)) {
        ft_rpc_call_unref(call);
    }
    ft_rpc_call_unref(call);
}

void ft_rpc_finish_detailed(struct ft_rpc_call *call, enum ft_rpc_code code, const char *text,
                            struct ft_bytes details)
{
    ft_rpc_add_metadata(call, true, "grpc-status-details-bin", details);
    ft_rpc_finish(call, code, text, false);
}

static void sent(struct ft_rpc_call *call, bool ok)
{
    (void)pthread_mutex_lock(&call->mutex);
    call->batch_out = false;
    bool message = call->sending.buffer != NULL;
    drop_answer(call->server, &call->sending);
    if (!ok) {
        call->broken = true;
        for (size_t i = 0; i < call->n_pending; i++) {
            drop_answer(call->server, &call->pending[i]);
        }
        call->n_pending = 0;
    }
    pump(call);
    (void)pthread_mutex_unlock(&call->mutex);
    if (message && call->method != NULL && call->method->sent != NULL) {
        call->method->sent(call->method->arg, call);
    }
}

void ft_rpc_call_receive(struct ft_rpc_call *call)
{
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &call->incoming;
    start(call, &op, 1, &call->receive);
}

static void refuse(struct ft_rpc_call *call, enum ft_rpc_code code, const char *why)
{
    grpc_byte_buffer_destroy(call->incoming);
    call->incoming = NULL;
    call->refusal = why;
    call->refusal_code = code;
    if (call->method->refused != NULL) {
        call->method->refused(call->method->arg, call);
    } else {
        ft_rpc_finish(call, code, why, false);
    }
}

void ft_rpc_read(struct ft_rpc_call *call)
{
    drop_message(call);
    (void)atomic_fetch_add_explicit(&call->refs, 1,
                                    memory_order_relaxed); /* an idle one may be ended meanwhile */
    ft_rpc_idle_begin(call);
    if (!ft_rpc_line_join(call) && ft_rpc_idle_end(call)) {
        refuse(call, FT_RPC_UNAVAILABLE, "too many calls wait to be read: try again");
    }
    ft_rpc_call_unref(call);
}

/* The message in one piece and counted; false: no room for it, or not what its encoding says. */
static bool take_message(struct ft_rpc_call *call)
{
    struct ft_rpc_server *server = call->server;
    size_t size = grpc_byte_buffer_length(call->incoming);
    grpc_byte_buffer_reader reader;
    bool light = call->method->light;
    if (light && size > FT_RPC_LIGHT_BYTES) {
        refuse(call, FT_RPC_INVALID_ARGUMENT, "the message is larger than the 64 KiB that this method takes");
        return false;
    }
    if (atomic_fetch_add(&server->bytes, size) + size > server->bytes_max && !light) {
        (void)atomic_fetch_sub(&server->bytes, size);
        refuse(call, FT_RPC_UNAVAILABLE, "too many bytes of messages are in hand: try again");
        return false;
    }
    if (grpc_byte_buffer_reader_init(&reader, call->incoming) == 0) {
        (void)atomic_fetch_sub(&server->bytes, size);
        refuse(call, FT_RPC_INVALID_ARGUMENT, "the message cannot be decompressed");
        return false;
    }
    grpc_slice message = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    /* The slice keeps its own reference; the pieces it was joined from are not needed any longer. */
    grpc_byte_buffer_destroy(call->incoming);
    call->incoming = NULL;
    /* gRPC hands messages over unpacked: both sizes are the same. */
    size_t length = GRPC_SLICE_LENGTH(message);
    (void)atomic_fetch_add(&server->bytes, length - size);
    (void)pthread_mutex_lock(&call->mutex);
    bool wanted = !call->finishing; /* by another thread, meanwhile: it has dropped what was there */
    if (wanted) {
        (void)atomic_fetch_add(&call->bytes_in, length);
        call->message = message;
        call->has_message = true;
    }
    (void)pthread_mutex_unlock(&call->mutex);
    if (!wanted) {
        (void)atomic_fetch_sub(&server->bytes, length);
        grpc_slice_unref(message);
    }
    return wanted;
}

/* Its owner is done with it, though a message was still to come. */
static bool is_finished(struct ft_rpc_call *call)
{
    (void)pthread_mutex_lock(&call->mutex);
    bool finished = call->finishing;
    (void)pthread_mutex_unlock(&call->mutex);
    return finished;
}

static void received(struct ft_rpc_call *call, bool ok)
{
    const struct ft_rpc_method *method = call->method;
    bool has_one = ok && call->incoming != NULL;
    ft_rpc_line_received(call, has_one ? grpc_byte_buffer_length(call->incoming) : 0);
    if (!ft_rpc_idle_end(call) || is_finished(call)) {
        return;
    }
    if (has_one) {
        call->got_any = true;
        if (take_message(call)) {
            method->message(method->arg, call);
        }
    } else if (method->half_closed != NULL) {
        method->half_closed(method->arg, call);
    } else if (!call->got_any) {
        ft_rpc_finish(call, FT_RPC_INVALID_ARGUMENT, "the call has no message", false);
    }
}

static void accepted(struct ft_rpc_call *call)
{
    call->came_at = ft_clock_seconds();
    call->method = ft_rpc_find(call->server, call->details.method);
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &call->cancelled_out;
    start(call, &op, 1, &call->close);
    if (call->method == NULL) {
        ft_rpc_finish(call, FT_RPC_UNIMPLEMENTED, "no such method", false);
        return;
    }
    if (atomic_load(&call->server->refusing) && !call->method->to_the_end) {
        ft_rpc_finish(call, FT_RPC_UNAVAILABLE, "the service is going down", false);
        return;
    }
    ft_rpc_read(call);
}

void ft_rpc_call_event(struct ft_rpc_op *op, bool ok)
{
    struct ft_rpc_call *call = op->call;
    switch (op->kind) {
    case FT_RPC_OP_ACCEPT:
        if (!ok) { /* shutting down: no call came in */
            ft_rpc_call_unref(call);
            return;
        }
        (void)pthread_mutex_lock(&call->server->mutex);
        call->server->calls++;
        (void)pthread_mutex_unlock(&call->server->mutex);
        ft_rpc_accept_next(call->server);
        accepted(call);
        return; /* no operation's reference: the owner's was taken when the slot was made */
    case FT_RPC_OP_RECEIVE:
        received(call, ok);
        break;
    case FT_RPC_OP_SEND:
        sent(call, ok);
        break;
    case FT_RPC_OP_CLOSE:
        if (call->cancelled_out != 0) {
            atomic_store(&call->cancelled, true);
            if (ft_rpc_line_leave(call)) { /* nothing more comes in: reading says so */
                ft_rpc_call_receive(call);
                ft_rpc_call_unref(call);
            }
            if (call->method != NULL && call->method->closed != NULL) {
                call->method->closed(call->method->arg, call);
            }
        }
        break;
    case FT_RPC_OP_DOWN:
        break;
    }
    ft_rpc_call_unref(call);
}

struct ft_bytes ft_rpc_message(const struct ft_rpc_call *call)
{
    if (!call->has_message) {
        return ft_bytes_of(NULL, 0);
    }
    return ft_bytes_of(GRPC_SLICE_START_PTR(call->message), GRPC_SLICE_LENGTH(call->message));
}

struct ft_bytes ft_rpc_metadata(const struct ft_rpc_call *call, const char *key)
{
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *md = &call->metadata.metadata[i];
        if (grpc_slice_str_cmp(md->key, key) == 0) {
            return ft_bytes_of(GRPC_SLICE_START_PTR(md->value), GRPC_SLICE_LENGTH(md->value));
        }
    }
    return ft_bytes_of(NULL, 0);
}

const char *ft_rpc_refusal(const struct ft_rpc_call *call, enum ft_rpc_code *code)
{
    *code = call->refusal_code;
    return call->refusal;
}

bool ft_rpc_cancelled(const struct ft_rpc_call *call)
{
    return atomic_load(&call->cancelled);
}

void ft_rpc_set_user(struct ft_rpc_call *call, void *user)
{
    atomic_store(&call->user, user);
}

void *ft_rpc_user(const struct ft_rpc_call *call)
{
    return atomic_load(&call->user);
}
