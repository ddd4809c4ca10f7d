/* links: ft_graph ft_kernels ft_base */
/* What a plan makes one step of: sums in place, what follows a product, chains of elements. */
#include "tests/plan_test.h"

/* Sums that a product may write over what it adds, and such where it may not: the same bytes are its source,
 * or are read again. 64 channels of 3 x 3 taps are a depth of several parts. */
static void build_sums(struct network *net)
{
    enum { CHANNELS = 64 };
    struct ft_err err = {0};
    struct ft_type t = batched(shape(4, 1, CHANNELS, 6, 6));
    memset(net, 0, sizeof *net);
    OK(ft_graph_new(&net->g, &err));
    OK(ft_graph_input(net->g, "x", &t, &net->x, &err));
    ft_value one = parameter(net, shape(4, CHANNELS, CHANNELS, 1, 1), FT_PARAM_WEIGHT, -0.2, 0.2);
    ft_value nine = parameter(net, shape(4, CHANNELS, CHANNELS, 3, 3), FT_PARAM_WEIGHT, -0.05, 0.05);
    ft_value square = parameter(net, shape(2, CHANNELS, CHANNELS), FT_PARAM_WEIGHT, -0.2, 0.2);
    ft_value a = node(net->g, FT_OP_CONV, window2(1, 1, 0), 2, net->x, one);
    ft_value b = node(net->g, FT_OP_CONV, window2(3, 1, 1), 2, a, nine);
    b = node(net->g, FT_OP_ADD, no_attrs(), 2, b, a); /* a is the source */
    ft_value c = node(net->g, FT_OP_CONV, window2(3, 1, 1), 2, b, nine);
    ft_value d = node(net->g, FT_OP_CONV, window2(1, 1, 0), 2, c, one);
    d = node(net->g, FT_OP_ADD, no_attrs(), 2, d, b); /* over b */
    d = node(net->g, FT_OP_RELU, no_attrs(), 1, d);
    ft_value e = node(net->g, FT_OP_CONV, window2(3, 1, 1), 2, c, nine);
    e = node(net->g, FT_OP_ADD, no_attrs(), 2, d, e); /* d is read again */
    e = node(net->g, FT_OP_MUL, no_attrs(), 2, e, d);
    e = node(net->g, FT_OP_REDUCE_MEAN, mean_attrs(), 1, e);
    e = node(net->g, FT_OP_RESHAPE, flat_attrs(CHANNELS), 1, e);
    ft_value f = node(net->g, FT_OP_MATMUL, with_alpha(1.0F), 2, e, square);
    ft_value g = node(net->g, FT_OP_MATMUL, with_alpha(1.0F), 2, f, square);
    g = node(net->g, FT_OP_ADD, no_attrs(), 2, g, e); /* over e */
    g = node(net->g, FT_OP_TANH, no_attrs(), 1, g);
    net->embedding = node(net->g, FT_OP_SCALE, with_alpha(0.5F), 1, g);
    net->loss = node(net->g, FT_OP_SUM_SQUARES, no_attrs(), 1, net->embedding);
    net->wanted[net->n_wanted++] = net->loss;
    net->wanted[net->n_wanted++] = net->embedding;
}

static void sums_in_place(struct network *net)
{
    const bool may[] = {false, true, false, true};
    struct bound cpu;
    int n = 0;
    compare_devices(net);
    compare_runs(net);
    open_bound(&cpu, net, "cpu", 0);
    for (size_t i = 0; i < cpu.plan->n_steps; i++) {
        const struct ft_plan_step *step = &cpu.plan->steps[i];
        if (step->chain != NULL || step->attrs->residual == 0) {
            continue;
        }
        const struct ft_call call = ft_plan_call_of(step);
        bool shares = cpu.plan->storages[cpu.plan->pvals[step->out[0]].storage].share >= 0;
        assert_true(n < 4);
        assert_int_equal(shares, may[n] && ft_kernel_adds_in_place(cpu.device, &call));
        n++;
    }
    assert_int_equal(n, 4);
    close_bound(&cpu);
}

static void products_add_in_place(void **state)
{
    (void)state;
    use_network(build_sums, sums_in_place);
}

