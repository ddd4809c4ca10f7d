/* Types, shape rules and devices: everything of kernels/ that needs no kernel to run. */
/* links: ft_kernels ft_base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/kernel.h"

#define EXTENTS(...)                                                                                         \
    (int)(sizeof((const int64_t[]){__VA_ARGS__}) / 8), (const int64_t[])                                     \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }
#define F32(...) ft_type_of(FT_F32, EXTENTS(__VA_ARGS__))

/* The same with the batch as first axis. */
static struct ft_type batched(struct ft_type t)
{
    t.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    return t;
}

static struct ft_type typed(struct ft_type t, enum ft_dtype dtype)
{
    t.dtype = dtype;
    return t;
}

static struct ft_attrs no_attrs(void)
{
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    return a;
}

static void assert_text(const struct ft_type *t, const char *want)
{
    char text[FT_TYPE_TEXT];
    assert_string_equal(ft_type_text(t, text), want);
}

/* Infers and compares the outputs' texts. */
static void good(enum ft_op op, const struct ft_attrs *a, int n, const struct ft_type *in,
                 const char *const *want)
{
    struct ft_type out[FT_MAX_OUTPUTS];
    struct ft_err err = {0};
    if (ft_op_infer(op, a, in, n, out, &err) != FT_OK) {
        fail_msg("%s", err.text);
    }
    for (int i = 0; i < ft_op_info(op)->outputs; i++) {
        assert_text(&out[i], want[i]);
        assert_int_equal(out[i].layout, FT_ROW_MAJOR);
    }
}
#define IN(...)                                                                                              \
    (int)(sizeof((const struct ft_type[]){__VA_ARGS__}) / sizeof(struct ft_type)), (const struct ft_type[])  \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }
#define WANT(...)                                                                                            \
    (const char *const[])                                                                                    \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

/* Infers and wants this failure, with the words in its text; outputs stay as they were. */
static void bad(enum ft_op op, const struct ft_attrs *a, int n, const struct ft_type *in, enum ft_status want,
                const char *words)
{
    struct ft_type out[FT_MAX_OUTPUTS];
    struct ft_type before[FT_MAX_OUTPUTS];
    struct ft_err err = {0};
    memset(out, 0x5A, sizeof out);
    memset(before, 0x5A, sizeof before);
    enum ft_status st = ft_op_infer(op, a, in, n, out, &err);
    if (st != want || strstr(err.text, words) == NULL) {
        fail_msg("%s: got %s \"%s\", wanted %s \"%s\"", ft_op_info(op)->name, ft_status_text(st), err.text,
                 ft_status_text(want), words);
    }
    assert_memory_equal(out, before, sizeof out);
}

/* ---- type.h */

static void dimensions_are_monomials(void **state)
{
    (void)state;
    struct ft_dim n = ft_dim_symbol(FT_SYMBOL_BATCH);
    struct ft_dim d;
    struct ft_dim back;
    assert_true(ft_dim_mul(n, ft_dim_of(3136), &d));
    assert_false(ft_dim_is_known(d));
    assert_false(ft_dim_equal(d, ft_dim_of(3136)));
    assert_true(ft_dim_div(d, n, &back));
    assert_true(ft_dim_equal(back, ft_dim_of(3136)));
    assert_true(ft_dim_div(d, ft_dim_of(64), &back));
    assert_int_equal(back.coef, 49);
    assert_false(ft_dim_div(d, ft_dim_of(5), &back));
    assert_false(ft_dim_div(ft_dim_of(5), n, &back));
    assert_false(ft_dim_div(d, ft_dim_of(0), &back));
    assert_true(ft_dim_is_one(ft_dim_of(1)));
    assert_false(ft_dim_is_one(n));
}

static void dimensions_do_not_overflow(void **state)
{
    (void)state;
    struct ft_dim out = ft_dim_of(7);
    struct ft_dim d = ft_dim_of(INT64_MAX);
    assert_false(ft_dim_mul(d, ft_dim_of(2), &out));
    d = ft_dim_of(1);
    d.power[1] = 200;
    assert_false(ft_dim_mul(d, d, &out));
    const int64_t symbols[FT_MAX_SYMBOLS] = {0, 2, 0, 0};
    assert_false(ft_dim_bind(d, symbols, &out));
    assert_int_equal(out.coef, 7); /* untouched */
}

static void binding_replaces_symbols(void **state)
{
    (void)state;
    struct ft_type t = batched(F32(1, 3, 8));
    struct ft_type bound;
    assert_true(ft_dim_mul(ft_dim_symbol(1), ft_dim_symbol(0), &t.dim[2]));
    assert_text(&t, "float32 (N, 3, N*S)");
    assert_true(ft_type_bind(&t, (const int64_t[FT_MAX_SYMBOLS]){5, 0, 0, 0}, &bound));
    assert_text(&bound, "float32 (5, 3, 5*S)");
    assert_false(ft_type_is_known(&bound));
    assert_true(ft_type_bind(&bound, (const int64_t[FT_MAX_SYMBOLS]){9, 2, 0, 0}, &bound));
    assert_text(&bound, "float32 (5, 3, 10)");
    assert_true(ft_type_is_known(&bound));
    assert_int_equal(ft_elements(&bound), 150);
    assert_int_equal(ft_type_bytes(&bound), 600);
}

