/*
 * graph_test.h - what the tests of executor/graph share: building small graphs and filling their inputs.
 */
#ifndef FT_TESTS_GRAPH_TEST_H
#define FT_TESTS_GRAPH_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "executor/graph/graph.h"

/* In a function with `struct ft_err err`. */
#define OK(call)                                                                                             \
    do {                                                                                                     \
        enum ft_status ok_ = (call);                                                                         \
        if (ok_ != FT_OK) {                                                                                  \
            fail_msg("%s: %s", ft_status_text(ok_), err.text);                                               \
        }                                                                                                    \
    } while (0)

#define FAILS(code, part, call)                                                                              \
    do {                                                                                                     \
        assert_int_equal(call, FT_##code);                                                                   \
        if (strstr(err.text, part) == NULL) {                                                                \
            fail_msg("'%s' does not tell of '%s'", err.text, part);                                          \
        }                                                                                                    \
        ft_err_clear(&err);                                                                                  \
    } while (0)

/* The seed of all random data, printed once; FT_TEST_SEED in the environment gives another. */
static inline uint64_t test_seed(void)
{
    const char *text = getenv("FT_TEST_SEED");
    uint64_t seed = text == NULL ? 20240607 : strtoull(text, NULL, 10);
    printf("seed %llu (FT_TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

/* Uniform in [lo, hi) with 48 bits: enough for doubles in tests. */
static inline double test_uniform(struct ft_rand r, uint64_t i, double lo, double hi)
{
    double u = (double)ft_rand_u32(r, 2 * i) / 4294967296.0;
    u += (double)(ft_rand_u32(r, 2 * i + 1) >> 16) / 4294967296.0 / 65536.0;
    return lo + (hi - lo) * u;
}

static inline struct ft_attrs no_attrs(void)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    return a;
}

static inline struct ft_type shape(int rank, ...)
{
    int64_t extents[FT_MAX_RANK] = {0};
    va_list list;
    va_start(list, rank);
    for (int i = 0; i < rank; i++) {
        extents[i] = va_arg(list, int);
    }
    va_end(list);
    return ft_type_of(FT_F32, rank, extents);
}

/* The first axis becomes the batch. */
static inline struct ft_type batched(struct ft_type t)
{
    t.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    return t;
}

static inline struct ft_attrs window2(int kernel, int stride, int pad)
{
    struct ft_attrs a = no_attrs();
    a.group = 1;
    a.window.rank = 2;
    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = kernel;
        a.window.stride[i] = stride;
        a.window.dilation[i] = 1;
        a.window.pad_begin[i] = pad;
        a.window.pad_end[i] = pad;
    }
    return a;
}

static inline struct ft_attrs with_alpha(float alpha)
{
    struct ft_attrs a = no_attrs();
    a.alpha = alpha;
    return a;
}

/* Node with the first output taken. */
static inline ft_value node(struct ft_graph *g, enum ft_op op, struct ft_attrs attrs, int n_in, ...)
{
    struct ft_err err = {0};
    ft_value in[8];
    ft_value out[FT_MAX_OUTPUTS];
    va_list list;
    va_start(list, n_in);
    for (int i = 0; i < n_in; i++) {
        in[i] = va_arg(list, ft_value);
    }
    va_end(list);
    OK(ft_graph_add(g, op, &attrs, in, n_in, ft_op_info(op)->name, out, &err));
    return out[0];
}

#endif
