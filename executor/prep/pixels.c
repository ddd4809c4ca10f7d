#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"
#include "executor/prep/internal.h"

void ft_pixels_release(struct ft_pixels *pixels)
{
    ft_free(pixels->data);
    *pixels = (struct ft_pixels){0};
}

static enum ft_status check_size(int64_t height, int64_t width, struct ft_err *err)
{
    assert(height > 0 && width > 0);
    if (width > FT_MAX_IMAGE_PIXELS || height > FT_MAX_IMAGE_PIXELS / width) {
        return FT_FAIL(err, LIMIT, "an image of %lld x %lld pixels, more than %d", (long long)height,
                       (long long)width, FT_MAX_IMAGE_PIXELS);
    }
    return FT_OK;
}

enum ft_status ft_pixels_new(int64_t height, int64_t width, int channels, struct ft_pixels *pixels,
                             struct ft_err *err)
{
    *pixels = (struct ft_pixels){0};
    assert(channels > 0);
    FT_RETURN_IF_FAILED(check_size(height, width, err));
    size_t size = (size_t)height * (size_t)width * (size_t)channels;
    uint8_t *data = ft_alloc(size);
    if (data == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for %zu bytes of pixels", size);
    }
    *pixels = (struct ft_pixels){.data = data, .height = height, .width = width, .channels = channels};
    return FT_OK;
}

/* ---- resampling: Pillow's src/libImaging/Resample.c, 8 bits per channel ---- */

enum { PRECISION_BITS = 32 - 8 - 2 };

/* What output pixel i is made of: the inputs first[i] .. first[i] + count[i] - 1, weighted by weights[i *
 * stride ..]. */
struct taps {
    int32_t *first;
    int32_t *count;
    int32_t *weights;
    size_t stride;
};

