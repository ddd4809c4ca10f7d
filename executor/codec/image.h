/*
 * image.h - PNG, JPEG and WebP to RGB bytes, and RGB bytes to PNG. Wraps libpng, libjpeg-turbo and libwebp.
 *
 * Decoded pixels equal Pillow's Image.open(f).convert("RGB") bit for bit for PNG (all colour types, bit
 * depths, interlace, palette; alpha is dropped, 16 bits are cut to their high byte, except that grey of 16
 * bits without alpha is not scaled but saturates at 255, as Pillow 13 does) and for still WebP (lossy,
 * lossless, alpha dropped; animations are refused), and within 1 for JPEG (same library, same defaults: islow
 * DCT, fancy upsampling; CMYK and YCCK converted as Pillow does). Pixels come as they are stored;
 * `orientation` says how the camera was held (EXIF's tag 0x112 in JPEG's APP1, PNG's eXIf and WebP's EXIF
 * chunk; XMP is not looked at), and ft_image_upright() turns them as Pillow's ImageOps.exif_transpose() does.
 * Limits are checked on the header, before pixels are decoded; of a JPEG also the number of scans.
 * Thread-safety: any thread.
 */
#ifndef FT_CODEC_IMAGE_H
#define FT_CODEC_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"

struct ft_image {
    uint8_t *pixels; /* (height, width, 3) RGB; ft_image_release() */
    int64_t height;
    int64_t width;
    int orientation; /* 1 (upright) .. 8, as in EXIF */
};

bool ft_image_known(struct ft_bytes file); /* by the first bytes: a format that ft_image_decode() reads */
/* FT_UNSUPPORTED: unknown format; FT_LIMIT: more than max_pixels; FT_CORRUPT: broken or truncated. */
FT_MUST_CHECK enum ft_status ft_image_decode(struct ft_bytes file, int64_t max_pixels, struct ft_image *image,
                                             struct ft_err *err);
void ft_image_release(struct ft_image *image);
/* Turn and mirror the pixels so that orientation becomes 1. On failure the image stays as it was. */
FT_MUST_CHECK enum ft_status ft_image_upright(struct ft_image *image, struct ft_err *err);
/* Append a PNG of `channels` 1 or 3, 8 bits; deterministic. */
FT_MUST_CHECK enum ft_status ft_png_encode(const uint8_t *pixels, int64_t height, int64_t width, int channels,
                                           struct ft_buf *out, struct ft_err *err);
#endif
