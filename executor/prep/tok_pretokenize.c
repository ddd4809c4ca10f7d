/* The pre-tokenizers: s->spans cut into smaller ones; two of them change the text as well. */
#include "executor/prep/tok.h"

#include <string.h>

#include "executor/base/alloc.h"

static enum ft_status put_span(struct ft_tok_scratch *s, size_t begin, size_t end, bool first,
                               struct ft_err *err)
{
    if (begin == end) {
        return FT_OK;
    }
    if (s->fresh_count == s->fresh_capacity) {
        FT_RETURN_IF_FAILED(
            ft_grow(&s->fresh, &s->fresh_capacity, s->fresh_count + 1, sizeof *s->fresh, err));
    }
    s->fresh[s->fresh_count++] = (struct ft_tok_span){begin, end, first};
    return FT_OK;
}

/* ---- matches and what lies between them ---- */

/* One span being cut: pieces come from left to right, matches and gaps, and leave as `behavior` says. */
struct cut {
    struct ft_tok_scratch *s;
    struct ft_tok_span span;
    enum ft_tok_behavior behavior;
    bool invert;      /* gaps are the matches */
    size_t done;      /* up to here pieces have been told */
    size_t held, end; /* a piece that may still grow; held == end: none */
    bool held_match;
    struct ft_err *err;
};

static enum ft_status release_held(struct cut *c)
{
    size_t from = c->held;
    c->held = c->end;
    return put_span(c->s, from, c->end, c->span.first && from == c->span.begin, c->err);
}

static bool grows(const struct cut *c, bool match)
{
    if (c->held == c->end) {
        return false;
    }
    switch (c->behavior) {
    case FT_TOK_WITH_PREVIOUS:
        return match && !c->held_match;
    case FT_TOK_WITH_NEXT:
        return !match && c->held_match;
    case FT_TOK_CONTIGUOUS:
        return match == c->held_match;
    case FT_TOK_REMOVED:
    case FT_TOK_ISOLATED:
        break;
    }
    return false;
}

static enum ft_status piece(struct cut *c, size_t begin, size_t end, bool match)
{
    match = match != c->invert;
    if (begin == end || (match && c->behavior == FT_TOK_REMOVED)) {
        return FT_OK;
    }
    if (grows(c, match)) {
        c->end = end;
        /* What was joined is complete, but for a run of the same kind. */
        c->held_match = c->behavior == FT_TOK_CONTIGUOUS ? match : c->behavior == FT_TOK_WITH_PREVIOUS;
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(release_held(c));
    c->held = begin;
    c->end = end;
    c->held_match = match;
    return FT_OK;
}

static enum ft_status matched(struct cut *c, size_t begin, size_t end)
{
    FT_RETURN_IF_FAILED(piece(c, c->done, begin, false));
    c->done = end;
    return piece(c, begin, end, true);
}

static enum ft_status finish(struct cut *c)
{
    FT_RETURN_IF_FAILED(piece(c, c->done, c->span.end, false));
    return release_held(c);
}

static struct cut start(struct ft_tok_scratch *s, struct ft_tok_span span, enum ft_tok_behavior behavior,
                        struct ft_err *err)
{
    return (struct cut){.s = s,
                        .span = span,
                        .behavior = behavior,
                        .done = span.begin,
                        .held = span.begin,
                        .end = span.begin,
                        .err = err};
}

/* ---- by a property of single code points ---- */

static bool is_match(const struct ft_tok_pre *p, uint32_t c)
{
    switch (p->kind) {
    case FT_TOK_PRE_WHITESPACE_SPLIT:
        return (ft_tok_flags(c) & FT_TOK_SPACE) != 0;
    case FT_TOK_PRE_PUNCTUATION:
        return (ft_tok_flags(c) & FT_TOK_PUNCT) != 0;
    case FT_TOK_PRE_DIGITS:
        return (ft_tok_flags(c) & FT_TOK_NUMERIC) != 0;
    case FT_TOK_PRE_BERT:
    case FT_TOK_PRE_WHITESPACE:
    case FT_TOK_PRE_BYTES:
    case FT_TOK_PRE_METASPACE:
    case FT_TOK_PRE_SPLIT:
    case FT_TOK_PRE_DELIMITER:
        break;
    }
    return c == p->sign;
}

static enum ft_status by_point(const struct ft_tok_pre *p, struct ft_tok_scratch *s, struct ft_tok_span span,
                               struct ft_err *err)
{
    struct cut c = start(s, span, p->behavior, err);
    size_t n = 0;
    for (size_t at = span.begin; at < span.end; at += n) {
        if (is_match(p, ft_tok_point(s->text.data + at, &n))) {
            FT_RETURN_IF_FAILED(matched(&c, at, at + n));
        }
    }
    return finish(&c);
}

/* ---- words ---- */

enum { IS_WORD = 0, IS_SPACE = 1, IS_ALONE = 2, IS_MARK = 3 };

static inline int bert_class(const uint8_t *text, size_t at, size_t *n)
{
    static const uint8_t ascii[128] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2,
        2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2,
        2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 0};
    uint8_t c = text[at];
    *n = 1;
    if (c < 0x80) {
        return ascii[c];
    }
    uint32_t flags = ft_tok_flags(ft_tok_point(text + at, n));
    return (flags & FT_TOK_SPACE) != 0 ? IS_SPACE : (flags & FT_TOK_PUNCT) != 0 ? IS_ALONE : IS_WORD;
}

