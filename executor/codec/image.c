#include "executor/codec/image.h"

#include <assert.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include "executor/base/alloc.h"

/* Both libraries report errors by not returning. Every call into them runs below guarded(), which alone holds
 * the jump; all state lives in a job on the caller's stack, so no local variable is ever indeterminate after
 * a jump. */

enum {
    JPEG_SCANS_MAX = 500
}; /* a progressive file of a few KB can ask for thousands of passes over the picture */

struct job {
    jmp_buf jump;
    enum ft_status code; /* of the failure */
    char reason[JMSG_LENGTH_MAX];
    struct ft_bytes file;
    size_t at; /* PNG: bytes read so far */
    int64_t max_pixels;
    int64_t width;
    int64_t height;
    uint8_t *pixels; /* (height, width, 3) */
    uint8_t *row;    /* JPEG: one row of CMYK */
    png_structp png;
    png_infop info;
    png_byte depth;
    png_byte colour;
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr jpeg_errors;
    struct jpeg_progress_mgr jpeg_progress;
    const uint8_t *source; /* writing: pixels in */
    int channels;
    struct ft_buf *out;
    struct ft_err *err;
};

typedef void (*job_step)(struct job *job);

static bool guarded(struct job *job, job_step step)
{
    if (setjmp(job->jump) != 0) {
        return false;
    }
    step(job);
    return true;
}

_Noreturn static void give_up(struct job *job, enum ft_status code, const char *reason)
{
    job->code = code;
    (void)snprintf(job->reason, sizeof job->reason, "%s", reason);
    longjmp(job->jump, 1);
}

/* From the header; makes room for the pixels. */
static void accept_size(struct job *job, uint32_t width, uint32_t height)
{
    size_t bytes = 0;
    job->width = (int64_t)width;
    job->height = (int64_t)height;
    if (width == 0 || height == 0) {
        give_up(job, FT_CORRUPT, "it has no pixels");
    }
    if (job->width * job->height > job->max_pixels) {
        char text[100];
        (void)snprintf(text, sizeof text, "%u x %u pixels are more than the limit of %lld", (unsigned)width,
                       (unsigned)height, (long long)job->max_pixels);
        give_up(job, FT_LIMIT, text);
    }
    if (!ft_mul_size((size_t)width * height, 3, &bytes) || (job->pixels = ft_alloc(bytes)) == NULL) {
        give_up(job, FT_NOMEM, "no memory for its pixels");
    }
}

static uint8_t *row_of(struct job *job, int64_t y)
{
    return job->pixels + (size_t)y * (size_t)job->width * 3;
}

/* ---- PNG ---- */

static void png_failed(png_structp png, png_const_charp reason)
{
    struct job *job = png_get_error_ptr(png);
    /* libpng's own words for a failed allocation. */
    bool memory = strstr(reason, "emory") != NULL;
    give_up(job, memory ? FT_NOMEM : FT_CORRUPT, reason);
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
    struct job *job = png_get_io_ptr(png);
    if (size > job->file.size - job->at) {
        png_error(png, "the file is cut off");
    }
    memcpy(to, job->file.data + job->at, size);
    job->at += size;
}

static void png_open(struct job *job)
{
    job->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, job, png_failed, png_warned, NULL,
                                        png_get_memory, png_give_memory);
    if (job->png == NULL) {
        give_up(job, FT_NOMEM, "no memory for the decoder");
    }
    job->info = png_create_info_struct(job->png);
    if (job->info == NULL) {
        give_up(job, FT_NOMEM, "no memory for the decoder");
    }
    png_set_read_fn(job->png, job, png_get_bytes);
    /* A negative count: every chunk that changes no pixel. Profiles and texts may unpack to megabytes. */
    png_set_keep_unknown_chunks(job->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
}

static bool is_grey16(const struct job *job)
{
    return job->colour == PNG_COLOR_TYPE_GRAY && job->depth == 16;
}

/* Bytes a pixel has when a row comes from libpng: RGB, a palette index, or a 16-bit grey. */
static int64_t row_pixel_bytes(const struct job *job)
{
    if (job->colour == PNG_COLOR_TYPE_PALETTE) {
        return 1;
    }
    return is_grey16(job) ? 2 : 3;
}

