/* The loss rows, composed as graphs compose them, against pytorch-metric-learning
 * (tests/oracle/make_losses.py). */
/* links: ft_kernels ft_base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernel.h"

enum { TRIPLET, CONTRASTIVE };
enum { PARAMETERS = 12, MAX_VALUES = 64 };

struct golden {
    int kind, squared, normalize, miner, reducer;
    double miner_margin, margin, neg_margin;
    int64_t batch, width, refs, seed;
    const double *labels, *embeddings, *ref_labels, *ref_embeddings; /* ref_*: NULL when refs = 0 */
    double loss;
    int64_t possible, mined;
    const double *gradient, *ref_gradient;
};

struct file {
    double *numbers;
    size_t count, used;
};

static const double *take(struct file *f, int64_t count)
{
    const double *at = &f->numbers[f->used];
    f->used += (size_t)count;
    assert_true(f->used <= f->count);
    return at;
}

static struct file read_file(void)
{
    FILE *in = fopen(FT_TEST_DATA "/losses.bin", "rb");
    char magic[8] = {0};
    struct file f = {NULL, 0, 0};
    assert_non_null(in);
    assert_int_equal(fseek(in, 0, SEEK_END), 0);
    long size = ftell(in);
    assert_true(size > 16);
    f.count = ((size_t)size - 8) / 8;
    f.numbers = malloc(f.count * 8);
    assert_non_null(f.numbers);
    rewind(in);
    assert_int_equal(fread(magic, 1, 8, in), 8);
    assert_memory_equal(magic, "FTLOSS01", 8);
    assert_int_equal(fread(f.numbers, 8, f.count, in),
                     f.count); /* little-endian hosts only, as all of ours */
    assert_int_equal(fclose(in), 0);
    return f;
}

static struct golden read_case(struct file *f)
{
    const double *p = take(f, PARAMETERS);
    struct golden g = {.kind = (int)p[0],
                       .squared = (int)p[1],
                       .normalize = (int)p[2],
                       .miner = (int)p[3],
                       .miner_margin = p[4],
                       .margin = p[5],
                       .neg_margin = p[6],
                       .reducer = (int)p[7],
                       .batch = (int64_t)p[8],
                       .width = (int64_t)p[9],
                       .refs = (int64_t)p[10],
                       .seed = (int64_t)p[11]};
    g.labels = take(f, g.batch);
    g.embeddings = take(f, g.batch * g.width);
    g.ref_labels = take(f, g.refs);
    g.ref_embeddings = take(f, g.refs * g.width);
    const double *results = take(f, 3);
    g.loss = results[0];
    g.possible = (int64_t)results[1];
    g.mined = (int64_t)results[2];
    g.gradient = take(f, g.batch * g.width);
    g.ref_gradient = take(f, g.refs * g.width);
    return g;
}

/* ---- a few values on a device, and calls over them */

struct value {
    struct ft_type type;
    void *data;
};

struct machine {
    struct ft_device *device;
    struct value values[MAX_VALUES];
    int count;
};

static int new_value(struct machine *m, enum ft_dtype dtype, int rank, const int64_t *extents)
{
    struct ft_err err = {0};
    assert_true(m->count < MAX_VALUES);
    struct value *v = &m->values[m->count];
    v->type = ft_type_of(dtype == FT_F64 ? ft_device_float(m->device) : dtype, rank, extents);
    assert_int_equal(ft_device_alloc(m->device, ft_type_bytes(&v->type), &v->data, &err), FT_OK);
    return m->count++;
}

static int input(struct machine *m, enum ft_dtype dtype, int rank, const int64_t *extents, const double *from)
{
    int id = new_value(m, dtype, rank, extents);
    struct value *v = &m->values[id];
    for (int64_t i = 0; i < ft_elements(&v->type); i++) { /* both devices are in host memory */
        if (v->type.dtype == FT_F64) {
            ((double *)v->data)[i] = from[i];
        } else if (v->type.dtype == FT_F32) {
            ((float *)v->data)[i] = (float)from[i];
        } else {
            ((int32_t *)v->data)[i] = (int32_t)from[i];
        }
    }
    return id;
}

static double number(const struct machine *m, int id, int64_t i)
{
    const struct value *v = &m->values[id];
    switch (v->type.dtype) {
    case FT_F64:
        return ((const double *)v->data)[i];
    case FT_F32:
        return (double)((const float *)v->data)[i];
    case FT_I64:
        return (double)((const int64_t *)v->data)[i];
    case FT_I32:
    case FT_U8:
    case FT_BOOL:
    case FT_BF16:
    case FT_DTYPE_COUNT:
        break;
    }
    fail_msg("no such value");
    return 0.0;
}

