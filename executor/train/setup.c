#include "executor/train/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "executor/eval/metrics.h"
#include "executor/train/budget.h"
#include "executor/train/defaults.h"
#include "executor/train/input.h"

/* ---- options */

static enum ft_status copy_options(struct ft_run *run, const struct ft_fit_options *from, struct ft_err *err)
{
    struct ft_json *json = NULL;
    FT_RETURN_IF_FAILED(ft_fit_options_init(&run->options, err));
    FT_RETURN_IF_FAILED(ft_fit_options_write(from, &json, err));
    enum ft_status st = ft_fit_options_read(&run->options, json, err);
    ft_json_free(json);
    return st == FT_OK ? ft_defaults_resolve(&run->options, err) : st;
}

static enum ft_status parse_dropout(const char *text, double *dropout, struct ft_err *err)
{
    char *end = NULL;
    *dropout = -1;
    if (strcmp(text, "model") == 0) {
        return FT_OK;
    }
    *dropout = strtod(text, &end);
    if (end == text || *end != '\0' || !(*dropout >= 0 && *dropout <= 1)) {
        return FT_FAIL(err, USAGE, "dropout is \"%s\", wanted model or a number of 0 .. 1", text);
    }
    return FT_OK;
}

static enum ft_status parse_options(struct ft_run *run, struct ft_err *err)
{
    struct ft_fit_options *o = &run->options;
    FT_RETURN_IF_FAILED(parse_dropout(o->dropout, &run->dropout, err));
    FT_RETURN_IF_FAILED(ft_loss_parse(o->loss, o->loss_options, o->miner, o->miner_options, &run->loss, err));
    FT_RETURN_IF_FAILED(ft_optim_parse(o->optimizer, o->optimizer_options, &run->optim, err));
    FT_RETURN_IF_FAILED(ft_schedule_parse(o->scheduler, o->scheduler_options, &run->schedule, err));
    FT_RETURN_IF_FAILED(ft_callbacks_parse(o->callbacks, &run->callbacks, err));
    FT_RETURN_IF_FAILED(ft_augment_parse(o->augment, &run->augment, err));
    FT_RETURN_IF_FAILED(ft_metric_parse(run->callbacks.distance, &run->distance, err));
    if (run->callbacks.eval_batch_size > 0) {
        o->eval_batch_size = run->callbacks.eval_batch_size;
    }
    if (run->callbacks.limit > 0) {
        o->limit = run->callbacks.limit;
    }
    return FT_OK;
}

static enum ft_status open_device(const struct ft_run *run, int threads, struct ft_device **device,
                                  struct ft_err *err)
{
    enum ft_precision precision = FT_PRECISION_F32;
    FT_RETURN_IF_FAILED(ft_precision_parse(run->options.precision, &precision, err));
    FT_RETURN_IF_FAILED(ft_device_open(run->options.device, threads, device, err));
    enum ft_status st = ft_device_set_precision(*device, precision, err);
    if (st != FT_OK) {
        ft_device_close(*device);
        *device = NULL;
    }
    return st;
}

enum ft_status ft_fit_options_check(const struct ft_fit_options *options, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_run *run = NULL;
    struct ft_device *device = NULL;
    FT_TRY(ft_new(1, sizeof *run, &run, err));
    FT_TRY(copy_options(run, options, err));
    FT_TRY(parse_options(run, err));
    FT_TRY(open_device(run, 1, &device, err));
done:
    ft_device_close(device);
    if (run != NULL) {
        ft_fit_options_release(&run->options);
        ft_free(run);
    }
    return st;
}

static bool is_metric(const char *name)
{
    struct ft_metrics none;
    memset(&none, 0, sizeof none);
    double value;
    const char *known;
    for (size_t i = 0; (known = ft_metrics_at(&none, i, &value)) != NULL; i++) {
        if (strcmp(known, name) == 0) {
            return true;
        }
    }
    return false;
}

