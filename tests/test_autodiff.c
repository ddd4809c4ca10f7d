/* links: ft_graph ft_kernels ft_base */
/*
 * Each differentiable op, and whole losses, against central finite differences on `ref`, which computes in
 * double. Step 1e-5: truncation is of order 1e-10 and rounding of order 1e-11, so 1e-7 relative leaves room
 * for large third derivatives only. Inputs stay away from kinks by their ranges; where a kink is near by
 * chance, they are drawn again.
 */
#include <math.h>

#include "executor/graph/grad.h"
#include "executor/graph/plan.h"
#include "tests/grad_cases.h"

static const double step = 1e-5;
static const double tolerance = 1e-7;

/* ---- the check */

struct runner {
    struct ft_plan *plan;
    ft_value loss;
    ft_value grad[MAX_INPUTS];
};

static double loss_of(struct runner *r)
{
    struct ft_err err = {0};
    OK(ft_plan_run(r->plan, &err));
    double loss = 0;
    memcpy(&loss, ft_plan_data(r->plan, r->loss), sizeof loss);
    return loss;
}

/* A jump or a kink between x - step and x + step shows in the second difference, which is of order 1e-10 for
 * a smooth loss: then the finite difference is no oracle and other numbers must be drawn. */
static bool is_smooth(double up, double here, double down)
{
    return fabs(up - 2 * here + down) <= 1e-7 * fmax(1.0, fabs(here));
}

static bool compare_input(const struct input *in, const double *analytic, struct runner *r, const char *name)
{
    double here = loss_of(r);
    for (size_t i = 0; i < in->count; i++) {
        double x = in->data[i];
        in->data[i] = x + step;
        double up = loss_of(r);
        in->data[i] = x - step;
        double down = loss_of(r);
        in->data[i] = x;
        if (!is_smooth(up, here, down)) {
            return false;
        }
        double numeric = (up - down) / (2 * step);
        double size = fmax(1.0, fmax(fabs(numeric), fabs(analytic[i])));
        if (!(fabs(numeric - analytic[i]) <= tolerance * size)) {
            fail_msg("%s: input %s element %zu: builder %.12g, finite difference %.12g", name,
                     ft_type_text(&in->type, (char[FT_TYPE_TEXT]){0}), i, analytic[i], numeric);
        }
    }
    return true;
}

/* False: a kink is too near. */
static bool compare(const struct problem *p, struct runner *r, const char *name)
{
    bool smooth = true;
    for (int k = 0; k < p->n_in && smooth; k++) {
        const struct input *in = &p->in[k];
        if (!in->differentiated) {
            continue;
        }
        assert_true(ft_plan_bytes(r->plan, r->grad[k]) == in->count * sizeof(double));
        double *analytic = ft_alloc(in->count * sizeof *analytic);
        (void)loss_of(r);
        memcpy(analytic, ft_plan_data(r->plan, r->grad[k]), in->count * sizeof *analytic);
        smooth = compare_input(in, analytic, r, name);
        ft_free(analytic);
    }
    return smooth;
}

/* sum of y times fixed random numbers, unless y is a scalar already. */
static ft_value make_loss(struct problem *p)
{
    const struct ft_type *t = ft_graph_type(p->g, p->y);
    if (t->rank == 0) {
        return p->y;
    }
    ft_value weights = given(p, *t, -1.0, 1.0);
    struct ft_attrs all = no_attrs();
    for (int i = 0; i < t->rank; i++) {
        all.axes[all.axes_count++] = i;
    }
    ft_value product = node(p->g, FT_OP_MUL, no_attrs(), 2, p->y, weights);
    return node(p->g, FT_OP_REDUCE_SUM, all, 1, product);
}

static bool run_problem(struct problem *p, const char *name)
{
    struct ft_err err = {0};
    struct ft_device *ref = NULL;
    struct runner r = {0};
    ft_value wrt[MAX_INPUTS];
    ft_value grads[MAX_INPUTS];
    ft_value wanted[MAX_INPUTS + 1];
    int n_wrt = 0;
    int n_wanted = 0;
    r.loss = make_loss(p);
    wanted[n_wanted++] = r.loss;
    for (int k = 0; k < p->n_in; k++) {
        if (p->in[k].differentiated) {
            wrt[n_wrt++] = p->in[k].v;
        }
    }
    OK(ft_graph_backward(p->g, r.loss, wrt, n_wrt, grads, &err));
    for (int k = 0, w = 0; k < p->n_in; k++) {
        r.grad[k] = FT_NO_VALUE;
        if (p->in[k].differentiated) {
            r.grad[k] = grads[w++];
            if (r.grad[k] == FT_NO_VALUE) {
                fail_msg("%s: no gradient for input %d", name, k);
            }
            wanted[n_wanted++] = r.grad[k];
        }
    }
    struct ft_plan_spec spec = {.symbols = {p->batch}, .wanted = wanted, .n_wanted = n_wanted};
    OK(ft_device_open("ref", 1, &ref, &err));
    OK(ft_plan_new(ref, p->g, &spec, &r.plan, &err));
    for (int k = 0; k < p->n_in; k++) {
        OK(ft_plan_bind(r.plan, p->in[k].v, p->in[k].data, &err));
    }
    bool smooth = compare(p, &r, name);
    ft_plan_free(r.plan);
    ft_device_close(ref);
    return smooth;
}

