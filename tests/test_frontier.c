/* links: ft_graph ft_kernels ft_base */
#include "tests/graph_test.h"

#include <math.h>

#include "executor/graph/frontier.h"
#include "executor/graph/plan.h"

/* ---- small networks */

static ft_value weights(struct ft_graph *g, const char *name, struct ft_type type, enum ft_param_role role)
{
    struct ft_err err = {0};
    static uint64_t stream;
    float data[4096];
    ft_value v = FT_NO_VALUE;
    stream++;
    for (int64_t i = 0; i < ft_elements(&type); i++) {
        data[i] = (float)test_uniform(ft_rand_at(7, FT_RAND_TEST, stream), (uint64_t)i, 0.1, 0.9);
    }
    OK(ft_graph_param(g, name, &type, role, data, &v, &err));
    return v;
}

static ft_value conv(struct ft_graph *g, const char *name, ft_value x, int from, int to, bool frozen)
{
    ft_value w = weights(g, name, shape(4, to, from, 3, 3), FT_PARAM_WEIGHT);
    ft_graph_param_freeze(g, ft_graph_param_of(g, w), frozen);
    return node(g, FT_OP_CONV, window2(3, 1, 1), 2, x, w);
}

static ft_value linear(struct ft_graph *g, const char *name, ft_value x, int from, int to, bool frozen)
{
    ft_value w = weights(g, name, shape(2, from, to), FT_PARAM_WEIGHT);
    ft_graph_param_freeze(g, ft_graph_param_of(g, w), frozen);
    return node(g, FT_OP_MATMUL, with_alpha(1), 2, x, w);
}

/* scale and bias frozen or not. */
static ft_value batchnorm(struct ft_graph *g, ft_value x, int channels, bool frozen)
{
    struct ft_attrs a = no_attrs();
    ft_value p[4];
    a.eps = 1e-5F;
    a.momentum = 0.1F;
    for (int i = 0; i < 4; i++) {
        p[i] = weights(g, "", shape(1, channels), i < 2 ? FT_PARAM_WEIGHT : FT_PARAM_STATE);
        ft_graph_param_freeze(g, ft_graph_param_of(g, p[i]), frozen && i < 2);
    }
    return node(g, FT_OP_BATCHNORM, a, 5, x, p[0], p[1], p[2], p[3]);
}

static ft_value relu(struct ft_graph *g, ft_value x)
{
    return node(g, FT_OP_RELU, no_attrs(), 1, x);
}

static ft_value named(struct ft_graph *g, ft_value v, const char *name)
{
    struct ft_err err = {0};
    OK(ft_graph_rename(g, v, name, &err));
    return v;
}

static ft_value pooled(struct ft_graph *g, ft_value x)
{
    struct ft_attrs a = no_attrs();
    a.axes_count = 2;
    a.axes[0] = 2;
    a.axes[1] = 3;
    return node(g, FT_OP_REDUCE_MEAN, a, 1, x);
}

static struct ft_graph *image_graph(ft_value *x)
{
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    struct ft_type type = batched(shape(4, 1, 3, 8, 8));
    OK(ft_graph_new(&g, &err));
    OK(ft_graph_input(g, "image", &type, x, &err));
    return g;
}

/* The names of the values found, with blanks between them; the graph is finished with output y first. */
static const char *found(struct ft_graph *g, ft_value y, struct ft_frontier *f)
{
    static char text[512];
    struct ft_err err = {0};
    OK(ft_graph_output(g, y, "embedding", &err));
    OK(ft_frontier_find(g, f, &err));
    text[0] = '\0';
    for (int i = 0; i < f->n; i++) {
        strcat(text, i > 0 ? " " : "");
        strcat(text, ft_graph_name(g, f->values[i]));
    }
    return text;
}

/* ---- both parts, one after the other, are the whole */

enum { ROWS = 5 };

