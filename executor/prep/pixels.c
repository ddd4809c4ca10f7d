#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"
#include "executor/prep/pixels.h"

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

size_t ft_pixels_bytes(const struct ft_pixels *pixels)
{
    return (size_t)pixels->height * (size_t)pixels->width * (size_t)pixels->channels;
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

/* ---- cropping ---- */

/* Along one axis: `lead` zeros, then `size` pixels from `first` on; the rest is zero. */
struct span {
    int64_t lead;
    int64_t first;
    int64_t size;
};

static struct span span_of(int64_t in, int64_t at, int64_t out)
{
    struct span s = {.lead = at < 0 ? -at : 0, .first = at < 0 ? 0 : at};
    int64_t end = at + out < in ? at + out : in;
    s.size = end > s.first ? end - s.first : 0;
    return s;
}

enum ft_status ft_pixels_window(const struct ft_pixels *in, int64_t top, int64_t left, int64_t height,
                                int64_t width, struct ft_pixels *out, struct ft_err *err)
{
    size_t c = (size_t)in->channels;
    struct span down = span_of(in->height, top, height);
    struct span across = span_of(in->width, left, width);
    FT_RETURN_IF_FAILED(ft_pixels_new(height, width, in->channels, out, err));
    memset(out->data, 0, ft_pixels_bytes(out));
    for (int64_t y = 0; y < down.size && across.size > 0; y++) {
        const uint8_t *src =
            in->data + ((size_t)(down.first + y) * (size_t)in->width + (size_t)across.first) * c;
        uint8_t *dst = out->data + ((size_t)(down.lead + y) * (size_t)width + (size_t)across.lead) * c;
        memcpy(dst, src, (size_t)across.size * c);
    }
    return FT_OK;
}

/* round(d / 2.0) of Python: half to even. */
static int64_t half_to_even(int64_t d)
{
    int64_t half = d / 2;
    return d % 2 != 0 && half % 2 != 0 ? half + 1 : half;
}

static int64_t centre(int64_t in, int64_t out)
{
    return in >= out ? half_to_even(in - out) : -((out - in) / 2);
}

enum ft_status ft_pixels_crop(const struct ft_pixels *in, int64_t height, int64_t width,
                              struct ft_pixels *out, struct ft_err *err)
{
    return ft_pixels_window(in, centre(in->height, height), centre(in->width, width), height, width, out,
                            err);
}

void ft_pixels_flip(struct ft_pixels *pixels)
{
    size_t c = (size_t)pixels->channels;
    for (int64_t y = 0; y < pixels->height; y++) {
        uint8_t *left = pixels->data + (size_t)y * (size_t)pixels->width * c;
        uint8_t *right = left + (size_t)(pixels->width - 1) * c;
        for (; left < right; left += c, right -= c) {
            for (size_t k = 0; k < c; k++) {
                uint8_t v = left[k];
                left[k] = right[k];
                right[k] = v;
            }
        }
    }
}

/* ---- turning ---- */

/* Python's round(v, 15). */
static double to_15_digits(double v)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%.15f", v);
    return strtod(text, NULL);
}

static double between(double a, double b, double d)
{
    return a + (b - a) * d;
}

static int64_t within(int64_t v, int64_t size)
{
    return v < 0 ? 0 : v < size ? v : size - 1;
}

/* Pillow's bilinear_filter of Geometry.c: (x, y) from the corner of the first pixel. */
static void pick(const struct ft_pixels *in, double x, double y, uint8_t *out)
{
    int64_t c = in->channels;
    if (x < 0.0 || x >= (double)in->width || y < 0.0 || y >= (double)in->height) {
        memset(out, 0, (size_t)c);
        return;
    }
    int64_t left = (int64_t)floor(x - 0.5);
    int64_t top = (int64_t)floor(y - 0.5);
    double dx = x - 0.5 - (double)left;
    double dy = y - 0.5 - (double)top;
    const uint8_t *row = in->data + within(top, in->height) * in->width * c;
    const uint8_t *next = top + 1 < in->height ? in->data + (top + 1) * in->width * c : row;
    int64_t a = within(left, in->width) * c;
    int64_t b = within(left + 1, in->width) * c;
    for (int64_t k = 0; k < c; k++) {
        double v = between(between(row[a + k], row[b + k], dx), between(next[a + k], next[b + k], dx), dy);
        out[k] = (uint8_t)v;
    }
}

enum ft_status ft_pixels_rotate(const struct ft_pixels *in, double degrees, struct ft_pixels *out,
                                struct ft_err *err)
{
    static const double to_radians = 3.14159265358979323846 / 180.0;
    double angle = fmod(degrees, 360.0);
    angle = -(angle < 0 ? angle + 360.0 : angle) * to_radians;
    double c = to_15_digits(cos(angle));
    double s = to_15_digits(sin(angle));
    double cx = (double)in->width / 2;
    double cy = (double)in->height / 2;
    double x0 = c * -cx + s * -cy + 0.0 + cx;
    double y0 = -s * -cx + c * -cy + 0.0 + cy;
    FT_RETURN_IF_FAILED(ft_pixels_new(in->height, in->width, in->channels, out, err));
    uint8_t *to = out->data;
    for (int64_t y = 0; y < in->height; y++) {
        for (int64_t x = 0; x < in->width; x++, to += in->channels) {
            double at_x = (double)x + 0.5;
            double at_y = (double)y + 0.5;
            pick(in, c * at_x + s * at_y + x0, -s * at_x + c * at_y + y0, to);
        }
    }
    return FT_OK;
}
