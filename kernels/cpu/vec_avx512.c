/* Compiled with the flags of flags.cmake; other processors than x86-64 have vec_base only. */
#if defined(__x86_64__)
#define FT_VEC_SET avx512
#define FT_VEC_W 16
#include "kernels/cpu/vec.inc"
#else
#include "kernels/cpu/vec.h"
#endif
