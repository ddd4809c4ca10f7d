#include "executor/train/budget.h"

#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/train/run.h"

enum { LEAST_CLASSES = 2 };

/* ---- parts */

/* Weights are bound, and packed once, or as kernels tell. */
static size_t plan_bytes(const struct ft_plan_stats *stats)
{
    return stats->activation_bytes + 2 * stats->bound_bytes + stats->packed_bytes + stats->scratch_bytes;
}

static enum ft_status price_forward(struct ft_device *device, const struct ft_graph *graph,
                                    const int64_t symbols[FT_MAX_SYMBOLS], size_t *bytes, struct ft_err *err)
{
    struct ft_plan_stats stats;
    ft_value embedding = ft_graph_output_at(graph, 0);
    struct ft_plan_spec spec = {.wanted = &embedding, .n_wanted = 1};
    memcpy(spec.symbols, symbols, sizeof spec.symbols);
    FT_RETURN_IF_FAILED(ft_plan_price(device, graph, &spec, &stats, err));
    /* The last rows of a data set have a plan of an eighth of the batch, or less. */
    *bytes = plan_bytes(&stats) + stats.activation_bytes / 8;
    return FT_OK;
}

enum ft_status ft_encoder_price(struct ft_device *device, const struct ft_graph *graph, int64_t batch,
                                int64_t longest, size_t *bytes, struct ft_err *err)
{
    int64_t symbols[FT_MAX_SYMBOLS] = {[FT_SYMBOL_BATCH] = batch};
    struct ft_input input;
    size_t more = 0;
    FT_RETURN_IF_FAILED(ft_input_find(graph, &input, err));
    if (input.is_text) {
        struct ft_text_limits limits = ft_encoder_limits(batch, longest);
        ft_text_largest(&input.text, &limits, symbols);
        more = ft_text_in_bytes(&input.text, &limits);
    }
    FT_RETURN_IF_FAILED(price_forward(device, graph, symbols, bytes, err));
    *bytes += more;
    return FT_OK;
}

/* Scratch is assumed to be an eighth of the activations where kernels do not tell of more: of narrow networks
 * it does not count. Weights are packed for the forward and for the backward pass. */
enum ft_status ft_step_need(const struct ft_step_spec *spec, struct ft_memory_need *need, struct ft_err *err)
{
    struct ft_step_cost cost;
    FT_RETURN_IF_FAILED(ft_step_price(spec, &cost, err));
    need->weights = 3 * cost.weights + cost.packed;
    need->artifact = 2 * cost.weights;
    need->optimizer = cost.optimizer;
    size_t scratch = cost.activations / 8;
    need->activations = cost.activations + (cost.scratch > scratch ? cost.scratch : scratch);
    return FT_OK;
}

/* Of texts, whose ids are there already: what the frozen layers make of them. */
static size_t rows_bytes(const struct ft_run *run, const struct ft_run_set *set)
{
    const struct ft_frontier *f = &run->frontier;
    size_t bytes = 0;
    size_t row = ft_prep_elements(&run->prep) * sizeof(float);
    if (set->rows.is_text) {
        size_t kept = set->rows.count * f->row_elements + set->rows.texts.tokens * f->token_elements;
        bool keeps = set != &run->eval && strcmp(run->options.activation_cache, "off") != 0;
        return keeps ? kept * sizeof(uint16_t) : 0;
    }
    return set->data != NULL && ft_mul_size(row, ft_dataset_count(set->data), &bytes) ? bytes : 0;
}

size_t ft_run_keep_max(const struct ft_run *run)
{
    size_t most = ft_rows_keep_max();
    size_t asked = (size_t)run->options.memory / 4;
    return asked > 0 && asked < most ? asked : most;
}

/* As make_rows() will decide; a cache of activations in place of rows has the same limit. */
static size_t kept_rows(const struct ft_run *run)
{
    const struct ft_run_set *sets[] = {&run->train, &run->val, &run->eval};
    size_t left = ft_run_keep_max(run);
    size_t all = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = rows_bytes(run, sets[i]);
        if (bytes <= left) {
            left -= bytes;
            all += bytes;
        }
    }
    return all;
}

