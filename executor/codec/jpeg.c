#include "executor/codec/image_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "executor/base/alloc.h"

static_assert(FT_IMAGE_REASON >= JMSG_LENGTH_MAX, "libjpeg's words would be cut");

/* A progressive file of a few KB can ask for thousands of passes over the picture. Encoders make some ten;
 * at most SCANS_MAX are followed, and in a large picture only as many as visit VISITS_MAX pixels. */
#define VISITS_MAX ((int64_t)1 << 31)
enum { SCANS_MAX = 500, SCANS_LEAST = 32 };

struct jpeg {
    struct ft_image_job *job;
    uint8_t *ink; /* one row of CMYK */
    int scans_max;
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
};

bool ft_jpeg_is(struct ft_bytes file)
{
    return file.size >= 3 && memcmp(file.data, "\xff\xd8\xff", 3) == 0;
}

static void jpeg_failed(j_common_ptr jpeg)
{
    struct jpeg *j = jpeg->client_data;
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    switch (jpeg->err->msg_code) {
    case JERR_OUT_OF_MEMORY:
        ft_image_give_up(j->job, FT_NOMEM, "no memory to decode it");
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_ARITH_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_CCIR601_NOTIMPL:
        ft_image_give_up(j->job, FT_UNSUPPORTED, text);
    default:
        ft_image_give_up(j->job, FT_CORRUPT, text);
    }
}

/* Pillow reads on after what libjpeg calls corrupt data, and so do we; but a file cut off is broken. */
static void jpeg_message(j_common_ptr jpeg, int level)
{
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) {
        const struct jpeg *j = jpeg->client_data;
        ft_image_give_up(j->job, FT_CORRUPT, "the file is cut off");
    }
}

static void jpeg_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void jpeg_watch(j_common_ptr jpeg)
{
    const struct jpeg *j = jpeg->client_data;
    if (jpeg->is_decompressor && ((j_decompress_ptr)jpeg)->input_scan_number > j->scans_max) {
        char text[80];
        (void)snprintf(text, sizeof text, "it has more than %d scans", j->scans_max);
        ft_image_give_up(j->job, FT_LIMIT, text);
    }
}

static int scans_allowed(const struct ft_image_job *job)
{
    int64_t n = VISITS_MAX / (job->width * job->height);
    return (int)(n > SCANS_MAX ? SCANS_MAX : n < SCANS_LEAST ? SCANS_LEAST : n);
}

static void jpeg_head(void *state)
{
    struct jpeg *j = state;
    j_decompress_ptr jpeg = &j->jpeg;
    jpeg->err = jpeg_std_error(&j->errors);
    j->errors.error_exit = jpeg_failed;
    j->errors.emit_message = jpeg_message;
    j->errors.output_message = jpeg_output;
    jpeg->client_data = j;
    jpeg_create_decompress(jpeg);
    j->progress.progress_monitor = jpeg_watch;
    jpeg->progress = &j->progress;
    jpeg_mem_src(jpeg, j->job->file.data, j->job->file.size);
    (void)jpeg_read_header(jpeg, TRUE);
    if (jpeg->num_components != 1 && jpeg->num_components != 3 && jpeg->num_components != 4) {
        ft_image_give_up(j->job, FT_UNSUPPORTED, "a JPEG with 1, 3 or 4 components is needed");
    }
    ft_image_accept(j->job, jpeg->image_width, jpeg->image_height);
    j->scans_max = scans_allowed(j->job);
    if (jpeg->num_components == 4) {
        jpeg->out_color_space = JCS_CMYK;
        j->ink = ft_alloc((size_t)j->job->width * 4);
        if (j->ink == NULL) {
            ft_image_give_up(j->job, FT_NOMEM, "no memory for a row of it");
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

static void jpeg_body(void *state)
{
    struct jpeg *j = state;
    (void)jpeg_start_decompress(&j->jpeg);
    for (int64_t y = 0; y < j->job->height; y++) {
        JSAMPROW row = j->ink != NULL ? j->ink : ft_image_row(j->job, y);
        if (jpeg_read_scanlines(&j->jpeg, &row, 1) != 1) {
            ft_image_give_up(j->job, FT_CORRUPT, "the file is cut off");
        }
        if (j->ink != NULL) {
            ink_to_rgb(j->ink, j->job->width, ft_image_row(j->job, y));
        }
    }
    (void)jpeg_finish_decompress(&j->jpeg);
}

bool ft_jpeg_decode(struct ft_image_job *job)
{
    struct jpeg j = {.job = job, .scans_max = SCANS_MAX};
    bool done = ft_image_guarded(job, jpeg_head, &j) && ft_image_guarded(job, jpeg_body, &j);
    jpeg_destroy_decompress(&j.jpeg);
    ft_free(j.ink);
    return done;
}
