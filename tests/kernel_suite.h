/*
 * kernel_suite.h - one call of one op, run on every device and compared with `ref`; included by
 * test_kernels.c only.
 *
 * Values are kept as doubles that are exact in float32, so every device sees the same numbers. Around each
 * buffer lie canaries; outputs and scratch start as garbage; a second run must give the same bits.
 */
#ifndef FT_TESTS_KERNEL_SUITE_H
#define FT_TESTS_KERNEL_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "kernels/bf16.h"
#include "kernels/kernel.h"

enum { MAX_IN = 9, MAX_DEVICES = 8 };

enum fill { NORMAL, POSITIVE, GRID, DISTANCE, INTEGERS, NONZERO, EXPONENTS, BITS, GIVEN };

/* How close is close enough, in units of 2^-24 (half a float32 ulp at 1):
 * EXACT    moved or selected elements: no rounding at all.
 * ELEMENT  factor * (|expected| + floor): `factor` roundings of values of that size.
 * SUM      factor * (the same op on absolute values + floor): rounding of a sum is relative to the sum of
 *          magnitudes. Activations behind the sum have slopes of hardly more than 1, so they do not count.
 */
enum rule { EXACT, ELEMENT, SUM };

struct kase {
    enum ft_op op;
    struct ft_attrs attrs;
    int n_in;
    struct ft_type in[MAX_IN];
    enum fill fill[MAX_IN];
    const double *given[MAX_IN];
    enum rule rule;
    double factor, floor;
    bool narrow;      /* every float operand is stored as bf16 */
    bool not_own;     /* leave out devices of FT_PRECISION_BF16 */
    bool same_memory; /* inputs 0 and 1 are one buffer */
    bool in_place;    /* output i is written over input place[i] */
    int place[FT_MAX_OUTPUTS];
    uint32_t negate; /* SUM: inputs that are subtracted, so their magnitude counts with a minus sign */
};

struct suite_device {
    struct ft_device *device;
    int threads;
    int cases;
    bool op_seen[FT_OP_COUNT];
};

struct suite {
    struct ft_device *ref;
    struct suite_device devices[MAX_DEVICES];
    int n_devices;
    uint64_t seed;
    bool narrow;          /* test all calls with bf16 operands */
    uint64_t case_number; /* stream of the case's random data */
};

/* ---- building cases */

static inline struct ft_type type_f(int rank, const int64_t *extents)
{
    return ft_type_of(FT_F64, rank, extents);
}
#define T0 type_f(0, NULL)
#define T1(a) type_f(1, (const int64_t[]){a})
#define T2(a, b) type_f(2, (const int64_t[]){a, b})
#define T3(a, b, c) type_f(3, (const int64_t[]){a, b, c})
#define T4(a, b, c, d) type_f(4, (const int64_t[]){a, b, c, d})
#define T5(a, b, c, d, e) type_f(5, (const int64_t[]){a, b, c, d, e})

static inline struct kase kase_of(enum ft_op op, enum rule rule, double factor, double floor)
{
    struct kase k;
    memset(&k, 0, sizeof k);
    k.op = op;
    k.rule = rule;
    k.factor = factor;
    k.floor = floor;
    return k;
}

static inline void kase_in(struct kase *k, struct ft_type type, enum fill fill)
{
    assert_true(k->n_in < MAX_IN);
    k->in[k->n_in] = type;
    k->fill[k->n_in] = fill;
    k->n_in++;
}

static inline void kase_given(struct kase *k, struct ft_type type, const double *values)
{
    kase_in(k, type, GIVEN);
    k->given[k->n_in - 1] = values;
}

/* Error of a sum of n float32 products grows like sqrt(n) for random signs; 4 sigma and some fixed roundings.
 */
static inline double sum_factor(double n)
{
    return 16.0 + 4.0 * sqrt(n);
}

/* ---- values */

static inline double *new_values(int64_t count)
{
    double *values = ft_calloc((size_t)count, sizeof *values);
    assert_non_null(values);
    return values;
}