static void types_are_shown_in_full_and_cut_when_too_long(void **state)
{
    (void)state;
    struct ft_type t = ft_type_of(FT_I64, 0, NULL);
    assert_text(&t, "int64 ()");
    assert_int_equal(ft_elements(&t), 1);
    t = F32(1, 1, 1, 1, 1, 1, 1, 1);
    for (int i = 0; i < 8; i++) {
        t.dim[i].coef = INT64_MAX;
        memset(t.dim[i].power, 9, sizeof t.dim[i].power);
    }
    char text[FT_TYPE_TEXT + 8];
    memset(text, '!', sizeof text);
    assert_int_equal(strlen(ft_type_text(&t, text)), FT_TYPE_TEXT - 1);
    assert_int_equal(text[FT_TYPE_TEXT], '!');
    assert_memory_equal(text, "float32 (9223372036854775807*N^9*S^9*T^9*S3^9, ", 47);
}

static void element_types_have_numpys_names(void **state)
{
    (void)state;
    const char *const names[] = {"float32", "float64", "int64", "int32", "uint8", "bool", "bfloat16"};
    const size_t sizes[] = {4, 8, 8, 4, 1, 1, 2};
    for (int i = 0; i < FT_DTYPE_COUNT; i++) {
        assert_string_equal(ft_dtype_name((enum ft_dtype)i), names[i]);
        assert_int_equal(ft_dtype_size((enum ft_dtype)i), sizes[i]);
    }
}

/* ---- shape rules */

static struct ft_attrs window2(int64_t kernel, int64_t stride, int64_t pad)
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

static void padded_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type x = batched(F32(1, 3, 5));
    a.pad_begin[1] = 2;
    a.pad_end[2] = 4;
    good(FT_OP_PAD, &a, IN(x), WANT("float32 (N, 5, 9)"));
    good(FT_OP_PAD_BWD, &a, IN(batched(F32(1, 5, 9)), x), WANT("float32 (N, 3, 5)"));
    bad(FT_OP_PAD_BWD, &a, IN(x, x), FT_INVALID, "dy is");
    a.pad_end[1] = -1;
    bad(FT_OP_PAD, &a, IN(x), FT_INVALID, "pads 2 and -1 of axis 1");
    a.pad_end[1] = 0;
    a.kind = 4;
    bad(FT_OP_PAD, &a, IN(x), FT_INVALID, "kind 4");
    a.kind = FT_PAD_REFLECT;
    a.pad_begin[0] = 1;
    bad(FT_OP_PAD, &a, IN(x), FT_UNSUPPORTED, "axis 0 of x");
}

static void transposed_convolution_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = window2(3, 2, 1);
    struct ft_type y = batched(F32(1, 16, 8, 8));
    struct ft_type w = F32(16, 3, 3, 3);
    bad(FT_OP_CONV_BWD_DATA, &a, IN(y, w), FT_INVALID, "spatial axis 0 has no extent given");
    a.window.out[0] = 16;
    a.window.out[1] = 15;
    good(FT_OP_CONV_BWD_DATA, &a, IN(y, w), WANT("float32 (N, 3, 16, 15)"));
    a.window.out[1] = 17;
    bad(FT_OP_CONV_BWD_DATA, &a, IN(y, w), FT_INVALID, "dy is");
}

static void convolution_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = window2(3, 2, 1);
    struct ft_type x = batched(F32(1, 3, 32, 31));
    struct ft_type w = F32(16, 3, 3, 3);
    struct ft_type y = batched(F32(1, 16, 16, 16));
    good(FT_OP_CONV, &a, IN(x, w), WANT("float32 (N, 16, 16, 16)"));
    good(FT_OP_CONV, &a, IN(x, w, F32(16)), WANT("float32 (N, 16, 16, 16)"));
    good(FT_OP_CONV_BWD_DATA, &a, IN(y, w, x), WANT("float32 (N, 3, 32, 31)"));
    good(FT_OP_CONV_BWD_WEIGHT, &a, IN(x, y, w), WANT("float32 (16, 3, 3, 3)"));
    bad(FT_OP_CONV, &a, IN(x), FT_INVALID, "1 inputs given");
    bad(FT_OP_CONV, &a, IN(x, F32(16, 4, 3, 3)), FT_INVALID, "conv: x has 3 channels, w wants 4 x group 1");
    bad(FT_OP_CONV, &a, IN(x, F32(16, 3, 3, 2)), FT_INVALID, "kernel of spatial axis 1");
    bad(FT_OP_CONV, &a, IN(x, w, F32(15)), FT_INVALID, "b is float32 (15)");
    bad(FT_OP_CONV, &a, IN(F32(2, 3, 32), w), FT_INVALID, "wanted rank 4");
    bad(FT_OP_CONV, &a, IN(F32(2, 3, 0, 9), w), FT_INVALID, "at least 1");
    bad(FT_OP_CONV, &a, IN(x, typed(w, FT_F64)), FT_INVALID, "w (input 1) is float64");
    bad(FT_OP_CONV_BWD_DATA, &a, IN(x, w, x), FT_INVALID, "dy is");
    bad(FT_OP_CONV_BWD_WEIGHT, &a, IN(x, x, w), FT_INVALID, "dy is");
    struct ft_type wide = x;
    wide.dim[3] = ft_dim_symbol(1);
    bad(FT_OP_CONV, &a, IN(wide, w), FT_UNSUPPORTED, "only its first axis may be symbolic");
    a.group = 3;
    bad(FT_OP_CONV, &a, IN(x, F32(16, 1, 3, 3)), FT_INVALID, "does not divide into 3 groups");
    good(FT_OP_CONV, &a, IN(x, F32(18, 1, 3, 3)), WANT("float32 (N, 18, 16, 16)"));
    a.group = 0;
    bad(FT_OP_CONV, &a, IN(x, w), FT_INVALID, "0 groups");
    a.group = 1;
    a.window.pad_end[1] = -1;
    bad(FT_OP_CONV, &a, IN(x, w), FT_UNSUPPORTED, "pads");
    a.window.pad_end[1] = 0;
    a.window.dilation[0] = 99;
    bad(FT_OP_CONV, &a, IN(x, w), FT_INVALID, "does not fit");
    a.window.dilation[0] = 0;
    bad(FT_OP_CONV, &a, IN(x, w), FT_INVALID, "at least 1");
    a.window.rank = 4;
    bad(FT_OP_CONV, &a, IN(x, w), FT_UNSUPPORTED, "rank 4");
}