static void run_part(struct ft_device *d, const struct ft_graph *g, double *const *in, double *const *out)
{
    struct ft_err err = {0};
    struct ft_plan *plan = NULL;
    struct ft_plan_spec spec = {0};
    ft_value wanted[8];
    void *params[32];
    spec.symbols[FT_SYMBOL_BATCH] = ROWS;
    spec.wanted = wanted;
    spec.n_wanted = ft_graph_outputs(g);
    for (int i = 0; i < spec.n_wanted; i++) {
        wanted[i] = ft_graph_output_at(g, i);
    }
    OK(ft_plan_new(d, g, &spec, &plan, &err));
    for (int i = 0; i < ft_graph_params(g); i++) {
        ft_value v = ft_graph_param_at(g, i);
        int64_t n = ft_elements(ft_graph_type(g, v));
        OK(ft_device_alloc(d, (size_t)n * sizeof(double), &params[i], &err));
        for (int64_t k = 0; k < n; k++) {
            ((double *)params[i])[k] = (double)((const float *)ft_graph_data(g, v))[k];
        }
        OK(ft_plan_bind(plan, v, params[i], &err));
    }
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        OK(ft_plan_bind(plan, ft_graph_input_at(g, i), in[i], &err));
    }
    for (int i = 0; i < spec.n_wanted; i++) {
        OK(ft_plan_bind(plan, wanted[i], out[i], &err));
    }
    OK(ft_plan_run(plan, &err));
    OK(ft_device_wait(d, &err));
    ft_plan_free(plan);
    for (int i = 0; i < ft_graph_params(g); i++) {
        ft_device_free(d, params[i]);
    }
}

static void check_parts(const struct ft_graph *g, const struct ft_frontier *f, int dim)
{
    struct ft_err err = {0};
    struct ft_device *d = NULL;
    double *buffers[10];
    OK(ft_device_open("ref", 1, &d, &err));
    for (int i = 0; i < 10; i++) {
        OK(ft_device_alloc(d, (size_t)ROWS * 4096 * sizeof(double), (void **)&buffers[i], &err));
    }
    for (uint64_t i = 0; i < (uint64_t)ROWS * 3 * 64; i++) {
        buffers[0][i] = test_uniform(ft_rand_at(3, FT_RAND_TEST, 1), i, -1, 1);
    }
    double *whole[1] = {buffers[1]};
    double *parts[1] = {buffers[2]};
    run_part(d, g, &buffers[0], whole);
    run_part(d, f->prefix, &buffers[0], &buffers[3]);
    run_part(d, f->suffix, &buffers[3], parts);
    for (int i = 0; i < ROWS * dim; i++) {
        if (fabs(whole[0][i] - parts[0][i]) > 1e-12 * fabs(whole[0][i])) {
            fail_msg("element %d is %g, in two parts %g", i, whole[0][i], parts[0][i]);
        }
    }
    for (int p = 0; p < ft_graph_params(f->suffix); p++) {
        ft_value there = ft_graph_param_at(f->suffix, p);
        ft_value here = ft_graph_param_at(g, f->suffix_params[p]);
        assert_ptr_equal(ft_graph_data(f->suffix, there), ft_graph_data(g, here));
    }
    for (int i = 0; i < 10; i++) {
        ft_device_free(d, buffers[i]);
    }
    ft_device_close(d);
}

static void expect(struct ft_graph *g, ft_value y, int dim, const char *names)
{
    struct ft_frontier f;
    const char *got = found(g, y, &f);
    assert_string_equal(got, names);
    if (f.n > 0) {
        check_parts(g, &f, dim);
    } else {
        assert_null(f.prefix);
        assert_null(f.suffix);
    }
    ft_frontier_release(&f);
    ft_graph_free(g);
}

/* ---- tests */

static void a_chain_is_cut_where_the_trained_part_begins(void **state)
{
    (void)state;
    ft_value x;
    struct ft_graph *g = image_graph(&x);
    x = named(g, relu(g, batchnorm(g, conv(g, "c1", x, 3, 4, true), 4, true)), "end");
    x = conv(g, "c2", x, 4, 6, false);
    expect(g, pooled(g, x), 6, "end");
}

static void nothing_frozen_is_no_prefix(void **state)
{
    (void)state;
    ft_value x;
    struct ft_graph *g = image_graph(&x);
    x = conv(g, "c1", x, 3, 4, false);
    x = conv(g, "c2", x, 4, 6, true); /* frozen, but behind what is trained */
    expect(g, pooled(g, x), 6, "");
}

static void a_trained_batchnorm_ends_the_prefix(void **state)
{
    (void)state;
    ft_value x;
    struct ft_graph *g = image_graph(&x);
    x = named(g, conv(g, "c1", x, 3, 4, true), "end");
    x = relu(g, batchnorm(g, x, 4, false));
    x = conv(g, "c2", x, 4, 6, true);
    expect(g, pooled(g, x), 6, "end");
}