static inline double random_value(struct ft_rand r, uint64_t i, enum fill fill)
{
    double normal = ft_rand_normal(r, i);
    switch (fill) {
    case NORMAL:
        return (double)(float)normal;
    case POSITIVE:
        return (double)(float)(fabs(normal) + 0.125);
    case GRID: /* few values: ties, zeros and exact sums */
        return floor(normal * 4.0) / 4.0;
    case DISTANCE: /* differences are exact in float32, so both devices see the same ties */
        return (double)ft_rand_below(r, i, 32) / 16.0;
    case INTEGERS:
        return (double)ft_rand_below(r, i, 19) - 9.0;
    case NONZERO: {
        double n = (double)ft_rand_below(r, i, 18) - 9.0;
        return n < 0.0 ? n : n + 1.0;
    }
    case EXPONENTS:
        return (double)ft_rand_below(r, i, 6);
    case BITS:
        return (double)ft_rand_below(r, i, 2);
    case GIVEN:
        break;
    }
    fail_msg("no values for this input");
    return 0.0;
}

static inline double *random_values(struct suite *s, const struct ft_type *t, int input, enum fill fill)
{
    int64_t count = ft_elements(t);
    double *values = new_values(count);
    struct ft_rand r = ft_rand_at(s->seed, FT_RAND_TEST, s->case_number << 8 | (uint64_t)input);
    for (int64_t i = 0; i < count; i++) {
        values[i] = random_value(r, (uint64_t)i, fill);
    }
    return values;
}

/* Where row-major element i lies in memory. */
static inline int64_t physical(const struct ft_type *t, int64_t i)
{
    if (t->layout == FT_ROW_MAJOR) {
        return i;
    }
    int64_t plane = ft_extent(t, 2) * ft_extent(t, 3);
    int64_t channels = ft_extent(t, 1);
    int64_t image = i / (plane * channels);
    return (image * plane + i % plane) * channels + i / plane % channels;
}

static inline void store(const struct ft_type *t, const double *values, void *memory)
{
    int64_t count = ft_elements(t);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = physical(t, i);
        if (t->dtype == FT_F64) {
            ((double *)memory)[at] = values[i];
        } else if (t->dtype == FT_F32) {
            ((float *)memory)[at] = (float)values[i];
        } else if (t->dtype == FT_BF16) {
            ((uint16_t *)memory)[at] = ft_bf16_of((float)values[i]);
        } else if (t->dtype == FT_I32) {
            ((int32_t *)memory)[at] = (int32_t)values[i];
        } else if (t->dtype == FT_BOOL) {
            ((uint8_t *)memory)[at] = values[i] != 0.0;
        } else {
            assert_int_equal(t->dtype, FT_I64);
            ((int64_t *)memory)[at] = (int64_t)values[i];
        }
    }
}

static inline void load(const struct ft_type *t, const void *memory, double *values)
{
    int64_t count = ft_elements(t);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = physical(t, i);
        if (t->dtype == FT_F64) {
            values[i] = ((const double *)memory)[at];
        } else if (t->dtype == FT_F32) {
            values[i] = (double)((const float *)memory)[at];
        } else if (t->dtype == FT_BF16) {
            values[i] = (double)ft_bf16_to(((const uint16_t *)memory)[at]);
        } else if (t->dtype == FT_I32) {
            values[i] = ((const int32_t *)memory)[at];
        } else if (t->dtype == FT_BOOL) {
            values[i] = ((const uint8_t *)memory)[at];
        } else {
            assert_int_equal(t->dtype, FT_I64);
            values[i] = (double)((const int64_t *)memory)[at];
        }
    }
}

/* ---- guarded memory */

enum { GUARD = 256, CANARY = 0xA5 };

struct guarded {
    struct ft_device *device;
    size_t bytes;
    void *base; /* GUARD canaries, the bytes, GUARD canaries */
};

static inline void *guarded_data(const struct guarded *g)
{
    return (char *)g->base + GUARD;
}

static inline void guarded_set(const struct guarded *g, const void *bytes)
{
    struct ft_err err = {0};
    assert_int_equal(ft_device_upload(g->device, guarded_data(g), bytes, g->bytes, &err), FT_OK);
}

