#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/image.h"
#include "executor/prep/internal.h"

/* How a tensor's axes are an image. */
struct view {
    int64_t height;
    int64_t width;
    int channels;
    bool channels_last;
};

static bool is_channels(int64_t n)
{
    return n == 1 || n == 3;
}

/* The model's own layout is tried first, so that (3, 3, 3) is read as the model would. */
static bool view_tensor(const struct ft_prep *prep, const struct ft_content *content, struct view *view)
{
    const int64_t *d = content->dims;
    if (content->rank == 2) {
        *view = (struct view){.height = d[0], .width = d[1], .channels = 1, .channels_last = true};
        return true;
    }
    if (content->rank != 3) {
        return false;
    }
    bool last = is_channels(d[2]);
    bool first = is_channels(d[0]);
    if (first && last) {
        last = prep->channels_last || d[1] != prep->height || d[2] != prep->width;
    }
    if (last) {
        *view = (struct view){.height = d[0], .width = d[1], .channels = (int)d[2], .channels_last = true};
        return true;
    }
    *view = (struct view){.height = d[1], .width = d[2], .channels = (int)d[0]};
    return first;
}

static enum ft_status wrong_content(const struct ft_prep *prep, const struct ft_content *content,
                                    struct ft_err *err)
{
    char shown[FT_CONTENT_TEXT_BYTES];
    return FT_FAIL(
        err, INVALID,
        "the model wants a PNG, JPEG or WebP, uint8 pixels (H, W), (H, W, C) or (C, H, W), or floats of "
        "%lld x %lld x %lld; this is %s",
        (long long)prep->channels, (long long)prep->height, (long long)prep->width,
        ft_content_shown(content, shown));
}

/* ---- pixels in ---- */

static enum ft_status decode_blob(const struct ft_prep *prep, const struct ft_content *content,
                                  struct ft_pixels *pixels, struct ft_err *err)
{
    struct ft_image image = {0};
    FT_RETURN_IF_FAILED(ft_image_decode(content->bytes, prep->max_pixels, &image, err));
    enum ft_status st = prep->exif ? ft_image_upright(&image, err) : FT_OK;
    if (st != FT_OK) {
        ft_image_release(&image);
        return st;
    }
    *pixels =
        (struct ft_pixels){.data = image.pixels, .height = image.height, .width = image.width, .channels = 3};
    return FT_OK; /* ft_image_release() frees `pixels` by ft_free(), as ft_pixels_release() does */
}

static enum ft_status pixels_of_tensor(const struct ft_prep *prep, const struct ft_content *content,
                                       struct ft_pixels *pixels, struct ft_err *err)
{
    struct view view;
    if (!view_tensor(prep, content, &view)) {
        return wrong_content(prep, content, err);
    }
    FT_RETURN_IF_FAILED(ft_pixels_new(view.height, view.width, view.channels, pixels, err));
    size_t plane = (size_t)view.height * (size_t)view.width;
    size_t c = (size_t)view.channels;
    if (view.channels_last) {
        memcpy(pixels->data, content->bytes.data, plane * c);
        return FT_OK;
    }
    for (size_t k = 0; k < c; k++) {
        for (size_t i = 0; i < plane; i++) {
            pixels->data[i * c + k] = content->bytes.data[k * plane + i];
        }
    }
    return FT_OK;
}

/* ---- size ---- */

/* torchvision's Resize(s): the long side is int(s * long / short). */
static void short_side_size(const struct ft_prep *prep, const struct ft_pixels *in, int64_t *height,
                            int64_t *width)
{
    int64_t s = prep->resize_to;
    bool upright = in->width <= in->height;
    int64_t shorter = upright ? in->width : in->height;
    int64_t longer = upright ? in->height : in->width;
    int64_t other = (int64_t)((double)(s * longer) / (double)shorter);
    *height = upright ? other : s;
    *width = upright ? s : other;
}

enum ft_status ft_prep_fit(const struct ft_prep *prep, const struct ft_pixels *in, struct ft_pixels *out,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pixels resized = {0};
    int64_t height = prep->height;
    int64_t width = prep->width;
    if (prep->resize == FT_RESIZE_SHORT) {
        short_side_size(prep, in, &height, &width);
    }
    if (prep->resize == FT_RESIZE_NONE && (in->height != height || in->width != width)) {
        return FT_FAIL(err, INVALID,
                       "the image has %lld x %lld pixels, the model wants %lld x %lld, and resizing is off",
                       (long long)in->height, (long long)in->width, (long long)height, (long long)width);
    }
    FT_TRY(ft_pixels_resize(in, height, width, prep->filter, &resized, err));
    if (height != prep->height || width != prep->width) {
        FT_TRY(ft_pixels_crop(&resized, prep->height, prep->width, out, err));
    } else {
        *out = resized;
        resized = (struct ft_pixels){0};
    }
done:
    ft_pixels_release(&resized);
    return st;
}

