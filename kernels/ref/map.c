#include <math.h>

#include "kernels/ref/ref.h"

/* Functions of maps.def and their slopes, as they stand there. */

typedef double (*function)(double x, double a, double b);

#define FT_MAP(NAME, name, value, slope)                                                                     \
    static double value_##name(double x, double a, double b)                                                 \
    {                                                                                                        \
        (void)a;                                                                                             \
        (void)b;                                                                                             \
        return (value);                                                                                      \
    }                                                                                                        \
    static double slope_##name(double x, double a, double b)                                                 \
    {                                                                                                        \
        (void)x;                                                                                             \
        (void)a;                                                                                             \
        (void)b;                                                                                             \
        return (slope);                                                                                      \
    }
#include "kernels/maps.def"
#undef FT_MAP

static const struct {
    function value, slope;
} maps[FT_MAP_COUNT] = {
#define FT_MAP(NAME, name, value, slope) {value_##name, slope_##name},
#include "kernels/maps.def"
#undef FT_MAP
};

double ft_map_value(enum ft_map map, double x, double a, double b)
{
    return maps[map].value(x, a, b);
}

static void run_map(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *x = in[0].data;
    double *y = out[0].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        y[i] = maps[k->attrs.kind].value(x[i], (double)k->attrs.alpha, (double)k->attrs.beta);
    }
}
FT_REF_ROW(map, run_map)

static void run_map_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *dy = in[0].data;
    const double *x = in[1].data;
    double *dx = out[0].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        dx[i] = dy[i] * maps[k->attrs.kind].slope(x[i], (double)k->attrs.alpha, (double)k->attrs.beta);
    }
}
FT_REF_ROW(map_bwd, run_map_bwd)