static inline void guarded_init(struct guarded *g, struct ft_device *device, size_t bytes, int garbage)
{
    struct ft_err err = {0};
    unsigned char *image = ft_alloc(bytes + (size_t)2 * GUARD);
    assert_non_null(image);
    memset(image, CANARY, bytes + (size_t)2 * GUARD);
    memset(image + GUARD, garbage, bytes);
    g->device = device;
    g->bytes = bytes;
    assert_int_equal(ft_device_alloc(device, bytes + (size_t)2 * GUARD, &g->base, &err), FT_OK);
    assert_int_equal(ft_device_upload(device, g->base, image, bytes + (size_t)2 * GUARD, &err), FT_OK);
    ft_free(image);
}

/* Takes the bytes back (owned by the caller) and checks the canaries on both sides. */
static inline unsigned char *guarded_get(const struct guarded *g, const char *what)
{
    struct ft_err err = {0};
    size_t total = g->bytes + (size_t)2 * GUARD;
    unsigned char *image = ft_alloc(total);
    assert_non_null(image);
    assert_int_equal(ft_device_download(g->device, image, g->base, total, &err), FT_OK);
    for (size_t i = 0; i < GUARD; i++) {
        if (image[i] != CANARY || image[total - 1 - i] != CANARY) {
            fail_msg("%s: written outside its memory", what);
        }
    }
    memmove(image, image + GUARD, g->bytes);
    return image;
}

static inline void guarded_release(struct guarded *g)
{
    ft_device_free(g->device, g->base);
    g->base = NULL;
}

/* ---- one call on one device */

struct call {
    const struct kase *k;
    struct ft_device *device;
    struct ft_type in[MAX_IN];
    struct ft_type out[FT_MAX_OUTPUTS];
    struct ft_kernel *kernel;
    size_t scratch;
};

static inline void describe(const struct kase *k, const char *device, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%s (act %d%s) on %s:", ft_op_info(k->op)->name,
                                   (int)k->attrs.act, k->in_place ? ", in place" : "", device);
    for (int i = 0; i < k->n_in && used < size; i++) {
        char text[FT_TYPE_TEXT];
        used += (size_t)snprintf(out + used, size - used, " %s", ft_type_text(&k->in[i], text));
    }
}

static inline enum ft_dtype float_of(const struct call *c)
{
    return c->k->narrow ? FT_BF16 : ft_device_float(c->device);
}

/* As plans call products: a bias and the gradient of a weight are floats. */
static inline bool stays_float(enum ft_op op, int input)
{
    bool product = op == FT_OP_CONV || op == FT_OP_MATMUL;
    return input < 0 ? op == FT_OP_CONV_BWD_WEIGHT : product && input == 2;
}

/* The device's float type and the layout it wants. Elementwise rows take any: `follow` is tried on them. */
static inline bool call_types(struct call *c, enum ft_layout layout)
{
    enum ft_layout in[MAX_IN] = {FT_ROW_MAJOR};
    enum ft_layout out[FT_MAX_OUTPUTS] = {FT_ROW_MAJOR};
    struct ft_err err = {0};
    bool follow = false;
    const struct kase *k = c->k;
    if (ft_op_infer(k->op, &k->attrs, k->in, k->n_in, c->out, &err) != FT_OK) {
        fail_msg("%s", err.text);
    }
    ft_kernel_layouts(c->device, k->op, &k->attrs, k->n_in, in, out, &follow);
    for (int i = 0; i < k->n_in; i++) {
        c->in[i] = k->in[i];
        c->in[i].dtype = k->in[i].dtype == FT_F64 ? float_of(c) : k->in[i].dtype;
        if (c->in[i].dtype == FT_BF16 && stays_float(k->op, i) && k->in[i].rank == 1) {
            c->in[i].dtype = ft_device_float(c->device);
        }
        if (k->in[i].rank == 4) {
            c->in[i].layout = follow ? layout : in[i];
        }
    }
    for (int i = 0; i < ft_op_info(k->op)->outputs; i++) {
        bool is_float = c->out[i].dtype == FT_F64 || c->out[i].dtype == FT_F32; /* F32: made of integers */
        c->out[i].dtype = is_float ? float_of(c) : c->out[i].dtype;
        if (c->out[i].dtype == FT_BF16 && stays_float(k->op, -1)) {
            c->out[i].dtype = ft_device_float(c->device);
        }
        if (c->out[i].rank == 4) {
            c->out[i].layout = follow ? layout : out[i];
        }
    }
    return follow;
}

