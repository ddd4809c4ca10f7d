/* PushModel: a model's files into the workspace, by a call of one step at a time; upload.h does the work. */
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/codec/zip.h"
#include "executor/server/stored.h"
#include "executor/server/v1.h"

enum { ROOM_SECONDS = 5 }; /* until those may try again who found no room beside others' uploads */

/* ---- what is asked */

static uint64_t bytes_max(const struct ft_v1_call *call)
{
    const struct ft_config *config = call->service->config;
    int64_t most_mb = config->upload_mb < config->uploads_mb ? config->upload_mb : config->uploads_mb;
    return (uint64_t)most_mb << 20;
}

static enum ft_status read_head(struct ft_v1_call *call, struct ft_v1_model_push *p, struct ft_v1_why *why)
{
    struct ft_v1_model_part part;
    char field[sizeof why->fault.field];
    uint64_t most = bytes_max(call);
    FT_RETURN_IF_FAILED(ft_v1_model_part_read(ft_rpc_message(call->rpc), &part, &why->err));
    if (most == 0) {
        why->code = FT_RPC_FAILED_PRECONDITION;
        return FT_FAIL(&why->err, UNSUPPORTED, "this service takes no models (upload_mb is 0)");
    }
    ft_v1_at_fault(why, "model");
    if (!part.has_model || part.data.size > 0) {
        return FT_FAIL(&why->err, INVALID,
                       "the first message says what the model is made of, and has no data");
    }
    ft_v1_at_fault(why, "");
    enum ft_status st = ft_v1_read(FT_V1_MODEL_UPLOAD, part.model, &p->model, &why->fault, &why->err);
    if (st != FT_OK) { /* a field of the inner message */
        (void)snprintf(field, sizeof field, "model.%.80s", why->fault.field);
        ft_v1_at_fault(why, field);
        return st;
    }
    FT_RETURN_IF_FAILED(ft_upload_spec_read(p->model, most, &p->spec, &why->fault, &why->err));
    ft_v1_next(call);
    return FT_OK;
}

/* *there: all of it, under its name. FT_EXISTS: something else is called so. */
static enum ft_status look_at_name(struct ft_service *service, const struct ft_upload_spec *spec, bool *there,
                                   struct ft_v1_why *why)
{
    struct ft_stored stored = {0};
    struct ft_err none = {0};
    enum ft_run_state state = FT_RUN_CREATED;
    *there = false;
    ft_v1_at_fault(why, "model.name");
    if (ft_names_configured(service->config->model, spec->name)) {
        return FT_FAIL(&why->err, EXISTS, "'%s' is a name of the configured model", spec->name);
    }
    if (ft_runs_state(service->runs, spec->name, &state, &none) == FT_OK) {
        return FT_FAIL(&why->err, EXISTS, "'%s' is a run", spec->name);
    }
    enum ft_status st =
        ft_v1_ours(why, ft_stored_find(ft_uploads_models(service->uploads), spec->name, &stored, &why->err));
    if (st == FT_OK && stored.root != NULL) {
        *there = strcmp(stored.sha256, spec->sha256) == 0;
        st = *there ? FT_OK
                    : FT_FAIL(&why->err, EXISTS,
                              "another model is called '%s': delete it, or choose another name", spec->name);
    }
    ft_stored_release(&stored);
    if (st == FT_OK) {
        ft_v1_at_fault(why, "");
    }
    return st;
}

/* ---- answers */

/* model may be NULL; it is taken over. */
static enum ft_status answer(struct ft_v1_call *call, uint64_t bytes, struct ft_json *take_model,
                             struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf out = {0};
    struct ft_json *json = ft_json_object();
    if (json == NULL) {
        ft_json_free(take_model);
        return FT_FAIL(err, NOMEM, "out of memory answering");
    }
    if (take_model != NULL) {
        FT_TRY(ft_json_set(json, "model", take_model, err));
    }
    FT_TRY(ft_json_set(json, "bytes", ft_json_of_int((int64_t)bytes), err));
    FT_TRY(ft_v1_write(FT_V1_PUSH_MODEL_RESPONSE, json, &out, err));
    FT_TRY(ft_v1_send(call, 0, &out, err));
done:
    ft_json_free(json);
    ft_buf_release(&out);
    return st;
}

