#include "executor/train/fit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/model/artifact.h"
#include "executor/train/run.h"

void ft_run_note(const struct ft_run *run, const char *fmt, ...)
{
    char line[512];
    va_list args;
    if (run->job->events.note == NULL) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    run->job->events.note(run->job->events.arg, line);
}

void ft_run_stage(const struct ft_run *run, const char *title, size_t done, size_t total, double began)
{
    if (run->job->events.stage == NULL) {
        return;
    }
    double spent = ft_clock_seconds() - began;
    double left = done > 0 ? spent * (double)(total - done) / (double)done : 0;
    run->job->events.stage(run->job->events.arg, title, (int64_t)done, (int64_t)total, left);
}

static void tell_metrics(const struct ft_run *run, const char *when, const struct ft_json *metrics)
{
    if (metrics != NULL && run->job->events.metrics != NULL) {
        int64_t epoch = run->per_epoch > 0 ? (run->done + run->per_epoch - 1) / run->per_epoch : 0;
        run->job->events.metrics(run->job->events.arg, when, epoch, metrics);
    }
}

/* ---- what is written */

static struct ft_json *copy_or_object(const struct ft_json *json)
{
    return json != NULL ? ft_json_copy(json) : ft_json_object();
}

static enum ft_status both_metrics(const struct ft_run *run, struct ft_json **json, struct ft_err *err)
{
    struct ft_json *o = ft_json_object();
    enum ft_status st = FT_OK;
    *json = NULL;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for the metrics");
    }
    FT_TRY(ft_json_set(o, "before", copy_or_object(run->before), err));
    FT_TRY(ft_json_set(o, "after", copy_or_object(run->after), err));
    *json = o;
    o = NULL;
done:
    ft_json_free(o);
    return st;
}

/* Options as used, without what belongs to this machine or does not change the result. */
static enum ft_status config_json(const struct ft_run *run, struct ft_json **json, struct ft_err *err)
{
    struct ft_json *all = NULL;
    struct ft_json *o = ft_json_object();
    enum ft_status st = FT_OK;
    *json = NULL;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for the options");
    }
    FT_TRY(ft_fit_options_write(&run->options, &all, err));
    for (struct ft_json_iter *it = ft_json_first(all); it != NULL; it = ft_json_next(all, it)) {
        const char *key = ft_json_key(it);
        if (strcmp(key, "work_dir") != 0 && strcmp(key, "resume") != 0 && strcmp(key, "threads") != 0 &&
            strcmp(key, "activation_cache") != 0 && strcmp(key, "memory") != 0) {
            FT_TRY(ft_json_set(o, key, ft_json_copy(ft_json_value(it)), err));
        }
    }
    *json = o;
    o = NULL;
done:
    ft_json_free(all);
    ft_json_free(o);
    return st;
}

static enum ft_status card_json(const struct ft_run *run, struct ft_json **json, struct ft_err *err)
{
    const struct ft_dataset *train = run->job->train;
    struct ft_json *o = ft_json_object();
    enum ft_status st = FT_OK;
    *json = NULL;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for the model card");
    }
    FT_TRY(ft_json_set(o, "base_model", ft_json_of_text(run->model->name), err));
    FT_TRY(ft_json_set(o, "base_model_producer", ft_json_of_text(run->model->producer), err));
    FT_TRY(ft_json_set(o, "dataset_sha256", ft_json_of_text(run->data_digest), err));
    FT_TRY(ft_json_set(o, "documents", ft_json_of_int((int64_t)ft_dataset_count(train)), err));
    FT_TRY(ft_json_set(o, "classes", ft_json_of_int((int64_t)ft_dataset_classes(train)), err));
    if (run->job->eval != NULL) {
        FT_TRY(ft_json_set(o, "eval_dataset_sha256", ft_json_of_text(run->eval_digest), err));
        FT_TRY(
            ft_json_set(o, "eval_documents", ft_json_of_int((int64_t)ft_dataset_count(run->job->eval)), err));
    }
    FT_TRY(ft_json_set(o, "dim", ft_json_of_int(run->dim), err));
    FT_TRY(ft_json_set(o, "parameters", ft_json_of_int(run->params_total), err));
    FT_TRY(ft_json_set(o, "parameters_trained", ft_json_of_int(run->params_trained), err));
    FT_TRY(ft_json_set(o, "steps", ft_json_of_int(run->done), err));
    FT_TRY(ft_json_set(o, "seed", ft_json_of_int(run->options.seed), err));
    FT_TRY(ft_json_set(o, "finetuner", ft_json_of_text(FT_VERSION), err));
    FT_TRY(
        ft_json_set(o, "command", ft_json_of_text(run->job->command != NULL ? run->job->command : ""), err));
    *json = o;
    o = NULL;
