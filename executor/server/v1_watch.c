#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/server/v1.h"

/* {index, time, <what>: {...}} of {event: <what>, t, ...}. */
static enum ft_status as_event(const struct ft_json *line, struct ft_json **event, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char iso[FT_CLOCK_TEXT];
    const char *what = ft_json_text(ft_json_get(line, "event"), NULL);
    struct ft_json *e = ft_json_object();
    *event = NULL;
    if (e == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory sending an event");
    }
    ft_clock_iso(ft_json_int(ft_json_get(line, "t")), iso);
    FT_TRY(ft_json_set(e, "index", ft_json_copy(ft_json_get(line, "index")), err));
    FT_TRY(ft_json_set(e, "time", ft_json_of_text(iso), err));
    FT_TRY(ft_json_set(e, what != NULL ? what : "", ft_json_copy(line), err));
    *event = e;
    e = NULL;
done:
    ft_json_free(e);
    return st;
}

static enum ft_status send_event(struct ft_v1_call *call, const struct ft_json *event, unsigned part,
                                 struct ft_err *err)
{
    struct ft_buf out = {0};
    enum ft_status st = ft_v1_write(FT_V1_EVENT, event, &out, err);
    if (st == FT_OK) {
        st = ft_v1_send(call, part, &out, err);
    }
    ft_buf_release(&out);
    return st;
}

/* The last word: the run as it ended. */
static enum ft_status send_end(struct ft_v1_call *call, const struct ft_v1_watch *watch, unsigned part,
                               struct ft_v1_why *why)
{
    enum ft_status st = FT_OK;
    char iso[FT_CLOCK_TEXT];
    struct ft_json *run = NULL;
    struct ft_json *e = NULL;
    FT_TRY(ft_v1_run(call->service, watch->run, &run, why));
    e = ft_json_object();
    if (e == NULL) {
        st = FT_FAIL(&why->err, NOMEM, "out of memory sending an event");
        goto done;
    }
    ft_clock_iso(ft_clock_unix_ms(), iso);
    FT_TRY(ft_json_set(e, "index", ft_json_of_int(watch->place.index), &why->err));
    FT_TRY(ft_json_set(e, "time", ft_json_of_text(iso), &why->err));
    struct ft_json *taken = run;
    run = NULL;
    FT_TRY(ft_json_set(e, "run", taken, &why->err));
    FT_TRY(send_event(call, e, part, &why->err));
done:
    ft_json_free(run);
    ft_json_free(e);
    return st;
}

/* As many events as there is room for; *count: how many there were. */
static enum ft_status send_some(struct ft_v1_call *call, struct ft_v1_watch *watch, unsigned part,
                                size_t *count, struct ft_v1_why *why)
{
    enum ft_status st = FT_OK;
    struct ft_json *events = NULL;
    int64_t room = FT_V1_WINDOW - atomic_load(&call->out);
    *count = 0;
    FT_TRY(ft_runs_events_on(call->service->runs, watch->run, &watch->place, watch->from, room > 0 ? room : 0,
                             &events, &why->err));
    for (; *count < ft_json_count(events); ++*count) {
        const struct ft_json *line = ft_json_at(events, *count);
        struct ft_json *event = NULL;
        FT_TRY(as_event(line, &event, &why->err));
        st = send_event(call, event, part, &why->err);
        ft_json_free(event);
        FT_TRY(st);
    }
done:
    ft_json_free(events);
    return st;
}

