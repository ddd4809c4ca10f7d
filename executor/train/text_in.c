#include "executor/train/text_in.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/train/buckets.h"

/* ---- extents */

static int64_t at_most(int64_t n, int64_t most)
{
    return n < most ? n : most;
}

/* Of rows of `longest` tokens; a text is never longer than the model's table of places. */
static int64_t padded_length(const struct ft_text_limits *limits, int64_t longest)
{
    return at_most(ft_bucket_tokens(longest), limits->longest);
}

static int64_t rows_of(const struct ft_text_limits *limits, int64_t rows)
{
    return limits->exact_rows ? limits->rows : ft_bucket_rows(rows, limits->rows);
}

/* What a batch takes, with what it is filled up with, before it is rounded to a bucket. */
static int64_t tokens_needed(const struct ft_text_inputs *values, const struct ft_text_limits *limits,
                             int64_t rows, int64_t tokens, int64_t longest)
{
    int64_t planned = rows_of(limits, rows);
    return values->packed ? tokens + planned - rows : planned * padded_length(limits, longest);
}

bool ft_text_fits(const struct ft_text_inputs *values, const struct ft_text_limits *limits, int64_t rows,
                  int64_t tokens, int64_t longest)
{
    return rows <= limits->rows && longest <= limits->longest &&
           tokens_needed(values, limits, rows, tokens, longest) <= limits->tokens;
}

void ft_text_symbols(const struct ft_text_inputs *values, const struct ft_text_limits *limits, int64_t rows,
                     int64_t tokens, int64_t longest, int64_t symbols[FT_MAX_SYMBOLS])
{
    memset(symbols, 0, FT_MAX_SYMBOLS * sizeof *symbols);
    symbols[FT_SYMBOL_BATCH] = rows_of(limits, rows);
    if (values->packed) {
        int64_t need = tokens_needed(values, limits, rows, tokens, longest);
        symbols[FT_SYMBOL_TOKENS] = at_most(ft_bucket_tokens(need), limits->tokens);
    } else {
        symbols[FT_SYMBOL_LENGTH] = padded_length(limits, longest);
    }
}

void ft_text_largest(const struct ft_text_inputs *values, const struct ft_text_limits *limits,
                     int64_t symbols[FT_MAX_SYMBOLS])
{
    int64_t rows = limits->rows;
    if (!values->packed && !limits->exact_rows) {
        rows = at_most(rows, limits->tokens / limits->longest);
        while ((rows & (rows - 1)) != 0) {
            rows &= rows - 1;
        }
    }
    memset(symbols, 0, FT_MAX_SYMBOLS * sizeof *symbols);
    symbols[FT_SYMBOL_BATCH] = rows;
    symbols[values->packed ? FT_SYMBOL_TOKENS : FT_SYMBOL_LENGTH] =
        values->packed ? limits->tokens : limits->longest;
}

/* ---- life */

static void count_room(const struct ft_text_inputs *values, const struct ft_text_limits *limits,
                       int64_t *room, int64_t *seq_room)
{
    *room = values->ids != FT_NO_VALUE ? limits->tokens : 0;
    *seq_room = values->packed ? 2 * limits->rows : limits->tokens;
}

size_t ft_text_in_bytes(const struct ft_text_inputs *values, const struct ft_text_limits *limits)
{
    int64_t room = 0;
    int64_t seq_room = 0;
    count_room(values, limits, &room, &seq_room);
    return (size_t)(3 * room + seq_room) * sizeof(int64_t); /* ids, types, seq, host */
}

static enum ft_status upload(const struct ft_text_in *in, void *to, int64_t count, struct ft_err *err)
{
    return ft_device_upload(in->device, to, in->host, (size_t)count * sizeof *in->host, err);
}

enum ft_status ft_text_in_init(struct ft_text_in *in, struct ft_device *device,
                               const struct ft_text_inputs *values, const struct ft_text_limits *limits,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    *in = (struct ft_text_in){.device = device, .values = *values, .limits = *limits};
    assert(limits->rows > 0 && limits->longest > 0 && limits->tokens >= limits->longest);
    count_room(values, limits, &in->room, &in->seq_room);
    size_t room = (size_t)in->room;
    size_t seq_room = (size_t)in->seq_room;
    FT_TRY(ft_device_alloc(device, seq_room * sizeof(int64_t), &in->seq, err));
    FT_TRY(ft_new(room > seq_room ? room : seq_room, sizeof *in->host, &in->host, err));
    if (room > 0) {
        FT_TRY(ft_device_alloc(device, room * sizeof(int64_t), &in->ids, err));
        FT_TRY(ft_device_alloc(device, room * sizeof(int64_t), &in->types, err)); /* zeros */
    }
done:
    if (st != FT_OK) {
        ft_text_in_release(in);
    }
    return st;
}

