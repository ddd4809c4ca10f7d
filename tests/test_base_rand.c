/* links: ft_base */
#include "executor/base/rand.h"

#include <math.h>
#include <stdbool.h>

#include "tests/support.h"

/* philox4x32 10 in Random123's kat_vectors: counter, key, answer. */
static void philox_gives_random123s_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct ft_rand r = {.seed = (uint64_t)known[i].key[1] << 32 | known[i].key[0],
                            .stream = (uint64_t)known[i].counter[3] << 32 | known[i].counter[2]};
        uint32_t out[4];
        ft_rand_block(r, (uint64_t)known[i].counter[1] << 32 | known[i].counter[0], out);
        assert_memory_equal(out, known[i].answer, sizeof out);
    }
}

static void a_stream_is_a_function_of_seed_use_and_place(void **state)
{
    (void)state;
    struct ft_rand a = ft_rand_at(7, FT_RAND_DROPOUT, 3);
    struct ft_rand same = ft_rand_at(7, FT_RAND_DROPOUT, 3);
    assert_int_equal(ft_rand_u32(a, 5), ft_rand_u32(same, 5));
    assert_true(ft_rand_u32(a, 5) != ft_rand_u32(ft_rand_at(8, FT_RAND_DROPOUT, 3), 5));
    assert_true(ft_rand_u32(a, 5) != ft_rand_u32(ft_rand_at(7, FT_RAND_INIT, 3), 5));
    assert_true(ft_rand_u32(a, 5) != ft_rand_u32(ft_rand_at(7, FT_RAND_DROPOUT, 4), 5));
    uint32_t block[4];
    ft_rand_block(a, 1, block);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(ft_rand_u32(a, 4 + i), block[i]);
    }
}

/* 65,536 draws: bounds are 6 standard deviations, so a true generator of this fixed seed passes for good. */
static void moments_are_those_of_the_distribution(void **state)
{
    (void)state;
    enum { N = 65536 };
    struct ft_rand r = ft_rand_at(12345, FT_RAND_TEST, 0);
    double uniform = 0;
    double normal = 0;
    double square = 0;
    int below[7] = {0};
    for (uint64_t i = 0; i < N; i++) {
        float u = ft_rand_float(r, i);
        double z = ft_rand_normal(r, i);
        assert_true(u >= 0.0F && u < 1.0F);
        assert_true(isfinite(z));
        uniform += (double)u;
        normal += z;
        square += z * z;
        uint64_t k = ft_rand_below(r, i, 7);
        assert_true(k < 7);
        below[k]++;
    }
    assert_true(fabs(uniform / N - 0.5) < 6 * sqrt(1.0 / 12 / N));
    assert_true(fabs(normal / N) < 6 / sqrt(N));
    assert_true(fabs(square / N - 1) < 6 * sqrt(2.0 / N));
    for (int k = 0; k < 7; k++) {
        assert_true(fabs(below[k] - N / 7.0) < 6 * sqrt(N / 7.0));
    }
    assert_int_equal(ft_rand_below(r, 3, 1), 0);
}

static void a_shuffle_is_a_permutation_that_repeats(void **state)
{
    (void)state;
    enum { N = 1000 };
    uint32_t a[N];
    uint32_t b[N];
    bool seen[N] = {false};
    size_t moved = 0;
    for (uint32_t i = 0; i < N; i++) {
        a[i] = b[i] = i;
    }
    ft_rand_shuffle(ft_rand_at(1, FT_RAND_TEST, 1), a, N);
    ft_rand_shuffle(ft_rand_at(1, FT_RAND_TEST, 1), b, N);
    assert_memory_equal(a, b, sizeof a);
    for (size_t i = 0; i < N; i++) {
        assert_true(a[i] < N && !seen[a[i]]);
        seen[a[i]] = true;
        moved += a[i] != i;
    }
    assert_true(moved > N - 20);
    ft_rand_shuffle(ft_rand_at(1, FT_RAND_TEST, 1), a, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_random123s_known_answers),
        cmocka_unit_test(a_stream_is_a_function_of_seed_use_and_place),
        cmocka_unit_test(moments_are_those_of_the_distribution),
        cmocka_unit_test(a_shuffle_is_a_permutation_that_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
