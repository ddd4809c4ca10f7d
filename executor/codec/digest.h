/*
 * digest.h - SHA-256 (libcrypto), CRC-32 (zlib), base64 and gzip members (zlib).
 */
#ifndef FT_CODEC_DIGEST_H
#define FT_CODEC_DIGEST_H

#include <stdint.h>

#include "executor/base/bytes.h"

enum { FT_SHA256_BYTES = 32, FT_SHA256_HEX = 65 };

struct ft_sha256; /* opaque, incremental */
FT_MUST_CHECK enum ft_status ft_sha256_new(struct ft_sha256 **sha, struct ft_err *err);
void ft_sha256_add(struct ft_sha256 *sha, struct ft_bytes bytes);
/* hex: lower case, NUL-terminated. Nothing can be added after it; the caller still frees sha. */
void ft_sha256_finish(struct ft_sha256 *sha, char hex[FT_SHA256_HEX]);
void ft_sha256_free(struct ft_sha256 *sha);
void ft_sha256_of(struct ft_bytes bytes, char hex[FT_SHA256_HEX]);

uint32_t ft_crc32(uint32_t start, struct ft_bytes bytes); /* start = 0, or the crc so far */

FT_MUST_CHECK enum ft_status ft_base64_decode(struct ft_bytes text, struct ft_buf *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_base64_encode(struct ft_bytes bytes, struct ft_buf *out, struct ft_err *err);
/* One gzip member; FT_LIMIT above max_bytes, FT_CORRUPT. */
FT_MUST_CHECK enum ft_status ft_gunzip(struct ft_bytes packed, size_t max_bytes, struct ft_buf *out,
                                       struct ft_err *err);
#endif
