#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"
#include "executor/server/v1.h"

/* By the thread that stores. */
static void stored(void *arg, const struct ft_set_result *result, const struct ft_err *why)
{
    struct ft_v1_call *call = arg;
    struct ft_v1_push *push =
        call->kind->step == ft_v1_push_step ? call->state : &((struct ft_v1_finetune *)call->state)->push;
    push->result = *result;
    push->why = *why;
    push->stored = true;
    ft_v1_worked(call);
}

static enum ft_status submit(struct ft_v1_call *call, struct ft_v1_push *push, struct ft_v1_why *why)
{
    push->stored = false;
    push->result = (struct ft_set_result){0};
    push->why = (struct ft_err){0};
    if (push->batch.count == 0) {
        push->stored = true;
        return FT_OK;
    }
    ft_v1_begin_work(call);
    push->submitted = true;
    enum ft_status st = ft_datasets_submit(call->service->datasets, push->dataset, push->batch.docs,
                                           push->batch.count, stored, call, &why->err);
    if (st != FT_OK) {
        ft_v1_no_work(call);
        why->fault.retry_seconds = st == FT_BUSY ? 1 : 0;
    }
    return ft_v1_ours(why, st);
}

enum ft_status ft_v1_push_begin(struct ft_v1_call *call, struct ft_v1_push *push, struct ft_v1_why *why)
{
    size_t failed = 0;
    enum ft_status st = ft_check_examples(push->batch.docs, push->batch.count, &failed, &why->err);
    if (st != FT_OK) {
        ft_v1_at_document(why, failed);
        return st;
    }
    push->waits = false;
    return submit(call, push, why);
}

enum ft_status ft_v1_push_look(struct ft_v1_call *call, struct ft_v1_push *push, bool *answered,
                               struct ft_v1_why *why)
{
    *answered = false;
    if (call->busy) {
        return FT_OK;
    }
    if (push->stored && push->why.code == FT_BUSY) { /* it is not read on meanwhile */
        push->stored = false;
        push->waits = true;
        call->ticking = true;
        return FT_OK;
    }
    if (push->waits) {
        push->waits = false;
        return submit(call, push, why);
    }
    *answered = push->stored;
    return FT_OK;
}

static enum ft_status answer(struct ft_v1_call *call, const struct ft_v1_push *push, unsigned part,
                             struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf out = {0};
    struct ft_json *json = ft_json_object();
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory answering");
    }
    FT_TRY(ft_json_set(json, "first", ft_json_of_int((int64_t)push->position), err));
    FT_TRY(ft_json_set(json, "count", ft_json_of_int((int64_t)push->batch.count), err));
    FT_TRY(ft_json_set(json, "stored", ft_json_of_int((int64_t)push->result.stored), err));
    FT_TRY(ft_json_set(json, "duplicates", ft_json_of_int((int64_t)push->result.duplicates), err));
    FT_TRY(ft_v1_write(FT_V1_PUSH_RESPONSE, json, &out, err));
    FT_TRY(ft_v1_send(call, part, &out, err));
done:
    ft_json_free(json);
    ft_buf_release(&out);
    return st;
}

enum ft_status ft_v1_push_end(struct ft_v1_call *call, struct ft_v1_push *push, unsigned part,
                              struct ft_v1_why *why)
{
    push->stored = false;
    if (push->why.code != FT_OK) {
        why->err = push->why;
        ft_v1_disk_refused(why);
        if (push->why.code == FT_IO) {
            FT_LOG_WARNING_LINE("server", "nothing stored dataset=%s reason=\"%s\"", push->dataset,
                                push->why.text);
        }
        return ft_v1_ours(why, push->why.code);
    }
    FT_RETURN_IF_FAILED(answer(call, push, part, &why->err));
    push->position += push->batch.count;
    ft_v1_push_release(push);
    return FT_OK;
}

void ft_v1_push_release(struct ft_v1_push *push)
{
    ft_arena_release(&push->arena);
    push->batch = (struct ft_v1_batch){0};
}

/* The dataset that a message names; none: that of the one before. */
static enum ft_status choose_dataset(struct ft_v1_push *push, struct ft_bytes name, struct ft_v1_why *why)
{
    if (name.size == 0) {
        if (push->dataset[0] == '\0') {
            (void)snprintf(push->dataset, sizeof push->dataset, "default");
        }
        return FT_OK;
    }
    char text[sizeof push->dataset] = "";
    if (name.size < sizeof text) {
        memcpy(text, name.data, name.size);
    }
    if (strlen(text) != name.size || !ft_dataset_name_valid(text)) {
        ft_v1_at_fault(why, "dataset");
        return FT_FAIL(&why->err, INVALID,
                       "'%.*s' is no dataset's name: 1 to 64 letters, digits, '-', '_', '.', not starting "
                       "with '.'",
                       ft_bytes_shown(name), (const char *)name.data);
    }
    memcpy(push->dataset, text, sizeof text);
    return FT_OK;
}

static enum ft_status take_message(struct ft_v1_call *call, struct ft_v1_push *push, struct ft_v1_why *why)
{
    FT_RETURN_IF_FAILED(ft_v1_scan(call, &push->arena, &push->batch, why));
    FT_RETURN_IF_FAILED(choose_dataset(push, push->batch.head, why));
    return ft_v1_push_begin(call, push, why);
}

void ft_v1_push_step(struct ft_v1_call *call)
{
    struct ft_v1_push *push = call->state;
    struct ft_v1_why why = {.code = FT_RPC_OK};
    enum ft_status st = FT_OK;
    bool answered = false;
    if (call->has_message && !call->begun && ft_v1_has_room(call)) {
        call->begun = true; /* a message is in hand */
        st = take_message(call, push, &why);
    }
    if (st == FT_OK && call->begun) {
        st = ft_v1_push_look(call, push, &answered, &why);
    }
    if (st == FT_OK && answered) {
        st = ft_v1_push_end(call, push, 0, &why);
        if (st == FT_OK) {
            call->begun = false;
            ft_v1_next(call);
        }
    }
    if (st != FT_OK) {
        ft_v1_fail(call, &why);
    } else if (!call->begun && !call->has_message) {
        (void)ft_v1_no_more(call);
    }
}

void ft_v1_push_call_release(struct ft_v1_call *call)
{
    ft_v1_push_release(call->state);
}
