#include "kernels/cpu/vec.h"

const struct ft_vec *ft_vec_best(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
        return ft_vec_avx512();
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return ft_vec_avx2();
    }
#endif
    return ft_vec_base();
}
