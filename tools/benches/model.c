/*
 * bench_model - seconds of a model's forward pass or training step, through the doors that the product uses.
 *
 * usage: bench_model MODEL.onnx [options]
 *   --batch N       rows of a batch (1)
 *   --train         a whole training step (TripletMarginLoss, semi-hard miner, AdamW) instead of a forward
 * pass
 *   --keep-head     do not cut the classifier
 *   --threads N     (2)
 *   --precision P   f32, bf16 or bf16-emulated (f32)
 *   --repeat N      timed runs after two that warm up (5)
 *   --wait          no runs of its own accord: one for each line on standard input, one line of seconds for
 * each
 *   --profile       on standard error: time by op row and the slowest steps; slows the runs down a little
 *   --slowest N     how many of those (20)
 *
 * Standard output, last line: a JSON object with seconds (median), seconds_min, gflop (convolutions and
 * products of one run), gflops, prepare_seconds, peak_memory_bytes, activation_bytes, allocations (ours,
 * inside timed runs). Inputs are normal numbers, labels four of a class.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/rand.h"
#include "executor/model/tailor.h"
#include "executor/train/input.h"
#include "executor/train/step.h"
#include "tools/benches/profile.h"
#include "tools/benches/runs.h"

struct bench {
    const char *path, *precision;
    int64_t batch;
    bool train, keep_head;
    int threads;
    struct ft_runs runs;

    struct ft_device *device;
    struct ft_model *model;
    struct ft_graph *graph;
    struct ft_input input;
    struct ft_batch rows;
    struct ft_params params; /* forward only; a step has its own */
    struct ft_flat x, y;
    struct ft_plan *own_plan;
    struct ft_step *step;
    struct ft_plan *plan; /* own_plan's or step's */
    int64_t t;
};

/* ---- command line */

static bool take(struct bench *b, int option)
{
    switch (option) {
    case 'b':
        b->batch = ft_runs_number(optarg, 1 << 20);
        return b->batch > 0;
    case 't':
        b->threads = ft_runs_number(optarg, 1024);
        return b->threads > 0;
    case 'p':
        b->precision = optarg;
        return strcmp(b->precision, "int8") != 0;
    case 'r':
    case 's':
        return ft_runs_option(&b->runs, option, optarg);
    default:
        return option == 0;
    }
}

