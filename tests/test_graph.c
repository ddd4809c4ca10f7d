/* links: ft_graph ft_kernels ft_base */
/*
 * The canonical graph: building, names, copies, folding, training form, memory.
 */
#include <time.h>

#include "tests/graph_test.h"

static struct ft_graph *new_graph(void)
{
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    OK(ft_graph_new(&g, &err));
    return g;
}

static ft_value input(struct ft_graph *g, const char *name, struct ft_type t)
{
    struct ft_err err = {0};
    ft_value v = FT_NO_VALUE;
    OK(ft_graph_input(g, name, &t, &v, &err));
    return v;
}

static ft_value filled(struct ft_graph *g, const char *name, enum ft_source source, struct ft_type t, float x)
{
    struct ft_err err = {0};
    float data[64];
    ft_value v = FT_NO_VALUE;
    for (int i = 0; i < 64; i++) {
        data[i] = x + (float)i;
    }
    if (source == FT_FROM_PARAM) {
        OK(ft_graph_param(g, name, &t, FT_PARAM_WEIGHT, data, &v, &err));
    } else {
        OK(ft_graph_const(g, name, &t, data, &v, &err));
    }
    return v;
}

static ft_value state_param(struct ft_graph *g, const char *name, struct ft_type t, float x)
{
    struct ft_err err = {0};
    float data[64];
    ft_value v = FT_NO_VALUE;
    for (int i = 0; i < 64; i++) {
        data[i] = x;
    }
    OK(ft_graph_param(g, name, &t, FT_PARAM_STATE, data, &v, &err));
    return v;
}

/* ---- building and reading */

static void values_know_where_they_come_from(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = new_graph();
    ft_value x = input(g, "x", batched(shape(2, 1, 4)));
    ft_value w = filled(g, "w", FT_FROM_PARAM, shape(2, 4, 3), 1);
    ft_value c = filled(g, "c", FT_FROM_CONST, shape(1, 3), 5);
    ft_value y = node(g, FT_OP_MATMUL, with_alpha(1.0F), 3, x, w, c);
    ft_value z = node(g, FT_OP_MUL, no_attrs(), 2, y, y);
    OK(ft_graph_output(g, z, "z", &err));
    assert_int_equal(ft_graph_values(g), 5);
    assert_int_equal(ft_graph_nodes(g), 2);
    assert_int_equal(ft_graph_source(g, x), FT_FROM_INPUT);
    assert_int_equal(ft_graph_source(g, w), FT_FROM_PARAM);
    assert_int_equal(ft_graph_source(g, c), FT_FROM_CONST);
    assert_int_equal(ft_graph_source(g, y), FT_FROM_NODE);
    assert_int_equal(ft_graph_producer(g, y), 0);
    assert_int_equal(ft_graph_producer(g, x), -1);
    assert_int_equal(ft_graph_param_of(g, w), 0);
    assert_int_equal(ft_graph_param_of(g, c), -1);
    assert_int_equal(ft_graph_param_at(g, 0), w);
    assert_int_equal(ft_graph_inputs(g), 1);
    assert_int_equal(ft_graph_input_at(g, 0), x);
    assert_int_equal(ft_graph_outputs(g), 1);
    assert_int_equal(ft_graph_output_at(g, 0), z);
    assert_string_equal(ft_graph_output_name(g, 0), "z");
    assert_null(ft_graph_data(g, y));
    assert_true(((const float *)ft_graph_data(g, w))[11] == 12.0F);
    assert_true(((const float *)ft_graph_data(g, c))[2] == 7.0F);
    char text[FT_TYPE_TEXT];
    assert_string_equal(ft_type_text(ft_graph_type(g, z), text), "float32 (N, 3)");
    const struct ft_node *n = ft_graph_node(g, 0);
    assert_int_equal(n->op, FT_OP_MATMUL);
    assert_int_equal(n->n_in, 3);
    assert_int_equal(n->in[1], w);
    assert_int_equal(n->out[0], y);
    assert_string_equal(n->origin, "matmul");
    const float fresh[12] = {3};
    OK(ft_graph_param_set(g, 0, fresh, &err));
    assert_true(((const float *)ft_graph_data(g, w))[0] == 3.0F);
    assert_false(ft_graph_param_frozen(g, 0));
    ft_graph_param_freeze(g, 0, true);
    assert_true(ft_graph_param_frozen(g, 0));
    ft_graph_clear_outputs(g);
    assert_int_equal(ft_graph_outputs(g), 0);
    ft_graph_free(g);
    ft_graph_free(NULL);
}

