/*
 * plan_networks.h - the networks of test_plan.c: forward and backward graphs with weights.
 */
#ifndef FT_TESTS_PLAN_NETWORKS_H
#define FT_TESTS_PLAN_NETWORKS_H

#include <math.h>

#include "tests/graph_test.h"

enum { MAX_VALUES = 64, BATCH = 8, SIDE = 16, CLASSES = 3 };

/* ---- a network and its gradients */

struct network {
    struct ft_graph *g;
    ft_value x, labels;
    ft_value loss, embedding;
    ft_value wanted[MAX_VALUES]; /* loss, embedding, new statistics, gradients */
    int n_wanted;
    uint64_t drawn;
};

static inline ft_value parameter(struct network *net, struct ft_type t, enum ft_param_role role, double lo,
                                 double hi)
{
    struct ft_err err = {0};
    struct ft_rand r = ft_rand_at(7, FT_RAND_TEST, 1);
    int64_t count = ft_elements(&t);
    float *data = ft_alloc((size_t)count * sizeof *data);
    ft_value v = FT_NO_VALUE;
    for (int64_t i = 0; i < count; i++) {
        data[i] = (float)test_uniform(r, net->drawn++, lo, hi);
    }
    OK(ft_graph_param(net->g, "", &t, role, data, &v, &err));
    ft_free(data);
    return v;
}

static inline ft_value conv_block(struct network *net, ft_value x, int from, int to)
{
    struct ft_attrs bn = no_attrs();
    bn.eps = 1e-5F;
    bn.momentum = 0.1F;
    double bound = 1 / sqrt(9.0 * from);
    ft_value w = parameter(net, shape(4, to, from, 3, 3), FT_PARAM_WEIGHT, -bound, bound);
    ft_value b = parameter(net, shape(1, to), FT_PARAM_WEIGHT, -bound, bound);
    x = node(net->g, FT_OP_CONV, window2(3, 1, 1), 3, x, w, b);
    ft_value scale = parameter(net, shape(1, to), FT_PARAM_WEIGHT, 0.5, 1.5);
    ft_value shift = parameter(net, shape(1, to), FT_PARAM_WEIGHT, -0.5, 0.5);
    ft_value mean = parameter(net, shape(1, to), FT_PARAM_STATE, -0.1, 0.1);
    ft_value var = parameter(net, shape(1, to), FT_PARAM_STATE, 0.9, 1.1);
    x = node(net->g, FT_OP_BATCHNORM, bn, 5, x, scale, shift, mean, var);
    x = node(net->g, FT_OP_RELU, no_attrs(), 1, x);
    return node(net->g, FT_OP_MAXPOOL, window2(2, 2, 0), 1, x);
}

static inline struct ft_attrs mean_attrs(void)
{
    struct ft_attrs a = no_attrs();
    a.axes_count = 2;
    a.axes[0] = 2;
    a.axes[1] = 3;
    a.keepdims = 1;
    return a;
}

