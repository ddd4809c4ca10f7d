/*
 * input.h - what a graph reads: its one data input with the preprocessing for it, and the optional random
 * numbers.
 *
 * Thread-safety: pure functions.
 */
#ifndef FT_TRAIN_INPUT_H
#define FT_TRAIN_INPUT_H

#include "executor/model/model.h"
#include "executor/prep/prep.h"

struct ft_input {
    ft_value data;      /* (N, ...) float */
    ft_value rng;       /* (2) I64 "rng", or FT_NO_VALUE */
    ft_value embedding; /* the first output, (N, D) */
    int64_t dim;        /* D */
};
/* FT_UNSUPPORTED: several data inputs, another type, a fixed batch; said with what to do about it. */
FT_MUST_CHECK enum ft_status ft_input_find(const struct ft_graph *graph, struct ft_input *input,
                                           struct ft_err *err);
/* Inferred from the input's shape, then what the model brings, then what the user says (may be NULL). */
FT_MUST_CHECK enum ft_status ft_input_prep(const struct ft_graph *graph, const struct ft_model *model,
                                           const struct ft_json *options, struct ft_prep *prep,
                                           struct ft_err *err);
/* What people forget to say, as a sentence; NULL: nothing. */
const char *ft_input_hint(const struct ft_model *model, const struct ft_json *options,
                          const struct ft_prep *prep);
#endif
