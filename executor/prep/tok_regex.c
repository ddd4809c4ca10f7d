/*
 * Regular expressions of tokenizer.json, which are Oniguruma's (Ruby syntax), by PCRE2.
 *
 * A pattern is rewritten where the two write the same differently (\w, \h, \v, \u), and refused by name where
 * they could mean different things: word boundaries, back references, scripts, classes in classes, flags in
 * the middle, what can match nothing. The text is rewritten where PCRE2's Unicode is older (ft_tok_stand_in).
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "executor/prep/tok.h"

#include <ctype.h>
#include <string.h>

#include <pcre2.h>

#include "executor/base/alloc.h"

enum { PATTERN_MAX = 4096, GROUPS_MAX = 64, MATCH_LIMIT = 1000000, STACK_MAX = 1 << 20 };

enum by_hand { NOT_BY_HAND, GPT2, CL100K_1, CL100K_3 };

struct ft_tok_regex {
    enum by_hand by_hand;
    bool out_of_memory; /* ours, while compiling; PCRE2 calls memory that may be executed the same */
    pcre2_general_context *memory;
    pcre2_code *code;
};

struct ft_tok_match {
    pcre2_general_context *memory;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    struct ft_bytes subject; /* of the search under way */
};

/* Expressions that have code of their own in tok_scan.c. */
#define CL100K(digits)                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits                               \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const struct {
    const char *pattern;
    enum by_hand as;
} known[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", GPT2},
    {CL100K(""), CL100K_1},
    {CL100K("{1,3}"), CL100K_3},
};

/* What \w is to Oniguruma: letters, marks, decimal digits, connectors and what Unicode calls alphabetic
 * beside. */
#define WORD                                                                                                 \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}"         \
    "\\x{1F170}-\\x{1F189}"

/* Outside of a class it is these superscripts and fractions as well: Oniguruma asks a table of Latin-1 there.
 */
#define WORD_ALONE WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

static void *take(size_t size, void *failed)
{
    void *p = ft_alloc(size);
    if (p == NULL && failed != NULL) {
        *(bool *)failed = true;
    }
    return p;
}

static void give(void *p, void *unused)
{
    (void)unused;
    ft_free(p);
}

/* ---- rewriting a pattern ---- */

struct rewrite {
    const char *p; /* what is left */
    const char *pattern;
    struct ft_buf *out;
    bool in_class;
    bool any_case[GROUPS_MAX]; /* by depth of groups */
    int depth;
    struct ft_err *err;
};

static enum ft_status refuse(const struct rewrite *r, const char *what)
{
    return FT_FAIL(r->err, UNSUPPORTED, "regular expression \"%.200s\": %s is not supported", r->pattern,
                   what);
}

static enum ft_status copy(struct rewrite *r, size_t size)
{
    FT_RETURN_IF_FAILED(ft_buf_append(r->out, r->p, size, r->err));
    r->p += size;
    return FT_OK;
}

/* \p{Lu}, \P{L}, \p{^N}: general categories only. */
static enum ft_status category(struct rewrite *r)
{
    static const char *const names[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc",
                                        "Me", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps",
                                        "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So",
                                        "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn"};
    const char *name = r->p + 2;
    if (*name != '{') {
        return refuse(r, "a property without braces");
    }
    name += name[1] == '^' ? 2 : 1;
    size_t size = strcspn(name, "}");
    if (r->any_case[r->depth]) {
        return refuse(r, "a property without regard to case");
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i]) == size && strncmp(name, names[i], size) == 0 && name[size] == '}') {
            return copy(r, (size_t)(name - r->p) + size + 1);
        }
    }
    return refuse(r, "a property that is no general category");
}

static enum ft_status code_point(struct rewrite *r)
{
    for (int i = 0; i < 4; i++) {
        if (isxdigit((unsigned char)r->p[2 + i]) == 0) {
            return refuse(r, "\\u without four digits");
        }
    }
    FT_RETURN_IF_FAILED(ft_buf_printf(r->out, r->err, "\\x{%.4s}", r->p + 2));
    r->p += 6;
    return FT_OK;
}

static enum ft_status instead(struct rewrite *r, const char *text)
{
    r->p += 2;
    return ft_buf_text(r->out, text, r->err);
}

static enum ft_status escape(struct rewrite *r)
{
    char c = r->p[1];
    switch (c) {
    case 's':
    case 'S':
    case 'd':
    case 'D':
    case 'n':
    case 'r':
    case 't':
    case 'f':
    case 'a':
    case 'e':
    case 'x':
        return copy(r, 2);
    case 'A':
    case 'z':
        return r->in_class ? refuse(r, "an anchor in a class") : copy(r, 2);
    case 'v':
        return instead(r, "\\x0b");
    case 'w':
        return instead(r, r->in_class ? WORD : "[" WORD_ALONE "]");
    case 'h':
        return instead(r, r->in_class ? "0-9a-fA-F" : "[0-9a-fA-F]");
    case 'W':
        return r->in_class ? refuse(r, "\\W in a class") : instead(r, "[^" WORD_ALONE "]");
    case 'u':
        return code_point(r);
    case 'p':
    case 'P':
        return category(r);
    default:
        return ispunct((unsigned char)c) != 0 ? copy(r, 2) : refuse(r, "an escape");
    }
}

