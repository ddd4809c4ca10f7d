#include "executor/runs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/base/log.h"
#include "executor/runs/internal.h"
#include "executor/store/snapshot.h"
#include "executor/train/checkpoint.h"
#include "executor/train/fit.h"

enum { LOCK_SECONDS = 60 };

/* Steps and stages between two of these times are not written: a journal of a long run stays readable. */
static const double PROGRESS_SECONDS = 0.2;

struct worker {
    const char *data_dir, *run;
    int lock_fd, events_fd;
    double last_progress;
    struct ft_json *spec;
};

/* One line of events.jsonl in one write(); the journal is for people and must not stop a run. */
static void put_event(struct worker *w, struct ft_json *take_event)
{
    struct ft_err err = {0};
    struct ft_buf line = {0};
    if (take_event != NULL &&
        ft_json_set(take_event, "t", ft_json_of_int(ft_clock_unix_ms()), &err) == FT_OK &&
        ft_json_write(take_event, 0, &line, &err) == FT_OK && ft_buf_text(&line, "\n", &err) == FT_OK) {
        if (write(w->events_fd, line.data, line.size) != (ssize_t)line.size) {
            FT_LOG_WARNING_LINE("runs", "an event could not be written run=%s", w->run);
        }
    }
    ft_json_free(take_event);
    ft_buf_release(&line);
}

/* {"event": kind}: is_kind() in events.c relies on this member being first. */
static struct ft_json *new_event(const char *kind)
{
    struct ft_err err = {0};
    struct ft_json *event = ft_json_object();
    if (event != NULL && ft_json_set(event, "event", ft_json_of_text(kind), &err) != FT_OK) {
        ft_json_free(event);
        event = NULL;
    }
    return event;
}

/* Values that cannot be written (NaN) are left out. */
static void set_real(struct ft_json *event, const char *key, double value)
{
    struct ft_err err = {0};
    struct ft_json *real = ft_json_of_real(value);
    if (event != NULL && real != NULL) {
        (void)!ft_json_set(event, key, real, &err);
    }
}

static void set_int(struct ft_json *event, const char *key, int64_t value)
{
    struct ft_err err = {0};
    if (event != NULL) {
        (void)!ft_json_set(event, key, ft_json_of_int(value), &err);
    }
}

static void on_progress(void *arg, const struct ft_fit_progress *p)
{
    struct worker *w = arg;
    double now = ft_clock_seconds();
    if (p->step < p->steps && now - w->last_progress < PROGRESS_SECONDS) {
        return;
    }
    w->last_progress = now;
    struct ft_json *event = new_event("progress");
    set_int(event, "epoch", p->epoch);
    set_int(event, "epochs", p->epochs);
    set_int(event, "step", p->step);
    set_int(event, "steps", p->steps);
    set_real(event, "loss", p->loss);
    set_real(event, "samples_per_second", p->samples_per_second);
    set_real(event, "eta_seconds", p->eta_seconds);
    set_real(event, "learning_rate", p->learning_rate);
    set_real(event, "grad_norm", p->grad_norm);
    set_real(event, "active_share", p->active_share);
    set_int(event, "repeated", p->repeated);
    put_event(w, event);
}

static void on_stage(void *arg, const char *title, int64_t done, int64_t total, double eta_seconds)
{
    struct ft_err err = {0};
    struct worker *w = arg;
    double now = ft_clock_seconds();
    if (done < total && now - w->last_progress < PROGRESS_SECONDS) {
        return;
    }
    w->last_progress = now;
    struct ft_json *event = new_event("stage");
    if (event != NULL) {
        (void)!ft_json_set(event, "title", ft_json_of_text(title), &err);
    }
    set_int(event, "done", done);
    set_int(event, "total", total);
    set_real(event, "eta_seconds", eta_seconds);
    put_event(w, event);
}

static void on_note(void *arg, const char *line)
{
    struct ft_err err = {0};
    struct ft_json *event = new_event("note");
    if (event != NULL) {
        (void)!ft_json_set(event, "text", ft_json_of_text(line), &err);
    }
    put_event(arg, event);
}

static void on_metrics(void *arg, const char *when, int64_t epoch, const struct ft_json *metrics)
{
    struct ft_err err = {0};
    struct ft_json *event = new_event("metrics");
    if (event != NULL) {
        (void)!ft_json_set(event, "when", ft_json_of_text(when), &err);
        set_int(event, "epoch", epoch);
        (void)!ft_json_set(event, "metrics", ft_json_copy(metrics), &err);
    }
    put_event(arg, event);
}

