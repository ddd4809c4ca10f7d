/* Every row of ops.def on every device of the build, against ref. */
/* links: ft_kernels ft_base */
#include "kernel_cases_sequence.h"

#include <assert.h>

/* A row without cases_<op>() does not compile. */
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE)                                                     \
    static void op_##name(void **state)                                                                      \
    {                                                                                                        \
        struct suite *s = *state;                                                                            \
        s->case_number = (uint64_t)FT_OP_##NAME << 16; /* the same data whatever ran before */               \
        cases_##name(s);                                                                                     \
        for (int i = 0; i < s->n_devices; i++) {                                                             \
            assert_true(s->devices[i].op_seen[FT_OP_##NAME]);                                                \
        }                                                                                                    \
    }
#include "kernels/ops.def"
#undef FT_OP

static void open_device(struct suite *s, const char *name, int threads)
{
    struct ft_err err = {0};
    struct suite_device *d = &s->devices[s->n_devices++];
    d->threads = threads;
    if (ft_device_open(name, threads, &d->device, &err) != FT_OK) {
        fail_msg("device %s: %s", name, err.text);
    }
}

static int open_suite(void **state)
{
    struct ft_err err = {0};
    struct suite *s = calloc(1, sizeof *s);
    assert_non_null(s);
    const char *seed = getenv("FT_TEST_SEED");
    s->seed = seed != NULL ? strtoull(seed, NULL, 10) : 20240229;
    (void)printf("seed %llu (FT_TEST_SEED)\n", (unsigned long long)s->seed);
    assert_int_equal(ft_device_open("ref", 1, &s->ref, &err), FT_OK);
    open_device(s, "ref", 1);
    open_device(s, "cpu", 1);
    open_device(s, "cpu", 2);
    *state = s;
    return 0;
}

static int close_suite(void **state)
{
    struct suite *s = *state;
    for (int i = 0; i < s->n_devices; i++) {
        struct suite_device *d = &s->devices[i];
        int ops = 0;
        for (int op = 0; op < FT_OP_COUNT; op++) {
            ops += d->op_seen[op];
        }
        (void)printf("device %s, %d thread%s: %d of %d ops tested, %d calls\n", ft_device_name(d->device),
                     d->threads, d->threads == 1 ? "" : "s", ops, (int)FT_OP_COUNT, d->cases);
        ft_device_close(d->device);
    }
    (void)printf("device cuda: not in this build, not tested\n");
    ft_device_close(s->ref);
    free(s);
    return 0;
}

/* A packed copy of a weight must not outlive the data it was made from. */
static void check_fresh_weight(struct ft_device *device, const struct kase *k, double *const *data,
                               uint64_t version)
{
    struct call c = {.k = k, .device = device};
    unsigned char *before[FT_MAX_OUTPUTS] = {NULL};
    unsigned char *after[FT_MAX_OUTPUTS] = {NULL};
    (void)call_types(&c, FT_ROW_MAJOR);
    call_prepare(&c);
    size_t bytes = ft_type_bytes(&c.out[0]);
    double *zeros = new_values(ft_elements(&k->in[1]));
    double *changed[MAX_IN] = {data[0], zeros};
    call_run(&c, data, 0xFF, version == 0 ? 0 : version - 1, before);
    call_run(&c, changed, 0xFF, version, after);
    double *values = new_values(ft_elements(&c.out[0]));
    load(&c.out[0], after[0], values);
    for (int64_t i = 0; i < ft_elements(&c.out[0]); i++) {
        assert_true(values[i] == 0.0);
    }
    ft_free(after[0]);
    call_run(&c, data, 0xFF, version == 0 ? 0 : version + 1, after);
    assert_memory_equal(before[0], after[0], bytes);
    ft_free(before[0]);
    ft_free(after[0]);
    ft_free(values);
    ft_free(zeros);
    ft_kernel_free(c.kernel);
}

static void a_changed_weight_is_seen(void **state)
{
    struct suite *s = *state;
    struct kase cases[2] = {kase_of(FT_OP_MATMUL, EXACT, 0.0, 0.0), kase_of(FT_OP_CONV, EXACT, 0.0, 0.0)};
    cases[0].attrs.alpha = 1.0F;
    kase_in(&cases[0], T2(8, 32), NORMAL);
    kase_in(&cases[0], T2(32, 48), NORMAL);
    cases[1].attrs = conv_attrs(&conv_cases[7]);
    kase_in(&cases[1], conv_x(&conv_cases[7]), NORMAL);
    kase_in(&cases[1], conv_w(&conv_cases[7]), NORMAL);
    for (int i = 0; i < s->n_devices * 2; i++) {
        const struct kase *k = &cases[i % 2];
        double *data[2] = {random_values(s, &k->in[0], 0, NORMAL), random_values(s, &k->in[1], 1, NORMAL)};
        check_fresh_weight(s->devices[i / 2].device, k, data, 0);
        check_fresh_weight(s->devices[i / 2].device, k, data, 5);
        free_values(data, 2);
    }
}

/* Rows whose input 0 is NaN at element 6 of 12: output 0 must show it, or training diverges in silence. */
static void check_nan(struct suite *s, struct ft_device *device, enum ft_op op, int kind)
{
    struct kase k = kase_of(op, EXACT, 0.0, 0.0);
    const struct ft_type x = T4(1, 1, 3, 4);
    k.attrs = pool_attrs(&(struct pool_case){1, 1, 3, 4, WINDOW2(3, 4, 1, 1, 1, 1, 0, 0, 0, 0), {0, 0}});
    k.attrs.kind = kind;
    k.attrs.alpha = 0.5F;
    k.attrs.beta = 0.5F;
    k.attrs.lo = -1.0F;
    k.attrs.hi = 1.0F;
    k.attrs.axis = 3;
    k.attrs.eps = 1e-12F;
    k.attrs.axes_count = 1;
    k.attrs.axes[0] = 2;
    k.attrs.reducer = FT_REDUCE_MEAN;
    double labels[4] = {0.0, 0.0, 1.0, 1.0};
    struct ft_type label_type = T1(3);
    kase_in(&k, op == FT_OP_TRIPLET ? T2(3, 4) : x, NORMAL);
    if (op == FT_OP_MASKED_MEAN || op == FT_OP_MAXIMUM || op == FT_OP_MINIMUM) {
        kase_in(&k, x, POSITIVE);
    } else if (op == FT_OP_TRIPLET) {
        label_type.dtype = FT_I32;
        kase_in(&k, T2(3, 4), NORMAL);
        kase_given(&k, label_type, labels);
        label_type = T1(4);
        label_type.dtype = FT_I32;
        kase_given(&k, label_type, labels);
        k.same_memory = true;
    }
    double *data[MAX_IN] = {NULL};
    double *results[FT_MAX_OUTPUTS] = {NULL};
    bool seen = false;
    for (int i = 0; i < k.n_in; i++) {
        data[i] = i < 2 ? random_values(s, &k.in[i], i, k.fill[i]) : labels;
    }
    data[0][6] = NAN;
    run_on(device, &k, FT_ROW_MAJOR, data, results);
    struct ft_type out[FT_MAX_OUTPUTS];
    struct ft_err err = {0};
    assert_int_equal(ft_op_infer(op, &k.attrs, k.in, k.n_in, out, &err), FT_OK);
    for (int64_t i = 0; i < ft_elements(&out[0]); i++) {
        seen = seen || isnan(results[0][i]);
    }
    if (!seen) {
        fail_msg("%s %d on %s hides a NaN", ft_op_info(op)->name, kind, ft_device_name(device));
    }
    free_values(data, k.n_in < 2 ? k.n_in : 2);
    free_values(results, ft_op_info(op)->outputs);
}

static void a_nan_is_not_hidden(void **state)
{
    static const enum ft_op ops[] = {FT_OP_RELU,    FT_OP_LEAKY_RELU,  FT_OP_SIGMOID,      FT_OP_TANH,
                                     FT_OP_CLIP,    FT_OP_EXP,         FT_OP_LOG,          FT_OP_SQRT,
                                     FT_OP_SCALE,   FT_OP_MAXPOOL,     FT_OP_AVGPOOL,      FT_OP_REDUCE_SUM,
                                     FT_OP_SOFTMAX, FT_OP_LOG_SOFTMAX, FT_OP_L2_NORMALIZE, FT_OP_SUM_SQUARES,
                                     FT_OP_TRIPLET, FT_OP_MASKED_MEAN, FT_OP_MAXIMUM,      FT_OP_MINIMUM};
    struct suite *s = *state;
    for (int i = 0; i < s->n_devices * COUNT_OF(ops); i++) {
        check_nan(s, s->devices[i / COUNT_OF(ops)].device, ops[i % COUNT_OF(ops)], 0);
    }
    for (int i = 0; i < s->n_devices; i++) {
        for (int map = 0; map < FT_MAP_COUNT; map++) {
            check_nan(s, s->devices[i].device, FT_OP_MAP, map);
        }
        for (int fold = 0; fold < FT_FOLD_COUNT; fold++) {
            check_nan(s, s->devices[i].device, FT_OP_REDUCE, fold);
        }
    }
}

/* Kernels of one device live side by side and leave nothing behind. */
static void preparing_out_of_memory_leaks_nothing(void **state)
{
    struct suite *s = *state;
    for (int i = 0; i < s->n_devices; i++) {
        struct kase k = kase_of(FT_OP_CONV, EXACT, 0.0, 0.0);
        k.attrs = conv_attrs(&conv_cases[1]);
        kase_in(&k, conv_x(&conv_cases[1]), NORMAL);
        kase_in(&k, conv_w(&conv_cases[1]), NORMAL);
        struct call c = {.k = &k, .device = s->devices[i].device};
        (void)call_types(&c, FT_ROW_MAJOR);
        struct ft_call call = {.op = k.op, .attrs = k.attrs, .n_in = k.n_in, .in = c.in, .out = c.out};
        size_t blocks = ft_alloc_stats().live_blocks;
        enum ft_status st = FT_NOMEM;
        for (uint64_t n = 1; st != FT_OK; n++) {
            struct ft_err err = {0};
            ft_alloc_fail_at(n);
            st = ft_kernel_prepare(c.device, &call, &c.kernel, &c.scratch, &err);
            ft_alloc_fail_at(0);
            assert_true(st == FT_OK || st == FT_NOMEM);
            assert_true((st == FT_OK) == (c.kernel != NULL));
            ft_kernel_free(c.kernel);
            assert_int_equal(ft_alloc_stats().live_blocks, blocks);
            assert_true(n < 1000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE) cmocka_unit_test(op_##name),
#include "kernels/ops.def"
#undef FT_OP
        cmocka_unit_test(a_changed_weight_is_seen),
        cmocka_unit_test(a_nan_is_not_hidden),
        cmocka_unit_test(preparing_out_of_memory_leaks_nothing),
    };
    static_assert(sizeof tests / sizeof *tests == FT_OP_COUNT + 3, "one test a row of ops.def");
    return cmocka_run_group_tests(tests, open_suite, close_suite);
}