/* ---- floats out ---- */

void ft_prep_floats(const struct ft_prep *prep, const struct ft_pixels *pixels, float *row)
{
    size_t plane = (size_t)prep->height * (size_t)prep->width;
    size_t c = (size_t)prep->channels;
    for (size_t k = 0; k < c; k++) {
        float table[256]; /* a channel has only 256 values */
        for (int v = 0; v < 256; v++) {
            table[v] = ((float)v * prep->scale - prep->mean[k]) / prep->std[k];
        }
        for (size_t i = 0; i < plane; i++) {
            float value = table[pixels->data[i * c + k]];
            if (prep->channels_last) {
                row[i * c + k] = value;
            } else {
                row[k * plane + i] = value;
            }
        }
    }
}

/* Floats are taken as they are (finetuner/SPEC.md E.5); only the order of the axes may differ from the
 * model's. */
static enum ft_status floats_item(const struct ft_prep *prep, const struct ft_content *content, float *row,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct view view;
    float *values = NULL;
    size_t n = ft_prep_elements(prep);
    size_t c = (size_t)prep->channels;
    if (!view_tensor(prep, content, &view) || view.height != prep->height || view.width != prep->width ||
        view.channels != prep->channels) {
        return wrong_content(prep, content, err);
    }
    if (c == 1 || view.channels_last == prep->channels_last) {
        return ft_content_floats(content, row, n, err);
    }
    FT_TRY(ft_new(n, sizeof *values, &values, err));
    FT_TRY(ft_content_floats(content, values, n, err));
    for (size_t i = 0; i < n / c; i++) {
        for (size_t k = 0; k < c; k++) {
            size_t last = i * c + k;
            size_t first = k * (n / c) + i;
            row[prep->channels_last ? last : first] = values[prep->channels_last ? first : last];
        }
    }
done:
    ft_free(values);
    return st;
}

enum ft_status ft_prep_pixels(const struct ft_prep *prep, const struct ft_content *content,
                              struct ft_pixels *pixels, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pixels stored = {0};
    *pixels = (struct ft_pixels){0};
    bool tensor = content->kind == FT_CONTENT_TENSOR;
    if (prep->kind != FT_PREP_IMAGE || (tensor && content->dtype[1] == 'f')) {
        char shown[FT_CONTENT_TEXT_BYTES];
        return FT_FAIL(err, INVALID, "%s has no 8-bit pixels to augment", ft_content_shown(content, shown));
    }
    if (content->kind == FT_CONTENT_BLOB) {
        FT_TRY(decode_blob(prep, content, &stored, err));
    } else if (tensor && strcmp(content->dtype, "|u1") == 0) {
        FT_TRY(pixels_of_tensor(prep, content, &stored, err));
    } else {
        return wrong_content(prep, content, err);
    }
    FT_TRY(ft_pixels_channels(&stored, (int)prep->channels, pixels, err));
    for (size_t i = 0; prep->invert && i < ft_pixels_bytes(pixels); i++) {
        pixels->data[i] = (uint8_t)(255 - pixels->data[i]);
    }
done:
    ft_pixels_release(&stored);
    return st;
}

enum ft_status ft_prep_image_item(const struct ft_prep *prep, const struct ft_content *content, float *row,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pixels pixels = {0};
    struct ft_pixels fitted = {0};
    if (content->kind == FT_CONTENT_TENSOR && content->dtype[1] == 'f') {
        return floats_item(prep, content, row, err);
    }
    FT_TRY(ft_prep_pixels(prep, content, &pixels, err));
    if (pixels.height == prep->height && pixels.width == prep->width && prep->resize != FT_RESIZE_SHORT) {
        ft_prep_floats(prep, &pixels, row);
    } else {
        FT_TRY(ft_prep_fit(prep, &pixels, &fitted, err));
        ft_prep_floats(prep, &fitted, row);
    }
done:
    ft_pixels_release(&pixels);
    ft_pixels_release(&fitted);
    return st;
}