static void names_are_unique(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = new_graph();
    struct ft_type t = shape(1, 3);
    ft_value v = FT_NO_VALUE;
    ft_value x = input(g, "x", t);
    ft_value nameless = input(g, "", t);
    ft_value y = node(g, FT_OP_NEG, no_attrs(), 1, x);
    char taken[64];
    (void)snprintf(taken, sizeof taken, "%s", ft_graph_name(g, y));
    FAILS(EXISTS, "'x'", ft_graph_input(g, "x", &t, &v, &err));
    assert_int_equal(v, FT_NO_VALUE);
    FAILS(EXISTS, "'x'", ft_graph_rename(g, y, "x", &err));
    FAILS(INVALID, "empty", ft_graph_rename(g, y, "", &err));
    OK(ft_graph_rename(g, x, "x", &err)); /* its own */
    /* A name that the graph made gives way to one that somebody asks for. */
    ft_value z = input(g, taken, t);
    assert_int_equal(ft_graph_find(g, taken), z);
    assert_string_not_equal(ft_graph_name(g, y), taken);
    assert_int_equal(ft_graph_find(g, ft_graph_name(g, y)), y);
    OK(ft_graph_rename(g, y, "result", &err));
    assert_int_equal(ft_graph_find(g, "result"), y);
    OK(ft_graph_rename(g, y, "other", &err));
    assert_int_equal(ft_graph_find(g, "result"), FT_NO_VALUE);
    assert_int_equal(ft_graph_find(g, ft_graph_name(g, nameless)), nameless);
    OK(ft_graph_output(g, y, "out", &err));
    FAILS(EXISTS, "'out'", ft_graph_output(g, x, "out", &err));
    OK(ft_graph_output(g, x, "", &err));
    assert_string_equal(ft_graph_output_name(g, 1), "x");
    ft_graph_free(g);
}

static void bad_types_are_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = new_graph();
    ft_value v = 0;
    float data[4] = {0};
    struct ft_type t = shape(2, 2, 0);
    FAILS(INVALID, "'x': dimension 1 is 0", ft_graph_input(g, "x", &t, &v, &err));
    assert_int_equal(v, FT_NO_VALUE);
    t = batched(shape(1, 1));
    FAILS(INVALID, "symbolic", ft_graph_param(g, "w", &t, FT_PARAM_WEIGHT, data, &v, &err));
    t = shape(1, 4);
    t.dtype = FT_I64;
    FAILS(INVALID, "not float32", ft_graph_param(g, "w", &t, FT_PARAM_WEIGHT, data, &v, &err));
    t = shape(4, INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX);
    FAILS(LIMIT, "larger than", ft_graph_const(g, "c", &t, data, &v, &err));
    t = shape(1, 4);
    t.rank = FT_MAX_RANK + 1;
    FAILS(INVALID, "no valid type", ft_graph_input(g, "x", &t, &v, &err));
    ft_value x = input(g, "x", shape(2, 3, 4));
    ft_value in[2] = {x, x};
    struct ft_attrs a = with_alpha(1.0F);
    FAILS(INVALID, "layer7: matmul", ft_graph_add(g, FT_OP_MATMUL, &a, in, 2, "layer7", &v, &err));
    assert_int_equal(v, FT_NO_VALUE);
    FAILS(INVALID, "inputs given", ft_graph_add1(g, FT_OP_ADD, x, &v, &err));
    assert_int_equal(ft_graph_values(g), 1);
    assert_int_equal(ft_graph_nodes(g), 0);
    ft_graph_free(g);
}

/* ---- copies */

