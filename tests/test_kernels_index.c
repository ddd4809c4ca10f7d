/* What data can make fail: an index out of range, a division by the integer 0, spans that are none. A status
 * on every device, never a fault, and integers that wrap. */
/* links: ft_kernels ft_base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "kernels/kernel.h"

static const char *const devices[] = {"ref", "cpu"};
enum { DEVICES = 2 };

/* One call of something small; data is written over by nobody but the op. */
static enum ft_status run(const char *name, const struct ft_call *call, const struct ft_arg *in,
                          const struct ft_arg *out, struct ft_err *err)
{
    struct ft_device *device = NULL;
    struct ft_kernel *kernel = NULL;
    static _Alignas(64) int64_t scratch[1 << 14];
    size_t bytes = 0;
    assert_int_equal(ft_device_open(name, 1, &device, err), FT_OK);
    if (ft_kernel_prepare(device, call, &kernel, &bytes, err) != FT_OK) {
        fail_msg("%s", err->text);
    }
    assert_true(bytes <= sizeof scratch);
    enum ft_status st = ft_kernel_run(kernel, in, out, scratch, err);
    ft_kernel_free(kernel);
    ft_device_close(device);
    return st;
}

static struct ft_type ints(int rank, int64_t a, int64_t b)
{
    return ft_type_of(FT_I64, rank, (const int64_t[]){a, b});
}

static int64_t binary(const char *device, enum ft_op op, int kind, int64_t a, int64_t b, enum ft_status want)
{
    const struct ft_type in[2] = {ints(0, 1, 1), ints(0, 1, 1)};
    const struct ft_type out = ints(0, 1, 1);
    struct ft_call call = {.op = op, .n_in = 2, .in = in, .out = &out};
    const struct ft_arg args[2] = {{&a, 0}, {&b, 0}};
    struct ft_err err = {0};
    int64_t y = 0;
    call.attrs.kind = kind;
    assert_int_equal(run(device, &call, args, &(struct ft_arg){&y, 0}, &err), want);
    if (want != FT_OK) {
        assert_non_null(strstr(err.text, "divided by zero"));
    }
    return y;
}

static void integers_wrap_and_never_trap(void **state)
{
    (void)state;
    for (int d = 0; d < DEVICES; d++) {
        const char *n = devices[d];
        assert_int_equal(binary(n, FT_OP_ADD, 0, INT64_MAX, 1, FT_OK), INT64_MIN);
        assert_int_equal(binary(n, FT_OP_SUB, 0, INT64_MIN, 1, FT_OK), INT64_MAX);
        assert_int_equal(binary(n, FT_OP_MUL, 0, INT64_MAX, 2, FT_OK), -2);
        assert_int_equal(binary(n, FT_OP_DIV, 0, INT64_MIN, -1, FT_OK), INT64_MIN);
        assert_int_equal(binary(n, FT_OP_DIV, 0, -7, 2, FT_OK), -3);
        assert_int_equal(binary(n, FT_OP_MOD, 0, INT64_MIN, -1, FT_OK), 0);
        assert_int_equal(binary(n, FT_OP_MOD, 0, -7, 3, FT_OK), 2);
        assert_int_equal(binary(n, FT_OP_MOD, 1, -7, 3, FT_OK), -1);
        assert_int_equal(binary(n, FT_OP_POW, 0, 2, 63, FT_OK), INT64_MIN);
        assert_int_equal(binary(n, FT_OP_POW, 0, -1, -3, FT_OK), -1);
        assert_int_equal(binary(n, FT_OP_POW, 0, 5, -1, FT_OK), 0);
        (void)binary(n, FT_OP_DIV, 0, 1, 0, FT_INVALID);
        (void)binary(n, FT_OP_MOD, 0, 1, 0, FT_INVALID);
        (void)binary(n, FT_OP_MOD, 1, INT64_MIN, 0, FT_INVALID);
        (void)binary(n, FT_OP_POW, 0, 0, -1, FT_INVALID);
    }
}

/* An index row over x (3, 2) with index (2, 1), both int64. */
static void check_range(const char *device, enum ft_op op, int64_t index, bool fits)
{
    const bool scatter = op == FT_OP_SCATTER_ELEMENTS || op == FT_OP_SCATTER_ND;
    struct ft_type in[3] = {ints(2, 3, 2), ints(2, 2, 1), ints(2, 2, 1)};
    struct ft_type out;
    struct ft_call call = {.op = op, .n_in = scatter ? 3 : 2, .in = in, .out = &out};
    int64_t x[6] = {0, 1, 2, 3, 4, 5};
    int64_t indices[2] = {0, index};
    int64_t u[4] = {7, 8, 9, 10};
    int64_t y[8] = {0};
    const struct ft_arg args[3] = {{x, 0}, {indices, 0}, {u, 0}};
    struct ft_err err = {0};
    if (op == FT_OP_SCATTER_ND) {
        in[2] = ints(2, 2, 2);
    }
    assert_int_equal(ft_op_infer(op, &call.attrs, in, call.n_in, &out, &err), FT_OK);
    enum ft_status st = run(device, &call, args, &(struct ft_arg){y, 0}, &err);
    assert_int_equal(st, fits ? FT_OK : FT_INVALID);
    if (!fits) {
        assert_non_null(strstr(err.text, ft_op_info(op)->name));
        assert_non_null(strstr(err.text, "is not within 3"));
    }
}

