/*
 * parallel.h - the one way kernels use several threads; OpenMP appears in parallel.c and nowhere else.
 *
 * The split of the work is a function of (threads, n) alone, so results are the same bits in every run.
 * Thread-safety: to be called by the thread that owns the device (DESIGN 5.11: nobody else enters OpenMP).
 */
#ifndef FT_KERNELS_CPU_PARALLEL_H
#define FT_KERNELS_CPU_PARALLEL_H

#include <stdint.h>

/* Do items begin .. end - 1; thread is 0 .. threads - 1 and picks private scratch. */
typedef void (*ft_parallel_body)(void *context, int thread, int64_t begin, int64_t end);

/* Split [0, n) into contiguous ranges, one a thread, and wait for all. threads <= 1 runs on the caller. */
void ft_parallel_for(int threads, int64_t n, ft_parallel_body body, void *context);
/* As ft_parallel_for(), but `chunk` items at a time for whoever is free, so that a thread which loses its
 * processor for a while keeps nobody waiting. Only for bodies whose results are the same whatever the split.
 */
void ft_parallel_chunks(int threads, int64_t n, int64_t chunk, ft_parallel_body body, void *context);

/* How many processors this process may use. */
int ft_parallel_processors(void);
/* How many threads the calling thread's parallel regions get from now on: ours and oneDNN's. Returns the
 * number before. */
int ft_parallel_limit(int threads);

#endif
