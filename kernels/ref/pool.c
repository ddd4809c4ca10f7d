#include "kernels/ref/ref.h"

#include <math.h>

static void run_maxpool(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct ft_ref_window g = ft_ref_window_of(&k->attrs.window, &k->in[0], &k->out[0]);
    const double *x = in[0].data;
    double *y = out[0].data;
    int32_t *where = out[1].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        const double *plane = &x[i / g.out_plane * g.in_plane];
        int64_t best = -1;
        for (int64_t tap = 0; tap < g.taps; tap++) {
            bool counted = false;
            int64_t at = ft_ref_tap(&g, i % g.out_plane, tap, &counted);
            if (at >= 0 && (best < 0 || plane[at] > plane[best] || isnan(plane[at]))) {
                best = at;
            }
        }
        y[i] = plane[best];
        where[i] = (int32_t)best;
    }
}
FT_REF_ROW(maxpool, run_maxpool)

static void run_maxpool_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct ft_ref_window g = ft_ref_window_of(&k->attrs.window, &k->in[2], &k->in[0]);
    const double *dy = in[0].data;
    const int32_t *where = in[1].data;
    double *dx = out[0].data;
    ft_ref_zero(&k->out[0], dx);
    int64_t count = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < count; i++) {
        dx[i / g.out_plane * g.in_plane + where[i]] += dy[i];
    }
}
FT_REF_ROW(maxpool_bwd, run_maxpool_bwd)

static double divisor(const struct ft_ref_window *g, int64_t o, bool include_pad)
{
    double taps = 0.0;
    for (int64_t tap = 0; tap < g->taps; tap++) {
        bool counted = false;
        bool inside = ft_ref_tap(g, o, tap, &counted) >= 0;
        taps += inside || (include_pad && counted) ? 1.0 : 0.0;
    }
    return taps;
}

static void run_avgpool(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct ft_ref_window g = ft_ref_window_of(&k->attrs.window, &k->in[0], &k->out[0]);
    const double *x = in[0].data;
    double *y = out[0].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t o = i % g.out_plane;
        double sum = 0.0;
        for (int64_t tap = 0; tap < g.taps; tap++) {
            bool counted = false;
            int64_t at = ft_ref_tap(&g, o, tap, &counted);
            sum += at >= 0 ? x[i / g.out_plane * g.in_plane + at] : 0.0;
        }
        y[i] = sum / divisor(&g, o, k->attrs.count_include_pad != 0);
    }
}
FT_REF_ROW(avgpool, run_avgpool)

static void run_avgpool_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct ft_ref_window g = ft_ref_window_of(&k->attrs.window, &k->in[1], &k->in[0]);
    const double *dy = in[0].data;
    double *dx = out[0].data;
    ft_ref_zero(&k->out[0], dx);
    int64_t count = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t o = i % g.out_plane;
        double each = dy[i] / divisor(&g, o, k->attrs.count_include_pad != 0);
        for (int64_t tap = 0; tap < g.taps; tap++) {
            bool counted = false;
            int64_t at = ft_ref_tap(&g, o, tap, &counted);
            if (at >= 0) {
                dx[i / g.out_plane * g.in_plane + at] += each;
            }
        }
    }
}
FT_REF_ROW(avgpool_bwd, run_avgpool_bwd)