/* Spaces go, punctuation stands alone. */
static enum ft_status bert(struct ft_tok_scratch *s, struct ft_tok_span span, struct ft_err *err)
{
    const uint8_t *text = s->text.data;
    size_t from = span.begin;
    size_t n = 0;
    for (size_t at = span.begin; at < span.end; at += n) {
        int class = bert_class(text, at, &n);
        if (class == IS_WORD) {
            continue;
        }
        FT_RETURN_IF_FAILED(put_span(s, from, at, span.first && from == span.begin, err));
        if (class == IS_ALONE) {
            FT_RETURN_IF_FAILED(put_span(s, at, at + n, span.first && at == span.begin, err));
        }
        from = at + n;
    }
    return put_span(s, from, span.end, span.first && from == span.begin, err);
}

/* \w+|[^\w\s]+ */
static enum ft_status words(struct ft_tok_scratch *s, struct ft_tok_span span, struct ft_err *err)
{
    size_t from = span.begin;
    int held = IS_SPACE;
    size_t n = 0;
    for (size_t at = span.begin; at < span.end; at += n) {
        uint32_t flags = ft_tok_flags(ft_tok_point(s->text.data + at, &n));
        int class = (flags & FT_TOK_WORD) != 0 ? IS_WORD : (flags & FT_TOK_SPACE) != 0 ? IS_SPACE : IS_MARK;
        if (class == held) {
            continue;
        }
        if (held != IS_SPACE) {
            FT_RETURN_IF_FAILED(put_span(s, from, at, span.first && from == span.begin, err));
        }
        from = at;
        held = class;
    }
    return held == IS_SPACE ? FT_OK : put_span(s, from, span.end, span.first && from == span.begin, err);
}

/* ---- by a pattern ---- */

static enum ft_status by_string(const struct ft_tok_pre *p, struct ft_tok_scratch *s, struct ft_tok_span span,
                                struct ft_err *err)
{
    struct cut c = start(s, span, p->behavior, err);
    c.invert = p->invert;
    size_t at = span.begin;
    while (at < span.end) {
        const uint8_t *found = memmem(s->text.data + at, span.end - at, p->pattern.data, p->pattern.size);
        if (found == NULL) {
            break;
        }
        size_t begin = (size_t)(found - s->text.data);
        at = begin + p->pattern.size;
        FT_RETURN_IF_FAILED(matched(&c, begin, at));
    }
    return finish(&c);
}

