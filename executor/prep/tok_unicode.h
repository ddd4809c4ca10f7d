/*
 * tok_unicode.h - code points as the tokenizers of Hugging Face see them: classes, normal forms, lower case,
 * clusters.
 *
 * Every property is theirs, asked code point by code point (tests/oracle/make_unicode.py); utf8proc supplies
 * decompositions and compositions, less those their crate does not know yet. Private to prep/.
 */
#ifndef FT_PREP_TOK_UNICODE_H
#define FT_PREP_TOK_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"
#include "executor/prep/tok_unicode.inc"

enum { FT_TOK_CATEGORY = 31 }; /* mask of FT_TOK_LU ... FT_TOK_CN; the flags are above it */

/* Category and flags of a code point below 0x110000. */
uint32_t ft_tok_flags(uint32_t point);

static inline bool ft_tok_is_letter(uint32_t flags)
{
    return (flags & FT_TOK_CATEGORY) <= FT_TOK_LO;
}

static inline bool ft_tok_is_number(uint32_t flags)
{
    uint32_t category = flags & FT_TOK_CATEGORY;
    return category >= FT_TOK_ND && category <= FT_TOK_NO;
}

/* The code point at p, which is valid UTF-8; *size is its bytes. */
static inline uint32_t ft_tok_point(const uint8_t *p, size_t *size)
{
    uint32_t c = p[0];
    if (c < 0x80) {
        *size = 1;
        return c;
    }
    if (c < 0xe0) {
        *size = 2;
        return (c & 0x1f) << 6 | (p[1] & 0x3fu);
    }
    if (c < 0xf0) {
        *size = 3;
        return (c & 0x0f) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *size = 4;
    return (c & 7) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

/* Where the code point that ends in front of `end` begins; begin < end. */
static inline size_t ft_tok_before(const uint8_t *text, size_t end)
{
    size_t at = end - 1;
    while ((text[at] & 0xc0) == 0x80) {
        at--;
    }
    return at;
}

size_t ft_tok_utf8(uint32_t point, uint8_t out[4]); /* bytes written */
/* Append with room already there for it, or made. */
FT_MUST_CHECK enum ft_status ft_tok_put(struct ft_buf *out, uint32_t point, struct ft_err *err);

/* Append `text`, what is not UTF-8 in it as U+FFFD: one for each longest beginning of a character, as
 * Python's bytes.decode("utf-8", "replace") does. */
FT_MUST_CHECK enum ft_status ft_tok_repair(struct ft_bytes text, struct ft_buf *out, struct ft_err *err);

/* Lower case of one code point, without regard to what is around it (no final sigma): one or two code points.
 */
int ft_tok_lower(uint32_t point, uint32_t out[2]);

/* Code points with their canonical combining class, grown as needed. */
struct ft_tok_points {
    struct ft_tok_mark {
        uint64_t order; /* canonical combining class; 0: a starter */
        uint32_t point;
    } * at;
    size_t count, capacity;
};
/* Append the full decomposition of a code point, canonical or compatible, unsorted. */
FT_MUST_CHECK enum ft_status ft_tok_decompose(uint32_t point, bool compatible, struct ft_tok_points *points,
                                              struct ft_err *err);
void ft_tok_sort_marks(struct ft_tok_points *points); /* canonical order */
void ft_tok_compose(struct ft_tok_points *points);    /* of sorted ones; count shrinks */

/* Whether an extended grapheme cluster ends between two code points. `joined`: the cluster of `left` is a
 * pictograph and marks so far. As exact as clusters of fewer than six bytes need (tok_charsmap.c). */
bool ft_tok_breaks(uint32_t left, uint32_t right, bool joined);
bool ft_tok_is_pictograph(uint32_t point);

/* What stands for this code point in a text for PCRE2, whose Unicode is older: the same category, as many
 * bytes. */
uint32_t ft_tok_stand_in(uint32_t point);
#endif
