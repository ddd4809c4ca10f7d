/* encode with --server: Documents there, rows back, in input order. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/cli/remote.h"

enum {
    /* A message is a batch of the service's when nobody else asks: as many Documents as `encode` computes at
     * once here, so that rows have the same bits. */
    MESSAGE_DOCS = 64,
    MESSAGE_BYTES = 4 << 20,
    WINDOW = 4 /* messages that are not answered */
};

struct wish {
    struct ft_args args;
    struct ft_remote_args remote;
    const char *out;
    struct ft_output output;
};

struct encode {
    struct ft_remote *remote;
    struct ft_rpc_stream *stream;
    const struct ft_dataset *data;
    const char *model;
    size_t count, next, done, origin; /* Documents: all, to send, with a row, of the stream's begin */
    size_t window[WINDOW], first, n_sent;
    bool ended;
    float *rows; /* (count, dim) */
    size_t dim;
    struct ft_remote_batch batch;
    struct ft_buf answer;
    struct ft_bar bar;
};

static enum ft_status read_wish(int argc, char **argv, struct wish *w, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, ft_remote_verb_flag, &w->args, err));
    w->out = "embeddings.npy";
    for (int i = 0; i < w->args.n_options; i++) {
        const char *key = w->args.key[i];
        const char *value = w->args.value[i];
        bool known = false;
        FT_RETURN_IF_FAILED(ft_remote_verb_option(&w->remote, &w->output, key, value, &known, err));
        if (strcmp(key, "out") == 0) {
            w->out = value;
        } else if (!known) {
            return FT_FAIL(
                err, USAGE,
                "--%s is not for a service, whose models are as they are: with --server encode takes "
                "--out, --json, --quiet and --tls...",
                key);
        }
    }
    FT_RETURN_IF_FAILED(ft_args_want(&w->args, 2, ft_command_find("encode")->usage, err));
    return ft_out_check(w->out, FT_ROWS_NPY, FT_ROWS_LINES, err);
}

static enum ft_status send_some(struct encode *e, struct ft_err *err)
{
    size_t n = 0;
    const struct ft_remote_most most = {MESSAGE_DOCS, MESSAGE_BYTES};
    const char *name = e->next == e->origin ? e->model : "";
    FT_RETURN_IF_FAILED(ft_remote_batch_fill(&e->batch, name, e->data, e->next, most, &n, err));
    ft_rpc_stream_send(e->stream, ft_buf_bytes(&e->batch.message));
    e->window[(e->first + e->n_sent++) % WINDOW] = n;
    e->next += n;
    return FT_OK;
}

static enum ft_status answered(struct encode *e, struct ft_err *err)
{
    char rest[64];
    size_t elements = 0;
    struct ft_bytes answer = ft_buf_bytes(&e->answer);
    if (e->n_sent == 0) {
        return FT_FAIL(err, CORRUPT, "embeddings came that nobody asked for");
    }
    size_t n = e->window[e->first];
    if (e->rows == NULL) {
        FT_RETURN_IF_FAILED(ft_v1_embeddings_dim(answer, &e->dim, err));
        if (!ft_mul_size(e->count, e->dim, &elements)) {
            return FT_FAIL(err, LIMIT, "too many documents");
        }
        FT_RETURN_IF_FAILED(ft_new(elements, sizeof *e->rows, &e->rows, err));
    }
    FT_RETURN_IF_FAILED(ft_v1_embeddings_read(answer, n, e->dim, e->rows + e->done * e->dim, err));
    e->first = (e->first + 1) % WINDOW;
    e->n_sent--;
    e->done += n;
    e->remote->reached = true;
    (void)snprintf(rest, sizeof rest, "%.0f documents/s", ft_bar_pace(&e->bar, (int64_t)e->done));
    ft_bar_draw(&e->bar, "Encoding", (int64_t)e->done, (int64_t)e->count, rest);
    return FT_OK;
}

static void send_what_may(struct encode *e, enum ft_status *st, struct ft_err *err)
{
    if (e->ended || !ft_rpc_stream_may_send(e->stream)) {
        return;
    }
    if (e->next == e->count) {
        e->ended = true;
        ft_rpc_stream_send_end(e->stream);
    } else if (e->n_sent < WINDOW) {
        *st = send_some(e, err);
    }
}

