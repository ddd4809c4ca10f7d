#include "executor/server/v1.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/log.h"

enum {
    EVENT_MESSAGE = 1,
    EVENT_ENDED = 2,
    EVENT_CLOSED = 4,
    EVENT_ROOM = 8,
    EVENT_WORKED = 16,
    EVENT_STOP = 32,
    EVENT_REFUSED = 64
};
enum { ROWS = 18 }; /* methods */

struct row { /* what a method's arg points to */
    struct ft_service *service;
    const struct ft_v1_kind *kind;
};

struct line {
    struct ft_v1 *v1;
    struct ft_thread **threads;

    /* Under the mutex. */
    pthread_cond_t changed;
    struct ft_v1_call *first, **last;
    struct ft_v1_call *asleep, *last_asleep; /* in the order in which they wake: all sleep equally long */
};
enum { LINE_QUICK, LINE_DISK, LINES };

struct ft_v1 {
    struct ft_service *service;
    struct row rows[ROWS];
    size_t n_threads; /* of each line */

    pthread_mutex_t mutex; /* guards all below and what calls say is the line's */
    struct line lines[LINES];
    size_t waiting;           /* in lines */
    struct ft_v1_call *calls; /* all that are not finished or still referred to */
    size_t n_calls;           /* these, and those that are being released */
    pthread_cond_t ended;     /* one of them */
    bool stopping, closed;
};

#define UNARY(name, touches_disk, is_light, REQUEST, RESPONSE, answers)                                      \
    {                                                                                                        \
        .path = "/finetuner.v1.Finetuner/" name, .disk = (touches_disk), .light = (is_light),                \
        .request = FT_V1_##REQUEST, .response = FT_V1_##RESPONSE, .answer = (answers)                        \
    }

static const struct ft_v1_kind UNARY_KINDS[] = {
    UNARY("Fit", true, false, FIT_REQUEST, RUN, ft_v1_fit),
    UNARY("GetRun", false, true, GET_RUN_REQUEST, RUN, ft_v1_get_run),
    UNARY("ListRuns", false, true, LIST_RUNS_REQUEST, LIST_RUNS_RESPONSE, ft_v1_list_runs),
    UNARY("CancelRun", true, true, CANCEL_RUN_REQUEST, RUN, ft_v1_cancel_run),
    UNARY("DeleteRun", true, true, DELETE_RUN_REQUEST, DELETE_RUN_RESPONSE, ft_v1_delete_run),
    UNARY("ListDatasets", true, true, LIST_DATASETS_REQUEST, LIST_DATASETS_RESPONSE, ft_v1_list_datasets),
    UNARY("GetDataset", true, true, GET_DATASET_REQUEST, DATASET, ft_v1_get_dataset),
    UNARY("DeleteDataset", true, true, DELETE_DATASET_REQUEST, DELETE_DATASET_RESPONSE, ft_v1_delete_dataset),
    UNARY("DeleteDocuments", true, false, DELETE_DOCUMENTS_REQUEST, DELETE_DOCUMENTS_RESPONSE,
          ft_v1_delete_documents),
    UNARY("ListModels", true, true, LIST_MODELS_REQUEST, LIST_MODELS_RESPONSE, ft_v1_list_models),
    UNARY("GetModel", true, true, GET_MODEL_REQUEST, MODEL, ft_v1_get_model),
    UNARY("DeleteModel", true, true, DELETE_MODEL_REQUEST, DELETE_MODEL_RESPONSE, ft_v1_delete_model),
};
enum { N_UNARY = sizeof UNARY_KINDS / sizeof UNARY_KINDS[0] };

static const struct ft_v1_kind PUSH = {.path = "/finetuner.v1.Finetuner/Push",
                                       .disk = true,
                                       .step = ft_v1_push_step,
                                       .state_bytes = sizeof(struct ft_v1_push),
                                       .release = ft_v1_push_call_release};
static const struct ft_v1_kind WATCH = {.path = "/finetuner.v1.Finetuner/Watch",
                                        .light = true,
                                        .step = ft_v1_watch_step,
                                        .state_bytes = sizeof(struct ft_v1_watch)};
