#include "executor/codec/safetensors.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/arena.h"
#include "executor/base/file.h"
#include "executor/codec/json.h"

/* The library allows 100 MB; 16 MiB is room for 100,000 tensors with the names that models have. */
enum { LENGTH_BYTES = 8, MAX_HEADER = 16 << 20, MAX_TENSORS = 200000, MAX_SHARDS = 4096 };

static const struct {
    const char *name;
    size_t size;
} dtypes[FT_TENSOR_DTYPE_COUNT] = {
    [FT_TENSOR_BOOL] = {"BOOL", 1},       [FT_TENSOR_U8] = {"U8", 1},
    [FT_TENSOR_I8] = {"I8", 1},           [FT_TENSOR_F8_E5M2] = {"F8_E5M2", 1},
    [FT_TENSOR_F8_E4M3] = {"F8_E4M3", 1}, [FT_TENSOR_I16] = {"I16", 2},
    [FT_TENSOR_U16] = {"U16", 2},         [FT_TENSOR_F16] = {"F16", 2},
    [FT_TENSOR_BF16] = {"BF16", 2},       [FT_TENSOR_I32] = {"I32", 4},
    [FT_TENSOR_U32] = {"U32", 4},         [FT_TENSOR_F32] = {"F32", 4},
    [FT_TENSOR_I64] = {"I64", 8},         [FT_TENSOR_U64] = {"U64", 8},
    [FT_TENSOR_F64] = {"F64", 8},
};

struct ft_safetensors {
    struct ft_arena arena; /* names */
    struct ft_tensor *tensors;
    size_t count, capacity;
    struct ft_mapping *maps;
    size_t n_maps;
};

const char *ft_tensor_dtype_name(enum ft_tensor_dtype dtype)
{
    return dtypes[dtype].name;
}

void ft_safetensors_close(struct ft_safetensors *set)
{
    if (set == NULL) {
        return;
    }
    for (size_t i = 0; i < set->n_maps; i++) {
        ft_file_unmap(&set->maps[i]);
    }
    ft_free(set->maps);
    ft_free(set->tensors);
    ft_arena_release(&set->arena);
    ft_free(set);
}

size_t ft_safetensors_count(const struct ft_safetensors *set)
{
    return set->count;
}

const struct ft_tensor *ft_safetensors_at(const struct ft_safetensors *set, size_t i)
{
    assert(i < set->count);
    return &set->tensors[i];
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ft_tensor *)a)->name, ((const struct ft_tensor *)b)->name);
}

const struct ft_tensor *ft_safetensors_find(const struct ft_safetensors *set, const char *name)
{
    struct ft_tensor key = {.name = name};
    return set->count == 0 ? NULL : bsearch(&key, set->tensors, set->count, sizeof key, by_name);
}

/* ---- one entry of the header: "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} */