static void pooling_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = window2(3, 2, 1);
    struct ft_type x = batched(F32(1, 5, 7, 8));
    struct ft_type y = batched(F32(1, 5, 4, 4));
    good(FT_OP_MAXPOOL, &a, IN(x), WANT("float32 (N, 5, 4, 4)", "int32 (N, 5, 4, 4)"));
    good(FT_OP_AVGPOOL, &a, IN(x), WANT("float32 (N, 5, 4, 4)"));
    good(FT_OP_MAXPOOL_BWD, &a, IN(y, typed(y, FT_I32), x), WANT("float32 (N, 5, 7, 8)"));
    good(FT_OP_AVGPOOL_BWD, &a, IN(y, x), WANT("float32 (N, 5, 7, 8)"));
    bad(FT_OP_MAXPOOL_BWD, &a, IN(y, y, x), FT_INVALID, "where (input 1) is float32");
    bad(FT_OP_MAXPOOL_BWD, &a, IN(y, typed(x, FT_I32), x), FT_INVALID, "where is");
    bad(FT_OP_AVGPOOL_BWD, &a, IN(x, x), FT_INVALID, "dy is");
    a.window.out[1] = 5; /* ceil_mode */
    good(FT_OP_MAXPOOL, &a, IN(x), WANT("float32 (N, 5, 4, 5)", "int32 (N, 5, 4, 5)"));
    a.window.out[1] = 6;
    bad(FT_OP_MAXPOOL, &a, IN(x), FT_INVALID, "6 are asked for");
    a.window.out[0] = 5; /* starts at 7, behind x */
    a.window.out[1] = 0;
    bad(FT_OP_AVGPOOL, &a, IN(x), FT_INVALID, "window 4 of spatial axis 0 lies outside x");
    a = window2(2, 1, 2); /* the first window sees pads only */
    bad(FT_OP_MAXPOOL, &a, IN(x), FT_INVALID, "window 0 of spatial axis 0 lies outside x");
    a = window2(1, 1, 0);
    bad(FT_OP_MAXPOOL, &a, IN(batched(F32(1, 1, 50000, 50000))), FT_LIMIT, "32-bit indices");
}

static void batch_normalisation_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type x = batched(F32(1, 5, 7, 8));
    struct ft_type c = F32(5);
    good(FT_OP_BATCHNORM, &a, IN(x, c, c, c, c), WANT("float32 (N, 5, 7, 8)"));
    good(FT_OP_BATCHNORM_BWD, &a, IN(x, x, c, c, c),
         WANT("float32 (N, 5, 7, 8)", "float32 (5)", "float32 (5)"));
    const char *train[] = {"float32 (N, 5)", "float32 (5)", "float32 (5)", "float32 (5)", "float32 (5)"};
    good(FT_OP_BATCHNORM_TRAIN, &a, IN(batched(F32(1, 5)), c, c, c, c), train);
    bad(FT_OP_BATCHNORM_TRAIN, &a, IN(F32(1, 5), c, c, c, c), FT_INVALID, "more than 1 value per channel");
    bad(FT_OP_BATCHNORM, &a, IN(x, c, c, c, F32(6)), FT_INVALID, "x float32 (N, 5, 7, 8) has 5 channels");
    bad(FT_OP_BATCHNORM, &a, IN(c, c, c, c, c), FT_INVALID, "wanted (N, C, ...)");
    bad(FT_OP_BATCHNORM_TRAIN_BWD, &a, IN(F32(2, 5), F32(3, 5), c, c, c), FT_INVALID, "dy and x differ");
    a.eps = NAN;
    bad(FT_OP_BATCHNORM, &a, IN(x, c, c, c, c), FT_INVALID, "eps");
}

static void matrix_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type x = batched(F32(1, 32));
    good(FT_OP_MATMUL, &a, IN(x, F32(32, 8)), WANT("float32 (N, 8)"));
    good(FT_OP_MATMUL, &a, IN(x, F32(32, 8), F32(8)), WANT("float32 (N, 8)"));
    good(FT_OP_MATMUL, &a, IN(batched(F32(1, 4, 32)), F32(32, 8)), WANT("float32 (N, 4, 8)"));
    good(FT_OP_MATMUL, &a, IN(F32(8, 4), batched(F32(1, 4, 32))), WANT("float32 (N, 8, 32)"));
    good(FT_OP_MATMUL, &a, IN(batched(F32(1, 2, 3, 4)), batched(F32(1, 2, 4, 5))),
         WANT("float32 (N, 2, 3, 5)"));
    bad(FT_OP_MATMUL, &a, IN(x, F32(31, 8)), FT_INVALID,
        "inner extents of a float32 (N, 32) and b float32 (31, 8)");
    bad(FT_OP_MATMUL, &a, IN(x, F32(32, 8), F32(32)), FT_INVALID, "bias is");
    bad(FT_OP_MATMUL, &a, IN(x, F32(32)), FT_INVALID, "at least 2 axes");
    bad(FT_OP_MATMUL, &a, IN(F32(2, 3, 4), F32(3, 4, 5)), FT_INVALID, "batch axes");
    bad(FT_OP_MATMUL, &a, IN(F32(2, 2, 3, 4), F32(2, 4, 5)), FT_INVALID, "batch axes");
    a.trans_a = 1; /* a weight's gradient: the batch is summed */
    good(FT_OP_MATMUL, &a, IN(x, batched(F32(1, 8))), WANT("float32 (32, 8)"));
    bad(FT_OP_MATMUL, &a, IN(x, F32(7, 8)), FT_INVALID, "transposed");
    a.trans_b = 1;
    good(FT_OP_MATMUL, &a, IN(F32(3, 5), F32(7, 3)), WANT("float32 (5, 7)"));
}

