/*
 * run.h - the parts of one fine-tuning job, shared by fit.c, setup.c, loop.c, keep.c and run_prefix.c;
 * private to train/.
 *
 * A zeroed struct with journal = -1 is an empty run; ft_run_release() frees whatever is there.
 * Threads: like the device, one thread; the feed has its own.
 */
#ifndef FT_TRAIN_RUN_H
#define FT_TRAIN_RUN_H

#include "executor/eval/metrics.h"
#include "executor/train/callbacks.h"
#include "executor/train/checkpoint.h"
#include "executor/train/encoder_internal.h"
#include "executor/train/feed.h"
#include "executor/train/fit.h"
#include "executor/train/input.h"
#include "executor/train/prefix.h"
#include "executor/train/sampler.h"
#include "executor/train/step.h"

enum { FT_RUN_BLOBS = 6 };

/* A labelled set with its rows and, where batches are drawn from it, its sampler. */
struct ft_run_set {
    const struct ft_dataset *data;
    struct ft_dataset *own; /* when it is a part of another */
    struct ft_rows rows;
    struct ft_sampler_shape shape;
    struct ft_sampler *sampler;
    int64_t tokens;                /* of texts: the most that a batch has; else 0 */
    struct ft_prefix_cache *cache; /* the outputs of the frozen layers, when they are kept */
};

struct ft_run {
    const struct ft_fit_job *job;
    struct ft_fit_options options; /* a copy, defaults filled in */
    struct ft_loss_spec loss;
    struct ft_optim_spec optim;
    struct ft_schedule schedule;
    struct ft_callbacks callbacks;
    enum ft_metric distance;
    double dropout; /* as of ft_step_spec */

    struct ft_device *device;
    struct ft_model *model;
    struct ft_tokenizer *tokenizer; /* of texts */
    struct ft_graph *graph;         /* tailored: what is written */
    struct ft_graph *packed;        /* the same without padding, of texts */
    const struct ft_graph *form;    /* what is run: one of the two */
    char padded[FT_ERR_TEXT];       /* why texts are padded; "": they are not */
    int64_t dim, params_total, params_trained;
    struct ft_prep prep;
    struct ft_augment augment; /* of the training set only */

    struct ft_run_set train, val, eval; /* val.data, eval.data: NULL when there is none */
    struct ft_step *step;
    struct ft_step_loss *val_loss;
    struct ft_batch val_batch; /* of the model's input; unused when val.cache is there */
    struct ft_encoder *encoder;
    struct ft_feed *feed;

    /* The frozen prefix. */
    struct ft_frontier frontier;  /* n = 0: there is none */
    bool keeps_prefix;            /* in the caches of the sets, from before the first step */
    struct ft_prefix *prefix;     /* while it is computed: in every step, or until the caches are full */
    struct ft_batch prefix_batch; /* what it makes of a batch of the model's input */
    size_t prefix_memory, prefix_file, prefix_done; /* bytes, bytes, documents */
    double prefix_began, prefix_seconds;

    /* Where training stands. */
    int64_t done, total, per_epoch, epochs; /* steps done, of, in an epoch; epochs */
    double epoch_loss;                      /* sum over the epoch's steps so far */
    double last_loss;
    bool stopped; /* early */
    bool cancelled;
    struct ft_json *before, *after, *history; /* objects; list of epochs */

    /* What is kept. */
    char *work_dir; /* NULL: nothing is */
    bool work_dir_is_ours;
    char job_hash[FT_SHA256_HEX];
    char data_digest[FT_SHA256_HEX], eval_digest[FT_SHA256_HEX];
    struct ft_blob
        blobs[FT_RUN_BLOBS]; /* host copies: weights, states, first, second, best weights, best states */
    size_t n_blobs;
    int journal; /* file descriptor, -1: none */
    int64_t resumed_from;
    int64_t told;     /* the furthest step that lives before this one did */
    int64_t repeated; /* steps done again, over all lives of the job */

