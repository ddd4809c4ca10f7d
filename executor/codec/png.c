#include "executor/codec/image_internal.h"

#include <assert.h>
#include <string.h>

#include <png.h>

#include "executor/base/alloc.h"

struct png {
    struct ft_image_job *job;
    size_t at; /* reading: bytes so far */
    png_structp png;
    png_infop info;
    png_byte depth;
    png_byte colour;
    const uint8_t *source; /* writing: pixels in */
    int channels;
    struct ft_buf *out;
    struct ft_err *err;
};

bool ft_png_is(struct ft_bytes file)
{
    return file.size >= 8 && memcmp(file.data, "\x89PNG\r\n\x1a\n", 8) == 0;
}

/* ---- reading ---- */

static void png_failed(png_structp png, png_const_charp reason)
{
    struct png *p = png_get_error_ptr(png);
    /* libpng's own words for a failed allocation. */
    bool memory = strstr(reason, "emory") != NULL;
    ft_image_give_up(p->job, memory ? FT_NOMEM : FT_CORRUPT, reason);
}

static void png_warned(png_structp png, png_const_charp reason)
{
    (void)png;
    (void)reason;
}

static png_voidp png_get_memory(png_structp png, png_alloc_size_t size)
{
    (void)png;
    return ft_alloc(size);
}

static void png_give_memory(png_structp png, png_voidp p)
{
    (void)png;
    ft_free(p);
}

static void png_get_bytes(png_structp png, png_bytep to, size_t size)
{
    struct png *p = png_get_io_ptr(png);
    if (size > p->job->file.size - p->at) {
        png_error(png, "the file is cut off");
    }
    memcpy(to, p->job->file.data + p->at, size);
    p->at += size;
}

static void png_open(struct png *p)
{
    p->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, p, png_failed, png_warned, NULL, png_get_memory,
                                      png_give_memory);
    if (p->png == NULL) {
        ft_image_give_up(p->job, FT_NOMEM, "no memory for the decoder");
    }
    p->info = png_create_info_struct(p->png);
    if (p->info == NULL) {
        ft_image_give_up(p->job, FT_NOMEM, "no memory for the decoder");
    }
    png_set_read_fn(p->png, p, png_get_bytes);
    /* A negative count: every chunk that changes no pixel. Profiles and texts may unpack to megabytes. */
    png_set_keep_unknown_chunks(p->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
}

static bool is_grey16(const struct png *p)
{
    return p->colour == PNG_COLOR_TYPE_GRAY && p->depth == 16;
}

/* Bytes a pixel has when a row comes from libpng: RGB, a palette index, or a 16-bit grey. */
static int64_t row_pixel_bytes(const struct png *p)
{
    if (p->colour == PNG_COLOR_TYPE_PALETTE) {
        return 1;
    }
    return is_grey16(p) ? 2 : 3;
}

static void png_head(void *state)
{
    struct png *p = state;
    png_open(p);
    png_read_info(p->png, p->info);
    p->colour = png_get_color_type(p->png, p->info);
    p->depth = png_get_bit_depth(p->png, p->info);
    ft_image_accept(p->job, png_get_image_width(p->png, p->info), png_get_image_height(p->png, p->info));
    if (p->colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_packing(p->png);
        return;
    }
    if (is_grey16(p)) {
        return;
    }
    if (p->depth == 16) {
        png_set_strip_16(p->png);
    }
    if (p->colour == PNG_COLOR_TYPE_GRAY && p->depth < 8) {
        png_set_expand_gray_1_2_4_to_8(p->png);
    }
    if ((p->colour & PNG_COLOR_MASK_ALPHA) != 0) {
        png_set_strip_alpha(p->png);
    }
    if ((p->colour & PNG_COLOR_MASK_COLOR) == 0) {
        png_set_gray_to_rgb(p->png);
    }
}

/* The row lies at the end of its RGB row, so widening it from the left never overtakes what is still to be
 * read. */
