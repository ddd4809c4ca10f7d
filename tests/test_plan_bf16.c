/* links: ft_graph ft_kernels ft_base */
/*
 * Plans that store values as bf16: what is stored so, what stays a float, cpu against ref, same bits, a
 * weight rounded once a version.
 */
#include <math.h>

#include "executor/graph/plan_internal.h"
#include "tests/bf16_here.h"
#include "tests/plan_networks.h"

static enum ft_precision here; /* how `cpu` computes in bf16 */

struct bound {
    struct ft_device *device;
    struct ft_plan *plan;
    void *memory[2 * MAX_VALUES];
    int n_memory;
};

static double number(const struct network *net, ft_value v, size_t i)
{
    const float *data = ft_graph_data(net->g, v);
    return data != NULL ? (double)data[i] : test_uniform(ft_rand_at(99, FT_RAND_TEST, 2), i, -1, 1);
}

static void bind_source(struct bound *b, const struct network *net, ft_value v)
{
    struct ft_err err = {0};
    void *data = NULL;
    size_t bytes = ft_plan_bytes(b->plan, v);
    OK(ft_device_alloc(b->device, bytes, &data, &err));
    b->memory[b->n_memory++] = data;
    for (size_t i = 0; i < bytes / 4; i++) {
        if (ft_graph_type(net->g, v)->dtype == FT_I32) {
            ((int32_t *)data)[i] = (int32_t)(i % CLASSES);
        } else if (ft_device_float(b->device) == FT_F32) {
            ((float *)data)[i] = (float)number(net, v, i);
        } else if (i < bytes / 8) {
            ((double *)data)[i] = (double)(float)number(net, v, i);
        }
    }
    OK(ft_plan_bind(b->plan, v, data, &err));
}