/* An older worker of this run may still be writing its checkpoint: wait for it. */
static enum ft_status lock_run(struct worker *w, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_run_path(w->data_dir, w->run, "lock", &path, err));
    w->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    enum ft_status st = w->lock_fd < 0 ? FT_FAIL(err, IO, "%s: %s", path, strerrorname_np(errno)) : FT_OK;
    double until = ft_clock_seconds() + LOCK_SECONDS;
    while (st == FT_OK && flock(w->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (ft_clock_seconds() > until) {
            st = FT_FAIL(err, BUSY, "another worker holds run '%s'", w->run);
        }
        const struct timespec nap = {0, 100000000};
        (void)nanosleep(&nap, NULL);
    }
    ft_free(path);
    return st;
}

static enum ft_status open_run(struct worker *w, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    struct ft_buf text = {0};
    FT_TRY(ft_run_path(w->data_dir, w->run, "spec.json", &path, err));
    FT_TRY(ft_file_read(path, FT_MAX_CONFIG_BYTES, &text, err));
    FT_TRY(ft_json_parse(ft_buf_bytes(&text), &w->spec, err));
    FT_TRY(lock_run(w, err));
    ft_free(path);
    path = NULL;
    /* What the worker before this one may have left while we waited for it is not ours. */
    FT_TRY(ft_run_path(w->data_dir, w->run, "result.json", &path, err));
    FT_TRY(ft_path_remove(path, err));
    ft_free(path);
    path = NULL;
    FT_TRY(ft_run_path(w->data_dir, w->run, "events.jsonl", &path, err));
    w->events_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (w->events_fd < 0) {
        st = FT_FAIL(err, IO, "%s: %s", path, strerrorname_np(errno));
    }
done:
    ft_free(path);
    ft_buf_release(&text);
    return st;
}

static const char *spec_text(const struct worker *w, const char *key)
{
    return ft_json_text(ft_json_get(w->spec, key), NULL);
}

/* What the run was given, then what only the service knows. */
static enum ft_status read_options(const struct worker *w, struct ft_fit_options *options, struct ft_err *err)
{
    const struct ft_json *given = ft_json_get(w->spec, "options");
    FT_RETURN_IF_FAILED(ft_fit_options_read(options, given, err));
    const char *device = spec_text(w, "device");
    if (device != NULL && ft_json_get(given, "device") == NULL) {
        FT_RETURN_IF_FAILED(ft_fit_options_set(options, "device", device, err));
    }
    if (ft_json_get(given, "threads") == NULL) {
        options->threads = ft_json_int(ft_json_get(w->spec, "threads"));
    }
    if (options->name == NULL || options->name[0] == '\0') {
        const char *name = spec_text(w, "name");
        FT_RETURN_IF_FAILED(ft_fit_options_set(options, "name", name != NULL ? name : w->run, err));
    }
    ft_free(options->work_dir);
    options->work_dir = NULL;
    FT_RETURN_IF_FAILED(ft_run_path(w->data_dir, w->run, "work", &options->work_dir, err));
    options->resume =
        ft_path_kind(options->work_dir) == FT_PATH_DIR; /* a worker before this one was cut off */
    return FT_OK;
}

static enum ft_status artifact_path(const struct worker *w, char **path, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf tail = {0};
    char *dir = NULL;
    *path = NULL;
    FT_TRY(ft_buf_printf(&tail, err, "artifacts/%s", w->run));
    FT_TRY(ft_path_join(w->data_dir, (const char *)tail.data, &dir, err));
    FT_TRY(ft_dir_make(dir, err));
    FT_TRY(ft_path_join(dir, "model.zip", path, err));
done:
    ft_buf_release(&tail);
    ft_free(dir);
    return st;
}

/* Dataset `key` of the spec; *dataset stays NULL when the spec names none. A run reads one state of it while
 * pushes go on, also after it was cut off: that of its first start, kept in runs/ID/<key> until the run has
 * ended. */
static enum ft_status open_dataset(const struct worker *w, const char *key, struct ft_dataset **dataset,
                                   struct ft_err *err)
{
    const char *from = spec_text(w, key);
    char *dir = NULL;
    *dataset = NULL;
    if (from == NULL) {
        return FT_OK;
    }
    enum ft_status st = ft_run_path(w->data_dir, w->run, key, &dir, err);
    if (st == FT_OK) {
        st = ft_snapshot_make(from, dir, err);
    }
    if (st == FT_OK) {
        st = ft_dataset_open_set(dir, dataset, err);
    }
    ft_free(dir);
    return st;
}

static enum ft_status fit(struct worker *w, const struct ft_cancel *cancel, struct ft_fit_result *result,
                          struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *train = NULL;
    struct ft_dataset *eval = NULL;
    struct ft_fit_options options = {0};
    char *out = NULL;
    FT_TRY(ft_fit_options_init(&options, err));
    FT_TRY(read_options(w, &options, err));
    FT_TRY(open_dataset(w, "dataset", &train, err));
    FT_TRY(open_dataset(w, "eval_dataset", &eval, err));
    FT_TRY(artifact_path(w, &out, err));
    struct ft_fit_job job = {
        .model_path = spec_text(w, "model"),
        .train = train,
        .eval = eval,
        .options = &options,
        .out = out,
        .command = "/fit",
        .cancel = cancel,
        .events =
            {.arg = w, .progress = on_progress, .note = on_note, .metrics = on_metrics, .stage = on_stage},
    };
    if (job.model_path == NULL || train == NULL) {
        st = FT_FAIL(err, CORRUPT, "spec.json of run '%s' names no model or no dataset", w->run);
        goto done;
    }
    FT_TRY(ft_fit(&job, result, err));
done:
    ft_fit_options_release(&options);
    ft_dataset_free(train);
    ft_dataset_free(eval);
    ft_free(out);
    return st;
}

