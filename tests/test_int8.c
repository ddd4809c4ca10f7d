/* links: ft_kernels ft_base */
/*
 * Products in int8: every instruction set and ref against each other on many shapes, ref against the
 * definition written down once more here, both against the exact product; sums at the edge of 32 bits; a row
 * alone and in a batch; what is not finite.
 */
#include "kernel_suite.h"

#include "kernels/cpu/cpu.h"

/* ---- against ref, in all instruction sets */

static void open_device(struct suite *s, const struct ft_vec *vec)
{
    struct ft_err err = {0};
    struct suite_device *d = &s->devices[s->n_devices++];
    d->threads = 3;
    if (ft_device_open("cpu", d->threads, &d->device, &err) != FT_OK) {
        fail_msg("device cpu: %s", err.text);
    }
    ft_cpu_of(d->device)->vec = vec;
    ft_cpu_of(d->device)->grain = 1;
}

static int open_suite(void **state)
{
    struct ft_err err = {0};
    struct suite *s = calloc(1, sizeof *s);
    const struct ft_vec *sets[FT_VEC_SET_COUNT] = {NULL};
    int count = ft_vec_available(sets);
    assert_non_null(s);
    s->seed = 20240303;
    assert_int_equal(ft_device_open("ref", 1, &s->ref, &err), FT_OK);
    for (int i = 0; i < count; i++) {
        open_device(s, sets[i]);
    }
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

/* The sum is exact; what follows it are a few roundings, of the sum and of what is added. */
static struct kase int8_case(struct ft_type a, struct ft_type b, bool trans, float alpha)
{
    struct kase k = kase_of(FT_OP_MATMUL, SUM, 8.0, 0.0);
    k.attrs.int8 = 1;
    k.attrs.alpha = alpha;
    k.attrs.trans_b = trans;
    if (trans) {
        struct ft_dim d = b.dim[0];
        b.dim[0] = b.dim[1];
        b.dim[1] = d;
    }
    kase_in(&k, a, NORMAL);
    kase_in(&k, b, NORMAL);
    return k;
}

static void shapes_case(struct suite *s, struct ft_type a, struct ft_type b)
{
    for (int i = 0; i < 8; i++) { /* transposed or not, with and without bias and residual */
        struct kase k = int8_case(a, b, i % 2 != 0, i == 0 ? -0.5F : 1.0F);
        struct ft_type y = a;
        y.dim[y.rank - 1] = b.dim[1];
        if ((i & 2) != 0) {
            kase_in(&k, T1(ft_extent(&b, 1)), NORMAL);
        }
        if ((i & 4) != 0) {
            k.attrs.residual = 1;
            kase_in(&k, y, NORMAL);
        }
        check(s, &k);
    }
}

static void devices_agree(void **state)
{
    struct suite *s = *state;
    shapes_case(s, T2(1, 1), T2(1, 1));
    shapes_case(s, T2(1, 7), T2(7, 1));
    shapes_case(s, T2(5, 1), T2(1, 3));
    shapes_case(s, T2(13, 17), T2(17, 11));
    shapes_case(s, T2(7, 64), T2(64, 96));
    shapes_case(s, T2(131, 301), T2(301, 37));
    shapes_case(s, T2(3, 128), T2(128, 257));
    shapes_case(s, T3(2, 5, 24), T2(24, 33));
    shapes_case(s, T4(2, 1, 4, 6), T2(6, 5));
    shapes_case(s, T2(2, 2500), T2(2500, 3));
    shapes_case(s, T2(301, 8), T2(8, 32)); /* rows shared by threads */
}

static void activations_follow(void **state)
{
    struct suite *s = *state;
    for (int act = 0; act < FT_ACT_COUNT; act++) {
        struct kase k = int8_case(T2(150, 18), T2(18, 35), true, 1.0F);
        k.attrs.act = (enum ft_act)act;
        k.attrs.act_a = act == FT_ACT_SILU ? 1.0F : act == FT_ACT_LEAKY_RELU ? 0.125F : -0.5F;
        k.attrs.act_b = 1.5F;
        k.floor = 1.0; /* the activations' own rounding */
        kase_in(&k, T1(35), NORMAL);
        check(s, &k);
    }
}

/* ---- against the definition, and against the exact product */

struct problem {
    int rows, depth, cols;
    double *a, *b, *y; /* (rows, depth), (depth, cols), (rows, cols); a and b are floats */
};

static void problem_init(struct suite *s, struct problem *p, int rows, int depth, int cols)
{
    const struct ft_type a = T2(rows, depth);
    const struct ft_type b = T2(depth, cols);
    s->case_number++;
    *p = (struct problem){.rows = rows, .depth = depth, .cols = cols};
    p->a = random_values(s, &a, 0, NORMAL);
    p->b = random_values(s, &b, 1, NORMAL);
}

static void problem_run(struct ft_device *device, struct problem *p)
{
    struct kase k = int8_case(T2(p->rows, p->depth), T2(p->depth, p->cols), false, 1.0F);
    double *const data[2] = {p->a, p->b};
    ft_free(p->y);
    p->y = NULL;
    run_on(device, &k, FT_ROW_MAJOR, data, &p->y);
}

static void problem_release(struct problem *p)
{
    ft_free(p->a);
    ft_free(p->b);
    ft_free(p->y);
}

/* The largest magnitude of a line. */
static double most(const double *x, int count, int step)
{
    double found = 0;
    for (int i = 0; i < count; i++) {
        found = fmax(found, fabs(x[(size_t)i * (size_t)step]));
    }
    return found;
}

/* In double from the words of int8.h, without its code: a number that lies between two integers, nearly, may
 * become the other one, which the tolerance allows for. */
static void check_definition(const struct problem *p)
{
    double levels = fmin(32767, floor(2147483647.0 / (127.0 * p->depth)));
    for (int i = 0; i < p->rows; i++) {
        for (int j = 0; j < p->cols; j++) {
            const double *a = p->a + (size_t)i * (size_t)p->depth;
            const double *b = p->b + j;
            double scale_a = most(a, p->depth, 1) / levels;
            double scale_b = most(b, p->depth, p->cols) / 127.0;
            double sum = 0;
            double exact = 0;
            double bound = 0;
            for (int l = 0; l < p->depth; l++) {
                double w = b[(size_t)l * (size_t)p->cols];
                sum += rint(a[l] / scale_a) * rint(w / scale_b);
                exact += a[l] * w;
                bound += fabs(a[l]) * scale_b / 2 + fabs(w) * scale_a / 2 + scale_a * scale_b / 4;
            }
            double got = p->y[(size_t)i * (size_t)p->cols + (size_t)j];
            assert_true(fabs(sum) <= 2147483647.0);
            assert_true(fabs(got - sum * scale_a * scale_b) <=
                        8 * 127 * scale_a * scale_b + 1e-6 * fabs(got)); /* 8 numbers at most */
            assert_true(fabs(got - exact) <= 1.0001 * bound);
        }
    }
}

static void results_are_as_defined(void **state)
{
    static const int shapes[][3] = {{9, 31, 17}, {5, 384, 20}, {3, 1536, 16}, {2, 20000, 2}};
    struct suite *s = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct problem p;
        problem_init(s, &p, shapes[i][0], shapes[i][1], shapes[i][2]);
        for (int d = -1; d < s->n_devices; d++) {
            problem_run(d < 0 ? s->ref : s->devices[d].device, &p);
            check_definition(&p);
        }
        problem_release(&p);
    }
}