static enum ft_status read_dtype(const struct ft_json *json, struct ft_tensor *t, struct ft_err *err)
{
    const char *text = ft_json_text(json, NULL);
    if (text == NULL) {
        return FT_FAIL(err, CORRUPT, "tensor %.200s has no dtype", t->name);
    }
    for (int i = 0; i < FT_TENSOR_DTYPE_COUNT; i++) {
        if (strcmp(text, dtypes[i].name) == 0) {
            t->dtype = (enum ft_tensor_dtype)i;
            return FT_OK;
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "tensor %.200s: element type \"%.40s\" is not read", t->name, text);
}

static enum ft_status read_shape(const struct ft_json *json, struct ft_tensor *t, struct ft_err *err)
{
    if (ft_json_kind(json) != FT_JSON_ARRAY) {
        return FT_FAIL(err, CORRUPT, "tensor %.200s has no shape", t->name);
    }
    if (ft_json_count(json) > FT_MAX_RANK) {
        return FT_FAIL(err, LIMIT, "tensor %.200s has %zu dimensions, at most %d are read", t->name,
                       ft_json_count(json), FT_MAX_RANK);
    }
    t->rank = (int)ft_json_count(json);
    t->count = 1;
    for (int i = 0; i < t->rank; i++) {
        const struct ft_json *dim = ft_json_at(json, (size_t)i);
        t->dims[i] = ft_json_int(dim);
        if (ft_json_kind(dim) != FT_JSON_INT || t->dims[i] < 0) {
            return FT_FAIL(err, CORRUPT, "tensor %.200s: dimension %d is no extent", t->name, i);
        }
        if (__builtin_mul_overflow(t->count, t->dims[i], &t->count)) {
            return FT_FAIL(err, CORRUPT, "tensor %.200s: its dimensions are absurd", t->name);
        }
    }
    return FT_OK;
}

static enum ft_status read_offsets(const struct ft_json *json, struct ft_bytes data, struct ft_tensor *t,
                                   struct ft_err *err)
{
    const struct ft_json *first = ft_json_at(json, 0);
    const struct ft_json *second = ft_json_at(json, 1);
    int64_t begin = ft_json_int(first);
    int64_t end = ft_json_int(second);
    size_t want = 0;
    if (ft_json_kind(json) != FT_JSON_ARRAY || ft_json_count(json) != 2 ||
        ft_json_kind(first) != FT_JSON_INT || ft_json_kind(second) != FT_JSON_INT) {
        return FT_FAIL(err, CORRUPT, "tensor %.200s has no data_offsets", t->name);
    }
    if (begin < 0 || end < begin || (uint64_t)end > data.size) {
        return FT_FAIL(err, CORRUPT, "tensor %.200s lies at %lld .. %lld of %zu bytes of data", t->name,
                       (long long)begin, (long long)end, data.size);
    }
    if (!ft_mul_size((size_t)t->count, dtypes[t->dtype].size, &want) || want != (size_t)(end - begin)) {
        return FT_FAIL(err, CORRUPT, "tensor %.200s: %lld elements of %s do not take %lld bytes", t->name,
                       (long long)t->count, dtypes[t->dtype].name, (long long)(end - begin));
    }
    t->data = ft_bytes_of(data.data + begin, want);
    return FT_OK;
}

static enum ft_status read_tensor(struct ft_safetensors *set, const char *name, const struct ft_json *json,
                                  struct ft_bytes data, struct ft_err *err)
{
    struct ft_tensor *t = NULL;
    if (set->count == MAX_TENSORS) {
        return FT_FAIL(err, LIMIT, "more than %d tensors", MAX_TENSORS);
    }
    if (strlen(name) > FT_MAX_NAME_BYTES) {
        return FT_FAIL(err, LIMIT, "a tensor's name has more than %d bytes", FT_MAX_NAME_BYTES);
    }
    FT_RETURN_IF_FAILED(ft_grow(&set->tensors, &set->capacity, set->count + 1, sizeof *t, err));
    t = &set->tensors[set->count];
    *t = (struct ft_tensor){0};
    FT_RETURN_IF_FAILED(ft_arena_text(&set->arena, name, strlen(name), &t->name, err));
    if (ft_json_kind(json) != FT_JSON_OBJECT || ft_json_count(json) != 3) {
        return FT_FAIL(err, CORRUPT, "tensor %.200s is not described by dtype, shape and data_offsets", name);
    }
    FT_RETURN_IF_FAILED(read_dtype(ft_json_get(json, "dtype"), t, err));
    FT_RETURN_IF_FAILED(read_shape(ft_json_get(json, "shape"), t, err));
    FT_RETURN_IF_FAILED(read_offsets(ft_json_get(json, "data_offsets"), data, t, err));
    set->count++;
    return FT_OK;
}

/* Texts only; what they say is of no use to us. */
static enum ft_status check_metadata(const struct ft_json *json, struct ft_err *err)
{
    if (ft_json_kind(json) != FT_JSON_OBJECT) {
        return FT_FAIL(err, CORRUPT, "__metadata__ is no object");
    }
    for (struct ft_json_iter *it = ft_json_first(json); it != NULL; it = ft_json_next(json, it)) {
        if (ft_json_kind(ft_json_value(it)) != FT_JSON_TEXT) {
            return FT_FAIL(err, CORRUPT, "__metadata__ holds something that is no text");
        }
    }
    return FT_OK;
}

/* ---- the whole file */

static int by_place(const void *a, const void *b)
{
    const struct ft_bytes *x = &((const struct ft_tensor *)a)->data;
    const struct ft_bytes *y = &((const struct ft_tensor *)b)->data;
    if (x->data != y->data) {
        return x->data < y->data ? -1 : 1;
    }
    return (x->size > y->size) - (x->size < y->size); /* empty tensors first */
}

/* The tensors from `first` on fill the data, each byte once. */
static enum ft_status check_cover(struct ft_safetensors *set, size_t first, struct ft_bytes data,
                                  struct ft_err *err)
{
    const uint8_t *at = data.data;
    if (set->count > first) {
        qsort(set->tensors + first, set->count - first, sizeof *set->tensors, by_place);
    }
    for (size_t i = first; i < set->count; i++) {
        const struct ft_tensor *t = &set->tensors[i];
        if (t->data.data != at) {
            return FT_FAIL(err, CORRUPT, "tensor %.200s %s", t->name,
                           t->data.data < at ? "overlaps another one" : "has a gap in front of it");
        }
        at += t->data.size;
    }
    if (at != data.data + data.size) {
        return FT_FAIL(err, CORRUPT, "%zu bytes of data belong to no tensor",
                       (size_t)(data.data + data.size - at));
    }
    return FT_OK;
}

static enum ft_status split(struct ft_bytes file, struct ft_bytes *header, struct ft_bytes *data,
                            struct ft_err *err)
{
    if (file.size < LENGTH_BYTES) {
        return FT_FAIL(err, CORRUPT, "the file is too short to be a safetensors file");
    }
    uint64_t size = ft_get_u64(file.data);
    if (size > file.size - LENGTH_BYTES) {
        return FT_FAIL(err, CORRUPT, "the header is said to have %llu bytes, the file has %zu",
                       (unsigned long long)size, file.size);
    }
    if (size > MAX_HEADER) {
        return FT_FAIL(err, LIMIT, "the header has %llu bytes, at most %d are read", (unsigned long long)size,
                       MAX_HEADER);
    }
    *header = ft_bytes_of(file.data + LENGTH_BYTES, (size_t)size);
    *data = ft_bytes_of(file.data + LENGTH_BYTES + size, file.size - LENGTH_BYTES - (size_t)size);
    if (size == 0 || header->data[0] != '{') {
        return FT_FAIL(err, CORRUPT, "the header does not begin like one");
    }
    return FT_OK;
}

/* Adds the tensors of one file, not yet sorted by name. */
static enum ft_status add_file(struct ft_safetensors *set, struct ft_bytes file, struct ft_err *err)
{
    struct ft_bytes header = {0};
    struct ft_bytes data = {0};
    struct ft_json *json = NULL;
    size_t first = set->count;
    enum ft_status st = FT_OK;
    FT_TRY(split(file, &header, &data, err));
    st = ft_json_parse(header, &json, err);
    if (st == FT_INVALID) {
        st = err->code = FT_CORRUPT; /* its keys are told apart there too */
    }
    if (st != FT_OK) {
        (void)ft_err_wrap(err, "header");
        goto done;
    }
    for (struct ft_json_iter *it = ft_json_first(json); it != NULL; it = ft_json_next(json, it)) {
        if (strcmp(ft_json_key(it), "__metadata__") == 0) {
            FT_TRY(check_metadata(ft_json_value(it), err));
        } else {
            FT_TRY(read_tensor(set, ft_json_key(it), ft_json_value(it), data, err));
        }
    }
    FT_TRY(check_cover(set, first, data, err));
done:
    ft_json_free(json);
    return st;
}

static enum ft_status sort_names(struct ft_safetensors *set, struct ft_err *err)
{
    if (set->count > 0) {
        qsort(set->tensors, set->count, sizeof *set->tensors, by_name);
    }
    for (size_t i = 1; i < set->count; i++) {
        if (strcmp(set->tensors[i - 1].name, set->tensors[i].name) == 0) {
            return FT_FAIL(err, CORRUPT, "tensor %.200s is there twice", set->tensors[i].name);
        }
    }
    return FT_OK;
}

enum ft_status ft_safetensors_parse(struct ft_bytes file, struct ft_safetensors **set, struct ft_err *err)
{
    struct ft_safetensors *s = NULL;
    enum ft_status st = FT_OK;
    *set = NULL;
    FT_TRY(ft_new(1, sizeof *s, &s, err));
    FT_TRY(add_file(s, file, err));
    FT_TRY(sort_names(s, err));
    *set = s;
    s = NULL;
done:
    ft_safetensors_close(s);
    return st;
}

/* Maps path as the set's map i, and adds its tensors. */
static enum ft_status add_path(struct ft_safetensors *set, const char *path, struct ft_err *err)
{
    struct ft_mapping *map = &set->maps[set->n_maps];
    FT_RETURN_IF_FAILED(ft_file_map(path, map, err));
    set->n_maps++;
    if (map->bytes.size > FT_MAX_MODEL_BYTES) {
        return FT_FAIL(err, LIMIT, "%s is too large", path);
    }
    if (add_file(set, map->bytes, err) != FT_OK) {
        return ft_err_wrap(err, "%s", path);
    }
    return FT_OK;
}

enum ft_status ft_safetensors_open(const char *path, struct ft_safetensors **set, struct ft_err *err)
{
    struct ft_safetensors *s = NULL;
    enum ft_status st = FT_OK;
    *set = NULL;
    FT_TRY(ft_new(1, sizeof *s, &s, err));
    FT_TRY(ft_new(1, sizeof *s->maps, &s->maps, err));
    FT_TRY(add_path(s, path, err));
    FT_TRY(sort_names(s, err));
    *set = s;
    s = NULL;
done:
    ft_safetensors_close(s);
    return st;
}

/* ---- shards: {"metadata": {...}, "weight_map": {"name": "model-00001-of-00002.safetensors", ...}} */

struct shards {
    const char **names; /* borrowed from the JSON */
    size_t count, capacity;
};

static enum ft_status add_shard(struct shards *shards, const struct ft_json *json, struct ft_err *err)
{
    const char *name = ft_json_text(json, NULL);
    if (name == NULL || name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL ||
        strchr(name, '\\') != NULL || !ft_path_has_suffix(name, ".safetensors")) {
        return FT_FAIL(err, CORRUPT, "weight_map names \"%.100s\", which is no shard beside it",
                       name == NULL ? "" : name);
    }
    for (size_t i = 0; i < shards->count; i++) {
        if (strcmp(shards->names[i], name) == 0) {
            return FT_OK;
        }
    }
    if (shards->count == MAX_SHARDS) {
        return FT_FAIL(err, LIMIT, "more than %d shards", MAX_SHARDS);
    }
    FT_RETURN_IF_FAILED(
        ft_grow(&shards->names, &shards->capacity, shards->count + 1, sizeof *shards->names, err));
    shards->names[shards->count++] = name;
    return FT_OK;
}

static enum ft_status check_index(const struct ft_safetensors *set, const struct ft_json *map,
                                  struct ft_err *err)
{
    for (struct ft_json_iter *it = ft_json_first(map); it != NULL; it = ft_json_next(map, it)) {
        if (ft_safetensors_find(set, ft_json_key(it)) == NULL) {
            return FT_FAIL(err, CORRUPT, "tensor %.200s is in no shard", ft_json_key(it));
        }
    }
    if (ft_json_count(map) != set->count) {
        return FT_FAIL(err, CORRUPT, "the shards hold %zu tensors, weight_map names %zu", set->count,
                       ft_json_count(map));
    }
    return FT_OK;
}

static enum ft_status open_shards(struct ft_safetensors *set, const char *path, const struct ft_json *map,
                                  struct ft_err *err)
{
    struct shards shards = {0};
    size_t folder = (size_t)(ft_path_base(path) - path);
    char *file = NULL;
    enum ft_status st = FT_OK;
    if (ft_json_kind(map) != FT_JSON_OBJECT) {
        return FT_FAIL(err, CORRUPT, "it has no weight_map");
    }
    for (struct ft_json_iter *it = ft_json_first(map); it != NULL; it = ft_json_next(map, it)) {
        FT_TRY(add_shard(&shards, ft_json_value(it), err));
    }
    FT_TRY(ft_new(shards.count, sizeof *set->maps, &set->maps, err));
    for (size_t i = 0; i < shards.count; i++) {
        ft_free(file);
        file = NULL;
        FT_TRY(ft_new(folder + strlen(shards.names[i]) + 1, 1, &file, err));
        memcpy(file, path, folder);
        memcpy(file + folder, shards.names[i], strlen(shards.names[i]) + 1);
        FT_TRY(add_path(set, file, err));
    }
    FT_TRY(sort_names(set, err));
    FT_TRY(check_index(set, map, err));
done:
    ft_free(file);
    ft_free(shards.names);
    return st;
}

enum ft_status ft_safetensors_open_index(const char *path, struct ft_safetensors **set, struct ft_err *err)
{
    struct ft_safetensors *s = NULL;
    struct ft_buf text = {0};
    struct ft_json *json = NULL;
    enum ft_status st = FT_OK;
    *set = NULL;
    FT_TRY(ft_file_read(path, MAX_HEADER, &text, err));
    FT_TRY(ft_new(1, sizeof *s, &s, err));
    FT_TRY(ft_json_parse_named(ft_buf_bytes(&text), path, &json, err));
    if ((st = open_shards(s, path, ft_json_get(json, "weight_map"), err)) != FT_OK) {
        (void)ft_err_wrap(err, "%s", path);
        goto done;
    }
    *set = s;
    s = NULL;
done:
    ft_json_free(json);
    ft_buf_release(&text);
    ft_safetensors_close(s);
    return st;
}