/* Statistics that a trained layer moves are read by a frozen one: it cannot be computed beforehand. */
static void statistics_that_move_are_not_frozen(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    ft_value x, p[6];
    struct ft_graph *g = image_graph(&x);
    a.eps = 1e-5F;
    a.momentum = 0.1F;
    for (int i = 0; i < 6; i++) {
        p[i] = weights(g, "", shape(1, 4), i < 4 ? FT_PARAM_WEIGHT : FT_PARAM_STATE);
    }
    ft_graph_param_freeze(g, ft_graph_param_of(g, p[0]), true);
    ft_graph_param_freeze(g, ft_graph_param_of(g, p[1]), true);
    x = named(g, conv(g, "c1", x, 3, 4, true), "end");
    x = node(g, FT_OP_BATCHNORM, a, 5, x, p[0], p[1], p[4], p[5]);
    x = node(g, FT_OP_BATCHNORM, a, 5, x, p[2], p[3], p[4], p[5]);
    expect(g, pooled(g, x), 4, "end");
}

static void the_smallest_values_are_kept(void **state)
{
    (void)state;
    ft_value x;
    struct ft_attrs up = no_attrs();
    struct ft_graph *g = image_graph(&x);
    /* A gate of 4 numbers and 4 x 64 pixels; their product is one value and no larger than the pixels. */
    x = conv(g, "c1", x, 3, 4, true);
    ft_value gate = pooled(g, x);
    up.shape_rank = 4;
    up.shape[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    up.shape[1] = ft_dim_of(4);
    up.shape[2] = up.shape[3] = ft_dim_of(1);
    gate = node(g, FT_OP_RESHAPE, up, 1, gate);
    x = named(g, node(g, FT_OP_MUL, no_attrs(), 2, x, gate), "gated");
    x = conv(g, "c2", x, 4, 4, false);
    expect(g, pooled(g, x), 4, "gated");

    /* The same numbers spread over an image: what they were before is kept. */
    g = image_graph(&x);
    x = named(g, node(g, FT_OP_RESHAPE, up, 1, pooled(g, conv(g, "c1", x, 3, 4, true))), "small");
    ft_value like = weights(g, "like", shape(4, 1, 4, 8, 8), FT_PARAM_WEIGHT);
    ft_graph_param_freeze(g, ft_graph_param_of(g, like), true);
    x = node(g, FT_OP_ADD, no_attrs(), 2, x, like);
    x = conv(g, "c2", x, 4, 4, false);
    expect(g, pooled(g, x), 4, "small");
}

static void several_values_may_be_the_end(void **state)
{
    (void)state;
    ft_value x;
    struct ft_graph *g = image_graph(&x);
    ft_value a = named(g, relu(g, conv(g, "c1", x, 3, 4, true)), "a");
    ft_value b = named(g, relu(g, conv(g, "c2", a, 4, 4, true)), "b");
    /* A trained residual connection from before the second frozen convolution. */
    ft_value y = conv(g, "c3", a, 4, 4, false);
    y = node(g, FT_OP_ADD, no_attrs(), 2, y, b);
    expect(g, pooled(g, y), 4, "a b");
}

static void the_models_input_is_never_kept(void **state)
{
    (void)state;
    ft_value x;
    struct ft_graph *g = image_graph(&x);
    ft_value a = relu(g, conv(g, "c1", x, 3, 4, true));
    ft_value b = conv(g, "c2", x, 3, 4, false);
    expect(g, pooled(g, node(g, FT_OP_ADD, no_attrs(), 2, a, b)), 4, "");
}

/* Rows that look at other rows are computed in every step, with the batch they are in. */
static void what_mixes_rows_is_not_frozen(void **state)
{
    (void)state;
    struct ft_attrs a = no_attrs();
    ft_value x;
    for (int kind = 0; kind < 3; kind++) {
        struct ft_graph *g = image_graph(&x);
        x = named(g, pooled(g, conv(g, "c1", x, 3, 4, true)), "end");
        if (kind == 0) {
            a.axis = 0;
            x = node(g, FT_OP_SOFTMAX, a, 1, x);
        } else if (kind == 1) {
            a.axes_count = 1;
            a.axes[0] = 0;
            a.keepdims = 1;
            x = node(g, FT_OP_SUB, no_attrs(), 2, x, node(g, FT_OP_REDUCE_MEAN, a, 1, x));
        } else {
            a = no_attrs();
            a.axis = 0; /* (2N, 4) and then (N, 8): half the rows of each item are another's */
            x = node(g, FT_OP_CONCAT, a, 2, x, x);
            a.shape_rank = 2;
            a.shape[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
            a.shape[1] = ft_dim_of(8);
            x = node(g, FT_OP_RESHAPE, a, 1, x);
        }
        int width = kind == 2 ? 8 : 4;
        expect(g, linear(g, "fc", relu(g, linear(g, "frozen", x, width, 4, true)), 4, 6, false), 6, "end");
    }
}

/* Windows of an image as rows of their own, as Swin has them, and back. */
static void an_items_own_rows_may_pass(void **state)
{
    (void)state;
    struct ft_attrs apart = no_attrs();
    struct ft_attrs together = no_attrs();
    ft_value x;
    struct ft_graph *g = image_graph(&x);
    x = conv(g, "c1", x, 3, 4, true);
    apart.shape_rank = together.shape_rank = 2;
    apart.shape[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    apart.shape[0].coef = 16;
    apart.shape[1] = ft_dim_of(16);
    together.shape[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    together.shape[1] = ft_dim_of(64);
    x = node(g, FT_OP_RESHAPE, apart, 1, x);
    x = linear(g, "inside", x, 16, 4, true);
    x = named(g, node(g, FT_OP_RESHAPE, together, 1, x), "end");
    expect(g, linear(g, "fc", x, 64, 6, false), 6, "end");
}

static ft_value numbers(struct ft_graph *g, int count, const int64_t *values)
{
    struct ft_err err = {0};
    struct ft_type type = shape(1, count);
    ft_value v = FT_NO_VALUE;
    type.dtype = FT_I64;
    OK(ft_graph_const(g, "", &type, values, &v, &err));
    return v;
}

static struct ft_attrs along(int axis)
{
    struct ft_attrs a = no_attrs();
    a.axis = axis;
    return a;
}

static ft_value to_integers(struct ft_graph *g, ft_value x)
{
    struct ft_attrs a = no_attrs();
    a.kind = FT_CAST_I64;
    return node(g, FT_OP_CAST, a, 1, x);
}

/* x (N, 4) -> (N, 4), by an op that looks things up or orders them within each row. */
static ft_value within_rows(struct ft_graph *g, int kind, ft_value x)
{
    static const int64_t places[4] = {2, 0, 3, 0};
    struct ft_attrs a = along(1);
    switch (kind) {
    case 0:
        return node(g, FT_OP_GATHER, a, 2, x, numbers(g, 4, places));
    case 1:
        a.count = 4;
        return node(g, FT_OP_TOPK, a, 1, x);
    case 2:
        return node(g, FT_OP_CUMSUM, a, 1, x);
    case 3: /* by the order of its own numbers */
        return node(g, FT_OP_GATHER_ELEMENTS, a, 2, x, to_integers(g, x));
    case 4: /* rows of a table */
        a.keepdims = 0;
        return node(g, FT_OP_GATHER, along(0), 2, weights(g, "table", shape(2, 4, 4), FT_PARAM_STATE),
                    node(g, FT_OP_ARG_EXTREME, a, 1, x));
    default: {
        struct ft_attrs all = no_attrs();
        all.axes_count = all.keepdims = 1;
        all.axes[0] = 1;
        return node(g, FT_OP_SUB, no_attrs(), 2, x, node(g, FT_OP_REDUCE, all, 1, x));
    }
    }
}

static void what_looks_into_its_own_row_may_pass(void **state)
{
    (void)state;
    ft_value x;
    for (int kind = 0; kind < 6; kind++) {
        struct ft_graph *g = image_graph(&x);
        x = within_rows(g, kind, pooled(g, conv(g, "c1", x, 3, 4, true)));
        x = named(g, linear(g, "frozen", x, 4, 4, true), "end");
        expect(g, linear(g, "fc", x, 4, 6, false), 6, "end");
    }
}

/* A look-up along the batch, and one by numbers of rows, are another item's with another batch. */
static void a_look_up_of_other_rows_is_not_frozen(void **state)
{
    (void)state;
    ft_value x;
    for (int kind = 0; kind < 2; kind++) {
        struct ft_attrs a = along(1);
        struct ft_graph *g = image_graph(&x);
        x = named(g, pooled(g, conv(g, "c1", x, 3, 4, true)), "end");
        if (kind == 0) {
            x = node(g, FT_OP_GATHER, along(0), 2, x, node(g, FT_OP_ARG_EXTREME, a, 1, x));
        } else {
            x = node(g, FT_OP_CUMSUM, along(0), 1, x);
        }
        x = linear(g, "frozen", x, 4, 4, true);
        expect(g, linear(g, "fc", x, 4, 6, false), 6, "end");
    }
}

static void dropout_ends_the_prefix(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_frontier f;
    ft_value x, rng;
    struct ft_graph *g = image_graph(&x);
    struct ft_type type = shape(1, 2);
    type.dtype = FT_I64;
    OK(ft_graph_input(g, "rng", &type, &rng, &err));
    x = named(g, pooled(g, conv(g, "c1", x, 3, 4, true)), "end");
    x = node(g, FT_OP_DROPOUT, with_alpha(0.5F), 2, x, rng);
    assert_string_equal(found(g, linear(g, "fc", x, 4, 6, false), &f), "end");
    assert_int_equal(ft_graph_inputs(f.prefix), 1);
    assert_int_equal(ft_graph_inputs(f.suffix), 2);
    assert_string_equal(ft_graph_name(f.suffix, ft_graph_input_at(f.suffix, 0)), "end");
    assert_string_equal(ft_graph_name(f.suffix, ft_graph_input_at(f.suffix, 1)), "rng");
    assert_int_equal(f.elements[0], 4);
    ft_frontier_release(&f);
    ft_graph_free(g);
}

/* Two layers of tokens, their mean, and one behind it; `frozen` of the three are. */
static struct ft_graph *text_graph(int frozen, ft_value *y)
{
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    struct ft_type ids = shape(1, 1);
    struct ft_type type = batched(shape(2, 1, 2));
    struct ft_attrs mean = no_attrs();
    ft_value x, spans;
    ids.dtype = type.dtype = FT_I64;
    ids.dim[0] = ft_dim_symbol(FT_SYMBOL_TOKENS);
    mean.kind = FT_SEQ_MEAN;
    OK(ft_graph_new(&g, &err));
    OK(ft_graph_input(g, "spans", &type, &spans, &err));
    OK(ft_graph_input(g, "input_ids", &ids, &x, &err));
    ft_value table = weights(g, "table", shape(2, 7, 4), FT_PARAM_WEIGHT);
    ft_graph_param_freeze(g, ft_graph_param_of(g, table), true);
    x = named(g, relu(g, linear(g, "one", node(g, FT_OP_GATHER, no_attrs(), 2, table, x), 4, 8, frozen > 0)),
              "first");
    x = named(g, relu(g, linear(g, "two", x, 8, 4, frozen > 1)), "second");
    x = named(g, node(g, FT_OP_SEQ_POOL, mean, 2, x, spans), "pooled");
    *y = linear(g, "three", x, 4, 6, false);
    return g;
}

static void tokens_are_rows_of_texts(void **state)
{
    (void)state;
    static const struct {
        int frozen;
        const char *end;
        size_t row, token;
    } cases[] = {{1, "first", 0, 8}, {2, "pooled", 4, 0}};
    struct ft_frontier f;
    ft_value y;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_graph *g = text_graph(cases[i].frozen, &y);
        bool of_tokens = cases[i].token > 0;
        assert_string_equal(found(g, y, &f), cases[i].end);
        assert_int_equal(f.of_tokens[0], of_tokens);
        assert_int_equal(f.row_elements, cases[i].row);
        assert_int_equal(f.token_elements, cases[i].token);
        assert_int_equal(ft_graph_inputs(f.prefix),
                         of_tokens ? 1 : 2); /* ids alone, or spans for their mean */
        assert_int_equal(ft_graph_inputs(f.suffix), of_tokens ? 2 : 1);
        assert_int_equal(ft_graph_find(f.suffix, "spans") != FT_NO_VALUE, of_tokens);
        assert_int_equal(ft_graph_find(f.suffix, "input_ids"), FT_NO_VALUE);
        ft_frontier_release(&f);
        ft_graph_free(g);
    }
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_frontier f;
    ft_value x;
    struct ft_graph *g = image_graph(&x);
    x = conv(g, "c2", relu(g, conv(g, "c1", x, 3, 4, true)), 4, 6, false);
    OK(ft_graph_output(g, pooled(g, x), "embedding", &err));
    size_t live = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    uint64_t n = 1;
    for (; st != FT_OK; n++) {
        ft_alloc_fail_at(n);
        st = ft_frontier_find(g, &f, &err);
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        ft_frontier_release(&f);
        assert_int_equal(ft_alloc_stats().live_blocks, live);
        ft_err_clear(&err);
    }
    assert_true(n > 20);
    ft_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_is_cut_where_the_trained_part_begins),
        cmocka_unit_test(nothing_frozen_is_no_prefix),
        cmocka_unit_test(a_trained_batchnorm_ends_the_prefix),
        cmocka_unit_test(statistics_that_move_are_not_frozen),
        cmocka_unit_test(the_smallest_values_are_kept),
        cmocka_unit_test(several_values_may_be_the_end),
        cmocka_unit_test(the_models_input_is_never_kept),
        cmocka_unit_test(what_mixes_rows_is_not_frozen),
        cmocka_unit_test(an_items_own_rows_may_pass),
        cmocka_unit_test(what_looks_into_its_own_row_may_pass),
        cmocka_unit_test(a_look_up_of_other_rows_is_not_frozen),
        cmocka_unit_test(dropout_ends_the_prefix),
        cmocka_unit_test(tokens_are_rows_of_texts),
        cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
