#include "executor/codec/csv.h"

#include <stdbool.h>
#include <string.h>

#include "executor/base/limits.h"

enum { SNIFFED_RECORDS = 10 };

/* The number of separators in the record at *at, which is moved behind it; quotes are respected. False when
 * blank. */
static bool count_in_record(struct ft_bytes text, size_t *at, char separator, size_t *count)
{
    bool quoted = false;
    size_t start = *at;
    *count = 0;
    for (; *at < text.size; (*at)++) {
        char c = (char)text.data[*at];
        if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && (c == '\n' || c == '\r')) {
            break;
        } else if (!quoted && c == separator) {
            *count += 1;
        }
    }
    bool blank = *at == start;
    *at += *at < text.size ? 1 : 0;
    return !blank;
}

static bool separates(struct ft_bytes text, size_t at, char separator)
{
    size_t first = 0;
    size_t records = 0;
    while (at < text.size && records < SNIFFED_RECORDS) {
        size_t count = 0;
        if (!count_in_record(text, &at, separator, &count)) {
            continue;
        }
        if (records == 0) {
            first = count;
        }
        if (count == 0 || count != first) {
            return false;
        }
        records++;
    }
    return records > 0;
}

void ft_csv_open(struct ft_csv *csv, struct ft_bytes text)
{
    static const char candidates[] = {',', ';', '\t', '|'};
    *csv = (struct ft_csv){.text = text, .next_line = 1, .separator = ','};
    /* Spreadsheets put a byte order mark in front. */
    if (text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0) {
        csv->at = 3;
    }
    for (size_t i = 0; i < sizeof candidates; i++) {
        if (separates(text, csv->at, candidates[i])) {
            csv->separator = candidates[i];
            return;
        }
    }
}

static int peek(const struct ft_csv *csv)
{
    return csv->at < csv->text.size ? csv->text.data[csv->at] : -1;
}

static bool at_line_end(const struct ft_csv *csv)
{
    int c = peek(csv);
    return c == -1 || c == '\n' || c == '\r';
}

static void skip_line_end(struct ft_csv *csv)
{
    int c = peek(csv);
    if (c == -1) {
        return;
    }
    csv->at++;
    if (c == '\r' && peek(csv) == '\n') {
        csv->at++;
    }
    csv->next_line++;
}

/* At the opening quote. A field without doubled quotes is borrowed from the text; else it is copied into
 * `own`, which may still move: *own_at is then its offset there. */
static enum ft_status quoted_field(struct ft_csv *csv, struct ft_bytes *field, size_t *own_at,
                                   struct ft_err *err)
{
    size_t start = ++csv->at;
    for (;;) {
        const uint8_t *from = csv->text.data + csv->at;
        const uint8_t *quote = memchr(from, '"', csv->text.size - csv->at);
        if (quote == NULL) {
            return FT_FAIL(err, INVALID, "CSV line %d: a quoted field is not closed", csv->line);
        }
        for (const uint8_t *p = from; p < quote; p++) {
            bool bare_return = *p == '\r' && p[1] != '\n';
            csv->next_line += *p == '\n' || bare_return ? 1 : 0;
        }
        csv->at = (size_t)(quote - csv->text.data) + 1;
        if (peek(csv) != '"') {
            break;
        }
        if (*own_at == SIZE_MAX) {
            *own_at = csv->own.size;
        }
        FT_RETURN_IF_FAILED(ft_buf_append(&csv->own, csv->text.data + start, csv->at - start, err));
        start = ++csv->at;
    }
    if (*own_at != SIZE_MAX) {
        FT_RETURN_IF_FAILED(ft_buf_append(&csv->own, csv->text.data + start, csv->at - 1 - start, err));
        field->size = csv->own.size - *own_at;
    } else {
        *field = ft_bytes_of(csv->text.data + start, csv->at - 1 - start);
    }
    if (!at_line_end(csv) && peek(csv) != csv->separator) {
        return FT_FAIL(err, INVALID, "CSV line %d: something follows a closing quote", csv->next_line);
    }
    return FT_OK;
}

static void plain_field(struct ft_csv *csv, struct ft_bytes *field)
{
    size_t start = csv->at;
    while (!at_line_end(csv) && peek(csv) != csv->separator) {
        csv->at++;
    }
    *field = ft_bytes_of(csv->text.data + start, csv->at - start);
}

static enum ft_status read_record(struct ft_csv *csv, struct ft_bytes fields[FT_CSV_MAX_FIELDS],
                                  size_t *count, struct ft_err *err)
{
    size_t own_at[FT_CSV_MAX_FIELDS];
    size_t n = 0;
    size_t start = csv->at;
    for (;;) {
        if (n == FT_CSV_MAX_FIELDS) {
            return FT_FAIL(err, LIMIT, "CSV line %d: more than %d fields", csv->line, FT_CSV_MAX_FIELDS);
        }
        fields[n] = (struct ft_bytes){0};
        own_at[n] = SIZE_MAX;
        if (peek(csv) == '"') {
            FT_RETURN_IF_FAILED(quoted_field(csv, &fields[n], &own_at[n], err));
        } else {
            plain_field(csv, &fields[n]);
        }
        n++;
        if (csv->at - start > FT_MAX_LINE_BYTES) {
            return FT_FAIL(err, LIMIT, "CSV line %d: more than %d bytes", csv->line, (int)FT_MAX_LINE_BYTES);
        }
        if (at_line_end(csv)) {
            break;
        }
        csv->at++;
    }
    skip_line_end(csv);
    for (size_t i = 0; i < n; i++) {
        if (own_at[i] != SIZE_MAX) {
            fields[i].data = csv->own.data + own_at[i];
        }
    }
    *count = n;
    return FT_OK;
}

enum ft_status ft_csv_next(struct ft_csv *csv, struct ft_bytes fields[FT_CSV_MAX_FIELDS], size_t *count,
                           struct ft_err *err)
{
    *count = 0;
    csv->own.size = 0;
    while (csv->at < csv->text.size && at_line_end(csv)) {
        skip_line_end(csv);
    }
    if (csv->at >= csv->text.size) {
        return FT_OK;
    }
    csv->line = csv->next_line;
    return read_record(csv, fields, count, err);
}

void ft_csv_release(struct ft_csv *csv)
{
    ft_buf_release(&csv->own);
    *csv = (struct ft_csv){0};
}
