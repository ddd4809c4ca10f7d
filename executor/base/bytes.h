/*
 * bytes.h - borrowed byte ranges and a growing buffer.
 *
 * Thread-safety: a struct ft_buf belongs to one thread at a time.
 */
#ifndef FT_BASE_BYTES_H
#define FT_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A borrowed range; not NUL-terminated. {NULL, 0} is empty. */
struct ft_bytes {
    const uint8_t *data;
    size_t size;
};

struct ft_bytes ft_bytes_of(const void *data, size_t size);
struct ft_bytes ft_bytes_of_text(const char *text); /* without the NUL */
bool ft_bytes_equal(struct ft_bytes a, struct ft_bytes b);
int ft_bytes_compare(struct ft_bytes a, struct ft_bytes b); /* < 0, 0, > 0: by bytes, the shorter first */
bool ft_bytes_is(struct ft_bytes a, const char *text);
/* For "%.*s" in messages: at most 200 bytes are shown. */
int ft_bytes_shown(struct ft_bytes a);
bool ft_utf8_valid(struct ft_bytes text);
size_t ft_utf8_length(struct ft_bytes text); /* bytes of its first character; 0: none that is valid */

/* Owned and growing. A zeroed struct is empty; data is NUL-terminated once anything was appended. */
struct ft_buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

FT_MUST_CHECK enum ft_status ft_buf_reserve(struct ft_buf *buf, size_t extra, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_buf_append(struct ft_buf *buf, const void *data, size_t size,
                                           struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_buf_text(struct ft_buf *buf, const char *text, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_buf_printf(struct ft_buf *buf, struct ft_err *err, const char *fmt, ...)
    FT_PRINTF(3, 4);
struct ft_bytes ft_buf_bytes(const struct ft_buf *buf);
void ft_buf_release(struct ft_buf *buf);

/* "4096", "512M", "8G": whole numbers with K, M, G or T (powers of 1024, either case), or none. */
bool ft_size_parse(const char *text, int64_t *bytes);

/* Little-endian numbers in files of ours. */
void ft_put_u32(uint8_t *p, uint32_t v);
void ft_put_u64(uint8_t *p, uint64_t v);
uint32_t ft_get_u32(const uint8_t *p);
uint64_t ft_get_u64(const uint8_t *p);

#ifdef __cplusplus
}
#endif
#endif