static const struct ft_v1_kind PULL = {.path = "/finetuner.v1.Finetuner/Pull",
                                       .disk = true,
                                       .light = true,
                                       .step = ft_v1_pull_step,
                                       .state_bytes = sizeof(struct ft_v1_pull),
                                       .release = ft_v1_pull_release};
static const struct ft_v1_kind ENCODE = {.path = "/finetuner.v1.Finetuner/Encode",
                                         .step = ft_v1_encode_step,
                                         .state_bytes = sizeof(struct ft_v1_encode),
                                         .release = ft_v1_encode_release};
static const struct ft_v1_kind FINETUNE = {.path = "/finetuner.v1.Finetuner/Finetune",
                                           .disk = true,
                                           .step = ft_v1_finetune_step,
                                           .state_bytes = sizeof(struct ft_v1_finetune),
                                           .ended = ft_v1_finetune_ended,
                                           .release = ft_v1_finetune_release};
static const struct ft_v1_kind PUSH_MODEL = {.path = "/finetuner.v1.Finetuner/PushModel",
                                             .disk = true,
                                             .step = ft_v1_push_model_step,
                                             .state_bytes = sizeof(struct ft_v1_model_push),
                                             .ended = ft_v1_push_model_ended,
                                             .release = ft_v1_push_model_release};
/* Whether the client sends many messages. */
static const struct {
    const struct ft_v1_kind *kind;
    bool many;
} STREAMS[] = {{&PUSH, true},   {&WATCH, false},   {&PULL, false},
               {&ENCODE, true}, {&FINETUNE, true}, {&PUSH_MODEL, true}};
enum { N_STREAMS = sizeof STREAMS / sizeof STREAMS[0] };
const size_t ft_v1_method_count = N_UNARY + N_STREAMS;
static_assert(N_UNARY + N_STREAMS == ROWS, "rows of struct ft_v1");

/* ---- a call's life */

static struct line *line_of(struct ft_v1 *v1, const struct ft_v1_call *call)
{
    return &v1->lines[call->kind->disk ? LINE_DISK : LINE_QUICK];
}

/* The line's own things: mutex held. */

static void wake_up(struct line *line, struct ft_v1_call *call)
{
    if (call->wake_at == 0) {
        return;
    }
    call->wake_at = 0;
    *(call->earlier != NULL ? &call->earlier->later : &line->asleep) = call->later;
    *(call->later != NULL ? &call->later->earlier : &line->last_asleep) = call->earlier;
}

/* Somebody must keep the time: the one who waits without a limit learns that there is one. */
static void fall_asleep(struct line *line, struct ft_v1_call *call)
{
    call->wake_at = ft_clock_seconds() + FT_V1_TICK_MS / 1000.0;
    call->earlier = line->last_asleep;
    call->later = NULL;
    *(call->earlier != NULL ? &call->earlier->later : &line->asleep) = call;
    line->last_asleep = call;
    if (line->asleep == call) {
        (void)pthread_cond_signal(&line->changed);
    }
}

/* Into the line unless it is there, or is being stepped and will be put there after. */
static void put_in_line(struct ft_v1 *v1, struct ft_v1_call *call)
{
    struct line *line = line_of(v1, call);
    if (call->in_line || call->running) {
        return;
    }
    wake_up(line, call);
    (void)atomic_fetch_add(&call->refs, 1);
    call->in_line = true;
    call->next_in_line = NULL;
    *line->last = call;
    line->last = &call->next_in_line;
    v1->waiting++;
    (void)pthread_cond_signal(&line->changed);
}

static void call_unref(struct ft_v1_call *call)
{
    struct ft_v1 *v1 = call->service->v1;
    /* Before the count: ft_v1_stop() refers to what stands in the list. */
    (void)pthread_mutex_lock(&v1->mutex);
    bool last = atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) == 1;
    if (last) {
        *(call->before != NULL ? &call->before->after : &v1->calls) = call->after;
        if (call->after != NULL) {
            call->after->before = call->before;
        }
        wake_up(line_of(v1, call), call);
    }
    (void)pthread_mutex_unlock(&v1->mutex);
    if (!last) {
        return;
    }
    if (call->kind->release != NULL) {
        call->kind->release(call);
    }
    ft_free(call->state);
    ft_free(call);
    (void)pthread_mutex_lock(&v1->mutex);
    v1->n_calls--;
    (void)pthread_cond_signal(&v1->ended);
    (void)pthread_mutex_unlock(&v1->mutex);
}

