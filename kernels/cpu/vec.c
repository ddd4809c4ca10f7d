#include "kernels/cpu/vec.h"

int ft_vec_available(const struct ft_vec *sets[FT_VEC_SET_COUNT])
{
    int count = 0;
    sets[count++] = ft_vec_base();
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        sets[count++] = ft_vec_avx2();
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
        sets[count++] = ft_vec_avx512();
        if (__builtin_cpu_supports("avx512vnni")) {
            sets[count++] = ft_vec_avx512_vnni();
        }
    }
#endif
    return count;
}