/* All numbers as large as they get: the sum is nearly 2^31, and neighbours' too. */
static void the_largest_sums_fit(void **state)
{
    static const int depths[] = {1, 2, 515, 516, 517, 1536, 132000, 133144};
    struct suite *s = *state;
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        struct problem p;
        problem_init(s, &p, 2, depths[i], 2);
        for (int l = 0; l < 2 * depths[i]; l++) {
            p.a[l] = l < depths[i] ? 3.0 : -3.0;
            p.b[l] = l % 2 == 0 ? 0.5 : -0.5;
        }
        for (int d = -1; d < s->n_devices; d++) {
            problem_run(d < 0 ? s->ref : s->devices[d].device, &p);
            for (int j = 0; j < 4; j++) {
                double want = (j % 3 == 0 ? 1.5 : -1.5) * depths[i];
                assert_true(fabs(p.y[j] - want) <= 1e-6 * fabs(want));
            }
        }
        problem_release(&p);
    }
}

static void a_depth_that_could_overflow_is_refused(void **state)
{
    struct ft_err err = {0};
    struct ft_type y;
    struct kase k = int8_case(T2(1, 133145), T2(133145, 1), false, 1.0F);
    (void)state;
    assert_int_equal(ft_op_infer(FT_OP_MATMUL, &k.attrs, k.in, 2, &y, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "133144"));
    k.in[1] = T3(2, 8, 1);
    k.in[0] = T3(2, 3, 8);
    assert_int_equal(ft_op_infer(FT_OP_MATMUL, &k.attrs, k.in, 2, &y, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "int8"));
}