static void poke(struct ft_v1_call *call, unsigned events)
{
    struct ft_v1 *v1 = call->service->v1;
    (void)pthread_mutex_lock(&v1->mutex);
    call->events |= events;
    put_in_line(v1, call);
    (void)pthread_mutex_unlock(&v1->mutex);
}

void ft_v1_begin_work(struct ft_v1_call *call)
{
    (void)atomic_fetch_add(&call->refs, 1);
    call->busy = true;
}

void ft_v1_no_work(struct ft_v1_call *call)
{
    call->busy = false;
    call_unref(call); /* never the last one: the step has one */
}

void ft_v1_worked(struct ft_v1_call *call)
{
    poke(call, EVENT_WORKED);
    call_unref(call);
}

void ft_v1_next(struct ft_v1_call *call)
{
    call->has_message = false;
    ft_rpc_read(call->rpc);
}

bool ft_v1_has_room(const struct ft_v1_call *call)
{
    int out = atomic_load(&call->out);
    return out == 0 || (out < FT_V1_WINDOW && ft_rpc_has_room(call->rpc, 0));
}

static enum ft_status wrap_part(unsigned part, struct ft_buf *message, struct ft_err *err)
{
    struct ft_buf whole = {0};
    enum ft_status st = ft_buf_reserve(&whole, message->size + 16, err);
    if (st == FT_OK) {
        st = ft_pb_put_bytes(&whole, part, ft_buf_bytes(message), err);
    }
    ft_buf_release(message);
    *message = whole;
    return st;
}

enum ft_status ft_v1_send(struct ft_v1_call *call, unsigned part, struct ft_buf *take_message,
                          struct ft_err *err)
{
    enum ft_status st = part != 0 ? wrap_part(part, take_message, err) : FT_OK;
    if (st == FT_OK) {
        (void)atomic_fetch_add(&call->out, 1);
        if (!ft_rpc_send(call->rpc, take_message)) {
            st = FT_FAIL(err, INTERNAL, "more answers wait for the wire than may");
        }
    }
    ft_buf_release(take_message);
    return st;
}

/* One row for each status; no default, so that a new one is thought about. */
enum ft_rpc_code ft_v1_code(enum ft_status st)
{
    switch (st) {
    case FT_OK:
        return FT_RPC_OK;
    case FT_USAGE:
    case FT_INVALID:
    case FT_UNSUPPORTED:
    case FT_LIMIT:
    case FT_CORRUPT:
        return FT_RPC_INVALID_ARGUMENT;
    case FT_NOT_FOUND:
        return FT_RPC_NOT_FOUND;
    case FT_EXISTS:
        return FT_RPC_ALREADY_EXISTS;
    case FT_UNAVAILABLE:
        return FT_RPC_UNAVAILABLE;
    case FT_BUSY:
    case FT_NOMEM:
        return FT_RPC_RESOURCE_EXHAUSTED;
    case FT_CANCELLED:
        return FT_RPC_CANCELLED;
    case FT_IO: /* where something was to be written: ft_v1_disk_refused() */
    case FT_DIVERGED:
    case FT_INTERNAL:
    case FT_STATUS_COUNT:
        break;
    }
    return FT_RPC_INTERNAL;
}

enum ft_status ft_v1_ours(struct ft_v1_why *why, enum ft_status st)
{
    if (st == FT_CORRUPT || st == FT_LIMIT || st == FT_UNSUPPORTED) {
        why->code = FT_RPC_INTERNAL;
    }
    return st;
}

enum ft_status ft_v1_not_yet(struct ft_v1_why *why, enum ft_status st)
{
    if (st == FT_UNAVAILABLE) {
        why->code = FT_RPC_FAILED_PRECONDITION;
    }
    return st;
}

void ft_v1_disk_refused(struct ft_v1_why *why)
{
    if (why->err.code == FT_IO) {
        why->code = FT_RPC_RESOURCE_EXHAUSTED;
        why->fault.retry_seconds = 1;
        (void)ft_err_wrap(&why->err, "the disk refuses");
    }
}