static inline void call_prepare(struct call *c)
{
    struct ft_err err = {0};
    struct ft_call call = {
        .op = c->k->op, .attrs = c->k->attrs, .n_in = c->k->n_in, .in = c->in, .out = c->out};
    if (ft_kernel_prepare(c->device, &call, &c->kernel, &c->scratch, &err) != FT_OK) {
        char what[1024];
        describe(c->k, ft_device_name(c->device), what, sizeof what);
        fail_msg("%s: %s", what, err.text);
    }
    /* What a device tells before there is a kernel; zero: nothing. */
    struct ft_kernel_room room = ft_kernel_room(c->device, &call);
    assert_true(room.scratch == 0 || room.scratch == c->scratch || c->k->narrow);
}

static inline bool is_shape_only(const struct kase *k, int i)
{
    return (ft_op_info(k->op)->shape_only >> i & 1U) != 0;
}

/* Runs once on fresh memory full of `garbage`; outs[i] receives the bytes of output i, owned by the caller.
 */
static inline void call_run(struct call *c, double *const *data, int garbage, uint64_t version,
                            unsigned char **outs)
{
    const struct kase *k = c->k;
    struct guarded in[MAX_IN];
    struct guarded out[FT_MAX_OUTPUTS];
    struct guarded scratch;
    struct ft_arg in_args[MAX_IN] = {{0}};
    struct ft_arg out_args[FT_MAX_OUTPUTS] = {{0}};
    unsigned char *images[MAX_IN] = {NULL};
    char what[1024];
    struct ft_err err = {0};
    describe(k, ft_device_name(c->device), what, sizeof what);
    for (int i = 0; i < k->n_in; i++) {
        guarded_init(&in[i], c->device, ft_type_bytes(&c->in[i]), 0);
        images[i] = ft_alloc(in[i].bytes);
        assert_non_null(images[i]);
        store(&c->in[i], data[i], images[i]);
        guarded_set(&in[i], images[i]);
        in_args[i].data = is_shape_only(k, i) ? NULL : guarded_data(&in[i == 1 && k->same_memory ? 0 : i]);
        in_args[i].version = version;
    }
    for (int i = 0; i < ft_op_info(k->op)->outputs; i++) {
        guarded_init(&out[i], c->device, ft_type_bytes(&c->out[i]), garbage);
        out_args[i].data = guarded_data(k->in_place ? &in[k->place[i]] : &out[i]);
        out_args[i].version = version;
    }
    guarded_init(&scratch, c->device, c->scratch, garbage);
    if (ft_kernel_run(c->kernel, in_args, out_args, guarded_data(&scratch), &err) != FT_OK ||
        ft_device_wait(c->device, &err) != FT_OK) {
        fail_msg("%s: %s", what, err.text);
    }
    for (int i = 0; i < ft_op_info(k->op)->outputs; i++) {
        outs[i] = guarded_get(k->in_place ? &in[k->place[i]] : &out[i], what);
    }
    ft_free(guarded_get(&scratch, what));
    guarded_release(&scratch);
    for (int i = 0; i < k->n_in; i++) {
        unsigned char *after = guarded_get(&in[i], what);
        if (!k->in_place && memcmp(after, images[i], in[i].bytes) != 0) {
            fail_msg("%s: input %d was written to", what, i);
        }
        ft_free(after);
        ft_free(images[i]);
        guarded_release(&in[i]);
    }
    for (int i = 0; i < ft_op_info(k->op)->outputs; i++) {
        guarded_release(&out[i]);
    }
}