static enum ft_status tell_model(struct ft_v1_call *call, const struct ft_v1_model_push *p,
                                 struct ft_v1_why *why)
{
    struct ft_json *request = ft_json_object();
    struct ft_json *model = NULL;
    enum ft_status st = request != NULL
                            ? ft_json_set(request, "model", ft_json_of_text(p->spec.name), &why->err)
                            : FT_FAIL(&why->err, NOMEM, "out of memory answering");
    if (st == FT_OK) {
        st = ft_v1_get_model(call->service, request, &model, why);
    }
    ft_json_free(request);
    return st == FT_OK ? answer(call, p->spec.bytes, model, &why->err) : st;
}

/* ---- the end: a thread of its own, since it reads every byte and waits for the disk */

static bool is_gone(const void *rpc)
{
    return ft_rpc_cancelled(rpc);
}

/* What cannot become a model goes; what the disk or the memory refuses may be gone on with. */
static enum ft_status give_up(struct ft_v1_model_push *p, struct ft_v1_why *why)
{
    struct ft_err left = {0};
    if (ft_upload_discard(p->upload, &left) != FT_OK) {
        FT_LOG_WARNING_LINE("server", "an upload stays reason=\"%s\"", left.text);
    }
    return why->err.code;
}

static enum ft_status verify(struct ft_v1_call *call, struct ft_v1_model_push *p, struct ft_v1_why *why)
{
    char field[sizeof why->fault.field];
    size_t bad = 0;
    enum ft_status st = ft_upload_verify(p->upload, is_gone, call->rpc, &bad, &why->err);
    if (st != FT_CORRUPT) {
        return st;
    }
    if (ft_upload_resumed(p->upload)) { /* a machine may have gone down in between */
        why->code = FT_RPC_UNAVAILABLE;
        why->fault.retry_seconds = 1;
        (void)ft_err_wrap(&why->err, "what was kept of an upload before is spoilt and goes: send all of it");
    } else {
        (void)snprintf(field, sizeof field, "model.files[%zu].sha256", bad);
        ft_v1_at_fault(why, field);
    }
    return give_up(p, why);
}

/* What is packed takes the memory of what comes out of it. */
static enum ft_status check_unpacked(const char *path, uint64_t most, struct ft_err *err)
{
    struct ft_zip_reader *zip = NULL;
    struct ft_err none = {0};
    if (!ft_path_has_suffix(path, ".zip") || ft_zip_open(path, &zip, &none) != FT_OK) {
        return FT_OK; /* who loads it says what it is */
    }
    bool fits = ft_zip_fits(zip, most);
    ft_zip_close(zip);
    return fits ? FT_OK
                : FT_FAIL(
                      err, LIMIT,
                      "unpacked it has more than %llu bytes, which the service takes (upload_mb, uploads_mb)",
                      (unsigned long long)most);
}

static enum ft_status check_loads(struct ft_v1_call *call, struct ft_v1_model_push *p, struct ft_v1_why *why)
{
    char *path = NULL;
    enum ft_status st = ft_upload_entry(p->upload, &path, &why->err);
    if (st == FT_OK) {
        st = check_unpacked(path, bytes_max(call), &why->err);
        st = st == FT_OK ? call->service->engine->check_model(path, &why->err) : st;
        if (st != FT_OK && st != FT_NOMEM && st != FT_IO) {
            why->code = FT_RPC_INVALID_ARGUMENT;
            ft_v1_at_fault(why, "model");
            (void)ft_err_wrap(&why->err, "it cannot be loaded");
            (void)give_up(p, why);
        }
    }
    ft_free(path);
    return st;
}

