/*
 * fit.h - one fine-tuning job from a model and labelled data to a better embedding model: the same call for
 * the shell and for the service's worker.
 *
 * Order of events: checks (no triplet possible, unknown names, shapes) -> tailor -> evaluate before -> the
 * frozen prefix of the model once for each document (train/prefix.h) -> epochs of steps with the next batch
 * prepared on another thread -> validation, callbacks, checkpoints -> evaluate after -> artifact. Checkpoints
 * are written at the end of each epoch, every `checkpoint_steps`, and when cancelled; resume continues bit
 * for bit. Threads: call from the thread that owns the device; events are called on it.
 */
#ifndef FT_TRAIN_FIT_H
#define FT_TRAIN_FIT_H

#include "executor/base/thread.h"
#include "executor/codec/json.h"
#include "executor/model/model.h"
#include "executor/model/tailor.h"
#include "executor/prep/prep.h"
#include "executor/store/dataset.h"

enum { FT_FIT_NAME = 64 };

/* The one table of fit options stands in options.c: name, type, default, range, help. It makes --help, the
 * parser of flags and of JSON (`parameters` of /fit), and the printout of what a run used. Texts are owned by
 * the struct. */
struct ft_fit_options {
    char loss[FT_FIT_NAME], miner[FT_FIT_NAME], optimizer[FT_FIT_NAME], scheduler[FT_FIT_NAME];
    struct ft_json *loss_options, *miner_options, *optimizer_options, *scheduler_options, *callbacks,
        *prep_options;
    double learning_rate;                                   /* 0 = the optimiser's default of our table */
    int64_t epochs, batch_size, num_items_per_class, steps; /* steps > 0 overrides epochs */
    bool batch_size_given;                                  /* by the user: no budget of memory changes it */
    int64_t memory; /* bytes, 0 = no budget but what the machine has */
    double val_split, clip_norm;
    double mix;                /* 1 = the tuned weights, 0 = the given ones */
    char dropout[FT_FIT_NAME]; /* model, or a probability */
    char *augment;             /* of training pictures: none, light, strong or JSON (prep/augment.h) */
    char *freeze, *cut, *input_shape, *name;
    bool keep_head, normalize;
    int64_t output_dim;
    char pooler[FT_FIT_NAME];
    char device[FT_FIT_NAME], precision[FT_FIT_NAME];
    char activation_cache[FT_FIT_NAME]; /* auto, off */
    int64_t threads, seed, limit, checkpoint_steps, eval_batch_size;
    char *work_dir; /* checkpoints, journal of steps; NULL = beside the output */
    bool resume;    /* continue from work_dir's newest checkpoint; with none: from the start */
};

FT_MUST_CHECK enum ft_status ft_fit_options_init(struct ft_fit_options *options,
                                                 struct ft_err *err); /* defaults */
void ft_fit_options_release(struct ft_fit_options *options);
/* key in the command line's or JSON's spelling (learning-rate or learning_rate). FT_USAGE/FT_INVALID: unknown
 * key (with the nearest known one), bad value with the accepted range. */
FT_MUST_CHECK enum ft_status ft_fit_options_set(struct ft_fit_options *options, const char *key,
                                                const char *value, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fit_options_read(struct ft_fit_options *options, const struct ft_json *object,
                                                 struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fit_options_write(const struct ft_fit_options *options,
                                                  struct ft_json **object, struct ft_err *err);
/* Everything about options that can be known without model and data: names of losses, miners, optimisers,
 * schedules, callbacks, devices, and their own options. What /fit asks before it promises a run. */
FT_MUST_CHECK enum ft_status ft_fit_options_check(const struct ft_fit_options *options, struct ft_err *err);
bool ft_fit_options_is_flag(const char *key); /* takes no value on the command line (--keep-head) */
FT_MUST_CHECK enum ft_status ft_fit_options_help(struct ft_buf *out,
                                                 struct ft_err *err); /* one line per option */

struct ft_fit_progress {
    int64_t epoch, epochs, step, steps; /* 1-based, of the whole job */
    double loss, samples_per_second, eta_seconds, learning_rate, grad_norm;
    double active_share; /* active / mined triplets of this step; -1 without triplets */
    int64_t mined, candidates;
    int64_t repeated; /* steps done again after resumes, over all lives of the job */
};
struct ft_fit_events {
    void *arg;
    void (*progress)(void *arg, const struct ft_fit_progress *progress); /* after each step */
    void (*note)(void *arg,
                 const char *line); /* human sentences: what was cut, defaults used, best epoch, early stop */
    void (*metrics)(void *arg, const char *when, int64_t epoch,
                    const struct ft_json *metrics); /* "before", "epoch", "after" */
    void (*stage)(void *arg, const char *title, int64_t done, int64_t total,
                  double eta_seconds); /* long work on all documents that is not a step */
};
struct ft_fit_result {
    /* run, status, metrics{before,after}, epochs, steps, samples_per_second, seconds, out, peak memory,
     * allocations inside steps, repeated_steps (over all lives of the job), best_epoch, frozen_prefix{values,
     * bytes_per_item, bytes_per_token, kept, memory_bytes, file_bytes, seconds} or null, ... (DESIGN 4);
     * caller's: ft_json_free() */
    struct ft_json *summary;
    bool cancelled; /* resume continues: from a checkpoint, or from the start if no step was done */
};
struct ft_fit_job {
    const char *model_path;
    const struct ft_dataset *train;
    const struct ft_dataset *eval; /* NULL: no retrieval metrics (or val_split) */
    const struct ft_fit_options *options;
    const char *out;                /* artifact path; NULL: none is written */
    const char *command;            /* for the model card */
    const struct ft_cancel *cancel; /* may be NULL */
    struct ft_fit_events events;
};
FT_MUST_CHECK enum ft_status ft_fit(const struct ft_fit_job *job, struct ft_fit_result *result,
                                    struct ft_err *err);
#endif