static enum ft_status check_monitor(const struct ft_run *run, const struct ft_monitor *m, struct ft_err *err)
{
    if (!m->on || strcmp(m->what, "train_loss") == 0) {
        return FT_OK;
    }
    if (strcmp(m->what, "val_loss") == 0) {
        return run->val.data != NULL
                   ? FT_OK
                   : FT_FAIL(err, INVALID,
                             "a callback watches val_loss, which needs val_split; it may watch "
                             "train_loss or a metric instead");
    }
    if (!is_metric(m->what)) {
        return FT_FAIL(err, INVALID, "a callback watches \"%s\"; known: train_loss, val_loss and the metrics",
                       m->what);
    }
    return run->eval.data != NULL
               ? FT_OK
               : FT_FAIL(err, INVALID, "a callback watches %s, which needs evaluation data or val_split",
                         m->what);
}

/* ---- model */

static void tell_tailoring(const struct ft_run *run, const struct ft_tailor_report *r)
{
    ft_run_note(run, "model %s: embedding of %" PRId64 " numbers at %s%s%s; %s", run->model->name, r->dim,
                r->embedding_at, r->head[0] != '\0' ? ", without " : "", r->head, r->why);
    ft_run_note(run, "parameters: %" PRId64 ", of which %" PRId64 " are trained", r->params_total,
                r->params_trainable);
}

static enum ft_status tailor(struct ft_run *run, struct ft_err *err)
{
    const struct ft_fit_options *o = &run->options;
    struct ft_tailor_options t;
    struct ft_tailor_report report;
    memset(&t, 0, sizeof t);
    memset(&report, 0, sizeof report);
    t.cut = o->cut;
    t.keep_head = o->keep_head;
    t.labels = (int64_t)ft_dataset_classes(run->job->train);
    t.output_dim = o->output_dim;
    FT_RETURN_IF_FAILED(ft_pooler_find(o->pooler, &t.pooler, err));
    t.normalize = o->normalize;
    t.freeze = o->freeze;
    t.seed = (uint64_t)o->seed;
    FT_RETURN_IF_FAILED(ft_tailor(run->model, &t, &run->graph, &report, err));
    run->dim = report.dim;
    run->params_total = report.params_total;
    run->params_trained = report.params_trainable;
    tell_tailoring(run, &report);
    ft_tailor_report_release(&report);
    return FT_OK;
}

/* In the form that prep_options takes, so that it can be copied and changed. */
static enum ft_status tell_prep(const struct ft_run *run, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *json = NULL;
    struct ft_buf text = {0};
    FT_TRY(ft_prep_write(&run->prep, &json, err));
    FT_TRY(ft_json_write(json, 0, &text, err));
    ft_run_note(run, "preprocessing (prep-options change it): %s", (const char *)text.data);
    const char *hint = ft_input_hint(run->model, run->options.prep_options, &run->prep);
    if (hint != NULL) {
        ft_run_note(run, "hint: %s", hint);
    }
done:
    ft_buf_release(&text);
    ft_json_free(json);
    return st;
}

static enum ft_status tell_augmentation(const struct ft_run *run, struct ft_err *err)
{
    struct ft_buf text = {0};
    if (!run->augment.on) {
        return FT_OK;
    }
    enum ft_status st = ft_augment_write(&run->augment, &text, err);
    if (st == FT_OK) {
        ft_run_note(run, "augmentation of training images: %s", (const char *)text.data);
    }
    ft_buf_release(&text);
    return st;
}

/* Asked for where nothing says where: refused; by itself, said. */
static enum ft_status check_dropout(const struct ft_run *run, struct ft_err *err)
{
    for (int n = 0; n < ft_graph_nodes(run->graph); n++) {
        if (ft_graph_node(run->graph, n)->attrs.drops != 0) {
            return FT_OK;
        }
    }
    if (run->dropout > 0) {
        return FT_FAIL(
            err, UNSUPPORTED,
            "dropout: %s does not say where its layers drop while training; Hugging Face folders do",
            run->model->source);
    }
    if (run->prep.kind == FT_PREP_TEXT && run->dropout < 0) {
        ft_run_note(run, "no dropout: the model's file does not say where its layers drop while training");
    }
    return FT_OK;
}