/* A client's bytes may stand in a message, cut off anywhere: protobuf's texts are UTF-8. */
static void make_utf8(char *text)
{
    bool valid = ft_utf8_valid(ft_bytes_of_text(text));
    for (char *c = text; !valid && *c != '\0'; c++) {
        *c = (*c & 0x80) != 0 ? '?' : *c;
    }
}

static void finish_rpc(struct ft_rpc_call *rpc, struct ft_v1_why *why)
{
    struct ft_err err = {0};
    struct ft_buf details = {0};
    enum ft_rpc_code code = why->code != FT_RPC_OK ? why->code : ft_v1_code(why->err.code);
    make_utf8(why->err.text);
    bool told = why->fault.field[0] != '\0' || why->fault.retry_seconds > 0;
    if (told && ft_v1_status_write((int)code, why->err.text, &why->fault, &details, &err) == FT_OK) {
        ft_rpc_finish_detailed(rpc, code, why->err.text, ft_buf_bytes(&details));
    } else {
        ft_rpc_finish(rpc, code, why->err.code != FT_OK ? why->err.text : NULL, false);
    }
    ft_buf_release(&details);
}

void ft_v1_fail(struct ft_v1_call *call, struct ft_v1_why *why)
{
    if (call->kind->ended != NULL) {
        call->kind->ended(call);
    }
    call->finished = true;
    FT_LOG_DEBUG_LINE("server", "call ended method=%s reason=\"%s\"", call->kind->path, why->err.text);
    ft_uploads_hide(call->service->uploads, why->err.text);
    ft_path_hide(why->err.text, call->service->config->workspace);
    finish_rpc(call->rpc, why);
}

void ft_v1_finish(struct ft_v1_call *call)
{
    struct ft_v1_why fine = {.code = FT_RPC_OK};
    ft_v1_fail(call, &fine);
}

bool ft_v1_no_more(struct ft_v1_call *call)
{
    struct ft_v1_why why = {.code = FT_RPC_OK};
    if (call->half_closed) {
        ft_v1_finish(call);
        return true;
    }
    if (call->stopping) {
        (void)FT_FAIL(&why.err, UNAVAILABLE, "the service is going down; what was answered is kept");
        ft_v1_fail(call, &why);
        return true;
    }
    return false;
}

/* ---- stepping */

static void answer_unary(struct ft_v1_call *call)
{
    enum ft_status st = FT_OK;
    const struct ft_v1_kind *kind = call->kind;
    struct ft_v1_why why = {.code = FT_RPC_OK};
    struct ft_json *request = NULL;
    struct ft_json *answer = NULL;
    struct ft_buf out = {0};
    FT_TRY(ft_v1_read(kind->request, ft_rpc_message(call->rpc), &request, &why.fault, &why.err));
    FT_TRY(kind->answer(call->service, request, &answer, &why));
    FT_TRY(ft_v1_write(kind->response, answer, &out, &why.err));
    FT_TRY(ft_v1_send(call, 0, &out, &why.err));
done:
    ft_json_free(request);
    ft_json_free(answer);
    ft_buf_release(&out);
    if (st == FT_OK) {
        ft_v1_finish(call);
    } else {
        ft_v1_fail(call, &why);
    }
}

static void step(struct ft_v1_call *call, unsigned events)
{
    call->has_message = call->has_message || (events & EVENT_MESSAGE) != 0;
    call->half_closed = call->half_closed || (events & EVENT_ENDED) != 0;
    call->cancelled = call->cancelled || (events & EVENT_CLOSED) != 0;
    call->stopping = call->stopping || (events & EVENT_STOP) != 0;
    call->busy = call->busy && (events & EVENT_WORKED) == 0;
    call->refused = call->refused || (events & EVENT_REFUSED) != 0;
    call->ticking = false;
    if (call->finished || call->busy) {
        return;
    }
    struct ft_v1_why why = {.code = FT_RPC_OK};
    if (call->cancelled || ft_rpc_cancelled(call->rpc)) {
        (void)FT_FAIL(&why.err, CANCELLED, "the client went away");
        ft_v1_fail(call, &why);
    } else if (call->refused) {
        enum ft_rpc_code code = FT_RPC_OK;
        const char *text = ft_rpc_refusal(call->rpc, &code);
        bool now = code == FT_RPC_UNAVAILABLE; /* there may be room later */
        why.fault.retry_seconds = now ? 1 : 0;
        (void)(now ? FT_FAIL(&why.err, BUSY, "%s", text) : FT_FAIL(&why.err, INVALID, "%s", text));
        ft_v1_fail(call, &why);
    } else if (call->kind->step != NULL) {
        call->kind->step(call);
    } else if (call->has_message) {
        answer_unary(call);
    }
}

