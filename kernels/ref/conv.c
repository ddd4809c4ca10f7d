#include "kernels/ref/ref.h"

/* The three convolution rows are one sum over the same (x, w, y) triples of indices; they differ in which of
 * the three is written. */
enum target { TO_Y, TO_X, TO_W };

struct conv {
    struct ft_ref_window window;
    int64_t images, channels, features, per_group, features_per_group;
};

static struct conv conv_of(const struct ft_attrs *a, const struct ft_type *x, const struct ft_type *w,
                           const struct ft_type *y)
{
    struct conv c = {.window = ft_ref_window_of(&a->window, x, y)};
    c.images = ft_extent(x, 0);
    c.channels = ft_extent(x, 1);
    c.features = ft_extent(w, 0);
    c.per_group = ft_extent(w, 1);
    c.features_per_group = c.features / a->group;
    return c;
}

/* One output position: image n, feature m, at o in its plane. */
static void one_position(const struct conv *c, int64_t position, double *x, double *w, double *y,
                         enum target target)
{
    const struct ft_ref_window *g = &c->window;
    int64_t o = position % g->out_plane;
    int64_t m = position / g->out_plane % c->features;
    int64_t n = position / (g->out_plane * c->features);
    int64_t taps = c->per_group * g->taps;
    for (int64_t tap = 0; tap < taps; tap++) {
        int64_t channel = m / c->features_per_group * c->per_group + tap / g->taps;
        bool counted = false;
        int64_t at = ft_ref_tap(g, o, tap % g->taps, &counted);
        if (at < 0) {
            continue;
        }
        double *xe = &x[(n * c->channels + channel) * g->in_plane + at];
        double *we = &w[m * taps + tap];
        switch (target) {
        case TO_Y:
            y[position] += *xe * *we;
            break;
        case TO_X:
            *xe += y[position] * *we;
            break;
        case TO_W:
            *we += y[position] * *xe;
            break;
        }
    }
}

static void all_positions(const struct conv *c, double *x, double *w, double *y, enum target target)
{
    int64_t positions = c->images * c->features * c->window.out_plane;
    for (int64_t i = 0; i < positions; i++) {
        one_position(c, i, x, w, y, target);
    }
}

static void run_conv(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct conv c = conv_of(&k->attrs, &k->in[0], &k->in[1], &k->out[0]);
    struct ft_ref_epilogue e = ft_ref_epilogue_of(k, in);
    double *y = out[0].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        y[i] = (e.bias != NULL ? e.bias[i / c.window.out_plane % c.features] : 0.0) +
               (e.residual != NULL ? e.residual[i] : 0.0);
    }
    all_positions(&c, in[0].data, in[1].data, y, TO_Y);
    for (int64_t i = 0; i < count; i++) {
        y[i] = ft_ref_act(&k->attrs, y[i]);
    }
}
FT_REF_ROW(conv, run_conv)

static void run_conv_bwd_data(const struct ft_ref_kernel *k, const struct ft_arg *in,
                              const struct ft_arg *out)
{
    struct conv c = conv_of(&k->attrs, &k->out[0], &k->in[1], &k->in[0]);
    ft_ref_zero(&k->out[0], out[0].data);
    all_positions(&c, out[0].data, in[1].data, in[0].data, TO_X);
}
FT_REF_ROW(conv_bwd_data, run_conv_bwd_data)

static void run_conv_bwd_weight(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                const struct ft_arg *out)
{
    struct conv c = conv_of(&k->attrs, &k->in[0], &k->in[2], &k->in[1]);
    ft_ref_zero(&k->out[0], out[0].data);
    all_positions(&c, in[0].data, out[0].data, in[1].data, TO_W);
}
FT_REF_ROW(conv_bwd_weight, run_conv_bwd_weight)
