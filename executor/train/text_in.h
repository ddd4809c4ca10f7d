/*
 * text_in.h - the device's side of a batch of texts: the inputs that a graph of texts reads, filled packed or
 * padded.
 *
 * A batch (prep/batch.h) is always without padding. A packed graph gets it as it is, followed by filler up to
 * the bucket; where a plan is made for more rows than the batch has, each of these is a text of one token. A
 * padded graph gets rows of one length. Id 0 stands at filler and padding: every vocabulary has it, and
 * nobody reads what becomes of it. token_type_ids are 0: a Document has one text. Threads: like the device,
 * one thread. Only ft_text_in_init() allocates.
 */
#ifndef FT_TRAIN_TEXT_IN_H
#define FT_TRAIN_TEXT_IN_H

#include "executor/graph/plan.h"
#include "executor/prep/batch.h"
#include "executor/train/input.h"

/* How large a batch may become. */
struct ft_text_limits {
    int64_t rows, tokens; /* tokens of a padded batch count its padding */
    int64_t longest;      /* text */
    bool exact_rows;      /* every batch has `rows` rows: they are not rounded */
};
struct ft_text_in {
    struct ft_device *device;
    struct ft_text_inputs values;
    struct ft_text_limits limits;
    int64_t room, seq_room;  /* numbers that ids and types hold, and seq */
    void *ids, *types, *seq; /* device, I64 */
    int64_t *host;           /* max(room, seq_room) */
};
FT_MUST_CHECK enum ft_status ft_text_in_init(struct ft_text_in *in, struct ft_device *device,
                                             const struct ft_text_inputs *values,
                                             const struct ft_text_limits *limits, struct ft_err *err);
void ft_text_in_release(struct ft_text_in *in);
FT_MUST_CHECK enum ft_status ft_text_in_bind(const struct ft_text_in *in, struct ft_plan *plan,
                                             struct ft_err *err);
size_t ft_text_in_bytes(const struct ft_text_inputs *values, const struct ft_text_limits *limits);

/* Extents of the plan for so many rows with so many tokens in all, `longest` in one. */
void ft_text_symbols(const struct ft_text_inputs *values, const struct ft_text_limits *limits, int64_t rows,
                     int64_t tokens, int64_t longest, int64_t symbols[FT_MAX_SYMBOLS]);
/* Those of the plan that takes the most memory. */
void ft_text_largest(const struct ft_text_inputs *values, const struct ft_text_limits *limits,
                     int64_t symbols[FT_MAX_SYMBOLS]);
/* May a batch be that large? One text of the longest length always may. */
bool ft_text_fits(const struct ft_text_inputs *values, const struct ft_text_limits *limits, int64_t rows,
                  int64_t tokens, int64_t longest);
/* Fill the inputs from a batch within the limits, for a plan of these extents. */
FT_MUST_CHECK enum ft_status ft_text_in_put(struct ft_text_in *in, const struct ft_batch *batch,
                                            const int64_t symbols[FT_MAX_SYMBOLS], struct ft_err *err);
#endif