static struct ft_v1_call *take_first(struct line *line)
{
    struct ft_v1_call *call = line->first;
    line->first = call->next_in_line;
    if (line->first == NULL) {
        line->last = &line->first;
    }
    line->v1->waiting--;
    call->in_line = false;
    return call;
}

/* Calls whose time has come go into the line. Returns seconds until the next one's; < 0: there is none. */
static double wake_sleepers(struct line *line)
{
    double now = ft_clock_seconds();
    while (line->asleep != NULL && line->asleep->wake_at <= now) {
        put_in_line(line->v1, line->asleep);
    }
    return line->asleep != NULL ? line->asleep->wake_at - now : -1;
}

static void nap(struct line *line, double seconds)
{
    struct timespec at;
    if (seconds < 0) {
        (void)pthread_cond_wait(&line->changed, &line->v1->mutex);
        return;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    int64_t ns = at.tv_nsec + (int64_t)(seconds * 1e9) + 1000000;
    at.tv_sec += (time_t)(ns / 1000000000);
    at.tv_nsec = (long)(ns % 1000000000);
    (void)pthread_cond_timedwait(&line->changed, &line->v1->mutex, &at);
}

/* Mutex held, and let go of meanwhile. */
static void step_first(struct line *line)
{
    struct ft_v1 *v1 = line->v1;
    struct ft_v1_call *call = take_first(line);
    unsigned events = call->events;
    call->events = 0;
    call->running = true;
    if (line->first != NULL || line->asleep != NULL) { /* this thread looks after neither now */
        (void)pthread_cond_signal(&line->changed);
    }
    (void)pthread_mutex_unlock(&v1->mutex);
    step(call, events);
    (void)pthread_mutex_lock(&v1->mutex);
    call->running = false;
    if (call->events != 0) {
        put_in_line(v1, call);
    } else if (call->ticking && !call->finished) {
        fall_asleep(line, call);
    }
    (void)pthread_mutex_unlock(&v1->mutex);
    call_unref(call); /* the line's */
    (void)pthread_mutex_lock(&v1->mutex);
}

static void line_main(void *arg)
{
    struct line *line = arg;
    (void)pthread_mutex_lock(&line->v1->mutex);
    for (;;) {
        double sleep = wake_sleepers(line);
        if (line->first != NULL) {
            step_first(line);
        } else if (line->v1->closed) {
            break;
        } else {
            nap(line, sleep);
        }
    }
    (void)pthread_mutex_unlock(&line->v1->mutex);
}

/* ---- gRPC's threads */

static enum ft_status new_call(const struct row *row, struct ft_rpc_call *rpc, struct ft_v1_call **call,
                               struct ft_v1_why *why)
{
    enum ft_status st = FT_OK;
    struct ft_v1 *v1 = row->service->v1;
    struct ft_v1_call *c = NULL;
    FT_TRY(ft_new(1, sizeof *c, &c, &why->err));
    FT_TRY(ft_new(1, row->kind->state_bytes + 1, &c->state, &why->err));
    c->service = row->service;
    c->kind = row->kind;
    c->rpc = rpc;
    atomic_init(&c->refs, 1);
    (void)pthread_mutex_lock(&v1->mutex);
    if (v1->stopping) {
        st = FT_FAIL(&why->err, UNAVAILABLE, "the service is going down");
    } else if (v1->n_calls >= FT_V1_CALLS || v1->waiting >= (size_t)row->service->config->request_queue) {
        why->fault.retry_seconds = 1;
        st = FT_FAIL(&why->err, BUSY, "too many requests wait (request_queue = %lld): try again",
                     (long long)row->service->config->request_queue);
    } else {
        c->after = v1->calls;
        if (c->after != NULL) {
            c->after->before = c;
        }
        v1->calls = c;
        v1->n_calls++;
        *call = c;
        c = NULL;
    }
    (void)pthread_mutex_unlock(&v1->mutex);
done:
    if (c != NULL) {
        ft_free(c->state);
        ft_free(c);
    }
    return st;
}

/* The call's first event makes it. */
static void came(void *arg, struct ft_rpc_call *rpc, unsigned event)
{
    struct ft_v1_call *call = ft_rpc_user(rpc);
    struct ft_v1_why why = {.code = FT_RPC_OK};
    if (call == NULL) {
        if (new_call(arg, rpc, &call, &why) != FT_OK) {
            finish_rpc(rpc, &why);
            return;
        }
        ft_rpc_set_user(rpc, call);
        event |= ft_rpc_cancelled(rpc) ? EVENT_CLOSED : 0; /* that may have come while there was no call */
    }
    poke(call, event);
}

static void message(void *arg, struct ft_rpc_call *rpc)
{
    came(arg, rpc, EVENT_MESSAGE);
}

static void half_closed(void *arg, struct ft_rpc_call *rpc)
{
    came(arg, rpc, EVENT_ENDED);
}

static void refused(void *arg, struct ft_rpc_call *rpc)
{
    came(arg, rpc, EVENT_REFUSED);
}

static void closed(void *arg, struct ft_rpc_call *rpc)
{
    struct ft_v1_call *call = ft_rpc_user(rpc);
    (void)arg;
    if (call != NULL) {
        poke(call, EVENT_CLOSED);
    }
}

static void sent(void *arg, struct ft_rpc_call *rpc)
{
    struct ft_v1_call *call = ft_rpc_user(rpc);
    (void)arg;
    if (call != NULL) {
        (void)atomic_fetch_sub(&call->out, 1);
        poke(call, EVENT_ROOM);
    }
}

static void gone(void *arg, struct ft_rpc_call *rpc)
{
    struct ft_v1_call *call = ft_rpc_user(rpc);
    (void)arg;
    if (call != NULL) {
        call_unref(call);
    }
}

/* ---- the service's */

void ft_v1_methods_fill(struct ft_service *service, struct ft_rpc_method *methods)
{
    struct ft_v1 *v1 = service->v1;
    for (size_t i = 0; i < ft_v1_method_count; i++) {
        bool stream = i >= N_UNARY;
        bool many = stream && STREAMS[i - N_UNARY].many;
        const struct ft_v1_kind *kind = stream ? STREAMS[i - N_UNARY].kind : &UNARY_KINDS[i];
        v1->rows[i] = (struct row){service, kind};
        methods[i] = (struct ft_rpc_method){.path = kind->path,
                                            .message = message,
                                            .half_closed = many ? half_closed : NULL,
                                            .closed = closed,
                                            .arg = &v1->rows[i],
                                            .light = kind->light,
                                            .refused = refused,
                                            .sent = sent,
                                            .gone = gone};
    }
}

static enum ft_status start_line(struct ft_v1 *v1, struct line *line, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_new(v1->n_threads, sizeof *line->threads, &line->threads, err));
    for (size_t i = 0; i < v1->n_threads; i++) {
        FT_RETURN_IF_FAILED(ft_thread_start("v1", line_main, line, &line->threads[i], err));
    }
    return FT_OK;
}

