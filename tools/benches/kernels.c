/*
 * bench_kernels - what the kernels of a device reach: GFLOP/s of products and convolutions as a share of a
 * 2048^3 product timed in the same run, and milliseconds of everything else that a training step is made of.
 *
 * usage: bench_kernels [DEVICE [THREADS [busy|peak|products|busy-products]]]       (cpu, all processors)
 * `peak` stops after that product, which other benches put beside their figures, `products` after all of
 * them. `busy` counts processor time instead of the wall clock's, for one thread on a machine that others use
 * too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "kernels/kernel.h"

enum { OPERANDS = 8 };

struct bench {
    struct ft_device *device;
    double peak; /* GFLOP/s of the 2048^3 product */
    clockid_t clock;
    struct ft_err err;
};

static double now(const struct bench *b)
{
    struct timespec t;
    (void)clock_gettime(b->clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void give_up(struct bench *b, const char *what)
{
    (void)fprintf(stderr, "bench_kernels: %s: %s (%s)\n", what, b->err.text, ft_status_text(b->err.code));
    exit(1);
}

/* ---- operands */

static struct ft_type tensor(int rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t extents[4] = {a, b, c, d};
    struct ft_type t = ft_type_of(FT_F32, rank, extents);
    return t;
}

static struct ft_type image(int64_t n, int64_t c, int64_t h, int64_t w)
{
    struct ft_type t = tensor(4, n, c, h, w);
    t.layout = FT_CHANNELS_LAST;
    return t;
}

static struct ft_type weight(int64_t m, int64_t c, int64_t k)
{
    return tensor(4, m, c, k, k);
}

/* Normal values; indices (labels) are i / 4, so four of a class. */
static void *operand(struct bench *b, const struct ft_type *t, uint64_t seed)
{
    void *data = NULL;
    if (ft_device_alloc(b->device, ft_type_bytes(t), &data, &b->err) != FT_OK) {
        give_up(b, "memory");
    }
    struct ft_rand r = ft_rand_at(seed, FT_RAND_TEST, 0);
    int64_t n = ft_elements(t);
    for (int64_t i = 0; i < n; i++) {
        if (t->dtype == FT_F32) {
            ((float *)data)[i] = (float)ft_rand_normal(r, (uint64_t)i);
        } else if (t->dtype == FT_I32) {
            ((int32_t *)data)[i] = (int32_t)(i / 4);
        }
    }
    return data;
}

/* ---- one kernel */

struct run {
    struct ft_kernel *kernel;
    struct ft_arg in[OPERANDS], out[OPERANDS];
    void *scratch;
};

/* Weights get a new version every run, as in training. */
static double time_once(struct bench *b, struct run *r, int times, uint64_t *version)
{
    double start = now(b);
    for (int i = 0; i < times; i++) {
        r->in[1].version = ++*version;
        if (ft_kernel_run(r->kernel, r->in, r->out, r->scratch, &b->err) != FT_OK) {
            give_up(b, "run");
        }
    }
    if (ft_device_wait(b->device, &b->err) != FT_OK) {
        give_up(b, "wait");
    }
    return (now(b) - start) / times;
}

/* Seconds of one run: the best of twelve samples of at least 10 ms. */
static double time_call(struct bench *b, struct ft_call *call, const struct ft_type *out)
{
    struct run r = {0};
    size_t scratch = 0;
    call->out = out;
    if (ft_kernel_prepare(b->device, call, &r.kernel, &scratch, &b->err) != FT_OK ||
        ft_device_alloc(b->device, scratch + 1, &r.scratch, &b->err) != FT_OK) {
        give_up(b, ft_op_info(call->op)->name);
    }
    int outputs = ft_op_info(call->op)->outputs;
    for (int i = 0; i < call->n_in; i++) {
        r.in[i].data = operand(b, &call->in[i], (uint64_t)i + 1);
    }
    for (int i = 0; i < outputs; i++) {
        r.out[i].data = operand(b, &out[i], 0);
    }
    uint64_t version = 0;
    double once = time_once(b, &r, 1, &version);
    once = time_once(b, &r, 1, &version);
    int times = once < 0.01 ? (int)(0.01 / once) + 1 : 1;
    double best = 1e9;
    for (int i = 0; i < 12; i++) {
        double t = time_once(b, &r, times, &version);
        best = t < best ? t : best;
    }
    for (int i = 0; i < call->n_in; i++) {
        ft_device_free(b->device, r.in[i].data);
    }
    for (int i = 0; i < outputs; i++) {
        ft_device_free(b->device, r.out[i].data);
    }
    ft_device_free(b->device, r.scratch);
    ft_kernel_free(r.kernel);
    return best;
}

static void report(const struct bench *b, const char *what, double seconds, double flops)
{
    if (flops > 0) {
        (void)printf("  %-44s %9.3f ms %8.1f GFLOP/s %5.0f%%\n", what, seconds * 1e3, flops / seconds * 1e-9,
                     100.0 * flops / seconds * 1e-9 / b->peak);
    } else {
        (void)printf("  %-44s %9.3f ms\n", what, seconds * 1e3);
    }
}

/* ---- products */

static double product(struct bench *b, int64_t m, int64_t n, int64_t k, int trans_a, int trans_b)
{
    struct ft_call call = {.op = FT_OP_MATMUL, .n_in = 2};
    call.attrs.alpha = 1.0F;
    call.attrs.trans_a = trans_a;
    call.attrs.trans_b = trans_b;
    const struct ft_type in[2] = {trans_a ? tensor(2, k, m, 0, 0) : tensor(2, m, k, 0, 0),
                                  trans_b ? tensor(2, n, k, 0, 0) : tensor(2, k, n, 0, 0)};
    const struct ft_type out = tensor(2, m, n, 0, 0);
    call.in = in;
    double seconds = time_call(b, &call, &out);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    char what[64];
    (void)snprintf(what, sizeof what, "matmul %lld x %lld x %lld%s%s", (long long)m, (long long)n,
                   (long long)k, trans_a ? " a'" : "", trans_b ? " b'" : "");
    if (b->peak == 0) {
        b->peak = flops / seconds * 1e-9;
    }
    report(b, what, seconds, flops);
    return seconds;
}

/* ---- convolutions */

struct layer {
    int64_t n, c, hw, m, k, stride;
};

static struct ft_window window(int64_t k, int64_t stride, int64_t pad)
{
    struct ft_window w = {.rank = 2};
    for (int i = 0; i < 2; i++) {
        w.kernel[i] = k;
        w.stride[i] = stride;
        w.dilation[i] = 1;
        w.pad_begin[i] = pad;
        w.pad_end[i] = pad;
    }
    return w;
}

/* Forward and both gradients; returns the seconds of all three. */
static double convolution(struct bench *b, struct layer l, bool first)
{
    int64_t out_hw = (l.hw + 2 * (l.k / 2) - l.k) / l.stride + 1;
    struct ft_type x = image(l.n, l.c, l.hw, l.hw);
    struct ft_type w = weight(l.m, l.c, l.k);
    struct ft_type y = image(l.n, l.m, out_hw, out_hw);
    double flops = 2.0 * (double)ft_elements(&y) * (double)(l.c * l.k * l.k);
    struct ft_call call = {.op = FT_OP_CONV};
    call.attrs.window = window(l.k, l.stride, l.k / 2);
    call.attrs.group = 1;
    const struct ft_type ops[3][3] = {{x, w, y}, {y, w, x}, {x, y, w}};
    const struct ft_type outs[3] = {y, x, w};
    const enum ft_op op[3] = {FT_OP_CONV, FT_OP_CONV_BWD_DATA, FT_OP_CONV_BWD_WEIGHT};
    const char *const name[3] = {"forward", "d data", "d weight"};
    double all = 0;
    for (int i = 0; i < 3; i++) {
        if (i == 1 && first) { /* nobody asks for the gradient of the images */
            continue;
        }
        call.op = op[i];
        call.n_in = i == 0 ? 2 : 3;
        call.in = ops[i];
        double seconds = time_call(b, &call, &outs[i]);
        char what[80];
        (void)snprintf(what, sizeof what, "%lld x %lld x %lld^2 -> %lld, %lld^2/%lld %s", (long long)l.n,
                       (long long)l.c, (long long)l.hw, (long long)l.m, (long long)l.k, (long long)l.stride,
                       name[i]);
        report(b, what, seconds, flops);
        all += seconds;
    }
    return all;
}

/* ---- the rest of a block conv - batchnorm - relu - maxpool */

static double timed(struct bench *b, enum ft_op op, const struct ft_attrs *attrs, int n_in,
                    const struct ft_type *in, const struct ft_type *out)
{
    struct ft_call call = {.op = op, .attrs = *attrs, .n_in = n_in, .in = in};
    double seconds = time_call(b, &call, out);
    char what[80];
    (void)snprintf(what, sizeof what, "%s %lld x %lld x %lld^2", ft_op_info(op)->name,
                   (long long)ft_extent(&in[0], 0), (long long)ft_extent(&in[0], 1),
                   (long long)(in[0].rank == 4 ? ft_extent(&in[0], 2) : 1));
    report(b, what, seconds, 0);
    return seconds;
}

static double block(struct bench *b, int64_t n, int64_t c, int64_t hw)
{
    struct ft_type x = image(n, c, hw, hw);
    struct ft_type y = image(n, c, hw / 2, hw / 2);
    struct ft_type where = y;
    struct ft_type v = tensor(1, c, 0, 0, 0);
    where.dtype = FT_I32;
    struct ft_attrs a = {.eps = 1e-5F, .momentum = 0.1F};
    a.window = window(2, 2, 0);
    double s = 0;
    const struct ft_type train[5] = {x, v, v, v, v};
    s += timed(b, FT_OP_BATCHNORM_TRAIN, &a, 5, train, train);
    const struct ft_type bwd[5] = {x, x, v, v, v};
    const struct ft_type bwd_out[3] = {x, v, v};
    s += timed(b, FT_OP_BATCHNORM_TRAIN_BWD, &a, 5, bwd, bwd_out);
    const struct ft_type two[2] = {x, x};
    s += timed(b, FT_OP_RELU, &a, 1, two, two);
    s += timed(b, FT_OP_RELU_BWD, &a, 2, two, two);
    const struct ft_type pooled[2] = {y, where};
    s += timed(b, FT_OP_MAXPOOL, &a, 1, &x, pooled);
    const struct ft_type back[3] = {y, where, x};
    s += timed(b, FT_OP_MAXPOOL_BWD, &a, 3, back, &x);
    return s;
}

/* conv - batchnorm - relu - maxpool three times: the sum of its kernels, forward and backward. */
static void small_cnn(struct bench *b, const char *name, int64_t n, int64_t channels, int64_t hw,
                      const int64_t *width, int layers)
{
    (void)printf("%s, batch %lld\n", name, (long long)n);
    double convs = 0;
    double rest = 0;
    for (int i = 0; i < layers; i++) {
        struct layer l = {n, channels, hw, width[i], 3, 1};
        convs += convolution(b, l, i == 0);
        rest += block(b, n, width[i], hw);
        channels = width[i];
        hw /= 2;
    }
    (void)printf("  sum: convolutions %.2f ms, rest %.2f ms, %.0f samples/s\n", convs * 1e3, rest * 1e3,
                 (double)n / (convs + rest));
}

/* ---- mining and loss */

static void mining(struct bench *b, int64_t n, int64_t d)
{
    (void)printf("mining and loss, B = %lld, D = %lld, 4 of a class\n", (long long)n, (long long)d);
    struct ft_type e = tensor(2, n, d, 0, 0);
    struct ft_type dist = tensor(2, n, n, 0, 0);
    struct ft_type label = ft_type_of(FT_I32, 1, &n);
    const int64_t four = 4;
    struct ft_type stats = ft_type_of(FT_I64, 1, &four);
    struct ft_type loss = tensor(0, 0, 0, 0, 0);
    struct ft_attrs a = {.kind = FT_DIST_EUCLIDEAN, .margin = 0.2F, .miner_margin = 0.2F, .eps = 1e-12F};
    const struct ft_type pair[2] = {e, e};
    double s = timed(b, FT_OP_PDIST, &a, 2, pair, &dist);
    const struct ft_type bwd[4] = {dist, dist, e, e};
    s += timed(b, FT_OP_PDIST_BWD, &a, 4, bwd, pair);
    const struct ft_type in[4] = {dist, dist, label, label};
    const struct ft_type out[3] = {loss, dist, stats};
    static const enum ft_miner miners[5] = {FT_MINER_MARGIN_ALL, FT_MINER_MARGIN_SEMIHARD,
                                            FT_MINER_MARGIN_HARD, FT_MINER_BATCH_HARD,
                                            FT_MINER_FACENET_SEMIHARD};
    static const char *const names[5] = {"all", "semihard", "hard", "batch-hard", "FaceNet semi-hard"};
    for (int i = 0; i < 5; i++) {
        a.miner = miners[i];
        double t = timed(b, FT_OP_TRIPLET, &a, 4, in, out);
        (void)printf("  %-18s distances, mining, loss and gradient: %.2f ms (dense gradient)\n", names[i],
                     (s + t) * 1e3);
    }
}

/* ---- all */

static void resnets(struct bench *b)
{
    static const struct layer r18[] = {{32, 3, 224, 64, 7, 2},   {32, 64, 56, 64, 3, 1},
                                       {32, 64, 56, 128, 3, 2},  {32, 128, 28, 128, 3, 1},
                                       {32, 256, 14, 256, 3, 1}, {32, 512, 7, 512, 3, 1}};
    static const struct layer r50[] = {{32, 64, 56, 256, 1, 1},   {32, 256, 56, 64, 1, 1},
                                       {32, 512, 28, 128, 1, 1},  {32, 512, 28, 1024, 1, 2},
                                       {32, 1024, 14, 256, 1, 1}, {32, 512, 7, 2048, 1, 1}};
    (void)printf("ResNet-18\n");
    for (size_t i = 0; i < sizeof r18 / sizeof *r18; i++) {
        (void)convolution(b, r18[i], i == 0);
    }
    (void)printf("ResNet-50\n");
    for (size_t i = 0; i < sizeof r50 / sizeof *r50; i++) {
        (void)convolution(b, r50[i], false);
    }
}

static void matrices(struct bench *b)
{
    (void)printf("products (share of the first)\n");
    (void)product(b, 2048, 2048, 2048, 0, 0);
    (void)product(b, 4096, 384, 1536, 0, 0);
    (void)product(b, 4096, 1536, 384, 0, 1);
    (void)product(b, 384, 1536, 4935, 1, 0); /* gradients of MiniLM's weights over a batch of 64 texts */
    (void)product(b, 1536, 384, 4935, 1, 0);
    (void)product(b, 384, 384, 4935, 1, 0);
    (void)product(b, 512, 384, 384, 0, 0);
    (void)product(b, 64, 64, 64, 0, 1);
    (void)product(b, 64, 10, 64, 0, 1);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 3 ? argv[3] : "";
    struct bench b = {.clock = strncmp(mode, "busy", 4) == 0 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC};
    const char *name = argc > 1 ? argv[1] : "cpu";
    int threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    if (ft_device_open(name, threads, &b.device, &b.err) != FT_OK) {
        give_up(&b, name);
    }
    if (strcmp(mode, "peak") == 0) {
        (void)product(&b, 2048, 2048, 2048, 0, 0);
        ft_device_close(b.device);
        return 0;
    }
    matrices(&b);
    if (strstr(mode, "products") != NULL) {
        ft_device_close(b.device);
        return 0;
    }
    static const int64_t glyph[3] = {32, 64, 128};
    small_cnn(&b, "glyph CNN", 128, 3, 32, glyph, 3);
    static const int64_t digit[2] = {16, 32};
    small_cnn(&b, "digits CNN", 64, 1, 8, digit, 2);
    mining(&b, 1024, 128);
    resnets(&b);
    ft_device_close(b.device);
    return 0;
}
