/*
 * image_internal.h - what the image formats share: one decoding job and the way out of a library.
 *
 * libpng and libjpeg report errors by not returning. Every call into them runs below ft_image_guarded(),
 * which alone holds the jump; all state lives in structs of the functions above it, so no local variable is
 * ever indeterminate after a jump. Private to codec/.
 */
#ifndef FT_CODEC_IMAGE_INTERNAL_H
#define FT_CODEC_IMAGE_INTERNAL_H

#include <setjmp.h>
#include <stdbool.h>

#include "executor/codec/image.h"

enum { FT_IMAGE_REASON = 200 }; /* bytes of a library's own words; libjpeg's JMSG_LENGTH_MAX */

struct ft_image_job {
    jmp_buf jump;
    enum ft_status code; /* of the failure */
    char reason[FT_IMAGE_REASON];
    struct ft_bytes file;
    int64_t max_pixels;
    int64_t width;
    int64_t height;
    uint8_t *pixels; /* (height, width, 3) */
};

typedef void (*ft_image_step)(void *state);
/* False: the step gave up, and the job says why. */
bool ft_image_guarded(struct ft_image_job *job, ft_image_step step, void *state);
_Noreturn void ft_image_give_up(struct ft_image_job *job, enum ft_status code, const char *reason);
/* From the header: checks the limit, makes room for the pixels. */
void ft_image_accept(struct ft_image_job *job, int64_t width, int64_t height);
uint8_t *ft_image_row(const struct ft_image_job *job, int64_t y);
FT_MUST_CHECK enum ft_status ft_image_failed(const struct ft_image_job *job, const char *format,
                                             struct ft_err *err);

/* A format: its first bytes, and the decoder, which leaves nothing behind but job->pixels. False: gave up. */
bool ft_png_is(struct ft_bytes file);
bool ft_png_decode(struct ft_image_job *job);
bool ft_jpeg_is(struct ft_bytes file);
bool ft_jpeg_decode(struct ft_image_job *job);
bool ft_webp_is(struct ft_bytes file);
bool ft_webp_decode(struct ft_image_job *job);

/* Where the camera's top is, 1 .. 8 as in EXIF; 1 when the file does not say or says it wrongly. */
int ft_exif_orientation(struct ft_bytes file);
#endif
