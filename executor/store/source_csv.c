#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "executor/base/alloc.h"
#include "executor/codec/csv.h"
#include "executor/store/internal.h"

enum { WHERE_BYTES = 640 };
enum column { COLUMN_AUTO, COLUMN_TEXT, COLUMN_URI };

static bool cell_is(struct ft_bytes cell, const char *const *names, size_t count, size_t *which)
{
    for (size_t i = 0; i < count; i++) {
        if (cell.size == strlen(names[i]) && strncasecmp((const char *)cell.data, names[i], cell.size) == 0) {
            *which = i;
            return true;
        }
    }
    return false;
}

/* The order and kind of the columns. */
struct columns {
    enum column kind;
    bool label_first;
};

/* A first row of names says what the columns are: the usual names of a content and of a label in either
 * order, or any name before one that can hardly be a class. */
static bool is_header(const struct ft_bytes *cells, size_t count, struct columns *columns)
{
    static const char *const contents[] = {"content",     "text",  "uri",      "image", "sentence",
                                           "description", "title", "question", "query"};
    static const enum column kinds[] = {COLUMN_AUTO, COLUMN_TEXT, COLUMN_URI, COLUMN_URI};
    static const char *const labels[] = {"label", "finetuner_label", "labels", "class", "category", "target"};
    enum { KINDS = 4, CONTENTS = 9, LABELS = 6, SURE = 2 };
    size_t content = CONTENTS;
    size_t label = LABELS;
    bool found = false;
    if (count == 1) { /* a lone query may well be "title" */
        found = cell_is(cells[0], contents, KINDS, &content);
    } else if (cell_is(cells[1], labels, LABELS, &label)) {
        found = cell_is(cells[0], contents, CONTENTS, &content) || label < SURE;
    } else {
        found = cell_is(cells[0], labels, LABELS, &label) && cell_is(cells[1], contents, CONTENTS, &content);
        columns->label_first = found;
    }
    if (found && content < CONTENTS) {
        columns->kind = content < KINDS ? kinds[content] : COLUMN_TEXT;
    }
    return found;
}

static bool is_web(struct ft_bytes cell)
{
    return (cell.size > 7 && strncasecmp((const char *)cell.data, "http://", 7) == 0) ||
           (cell.size > 8 && strncasecmp((const char *)cell.data, "https://", 8) == 0);
}

/* True when the cell names an existing file beside the CSV, or below the current folder: then *kept is its
 * full path. */
static enum ft_status find_file(struct ft_dataset *ds, struct ft_bytes cell, bool *found,
                                struct ft_bytes *kept, struct ft_err *err)
{
    struct ft_err unresolved = {0};
    char *path = NULL;
    *found = false;
    if (!ds->read_files || cell.size == 0 || cell.size >= FT_MAX_NAME_BYTES ||
        memchr(cell.data, '\n', cell.size) != NULL ||
        ft_dataset_resolve(ds, cell, &path, &unresolved) != FT_OK) {
        return unresolved.code == FT_NOMEM ? FT_FAIL(err, NOMEM, "no memory for a path") : FT_OK;
    }
    if (ft_path_kind(path) == FT_PATH_FILE) {
        *found = true;
        ft_free(path);
        return ft_dataset_keep(ds, cell, kept, err);
    }
    ft_free(path);
    path = ft_strndup((const char *)cell.data, cell.size);
    if (path == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a path");
    }
    char *real = ft_path_kind(path) == FT_PATH_FILE ? realpath(path, NULL) : NULL;
    ft_free(path);
    if (real == NULL) {
        return FT_OK;
    }
    *found = true;
    enum ft_status st = ft_dataset_keep(ds, ft_bytes_of_text(real), kept, err);
    free(real); /* realpath()'s own */
    return st;
}

static enum ft_status read_content(struct ft_dataset *ds, struct ft_bytes cell, enum column column,
                                   struct ft_content *content, struct ft_err *err)
{
    bool file = false;
    if (column != COLUMN_TEXT) {
        FT_RETURN_IF_FAILED(find_file(ds, cell, &file, &content->bytes, err));
    }
    bool uri = file || column == COLUMN_URI || (column == COLUMN_AUTO && is_web(cell));
    content->kind = uri ? FT_CONTENT_URI : FT_CONTENT_TEXT;
    return file ? FT_OK : ft_dataset_keep(ds, cell, &content->bytes, err);
}

static enum ft_status read_record(struct ft_dataset *ds, const struct ft_bytes *cells, size_t count,
                                  struct columns columns, const char *where, struct ft_err *err)
{
    struct ft_document doc = {0};
    size_t content = columns.label_first && count == 2 ? 1 : 0;
    size_t label = 1 - content;
    if (count > 2 || (count < 2 && ds->need_labels)) {
        return FT_FAIL(err, INVALID, "%zu columns; a labelled CSV has two: content,label", count);
    }
    for (size_t i = 0; i < count; i++) {
        if (cells[i].size > 0 &&
            (!ft_utf8_valid(cells[i]) || memchr(cells[i].data, 0, cells[i].size) != NULL)) {
            return FT_FAIL(err, INVALID, "column %zu is not UTF-8 text without NUL", i + 1);
        }
    }
    FT_RETURN_IF_FAILED(read_content(ds, cells[content], columns.kind, &doc.content, err));
    if (count == 2 && cells[label].size > 0) {
        FT_RETURN_IF_FAILED(ft_dataset_keep(ds, cells[label], &doc.label, err));
        doc.has_label = true;
    }
    return ft_dataset_add(ds, &doc, where, err);
}

enum ft_status ft_source_csv(struct ft_dataset *ds, const char *name, struct ft_bytes text,
                             struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_csv csv;
    struct ft_bytes cells[FT_CSV_MAX_FIELDS];
    struct columns columns = {COLUMN_AUTO, false};
    size_t count = 0;
    char where[WHERE_BYTES];
    size_t skip = text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* a byte order mark */
    if (text.size == 0) {
        return FT_OK;
    }
    ft_csv_open(&csv, ft_bytes_of(text.data + skip, text.size - skip));
    for (bool first = true;; first = false) {
        st = ft_csv_next(&csv, cells, &count, err);
        if (st != FT_OK) {
            st = ft_err_wrap(err, "%.600s", name);
            goto done;
        }
        if (count == 0) {
            break;
        }
        if (first && count <= 2 && is_header(cells, count, &columns)) {
            continue;
        }
        (void)snprintf(where, sizeof where, "%.600s:%d", name, csv.line);
        st = read_record(ds, cells, count, columns, where, err);
        if (st != FT_OK) {
            st = ft_err_wrap(err, "%s", where);
            goto done;
        }
    }
done:
    ft_csv_release(&csv);
    return st;
}