static bool check_row(const struct row *row, struct ft_rand rand)
{
    struct ft_err err = {0};
    struct problem p = {.batch = 6, .rand = rand};
    OK(ft_graph_new(&p.g, &err));
    row->build(&p);
    bool smooth = run_problem(&p, row->name);
    for (int k = 0; k < p.n_in; k++) {
        ft_free(p.in[k].data);
    }
    ft_graph_free(p.g);
    return smooth;
}

static void builders_agree_with_finite_differences(void **state)
{
    (void)state;
    enum { ATTEMPTS = 5 };
    size_t live = ft_alloc_stats().live_blocks;
    uint64_t seed = test_seed();
    size_t count = sizeof table / sizeof table[0];
    int redrawn = 0;
    for (size_t i = 0; i < count; i++) {
        bool done = false;
        for (uint64_t attempt = 0; attempt < ATTEMPTS && !done; attempt++) {
            done = check_row(&table[i], ft_rand_at(seed, FT_RAND_TEST, i * ATTEMPTS + attempt));
            redrawn += !done;
        }
        if (!done) {
            fail_msg("%s: a kink near each of %d drawings", table[i].name, ATTEMPTS);
        }
    }
    printf("%zu gradients checked, %d drawn again because of a kink\n", count, redrawn);
    assert_int_equal(ft_alloc_stats().live_blocks, live);
}

static void every_op_is_accounted_for(void **state)
{
    (void)state;
    bool tested[FT_OP_COUNT] = {false};
    bool listed[FT_OP_COUNT] = {false};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].op != FT_OP_COUNT) {
            tested[table[i].op] = true;
        }
    }
    for (size_t i = 0; i < sizeof without_gradient / sizeof without_gradient[0]; i++) {
        listed[without_gradient[i]] = true;
    }
    for (int op = 0; op < FT_OP_COUNT; op++) {
        const char *name = ft_op_info((enum ft_op)op)->name;
        if (tested[op] == listed[op]) {
            fail_msg("%s: %s", name,
                     tested[op] ? "tested and listed as without gradient" : "has no gradient test");
        }
        if ((ft_grad_row_of((enum ft_op)op)->build != NULL) != tested[op]) {
            fail_msg("%s: the gradient table and this test disagree", name);
        }
    }
}

/* ---- what is refused */

static void rows_without_gradient_are_named(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct problem p = {.batch = 6, .rand = ft_rand_at(1, FT_RAND_TEST, 0)};
    ft_value grad = 0;
    OK(ft_graph_new(&p.g, &err));
    ft_value x = any(&p, shape(2, 4, 4));
    ft_value la = labels(&p, 4, 2);
    ft_value in[3] = {x, la, la};
    ft_value pairs[FT_MAX_OUTPUTS];
    struct ft_attrs a = no_attrs();
    OK(ft_graph_add(p.g, FT_OP_PAIRS, &a, in, 3, "the miner", pairs, &err));
    ft_value y = node(p.g, FT_OP_REDUCE_SUM, axes(0, 2, 0, 1), 1, node(p.g, FT_OP_MUL, a, 2, x, pairs[0]));
    OK(ft_graph_backward(p.g, y, &x, 1, &grad, &err)); /* a choice: x reaches y beside it, not through it */
    assert_int_not_equal(grad, FT_NO_VALUE);

    ft_value in2[2] = {x, x};
    ft_value second[FT_MAX_OUTPUTS];
    OK(ft_graph_add(p.g, FT_OP_RELU_BWD, &a, in2, 2, "twice", second, &err));
    y = node(p.g, FT_OP_REDUCE_SUM, axes(0, 2, 0, 1), 1, second[0]);
    FAILS(UNSUPPORTED, "relu_bwd 'twice' has no gradient", ft_graph_backward(p.g, y, &x, 1, &grad, &err));

    a.eps = 1e-6F;
    OK(ft_graph_add(p.g, FT_OP_L2_NORMALIZE, &a, &x, 1, "norm", second, &err));
    y = node(p.g, FT_OP_REDUCE_SUM, axes(0, 1, 0, 0), 1, second[1]);
    FAILS(UNSUPPORTED, "l2_normalize 'norm' has no gradient through its output 1",
          ft_graph_backward(p.g, y, &x, 1, &grad, &err));

    y = node(p.g, FT_OP_MASKED_MEAN, no_attrs(), 2, x, node(p.g, FT_OP_EXP, no_attrs(), 1, x));
    FAILS(UNSUPPORTED, "the weights of a masked mean", ft_graph_backward(p.g, y, &x, 1, &grad, &err));
    FAILS(INVALID, "not a float32 scalar", ft_graph_backward(p.g, x, &x, 1, &grad, &err));
    for (int k = 0; k < p.n_in; k++) {
        ft_free(p.in[k].data);
    }
    ft_graph_free(p.g);
}