static enum ft_status price_prefix(const struct ft_run *run, size_t *bytes, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_frontier *f = &run->frontier;
    struct ft_plan_spec spec;
    struct ft_plan_stats stats;
    ft_value *wanted = NULL;
    *bytes = 0;
    if (f->n == 0) {
        return FT_OK;
    }
    memset(&spec, 0, sizeof spec);
    FT_TRY(ft_new((size_t)f->n, sizeof *wanted, &wanted, err));
    for (int i = 0; i < f->n; i++) {
        wanted[i] = ft_graph_output_at(f->prefix, i);
    }
    ft_prefix_symbols(f, run->prep.max_length, spec.symbols);
    spec.wanted = wanted;
    spec.n_wanted = f->n;
    FT_TRY(ft_plan_price(run->device, f->prefix, &spec, &stats, err));
    *bytes = plan_bytes(&stats);
done:
    ft_free(wanted);
    return st;
}

/* The validation loss runs on batches of its own, of about the size of the training's. */
static enum ft_status price_validation(const struct ft_run *run, const struct ft_step_spec *spec,
                                       size_t *bytes, struct ft_err *err)
{
    int64_t symbols[FT_MAX_SYMBOLS] = {[FT_SYMBOL_BATCH] = (int64_t)spec->batch};
    struct ft_input input;
    FT_RETURN_IF_FAILED(ft_input_find(run->form, &input, err));
    if (input.is_text) {
        struct ft_text_limits limits = ft_step_limits(&input.text, spec);
        ft_text_largest(&input.text, &limits, symbols);
    }
    const struct ft_graph *part = run->frontier.n > 0 ? run->frontier.suffix : run->form;
    return price_forward(run->device, part, symbols, bytes, err);
}

/* ---- a batch */

static enum ft_status need_of(const struct ft_run *run, size_t batch, struct ft_memory_need *need,
                              struct ft_err *err)
{
    struct ft_step_spec spec = ft_run_step_spec(run, &run->train, batch);
    memset(need, 0, sizeof *need);
    FT_RETURN_IF_FAILED(ft_run_most_tokens(run, &run->train, batch, &spec.tokens, err));
    FT_RETURN_IF_FAILED(ft_step_need(&spec, need, err));
    need->program = FT_PROGRAM_BYTES;
    need->loaded = ft_alloc_stats().live_bytes;
    need->rows = kept_rows(run);
    size_t copies = run->callbacks.best_model.on ? 2 : 1;
    need->optimizer += need->optimizer * copies; /* checkpoints are written from copies */
    size_t slots = run->frontier.n > 0 ? 3 : 2;
    need->activations += slots * batch * ft_prep_elements(&run->prep) * sizeof(float);
    if (run->prep.kind == FT_PREP_TEXT) {
        const struct ft_frontier *f = &run->frontier;
        size_t kept = batch * f->row_elements + (size_t)spec.tokens * f->token_elements;
        need->activations += slots * (kept * sizeof(float) + (size_t)spec.tokens * sizeof(int64_t));
    }
    if (run->val.data != NULL) {
        size_t val = 0;
        FT_RETURN_IF_FAILED(price_validation(run, &spec, &val, err));
        need->activations += val;
    }
    if (run->eval.data != NULL) {
        FT_RETURN_IF_FAILED(ft_encoder_price(run->device, run->form, run->options.eval_batch_size,
                                             run->prep.max_length, &need->encoder, err));
    }
    FT_RETURN_IF_FAILED(price_prefix(run, &need->prefix, err));
    need->total = need->program + need->loaded + need->rows + need->weights + need->optimizer +
                  need->activations + need->encoder + need->prefix + need->artifact + run->memory_unforeseen;
    return FT_OK;
}

static size_t megabytes(size_t bytes)
{
    return (bytes + 999999) / 1000000;
}

