/*
 * resample.h - the inner loops of resizing, one build an instruction set; all give the same bits.
 *
 * Private to prep/: resample.c makes the weights and chooses.
 */
#ifndef FT_PREP_RESAMPLE_H
#define FT_PREP_RESAMPLE_H

#include "executor/prep/pixels.h"

enum {
    FT_TAP_BITS = 32 - 8 - 2, /* of a weight's fraction */
    FT_STRIP = 16             /* rows that the horizontal pass takes side by side */
};

/* What output pixel i is made of: the inputs first[i] .. first[i] + count[i] - 1, weighted by weights[i *
 * stride ..]. */
struct ft_taps {
    int32_t *first;
    int32_t *count;
    int32_t *weights;
    size_t stride;
};

struct ft_resample {
    /* strip: FT_STRIP * in->width * in->channels bytes of room. */
    void (*rows)(const struct ft_pixels *in, const struct ft_taps *taps, uint8_t *strip,
                 struct ft_pixels *out);
    void (*columns)(const struct ft_pixels *in, const struct ft_taps *taps, struct ft_pixels *out);
};
extern const struct ft_resample ft_resample_base;
extern const struct ft_resample ft_resample_avx2; /* x86-64 only */
#endif