static enum ft_status group(struct rewrite *r)
{
    static const char *const heads[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    if (r->depth + 1 == GROUPS_MAX) {
        return refuse(r, "so deep a nesting");
    }
    bool any_case = r->any_case[r->depth];
    size_t head = 1;
    if (strncmp(r->p, "(?i)", 4) == 0 && r->p == r->pattern) {
        r->any_case[0] = true;
        return copy(r, 4);
    }
    if (r->p[1] == '*') {
        return refuse(r, "(*");
    }
    if (r->p[1] == '?') {
        head = 0;
        for (size_t i = 0; i < sizeof heads / sizeof *heads && head == 0; i++) {
            head = strncmp(r->p, heads[i], strlen(heads[i])) == 0 ? strlen(heads[i]) : 0;
        }
        if (head == 0) {
            return refuse(r, "this kind of group");
        }
        any_case = any_case || r->p[2] == 'i';
    }
    r->any_case[++r->depth] = any_case;
    return copy(r, head);
}

/* Letters that Oniguruma takes together for one other letter when it ignores case, as in a sharp s. */
static bool folds_as_one(const char *p)
{
    static const char *const pairs[] = {"ss", "st", "ff", "fi", "fl"};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (strncasecmp(p, pairs[i], 2) == 0) {
            return true;
        }
    }
    return false;
}

static enum ft_status character(struct rewrite *r)
{
    size_t size = 0;
    uint32_t point = ft_tok_point((const uint8_t *)r->p, &size);
    if (ft_tok_stand_in(point) != point) {
        return refuse(r, "a character that new");
    }
    if (r->any_case[r->depth] && (point >= 0x80 || folds_as_one(r->p))) {
        return refuse(r, "without regard to case, such a letter");
    }
    return copy(r, size);
}

static enum ft_status in_class(struct rewrite *r)
{
    if (r->p[0] == '[') {
        return refuse(r, "a class in a class");
    }
    if (r->p[0] == '&' && r->p[1] == '&') {
        return refuse(r, "an intersection of classes");
    }
    r->in_class = r->p[0] != ']';
    return character(r);
}

static enum ft_status one(struct rewrite *r)
{
    if (r->p[0] == '\\') {
        return escape(r);
    }
    if (r->in_class) {
        return in_class(r);
    }
    switch (r->p[0]) {
    case '[':
        r->in_class = true;
        if (r->p[1] == ']' || (r->p[1] == '^' && r->p[2] == ']')) {
            return refuse(r, "a bracket first in a class");
        }
        return copy(r, r->p[1] == '^' ? 2 : 1);
    case '(':
        return group(r);
    case ')':
        if (r->depth == 0) {
            return FT_FAIL(r->err, INVALID, "regular expression \"%.200s\": one ) too many", r->pattern);
        }
        r->depth--;
        return copy(r, 1);
    case '{':
        return r->p[1] == ',' ? refuse(r, "{,n}") : copy(r, 1);
    case '}':
        return r->p[1] == '+' ? refuse(r, "}+") : copy(r, 1);
    default:
        return character(r);
    }
}

static enum ft_status rewritten(const char *pattern, struct ft_buf *out, struct ft_err *err)
{
    struct rewrite r = {.p = pattern, .pattern = pattern, .out = out, .err = err};
    while (*r.p != '\0') {
        FT_RETURN_IF_FAILED(one(&r));
    }
    return FT_OK;
}

/* ---- compiling ---- */

static enum ft_status compile(const char *pattern, struct ft_tok_regex *regex, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    pcre2_compile_context *context = NULL;
    int code = 0;
    size_t where = 0;
    uint32_t empty = 0;
    FT_TRY(rewritten(pattern, &text, err));
    regex->memory = pcre2_general_context_create(take, give, &regex->out_of_memory);
    context = regex->memory == NULL ? NULL : pcre2_compile_context_create(regex->memory);
    if (context == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory for a regular expression");
        goto done;
    }
    (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    regex->code =
        pcre2_compile(text.data, text.size, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &where, context);
    if (regex->code == NULL) {
        PCRE2_UCHAR message[160] = {0};
        (void)pcre2_get_error_message(code, message, sizeof message);
        st = code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED
                 ? FT_FAIL(err, NOMEM, "no memory for a regular expression")
                 : FT_FAIL(err, INVALID, "regular expression \"%.200s\": %s", pattern, (char *)message);
        goto done;
    }
    (void)pcre2_pattern_info(regex->code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty != 0) {
        st = FT_FAIL(err, UNSUPPORTED, "regular expression \"%.200s\" can match nothing", pattern);
        goto done;
    }
    /* Where code cannot be made or must not be run the interpreter does it. */
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    if (regex->out_of_memory) {
        st = FT_FAIL(err, NOMEM, "no memory for a regular expression");
    }
done:
    pcre2_compile_context_free(context);
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_tok_regex_new(const char *pattern, struct ft_tok_regex **regex, struct ft_err *err)
{
    *regex = NULL;
    if (pattern[0] == '\0' || strlen(pattern) > PATTERN_MAX) {
        return FT_FAIL(err, LIMIT, "a regular expression of %zu bytes", strlen(pattern));
    }
    struct ft_tok_regex *r = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *r, &r, err));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        r->by_hand = strcmp(pattern, known[i].pattern) == 0 ? known[i].as : r->by_hand;
    }
    enum ft_status st = r->by_hand != NOT_BY_HAND ? FT_OK : compile(pattern, r, err);
    if (st != FT_OK) {
        ft_tok_regex_free(r);
        return st;
    }
    *regex = r;
    return FT_OK;
}

