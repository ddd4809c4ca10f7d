/*
 * kernel_cases_map.h - the calls of rows MAP and MAP_BWD: every function of maps.def; included by
 * kernel_cases_loss.h.
 */
#ifndef FT_TESTS_KERNEL_CASES_MAP_H
#define FT_TESTS_KERNEL_CASES_MAP_H

#include "kernel_cases.h"

/* Where a function is tested: the whole line, (-1, 1), above 1, away from 0, or points that include its
 * kinks. */
enum domain { LINE, UNIT, BEYOND_ONE, OFF_ZERO, KINKS };

struct map_case {
    enum ft_map map;
    enum domain domain;
    float a, b;
    double factor, floor;             /* of the value: roundings of a result of that size */
    double slope_factor, slope_floor; /* of the slope; factor 0: flat */
};

/* An IEEE operation rounds once. What `cpu` takes from the doubles of the row rounds once too. Polynomials
 * and exp_one() are good to a few ulps; 16 roundings are 1e-6 relative. A floor stands for the terms inside a
 * sum that may cancel. */
static const struct map_case map_cases[] = {
    {FT_MAP_ABS, KINKS, 0, 0, 0, 0, 1, 0},
    {FT_MAP_SIGN, KINKS, 0, 0, 0, 0, 0, 0},
    {FT_MAP_FLOOR, KINKS, 0, 0, 0, 0, 0, 0},
    {FT_MAP_CEIL, KINKS, 0, 0, 0, 0, 0, 0},
    {FT_MAP_ROUND, KINKS, 0, 0, 0, 0, 0, 0},
    {FT_MAP_FLOOR, LINE, 0, 0, 0, 0, 0, 0},
    {FT_MAP_CEIL, LINE, 0, 0, 0, 0, 0, 0},
    {FT_MAP_ROUND, LINE, 0, 0, 0, 0, 0, 0},
    {FT_MAP_RECIPROCAL, OFF_ZERO, 0, 0, 1, 0, 4, 0},
    {FT_MAP_SIN, LINE, 0, 0, 1, 0, 2, 0},
    {FT_MAP_COS, LINE, 0, 0, 1, 0, 2, 0},
    {FT_MAP_TAN, LINE, 0, 0, 1, 0, 2, 0},
    {FT_MAP_ASIN, UNIT, 0, 0, 1, 0, 2, 0},
    {FT_MAP_ACOS, UNIT, 0, 0, 1, 0, 2, 0},
    {FT_MAP_ATAN, LINE, 0, 0, 1, 0, 2, 0},
    {FT_MAP_SINH, LINE, 0, 0, 1, 0, 2, 0},
    {FT_MAP_COSH, LINE, 0, 0, 1, 0, 2, 0},
    {FT_MAP_ASINH, LINE, 0, 0, 1, 0, 2, 0},
    {FT_MAP_ACOSH, BEYOND_ONE, 0, 0, 1, 0, 2, 0},
    {FT_MAP_ATANH, UNIT, 0, 0, 1, 0, 2, 0},
    {FT_MAP_ERF, LINE, 0, 0, 8, 0, 24, 0}, /* exp(-x^2) knows x^2, up to 20, to an ulp */
    {FT_MAP_GELU, LINE, 0, 0, 24, 0, 24, 1},
    {FT_MAP_GELU_TANH, LINE, 0, 0, 48, 0, 48, 1}, /* z reaches 16 */
    {FT_MAP_ELU, LINE, 1.25F, 1, 12, 0, 16, 0},
    {FT_MAP_ELU, LINE, 1.6732632F, 1.0507010F, 12, 0, 16, 0},
    {FT_MAP_CELU, LINE, 0.75F, 0, 16, 0, 16, 0},
    {FT_MAP_SOFTPLUS, LINE, 0, 0, 16, 0, 16, 0},
    {FT_MAP_SOFTSIGN, LINE, 0, 0, 4, 0, 8, 0},
    {FT_MAP_MISH, LINE, 0, 0, 16, 0, 24, 1},
    {FT_MAP_SILU, LINE, 1, 0, 16, 0, 24, 1},
    {FT_MAP_SILU, LINE, 1.702F, 0, 24, 0, 24, 1},
    {FT_MAP_HARD_SIGMOID, KINKS, 0.25F, 0.5F, 2, 1, 1, 0},
    {FT_MAP_HARD_SIGMOID, LINE, 0.2F, 0.5F, 2, 1, 1, 0},
    {FT_MAP_HARD_SWISH, KINKS, 0, 0, 8, 0, 8, 1},
    {FT_MAP_HARD_SWISH, LINE, 0, 0, 8, 0, 8, 1},
    {FT_MAP_THRESHOLDED_RELU, KINKS, 0.5F, 0, 0, 0, 1, 0},
    {FT_MAP_SHRINK, KINKS, 0.5F, 0.75F, 1, 0, 1, 0},
};

static double in_domain(double x, enum domain domain)
{
    switch (domain) {
    case LINE:
    case KINKS:
        return x;
    case UNIT:
        return (double)(float)(0.96 * tanh(x));
    case BEYOND_ONE:
        return (double)(float)(1.125 + fabs(x));
    case OFF_ZERO:
        return x < 0 ? x - 0.125 : x + 0.125;
    }
    return x;
}

static void map_case(struct suite *s, const struct map_case *c, const struct ft_type *t, bool backward)
{
    struct kase k = backward ? kase_of(FT_OP_MAP_BWD, ELEMENT, c->slope_factor, c->slope_floor)
                             : kase_of(FT_OP_MAP, ELEMENT, c->factor, c->floor);
    double *x = random_values(s, t, 0, c->domain == KINKS ? GRID : NORMAL);
    for (int64_t i = 0; i < ft_elements(t); i++) {
        x[i] = (double)(float)in_domain(x[i], c->domain);
    }
    k.attrs.kind = (int)c->map;
    k.attrs.alpha = c->a;
    k.attrs.beta = c->b;
    if (backward) { /* of one size, so that the floor means something */
        kase_in(&k, *t, POSITIVE);
    }
    kase_given(&k, *t, x);
    check(s, &k);
    ft_free(x);
}

static void map_case_types(struct suite *s, bool backward)
{
    struct ft_type types[11];
    bool seen[FT_MAP_COUNT] = {false};
    int n = element_types(types);
    for (int i = 0; i < COUNT_OF(map_cases); i++) {
        seen[map_cases[i].map] = true;
        for (int t = 0; t < n && !(backward && map_cases[i].slope_factor == 0); t++) {
            map_case(s, &map_cases[i], &types[t], backward);
        }
    }
    for (int map = 0; map < FT_MAP_COUNT; map++) {
        if (!seen[map]) {
            fail_msg("%s has no case", ft_map_name((enum ft_map)map));
        }
    }
}

static void cases_map(struct suite *s)
{
    map_case_types(s, false);
}

static void cases_map_bwd(struct suite *s)
{
    map_case_types(s, true);
}

#endif
