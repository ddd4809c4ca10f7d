/* links: ft_kernels ft_base */
/*
 * bf16: one number against the definition, the loops of all instruction sets against one number, and every
 * row of ops.def that models are made of with all its float operands stored as bf16, against `ref` in double:
 * emulated, and where the processor computes bf16 also by that.
 */
#include "kernel_cases_index.h"
#include "kernel_cases_sequence.h"

#include "kernels/cpu/cpu.h"
#include "tests/bf16_here.h"

/* ---- one number */

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Against the definition: of the two bf16 numbers around x the nearer one, of equally near ones the even one.
 */
static void rounding_is_to_the_nearest_even(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 2000000; i++) {
        uint32_t bits = i < 65536 ? (uint32_t)i << 16 : ft_rand_u32(ft_rand_at(2, FT_RAND_TEST, 0), i);
        bits = i % 7 == 0 ? (bits & 0xffff0000U) | 0x8000U : bits; /* ties */
        float x = float_of_bits(bits);
        uint16_t got = ft_bf16_of(x);
        if (isnan(x)) {
            assert_true(isnan(ft_bf16_to(got)));
            continue;
        }
        if (isinf(x)) {
            assert_int_equal(bits_of(ft_bf16_to(got)), bits);
            continue;
        }
        uint16_t down = (uint16_t)(bits >> 16); /* towards zero */
        uint16_t up = (uint16_t)(down + 1);
        double below = fabs((double)x - (double)ft_bf16_to(down));
        /* Beyond the largest number the next step would have been 2^128. */
        double next = (up & 0x7fff) == 0x7f80 ? ldexp(x < 0 ? -1 : 1, 128) : (double)ft_bf16_to(up);
        double above = fabs(next - (double)x);
        uint16_t want = below < above ? down : above < below ? up : down % 2 == 0 ? down : up;
        if (got != want) {
            fail_msg("%a became %#x, wanted %#x", (double)x, got, want);
        }
    }
}

/* ---- loops */

static void every_set_rounds_alike(void **state)
{
    enum { N = 1 << 16 };
    static float x[N];
    static uint16_t y[N];
    static float back[N];
    const struct ft_vec *sets[FT_VEC_SET_COUNT] = {NULL};
    int count = ft_vec_available(sets);
    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        uint32_t bits = ft_rand_u32(ft_rand_at(3, FT_RAND_TEST, 0), i);
        x[i] = float_of_bits(i % 5 == 0 ? (bits & 0xffff0000U) | 0x8000U : bits);
    }
    for (int s = 0; s < count; s++) {
        size_t odd = N - 7; /* not a multiple of any register */
        memset(y, 0, sizeof y);
        sets[s]->narrow(x, y, odd);
        sets[s]->widen(y, back, odd);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(y[i], i < odd ? ft_bf16_of(x[i]) : 0);
            assert_true(i >= odd || bits_of(back[i]) == (uint32_t)y[i] << 16);
        }
    }
}

/* ---- rows */

/* Losses and optimisers: plans give them floats, and what would be widened is widened as for all others. */
static bool floats_only(enum ft_op op)
{
    return (op >= FT_OP_L2_NORMALIZE && op <= FT_OP_ADAM_STEP) ||
           (op >= FT_OP_GATHER_ELEMENTS && op <= FT_OP_CUMSUM);
}

#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE)                                                     \
    static void op_##name(void **state)                                                                      \
    {                                                                                                        \
        struct suite *s = *state;                                                                            \
        s->case_number = (uint64_t)FT_OP_##NAME << 16;                                                       \
        if (!floats_only(FT_OP_##NAME)) {                                                                    \
            cases_##name(s);                                                                                 \
        }                                                                                                    \
    }
#include "kernels/ops.def"
#undef FT_OP

static void open_device(struct suite *s, const char *name, enum ft_precision precision)
{
    struct ft_err err = {0};
    struct suite_device *d = &s->devices[s->n_devices++];
    d->threads = strcmp(name, "ref") == 0 ? 1 : 3;
    if (ft_device_open(name, d->threads, &d->device, &err) != FT_OK ||
        ft_device_set_precision(d->device, precision, &err) != FT_OK) {
        fail_msg("device %s: %s", name, err.text);
    }
    if (d->threads == 3) {
        ft_cpu_of(d->device)->grain = 1;
    }
}

static enum ft_precision here;
static bool only_here; /* see main() */

static int open_suite(void **state)
{
    struct ft_err err = {0};
    struct suite *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->seed = 20240302;
    s->narrow = true;
    assert_int_equal(ft_device_open("ref", 1, &s->ref, &err), FT_OK);
    open_device(s, "cpu", here);
    if (here != FT_PRECISION_BF16_EMULATED && !only_here) {
        open_device(s, "cpu", FT_PRECISION_BF16_EMULATED);
    }
    *state = s;
    return 0;
}

static int close_suite(void **state)
{
    struct suite *s = *state;
    for (int i = 0; i < s->n_devices; i++) {
        (void)printf("device %s, %s: %d calls\n", ft_device_name(s->devices[i].device),
                     ft_precision_name(ft_device_precision(s->devices[i].device)), s->devices[i].cases);
        ft_device_close(s->devices[i].device);
    }
    ft_device_close(s->ref);
    free(s);
    return 0;
}

/* `ref` stores bf16 for every row in the same way, so a few rows are enough. */
static void ref_rounds_too(void **state)
{
    struct suite *s = *state;
    int devices = s->n_devices;
    open_device(s, "ref", FT_PRECISION_BF16);
    cases_add(s);
    cases_layernorm(s);
    cases_maxpool(s);
    cases_concat(s);
    ft_device_close(s->devices[devices].device);
    s->n_devices = devices;
}

/* ---- refusals */

static void a_processor_without_it_says_what_it_lacks(void **state)
{
    struct suite *s = *state;
    struct ft_err err = {0};
    struct ft_device *device = s->devices[0].device;
    enum ft_precision p = FT_PRECISION_F32;
    enum ft_status st = ft_device_set_precision(device, FT_PRECISION_BF16, &err);
    assert_int_equal(ft_device_precision(device), here);
    if (here == FT_PRECISION_BF16) {
        assert_int_equal(st, FT_OK);
        assert_non_null(strstr(ft_cpu_of(device)->vec->name, "avx512"));
    } else {
        assert_int_equal(st, FT_UNAVAILABLE);
        assert_non_null(strstr(err.text, "AVX-512"));
        assert_non_null(strstr(err.text, "bf16-emulated"));
    }
    assert_int_equal(ft_precision_parse("fp16", &p, &err), FT_INVALID);
    assert_int_equal(ft_precision_parse("bf16", &p, &err), FT_OK);
    assert_int_equal(p, FT_PRECISION_BF16);
}

/* test_bf16 PATTERN: the tests that it fits, in one way: for tools/emulate.sh, which is slow. */
int main(int argc, char **argv)
{
    here = bf16_here();
    only_here = argc > 1;
    if (only_here) {
        cmocka_set_test_filter(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_is_to_the_nearest_even),
        cmocka_unit_test(every_set_rounds_alike),
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE) cmocka_unit_test(op_##name),
#include "kernels/ops.def"
#undef FT_OP
        cmocka_unit_test(ref_rounds_too),
        cmocka_unit_test(a_processor_without_it_says_what_it_lacks),
    };
    return cmocka_run_group_tests(tests, open_suite, close_suite);
}
