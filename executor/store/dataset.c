#include "executor/store/dataset.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/store/internal.h"

void ft_dataset_free(struct ft_dataset *dataset)
{
    if (dataset == NULL) {
        return;
    }
    ft_arena_release(&dataset->arena);
    ft_file_unmap(&dataset->map);
    ft_free(dataset->folder);
    ft_free(dataset->rows);
    ft_free(dataset->slots);
    ft_free(dataset->class_names);
    ft_free(dataset->class_items);
    ft_free(dataset->class_first);
    ft_free(dataset->picked);
    ft_set_source_close(dataset);
    ft_free(dataset);
}

/* ---- looking ---- */

/* The dataset that holds Document i, and its number there. */
static const struct ft_dataset *holder_of(const struct ft_dataset *ds, size_t *i)
{
    assert(*i < ds->count);
    if (ds->root == NULL) {
        return ds;
    }
    *i = ds->picked[*i];
    return ds->root;
}

static const struct ft_dataset_row *row_of(const struct ft_dataset *ds, size_t i)
{
    const struct ft_dataset *holder = holder_of(ds, &i);
    assert(holder->segments == NULL);
    return &holder->rows[i];
}

size_t ft_dataset_count(const struct ft_dataset *dataset)
{
    return dataset->count;
}

const struct ft_document *ft_dataset_doc(const struct ft_dataset *dataset, size_t i)
{
    return &row_of(dataset, i)->doc;
}

struct ft_bytes ft_dataset_id(const struct ft_dataset *dataset, size_t i)
{
    const struct ft_dataset *holder = holder_of(dataset, &i);
    return holder->segments != NULL ? ft_set_source_id(holder, i) : holder->rows[i].doc.id;
}

enum ft_status ft_dataset_read(const struct ft_dataset *dataset, size_t i, struct ft_arena *arena,
                               struct ft_document *doc, struct ft_err *err)
{
    const struct ft_dataset *holder = holder_of(dataset, &i);
    if (holder->segments != NULL) {
        return ft_set_source_read(holder, i, arena, doc, err);
    }
    *doc = holder->rows[i].doc;
    return FT_OK;
}

const char *ft_dataset_where(const struct ft_dataset *dataset, size_t i)
{
    const struct ft_dataset *holder = holder_of(dataset, &i);
    return holder->segments != NULL ? holder->folder : holder->rows[i].where;
}

size_t ft_dataset_classes(const struct ft_dataset *dataset)
{
    return dataset->classes;
}

const char *ft_dataset_class_name(const struct ft_dataset *dataset, size_t c)
{
    const struct ft_dataset *ds = dataset->root == NULL ? dataset : dataset->root;
    assert(c < ds->classes);
    return ds->class_names[c];
}

/* The class of whose numbers, which follow each other, i is one. */
static int32_t class_by_number(const struct ft_dataset *ds, size_t i)
{
    size_t low = 0;
    size_t high = ds->classes;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (ds->class_first[middle] <= i) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (int32_t)low;
}

int32_t ft_dataset_class_of(const struct ft_dataset *dataset, size_t i)
{
    const struct ft_dataset *holder = holder_of(dataset, &i);
    return holder->segments != NULL ? class_by_number(holder, i) : holder->rows[i].class_no;
}

size_t ft_dataset_class_count(const struct ft_dataset *dataset, size_t c)
{
    assert(c < dataset->classes);
    return dataset->class_first[c + 1] - dataset->class_first[c];
}

uint32_t ft_dataset_class_item(const struct ft_dataset *dataset, size_t c, size_t k)
{
    assert(k < ft_dataset_class_count(dataset, c));
    size_t at = dataset->class_first[c] + k;
    return dataset->segments != NULL ? (uint32_t)at : dataset->class_items[at];
}

/* ---- content ---- */

