#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"
#include "executor/server/v1.h"

/* ---- the Documents come in */

static enum ft_status own_name(char name[static FT_DATASET_NAME], struct ft_err *err)
{
    uint8_t r[8];
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r) {
        return FT_FAIL(err, IO, "the operating system has no random bytes");
    }
    (void)snprintf(name, FT_DATASET_NAME, FT_DATASET_OWN "%02x%02x%02x%02x%02x%02x%02x%02x", r[0], r[1], r[2],
                   r[3], r[4], r[5], r[6], r[7]);
    return FT_OK;
}

static enum ft_status take_config(struct ft_v1_finetune *f, struct ft_v1_why *why)
{
    FT_RETURN_IF_FAILED(
        ft_v1_read(FT_V1_FINETUNE_CONFIG, f->push.batch.head, &f->config, &why->fault, &why->err));
    const char *dataset = ft_v1_text(f->config, "dataset");
    f->own_dataset = *dataset == '\0';
    if (f->own_dataset) {
        return own_name(f->push.dataset, &why->err);
    }
    if (!ft_dataset_name_valid(dataset)) {
        ft_v1_at_fault(why, "config.dataset");
        return FT_FAIL(&why->err, INVALID, "'%.64s' is no dataset's name", dataset);
    }
    (void)snprintf(f->push.dataset, sizeof f->push.dataset, "%s", dataset);
    return FT_OK;
}

static enum ft_status take_message(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_v1_why *why)
{
    FT_RETURN_IF_FAILED(ft_v1_scan(call, &f->push.arena, &f->push.batch, why));
    if (f->push.batch.has_head != (f->config == NULL)) {
        ft_v1_at_fault(why, "config");
        return f->config == NULL ? FT_FAIL(&why->err, INVALID, "the first message has no config")
                                 : FT_FAIL(&why->err, INVALID, "config comes a second time");
    }
    if (f->config == NULL) {
        FT_RETURN_IF_FAILED(take_config(f, why));
    }
    return ft_v1_push_begin(call, &f->push, why);
}

/* All are there: the run. */
static enum ft_status start_run(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_v1_why *why)
{
    enum ft_status st = FT_OK;
    struct ft_json *run = NULL;
    struct ft_buf out = {0};
    if (f->config == NULL) {
        ft_v1_at_fault(why, "config");
        return FT_FAIL(&why->err, INVALID, "there was no message");
    }
    if (f->own_dataset && f->push.position == 0) {
        ft_v1_at_fault(why, "documents");
        return FT_FAIL(&why->err, INVALID, "there were no Documents, and config names no dataset");
    }
    FT_TRY(ft_v1_fit_submit(call->service, f->config, f->push.dataset, f->watch.run, why));
    FT_TRY(ft_v1_run(call->service, f->watch.run, &run, why));
    FT_TRY(ft_v1_write(FT_V1_RUN, run, &out, &why->err));
    FT_TRY(ft_v1_send(call, FT_V1_PART_RUN, &out, &why->err));
    f->stage = FT_V1_TRAINING;
done:
    ft_json_free(run);
    ft_buf_release(&out);
    return st;
}

static enum ft_status store(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_v1_why *why)
{
    bool answered = false;
    if (call->has_message && !f->in_hand && ft_v1_has_room(call)) {
        f->in_hand = true;
        FT_RETURN_IF_FAILED(take_message(call, f, why));
    }
    if (f->in_hand) {
        FT_RETURN_IF_FAILED(ft_v1_push_look(call, &f->push, &answered, why));
    }
    if (answered) {
        FT_RETURN_IF_FAILED(ft_v1_push_end(call, &f->push, FT_V1_PART_PUSHED, why));
        f->in_hand = false;
        ft_v1_next(call);
    }
    if (call->has_message || f->in_hand) {
        return FT_OK;
    }
    if (call->stopping) {
        return FT_FAIL(&why->err, UNAVAILABLE, "the service is going down");
    }
    return call->half_closed && ft_v1_has_room(call) ? start_run(call, f, why) : FT_OK;
}

/* ---- it trains */

static enum ft_status after_training(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_v1_why *why)
{
    if (f->watch.how != FT_RUN_FINISHED) {
        struct ft_json *run = NULL;
        const char *reason = NULL;
        FT_RETURN_IF_FAILED(ft_v1_run(call->service, f->watch.run, &run, why));
        reason = ft_v1_text(run, "reason");
        why->code = f->watch.how == FT_RUN_FAILED ? FT_RPC_FAILED_PRECONDITION : FT_RPC_CANCELLED;
        enum ft_status st = FT_FAIL(&why->err, INVALID, "run '%s' is %s: %s", f->watch.run,
                                    ft_run_state_name(f->watch.how), reason);
        ft_json_free(run);
        return st;
    }
    f->stage = FT_V1_EMBEDDING;
    return ft_runs_artifact(call->service->runs, f->watch.run, &f->model, &why->err);
}

static enum ft_status train(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_v1_why *why)
{
    if (call->stopping) {
        return FT_FAIL(&why->err, UNAVAILABLE, "the service is going down");
    }
    FT_RETURN_IF_FAILED(ft_v1_watch_on(call, &f->watch, FT_V1_PART_EVENT, why));
    return f->watch.over ? after_training(call, f, why) : FT_OK;
}

/* ---- embeddings of all Documents of the dataset */