/* All of it: types, preparation, three runs with the same bits, results as doubles (owned by the caller). */
static inline void run_on(struct ft_device *device, const struct kase *k, enum ft_layout layout,
                          double *const *data, double **results)
{
    struct call c = {.k = k, .device = device};
    unsigned char *first[FT_MAX_OUTPUTS] = {NULL};
    unsigned char *again[FT_MAX_OUTPUTS] = {NULL};
    char what[1024];
    describe(k, ft_device_name(device), what, sizeof what);
    (void)call_types(&c, layout);
    call_prepare(&c);
    call_run(&c, data, 0xFF, 1, first);
    /* An unknown version, and the version already packed. ref packs nothing and is slow: once is enough. */
    bool repeats = strcmp(ft_device_name(device), "ref") != 0;
    for (uint64_t run = 0; repeats && run < 2; run++) {
        call_run(&c, data, 0x00, run, again);
        for (int i = 0; i < ft_op_info(k->op)->outputs; i++) {
            if (memcmp(first[i], again[i], ft_type_bytes(&c.out[i])) != 0) {
                fail_msg("%s: output %d differs in a second run", what, i);
            }
            ft_free(again[i]);
        }
    }
    for (int i = 0; i < ft_op_info(k->op)->outputs; i++) {
        results[i] = new_values(ft_elements(&c.out[i]));
        load(&c.out[i], first[i], results[i]);
        ft_free(first[i]);
    }
    ft_kernel_free(c.kernel);
}

/* ---- comparison */

/* What rounding a result to bf16 adds: half of the distance between neighbours, which is up to 2^-7 of them;
 * the value that is rounded may be off by its own limit. */
static inline double rounding(const struct kase *k, double expected, double limit)
{
    return k->narrow ? 0x1p-8 * (fabs(expected) + limit) + 0x1p-134 : 0.0;
}

static inline void free_values(double **values, int count)
{
    for (int i = 0; i < count; i++) {
        ft_free(values[i]);
        values[i] = NULL;
    }
}

static inline double allowed(const struct kase *k, double expected, double magnitude)
{
    switch (k->rule) {
    case EXACT:
        return 0.0;
    case ELEMENT:
        return k->factor * 0x1p-24 * (fabs(expected) + k->floor);
    case SUM:
        return k->factor * 0x1p-24 * (fabs(magnitude) + k->floor);
    }
    return 0.0;
}

static inline void compare(const struct kase *k, const char *device, int output, const struct ft_type *t,
                           const double *got, const double *want, const double *magnitude)
{
    int64_t count = ft_elements(t);
    for (int64_t i = 0; i < count; i++) {
        bool whole = t->dtype != FT_F64 && t->dtype != FT_F32; /* indices and counts */
        double limit = whole ? 0.0 : allowed(k, want[i], magnitude == NULL ? 0.0 : magnitude[i]);
        limit += whole ? 0.0 : rounding(k, want[i], limit);
        if (!(fabs(got[i] - want[i]) <= limit) &&
            !(got[i] == want[i])) { /* a NaN fails; infinities may match */
            char what[1024];
            describe(k, device, what, sizeof what);
            fail_msg("%s: output %d element %lld is %.9g, wanted %.9g within %.3g", what, output,
                     (long long)i, got[i], want[i], limit);
        }
    }
}

/* The same call on absolute values gives the sum of magnitudes of a linear op. */
static inline void magnitudes_of(struct suite *s, const struct kase *k, double *const *data, double **results)
{
    struct kase abs_case = *k;
    double *abs_data[MAX_IN] = {NULL};
    abs_case.attrs.alpha = fabsf(k->attrs.alpha);
    abs_case.attrs.act = FT_ACT_NONE;
    for (int i = 0; i < k->n_in; i++) {
        int64_t count = ft_elements(&k->in[i]);
        abs_data[i] = new_values(count);
        for (int64_t j = 0; j < count; j++) {
            double v = fabs(data[i][j]);
            abs_data[i][j] = (k->negate >> i & 1U) != 0 ? -v : v;
        }
    }
    run_on(s->ref, &abs_case, FT_ROW_MAJOR, abs_data, results);
    free_values(abs_data, k->n_in);
}

