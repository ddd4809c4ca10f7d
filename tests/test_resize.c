/* The resizing loops of each instruction set give the same bits; against Pillow: tests/oracle. */
/* links: ft_prep ft_codec ft_base */
#include "executor/prep/resample.h"

#include "tests/support.h"

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

/* Weights that sum to 1, some negative, windows of every length. */
static struct ft_taps taps_for(int64_t in, int64_t out, uint32_t *state)
{
    struct ft_err err = {0};
    struct ft_taps t = {.stride = 9};
    ASSERT_OK(ft_new((size_t)out, sizeof *t.first, &t.first, &err));
    ASSERT_OK(ft_new((size_t)out, sizeof *t.count, &t.count, &err));
    ASSERT_OK(ft_new((size_t)out * t.stride, sizeof *t.weights, &t.weights, &err));
    for (int64_t i = 0; i < out; i++) {
        int32_t most = in < 9 ? (int32_t)in : 9;
        t.count[i] = 1 + (int32_t)(next(state) % (uint32_t)most);
        t.first[i] = (int32_t)(next(state) % (uint32_t)(in - t.count[i] + 1));
        int32_t left = 1 << FT_TAP_BITS;
        for (int32_t k = 0; k < t.count[i]; k++) {
            int32_t w = (int32_t)(next(state) % (1U << 20)) - (1 << 18);
            w = k == t.count[i] - 1 ? left : w;
            t.weights[(size_t)i * t.stride + (size_t)k] = w;
            left -= w;
        }
    }
    return t;
}

static void every_instruction_set_gives_the_same_bits(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2")) {
        print_message("this processor has no AVX2: only the plain loops are there\n");
        return;
    }
    uint32_t seed = 20264;
    for (int n = 0; n < 300; n++) {
        struct ft_err err = {0};
        struct ft_pixels in;
        struct ft_pixels out[2];
        bool down = n % 2 == 0;
        int channels = n % 3 == 0 ? 1 : 3;
        ASSERT_OK(ft_pixels_new(1 + next(&seed) % 50, 1 + next(&seed) % 50, channels, &in, &err));
        for (size_t i = 0; i < ft_pixels_bytes(&in); i++) {
            in.data[i] = n % 5 == 0 ? (uint8_t)(next(&seed) % 2 * 255) : (uint8_t)next(&seed);
        }
        int64_t size = 1 + next(&seed) % 60;
        struct ft_taps t = taps_for(down ? in.height : in.width, size, &seed);
        uint8_t *strip = NULL;
        ASSERT_OK(ft_new((size_t)in.width * (size_t)channels, FT_STRIP, &strip, &err));
        for (int k = 0; k < 2; k++) {
            const struct ft_resample *run = k == 0 ? &ft_resample_base : &ft_resample_avx2;
            ASSERT_OK(
                ft_pixels_new(down ? size : in.height, down ? in.width : size, channels, &out[k], &err));
            if (down) {
                run->columns(&in, &t, &out[k]);
            } else {
                run->rows(&in, &t, strip, &out[k]);
            }
        }
        assert_memory_equal(out[0].data, out[1].data, ft_pixels_bytes(&out[0]));
        ft_free(strip);
        ft_free(t.first);
        ft_free(t.count);
        ft_free(t.weights);
        ft_pixels_release(&in);
        ft_pixels_release(&out[0]);
        ft_pixels_release(&out[1]);
    }
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_instruction_set_gives_the_same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
