#include "executor/prep/resample.h"

#if defined(__x86_64__)
#include <immintrin.h>

static inline __m256i eight(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

static inline void weigh(const uint8_t *from, size_t step, const int32_t *w, int32_t count, uint8_t *out)
{
    __m256i low = _mm256_set1_epi32(1 << (FT_TAP_BITS - 1));
    __m256i high = low;
    for (int32_t i = 0; i < count; i++, from += step) {
        __m256i weight = _mm256_set1_epi32(w[i]);
        low = _mm256_add_epi32(low, _mm256_mullo_epi32(eight(from), weight));
        high = _mm256_add_epi32(high, _mm256_mullo_epi32(eight(from + 8), weight));
    }
    /* Packing clips to 16 and then to 8 bits without sign, which is what clip8() does; it works on the two
     * halves apart, so the quarters come out as 0 2 1 3. */
    __m256i words =
        _mm256_packs_epi32(_mm256_srai_epi32(low, FT_TAP_BITS), _mm256_srai_epi32(high, FT_TAP_BITS));
    words = _mm256_permute4x64_epi64(words, 0xD8);
    __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)out, packed);
}

#define FT_RESAMPLE ft_resample_avx2
#include "executor/prep/resample.inc"
#else
typedef int ft_resample_needs_no_avx2_here; /* a translation unit may not be empty */
#endif
