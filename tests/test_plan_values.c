/* links: ft_graph ft_kernels ft_base */
/* Values of a plan: where they lie, which are left out, what is read again; sizes and kernels that refuse. */
#include <math.h>

#include "tests/plan_test.h"

static void wanted_values_lie_where_they_are_bound(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct small s = {0};
    struct ft_type t = batched(shape(2, 1, 3));
    ft_value x = 0;
    OK(ft_graph_new(&s.g, &err));
    OK(ft_graph_input(s.g, "x", &t, &x, &err));
    ft_value alias = node(s.g, FT_OP_RESHAPE_LIKE, no_attrs(), 2, x, x);
    ft_value y = node(s.g, FT_OP_NEG, no_attrs(), 1, alias);
    ft_value z = node(s.g, FT_OP_RESHAPE_LIKE, no_attrs(), 2, y, x);
    ft_value hidden = node(s.g, FT_OP_EXP, no_attrs(), 1, y);
    ft_value w = node(s.g, FT_OP_SCALE, with_alpha(2.0F), 1, z);
    const ft_value wanted[] = {y, z, alias, x, w, y};
    open_small(&s, "cpu", wanted, 6);
    float in[6] = {1, 2, 3, 4, 5, 6};
    float out[3][6] = {{0}};
    assert_int_equal(ft_plan_bytes(s.plan, x), 24);
    FAILS(INVALID, "'x' is not bound", ft_plan_run(s.plan, &err));
    FAILS(INVALID, "neither", ft_plan_bind(s.plan, hidden, in, &err));
    FAILS(INVALID, "no memory", ft_plan_bind(s.plan, x, NULL, &err));
    OK(ft_plan_bind(s.plan, x, in, &err));
    OK(ft_plan_bind(s.plan, y, out[0], &err));
    OK(ft_plan_bind(s.plan, z, out[1], &err));
    OK(ft_plan_run(s.plan, &err));
    OK(ft_device_wait(s.device, &err));
    const float *values[5];
    for (int i = 0; i < 5; i++) {
        values[i] = ft_plan_data(s.plan, wanted[i]);
    }
    assert_ptr_equal(values[0], out[0]);
    assert_ptr_equal(values[1], out[1]);
    assert_ptr_equal(values[3], in);
    assert_null(ft_plan_data(s.plan, hidden));
    for (int i = 0; i < 6; i++) {
        assert_true(values[0][i] == -in[i]);
        assert_true(values[1][i] == -in[i]);
        assert_true(values[2][i] == in[i]);
        assert_true(values[4][i] == -2 * in[i]);
    }
    OK(ft_plan_bind(s.plan, y, out[2], &err)); /* and somewhere else */
    OK(ft_plan_run(s.plan, &err));
    assert_true(out[2][5] == -6);
    close_small(&s);
}

/* Channels-last inside, row-major outside; a reshape of a map with spatial extent copies, one of (N, C, 1, 1)
 * does not. */
static void layouts_do_not_show(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct small s = {0};
    struct ft_type t = batched(shape(4, 1, 2, 4, 4));
    struct ft_type wt = shape(4, 3, 2, 1, 1);
    const float weights[6] = {1, 0, 0, 1, 1, 1};
    ft_value x = 0;
    ft_value w = 0;
    OK(ft_graph_new(&s.g, &err));
    OK(ft_graph_input(s.g, "x", &t, &x, &err));
    OK(ft_graph_const(s.g, "w", &wt, weights, &w, &err));
    ft_value y = node(s.g, FT_OP_CONV, window2(1, 1, 0), 2, x, w);
    ft_value flat = node(s.g, FT_OP_RESHAPE, flat_attrs(48), 1, y);
    ft_value pooled = node(s.g, FT_OP_AVGPOOL, window2(4, 4, 0), 1, y);
    ft_value row = node(s.g, FT_OP_RESHAPE, flat_attrs(3), 1, pooled);
    const ft_value wanted[] = {y, flat, row};
    float in[64];
    for (int i = 0; i < 64; i++) {
        in[i] = (float)i;
    }
    open_small(&s, "cpu", wanted, 3);
    OK(ft_plan_bind(s.plan, x, in, &err));
    OK(ft_plan_run(s.plan, &err));
    OK(ft_device_wait(s.device, &err));
    const float *map = ft_plan_data(s.plan, y);
    const float *flat_map = ft_plan_data(s.plan, flat);
    const float *means = ft_plan_data(s.plan, row);
    for (int n = 0; n < 2; n++) {
        for (int i = 0; i < 16; i++) {
            const float *image = in + 32 * n;
            assert_true(map[48 * n + i] == image[i]);
            assert_true(map[48 * n + 16 + i] == image[16 + i]);
            assert_true(map[48 * n + 32 + i] == image[i] + image[16 + i]);
        }
        assert_true(fabsf(means[3 * n] - (32.0F * (float)n + 7.5F)) < 1e-5F);
    }
    assert_memory_equal(map, flat_map, 96 * sizeof *map);
    /* x in, y out, and the copy because the memory of y and of its reshape are both wanted; none for the
     * mean. */
    assert_int_equal(ft_plan_stats(s.plan).reorders, 3);
    close_small(&s);
}