static int hex_of(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The path of "file:///a%20b": "file:" and an empty host are dropped, %XX decoded. */
static enum ft_status file_uri_path(struct ft_bytes uri, char **path, struct ft_err *err)
{
    const uint8_t *p = uri.data + strlen("file:");
    const uint8_t *end = uri.data + uri.size;
    if (end - p >= 2 && p[0] == '/' && p[1] == '/') {
        p += 2;
    }
    char *out = ft_alloc((size_t)(end - p) + 1);
    if (out == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a path");
    }
    size_t n = 0;
    while (p < end) {
        int high = p[0] == '%' && end - p >= 3 ? hex_of(p[1]) : -1;
        int low = high >= 0 ? hex_of(p[2]) : -1;
        if (low >= 0) {
            out[n++] = (char)(high * 16 + low);
            p += 3;
        } else {
            out[n++] = (char)*p++;
        }
    }
    out[n] = '\0';
    *path = out;
    return FT_OK;
}

static bool starts_with(struct ft_bytes bytes, const char *prefix)
{
    size_t n = strlen(prefix);
    return bytes.size >= n && strncasecmp((const char *)bytes.data, prefix, n) == 0;
}

/* "scheme://" with a scheme of letters, digits, '+', '-', '.'. */
static bool has_scheme(struct ft_bytes uri)
{
    size_t i = 0;
    while (i < uri.size && i < 32 && uri.data[i] != ':' && uri.data[i] != '/') {
        i++;
    }
    return i > 0 && i + 2 < uri.size && memcmp(uri.data + i, "://", 3) == 0;
}

enum ft_status ft_dataset_resolve(const struct ft_dataset *ds, struct ft_bytes uri, char **path,
                                  struct ft_err *err)
{
    *path = NULL;
    char *plain = NULL;
    if (uri.size > FT_MAX_NAME_BYTES) {
        return FT_FAIL(err, LIMIT, "a uri has %zu bytes, more than %d", uri.size, FT_MAX_NAME_BYTES);
    }
    if (memchr(uri.data, 0, uri.size) != NULL) {
        return FT_FAIL(err, INVALID, "a uri holds a NUL byte");
    }
    if (starts_with(uri, "file:")) {
        FT_RETURN_IF_FAILED(file_uri_path(uri, &plain, err));
    } else if (has_scheme(uri) || starts_with(uri, "data:")) {
        return FT_FAIL(err, UNSUPPORTED,
                       "uri \"%.*s\" is not read; give the path of a local file, or the bytes as blob",
                       ft_bytes_shown(uri), (const char *)uri.data);
    } else if ((plain = ft_strndup((const char *)uri.data, uri.size)) == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a path");
    }
    if (plain[0] == '/' || ds->folder == NULL) {
        *path = plain;
        return FT_OK;
    }
    enum ft_status st = ft_path_join(ds->folder, plain, path, err);
    ft_free(plain);
    return st;
}

/* A uri's file. */
static enum ft_status read_uri(const struct ft_dataset *ds, const struct ft_dataset_row *row,
                               struct ft_buf *own, struct ft_content *content, struct ft_err *err)
{
    char *path = NULL;
    enum ft_status st = FT_OK;
    ft_buf_release(own);
    if (!ds->read_files) {
        st = FT_FAIL(err, UNSUPPORTED, "a uri is not read here; give the bytes as blob");
        goto done;
    }
    FT_TRY(ft_dataset_resolve(ds, row->doc.content.bytes, &path, err));
    FT_TRY(ft_file_read(path, FT_MAX_DOC_BYTES, own, err));
    *content = (struct ft_content){.kind = FT_CONTENT_BLOB, .bytes = ft_buf_bytes(own)};
done:
    if (st != FT_OK) {
        *content = (struct ft_content){0};
        ft_err_wrap(err, "%s", row->where);
    }
    ft_free(path);
    return st;
}

enum ft_status ft_dataset_content(const struct ft_dataset *dataset, size_t i, struct ft_buf *own,
                                  struct ft_content *content, struct ft_err *err)
{
    const struct ft_dataset *holder = holder_of(dataset, &i);
    struct ft_arena labels = {0};
    struct ft_document doc;
    if (holder->segments == NULL) {
        const struct ft_dataset_row *row = &holder->rows[i];
        *content = row->doc.content;
        return content->kind == FT_CONTENT_URI ? read_uri(holder, row, own, content, err) : FT_OK;
    }
    enum ft_status st = ft_set_source_read(holder, i, &labels, &doc, err);
    *content = doc.content; /* in the mapped file */
    if (st == FT_OK && content->kind == FT_CONTENT_URI) {
        st = FT_FAIL(err, UNSUPPORTED, "%s: a uri is not read by the service; send the bytes as blob",
                     holder->folder);
    }
    if (st != FT_OK) {
        *content = (struct ft_content){0};
    }
    ft_arena_release(&labels);
    return st;
}

/* ---- digest ---- */

/* Every part goes in with its length in front, so that no two lists of Documents look alike. */
static void add_part(struct ft_sha256 *sha, struct ft_bytes part)
{
    uint8_t size[8];
    ft_put_u64(size, part.size);
    ft_sha256_add(sha, ft_bytes_of(size, sizeof size));
    ft_sha256_add(sha, part);
}

static enum ft_status add_row(const struct ft_dataset *ds, size_t i, struct ft_sha256 *sha,
                              struct ft_buf *own, struct ft_err *err)
{
    struct ft_content content;
    uint8_t head[16 + 8 * FT_MAX_RANK] = {0};
    char position[32];
    int32_t c = ft_dataset_class_of(ds, i);
    struct ft_bytes id = ft_dataset_id(ds, i);
    FT_RETURN_IF_FAILED(ft_dataset_content(ds, i, own, &content, err));
    (void)snprintf(position, sizeof position, "#%zu", i);
    add_part(sha, id.size > 0 ? id : ft_bytes_of_text(position));
    add_part(sha, ft_bytes_of_text(c >= 0 ? ft_dataset_class_name(ds, (size_t)c) : ""));
    head[0] = c >= 0 ? 1 : 0;
    head[1] = (uint8_t)content.kind;
    head[2] = (uint8_t)content.rank;
    memcpy(head + 8, content.dtype, sizeof content.dtype);
    for (int k = 0; k < content.rank; k++) {
        ft_put_u64(head + 16 + (size_t)k * 8, (uint64_t)content.dims[k]);
    }
    add_part(sha, ft_bytes_of(head, sizeof head));
    add_part(sha, content.bytes);
    return FT_OK;
}

enum ft_status ft_dataset_digest(const struct ft_dataset *dataset, char hex[FT_SHA256_HEX],
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_sha256 *sha = NULL;
    struct ft_buf own = {0};
    hex[0] = '\0';
    FT_TRY(ft_sha256_new(&sha, err));
    for (size_t i = 0; i < dataset->count; i++) {
        FT_TRY(add_row(dataset, i, sha, &own, err));
    }
    ft_sha256_finish(sha, hex);
done:
    ft_sha256_free(sha);
    ft_buf_release(&own);
    return st;
}

/* ---- subsets ---- */

enum ft_status ft_dataset_subset(const struct ft_dataset *all, const uint32_t *items, size_t count,
                                 struct ft_dataset **dataset, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *ds = NULL;
    *dataset = NULL;
    FT_TRY(ft_new(1, sizeof *ds, &ds, err));
    FT_TRY(ft_new(count, sizeof *ds->picked, &ds->picked, err));
    ds->root = all->root == NULL ? all : all->root;
    ds->classes = all->classes;
    ds->count = count;
    for (size_t i = 0; i < count; i++) {
        assert(items[i] < all->count);
        ds->picked[i] = all->root == NULL ? items[i] : all->picked[items[i]];
    }
    FT_TRY(ft_dataset_group(ds, err));
    *dataset = ds;
    ds = NULL;
done:
    ft_dataset_free(ds);
    return st;
}

/* ---- opening ---- */

static enum ft_status read_stdin(struct ft_buf *buf, struct ft_err *err)
{
    for (;;) {
        if (buf->size > FT_MAX_DATA_BYTES) {
            return FT_FAIL(err, LIMIT, "stdin has more than %zu bytes", FT_MAX_DATA_BYTES);
        }
        FT_RETURN_IF_FAILED(ft_buf_reserve(buf, (size_t)1 << 16, err));
        ssize_t n = read(STDIN_FILENO, buf->data + buf->size, buf->capacity - buf->size - 1);
        if (n == 0) {
            return FT_OK;
        }
        if (n < 0 && errno != EINTR) {
            return FT_FAIL(err, IO, "cannot read stdin: error %d", errno);
        }
        buf->size += n > 0 ? (size_t)n : 0;
    }
}

/* A file of none of the known names: what its first bytes look like. */
static const char *kind_of_bytes(struct ft_bytes bytes)
{
    size_t i = 0;
    if (ft_source_docarray_known(bytes)) {
        return "docarray";
    }
    while (i < bytes.size && (bytes.data[i] == ' ' || bytes.data[i] == '\n' || bytes.data[i] == '\r')) {
        i++;
    }
    return i < bytes.size && bytes.data[i] == '{' ? "jsonl" : NULL;
}

static const char *kind_of_file(const char *path, struct ft_bytes bytes)
{
    static const char *const names[][2] = {{".jsonl", "jsonl"},
                                           {".ndjson", "jsonl"},
                                           {".csv", "csv"},
                                           {".tsv", "csv"},
                                           {".bin", "docarray"},
                                           {".protobuf", "docarray"},
                                           {".protobuf-array", "docarray"},
                                           {".da", "docarray"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (ft_path_has_suffix(path, names[i][0])) {
            return names[i][1];
        }
    }
    return kind_of_bytes(bytes);
}

static enum ft_status run_source(struct ft_dataset *ds, const char *kind, const char *name,
                                 struct ft_bytes bytes, struct ft_err *err)
{
    if (kind == NULL) {
        return FT_FAIL(
            err, UNSUPPORTED,
            "%.400s is not data that is read: give .jsonl, .csv, a folder of one folder per class, "
            "a DocumentArray .bin, or - for JSON lines on stdin",
            name);
    }
    if (bytes.size > FT_MAX_DATA_BYTES) {
        return FT_FAIL(err, LIMIT, "%.400s has %zu bytes, more than %zu", name, bytes.size,
                       FT_MAX_DATA_BYTES);
    }
    if (strcmp(kind, "jsonl") == 0) {
        return ft_source_jsonl(ds, name, bytes, err);
    }
    return strcmp(kind, "csv") == 0 ? ft_source_csv(ds, name, bytes, err)
                                    : ft_source_docarray(ds, name, bytes, err);
}

static enum ft_status set_folder(struct ft_dataset *ds, const char *data, struct ft_err *err)
{
    const char *base = ft_path_base(data);
    if (base == data) {
        return FT_OK; /* a name in the current folder */
    }
    ds->folder = ft_strndup(data, (size_t)(base - data));
    return ds->folder != NULL ? FT_OK : FT_FAIL(err, NOMEM, "no memory for a path");
}

static enum ft_status fill(struct ft_dataset *ds, const char *data, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    if (strcmp(data, "-") == 0) {
        FT_TRY(read_stdin(&text, err));
        FT_TRY(run_source(ds, "jsonl", "stdin", ft_buf_bytes(&text), err));
    } else if (ft_path_kind(data) == FT_PATH_DIR) {
        FT_TRY(ft_source_folder(ds, data, err));
    } else {
        FT_TRY(set_folder(ds, data, err));
        FT_TRY(ft_file_map(data, &ds->map, err));
        FT_TRY(run_source(ds, kind_of_file(data, ds->map.bytes), data, ds->map.bytes, err));
    }
    if (ds->count == 0) {
        st = FT_FAIL(err, INVALID, "%.400s holds no Documents", data);
    }
done:
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_dataset_open(const char *data, bool need_labels, struct ft_dataset **dataset,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *ds = NULL;
    *dataset = NULL;
    FT_TRY(ft_new(1, sizeof *ds, &ds, err));
    ds->need_labels = need_labels;
    ds->read_files = true;
    FT_TRY(fill(ds, data, err));
    FT_TRY(ft_dataset_index(ds, err));
    *dataset = ds;
    ds = NULL;
done:
    ft_dataset_free(ds);
    return st;
}

enum ft_status ft_dataset_open_memory(const char *kind, struct ft_bytes text, bool need_labels,
                                      struct ft_dataset **dataset, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *ds = NULL;
    struct ft_bytes kept;
    *dataset = NULL;
    FT_TRY(ft_new(1, sizeof *ds, &ds, err));
    ds->need_labels = need_labels;
    FT_TRY(ft_dataset_keep(ds, text, &kept, err)); /* Documents of a DocumentArray borrow from it */
    FT_TRY(run_source(ds, kind, "memory", kept, err));
    FT_TRY(ft_dataset_index(ds, err));
    *dataset = ds;
    ds = NULL;
done:
    ft_dataset_free(ds);
    return st;
}
