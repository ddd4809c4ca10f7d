/* The normalizers, each over the whole of s->text. */
#include "executor/prep/tok.h"

#include <string.h>

#include "executor/base/alloc.h"

static void change_places(struct ft_tok_scratch *s)
{
    struct ft_buf text = s->text;
    s->text = s->other;
    s->other = text;
    s->other.size = 0;
}

/* Room in s->other for a text of the same length, so that most of it needs no look at the capacity. */
static enum ft_status begin(struct ft_tok_scratch *s, struct ft_err *err)
{
    s->other.size = 0;
    return ft_buf_reserve(&s->other, s->text.size + 16, err);
}

/* A character is not taken over. */
static void leave_out(struct ft_tok_scratch *s)
{
    s->first = s->first && s->other.size > 0;
}

/* ---- normal forms ---- */

static enum ft_status flush_points(bool compose, struct ft_tok_scratch *s, struct ft_err *err)
{
    ft_tok_sort_marks(&s->points);
    if (compose) {
        ft_tok_compose(&s->points);
    }
    for (size_t i = 0; i < s->points.count; i++) {
        FT_RETURN_IF_FAILED(ft_tok_put(&s->other, s->points.at[i].point, err));
    }
    s->points.count = 0;
    return FT_OK;
}

/* Bytes at the beginning of the text, up to its end, that stay as they are and join with nothing. */
static size_t inert(const struct ft_buf *text, size_t at, uint32_t flags)
{
    while (at < text->size) {
        size_t n = 0;
        uint32_t c = ft_tok_point(text->data + at, &n);
        if (c >= 0x80 && (ft_tok_flags(c) & flags) != flags) {
            break;
        }
        at += n;
    }
    return at;
}

static enum ft_status normal_form(bool compatible, bool compose, struct ft_tok_scratch *s, struct ft_err *err)
{
    uint32_t flags = (compose ? FT_TOK_NFC_INERT : 0) | (compatible || !compose ? FT_TOK_NFKD_INERT : 0);
    size_t at = inert(&s->text, 0, flags);
    if (at == s->text.size) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(begin(s, err));
    size_t from = 0;
    while (from < s->text.size) {
        /* The last inert one in front of one that is not may join with it. */
        size_t kept = at > from && at < s->text.size ? ft_tok_before(s->text.data, at) : at;
        FT_RETURN_IF_FAILED(ft_buf_append(&s->other, s->text.data + from, kept - from, err));
        from = kept;
        size_t n = 0;
        while (from < s->text.size) {
            uint32_t c = ft_tok_point(s->text.data + from, &n);
            if (from >= at && (c < 0x80 || (ft_tok_flags(c) & flags) == flags)) {
                break;
            }
            FT_RETURN_IF_FAILED(ft_tok_decompose(c, compatible, &s->points, err));
            from += n;
        }
        FT_RETURN_IF_FAILED(flush_points(compose, s, err));
        at = inert(&s->text, from, flags);
    }
    change_places(s);
    return FT_OK;
}

/* ---- BERT ---- */

/* One code point in lower case. */
static enum ft_status put_lower(uint32_t c, uint32_t flags, struct ft_buf *out, struct ft_err *err)
{
    if ((flags & FT_TOK_LOWER) == 0) {
        return ft_tok_put(out, c, err);
    }
    uint32_t lower[2];
    int n = ft_tok_lower(c, lower);
    for (int i = 0; i < n; i++) {
        FT_RETURN_IF_FAILED(ft_tok_put(out, lower[i], err));
    }
    return FT_OK;
}

static enum ft_status bert_flush(const struct ft_tok_normalizer *n, struct ft_tok_scratch *s,
                                 struct ft_err *err)
{
    ft_tok_sort_marks(&s->points);
    for (size_t i = 0; i < s->points.count; i++) {
        uint32_t c = s->points.at[i].point;
        uint32_t flags = ft_tok_flags(c);
        if ((flags & FT_TOK_BERT_MARK) == 0) {
            FT_RETURN_IF_FAILED(put_lower(c, n->lower ? flags : 0, &s->other, err));
        } else {
            leave_out(s);
        }
    }
    s->points.count = 0;
    return FT_OK;
}

static enum ft_status bert_point(const struct ft_tok_normalizer *n, uint32_t c, struct ft_tok_scratch *s,
                                 struct ft_err *err)
{
    uint32_t flags = ft_tok_flags(c);
    if (n->clean && (flags & FT_TOK_OTHER) != 0) {
        s->first = s->first && s->other.size + s->points.count > 0;
        return FT_OK;
    }
    if (n->clean && (flags & FT_TOK_SPACE) != 0) {
        c = ' ';
        flags = ft_tok_flags(c);
    }
    bool alone = n->chinese && (flags & FT_TOK_CJK) != 0;
    if (alone || (flags & FT_TOK_NFKD_INERT) != 0 || !n->accents) {
        FT_RETURN_IF_FAILED(bert_flush(n, s, err));
    }
    if (alone) {
        FT_RETURN_IF_FAILED(ft_tok_put(&s->other, ' ', err));
    }
    if (n->accents && (flags & FT_TOK_NFKD_INERT) == 0) {
        FT_RETURN_IF_FAILED(ft_tok_decompose(c, false, &s->points, err));
        if (!alone) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(bert_flush(n, s, err));
    } else if (!n->accents || (flags & FT_TOK_BERT_MARK) == 0) {
        FT_RETURN_IF_FAILED(put_lower(c, n->lower ? flags : 0, &s->other, err));
    } else {
        leave_out(s);
    }
    return alone ? ft_tok_put(&s->other, ' ', err) : FT_OK;
}

