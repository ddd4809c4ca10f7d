/* links: ft_codec ft_base */
/* Any bytes: refused, or pixels that can be read to the last; nothing is left behind by a library's jump. */
#include "tests/fuzz/target.h"

#include <assert.h>

#include "executor/base/alloc.h"
#include "executor/codec/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_image image = {0};
    enum ft_status st = ft_image_decode(ft_bytes_of(data, size), 1 << 16, &image, &err);
    if (st == FT_OK) {
        unsigned sum = 0;
        assert(image.height > 0 && image.width > 0 && image.height * image.width <= 1 << 16);
        for (int64_t i = 0; i < image.height * image.width * 3; i++) {
            sum += image.pixels[i];
        }
        assert(sum <= 255U * 3U * (1U << 16));
    } else {
        assert(st == FT_UNSUPPORTED || st == FT_LIMIT || st == FT_CORRUPT);
        assert(image.pixels == NULL);
    }
    ft_image_release(&image);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
