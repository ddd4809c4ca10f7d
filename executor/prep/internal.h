/*
 * internal.h - what the preprocessors share. Private to prep/.
 */
#ifndef FT_PREP_INTERNAL_H
#define FT_PREP_INTERNAL_H

#include "executor/prep/prep.h"

/* 8-bit pixels, interleaved: (height, width, channels). ft_pixels_release(). */
struct ft_pixels {
    uint8_t *data;
    int64_t height;
    int64_t width;
    int channels;
};
void ft_pixels_release(struct ft_pixels *pixels);
FT_MUST_CHECK enum ft_status ft_pixels_new(int64_t height, int64_t width, int channels,
                                           struct ft_pixels *pixels, struct ft_err *err);
/* Pillow's Image.resize() for 8-bit channels, bit for bit: two passes of fixed-point convolution, the filter
 * widened when shrinking. *out is new also when the size does not change. FT_LIMIT above FT_MAX_IMAGE_PIXELS.
 */
FT_MUST_CHECK enum ft_status ft_pixels_resize(const struct ft_pixels *in, int64_t height, int64_t width,
                                              enum ft_filter filter, struct ft_pixels *out,
                                              struct ft_err *err);
/* torchvision's CenterCrop: rounding half to even, zeros where the image is smaller. */
FT_MUST_CHECK enum ft_status ft_pixels_crop(const struct ft_pixels *in, int64_t height, int64_t width,
                                            struct ft_pixels *out, struct ft_err *err);
/* RGB to grey as Pillow's convert("L"), grey to RGB, or a move. `in` is used up. */
FT_MUST_CHECK enum ft_status ft_pixels_channels(struct ft_pixels *in, int channels, struct ft_pixels *out,
                                                struct ft_err *err);

/* Element i .. of a tensor's bytes as floats; every NumPy dtype the wire reads. FT_UNSUPPORTED: another
 * dtype; FT_INVALID: NaN, infinity or beyond a float. No allocation. */
FT_MUST_CHECK enum ft_status ft_tensor_floats(const struct ft_content *tensor, float *out, size_t count,
                                              struct ft_err *err);
/* "float32 (3, 32, 32)" of a tensor, "text", "blob"; cut when too long. Returns out. */
enum { FT_CONTENT_TEXT_BYTES = 160 };
const char *ft_content_shown(const struct ft_content *content, char out[FT_CONTENT_TEXT_BYTES]);

FT_MUST_CHECK enum ft_status ft_prep_image_item(const struct ft_prep *prep, const struct ft_content *content,
                                                float *row, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_prep_vector_item(const struct ft_prep *prep, const struct ft_content *content,
                                                 float *row, struct ft_err *err);
#endif