void ft_tok_regex_free(struct ft_tok_regex *regex)
{
    if (regex != NULL) {
        pcre2_code_free(regex->code);
        pcre2_general_context_free(regex->memory);
        ft_free(regex);
    }
}

/* ---- matching ---- */

static enum ft_status match_new(struct ft_tok_match **match, struct ft_err *err)
{
    struct ft_tok_match *m = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *m, &m, err));
    m->memory = pcre2_general_context_create(take, give, NULL);
    if (m->memory != NULL) {
        m->data = pcre2_match_data_create(1, m->memory);
        m->context = pcre2_match_context_create(m->memory);
        m->stack = pcre2_jit_stack_create((size_t)32 << 10, STACK_MAX, m->memory);
    }
    if (m->data == NULL || m->context == NULL || m->stack == NULL) {
        ft_tok_match_free(m);
        return FT_FAIL(err, NOMEM, "no memory for a regular expression");
    }
    (void)pcre2_set_match_limit(m->context, MATCH_LIMIT);
    pcre2_jit_stack_assign(m->context, NULL, m->stack);
    *match = m;
    return FT_OK;
}

void ft_tok_match_free(struct ft_tok_match *match)
{
    if (match != NULL) {
        pcre2_jit_stack_free(match->stack);
        pcre2_match_context_free(match->context);
        pcre2_match_data_free(match->data);
        pcre2_general_context_free(match->memory);
        ft_free(match);
    }
}

enum ft_status ft_tok_regex_begin(const struct ft_tok_regex *regex, struct ft_tok_scratch *s,
                                  struct ft_bytes text, struct ft_err *err)
{
    if (regex->by_hand != NOT_BY_HAND) {
        return FT_OK;
    }
    if (s->match == NULL) {
        FT_RETURN_IF_FAILED(match_new(&s->match, err));
    }
    s->match->subject = text;
    size_t n = 0;
    for (size_t at = 0; at < text.size; at += n) {
        uint32_t point = ft_tok_point(text.data + at, &n);
        if (point < 0x80 || (ft_tok_flags(point) & FT_TOK_STANDIN) == 0) {
            continue;
        }
        if (s->match->subject.data == text.data) {
            s->shadow.size = 0;
            FT_RETURN_IF_FAILED(ft_buf_append(&s->shadow, text.data, text.size, err));
            s->match->subject = ft_buf_bytes(&s->shadow);
        }
        (void)ft_tok_utf8(ft_tok_stand_in(point), s->shadow.data + at);
    }
    return FT_OK;
}

static size_t scan(enum by_hand by_hand, struct ft_bytes text, size_t at)
{
    return by_hand == GPT2 ? ft_tok_scan_gpt2(text.data, at, text.size)
                           : ft_tok_scan_cl100k(text.data, at, text.size, by_hand == CL100K_1 ? 1 : 3);
}

enum ft_status ft_tok_regex_next(const struct ft_tok_regex *regex, struct ft_tok_scratch *s,
                                 struct ft_bytes text, size_t at, size_t range[2], bool *found,
                                 struct ft_err *err)
{
    *found = false;
    if (regex->by_hand != NOT_BY_HAND) {
        if (at < text.size) {
            *found = true;
            range[0] = at;
            range[1] = scan(regex->by_hand, text, at);
        }
        return FT_OK;
    }
    int n = pcre2_match(regex->code, s->match->subject.data, text.size, at, PCRE2_NO_UTF_CHECK,
                        s->match->data, s->match->context);
    if (n == PCRE2_ERROR_NOMATCH) {
        return FT_OK;
    }
    if (n == PCRE2_ERROR_NOMEMORY) {
        return FT_FAIL(err, NOMEM, "no memory to match a regular expression");
    }
    if (n < 0) {
        return FT_FAIL(err, LIMIT, "a text is too hard for the tokenizer's regular expression (PCRE2: %d)",
                       n);
    }
    const size_t *where = pcre2_get_ovector_pointer(s->match->data);
    *found = where[1] > where[0];
    range[0] = where[0];
    range[1] = where[1];
    return FT_OK;
}