static enum ft_status open_dataset(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_err *err)
{
    char *dir = NULL;
    FT_RETURN_IF_FAILED(ft_datasets_dir(call->service->datasets, f->push.dataset, &dir, err));
    enum ft_status st = ft_dataset_open_set(dir, &f->dataset, err);
    ft_free(dir);
    return st;
}

/* The next Documents into f->docs. */
static enum ft_status read_documents(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_err *err)
{
    size_t left = ft_dataset_count(f->dataset) - f->embedded;
    size_t most = (size_t)call->service->config->encode_batch_size;
    f->count = left < most ? left : most;
    FT_RETURN_IF_FAILED(ft_arena_new(&f->arena, f->count, sizeof *f->docs, &f->docs, err));
    for (size_t i = 0; i < f->count; i++) {
        FT_RETURN_IF_FAILED(ft_dataset_read(f->dataset, f->embedded + i, &f->arena, &f->docs[i], err));
        f->docs[i].id = ft_dataset_id(f->dataset, f->embedded + i); /* also of one that came without */
    }
    return FT_OK;
}

static enum ft_status embed(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_v1_why *why)
{
    bool full = false;
    if (!ft_json_bool(ft_json_get(f->config, "embeddings"))) {
        f->stage = FT_V1_SENDING;
        return FT_OK;
    }
    if (f->dataset == NULL) {
        FT_RETURN_IF_FAILED(ft_v1_ours(why, open_dataset(call, f, &why->err)));
    }
    if (f->embed.done) {
        *why = f->embed.why;
        FT_RETURN_IF_FAILED(why->err.code);
        if (!ft_v1_has_room(call)) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(ft_v1_send(call, FT_V1_PART_EMBEDDINGS, &f->embed.out, &why->err));
        f->embedded += f->count;
        f->count = 0;
        f->embed.done = false;
        ft_arena_release(&f->arena);
    }
    if (f->embedded == ft_dataset_count(f->dataset)) {
        f->stage = FT_V1_SENDING;
        return FT_OK;
    }
    if (f->count == 0) {
        FT_RETURN_IF_FAILED(ft_v1_ours(why, read_documents(call, f, &why->err)));
    }
    f->embed.docs = f->docs;
    f->embed.count = f->count;
    enum ft_status st = ft_v1_embed_begin(call, &f->embed, f->model, &full, why);
    if (full) {
        *why = (struct ft_v1_why){.code = FT_RPC_OK};
        call->ticking = true;
        return FT_OK;
    }
    return st;
}

/* ---- the artifact */

static enum ft_status send_artifact(struct ft_v1_call *call, struct ft_v1_finetune *f, struct ft_v1_why *why)
{
    if (!ft_json_bool(ft_json_get(f->config, "artifact"))) {
        f->pull.over = true;
        return FT_OK;
    }
    if (f->pull.sha256[0] == '\0') {
        FT_RETURN_IF_FAILED(ft_v1_pull_open(call->service, f->watch.run, 0, &f->pull, why));
    }
    return ft_v1_pull_on(call, &f->pull, FT_V1_PART_ARTIFACT, why);
}

void ft_v1_finetune_step(struct ft_v1_call *call)
{
    struct ft_v1_finetune *f = call->state;
    struct ft_v1_why why = {.code = FT_RPC_OK};
    enum ft_status st = FT_OK;
    enum ft_v1_stage before;
    do { /* as far as it goes */
        before = f->stage;
        switch (f->stage) {
        case FT_V1_STORING:
            st = store(call, f, &why);
            break;
        case FT_V1_TRAINING:
            st = train(call, f, &why);
            break;
        case FT_V1_EMBEDDING:
            st = embed(call, f, &why);
            break;
        case FT_V1_SENDING:
            st = send_artifact(call, f, &why);
            break;
        }
    } while (st == FT_OK && !call->busy && f->stage != before);
    if (st != FT_OK) {
        ft_v1_fail(call, &why);
    } else if (f->pull.over) {
        ft_v1_finish(call);
    }
}

/* Whatever ends the call: a run that goes on is cancelled, its own dataset goes. */
void ft_v1_finetune_ended(struct ft_v1_call *call)
{
    struct ft_v1_finetune *f = call->state;
    struct ft_err err = {0};
    if (f->watch.run[0] != '\0' && !f->watch.over && (!call->stopping || f->own_dataset)) {
        (void)!ft_runs_cancel(call->service->runs, f->watch.run, &err); /* it may have ended by itself */
    }
    ft_dataset_free(f->dataset);
    f->dataset = NULL;
    if (!f->own_dataset || !f->push.submitted) {
        return;
    }
    err = (struct ft_err){0};
    enum ft_status st = ft_datasets_remove(call->service->datasets, f->push.dataset, &err);
    if (st != FT_OK && st != FT_NOT_FOUND) {
        FT_LOG_WARNING_LINE("server", "a call's dataset stays dataset=%s reason=\"%s\"", f->push.dataset,
                            err.text);
    }
}

void ft_v1_finetune_release(struct ft_v1_call *call)
{
    struct ft_v1_finetune *f = call->state;
    ft_json_free(f->config);
    ft_v1_push_release(&f->push);
    ft_free(f->model);
    ft_arena_release(&f->arena);
    ft_buf_release(&f->embed.out);
    ft_v1_pull_close(&f->pull);
}
