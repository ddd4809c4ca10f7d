/* links: ft_graph ft_kernels ft_base */
/*
 * Plans: cpu against ref on a small network forward and backward, same bits, memory, binding, refusals.
 */
#include <math.h>
#include <time.h>

#include "executor/graph/plan_internal.h"
#include "tests/plan_networks.h"

/* ---- a plan with memory for everything that it reads */

struct bound {
    struct ft_device *device;
    struct ft_plan *plan;
    void *memory[2 * MAX_VALUES];
    int n_memory;
};

static void fill(struct bound *b, const struct network *net, ft_value v, void *to)
{
    const struct ft_type *t = ft_graph_type(net->g, v);
    size_t count = ft_plan_bytes(b->plan, v);
    const float *data = ft_graph_data(net->g, v);
    struct ft_rand r = ft_rand_at(99, FT_RAND_TEST, 2);
    if (t->dtype == FT_I32) {
        for (size_t i = 0; i < count / 4; i++) {
            ((int32_t *)to)[i] = (int32_t)(i % CLASSES);
        }
        return;
    }
    bool wide = ft_device_float(b->device) == FT_F64;
    count /= wide ? 8 : 4;
    for (size_t i = 0; i < count; i++) {
        float x = data != NULL ? data[i] : (float)test_uniform(r, i, -1, 1);
        if (wide) {
            ((double *)to)[i] = (double)x;
        } else {
            ((float *)to)[i] = x;
        }
    }
}

static void bind_source(struct bound *b, const struct network *net, ft_value v)
{
    struct ft_err err = {0};
    void *data = NULL;
    OK(ft_device_alloc(b->device, ft_plan_bytes(b->plan, v), &data, &err));
    b->memory[b->n_memory++] = data;
    fill(b, net, v, data);
    OK(ft_plan_bind(b->plan, v, data, &err));
}

static void make_bound(struct bound *b, const struct network *net, const struct ft_plan_spec *spec,
                       unsigned flags)
{
    struct ft_err err = {0};
    OK(ft_plan_new_with(b->device, net->g, spec, flags, &b->plan, &err));
    for (int i = 0; i < ft_graph_inputs(net->g); i++) {
        bind_source(b, net, ft_graph_input_at(net->g, i));
    }
    for (int i = 0; i < ft_graph_params(net->g); i++) {
        bind_source(b, net, ft_graph_param_at(net->g, i));
    }
    ft_plan_set_version(b->plan, 1);
}

static void open_bound(struct bound *b, const struct network *net, const char *device, unsigned flags)
{
    struct ft_err err = {0};
    struct ft_plan_spec spec = {.symbols = {BATCH}, .wanted = net->wanted, .n_wanted = net->n_wanted};
    memset(b, 0, sizeof *b);
    OK(ft_device_open(device, 2, &b->device, &err));
    make_bound(b, net, &spec, flags);
}

static void run(struct bound *b)
{
    struct ft_err err = {0};
    OK(ft_plan_run(b->plan, &err));
    OK(ft_device_wait(b->device, &err));
}

static void close_bound(struct bound *b)
{
    ft_plan_free(b->plan);
    for (int i = 0; i < b->n_memory; i++) {
        ft_device_free(b->device, b->memory[i]);
    }
    ft_device_close(b->device);
}

static void use_network(void (*build)(struct network *net), void (*check)(struct network *net))
{
    size_t live = ft_alloc_stats().live_blocks;
    struct network net;
    build(&net);
    check(&net);
    ft_graph_free(net.g);
    assert_int_equal(ft_alloc_stats().live_blocks, live);
}

/* ---- cpu and ref */

/* Relative to the largest element of the tensor. Measured here: below 2e-6; 1e-4 is what the product
 * promises. */
static double worst_difference(const float *got, const double *want, size_t count)
{
    double largest = 0.01;
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs(want[i]));
        worst = fmax(worst, fabs((double)got[i] - want[i]));
    }
    return worst / largest;
}