static void broadcast_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type x = batched(F32(1, 3, 4));
    good(FT_OP_ADD, &a, IN(x, F32(1)), WANT("float32 (N, 3, 4)"));
    good(FT_OP_ADD, &a, IN(F32(3, 1), x), WANT("float32 (N, 3, 4)"));
    good(FT_OP_DIV, &a, IN(F32(5, 1), F32(1, 7)), WANT("float32 (5, 7)"));
    bad(FT_OP_MUL, &a, IN(x, F32(5, 3, 4)), FT_INVALID, "mul: float32 (N, 3, 4) and float32 (5, 3, 4)");
    bad(FT_OP_SUB, &a, IN(x, typed(x, FT_I64)), FT_INVALID, "b (input 1) is int64");
    good(FT_OP_SUM_TO, &a, IN(x, F32(3, 1)), WANT("float32 (3, 1)"));
    good(FT_OP_SUM_TO, &a, IN(x, typed(F32(3, 1), FT_I64)),
         WANT("float32 (3, 1)")); /* only its shape matters */
    bad(FT_OP_SUM_TO, &a, IN(F32(3, 1), x), FT_INVALID, "does not broadcast");
    good(FT_OP_EXPAND_TO, &a, IN(F32(3, 1), x), WANT("float32 (N, 3, 4)"));
    bad(FT_OP_EXPAND_TO, &a, IN(x, F32(3, 1)), FT_INVALID, "does not broadcast");
}

static void reduction_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type x = batched(F32(1, 3, 4));
    good(FT_OP_REDUCE_SUM, &a, IN(x), WANT("float32 (N, 3, 4)"));
    a.axes_count = 2;
    a.axes[0] = 2;
    a.axes[1] = 0;
    good(FT_OP_REDUCE_SUM, &a, IN(x), WANT("float32 (3)"));
    a.keepdims = 1;
    good(FT_OP_REDUCE_MEAN, &a, IN(x), WANT("float32 (1, 3, 1)"));
    a.axes[1] = 2;
    bad(FT_OP_REDUCE_MEAN, &a, IN(x), FT_INVALID, "twice");
    a.axes[1] = 3;
    bad(FT_OP_REDUCE_SUM, &a, IN(x), FT_INVALID, "axis 3");
    a.axes[1] = -1;
    bad(FT_OP_REDUCE_SUM, &a, IN(x), FT_INVALID, "axis -1");
    a.axes_count = 4;
    bad(FT_OP_REDUCE_SUM, &a, IN(x), FT_INVALID, "4 axes");
}

static void moving_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type x = batched(F32(1, 64, 7, 7));
    a.shape_rank = 2;
    a.shape[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    a.shape[1] = ft_dim_of(3136);
    good(FT_OP_RESHAPE, &a, IN(x), WANT("float32 (N, 3136)"));
    assert_true(ft_dim_mul(a.shape[0], ft_dim_of(49), &a.shape[0]));
    a.shape[1] = ft_dim_of(64);
    good(FT_OP_RESHAPE, &a, IN(x), WANT("float32 (49*N, 64)"));
    a.shape[1] = ft_dim_of(65);
    bad(FT_OP_RESHAPE, &a, IN(x), FT_INVALID, "cannot become float32 (49*N, 65)");
    a.shape[1] = ft_dim_of(0);
    bad(FT_OP_RESHAPE, &a, IN(x), FT_INVALID, "dimension 1 of the target is 0");
    a.shape_rank = 9;
    bad(FT_OP_RESHAPE, &a, IN(x), FT_LIMIT, "rank 9");
    good(FT_OP_RESHAPE_LIKE, &a, IN(batched(F32(1, 6)), batched(F32(1, 2, 3))), WANT("float32 (N, 2, 3)"));
    bad(FT_OP_RESHAPE_LIKE, &a, IN(F32(6), batched(F32(1, 2, 3))), FT_INVALID, "numbers of elements differ");
    memcpy(a.perm, (const int[]){0, 2, 3, 1}, 4 * sizeof(int));
    good(FT_OP_TRANSPOSE, &a, IN(x), WANT("float32 (N, 7, 7, 64)"));
    a.perm[0] = 1;
    bad(FT_OP_TRANSPOSE, &a, IN(x), FT_INVALID, "not a permutation");
    a.axis = 1;
    good(FT_OP_CONCAT, &a, IN(batched(F32(1, 2)), batched(F32(1, 3)), batched(F32(1, 1))),
         WANT("float32 (N, 6)"));
    bad(FT_OP_CONCAT, &a, IN(F32(4, 2), F32(5, 3)), FT_INVALID, "only axis 1 may differ");
    bad(FT_OP_CONCAT, &a, IN(F32(4, 2), F32(4)), FT_INVALID, "wanted rank 2");
    a.axis = 0;
    good(FT_OP_CONCAT, &a, IN(batched(F32(1, 2)), batched(F32(1, 2))), WANT("float32 (2*N, 2)"));
    bad(FT_OP_CONCAT, &a, IN(batched(F32(1, 2)), F32(3, 2)), FT_UNSUPPORTED, "cannot be added");
    a.axis = 2;
    bad(FT_OP_CONCAT, &a, IN(F32(4, 2)), FT_INVALID, "axis 2");
}