static void an_index_out_of_range_is_a_status(void **state)
{
    (void)state;
    static const enum ft_op ops[] = {FT_OP_GATHER, FT_OP_GATHER_ELEMENTS, FT_OP_GATHER_ND,
                                     FT_OP_SCATTER_ELEMENTS, FT_OP_SCATTER_ND};
    for (int i = 0; i < DEVICES * 5; i++) {
        const char *device = devices[i % DEVICES];
        enum ft_op op = ops[i / DEVICES];
        check_range(device, op, 2, true);
        check_range(device, op, -3, true);
        check_range(device, op, 3, false);
        check_range(device, op, -4, false);
        check_range(device, op, INT64_MIN, false);
        check_range(device, op, INT64_MAX, false);
    }
}

/* Three spans of 8 tokens of two numbers, one head. */
static void check_spans(const char *device, enum ft_op op, const int64_t spans[6], bool fits)
{
    static const struct {
        enum ft_op op;
        int n_in, seq;
        const char *in; /* x: tokens, l: one number a token, s: spans, i: ids, p: pooled, b: bias */
    } rows[] = {
        {FT_OP_ATTENTION, 4, 3, "xxxs"},
        {FT_OP_ATTENTION_BWD, 7, 6, "xxxxxls"},
        {FT_OP_ATTENTION_BWD_BIAS, 8, 6, "xxxxxlsb"},
        {FT_OP_ROPE, 2, 1, "xs"},
        {FT_OP_POSITIONS, 2, 0, "si"},
        {FT_OP_SEQ_POOL, 2, 1, "xs"},
        {FT_OP_SEQ_POOL_BWD, 4, 3, "pxps"},
    };
    struct ft_type in[8];
    struct ft_type out[FT_MAX_OUTPUTS];
    struct ft_arg args[8];
    struct ft_arg results[FT_MAX_OUTPUTS];
    double zeros[16] = {0};
    double to[FT_MAX_OUTPUTS][16];
    struct ft_err err = {0};
    size_t row = 0;
    while (rows[row].op != op) {
        row++;
    }
    struct ft_call call = {.op = op, .n_in = rows[row].n_in, .in = in, .out = out};
    call.attrs.group = 1;
    call.attrs.alpha = 1.0F;
    call.attrs.count = 2;
    for (int i = 0; i < call.n_in; i++) {
        char what = rows[row].in[i];
        in[i] = ints(what == 'i' ? 1 : 2,
                     what == 's' || what == 'p' ? 3
                     : what == 'b'              ? 1
                                                : 8,
                     what == 'l' || what == 'b' ? 1 : 2);
        if (what != 's' && what != 'i') {
            in[i].dtype = strcmp(device, "ref") == 0 ? FT_F64 : FT_F32;
        }
        args[i] = (struct ft_arg){zeros, 0};
    }
    int64_t given[6];
    memcpy(given, spans, sizeof given);
    args[rows[row].seq].data = given;
    assert_int_equal(ft_op_infer(op, &call.attrs, in, call.n_in, out, &err), FT_OK);
    for (int i = 0; i < ft_op_info(op)->outputs; i++) {
        results[i] = (struct ft_arg){to[i], 0};
    }
    enum ft_status st = run(device, &call, args, results, &err);
    assert_int_equal(st, fits ? FT_OK : FT_INVALID);
    if (!fits) {
        assert_non_null(strstr(err.text, ft_op_info(op)->name));
        assert_non_null(strstr(err.text, "not within"));
    }
}

static void spans_that_are_none_are_a_status(void **state)
{
    (void)state;
    static const enum ft_op ops[] = {FT_OP_ATTENTION,   FT_OP_ATTENTION_BWD, FT_OP_ATTENTION_BWD_BIAS,
                                     FT_OP_ROPE,        FT_OP_POSITIONS,     FT_OP_SEQ_POOL,
                                     FT_OP_SEQ_POOL_BWD};
    static const struct {
        int64_t spans[6];
        bool fits;
    } all[] = {
        {{0, 2, 2, 1, 3, 5}, true},          {{1, 2, 4, 1, 6, 1}, true},
        {{0, 2, 1, 1, 3, 5}, false},         {{0, 2, 4, 1, 3, 1}, false},
        {{0, 0, 2, 1, 3, 5}, false},         {{0, 2, 2, 1, 3, 6}, false},
        {{-1, 2, 2, 1, 3, 5}, false},        {{0, 2, 2, -1, 3, 5}, false},
        {{0, 2, 2, 1, 8, 1}, false},         {{0, 2, 2, 1, INT64_MAX, 1}, false},
        {{0, 2, 2, 1, 3, INT64_MAX}, false}, {{INT64_MIN, 2, 2, 1, 3, 5}, false},
    };
    for (size_t i = 0; i < DEVICES * sizeof ops / sizeof *ops; i++) {
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
            check_spans(devices[i % DEVICES], ops[i / DEVICES], all[k].spans, all[k].fits);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_wrap_and_never_trap),
        cmocka_unit_test(an_index_out_of_range_is_a_status),
        cmocka_unit_test(spans_that_are_none_are_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