static void compare_devices(struct network *net)
{
    struct bound cpu;
    struct bound ref;
    double worst = 0;
    open_bound(&cpu, net, "cpu", 0);
    open_bound(&ref, net, "ref", 0);
    run(&cpu);
    run(&ref);
    for (int i = 0; i < net->n_wanted; i++) {
        ft_value v = net->wanted[i];
        size_t count = ft_plan_bytes(cpu.plan, v) / 4;
        double d = worst_difference(ft_plan_data(cpu.plan, v), ft_plan_data(ref.plan, v), count);
        if (!(d <= 1e-4)) {
            fail_msg("value '%s' (wanted %d) differs by %g", ft_graph_name(net->g, v), i, d);
        }
        worst = fmax(worst, d);
    }
    struct ft_plan_stats s = ft_plan_stats(cpu.plan);
    printf("cpu against ref: %d values, worst relative difference %.2g; %d nodes, %d reorders, %zu bytes\n",
           net->n_wanted, worst, s.nodes, s.reorders, s.activation_bytes);
    double loss = *(const double *)ft_plan_data(ref.plan, net->loss);
    assert_true(loss > 0.01);
    close_bound(&cpu);
    close_bound(&ref);
}

static void cpu_equals_ref(void **state)
{
    (void)state;
    use_network(build_training, compare_devices);
    use_network(build_mixed, compare_devices);
}

/* ---- bits */

static void *copy_wanted(const struct bound *b, const struct network *net, size_t *size)
{
    size_t total = 0;
    for (int i = 0; i < net->n_wanted; i++) {
        total += ft_plan_bytes(b->plan, net->wanted[i]);
    }
    char *copy = ft_alloc(total);
    *size = total;
    total = 0;
    for (int i = 0; i < net->n_wanted; i++) {
        size_t bytes = ft_plan_bytes(b->plan, net->wanted[i]);
        memcpy(copy + total, ft_plan_data(b->plan, net->wanted[i]), bytes);
        total += bytes;
    }
    return copy;
}

