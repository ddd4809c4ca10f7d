/* links: ft_train ft_model ft_graph ft_kernels ft_codec ft_base */
#include "tests/train_test.h"

#include "executor/base/bytes.h"
#include "executor/base/rand.h"
#include "executor/train/budget.h"
#include "executor/train/params.h"
#include "kernels/cpu/cpu.h"
#include "tests/graph_test.h"

enum { IN = 64, WIDE = 256, DIM = 16 };

static struct ft_graph *network(void)
{
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    struct ft_type type = ft_type_of(FT_F32, 2, (const int64_t[]){1, IN});
    ft_value x, y;
    type.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    ASSERT_OK(ft_graph_new(&g, &err));
    ASSERT_OK(ft_graph_input(g, "x", &type, &x, &err));
    ASSERT_OK(ft_graph_add1(g, FT_OP_TANH, times_weight(g, "one", x, (int[]){IN, WIDE}, 0.1F), &y, &err));
    ASSERT_OK(ft_graph_add1(g, FT_OP_TANH, times_weight(g, "two", y, (int[]){WIDE, WIDE}, 0.1F), &y, &err));
    ASSERT_OK(ft_graph_output(g, times_weight(g, "three", y, (int[]){WIDE, DIM}, 0.1F), "embedding", &err));
    return g;
}

static void the_price_of_a_plan_is_what_it_takes(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = network();
    struct ft_device *device = NULL;
    struct ft_plan_stats price;
    ft_value wanted = ft_graph_output_at(g, 0);
    for (int k = 0; k < 2; k++) {
        ASSERT_OK(ft_device_open(k == 0 ? "cpu" : "ref", 1, &device, &err));
        for (int64_t batch = 1; batch < 300; batch = batch * 3 + 1) {
            struct ft_plan_spec spec = {.symbols = {batch}, .wanted = &wanted, .n_wanted = 1};
            struct ft_plan *plan = NULL;
            size_t live = ft_alloc_stats().live_bytes;
            ASSERT_OK(ft_plan_price(device, g, &spec, &price, &err));
            assert_int_equal(ft_alloc_stats().live_bytes, live);
            ASSERT_OK(ft_plan_new(device, g, &spec, &plan, &err));
            struct ft_plan_stats is = ft_plan_stats(plan);
            assert_true(price.activation_bytes > 0 && price.scratch_bytes == 0);
            assert_int_equal(price.activation_bytes, is.activation_bytes);
            assert_int_equal(price.bound_bytes, is.bound_bytes);
            assert_int_equal(price.nodes, is.nodes);
            ft_plan_free(plan);
        }
        ft_device_close(device);
    }
    ft_graph_free(g);
}

/* All that a step takes is counted, and not much more: what is made and freed again is not in it. */
static void the_price_of_a_step_is_what_it_takes(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = network();
    struct ft_step_spec spec;
    memset(&spec, 0, sizeof spec);
    ASSERT_OK(ft_device_open("cpu", 1, &spec.device, &err));
    ASSERT_OK(ft_loss_parse("TripletMarginLoss", NULL, "none", NULL, &spec.loss, &err));
    spec.graph = g;
    for (int k = 0; k < 2; k++) {
        ASSERT_OK(ft_optim_parse(k == 0 ? "AdamW" : "SGD", NULL, &spec.optim, &err));
        for (spec.batch = 8; spec.batch <= 512; spec.batch *= 4) {
            struct ft_step *step = NULL;
            struct ft_step_cost cost;
            struct ft_memory_need need = {0};
            ASSERT_OK(ft_step_price(&spec, &cost, &err));
            size_t weights = ((size_t)IN * WIDE + WIDE * WIDE + WIDE * DIM) * sizeof(float);
            assert_int_equal(cost.weights, weights);
            assert_int_equal(cost.trained, weights);
            assert_int_equal(cost.optimizer, weights * (k == 0 ? 3 : 2));
            size_t live = ft_alloc_stats().live_bytes;
            ASSERT_OK(ft_step_new(&spec, &step, &err));
            size_t taken = ft_alloc_stats().live_bytes - live;
            size_t counted = cost.weights + cost.optimizer + cost.activations;
            /* The step's graph, plan and kernels themselves; packed weights, at most two of each. */
            assert_in_range(taken, counted, counted + 2 * weights + 1000000);
            ASSERT_OK(ft_step_need(&spec, &need, &err));
            assert_true(need.weights + need.optimizer + need.activations + 300000 >= taken);
            ft_step_free(step);
        }
    }
    ft_graph_free(g);
    ft_device_close(spec.device);
}

/* ---- kernels that take more memory than their operands */

enum { CHANNELS = 128, SIDE = 12, CONVOLUTIONS = 3 };
static const char *const names[CONVOLUTIONS] = {"one", "two", "three"};