static void sequence_shapes(void **state)
{
    (void)state;
    struct ft_type x[2] = {F32(1, 1, 6), F32(1, 6)}; /* (N, S, 6), (T, 6) */
    struct ft_type seq[2] = {typed(F32(1, 1), FT_I64), typed(F32(1, 2), FT_I64)};
    struct ft_attrs a = no_attrs();
    x[0].dim[0] = seq[0].dim[0] = seq[1].dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    x[0].dim[1] = seq[0].dim[1] = ft_dim_symbol(FT_SYMBOL_LENGTH);
    x[1].dim[0] = ft_dim_symbol(FT_SYMBOL_TOKENS);
    a.group = 2;
    good(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[0], seq[0]), WANT("float32 (N, S, 6)", "float32 (N, S, 2)"));
    good(FT_OP_ATTENTION, &a, IN(x[1], x[1], x[1], seq[1], F32(2, 5)),
         WANT("float32 (T, 6)", "float32 (T, 2)"));
    const struct ft_type rng = typed(F32(2), FT_I64);
    a.dropout = 0.1F;
    good(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[0], seq[0], rng),
         WANT("float32 (N, S, 6)", "float32 (N, S, 2)"));
    good(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[0], seq[0], F32(2, 5), rng),
         WANT("float32 (N, S, 6)", "float32 (N, S, 2)"));
    bad(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[0], seq[0], rng, rng), FT_INVALID, "in this order");
    bad(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[0], seq[0], typed(F32(3), FT_I64)), FT_INVALID, "rng is");
    a.dropout = 1.5F;
    bad(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[0], seq[0], rng), FT_INVALID, "not in [0, 1]");
    a.dropout = 0;
    bad(FT_OP_ATTENTION, &a, IN(x[1], x[1], x[1], seq[0]), FT_INVALID, "not spans (N, 2)");
    bad(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[0], seq[1]), FT_INVALID, "not a mask of the tokens");
    bad(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[1], seq[0]), FT_INVALID, "q and v");
    bad(FT_OP_ATTENTION, &a, IN(x[1], x[1], x[1], seq[1], F32(2, 4)), FT_INVALID, "an odd number");
    bad(FT_OP_ATTENTION, &a, IN(x[1], x[1], x[1], seq[1], F32(3, 5)), FT_INVALID, "(2 heads");
    bad(FT_OP_ATTENTION, &a, IN(x[1], x[1], x[1], typed(F32(1), FT_I64)), FT_INVALID, "not spans (N, 2)");
    good(FT_OP_POSITIONS, &a, IN(seq[0], seq[0]), WANT("int64 (N, S)"));
    good(FT_OP_SEQ_POOL, &a, IN(x[0], seq[0]), WANT("float32 (N, 6)"));
    good(FT_OP_SEQ_POOL, &a, IN(x[1], seq[1]), WANT("float32 (N, 6)"));
    a.alpha = 10000.0F;
    a.count = 2;
    good(FT_OP_ROPE, &a, IN(x[0]), WANT("float32 (N, S, 6)"));
    good(FT_OP_ROPE, &a, IN(x[1], seq[1]), WANT("float32 (T, 6)"));
    bad(FT_OP_ROPE, &a, IN(x[1]), FT_INVALID, "seq beside packed tokens");
    a.count = 4;
    bad(FT_OP_ROPE, &a, IN(x[1], seq[1]), FT_INVALID, "4 of 3 numbers");
    a.group = 4;
    bad(FT_OP_ATTENTION, &a, IN(x[0], x[0], x[0], seq[0]), FT_INVALID, "not made of 4 heads");
    a.kind = FT_SEQ_COUNT;
    bad(FT_OP_SEQ_POOL, &a, IN(x[0], seq[0]), FT_INVALID, "no pooling 6");
}

static void slice_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type x = batched(F32(1, 8));
    a.axis = 1;
    a.start = 5;
    a.count = 3;
    good(FT_OP_SLICE, &a, IN(x), WANT("float32 (N, 3)"));
    good(FT_OP_PAD_LIKE, &a, IN(batched(F32(1, 3)), x), WANT("float32 (N, 8)"));
    bad(FT_OP_PAD_LIKE, &a, IN(batched(F32(1, 4)), x), FT_INVALID, "does not lie within");
    bad(FT_OP_PAD_LIKE, &a, IN(F32(2, 3), F32(3, 8)), FT_INVALID, "only axis 1 may differ");
    a.count = 4;
    bad(FT_OP_SLICE, &a, IN(x), FT_INVALID, "do not lie within");
    a.count = INT64_MAX;
    bad(FT_OP_SLICE, &a, IN(x), FT_INVALID, "do not lie within");
    a.count = 0;
    bad(FT_OP_SLICE, &a, IN(x), FT_INVALID, "do not lie within");
    a.start = 7;
    a.step = -3;
    a.count = 3;
    good(FT_OP_SLICE, &a, IN(x), WANT("float32 (N, 3)"));
    good(FT_OP_PAD_LIKE, &a, IN(batched(F32(1, 3)), x), WANT("float32 (N, 8)"));
    a.count = 4;
    bad(FT_OP_SLICE, &a, IN(x), FT_INVALID, "do not lie within");
    a.step = 0;
    a.axis = 0;
    a.count = 1;
    bad(FT_OP_SLICE, &a, IN(x), FT_UNSUPPORTED, "must be known");
    bad(FT_OP_PAD_LIKE, &a, IN(x, x), FT_UNSUPPORTED, "must be known");
    a.axis = -1;
    bad(FT_OP_SLICE, &a, IN(x), FT_INVALID, "axis -1");
    bad(FT_OP_SOFTMAX, &a, IN(x), FT_INVALID, "softmax: axis -1");
    bad(FT_OP_SOFTMAX_BWD, &a, IN(x, F32(2, 8)), FT_INVALID, "dy and y differ");
}

