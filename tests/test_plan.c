/* links: ft_graph ft_kernels ft_base */
/* Plans: cpu against ref on small networks forward and backward, packed or not, run once or again: the same
 * bits. */
#include "tests/plan_test.h"

static void cpu_equals_ref(void **state)
{
    (void)state;
    use_network(build_training, compare_devices);
    use_network(build_mixed, compare_devices);
}

static void packing_and_repetition_change_no_bit(void **state)
{
    (void)state;
    use_network(build_training, compare_runs);
    use_network(build_mixed, compare_runs);
}

static void evaluation_only(struct network *net)
{
    net->wanted[net->n_wanted++] = net->embedding;
    compare_runs(net);
}

static void inference_is_packed_too(void **state)
{
    (void)state;
    use_network(build_backbone, evaluation_only);
}

static void change_weights(struct network *net)
{
    struct bound b;
    struct ft_err err = {0};
    net->wanted[net->n_wanted++] = net->embedding;
    open_bound(&b, net, "cpu", 0);
    run(&b);
    size_t size = 0;
    void *before = copy_wanted(&b, net, &size);
    /* The first weight of the network, in memory that the test owns: inputs come before parameters. */
    float *w = b.memory[1];
    for (int i = 0; i < 27; i++) {
        w[i] = -w[i];
    }
    ft_plan_set_version(b.plan, 2);
    run(&b);
    void *after = copy_wanted(&b, net, &size);
    assert_memory_not_equal(before, after, size);
    for (int i = 0; i < 27; i++) {
        w[i] = -w[i];
    }
    ft_plan_set_version(b.plan, 3);
    run(&b);
    void *again = copy_wanted(&b, net, &size);
    assert_memory_equal(before, again, size);
    char origin[FT_ERR_TEXT];
    OK(ft_plan_find_nonfinite(b.plan, origin, &err));
    assert_string_equal(origin, "");
    w[3] = NAN;
    ft_plan_set_version(b.plan, 4);
    OK(ft_plan_find_nonfinite(b.plan, origin, &err));
    assert_string_equal(origin, "conv 'conv'");
    ft_free(before);
    ft_free(after);
    ft_free(again);
    close_bound(&b);
}

static void a_new_version_renews_packed_weights(void **state)
{
    (void)state;
    use_network(build_backbone, change_weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_equals_ref),
        cmocka_unit_test(packing_and_repetition_change_no_bit),
        cmocka_unit_test(inference_is_packed_too),
        cmocka_unit_test(a_new_version_renews_packed_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
