#include "executor/base/alloc.h"

#include <assert.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A header of one alignment unit in front of every block keeps its size, so the counters stay true. */
struct header {
    size_t size;
    uint64_t magic;
};
static_assert(sizeof(struct header) <= FT_ALIGN, "the header must fit the alignment unit");

static const uint64_t magic_live = 0x66745f6c6976655fULL;

/* Counters are process-wide by nature: the one exception to "no global mutable state". */
static _Atomic uint64_t calls;
static _Atomic size_t live_bytes;
static _Atomic size_t peak_bytes;
static _Atomic size_t live_blocks;
static _Atomic uint64_t fail_countdown;
static _Thread_local int64_t thread_bytes;

bool ft_mul_size(size_t a, size_t b, size_t *out)
{
    bool over = __builtin_mul_overflow(a, b, out);
    if (over) {
        *out = 0;
    }
    return !over;
}

bool ft_add_size(size_t a, size_t b, size_t *out)
{
    bool over = __builtin_add_overflow(a, b, out);
    if (over) {
        *out = 0;
    }
    return !over;
}

static bool must_fail(void)
{
    uint64_t n = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (n != 0) {
        if (atomic_compare_exchange_weak(&fail_countdown, &n, n - 1)) {
            return n == 1;
        }
    }
    return false;
}

static void count_up(size_t size)
{
    thread_bytes += (int64_t)size;
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    size_t live = atomic_fetch_add_explicit(&live_bytes, size, memory_order_relaxed) + size;
    size_t peak = atomic_load_explicit(&peak_bytes, memory_order_relaxed);
    while (live > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, live)) {
    }
}

static struct header *header_of(void *p)
{
    struct header *h = (struct header *)(void *)((char *)p - FT_ALIGN);
    assert(h->magic == magic_live);
    return h;
}

void *ft_alloc(size_t size)
{
    size_t total = 0;
    if (must_fail() || !ft_add_size(size, (size_t)2 * FT_ALIGN, &total)) {
        return NULL;
    }
    total = total / FT_ALIGN * FT_ALIGN; /* aligned_alloc wants a multiple */
    char *raw = aligned_alloc(FT_ALIGN, total);
    if (raw == NULL) {
        return NULL;
    }
    struct header *h = (struct header *)(void *)raw;
    h->size = size;
    h->magic = magic_live;
    count_up(size);
    return raw + FT_ALIGN;
}

void *ft_calloc(size_t count, size_t size)
{
    size_t total = 0;
    if (!ft_mul_size(count, size, &total)) {
        return NULL;
    }
    void *p = ft_alloc(total);
    if (p != NULL) {
        memset(p, 0, total);
    }
    return p;
}

void *ft_realloc(void *p, size_t size)
{
    if (p == NULL) {
        return ft_alloc(size);
    }
    size_t old = header_of(p)->size;
    void *fresh = ft_alloc(size);
    if (fresh == NULL) {
        return NULL;
    }
    memcpy(fresh, p, old < size ? old : size);
    ft_free(p);
    return fresh;
}

char *ft_strndup(const char *text, size_t size)
{
    char *copy = ft_alloc(size + 1);
    if (copy != NULL) {
        memcpy(copy, text, size);
        copy[size] = '\0';
    }
    return copy;
}

char *ft_strdup(const char *text)
{
    return ft_strndup(text, strlen(text));
}

void ft_free(void *p)
{
    if (p == NULL) {
        return;
    }
    struct header *h = header_of(p);
    thread_bytes -= (int64_t)h->size;
    atomic_fetch_sub_explicit(&live_bytes, h->size, memory_order_relaxed);
    atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
    h->magic = 0;
    free(h);
}

enum ft_status ft_new(size_t count, size_t size, void *out, struct ft_err *err)
{
    void *p = ft_calloc(count, size);
    memcpy(out, &p, sizeof p);
    if (p == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for %zu x %zu bytes", count, size);
    }
    return FT_OK;
}