static void init_locks(struct ft_v1 *v1)
{
    pthread_condattr_t monotonic;
    (void)pthread_mutex_init(&v1->mutex, NULL);
    (void)pthread_cond_init(&v1->ended, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    for (size_t i = 0; i < LINES; i++) {
        struct line *line = &v1->lines[i];
        line->v1 = v1;
        line->last = &line->first;
        (void)pthread_cond_init(&line->changed, &monotonic);
    }
    (void)pthread_condattr_destroy(&monotonic);
}

enum ft_status ft_v1_new(struct ft_service *service, struct ft_v1 **v1, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_v1 *v = NULL;
    *v1 = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *v, &v, err));
    v->service = service;
    v->n_threads = (size_t)service->config->handlers;
    init_locks(v);
    for (size_t i = 0; i < LINES; i++) {
        FT_TRY(start_line(v, &v->lines[i], err));
    }
    *v1 = v;
    v = NULL;
done:
    ft_v1_free(v);
    return st;
}

void ft_v1_stop(struct ft_v1 *v1)
{
    (void)pthread_mutex_lock(&v1->mutex);
    v1->stopping = true;
    for (struct ft_v1_call *call = v1->calls; call != NULL; call = call->after) {
        call->events |= EVENT_STOP;
        put_in_line(v1, call);
    }
    (void)pthread_mutex_unlock(&v1->mutex);
}

