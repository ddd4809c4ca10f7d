#include "executor/codec/npy.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"

static const char magic[] = "\x93NUMPY";
enum { MAGIC_BYTES = 6, ALIGNMENT = 64, GROWTH_DIGITS = 21 };

enum ft_status ft_npy_header(int64_t rows, int64_t columns, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    assert(rows >= 0 && columns >= 0);
    FT_TRY(ft_buf_printf(&text, err, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                         (long long)rows, (long long)columns));
    /* NumPy leaves room for the first dimension to grow in place, then pads so that the data are aligned. */
    int digits = 1;
    for (int64_t n = rows; n >= 10; n /= 10) {
        digits++;
    }
    size_t used = MAGIC_BYTES + 4 + text.size + (size_t)(GROWTH_DIGITS - digits) + 1;
    size_t blanks = (size_t)(GROWTH_DIGITS - digits) + ALIGNMENT - used % ALIGNMENT;
    FT_TRY(ft_buf_printf(&text, err, "%*s\n", (int)blanks, ""));
    uint8_t head[MAGIC_BYTES + 4];
    memcpy(head, magic, MAGIC_BYTES);
    head[MAGIC_BYTES] = 1;
    head[MAGIC_BYTES + 1] = 0;
    head[MAGIC_BYTES + 2] = (uint8_t)text.size;
    head[MAGIC_BYTES + 3] = (uint8_t)(text.size >> 8);
    FT_TRY(ft_buf_reserve(out, sizeof head + text.size, err));
    FT_TRY(ft_buf_append(out, head, sizeof head, err));
    FT_TRY(ft_buf_append(out, text.data, text.size, err));
done:
    ft_buf_release(&text);
    return st;
}

/* The header is a Python literal: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } in any order.
 */
struct literal {
    struct ft_bytes text;
    size_t at;
};

static int look(struct literal *p)
{
    while (p->at < p->text.size && (p->text.data[p->at] == ' ' || p->text.data[p->at] == '\n')) {
        p->at++;
    }
    return p->at < p->text.size ? p->text.data[p->at] : -1;
}

static bool take(struct literal *p, char c)
{
    if (look(p) != c) {
        return false;
    }
    p->at++;
    return true;
}

static bool take_text(struct literal *p, struct ft_bytes *out)
{
    int quote = look(p);
    if (quote != '\'' && quote != '"') {
        return false;
    }
    size_t start = ++p->at;
    while (p->at < p->text.size && p->text.data[p->at] != quote) {
        p->at++;
    }
    *out = ft_bytes_of(p->text.data + start, p->at - start);
    return p->at++ < p->text.size;
}

static bool take_word(struct literal *p, const char *word)
{
    size_t n = strlen(word);
    (void)look(p);
    if (p->text.size - p->at < n || memcmp(p->text.data + p->at, word, n) != 0) {
        return false;
    }
    p->at += n;
    return true;
}

static bool take_number(struct literal *p, int64_t *out)
{
    size_t start = p->at;
    *out = 0;
    for (int c = look(p); c >= '0' && c <= '9'; c = p->at < p->text.size ? p->text.data[p->at] : -1) {
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, c - '0', out)) {
            return false;
        }
        start = p->at++;
    }
    return p->at > start;
}

static enum ft_status broken(struct ft_err *err, const char *what)
{
    return FT_FAIL(err, CORRUPT, "npy file: %s", what);
}

static enum ft_status take_shape(struct literal *p, struct ft_npy *npy, struct ft_err *err)
{
    if (!take(p, '(')) {
        return broken(err, "the shape is no tuple");
    }
    while (!take(p, ')')) {
        if (npy->rank == FT_MAX_RANK) {
            return FT_FAIL(err, LIMIT, "npy file: more than %d dimensions", FT_MAX_RANK);
        }
        if (!take_number(p, &npy->dims[npy->rank])) {
            return broken(err, "the shape holds something other than numbers");
        }
        npy->rank++;
        if (!take(p, ',') && look(p) != ')') {
            return broken(err, "the shape is not closed");
        }
    }
    return FT_OK;
}

