/*
 * pixels.h - 8-bit pixels, grey or RGB, and what preparing and augmenting does to them.
 *
 * Each operation equals Pillow's, or torchvision's on a Pillow image, bit for bit; where it does not, its
 * comment says how far off and why. Sizes are limited to FT_MAX_IMAGE_PIXELS (FT_LIMIT). `out` is new, owned
 * by the caller and empty after a failure; operations without `out` change the pixels in place.
 * Thread-safety: pure functions of what they are given.
 */
#ifndef FT_PREP_PIXELS_H
#define FT_PREP_PIXELS_H

#include <stdint.h>

#include "executor/base/status.h"

/* Interleaved: (height, width, channels), channels 1 or 3. ft_pixels_release(). */
struct ft_pixels {
    uint8_t *data;
    int64_t height;
    int64_t width;
    int channels;
};
void ft_pixels_release(struct ft_pixels *pixels); /* empty is fine */
FT_MUST_CHECK enum ft_status ft_pixels_new(int64_t height, int64_t width, int channels,
                                           struct ft_pixels *pixels, struct ft_err *err);
size_t ft_pixels_bytes(const struct ft_pixels *pixels);

/* ---- geometry */

enum ft_filter {
    FT_FILTER_BILINEAR,
    FT_FILTER_BICUBIC,
    FT_FILTER_NEAREST,
    FT_FILTER_BOX,
    FT_FILTER_HAMMING,
    FT_FILTER_LANCZOS
};
/* Pillow's Image.resize(): two passes of fixed-point convolution, the filter widened when shrinking; nearest
 * picks. */
FT_MUST_CHECK enum ft_status ft_pixels_resize(const struct ft_pixels *in, int64_t height, int64_t width,
                                              enum ft_filter filter, struct ft_pixels *out,
                                              struct ft_err *err);
/* Pillow's Image.crop(): zeros where the window lies outside. */
FT_MUST_CHECK enum ft_status ft_pixels_window(const struct ft_pixels *in, int64_t top, int64_t left,
                                              int64_t height, int64_t width, struct ft_pixels *out,
                                              struct ft_err *err);
/* torchvision's CenterCrop: rounding half to even, zeros where the image is smaller. */
FT_MUST_CHECK enum ft_status ft_pixels_crop(const struct ft_pixels *in, int64_t height, int64_t width,
                                            struct ft_pixels *out, struct ft_err *err);
void ft_pixels_flip(struct ft_pixels *pixels); /* left to right */
/* Pillow's Image.rotate(degrees, BILINEAR): counter-clockwise about the centre, same size, zeros outside. */
FT_MUST_CHECK enum ft_status ft_pixels_rotate(const struct ft_pixels *in, double degrees,
                                              struct ft_pixels *out, struct ft_err *err);

/* ---- colour */

/* RGB to grey as Pillow's convert("L"), grey to RGB, or a move. `in` is used up. */
FT_MUST_CHECK enum ft_status ft_pixels_channels(struct ft_pixels *in, int channels, struct ft_pixels *out,
                                                struct ft_err *err);
/* torchvision's adjust_brightness, adjust_contrast, adjust_saturation: factor >= 0, 1 changes nothing.
 * Saturation leaves grey pictures alone, and so does hue. */
void ft_pixels_brightness(struct ft_pixels *pixels, double factor);
void ft_pixels_contrast(struct ft_pixels *pixels, double factor);
void ft_pixels_saturation(struct ft_pixels *pixels, double factor);
/* torchvision's adjust_hue: a turn of -0.5 .. 0.5 of the circle, by way of Pillow's 8-bit HSV. */
void ft_pixels_hue(struct ft_pixels *pixels, double turn);
void ft_pixels_grey(struct ft_pixels *pixels); /* torchvision's Grayscale(3): still RGB */

/* torchvision's gaussian_blur with an odd kernel, mirrored at the edges; the kernel is cut to what the
 * picture can mirror. Within 1 of torchvision: it adds 32-bit floats in another order, which shows where a
 * sum is close to a half. */
FT_MUST_CHECK enum ft_status ft_pixels_blur(struct ft_pixels *pixels, int64_t kernel, double sigma,
                                            struct ft_err *err);
#endif
