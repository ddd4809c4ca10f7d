/*
 * bench_conv - the convolutions of ResNet-18 and -50, ours (kernels/cpu/winograd.h and direct.h) beside
 * oneDNN's: GFLOP/s of each layer, in turns, and of the networks' sums. What the rules there rest on.
 *
 * usage: bench_conv forward|data|weight [BATCH [THREADS]]       (16, all processors)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor/base/rand.h"
#include "kernels/cpu/cpu.h"

struct layer {
    int64_t c, hw, k, taps, stride;
    int r18, r50; /* how often it occurs */
};

static const struct layer layers[] = {
    {3, 224, 64, 7, 2, 1, 1},     {64, 56, 64, 3, 1, 4, 3},    {64, 56, 128, 3, 2, 1, 0},
    {128, 28, 128, 3, 1, 3, 3},   {128, 28, 256, 3, 2, 1, 0},  {256, 14, 256, 3, 1, 3, 5},
    {256, 14, 512, 3, 2, 1, 0},   {512, 7, 512, 3, 1, 3, 2},   {64, 56, 128, 1, 2, 1, 0},
    {128, 28, 256, 1, 2, 1, 0},   {256, 14, 512, 1, 2, 1, 0},  {64, 56, 64, 1, 1, 0, 1},
    {64, 56, 256, 1, 1, 0, 4},    {256, 56, 64, 1, 1, 0, 2},   {256, 56, 128, 1, 1, 0, 1},
    {128, 56, 128, 3, 2, 0, 1},   {128, 28, 512, 1, 1, 0, 4},  {256, 56, 512, 1, 2, 0, 1},
    {512, 28, 128, 1, 1, 0, 3},   {512, 28, 256, 1, 1, 0, 1},  {256, 28, 256, 3, 2, 0, 1},
    {256, 14, 1024, 1, 1, 0, 6},  {512, 28, 1024, 1, 2, 0, 1}, {1024, 14, 256, 1, 1, 0, 5},
    {1024, 14, 512, 1, 1, 0, 1},  {512, 14, 512, 3, 2, 0, 1},  {512, 7, 2048, 1, 1, 0, 3},
    {1024, 14, 2048, 1, 2, 0, 1}, {2048, 7, 512, 1, 1, 0, 2},
};

enum { WINOGRAD, DIRECT, ONEDNN, SIDES };

struct side {
    struct ft_device *device;
    struct ft_kernel *kernel;
    void *scratch;
    double best;
};

static struct ft_err err;

static void must(enum ft_status status)
{
    if (status != FT_OK) {
        (void)fprintf(stderr, "bench_conv: %s\n", err.text);
        exit(1);
    }
}

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct ft_arg operand(struct ft_device *device, const struct ft_type *t, uint64_t seed)
{
    struct ft_arg arg = {.version = 1};
    must(ft_device_alloc(device, ft_type_bytes(t), &arg.data, &err));
    struct ft_rand r = ft_rand_at(seed, FT_RAND_TEST, 0);
    for (int64_t i = 0; i < ft_elements(t); i++) {
        ((float *)arg.data)[i] = ft_rand_float(r, (uint64_t)i) - 0.5F;
    }
    return arg;
}

/* Both sides in turns, so that what else the machine does hits both. */
static void time_call(struct side *sides, const struct ft_call *call)
{
    struct ft_arg in[3];
    for (int i = 0; i < call->n_in; i++) {
        in[i] = operand(sides[0].device, &call->in[i], (uint64_t)i + 1);
    }
    struct ft_arg out = operand(sides[0].device, call->out, 0);
    for (int i = 0; i < SIDES; i++) {
        size_t scratch = 0;
        must(ft_kernel_prepare(sides[i].device, call, &sides[i].kernel, &scratch, &err));
        must(ft_device_alloc(sides[i].device, scratch + 1, &sides[i].scratch, &err));
        sides[i].best = 1e9;
    }
    for (int turn = 0; turn < 5 * SIDES; turn++) {
        struct side *side = &sides[turn % SIDES];
        double start = now();
        must(ft_kernel_run(side->kernel, in, &out, side->scratch, &err));
        double t = now() - start;
        side->best = turn >= SIDES && t < side->best ? t : side->best;
    }
    for (int i = 0; i < SIDES; i++) {
        ft_device_free(sides[i].device, sides[i].scratch);
        ft_kernel_free(sides[i].kernel);
    }
    for (int i = 0; i < call->n_in; i++) {
        ft_device_free(sides[0].device, in[i].data);
    }
    ft_device_free(sides[0].device, out.data);
}

