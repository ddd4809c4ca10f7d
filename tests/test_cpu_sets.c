/* Every row of ops.def on device cpu, with each instruction set that this processor runs and with even the
 * smallest work shared by three threads: with our
 * convolutions and with oneDNN's: what test_kernels.c does not reach on one machine. */
/* links: ft_kernels ft_base */
#include "kernel_cases_sequence.h"

#include <assert.h>

#include "kernels/cpu/cpu.h"

#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE)                                                     \
    static void op_##name(void **state)                                                                      \
    {                                                                                                        \
        struct suite *s = *state;                                                                            \
        s->case_number = (uint64_t)FT_OP_##NAME << 16;                                                       \
        cases_##name(s);                                                                                     \
    }
#include "kernels/ops.def"
#undef FT_OP

static void open_device(struct suite *s, const struct ft_vec *vec, enum ft_cpu_direct direct)
{
    struct ft_err err = {0};
    struct suite_device *d = &s->devices[s->n_devices++];
    d->threads = 3;
    if (ft_device_open("cpu", d->threads, &d->device, &err) != FT_OK) {
        fail_msg("device cpu: %s", err.text);
    }
    ft_cpu_of(d->device)->vec = vec;
    ft_cpu_of(d->device)->grain = 1;
    ft_cpu_of(d->device)->direct = direct;
}

static int open_suite(void **state)
{
    struct ft_err err = {0};
    struct suite *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->seed = 20240301;
    assert_int_equal(ft_device_open("ref", 1, &s->ref, &err), FT_OK);
    const struct ft_vec *sets[FT_VEC_SET_COUNT] = {NULL};
    int count = ft_vec_available(sets);
    for (int i = 0; i < count; i++) {
        (void)printf("instruction set %s\n", sets[i]->name);
        open_device(s, sets[i], FT_CPU_WINOGRAD_ALWAYS);
    }
    open_device(s, sets[count - 1], FT_CPU_DIRECT_ALWAYS);
    open_device(s, sets[count - 1], FT_CPU_DIRECT_NEVER);
    (void)printf("%d of %d instruction sets run on this processor; the others are not tested\n", count,
                 (int)FT_VEC_SET_COUNT);
    *state = s;
    return 0;
}

static int close_suite(void **state)
{
    struct suite *s = *state;
    for (int i = 0; i < s->n_devices; i++) {
        ft_device_close(s->devices[i].device);
    }
    ft_device_close(s->ref);
    free(s);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE) cmocka_unit_test(op_##name),
#include "kernels/ops.def"
#undef FT_OP
    };
    static_assert(sizeof tests / sizeof *tests == FT_OP_COUNT, "one test a row of ops.def");
    return cmocka_run_group_tests(tests, open_suite, close_suite);
}