done:
    ft_json_free(o);
    return st;
}

static enum ft_status write_artifact(struct ft_run *run, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *prep = NULL;
    struct ft_json *config = NULL;
    struct ft_json *metrics = NULL;
    struct ft_json *card = NULL;
    char left_out[FT_ERR_TEXT];
    FT_TRY(ft_params_store(ft_step_params(run->step), run->graph, err));
    FT_TRY(ft_prep_write(&run->prep, &prep, err));
    FT_TRY(config_json(run, &config, err));
    FT_TRY(both_metrics(run, &metrics, err));
    FT_TRY(card_json(run, &card, err));
    struct ft_artifact artifact = {.run_name = run->options.name,
                                   .model_name = run->model->name,
                                   .graph = run->graph,
                                   .prep = prep,
                                   .tokenizer = ft_buf_bytes(&run->model->tokenizer),
                                   .hf = run->model->hf,
                                   .config = config,
                                   .metrics = metrics,
                                   .card = card};
    FT_TRY(ft_artifact_write(&artifact, run->job->out, left_out, err));
    if (left_out[0] != '\0') {
        ft_run_note(run, "%s", left_out);
    }
done:
    ft_json_free(prep);
    ft_json_free(config);
    ft_json_free(metrics);
    ft_json_free(card);
    return st;
}

/* ---- the summary */

static enum ft_status set_figures(const struct ft_run *run, struct ft_json *o, struct ft_err *err)
{
    double samples = (double)run->steps_here * (double)run->train.shape.batch;
    double pace = run->train_seconds > 0 ? samples / run->train_seconds : 0;
    FT_RETURN_IF_FAILED(ft_json_set(o, "samples_per_second", ft_json_of_real(pace), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "seconds", ft_json_of_real(ft_clock_seconds() - run->started), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "train_seconds", ft_json_of_real(run->train_seconds), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "data_wait_seconds", ft_json_of_real(run->wait_seconds), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "peak_memory_bytes", ft_json_of_int(ft_peak_memory()), err));
    FT_RETURN_IF_FAILED(
        ft_json_set(o, "allocations_in_steps", ft_json_of_int((int64_t)run->step_allocations), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "resumed_from", ft_json_of_int(run->resumed_from), err));
    return ft_json_set(o, "repeated_steps", ft_json_of_int(run->repeated), err);
}