static inline struct ft_attrs flat_attrs(int64_t width)
{
    struct ft_attrs a = no_attrs();
    a.shape_rank = 2;
    a.shape[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    a.shape[1] = ft_dim_of(width);
    return a;
}

/* Three blocks, global mean, linear, normalised: evaluation form, embedding as the only output. */
static inline void build_backbone(struct network *net)
{
    struct ft_err err = {0};
    struct ft_attrs norm = no_attrs();
    struct ft_attrs linear = with_alpha(1.0F);
    struct ft_type t = batched(shape(4, 1, 3, SIDE, SIDE));
    memset(net, 0, sizeof *net);
    norm.eps = 1e-12F;
    linear.trans_b = 1;
    OK(ft_graph_new(&net->g, &err));
    OK(ft_graph_input(net->g, "x", &t, &net->x, &err));
    ft_value h = conv_block(net, net->x, 3, 8);
    h = conv_block(net, h, 8, 16);
    h = conv_block(net, h, 16, 24);
    h = node(net->g, FT_OP_REDUCE_MEAN, mean_attrs(), 1, h);
    h = node(net->g, FT_OP_RESHAPE, flat_attrs(24), 1, h);
    ft_value w = parameter(net, shape(2, 12, 24), FT_PARAM_WEIGHT, -0.2, 0.2);
    ft_value b = parameter(net, shape(1, 12), FT_PARAM_WEIGHT, -0.2, 0.2);
    h = node(net->g, FT_OP_MATMUL, linear, 3, h, w, b);
    net->embedding = node(net->g, FT_OP_L2_NORMALIZE, norm, 1, h);
    OK(ft_graph_output(net->g, net->embedding, "embedding", &err));
}

/* The training graph: batch statistics, triplet loss, gradients of all weights. */
static inline void build_training(struct network *net)
{
    struct ft_err err = {0};
    struct network eval;
    struct ft_train_form form;
    struct ft_attrs a = no_attrs();
    struct ft_type lt = batched(shape(1, 1));
    ft_value wrt[MAX_VALUES];
    int n = 0;
    build_backbone(&eval);
    OK(ft_graph_train_form(eval.g, -1, &form, &err));
    ft_graph_free(eval.g);
    memset(net, 0, sizeof *net);
    net->g = form.graph;
    net->x = ft_graph_input_at(net->g, 0);
    net->embedding = ft_graph_output_at(net->g, 0);
    lt.dtype = FT_I32;
    OK(ft_graph_input(net->g, "labels", &lt, &net->labels, &err));
    ft_value d = node(net->g, FT_OP_PDIST, no_attrs(), 2, net->embedding, net->embedding);
    a.margin = 0.3F;
    a.miner = FT_MINER_NONE;
    net->loss = node(net->g, FT_OP_TRIPLET, a, 4, d, d, net->labels, net->labels);
    for (int p = 0; p < ft_graph_params(net->g); p++) {
        if (ft_graph_param_role(net->g, p) == FT_PARAM_WEIGHT) {
            wrt[n++] = ft_graph_param_at(net->g, p);
        }
    }
    net->wanted[net->n_wanted++] = net->loss;
    net->wanted[net->n_wanted++] = net->embedding;
    assert_int_equal(form.n_updates, 6);
    for (int i = 0; i < form.n_updates; i++) {
        net->wanted[net->n_wanted++] = form.updates[i].value;
    }
    OK(ft_graph_backward(net->g, net->loss, wrt, n, net->wanted + net->n_wanted, &err));
    net->n_wanted += n;
    ft_free(form.updates);
}

/* What plain networks do not have: residual sums, gates broadcast from (N, C, 1, 1) and (C, 1, 1),
 * concatenation, slices, dropout and a transposition, in channels-last and row-major in turn; all gradients,
 * x's too. */
static inline void build_mixed(struct network *net)
{
    struct ft_err err = {0};
    struct ft_type t = batched(shape(4, 1, 4, 6, 6));
    struct ft_type rng_type = shape(1, 2);
    struct ft_attrs a = no_attrs();
    ft_value wrt[MAX_VALUES];
    ft_value rng = FT_NO_VALUE;
    const int64_t rng_state[2] = {5, 6};
    int n = 0;
    memset(net, 0, sizeof *net);
    rng_type.dtype = FT_I64;
    OK(ft_graph_new(&net->g, &err));
    OK(ft_graph_input(net->g, "x", &t, &net->x, &err));
    OK(ft_graph_const(net->g, "rng", &rng_type, rng_state, &rng, &err));
    struct ft_attrs grouped = window2(3, 1, 1);
    grouped.group = 4;
    ft_value w1 = parameter(net, shape(4, 8, 4, 3, 3), FT_PARAM_WEIGHT, -0.3, 0.3);
    ft_value w2 = parameter(net, shape(4, 8, 2, 3, 3), FT_PARAM_WEIGHT, -0.3, 0.3);
    ft_value gain = parameter(net, shape(3, 8, 1, 1), FT_PARAM_WEIGHT, 0.5, 1.5);
    ft_value last = parameter(net, shape(2, 12, 5), FT_PARAM_WEIGHT, -0.5, 0.5);
    ft_value h = node(net->g, FT_OP_CONV, window2(3, 1, 1), 2, net->x, w1);
    h = node(net->g, FT_OP_TANH, no_attrs(), 1, h);
    ft_value r = node(net->g, FT_OP_CONV, grouped, 2, h, w2);
    r = node(net->g, FT_OP_ADD, no_attrs(), 2, r, h);
    ft_value gate =
        node(net->g, FT_OP_SIGMOID, no_attrs(), 1, node(net->g, FT_OP_REDUCE_MEAN, mean_attrs(), 1, r));
    r = node(net->g, FT_OP_MUL, no_attrs(), 2, r, gate);
    r = node(net->g, FT_OP_MUL, no_attrs(), 2, r, gain);
    a.axis = 1;
    r = node(net->g, FT_OP_CONCAT, a, 2, r, h);
    a.start = 3;
    a.count = 12;
    r = node(net->g, FT_OP_SLICE, a, 1, r);
    struct ft_attrs drop = with_alpha(0.25F);
    drop.node = 1;
    r = node(net->g, FT_OP_DROPOUT, drop, 2, r, rng);
    r = node(net->g, FT_OP_AVGPOOL, window2(2, 2, 0), 1, r);
    struct ft_attrs last_axis = no_attrs();
    last_axis.perm[1] = 2;
    last_axis.perm[2] = 3;
    last_axis.perm[3] = 1;
    r = node(net->g, FT_OP_TRANSPOSE, last_axis, 1, r);
    r = node(net->g, FT_OP_MATMUL, with_alpha(0.5F), 2, r, last);
    struct ft_attrs inner = no_attrs();
    inner.axis = 2;
    net->embedding = node(net->g, FT_OP_SOFTMAX, inner, 1, r);
    net->loss = node(net->g, FT_OP_SUM_SQUARES, no_attrs(), 1, net->embedding);
    wrt[n++] = net->x;
    for (int p = 0; p < ft_graph_params(net->g); p++) {
        wrt[n++] = ft_graph_param_at(net->g, p);
    }
    net->wanted[net->n_wanted++] = net->loss;
    net->wanted[net->n_wanted++] = net->embedding;
    net->wanted[net->n_wanted++] = h;
    net->wanted[net->n_wanted++] = gate;
    OK(ft_graph_backward(net->g, net->loss, wrt, n, net->wanted + net->n_wanted, &err));
    net->n_wanted += n;
}

/* A plan is made for `rows` or, for want of any block of memory, refused without a leak. */
static inline void check_plan_memory(struct network *net, int rows, enum ft_precision precision)
{
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    struct ft_plan *plan = NULL;
    struct ft_plan_spec spec = {.symbols = {rows}, .wanted = net->wanted, .n_wanted = net->n_wanted};
    enum ft_status st = FT_NOMEM;
    OK(ft_device_open("cpu", 1, &device, &err));
    OK(ft_device_set_precision(device, precision, &err));
    size_t live = ft_alloc_stats().live_blocks;
    for (uint64_t n = 1; st != FT_OK; n++) {
        ft_alloc_fail_at(n);
        st = ft_plan_new(device, net->g, &spec, &plan, &err);
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || (st == FT_NOMEM && plan == NULL));
        ft_plan_free(plan);
        plan = NULL;
        assert_int_equal(ft_alloc_stats().live_blocks, live);
    }
    ft_device_close(device);
}
#endif
