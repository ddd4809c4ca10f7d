#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/server/v1.h"

/* By the encode thread: the answer is made while the vectors are there. */
static void encoded(void *arg, const float *vectors, size_t dim, size_t failed, const struct ft_err *err)
{
    struct ft_v1_embed *embed = arg;
    embed->why = (struct ft_v1_why){.err = *err};
    if (err->code == FT_OK) {
        (void)!ft_v1_embeddings_write(embed->docs, embed->count, vectors, dim, &embed->out, &embed->why.err);
    } else if (failed < embed->count) {
        ft_v1_at_document(&embed->why, failed);
    }
    embed->done = true;
    ft_v1_worked(embed->call);
}

enum ft_status ft_v1_embed_begin(struct ft_v1_call *call, struct ft_v1_embed *embed, const char *path,
                                 bool *full, struct ft_v1_why *why)
{
    const struct ft_encode_ask ask = {
        .docs = embed->docs, .count = embed->count, .call = call->rpc, .done = encoded, .arg = embed};
    *full = false;
    embed->call = call;
    embed->done = false;
    ft_buf_release(&embed->out);
    ft_v1_begin_work(call);
    enum ft_status st = ft_encode_push(call->service->encode, &ask, path, &why->err);
    if (st == FT_OK) {
        return FT_OK;
    }
    ft_v1_no_work(call);
    *full = st == FT_BUSY;
    if (*full) {
        why->fault.retry_seconds = ft_encode_advice(call->service->encode);
    }
    return st;
}

static enum ft_status take_message(struct ft_v1_call *call, struct ft_v1_encode *e, struct ft_v1_why *why)
{
    size_t failed = 0;
    struct ft_bytes name;
    FT_RETURN_IF_FAILED(ft_v1_scan(call, &e->arena, &e->batch, why));
    name = e->batch.head;
    FT_RETURN_IF_FAILED(ft_v1_check_text("model", name, &why->fault, &why->err));
    if (name.size > 0) {
        ft_free(e->model);
        e->model = ft_strndup((const char *)name.data, name.size);
        if (e->model == NULL) {
            return FT_FAIL(&why->err, NOMEM, "out of memory reading a message");
        }
    }
    enum ft_status st = ft_check_contents(e->batch.docs, e->batch.count, &failed, &why->err);
    if (st != FT_OK) {
        ft_v1_at_document(why, failed);
    }
    e->embed.docs = e->batch.docs;
    e->embed.count = e->batch.count;
    e->embed.done = e->batch.count == 0;
    return st;
}

/* A full line: the first message of a call is refused, a stream that has begun waits and is not read on. */
static enum ft_status into_line(struct ft_v1_call *call, struct ft_v1_encode *e, struct ft_v1_why *why)
{
    char *path = NULL;
    bool full = false;
    enum ft_status st = ft_model_path(call->service, e->model, true, &path, &why->err);
    if (st != FT_OK) {
        ft_v1_at_fault(why, "model");
        st = ft_v1_not_yet(why, st);
    } else {
        st = ft_v1_embed_begin(call, &e->embed, path, &full, why);
        if (full && call->begun) {
            *why = (struct ft_v1_why){.code = FT_RPC_OK};
            call->ticking = true;
            st = FT_OK;
        }
    }
    ft_free(path);
    return st;
}

static enum ft_status end_message(struct ft_v1_call *call, struct ft_v1_encode *e, struct ft_v1_why *why)
{
    if (e->embed.why.err.code != FT_OK) {
        *why = e->embed.why;
        return why->err.code;
    }
    FT_RETURN_IF_FAILED(ft_v1_send(call, 0, &e->embed.out, &why->err));
    ft_arena_release(&e->arena);
    e->in_hand = false;
    e->embed.done = false;
    call->begun = true;
    ft_v1_next(call);
    return FT_OK;
}

void ft_v1_encode_step(struct ft_v1_call *call)
{
    struct ft_v1_encode *e = call->state;
    struct ft_v1_why why = {.code = FT_RPC_OK};
    enum ft_status st = FT_OK;
    if (call->has_message && !e->in_hand && ft_v1_has_room(call)) {
        e->in_hand = true;
        st = take_message(call, e, &why);
    }
    if (st == FT_OK && e->in_hand && !e->embed.done) {
        st = into_line(call, e, &why);
    }
    if (st == FT_OK && e->in_hand && !call->busy && e->embed.done) {
        st = end_message(call, e, &why);
    }
    if (st != FT_OK) {
        ft_v1_fail(call, &why);
    } else if (!call->has_message) {
        (void)ft_v1_no_more(call);
    }
}

void ft_v1_encode_release(struct ft_v1_call *call)
{
    struct ft_v1_encode *e = call->state;
    ft_free(e->model);
    ft_arena_release(&e->arena);
    ft_buf_release(&e->embed.out);
}
