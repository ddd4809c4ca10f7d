/* links: ft_graph ft_kernels ft_base */
#include "tests/graph_test.h"

#include <math.h>

#include "executor/graph/plan.h"

/*
 * Training drops where a graph is marked for it: how often, what is kept is worth, and that nothing but seed,
 * step, node and element decides.
 */

enum { TOKENS = 96, HEADS = 4, WIDE = 32, SPANS = 3 };
static const int64_t spans[2 * SPANS] = {0, 40, 40, 1, 41, TOKENS - 41};

/* x (T, 32) -> relu, marked: dropped; attention of it with q = k = 0, marked: its weights are dropped. */
struct net {
    struct ft_graph *g;
    ft_value x, zeros, seq, dropped, mixed, rng;
};

static void make(struct net *n, double p_relu, double p_attention)
{
    struct ft_err err = {0};
    struct ft_type x = shape(2, TOKENS, WIDE);
    struct ft_type seq = shape(2, SPANS, 2);
    struct ft_attrs a = no_attrs();
    seq.dtype = FT_I64;
    OK(ft_graph_new(&n->g, &err));
    OK(ft_graph_input(n->g, "x", &x, &n->x, &err));
    OK(ft_graph_input(n->g, "zeros", &x, &n->zeros, &err));
    OK(ft_graph_input(n->g, "spans", &seq, &n->seq, &err));
    a.group = HEADS;
    a.alpha = 1;
    n->dropped = node(n->g, FT_OP_RELU, no_attrs(), 1, n->x);
    n->mixed = node(n->g, FT_OP_ATTENTION, a, 4, n->zeros, n->zeros, n->x, n->seq);
    ft_graph_mark_dropout(n->g, n->dropped, p_relu);
    ft_graph_mark_dropout(n->g, n->mixed, p_attention);
    OK(ft_graph_output(n->g, n->dropped, "dropped", &err));
    OK(ft_graph_output(n->g, n->mixed, "mixed", &err));
}

/* Its train form, inputs and outputs found again. */
static void train(const struct net *n, double dropout, struct net *t)
{
    struct ft_err err = {0};
    struct ft_train_form form;
    OK(ft_graph_train_form(n->g, dropout, &form, &err));
    assert_int_equal(form.n_updates, 0);
    ft_free(form.updates);
    *t = (struct net){.g = form.graph,
                      .x = ft_graph_find(form.graph, "x"),
                      .zeros = ft_graph_find(form.graph, "zeros"),
                      .seq = ft_graph_find(form.graph, "spans"),
                      .rng = ft_graph_find(form.graph, "rng"),
                      .dropped = ft_graph_output_at(form.graph, 0),
                      .mixed = ft_graph_output_at(form.graph, 1)};
}

struct result {
    float dropped[TOKENS * WIDE], mixed[TOKENS * WIDE];
};

/* x is all ones. */
static void run(const struct net *t, int threads, const int64_t rng[2], struct result *r)
{
    struct ft_err err = {0};
    struct ft_device *d = NULL;
    struct ft_plan *plan = NULL;
    static float ones[TOKENS * WIDE];
    static float zeros[TOKENS * WIDE];
    const ft_value wanted[2] = {t->dropped, t->mixed};
    struct ft_plan_spec spec = {.wanted = wanted, .n_wanted = 2};
    for (int i = 0; i < TOKENS * WIDE; i++) {
        ones[i] = 1;
    }
    OK(ft_device_open("cpu", threads, &d, &err));
    OK(ft_plan_new(d, t->g, &spec, &plan, &err));
    OK(ft_plan_bind(plan, t->x, ones, &err));
    OK(ft_plan_bind(plan, t->zeros, zeros, &err));
    OK(ft_plan_bind(plan, t->seq, (void *)(uintptr_t)spans, &err));
    if (t->rng != FT_NO_VALUE) {
        OK(ft_plan_bind(plan, t->rng, (void *)(uintptr_t)rng, &err));
    }
    OK(ft_plan_bind(plan, t->dropped, r->dropped, &err));
    OK(ft_plan_bind(plan, t->mixed, r->mixed, &err));
    OK(ft_plan_run(plan, &err));
    OK(ft_device_wait(d, &err));
    ft_plan_free(plan);
    ft_device_close(d);
}

static void nothing_is_dropped_without_training(void **state)
{
    (void)state;
    struct net n, t;
    static struct result plain, none;
    make(&n, 0.5, 0.5);
    n.rng = FT_NO_VALUE;
    run(&n, 1, NULL, &plain);
    train(&n, 0, &t);
    assert_int_equal(t.rng, FT_NO_VALUE);
    assert_int_equal(ft_graph_nodes(t.g), 2);
    run(&t, 1, NULL, &none);
    assert_memory_equal(&plain, &none, sizeof plain);
    for (int i = 0; i < TOKENS * WIDE; i++) {
        assert_true(fabsf(plain.mixed[i] - 1) < 1e-6F && plain.dropped[i] == 1);
    }
    ft_graph_free(t.g);
    ft_graph_free(n.g);
}