enum ft_status ft_v1_watch_on(struct ft_v1_call *call, struct ft_v1_watch *watch, unsigned part,
                              struct ft_v1_why *why)
{
    while (!watch->over && ft_v1_has_room(call)) {
        enum ft_run_state state = FT_RUN_CREATED;
        size_t count = 0;
        /* The state first: what is written before a run ends is there once it has ended. */
        FT_RETURN_IF_FAILED(ft_runs_state(call->service->runs, watch->run, &state, &why->err));
        FT_RETURN_IF_FAILED(send_some(call, watch, part, &count, why));
        if (count > 0) {
            continue;
        }
        if (!ft_run_ended(state)) {
            call->ticking = true;
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(send_end(call, watch, part, why));
        watch->over = true;
        watch->how = state;
    }
    return FT_OK;
}

static enum ft_status begin_watch(struct ft_v1_call *call, struct ft_v1_watch *watch, struct ft_v1_why *why)
{
    enum ft_status st = FT_OK;
    struct ft_json *request = NULL;
    struct ft_json *last = NULL;
    const char *run = NULL;
    enum ft_run_state state = FT_RUN_CREATED;
    FT_TRY(ft_v1_read(FT_V1_WATCH_REQUEST, ft_rpc_message(call->rpc), &request, &why->fault, &why->err));
    FT_TRY(ft_v1_need(request, "run", &run, why));
    st = ft_runs_state(call->service->runs, run, &state, &why->err);
    if (st != FT_OK) {
        ft_v1_at_fault(why, "run");
        goto done;
    }
    (void)snprintf(watch->run, sizeof watch->run, "%s", run);
    watch->from = ft_json_int(ft_json_get(request, "from"));
    if (watch->from < 0) { /* the place of the first of them */
        FT_TRY(ft_runs_events(call->service->runs, run, NULL, watch->from, 1, &last, &why->err));
        watch->from = ft_json_int(ft_json_get(ft_json_at(last, 0), "index"));
    }
done:
    ft_json_free(request);
    ft_json_free(last);
    return st;
}

void ft_v1_watch_step(struct ft_v1_call *call)
{
    struct ft_v1_watch *watch = call->state;
    struct ft_v1_why why = {.code = FT_RPC_OK};
    enum ft_status st = FT_OK;
    if (!call->begun && call->has_message) {
        st = begin_watch(call, watch, &why);
        call->begun = true;
    }
    if (st == FT_OK && call->stopping && !watch->over) {
        st = FT_FAIL(&why.err, UNAVAILABLE, "the service is going down; the run goes on at its next start");
    }
    if (st == FT_OK && call->begun) {
        st = ft_v1_watch_on(call, watch, 0, &why);
    }
    if (st != FT_OK) {
        ft_v1_fail(call, &why);
    } else if (watch->over) {
        ft_v1_finish(call);
    }
}

/* ---- artifacts */

enum ft_status ft_v1_pull_open(struct ft_service *service, const char *run, uint64_t offset,
                               struct ft_v1_pull *pull, struct ft_v1_why *why)
{
    enum ft_status st = FT_OK;
    enum ft_run_state state = FT_RUN_CREATED;
    char *path = NULL;
    st = ft_runs_state(service->runs, run, &state, &why->err);
    if (st != FT_OK) {
        ft_v1_at_fault(why, "run");
        goto done;
    }
    if (state != FT_RUN_FINISHED) {
        why->code = FT_RPC_FAILED_PRECONDITION;
    }
    FT_TRY(ft_runs_artifact(service->runs, run, &path, &why->err));
    FT_TRY(ft_file_map(path, &pull->map, &why->err));
    if (offset > pull->map.bytes.size) {
        ft_v1_at_fault(why, "offset");
        st = FT_FAIL(&why->err, INVALID, "offset is %llu, the artifact has %zu bytes",
                     (unsigned long long)offset, pull->map.bytes.size);
        goto done;
    }
    pull->at = offset;
    ft_sha256_of(pull->map.bytes, pull->sha256);
done:
    ft_free(path);
    return st;
}

enum ft_status ft_v1_pull_on(struct ft_v1_call *call, struct ft_v1_pull *pull, unsigned part,
                             struct ft_v1_why *why)
{
    enum ft_status st = FT_OK;
    struct ft_bytes whole = pull->map.bytes;
    while (!pull->over && ft_v1_has_room(call)) {
        struct ft_buf out = {0};
        size_t left = whole.size - pull->at;
        size_t most = ft_rpc_has_room(call->rpc, FT_V1_CHUNK) ? FT_V1_CHUNK : FT_V1_CHUNK_LEAST;
        size_t size = left < most ? left : most;
        st = ft_v1_chunk_write(pull->at, whole.size, pull->sha256, ft_bytes_of(whole.data + pull->at, size),
                               &out, &why->err);
        st = st == FT_OK ? ft_v1_send(call, part, &out, &why->err) : st;
        ft_buf_release(&out);
        FT_RETURN_IF_FAILED(st);
        pull->at += size;
        pull->over = pull->at == whole.size;
    }
    return st;
}

void ft_v1_pull_close(struct ft_v1_pull *pull)
{
    ft_file_unmap(&pull->map);
}

static enum ft_status begin_pull(struct ft_v1_call *call, struct ft_v1_pull *pull, struct ft_v1_why *why)
{
    enum ft_status st = FT_OK;
    struct ft_json *request = NULL;
    const char *run = NULL;
    FT_TRY(ft_v1_read(FT_V1_PULL_REQUEST, ft_rpc_message(call->rpc), &request, &why->fault, &why->err));
    FT_TRY(ft_v1_need(request, "run", &run, why));
    FT_TRY(ft_v1_pull_open(call->service, run, (uint64_t)ft_json_int(ft_json_get(request, "offset")), pull,
                           why));
done:
    ft_json_free(request);
    return st;
}

void ft_v1_pull_step(struct ft_v1_call *call)
{
    struct ft_v1_pull *pull = call->state;
    struct ft_v1_why why = {.code = FT_RPC_OK};
    enum ft_status st = FT_OK;
    if (!call->begun && call->has_message) {
        st = begin_pull(call, pull, &why);
        call->begun = true;
    }
    if (st == FT_OK && call->begun) {
        st = ft_v1_pull_on(call, pull, 0, &why);
    }
    if (st != FT_OK) {
        ft_v1_fail(call, &why);
    } else if (pull->over) {
        ft_v1_finish(call);
    }
}

void ft_v1_pull_release(struct ft_v1_call *call)
{
    ft_v1_pull_close(call->state);
}
