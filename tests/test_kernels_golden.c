/* Device ref against PyTorch in float64 (tests/oracle/make_kernels.py): the oracle of the others has one of
 * its own. */
/* links: ft_kernels ft_base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/kernel.h"

enum { MAX_TENSORS = 8 };

struct file {
    unsigned char *bytes;
    size_t size, used;
};

static const void *take(struct file *f, size_t bytes)
{
    const void *at = f->bytes + f->used;
    assert_true(bytes <= f->size - f->used);
    f->used += bytes;
    return at;
}

static double number(struct file *f)
{
    double d = 0.0;
    memcpy(&d, take(f, sizeof d), sizeof d); /* little-endian hosts only, as all of ours */
    return d;
}

static struct file read_file(void)
{
    FILE *in = fopen(FT_TEST_DATA "/kernels.bin", "rb");
    struct file f = {NULL, 0, 0};
    assert_non_null(in);
    assert_int_equal(fseek(in, 0, SEEK_END), 0);
    f.size = (size_t)ftell(in);
    rewind(in);
    f.bytes = malloc(f.size);
    assert_non_null(f.bytes);
    assert_int_equal(fread(f.bytes, 1, f.size, in), f.size);
    assert_int_equal(fclose(in), 0);
    assert_memory_equal(take(&f, 8), "FTKERN01", 8);
    return f;
}

static enum ft_op op_named(const char *name)
{
    for (int op = 0; op < FT_OP_COUNT; op++) {
        if (strcmp(ft_op_info((enum ft_op)op)->name, name) == 0) {
            return (enum ft_op)op;
        }
    }
    fail_msg("there is no op %s", name);
    return FT_OP_COUNT;
}

/* `index` counts ATTRS of the script: rank, six pairs of the window, then the rest in this order. */
static void set_attr(struct ft_attrs *a, int index, double value)
{
    int64_t *window[6] = {a->window.kernel,    a->window.stride,  a->window.dilation,
                          a->window.pad_begin, a->window.pad_end, a->window.out};
    float *floats[6] = {&a->alpha, &a->beta, &a->eps, &a->momentum, &a->lo, &a->hi};
    int *ints[5] = {&a->axis, &a->count_include_pad, &a->kind, &a->trans_a, &a->trans_b};
    if (index == 0) {
        a->window.rank = (int)value;
    } else if (index <= 12) {
        window[(index - 1) / 2][(index - 1) % 2] = (int64_t)value;
    } else if (index == 13) {
        a->group = (int64_t)value;
    } else if (index <= 18) {
        *ints[index - 14] = (int)value;
    } else if (index <= 24) {
        *floats[index - 19] = (float)value;
    } else {
        assert_int_equal(index, 25);
        a->count = (int64_t)value;
    }
}

struct tensor {
    struct ft_type type;
    void *data;
    const unsigned char *elements; /* doubles in the file, possibly unaligned */
};

static double element(const struct tensor *t, int64_t i)
{
    double d = 0.0;
    memcpy(&d, t->elements + (size_t)i * sizeof d, sizeof d);
    return d;
}

static struct tensor read_tensor(struct file *f)
{
    struct tensor t;
    int64_t extents[FT_MAX_RANK];
    static const enum ft_dtype dtypes[3] = {FT_F64, FT_I32, FT_I64};
    enum ft_dtype dtype = dtypes[(int)number(f)];
    int rank = (int)number(f);
    assert_true(rank >= 0 && rank <= FT_MAX_RANK);
    for (int i = 0; i < rank; i++) {
        extents[i] = (int64_t)number(f);
    }
    t.type = ft_type_of(dtype, rank, extents);
    t.elements = take(f, (size_t)ft_elements(&t.type) * sizeof(double));
    t.data = ft_alloc(ft_type_bytes(&t.type));
    assert_non_null(t.data);
    for (int64_t i = 0; i < ft_elements(&t.type); i++) {
        if (dtype == FT_F64) {
            ((double *)t.data)[i] = element(&t, i);
        } else if (dtype == FT_I64) {
            ((int64_t *)t.data)[i] = (int64_t)element(&t, i);
        } else {
            ((int32_t *)t.data)[i] = (int32_t)element(&t, i);
        }
    }
    return t;
}

static void compare(const struct tensor *t, const char *op, int output, int number_of_case)
{
    for (int64_t i = 0; i < ft_elements(&t->type); i++) {
        double want = element(t, i);
        double got = t->type.dtype == FT_F64 ? ((const double *)t->data)[i] : ((const int32_t *)t->data)[i];
        /* Both sides in float64: sums of up to some hundred terms differ in order only. */
        double limit = t->type.dtype == FT_F64 ? 1e-12 * fmax(1.0, fabs(want)) : 0.0;
        if (!(fabs(got - want) <= limit)) {
            fail_msg("case %d, %s: output %d element %lld is %.17g, PyTorch has %.17g", number_of_case, op,
                     output, (long long)i, got, want);
        }
    }
}

static void run_case(struct ft_device *device, struct file *f, int number_of_case, bool *seen)
{
    char name[25] = {0};
    struct tensor tensors[MAX_TENSORS * 2];
    struct ft_type types[MAX_TENSORS * 2];
    struct ft_arg args[MAX_TENSORS * 2] = {{0}};
    struct ft_err err = {0};
    memcpy(name, take(f, 24), 24);
    struct ft_call call = {.op = op_named(name), .in = types};
    for (int n = (int)number(f); n > 0; n--) {
        int index = (int)number(f);
        set_attr(&call.attrs, index, number(f));
    }
    call.n_in = (int)number(f);
    int outputs = (int)number(f);
    assert_true(call.n_in <= MAX_TENSORS && outputs == ft_op_info(call.op)->outputs);
    call.out = &types[call.n_in];
    for (int i = 0; i < call.n_in + outputs; i++) {
        tensors[i] = read_tensor(f);
        types[i] = tensors[i].type;
        args[i].data = tensors[i].data;
        if (i >= call.n_in) {
            memset(tensors[i].data, 0xFF, ft_type_bytes(&types[i]));
        }
    }
    struct ft_kernel *kernel = NULL;
    size_t scratch = 0;
    if (ft_kernel_prepare(device, &call, &kernel, &scratch, &err) != FT_OK) {
        fail_msg("case %d: %s", number_of_case, err.text);
    }
    assert_int_equal(scratch, 0);
    assert_int_equal(ft_kernel_run(kernel, args, &args[call.n_in], NULL, &err), FT_OK);
    ft_kernel_free(kernel);
    for (int i = 0; i < call.n_in + outputs; i++) {
        if (i >= call.n_in) {
            compare(&tensors[i], name, i - call.n_in, number_of_case);
        }
        ft_free(tensors[i].data);
    }
    seen[call.op] = true;
}

static void ref_equals_pytorch(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    bool seen[FT_OP_COUNT] = {false};
    struct file f = read_file();
    int cases = (int)number(&f);
    assert_int_equal(ft_device_open("ref", 1, &device, &err), FT_OK);
    for (int i = 0; i < cases; i++) {
        run_case(device, &f, i, seen);
    }
    assert_int_equal(f.used, f.size);
    int ops = 0;
    for (int op = 0; op < FT_OP_COUNT; op++) {
        ops += seen[op];
    }
    (void)printf("device ref: %d calls of %d ops as PyTorch has them\n", cases, ops);
    assert_true(ops >= 36);
    ft_device_close(device);
    free(f.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ref_equals_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
