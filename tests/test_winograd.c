/* Convolutions by Winograd's transforms: which ones are, and a residual where the result will lie. */
/* links: ft_kernels ft_base */
#include "kernels/cpu/winograd.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "cpu_test.h"

/* Forward from and to x[0], 3 x 3 taps that leave extents as they are, or its gradients. */
static struct ft_call call_of(enum ft_op op, struct ft_type x[3])
{
    struct ft_call call = {.op = op, .n_in = op == FT_OP_CONV ? 2 : 3, .in = x, .out = x};
    struct ft_window window = {.rank = 2};
    int64_t channels = ft_extent(&x[0], 1);
    x[0].layout = FT_CHANNELS_LAST;
    x[2] = x[0];
    x[1] = ft_type_of(FT_F32, 4, (const int64_t[4]){channels, channels, 3, 3});
    if (op == FT_OP_CONV_BWD_WEIGHT) {
        x[2] = x[1];
        x[1] = x[0];
        call.out = &x[2];
    }
    for (int i = 0; i < 2; i++) {
        window.kernel[i] = 3;
        window.stride[i] = window.dilation[i] = window.pad_begin[i] = window.pad_end[i] = 1;
    }
    call.attrs.group = 1;
    call.attrs.window = window;
    return call;
}

static bool use_avx2(void)
{
    const struct ft_vec *sets[FT_VEC_SET_COUNT] = {NULL};
    int count = ft_vec_available(sets);
    for (int i = 0; i < count; i++) {
        if (strcmp(sets[i]->name, "avx2") == 0) {
            cpu()->vec = sets[i];
            return true;
        }
    }
    return false;
}

/* A tile costs 36 products a channel and feature however little of it lies in y: of 2 x 2 pixels as many as a
 * plain sum. The batch does not matter: it would change bits. */
static void tiles_that_save_little_are_left_to_others(void **state)
{
    (void)state;
    static const enum ft_op ops[] = {FT_OP_CONV, FT_OP_CONV_BWD_DATA, FT_OP_CONV_BWD_WEIGHT};
    static const struct {
        int64_t height, width;
        bool is;
    } maps[] = {{1, 1, false}, {2, 2, false}, {1, 8, false}, {5, 5, false}, {3, 3, true},  {4, 4, true},
                {4, 5, true},  {6, 6, true},  {7, 7, true},  {2, 64, true}, {56, 56, true}};
    const struct ft_vec *widest = cpu()->vec;
    if (!use_avx2()) {
        print_message("no AVX2: the rule is not tested\n");
        skip();
    }
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        for (int64_t n = 1; n <= 64; n *= 8) {
            for (int k = 0; k < 3; k++) {
                struct ft_type x[3] = {
                    ft_type_of(FT_F32, 4, (const int64_t[4]){n, 64, maps[i].height, maps[i].width})};
                const struct ft_call call = call_of(ops[k], x);
                assert_int_equal(ft_cpu_is_winograd(cpu(), &call), maps[i].is);
            }
        }
    }
    struct ft_type few[3] = {ft_type_of(FT_F32, 4, (const int64_t[4]){1, 16, 56, 56})};
    const struct ft_call call = call_of(FT_OP_CONV, few);
    assert_false(ft_cpu_is_winograd(cpu(), &call));
    cpu()->vec = widest;
}

enum { CHANNELS = 32, MOST = 2 * 40 * 40 * CHANNELS };
static float source[MOST], weight[CHANNELS * CHANNELS * 9], residual[MOST], apart[MOST];

static void add_to(const struct ft_call *call, int64_t grain)
{
    struct ft_err err = {0};
    struct ft_kernel *kernel = NULL;
    size_t scratch = 0;
    int64_t count = ft_elements(call->out);
    for (int64_t i = 0; i < count; i++) {
        source[i] = (float)(i * 7 % 23) - 11.0F;
        residual[i] = (float)(i * 5 % 17) - 8.0F;
    }
    cpu()->grain = grain;
    assert_true(ft_kernel_adds_in_place(device, call));
    ASSERT_OK(ft_kernel_prepare(device, call, &kernel, &scratch, &err));
    void *room = ft_alloc(scratch);
    assert_non_null(room);
    const struct ft_arg in[3] = {{.data = source}, {.data = weight}, {.data = residual}};
    const struct ft_arg out[2] = {{.data = apart}, {.data = residual}};
    ASSERT_OK(ft_kernel_run(kernel, in, &out[0], room, &err));
    ASSERT_OK(ft_kernel_run(kernel, in, &out[1], room, &err));
    assert_memory_equal(apart, residual, (size_t)count * sizeof *apart);
    ft_free(room);
    ft_kernel_free(kernel);
}

/* Few tiles and many, one thread and several. */
static void the_residual_may_be_the_result(void **state)
{
    (void)state;
    const struct ft_vec *widest = cpu()->vec;
    int64_t grain = cpu()->grain;
    if (!use_avx2()) {
        print_message("no AVX2: sums in place are not tested\n");
        skip();
    }
    cpu()->direct = FT_CPU_WINOGRAD_ALWAYS;
    for (size_t i = 0; i < sizeof weight / sizeof *weight; i++) {
        weight[i] = (float)(i % 13) - 6.0F;
    }
    for (int64_t side = 7; side <= 40; side += 33) {
        struct ft_type x[3] = {ft_type_of(FT_F32, 4, (const int64_t[4]){2, CHANNELS, side, side})};
        struct ft_call call = call_of(FT_OP_CONV, x);
        call.n_in = 3;
        call.attrs.residual = 1;
        add_to(&call, 1);
        add_to(&call, (int64_t)1 << 40);
    }
    cpu()->vec = widest;
    cpu()->grain = grain;
    cpu()->direct = FT_CPU_DIRECT_RULE;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_that_save_little_are_left_to_others),
        cmocka_unit_test(the_residual_may_be_the_result),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