/* Runs an op; returns the id of its first output, the others follow. */
static int apply(struct machine *m, enum ft_op op, const struct ft_attrs *attrs, int n_in, const int *in)
{
    struct ft_err err = {0};
    struct ft_type in_types[5];
    struct ft_type out_types[FT_MAX_OUTPUTS];
    struct ft_arg in_args[5] = {{0}};
    struct ft_arg out_args[FT_MAX_OUTPUTS] = {{0}};
    int outputs = ft_op_info(op)->outputs;
    int first = m->count;
    for (int i = 0; i < n_in; i++) {
        in_types[i] = m->values[in[i]].type;
        in_args[i].data = m->values[in[i]].data;
    }
    assert_int_equal(ft_op_infer(op, attrs, in_types, n_in, out_types, &err), FT_OK);
    for (int i = 0; i < outputs; i++) {
        int64_t extents[FT_MAX_RANK];
        for (int axis = 0; axis < out_types[i].rank; axis++) {
            extents[axis] = ft_extent(&out_types[i], axis);
        }
        int id = new_value(m, out_types[i].dtype == FT_I64 ? FT_I64 : FT_F64, out_types[i].rank, extents);
        out_args[i].data = m->values[id].data;
    }
    struct ft_call call = {.op = op, .attrs = *attrs, .n_in = n_in, .in = in_types, .out = out_types};
    struct ft_kernel *kernel = NULL;
    size_t scratch_bytes = 0;
    void *scratch = NULL;
    if (ft_kernel_prepare(m->device, &call, &kernel, &scratch_bytes, &err) != FT_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(ft_device_alloc(m->device, scratch_bytes, &scratch, &err), FT_OK);
    assert_int_equal(ft_kernel_run(kernel, in_args, out_args, scratch, &err), FT_OK);
    assert_int_equal(ft_device_wait(m->device, &err), FT_OK);
    ft_device_free(m->device, scratch);
    ft_kernel_free(kernel);
    return first;
}
#define APPLY(m, op, attrs, ...)                                                                             \
    apply(m, op, attrs, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)), (const int[]){__VA_ARGS__})

static void release(struct machine *m)
{
    for (int i = 0; i < m->count; i++) {
        ft_device_free(m->device, m->values[i].data);
    }
    m->count = 0;
}

/* ---- the losses */

struct outcome {
    double loss;
    int64_t possible, mined;
    int ddist;
};

/* Mean of max(0, sign * d + beta) over weighted pairs, and its gradient by d. */
static int pair_term(struct machine *m, const struct golden *g, int d, int weights, double sign, double beta,
                     double *loss)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    a.alpha = (float)sign;
    a.beta = (float)beta;
    a.reducer = (enum ft_reducer)g->reducer;
    int moved = APPLY(m, FT_OP_SCALE, &a, d);
    int hinge = APPLY(m, FT_OP_RELU, &a, moved);
    int mean = APPLY(m, FT_OP_MASKED_MEAN, &a, hinge, weights);
    *loss += number(m, mean, 0);
    const double one = 1.0;
    int dy = input(m, FT_F64, 0, NULL, &one);
    int dhinge = APPLY(m, FT_OP_MASKED_MEAN_BWD, &a, dy, hinge, weights, mean + 1);
    int dmoved = APPLY(m, FT_OP_RELU_BWD, &a, dhinge, hinge);
    a.beta = 0.0F;
    return APPLY(m, FT_OP_SCALE, &a, dmoved);
}

static struct outcome loss_of(struct machine *m, const struct golden *g, int d, int la, int lb)
{
    struct ft_attrs a;
    struct outcome o = {0.0, 0, 0, 0};
    memset(&a, 0, sizeof a);
    a.miner = (enum ft_miner)g->miner;
    a.miner_margin = (float)g->miner_margin;
    a.reducer = (enum ft_reducer)g->reducer;
    a.offset = g->refs == 0 ? 0 : g->refs; /* no row is its own column among other references */
    int stats = 0;
    if (g->kind == TRIPLET) {
        a.margin = (float)g->margin;
        int triplet = APPLY(m, FT_OP_TRIPLET, &a, d, d, la, lb);
        o.loss = number(m, triplet, 0);
        o.ddist = triplet + 1;
        stats = triplet + 2;
    } else {
        int pairs = APPLY(m, FT_OP_PAIRS, &a, d, la, lb);
        int pos = pair_term(m, g, d, pairs, 1.0, -g->margin, &o.loss);
        int neg = pair_term(m, g, d, pairs + 1, -1.0, g->neg_margin, &o.loss);
        o.ddist = APPLY(m, FT_OP_ADD, &a, pos, neg);
        stats = pairs + 2;
    }
    o.possible = (int64_t)number(m, stats, 0);
    o.mined = (int64_t)number(m, stats, 1);
    return o;
}

