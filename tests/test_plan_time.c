/* links: ft_graph ft_kernels ft_base */
/* Times of a plan: of each step, and how little a step costs beside its kernel. */
#include <time.h>

#include "tests/plan_test.h"

/* Profiling changes no bit, times every step, and can be turned off. */
static void profile(struct network *net)
{
    struct bound b;
    struct ft_err err = {0};
    size_t size = 0;
    open_bound(&b, net, "cpu", 0);
    run(&b);
    void *plain = copy_wanted(&b, net, &size);
    OK(ft_plan_profile(b.plan, true, &err));
    run(&b);
    void *profiled = copy_wanted(&b, net, &size);
    assert_memory_equal(plain, profiled, size);
    assert_true(ft_plan_steps(b.plan) > 0);
    for (int i = 0; i < ft_plan_steps(b.plan); i++) {
        struct ft_plan_step_time once = ft_plan_step_time(b.plan, i);
        assert_true(once.seconds > 0);
        assert_true(once.n_out > 0 && once.out[0].rank <= FT_MAX_RANK);
    }
    double before = ft_plan_step_time(b.plan, 0).seconds;
    run(&b);
    assert_true(ft_plan_step_time(b.plan, 0).seconds > before);
    OK(ft_plan_profile(b.plan, false, &err));
    run(&b);
    assert_true(ft_plan_step_time(b.plan, 0).seconds == 0);
    ft_free(plain);
    ft_free(profiled);
    close_bound(&b);
}

static void profiling_times_every_step(void **state)
{
    (void)state;
    use_network(build_training, profile);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void overhead_per_node(void **state)
{
    (void)state;
    enum { NODES = 2000, RUNS = 50 };
    struct ft_err err = {0};
    struct small s = {0};
    struct ft_type t = shape(1, 4);
    ft_value v = 0;
    float in[4] = {1, 2, 3, 4};
    OK(ft_graph_new(&s.g, &err));
    OK(ft_graph_input(s.g, "x", &t, &v, &err));
    ft_value x = v;
    for (int i = 0; i < NODES; i++) {
        v = node(s.g, FT_OP_NEG, no_attrs(), 1, v);
    }
    open_small(&s, "cpu", &v, 1);
    OK(ft_plan_bind(s.plan, x, in, &err));
    OK(ft_plan_run(s.plan, &err));
    double start = seconds();
    for (int i = 0; i < RUNS; i++) {
        OK(ft_plan_run(s.plan, &err));
    }
    double each = (seconds() - start) / RUNS / NODES;
    printf("a node of 4 elements: %.0f ns, kernel included\n", each * 1e9);
    assert_memory_equal(ft_plan_data(s.plan, v), in, sizeof in);
    assert_int_equal(ft_plan_stats(s.plan).activation_bytes, 64); /* all in one place */
    close_small(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(profiling_times_every_step),
        cmocka_unit_test(overhead_per_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
