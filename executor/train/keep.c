#include "executor/train/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/thread.h"

enum { WEIGHTS, STATES, FIRST, SECOND, BEST_WEIGHTS, BEST_STATES };
static const char *const blob_names[FT_RUN_BLOBS] = {"weights",     "states",       "optimizer-1",
                                                     "optimizer-2", "best-weights", "best-states"};
static const char journal_name[] = "steps.jsonl";

static struct ft_flat *flat_of(struct ft_run *run, size_t blob)
{
    struct ft_params *params = ft_step_params(run->step);
    struct ft_optim *optim = ft_step_optim(run->step);
    switch (blob) {
    case WEIGHTS:
    case BEST_WEIGHTS:
        return &params->group[FT_PARAMS_TRAINED];
    case STATES:
    case BEST_STATES:
        return &params->group[FT_PARAMS_STATES];
    case FIRST:
        return &optim->first;
    default:
        return &optim->second;
    }
}

/* ---- which job is this */

static void hash_graph(struct ft_sha256 *sha, const struct ft_graph *g)
{
    for (int i = 0; i < ft_graph_params(g); i++) {
        ft_value v = ft_graph_param_at(g, i);
        bool frozen = ft_graph_param_frozen(g, i);
        ft_sha256_add(sha, ft_bytes_of_text(ft_graph_name(g, v)));
        ft_sha256_add(sha, ft_bytes_of(&frozen, sizeof frozen));
        ft_sha256_add(sha, ft_bytes_of(ft_graph_data(g, v), ft_type_bytes(ft_graph_type(g, v))));
    }
    for (int i = 0; i < ft_graph_nodes(g); i++) {
        const struct ft_node *node = ft_graph_node(g, i);
        ft_sha256_add(sha, ft_bytes_of(&node->op, sizeof node->op));
        ft_sha256_add(sha, ft_bytes_of(&node->attrs, sizeof node->attrs));
        ft_sha256_add(sha, ft_bytes_of(node->in, (size_t)node->n_in * sizeof *node->in));
    }
}