/* Returns the operations. */
static double time_layer(struct side *sides, enum ft_op op, int64_t batch, const struct layer *l)
{
    struct ft_call call = {.op = op, .n_in = op == FT_OP_CONV ? 2 : 3};
    struct ft_window *window = &call.attrs.window;
    window->rank = 2;
    for (int i = 0; i < 2; i++) {
        window->kernel[i] = l->taps;
        window->stride[i] = l->stride;
        window->dilation[i] = 1;
        window->pad_begin[i] = window->pad_end[i] = l->taps / 2;
    }
    call.attrs.group = 1;
    int64_t out = (l->hw + 2 * (l->taps / 2) - l->taps) / l->stride + 1;
    struct ft_type x = ft_type_of(FT_F32, 4, (const int64_t[4]){batch, l->c, l->hw, l->hw});
    struct ft_type y = ft_type_of(FT_F32, 4, (const int64_t[4]){batch, l->k, out, out});
    const struct ft_type w = ft_type_of(FT_F32, 4, (const int64_t[4]){l->k, l->c, l->taps, l->taps});
    x.layout = y.layout = FT_CHANNELS_LAST;
    const struct ft_type forward[3] = {x, w, y};
    const struct ft_type data[3] = {y, w, x};
    const struct ft_type weight[3] = {x, y, w};
    call.in = op == FT_OP_CONV ? forward : op == FT_OP_CONV_BWD_DATA ? data : weight;
    call.out = op == FT_OP_CONV ? &y : op == FT_OP_CONV_BWD_DATA ? &x : &w;
    time_call(sides, &call);
    return 2.0 * (double)ft_elements(&y) * (double)(l->c * l->taps * l->taps);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "forward";
    int64_t batch = argc > 2 ? strtol(argv[2], NULL, 10) : 16;
    int threads = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0;
    enum ft_op op = strcmp(what, "forward") == 0  ? FT_OP_CONV
                    : strcmp(what, "data") == 0   ? FT_OP_CONV_BWD_DATA
                    : strcmp(what, "weight") == 0 ? FT_OP_CONV_BWD_WEIGHT
                                                  : FT_OP_COUNT;
    if (op == FT_OP_COUNT) {
        (void)fprintf(stderr, "usage: bench_conv forward|data|weight [BATCH [THREADS]]\n");
        return 2;
    }
    struct side sides[SIDES] = {0};
    for (int i = 0; i < SIDES; i++) {
        must(ft_device_open("cpu", threads, &sides[i].device, &err));
        static const enum ft_cpu_direct of[SIDES] = {FT_CPU_WINOGRAD_ALWAYS, FT_CPU_DIRECT_ALWAYS,
                                                     FT_CPU_DIRECT_NEVER};
        ft_cpu_of(sides[i].device)->direct = of[i];
    }
    double time[2][SIDES] = {{0}};
    double work[2] = {0};
    (void)printf(
        "%s, batch %lld: GFLOP/s of winograd.h where it can, else direct.h, of direct.h, of oneDNN\n", what,
        (long long)batch);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const struct layer *l = &layers[i];
        double flops = time_layer(sides, op, batch, l);
        (void)printf("  %4lld x %3lld^2 -> %4lld, %lld^2/%lld ", (long long)l->c, (long long)l->hw,
                     (long long)l->k, (long long)l->taps, (long long)l->stride);
        for (int side = 0; side < SIDES; side++) {
            (void)printf(" %6.1f", flops / sides[side].best * 1e-9);
        }
        (void)printf("\n");
        (void)fflush(stdout);
        const int times[2] = {l->r18, l->r50};
        for (int net = 0; net < 2; net++) {
            work[net] += times[net] * flops;
            for (int side = 0; side < SIDES; side++) {
                time[net][side] += times[net] * sides[side].best;
            }
        }
    }
    for (int net = 0; net < 2; net++) {
        (void)printf("ResNet-%d", net == 0 ? 18 : 50);
        for (int side = 0; side < SIDES; side++) {
            (void)printf(" %6.1f", work[net] / time[net][side] * 1e-9);
        }
        (void)printf("\n");
    }
    for (int i = 0; i < SIDES; i++) {
        ft_device_close(sides[i].device);
    }
    return 0;
}
