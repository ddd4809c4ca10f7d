#include "executor/train/cost.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/rand.h"
#include "executor/train/budget.h"
#include "executor/train/defaults.h"
#include "executor/train/fit.h"
#include "executor/train/input.h"
#include "executor/train/prefix.h"

enum { FEW = 8, PER_CLASS = 4, ENCODE_BATCH = 64, PER = 1000 };
/* A step is about three forward passes; each is run twice, once to warm up. */
enum { PASSES_A_STEP = 3 };
static const double PATIENCE_SECONDS = 4;

struct finder {
    const struct ft_graph *graph;
    struct ft_device *device;
    struct ft_input input;
    size_t elements; /* of a row */
    int64_t longest; /* text, in tokens */
    struct ft_frontier frontier;
    struct ft_step_spec spec;
    struct ft_cost *cost;
};

/* ---- memory */

static enum ft_status default_spec(struct finder *f, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_fit_options o;
    FT_RETURN_IF_FAILED(ft_fit_options_init(&o, err));
    FT_TRY(ft_defaults_resolve(&o, err));
    FT_TRY(ft_loss_parse(o.loss, o.loss_options, o.miner, o.miner_options, &f->spec.loss, err));
    FT_TRY(ft_optim_parse(o.optimizer, o.optimizer_options, &f->spec.optim, err));
    f->spec.device = f->device;
    f->spec.graph = f->graph;
    f->spec.frontier = &f->frontier;
    f->spec.clip_norm = o.clip_norm;
    f->spec.dropout = -1; /* as the model says */
    if (f->input.is_text) {
        const struct ft_fit_options nothing_asked = {0};
        ft_defaults_of_texts(&nothing_asked, &o);
    }
    f->cost->train_batch = o.batch_size;
done:
    ft_fit_options_release(&o);
    return st;
}

/* Of texts, that memory and time are looked at with. */
static int64_t usual_length(const struct finder *f)
{
    return f->longest < FT_COST_TEXT_TOKENS ? f->longest : FT_COST_TEXT_TOKENS;
}

/* What a job takes that is not there yet; tokens: of a text. */
static enum ft_status price_training(struct finder *f, int64_t tokens, size_t *bytes, struct ft_err *err)
{
    struct ft_memory_need need = {0};
    f->spec.batch = (size_t)f->cost->train_batch;
    f->spec.longest = f->longest;
    f->spec.tokens = tokens * f->cost->train_batch;
    FT_RETURN_IF_FAILED(ft_step_need(&f->spec, &need, err));
    /* Batches on their way, and copies for checkpoints. */
    *bytes = need.weights + 2 * need.optimizer + need.activations + need.artifact +
             2 * (size_t)f->cost->train_batch * f->elements * sizeof(float);
    return FT_OK;
}

static enum ft_status find_memory(struct finder *f, struct ft_err *err)
{
    struct ft_cost *c = f->cost;
    size_t loaded = ft_alloc_stats().live_bytes + FT_PROGRAM_BYTES;
    c->encode_batch = ENCODE_BATCH;
    FT_RETURN_IF_FAILED(
        ft_encoder_price(f->device, f->graph, c->encode_batch, f->longest, &c->encode_bytes, err));
    size_t row = f->elements * sizeof(float);
    c->encode_bytes += loaded + 2 * (size_t)c->encode_batch * row;
    if (f->input.is_text) {
        FT_RETURN_IF_FAILED(price_training(f, f->longest, &c->full_bytes, err));
        c->full_bytes += loaded;
        c->train_tokens = usual_length(f);
    }
    FT_RETURN_IF_FAILED(price_training(f, c->train_tokens, &c->train_bytes, err));
    c->train_bytes += loaded;
    return FT_OK;
}

/* ---- time */

static void fill(float *data, size_t count)
{
    struct ft_rand r = ft_rand_at(1, FT_RAND_TEST, 0);
    for (size_t i = 0; i < count; i++) {
        data[i] = (float)ft_rand_normal(r, i);
    }
}

/* No token of them says anything. */
static enum ft_status init_texts(const struct finder *f, size_t rows, struct ft_batch *batch,
                                 struct ft_err *err)
{
    size_t tokens = (size_t)usual_length(f);
    FT_RETURN_IF_FAILED(ft_batch_init_texts(batch, rows, rows * tokens, err)); /* ids are 0 */
    for (size_t i = 0; i < rows; i++) {
        (void)ft_batch_add_text(batch, tokens);
    }
    return FT_OK;
}

/* What a plan reads. */
struct inputs {
    struct ft_flat x;
    struct ft_text_in text;
    int64_t rng[2];
};

