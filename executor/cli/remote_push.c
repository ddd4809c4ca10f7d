/* DATA to a dataset of a service: messages of a bounded size, a window of bytes that are not acknowledged. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "executor/cli/remote.h"
#include "executor/wire/docarray_v1.h"
#include "executor/wire/docarray.h"

enum {
    MESSAGE_BYTES = 1 << 20, /* or one Document, if that is larger */
    MESSAGE_DOCS = 1024,
    WINDOW_BYTES = 16 << 20, /* sent and not acknowledged */
    WINDOW = 64              /* the same in messages */
};

struct sent {
    size_t count, bytes;
};

struct push {
    struct ft_remote *remote;
    struct ft_rpc_stream *stream;
    const struct ft_dataset *data;
    const char *name;
    size_t count;
    size_t next;   /* Document to send */
    size_t kept;   /* Documents before this one are on the service's disk */
    size_t origin; /* the stream's Document 0 */
    struct sent window[WINDOW];
    size_t first, n_sent; /* in it, a ring */
    size_t bytes;         /* in it */
    bool ended;           /* the end was sent */
    struct ft_remote_batch batch;
    struct ft_buf answer;
    struct ft_bar bar;
    struct ft_push_result *result;
};

/* Document i, with the file that its uri names inside. Borrows from data and *own, *raw. */
static enum ft_status document(const struct ft_dataset *data, size_t i, struct ft_buf *own,
                               struct ft_buf *raw, struct ft_document *doc, struct ft_err *err)
{
    *doc = *ft_dataset_doc(data, i);
    if (doc->content.kind != FT_CONTENT_URI) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_dataset_content(data, i, own, &doc->content, err));
    if (doc->raw.size == 0) {
        return FT_OK;
    }
    if (ft_docarray_sniff(doc->raw) == FT_DOCARRAY_V2) {
        doc->raw = (struct ft_bytes){0}; /* goes as id, label and content */
        return FT_OK;
    }
    const struct ft_document file = {.content = doc->content};
    raw->size = 0; /* the file's bytes behind what was there: the later field counts */
    FT_RETURN_IF_FAILED(ft_buf_append(raw, doc->raw.data, doc->raw.size, err));
    FT_RETURN_IF_FAILED(ft_docarray_v1_write(&file, raw, err));
    doc->raw = ft_buf_bytes(raw);
    return FT_OK;
}

static void draw(struct push *p)
{
    char rest[96];
    (void)snprintf(rest, sizeof rest, "%.0f documents/s", ft_bar_pace(&p->bar, (int64_t)p->kept));
    ft_bar_draw(&p->bar, "Pushing", (int64_t)p->kept, (int64_t)p->count, rest);
}

enum ft_status ft_remote_batch_fill(struct ft_remote_batch *batch, const char *name,
                                    const struct ft_dataset *data, size_t from, struct ft_remote_most most,
                                    size_t *count, struct ft_err *err)
{
    size_t n = 0;
    size_t left = ft_dataset_count(data) - from;
    batch->message.size = 0;
    FT_RETURN_IF_FAILED(ft_v1_batch_head(name, &batch->message, err));
    while (n < left && n < most.documents && batch->message.size < most.bytes) {
        struct ft_document doc;
        FT_RETURN_IF_FAILED(document(data, from + n, &batch->own, &batch->raw, &doc, err));
        FT_RETURN_IF_FAILED(ft_v1_batch_add(&doc, &batch->scratch, &batch->message, err));
        n++;
    }
    *count = n;
    return FT_OK;
}

void ft_remote_batch_release(struct ft_remote_batch *batch)
{
    ft_buf_release(&batch->message);
    ft_buf_release(&batch->scratch);
    ft_buf_release(&batch->own);
    ft_buf_release(&batch->raw);
}

static enum ft_status send_some(struct push *p, struct ft_err *err)
{
    size_t n = 0;
    const struct ft_remote_most most = {MESSAGE_DOCS, MESSAGE_BYTES};
    const char *name = p->next == p->origin ? p->name : "";
    FT_RETURN_IF_FAILED(ft_remote_batch_fill(&p->batch, name, p->data, p->next, most, &n, err));
    ft_rpc_stream_send(p->stream, ft_buf_bytes(&p->batch.message));
    p->window[(p->first + p->n_sent++) % WINDOW] = (struct sent){n, p->batch.message.size};
    p->bytes += p->batch.message.size;
    p->next += n;
    p->result->messages++;
    return FT_OK;
}

