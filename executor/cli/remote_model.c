/* MODEL of a remote verb: a name there, or a path here, which is sent unless the service has it. */
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/cli/remote.h"
#include "executor/codec/digest.h"
#include "executor/model/carry.h"

enum {
    PIECE_BYTES = 1 << 20,
    WINDOW_BYTES = 8 << 20 /* sent and not answered */
};

struct upload {
    struct ft_remote *remote;
    struct ft_rpc_stream *stream;
    struct ft_carry files;
    struct ft_json *model; /* ModelUpload */
    char *name;
    uint64_t *sizes;            /* of the files */
    uint64_t total, sent, kept; /* bytes of all files, one after another; kept: the service has them */
    bool asked, answered;       /* the first message went out; its answer came */
    bool there;                 /* all of it is, under its name */
    uint64_t carried;           /* by this command */
    uint64_t furthest;          /* most that was kept: what is sent again is no progress */
    struct ft_mapping map;      /* of file number `mapped` */
    size_t mapped;
    struct ft_buf message, answer;
    struct ft_bar bar;
};

/* A model or a run of that name is there? FT_NOT_FOUND. */
static enum ft_status look_up(struct ft_remote *remote, const char *name, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *as_model = NULL;
    struct ft_json *as_run = NULL;
    struct ft_err missing = {0};
    FT_TRY(ft_remote_request("model", name, &as_model, err));
    FT_TRY(ft_remote_request("run", name, &as_run, err));
    st = ft_remote_call(remote, "GetModel", FT_V1_GET_MODEL_REQUEST, as_model, FT_V1_MODEL, NULL, err);
    if (st == FT_NOT_FOUND) {
        st = ft_remote_call(remote, "GetRun", FT_V1_GET_RUN_REQUEST, as_run, FT_V1_RUN, NULL, &missing);
        if (st == FT_NOT_FOUND) {
            st = FT_FAIL(err, NOT_FOUND, "'%.200s' is no file or folder here and no model or run at %.200s",
                         name, ft_rpc_channel_host(remote->channel));
        } else if (st != FT_OK) {
            *err = missing;
        } else {
            ft_err_clear(err);
        }
    }
done:
    ft_json_free(as_model);
    ft_json_free(as_run);
    return st;
}

/* What is here counts; a person who meant the service's own is told. */
static enum ft_status tell_if_both(struct ft_remote *remote, const char *model, bool quiet,
                                   struct ft_err *err)
{
    struct ft_err none = {0};
    if (quiet || strchr(model, '/') != NULL) {
        return FT_OK; /* no model there has a '/' in its name */
    }
    enum ft_status st = look_up(remote, model, &none);
    if (st == FT_OK) {
        (void)fprintf(stderr,
                      "'%.200s' is a %s here and a name at %s: the one here is meant, as by './%.200s'; in "
                      "another folder the name is the service's\n",
                      model, ft_path_kind(model) == FT_PATH_DIR ? "folder" : "file",
                      ft_rpc_channel_host(remote->channel), model);
        return FT_OK;
    }
    if (st != FT_NOT_FOUND && st != FT_INVALID) {
        *err = none;
        return st;
    }
    return FT_OK;
}

/* ---- what it is made of */

/* {name, bytes, sha256} */
static enum ft_status describe_file(const struct ft_carry_file *file, uint64_t *size, struct ft_json *list,
                                    struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char hex[FT_SHA256_HEX];
    struct ft_mapping map = {0};
    struct ft_json *json = NULL;
    if (!ft_utf8_valid(ft_bytes_of_text(file->name))) {
        return FT_FAIL(err, INVALID, "%.600s: the name is not UTF-8 text", file->path);
    }
    FT_TRY(ft_file_map(file->path, &map, err));
    ft_sha256_of(map.bytes, hex);
    *size = map.bytes.size;
    FT_TRY(ft_remote_request("name", file->name, &json, err));
    FT_TRY(ft_json_set(json, "bytes", ft_json_of_int((int64_t)map.bytes.size), err));
    FT_TRY(ft_json_set(json, "sha256", ft_json_of_text(hex), err));
    struct ft_json *taken = json;
    json = NULL;
    FT_TRY(ft_json_push(list, taken, err));
done:
    ft_json_free(json);
    ft_file_unmap(&map);
    return st;
}

