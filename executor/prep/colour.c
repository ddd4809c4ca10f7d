#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/prep/pixels.h"

static size_t count_of(const struct ft_pixels *p)
{
    return (size_t)p->height * (size_t)p->width;
}

/* ITU-R 601-2 with 16 bits, rounded: Pillow's L24. */
static uint8_t grey_of(const uint8_t *p)
{
    return (uint8_t)((p[0] * 19595U + p[1] * 38470U + p[2] * 7471U + 0x8000U) >> 16);
}

enum ft_status ft_pixels_channels(struct ft_pixels *in, int channels, struct ft_pixels *out,
                                  struct ft_err *err)
{
    size_t n = count_of(in);
    assert((in->channels == 1 || in->channels == 3) && (channels == 1 || channels == 3));
    if (in->channels == channels) {
        *out = *in;
        *in = (struct ft_pixels){0};
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_pixels_new(in->height, in->width, channels, out, err));
    for (size_t i = 0; i < n; i++) {
        if (channels == 1) {
            out->data[i] = grey_of(in->data + 3 * i);
        } else {
            memset(out->data + 3 * i, in->data[i], 3);
        }
    }
    ft_pixels_release(in);
    return FT_OK;
}

void ft_pixels_grey(struct ft_pixels *pixels)
{
    size_t n = count_of(pixels);
    for (size_t i = 0; i < n && pixels->channels == 3; i++) {
        memset(pixels->data + 3 * i, grey_of(pixels->data + 3 * i), 3);
    }
}

/* ---- Pillow's Image.blend() of a degenerate picture and this one, as its ImageEnhance does ---- */

/* The factor is a 32-bit float there; inside 0 .. 1 nothing has to be clipped. */
static uint8_t blend(int from, int to, float factor)
{
    float v = (float)from + factor * (float)(to - from);
    return v <= 0.0F ? 0 : v >= 255.0F ? 255 : (uint8_t)v;
}

/* Both are functions of one byte. */
static void blend_with(struct ft_pixels *pixels, int degenerate, double factor)
{
    uint8_t table[256];
    size_t n = ft_pixels_bytes(pixels);
    for (int v = 0; v < 256; v++) {
        table[v] = blend(degenerate, v, (float)factor);
    }
    for (size_t i = 0; i < n; i++) {
        pixels->data[i] = table[pixels->data[i]];
    }
}

void ft_pixels_brightness(struct ft_pixels *pixels, double factor)
{
    blend_with(pixels, 0, factor);
}

void ft_pixels_contrast(struct ft_pixels *pixels, double factor)
{
    size_t n = count_of(pixels);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += pixels->channels == 3 ? grey_of(pixels->data + 3 * i) : pixels->data[i];
    }
    blend_with(pixels, (int)((double)sum / (double)n + 0.5), factor);
}

void ft_pixels_saturation(struct ft_pixels *pixels, double factor)
{
    size_t n = count_of(pixels);
    float f = (float)factor;
    if (pixels->channels != 3) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t *p = pixels->data + 3 * i;
        int grey = grey_of(p);
        for (int k = 0; k < 3; k++) {
            p[k] = blend(grey, p[k], f);
        }
    }
}

/* ---- hue: Pillow's rgb2hsv_row() and hsv2rgb() of Convert.c, mixed precision as there ---- */

struct hsv {
    uint8_t h;
    uint8_t s;
    uint8_t v;
};

static uint8_t clip8(int v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static struct hsv hsv_of(const uint8_t *p)
{
    int r = p[0];
    int g = p[1];
    int b = p[2];
    int high = r > g ? r : g;
    int low = r < g ? r : g;
    high = high > b ? high : b;
    low = low < b ? low : b;
    if (low == high) {
        return (struct hsv){.v = (uint8_t)high};
    }
    float range = (float)(high - low);
    float s = range / (float)high;
    float rc = (float)(high - r) / range;
    float gc = (float)(high - g) / range;
    float bc = (float)(high - b) / range;
    float h = 0;
    if (r == high) {
        h = bc - gc;
    } else if (g == high) {
        h = (float)(2.0 + (double)rc - (double)bc);
    } else {
        h = (float)(4.0 + (double)gc - (double)rc);
    }
    /* h / 6 + 1 lies in 5/6 .. 2: the remainder by 1 is one subtraction, exact as fmod() is. */
    double turn = (double)h / 6.0 + 1.0;
    h = (float)(turn >= 1.0 ? turn - 1.0 : turn);
    return (struct hsv){clip8((int)((double)h * 255.0)), clip8((int)((double)s * 255.0)), (uint8_t)high};
}

static void rgb_of(struct hsv c, uint8_t *out)
{
    if (c.s == 0) {
        memset(out, c.v, 3);
        return;
    }
    double sixth = (double)(float)c.h * 6.0 / 255.0;
    int i = (int)sixth;
    float f = (float)(sixth - (double)(float)i);
    float fs = (float)((double)(float)c.s / 255.0);
    double v = (double)(float)c.v;
    uint8_t p = clip8((int)round(v * (1.0 - (double)fs)));
    uint8_t q = clip8((int)round(v * (1.0 - (double)(fs * f))));
    uint8_t t = clip8((int)round(v * (1.0 - (double)fs * (1.0 - (double)f))));
    const uint8_t by_sixth[6][3] = {{c.v, t, p}, {q, c.v, p}, {p, c.v, t},
                                    {p, q, c.v}, {t, p, c.v}, {c.v, p, q}};
    memcpy(out, by_sixth[i % 6], 3);
}

void ft_pixels_hue(struct ft_pixels *pixels, double turn)
{
    size_t n = count_of(pixels);
    int shift = (int)(turn * 255); /* towards zero, then modulo 256: NumPy's casts in torchvision */
    if (pixels->channels != 3) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t *p = pixels->data + 3 * i;
        struct hsv c = hsv_of(p);
        c.h = (uint8_t)(c.h + shift);
        rgb_of(c, p);
    }
}