static void widen_row(const struct png *p, uint8_t *row, const png_color palette[256])
{
    const uint8_t *from = row + p->job->width * (3 - row_pixel_bytes(p));
    for (int64_t x = 0; x < p->job->width; x++) {
        if (p->colour == PNG_COLOR_TYPE_PALETTE) {
            png_color c = palette[from[x]];
            row[3 * x] = c.red;
            row[3 * x + 1] = c.green;
            row[3 * x + 2] = c.blue;
        } else {
            /* Pillow's I;16 to RGB saturates; it does not scale. */
            uint8_t grey = from[2 * x] != 0 ? 255 : from[2 * x + 1];
            memset(row + 3 * x, grey, 3);
        }
    }
}

static void png_body(void *state)
{
    struct png *p = state;
    int passes = png_set_interlace_handling(p->png);
    int64_t offset = p->job->width * (3 - row_pixel_bytes(p));
    png_read_update_info(p->png, p->info);
    if (png_get_rowbytes(p->png, p->info) != (size_t)(p->job->width * row_pixel_bytes(p))) {
        ft_image_give_up(p->job, FT_INTERNAL, "libpng's rows have another length than asked for");
    }
    for (int pass = 0; pass < passes; pass++) {
        for (int64_t y = 0; y < p->job->height; y++) {
            png_read_row(p->png, ft_image_row(p->job, y) + offset, NULL);
        }
    }
    png_read_end(p->png, NULL);
    if (offset == 0) {
        return;
    }
    /* An index beyond the palette is black, as in Pillow. */
    png_color palette[256] = {{0}};
    png_colorp stored = NULL;
    int count = 0;
    if (p->colour == PNG_COLOR_TYPE_PALETTE && png_get_PLTE(p->png, p->info, &stored, &count) != 0) {
        assert(count >= 0 && count <= 256);
        memcpy(palette, stored, (size_t)count * sizeof *stored);
    }
    for (int64_t y = 0; y < p->job->height; y++) {
        widen_row(p, ft_image_row(p->job, y), palette);
    }
}

bool ft_png_decode(struct ft_image_job *job)
{
    struct png p = {.job = job};
    bool done = ft_image_guarded(job, png_head, &p) && ft_image_guarded(job, png_body, &p);
    png_destroy_read_struct(&p.png, &p.info, NULL);
    return done;
}

/* ---- writing ---- */

static void png_put_bytes(png_structp png, png_bytep from, size_t size)
{
    struct png *p = png_get_io_ptr(png);
    if (ft_buf_append(p->out, from, size, p->err) != FT_OK) {
        png_error(png, "no memory for the file");
    }
}

static void png_put_flush(png_structp png)
{
    (void)png;
}

static void png_write(void *state)
{
    struct png *p = state;
    p->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, p, png_failed, png_warned, NULL, png_get_memory,
                                       png_give_memory);
    if (p->png == NULL || (p->info = png_create_info_struct(p->png)) == NULL) {
        ft_image_give_up(p->job, FT_NOMEM, "no memory for the encoder");
    }
    png_set_write_fn(p->png, p, png_put_bytes, png_put_flush);
    png_set_compression_level(p->png, 6);
    png_set_IHDR(p->png, p->info, (png_uint_32)p->job->width, (png_uint_32)p->job->height, 8,
                 p->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(p->png, p->info);
    for (int64_t y = 0; y < p->job->height; y++) {
        png_write_row(p->png, p->source + y * p->job->width * p->channels);
    }
    png_write_end(p->png, NULL);
}

enum ft_status ft_png_encode(const uint8_t *pixels, int64_t height, int64_t width, int channels,
                             struct ft_buf *out, struct ft_err *err)
{
    const int64_t side_max = 1000000; /* libpng's own */
    assert(channels == 1 || channels == 3);
    if (height < 1 || width < 1 || height > side_max || width > side_max) {
        return FT_FAIL(err, INVALID, "a PNG of %lld x %lld pixels cannot be written", (long long)width,
                       (long long)height);
    }
    struct ft_image_job job = {.height = height, .width = width};
    struct png p = {.job = &job, .source = pixels, .channels = channels, .out = out, .err = err};
    size_t before = out->size;
    bool done = ft_image_guarded(&job, png_write, &p);
    png_destroy_write_struct(&p.png, &p.info);
    if (!done) {
        out->size = before;
        return ft_image_failed(&job, "PNG", err);
    }
    return FT_OK;
}