static enum ft_status put_texts(struct finder *f, const struct ft_graph *graph, size_t rows,
                                struct inputs *in, int64_t symbols[FT_MAX_SYMBOLS], struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int64_t tokens = usual_length(f);
    struct ft_batch batch = {0};
    const struct ft_text_limits limits = {(int64_t)rows, (int64_t)rows * tokens, tokens, true};
    const struct ft_text_inputs values = ft_input_texts(graph);
    ft_text_largest(&values, &limits, symbols);
    FT_TRY(init_texts(f, rows, &batch, err));
    FT_TRY(ft_text_in_init(&in->text, f->device, &values, &limits, err));
    FT_TRY(ft_text_in_put(&in->text, &batch, symbols, err));
done:
    ft_batch_release(&batch);
    return st;
}

static enum ft_status put_rows(struct finder *f, size_t rows, struct inputs *in,
                               int64_t symbols[FT_MAX_SYMBOLS], struct ft_err *err)
{
    enum ft_status st = FT_OK;
    float *host = NULL;
    symbols[FT_SYMBOL_BATCH] = (int64_t)rows;
    FT_TRY(ft_flat_init(&in->x, f->device, rows * f->elements, err));
    FT_TRY(ft_new(in->x.count, sizeof *host, &host, err));
    fill(host, in->x.count);
    FT_TRY(ft_flat_put(&in->x, 0, host, in->x.count, err));
done:
    ft_free(host);
    return st;
}

static enum ft_status bind_inputs(struct finder *f, struct inputs *in, const struct ft_graph *graph,
                                  struct ft_plan *plan, struct ft_err *err)
{
    ft_value rng = ft_graph_find(graph, "rng");
    if (f->input.rng != FT_NO_VALUE && rng != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_plan_bind(plan, rng, in->rng, err));
    }
    if (f->input.is_text) {
        return ft_text_in_bind(&in->text, plan, err);
    }
    for (int i = 0; i < ft_graph_inputs(graph); i++) {
        ft_value v = ft_graph_input_at(graph, i);
        FT_RETURN_IF_FAILED(v != rng ? ft_plan_bind(plan, v, in->x.data, err) : FT_OK);
    }
    return FT_OK;
}

/* Seconds of the second of two runs of `graph` on `rows` rows. */
static enum ft_status time_forward(struct finder *f, const struct ft_graph *graph, const int *numbers,
                                   size_t rows, double *seconds, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_plan *plan = NULL;
    struct ft_params params = {0};
    struct inputs in = {0};
    ft_value wanted = ft_graph_output_at(graph, 0);
    struct ft_plan_spec spec = {.wanted = &wanted, .n_wanted = 1};
    FT_TRY(ft_params_init(&params, f->device, f->graph, NULL, err));
    FT_TRY(f->input.is_text ? put_texts(f, graph, rows, &in, spec.symbols, err)
                            : put_rows(f, rows, &in, spec.symbols, err));
    FT_TRY(ft_plan_new(f->device, graph, &spec, &plan, err));
    FT_TRY(ft_params_bind(&params, plan, graph, numbers, err));
    FT_TRY(bind_inputs(f, &in, graph, plan, err));
    ft_params_show(&params, plan);
    for (int i = 0; i < 2; i++) {
        double began = ft_clock_seconds();
        FT_TRY(ft_plan_run(plan, err));
        FT_TRY(ft_device_wait(f->device, err));
        *seconds = ft_clock_seconds() - began;
    }
done:
    ft_flat_release(&in.x);
    ft_text_in_release(&in.text);
    ft_plan_free(plan);
    ft_params_release(&params);
    return st;
}

static enum ft_status init_batch(struct finder *f, struct ft_batch *batch, struct ft_err *err)
{
    struct ft_batch_input input = {.name = "input", .row_elements = f->elements};
    size_t rows = f->spec.batch;
    size_t tokens = (size_t)f->spec.tokens;
    FT_RETURN_IF_FAILED(f->frontier.n > 0  ? ft_prefix_batch_init(&f->frontier, rows, tokens, batch, err)
                        : f->input.is_text ? init_texts(f, rows, batch, err)
                                           : ft_batch_init(batch, &input, 1, rows, 0, err));
    for (size_t i = 0; f->frontier.token_elements > 0 && i < rows; i++) {
        (void)ft_batch_add_text(batch, tokens / rows);
    }
    for (int k = 0; k < batch->n_inputs; k++) {
        size_t count = batch->input[k].of_tokens ? tokens : rows;
        fill(batch->input[k].data, count * batch->input[k].row_elements);
    }
    for (size_t i = 0; i < rows; i++) {
        batch->labels[i] = (int32_t)(i / PER_CLASS);
    }
    batch->rows = rows;
    return FT_OK;
}