/* Options that change nothing about what is computed. */
static bool is_aside(const char *key)
{
    static const char *const aside[] = {"resume",           "work_dir",         "threads", "name",
                                        "checkpoint_steps", "activation_cache", "memory"};
    for (size_t i = 0; i < sizeof aside / sizeof *aside; i++) {
        if (strcmp(aside[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static enum ft_status hash_options(struct ft_run *run, struct ft_sha256 *sha, struct ft_err *err)
{
    struct ft_json *options = NULL;
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_fit_options_write(&run->options, &options, err));
    for (struct ft_json_iter *it = ft_json_first(options); it != NULL; it = ft_json_next(options, it)) {
        if (!is_aside(ft_json_key(it))) {
            FT_TRY(ft_buf_text(&text, ft_json_key(it), err));
            FT_TRY(ft_json_write(ft_json_value(it), 0, &text, err));
        }
    }
    ft_sha256_add(sha, ft_buf_bytes(&text));
done:
    ft_buf_release(&text);
    ft_json_free(options);
    return st;
}

/* What becomes of a document: some of it comes from files beside the weights. */
static enum ft_status hash_prep(struct ft_run *run, struct ft_sha256 *sha, struct ft_err *err)
{
    struct ft_json *prep = NULL;
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_prep_write(&run->prep, &prep, err));
    FT_TRY(ft_json_write(prep, 0, &text, err));
    ft_sha256_add(sha, ft_buf_bytes(&text));
    ft_sha256_add(sha, ft_buf_bytes(&run->model->tokenizer));
done:
    ft_buf_release(&text);
    ft_json_free(prep);
    return st;
}

static enum ft_status hash_job(struct ft_run *run, struct ft_err *err)
{
    struct ft_sha256 *sha = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_dataset_digest(run->job->train, run->data_digest, err));
    if (run->job->eval != NULL) {
        FT_TRY(ft_dataset_digest(run->job->eval, run->eval_digest, err));
    }
    FT_TRY(ft_sha256_new(&sha, err));
    FT_TRY(hash_options(run, sha, err));
    FT_TRY(hash_prep(run, sha, err));
    ft_sha256_add(sha, ft_bytes_of_text(run->data_digest));
    ft_sha256_add(sha, ft_bytes_of_text(run->eval_digest));
    ft_sha256_add(sha, ft_bytes_of_text(ft_device_name(run->device)));
    hash_graph(sha, run->graph);
    ft_sha256_finish(sha, run->job_hash);
done:
    ft_sha256_free(sha);
    return st;
}

/* ---- journal of steps */

/* What the lives before this one told: *steps done in all of them, and the furthest step. */
static void count_steps(struct ft_bytes journal, int64_t *steps, int64_t *furthest)
{
    static const char head[] = "{\"step\":";
    const size_t n = sizeof head - 1;
    *steps = *furthest = 0;
    while (journal.size > n) { /* each line is whole, so its end stops strtoll() */
        const uint8_t *end = memchr(journal.data, '\n', journal.size);
        if (memcmp(journal.data, head, n) == 0 && journal.data[n] >= '0' && journal.data[n] <= '9') {
            long long step = strtoll((const char *)journal.data + n, NULL, 10);
            *furthest = step > *furthest ? step : *furthest;
            (*steps)++;
        }
        size_t size = (size_t)(end - journal.data) + 1;
        journal = ft_bytes_of(end + 1, journal.size - size);
    }
}

/* Of the journal of a job that goes on; a line cut by a crash is taken off. */
static enum ft_status read_journal(struct ft_run *run, int64_t *steps, struct ft_err *err)
{
    struct ft_mapping map = {0};
    char *path = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_path_join(run->work_dir, journal_name, &path, err));
    FT_TRY(ft_file_map(path, &map, err));
    size_t whole = map.bytes.size;
    while (whole > 0 && map.bytes.data[whole - 1] != '\n') {
        whole--;
    }
    count_steps(ft_bytes_of(map.bytes.data, whole), steps, &run->told);
    if (whole < map.bytes.size && ftruncate(run->journal, (off_t)whole) != 0) {
        st = FT_FAIL(err, IO, "%s: %s", path, strerror(errno));
    }
done:
    ft_file_unmap(&map);
    ft_free(path);
    return st;
}

static enum ft_status open_journal(struct ft_run *run, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(run->work_dir, journal_name, &path, err));
    int fresh = run->options.resume ? 0 : O_TRUNC;
    run->journal = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | fresh, 0644);
    enum ft_status st = FT_OK;
    if (run->journal < 0) {
        st = FT_FAIL(err, IO, "%s: %s", path, strerror(errno));
    }
    ft_free(path);
    return st;
}

enum ft_status ft_run_journal(struct ft_run *run, const struct ft_step_result *r, double learning_rate,
                              struct ft_err *err)
{
    char line[320];
    if (run->journal < 0) {
        return FT_OK;
    }
    int64_t epoch = (run->done - 1) / run->per_epoch + 1;
    int n = snprintf(line, sizeof line,
                     "{\"step\":%" PRId64 ",\"epoch\":%" PRId64
                     ",\"loss\":%.9g,\"grad_norm\":%.9g,\"learning_rate\":%.9g,\"candidates\":%" PRId64
                     ",\"mined\":%" PRId64 ",\"active\":%" PRId64 ",\"again\":%s}\n",
                     run->done, epoch, r->loss, r->grad_norm, learning_rate, r->stats[0], r->stats[1],
                     r->stats[2], run->done <= run->told ? "true" : "false");
    for (int at = 0; at < n;) {
        ssize_t wrote = write(run->journal, line + at, (size_t)(n - at));
        if (wrote < 0 && errno != EINTR) {
            return FT_FAIL(err, IO, "%s: %s", journal_name, strerror(errno));
        }
        at += wrote > 0 ? (int)wrote : 0;
    }
    return FT_OK;
}

/* ---- folder and memory */

static enum ft_status choose_dir(struct ft_run *run, struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    const char *given = run->options.work_dir;
    if (given != NULL) {
        return ft_new_text(given, &run->work_dir, err);
    }
    if (run->job->out == NULL) {
        return FT_OK;
    }
    run->work_dir_is_ours = true;
    FT_TRY(ft_buf_printf(&text, err, "%s.work", run->job->out));
    FT_TRY(ft_new_text((const char *)text.data, &run->work_dir, err));
done:
    ft_buf_release(&text);
    return st;
}