static enum ft_status load_model(struct ft_run *run, struct ft_err *err)
{
    struct ft_model_options options = {.input_shape = run->options.input_shape};
    FT_RETURN_IF_FAILED(open_device(run, (int)run->options.threads, &run->device, err));
    FT_RETURN_IF_FAILED(ft_model_load(run->job->model_path, &options, &run->model, err));
    if (run->options.name == NULL) {
        FT_RETURN_IF_FAILED(ft_new_text(run->model->name, &run->options.name, err));
    }
    FT_RETURN_IF_FAILED(tailor(run, err));
    FT_RETURN_IF_FAILED(ft_input_tokenizer(run->model, &run->tokenizer, err));
    FT_RETURN_IF_FAILED(
        ft_input_prep(run->graph, run->model, run->tokenizer, run->options.prep_options, &run->prep, err));
    FT_RETURN_IF_FAILED(ft_input_pack(run->graph, &run->packed, run->padded, err));
    if (run->prep.kind == FT_PREP_TEXT) {
        ft_defaults_of_texts(run->job->options, &run->options);
    }
    run->form = run->packed != NULL ? run->packed : run->graph;
    if (run->padded[0] != '\0') {
        ft_run_note(run, "texts are padded to the longest of a batch: %s", run->padded);
    }
    FT_RETURN_IF_FAILED(check_dropout(run, err));
    FT_RETURN_IF_FAILED(tell_prep(run, err));
    return tell_augmentation(run, err);
}

/* ---- data */

static const char *some_label(const struct ft_dataset *data, size_t skip)
{
    for (size_t c = 0; c < ft_dataset_classes(data); c++) {
        size_t count = ft_dataset_class_count(data, c);
        if (count > 0 && skip-- == 0) {
            return ft_dataset_class_name(data, c);
        }
    }
    return "";
}