static void compare(const struct machine *m, const struct golden *g, const char *what, double got,
                    double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fmax(1.0, fabs(want)))) {
        fail_msg("%s, case %lld (kind %d, miner %d): %s is %.12g, pytorch-metric-learning has %.12g",
                 ft_device_name(m->device), (long long)g->seed, g->kind, g->miner, what, got, want);
    }
}

static int backward(struct machine *m, const struct golden *g, int gradient, int normal)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    a.eps = 1e-12F;
    return g->normalize ? APPLY(m, FT_OP_L2_NORMALIZE_BWD, &a, gradient, normal, normal + 1) : gradient;
}

static void run_case(struct machine *m, const struct golden *g, double tolerance)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    a.eps = 1e-12F; /* torch.nn.functional.normalize */
    a.kind = g->squared ? FT_DIST_SQEUCLIDEAN : FT_DIST_EUCLIDEAN;
    int e = input(m, FT_F64, 2, (const int64_t[]){g->batch, g->width}, g->embeddings);
    int la = input(m, FT_I32, 1, &g->batch, g->labels);
    int x = g->normalize ? APPLY(m, FT_OP_L2_NORMALIZE, &a, e) : e;
    int r = x;
    int lb = la;
    if (g->refs != 0) {
        r = input(m, FT_F64, 2, (const int64_t[]){g->refs, g->width}, g->ref_embeddings);
        lb = input(m, FT_I32, 1, &g->refs, g->ref_labels);
        r = g->normalize ? APPLY(m, FT_OP_L2_NORMALIZE, &a, r) : r;
    }
    int d = APPLY(m, FT_OP_PDIST, &a, x, r);
    struct outcome o = loss_of(m, g, d, la, lb);
    compare(m, g, "the loss", o.loss, g->loss, tolerance);
    compare(m, g, "the number of triplets", (double)o.possible, (double)g->possible, 0.0);
    compare(m, g, "the number of mined triplets", (double)o.mined, (double)g->mined, 0.0);
    int dx = APPLY(m, FT_OP_PDIST_BWD, &a, o.ddist, d, x, r);
    int dr = dx + 1;
    if (g->refs == 0) {
        dx = APPLY(m, FT_OP_ADD, &a, dx, dr);
    }
    int de = backward(m, g, dx, x);
    for (int64_t i = 0; i < g->batch * g->width; i++) {
        compare(m, g, "a gradient", number(m, de, i), g->gradient[i], tolerance);
    }
    if (g->refs != 0) {
        dr = backward(m, g, dr, r);
    }
    for (int64_t i = 0; i < g->refs * g->width; i++) {
        compare(m, g, "a gradient of a reference", number(m, dr, i), g->ref_gradient[i], tolerance);
    }
    release(m);
}

static void run_all(const char *device, double tolerance)
{
    struct ft_err err = {0};
    struct machine m = {.device = NULL};
    struct file f = read_file();
    int64_t cases = (int64_t)*take(&f, 1);
    int64_t mined = 0;
    assert_int_equal(ft_device_open(device, 1, &m.device, &err), FT_OK);
    for (int64_t i = 0; i < cases; i++) {
        struct golden g = read_case(&f);
        run_case(&m, &g, tolerance);
        mined += g.mined;
    }
    assert_int_equal(f.used, f.count);
    assert_true(cases > 100 && mined > 1000);
    (void)printf("device %s: %lld cases, %lld mined triplets as pytorch-metric-learning has them\n", device,
                 (long long)cases, (long long)mined);
    ft_device_close(m.device);
    free(f.numbers);
}

/* Both sides in float64: only the order of summation differs. */
static void ref_equals_pytorch_metric_learning(void **state)
{
    (void)state;
    run_all("ref", 1e-9);
}

/* float32 embeddings, distances and sums of at most some hundred terms around 1. */
static void cpu_equals_pytorch_metric_learning(void **state)
{
    (void)state;
    run_all("cpu", 1e-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_equals_pytorch_metric_learning),
        cmocka_unit_test(cpu_equals_pytorch_metric_learning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