/* x -> relu -> matmul w -> y, and beside it a dropout on z. */
static struct ft_graph *example(ft_value *relu)
{
    struct ft_err err = {0};
    struct ft_graph *g = new_graph();
    struct ft_type rng = shape(1, 2);
    struct ft_attrs drop = with_alpha(0.5F);
    rng.dtype = FT_I64;
    ft_value x = input(g, "x", batched(shape(2, 1, 4)));
    ft_value unused = filled(g, "unused", FT_FROM_PARAM, shape(1, 4), 9);
    ft_value r = input(g, "rng", rng);
    ft_value w = filled(g, "w", FT_FROM_PARAM, shape(2, 4, 3), 1);
    *relu = node(g, FT_OP_RELU, no_attrs(), 1, x);
    OK(ft_graph_rename(g, *relu, "features", &err));
    ft_value y = node(g, FT_OP_MATMUL, with_alpha(1.0F), 2, *relu, w);
    ft_value z = node(g, FT_OP_ADD, no_attrs(), 2, x, unused);
    drop.node = 3;
    z = node(g, FT_OP_DROPOUT, drop, 2, z, r);
    ft_graph_param_freeze(g, 1, true);
    OK(ft_graph_output(g, y, "y", &err));
    OK(ft_graph_output(g, z, "z", &err));
    return g;
}

static void a_copy_is_equal_and_independent(void **state)
{
    (void)state;
    struct ft_err err = {0};
    ft_value relu = 0;
    struct ft_graph *g = example(&relu);
    struct ft_graph *c = NULL;
    OK(ft_graph_copy(g, &c, &err));
    assert_int_equal(ft_graph_values(c), ft_graph_values(g));
    assert_int_equal(ft_graph_nodes(c), ft_graph_nodes(g));
    for (ft_value v = 0; v < ft_graph_values(g); v++) {
        assert_string_equal(ft_graph_name(c, v), ft_graph_name(g, v));
        assert_int_equal(ft_graph_source(c, v), ft_graph_source(g, v));
        assert_true(ft_type_same_shape(ft_graph_type(c, v), ft_graph_type(g, v)));
    }
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        assert_memory_equal(&ft_graph_node(c, n)->attrs, &ft_graph_node(g, n)->attrs,
                            sizeof(struct ft_attrs));
    }
    assert_true(ft_graph_param_frozen(c, 1));
    assert_false(ft_graph_param_frozen(c, 0));
    assert_string_equal(ft_graph_output_name(c, 1), "z");
    /* Bytes are shared until one of the two gets others. */
    ft_value w = ft_graph_param_at(g, 1);
    assert_ptr_equal(ft_graph_data(g, w), ft_graph_data(c, w));
    float data[12] = {100};
    OK(ft_graph_param_set(c, 1, data, &err));
    assert_true(((const float *)ft_graph_data(g, w))[0] == 1.0F);
    assert_true(((const float *)ft_graph_data(c, w))[0] == 100.0F);
    ft_graph_free(g);
    assert_true(((const float *)ft_graph_data(c, ft_graph_param_at(c, 0)))[0] == 9.0F);
    ft_graph_free(c);
}

static void extraction_keeps_what_is_needed(void **state)
{
    (void)state;
    struct ft_err err = {0};
    ft_value relu = 0;
    struct ft_graph *g = example(&relu);
    struct ft_graph *part = NULL;
    const ft_value outputs[2] = {ft_graph_output_at(g, 0), relu};
    const char *const names[2] = {"a", "b"};
    OK(ft_graph_extract(g, outputs, names, 2, &part, &err));
    assert_int_equal(ft_graph_nodes(part), 2);
    assert_int_equal(ft_graph_inputs(part), 1);
    assert_int_equal(ft_graph_params(part), 1);
    assert_string_equal(ft_graph_name(part, ft_graph_param_at(part, 0)), "w");
    assert_true(ft_graph_param_frozen(part, 0));
    assert_int_equal(ft_graph_output_at(part, 1), ft_graph_find(part, "features"));
    assert_string_equal(ft_graph_output_name(part, 0), "a");
    assert_int_equal(ft_graph_find(part, "unused"), FT_NO_VALUE);
    ft_graph_free(part);
    ft_graph_free(g);
}

/* ---- training form */

static ft_value norm(struct ft_graph *g, ft_value x, const ft_value p[4])
{
    struct ft_attrs bn = no_attrs();
    bn.eps = 1e-5F;
    bn.momentum = 0.25F;
    return node(g, FT_OP_BATCHNORM, bn, 5, x, p[0], p[1], p[2], p[3]);
}

