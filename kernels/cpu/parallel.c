#include "kernels/cpu/parallel.h"

#include <omp.h>

#include "kernels/cpu/cpu.h"

void ft_parallel_for(int threads, int64_t n, ft_parallel_body body, void *context)
{
    if (threads > n) {
        threads = (int)n;
    }
    if (threads <= 1) {
        body(context, 0, 0, n);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        body(context, t, n * t / threads, n * (t + 1) / threads);
    }
}

void ft_parallel_chunks(int threads, int64_t n, int64_t chunk, ft_parallel_body body, void *context)
{
    int64_t chunks = ft_parts_of(n, chunk);
    if (threads > chunks) {
        threads = (int)chunks;
    }
    if (threads <= 1) {
        body(context, 0, 0, n);
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < chunks; i++) {
        body(context, omp_get_thread_num(), i * chunk, ft_smaller(n, (i + 1) * chunk));
    }
}

int ft_parallel_processors(void)
{
    return omp_get_num_procs();
}

int ft_parallel_limit(int threads)
{
    int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    return before;
}