static enum ft_status acknowledged(struct push *p, struct ft_err *err)
{
    struct ft_json *answer = NULL;
    struct ft_v1_fault fault = {{0}, 0};
    FT_RETURN_IF_FAILED(ft_v1_read(FT_V1_PUSH_RESPONSE, ft_buf_bytes(&p->answer), &answer, &fault, err));
    size_t first = (size_t)ft_json_int(ft_json_get(answer, "first"));
    size_t count = (size_t)ft_json_int(ft_json_get(answer, "count"));
    p->result->stored += (size_t)ft_json_int(ft_json_get(answer, "stored"));
    p->result->duplicates += (size_t)ft_json_int(ft_json_get(answer, "duplicates"));
    ft_json_free(answer);
    if (p->n_sent == 0 || p->origin + first != p->kept || count != p->window[p->first].count) {
        return FT_FAIL(err, CORRUPT, "documents %zu to %zu were acknowledged, not those that were sent",
                       first, first + count);
    }
    p->bytes -= p->window[p->first].bytes;
    p->first = (p->first + 1) % WINDOW;
    p->n_sent--;
    p->kept += count;
    p->remote->reached = true;
    draw(p);
    return FT_OK;
}

static bool may_send(const struct push *p)
{
    return !p->ended && ft_rpc_stream_may_send(p->stream) &&
           (p->next == p->count || p->n_sent == 0 || (p->n_sent < WINDOW && p->bytes < WINDOW_BYTES));
}

/* The stream's Document at fault is one of the message after what is kept: name it as the file does. */
static enum ft_status refused(const struct push *p, enum ft_status st, const struct ft_v1_fault *fault,
                              struct ft_err *err)
{
    size_t i = 0;
    if (ft_remote_at_fault(fault, &i) && p->kept + i < p->count) {
        return ft_err_wrap(err, "%.200s", ft_dataset_where(p->data, p->kept + i));
    }
    return st;
}

/* One stream, from what is kept on. */
static enum ft_status push_stream(void *arg, struct ft_err *err)
{
    struct push *p = arg;
    enum ft_rpc_next what = FT_RPC_NEXT_NOTHING;
    struct ft_v1_fault fault = {{0}, 0};
    p->next = p->origin = p->kept;
    p->first = p->n_sent = p->bytes = 0;
    p->ended = false;
    FT_RETURN_IF_FAILED(ft_remote_stream(p->remote, "Push", &p->stream, err));
    for (;;) {
        if (ft_cancelled(ft_cli_cancel())) {
            return FT_FAIL(err, CANCELLED, "stopped");
        }
        if (may_send(p)) {
            if (p->next < p->count) {
                FT_RETURN_IF_FAILED(send_some(p, err));
            } else {
                p->ended = true;
                ft_rpc_stream_send_end(p->stream);
            }
        }
        FT_RETURN_IF_FAILED(ft_rpc_stream_next(p->stream, FT_REMOTE_POLL_MS, &what, &p->answer, err));
        if (what == FT_RPC_NEXT_MESSAGE) {
            FT_RETURN_IF_FAILED(acknowledged(p, err));
        } else if (what == FT_RPC_NEXT_END) {
            break;
        }
    }
    enum ft_status st = ft_remote_ended(p->remote, p->stream, &fault, err);
    if (st == FT_OK && p->kept < p->count) {
        st = FT_FAIL(err, UNAVAILABLE, "the service ended the stream before its end");
    }
    return st == FT_OK ? FT_OK : refused(p, st, &fault, err);
}

static uint64_t far(const void *push)
{
    return ((const struct push *)push)->kept;
}

static void ask_total(struct ft_remote *remote, const char *name, struct ft_push_result *result)
{
    struct ft_err why = {0};
    struct ft_json *dataset = NULL;
    result->total_known = ft_remote_dataset(remote, name, &dataset, &why) == FT_OK;
    result->total = (size_t)ft_json_int(ft_json_get(dataset, "documents"));
    ft_json_free(dataset);
}

enum ft_status ft_remote_push(struct ft_remote *remote, const char *name, const struct ft_dataset *data,
                              bool quiet, struct ft_push_result *result, struct ft_err *err)
{
    *result = (struct ft_push_result){.documents = ft_dataset_count(data)};
    struct push p = {.remote = remote, .data = data, .name = name, .result = result};
    p.count = result->documents;
    ft_bar_init(&p.bar, quiet);
    const struct ft_remote_work work = {push_stream, far, &p, &p.stream, &p.bar};
    enum ft_status st = ft_remote_keep_on(remote, &work, &result->retries, err);
    if (st != FT_OK && (p.kept > 0 || (remote->reached && st == FT_UNAVAILABLE))) {
        st = ft_err_wrap(
            err,
            "%zu of %zu documents are kept in dataset '%.64s' (the same push again stores what is "
            "missing, nothing twice)",
            p.kept, p.count, name);
    }
    ft_remote_batch_release(&p.batch);
    ft_buf_release(&p.answer);
    if (st == FT_OK) {
        ask_total(remote, name, result);
    }
    return st;
}
