#if defined(__x86_64__)
#define FT_RESAMPLE ft_resample_avx2
#include "executor/prep/resample.inc"
#else
typedef int ft_resample_needs_no_avx2_here; /* a translation unit may not be empty */
#endif
