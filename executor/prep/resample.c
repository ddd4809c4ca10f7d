#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/prep/resample.h"

/* Pillow's src/libImaging/Resample.c for 8 bits per channel, in its order of operations: weights in double,
 * then whole numbers. */

/* ---- filters ---- */

static double box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming(double x)
{
    x = fabs(x);
    if (x == 0.0) {
        return 1.0;
    }
    if (x >= 1.0) {
        return 0.0;
    }
    x *= 3.14159265358979323846;
    return sin(x) / x * ((double)0.54F + (double)0.46F * cos(x));
}

/* Keys' cubic with a = -0.5. */
static double bicubic(double x)
{
    static const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

static double sinc(double x)
{
    if (x == 0.0) {
        return 1.0;
    }
    x *= 3.14159265358979323846;
    return sin(x) / x;
}

static double lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static const struct filter {
    double (*at)(double x);
    double support;
} filters[] = {
    [FT_FILTER_BILINEAR] = {bilinear, 1.0}, [FT_FILTER_BICUBIC] = {bicubic, 2.0},
    [FT_FILTER_BOX] = {box, 0.5},           [FT_FILTER_HAMMING] = {hamming, 1.0},
    [FT_FILTER_LANCZOS] = {lanczos, 3.0},
};

/* ---- weights ---- */

static void taps_release(struct ft_taps *taps)
{
    ft_free(taps->first);
    ft_free(taps->count);
    ft_free(taps->weights);
}

/* Weights of one output pixel: normalised in double, then rounded away from zero to FT_TAP_BITS. */
static void fill_taps(struct ft_taps *t, double *w, int64_t i, int64_t in_size, double scale,
                      const struct filter *filter)
{
    double widened = scale < 1.0 ? 1.0 : scale;
    double support = filter->support * widened;
    double center = ((double)i + 0.5) * scale;
    double sum = 0.0;
    double inverse = 1.0 / widened;
    int64_t first = (int64_t)(center - support + 0.5);
    int64_t last = (int64_t)(center + support + 0.5);
    first = first < 0 ? 0 : first;
    last = last > in_size ? in_size : last;
    for (int64_t x = 0; x < last - first; x++) {
        w[x] = filter->at(((double)(x + first) - center + 0.5) * inverse);
        sum += w[x];
    }
    int32_t *out = t->weights + (size_t)i * t->stride;
    for (int64_t x = 0; x < last - first; x++) {
        double k = sum != 0.0 ? w[x] / sum : w[x];
        out[x] = (int32_t)((k < 0 ? -0.5 : 0.5) + k * (1 << FT_TAP_BITS));
    }
    t->first[i] = (int32_t)first;
    t->count[i] = (int32_t)(last - first);
}

static enum ft_status make_taps(int64_t in_size, int64_t out_size, enum ft_filter filter,
                                struct ft_taps *taps, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    double *w = NULL;
    double scale = (double)in_size / (double)out_size;
    double support = filters[filter].support * (scale < 1.0 ? 1.0 : scale);
    size_t n = (size_t)out_size;
    *taps = (struct ft_taps){.stride = (size_t)ceil(support) * 2 + 1};
    FT_TRY(ft_new(taps->stride, sizeof *w, &w, err));
    FT_TRY(ft_new(n, sizeof *taps->first, &taps->first, err));
    FT_TRY(ft_new(n, sizeof *taps->count, &taps->count, err));
    size_t total = 0;
    if (!ft_mul_size(n, taps->stride, &total)) {
        st = FT_FAIL(err, LIMIT, "an image side of %lld pixels is too large", (long long)in_size);
        goto done;
    }
    FT_TRY(ft_new(total, sizeof *taps->weights, &taps->weights, err));
    for (int64_t i = 0; i < out_size; i++) {
        fill_taps(taps, w, i, in_size, scale, &filters[filter]);
    }
done:
    ft_free(w);
    if (st != FT_OK) {
        taps_release(taps);
        *taps = (struct ft_taps){0};
    }
    return st;
}

/* ---- passes ---- */

static const struct ft_resample *resample_of_this_processor(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        return &ft_resample_avx2;
    }
#endif
    return &ft_resample_base;
}

static enum ft_status one_pass(const struct ft_pixels *in, bool down, int64_t size, enum ft_filter filter,
                               struct ft_pixels *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_taps taps = {0};
    uint8_t *strip = NULL;
    const struct ft_resample *run = resample_of_this_processor();
    /* The pixels first: their limit keeps the weights small too. */
    FT_TRY(ft_pixels_new(down ? size : in->height, down ? in->width : size, in->channels, out, err));
    FT_TRY(make_taps(down ? in->height : in->width, size, filter, &taps, err));
    if (down) {
        run->columns(in, &taps, out);
    } else {
        FT_TRY(ft_new((size_t)in->width * (size_t)in->channels, FT_STRIP, &strip, err));
        run->rows(in, &taps, strip, out);
    }
done:
    taps_release(&taps);
    ft_free(strip);
    if (st != FT_OK) {
        ft_pixels_release(out);
    }
    return st;
}

/* ---- nearest: Pillow's Geometry.c, which adds the step up instead of multiplying ---- */

static enum ft_status pick_nearest(int64_t in_size, int64_t out_size, int64_t **picks, struct ft_err *err)
{
    double step = (double)in_size / (double)out_size;
    double at = step * 0.5;
    FT_RETURN_IF_FAILED(ft_new((size_t)out_size, sizeof **picks, picks, err));
    for (int64_t i = 0; i < out_size; i++, at += step) {
        int64_t pick = (int64_t)at;
        (*picks)[i] = pick < in_size ? pick : -1;
    }
    return FT_OK;
}

static enum ft_status nearest(const struct ft_pixels *in, int64_t height, int64_t width,
                              struct ft_pixels *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int64_t *xs = NULL;
    int64_t *ys = NULL;
    size_t c = (size_t)in->channels;
    FT_TRY(ft_pixels_new(height, width, in->channels, out, err));
    FT_TRY(pick_nearest(in->width, width, &xs, err));
    FT_TRY(pick_nearest(in->height, height, &ys, err));
    uint8_t *to = out->data;
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++, to += c) {
            if (ys[y] < 0 || xs[x] < 0) {
                memset(to, 0, c);
            } else {
                memcpy(to, in->data + (size_t)(ys[y] * in->width + xs[x]) * c, c);
            }
        }
    }
done:
    ft_free(xs);
    ft_free(ys);
    if (st != FT_OK) {
        ft_pixels_release(out);
    }
    return st;
}

enum ft_status ft_pixels_resize(const struct ft_pixels *in, int64_t height, int64_t width,
                                enum ft_filter filter, struct ft_pixels *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pixels between = {0};
    *out = (struct ft_pixels){0};
    if (height == in->height && width == in->width) {
        return ft_pixels_window(in, 0, 0, height, width, out, err);
    }
    if (filter == FT_FILTER_NEAREST) {
        return nearest(in, height, width, out, err);
    }
    if (height == in->height || width == in->width) {
        return one_pass(in, width == in->width, width == in->width ? height : width, filter, out, err);
    }
    /* Pillow 13 takes the vertical pass first when the height shrinks much more than the width. The order
     * shows: values are rounded and clipped to 8 bits between the passes. */
    int64_t shrink = in->height - height;
    bool down_first = shrink > 0 && shrink > 2 * (in->width - width);
    FT_TRY(one_pass(in, down_first, down_first ? height : width, filter, &between, err));
    FT_TRY(one_pass(&between, !down_first, down_first ? width : height, filter, out, err));
done:
    ft_pixels_release(&between);
    return st;
}