static void count_fused(struct network *net)
{
    struct bound fused;
    struct bound plain;
    compare_devices(net);
    compare_runs(net);
    open_bound(&fused, net, "cpu", 0);
    open_bound(&plain, net, "cpu", FT_PLAN_NO_FUSION);
    run(&fused);
    run(&plain);
    /* 2 foldings, 2 convolutions, 1 product, pool, loss; in and out of channels-last. */
    assert_int_equal(ft_plan_stats(fused.plan).nodes, 7);
    assert_int_equal(ft_plan_stats(fused.plan).reorders, 2);
    assert_true(ft_plan_stats(plain.plan).nodes > 7);
    int once = 0;
    for (size_t i = 0; i < fused.plan->n_steps; i++) {
        once += fused.plan->steps[i].once;
    }
    assert_int_equal(once, 2);
    close_bound(&fused);
    close_bound(&plain);
}

static void what_follows_a_product_is_part_of_it(void **state)
{
    (void)state;
    use_network(build_fusible, count_fused);
}

/* Chains: every way of broadcasting, results read outside and inside, a reader in between, and gradients. */
static void build_elementwise(struct network *net)
{
    struct ft_err err = {0};
    struct ft_type t = batched(shape(4, 1, 24, 7, 5));
    ft_value wrt[3];
    memset(net, 0, sizeof *net);
    OK(ft_graph_new(&net->g, &err));
    OK(ft_graph_input(net->g, "x", &t, &net->x, &err));
    wrt[0] = net->x;
    wrt[1] = parameter(net, shape(3, 24, 1, 1), FT_PARAM_WEIGHT, 0.5, 1.5);
    wrt[2] = parameter(net, shape(1, 5), FT_PARAM_WEIGHT, -0.5, 0.5);
    ft_value h = node(net->g, FT_OP_MUL, no_attrs(), 2, net->x, wrt[1]);
    ft_value s = node(net->g, FT_OP_SIGMOID, no_attrs(), 1, h);
    ft_value silu = node(net->g, FT_OP_MUL, no_attrs(), 2, h, s);
    ft_value gate = node(net->g, FT_OP_REDUCE_MEAN, mean_attrs(), 1, silu); /* reads in between */
    ft_value r = node(net->g, FT_OP_ADD, no_attrs(), 2, silu, wrt[2]);
    r = node(net->g, FT_OP_MUL, no_attrs(), 2, r, gate);
    struct ft_attrs gelu = no_attrs();
    gelu.kind = FT_MAP_GELU;
    r = node(net->g, FT_OP_MAP, gelu, 1, r);
    r = node(net->g, FT_OP_SUB, no_attrs(), 2, r, silu);
    r = node(net->g, FT_OP_SCALE, with_alpha(0.25F), 1, r);
    net->embedding = node(net->g, FT_OP_TANH, no_attrs(), 1, r);
    net->loss = node(net->g, FT_OP_SUM_SQUARES, no_attrs(), 1, net->embedding);
    net->wanted[net->n_wanted++] = net->loss;
    net->wanted[net->n_wanted++] = net->embedding;
    net->wanted[net->n_wanted++] = s;
    OK(ft_graph_backward(net->g, net->loss, wrt, 3, net->wanted + net->n_wanted, &err));
    net->n_wanted += 3;
}

static void compare_chains(struct network *net)
{
    struct bound chained;
    struct bound single;
    size_t size = 0;
    compare_devices(net);
    compare_runs(net);
    open_bound(&chained, net, "cpu", 0);
    open_bound(&single, net, "cpu", FT_PLAN_NO_FUSION);
    run(&chained);
    run(&single);
    void *a = copy_wanted(&chained, net, &size);
    void *b = copy_wanted(&single, net, &size);
    assert_memory_equal(a, b, size);
    printf("%d steps in chains, %d one by one\n", ft_plan_stats(chained.plan).nodes,
           ft_plan_stats(single.plan).nodes);
    assert_true(2 * ft_plan_stats(chained.plan).nodes <= ft_plan_stats(single.plan).nodes);
    assert_true(ft_plan_stats(chained.plan).activation_bytes < ft_plan_stats(single.plan).activation_bytes);
    ft_free(a);
    ft_free(b);
    close_bound(&chained);
    close_bound(&single);
}

static void chains_change_no_bit(void **state)
{
    (void)state;
    use_network(build_elementwise, compare_chains);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_follows_a_product_is_part_of_it),
        cmocka_unit_test(products_add_in_place),
        cmocka_unit_test(chains_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