/* One at a time: a model is in memory for the check, and names are given. */
static enum ft_status check_and_publish(struct ft_v1_call *call, struct ft_v1_model_push *p,
                                        struct ft_v1_why *why)
{
    bool there = false;
    FT_RETURN_IF_FAILED(check_loads(call, p, why));
    enum ft_status st = look_at_name(call->service, &p->spec, &there, why);
    if (there || st == FT_EXISTS) { /* it came by another way meanwhile */
        (void)give_up(p, why);
        return st;
    }
    FT_RETURN_IF_FAILED(st);
    FT_RETURN_IF_FAILED(ft_upload_publish(p->upload, &why->err));
    FT_LOG_INFO_LINE("server", "a model came name=%s bytes=%llu sha256=%s", p->spec.name,
                     (unsigned long long)p->spec.bytes, p->spec.sha256);
    return FT_OK;
}

static void keep_main(void *arg)
{
    struct ft_v1_call *call = arg;
    struct ft_v1_model_push *p = call->state;
    struct ft_service *service = call->service;
    if (verify(call, p, &p->why) == FT_OK) {
        (void)pthread_mutex_lock(&service->models_mutex);
        (void)!check_and_publish(call, p, &p->why);
        (void)pthread_mutex_unlock(&service->models_mutex);
    }
    ft_v1_worked(call);
}

/* All bytes are there. It waits while others are checked. */
static enum ft_status begin_keeping(struct ft_v1_call *call, struct ft_v1_model_push *p,
                                    struct ft_v1_why *why)
{
    if (!ft_uploads_check(call->service->uploads)) {
        return call->stopping
                   ? FT_FAIL(&why->err, UNAVAILABLE, "the service is going down; what came is kept")
                   : FT_OK;
    }
    p->keeping = true;
    ft_v1_begin_work(call);
    enum ft_status st = ft_thread_start("model", keep_main, call, &p->keeper, &why->err);
    if (st != FT_OK) {
        ft_v1_no_work(call);
    }
    return st;
}

/* ---- steps */

static bool is_whole(const struct ft_v1_model_push *p)
{
    return ft_upload_have(p->upload) == p->spec.bytes;
}

static enum ft_status go_on(struct ft_v1_call *call, struct ft_v1_model_push *p, struct ft_v1_why *why)
{
    return is_whole(p) ? begin_keeping(call, p, why) : FT_OK;
}

/* Whether it is there is asked again once the folder is ours: another call may have ended just then. */
static enum ft_status begin(struct ft_v1_call *call, struct ft_v1_model_push *p, struct ft_v1_why *why)
{
    bool there = false;
    FT_RETURN_IF_FAILED(look_at_name(call->service, &p->spec, &there, why));
    if (!there) {
        enum ft_status st = ft_upload_open(call->service->uploads, &p->spec, &p->upload, &why->err);
        if (st == FT_BUSY && call->stopping) {
            return FT_FAIL(&why->err, UNAVAILABLE, "the service is going down");
        }
        if (st == FT_BUSY) {
            ft_err_clear(&why->err);
            return FT_OK;
        }
        if (st == FT_LIMIT) {
            why->code = FT_RPC_RESOURCE_EXHAUSTED;
            why->fault.retry_seconds = ROOM_SECONDS;
        }
        FT_RETURN_IF_FAILED(st);
        p->heard_at = ft_clock_seconds();
        st = look_at_name(call->service, &p->spec, &there, why);
        if (there || st == FT_EXISTS) {
            (void)give_up(p, why);
        }
        FT_RETURN_IF_FAILED(st);
    }
    if (there) {
        p->over = true;
        return tell_model(call, p, why);
    }
    FT_RETURN_IF_FAILED(answer(call, ft_upload_have(p->upload), NULL, &why->err));
    return go_on(call, p, why);
}