static enum ft_status time_step(struct finder *f, size_t rows, double *seconds, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_step *step = NULL;
    struct ft_batch batch = {0};
    struct ft_step_result result;
    f->spec.batch = rows;
    f->spec.tokens = usual_length(f) * (int64_t)rows;
    FT_TRY(ft_step_new(&f->spec, &step, err));
    FT_TRY(init_batch(f, &batch, err));
    for (int i = 0; i < 2; i++) {
        double began = ft_clock_seconds();
        FT_TRY(ft_step_run(step, &batch, i + 1, 0, &result, err));
        *seconds = ft_clock_seconds() - began;
    }
done:
    ft_batch_release(&batch);
    ft_step_free(step);
    return st;
}

/* Rows of a batch that takes some tenths of a second, from the seconds of a few. */
static size_t rows_for(const struct ft_cost *c, double seconds)
{
    size_t times = (size_t)c->train_batch / FEW;
    return seconds * (double)times < PATIENCE_SECONDS / 8 ? (size_t)c->train_batch : FEW;
}

static enum ft_status find_time(struct finder *f, enum ft_cost_measure measure, struct ft_err *err)
{
    struct ft_cost *c = f->cost;
    const struct ft_frontier *end = &f->frontier;
    double forward = 0;
    double frozen = 0;
    double step = 0;
    FT_RETURN_IF_FAILED(time_forward(f, f->graph, NULL, FEW, &forward, err));
    size_t rows = rows_for(c, forward);
    if (rows > FEW) {
        FT_RETURN_IF_FAILED(time_forward(f, f->graph, NULL, rows, &forward, err));
    }
    c->encode_seconds = forward / (double)rows * PER;
    if (end->n > 0) {
        FT_RETURN_IF_FAILED(time_forward(f, end->prefix, end->prefix_params, rows, &frozen, err));
        frozen = frozen < forward ? frozen : forward;
    }
    step = PASSES_A_STEP * (forward - frozen);
    /* What an optimiser does is the same for any batch: behind frozen layers a small one would show little
     * else. */
    size_t larger = rows_for(c, step * FEW / (double)rows);
    step *= (double)larger / (double)rows;
    c->timed_batch = (int64_t)larger;
    c->step_is_measured = measure == FT_COST_ALWAYS || 2 * step < PATIENCE_SECONDS;
    if (c->step_is_measured) {
        FT_RETURN_IF_FAILED(time_step(f, larger, &step, err));
    }
    c->train_seconds = step / (double)larger * PER;
    return FT_OK;
}

/* ---- the whole */

static enum ft_status count_elements(struct finder *f, struct ft_err *err)
{
    const struct ft_type *t = ft_graph_type(f->graph, f->input.data);
    f->elements = 1;
    for (int i = 1; i < t->rank; i++) {
        if (!ft_dim_is_known(t->dim[i])) {
            return FT_FAIL(err, UNSUPPORTED, "the input has open axes; input-shape fixes them");
        }
        f->elements *= (size_t)ft_extent(t, i);
    }
    return FT_OK;
}

/* What is frozen is not kept of padded texts. */
static enum ft_status find_frozen(struct finder *f, struct ft_err *err)
{
    bool padded = f->input.is_text && !f->input.text.packed;
    FT_RETURN_IF_FAILED(padded ? FT_OK : ft_frontier_find(f->graph, &f->frontier, err));
    if (f->frontier.n > FT_BATCH_INPUTS) {
        ft_frontier_release(&f->frontier);
    }
    size_t of_tokens = f->input.is_text ? f->frontier.token_elements * (size_t)usual_length(f) : 0;
    f->cost->frozen_bytes = (f->frontier.row_elements + of_tokens) * sizeof(uint16_t);
    f->cost->frozen_nodes = f->frontier.nodes_before;
    f->cost->nodes = ft_graph_nodes(f->graph);
    return FT_OK;
}

enum ft_status ft_cost_find(const struct ft_graph *graph, int64_t longest, enum ft_cost_measure measure,
                            struct ft_cost *cost, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct finder f;
    memset(&f, 0, sizeof f);
    memset(cost, 0, sizeof *cost);
    f.graph = graph;
    f.cost = cost;
    f.longest = longest;
    FT_TRY(ft_input_find(graph, &f.input, err));
    if (f.input.is_text && longest < 1) {
        FT_TRY(FT_FAIL(err, UNSUPPORTED,
                       "how long its texts may be is not known: the model brings no tokenizer"));
    }
    FT_TRY(f.input.is_text ? FT_OK : count_elements(&f, err));
    FT_TRY(ft_device_open("auto", 0, &f.device, err));
    FT_TRY(find_frozen(&f, err));
    FT_TRY(default_spec(&f, err));
    FT_TRY(find_memory(&f, err));
    if (measure != FT_COST_NEVER && cost->train_bytes <= ft_memory_limit()) {
        FT_TRY(find_time(&f, measure, err));
    }
done:
    ft_frontier_release(&f.frontier);
    ft_device_close(f.device);
    return st;
}