static void four_params(struct ft_graph *g, const char *prefix, ft_value p[4])
{
    static const char *const parts[4] = {"scale", "bias", "mean", "var"};
    for (int i = 0; i < 4; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s.%s", prefix, parts[i]);
        p[i] = i < 2 ? filled(g, name, FT_FROM_PARAM, shape(1, 3), 1) : state_param(g, name, shape(1, 3), 1);
    }
}

static void only_unfrozen_normalisations_train(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = new_graph();
    ft_value p[3][4];
    ft_value h = input(g, "x", batched(shape(2, 1, 3)));
    four_params(g, "live", p[0]);
    four_params(g, "frozen", p[1]);
    four_params(g, "half", p[2]);
    for (int i = 0; i < 2; i++) {
        ft_graph_param_freeze(g, ft_graph_param_of(g, p[1][i]), true);
    }
    ft_graph_param_freeze(g, ft_graph_param_of(g, p[2][0]), true);
    for (int i = 0; i < 3; i++) {
        h = norm(g, h, p[i]);
    }
    h = norm(g, h, p[0]); /* applied twice: its statistics move twice */
    OK(ft_graph_output(g, h, "y", &err));
    struct ft_train_form form;
    OK(ft_graph_train_form(g, -1, &form, &err));
    assert_int_equal(ft_graph_nodes(form.graph), 4);
    const enum ft_op ops[4] = {FT_OP_BATCHNORM_TRAIN, FT_OP_BATCHNORM, FT_OP_BATCHNORM_TRAIN,
                               FT_OP_BATCHNORM_TRAIN};
    for (int n = 0; n < 4; n++) {
        assert_int_equal(ft_graph_node(form.graph, n)->op, ops[n]);
    }
    assert_true(ft_graph_node(form.graph, 0)->attrs.momentum == 0.25F);
    assert_int_equal(ft_graph_params(form.graph), 12);
    for (int i = 0; i < 12; i++) {
        assert_string_equal(ft_graph_name(form.graph, ft_graph_param_at(form.graph, i)),
                            ft_graph_name(g, ft_graph_param_at(g, i)));
        assert_int_equal(ft_graph_param_role(form.graph, i), ft_graph_param_role(g, i));
    }
    assert_int_equal(form.n_updates, 4);
    assert_int_equal(form.updates[0].param, 2);
    assert_int_equal(form.updates[0].value, ft_graph_node(form.graph, 3)->out[3]);
    assert_int_equal(ft_graph_node(form.graph, 3)->in[3], ft_graph_node(form.graph, 0)->out[3]);
    assert_int_equal(form.updates[3].param, 11);
    assert_int_equal(form.updates[3].value, ft_graph_node(form.graph, 2)->out[4]);
    assert_string_equal(ft_graph_output_name(form.graph, 0), "y");
    ft_free(form.updates);
    ft_graph_free(form.graph);
    ft_graph_free(g);
}

static void statistics_that_are_no_state_are_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = new_graph();
    ft_value p[4];
    ft_value x = input(g, "x", batched(shape(2, 1, 3)));
    for (int i = 0; i < 4; i++) {
        p[i] = filled(g, "", i < 2 ? FT_FROM_PARAM : FT_FROM_CONST, shape(1, 3), 1);
    }
    (void)norm(g, x, p);
    struct ft_train_form form;
    FAILS(UNSUPPORTED, "batchnorm 'batchnorm' cannot be trained", ft_graph_train_form(g, -1, &form, &err));
    assert_null(form.graph);
    assert_null(form.updates);
    ft_graph_free(g);
}