static void taps_release(struct taps *taps)
{
    ft_free(taps->first);
    ft_free(taps->count);
    ft_free(taps->weights);
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic with a = -0.5, in the order of operations of Pillow's. */
static double bicubic(double x)
{
    static const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

static double weight_of(enum ft_filter filter, double x)
{
    switch (filter) {
    case FT_FILTER_BILINEAR:
        return bilinear(x);
    case FT_FILTER_BICUBIC:
        return bicubic(x);
    }
    return 0.0;
}

/* Weights of one output pixel: normalised in double, then rounded away from zero to PRECISION_BITS. */
static void fill_taps(struct taps *t, double *w, int64_t i, int64_t in_size, double scale,
                      enum ft_filter filter)
{
    double widened = scale < 1.0 ? 1.0 : scale;
    double support = (filter == FT_FILTER_BILINEAR ? 1.0 : 2.0) * widened;
    double center = ((double)i + 0.5) * scale;
    double sum = 0.0;
    double inverse = 1.0 / widened;
    int64_t first = (int64_t)(center - support + 0.5);
    int64_t last = (int64_t)(center + support + 0.5);
    first = first < 0 ? 0 : first;
    last = last > in_size ? in_size : last;
    for (int64_t x = 0; x < last - first; x++) {
        w[x] = weight_of(filter, ((double)(x + first) - center + 0.5) * inverse);
        sum += w[x];
    }
    int32_t *out = t->weights + (size_t)i * t->stride;
    for (int64_t x = 0; x < last - first; x++) {
        double k = sum != 0.0 ? w[x] / sum : w[x];
        out[x] = (int32_t)((k < 0 ? -0.5 : 0.5) + k * (1 << PRECISION_BITS));
    }
    t->first[i] = (int32_t)first;
    t->count[i] = (int32_t)(last - first);
}

static enum ft_status make_taps(int64_t in_size, int64_t out_size, enum ft_filter filter, struct taps *taps,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    double *w = NULL;
    double scale = (double)in_size / (double)out_size;
    double support = (filter == FT_FILTER_BILINEAR ? 1.0 : 2.0) * (scale < 1.0 ? 1.0 : scale);
    size_t n = (size_t)out_size;
    *taps = (struct taps){.stride = (size_t)ceil(support) * 2 + 1};
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
        fill_taps(taps, w, i, in_size, scale, filter);
    }
done:
    ft_free(w);
    if (st != FT_OK) {
        taps_release(taps);
        *taps = (struct taps){0};
    }
    return st;
}

static uint8_t clip8(int32_t sum)
{
    int32_t v = sum >> PRECISION_BITS; /* arithmetic shift, as Pillow's lookup index */
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void resize_rows(const struct ft_pixels *in, const struct taps *t, struct ft_pixels *out)
{
    size_t c = (size_t)in->channels;
    for (int64_t y = 0; y < in->height; y++) {
        const uint8_t *src = in->data + (size_t)y * (size_t)in->width * c;
        uint8_t *dst = out->data + (size_t)y * (size_t)out->width * c;
        for (int64_t x = 0; x < out->width; x++) {
            const int32_t *w = t->weights + (size_t)x * t->stride;
            const uint8_t *p = src + (size_t)t->first[x] * c;
            for (size_t k = 0; k < c; k++) {
                int32_t sum = 1 << (PRECISION_BITS - 1);
                for (int32_t i = 0; i < t->count[x]; i++) {
                    sum += p[(size_t)i * c + k] * w[i];
                }
                dst[(size_t)x * c + k] = clip8(sum);
            }
        }
    }
}

static void resize_columns(const struct ft_pixels *in, const struct taps *t, struct ft_pixels *out)
{
    size_t row = (size_t)in->width * (size_t)in->channels;
    for (int64_t y = 0; y < out->height; y++) {
        const int32_t *w = t->weights + (size_t)y * t->stride;
        const uint8_t *p = in->data + (size_t)t->first[y] * row;
        uint8_t *dst = out->data + (size_t)y * row;
        for (size_t x = 0; x < row; x++) {
            int32_t sum = 1 << (PRECISION_BITS - 1);
            for (int32_t i = 0; i < t->count[y]; i++) {
                sum += p[(size_t)i * row + x] * w[i];
            }
            dst[x] = clip8(sum);
        }
    }
}

static enum ft_status copy_pixels(const struct ft_pixels *in, struct ft_pixels *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_pixels_new(in->height, in->width, in->channels, out, err));
    memcpy(out->data, in->data, (size_t)in->height * (size_t)in->width * (size_t)in->channels);
    return FT_OK;
}

static enum ft_status one_pass(const struct ft_pixels *in, bool down, int64_t size, enum ft_filter filter,
                               struct ft_pixels *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct taps taps = {0};
    /* The pixels first: their limit keeps the weights small too. */
    FT_TRY(ft_pixels_new(down ? size : in->height, down ? in->width : size, in->channels, out, err));
    FT_TRY(make_taps(down ? in->height : in->width, size, filter, &taps, err));
    if (down) {
        resize_columns(in, &taps, out);
    } else {
        resize_rows(in, &taps, out);
    }
done:
    taps_release(&taps);
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
    FT_RETURN_IF_FAILED(check_size(height, width, err));
    if (height == in->height && width == in->width) {
        return copy_pixels(in, out, err);
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

/* ---- cropping and channels ---- */

/* round(d / 2.0) of Python: half to even. */
static int64_t half_to_even(int64_t d)
{
    int64_t half = d / 2;
    return d % 2 != 0 && half % 2 != 0 ? half + 1 : half;
}

/* Along one axis: `skip` pixels of the input are cut, `lead` zeros go in front, `size` are copied. */
struct span {
    int64_t skip;
    int64_t lead;
    int64_t size;
};

static struct span span_of(int64_t in, int64_t out)
{
    if (in >= out) {
        return (struct span){.skip = half_to_even(in - out), .size = out};
    }
    return (struct span){.lead = (out - in) / 2, .size = in};
}

enum ft_status ft_pixels_crop(const struct ft_pixels *in, int64_t height, int64_t width,
                              struct ft_pixels *out, struct ft_err *err)
{
    size_t c = (size_t)in->channels;
    struct span down = span_of(in->height, height);
    struct span across = span_of(in->width, width);
    FT_RETURN_IF_FAILED(ft_pixels_new(height, width, in->channels, out, err));
    memset(out->data, 0, (size_t)height * (size_t)width * c);
    for (int64_t y = 0; y < down.size; y++) {
        const uint8_t *src =
            in->data + ((size_t)(down.skip + y) * (size_t)in->width + (size_t)across.skip) * c;
        uint8_t *dst = out->data + ((size_t)(down.lead + y) * (size_t)width + (size_t)across.lead) * c;
        memcpy(dst, src, (size_t)across.size * c);
    }
    return FT_OK;
}

enum ft_status ft_pixels_channels(struct ft_pixels *in, int channels, struct ft_pixels *out,
                                  struct ft_err *err)
{
    size_t n = (size_t)in->height * (size_t)in->width;
    assert((in->channels == 1 || in->channels == 3) && (channels == 1 || channels == 3));
    if (in->channels == channels) {
        *out = *in;
        *in = (struct ft_pixels){0};
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_pixels_new(in->height, in->width, channels, out, err));
    for (size_t i = 0; i < n; i++) {
        if (channels == 1) {
            const uint8_t *p = in->data + 3 * i; /* ITU-R 601-2 with 16 bits, rounded: Pillow's L24 */
            out->data[i] = (uint8_t)((p[0] * 19595U + p[1] * 38470U + p[2] * 7471U + 0x8000U) >> 16);
        } else {
            memset(out->data + 3 * i, in->data[i], 3);
        }
    }
    ft_pixels_release(in);
    return FT_OK;
}
