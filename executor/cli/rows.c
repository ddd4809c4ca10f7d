/* Rows of embeddings, to a file: .npy, or lines of JSON that tell whose each is. */
#include <math.h>

#include "executor/base/file.h"
#include "executor/cli/cli.h"
#include "executor/codec/json.h"
#include "executor/codec/npy.h"

static enum ft_status write_npy(const char *path, size_t count, const float *rows, int64_t dim,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    FT_TRY(ft_npy_header((int64_t)count, dim, &file, err));
    FT_TRY(ft_buf_append(&file, rows, count * (size_t)dim * sizeof *rows, err));
    FT_TRY(ft_file_write(path, ft_buf_bytes(&file), err));
done:
    ft_buf_release(&file);
    return st;
}

static enum ft_status set_text(struct ft_json *object, const char *key, struct ft_bytes text,
                               struct ft_err *err)
{
    struct ft_json *value = ft_json_of_bytes(text);
    if (value == NULL) {
        return FT_FAIL(err, UNSUPPORTED,
                       "its %s is no text that JSON holds (UTF-8 without U+0000): write .npy", key);
    }
    return ft_json_set(object, key, value, err);
}

/* {"id": ..., "uri" or "text": ..., "label": ...}: what the Document has of these. */
static enum ft_status whose(const struct ft_document *doc, struct ft_buf *line, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *object = ft_json_object();
    if (doc->id.size > 0) {
        FT_TRY(set_text(object, "id", doc->id, err));
    }
    if (doc->content.kind == FT_CONTENT_URI || doc->content.kind == FT_CONTENT_TEXT) {
        const char *key = doc->content.kind == FT_CONTENT_URI ? "uri" : "text";
        FT_TRY(set_text(object, key, doc->content.bytes, err));
    }
    if (doc->has_label) {
        FT_TRY(set_text(object, "label", doc->label, err));
    }
    FT_TRY(ft_json_write(object, 0, line, err));
done:
    ft_json_free(object);
    return st;
}

/* Nine digits read back as the same float. */
static enum ft_status append_numbers(const float *row, int64_t dim, struct ft_buf *line, struct ft_err *err)
{
    for (int64_t i = 0; i < dim; i++) {
        const char *comma = i == 0 ? "" : ", ";
        FT_RETURN_IF_FAILED(isfinite(row[i]) ? ft_buf_printf(line, err, "%s%.9g", comma, (double)row[i])
                                             : ft_buf_printf(line, err, "%snull", comma));
    }
    return FT_OK;
}

static enum ft_status append_line(const struct ft_document *doc, const float *row, int64_t dim,
                                  struct ft_buf *lines, struct ft_err *err)
{
    size_t start = lines->size;
    FT_RETURN_IF_FAILED(whose(doc, lines, err));
    lines->size--; /* its '}' */
    FT_RETURN_IF_FAILED(ft_buf_printf(lines, err, "%s\"embedding\": [", lines->size - start > 1 ? ", " : ""));
    FT_RETURN_IF_FAILED(append_numbers(row, dim, lines, err));
    return ft_buf_text(lines, "]}\n", err);
}

static enum ft_status write_lines(const char *path, const struct ft_dataset *data, const float *rows,
                                  int64_t dim, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf lines = {0};
    for (size_t i = 0; i < ft_dataset_count(data); i++) {
        st = append_line(ft_dataset_doc(data, i), rows + i * (size_t)dim, dim, &lines, err);
        if (st != FT_OK) {
            FT_TRY(ft_err_wrap(err, "%.300s", ft_dataset_where(data, i)));
        }
    }
    FT_TRY(ft_file_write(path, ft_buf_bytes(&lines), err));
done:
    ft_buf_release(&lines);
    return st;
}

enum ft_status ft_write_rows(const char *path, const struct ft_dataset *data, const float *rows, int64_t dim,
                             struct ft_err *err)
{
    return ft_path_has_suffix(path, FT_ROWS_LINES) ? write_lines(path, data, rows, dim, err)
                                                   : write_npy(path, ft_dataset_count(data), rows, dim, err);
}