void ft_text_in_release(struct ft_text_in *in)
{
    if (in->device != NULL) {
        ft_device_free(in->device, in->ids);
        ft_device_free(in->device, in->types);
        ft_device_free(in->device, in->seq);
    }
    ft_free(in->host);
    *in = (struct ft_text_in){0};
}

enum ft_status ft_text_in_bind(const struct ft_text_in *in, struct ft_plan *plan, struct ft_err *err)
{
    if (in->values.seq != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_plan_bind(plan, in->values.seq, in->seq, err));
    }
    if (in->values.ids != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_plan_bind(plan, in->values.ids, in->ids, err));
    }
    return in->values.types != FT_NO_VALUE ? ft_plan_bind(plan, in->values.types, in->types, err) : FT_OK;
}

/* ---- filling */

/* Zeros up to `total`. */
static enum ft_status put_ids(const struct ft_text_in *in, const struct ft_batch_texts *texts, int64_t total,
                              struct ft_err *err)
{
    memcpy(in->host, texts->ids, texts->tokens * sizeof *in->host);
    memset(in->host + texts->tokens, 0, ((size_t)total - texts->tokens) * sizeof *in->host);
    return upload(in, in->ids, total, err);
}

static enum ft_status put_spans(const struct ft_text_in *in, const struct ft_batch *batch, int64_t rows,
                                struct ft_err *err)
{
    size_t given = 2 * batch->rows;
    memcpy(in->host, batch->texts.spans, given * sizeof *in->host);
    for (int64_t r = (int64_t)batch->rows; r < rows; r++) {
        in->host[2 * r] = (int64_t)batch->texts.tokens + r - (int64_t)batch->rows;
        in->host[2 * r + 1] = 1;
    }
    return upload(in, in->seq, 2 * rows, err);
}

/* The ids of each row, or ones, followed by zeros up to `length`. Rows that the batch does not have are one
 * token long. */
static enum ft_status put_padded(const struct ft_text_in *in, const struct ft_batch *batch, bool mask,
                                 const int64_t extents[2], struct ft_err *err)
{
    int64_t rows = extents[0];
    int64_t length = extents[1];
    memset(in->host, 0, (size_t)(rows * length) * sizeof *in->host);
    for (int64_t r = 0; r < rows; r++) {
        bool given = (size_t)r < batch->rows;
        int64_t tokens = given ? batch->texts.spans[2 * r + 1] : 1;
        const int64_t *ids = given ? batch->texts.ids + batch->texts.spans[2 * r] : NULL;
        for (int64_t i = 0; i < tokens; i++) {
            in->host[r * length + i] = mask ? 1 : given ? ids[i] : 0;
        }
    }
    return upload(in, mask ? in->seq : in->ids, rows * length, err);
}

enum ft_status ft_text_in_put(struct ft_text_in *in, const struct ft_batch *batch,
                              const int64_t symbols[FT_MAX_SYMBOLS], struct ft_err *err)
{
    const struct ft_batch_texts *t = &batch->texts;
    const int64_t extents[2] = {symbols[FT_SYMBOL_BATCH], symbols[FT_SYMBOL_LENGTH]};
    if (in->values.packed) {
        int64_t total = symbols[FT_SYMBOL_TOKENS];
        assert(total <= in->limits.tokens && 2 * extents[0] <= in->seq_room &&
               (int64_t)t->tokens + extents[0] - (int64_t)batch->rows <= total);
        FT_RETURN_IF_FAILED(in->ids != NULL ? put_ids(in, t, total, err) : FT_OK);
        return put_spans(in, batch, extents[0], err);
    }
    assert(extents[0] * extents[1] <= in->room && (int64_t)t->longest <= extents[1]);
    FT_RETURN_IF_FAILED(put_padded(in, batch, false, extents, err));
    return put_padded(in, batch, true, extents, err);
}
