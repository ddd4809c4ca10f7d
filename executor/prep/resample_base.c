#define FT_RESAMPLE ft_resample_base
#include "executor/prep/resample.inc"