/* The largest P x K of at most `most` documents that fits; 0: none. */
static enum ft_status largest(const struct ft_run *run, size_t most, size_t budget, size_t *batch,
                              struct ft_err *err)
{
    struct ft_memory_need need;
    size_t k = (size_t)run->options.num_items_per_class;
    size_t low = LEAST_CLASSES - 1;
    size_t high = most / k + 1; /* low fits or is none, high does not */
    *batch = 0;
    while (high > low + 1) {
        size_t middle = low + (high - low) / 2;
        FT_RETURN_IF_FAILED(need_of(run, middle * k, &need, err));
        if (need.total <= budget) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *batch = low >= LEAST_CLASSES ? low * k : 0;
    return FT_OK;
}

static enum ft_status refuse(const struct ft_run *run, const struct ft_memory_need *need, size_t batch,
                             size_t budget, struct ft_err *err)
{
    size_t fits = 0;
    char instead[96] = "not even two labels fit";
    FT_RETURN_IF_FAILED(largest(run, batch, budget, &fits, err));
    if (fits > 0) {
        (void)snprintf(instead, sizeof instead, "the largest batch that fits is %zu = %zu labels x %zu", fits,
                       fits / (size_t)run->options.num_items_per_class,
                       (size_t)run->options.num_items_per_class);
    }
    return FT_FAIL(err, LIMIT,
                   "batches of %zu documents need %zu MB (activations %zu, weights %zu, optimizer %zu, "
                   "evaluation %zu, documents %zu, frozen layers %zu, the artifact %zu, model, data and "
                   "program %zu), %s %zu MB: "
                   "%s",
                   batch, megabytes(need->total), megabytes(need->activations), megabytes(need->weights),
                   megabytes(need->optimizer), megabytes(need->encoder), megabytes(need->rows),
                   megabytes(need->prefix), megabytes(need->artifact),
                   megabytes(need->program + need->loaded),
                   run->options.memory > 0 ? "and memory is limited to" : "and this machine has",
                   megabytes(budget), instead);
}

static enum ft_status choose(struct ft_run *run, struct ft_err *err)
{
    struct ft_fit_options *o = &run->options;
    struct ft_memory_need need;
    size_t fits = 0;
    size_t most = (size_t)o->batch_size;
    size_t budget = o->memory > 0 ? (size_t)o->memory : ft_memory_limit();
    FT_RETURN_IF_FAILED(need_of(run, most, &need, err));
    if (need.total <= budget) {
        return FT_OK;
    }
    if (o->memory == 0 || run->job->options->batch_size_given) {
        return refuse(run, &need, most, budget, err);
    }
    FT_RETURN_IF_FAILED(largest(run, most, budget, &fits, err));
    if (fits == 0) {
        size_t least = LEAST_CLASSES * (size_t)o->num_items_per_class;
        FT_RETURN_IF_FAILED(need_of(run, least, &need, err));
        return refuse(run, &need, least, budget, err);
    }
    o->batch_size = (int64_t)fits;
    return FT_OK;
}

enum ft_status ft_run_choose_batch(struct ft_run *run, struct ft_err *err)
{
    size_t asked = (size_t)run->options.batch_size;
    /* Evaluation must not take what training needs: it is as good with less at a time. */
    while (run->options.memory > 0 && run->eval.data != NULL && run->options.eval_batch_size > 1) {
        size_t bytes = 0;
        FT_RETURN_IF_FAILED(ft_encoder_price(run->device, run->form, run->options.eval_batch_size,
                                             run->prep.max_length, &bytes, err));
        if (bytes <= (size_t)run->options.memory / 4) {
            break;
        }
        run->options.eval_batch_size /= 2;
    }
    FT_RETURN_IF_FAILED(choose(run, err));
    if ((size_t)run->options.batch_size != asked) {
        ft_run_note(run, "batch size: %lld, the largest that fits %zu MB (the default is %zu)",
                    (long long)run->options.batch_size, megabytes((size_t)run->options.memory), asked);
    }
    return FT_OK;
}

enum ft_status ft_run_check_memory(struct ft_run *run, size_t before, bool *again, struct ft_err *err)
{
    struct ft_memory_need need;
    struct ft_step_spec spec = ft_run_step_spec(run, &run->train, run->train.shape.batch);
    size_t taken = ft_alloc_stats().live_bytes - before;
    *again = false;
    if (run->options.memory == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_step_need(&spec, &need, err));
    size_t foreseen = need.weights + need.optimizer + need.activations;
    if (taken <= foreseen + run->memory_unforeseen) {
        return FT_OK;
    }
    run->memory_unforeseen = taken - foreseen;
    int64_t asked = run->options.batch_size;
    ft_step_free(run->step);
    run->step = NULL;
    *again = true;
    FT_RETURN_IF_FAILED(choose(run, err));
    if (run->options.batch_size != asked) {
        ft_run_note(run, "batch size: %lld; kernels want %zu MB to work in",
                    (long long)run->options.batch_size, megabytes(run->memory_unforeseen));
    }
    return FT_OK;
}
