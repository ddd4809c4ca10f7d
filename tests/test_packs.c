/* Packed weights: one copy for all kernels of a device, renewed with its version, gone with its last user. */
/* links: ft_kernels ft_base */
#include "kernels/cpu/packs.h"

#include "executor/base/alloc.h"
#include "cpu_test.h"

enum { DEPTH = 5, COLS = 35 };

static void fill(float *b, float first)
{
    for (int i = 0; i < DEPTH * COLS; i++) {
        b[i] = first + (float)i;
    }
}

static void check(const float *panels, const float *b, bool trans)
{
    int64_t width = cpu()->vec->product_cols;
    for (int64_t c = 0; c < (COLS + width - 1) / width * width; c++) {
        for (int64_t k = 0; k < DEPTH; k++) {
            float wanted = c >= COLS ? 0.0F : trans ? b[c * DEPTH + k] : b[k * COLS + c];
            assert_true(panels[(c / width * DEPTH + k) * width + c % width] == wanted);
        }
    }
}

static void kernels_share_what_they_read(void **state)
{
    (void)state;
    for (int trans = 0; trans < 2; trans++) {
        struct ft_err err = {0};
        struct ft_cpu_pack_shape shape = {.depth = DEPTH, .cols = COLS, .trans = trans != 0};
        float b[DEPTH * COLS];
        float other[DEPTH * COLS];
        struct ft_arg arg = {.data = b, .version = 1};
        struct ft_arg arg_other = {.data = other, .version = 1};
        struct ft_cpu_pack *pack[3] = {NULL};
        const void *panels[3] = {NULL};
        fill(b, 1.0F);
        fill(other, 1000.0F);
        size_t before = ft_alloc_stats().live_bytes;
        ASSERT_OK(ft_cpu_pack_reserve(cpu(), &shape, &pack[0], &err));
        uint64_t calls = ft_alloc_stats().calls;
        ASSERT_OK(ft_cpu_pack_panels(cpu(), &shape, &arg, &pack[0], &panels[0], &err));
        ASSERT_OK(ft_cpu_pack_panels(cpu(), &shape, &arg, &pack[1], &panels[1], &err));
        assert_int_equal(ft_alloc_stats().calls, calls);
        assert_ptr_equal(panels[0], panels[1]);
        ASSERT_OK(ft_cpu_pack_panels(cpu(), &shape, &arg_other, &pack[2], &panels[2], &err));
        assert_ptr_not_equal(panels[0], panels[2]);
        check(panels[0], b, trans != 0);
        check(panels[2], other, trans != 0);

        fill(b, 7.0F); /* seen with a new version only, then by both */
        arg.version = 2;
        ASSERT_OK(ft_cpu_pack_panels(cpu(), &shape, &arg, &pack[1], &panels[1], &err));
        check(panels[0], b, trans != 0);

        /* One of two users turns to other data: the other keeps what it has. */
        ASSERT_OK(ft_cpu_pack_panels(cpu(), &shape, &arg_other, &pack[1], &panels[1], &err));
        assert_ptr_equal(panels[1], panels[2]);
        check(panels[0], b, trans != 0);
        for (int i = 0; i < 3; i++) {
            ft_cpu_pack_drop(cpu(), &pack[i]);
            assert_null(pack[i]);
        }
        assert_null(cpu()->packs);
        assert_int_equal(ft_alloc_stats().live_bytes, before);
    }
}

static void parts_are_packed_alike(void **state)
{
    (void)state;
    int64_t width = cpu()->vec->product_cols;
    for (int trans = 0; trans < 2; trans++) {
        struct ft_cpu_pack_shape shape = {.depth = DEPTH, .cols = COLS, .trans = trans != 0};
        const struct ft_cpu_pack_part part = {.from = 2, .length = 3, .first = 1, .count = 1};
        float b[DEPTH * COLS];
        float to[3 * 64];
        fill(b, 1.0F);
        ft_cpu_pack_part(cpu(), &shape, b, &part, to);
        for (int64_t k = 0; k < 3; k++) {
            for (int64_t c = width; c < 2 * width; c++) {
                float wanted = c >= COLS ? 0.0F : trans ? b[c * DEPTH + k + 2] : b[(k + 2) * COLS + c];
                assert_true(to[k * width + c - width] == wanted);
            }
        }
    }
}

/* A plan for one image and one for three, of one weight. */
static void convolutions_share_a_transformed_weight(void **state)
{
    (void)state;
    enum { CHANNELS = 32, SIDE = 5, MOST = 3 };
    struct ft_err err = {0};
    static float x[MOST * CHANNELS * SIDE * SIDE];
    static float y[MOST * CHANNELS * SIDE * SIDE];
    static float w[CHANNELS * CHANNELS * 9];
    const struct ft_arg in[2] = {{.data = x}, {.data = w, .version = 1}};
    const struct ft_arg out = {.data = y};
    struct ft_kernel *kernel[2] = {NULL};
    size_t bytes[2] = {0};
    cpu()->direct = FT_CPU_WINOGRAD_ALWAYS;
    for (int i = 0; i < 2; i++) {
        struct ft_type types[2] = {
            ft_type_of(FT_F32, 4, (const int64_t[4]){i == 0 ? 1 : MOST, CHANNELS, SIDE, SIDE}),
            ft_type_of(FT_F32, 4, (const int64_t[4]){CHANNELS, CHANNELS, 3, 3})};
        types[0].layout = FT_CHANNELS_LAST;
        struct ft_call call = {.op = FT_OP_CONV, .n_in = 2, .in = types, .out = types};
        call.attrs.group = 1;
        call.attrs.window = (struct ft_window){.rank = 2,
                                               .kernel = {3, 3},
                                               .stride = {1, 1},
                                               .dilation = {1, 1},
                                               .pad_begin = {1, 1},
                                               .pad_end = {1, 1}};
        size_t scratch = 0;
        ASSERT_OK(ft_kernel_prepare(device, &call, &kernel[i], &scratch, &err));
        void *room = ft_alloc(scratch);
        assert_non_null(room);
        ASSERT_OK(ft_kernel_run(kernel[i], in, &out, room, &err));
        ft_free(room);
        bytes[i] = ft_alloc_stats().live_bytes;
    }
    assert_true(bytes[1] - bytes[0] <
                36 * CHANNELS * CHANNELS * sizeof(float)); /* what it reserved is gone */
    ft_kernel_free(kernel[0]);
    ft_kernel_free(kernel[1]);
    assert_null(cpu()->packs);
    cpu()->direct = FT_CPU_DIRECT_RULE;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_share_what_they_read),
        cmocka_unit_test(parts_are_packed_alike),
        cmocka_unit_test(convolutions_share_a_transformed_weight),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