static enum ft_status by_regex(const struct ft_tok_pre *p, struct ft_tok_scratch *s, struct ft_tok_span span,
                               struct ft_err *err)
{
    struct cut c = start(s, span, p->behavior, err);
    c.invert = p->invert;
    struct ft_bytes text = ft_bytes_of(s->text.data + span.begin, span.end - span.begin);
    FT_RETURN_IF_FAILED(ft_tok_regex_begin(p->regex, s, text, err));
    size_t range[2] = {0, 0};
    for (bool found = true; found;) {
        FT_RETURN_IF_FAILED(ft_tok_regex_next(p->regex, s, text, range[1], range, &found, err));
        if (found) {
            FT_RETURN_IF_FAILED(matched(&c, span.begin + range[0], span.begin + range[1]));
        }
    }
    return finish(&c);
}

/* ---- with another text ---- */

static enum ft_status copy_span(struct ft_tok_scratch *s, struct ft_tok_span span, struct ft_err *err)
{
    return ft_buf_append(&s->other, s->text.data + span.begin, span.end - span.begin, err);
}

/* s->other from `from` on is the text of one span now: cut it by GPT-2's expression, if at all. */
static enum ft_status bytes_span(const struct ft_tok_pre *p, struct ft_tok_scratch *s, size_t from,
                                 bool first, struct ft_err *err)
{
    size_t end = s->other.size;
    if (!p->split) {
        return put_span(s, from, end, first, err);
    }
    for (size_t at = from; at < end;) {
        size_t next = from + ft_tok_scan_gpt2(s->other.data + from, at - from, end - from);
        FT_RETURN_IF_FAILED(put_span(s, at, next, first && at == from, err));
        at = next;
    }
    return FT_OK;
}

/* Spans of s->fresh from `index` on, their bytes as characters; done only where something still reads
 * characters. */
static enum ft_status map_spans(struct ft_tok_scratch *s, struct ft_err *err)
{
    struct ft_buf mapped = {0};
    enum ft_status st = FT_OK;
    for (size_t i = 0; i < s->fresh_count; i++) {
        struct ft_tok_span *span = s->fresh + i;
        struct ft_bytes in = ft_bytes_of(s->other.data + span->begin, span->end - span->begin);
        span->begin = mapped.size;
        FT_TRY(ft_tok_map_bytes(in, &mapped, err));
        span->end = mapped.size;
    }
    ft_buf_release(&s->other);
    s->other = mapped;
    mapped = (struct ft_buf){0};
done:
    ft_buf_release(&mapped);
    return st;
}

static enum ft_status by_bytes(const struct ft_tok_pre *p, struct ft_tok_scratch *s, struct ft_err *err)
{
    for (size_t i = 0; i < s->span_count; i++) {
        struct ft_tok_span span = s->spans[i];
        size_t from = s->other.size;
        if (p->prefix == FT_TOK_ALWAYS && s->text.data[span.begin] != ' ') {
            FT_RETURN_IF_FAILED(ft_tok_put(&s->other, ' ', err));
        }
        FT_RETURN_IF_FAILED(copy_span(s, span, err));
        FT_RETURN_IF_FAILED(bytes_span(p, s, from, span.first, err));
    }
    return p->map ? map_spans(s, err) : FT_OK;
}

/* A span with its spaces as the sign; *signed_first: it began with one. */
static enum ft_status put_signs(struct ft_tok_scratch *s, struct ft_tok_span span, struct ft_bytes sign,
                                struct ft_err *err)
{
    size_t at = span.begin;
    while (at < span.end) {
        const uint8_t *space = memchr(s->text.data + at, ' ', span.end - at);
        size_t end = space != NULL ? (size_t)(space - s->text.data) : span.end;
        FT_RETURN_IF_FAILED(ft_buf_append(&s->other, s->text.data + at, end - at, err));
        if (space != NULL) {
            FT_RETURN_IF_FAILED(ft_buf_append(&s->other, sign.data, sign.size, err));
        }
        at = end + (space != NULL ? 1 : 0);
    }
    return FT_OK;
}

