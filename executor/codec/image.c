#include "executor/codec/image_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"

/* ---- what the formats share ---- */

bool ft_image_guarded(struct ft_image_job *job, ft_image_step step, void *state)
{
    if (setjmp(job->jump) != 0) {
        return false;
    }
    step(state);
    return true;
}

void ft_image_give_up(struct ft_image_job *job, enum ft_status code, const char *reason)
{
    job->code = code;
    (void)snprintf(job->reason, sizeof job->reason, "%s", reason);
    longjmp(job->jump, 1);
}

void ft_image_accept(struct ft_image_job *job, int64_t width, int64_t height)
{
    size_t bytes = 0;
    job->width = width;
    job->height = height;
    if (width == 0 || height == 0) {
        ft_image_give_up(job, FT_CORRUPT, "it has no pixels");
    }
    if (width * height > job->max_pixels) {
        char text[100];
        (void)snprintf(text, sizeof text, "%lld x %lld pixels are more than the limit of %lld",
                       (long long)width, (long long)height, (long long)job->max_pixels);
        ft_image_give_up(job, FT_LIMIT, text);
    }
    if (!ft_mul_size((size_t)width * (size_t)height, 3, &bytes) || (job->pixels = ft_alloc(bytes)) == NULL) {
        ft_image_give_up(job, FT_NOMEM, "no memory for its pixels");
    }
}

uint8_t *ft_image_row(const struct ft_image_job *job, int64_t y)
{
    return job->pixels + (size_t)y * (size_t)job->width * 3;
}

enum ft_status ft_image_failed(const struct ft_image_job *job, const char *format, struct ft_err *err)
{
    return ft_err_set(err, job->code, __FILE__, __LINE__, "%s image: %s", format, job->reason);
}

/* ---- formats ---- */

static const struct format {
    const char *name;
    bool (*is)(struct ft_bytes file);
    bool (*decode)(struct ft_image_job *job);
} formats[] = {
    {"PNG", ft_png_is, ft_png_decode},
    {"JPEG", ft_jpeg_is, ft_jpeg_decode},
    {"WebP", ft_webp_is, ft_webp_decode},
};

static const struct format *format_of(struct ft_bytes file)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (formats[i].is(file)) {
            return &formats[i];
        }
    }
    return NULL;
}

bool ft_image_known(struct ft_bytes file)
{
    return format_of(file) != NULL;
}

/* Formats that people have and we do not read, so that the refusal can name them. */
static const char *foreign_name(struct ft_bytes file)
{
    static const struct {
        size_t at;
        const char *magic;
        size_t size;
        const char *name;
    } foreign[] = {
        {0, "GIF8", 4, "GIF"},         {0, "BM", 2, "BMP"},           {0, "II*\0", 4, "TIFF"},
        {0, "MM\0*", 4, "TIFF"},       {4, "ftypavi", 7, "AVIF"},     {4, "ftyphei", 7, "HEIC"},
        {4, "ftypmif", 7, "HEIF"},     {0, "8BPS", 4, "Photoshop"},   {4, "jP  \r\n", 6, "JPEG 2000"},
        {0, "\xff\x0a", 2, "JPEG XL"}, {4, "JXL \r\n", 6, "JPEG XL"}, {0, "\0\0\1\0", 4, "icon"},
    };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        if (file.size >= foreign[i].at + foreign[i].size &&
            memcmp(file.data + foreign[i].at, foreign[i].magic, foreign[i].size) == 0) {
            return foreign[i].name;
        }
    }
    return NULL;
}

enum ft_status ft_image_decode(struct ft_bytes file, int64_t max_pixels, struct ft_image *image,
                               struct ft_err *err)
{
    struct ft_image_job job = {.file = file, .max_pixels = max_pixels};
    const struct format *format = format_of(file);
    *image = (struct ft_image){0};
    if (format == NULL) {
        const char *name = foreign_name(file);
        return name != NULL
                   ? FT_FAIL(err, UNSUPPORTED, "a %s image is not read, only PNG, JPEG and WebP", name)
                   : FT_FAIL(err, UNSUPPORTED, "the %zu bytes are no PNG, JPEG or WebP image", file.size);
    }
    if (!format->decode(&job)) {
        ft_free(job.pixels);
        return ft_image_failed(&job, format->name, err);
    }
    *image = (struct ft_image){.pixels = job.pixels,
                               .height = job.height,
                               .width = job.width,
                               .orientation = ft_exif_orientation(file)};
    return FT_OK;
}

void ft_image_release(struct ft_image *image)
{
    ft_free(image->pixels);
    *image = (struct ft_image){0};
}

/* ---- orientation ---- */

/* Pixel (y, x) of the upright picture is the stored pixel first + y * down + x * across. */
struct walk {
    int64_t first;
    int64_t down;
    int64_t across;
};

static struct walk walk_of(int orientation, int64_t height, int64_t width)
{
    int64_t end = height * width - 1;
    switch (orientation) {
    case 2: /* mirrored */
        return (struct walk){width - 1, width, -1};
    case 3: /* upside down */
        return (struct walk){end, -width, -1};
    case 4:
        return (struct walk){(height - 1) * width, -width, 1};
    case 5: /* from here on, width and height change places */
        return (struct walk){0, 1, width};
    case 6:
        return (struct walk){(height - 1) * width, 1, -width};
    case 7:
        return (struct walk){end, -1, -width};
    case 8:
        return (struct walk){width - 1, -1, width};
    default:
        return (struct walk){0, width, 1};
    }
}

enum ft_status ft_image_upright(struct ft_image *image, struct ft_err *err)
{
    assert(image->orientation >= 1 && image->orientation <= 8);
    if (image->orientation == 1) {
        return FT_OK;
    }
    bool turned = image->orientation >= 5;
    int64_t height = turned ? image->width : image->height;
    int64_t width = turned ? image->height : image->width;
    struct walk w = walk_of(image->orientation, image->height, image->width);
    uint8_t *pixels = NULL;
    FT_RETURN_IF_FAILED(ft_new((size_t)height * (size_t)width, 3, &pixels, err));
    uint8_t *to = pixels;
    for (int64_t y = 0; y < height; y++) {
        const uint8_t *from = image->pixels + 3 * (w.first + y * w.down);
        for (int64_t x = 0; x < width; x++, from += 3 * w.across, to += 3) {
            memcpy(to, from, 3);
        }
    }
    ft_free(image->pixels);
    *image = (struct ft_image){.pixels = pixels, .height = height, .width = width, .orientation = 1};
    return FT_OK;
}