static void png_head(struct job *job)
{
    png_open(job);
    png_read_info(job->png, job->info);
    job->colour = png_get_color_type(job->png, job->info);
    job->depth = png_get_bit_depth(job->png, job->info);
    accept_size(job, png_get_image_width(job->png, job->info), png_get_image_height(job->png, job->info));
    if (job->colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_packing(job->png);
        return;
    }
    if (is_grey16(job)) {
        return;
    }
    if (job->depth == 16) {
        png_set_strip_16(job->png);
    }
    if (job->colour == PNG_COLOR_TYPE_GRAY && job->depth < 8) {
        png_set_expand_gray_1_2_4_to_8(job->png);
    }
    if ((job->colour & PNG_COLOR_MASK_ALPHA) != 0) {
        png_set_strip_alpha(job->png);
    }
    if ((job->colour & PNG_COLOR_MASK_COLOR) == 0) {
        png_set_gray_to_rgb(job->png);
    }
}

/* The row lies at the end of its RGB row, so widening it from the left never overtakes what is still to be
 * read. */
static void widen_row(const struct job *job, uint8_t *row, const png_color palette[256])
{
    const uint8_t *from = row + job->width * (3 - row_pixel_bytes(job));
    for (int64_t x = 0; x < job->width; x++) {
        if (job->colour == PNG_COLOR_TYPE_PALETTE) {
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

static void png_body(struct job *job)
{
    int passes = png_set_interlace_handling(job->png);
    int64_t offset = job->width * (3 - row_pixel_bytes(job));
    png_read_update_info(job->png, job->info);
    if (png_get_rowbytes(job->png, job->info) != (size_t)(job->width * row_pixel_bytes(job))) {
        give_up(job, FT_INTERNAL, "libpng's rows have another length than asked for");
    }
    for (int pass = 0; pass < passes; pass++) {
        for (int64_t y = 0; y < job->height; y++) {
            png_read_row(job->png, row_of(job, y) + offset, NULL);
        }
    }
    png_read_end(job->png, NULL);
    if (offset == 0) {
        return;
    }
    /* An index beyond the palette is black, as in Pillow. */
    png_color palette[256] = {{0}};
    png_colorp stored = NULL;
    int count = 0;
    if (job->colour == PNG_COLOR_TYPE_PALETTE && png_get_PLTE(job->png, job->info, &stored, &count) != 0) {
        assert(count >= 0 && count <= 256);
        memcpy(palette, stored, (size_t)count * sizeof *stored);
    }
    for (int64_t y = 0; y < job->height; y++) {
        widen_row(job, row_of(job, y), palette);
    }
}

static void png_release(struct job *job)
{
    png_destroy_read_struct(&job->png, &job->info, NULL);
}

/* ---- JPEG ---- */

static void jpeg_failed(j_common_ptr jpeg)
{
    struct job *job = jpeg->client_data;
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    switch (jpeg->err->msg_code) {
    case JERR_OUT_OF_MEMORY:
        give_up(job, FT_NOMEM, "no memory to decode it");
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_ARITH_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_CCIR601_NOTIMPL:
        give_up(job, FT_UNSUPPORTED, text);
    default:
        give_up(job, FT_CORRUPT, text);
    }
}

/* Pillow reads on after what libjpeg calls corrupt data, and so do we; but a file cut off is broken. */
static void jpeg_message(j_common_ptr jpeg, int level)
{
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) {
        give_up(jpeg->client_data, FT_CORRUPT, "the file is cut off");
    }
}

static void jpeg_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void jpeg_watch(j_common_ptr jpeg)
{
    if (jpeg->is_decompressor && ((j_decompress_ptr)jpeg)->input_scan_number > JPEG_SCANS_MAX) {
        give_up(jpeg->client_data, FT_LIMIT, "it has more than 500 scans");
    }
}

static void jpeg_head(struct job *job)
{
    j_decompress_ptr jpeg = &job->jpeg;
    jpeg->err = jpeg_std_error(&job->jpeg_errors);
    job->jpeg_errors.error_exit = jpeg_failed;
    job->jpeg_errors.emit_message = jpeg_message;
    job->jpeg_errors.output_message = jpeg_output;
    jpeg->client_data = job;
    jpeg_create_decompress(jpeg);
    job->jpeg_progress.progress_monitor = jpeg_watch;
    jpeg->progress = &job->jpeg_progress;
    jpeg_mem_src(jpeg, job->file.data, job->file.size);
    (void)jpeg_read_header(jpeg, TRUE);
    if (jpeg->num_components != 1 && jpeg->num_components != 3 && jpeg->num_components != 4) {
        give_up(job, FT_UNSUPPORTED, "a JPEG with 1, 3 or 4 components is needed");
    }
    accept_size(job, jpeg->image_width, jpeg->image_height);
    if (jpeg->num_components == 4) {
        jpeg->out_color_space = JCS_CMYK;
        job->row = ft_alloc((size_t)job->width * 4);
        if (job->row == NULL) {
            give_up(job, FT_NOMEM, "no memory for a row of it");
        }
    } else {
        jpeg->out_color_space = JCS_RGB;
    }
}

/* Pillow takes every four-component file as Adobe's, which stores inverted ink; then its own CMYK to RGB. */
static void ink_to_rgb(const uint8_t *cmyk, int64_t width, uint8_t *rgb)
{
    for (int64_t x = 0; x < width; x++, cmyk += 4, rgb += 3) {
        int light = cmyk[3];
        for (int c = 0; c < 3; c++) {
            int product = (255 - cmyk[c]) * light + 128;
            int value = light - ((product >> 8) + product) / 256;
            rgb[c] = (uint8_t)(value < 0 ? 0 : value);
        }
    }
}

static void jpeg_body(struct job *job)
{
    j_decompress_ptr jpeg = &job->jpeg;
    (void)jpeg_start_decompress(jpeg);
    for (int64_t y = 0; y < job->height; y++) {
        JSAMPROW row = job->row != NULL ? job->row : row_of(job, y);
        if (jpeg_read_scanlines(jpeg, &row, 1) != 1) {
            give_up(job, FT_CORRUPT, "the file is cut off");
        }
        if (job->row != NULL) {
            ink_to_rgb(job->row, job->width, row_of(job, y));
        }
    }
    (void)jpeg_finish_decompress(jpeg);
}

static void jpeg_release(struct job *job)
{
    jpeg_destroy_decompress(&job->jpeg);
    ft_free(job->row);
    job->row = NULL;
}

/* ---- both ---- */

static bool is_png(struct ft_bytes file)
{
    return file.size >= 8 && memcmp(file.data, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static bool is_jpeg(struct ft_bytes file)
{
    return file.size >= 3 && memcmp(file.data, "\xff\xd8\xff", 3) == 0;
}

bool ft_image_known(struct ft_bytes file)
{
    return is_png(file) || is_jpeg(file);
}

static enum ft_status record(const struct job *job, const char *format, struct ft_err *err)
{
    return ft_err_set(err, job->code, __FILE__, __LINE__, "%s image: %s", format, job->reason);
}

enum ft_status ft_image_decode(struct ft_bytes file, int64_t max_pixels, struct ft_image *image,
                               struct ft_err *err)
{
    struct job job = {.file = file, .max_pixels = max_pixels};
    *image = (struct ft_image){0};
    bool png = is_png(file);
    if (!png && !is_jpeg(file)) {
        return FT_FAIL(err, UNSUPPORTED, "the %zu bytes are no PNG or JPEG image", file.size);
    }
    bool done = guarded(&job, png ? png_head : jpeg_head) && guarded(&job, png ? png_body : jpeg_body);
    if (png) {
        png_release(&job);
    } else {
        jpeg_release(&job);
    }
    if (!done) {
        ft_free(job.pixels);
        return record(&job, png ? "PNG" : "JPEG", err);
    }
    image->pixels = job.pixels;
    image->height = job.height;
    image->width = job.width;
    return FT_OK;
}

void ft_image_release(struct ft_image *image)
{
    ft_free(image->pixels);
    *image = (struct ft_image){0};
}

static void png_put_bytes(png_structp png, png_bytep from, size_t size)
{
    struct job *job = png_get_io_ptr(png);
    if (ft_buf_append(job->out, from, size, job->err) != FT_OK) {
        png_error(png, "no memory for the file");
    }
}

static void png_put_flush(png_structp png)
{
    (void)png;
}

static void png_write(struct job *job)
{
    job->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, job, png_failed, png_warned, NULL,
                                         png_get_memory, png_give_memory);
    if (job->png == NULL || (job->info = png_create_info_struct(job->png)) == NULL) {
        give_up(job, FT_NOMEM, "no memory for the encoder");
    }
    png_set_write_fn(job->png, job, png_put_bytes, png_put_flush);
    png_set_compression_level(job->png, 6);
    png_set_IHDR(job->png, job->info, (png_uint_32)job->width, (png_uint_32)job->height, 8,
                 job->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(job->png, job->info);
    for (int64_t y = 0; y < job->height; y++) {
        png_write_row(job->png, job->source + y * job->width * job->channels);
    }
    png_write_end(job->png, NULL);
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
    struct job job = {
        .source = pixels, .height = height, .width = width, .channels = channels, .out = out, .err = err};
    size_t before = out->size;
    bool done = guarded(&job, png_write);
    png_destroy_write_struct(&job.png, &job.info);
    if (!done) {
        out->size = before;
        return record(&job, "PNG", err);
    }
    return FT_OK;
}