/* At least one triplet must exist: two labels, one of them twice. */
static enum ft_status check_triplets(const struct ft_dataset *data, const char *what, struct ft_err *err)
{
    size_t labels = 0;
    size_t longest = 0;
    for (size_t i = 0; i < ft_dataset_count(data); i++) {
        if (ft_dataset_class_of(data, i) < 0) {
            return FT_FAIL(err, INVALID, "%s: the document has no label", ft_dataset_where(data, i));
        }
    }
    for (size_t c = 0; c < ft_dataset_classes(data); c++) {
        size_t count = ft_dataset_class_count(data, c);
        labels += count > 0;
        longest = count > longest ? count : longest;
    }
    if (labels == 0) {
        return FT_FAIL(err, INVALID, "%s have no documents", what);
    }
    if (labels == 1) {
        return FT_FAIL(
            err, INVALID,
            "no triplet can be formed: all %zu documents of %s have the label \"%.200s\", so there is no "
            "negative; at least two labels are needed",
            ft_dataset_count(data), what, some_label(data, 0));
    }
    if (longest < 2) {
        return FT_FAIL(
            err, INVALID,
            "no triplet can be formed: each of the %zu labels of %s (\"%.100s\", \"%.100s\"%s) has a single "
            "document, so there is no positive; at least one label must occur twice",
            labels, what, some_label(data, 0), some_label(data, 1), labels > 2 ? ", ..." : "");
    }
    return FT_OK;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Stratified: of each class its share, at least one stays. */
static enum ft_status split(struct ft_run *run, struct ft_err *err)
{
    const struct ft_dataset *all = run->job->train;
    enum ft_status st = FT_OK;
    uint32_t *order = NULL;
    uint32_t *parts[2] = {NULL, NULL};
    size_t counts[2] = {0, 0};
    size_t n = ft_dataset_count(all);
    FT_TRY(ft_new(n, sizeof *order, &order, err));
    FT_TRY(ft_new(n, sizeof *parts[0], &parts[0], err));
    FT_TRY(ft_new(n, sizeof *parts[1], &parts[1], err));
    for (size_t c = 0; c < ft_dataset_classes(all); c++) {
        size_t count = ft_dataset_class_count(all, c);
        if (count == 0) {
            continue;
        }
        size_t held = (size_t)((double)count * run->options.val_split + 0.5);
        held = held < count ? held : count - 1;
        for (size_t i = 0; i < count; i++) {
            order[i] = ft_dataset_class_item(all, c, i);
        }
        ft_rand_shuffle(ft_rand_at((uint64_t)run->options.seed, FT_RAND_SPLIT, c), order, count);
        for (size_t i = 0; i < count; i++) {
            size_t part = i < held;
            parts[part][counts[part]++] = order[i];
        }
    }
    qsort(parts[0], counts[0], sizeof *parts[0], by_number);
    qsort(parts[1], counts[1], sizeof *parts[1], by_number);
    FT_TRY(ft_dataset_subset(all, parts[0], counts[0], &run->train.own, err));
    FT_TRY(ft_dataset_subset(all, parts[1], counts[1], &run->val.own, err));
    run->train.data = run->train.own;
    run->val.data = run->val.own;
done:
    ft_free(order);
    ft_free(parts[0]);
    ft_free(parts[1]);
    return st;
}

static enum ft_status choose_data(struct ft_run *run, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(check_triplets(run->job->train, "the training data", err));
    run->train.data = run->job->train;
    run->eval.data = run->job->eval;
    if (run->options.val_split > 0) {
        FT_RETURN_IF_FAILED(split(run, err));
        FT_RETURN_IF_FAILED(check_triplets(run->train.data, "what val_split leaves for training", err));
        FT_RETURN_IF_FAILED(check_triplets(run->val.data, "the validation split", err));
        if (run->eval.data == NULL) {
            run->eval.data = run->val.data;
        }
    }
    FT_RETURN_IF_FAILED(check_monitor(run, &run->callbacks.best_model, err));
    FT_RETURN_IF_FAILED(check_monitor(run, &run->callbacks.early_stopping, err));
    if (run->callbacks.evaluate && run->eval.data == NULL) {
        return FT_FAIL(err, INVALID, "EvaluationCallback needs evaluation data or val_split");
    }
    return FT_OK;
}

static enum ft_status make_rows(struct ft_run *run, struct ft_run_set *set, struct ft_err *err)
{
    const struct ft_run_set *sets[] = {&run->train, &run->val, &run->eval};
    size_t left = ft_run_keep_max(run);
    for (size_t i = 0; i < 3; i++) {
        size_t kept = ft_rows_bytes(&sets[i]->rows);
        left -= kept < left ? kept : left;
    }
    if (run->keeps_prefix && set != &run->eval) {
        left = 0; /* each is prepared once, and what the frozen layers make of it is kept */
    }
    if (run->augment.on && set == &run->train) {
        struct ft_rows_augmented how = {&run->prep, &run->augment, (uint64_t)run->options.seed,
                                        (int)run->options.threads, left};
        return ft_rows_init_augmented(&set->rows, set->data, &how, run->job->cancel, err);
    }
    return ft_rows_init(&set->rows, set->data, &run->prep, (int)run->options.threads, left, run->job->cancel,
                        err);
}

static enum ft_status make_all_rows(struct ft_run *run, struct ft_err *err)
{
    struct ft_run_set *sets[] = {&run->train, &run->val, &run->eval};
    for (size_t i = 0; i < 3; i++) {
        FT_RETURN_IF_FAILED(sets[i]->data != NULL ? make_rows(run, sets[i], err) : FT_OK);
    }
    return FT_OK;
}

enum ft_status ft_run_most_tokens(const struct ft_run *run, const struct ft_run_set *set, size_t batch,
                                  int64_t *tokens, struct ft_err *err)
{
    struct ft_sampler_classes classes = ft_sampler_classes_of(set->data);
    struct ft_sampler_shape shape;
    size_t most = 0;
    *tokens = 0;
    if (!set->rows.is_text) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(
        ft_sampler_fit_shape(&classes, batch, (size_t)run->options.num_items_per_class, &shape, err));
    FT_RETURN_IF_FAILED(ft_texts_most(&set->rows.texts, &classes, &shape, &most, err));
    *tokens = (int64_t)most;
    return FT_OK;
}

static enum ft_status make_sampler(struct ft_run *run, struct ft_run_set *set, uint64_t seed,
                                   struct ft_err *err)
{
    struct ft_sampler_classes classes = ft_sampler_classes_of(set->data);
    size_t batch = (size_t)run->options.batch_size;
    ft_sampler_free(set->sampler); /* of a batch that turned out to be too large */
    set->sampler = NULL;
    FT_RETURN_IF_FAILED(
        ft_sampler_fit_shape(&classes, batch, (size_t)run->options.num_items_per_class, &set->shape, err));
    FT_RETURN_IF_FAILED(ft_sampler_new(&classes, &set->shape, seed, &set->sampler, err));
    return ft_run_most_tokens(run, set, batch, &set->tokens, err);
}

/* ---- the whole */

struct ft_step_spec ft_run_step_spec(const struct ft_run *run, const struct ft_run_set *set, size_t batch)
{
    struct ft_step_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.device = run->device;
    spec.graph = run->form;
    spec.frontier = &run->frontier;
    spec.loss = run->loss;
    spec.optim = run->optim;
    spec.clip_norm = run->options.clip_norm;
    spec.batch = batch;
    spec.tokens = set->tokens;
    spec.longest = (int64_t)set->rows.texts.longest;
    spec.seed = (uint64_t)run->options.seed;
    spec.dropout = run->dropout;
    return spec;
}

static void count_steps(struct ft_run *run)
{
    const struct ft_fit_options *o = &run->options;
    run->per_epoch = (int64_t)run->train.shape.batches_per_epoch;
    run->total = o->steps > 0 ? o->steps : o->epochs * run->per_epoch;
    run->epochs = (run->total + run->per_epoch - 1) / run->per_epoch;
    if (run->schedule.total == 0) {
        run->schedule.total = run->schedule.by_epoch ? run->epochs : run->total;
    }
}

/* What depends on the batch: again when the step turns out to want more memory than there is. */
static enum ft_status make_step(struct ft_run *run, struct ft_err *err)
{
    bool again = true;
    while (again) {
        FT_RETURN_IF_FAILED(make_sampler(run, &run->train, (uint64_t)run->options.seed, err));
        size_t before = ft_alloc_stats().live_bytes;
        struct ft_step_spec spec = ft_run_step_spec(run, &run->train, run->train.shape.batch);
        FT_RETURN_IF_FAILED(ft_step_new(&spec, &run->step, err));
        FT_RETURN_IF_FAILED(ft_run_check_memory(run, before, &again, err));
    }
    count_steps(run);
    return FT_OK;
}

static enum ft_status make_evaluation(struct ft_run *run, struct ft_err *err)
{
    if (run->val.data != NULL) {
        struct ft_step_spec spec = ft_run_step_spec(run, &run->val, run->val.shape.batch);
        FT_RETURN_IF_FAILED(ft_step_loss_new(&spec, ft_step_params(run->step), &run->val_loss, err));
        FT_RETURN_IF_FAILED(
            ft_rows_batch_init(&run->val.rows, spec.batch, (size_t)run->val.tokens, &run->val_batch, err));
    }
    if (run->eval.data == NULL) {
        return FT_OK;
    }
    struct ft_encoder_parts parts = {.device = run->device,
                                     .graph = run->form,
                                     .padded = run->padded,
                                     .params = ft_step_params(run->step),
                                     .prep = &run->prep};
    return ft_encoder_share(&parts, (int)run->options.threads, run->options.eval_batch_size, &run->encoder,
                            err);
}

static void tell_training(const struct ft_run *run)
{
    const struct ft_fit_options *o = &run->options;
    const struct ft_sampler_shape *s = &run->train.shape;
    ft_run_note(run, "data: %zu documents of %zu labels; batches of %zu = %zu labels x %zu%s",
                ft_dataset_count(run->train.data), ft_dataset_classes(run->train.data), s->batch,
                s->classes_per_batch, s->items_per_class,
                s->adjusted ? " (the nearest that the data and the batch size allow)" : "");
    ft_run_note(run, "%s, miner %s, %s at %g, %s schedule, %" PRId64 " steps in %" PRId64 " epochs on %s",
                o->loss, o->miner, o->optimizer, o->learning_rate, o->scheduler, run->total, run->epochs,
                ft_device_name(run->device));
    const char *note = ft_device_precision_note(run->device);
    if (note != NULL) {
        ft_run_note(run, "%s", note);
    }
}

enum ft_status ft_run_setup(struct ft_run *run, const struct ft_fit_job *job, struct ft_err *err)
{
    run->job = job;
    FT_RETURN_IF_FAILED(copy_options(run, job->options, err));
    FT_RETURN_IF_FAILED(parse_options(run, err));
    FT_RETURN_IF_FAILED(choose_data(run, err));
    FT_RETURN_IF_FAILED(load_model(run, err));
    FT_RETURN_IF_FAILED(ft_run_prefix_find(run, err));
    if (run->prep.kind == FT_PREP_TEXT) {
        FT_RETURN_IF_FAILED(make_all_rows(run, err)); /* what a batch takes depends on how long they are */
    }
    FT_RETURN_IF_FAILED(ft_run_choose_batch(run, err));
    FT_RETURN_IF_FAILED(make_step(run, err));
    ft_run_prefix_decide(run);
    if (run->prep.kind != FT_PREP_TEXT) {
        FT_RETURN_IF_FAILED(make_all_rows(run, err));
    }
    if (run->val.data != NULL) {
        FT_RETURN_IF_FAILED(make_sampler(run, &run->val, ~(uint64_t)run->options.seed, err));
    }
    FT_RETURN_IF_FAILED(make_evaluation(run, err));
    tell_training(run);
    run->history = ft_json_array();
    return run->history != NULL ? ft_run_keep_open(run, err)
                                : FT_FAIL(err, NOMEM, "no memory for the epochs");
}

static void release_set(struct ft_run_set *set)
{
    ft_sampler_free(set->sampler);
    ft_prefix_cache_free(set->cache);
    ft_rows_release(&set->rows);
    ft_dataset_free(set->own);
}

void ft_run_release(struct ft_run *run)
{
    if (run->journal >= 0) {
        (void)close(run->journal);
    }
    ft_feed_free(run->feed);
    ft_encoder_free(run->encoder);
    ft_step_loss_free(run->val_loss);
    ft_batch_release(&run->val_batch);
    ft_prefix_free(run->prefix);
    ft_batch_release(&run->prefix_batch);
    ft_step_free(run->step);
    release_set(&run->train);
    release_set(&run->val);
    release_set(&run->eval);
    ft_frontier_release(&run->frontier);
    ft_graph_free(run->packed);
    ft_graph_free(run->graph);
    ft_tokenizer_free(run->tokenizer);
    ft_model_free(run->model);
    ft_device_close(run->device);
    ft_json_free(run->before);
    ft_json_free(run->after);
    ft_json_free(run->history);
    for (size_t i = 0; i < run->n_blobs; i++) {
        ft_free(run->blobs[i].data);
    }
    ft_free(run->work_dir);
    ft_fit_options_release(&run->options);
}