static enum ft_status take_piece(struct ft_v1_call *call, struct ft_v1_model_push *p, struct ft_v1_why *why)
{
    struct ft_v1_model_part part;
    FT_RETURN_IF_FAILED(ft_v1_model_part_read(ft_rpc_message(call->rpc), &part, &why->err));
    if (part.has_model) {
        ft_v1_at_fault(why, "model");
        return FT_FAIL(&why->err, INVALID, "what the model is made of was said in the first message");
    }
    if (part.data.size == 0 || part.data.size > FT_V1_PIECE) {
        ft_v1_at_fault(why, "data");
        return FT_FAIL(&why->err, INVALID, "a piece has %zu bytes; it takes 1 to %d", part.data.size,
                       FT_V1_PIECE);
    }
    enum ft_status st = ft_upload_write(p->upload, part.offset, part.data, &why->err);
    if (st == FT_INVALID) {
        ft_v1_at_fault(why, part.offset != ft_upload_have(p->upload) ? "offset" : "data");
    }
    FT_RETURN_IF_FAILED(st);
    FT_RETURN_IF_FAILED(answer(call, ft_upload_have(p->upload), NULL, &why->err));
    p->heard_at = ft_clock_seconds();
    ft_v1_next(call);
    return go_on(call, p, why);
}

/* It has the room of its whole model all the while. */
static enum ft_status check_heard(const struct ft_v1_call *call, const struct ft_v1_model_push *p,
                                  struct ft_v1_why *why)
{
    int64_t most = call->service->config->upload_idle_seconds;
    if (ft_clock_seconds() - p->heard_at < (double)most) {
        return FT_OK;
    }
    why->code = FT_RPC_DEADLINE_EXCEEDED;
    return FT_FAIL(
        &why->err, UNAVAILABLE,
        "nothing came, or no answer was read, for %lld s (upload_idle_seconds); what came is kept: "
        "send the rest",
        (long long)most);
}

static enum ft_status step(struct ft_v1_call *call, struct ft_v1_model_push *p, struct ft_v1_why *why)
{
    if (p->keeping) { /* and the keeper has ended */
        *why = p->why;
        p->over = true;
        return why->err.code != FT_OK ? why->err.code : tell_model(call, p, why);
    }
    if (p->model == NULL) {
        return call->has_message ? read_head(call, p, why) : FT_OK;
    }
    if (p->upload == NULL) {
        return begin(call, p, why);
    }
    if (is_whole(p)) { /* others were being checked */
        return begin_keeping(call, p, why);
    }
    return call->has_message && ft_v1_has_room(call) ? take_piece(call, p, why) : check_heard(call, p, why);
}

void ft_v1_push_model_step(struct ft_v1_call *call)
{
    struct ft_v1_model_push *p = call->state;
    struct ft_v1_why why = {.code = FT_RPC_OK};
    bool first = p->model == NULL;
    enum ft_status st = step(call, p, &why);
    if (st == FT_OK && first && p->model != NULL) {
        st = step(call, p, &why);
    }
    /* For another upload of the same, or until others are checked. */
    bool waits = p->model != NULL && (p->upload == NULL || (is_whole(p) && !p->keeping));
    if (st != FT_OK) {
        ft_v1_disk_refused(&why);
        ft_v1_fail(call, &why);
    } else if (p->over) {
        ft_v1_finish(call);
    } else if (waits || call->busy || call->has_message || !ft_v1_no_more(call)) {
        call->ticking = waits || (p->upload != NULL && !is_whole(p)); /* check_heard() */
    }
}

void ft_v1_push_model_ended(struct ft_v1_call *call)
{
    struct ft_v1_model_push *p = call->state;
    ft_thread_join(p->keeper);
    p->keeper = NULL;
    if (p->keeping) {
        ft_uploads_checked(call->service->uploads);
    }
    ft_upload_close(p->upload);
    p->upload = NULL;
}

void ft_v1_push_model_release(struct ft_v1_call *call)
{
    struct ft_v1_model_push *p = call->state;
    ft_upload_spec_release(&p->spec);
    ft_json_free(p->model);
}
