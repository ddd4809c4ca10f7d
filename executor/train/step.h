/*
 * step.h - one training step made executable: train form + loss + gradients in one plan, then clip and
 * optimiser.
 *
 * The graph given is the evaluation form; its training form is derived here (BatchNorm over batch statistics
 * where its scale or bias is trained). With a frontier only the part behind it is run and batches hold its
 * inputs (train/prefix.h); the parameters are the whole graph's all the same. Batches of texts have another
 * number of tokens each time: a plan is made when a size first occurs (buckets.h), in memory that is there
 * from the beginning. Else nothing of ours is allocated by ft_step_run(). Threads: like the device, one
 * thread.
 */
#ifndef FT_TRAIN_STEP_H
#define FT_TRAIN_STEP_H

#include "executor/graph/frontier.h"
#include "executor/prep/batch.h"
#include "executor/train/losses.h"
#include "executor/train/optim.h"
#include "executor/train/params.h"
#include "executor/train/text_in.h"

struct ft_step; /* opaque */

struct ft_step_spec {
    struct ft_device *device;           /* borrowed, like the graph */
    const struct ft_graph *graph;       /* tailored; frozen flags say what is trained */
    const struct ft_frontier *frontier; /* of that graph; NULL or with no values: the step runs all of it */
    struct ft_loss_spec loss;
    struct ft_optim_spec optim;
    double clip_norm; /* 0 = none */
    size_t batch;
    int64_t tokens, longest; /* of texts: most that a batch has without padding, and one text; else 0 */
    uint64_t seed;           /* of dropout */
    double dropout;          /* wherever the graph is marked for it; below 0: as the marks say */
};
/* Of batches of texts, as the spec says. */
struct ft_text_limits ft_step_limits(const struct ft_text_inputs *text, const struct ft_step_spec *spec);
/* FT_INVALID: nothing to train (all frozen, or the loss does not depend on it). */
FT_MUST_CHECK enum ft_status ft_step_new(const struct ft_step_spec *spec, struct ft_step **step,
                                         struct ft_err *err);
void ft_step_free(struct ft_step *step);                /* NULL is fine */
struct ft_params *ft_step_params(struct ft_step *step); /* what it trains: borrowed */
struct ft_optim *ft_step_optim(struct ft_step *step);
/* What it ran last, without the optimiser: to be profiled. */
struct ft_plan *ft_step_plan(struct ft_step *step);

struct ft_step_result {
    double loss, grad_norm;
    int64_t stats[4]; /* candidates, mined, active, anchors with a mined triplet */
};
/* Step t (from 1) on a full batch. FT_DIVERGED: the loss or a gradient is not finite; says the step and
 * where; weights are then as before the step. */
FT_MUST_CHECK enum ft_status ft_step_run(struct ft_step *step, const struct ft_batch *batch, int64_t t,
                                         double learning_rate, struct ft_step_result *result,
                                         struct ft_err *err);
/* Only forward and backward, nothing is updated: for oracles. */
FT_MUST_CHECK enum ft_status ft_step_gradients(struct ft_step *step, const struct ft_batch *batch,
                                               struct ft_step_result *result, struct ft_err *err);

/* What a step of spec->batch rows takes, in bytes, without making it. Not in it: scratch of most kernels and
 * one packed copy of a weight for each product, which are known when the step is there. */
struct ft_step_cost {
    size_t activations; /* with the batch and the loss */
    size_t weights;     /* all parameters */
    size_t trained;     /* those that are trained, once: gradients and each state of the optimiser as much */
    size_t optimizer;   /* gradients and states */
    size_t packed;      /* of weights, and below of scratch: what kernels tell before they are there */
    size_t scratch;
};
FT_MUST_CHECK enum ft_status ft_step_price(const struct ft_step_spec *spec, struct ft_step_cost *cost,
                                           struct ft_err *err);

/* The loss alone, in evaluation form, over the same parameters (val_loss). */
struct ft_step_loss; /* opaque */
FT_MUST_CHECK enum ft_status ft_step_loss_new(const struct ft_step_spec *spec, const struct ft_params *params,
                                              struct ft_step_loss **loss, struct ft_err *err);
void ft_step_loss_free(struct ft_step_loss *loss);
FT_MUST_CHECK enum ft_status ft_step_loss_run(struct ft_step_loss *loss, const struct ft_batch *batch,
                                              double *value, struct ft_err *err);
#endif
