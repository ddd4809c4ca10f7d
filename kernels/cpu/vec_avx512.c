/* Compiled with the flags of flags.cmake; other processors than x86-64 have vec_base only. */
#if defined(__x86_64__)
#define FT_VEC_SET avx512
#define FT_VEC_W 16
#include "kernels/cpu/vec.inc"

#undef FT_VEC_SET
#define FT_VEC_SET avx512_vnni
#define FT_VEC_PRODUCT_INT8 vec_product_int8_vnni
#include "kernels/cpu/vec_table.inc"
#else
#include "kernels/cpu/vec.h"
#endif
