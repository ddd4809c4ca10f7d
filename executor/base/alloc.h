/*
 * alloc.h - all host memory of ours comes from here, so that it can be counted and made to fail.
 *
 * Every function that returns memory aligned it to 64 bytes (a cache line and an AVX-512 register).
 * Thread-safety: all functions may be called from any thread; counters are atomic.
 */
#ifndef FT_BASE_ALLOC_H
#define FT_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FT_ALIGN = 64 };

/* a * b and a + b without overflow: false and *out = 0 when it does not fit. */
bool ft_mul_size(size_t a, size_t b, size_t *out);
bool ft_add_size(size_t a, size_t b, size_t *out);

/* NULL when there is no memory; ft_alloc(0) returns a pointer that can be freed. ft_free(NULL) is fine. */
void *ft_alloc(size_t size);
void *ft_calloc(size_t count, size_t size);
void *ft_realloc(void *p, size_t size);
char *ft_strdup(const char *text);
char *ft_strndup(const char *text, size_t size);
void ft_free(void *p);

/* The same with a recorded FT_NOMEM instead of NULL. *(void **)out is set; ownership: ft_free(). */
FT_MUST_CHECK enum ft_status ft_new(size_t count, size_t size, void *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_new_text(const char *text, char **out, struct ft_err *err);
/* Grow *array (elements of `size` bytes, capacity *capacity) to hold at least `need` elements; doubles. */
FT_MUST_CHECK enum ft_status ft_grow(void *array, size_t *capacity, size_t need, size_t size,
                                     struct ft_err *err);

struct ft_alloc_stats {
    uint64_t calls;    /* allocations since the process started (a growing realloc counts) */
    size_t live_bytes; /* as asked for, without headers */
    size_t peak_bytes; /* highest live_bytes since start or since ft_alloc_reset_peak() */
    size_t live_blocks;
};
struct ft_alloc_stats ft_alloc_stats(void);
void ft_alloc_reset_peak(void);
/* Bytes that the calling thread has allocated less those it has freed, whoever allocated them: the difference
 * of two figures says what the work between them left behind. */
int64_t ft_alloc_thread_bytes(void);

/* Most memory of this process that was resident at once, in bytes, libraries included (VmHWM; getrusage's
 * figure starts with that of the process which started us). 0 where the system does not say. */
int64_t ft_peak_memory(void);

/* The memory that is resident now, in bytes. 0 where the system does not say. */
int64_t ft_resident_memory(void);

/* Bytes of memory that this process may use: the machine's, or those of the control group it is in if they
 * are less. */
size_t ft_memory_limit(void);

/* From now on large pieces of memory go back to the system as soon as they are freed: for a service, whose
 * messages would else leave holes that are as large as their sum. Costs page faults. */
void ft_alloc_give_back(void);

/* Tests: let the n-th allocation from now fail (1 = the next), once. 0 turns it off. */
void ft_alloc_fail_at(uint64_t n);

#ifdef __cplusplus
}
#endif
#endif