static void unneeded_nodes_are_left_out(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct small s = {0};
    struct ft_type t = batched(shape(2, 1, 3));
    ft_value x = 0;
    ft_value z = 0;
    OK(ft_graph_new(&s.g, &err));
    OK(ft_graph_input(s.g, "x", &t, &x, &err));
    OK(ft_graph_input(s.g, "z", &t, &z, &err));
    ft_value shape_of = node(s.g, FT_OP_EXP, no_attrs(), 1, z);
    ft_value sum = node(s.g, FT_OP_SUM_SQUARES, no_attrs(), 1, x);
    ft_value y = node(s.g, FT_OP_EXPAND_TO, no_attrs(), 2, sum, shape_of);
    (void)node(s.g, FT_OP_LOG, no_attrs(), 1, y);
    open_small(&s, "ref", &y, 1);
    assert_int_equal(ft_plan_stats(s.plan).nodes, 2);
    double in[6] = {1, 1, 1, 1, 1, 2};
    OK(ft_plan_bind(s.plan, x, in, &err));
    OK(ft_plan_bind(s.plan, z, in, &err)); /* accepted, though nothing reads it */
    OK(ft_plan_run(s.plan, &err));
    assert_true(((const double *)ft_plan_data(s.plan, y))[5] == 9.0);
    close_small(&s);
}

static void in_place_keeps_what_is_read_again(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct small s = {0};
    struct ft_type t = shape(2, 4, 4);
    struct ft_attrs sum = no_attrs();
    ft_value x = 0;
    OK(ft_graph_new(&s.g, &err));
    OK(ft_graph_input(s.g, "x", &t, &x, &err));
    sum.axes_count = 1;
    ft_value a = node(s.g, FT_OP_SCALE, with_alpha(2.0F), 1, x); /* 2x */
    ft_value b = node(s.g, FT_OP_SCALE, with_alpha(3.0F), 1, a); /* 6x; a is read again */
    ft_value c = node(s.g, FT_OP_ADD, no_attrs(), 2, b, a);      /* 8x in b's memory */
    ft_value d = node(s.g, FT_OP_MUL, no_attrs(), 2, c, c);      /* 64xx */
    ft_value r = node(s.g, FT_OP_REDUCE_SUM, sum, 1, d);         /* (4) */
    ft_value e = node(s.g, FT_OP_ADD, no_attrs(), 2, r, d);      /* broadcast */
    open_small(&s, "cpu", &e, 1);
    assert_int_equal(ft_plan_stats(s.plan).activation_bytes, 2 * 64); /* r fits where a was */
    float in[16];
    for (int i = 0; i < 16; i++) {
        in[i] = (float)i;
    }
    OK(ft_plan_bind(s.plan, x, in, &err));
    OK(ft_plan_run(s.plan, &err));
    const float *out = ft_plan_data(s.plan, e);
    for (int i = 0; i < 16; i++) {
        float column = 0;
        for (int k = 0; k < 4; k++) {
            column += 64 * in[4 * k + i % 4] * in[4 * k + i % 4];
        }
        assert_true(out[i] == 64 * in[i] * in[i] + column);
    }
    close_small(&s);
}

static void bad_extents_are_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct small s = {0};
    struct ft_type t = batched(shape(2, 1, 1 << 20));
    ft_value x = 0;
    struct ft_plan *plan = NULL;
    OK(ft_graph_new(&s.g, &err));
    OK(ft_graph_input(s.g, "x", &t, &x, &err));
    ft_value y = node(s.g, FT_OP_NEG, no_attrs(), 1, x);
    struct ft_plan_spec spec = {.symbols = {0}, .wanted = &y, .n_wanted = 1};
    OK(ft_device_open("cpu", 1, &s.device, &err));
    FAILS(INVALID, "a symbol has no extent", ft_plan_new(s.device, s.g, &spec, &plan, &err));
    spec.symbols[0] = -3;
    FAILS(INVALID, "symbol 0", ft_plan_new(s.device, s.g, &spec, &plan, &err));
    spec.symbols[0] = INT64_MAX / 2;
    FAILS(LIMIT, "larger than", ft_plan_new(s.device, s.g, &spec, &plan, &err));
    spec.symbols[0] = 1 << 20;
    FAILS(LIMIT, "larger than", ft_plan_new(s.device, s.g, &spec, &plan, &err));
    assert_null(plan);
    close_small(&s);
}

/* PyTorch: "Expected more than 1 value per channel when training". */
static void a_kernels_refusal_names_the_node(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct small s = {0};
    struct ft_type t = batched(shape(2, 1, 3));
    struct ft_type ct = shape(1, 3);
    const float ones[3] = {1, 1, 1};
    struct ft_attrs a = no_attrs();
    struct ft_plan *plan = NULL;
    ft_value x = 0;
    ft_value c = 0;
    OK(ft_graph_new(&s.g, &err));
    OK(ft_graph_input(s.g, "x", &t, &x, &err));
    OK(ft_graph_const(s.g, "c", &ct, ones, &c, &err));
    ft_value y = node(s.g, FT_OP_BATCHNORM_TRAIN, a, 5, x, c, c, c, c);
    struct ft_plan_spec spec = {.symbols = {1}, .wanted = &y, .n_wanted = 1};
    OK(ft_device_open("cpu", 1, &s.device, &err));
    FAILS(INVALID, "batchnorm_train 'batchnorm_train'", ft_plan_new(s.device, s.g, &spec, &plan, &err));
    close_small(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wanted_values_lie_where_they_are_bound),
        cmocka_unit_test(layouts_do_not_show),
        cmocka_unit_test(unneeded_nodes_are_left_out),
        cmocka_unit_test(in_place_keeps_what_is_read_again),
        cmocka_unit_test(bad_extents_are_refused),
        cmocka_unit_test(a_kernels_refusal_names_the_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