/* What a byte of ASCII becomes; 0: nothing. */
static void ascii_table(const struct ft_tok_normalizer *n, uint8_t table[128])
{
    for (int c = 0; c < 128; c++) {
        bool upper = n->lower && c >= 'A' && c <= 'Z';
        table[c] = (uint8_t)(upper ? c + 32 : c);
        if (n->clean && (c < 32 || c == 127)) {
            table[c] = c == '\t' || c == '\n' || c == '\r' ? ' ' : 0;
        }
    }
}

static enum ft_status bert_normalize(const struct ft_tok_normalizer *n, struct ft_tok_scratch *s,
                                     struct ft_err *err)
{
    uint8_t ascii[128];
    ascii_table(n, ascii);
    FT_RETURN_IF_FAILED(begin(s, err));
    size_t at = 0;
    while (at < s->text.size) {
        const uint8_t *p = s->text.data + at;
        if (*p >= 0x80) {
            size_t size = 0;
            uint32_t c = ft_tok_point(p, &size);
            FT_RETURN_IF_FAILED(bert_point(n, c, s, err));
            at += size;
            continue;
        }
        FT_RETURN_IF_FAILED(bert_flush(n, s, err));
        size_t left = s->text.size - at;
        FT_RETURN_IF_FAILED(ft_buf_reserve(&s->other, left + 16, err));
        uint8_t *out = s->other.data + s->other.size;
        if (n->clean && ascii[p[0]] == 0) {
            leave_out(s);
        }
        size_t i = 0;
        for (; i < left && p[i] < 0x80; i++) {
            uint8_t c = ascii[p[i]];
            *out = c;
            out += c != 0 || (!n->clean && p[i] == 0) ? 1 : 0;
        }
        s->other.size = (size_t)(out - s->other.data);
        at += i;
    }
    FT_RETURN_IF_FAILED(bert_flush(n, s, err));
    change_places(s);
    return FT_OK;
}

/* ---- the small ones ---- */

typedef enum ft_status (*point_step)(uint32_t c, struct ft_buf *out, struct ft_err *err);

static enum ft_status each_point(point_step step, struct ft_tok_scratch *s, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(begin(s, err));
    size_t n = 0;
    for (size_t at = 0; at < s->text.size; at += n) {
        FT_RETURN_IF_FAILED(step(ft_tok_point(s->text.data + at, &n), &s->other, err));
        s->first = s->first && s->other.size > 0;
    }
    change_places(s);
    return FT_OK;
}

static enum ft_status lowercase(uint32_t c, struct ft_buf *out, struct ft_err *err)
{
    return put_lower(c, ft_tok_flags(c), out, err);
}

static enum ft_status strip_accent(uint32_t c, struct ft_buf *out, struct ft_err *err)
{
    return (ft_tok_flags(c) & FT_TOK_COMBINING) != 0 ? FT_OK : ft_tok_put(out, c, err);
}

