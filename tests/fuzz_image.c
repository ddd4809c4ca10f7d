/* links: ft_codec ft_base */
/* covers: executor/codec/image.c executor/codec/png.c executor/codec/jpeg.c executor/codec/webp.c
 * executor/codec/exif.c */
/* Any bytes: refused, or pixels that can be read to the last; nothing is left behind by a library's jump. */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/image.h"

/* What was decoded survives our own writer. */
static void write_and_read(const struct ft_image *image)
{
    struct ft_err err = {0};
    struct ft_buf png = {0};
    struct ft_image again = {0};
    enum ft_status st = ft_png_encode(image->pixels, image->height, image->width, 3, &png, &err);
    assert(st == FT_OK);
    st = ft_image_decode(ft_buf_bytes(&png), 1 << 16, &again, &err);
    assert(st == FT_OK && again.height == image->height && again.width == image->width);
    assert(memcmp(again.pixels, image->pixels, (size_t)(image->height * image->width * 3)) == 0);
    ft_image_release(&again);
    ft_buf_release(&png);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_image image = {0};
    enum ft_status st = ft_image_decode(ft_bytes_of(data, size), 1 << 16, &image, &err);
    if (st == FT_OK) {
        int64_t pixels = image.height * image.width;
        assert(image.height > 0 && image.width > 0 && pixels <= 1 << 16);
        st = ft_image_upright(&image, &err);
        assert(st == FT_OK && image.orientation == 1 && image.height * image.width == pixels);
        write_and_read(&image);
    } else {
        assert(st == FT_UNSUPPORTED || st == FT_LIMIT || st == FT_CORRUPT);
        assert(image.pixels == NULL);
    }
    ft_image_release(&image);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
