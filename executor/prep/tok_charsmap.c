/*
 * sentencepiece's precompiled_charsmap: the size of a double array (darts-clone), the array, replacements
 * parted by NUL.
 *
 * tokenizers looks up whole clusters of fewer than six bytes, and takes the replacement of the *shortest*
 * beginning of one for all of it; then the code points one by one. Both are done here as they are.
 */
#include "executor/prep/tok.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/digest.h"

enum { CLUSTER_BYTES = 6 };

struct ft_tok_charsmap {
    struct ft_buf file;
    const uint8_t *units; /* unit_count little-endian numbers of 4 bytes */
    size_t unit_count;
    struct ft_bytes texts;
    bool changes[128]; /* a character of ASCII has a replacement of its own */
};

static bool replacement(const struct ft_tok_charsmap *map, const uint8_t *key, size_t size,
                        struct ft_bytes *out);

enum ft_status ft_tok_charsmap_read(const char *base64, struct ft_tok_charsmap **map, struct ft_err *err)
{
    struct ft_tok_charsmap *m = NULL;
    *map = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *m, &m, err));
    enum ft_status st = FT_OK;
    FT_TRY(ft_base64_decode(ft_bytes_of_text(base64), &m->file, err));
    size_t bytes = m->file.size >= 4 ? ft_get_u32(m->file.data) : SIZE_MAX;
    if (bytes > m->file.size - 4 || bytes % 4 != 0 || bytes == 0) {
        st = FT_FAIL(err, INVALID, "precompiled_charsmap: %zu bytes are not such a table", m->file.size);
        goto done;
    }
    m->units = m->file.data + 4;
    m->unit_count = bytes / 4;
    m->texts = ft_bytes_of(m->units + bytes, m->file.size - 4 - bytes);
    if (!ft_utf8_valid(m->texts)) {
        st = FT_FAIL(err, INVALID, "precompiled_charsmap: a replacement is not UTF-8");
        goto done;
    }
    for (int c = 0; c < 128; c++) {
        struct ft_bytes unused = {0};
        uint8_t byte = (uint8_t)c;
        m->changes[c] = replacement(m, &byte, 1, &unused);
    }
    *map = m;
    m = NULL;
done:
    ft_tok_charsmap_free(m);
    return st;
}

void ft_tok_charsmap_free(struct ft_tok_charsmap *map)
{
    if (map != NULL) {
        ft_buf_release(&map->file);
        ft_free(map);
    }
}

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* Of the shortest key that `key` begins with. */
static bool replacement(const struct ft_tok_charsmap *map, const uint8_t *key, size_t size,
                        struct ft_bytes *out)
{
    size_t at = 0;
    uint32_t unit = ft_get_u32(map->units);
    at ^= offset_of(unit);
    for (size_t i = 0; i < size && key[i] != 0; i++) {
        at ^= key[i];
        if (at >= map->unit_count) {
            return false;
        }
        unit = ft_get_u32(map->units + 4 * at);
        if ((unit & (0x80000000u | 0xff)) != key[i]) {
            return false;
        }
        at ^= offset_of(unit);
        if ((unit >> 8 & 1) != 0) {
            if (at >= map->unit_count) {
                return false;
            }
            size_t from = ft_get_u32(map->units + 4 * at) & 0x7fffffff;
            if (from >= map->texts.size) {
                return false;
            }
            const uint8_t *text = map->texts.data + from;
            if ((text[0] & 0xc0) == 0x80) { /* in the middle of a character: no table has this */
                return false;
            }
            const uint8_t *nul = memchr(text, 0, map->texts.size - from);
            *out = ft_bytes_of(text, nul != NULL ? (size_t)(nul - text) : map->texts.size - from);
            return true;
        }
    }
    return false;
}

/* The end of the cluster at text[at]. */
static size_t cluster_end(const uint8_t *text, size_t at, size_t size)
{
    size_t n = 0;
    uint32_t left = ft_tok_point(text + at, &n);
    bool joined = ft_tok_is_pictograph(left);
    for (at += n; at < size; at += n) {
        uint32_t right = ft_tok_point(text + at, &n);
        if (ft_tok_breaks(left, right, joined)) {
            break;
        }
        left = right;
    }
    return at;
}

static enum ft_status put_cluster(const struct ft_tok_charsmap *map, const uint8_t *p, size_t size,
                                  struct ft_buf *out, struct ft_err *err)
{
    struct ft_bytes text = {0};
    if (size < CLUSTER_BYTES && replacement(map, p, size, &text)) {
        return ft_buf_append(out, text.data, text.size, err);
    }
    size_t n = 0;
    for (size_t at = 0; at < size; at += n) {
        (void)ft_tok_point(p + at, &n);
        bool changed = replacement(map, p + at, n, &text);
        FT_RETURN_IF_FAILED(ft_buf_append(out, changed ? text.data : p + at, changed ? text.size : n, err));
    }
    return FT_OK;
}

/* Characters of ASCII from `at` on that stay and stand alone: those with another one behind them. */
static size_t plain(const struct ft_tok_charsmap *map, const struct ft_buf *text, size_t at)
{
    while (at + 1 < text->size && text->data[at] < 0x80 && text->data[at + 1] < 0x80 &&
           !map->changes[text->data[at]] && text->data[at] != '\r') {
        at++;
    }
    return at;
}

enum ft_status ft_tok_charsmap_apply(const struct ft_tok_charsmap *map, struct ft_tok_scratch *s,
                                     struct ft_err *err)
{
    s->other.size = 0;
    FT_RETURN_IF_FAILED(ft_buf_reserve(&s->other, s->text.size + 16, err));
    size_t at = 0;
    while (at < s->text.size) {
        size_t end = plain(map, &s->text, at);
        if (end > at) {
            FT_RETURN_IF_FAILED(ft_buf_append(&s->other, s->text.data + at, end - at, err));
            at = end;
            continue;
        }
        end = cluster_end(s->text.data, at, s->text.size);
        FT_RETURN_IF_FAILED(put_cluster(map, s->text.data + at, end - at, &s->other, err));
        at = end;
    }
    struct ft_buf text = s->text;
    s->text = s->other;
    s->other = text;
    return FT_OK;
}