/* One stream, from the first Document without a row on. */
static enum ft_status encode_stream(void *arg, struct ft_err *err)
{
    struct encode *e = arg;
    enum ft_rpc_next what = FT_RPC_NEXT_NOTHING;
    struct ft_v1_fault fault = {{0}, 0};
    size_t i = 0;
    e->next = e->origin = e->done;
    e->first = e->n_sent = 0;
    e->ended = false;
    FT_RETURN_IF_FAILED(ft_remote_stream(e->remote, "Encode", &e->stream, err));
    while (what != FT_RPC_NEXT_END) {
        enum ft_status st = FT_OK;
        if (ft_cancelled(ft_cli_cancel())) {
            return FT_FAIL(err, CANCELLED, "stopped; nothing was written");
        }
        send_what_may(e, &st, err);
        FT_RETURN_IF_FAILED(st);
        FT_RETURN_IF_FAILED(ft_rpc_stream_next(e->stream, FT_REMOTE_POLL_MS, &what, &e->answer, err));
        if (what == FT_RPC_NEXT_MESSAGE) {
            FT_RETURN_IF_FAILED(answered(e, err));
        }
    }
    enum ft_status st = ft_remote_ended(e->remote, e->stream, &fault, err);
    if (st == FT_OK && e->done < e->count) {
        st = FT_FAIL(err, UNAVAILABLE, "the service ended the stream before its end");
    }
    if (st != FT_OK && ft_remote_at_fault(&fault, &i) && e->done + i < e->count) {
        return ft_err_wrap(err, "%.200s", ft_dataset_where(e->data, e->done + i));
    }
    return st;
}

static uint64_t far(const void *encode)
{
    return ((const struct encode *)encode)->done;
}

static enum ft_status tell(const struct wish *w, const struct encode *e, double seconds, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    if (!w->output.json) {
        printf("%zu documents, %zu dimensions, %.2f s, %.0f documents/s -> %s\n", e->count, e->dim, seconds,
               seconds > 0 ? (double)e->count / seconds : 0.0, w->out);
        return FT_OK;
    }
    struct ft_json *json = ft_json_object();
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory");
    }
    FT_TRY(ft_json_set(json, "count", ft_json_of_int((int64_t)e->count), err));
    FT_TRY(ft_json_set(json, "dim", ft_json_of_int((int64_t)e->dim), err));
    FT_TRY(ft_json_set(json, "seconds", ft_json_of_real(seconds), err));
    FT_TRY(ft_json_set(json, "out", ft_json_of_text(w->out), err));
    FT_TRY(ft_print_json(json, err));
done:
    ft_json_free(json);
    return st;
}

enum ft_status ft_remote_encode(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct wish w = {0};
    struct ft_remote remote = {0};
    struct ft_dataset *data = NULL;
    char *model = NULL;
    struct encode e = {.remote = &remote};
    FT_TRY(read_wish(argc, argv, &w, err));
    FT_TRY(ft_remote_open(&w.remote, &remote, err));
    FT_TRY(ft_dataset_open(w.args.positional[1], false, &data, err));
    FT_TRY(ft_remote_model(&remote, w.args.positional[0], w.output.quiet, &model, err));
    e.data = data;
    e.count = ft_dataset_count(data);
    e.model = model;
    ft_bar_init(&e.bar, w.output.quiet);
    double start = ft_clock_seconds();
    const struct ft_remote_work work = {encode_stream, far, &e, &e.stream, &e.bar};
    FT_TRY(ft_remote_keep_on(&remote, &work, NULL, err));
    double seconds = ft_clock_seconds() - start;
    FT_TRY(ft_write_rows(w.out, data, e.rows, (int64_t)e.dim, err));
    FT_TRY(tell(&w, &e, seconds, err));
done:
    ft_remote_batch_release(&e.batch);
    ft_buf_release(&e.answer);
    ft_free(e.rows);
    ft_free(model);
    ft_dataset_free(data);
    ft_remote_close(&remote);
    return st;
}
