/*
 * optim.h - SGD, Adam and AdamW as torch.optim has them, schedules as transformers' get_scheduler, clipping
 * as torch.nn.utils.clip_grad_norm_.
 *
 * One kernel a step on the flat buffer of trained weights; the state mirrors it. Nothing is allocated by a
 * step. Threads: like the device, one thread. Specs are plain values.
 */
#ifndef FT_TRAIN_OPTIM_H
#define FT_TRAIN_OPTIM_H

#include "executor/codec/json.h"
#include "executor/train/flat.h"

enum ft_optim_kind { FT_OPTIM_SGD, FT_OPTIM_ADAM, FT_OPTIM_ADAMW };
struct ft_optim_spec {
    enum ft_optim_kind kind;
    double momentum, dampening; /* SGD */
    bool nesterov;
    double beta1, beta2, eps; /* Adam, AdamW */
    double weight_decay;
    double layer_decay; /* "layer_wise_lr_decay", Finetuner's: of the learning rate, from layer to layer; 1 =
                           none */
};
/* FT_INVALID: unknown names (with the known ones) or values; FT_UNSUPPORTED: torch's amsgrad, maximize. */
FT_MUST_CHECK enum ft_status ft_optim_parse(const char *name, const struct ft_json *options,
                                            struct ft_optim_spec *spec, struct ft_err *err);

enum ft_schedule_kind { FT_SCHEDULE_CONSTANT, FT_SCHEDULE_WARMUP, FT_SCHEDULE_LINEAR, FT_SCHEDULE_COSINE };
struct ft_schedule {
    enum ft_schedule_kind kind;
    int64_t warmup, total; /* total 0 = auto: the caller puts the job's steps (or epochs) there */
    double cycles;         /* num_cycles of cosine, 0.5 */
    bool by_epoch;         /* scheduler_step */
};
FT_MUST_CHECK enum ft_status ft_schedule_parse(const char *name, const struct ft_json *options,
                                               struct ft_schedule *schedule, struct ft_err *err);
/* What the learning rate is multiplied with at step (or epoch) t, counted from 0. */
double ft_schedule_factor(const struct ft_schedule *schedule, int64_t t);

/* Weights at .. at + count learn at `factor` times the learning rate. */
struct ft_optim_part {
    size_t at, count;
    double factor;
    struct ft_one step;
};
struct ft_optim {
    struct ft_optim_spec spec;
    struct ft_flat *weights;                          /* borrowed */
    struct ft_flat grads, first, second, hyper, norm; /* first: momentum or m; second: v, empty for SGD */
    struct ft_one sum_squares;
    struct ft_optim_part *parts;
    size_t n_parts;
};
/* parts: of all weights, in order, without gaps (step is filled in); n_parts 0: all learn alike. */
FT_MUST_CHECK enum ft_status ft_optim_init(struct ft_optim *optim, const struct ft_optim_spec *spec,
                                           struct ft_flat *weights, const struct ft_optim_part *parts,
                                           size_t n_parts, struct ft_err *err);
void ft_optim_release(struct ft_optim *optim);
/* The norm of all gradients; waits for the device. */
FT_MUST_CHECK enum ft_status ft_optim_norm(struct ft_optim *optim, double *norm, struct ft_err *err);
/* Step t (from 1) with this learning rate; gradients are multiplied by `scale` on the way. Queued. */
FT_MUST_CHECK enum ft_status ft_optim_step(struct ft_optim *optim, int64_t t, double learning_rate,
                                           double scale, struct ft_err *err);
/* What clip_grad_norm_ multiplies gradients with; max_norm 0 = no clipping. */
double ft_optim_clip(double norm, double max_norm);
#endif
