#include "executor/train/run.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"

/* ---- evaluation */

static enum ft_status metrics_json(const struct ft_metrics *metrics, struct ft_json **json,
                                   struct ft_err *err)
{
    struct ft_json *o = ft_json_object();
    double value;
    const char *name;
    *json = NULL;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for the metrics");
    }
    for (size_t i = 0; (name = ft_metrics_at(metrics, i, &value)) != NULL; i++) {
        enum ft_status st = ft_json_set(o, name, ft_json_of_real(value), err);
        if (st != FT_OK) {
            ft_json_free(o);
            return st;
        }
    }
    *json = o;
    return FT_OK;
}

struct measuring {
    const struct ft_run *run;
    double began, searching; /* clocks of when embedding and the search began */
};

/* Texts take as long as they have tokens. */
static void on_embedded(void *arg, const struct ft_encode_done *d)
{
    const struct measuring *m = arg;
    bool texts = d->tokens_all > 0;
    ft_run_stage(m->run, "Measuring", texts ? d->tokens : d->done, texts ? d->tokens_all : d->count,
                 m->began);
}

static void on_searched(void *arg, size_t done, size_t total)
{
    const struct measuring *m = arg;
    ft_run_stage(m->run, "Searching", done, total, m->searching);
}

enum ft_status ft_run_evaluate(struct ft_run *run, const struct ft_cancel *cancel, struct ft_json **metrics,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_dataset *data = run->eval.data;
    float *embeddings = NULL;
    int32_t *labels = NULL;
    struct ft_metrics found;
    struct measuring measuring = {.run = run, .began = ft_clock_seconds()};
    *metrics = NULL;
    if (data == NULL) {
        return FT_OK;
    }
    size_t n = ft_dataset_count(data);
    FT_TRY(ft_new(n * (size_t)run->dim, sizeof *embeddings, &embeddings, err));
    FT_TRY(ft_new(n, sizeof *labels, &labels, err));
    for (size_t i = 0; i < n; i++) {
        labels[i] = ft_dataset_class_of(data, i);
    }
    FT_TRY(ft_encoder_all(run->encoder, &run->eval.rows, embeddings, cancel, on_embedded, &measuring, err));
    measuring.searching = ft_clock_seconds();
    struct ft_search search = {.queries = embeddings,
                               .index = embeddings,
                               .n_queries = n,
                               .n_index = n,
                               .dim = run->dim,
                               .metric = run->distance,
                               .exclude_self = run->callbacks.exclude_self,
                               .progress = on_searched,
                               .progress_arg = &measuring};
    FT_TRY(ft_metrics_run(run->device, &search, labels, labels, (size_t)run->options.limit, &found, err));
    FT_TRY(metrics_json(&found, metrics, err));
done:
    ft_free(embeddings);
    ft_free(labels);
    return st;
}

/* The mean loss over the same batches of the validation split each time. */
static enum ft_status validate(struct ft_run *run, double *mean, struct ft_err *err)
{
    const struct ft_batch *batch = NULL;
    size_t batches = run->val.shape.batches_per_epoch;
    double sum = 0;
    ft_sampler_seek(run->val.sampler, 0);
    for (size_t i = 0; i < batches; i++) {
        double loss = 0;
        FT_RETURN_IF_FAILED(ft_run_val_batch(run, &batch, err));
        FT_RETURN_IF_FAILED(ft_step_loss_run(run->val_loss, batch, &loss, err));
        sum += loss;
    }
    *mean = sum / (double)batches;
    return isfinite(sum)
               ? FT_OK
               : FT_FAIL(err, DIVERGED, "step %" PRId64 ": the validation loss is not finite", run->done);
}

/* ---- the end of an epoch */

struct epoch {
    int64_t number;
    double train_loss, val_loss;
    struct ft_json *metrics; /* NULL: not measured */
};

static bool wants_metrics(const struct ft_run *run)
{
    const struct ft_monitor *monitors[] = {&run->callbacks.best_model, &run->callbacks.early_stopping};
    bool wants = run->callbacks.evaluate;
    for (size_t i = 0; i < 2; i++) {
        wants = wants || (monitors[i]->on && strcmp(monitors[i]->what, "train_loss") != 0 &&
                          strcmp(monitors[i]->what, "val_loss") != 0);
    }
    return wants;
}

static double watched(const struct epoch *e, const struct ft_monitor *m)
{
    if (strcmp(m->what, "train_loss") == 0) {
        return e->train_loss;
    }
    if (strcmp(m->what, "val_loss") == 0) {
        return e->val_loss;
    }
    return ft_json_real(ft_json_get(e->metrics, m->what));
}

static enum ft_status check_monitors(struct ft_run *run, const struct epoch *e, struct ft_err *err)
{
    struct ft_monitor *best = &run->callbacks.best_model;
    struct ft_monitor *early = &run->callbacks.early_stopping;
    if (best->on && ft_monitor_check(best, watched(e, best), e->number)) {
        ft_run_note(run, "epoch %" PRId64 ": best %s so far, %g", e->number, best->what, best->best);
        FT_RETURN_IF_FAILED(ft_run_best_take(run, err));
    }
    if (early->on) {
        (void)ft_monitor_check(early, watched(e, early), e->number);
        if (ft_monitor_stops(early)) {
            run->stopped = true;
            ft_run_note(run, "epoch %" PRId64 ": stopped early, %s did not improve for %" PRId64 " epochs",
                        e->number, early->what, early->patience);
        }
    }
    return FT_OK;
}

