/*
 * plan_test.h - plans of the networks in plan_networks.h, with memory for everything that they read, filled
 * from one seed. For tests/test_plan*.c.
 */
#ifndef FT_TESTS_PLAN_TEST_H
#define FT_TESTS_PLAN_TEST_H

#include <math.h>

#include "executor/graph/plan_internal.h"
#include "tests/plan_networks.h"

struct bound {
    struct ft_device *device;
    struct ft_plan *plan;
    void *memory[2 * MAX_VALUES];
    int n_memory;
};

static inline void fill(struct bound *b, const struct network *net, ft_value v, void *to)
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

static inline void bind_source(struct bound *b, const struct network *net, ft_value v)
{
    struct ft_err err = {0};
    void *data = NULL;
    OK(ft_device_alloc(b->device, ft_plan_bytes(b->plan, v), &data, &err));
    b->memory[b->n_memory++] = data;
    fill(b, net, v, data);
    OK(ft_plan_bind(b->plan, v, data, &err));
}

static inline void make_bound(struct bound *b, const struct network *net, const struct ft_plan_spec *spec,
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

static inline void open_bound(struct bound *b, const struct network *net, const char *device, unsigned flags)
{
    struct ft_err err = {0};
    struct ft_plan_spec spec = {.symbols = {BATCH}, .wanted = net->wanted, .n_wanted = net->n_wanted};
    memset(b, 0, sizeof *b);
    OK(ft_device_open(device, 2, &b->device, &err));
    make_bound(b, net, &spec, flags);
}

static inline void run(struct bound *b)
{
    struct ft_err err = {0};
    OK(ft_plan_run(b->plan, &err));
    OK(ft_device_wait(b->device, &err));
}

static inline void close_bound(struct bound *b)
{
    ft_plan_free(b->plan);
    for (int i = 0; i < b->n_memory; i++) {
        ft_device_free(b->device, b->memory[i]);
    }
    ft_device_close(b->device);
}

static inline void use_network(void (*build)(struct network *net), void (*check)(struct network *net))
{
    size_t live = ft_alloc_stats().live_blocks;
    struct network net;
    build(&net);
    check(&net);
    ft_graph_free(net.g);
    assert_int_equal(ft_alloc_stats().live_blocks, live);
}

/* Relative to the largest element of the tensor. Measured here: below 2e-6; 1e-4 is what the product
 * promises. */
static inline double worst_difference(const float *got, const double *want, size_t count)
{
    double largest = 0.01;
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs(want[i]));
        worst = fmax(worst, fabs((double)got[i] - want[i]));
    }
    return worst / largest;
}

static inline void compare_devices(struct network *net)
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

static inline void *copy_wanted(const struct bound *b, const struct network *net, size_t *size)
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

static inline void compare_runs(struct network *net)
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

/* A residual block as exporters write it, then TensorFlow's transpositions around a product over pixels. */
static inline void build_fusible(struct network *net)
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

struct small {
    struct ft_graph *g;
    struct ft_device *device;
    struct ft_plan *plan;
};

static inline void open_small(struct small *s, const char *device, const ft_value *wanted, int n)
{
    struct ft_err err = {0};
    struct ft_plan_spec spec = {.symbols = {2}, .wanted = wanted, .n_wanted = n};
    OK(ft_device_open(device, 1, &s->device, &err));
    OK(ft_plan_new(s->device, s->g, &spec, &s->plan, &err));
}

static inline void close_small(struct small *s)
{
    ft_plan_free(s->plan);
    ft_device_close(s->device);
    ft_graph_free(s->g);
}
#endif