/* u->model without its name, u->sizes, u->total. */
static enum ft_status describe(struct upload *u, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *list = ft_json_array();
    if (list == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory sending a model");
    }
    FT_TRY(ft_new(u->files.count, sizeof *u->sizes, &u->sizes, err));
    for (size_t i = 0; i < u->files.count; i++) {
        FT_TRY(describe_file(&u->files.files[i], &u->sizes[i], list, err));
        u->total += u->sizes[i];
    }
    FT_TRY(ft_remote_request("entry", u->files.entry, &u->model, err));
    struct ft_json *taken = list;
    list = NULL;
    FT_TRY(ft_json_set(u->model, "files", taken, err));
done:
    ft_json_free(list);
    return st;
}

/* Equal content gets an equal name, other content another. */
static enum ft_status name_it(struct upload *u, struct ft_err *err)
{
    char hex[FT_SHA256_HEX];
    FT_RETURN_IF_FAILED(ft_v1_model_digest(u->files.entry, ft_json_get(u->model, "files"), hex, err));
    FT_RETURN_IF_FAILED(ft_remote_content_name(ft_path_base(u->files.entry), hex, &u->name, err));
    return ft_json_set(u->model, "name", ft_json_of_text(u->name), err);
}

/* ---- sending */

/* From `sent` on: at most a piece, of one file. */
static enum ft_status piece(struct upload *u, struct ft_bytes *data, struct ft_err *err)
{
    size_t i = 0;
    uint64_t at = u->sent;
    while (at >= u->sizes[i]) { /* an empty file ends where it begins */
        at -= u->sizes[i++];
    }
    if (u->mapped != i || u->map.bytes.data == NULL) {
        ft_file_unmap(&u->map);
        FT_RETURN_IF_FAILED(ft_file_map(u->files.files[i].path, &u->map, err));
        u->mapped = i;
    }
    if (u->map.bytes.size != u->sizes[i]) {
        return FT_FAIL(err, INVALID, "%.600s changed while it was sent", u->files.files[i].path);
    }
    uint64_t left = u->sizes[i] - at;
    *data = ft_bytes_of(u->map.bytes.data + at, left < PIECE_BYTES ? (size_t)left : (size_t)PIECE_BYTES);
    return FT_OK;
}

static enum ft_status send_piece(struct upload *u, struct ft_err *err)
{
    struct ft_bytes data = {0};
    u->message.size = 0;
    FT_RETURN_IF_FAILED(piece(u, &data, err));
    FT_RETURN_IF_FAILED(ft_v1_model_data_write(u->sent, data, &u->message, err));
    ft_rpc_stream_send(u->stream, ft_buf_bytes(&u->message));
    u->sent += data.size;
    return FT_OK;
}

static enum ft_status send_what_may(struct upload *u, struct ft_err *err)
{
    if (!ft_rpc_stream_may_send(u->stream)) {
        return FT_OK;
    }
    if (!u->asked) {
        u->message.size = 0;
        FT_RETURN_IF_FAILED(ft_v1_model_head_write(u->model, &u->message, err));
        ft_rpc_stream_send(u->stream, ft_buf_bytes(&u->message));
        u->asked = true;
        return FT_OK;
    }
    bool may = u->answered && u->sent < u->total && u->sent - u->kept < WINDOW_BYTES;
    return may ? send_piece(u, err) : FT_OK;
}

static void draw(struct upload *u)
{
    char rest[64];
    (void)snprintf(rest, sizeof rest, "%.1f MB/s", ft_bar_pace(&u->bar, (int64_t)u->kept) / 1e6);
    ft_bar_draw(&u->bar, "Sending the model", (int64_t)u->kept, (int64_t)u->total, rest);
}

