#include "executor/prep/augment.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "executor/prep/internal.h"

/* ---- drawing ---- */

enum use {
    USE_CROP,
    USE_PAD = USE_CROP + 24, /* a crop tries ten times, with two numbers each, and then places the window */
    USE_ROTATE = USE_PAD + 2,
    USE_FLIP,
    USE_ORDER,
    USE_FACTOR = USE_ORDER + 4,
    USE_GREY = USE_FACTOR + 4,
    USE_BLUR,
    USE_SIGMA,
    USE_ERASE,
    USE_WINDOW,
    USES = USE_WINDOW + 24
};

struct dice {
    struct ft_rand at;
    uint64_t first;
};

static double uniform(struct dice d, int use, const double range[2])
{
    return range[0] + (range[1] - range[0]) * (double)ft_rand_float(d.at, d.first + (uint64_t)use);
}

static bool happens(struct dice d, int use, double probability)
{
    return (double)ft_rand_float(d.at, d.first + (uint64_t)use) < probability;
}

/* 0 .. last, both included. Not ft_rand_below(): its counter is that of whole blocks, the others' of words.
 */
static int64_t whole(struct dice d, int use, int64_t last)
{
    uint64_t word = ft_rand_u32(d.at, d.first + (uint64_t)use);
    return (int64_t)(word * ((uint64_t)last + 1) >> 32);
}

struct window {
    int64_t top;
    int64_t left;
    int64_t height;
    int64_t width;
};

static bool is_drawn(const double range[2], double nothing)
{
    return range[0] != nothing || range[1] != nothing;
}

/* A rectangle whose share of `area` and aspect (side 0 to side 1) are drawn. */
struct shape {
    const double *scale, *ratio;
    double area;
    int64_t limit[2];
};

/* Up to ten times, until it fits: torchvision's get_params() of RandomResizedCrop and RandomErasing. */
static bool draw_sides(struct dice d, int use, const struct shape *s, int64_t side[2])
{
    const double logs[2] = {log(s->ratio[0]), log(s->ratio[1])};
    for (int i = 0; i < 10; i++) {
        double target = s->area * uniform(d, use + 2 * i, s->scale);
        double aspect = exp(uniform(d, use + 2 * i + 1, logs));
        side[0] = (int64_t)nearbyint(sqrt(target * aspect));
        side[1] = (int64_t)nearbyint(sqrt(target / aspect));
        if (side[0] > 0 && side[0] <= s->limit[0] && side[1] > 0 && side[1] <= s->limit[1]) {
            return true;
        }
    }
    return false;
}

static struct window draw_crop(struct dice d, const struct ft_augment *a, const struct ft_pixels *p)
{
    int64_t side[2] = {0, 0};
    double aspect = (double)p->width / (double)p->height;
    struct shape shape = {a->crop, a->ratio, (double)p->height * (double)p->width, {p->width, p->height}};
    if (draw_sides(d, USE_CROP, &shape, side)) {
        return (struct window){whole(d, USE_CROP + 20, p->height - side[1]),
                               whole(d, USE_CROP + 21, p->width - side[0]), side[1], side[0]};
    }
    struct window w = {.height = p->height, .width = p->width};
    if (aspect < a->ratio[0]) {
        w.height = (int64_t)nearbyint((double)p->width / a->ratio[0]);
    } else if (aspect > a->ratio[1]) {
        w.width = (int64_t)nearbyint((double)p->height * a->ratio[1]);
    }
    w.height = w.height < 1 ? 1 : w.height; /* of a line a pixel high or wide */
    w.width = w.width < 1 ? 1 : w.width;
    w.top = (p->height - w.height) / 2;
    w.left = (p->width - w.width) / 2;
    return w;
}

/* Smaller than the picture along both sides, as torchvision wants it. */
static void draw_erasing(struct dice d, const struct ft_augment *a, const struct ft_prep *prep,
                         struct ft_augment_draw *draw)
{
    int64_t side[2] = {0, 0};
    struct shape shape = {a->erase_scale,
                          a->erase_ratio,
                          (double)prep->height * (double)prep->width,
                          {prep->height - 1, prep->width - 1}};
    if (happens(d, USE_ERASE, a->erase) && draw_sides(d, USE_WINDOW, &shape, side)) {
        draw->erase_top = whole(d, USE_WINDOW + 20, prep->height - side[0]);
        draw->erase_left = whole(d, USE_WINDOW + 21, prep->width - side[1]);
        draw->erase_height = side[0];
        draw->erase_width = side[1];
    }
}

static void draw_jitter(struct dice d, const struct ft_augment *a, struct ft_augment_draw *draw)
{
    const double *ranges[4] = {a->brightness, a->contrast, a->saturation, a->hue};
    for (int i = 0; i < 4; i++) {
        double nothing = i == 3 ? 0.0 : 1.0;
        draw->order[i] = i;
        draw->factor[i] = is_drawn(ranges[i], nothing) ? uniform(d, USE_FACTOR + i, ranges[i]) : nothing;
    }
    for (int i = 3; i > 0; i--) {
        int64_t j = whole(d, USE_ORDER + i, i);
        int kept = draw->order[i];
        draw->order[i] = draw->order[j];
        draw->order[j] = kept;
    }
}