static void elementwise_attributes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type x = batched(F32(1, 8));
    struct ft_type rng = ft_type_of(FT_I64, EXTENTS(2));
    good(FT_OP_DROPOUT, &a, IN(x, rng), WANT("float32 (N, 8)"));
    bad(FT_OP_DROPOUT, &a, IN(x, ft_type_of(FT_I64, EXTENTS(3))), FT_INVALID, "rng is");
    bad(FT_OP_DROPOUT, &a, IN(x, F32(2)), FT_INVALID, "rng (input 1) is float32");
    a.alpha = 1.5F;
    bad(FT_OP_DROPOUT, &a, IN(x, rng), FT_INVALID, "not in [0, 1]");
    a.alpha = 0.5F;
    a.node = 1 << 20;
    bad(FT_OP_DROPOUT, &a, IN(x, rng), FT_LIMIT, "node");
    a.lo = NAN;
    bad(FT_OP_CLIP, &a, IN(x), FT_INVALID, "not a number");
    bad(FT_OP_CLIP_BWD, &a, IN(x, x), FT_INVALID, "not a number");
    bad(FT_OP_RELU_BWD, &a, IN(x, F32(2, 8)), FT_INVALID, "dy and y differ");
    bad(FT_OP_RELU, &a, IN(typed(x, FT_U8)), FT_INVALID, "x (input 0) is uint8");
    good(FT_OP_RELU, &a, IN(typed(x, FT_F64)), WANT("float64 (N, 8)"));
}

static void loss_shapes(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    struct ft_type e = batched(F32(1, 64));
    struct ft_type labels = batched(ft_type_of(FT_I32, EXTENTS(1)));
    struct ft_type d = batched(F32(1, 1));
    d.dim[1] = ft_dim_symbol(FT_SYMBOL_BATCH);
    a.eps = 1e-12F;
    good(FT_OP_L2_NORMALIZE, &a, IN(e), WANT("float32 (N, 64)", "float32 (N)"));
    good(FT_OP_PDIST, &a, IN(e, e), WANT("float32 (N, N)"));
    good(FT_OP_PDIST, &a, IN(e, F32(9, 64)), WANT("float32 (N, 9)"));
    good(FT_OP_PDIST_BWD, &a, IN(d, d, e, e), WANT("float32 (N, 64)", "float32 (N, 64)"));
    bad(FT_OP_PDIST, &a, IN(e, F32(9, 63)), FT_INVALID, "differ in length");
    good(FT_OP_TRIPLET, &a, IN(d, d, labels, labels), WANT("float32 ()", "float32 (N, N)", "int64 (4)"));
    good(FT_OP_PAIRS, &a, IN(d, labels, labels), WANT("float32 (N, N)", "float32 (N, N)", "int64 (4)"));
    bad(FT_OP_TRIPLET, &a, IN(d, d, labels, ft_type_of(FT_I32, EXTENTS(4))), FT_INVALID, "lb is");
    bad(FT_OP_PAIRS, &a, IN(d, typed(labels, FT_I64), labels), FT_INVALID, "la (input 1) is int64");
    good(FT_OP_MASKED_MEAN, &a, IN(d, d), WANT("float32 ()", "float32 ()"));
    good(FT_OP_MASKED_MEAN_BWD, &a, IN(ft_type_of(FT_F32, 0, NULL), d, d, ft_type_of(FT_F32, 0, NULL)),
         WANT("float32 (N, N)"));
    bad(FT_OP_MASKED_MEAN_BWD, &a, IN(d, d, d, d), FT_INVALID, "dy is");
    a.miner = (enum ft_miner)99;
    bad(FT_OP_TRIPLET, &a, IN(d, d, labels, labels), FT_INVALID, "no miner 99");
    a.miner = FT_MINER_NONE;
    a.reducer = (enum ft_reducer)7;
    bad(FT_OP_TRIPLET, &a, IN(d, d, labels, labels), FT_INVALID, "no reducer 7");
    bad(FT_OP_MASKED_MEAN, &a, IN(d, d), FT_INVALID, "no reducer 7");
    a.margin = INFINITY;
    bad(FT_OP_PAIRS, &a, IN(d, labels, labels), FT_INVALID, "must be finite");
    a.kind = 5;
    a.eps = 0.0F;
    bad(FT_OP_PDIST, &a, IN(e, e), FT_INVALID, "no distance 5");
    bad(FT_OP_SGD_STEP, &a, IN(e, e, e, F32(8)), FT_INVALID, "no variant 5");
    bad(FT_OP_L2_NORMALIZE, &a, IN(e), FT_INVALID, "eps");
    a.kind = 1;
    good(FT_OP_SGD_STEP, &a, IN(F32(9), F32(9), F32(9), F32(8)), WANT("float32 (9)", "float32 (9)"));
    bad(FT_OP_ADAM_STEP, &a, IN(F32(9), F32(9), F32(9), F32(8), F32(8)), FT_INVALID, "differ");
    bad(FT_OP_ADAM_STEP, &a, IN(F32(9), F32(9), F32(9), F32(9), F32(7)), FT_INVALID, "hyper is");
    good(FT_OP_SUM_SQUARES, &a, IN(e), WANT("float32 ()"));
}