/* result.json, written whole: its presence says that the worker came to an end of its own. */
static enum ft_status write_result(const struct worker *w, enum ft_status how, const struct ft_err *why,
                                   const struct ft_fit_result *result, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    struct ft_buf text = {0};
    struct ft_json *json = ft_json_object();
    const char *status = how != FT_OK ? "FAILED" : result->cancelled ? "CANCELLED" : "FINISHED";
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory writing the result");
    }
    FT_TRY(ft_json_set(json, "status", ft_json_of_text(status), err));
    if (how != FT_OK) {
        FT_TRY(ft_json_set(json, "code", ft_json_of_text(ft_status_text(how)), err));
        FT_TRY(ft_json_set(json, "reason", ft_json_of_text(why->text), err));
    }
    if (result->summary != NULL) {
        FT_TRY(ft_json_set(json, "summary", ft_json_copy(result->summary), err));
    }
    FT_TRY(ft_json_write(json, 1, &text, err));
    FT_TRY(ft_run_path(w->data_dir, w->run, "result.json", &path, err));
    FT_TRY(ft_file_write(path, ft_buf_bytes(&text), err));
done:
    ft_json_free(json);
    ft_buf_release(&text);
    ft_free(path);
    return st;
}

/* Where there is a service to hear it, which reads once this process has ended: a pipe has room for it. */
static void say(const char *data_dir, struct ft_err *why)
{
    const char *number = getenv(FT_WORKER_SAYS);
    int fd = number != NULL ? (int)strtol(number, NULL, 10) : -1;
    ft_path_hide(why->text, data_dir);
    if (fd >= 0 && write(fd, why->text, strlen(why->text)) < 0) {
        FT_LOG_WARNING_LINE("runs", "the service does not hear fd=%d reason=\"%s\"", fd, why->text);
    }
}

/* Several times the model's size, of no use once the artifact and the result are written. The journal of
 * steps stays. */
static void drop_checkpoints(const struct worker *w)
{
    struct ft_err err = {0};
    char *dir = NULL;
    if (ft_run_path(w->data_dir, w->run, "work", &dir, &err) != FT_OK ||
        ft_checkpoint_clear(dir, &err) != FT_OK) {
        FT_LOG_WARNING_LINE("runs", "checkpoints are left run=%s reason=\"%s\"", w->run, err.text);
    }
    ft_free(dir);
}

enum ft_status ft_worker_main(const char *data_dir, const char *run, const struct ft_cancel *cancel,
                              struct ft_err *err)
{
    struct worker w = {.data_dir = data_dir, .run = run, .lock_fd = -1, .events_fd = -1};
    struct ft_fit_result result = {0};
    struct ft_err second = {0};
    if (!ft_run_id_valid(run)) {
        return FT_FAIL(err, USAGE, "'%.64s' is not the id of a run", run);
    }
    /* The service is gone: checkpoint and end, its next start goes on from there. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    enum ft_status st = open_run(&w, err);
    if (st == FT_OK) {
        int64_t back = ft_json_int(ft_json_get(w.spec, "nice"));
        if (back > 0 && setpriority(PRIO_PROCESS, 0, (int)back) != 0) {
            FT_LOG_WARNING_LINE("runs", "cannot lower the priority run=%s", run);
        }
        st = fit(&w, cancel, &result, err);
        if (st == FT_CANCELLED) { /* before the first step: nothing to keep, nothing failed */
            result.cancelled = true;
            st = FT_OK;
        }
        ft_path_hide(err->text, data_dir); /* whoever asks about the run reads it */
        if (write_result(&w, st, err, &result, &second) != FT_OK) {
            FT_LOG_ERROR_LINE("runs", "cannot write the result run=%s reason=\"%s\"", run, second.text);
            *err = st != FT_OK ? *err : second;
            st = err->code;
            say(data_dir, err);
        } else if (st == FT_OK && !result.cancelled) {
            drop_checkpoints(&w);
        }
    } else {
        say(data_dir, err);
    }
    ft_json_free(result.summary);
    ft_json_free(w.spec);
    if (w.events_fd >= 0) {
        (void)close(w.events_fd);
    }
    if (w.lock_fd >= 0) {
        (void)close(w.lock_fd);
    }
    return st;
}