static enum ft_status take_answer(struct upload *u, struct ft_err *err)
{
    struct ft_json *answer = NULL;
    struct ft_v1_fault fault = {{0}, 0};
    FT_RETURN_IF_FAILED(
        ft_v1_read(FT_V1_PUSH_MODEL_RESPONSE, ft_buf_bytes(&u->answer), &answer, &fault, err));
    uint64_t bytes = (uint64_t)ft_json_int(ft_json_get(answer, "bytes"));
    u->there = ft_json_get(answer, "model") != NULL;
    ft_json_free(answer);
    u->remote->reached = true;
    if (bytes > u->total || (u->answered && (bytes < u->kept || bytes > u->sent))) {
        return FT_FAIL(err, CORRUPT,
                       "the service says it has %llu bytes of the model, of %llu that were sent",
                       (unsigned long long)bytes, (unsigned long long)u->sent);
    }
    if (!u->answered) {
        u->answered = true;
        u->sent = bytes;
        ft_bar_begin(&u->bar, (int64_t)bytes);
    } else {
        u->carried += bytes - u->kept;
    }
    u->kept = bytes;
    u->furthest = bytes > u->furthest ? bytes : u->furthest;
    if (!u->there && u->total > 0) {
        draw(u);
    }
    return FT_OK;
}

/* One stream, from what the service says it has on. */
static enum ft_status upload_stream(void *arg, struct ft_err *err)
{
    struct upload *u = arg;
    enum ft_rpc_next what = FT_RPC_NEXT_NOTHING;
    u->asked = u->answered = false;
    FT_RETURN_IF_FAILED(ft_remote_stream(u->remote, "PushModel", &u->stream, err));
    while (what != FT_RPC_NEXT_END) {
        if (ft_cancelled(ft_cli_cancel())) {
            return FT_FAIL(err, CANCELLED, "stopped; the same command goes on where the model was cut");
        }
        FT_RETURN_IF_FAILED(send_what_may(u, err));
        FT_RETURN_IF_FAILED(ft_rpc_stream_next(u->stream, FT_REMOTE_POLL_MS, &what, &u->answer, err));
        if (what == FT_RPC_NEXT_MESSAGE) {
            FT_RETURN_IF_FAILED(take_answer(u, err));
        }
    }
    FT_RETURN_IF_FAILED(ft_remote_ended(u->remote, u->stream, NULL, err));
    return u->there ? FT_OK : FT_FAIL(err, UNAVAILABLE, "the service ended the stream before its end");
}

static uint64_t far(const void *upload)
{
    return ((const struct upload *)upload)->furthest;
}

static enum ft_status send_model(struct upload *u, const char *path, bool quiet, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_carry_list(path, &u->files, err));
    FT_RETURN_IF_FAILED(describe(u, err));
    FT_RETURN_IF_FAILED(name_it(u, err));
    ft_bar_init(&u->bar, quiet);
    const struct ft_remote_work work = {upload_stream, far, u, &u->stream, &u->bar};
    enum ft_status st = ft_remote_keep_on(u->remote, &work, NULL, err);
    if (st != FT_OK) {
        return ft_err_wrap(err, "%.300s", path);
    }
    if (!quiet && u->carried == 0) {
        (void)fprintf(stderr, "model '%s' is there already\n", u->name);
    } else if (!quiet) {
        (void)fprintf(stderr, "model '%s' was sent: %.1f MB\n", u->name, (double)u->carried / 1e6);
    }
    return FT_OK;
}

enum ft_status ft_remote_model(struct ft_remote *remote, const char *model, bool quiet, char **name,
                               struct ft_err *err)
{
    struct upload u = {.remote = remote};
    *name = NULL;
    if (ft_path_kind(model) == FT_PATH_NONE) {
        FT_RETURN_IF_FAILED(look_up(remote, model, err));
        return ft_new_text(model, name, err);
    }
    enum ft_status st = tell_if_both(remote, model, quiet, err);
    st = st == FT_OK ? send_model(&u, model, quiet, err) : st;
    if (st == FT_OK) {
        *name = u.name;
        u.name = NULL;
    }
    ft_file_unmap(&u.map);
    ft_buf_release(&u.message);
    ft_buf_release(&u.answer);
    ft_carry_release(&u.files);
    ft_json_free(u.model);
    ft_free(u.sizes);
    ft_free(u.name);
    return st;
}
