/* The one-shot and EVP interfaces of OpenSSL 3 allocate and can fail inside; these three cannot. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "executor/codec/digest.h"

#include <limits.h>
#include <openssl/sha.h>
#include <string.h>
#include <zlib.h>

#include "executor/base/alloc.h"

struct ft_sha256 {
    SHA256_CTX state;
};

enum ft_status ft_sha256_new(struct ft_sha256 **sha, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_new(1, sizeof **sha, sha, err));
    (void)SHA256_Init(&(*sha)->state);
    return FT_OK;
}

void ft_sha256_add(struct ft_sha256 *sha, struct ft_bytes bytes)
{
    (void)SHA256_Update(&sha->state, bytes.data, bytes.size);
}

static void finish_hex(SHA256_CTX *state, char hex[FT_SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t sum[FT_SHA256_BYTES];
    (void)SHA256_Final(sum, state);
    for (int i = 0; i < FT_SHA256_BYTES; i++) {
        hex[2 * i] = digits[sum[i] >> 4];
        hex[2 * i + 1] = digits[sum[i] & 15];
    }
    hex[FT_SHA256_HEX - 1] = '\0';
}

void ft_sha256_finish(struct ft_sha256 *sha, char hex[FT_SHA256_HEX])
{
    finish_hex(&sha->state, hex);
}

void ft_sha256_free(struct ft_sha256 *sha)
{
    ft_free(sha);
}

void ft_sha256_of(struct ft_bytes bytes, char hex[FT_SHA256_HEX])
{
    SHA256_CTX state;
    (void)SHA256_Init(&state);
    (void)SHA256_Update(&state, bytes.data, bytes.size);
    finish_hex(&state, hex);
}

uint32_t ft_crc32(uint32_t start, struct ft_bytes bytes)
{
    /* zlib takes a null pointer as "give me the start value". */
    return bytes.size == 0 ? start : (uint32_t)crc32_z(start, bytes.data, bytes.size);
}

static const char base64_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == '+') {
        return 62;
    }
    return c == '/' ? 63 : -1;
}

enum ft_status ft_base64_decode(struct ft_bytes text, struct ft_buf *out, struct ft_err *err)
{
    if (text.size % 4 != 0) {
        return FT_FAIL(err, INVALID, "base64 text has %zu characters, which is no multiple of 4", text.size);
    }
    size_t padding = 0;
    while (padding < 2 && padding < text.size && text.data[text.size - 1 - padding] == '=') {
        padding++;
    }
    size_t before = out->size;
    FT_RETURN_IF_FAILED(ft_buf_reserve(out, text.size / 4 * 3, err));
    uint8_t *to = out->data + before;
    for (size_t i = 0; i < text.size; i += 4) {
        uint32_t word = 0;
        for (size_t k = 0; k < 4; k++) {
            bool padded = i + k >= text.size - padding;
            int value = padded ? 0 : base64_value(text.data[i + k]);
            if (value < 0) {
                return FT_FAIL(err, INVALID, "base64 text has a wrong character at position %zu", i + k + 1);
            }
            word = word << 6 | (uint32_t)value;
        }
        *to++ = (uint8_t)(word >> 16);
        *to++ = (uint8_t)(word >> 8);
        *to++ = (uint8_t)word;
    }
    out->size = before + text.size / 4 * 3 - padding;
    out->data[out->size] = '\0';
    return FT_OK;
}

enum ft_status ft_base64_encode(struct ft_bytes bytes, struct ft_buf *out, struct ft_err *err)
{
    size_t groups = bytes.size / 3 + (bytes.size % 3 != 0 ? 1 : 0);
    size_t size = 0;
    if (!ft_mul_size(groups, 4, &size)) {
        return FT_FAIL(err, NOMEM, "%zu bytes are too many for base64", bytes.size);
    }
    FT_RETURN_IF_FAILED(ft_buf_reserve(out, size, err));
    uint8_t *to = out->data + out->size;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t n = bytes.size - i < 3 ? bytes.size - i : 3;
        uint32_t word = (uint32_t)bytes.data[i] << 16;
        word |= n > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0;
        word |= n > 2 ? (uint32_t)bytes.data[i + 2] : 0;
        *to++ = (uint8_t)base64_letters[word >> 18];
        *to++ = (uint8_t)base64_letters[word >> 12 & 63];
        *to++ = (uint8_t)(n > 1 ? base64_letters[word >> 6 & 63] : '=');
        *to++ = (uint8_t)(n > 2 ? base64_letters[word & 63] : '=');
    }
    out->size += size;
    out->data[out->size] = '\0';
    return FT_OK;
}

static voidpf zlib_alloc(voidpf opaque, uInt items, uInt size)
{
    (void)opaque;
    return ft_calloc(items, size);
}

static void zlib_free(voidpf opaque, voidpf p)
{
    (void)opaque;
    ft_free(p);
}

/* Inflate until the member ends; *out grows by what is needed, at most max_bytes + 1 in all. */
static enum ft_status inflate_all(z_stream *z, struct ft_bytes packed, size_t max_bytes, struct ft_buf *out,
                                  struct ft_err *err)
{
    enum { STEP = 1 << 16 };
    size_t at = 0;
    size_t made = 0;
    for (;;) {
        size_t in = packed.size - at < UINT_MAX ? packed.size - at : UINT_MAX;
        FT_RETURN_IF_FAILED(ft_buf_reserve(out, STEP, err));
        z->next_in = (Bytef *)(uintptr_t)(packed.data + at);
        z->avail_in = (uInt)in;
        z->next_out = out->data + out->size;
        z->avail_out = STEP;
        int code = inflate(z, Z_NO_FLUSH);
        at += in - z->avail_in;
        size_t got = STEP - z->avail_out;
        out->size += got;
        made += got;
        if (code == Z_MEM_ERROR) {
            return FT_FAIL(err, NOMEM, "no memory to decompress");
        }
        if (made > max_bytes) {
            return FT_FAIL(err, LIMIT, "gzip data are more than the limit of %zu bytes", max_bytes);
        }
        if (code == Z_STREAM_END) {
            out->data[out->size] = '\0';
            return at == packed.size ? FT_OK : FT_FAIL(err, CORRUPT, "something follows the gzip data");
        }
        if (code != Z_OK || (got == 0 && at == packed.size)) {
            return FT_FAIL(err, CORRUPT, "gzip data are broken or cut off at byte %zu", at);
        }
    }
}

enum ft_status ft_gunzip(struct ft_bytes packed, size_t max_bytes, struct ft_buf *out, struct ft_err *err)
{
    z_stream z = {.zalloc = zlib_alloc, .zfree = zlib_free};
    size_t before = out->size;
    /* 16 more than the window's bits: a gzip header is demanded. */
    int code = inflateInit2(&z, 15 + 16);
    if (code != Z_OK) {
        return code == Z_MEM_ERROR ? FT_FAIL(err, NOMEM, "no memory to decompress")
                                   : FT_FAIL(err, INTERNAL, "zlib does not start: error %d", code);
    }
    enum ft_status st = inflate_all(&z, packed, max_bytes, out, err);
    (void)inflateEnd(&z);
    if (st != FT_OK) {
        out->size = before;
    }
    return st;
}
