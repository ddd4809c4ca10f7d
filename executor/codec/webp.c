#include "executor/codec/image_internal.h"

#include <string.h>

#include <webp/decode.h>

/* libwebp takes its memory from malloc() and returns from every call. */

bool ft_webp_is(struct ft_bytes file)
{
    return file.size >= 16 && memcmp(file.data, "RIFF", 4) == 0 && memcmp(file.data + 8, "WEBPVP8", 7) == 0 &&
           (file.data[15] == ' ' || file.data[15] == 'L' || file.data[15] == 'X');
}

static void check(struct ft_image_job *job, VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_OK:
        return;
    case VP8_STATUS_OUT_OF_MEMORY:
        ft_image_give_up(job, FT_NOMEM, "no memory to decode it");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        ft_image_give_up(job, FT_UNSUPPORTED, "it uses a feature that libwebp does not read");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        ft_image_give_up(job, FT_CORRUPT, "the file is cut off");
    case VP8_STATUS_BITSTREAM_ERROR:
    case VP8_STATUS_INVALID_PARAM:
    case VP8_STATUS_USER_ABORT:
        break;
    }
    ft_image_give_up(job, FT_CORRUPT, "broken data");
}

static void webp_all(void *state)
{
    struct ft_image_job *job = state;
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config)) {
        ft_image_give_up(job, FT_INTERNAL, "libwebp's version is not the one compiled against");
    }
    check(job, WebPGetFeatures(job->file.data, job->file.size, &config.input));
    if (config.input.has_animation) {
        ft_image_give_up(job, FT_UNSUPPORTED, "it is animated; a still picture is needed");
    }
    ft_image_accept(job, config.input.width, config.input.height);
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = job->pixels;
    config.output.u.RGBA.stride = (int)job->width * 3;
    config.output.u.RGBA.size = (size_t)job->width * 3 * (size_t)job->height;
    check(job, WebPDecode(job->file.data, job->file.size, &config));
}

bool ft_webp_decode(struct ft_image_job *job)
{
    return ft_image_guarded(job, webp_all, job);
}