static struct ft_graph *convolutions(void)
{
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    ft_value x, w;
    struct ft_attrs flat = no_attrs();
    struct ft_attrs mean = no_attrs();
    struct ft_type type = batched(shape(4, 1, CHANNELS, SIDE, SIDE));
    struct ft_type weight = shape(4, CHANNELS, CHANNELS, 3, 3);
    static float data[CHANNELS * CHANNELS * 9];
    ASSERT_OK(ft_graph_new(&g, &err));
    ASSERT_OK(ft_graph_input(g, "x", &type, &x, &err));
    for (int i = 0; i < CONVOLUTIONS; i++) {
        ASSERT_OK(ft_graph_param(g, names[i], &weight, FT_PARAM_WEIGHT, data, &w, &err));
        x = node(g, FT_OP_RELU, no_attrs(), 1, node(g, FT_OP_CONV, window2(3, 1, 1), 2, x, w));
    }
    mean.axes_count = 2;
    mean.axes[0] = 2;
    mean.axes[1] = 3;
    flat.shape_rank = 2;
    flat.shape[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    flat.shape[1] = ft_dim_of(CHANNELS);
    x = node(g, FT_OP_RESHAPE, flat, 1, node(g, FT_OP_REDUCE_MEAN, mean, 1, x));
    ASSERT_OK(ft_graph_output(g, x, "embedding", &err));
    return g;
}

static struct ft_device *winograd_device(void)
{
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    ASSERT_OK(ft_device_open("cpu", 2, &device, &err));
    ft_cpu_of(device)->direct = FT_CPU_WINOGRAD_ALWAYS;
    return device;
}

/* Weights transformed for winograd.h, which are 4 times the weights, and its scratch. */
static void transformed_weights_are_in_the_price_of_an_encoder(void **state)
{
    (void)state;
    enum { BATCH = 2, INPUT = BATCH * CHANNELS * SIDE * SIDE };
    static float x[INPUT];
    struct ft_err err = {0};
    struct ft_graph *g = convolutions();
    struct ft_device *device = winograd_device();
    struct ft_plan *plan = NULL;
    struct ft_params params;
    size_t price = 0;
    ft_value wanted = ft_graph_output_at(g, 0);
    const struct ft_plan_spec spec = {.symbols = {BATCH}, .wanted = &wanted, .n_wanted = 1};
    ASSERT_OK(ft_encoder_price(device, g, BATCH, 0, &price, &err));
    size_t live = ft_alloc_stats().live_bytes;
    ASSERT_OK(ft_params_init(&params, device, g, NULL, &err));
    ASSERT_OK(ft_plan_new(device, g, &spec, &plan, &err));
    ASSERT_OK(ft_plan_bind(plan, ft_graph_input_at(g, 0), x, &err));
    ASSERT_OK(ft_params_bind(&params, plan, g, NULL, &err));
    ft_params_show(&params, plan);
    ASSERT_OK(ft_plan_run(plan, &err));
    size_t taken = ft_alloc_stats().live_bytes - live;
    size_t weights = (size_t)CONVOLUTIONS * CHANNELS * CHANNELS * 9 * sizeof(float);
    assert_true(taken > 5 * weights);
    assert_in_range(price + 300000, taken, taken + weights + 1000000);
    ft_plan_free(plan);
    ft_params_release(&params);
    ft_graph_free(g);
    ft_device_close(device);
}

static void transformed_weights_are_in_the_price_of_a_step(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = convolutions();
    struct ft_step_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.device = winograd_device();
    spec.graph = g;
    ASSERT_OK(ft_loss_parse("TripletMarginLoss", NULL, "none", NULL, &spec.loss, &err));
    ASSERT_OK(ft_optim_parse("AdamW", NULL, &spec.optim, &err));
    for (spec.batch = 8; spec.batch <= 32; spec.batch *= 2) {
        struct ft_step *step = NULL;
        struct ft_memory_need need = {0};
        ASSERT_OK(ft_step_need(&spec, &need, &err));
        size_t live = ft_alloc_stats().live_bytes;
        ASSERT_OK(ft_step_new(&spec, &step, &err));
        size_t taken = ft_alloc_stats().live_bytes - live;
        assert_in_range(need.weights + need.optimizer + need.activations + 300000, taken, taken + taken / 4);
        ft_step_free(step);
    }
    ft_graph_free(g);
    ft_device_close(spec.device);
}

static void sizes_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; /* -1: refused */
    } cases[] = {{"0", 0},
                 {"4096", 4096},
                 {"1K", 1024},
                 {"512M", 512LL << 20},
                 {"8g", 8LL << 30},
                 {"1T", 1LL << 40},
                 {"", -1},
                 {"M", -1},
                 {"5X", -1},
                 {"5MB", -1},
                 {"-1", -1},
                 {"1.5G", -1},
                 {" 1", -1},
                 {"9223372036854775807", INT64_MAX},
                 {"9223372036854775808", -1},
                 {"9007199254740992K", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t bytes = -1;
        bool read = ft_size_parse(cases[i].text, &bytes);
        assert_int_equal(read, cases[i].bytes >= 0);
        assert_int_equal(bytes, cases[i].bytes);
    }
}

static void the_limit_of_memory_is_some(void **state)
{
    (void)state;
    size_t limit = ft_memory_limit();
    assert_true(limit > ft_alloc_stats().live_bytes);
    assert_true(limit < (size_t)1 << 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_price_of_a_plan_is_what_it_takes),
        cmocka_unit_test(the_price_of_a_step_is_what_it_takes),
        cmocka_unit_test(transformed_weights_are_in_the_price_of_an_encoder),
        cmocka_unit_test(transformed_weights_are_in_the_price_of_a_step),
        cmocka_unit_test(sizes_are_read),
        cmocka_unit_test(the_limit_of_memory_is_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
