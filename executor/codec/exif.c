#include "executor/codec/image_internal.h"

#include <string.h>

#include <zlib.h>

/* Finds the EXIF block of a file by walking its segments or chunks, and in it the orientation. Nothing here
 * fails: what lies behind a break says nothing. (Pillow sometimes forgets what lay before it, too.) */

enum { ORIENTATION = 0x112, TYPE_SHORT = 3, TYPE_LONG = 4, ENTRY_BYTES = 12 };

static uint32_t number(const uint8_t *p, int bytes, bool big)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++) {
        v = v << 8 | p[big ? i : bytes - 1 - i];
    }
    return v;
}

static bool starts_with(struct ft_bytes b, const char *text, size_t size)
{
    return b.size >= size && memcmp(b.data, text, size) == 0;
}

static struct ft_bytes beyond(struct ft_bytes b, size_t skip)
{
    return ft_bytes_of(b.data + skip, b.size - skip);
}

/* ---- TIFF */

/* 0: no entry of the first directory tells it. */
static uint32_t tiff_orientation(struct ft_bytes t)
{
    bool big = starts_with(t, "MM", 2);
    if (t.size < 8 || (!big && !starts_with(t, "II", 2)) || number(t.data + 2, 2, big) != 42) {
        return 0;
    }
    size_t at = number(t.data + 4, 4, big);
    if (at > t.size || t.size - at < 2) {
        return 0;
    }
    size_t count = number(t.data + at, 2, big);
    uint32_t found = 0;
    at += 2;
    for (size_t i = 0; i < count && t.size - at >= ENTRY_BYTES; i++, at += ENTRY_BYTES) {
        const uint8_t *e = t.data + at;
        uint32_t type = number(e + 2, 2, big);
        if (number(e, 2, big) != ORIENTATION || number(e + 4, 4, big) != 1) {
            continue;
        }
        if (type == TYPE_SHORT || type == TYPE_LONG) {
            found = number(e + 8, type == TYPE_SHORT ? 2 : 4, big);
        }
    }
    return found;
}

/* ---- where the block is */

static const char prefix[6] = "Exif\0";

static struct ft_bytes in_jpeg(struct ft_bytes file)
{
    size_t at = 2;
    while (at + 4 <= file.size) {
        const uint8_t *p = file.data + at;
        if (p[0] != 0xFF || p[1] == 0xFF || p[1] == 0) { /* padding, or bytes that belong to nothing */
            at++;
            continue;
        }
        if (p[1] == 0xDA || p[1] == 0xD9) { /* start of scan, end of image */
            break;
        }
        if (p[1] == 0x01 || (p[1] >= 0xD0 && p[1] <= 0xD8)) { /* without a length */
            at += 2;
            continue;
        }
        size_t size = number(p + 2, 2, true);
        if (size < 2 || size > file.size - at - 2) {
            break;
        }
        struct ft_bytes segment = ft_bytes_of(p + 4, size - 2);
        if (p[1] == 0xE1 && starts_with(segment, prefix, sizeof prefix)) {
            return segment;
        }
        at += 2 + size;
    }
    return ft_bytes_of(NULL, 0);
}

static struct ft_bytes in_png(struct ft_bytes file)
{
    size_t at = 8;
    while (file.size - at >= 12) {
        const uint8_t *p = file.data + at;
        size_t size = number(p, 4, true);
        if (size > file.size - at - 12) {
            break;
        }
        if (memcmp(p + 4, "eXIf", 4) == 0 &&
            crc32(0, p + 4, (uInt)size + 4) == number(p + 8 + size, 4, true)) {
            return ft_bytes_of(p + 8, size);
        }
        at += 12 + size;
    }
    return ft_bytes_of(NULL, 0);
}

static struct ft_bytes in_webp(struct ft_bytes file)
{
    size_t at = 12;
    while (file.size - at >= 8) {
        const uint8_t *p = file.data + at;
        size_t size = number(p + 4, 4, false);
        if (size > file.size - at - 8) {
            break;
        }
        if (memcmp(p, "EXIF", 4) == 0) {
            return ft_bytes_of(p + 8, size);
        }
        at += 8 + size + (size & 1);
        if (at > file.size) {
            break;
        }
    }
    return ft_bytes_of(NULL, 0);
}

int ft_exif_orientation(struct ft_bytes file)
{
    struct ft_bytes block = ft_jpeg_is(file)   ? in_jpeg(file)
                            : ft_png_is(file)  ? in_png(file)
                            : ft_webp_is(file) ? in_webp(file)
                                               : ft_bytes_of(NULL, 0);
    while (starts_with(block, prefix, sizeof prefix)) {
        block = beyond(block, sizeof prefix);
    }
    uint32_t found = tiff_orientation(block);
    return found >= 1 && found <= 8 ? (int)found : 1;
}