static inline void check_device(const struct kase *k, struct suite_device *d, const struct ft_type *out,
                                double *const *data, double *const *want, double *const *magnitude)
{
    int outputs = ft_op_info(k->op)->outputs;
    if (k->not_own && ft_device_precision(d->device) == FT_PRECISION_BF16) {
        return;
    }
    struct call probe = {.k = k, .device = d->device};
    bool follow = call_types(&probe, FT_ROW_MAJOR);
    for (int layout = FT_ROW_MAJOR; layout <= (follow ? FT_CHANNELS_LAST : FT_ROW_MAJOR); layout++) {
        double *got[FT_MAX_OUTPUTS] = {NULL};
        run_on(d->device, k, (enum ft_layout)layout, data, got);
        for (int i = 0; i < outputs; i++) {
            compare(k, ft_device_name(d->device), i, &out[i], got[i], want[i], magnitude[i]);
        }
        free_values(got, outputs);
        d->cases++;
    }
    d->op_seen[k->op] = true;
}

static inline void round_all(double *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = (double)ft_bf16_to(ft_bf16_of((float)values[i]));
    }
}

static inline void check(struct suite *s, const struct kase *k)
{
    const struct ft_op_info *info = ft_op_info(k->op);
    double *data[MAX_IN] = {NULL};
    double *want[FT_MAX_OUTPUTS] = {NULL};
    double *magnitude[FT_MAX_OUTPUTS] = {NULL};
    struct ft_type out[FT_MAX_OUTPUTS];
    struct ft_err err = {0};
    s->case_number++;
    if (ft_op_infer(k->op, &k->attrs, k->in, k->n_in, out, &err) != FT_OK) {
        fail_msg("%s", err.text);
    }
    for (int i = 0; i < k->n_in; i++) {
        if (k->fill[i] == GIVEN) {
            data[i] = new_values(ft_elements(&k->in[i]));
            memcpy(data[i], k->given[i], (size_t)ft_elements(&k->in[i]) * sizeof *data[i]);
        } else {
            data[i] = random_values(s, &k->in[i], i, k->fill[i]);
        }
    }
    for (int i = 0; s->narrow && i < k->n_in; i++) {
        if (k->in[i].dtype == FT_F64) {
            round_all(data[i], ft_elements(&k->in[i]));
        }
    }
    if (k->same_memory) {
        memcpy(data[1], data[0], (size_t)ft_elements(&k->in[0]) * sizeof *data[0]);
    }
    run_on(s->ref, k, FT_ROW_MAJOR, data, want);
    if (k->rule == SUM) {
        magnitudes_of(s, k, data, magnitude);
    }
    struct kase stored = *k;
    stored.narrow = s->narrow;
    for (int i = 0; i < s->n_devices; i++) {
        check_device(&stored, &s->devices[i], out, data, want, magnitude);
    }
    free_values(data, k->n_in);
    free_values(want, info->outputs);
    free_values(magnitude, info->outputs);
}

/* Output `which` of a forward op on ref, for backward ops that need consistent inputs. Owned by the caller;
 * rounded to float32 so that every device sees the same. */
static inline double *forward(struct suite *s, const struct kase *k, double *const *data, int which)
{
    double *results[FT_MAX_OUTPUTS] = {NULL};
    run_on(s->ref, k, FT_ROW_MAJOR, data, results);
    struct ft_type out[FT_MAX_OUTPUTS];
    struct ft_err err = {0};
    assert_int_equal(ft_op_infer(k->op, &k->attrs, k->in, k->n_in, out, &err), FT_OK);
    double *wanted = results[which];
    results[which] = NULL;
    for (int64_t i = 0; i < ft_elements(&out[which]); i++) {
        wanted[i] = (double)(float)wanted[i];
    }
    free_values(results, ft_op_info(k->op)->outputs);
    return wanted;
}

#endif