enum ft_status ft_new_text(const char *text, char **out, struct ft_err *err)
{
    *out = ft_strdup(text);
    if (*out == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for %zu bytes of text", strlen(text) + 1);
    }
    return FT_OK;
}

enum ft_status ft_grow(void *array, size_t *capacity, size_t need, size_t size, struct ft_err *err)
{
    if (need <= *capacity) {
        return FT_OK;
    }
    size_t fresh = *capacity < 8 ? 8 : *capacity;
    while (fresh < need) {
        if (!ft_mul_size(fresh, 2, &fresh)) {
            return FT_FAIL(err, NOMEM, "array of %zu elements is too large", need);
        }
    }
    size_t bytes = 0;
    void *old = NULL;
    memcpy(&old, array, sizeof old);
    void *p = ft_mul_size(fresh, size, &bytes) ? ft_realloc(old, bytes) : NULL;
    if (p == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for %zu elements of %zu bytes", fresh, size);
    }
    memset((char *)p + *capacity * size, 0, bytes - *capacity * size);
    memcpy(array, &p, sizeof p);
    *capacity = fresh;
    return FT_OK;
}

int64_t ft_alloc_thread_bytes(void)
{
    return thread_bytes;
}

struct ft_alloc_stats ft_alloc_stats(void)
{
    struct ft_alloc_stats s = {.calls = atomic_load(&calls),
                               .live_bytes = atomic_load(&live_bytes),
                               .peak_bytes = atomic_load(&peak_bytes),
                               .live_blocks = atomic_load(&live_blocks)};
    return s;
}

void ft_alloc_reset_peak(void)
{
    atomic_store(&peak_bytes, atomic_load(&live_bytes));
}

/* A line of the process' own status, in bytes. */
static int64_t status_bytes(const char *key)
{
    char line[256];
    int64_t kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            kib = strtoll(line + strlen(key), NULL, 10);
            break;
        }
    }
    if (status != NULL) {
        (void)fclose(status);
    }
    return kib * 1024;
}

int64_t ft_peak_memory(void)
{
    return status_bytes("VmHWM:");
}

int64_t ft_resident_memory(void)
{
    return status_bytes("VmRSS:");
}

/* The number in a file of one line; SIZE_MAX when there is none ("max"). */
static size_t number_in(const char *path)
{
    char text[32] = "";
    char *end = text;
    size_t value = SIZE_MAX;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return value;
    }
    if (fgets(text, sizeof text, file) != NULL) {
        unsigned long long n = strtoull(text, &end, 10);
        value = end != text && n > 0 && n < SIZE_MAX ? (size_t)n : value;
    }
    (void)fclose(file);
    return value;
}

/* The groups from ours up to the root of what is mounted: each limits those below it. */
static size_t group_limit(void)
{
    static const char mount[] = "/sys/fs/cgroup";
    char own[512] = "";
    char path[sizeof mount + sizeof own + sizeof "/memory.max"];
    size_t least = SIZE_MAX;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file != NULL && fgets(own, sizeof own, file) != NULL && strncmp(own, "0::/", 4) != 0) {
        own[0] = '\0'; /* version 1's lines */
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    own[strcspn(own, "\n")] = '\0';
    char *group = own + (own[0] != '\0' ? 3 : 0);
    for (;;) {
        (void)snprintf(path, sizeof path, "%s%s/memory.max", mount, group);
        size_t limit = number_in(path);
        least = limit < least ? limit : least;
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            break;
        }
        *slash = '\0';
    }
    size_t old = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    return old < least ? old : least;
}

size_t ft_memory_limit(void)
{
    size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    size_t group = group_limit();
    return group < machine ? group : machine;
}

void ft_alloc_fail_at(uint64_t n)
{
    atomic_store(&fail_countdown, n);
}

void ft_alloc_give_back(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 256 << 10); /* set, it no longer grows with what is freed */
}