static int64_t kernel_of(const struct ft_augment *a, const struct ft_prep *prep)
{
    int64_t shorter = prep->height < prep->width ? prep->height : prep->width;
    return (a->kernel > 0 ? (int64_t)a->kernel : shorter / 10) | 1;
}

void ft_augment_draw(const struct ft_augment *a, const struct ft_prep *prep, const struct ft_pixels *pixels,
                     struct ft_rand at, uint64_t place, struct ft_augment_draw *draw)
{
    struct dice d = {at, place * USES};
    *draw = (struct ft_augment_draw){.factor = {1, 1, 1, 0}};
    if (!a->on) {
        return;
    }
    draw->crops = a->crop[1] > 0;
    if (draw->crops) {
        struct window w = draw_crop(d, a, pixels);
        draw->top = w.top;
        draw->left = w.left;
        draw->height = w.height;
        draw->width = w.width;
    }
    int64_t pad = (int64_t)a->pad;
    draw->down = whole(d, USE_PAD, 2 * pad) - pad;
    draw->across = whole(d, USE_PAD + 1, 2 * pad) - pad;
    draw->degrees = uniform(d, USE_ROTATE, a->rotate);
    draw->flips = happens(d, USE_FLIP, a->flip);
    draw_jitter(d, a, draw);
    draw->greys = happens(d, USE_GREY, a->greyscale);
    draw->blurs = happens(d, USE_BLUR, a->blur);
    draw->sigma = uniform(d, USE_SIGMA, a->sigma);
    draw->kernel = kernel_of(a, prep);
    draw_erasing(d, a, prep, draw);
}

/* ---- doing ---- */

static void replace(struct ft_pixels *pixels, struct ft_pixels *by)
{
    ft_pixels_release(pixels);
    *pixels = *by;
    *by = (struct ft_pixels){0};
}

static enum ft_status take_window(const struct ft_augment_draw *d, const struct ft_prep *prep,
                                  const struct ft_pixels *in, struct ft_pixels *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pixels window = {0};
    if (d->crops) {
        FT_TRY(ft_pixels_window(in, d->top, d->left, d->height, d->width, &window, err));
        FT_TRY(ft_pixels_resize(&window, prep->height, prep->width, prep->filter, out, err));
    } else {
        FT_TRY(ft_prep_fit(prep, in, out, err));
    }
    if (d->down != 0 || d->across != 0) {
        ft_pixels_release(&window);
        FT_TRY(ft_pixels_window(out, d->down, d->across, out->height, out->width, &window, err));
        replace(out, &window);
    }
    if (d->degrees != 0) {
        ft_pixels_release(&window);
        FT_TRY(ft_pixels_rotate(out, d->degrees, &window, err));
        replace(out, &window);
    }
done:
    ft_pixels_release(&window);
    return st;
}

static void jitter(const struct ft_augment_draw *d, struct ft_pixels *pixels)
{
    static void (*const adjust[4])(struct ft_pixels *, double) = {ft_pixels_brightness, ft_pixels_contrast,
                                                                  ft_pixels_saturation, ft_pixels_hue};
    for (int i = 0; i < 4; i++) {
        int which = d->order[i];
        if (d->factor[which] != (which == 3 ? 0.0 : 1.0)) {
            adjust[which](pixels, d->factor[which]);
        }
    }
}

/* Zeros, as torchvision's default: the mean, after normalisation. */
static void erase(const struct ft_augment_draw *d, const struct ft_prep *prep, float *row)
{
    int64_t c = prep->channels;
    for (int64_t y = d->erase_top; y < d->erase_top + d->erase_height; y++) {
        if (prep->channels_last) {
            memset(row + (y * prep->width + d->erase_left) * c, 0,
                   (size_t)(d->erase_width * c) * sizeof *row);
            continue;
        }
        for (int64_t k = 0; k < c; k++) {
            memset(row + (k * prep->height + y) * prep->width + d->erase_left, 0,
                   (size_t)d->erase_width * sizeof *row);
        }
    }
}

enum ft_status ft_augment_row(const struct ft_augment_draw *draw, const struct ft_prep *prep,
                              const struct ft_pixels *pixels, float *row, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pixels p = {0};
    assert(prep->kind == FT_PREP_IMAGE);
    FT_TRY(take_window(draw, prep, pixels, &p, err));
    if (draw->flips) {
        ft_pixels_flip(&p);
    }
    jitter(draw, &p);
    if (draw->greys) {
        ft_pixels_grey(&p);
    }
    if (draw->blurs) {
        FT_TRY(ft_pixels_blur(&p, draw->kernel, draw->sigma, err));
    }
    ft_prep_floats(prep, &p, row);
    erase(draw, prep, row);
done:
    ft_pixels_release(&p);
    return st;
}
