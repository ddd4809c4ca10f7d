/* The frozen prefix of a job: is there one, is it kept, what batches are made of. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/train/budget.h"
#include "executor/train/run.h"

/* ---- before the data are prepared */

static double megabytes(size_t bytes)
{
    return (double)bytes / 1e6;
}

/* Keeping all documents' activations costs one pass over all of them; a job that ends before it has seen each
 * of them once is better off without. Not of `done`: a resumed job decides as it did before. */
static bool is_worth_it(const struct ft_run *run)
{
    return run->total * (int64_t)run->train.shape.batch >= (int64_t)ft_dataset_count(run->train.data);
}

/* What a padded batch makes of a text differs with its padding, in the last bits. */
static bool is_padded(const struct ft_run *run)
{
    bool any = false;
    for (int p = 0; p < ft_graph_params(run->graph); p++) {
        any = any || ft_graph_param_frozen(run->graph, p);
    }
    if (run->padded[0] != '\0' && any && strcmp(run->options.activation_cache, "off") != 0) {
        ft_run_note(run, "frozen layers run in every step: activations of padded texts are not kept");
    }
    return run->padded[0] != '\0';
}

enum ft_status ft_run_prefix_find(struct ft_run *run, struct ft_err *err)
{
    if (is_padded(run)) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_frontier_find(run->form, &run->frontier, err));
    if (run->frontier.n > 0 && run->augment.on) {
        ft_run_note(run,
                    "frozen layers run in every step: with augmentation a document is another picture each "
                    "time");
        ft_frontier_release(&run->frontier);
    }
    if (run->frontier.n > FT_BATCH_INPUTS) {
        ft_run_note(run, "the frozen layers end in %d values, too many to keep: all layers run in every step",
                    run->frontier.n);
        ft_frontier_release(&run->frontier);
    }
    return FT_OK;
}

void ft_run_prefix_decide(struct ft_run *run)
{
    run->keeps_prefix =
        run->frontier.n > 0 && strcmp(run->options.activation_cache, "auto") == 0 && is_worth_it(run);
}

/* ---- before the first step */

static void on_filled(void *arg, size_t done, size_t count)
{
    struct ft_run *run = arg;
    run->prefix_done += done == count ? count : 0;
    size_t all = run->train.rows.count + (run->val.data != NULL ? run->val.rows.count : 0);
    size_t there = done == count ? run->prefix_done : run->prefix_done + done;
    ft_run_stage(run, "Frozen layers", there, all, run->prefix_began);
}

static enum ft_status fill(struct ft_run *run, struct ft_run_set *set, struct ft_err *err)
{
    size_t left = ft_run_keep_max(run);
    size_t used = run->prefix_memory + ft_rows_bytes(&run->eval.rows);
    if (run->prep.kind == FT_PREP_TEXT) {
        used += ft_rows_bytes(&run->train.rows) + ft_rows_bytes(&run->val.rows);
    }
    struct ft_prefix_fill how = {.rows = &set->rows,
                                 .threads = (int)run->options.threads,
                                 .memory_max = left > used ? left - used : 0,
                                 .dir = run->work_dir,
                                 .cancel = run->job->cancel,
                                 .progress = on_filled,
                                 .arg = run};
    FT_RETURN_IF_FAILED(ft_prefix_fill(run->prefix, &how, &set->cache, err));
    bool is_file = ft_prefix_cache_is_file(set->cache);
    *(is_file ? &run->prefix_file : &run->prefix_memory) += ft_prefix_cache_bytes(set->cache);
    return FT_OK;
}

/* What a document is at the end of the frozen layers: "384 numbers a token". */
static const char *numbers_text(const struct ft_frontier *f, char text[96])
{
    if (f->token_elements == 0) {
        (void)snprintf(text, 96, "%zu numbers", f->row_elements);
    } else if (f->row_elements == 0) {
        (void)snprintf(text, 96, "%zu numbers a token", f->token_elements);
    } else {
        (void)snprintf(text, 96, "%zu numbers and %zu a token", f->row_elements, f->token_elements);
    }
    return text;
}