    size_t memory_unforeseen;                    /* what kernels took beyond what was reckoned */
    double started, train_seconds, wait_seconds; /* wait: of train, until the next batch was prepared */
    int64_t steps_here;                          /* done by this process */
    uint64_t step_allocations;
};

void ft_run_note(const struct ft_run *run, const char *fmt, ...) FT_PRINTF(2, 3);
/* Long work on all documents that began then (a clock's seconds): tells how far it is, and how long the rest
 * takes at that pace. */
void ft_run_stage(const struct ft_run *run, const char *title, size_t done, size_t total, double began);
void ft_run_release(struct ft_run *run);

/* setup.c: read options, load, tailor, split, check, make ready for step 1. */
FT_MUST_CHECK enum ft_status ft_run_setup(struct ft_run *run, const struct ft_fit_job *job,
                                          struct ft_err *err);
/* loop.c: until the last step, an early stop or a cancellation. */
FT_MUST_CHECK enum ft_status ft_run_train(struct ft_run *run, struct ft_err *err);
/* loop.c: retrieval metrics of the parameters as they are; *metrics = NULL without an evaluation set. */
FT_MUST_CHECK enum ft_status ft_run_evaluate(struct ft_run *run, const struct ft_cancel *cancel,
                                             struct ft_json **metrics, struct ft_err *err);

/* setup.c: of the step that the job trains with, at a batch of `set`. */
struct ft_step_spec ft_run_step_spec(const struct ft_run *run, const struct ft_run_set *set, size_t batch);
/* setup.c: the most tokens that a batch of that size has; 0 if these are no texts. */
FT_MUST_CHECK enum ft_status ft_run_most_tokens(const struct ft_run *run, const struct ft_run_set *set,
                                                size_t batch, int64_t *tokens, struct ft_err *err);

/* run_prefix.c: once the graph is known. */
FT_MUST_CHECK enum ft_status ft_run_prefix_find(struct ft_run *run, struct ft_err *err);
void ft_run_prefix_decide(struct ft_run *run); /* once the number of steps is known: are activations kept? */
/* Before the first step: fill the caches, or be ready to compute batch by batch. FT_CANCELLED. */
FT_MUST_CHECK enum ft_status ft_run_prefix_start(struct ft_run *run, struct ft_err *err);
/* *batch as it came from the feed -> as the step wants it. */
FT_MUST_CHECK enum ft_status ft_run_prefix_batch(struct ft_run *run, const struct ft_batch **batch,
                                                 struct ft_err *err);
/* The next batch of the validation split, as the step wants it. */
FT_MUST_CHECK enum ft_status ft_run_val_batch(struct ft_run *run, const struct ft_batch **batch,
                                              struct ft_err *err);
/* {values, bytes_per_item, bytes_per_token, kept, memory_bytes, file_bytes, seconds}; null without a frozen
 * prefix. */
FT_MUST_CHECK enum ft_status ft_run_prefix_json(const struct ft_run *run, struct ft_json **json,
                                                struct ft_err *err);

/* keep.c: work folder, checkpoints, journal of steps. */
FT_MUST_CHECK enum ft_status ft_run_keep_open(struct ft_run *run, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_run_save(struct ft_run *run, struct ft_err *err);
/* Load the newest checkpoint, if any. */
FT_MUST_CHECK enum ft_status ft_run_resume(struct ft_run *run, struct ft_err *err);
/* Remember the present weights as the best ones; bring them back. */
FT_MUST_CHECK enum ft_status ft_run_best_take(struct ft_run *run, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_run_best_restore(struct ft_run *run, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_run_journal(struct ft_run *run, const struct ft_step_result *result,
                                            double learning_rate, struct ft_err *err);
/* After the artifact is written: our own work folder goes. */
FT_MUST_CHECK enum ft_status ft_run_keep_close(struct ft_run *run, struct ft_err *err);
#endif
