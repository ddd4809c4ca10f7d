/* The expressions that byte-level tokenizers split with, by hand: alternatives in their order, each as far as
 * it goes. Every piece has at least one character and together they are the text. */
#include "executor/prep/tok.h"

enum { LETTER = 1, NUMBER = 2, SPACE = 4, NEWLINE = 8, OTHER = 16 };

static inline int class_of_point(const uint8_t *text, size_t at, size_t *size)
{
    uint8_t c = text[at];
    *size = 1;
    if (c < 0x80) {
        if ((c | 32) >= 'a' && (c | 32) <= 'z') {
            return LETTER;
        }
        if (c >= '0' && c <= '9') {
            return NUMBER;
        }
        if (c == '\n' || c == '\r') {
            return SPACE | NEWLINE;
        }
        return c == ' ' || (c >= 9 && c <= 12) ? SPACE : OTHER;
    }
    uint32_t flags = ft_tok_flags(ft_tok_point(text + at, size));
    if (ft_tok_is_letter(flags)) {
        return LETTER;
    }
    if (ft_tok_is_number(flags)) {
        return NUMBER;
    }
    return (flags & FT_TOK_SPACE) != 0 ? SPACE : OTHER;
}

/* The end of the run of one class from text[at], at most `most` characters. */
static size_t run_of(const uint8_t *text, size_t at, size_t size, int class, int most)
{
    size_t n = 0;
    while (at < size && most != 0 && (class_of_point(text, at, &n) & class) != 0) {
        at += n;
        most--;
    }
    return at;
}

/* 's 't 're 've 'm 'll 'd at text[at], which is an apostrophe: the end, or `at`. Without regard to case the
 * long s is an s as well. */
static size_t contraction(const uint8_t *text, size_t at, size_t size, bool any_case)
{
    uint8_t fold = any_case ? 32 : 0;
    uint8_t a = at + 1 < size ? text[at + 1] : 0;
    uint8_t b = at + 2 < size ? text[at + 2] : 0;
    if (any_case && a == 0xc5 && b == 0xbf) {
        return at + 3;
    }
    a = a < 0x80 ? a | fold : 0;
    b = b < 0x80 ? b | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return at + 2;
    }
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) {
        return at + 3;
    }
    return at;
}

/* \s+(?!\S)|\s+ : all of the spaces but the last one, which belongs to the word behind, if there is one. */
static size_t spaces(const uint8_t *text, size_t at, size_t size)
{
    size_t end = run_of(text, at, size, SPACE, -1);
    if (end == size) {
        return end;
    }
    size_t last = ft_tok_before(text, end);
    return last > at ? last : end;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t ft_tok_scan_gpt2(const uint8_t *text, size_t at, size_t size)
{
    if (text[at] == '\'') {
        size_t end = contraction(text, at, size, false);
        if (end > at) {
            return end;
        }
    }
    size_t from = text[at] == ' ' && at + 1 < size ? at + 1 : at;
    size_t n = 0;
    int class = class_of_point(text, from, &n);
    if ((class & SPACE) == 0) {
        return run_of(text, from + n, size, class, -1);
    }
    return spaces(text, at, size);
}

/* \s*[\r\n]+ : to behind the last line break of the spaces; `at` if there is none. */
static size_t line_breaks(const uint8_t *text, size_t at, size_t size)
{
    size_t end = at;
    size_t n = 0;
    for (size_t i = at; i < size; i += n) {
        int class = class_of_point(text, i, &n);
        if ((class & SPACE) == 0) {
            break;
        }
        end = (class & NEWLINE) != 0 ? i + n : end;
    }
    return end;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
 * ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
size_t ft_tok_scan_cl100k(const uint8_t *text, size_t at, size_t size, int digits)
{
    if (text[at] == '\'') {
        size_t end = contraction(text, at, size, true);
        if (end > at) {
            return end;
        }
    }
    size_t n = 0;
    size_t next = 0;
    int class = class_of_point(text, at, &n);
    if (class == LETTER) {
        return run_of(text, at + n, size, LETTER, -1);
    }
    if (class == NUMBER) {
        return run_of(text, at, size, NUMBER, digits);
    }
    int behind = at + n < size ? class_of_point(text, at + n, &next) : SPACE;
    if ((class & NEWLINE) == 0 && behind == LETTER) {
        return run_of(text, at + n, size, LETTER, -1);
    }
    if (class == OTHER || (text[at] == ' ' && behind == OTHER)) {
        size_t end = run_of(text, class == OTHER ? at : at + n, size, OTHER, -1);
        return run_of(text, end, size, NEWLINE, -1);
    }
    size_t end = line_breaks(text, at, size);
    return end > at ? end : spaces(text, at, size);
}