/* Nobody named the folder, so nobody may know that hours of work lie in it. */
static enum ft_status check_unfinished(const struct ft_run *run, struct ft_err *err)
{
    bool any = false;
    if (run->work_dir_is_ours) {
        FT_RETURN_IF_FAILED(ft_checkpoint_any(run->work_dir, &any, err));
    }
    return any ? FT_FAIL(err, EXISTS,
                         "%.600s holds a training that was stopped before its end: --resume goes on with it; "
                         "remove that folder to begin anew",
                         run->work_dir)
               : FT_OK;
}

enum ft_status ft_run_keep_open(struct ft_run *run, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(hash_job(run, err));
    FT_RETURN_IF_FAILED(choose_dir(run, err));
    bool best = run->callbacks.best_model.on;
    run->n_blobs = best ? FT_RUN_BLOBS : BEST_WEIGHTS;
    for (size_t i = 0; i < run->n_blobs; i++) {
        run->blobs[i].name = blob_names[i];
        run->blobs[i].bytes = ft_flat_bytes(flat_of(run, i));
        if (run->work_dir != NULL || i >= BEST_WEIGHTS) {
            FT_RETURN_IF_FAILED(ft_new(run->blobs[i].bytes, 1, &run->blobs[i].data, err));
        }
    }
    if (run->work_dir == NULL) {
        if (run->options.resume) {
            return FT_FAIL(err, INVALID, "resume needs a work folder or an output beside which it lies");
        }
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_dir_make(run->work_dir, err));
    FT_RETURN_IF_FAILED(run->options.resume ? FT_OK : check_unfinished(run, err));
    FT_RETURN_IF_FAILED(open_journal(run, err));
    return run->options.resume ? ft_run_resume(run, err) : ft_checkpoint_clear(run->work_dir, err);
}

enum ft_status ft_run_keep_close(struct ft_run *run, struct ft_err *err)
{
    if (run->journal >= 0) {
        (void)close(run->journal);
        run->journal = -1;
    }
    return run->work_dir_is_ours && !run->cancelled ? ft_path_remove(run->work_dir, err) : FT_OK;
}

/* ---- checkpoints */

static struct ft_json *copy_or_null(const struct ft_json *json)
{
    return json != NULL ? ft_json_copy(json) : ft_json_null();
}

static int64_t threads_of(const struct ft_run *run)
{
    return run->options.threads > 0 ? run->options.threads : (int64_t)ft_thread_cpus();
}

static enum ft_status write_state(const struct ft_run *run, struct ft_json **state, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *o = ft_json_object();
    struct ft_json *monitor = NULL;
    *state = NULL;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a checkpoint");
    }
    FT_TRY(ft_json_set(o, "step", ft_json_of_int(run->done), err));
    FT_TRY(ft_json_set(o, "threads", ft_json_of_int(threads_of(run)), err));
    FT_TRY(ft_json_set(o, "stopped", ft_json_of_bool(run->stopped), err));
    FT_TRY(ft_json_set(o, "epoch_loss", ft_json_of_real(run->epoch_loss), err));
    FT_TRY(ft_json_set(o, "last_loss", ft_json_of_real(run->last_loss), err));
    FT_TRY(ft_monitor_write(&run->callbacks.best_model, &monitor, err));
    FT_TRY(ft_json_set(o, "best_model", monitor, err));
    FT_TRY(ft_monitor_write(&run->callbacks.early_stopping, &monitor, err));
    FT_TRY(ft_json_set(o, "early_stopping", monitor, err));
    FT_TRY(ft_json_set(o, "before", copy_or_null(run->before), err));
    FT_TRY(ft_json_set(o, "history", copy_or_null(run->history), err));
    *state = o;
    o = NULL;
done:
    ft_json_free(o);
    return st;
}

