/*
 * batch.h - the batch contract: named inputs, labels; what a plan is fed with.
 *
 * Several inputs and towers are a list from day one; rows of all dense inputs agree. Buffers are allocated
 * once for rows_max and refilled.
 */
#ifndef FT_PREP_BATCH_H
#define FT_PREP_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "executor/base/status.h"

enum { FT_BATCH_INPUTS = 64 }; /* the outputs of a frozen DenseNet block are many */
struct ft_batch_input {
    const char *name;    /* the graph's input, borrowed */
    size_t row_elements; /* floats per row */
    float *data;         /* (rows_max, row_elements), owned by the batch */
};
struct ft_batch {
    int n_inputs;
    struct ft_batch_input input[FT_BATCH_INPUTS];
    size_t rows, rows_max;
    int32_t *labels; /* class number per row, -1 = none; owned */
    uint32_t *items; /* dataset index per row; owned */
};
/* name and row_elements of `inputs` are taken, data is allocated. ft_batch_release(). */
FT_MUST_CHECK enum ft_status ft_batch_init(struct ft_batch *batch, const struct ft_batch_input *inputs,
                                           int n_inputs, size_t rows_max, struct ft_err *err);
void ft_batch_release(struct ft_batch *batch);
#endif