/* Each sign begins a piece. */
static enum ft_status cut_at_signs(struct ft_tok_scratch *s, size_t from, bool first, struct ft_bytes sign,
                                   struct ft_err *err)
{
    size_t end = s->other.size;
    size_t begin = from;
    size_t at = from;
    while (at < end) {
        const uint8_t *next = memmem(s->other.data + at, end - at, sign.data, sign.size);
        size_t cut = next != NULL ? (size_t)(next - s->other.data) : end;
        if (cut > begin) {
            FT_RETURN_IF_FAILED(put_span(s, begin, cut, first && begin == from, err));
        }
        begin = cut;
        at = cut + sign.size;
    }
    return put_span(s, begin, end, first && begin == from, err);
}

static enum ft_status metaspace(const struct ft_tok_pre *p, struct ft_tok_scratch *s, struct ft_err *err)
{
    uint8_t bytes[4];
    struct ft_bytes sign = {bytes, ft_tok_utf8(p->sign, bytes)};
    for (size_t i = 0; i < s->span_count; i++) {
        struct ft_tok_span span = s->spans[i];
        size_t from = s->other.size;
        struct ft_bytes head = ft_bytes_of(s->text.data + span.begin, span.end - span.begin);
        bool has =
            head.data[0] == ' ' || (head.size >= sign.size && memcmp(head.data, bytes, sign.size) == 0);
        if (!has && (p->prefix == FT_TOK_ALWAYS || (p->prefix == FT_TOK_FIRST && span.first))) {
            FT_RETURN_IF_FAILED(ft_buf_append(&s->other, bytes, sign.size, err));
        }
        FT_RETURN_IF_FAILED(put_signs(s, span, sign, err));
        FT_RETURN_IF_FAILED(p->split ? cut_at_signs(s, from, span.first, sign, err)
                                     : put_span(s, from, s->other.size, span.first, err));
    }
    return FT_OK;
}

/* ---- */

static enum ft_status cut_span(const struct ft_tok_pre *p, struct ft_tok_scratch *s, struct ft_tok_span span,
                               struct ft_err *err)
{
    switch (p->kind) {
    case FT_TOK_PRE_BERT:
        return bert(s, span, err);
    case FT_TOK_PRE_WHITESPACE:
        return words(s, span, err);
    case FT_TOK_PRE_SPLIT:
        return p->regex != NULL ? by_regex(p, s, span, err) : by_string(p, s, span, err);
    case FT_TOK_PRE_WHITESPACE_SPLIT:
    case FT_TOK_PRE_PUNCTUATION:
    case FT_TOK_PRE_DIGITS:
    case FT_TOK_PRE_DELIMITER:
    case FT_TOK_PRE_BYTES:
    case FT_TOK_PRE_METASPACE:
        break;
    }
    return by_point(p, s, span, err);
}

static enum ft_status step(const struct ft_tok_pre *p, struct ft_tok_scratch *s, struct ft_err *err)
{
    s->fresh_count = 0;
    if (p->kind == FT_TOK_PRE_BYTES || p->kind == FT_TOK_PRE_METASPACE) {
        s->other.size = 0;
        FT_RETURN_IF_FAILED(p->kind == FT_TOK_PRE_BYTES ? by_bytes(p, s, err) : metaspace(p, s, err));
        struct ft_buf text = s->text;
        s->text = s->other;
        s->other = text;
    } else {
        for (size_t i = 0; i < s->span_count; i++) {
            FT_RETURN_IF_FAILED(cut_span(p, s, s->spans[i], err));
        }
    }
    struct ft_tok_span *spans = s->spans;
    size_t capacity = s->span_capacity;
    s->spans = s->fresh;
    s->span_count = s->fresh_count;
    s->span_capacity = s->fresh_capacity;
    s->fresh = spans;
    s->fresh_capacity = capacity;
    return FT_OK;
}

enum ft_status ft_tok_pretokenize(const struct ft_tokenizer *t, struct ft_tok_scratch *s, bool first,
                                  struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_grow(&s->spans, &s->span_capacity, 1, sizeof *s->spans, err));
    s->spans[0] = (struct ft_tok_span){0, s->text.size, first};
    s->span_count = s->text.size > 0 ? 1 : 0;
    for (size_t i = 0; i < t->pre_count; i++) {
        FT_RETURN_IF_FAILED(step(t->pres + i, s, err));
    }
    return FT_OK;
}
