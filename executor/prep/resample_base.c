#include "executor/prep/resample.h"

static inline void weigh(const uint8_t *from, size_t step, const int32_t *w, int32_t count, uint8_t *out)
{
    int32_t sums[FT_STRIP];
    for (int j = 0; j < FT_STRIP; j++) {
        sums[j] = 1 << (FT_TAP_BITS - 1);
    }
    for (int32_t i = 0; i < count; i++, from += step) {
        for (int j = 0; j < FT_STRIP; j++) {
            sums[j] += from[j] * w[i];
        }
    }
    for (int j = 0; j < FT_STRIP; j++) {
        int32_t v = sums[j] >> FT_TAP_BITS;
        out[j] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

#define FT_RESAMPLE ft_resample_base
#include "executor/prep/resample.inc"