static enum ft_status take_dtype(struct literal *p, struct ft_npy *npy, struct ft_err *err)
{
    struct ft_bytes text = {0};
    if (look(p) == '[') {
        return FT_FAIL(err, UNSUPPORTED, "npy file: structured types are not read");
    }
    if (!take_text(p, &text)) {
        return broken(err, "the type is no text");
    }
    static const char *const known[] = {"<f4", "<f8", "<f2", "<i8", "<i4", "<i2",
                                        "|i1", "<u8", "<u4", "<u2", "|u1", "|b1"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (ft_bytes_is(text, known[i])) {
            memcpy(npy->dtype, known[i], 4);
            return FT_OK;
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "npy file: type '%.*s' is not read (little-endian numbers only)",
                   ft_bytes_shown(text), (const char *)text.data);
}

static enum ft_status take_header(struct literal *p, struct ft_npy *npy, bool *fortran, struct ft_err *err)
{
    bool seen[3] = {false, false, false};
    if (!take(p, '{')) {
        return broken(err, "the header is no dictionary");
    }
    while (!take(p, '}')) {
        struct ft_bytes key = {0};
        if (!take_text(p, &key) || !take(p, ':')) {
            return broken(err, "the header is not written as a dictionary");
        }
        int which = ft_bytes_is(key, "descr") ? 0 : ft_bytes_is(key, "fortran_order") ? 1 : 2;
        if (seen[which] || (which == 2 && !ft_bytes_is(key, "shape"))) {
            return broken(err, "the header has an unknown or repeated key");
        }
        seen[which] = true;
        if (which == 0) {
            FT_RETURN_IF_FAILED(take_dtype(p, npy, err));
        } else if (which == 2) {
            FT_RETURN_IF_FAILED(take_shape(p, npy, err));
        } else if (take_word(p, "True")) {
            *fortran = true;
        } else if (!take_word(p, "False")) {
            return broken(err, "fortran_order is neither True nor False");
        }
        if (!take(p, ',') && look(p) != '}') {
            return broken(err, "the header is not closed");
        }
    }
    return seen[0] && seen[1] && seen[2] ? FT_OK
                                         : broken(err, "the header lacks descr, fortran_order or shape");
}

static enum ft_status parse(struct ft_bytes file, struct ft_npy *npy, struct ft_err *err)
{
    if (file.size < MAGIC_BYTES + 4 || memcmp(file.data, magic, MAGIC_BYTES) != 0) {
        return broken(err, "it does not begin like one");
    }
    uint8_t version = file.data[MAGIC_BYTES];
    size_t head = version == 1 ? MAGIC_BYTES + 4 : MAGIC_BYTES + 6;
    if (version < 1 || version > 3) {
        return FT_FAIL(err, UNSUPPORTED, "npy file: format version %d is not read", version);
    }
    if (file.size < head) {
        return broken(err, "it is cut off");
    }
    size_t size = version == 1 ? (size_t)file.data[8] | (size_t)file.data[9] << 8 : ft_get_u32(file.data + 8);
    if (size > file.size - head) {
        return broken(err, "it is cut off in the header");
    }
    struct literal p = {.text = ft_bytes_of(file.data + head, size)};
    bool fortran = false;
    FT_RETURN_IF_FAILED(take_header(&p, npy, &fortran, err));
    if (look(&p) != -1) {
        return broken(err, "something follows the header's dictionary");
    }
    if (fortran && npy->rank > 1) {
        return FT_FAIL(err, UNSUPPORTED, "npy file: Fortran order is not read");
    }
    size_t bytes = (size_t)(npy->dtype[2] - '0');
    for (int i = 0; i < npy->rank; i++) {
        if (!ft_mul_size(bytes, (size_t)npy->dims[i], &bytes)) {
            return broken(err, "its dimensions are absurd");
        }
    }
    npy->data = ft_bytes_of(file.data + head + size, file.size - head - size);
    if (npy->data.size != bytes) {
        return FT_FAIL(err, CORRUPT, "npy file: %zu bytes of data where the header says %zu", npy->data.size,
                       bytes);
    }
    return FT_OK;
}

enum ft_status ft_npy_parse(struct ft_bytes file, struct ft_npy *npy, struct ft_err *err)
{
    *npy = (struct ft_npy){0};
    enum ft_status st = parse(file, npy, err);
    if (st != FT_OK) {
        *npy = (struct ft_npy){0};
    }
    return st;
}