size_t ft_v1_waiting(struct ft_v1 *v1)
{
    (void)pthread_mutex_lock(&v1->mutex);
    size_t waiting = v1->waiting;
    (void)pthread_mutex_unlock(&v1->mutex);
    return waiting;
}

void ft_v1_free(struct ft_v1 *v1)
{
    if (v1 == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&v1->mutex);
    v1->closed = true;
    for (size_t i = 0; i < LINES; i++) {
        (void)pthread_cond_broadcast(&v1->lines[i].changed);
    }
    (void)pthread_mutex_unlock(&v1->mutex);
    for (size_t i = 0; i < LINES; i++) {
        struct line *line = &v1->lines[i];
        for (size_t k = 0; line->threads != NULL && k < v1->n_threads; k++) {
            ft_thread_join(line->threads[k]);
        }
        ft_free(line->threads);
        (void)pthread_cond_destroy(&line->changed);
    }
    /* A thread that worked for a call may have said so, seen it answered, and still hold it. */
    (void)pthread_mutex_lock(&v1->mutex);
    while (v1->n_calls > 0) {
        (void)pthread_cond_wait(&v1->ended, &v1->mutex);
    }
    (void)pthread_mutex_unlock(&v1->mutex);
    assert(v1->calls == NULL);
    (void)pthread_cond_destroy(&v1->ended);
    (void)pthread_mutex_destroy(&v1->mutex);
    ft_free(v1);
}

/* ---- requests */

void ft_v1_at_fault(struct ft_v1_why *why, const char *field)
{
    (void)snprintf(why->fault.field, sizeof why->fault.field, "%s", field);
}

void ft_v1_at_document(struct ft_v1_why *why, size_t i)
{
    ft_v1_document_field(i, "", &why->fault);
}

enum ft_status ft_v1_scan(struct ft_v1_call *call, struct ft_arena *arena, struct ft_v1_batch *batch,
                          struct ft_v1_why *why)
{
    struct ft_bytes message = ft_rpc_message(call->rpc);
    FT_RETURN_IF_FAILED(ft_v1_batch_look(message, batch, &why->fault, &why->err));
    enum ft_status st = ft_hold_documents(call->rpc, batch->count, &why->err);
    if (st != FT_OK) {
        ft_v1_at_fault(why, "documents");
        why->fault.retry_seconds = st == FT_BUSY ? 1 : 0;
        return st;
    }
    return ft_v1_batch_scan(message, arena, batch, &why->fault, &why->err);
}

enum ft_status ft_v1_empty(struct ft_json **answer, struct ft_v1_why *why)
{
    *answer = ft_json_object();
    return *answer != NULL ? FT_OK : FT_FAIL(&why->err, NOMEM, "out of memory answering");
}

enum ft_status ft_v1_need(const struct ft_json *request, const char *key, const char **text,
                          struct ft_v1_why *why)
{
    *text = ft_v1_text(request, key);
    if (**text == '\0') {
        ft_v1_at_fault(why, key);
        return FT_FAIL(&why->err, INVALID, "%s is empty", key);
    }
    return FT_OK;
}

enum ft_status ft_v1_page(const struct ft_json *request, int64_t *size, const char **token,
                          struct ft_v1_why *why)
{
    *size = ft_json_int(ft_json_get(request, "page_size"));
    *token = ft_v1_text(request, "page_token");
    if (*size < 0) {
        ft_v1_at_fault(why, "page_size");
        return FT_FAIL(&why->err, INVALID, "page_size is negative");
    }
    *size = *size == 0 ? FT_V1_PAGE : *size > FT_V1_PAGE_MAX ? FT_V1_PAGE_MAX : *size;
    return FT_OK;
}