static void a_loss_that_does_not_depend_has_no_gradient(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    struct ft_type t = shape(2, 2, 3);
    ft_value x = 0;
    ft_value z = 0;
    OK(ft_graph_new(&g, &err));
    OK(ft_graph_input(g, "x", &t, &x, &err));
    OK(ft_graph_input(g, "z", &t, &z, &err));
    ft_value h = node(g, FT_OP_EXP, no_attrs(), 1, x);
    ft_value y = node(g, FT_OP_REDUCE_SUM, axes(0, 2, 0, 1), 1, h);
    ft_value wrt[4] = {z, x, h, y};
    ft_value grad[4];
    OK(ft_graph_backward(g, y, wrt, 4, grad, &err));
    assert_int_equal(grad[0], FT_NO_VALUE);
    for (int i = 1; i < 4; i++) {
        assert_int_not_equal(grad[i], FT_NO_VALUE);
        assert_true(ft_type_same_shape(ft_graph_type(g, grad[i]), ft_graph_type(g, wrt[i])));
    }
    ft_graph_free(g);
}

/* x decides what is chosen and does nothing else: its finite difference is 0 or infinite. */
static void what_only_decides_is_not_trained(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    struct ft_type t = shape(2, 2, 3);
    ft_value in[3];
    ft_value wrt[2];
    ft_value grad[2];
    ft_value mask[FT_MAX_OUTPUTS];
    struct ft_attrs greater = no_attrs();
    greater.kind = FT_GREATER;
    OK(ft_graph_new(&g, &err));
    OK(ft_graph_input(g, "decides", &t, &wrt[0], &err));
    OK(ft_graph_input(g, "z", &t, &wrt[1], &err));
    ft_value gate = node(g, FT_OP_EXP, no_attrs(), 1, wrt[0]);
    in[0] = gate;
    in[1] = wrt[1];
    OK(ft_graph_add(g, FT_OP_COMPARE, &greater, in, 2, "the gate", mask, &err));
    in[0] = mask[0];
    in[1] = wrt[1];
    in[2] = node(g, FT_OP_NEG, no_attrs(), 1, wrt[1]);
    ft_value y = node(g, FT_OP_WHERE, no_attrs(), 3, in[0], in[1], in[2]);
    y = node(g, FT_OP_REDUCE_SUM, axes(0, 2, 0, 1), 1, y);
    OK(ft_graph_backward(g, y, wrt, 2, grad, &err));
    assert_int_equal(grad[0], FT_NO_VALUE);
    assert_int_not_equal(grad[1], FT_NO_VALUE);
    FAILS(UNSUPPORTED, "'decides' cannot be trained: nothing flows back through compare 'the gate'",
          ft_graph_check_trained(g, y, wrt, 2, grad, &err));
    OK(ft_graph_check_trained(g, y, &wrt[1], 1, &grad[1], &err));
    /* What the loss does not read at all is nobody's business. */
    y = node(g, FT_OP_REDUCE_SUM, axes(0, 2, 0, 1), 1, wrt[1]);
    OK(ft_graph_check_trained(g, y, wrt, 2, grad, &err));
    ft_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builders_agree_with_finite_differences),
        cmocka_unit_test(every_op_is_accounted_for),
        cmocka_unit_test(rows_without_gradient_are_named),
        cmocka_unit_test(a_loss_that_does_not_depend_has_no_gradient),
        cmocka_unit_test(what_only_decides_is_not_trained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
