/* links: ft_graph ft_kernels ft_base */
/* Memory of plans: overlaps, none asked for while running, shared by plans, and running out. */
#include "tests/plan_test.h"

/* The check itself must be able to fail. */
static void break_memory(struct network *net)
{
    struct bound b;
    open_bound(&b, net, "ref", 0);
    assert_true(ft_plan_memory_is_sound(b.plan));
    size_t moved = 0;
    for (size_t i = 0; i < b.plan->n_storages && moved < 2; i++) {
        struct ft_plan_storage *s = &b.plan->storages[i];
        if (s->place == FT_PLACE_BLOCK && s->last > s->first + 5) {
            s->offset = 0;
            moved++;
        }
    }
    assert_false(ft_plan_memory_is_sound(b.plan));
    close_bound(&b);
}

static void overlaps_are_found(void **state)
{
    (void)state;
    use_network(build_training, break_memory);
}

static void count_allocations(struct network *net)
{
    struct bound b;
    open_bound(&b, net, "cpu", 0);
    run(&b);
    uint64_t calls = ft_alloc_stats().calls;
    for (int i = 0; i < 3; i++) {
        ft_plan_set_version(b.plan, (uint64_t)i + 2);
        run(&b);
    }
    assert_int_equal(ft_alloc_stats().calls, calls);
    close_bound(&b);
}

static void running_allocates_nothing(void **state)
{
    (void)state;
    use_network(build_training, count_allocations);
}

/* A plan for fewer rows in the memory of a larger one gives what it gives on its own; so does the larger one
 * afterwards. */
static void share_memory(struct network *net)
{
    struct bound large;
    struct bound alone = {0};
    struct bound shared = {0};
    struct ft_plan_spec spec = {.symbols = {BATCH - 1}, .wanted = net->wanted, .n_wanted = net->n_wanted};
    open_bound(&large, net, "cpu", 0);
    alone.device = shared.device = large.device;
    make_bound(&alone, net, &spec, 0);
    spec.like = large.plan;
    make_bound(&shared, net, &spec, 0);
    assert_int_equal(ft_plan_stats(shared.plan).activation_bytes, 0);
    assert_true(ft_plan_stats(alone.plan).activation_bytes > 0);
    struct bound *all[] = {&large, &alone, &shared};
    for (uint64_t version = 1; version <= 2; version++) {
        void *data[4];
        size_t size[4];
        for (int i = 0; i < 4; i++) {
            run(all[i % 3]);
            data[i] = copy_wanted(all[i % 3], net, &size[i]);
        }
        assert_memory_equal(data[0], data[3], size[0]);
        assert_memory_equal(data[1], data[2], size[1]);
        for (int i = 0; i < 4; i++) {
            ft_free(data[i]);
        }
        for (int i = 0; i < 3; i++) { /* the first weight: inputs come before parameters */
            ((float *)all[i]->memory[1])[3] = 0.75F;
            ft_plan_set_version(all[i]->plan, version + 1);
        }
    }
    for (int i = 2; i >= 0; i--) {
        ft_plan_free(all[i]->plan);
        for (int k = 0; k < all[i]->n_memory; k++) {
            ft_device_free(all[i]->device, all[i]->memory[k]);
        }
    }
    ft_device_close(large.device);
}

static void plans_share_memory(void **state)
{
    (void)state;
    use_network(build_fusible, share_memory);
}

static void fail_each_allocation(struct network *net)
{
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    struct ft_plan *plan = NULL;
    struct ft_plan_spec spec = {.symbols = {BATCH}, .wanted = net->wanted, .n_wanted = net->n_wanted};
    OK(ft_device_open("cpu", 1, &device, &err));
    size_t live = ft_alloc_stats().live_blocks;
    uint64_t n = 0;
    enum ft_status st = FT_NOMEM;
    while (st != FT_OK) {
        ft_alloc_fail_at(++n);
        st = ft_plan_new(device, net->g, &spec, &plan, &err);
        ft_alloc_fail_at(0);
        if (st != FT_OK) {
            assert_int_equal(st, FT_NOMEM);
            assert_null(plan);
            assert_int_equal(ft_alloc_stats().live_blocks, live);
        }
    }
    printf("plan: %llu allocations failed one by one\n", (unsigned long long)n - 1);
    assert_true(n > 50);
    ft_plan_free(plan);
    ft_device_close(device);
}

static void no_memory_no_leak(void **state)
{
    (void)state;
    use_network(build_training, fail_each_allocation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlaps_are_found),
        cmocka_unit_test(running_allocates_nothing),
        cmocka_unit_test(plans_share_memory),
        cmocka_unit_test(no_memory_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
