/*
 * augment.h - random changes of training pictures, replayed exactly.
 *
 * What happens to a picture is drawn from (seed, step, place in the batch) and nothing else, so a resumed run
 * and any number of threads see the same pictures. Operations, names and parameters are torchvision's, in
 * this order: RandomResizedCrop (instead of the preprocessor's resize and crop), else those and RandomCrop
 * with padding; RandomRotation, RandomHorizontalFlip, ColorJitter, RandomGrayscale, GaussianBlur; then the
 * preprocessor's floats, and RandomErasing on them. Each operation alone equals torchvision's on a Pillow
 * image (pixels.h). Thread-safety: const objects may be used by any number of threads.
 */
#ifndef FT_PREP_AUGMENT_H
#define FT_PREP_AUGMENT_H

#include <stdbool.h>

#include "executor/base/rand.h"
#include "executor/prep/prep.h"

struct ft_augment { /* plain value; all zero and `on` false changes nothing */
    bool on;
    double crop[2], ratio[2]; /* RandomResizedCrop: share of the area, width / height; crop[1] = 0: none */
    double pad;               /* RandomCrop: pixels of zeros on each side */
    double rotate[2];         /* degrees, counter-clockwise */
    double flip;              /* probability */
    double brightness[2], contrast[2], saturation[2]; /* factors; both 1: none */
    double hue[2];                                    /* turns of -0.5 .. 0.5 */
    double greyscale;                                 /* probability */
    double blur, sigma[2], kernel;                    /* probability; kernel 0: a tenth of the shorter side */
    double erase, erase_scale[2], erase_ratio[2];     /* probability; share of the area, height / width */
};

/* "none", "light", "strong", or JSON: an object of options, {"preset": "light", ...} to start from one. NULL
 * is none. FT_INVALID says what is accepted. */
FT_MUST_CHECK enum ft_status ft_augment_parse(const char *text, struct ft_augment *augment,
                                              struct ft_err *err);
/* What is not as it is without being said, as JSON that ft_augment_parse() takes. */
FT_MUST_CHECK enum ft_status ft_augment_write(const struct ft_augment *augment, struct ft_buf *out,
                                              struct ft_err *err);
/* One line an option, for the help. */
FT_MUST_CHECK enum ft_status ft_augment_help(struct ft_buf *out, struct ft_err *err);

/* What was drawn for one picture of height x width. */
struct ft_augment_draw {
    bool crops, flips, greys, blurs;
    int64_t top, left, height, width; /* crops: the window */
    int64_t down, across;             /* where the window of a padded picture starts, -pad .. pad */
    double degrees;                   /* 0: none */
    int order[4];                     /* of brightness (0), contrast (1), saturation (2), hue (3) */
    double factor[4];                 /* 1, for hue 0: none */
    double sigma;
    int64_t kernel;
    int64_t erase_top, erase_left, erase_height, erase_width; /* height 0: none */
};
/* `place` < 2^32 tells pictures of one step apart: `at` is that step's stream. */
void ft_augment_draw(const struct ft_augment *augment, const struct ft_prep *prep,
                     const struct ft_pixels *pixels, struct ft_rand at, uint64_t place,
                     struct ft_augment_draw *draw);
/* From the pixels of ft_prep_pixels(), which stay as they are, to one row. */
FT_MUST_CHECK enum ft_status ft_augment_row(const struct ft_augment_draw *draw, const struct ft_prep *prep,
                                            const struct ft_pixels *pixels, float *row, struct ft_err *err);
#endif