static void what_is_too_large_is_refused(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    bad(FT_OP_RELU, &a, IN(F32(INT64_MAX, 2)), FT_LIMIT, "too many elements");
    bad(FT_OP_RELU, &a, IN(F32(1 << 20, 1 << 20)), FT_LIMIT, "larger than");
    bad(FT_OP_ADD, &a, IN(F32(1 << 20, 1), F32(1 << 20)), FT_LIMIT, "larger than");
    struct ft_type t = F32(2);
    t.rank = FT_MAX_RANK + 1;
    bad(FT_OP_RELU, &a, 1, &t, FT_INVALID, "no valid type");
}

/* ---- devices */

static void devices_have_names(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    static const char *const names[][2] = {{"ref", "ref"}, {"cpu", "cpu"}, {"auto", "cpu"}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ft_device_open(names[i][0], 1, &device, &err), FT_OK);
        assert_string_equal(ft_device_name(device), names[i][1]);
        assert_int_equal(ft_device_float(device), i == 0 ? FT_F64 : FT_F32);
        ft_device_close(device);
    }
    assert_int_equal(ft_device_open("cuda", 0, &device, &err), FT_UNAVAILABLE);
    assert_null(device);
    assert_int_equal(ft_device_open("tpu", 0, &device, &err), FT_NOT_FOUND);
    assert_non_null(strstr(err.text, "tpu"));
    assert_int_equal(ft_device_open("cpu", -1, &device, &err), FT_INVALID);
    ft_device_close(NULL);
    ft_kernel_free(NULL);
}

static void opening_out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        size_t blocks = ft_alloc_stats().live_blocks;
        enum ft_status st = FT_NOMEM;
        for (uint64_t n = 1; st != FT_OK; n++) {
            struct ft_err err = {0};
            struct ft_device *device = NULL;
            ft_alloc_fail_at(n);
            st = ft_device_open(names[i], 1, &device, &err);
            ft_alloc_fail_at(0);
            assert_true(st == FT_OK || (st == FT_NOMEM && device == NULL));
            ft_device_close(device);
            assert_int_equal(ft_alloc_stats().live_blocks, blocks);
            assert_true(n < 100);
        }
    }
}

/* What prepare() itself refuses, whatever the device. */
static void prepare_compares_the_call_with_the_rules(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    struct ft_kernel *kernel = NULL;
    size_t scratch = 1;
    assert_int_equal(ft_device_open("ref", 1, &device, &err), FT_OK);
    struct {
        struct ft_type in, out;
        enum ft_status want;
        const char *words;
    } cases[] = {
        {typed(F32(2, 3), FT_F64), typed(F32(2, 3), FT_F64), FT_OK, ""},
        {F32(2, 3), F32(2, 3), FT_INVALID, "floats of device ref are float64"},
        {typed(F32(2, 3), FT_F64), typed(F32(3, 2), FT_F64), FT_INVALID,
         "output 0 is given as float64 (3, 2)"},
        {typed(F32(2, 3), FT_F64), F32(2, 3), FT_INVALID, "output 0 is float32 (2, 3)"},
        {batched(typed(F32(2, 3), FT_F64)), batched(typed(F32(2, 3), FT_F64)), FT_INVALID, "known extents"},
        {typed(F32(2, 3), FT_F64), typed(F32(2, 3), FT_F64), FT_INVALID, "only rank 4 can be channels-last"},
        {typed(F32(2, 3, 1, 1), FT_F64), typed(F32(2, 3, 1, 1), FT_F64), FT_UNSUPPORTED, "row-major only"},
    };
    cases[5].in.layout = FT_CHANNELS_LAST;
    cases[6].in.layout = FT_CHANNELS_LAST;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ft_call call = {.op = FT_OP_RELU, .n_in = 1, .in = &cases[i].in, .out = &cases[i].out};
        ft_err_clear(&err);
        enum ft_status st = ft_kernel_prepare(device, &call, &kernel, &scratch, &err);
        if (st != cases[i].want || strstr(err.text, cases[i].words) == NULL) {
            fail_msg("case %zu: %s \"%s\"", i, ft_status_text(st), err.text);
        }
        assert_true((kernel != NULL) == (st == FT_OK));
        assert_int_equal(scratch, 0);
        ft_kernel_free(kernel);
    }
    ft_device_close(device);
}

static void a_batch_of_one_cannot_train_batch_normalisation(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    struct ft_kernel *kernel = NULL;
    size_t scratch = 0;
    struct ft_type c = typed(F32(5), FT_F64);
    struct ft_type in[5] = {typed(F32(1, 5), FT_F64), c, c, c, c};
    struct ft_type out[5] = {in[0], c, c, c, c};
    struct ft_call call = {.op = FT_OP_BATCHNORM_TRAIN, .n_in = 5, .in = in, .out = out};
    assert_int_equal(ft_device_open("ref", 1, &device, &err), FT_OK);
    assert_int_equal(ft_kernel_prepare(device, &call, &kernel, &scratch, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "more than 1 value per channel"));
    ft_device_close(device);
}