static void open_bound(struct bound *b, const struct network *net, const char *device,
                       enum ft_precision precision)
{
    struct ft_err err = {0};
    struct ft_plan_spec spec = {.symbols = {BATCH}, .wanted = net->wanted, .n_wanted = net->n_wanted};
    memset(b, 0, sizeof *b);
    OK(ft_device_open(device, 2, &b->device, &err));
    OK(ft_device_set_precision(b->device, precision, &err));
    OK(ft_plan_new(b->device, net->g, &spec, &b->plan, &err));
    for (int i = 0; i < ft_graph_inputs(net->g); i++) {
        bind_source(b, net, ft_graph_input_at(net->g, i));
    }
    for (int i = 0; i < ft_graph_params(net->g); i++) {
        bind_source(b, net, ft_graph_param_at(net->g, i));
    }
    ft_plan_set_version(b->plan, 1);
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

/* ---- results */

static double cosine(const void *a, bool a_wide, const void *b, bool b_wide, size_t count)
{
    double ab = 0;
    double aa = 0;
    double bb = 0;
    for (size_t i = 0; i < count; i++) {
        double x = a_wide ? ((const double *)a)[i] : (double)((const float *)a)[i];
        double y = b_wide ? ((const double *)b)[i] : (double)((const float *)b)[i];
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    return ab / sqrt(aa * bb);
}

/* The embedding of eight images through three blocks: 0.999 is what the product promises; measured 0.9999. */
static void check_embedding(struct network *net)
{
    const struct {
        const char *device;
        enum ft_precision precision;
    } ways[] = {{"ref", FT_PRECISION_BF16}, {"cpu", here}};
    struct bound exact;
    open_bound(&exact, net, "ref", FT_PRECISION_F32);
    run(&exact);
    for (int i = 0; i < 2; i++) {
        struct bound b;
        open_bound(&b, net, ways[i].device, ways[i].precision);
        run(&b);
        bool wide = ft_device_float(b.device) == FT_F64;
        size_t count = ft_plan_bytes(b.plan, net->embedding) / (wide ? 8 : 4);
        double c = cosine(ft_plan_data(b.plan, net->embedding), wide,
                          ft_plan_data(exact.plan, net->embedding), true, count);
        printf("%s in bf16: the embedding's cosine is 1 - %.1g\n", ways[i].device, 1 - c);
        assert_true(c > 0.999);
        assert_true(c < 1 - 1e-9); /* it was rounded */
        close_bound(&b);
    }
    close_bound(&exact);
}

static void embeddings_keep_their_direction(void **state)
{
    (void)state;
    use_network(build_training, check_embedding);
}

struct agreement {
    double ab, aa, bb;
};

static void add_agreement(struct agreement *a, const float *x, const void *y, bool y_wide, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double other = y_wide ? ((const double *)y)[i] : (double)((const float *)y)[i];
        a->ab += (double)x[i] * other;
        a->aa += (double)x[i] * (double)x[i];
        a->bb += other * other;
    }
}

/* All that a step gives as one vector, by the processor's own bf16, emulated and of `ref`: the same roundings
 * of the same operands, around sums in another order and width. Where such a sum lies at the edge between two
 * bf16 numbers it is rounded the other way, 2^-8 of the value: here and there one, so the direction stays
 * (emulated and `ref`: 1 - 4e-7). Of single values it need not: the gradient of a bias before a normalisation
 * is nothing but rounding. */
static void check_ways_agree(struct network *net)
{
    static const struct {
        const char *device;
        enum ft_precision precision;
    } ways[] = {{"ref", FT_PRECISION_BF16}, {"cpu", FT_PRECISION_BF16_EMULATED}};
    struct bound b;
    open_bound(&b, net, "cpu", here);
    run(&b);
    for (int i = 0; i < (here == FT_PRECISION_BF16_EMULATED ? 1 : 2); i++) {
        struct bound other;
        struct agreement a = {0};
        open_bound(&other, net, ways[i].device, ways[i].precision);
        run(&other);
        bool wide = ft_device_float(other.device) == FT_F64;
        for (int w = 0; w < net->n_wanted; w++) {
            add_agreement(&a, ft_plan_data(b.plan, net->wanted[w]), ft_plan_data(other.plan, net->wanted[w]),
                          wide, ft_plan_bytes(b.plan, net->wanted[w]) / 4);
        }
        double c = a.ab / sqrt(a.aa * a.bb);
        printf("%s and %s on %s: of %d values as one vector the cosine is 1 - %.1g\n",
               ft_precision_name(here), ft_precision_name(ways[i].precision), ways[i].device, net->n_wanted,
               1 - c);
        assert_true(c > 0.9999);
        close_bound(&other);
    }
    close_bound(&b);
}

static void ways_to_compute_it_agree(void **state)
{
    (void)state;
    use_network(build_training, check_ways_agree);
    use_network(build_mixed, check_ways_agree);
}

static void check_same_bits(struct network *net)
{
    struct bound a;
    struct bound b;
    open_bound(&a, net, "cpu", here);
    open_bound(&b, net, "cpu", here);
    run(&a);
    run(&a);
    run(&b);
    for (int i = 0; i < net->n_wanted; i++) {
        size_t bytes = ft_plan_bytes(a.plan, net->wanted[i]);
        assert_memory_equal(ft_plan_data(a.plan, net->wanted[i]), ft_plan_data(b.plan, net->wanted[i]),
                            bytes);
    }
    close_bound(&a);
    close_bound(&b);
}

static void a_second_run_gives_the_same_bits(void **state)
{
    (void)state;
    use_network(build_training, check_same_bits);
    use_network(build_mixed, check_same_bits);
}

/* ---- what is stored how */

static bool is_product(enum ft_op op)
{
    return op == FT_OP_CONV || op == FT_OP_CONV_BWD_DATA || op == FT_OP_CONV_BWD_WEIGHT || op == FT_OP_MATMUL;
}

/* Products read bf16 only, losses and optimisers none; what the caller reads is a float. */
static void check_types(struct network *net)
{
    struct bound b;
    int products = 0;
    int once = 0;
    open_bound(&b, net, "cpu", here);
    for (size_t i = 0; i < b.plan->n_steps; i++) {
        const struct ft_plan_step *step = &b.plan->steps[i];
        if (is_product(step->op)) {
            products++;
            assert_int_equal(step->types[0].dtype, FT_BF16);
            assert_int_equal(step->types[1].dtype, FT_BF16);
        }
        if (step->op == FT_OP_PDIST || step->op == FT_OP_TRIPLET || step->op == FT_OP_L2_NORMALIZE) {
            assert_int_equal(step->types[0].dtype, FT_F32);
        }
        if (step->op == FT_OP_BATCHNORM_TRAIN) {
            assert_int_equal(step->types[0].dtype, FT_BF16);
            assert_int_equal(step->types[1].dtype, FT_F32);
            assert_int_equal(step->types[step->n_in].dtype, FT_BF16);
            assert_int_equal(step->types[step->n_in + 1].dtype, FT_F32);
        }
        for (int k = 0; k < step->n_out; k++) {
            enum ft_place place = b.plan->storages[b.plan->pvals[step->out[k]].storage].place;
            assert_true(place != FT_PLACE_WANTED || step->types[step->n_in + k].dtype != FT_BF16);
        }
        once += step->once && step->types[step->n_in].dtype == FT_BF16;
    }
    assert_true(products >= 10);
    assert_int_equal(once, 4); /* three convolutions and a linear layer */
    close_bound(&b);
}

static void products_read_bf16_and_losses_do_not(void **state)
{
    (void)state;
    use_network(build_training, check_types);
}

static void check_size(struct network *net)
{
    struct bound wide;
    struct bound narrow;
    open_bound(&wide, net, "cpu", FT_PRECISION_F32);
    open_bound(&narrow, net, "cpu", here);
    size_t full = ft_plan_stats(wide.plan).activation_bytes;
    size_t half = ft_plan_stats(narrow.plan).activation_bytes;
    printf("activations: %zu bytes, as bf16 %zu\n", full, half);
    assert_true(half < full * 65 / 100); /* places of maxima are integers, small things stay */
    close_bound(&wide);
    close_bound(&narrow);
}

static void activations_take_half_the_memory(void **state)
{
    (void)state;
    use_network(build_training, check_size);
}

/* The rounded copy of a weight is renewed with its version, and not before. */
static void check_version(struct network *net)
{
    struct bound b;
    float *weight = NULL;
    open_bound(&b, net, "cpu", here);
    run(&b);
    size_t bytes = ft_plan_bytes(b.plan, net->embedding);
    unsigned char *before = ft_alloc(bytes);
    memcpy(before, ft_plan_data(b.plan, net->embedding), bytes);
    for (int i = 0; i < ft_graph_params(net->g); i++) {
        if (ft_graph_type(net->g, ft_graph_param_at(net->g, i))->rank == 2) {
            weight = b.memory[ft_graph_inputs(net->g) + i];
        }
    }
    assert_non_null(weight);
    for (int i = 0; i < 24; i++) {
        weight[i] += 1;
    }
    run(&b);
    assert_memory_equal(ft_plan_data(b.plan, net->embedding), before, bytes);
    ft_plan_set_version(b.plan, 2);
    run(&b);
    assert_true(memcmp(ft_plan_data(b.plan, net->embedding), before, bytes) != 0);
    ft_free(before);
    close_bound(&b);
}

static void a_new_version_renews_rounded_weights(void **state)
{
    (void)state;
    use_network(build_training, check_version);
}

static void check_memory(struct network *net)
{
    check_plan_memory(net, BATCH, here);
}

static void no_memory_no_leak(void **state)
{
    (void)state;
    use_network(build_training, check_memory);
}

/* test_plan_bf16 [PATTERN]: the tests that it fits. */
int main(int argc, char **argv)
{
    here = bf16_here();
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embeddings_keep_their_direction),
        cmocka_unit_test(ways_to_compute_it_agree),
        cmocka_unit_test(a_second_run_gives_the_same_bits),
        cmocka_unit_test(products_read_bf16_and_losses_do_not),
        cmocka_unit_test(activations_take_half_the_memory),
        cmocka_unit_test(a_new_version_renews_rounded_weights),
        cmocka_unit_test(no_memory_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