enum ft_status ft_run_save(struct ft_run *run, struct ft_err *err)
{
    struct ft_checkpoint c;
    struct ft_json *state = NULL;
    enum ft_status st = FT_OK;
    if (run->work_dir == NULL) {
        return FT_OK;
    }
    FT_TRY(write_state(run, &state, err));
    for (size_t i = 0; i < BEST_WEIGHTS; i++) {
        FT_TRY(ft_flat_save(flat_of(run, i), run->blobs[i].data, err));
    }
    memset(&c, 0, sizeof c);
    memcpy(c.job, run->job_hash, sizeof c.job);
    c.step = run->done;
    c.state = state;
    c.blobs = run->blobs;
    c.n_blobs = run->n_blobs;
    FT_TRY(ft_checkpoint_save(run->work_dir, &c, err));
done:
    ft_json_free(state);
    return st;
}

static enum ft_status take_json(const struct ft_json *state, const char *key, struct ft_json **to,
                                struct ft_err *err)
{
    const struct ft_json *from = ft_json_get(state, key);
    if (ft_json_kind(from) == FT_JSON_NULL) {
        return FT_OK;
    }
    struct ft_json *copy = ft_json_copy(from);
    if (copy == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a checkpoint's %s", key);
    }
    ft_json_free(*to);
    *to = copy;
    return FT_OK;
}

static enum ft_status read_state(struct ft_run *run, const struct ft_json *state, struct ft_err *err)
{
    run->done = ft_json_int(ft_json_get(state, "step"));
    run->stopped = ft_json_bool(ft_json_get(state, "stopped"));
    run->epoch_loss = ft_json_real(ft_json_get(state, "epoch_loss"));
    run->last_loss = ft_json_real(ft_json_get(state, "last_loss"));
    ft_monitor_read(&run->callbacks.best_model, ft_json_get(state, "best_model"));
    ft_monitor_read(&run->callbacks.early_stopping, ft_json_get(state, "early_stopping"));
    FT_RETURN_IF_FAILED(take_json(state, "before", &run->before, err));
    return take_json(state, "history", &run->history, err);
}

/* Libraries cut their sums by the number of threads. */
static void tell_threads(const struct ft_run *run, const struct ft_json *state)
{
    int64_t begun = ft_json_int(ft_json_get(state, "threads"));
    if (begun != threads_of(run)) {
        ft_run_note(run,
                    "resumed with %" PRId64 " threads, begun with %" PRId64
                    ": the result may differ in its last bits from that of a run never stopped",
                    threads_of(run), begun);
    }
}

enum ft_status ft_run_resume(struct ft_run *run, struct ft_err *err)
{
    struct ft_json *state = NULL;
    int64_t steps = 0;
    enum ft_status st = FT_OK;
    FT_TRY(ft_checkpoint_load(run->work_dir, run->job_hash, run->blobs, run->n_blobs, &state, err));
    FT_TRY(read_journal(run, &steps, err));
    if (state == NULL) {
        run->repeated = steps;
        ft_run_note(run, "no checkpoint in %s: starting from the first step", ft_path_base(run->work_dir));
        goto done;
    }
    FT_TRY(read_state(run, state, err));
    for (size_t i = 0; i < BEST_WEIGHTS; i++) {
        FT_TRY(ft_flat_load(flat_of(run, i), run->blobs[i].data, err));
    }
    ft_step_params(run->step)->version++;
    ft_sampler_seek(run->train.sampler, (uint64_t)run->done);
    run->resumed_from = run->done;
    run->repeated = steps > run->done ? steps - run->done : 0;
    ft_run_note(run, "resumed after step %" PRId64 "; %" PRId64 " steps are done again", run->done,
                run->told > run->done ? run->told - run->done : 0);
    tell_threads(run, state);
done:
    ft_json_free(state);
    return st;
}

/* ---- the best model so far */

enum ft_status ft_run_best_take(struct ft_run *run, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_flat_save(flat_of(run, BEST_WEIGHTS), run->blobs[BEST_WEIGHTS].data, err));
    return ft_flat_save(flat_of(run, BEST_STATES), run->blobs[BEST_STATES].data, err);
}

enum ft_status ft_run_best_restore(struct ft_run *run, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_flat_load(flat_of(run, BEST_WEIGHTS), run->blobs[BEST_WEIGHTS].data, err));
    FT_RETURN_IF_FAILED(ft_flat_load(flat_of(run, BEST_STATES), run->blobs[BEST_STATES].data, err));
    ft_step_params(run->step)->version++;
    return FT_OK;
}