/* A file may ask for it: 2^60 taps, of which 64 lie inside the image. Backward every window gives to one
 * pixel. */
static void a_window_far_larger_than_the_image_pools_it_whole(void **state)
{
    (void)state;
    enum { SIDE = 8, OUT = 9, BEST = 41 };
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    struct ft_kernel *pool = NULL, *back = NULL;
    size_t bytes[2] = {0};
    float x[SIDE * SIDE] = {0}, dx[SIDE * SIDE], y[OUT * OUT], dy[OUT * OUT];
    int32_t where[OUT * OUT];
    struct ft_type xt = F32(1, 1, SIDE, SIDE);
    struct ft_type yt[2] = {F32(1, 1, OUT, OUT), typed(F32(1, 1, OUT, OUT), FT_I32)};
    struct ft_type in[3] = {yt[0], yt[1], xt};
    struct ft_call call = {.op = FT_OP_MAXPOOL, .n_in = 1, .in = &xt, .out = yt};
    call.attrs.window.rank = 2;
    for (int i = 0; i < 2; i++) {
        call.attrs.window.kernel[i] = 1 << 30;
        call.attrs.window.stride[i] = call.attrs.window.dilation[i] = 1;
        call.attrs.window.pad_begin[i] = call.attrs.window.pad_end[i] = 1 << 29;
    }
    x[BEST] = 1;
    for (int i = 0; i < OUT * OUT; i++) {
        dy[i] = 1;
    }
    assert_int_equal(ft_device_open("cpu", 1, &device, &err), FT_OK);
    assert_int_equal(ft_kernel_prepare(device, &call, &pool, &bytes[0], &err), FT_OK);
    assert_in_range(bytes[0], SIDE * SIDE * 16, 1 << 16);
    void *scratch = NULL;
    assert_int_equal(ft_device_alloc(device, bytes[0], &scratch, &err), FT_OK);
    const struct ft_arg out[2] = {{y, 0}, {where, 0}};
    assert_int_equal(ft_kernel_run(pool, &(struct ft_arg){x, 0}, out, scratch, &err), FT_OK);
    ft_device_free(device, scratch);
    call.op = FT_OP_MAXPOOL_BWD;
    call.n_in = 3;
    call.in = in;
    call.out = &xt;
    assert_int_equal(ft_kernel_prepare(device, &call, &back, &bytes[1], &err), FT_OK);
    assert_int_equal(ft_device_alloc(device, bytes[1], &scratch, &err), FT_OK);
    const struct ft_arg from[3] = {{dy, 0}, {where, 0}, {NULL, 0}};
    assert_int_equal(ft_kernel_run(back, from, &(struct ft_arg){dx, 0}, scratch, &err), FT_OK);
    for (int i = 0; i < OUT * OUT; i++) {
        assert_true(y[i] == 1 && where[i] == BEST);
    }
    for (int i = 0; i < SIDE * SIDE; i++) {
        assert_true(dx[i] == (i == BEST ? OUT * OUT : 0));
    }
    ft_device_free(device, scratch);
    ft_kernel_free(pool);
    ft_kernel_free(back);
    ft_device_close(device);
}

static void device_memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    void *data = NULL;
    unsigned char bytes[100];
    assert_int_equal(ft_device_open("ref", 1, &device, &err), FT_OK);
    assert_int_equal(ft_device_alloc(device, sizeof bytes, &data, &err), FT_OK);
    assert_int_equal((uintptr_t)data % 64, 0);
    assert_int_equal(ft_device_download(device, bytes, data, sizeof bytes, &err), FT_OK);
    for (size_t i = 0; i < sizeof bytes; i++) {
        assert_int_equal(bytes[i], 0);
        bytes[i] = (unsigned char)i;
    }
    assert_int_equal(ft_device_upload(device, data, bytes, sizeof bytes, &err), FT_OK);
    assert_int_equal(ft_device_wait(device, &err), FT_OK);
    assert_memory_equal(data, bytes, sizeof bytes);
    ft_device_free(device, data);
    ft_alloc_fail_at(1);
    assert_int_equal(ft_device_alloc(device, 10, &data, &err), FT_NOMEM);
    assert_null(data);
    ft_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dimensions_are_monomials),
        cmocka_unit_test(dimensions_do_not_overflow),
        cmocka_unit_test(binding_replaces_symbols),
        cmocka_unit_test(types_are_shown_in_full_and_cut_when_too_long),
        cmocka_unit_test(element_types_have_numpys_names),
        cmocka_unit_test(convolution_shapes),
        cmocka_unit_test(transposed_convolution_shapes),
        cmocka_unit_test(padded_shapes),
        cmocka_unit_test(pooling_shapes),
        cmocka_unit_test(batch_normalisation_shapes),
        cmocka_unit_test(matrix_shapes),
        cmocka_unit_test(broadcast_shapes),
        cmocka_unit_test(reduction_shapes),
        cmocka_unit_test(moving_shapes),
        cmocka_unit_test(slice_shapes),
        cmocka_unit_test(sequence_shapes),
        cmocka_unit_test(elementwise_attributes),
        cmocka_unit_test(loss_shapes),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(devices_have_names),
        cmocka_unit_test(opening_out_of_memory_leaks_nothing),
        cmocka_unit_test(prepare_compares_the_call_with_the_rules),
        cmocka_unit_test(a_batch_of_one_cannot_train_batch_normalisation),
        cmocka_unit_test(a_window_far_larger_than_the_image_pools_it_whole),
        cmocka_unit_test(device_memory_is_zeroed_and_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
