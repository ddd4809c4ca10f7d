/*
 * budget.h - what a job takes in memory, before it takes it: the batch that fits a budget, or a refusal with
 * the figure; private to train/.
 *
 * Activations, inputs, outputs, parameters, gradients and states are priced exactly by making the plans
 * without their memory (ft_plan_price()). Scratch of kernels and packed weights are known only when a step is
 * there, but for those that tell (ft_kernel_room()); until then they are assumed, and ft_run_check_memory()
 * looks at what was really taken.
 *
 * Threads: like the device, one thread.
 */
#ifndef FT_TRAIN_BUDGET_H
#define FT_TRAIN_BUDGET_H

#include "executor/train/encoder_internal.h"
#include "executor/train/step.h"

struct ft_run;

/* What the program and its libraries take besides what ft_alloc() counts: a job with a CNN of two layers has
 * 23 MB resident in all, and oneDNN keeps generated code for each kernel. */
enum { FT_PROGRAM_BYTES = 32 << 20 };

/* Bytes. */
struct ft_memory_need {
    size_t program;     /* code, libraries, what they keep for themselves */
    size_t loaded;      /* model and data as they are now */
    size_t rows;        /* prepared documents that are kept */
    size_t weights;     /* parameters and their packed copies */
    size_t optimizer;   /* gradients, states, their copies for checkpoints */
    size_t activations; /* of a step and of the validation loss, batches on their way, scratch */
    size_t encoder;     /* evaluation */
    size_t prefix;      /* the frozen layers */
    size_t artifact;    /* while it is written: the trained weights once more, and the file */
    size_t total;
};
/* Of an encoder of batches up to `batch`, with its packed weights; `longest`: the tokens of the longest text,
 * 0 where there are none. */
FT_MUST_CHECK enum ft_status ft_encoder_price(struct ft_device *device, const struct ft_graph *graph,
                                              int64_t batch, int64_t longest, size_t *bytes,
                                              struct ft_err *err);
/* Of a step alone: weights, optimizer and activations are filled in. */
FT_MUST_CHECK enum ft_status ft_step_need(const struct ft_step_spec *spec, struct ft_memory_need *need,
                                          struct ft_err *err);

/* Set options.batch_size to the largest up to the default that fits options.memory, if the user left it open;
 * refuse with the figures what fits neither that nor the machine. Never beyond the default: a budget is a
 * limit, and a larger batch is another training, with fewer steps an epoch at a learning rate that was found
 * for the default one. Before samplers and rows are made, after the frontier. */
FT_MUST_CHECK enum ft_status ft_run_choose_batch(struct ft_run *run, struct ft_err *err);
/* After the step is made, `before` being ft_alloc_stats().live_bytes before: did it take what was reckoned?
 * *again: a smaller batch was set, the step is to be made again. */
FT_MUST_CHECK enum ft_status ft_run_check_memory(struct ft_run *run, size_t before, bool *again,
                                                 struct ft_err *err);
/* Bytes of prepared rows that may be kept. */
size_t ft_run_keep_max(const struct ft_run *run);
#endif