static void marks_and_the_one_for_all_become_nodes(void **state)
{
    (void)state;
    struct net n, t;
    make(&n, 0.25, 0);
    train(&n, -1, &t);
    assert_int_equal(ft_graph_nodes(t.g), 3);
    const struct ft_node *drop = ft_graph_node(t.g, ft_graph_producer(t.g, t.dropped));
    assert_int_equal(drop->op, FT_OP_DROPOUT);
    assert_true(drop->attrs.alpha == 0.25F && drop->attrs.node == 0);
    assert_int_equal(ft_graph_node(t.g, ft_graph_producer(t.g, t.mixed))->n_in, 4);
    ft_graph_free(t.g);
    train(&n, 0.125, &t);
    const struct ft_node *attention = ft_graph_node(t.g, ft_graph_producer(t.g, t.mixed));
    assert_int_equal(attention->n_in, 5);
    assert_true(attention->attrs.dropout == 0.125F && attention->attrs.node == 1);
    ft_graph_free(t.g);
    ft_graph_free(n.g);
}

/* Of `count` draws with probability p, as a distance in standard deviations. */
static double far(double found, double p, double count)
{
    return fabs(found - p * count) / sqrt(p * (1 - p) * count);
}

static void what_is_kept_is_scaled_and_as_often_as_it_should(void **state)
{
    (void)state;
    static const double probabilities[] = {0.1, 0.5, 0.9};
    static struct result r;
    for (size_t k = 0; k < 3; k++) {
        double p = probabilities[k];
        struct net n, t;
        double zeros = 0;
        double sum = 0;
        make(&n, p, p);
        train(&n, -1, &t);
        run(&t, 2, (const int64_t[]){5, 17}, &r);
        for (int i = 0; i < TOKENS * WIDE; i++) {
            assert_true(r.dropped[i] == 0 || fabs((double)r.dropped[i] * (1 - p) - 1) < 1e-6);
            zeros += r.dropped[i] == 0;
        }
        assert_true(far(zeros, p, TOKENS * WIDE) < 4.5);
        /* Weights are 1 / n each: y is the share that was kept / (1 - p), the same for all of a head. */
        for (int i = 0; i < TOKENS; i++) {
            double keys = i < 40 ? 40 : i == 40 ? 1 : TOKENS - 41;
            for (int h = 0; h < HEADS; h++) {
                double kept = (double)r.mixed[i * WIDE + h * WIDE / HEADS] * (1 - p) * keys;
                assert_true(fabs(kept - round(kept)) < 1e-3);
                sum += kept;
            }
        }
        double pairs = HEADS * (40.0 * 40 + 1 + (TOKENS - 41) * (TOKENS - 41.0));
        assert_true(far(sum, 1 - p, pairs) < 4.5);
        ft_graph_free(t.g);
        ft_graph_free(n.g);
    }
}

static double shared(const struct result *a, const struct result *b)
{
    double both = 0;
    for (int i = 0; i < TOKENS * WIDE; i++) {
        both += a->dropped[i] == b->dropped[i];
    }
    return both;
}

static void seed_and_step_decide_and_threads_do_not(void **state)
{
    (void)state;
    static struct result first, again, step, seed;
    struct net n, t;
    make(&n, 0.5, 0.5);
    train(&n, -1, &t);
    run(&t, 1, (const int64_t[]){5, 17}, &first);
    run(&t, 2, (const int64_t[]){5, 17}, &again);
    run(&t, 2, (const int64_t[]){5, 18}, &step);
    run(&t, 2, (const int64_t[]){6, 17}, &seed);
    assert_memory_equal(&first, &again, sizeof first);
    assert_true(far(shared(&first, &step), 0.5, TOKENS * WIDE) < 4.5);
    assert_true(far(shared(&first, &seed), 0.5, TOKENS * WIDE) < 4.5);
    assert_memory_not_equal(first.mixed, step.mixed, sizeof first.mixed);
    assert_memory_not_equal(first.mixed, seed.mixed, sizeof first.mixed);
    ft_graph_free(t.g);
    ft_graph_free(n.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_dropped_without_training),
        cmocka_unit_test(marks_and_the_one_for_all_become_nodes),
        cmocka_unit_test(what_is_kept_is_scaled_and_as_often_as_it_should),
        cmocka_unit_test(seed_and_step_decide_and_threads_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
