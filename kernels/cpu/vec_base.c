#define FT_VEC_SET base
#define FT_VEC_W 4
#include "kernels/cpu/vec.inc"