static void tell(const struct ft_run *run)
{
    const struct ft_frontier *f = &run->frontier;
    const char *first = ft_graph_name(f->suffix, ft_graph_input_at(f->suffix, 0));
    char more[32] = "";
    char numbers[96];
    if (f->n > 1) {
        (void)snprintf(more, sizeof more, " and %d more", f->n - 1);
    }
    if (!run->keeps_prefix) {
        ft_run_note(run,
                    "frozen: the first %d of %d nodes, up to '%.100s'%s (%s, rounded to bf16); "
                    "computed again in every step: %s",
                    f->nodes_before, f->nodes_before + f->nodes_after, first, more, numbers_text(f, numbers),
                    strcmp(run->options.activation_cache, "off") == 0
                        ? "activation_cache is off"
                        : "there are fewer steps than documents");
        return;
    }
    ft_run_note(run,
                "frozen: the first %d of %d nodes ran once for each document, up to '%.100s'%s: %s, kept as "
                "bf16; %.1f MB in %s, %.1f s",
                f->nodes_before, f->nodes_before + f->nodes_after, first, more, numbers_text(f, numbers),
                megabytes(run->prefix_memory + run->prefix_file),
                run->prefix_file > 0 ? "a temporary file" : "memory", run->prefix_seconds);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

enum ft_status ft_run_prefix_start(struct ft_run *run, struct ft_err *err)
{
    const struct ft_frontier *f = &run->frontier;
    size_t batch = larger(run->train.shape.batch, run->val.shape.batch);
    size_t tokens = larger((size_t)run->train.tokens, (size_t)run->val.tokens);
    size_t longest = larger(run->train.rows.texts.longest, run->val.rows.texts.longest);
    if (f->n == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(
        ft_prefix_new(run->device, f, ft_step_params(run->step), (int64_t)longest, &run->prefix, err));
    FT_RETURN_IF_FAILED(ft_prefix_batch_init(f, batch, tokens, &run->prefix_batch, err));
    if (run->keeps_prefix) {
        run->prefix_began = ft_clock_seconds();
        FT_RETURN_IF_FAILED(fill(run, &run->train, err));
        if (run->val.data != NULL) {
            FT_RETURN_IF_FAILED(fill(run, &run->val, err));
        }
        run->prefix_seconds = ft_clock_seconds() - run->prefix_began;
        ft_prefix_free(run->prefix); /* its memory is better used by the training */
        run->prefix = NULL;
    }
    tell(run);
    return FT_OK;
}

/* ---- batches */

enum ft_status ft_run_prefix_batch(struct ft_run *run, const struct ft_batch **batch, struct ft_err *err)
{
    if (run->prefix == NULL) {
        return FT_OK; /* there is none, or the batch came out of the cache */
    }
    FT_RETURN_IF_FAILED(ft_prefix_batch(run->prefix, *batch, &run->prefix_batch, err));
    *batch = &run->prefix_batch;
    return FT_OK;
}

enum ft_status ft_run_val_batch(struct ft_run *run, const struct ft_batch **batch, struct ft_err *err)
{
    struct ft_batch *b = run->val.cache != NULL ? &run->prefix_batch : &run->val_batch;
    ft_sampler_next(run->val.sampler, b->items, b->labels);
    b->rows = run->val.shape.batch;
    *batch = b;
    if (run->val.cache == NULL) {
        FT_RETURN_IF_FAILED(ft_rows_batch(&run->val.rows, FT_ROWS_AS_THEY_ARE, b, NULL, err));
        return ft_run_prefix_batch(run, batch, err);
    }
    ft_prefix_cache_batch(run->val.cache, b);
    return ft_run_prefix_batch(run, batch, err);
}

/* ---- the summary */

enum ft_status ft_run_prefix_json(const struct ft_run *run, struct ft_json **json, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_frontier *f = &run->frontier;
    struct ft_json *names = NULL;
    struct ft_json *o = NULL;
    *json = NULL;
    if (f->n == 0) {
        *json = ft_json_null();
        return *json != NULL ? FT_OK : FT_FAIL(err, NOMEM, "no memory for the summary");
    }
    o = ft_json_object();
    names = ft_json_array();
    if (o == NULL || names == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory for the summary");
        goto done;
    }
    for (int i = 0; i < f->n; i++) {
        const char *name = ft_graph_name(f->suffix, ft_graph_input_at(f->suffix, i));
        FT_TRY(ft_json_push(names, ft_json_of_text(name), err));
    }
    st = ft_json_set(o, "values", names, err);
    names = NULL;
    FT_TRY(st);
    FT_TRY(ft_json_set(o, "bytes_per_item", ft_json_of_int((int64_t)(f->row_elements * 2)), err));
    FT_TRY(ft_json_set(o, "bytes_per_token", ft_json_of_int((int64_t)(f->token_elements * 2)), err));
    FT_TRY(ft_json_set(o, "nodes", ft_json_of_int(f->nodes_before), err));
    FT_TRY(ft_json_set(o, "nodes_after", ft_json_of_int(f->nodes_after), err));
    FT_TRY(ft_json_set(o, "kept", ft_json_of_bool(run->keeps_prefix), err));
    FT_TRY(ft_json_set(o, "memory_bytes", ft_json_of_int((int64_t)run->prefix_memory), err));
    FT_TRY(ft_json_set(o, "file_bytes", ft_json_of_int((int64_t)run->prefix_file), err));
    FT_TRY(ft_json_set(o, "seconds", ft_json_of_real(run->prefix_seconds), err));
    *json = o;
    o = NULL;
done:
    ft_json_free(names);
    ft_json_free(o);
    return st;
}
