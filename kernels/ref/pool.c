#include "kernels/ref/ref.h"

#include <math.h>

/* Position `index` of the pooled tensor: which plane of x, and where its window starts. */
struct place {
    int64_t plane, h, w;
};

static struct place place_of(const struct ft_ref_window *g, int64_t index)
{
    struct place p;
    p.w = index % g->out[1] * g->stride[1] - g->pad_begin[1];
    p.h = index / g->out[1] % g->out[0] * g->stride[0] - g->pad_begin[0];
    p.plane = index / (g->out[1] * g->out[0]);
    return p;
}

/* Coordinates of a tap; false: outside x. */
static bool tap_at(const struct ft_ref_window *g, struct place p, int64_t tap, int64_t *h, int64_t *w)
{
    *h = p.h + tap / g->kernel[1] * g->dilation[0];
    *w = p.w + tap % g->kernel[1] * g->dilation[1];
    return *h >= 0 && *h < g->in[0] && *w >= 0 && *w < g->in[1];
}

static void run_maxpool(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct ft_ref_window g = ft_ref_window_of(&k->attrs.window, &k->in[0], &k->out[0]);
    const double *x = in[0].data;
    double *y = out[0].data;
    int32_t *where = out[1].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        struct place p = place_of(&g, i);
        const double *plane = &x[p.plane * g.in[0] * g.in[1]];
        int64_t best = -1;
        for (int64_t tap = 0; tap < g.kernel[0] * g.kernel[1]; tap++) {
            int64_t h = 0;
            int64_t w = 0;
            if (!tap_at(&g, p, tap, &h, &w)) {
                continue;
            }
            int64_t at = h * g.in[1] + w;
            if (best < 0 || plane[at] > plane[best] || isnan(plane[at])) {
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
        dx[i / (g.out[0] * g.out[1]) * g.in[0] * g.in[1] + where[i]] += dy[i];
    }
}
FT_REF_ROW(maxpool_bwd, run_maxpool_bwd)

static double divisor(const struct ft_ref_window *g, struct place p, bool include_pad)
{
    double taps = 0.0;
    for (int64_t tap = 0; tap < g->kernel[0] * g->kernel[1]; tap++) {
        int64_t h = 0;
        int64_t w = 0;
        bool inside = tap_at(g, p, tap, &h, &w);
        bool padded = h < g->in[0] + g->pad_end[0] && w < g->in[1] + g->pad_end[1];
        taps += inside || (include_pad && padded) ? 1.0 : 0.0;
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
        struct place p = place_of(&g, i);
        double sum = 0.0;
        for (int64_t tap = 0; tap < g.kernel[0] * g.kernel[1]; tap++) {
            int64_t h = 0;
            int64_t w = 0;
            if (tap_at(&g, p, tap, &h, &w)) {
                sum += x[(p.plane * g.in[0] + h) * g.in[1] + w];
            }
        }
        y[i] = sum / divisor(&g, p, k->attrs.count_include_pad != 0);
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
        struct place p = place_of(&g, i);
        double each = dy[i] / divisor(&g, p, k->attrs.count_include_pad != 0);
        for (int64_t tap = 0; tap < g.kernel[0] * g.kernel[1]; tap++) {
            int64_t h = 0;
            int64_t w = 0;
            if (tap_at(&g, p, tap, &h, &w)) {
                dx[(p.plane * g.in[0] + h) * g.in[1] + w] += each;
            }
        }
    }
}
FT_REF_ROW(avgpool_bwd, run_avgpool_bwd)
