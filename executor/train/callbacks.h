/*
 * callbacks.h - Finetuner's callbacks (finetuner/SPEC A.6): what is watched, when training stops, which model
 * is kept.
 *
 * EarlyStopping follows Finetuner v0.4.1: a monitored loss is the mean over the epoch's batches; an
 * improvement is a value beyond the best by more than min_delta; with a baseline the best is the baseline at
 * every check; it stops when the counter of checks without improvement equals patience. Thread-safety: plain
 * values.
 */
#ifndef FT_TRAIN_CALLBACKS_H
#define FT_TRAIN_CALLBACKS_H

#include "executor/codec/json.h"

enum { FT_MONITOR_NAME = 64 };

struct ft_monitor {
    bool on;
    char what[FT_MONITOR_NAME]; /* train_loss, val_loss or a metric's name */
    bool larger_is_better;
    double min_delta;
    bool has_baseline;
    double baseline;
    int64_t patience; /* 0: never stops */
    /* what a checkpoint keeps */
    bool has_best;
    double best;
    int64_t best_epoch, counter;
};
struct ft_callbacks {
    struct ft_monitor best_model, early_stopping;
    bool evaluate;                  /* EvaluationCallback: metrics after every epoch */
    int64_t eval_batch_size, limit; /* 0: the fit option's */
    char distance[FT_MONITOR_NAME];
    bool exclude_self;
};
/* NULL list = none. FT_INVALID: unknown callback or option (with the known ones); FT_UNSUPPORTED: a value
 * that is not built. */
FT_MUST_CHECK enum ft_status ft_callbacks_parse(const struct ft_json *list, struct ft_callbacks *callbacks,
                                                struct ft_err *err);
/* A value of epoch `epoch`: true if it is an improvement. */
bool ft_monitor_check(struct ft_monitor *monitor, double current, int64_t epoch);
bool ft_monitor_stops(const struct ft_monitor *monitor); /* after a check */
/* The part that a checkpoint keeps. */
FT_MUST_CHECK enum ft_status ft_monitor_write(const struct ft_monitor *monitor, struct ft_json **json,
                                              struct ft_err *err);
void ft_monitor_read(struct ft_monitor *monitor, const struct ft_json *json);
#endif