static enum ft_status summarise(const struct ft_run *run, struct ft_json **summary, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *metrics = NULL;
    struct ft_json *prefix = NULL;
    struct ft_json *o = ft_json_object();
    const struct ft_monitor *best = &run->callbacks.best_model;
    bool written = run->job->out != NULL && !run->cancelled;
    int64_t epochs = run->per_epoch > 0 ? (run->done + run->per_epoch - 1) / run->per_epoch : 0;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for the summary");
    }
    FT_TRY(both_metrics(run, &metrics, err));
    FT_TRY(ft_json_set(o, "run", ft_json_of_text(run->options.name != NULL ? run->options.name : ""), err));
    FT_TRY(ft_json_set(o, "status", ft_json_of_text(run->cancelled ? "cancelled" : "finished"), err));
    st = ft_json_set(o, "metrics", metrics, err);
    metrics = NULL;
    FT_TRY(st);
    FT_TRY(ft_json_set(o, "epochs", ft_json_of_int(epochs), err));
    FT_TRY(ft_json_set(o, "steps", ft_json_of_int(run->done), err));
    FT_TRY(ft_json_set(o, "steps_planned", ft_json_of_int(run->total), err));
    FT_TRY(ft_json_set(o, "batch", ft_json_of_int((int64_t)run->train.shape.batch), err));
    FT_TRY(ft_json_set(o, "loss", ft_json_of_real(run->last_loss), err));
    FT_TRY(ft_json_set(o, "stopped_early", ft_json_of_bool(run->stopped), err));
    FT_TRY(ft_json_set(o, "best_epoch", best->has_best ? ft_json_of_int(best->best_epoch) : ft_json_null(),
                       err));
    FT_TRY(
        ft_json_set(o, "history", run->history != NULL ? ft_json_copy(run->history) : ft_json_array(), err));
    FT_TRY(ft_json_set(o, "dim", ft_json_of_int(run->dim), err));
    FT_TRY(set_figures(run, o, err));
    FT_TRY(ft_run_prefix_json(run, &prefix, err));
    st = ft_json_set(o, "frozen_prefix", prefix, err);
    prefix = NULL;
    FT_TRY(st);
    FT_TRY(ft_json_set(o, "out", written ? ft_json_of_text(run->job->out) : ft_json_null(), err));
    *summary = o;
    o = NULL;
done:
    ft_json_free(metrics);
    ft_json_free(o);
    return st;
}

/* ---- the job */

/* Everything but the summary. FT_CANCELLED from inside becomes run->cancelled. */
static enum ft_status work(struct ft_run *run, const struct ft_fit_job *job, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_run_setup(run, job, err));
    if (run->before == NULL) {
        FT_RETURN_IF_FAILED(ft_run_evaluate(run, job->cancel, &run->before, err));
    }
    tell_metrics(run, "before", run->before);
    FT_RETURN_IF_FAILED(ft_run_train(run, err));
    if (run->cancelled) {
        return ft_run_keep_close(run, err);
    }
    if (run->callbacks.best_model.has_best) {
        ft_run_note(run, "the model of epoch %" PRId64 " is kept", run->callbacks.best_model.best_epoch);
        FT_RETURN_IF_FAILED(ft_run_best_restore(run, err));
    }
    if (run->options.mix < 1) { /* the graph holds the given weights until the artifact is written */
        ft_run_note(run, "weights are %.3g of the way from the given model to the tuned one",
                    run->options.mix);
        FT_RETURN_IF_FAILED(ft_params_mix(ft_step_params(run->step), run->graph, run->options.mix, err));
    }
    FT_RETURN_IF_FAILED(ft_run_evaluate(run, job->cancel, &run->after, err));
    tell_metrics(run, "after", run->after);
    if (job->out != NULL) {
        FT_RETURN_IF_FAILED(write_artifact(run, err));
    }
    return ft_run_keep_close(run, err);
}

enum ft_status ft_fit(const struct ft_fit_job *job, struct ft_fit_result *result, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_run *run = NULL;
    memset(result, 0, sizeof *result);
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *run, &run, err));
    run->journal = -1;
    run->started = ft_clock_seconds();
    st = work(run, job, err);
    if (st == FT_CANCELLED && ft_cancelled(job->cancel)) {
        run->cancelled = true;
        ft_err_clear(err);
        st = FT_OK;
    }
    if (st == FT_OK) {
        st = summarise(run, &result->summary, err);
        result->cancelled = run->cancelled;
    }
    ft_run_release(run);
    ft_free(run);
    return st;
}