/* ---- the same bits */

static void a_row_alone_is_as_in_a_batch(void **state)
{
    enum { ROWS = 200, DEPTH = 70, COLS = 41 };
    struct suite *s = *state;
    struct problem all;
    problem_init(s, &all, ROWS, DEPTH, COLS);
    for (int d = 0; d < s->n_devices; d++) {
        struct ft_device *device = s->devices[d].device;
        problem_run(device, &all);
        for (int r = 0; r < ROWS; r += 23) {
            struct problem one = {.rows = 1, .depth = DEPTH, .cols = COLS};
            one.a = all.a + (size_t)r * DEPTH;
            one.b = all.b;
            for (int threads = 1; threads <= 3; threads += 2) {
                ft_cpu_of(device)->threads = threads;
                problem_run(device, &one);
                assert_memory_equal(one.y, all.y + (size_t)r * COLS, COLS * sizeof *one.y);
            }
            ft_free(one.y);
        }
    }
    problem_release(&all);
}

/* ---- what is not finite, and what is nearly nothing */

static void lines_that_are_not_finite_stay_so(void **state)
{
    enum { ROWS = 20, DEPTH = 37, COLS = 19 };
    struct suite *s = *state;
    struct problem p;
    problem_init(s, &p, ROWS, DEPTH, COLS);
    p.a[2 * DEPTH + 36] = (double)NAN;
    p.a[5 * DEPTH] = (double)INFINITY;
    p.b[4 * COLS + 18] = (double)-INFINITY;
    for (int l = 0; l < DEPTH; l++) {
        p.a[7 * DEPTH + l] = 1e-31;
        p.a[8 * DEPTH + l] = 0;
        p.b[l * COLS + 3] = l % 2 == 0 ? -0.0 : 1e-40;
    }
    for (int d = -1; d < s->n_devices; d++) {
        problem_run(d < 0 ? s->ref : s->devices[d].device, &p);
        for (int i = 0; i < ROWS; i++) {
            for (int j = 0; j < COLS; j++) {
                double y = p.y[i * COLS + j];
                bool nan = i == 2 || i == 5 || j == 18;
                bool zero = i == 7 || i == 8 || j == 3;
                assert_true(nan ? isnan(y) != 0 : zero ? y == 0 : isfinite(y) && y != 0);
            }
        }
    }
    problem_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_agree),
        cmocka_unit_test(activations_follow),
        cmocka_unit_test(results_are_as_defined),
        cmocka_unit_test(the_largest_sums_fit),
        cmocka_unit_test(a_depth_that_could_overflow_is_refused),
        cmocka_unit_test(a_row_alone_is_as_in_a_batch),
        cmocka_unit_test(lines_that_are_not_finite_stay_so),
    };
    return cmocka_run_group_tests(tests, open_suite, close_suite);
}