/* {"epoch", "train_loss", "val_loss", metrics...} into the history and to whoever listens. */
static enum ft_status report_epoch(struct ft_run *run, const struct epoch *e, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *all = e->metrics != NULL ? ft_json_copy(e->metrics) : ft_json_object();
    if (all == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for the epoch");
    }
    FT_TRY(ft_json_set(all, "train_loss", ft_json_of_real(e->train_loss), err));
    if (run->val_loss != NULL) {
        FT_TRY(ft_json_set(all, "val_loss", ft_json_of_real(e->val_loss), err));
    }
    if (run->job->events.metrics != NULL) {
        run->job->events.metrics(run->job->events.arg, "epoch", e->number, all);
    }
    FT_TRY(ft_json_set(all, "epoch", ft_json_of_int(e->number), err));
    st = ft_json_push(run->history, all, err);
    all = NULL;
done:
    ft_json_free(all);
    return st;
}

static enum ft_status end_epoch(struct ft_run *run, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int64_t in_epoch = (run->done - 1) % run->per_epoch + 1;
    struct epoch e = {.number = (run->done - 1) / run->per_epoch + 1};
    e.train_loss = run->epoch_loss / (double)in_epoch;
    if (run->val_loss != NULL) {
        FT_TRY(validate(run, &e.val_loss, err));
    }
    if (wants_metrics(run)) {
        /* Not cancelled half-way: a checkpoint stands before or after the end of an epoch, never inside. */
        FT_TRY(ft_run_evaluate(run, NULL, &e.metrics, err));
    }
    FT_TRY(report_epoch(run, &e, err));
    FT_TRY(check_monitors(run, &e, err));
    run->epoch_loss = 0;
    FT_TRY(ft_run_save(run, err));
done:
    ft_json_free(e.metrics);
    return st;
}

/* ---- steps */

static void report_step(struct ft_run *run, const struct ft_step_result *r, double learning_rate)
{
    struct ft_fit_progress p;
    memset(&p, 0, sizeof p);
    if (run->job->events.progress == NULL) {
        return;
    }
    double pace = run->train_seconds > 0 ? (double)run->steps_here / run->train_seconds : 0;
    p.epoch = (run->done - 1) / run->per_epoch + 1;
    p.epochs = run->epochs;
    p.step = run->done;
    p.steps = run->total;
    p.loss = r->loss;
    p.samples_per_second = pace * (double)run->train.shape.batch;
    p.eta_seconds = pace > 0 ? (double)(run->total - run->done) / pace : 0;
    p.learning_rate = learning_rate;
    p.grad_norm = r->grad_norm;
    p.candidates = r->stats[0];
    p.mined = r->stats[1];
    p.active_share = run->loss.kind != FT_LOSS_TRIPLET ? -1
                     : r->stats[1] > 0                 ? (double)r->stats[2] / (double)r->stats[1]
                                                       : 0;
    p.repeated = run->repeated;
    run->job->events.progress(run->job->events.arg, &p);
}

static double learning_rate_at(const struct ft_run *run, int64_t step)
{
    int64_t t = run->schedule.by_epoch ? (step - 1) / run->per_epoch : step - 1;
    return run->options.learning_rate * ft_schedule_factor(&run->schedule, t);
}

static enum ft_status one_step(struct ft_run *run, struct ft_err *err)
{
    const struct ft_batch *fed = NULL;
    struct ft_step_result result;
    int64_t step = run->done + 1;
    double learning_rate = learning_rate_at(run, step);
    double began = ft_clock_seconds();
    uint64_t calls = ft_alloc_stats().calls;
    FT_RETURN_IF_FAILED(ft_feed_next(run->feed, &fed, err));
    run->wait_seconds += ft_clock_seconds() - began;
    const struct ft_batch *batch = fed;
    FT_RETURN_IF_FAILED(ft_run_prefix_batch(run, &batch, err));
    FT_RETURN_IF_FAILED(ft_step_run(run->step, batch, step, learning_rate, &result, err));
    ft_feed_done(run->feed, fed);
    run->step_allocations += ft_alloc_stats().calls - calls;
    run->train_seconds += ft_clock_seconds() - began;
    run->done = step;
    run->steps_here++;
    run->epoch_loss += result.loss;
    run->last_loss = result.loss;
    FT_RETURN_IF_FAILED(ft_run_journal(run, &result, learning_rate, err));
    report_step(run, &result, learning_rate);
    return FT_OK;
}

enum ft_status ft_run_train(struct ft_run *run, struct ft_err *err)
{
    int64_t every = run->options.checkpoint_steps;
    if (run->done >= run->total || run->stopped) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_run_prefix_start(run, err));
    const struct ft_feed_size size = {run->train.shape.batch, (size_t)run->train.tokens};
    FT_RETURN_IF_FAILED(
        ft_feed_new(&run->train.rows, run->train.cache, run->train.sampler, &size, &run->feed, err));
    while (run->done < run->total && !run->stopped) {
        if (ft_cancelled(run->job->cancel)) {
            run->cancelled = true;
            return ft_run_save(run, err);
        }
        FT_RETURN_IF_FAILED(one_step(run, err));
        if (run->done % run->per_epoch == 0 || run->done == run->total) {
            FT_RETURN_IF_FAILED(end_epoch(run, err));
        } else if (every > 0 && run->done % every == 0) {
            FT_RETURN_IF_FAILED(ft_run_save(run, err));
        }
    }
    return FT_OK;
}