static void compare_runs(struct network *net)
{
    struct bound packed;
    struct bound plain;
    size_t size = 0;
    open_bound(&packed, net, "cpu", 0);
    open_bound(&plain, net, "cpu", FT_PLAN_NO_PACKING);
    run(&packed);
    void *first = copy_wanted(&packed, net, &size);
    run(&packed);
    void *second = copy_wanted(&packed, net, &size);
    run(&plain);
    void *third = copy_wanted(&plain, net, &size);
    assert_memory_equal(first, second, size);
    assert_memory_equal(first, third, size);
    assert_true(ft_plan_memory_is_sound(packed.plan));
    assert_true(ft_plan_memory_is_sound(plain.plan));
    size_t a = ft_plan_stats(packed.plan).activation_bytes;
    size_t b = ft_plan_stats(plain.plan).activation_bytes;
    printf("packed %zu bytes, a place for each value %zu bytes\n", a, b);
    assert_true(a < b);
    ft_free(first);
    ft_free(second);
    ft_free(third);
    close_bound(&packed);
    close_bound(&plain);
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

/* ---- versions */

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

/* ---- fusion */

/* A residual block as exporters write it, then TensorFlow's transpositions around a product over pixels. */
static void build_fusible(struct network *net)
{
    struct ft_err err = {0};
    struct ft_type t = batched(shape(4, 1, 8, 6, 6));
    struct ft_attrs bn = no_attrs();
    bn.eps = 1e-5F;
    memset(net, 0, sizeof *net);
    OK(ft_graph_new(&net->g, &err));
    OK(ft_graph_input(net->g, "x", &t, &net->x, &err));
    ft_value h = net->x;
    for (int i = 0; i < 2; i++) {
        ft_value w = parameter(net, shape(4, 8, 8, 3, 3), FT_PARAM_WEIGHT, -0.2, 0.2);
        ft_value scale = parameter(net, shape(1, 8), FT_PARAM_WEIGHT, 0.5, 1.5);
        ft_value shift = parameter(net, shape(1, 8), FT_PARAM_WEIGHT, -0.5, 0.5);
        ft_value mean = parameter(net, shape(1, 8), FT_PARAM_STATE, -0.1, 0.1);
        ft_value var = parameter(net, shape(1, 8), FT_PARAM_STATE, 0.9, 1.1);
        h = node(net->g, FT_OP_CONV, window2(3, 1, 1), 2, h, w);
        h = node(net->g, FT_OP_BATCHNORM, bn, 5, h, scale, shift, mean, var);
        h = i == 0 ? node(net->g, FT_OP_RELU, no_attrs(), 1, h) : h;
    }
    h = node(net->g, FT_OP_ADD, no_attrs(), 2, net->x, h);
    h = node(net->g, FT_OP_RELU, no_attrs(), 1, h);
    struct ft_attrs to_pixels = no_attrs();
    struct ft_attrs to_channels = no_attrs();
    const int pixels[4] = {0, 2, 3, 1};
    const int channels[4] = {0, 3, 1, 2};
    memcpy(to_pixels.perm, pixels, sizeof pixels);
    memcpy(to_channels.perm, channels, sizeof channels);
    h = node(net->g, FT_OP_TRANSPOSE, to_pixels, 1, h);
    ft_value last = parameter(net, shape(2, 8, 5), FT_PARAM_WEIGHT, -0.5, 0.5);
    ft_value bias = parameter(net, shape(1, 5), FT_PARAM_WEIGHT, -0.5, 0.5);
    h = node(net->g, FT_OP_MATMUL, with_alpha(1.0F), 2, h, last);
    h = node(net->g, FT_OP_ADD, no_attrs(), 2, bias, h);
    h = node(net->g, FT_OP_TANH, no_attrs(), 1, h);
    h = node(net->g, FT_OP_TRANSPOSE, to_channels, 1, h);
    h = node(net->g, FT_OP_AVGPOOL, window2(2, 2, 0), 1, h);
    net->embedding = h;
    net->loss = node(net->g, FT_OP_SUM_SQUARES, no_attrs(), 1, h);
    net->wanted[net->n_wanted++] = net->loss;
    net->wanted[net->n_wanted++] = net->embedding;
}

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

/* ---- binding, aliases, copies */

struct small {
    struct ft_graph *g;
    struct ft_device *device;
    struct ft_plan *plan;
};

static void open_small(struct small *s, const char *device, const ft_value *wanted, int n)
{
    struct ft_err err = {0};
    struct ft_plan_spec spec = {.symbols = {2}, .wanted = wanted, .n_wanted = n};
    OK(ft_device_open(device, 1, &s->device, &err));
    OK(ft_plan_new(s->device, s->g, &spec, &s->plan, &err));
}

static void close_small(struct small *s)
{
    ft_plan_free(s->plan);
    ft_device_close(s->device);
    ft_graph_free(s->g);
}

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

/* ---- refusals */

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

/* ---- memory runs out */

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

/* ---- overhead */

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
        cmocka_unit_test(cpu_equals_ref),
        cmocka_unit_test(packing_and_repetition_change_no_bit),
        cmocka_unit_test(inference_is_packed_too),
        cmocka_unit_test(overlaps_are_found),
        cmocka_unit_test(running_allocates_nothing),
        cmocka_unit_test(profiling_times_every_step),
        cmocka_unit_test(a_new_version_renews_packed_weights),
        cmocka_unit_test(what_follows_a_product_is_part_of_it),
        cmocka_unit_test(products_add_in_place),
        cmocka_unit_test(plans_share_memory),
        cmocka_unit_test(chains_change_no_bit),
        cmocka_unit_test(wanted_values_lie_where_they_are_bound),
        cmocka_unit_test(layouts_do_not_show),
        cmocka_unit_test(unneeded_nodes_are_left_out),
        cmocka_unit_test(in_place_keeps_what_is_read_again),
        cmocka_unit_test(bad_extents_are_refused),
        cmocka_unit_test(a_kernels_refusal_names_the_node),
        cmocka_unit_test(no_memory_no_leak),
        cmocka_unit_test(overhead_per_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