static bool read_arguments(struct bench *b, int argc, char **argv)
{
    int train = 0;
    int keep = 0;
    int wait = 0;
    int profile = 0;
    const struct option known[] = {
        {"batch", required_argument, NULL, 'b'},     {"threads", required_argument, NULL, 't'},
        {"precision", required_argument, NULL, 'p'}, {"repeat", required_argument, NULL, 'r'},
        {"slowest", required_argument, NULL, 's'},   {"train", no_argument, &train, 1},
        {"keep-head", no_argument, &keep, 1},        {"wait", no_argument, &wait, 1},
        {"profile", no_argument, &profile, 1},       {NULL, 0, NULL, 0}};
    bool good = true;
    int option = 0;
    while (good && (option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        good = take(b, option);
    }
    b->train = train != 0;
    b->keep_head = keep != 0;
    b->runs.wait = wait != 0;
    b->runs.profile = profile != 0;
    b->path = good && optind + 1 == argc ? argv[optind] : NULL;
    return b->path != NULL;
}

/* ---- set up */

static enum ft_status make_batch(struct bench *b, struct ft_err *err)
{
    struct ft_batch_input in = {.name = ft_graph_name(b->graph, b->input.data), .row_elements = 1};
    const struct ft_type *t = ft_graph_type(b->graph, b->input.data);
    char text[FT_TYPE_TEXT];
    for (int i = 1; i < t->rank; i++) {
        if (!ft_dim_is_known(t->dim[i])) {
            return FT_FAIL(err, UNSUPPORTED, "the input is %s: only the batch may be open",
                           ft_type_text(t, text));
        }
        in.row_elements *= (size_t)t->dim[i].coef;
    }
    FT_RETURN_IF_FAILED(ft_batch_init(&b->rows, &in, 1, (size_t)b->batch, 0, err));
    b->rows.rows = (size_t)b->batch;
    struct ft_rand r = ft_rand_at(1, FT_RAND_TEST, 0);
    for (size_t i = 0; i < in.row_elements * b->rows.rows; i++) {
        b->rows.input[0].data[i] = (float)ft_rand_normal(r, i);
    }
    for (size_t i = 0; i < b->rows.rows; i++) {
        b->rows.labels[i] = (int32_t)(i / 4);
    }
    return FT_OK;
}

static enum ft_status make_step(struct bench *b, struct ft_err *err)
{
    struct ft_step_spec spec;
    memset(&spec, 0, sizeof spec);
    FT_RETURN_IF_FAILED(
        ft_loss_parse("TripletMarginLoss", NULL, "TripletMarginMiner", NULL, &spec.loss, err));
    FT_RETURN_IF_FAILED(ft_optim_parse("AdamW", NULL, &spec.optim, err));
    spec.device = b->device;
    spec.graph = b->graph;
    spec.batch = (size_t)b->batch;
    FT_RETURN_IF_FAILED(ft_step_new(&spec, &b->step, err));
    b->plan = ft_step_plan(b->step);
    return FT_OK;
}

/* As an encoder plans it. */
static enum ft_status make_forward(struct bench *b, struct ft_err *err)
{
    struct ft_plan_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.symbols[FT_SYMBOL_BATCH] = b->batch;
    spec.wanted = &b->input.embedding;
    spec.n_wanted = 1;
    if (b->input.rng != FT_NO_VALUE) {
        return FT_FAIL(err, UNSUPPORTED, "the model drops out at inference");
    }
    FT_RETURN_IF_FAILED(ft_params_init(&b->params, b->device, b->graph, NULL, err));
    FT_RETURN_IF_FAILED(ft_flat_init(&b->x, b->device, b->rows.rows * b->rows.input[0].row_elements, err));
    FT_RETURN_IF_FAILED(ft_flat_init(&b->y, b->device, b->rows.rows * (size_t)b->input.dim, err));
    FT_RETURN_IF_FAILED(ft_plan_new(b->device, b->graph, &spec, &b->own_plan, err));
    FT_RETURN_IF_FAILED(ft_plan_bind(b->own_plan, b->input.data, b->x.data, err));
    FT_RETURN_IF_FAILED(ft_plan_bind(b->own_plan, b->input.embedding, b->y.data, err));
    FT_RETURN_IF_FAILED(ft_params_bind(&b->params, b->own_plan, b->graph, NULL, err));
    ft_params_show(&b->params, b->own_plan);
    b->plan = b->own_plan;
    return FT_OK;
}

static enum ft_status set_up(struct bench *b, struct ft_err *err)
{
    struct ft_tailor_options tailor;
    memset(&tailor, 0, sizeof tailor);
    tailor.keep_head = b->keep_head;
    enum ft_precision precision = FT_PRECISION_F32;
    FT_RETURN_IF_FAILED(ft_precision_parse(b->precision, &precision, err));
    FT_RETURN_IF_FAILED(ft_device_open("cpu", b->threads, &b->device, err));
    FT_RETURN_IF_FAILED(ft_device_set_precision(b->device, precision, err));
    FT_RETURN_IF_FAILED(ft_model_load(b->path, NULL, &b->model, err));
    FT_RETURN_IF_FAILED(ft_tailor(b->model, &tailor, &b->graph, NULL, err));
    FT_RETURN_IF_FAILED(ft_input_find(b->graph, &b->input, err));
    FT_RETURN_IF_FAILED(make_batch(b, err));
    return b->train ? make_step(b, err) : make_forward(b, err);
}

/* ---- running */

static struct ft_plan *plan_of(void *bench)
{
    return ((const struct bench *)bench)->plan;
}

static enum ft_status run_once(void *bench, double *seconds, struct ft_err *err)
{
    struct bench *b = bench;
    double start = ft_clock_seconds();
    if (b->train) {
        struct ft_step_result result;
        FT_RETURN_IF_FAILED(ft_step_run(b->step, &b->rows, ++b->t, 1e-5, &result, err));
    } else {
        FT_RETURN_IF_FAILED(ft_flat_put(&b->x, 0, b->rows.input[0].data, b->x.count, err));
        FT_RETURN_IF_FAILED(ft_plan_run(b->plan, err));
        FT_RETURN_IF_FAILED(ft_device_wait(b->device, err));
    }
    *seconds = ft_clock_seconds() - start;
    return FT_OK;
}

static void report(struct bench *b, double prepare_seconds)
{
    struct ft_plan_stats stats = ft_plan_stats(b->plan);
    double gflop = ft_profile_flops(b->plan) * 1e-9;
    double median = ft_runs_median(b->runs.seconds, (size_t)b->runs.count);
    (void)printf("{\"batch\": %lld, \"train\": %s, \"runs\": %d, \"seconds\": %.6f, \"seconds_min\": %.6f, "
                 "\"gflop\": %.4f, "
                 "\"gflops\": %.2f, \"prepare_seconds\": %.3f, \"peak_memory_bytes\": %lld, "
                 "\"activation_bytes\": %zu, "
                 "\"steps\": %d, \"reorders\": %d, \"allocations\": %llu}\n",
                 (long long)b->batch, b->train ? "true" : "false", b->runs.count, median,
                 b->runs.count == 0 ? 0 : b->runs.seconds[0], gflop, median > 0 ? gflop / median : 0,
                 prepare_seconds, (long long)ft_peak_memory(), stats.activation_bytes, ft_plan_steps(b->plan),
                 stats.reorders, (unsigned long long)b->runs.allocations);
}

static void release(struct bench *b)
{
    ft_step_free(b->step);
    ft_plan_free(b->own_plan);
    ft_flat_release(&b->x);
    ft_flat_release(&b->y);
    ft_params_release(&b->params);
    ft_batch_release(&b->rows);
    ft_graph_free(b->graph);
    ft_model_free(b->model);
    ft_device_close(b->device);
}

int main(int argc, char **argv)
{
    static struct bench b = {
        .precision = "f32", .batch = 1, .threads = 2, .runs = {.repeat = 5, .slowest = 20}};
    struct ft_err err = {0};
    enum ft_status st = FT_OK;
    if (!read_arguments(&b, argc, argv)) {
        (void)fputs("bench_model MODEL.onnx [--batch N] [--train] [--keep-head] [--threads N] [--repeat N] "
                    "[--wait] [--profile] "
                    "[--slowest N]\n",
                    stderr);
        return 2;
    }
    double start = ft_clock_seconds();
    FT_TRY(set_up(&b, &err));
    double prepare_seconds = ft_clock_seconds() - start;
    const struct ft_runs_job job = {run_once, plan_of, &b};
    FT_TRY(ft_runs_all(&b.runs, &job, &err));
    if (b.runs.profile && b.runs.count > 0) {
        FT_TRY(ft_profile_print(b.plan, b.runs.count, b.runs.slowest, stderr, &err));
    }
    report(&b, prepare_seconds);
done:
    if (st != FT_OK) {
        (void)fprintf(stderr, "bench_model: %s\n", err.text);
    }
    release(&b);
    return st == FT_OK ? 0 : 3;
}