/* ---- size */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void twenty_thousand_nodes_are_quick(void **state)
{
    (void)state;
    enum { NODES = 20000 };
    struct ft_err err = {0};
    struct ft_graph *g = new_graph();
    struct ft_graph *other = NULL;
    struct ft_attrs all = no_attrs();
    ft_value grad = 0;
    all.axes_count = 1;
    double start = seconds();
    ft_value x = input(g, "x", shape(1, 4));
    ft_value v = x;
    for (int i = 0; i < NODES; i++) {
        char name[32];
        v = node(g, FT_OP_TANH, no_attrs(), 1, v);
        (void)snprintf(name, sizeof name, "layer.%d", i);
        OK(ft_graph_rename(g, v, name, &err));
    }
    v = node(g, FT_OP_REDUCE_SUM, all, 1, v);
    OK(ft_graph_output(g, v, "loss", &err));
    OK(ft_graph_copy(g, &other, &err));
    ft_graph_free(other);
    OK(ft_graph_backward(g, v, &x, 1, &grad, &err));
    double spent = seconds() - start;
    printf("build, copy and differentiate %d nodes: %.0f ms\n", NODES, spent * 1e3);
    assert_true(spent < 10); /* quadratic work would take minutes; slow machines and sanitizers do not */
    assert_int_equal(ft_graph_find(g, "layer.19999"), ft_graph_node(g, NODES - 1)->out[0]);
    ft_graph_free(g);
}

/* ---- memory runs out */

/* Everything that allocates, in one go. */
static enum ft_status build_all(struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_graph *g = NULL;
    struct ft_graph *copy = NULL;
    struct ft_graph *part = NULL;
    struct ft_train_form form = {0};
    struct ft_type xt = batched(shape(2, 1, 3));
    struct ft_type ct = shape(1, 3);
    const float data[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct ft_attrs bn = no_attrs();
    struct ft_attrs all = no_attrs();
    ft_value in[5] = {0};
    ft_value out[FT_MAX_OUTPUTS];
    ft_value c = 0;
    ft_value loss = 0;
    ft_value grad[2];
    all.axes_count = 2;
    all.axes[1] = 1;
    FT_TRY(ft_graph_new(&g, err));
    FT_TRY(ft_graph_input(g, "x", &xt, &in[0], err));
    for (int i = 1; i < 5; i++) {
        FT_TRY(ft_graph_param(g, "", &ct, i < 3 ? FT_PARAM_WEIGHT : FT_PARAM_STATE, data, &in[i], err));
    }
    FT_TRY(ft_graph_const(g, "c", &ct, data, &c, err));
    FT_TRY(ft_graph_add1(g, FT_OP_EXP, c, &c, err));
    FT_TRY(ft_graph_add(g, FT_OP_BATCHNORM, &bn, in, 5, "norm", out, err));
    FT_TRY(ft_graph_add2(g, FT_OP_MUL, out[0], c, &loss, err));
    FT_TRY(ft_graph_rename(g, loss, "result", err));
    FT_TRY(ft_graph_output(g, loss, "y", err));
    FT_TRY(ft_graph_copy(g, &copy, err));
    FT_TRY(ft_graph_extract(g, &loss, NULL, 1, &part, err));
    FT_TRY(ft_graph_train_form(g, -1, &form, err));
    loss = ft_graph_output_at(form.graph, 0);
    FT_TRY(ft_graph_add(form.graph, FT_OP_REDUCE_SUM, &all, &loss, 1, NULL, &loss, err));
    FT_TRY(ft_graph_backward(form.graph, loss, &in[0], 1, grad, err));
done:
    ft_free(form.updates);
    ft_graph_free(form.graph);
    ft_graph_free(g);
    ft_graph_free(copy);
    ft_graph_free(part);
    return st;
}

static void no_memory_no_leak(void **state)
{
    (void)state;
    struct ft_err err = {0};
    size_t live = ft_alloc_stats().live_blocks;
    uint64_t n = 0;
    enum ft_status st = FT_NOMEM;
    while (st != FT_OK) {
        ft_alloc_fail_at(++n);
        st = build_all(&err);
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        assert_int_equal(ft_alloc_stats().live_blocks, live);
    }
    printf("graph: %llu allocations failed one by one\n", (unsigned long long)n - 1);
    assert_true(n > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_know_where_they_come_from),
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(bad_types_are_refused),
        cmocka_unit_test(a_copy_is_equal_and_independent),
        cmocka_unit_test(extraction_keeps_what_is_needed),
        cmocka_unit_test(only_unfrozen_normalisations_train),
        cmocka_unit_test(statistics_that_are_no_state_are_refused),
        cmocka_unit_test(twenty_thousand_nodes_are_quick),
        cmocka_unit_test(no_memory_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
