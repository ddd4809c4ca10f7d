#include "executor/prep/batch.h"

#include <assert.h>

#include "executor/base/alloc.h"

static enum ft_status init_rows(struct ft_batch *b, size_t rows_max, size_t tokens_max, struct ft_err *err)
{
    b->rows_max = rows_max;
    b->texts.tokens_max = tokens_max;
    if (tokens_max > 0) {
        FT_RETURN_IF_FAILED(ft_new(rows_max, 2 * sizeof *b->texts.spans, &b->texts.spans, err));
    }
    FT_RETURN_IF_FAILED(ft_new(rows_max, sizeof *b->labels, &b->labels, err));
    FT_RETURN_IF_FAILED(ft_new(rows_max, sizeof *b->items, &b->items, err));
    for (size_t i = 0; i < rows_max; i++) {
        b->labels[i] = -1;
    }
    return FT_OK;
}

enum ft_status ft_batch_init(struct ft_batch *batch, const struct ft_batch_input *inputs, int n_inputs,
                             size_t rows_max, size_t tokens_max, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_batch b = {0};
    assert(n_inputs > 0 && n_inputs <= FT_BATCH_INPUTS && rows_max > 0);
    *batch = (struct ft_batch){0};
    for (; b.n_inputs < n_inputs; b.n_inputs++) {
        struct ft_batch_input *in = &b.input[b.n_inputs];
        size_t floats = 0;
        *in = inputs[b.n_inputs];
        in->data = NULL;
        size_t rows = in->of_tokens ? tokens_max : rows_max;
        assert(rows > 0);
        if (!ft_mul_size(rows, in->row_elements, &floats)) {
            st = FT_FAIL(err, NOMEM, "a batch of %zu rows of %zu numbers is too large", rows,
                         in->row_elements);
            goto done;
        }
        FT_TRY(ft_new(floats, sizeof *in->data, &in->data, err));
    }
    FT_TRY(init_rows(&b, rows_max, tokens_max, err));
    *batch = b;
    b = (struct ft_batch){0};
done:
    ft_batch_release(&b);
    return st;
}

enum ft_status ft_batch_init_texts(struct ft_batch *batch, size_t rows_max, size_t tokens_max,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_batch b = {0};
    assert(rows_max > 0 && tokens_max >= rows_max);
    *batch = (struct ft_batch){0};
    FT_TRY(ft_new(tokens_max, sizeof *b.texts.ids, &b.texts.ids, err));
    FT_TRY(init_rows(&b, rows_max, tokens_max, err));
    *batch = b;
    b = (struct ft_batch){0};
done:
    ft_batch_release(&b);
    return st;
}

void ft_batch_clear_texts(struct ft_batch *batch)
{
    batch->rows = 0;
    batch->texts.tokens = 0;
    batch->texts.longest = 0;
}

size_t ft_batch_add_text(struct ft_batch *batch, size_t tokens)
{
    struct ft_batch_texts *t = &batch->texts;
    size_t at = t->tokens;
    assert(tokens > 0 && batch->rows < batch->rows_max && tokens <= t->tokens_max - at);
    t->spans[2 * batch->rows] = (int64_t)at;
    t->spans[2 * batch->rows + 1] = (int64_t)tokens;
    batch->rows++;
    t->tokens += tokens;
    t->longest = tokens > t->longest ? tokens : t->longest;
    return at;
}

void ft_batch_release(struct ft_batch *batch)
{
    for (int i = 0; i < batch->n_inputs; i++) {
        ft_free(batch->input[i].data);
    }
    ft_free(batch->texts.ids);
    ft_free(batch->texts.spans);
    ft_free(batch->labels);
    ft_free(batch->items);
    *batch = (struct ft_batch){0};
}