/* sentencepiece's own cleaning, which its charsmap has as well. */
static enum ft_status nmt(uint32_t c, struct ft_buf *out, struct ft_err *err)
{
    if ((c >= 1 && c <= 8) || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f) {
        return FT_OK;
    }
    bool space = c == 9 || c == 0x0a || c == 0x0c || c == 0x0d || c == 0x1680 ||
                 (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff ||
                 c == 0xfffd;
    return ft_tok_put(out, space ? ' ' : c, err);
}

static void strip(const struct ft_tok_normalizer *n, struct ft_tok_scratch *s)
{
    struct ft_buf *text = &s->text;
    size_t from = 0;
    size_t size = 0;
    while (n->left && from < text->size &&
           (ft_tok_flags(ft_tok_point(text->data + from, &size)) & FT_TOK_SPACE) != 0) {
        from += size;
    }
    size_t end = text->size;
    while (n->right && end > from) {
        size_t last = ft_tok_before(text->data, end);
        if ((ft_tok_flags(ft_tok_point(text->data + last, &size)) & FT_TOK_SPACE) == 0) {
            break;
        }
        end = last;
    }
    if (from > 0) {
        s->first = false;
        memmove(text->data, text->data + from, end - from);
    }
    text->size = end - from;
}

static enum ft_status replace(const struct ft_tok_normalizer *n, struct ft_tok_scratch *s, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(begin(s, err));
    struct ft_bytes text = ft_buf_bytes(&s->text);
    size_t done = 0;
    size_t at = 0;
    if (n->regex != NULL) {
        FT_RETURN_IF_FAILED(ft_tok_regex_begin(n->regex, s, text, err));
    }
    while (at <= text.size) {
        size_t range[2] = {0, 0};
        bool found = false;
        if (n->regex != NULL) {
            FT_RETURN_IF_FAILED(ft_tok_regex_next(n->regex, s, text, at, range, &found, err));
        } else {
            const uint8_t *p = memmem(text.data + at, text.size - at, n->pattern.data, n->pattern.size);
            found = p != NULL;
            range[0] = found ? (size_t)(p - text.data) : 0;
            range[1] = range[0] + n->pattern.size;
        }
        if (!found) {
            break;
        }
        /* To tokenizers the replacement stands where the last character of the match stood. */
        bool from_first = range[0] > 0 || (n->content[0] != '\0' && ft_tok_before(text.data, range[1]) == 0);
        s->first = s->first && from_first;
        FT_RETURN_IF_FAILED(ft_buf_append(&s->other, text.data + done, range[0] - done, err));
        FT_RETURN_IF_FAILED(ft_buf_text(&s->other, n->content, err));
        done = at = range[1];
    }
    if (done == 0 && s->other.size == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_buf_append(&s->other, text.data + done, text.size - done, err));
    change_places(s);
    return FT_OK;
}

static enum ft_status prepend(const char *content, struct ft_tok_scratch *s, struct ft_err *err)
{
    if (s->text.size == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(begin(s, err));
    FT_RETURN_IF_FAILED(ft_buf_text(&s->other, content, err));
    FT_RETURN_IF_FAILED(ft_buf_append(&s->other, s->text.data, s->text.size, err));
    change_places(s);
    return FT_OK;
}

/* ---- bytes as characters ---- */

/* GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 and what follows. */
static bool stands_for_itself(uint32_t c)
{
    return (c >= '!' && c <= '~') || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

uint32_t ft_tok_byte_char(uint8_t byte)
{
    if (stands_for_itself(byte)) {
        return byte;
    }
    uint32_t others = 0;
    for (uint32_t c = 0; c < byte; c++) {
        others += stands_for_itself(c) ? 0 : 1;
    }
    return 0x100 + others;
}

void ft_tok_char_bytes(int16_t bytes[FT_TOK_BYTE_CHARS])
{
    for (int c = 0; c < FT_TOK_BYTE_CHARS; c++) {
        bytes[c] = -1;
    }
    for (int byte = 0; byte < 256; byte++) {
        bytes[ft_tok_byte_char((uint8_t)byte)] = (int16_t)byte;
    }
}

enum ft_status ft_tok_map_bytes(struct ft_bytes in, struct ft_buf *out, struct ft_err *err)
{
    uint32_t table[256];
    for (int byte = 0; byte < 256; byte++) {
        table[byte] = ft_tok_byte_char((uint8_t)byte);
    }
    for (size_t i = 0; i < in.size; i++) {
        FT_RETURN_IF_FAILED(ft_tok_put(out, table[in.data[i]], err));
    }
    return FT_OK;
}

static enum ft_status map_bytes(struct ft_tok_scratch *s, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(begin(s, err));
    FT_RETURN_IF_FAILED(ft_tok_map_bytes(ft_buf_bytes(&s->text), &s->other, err));
    change_places(s);
    return FT_OK;
}

static enum ft_status step(const struct ft_tok_normalizer *n, struct ft_tok_scratch *s, struct ft_err *err)
{
    switch (n->kind) {
    case FT_TOK_BERT:
        return bert_normalize(n, s, err);
    case FT_TOK_NFC:
        return normal_form(false, true, s, err);
    case FT_TOK_NFD:
        return normal_form(false, false, s, err);
    case FT_TOK_NFKC:
        return normal_form(true, true, s, err);
    case FT_TOK_NFKD:
        return normal_form(true, false, s, err);
    case FT_TOK_LOWERCASE:
        return each_point(lowercase, s, err);
    case FT_TOK_STRIP_ACCENTS:
        return each_point(strip_accent, s, err);
    case FT_TOK_NMT:
        return each_point(nmt, s, err);
    case FT_TOK_STRIP:
        strip(n, s);
        return FT_OK;
    case FT_TOK_REPLACE:
        return replace(n, s, err);
    case FT_TOK_PREPEND:
        return prepend(n->content, s, err);
    case FT_TOK_PRECOMPILED:
        return ft_tok_charsmap_apply(n->charsmap, s, err);
    case FT_TOK_BYTES:
        return map_bytes(s, err);
    }
    return FT_OK;
}

enum ft_status ft_tok_normalize(const struct ft_tokenizer *t, struct ft_tok_scratch *s, struct ft_err *err)
{
    s->points.count = 0;
    s->first = true;
    for (size_t i = 0; i < t->normalizer_count; i++) {
        FT_RETURN_IF_FAILED(step(t->normalizers + i, s, err));
    }
    return FT_OK;
}
