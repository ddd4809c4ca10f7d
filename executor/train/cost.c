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
    f->cost->train_batch = o.batch_size;
done:
    ft_fit_options_release(&o);
    return st;
}

static enum ft_status find_memory(struct finder *f, struct ft_err *err)
{
    struct ft_memory_need need = {0};
    struct ft_cost *c = f->cost;
    size_t loaded = ft_alloc_stats().live_bytes + FT_PROGRAM_BYTES;
    c->encode_batch = ENCODE_BATCH;
    FT_RETURN_IF_FAILED(ft_encoder_price(f->device, f->graph, c->encode_batch, &c->encode_bytes, err));
    size_t row = f->elements * sizeof(float);
    c->encode_bytes += loaded + 2 * (size_t)c->encode_batch * row;
    f->spec.batch = (size_t)c->train_batch;
    FT_RETURN_IF_FAILED(ft_step_need(&f->spec, &need, err));
    /* Batches on their way, and copies for checkpoints. */
    c->train_bytes = loaded + need.weights + 2 * need.optimizer + need.activations + need.artifact +
                     2 * (size_t)c->train_batch * row;
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

/* Seconds of the second of two runs of `graph` on `rows` rows. */
static enum ft_status time_forward(struct finder *f, const struct ft_graph *graph, const int *numbers,
                                   size_t rows, double *seconds, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_plan_spec spec;
    struct ft_plan *plan = NULL;
    struct ft_params params = {0};
    struct ft_flat x = {0};
    float *host = NULL;
    int64_t rng[2] = {0, 0};
    ft_value wanted = ft_graph_output_at(graph, 0);
    memset(&spec, 0, sizeof spec);
    spec.symbols[FT_SYMBOL_BATCH] = (int64_t)rows;
    spec.wanted = &wanted;
    spec.n_wanted = 1;
    FT_TRY(ft_params_init(&params, f->device, f->graph, NULL, err));
    FT_TRY(ft_plan_new(f->device, graph, &spec, &plan, err));
    FT_TRY(ft_params_bind(&params, plan, graph, numbers, err));
    FT_TRY(ft_flat_init(&x, f->device, rows * f->elements, err));
    FT_TRY(ft_new(x.count, sizeof *host, &host, err));
    fill(host, x.count);
    FT_TRY(ft_flat_put(&x, 0, host, x.count, err));
    for (int i = 0; i < ft_graph_inputs(graph); i++) {
        ft_value v = ft_graph_input_at(graph, i);
        bool is_rng = ft_graph_type(graph, v)->dtype == FT_I64;
        FT_TRY(ft_plan_bind(plan, v, is_rng ? (void *)rng : x.data, err));
    }
    ft_params_show(&params, plan);
    for (int i = 0; i < 2; i++) {
        double began = ft_clock_seconds();
        FT_TRY(ft_plan_run(plan, err));
        FT_TRY(ft_device_wait(f->device, err));
        *seconds = ft_clock_seconds() - began;
    }
done:
    ft_free(host);
    ft_flat_release(&x);
    ft_plan_free(plan);
    ft_params_release(&params);
    return st;
}

static enum ft_status init_batch(struct finder *f, struct ft_batch *batch, struct ft_err *err)
{
    struct ft_batch_input input = {.name = "input", .row_elements = f->elements};
    size_t rows = f->spec.batch;
    FT_RETURN_IF_FAILED(f->frontier.n > 0 ? ft_prefix_batch_init(&f->frontier, rows, batch, err)
                                          : ft_batch_init(batch, &input, 1, rows, err));
    for (int k = 0; k < batch->n_inputs; k++) {
        fill(batch->input[k].data, rows * batch->input[k].row_elements);
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

enum ft_status ft_cost_find(const struct ft_graph *graph, enum ft_cost_measure measure, struct ft_cost *cost,
                            struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct finder f;
    memset(&f, 0, sizeof f);
    memset(cost, 0, sizeof *cost);
    f.graph = graph;
    f.cost = cost;
    FT_TRY(ft_input_find(graph, &f.input, err));
    const struct ft_type *t = ft_graph_type(graph, f.input.data);
    f.elements = 1;
    for (int i = 1; i < t->rank; i++) {
        if (!ft_dim_is_known(t->dim[i])) {
            st = FT_FAIL(err, UNSUPPORTED, "the input has open axes; input-shape fixes them");
            goto done;
        }
        f.elements *= (size_t)ft_extent(t, i);
    }
    FT_TRY(ft_device_open("auto", 0, &f.device, err));
    FT_TRY(ft_frontier_find(graph, &f.frontier, err));
    if (f.frontier.n > FT_BATCH_INPUTS) {
        ft_frontier_release(&f.frontier);
    }
    cost->frozen_bytes = f.frontier.row_elements * sizeof(uint16_t);
    cost->frozen_nodes = f.frontier.nodes_before;
    cost->nodes = ft_graph_nodes(graph);
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
