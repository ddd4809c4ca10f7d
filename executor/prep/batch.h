/*
 * batch.h - the batch contract: named inputs, texts, labels; what a plan is fed with.
 *
 * Several inputs and towers are a list from day one; rows of all dense inputs agree. Texts are ragged: tokens
 * of one row after those of another, without padding, and each row's span among them. Buffers are allocated
 * once for rows_max and tokens_max and refilled.
 */
#ifndef FT_PREP_BATCH_H
#define FT_PREP_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/base/status.h"

enum { FT_BATCH_INPUTS = 64 }; /* the outputs of a frozen DenseNet block are many */
struct ft_batch_input {
    const char *name;    /* the graph's input, borrowed */
    size_t row_elements; /* floats per row */
    bool of_tokens;      /* rows are tokens, not items */
    float *data;         /* (rows_max or tokens_max, row_elements), owned by the batch */
};
/* One text a row. All are owned by the batch; spans is NULL where it holds no texts. */
struct ft_batch_texts {
    int64_t *ids;   /* (tokens_max) in the vocabulary; NULL: inputs hold what became of them */
    int64_t *spans; /* (rows_max, 2): first token and number of tokens of each row, in order, no gaps */
    size_t tokens, tokens_max;
    size_t longest; /* row, in tokens */
};
struct ft_batch {
    int n_inputs;
    struct ft_batch_input input[FT_BATCH_INPUTS];
    struct ft_batch_texts texts;
    size_t rows, rows_max;
    int32_t *labels; /* class number per row, -1 = none; owned */
    uint32_t *items; /* dataset index per row; owned */
};
/* What `inputs` say is taken, data is allocated; tokens_max: 0 without texts. ft_batch_release(). */
FT_MUST_CHECK enum ft_status ft_batch_init(struct ft_batch *batch, const struct ft_batch_input *inputs,
                                           int n_inputs, size_t rows_max, size_t tokens_max,
                                           struct ft_err *err);
/* One input of texts. */
FT_MUST_CHECK enum ft_status ft_batch_init_texts(struct ft_batch *batch, size_t rows_max, size_t tokens_max,
                                                 struct ft_err *err);
void ft_batch_release(struct ft_batch *batch);
/* Forget the texts of the last batch; room for `tokens` (>= 1) of the next row: its span is set, what
 * it holds is the caller's to fill from the place that is returned. */
void ft_batch_clear_texts(struct ft_batch *batch);
size_t ft_batch_add_text(struct ft_batch *batch, size_t tokens);
#endif
