/*
 * train_test.h - small networks and samplers that several tests of train/ are about.
 */
#ifndef FT_TESTS_TRAIN_TEST_H
#define FT_TESTS_TRAIN_TEST_H

#include "tests/support.h"

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "executor/graph/graph.h"
#include "executor/store/dataset.h"
#include "executor/train/sampler.h"

/* x (N, from) times a weight called `name`, of normal numbers times `scale`. */
static inline ft_value times_weight(struct ft_graph *g, const char *name, ft_value x, const int extents[2],
                                    float scale)
{
    struct ft_err err = {0};
    struct ft_attrs a;
    float *data = NULL;
    struct ft_type type = ft_type_of(FT_F32, 2, (const int64_t[]){extents[0], extents[1]});
    size_t count = (size_t)ft_elements(&type);
    ft_value in[2] = {x, FT_NO_VALUE};
    ft_value out = FT_NO_VALUE;
    memset(&a, 0, sizeof a);
    a.alpha = 1.0F;
    ASSERT_OK(ft_new(count, sizeof *data, &data, &err));
    for (size_t i = 0; i < count; i++) {
        data[i] = scale * (float)ft_rand_normal(ft_rand_at(5, FT_RAND_TEST, (uint64_t)extents[1]), i);
    }
    ASSERT_OK(ft_graph_param(g, name, &type, FT_PARAM_WEIGHT, data, &in[1], &err));
    ASSERT_OK(ft_graph_add(g, FT_OP_MATMUL, &a, in, 2, name, &out, &err));
    ft_free(data);
    return out;
}

/* Batches of 24 as 6 labels x 4, from a data set of 6 labels. */
static inline struct ft_sampler *sampler_of(const struct ft_dataset *data, struct ft_sampler_shape *shape)
{
    struct ft_err err = {0};
    struct ft_sampler *sampler = NULL;
    struct ft_sampler_classes classes = ft_sampler_classes_of(data);
    ASSERT_OK(ft_sampler_fit_shape(&classes, 24, 4, shape, &err));
    ASSERT_OK(ft_sampler_new(&classes, shape, 3, &sampler, &err));
    return sampler;
}
#endif
