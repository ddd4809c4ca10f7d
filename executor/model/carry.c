#include "executor/model/carry.h"

#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/codec/pb.h"
#include "executor/model/hf_internal.h"
#include "executor/model/internal.h"

struct list {
    struct ft_carry *out;
    size_t capacity;
    const char *from; /* folder here */
    const char *to;   /* what its files' names begin with there; "": nothing */
};

/* "a/b", or b where a is "" */
static enum ft_status below(const char *a, const char *b, char **out, struct ft_err *err)
{
    return a[0] == '\0' ? ft_new_text(b, out, err) : ft_path_join(a, b, out, err);
}

/* `dir`/`name` of the folder, unless it is not there or listed already. */
static enum ft_status add(struct list *l, const char *dir, const char *name, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_carry *c = l->out;
    char *inside = NULL;
    char *path = NULL;
    char *there = NULL;
    FT_TRY(below(dir, name, &inside, err));
    FT_TRY(ft_path_join(l->from, inside, &path, err));
    FT_TRY(below(l->to, inside, &there, err));
    bool listed = ft_path_kind(path) != FT_PATH_FILE;
    for (size_t i = 0; !listed && i < c->count; i++) {
        listed = strcmp(c->files[i].name, there) == 0;
    }
    if (listed) {
        goto done;
    }
    FT_TRY(ft_grow(&c->files, &l->capacity, c->count + 1, sizeof *c->files, err));
    c->files[c->count++] = (struct ft_carry_file){.name = there, .path = path};
    there = path = NULL;
done:
    ft_free(inside);
    ft_free(path);
    ft_free(there);
    return st;
}

/* ---- external data of an ONNX file */

enum place { MODEL, GRAPH, FUNCTION, NODE, ATTRIBUTE, TENSOR };
static const struct {
    enum place in;
    uint32_t field;
    enum place to;
} INSIDE[] = {{MODEL, 7, GRAPH},       {MODEL, 25, FUNCTION}, {GRAPH, 1, NODE},       {GRAPH, 5, TENSOR},
              {FUNCTION, 7, NODE},     {NODE, 5, ATTRIBUTE},  {ATTRIBUTE, 5, TENSOR}, {ATTRIBUTE, 6, GRAPH},
              {ATTRIBUTE, 10, TENSOR}, {ATTRIBUTE, 11, GRAPH}};

/* StringStringEntryProto {key, value} of "location". */
static enum ft_status read_location(struct ft_bytes entry, struct ft_bytes *location, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(entry);
    struct ft_pb_field f;
    struct ft_bytes texts[2] = {{0}, {0}};
    bool more = true;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            break;
        }
        if (f.number == 1 || f.number == 2) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &texts[f.number - 1], err));
        }
    }
    if (ft_bytes_is(texts[0], "location")) {
        *location = texts[1];
    }
    return FT_OK;
}

static enum ft_status add_external(struct list *l, const char *dir, struct ft_bytes location,
                                   struct ft_err *err)
{
    char name[FT_MAX_NAME_BYTES + 1];
    if (!ft_location_is_safe(location) || location.size >= sizeof name) {
        return FT_OK; /* the loader refuses it by name */
    }
    memcpy(name, location.data, location.size);
    name[location.size] = '\0';
    return add(l, dir, name, err);
}

static enum ft_status look_at_tensor(struct list *l, const char *dir, struct ft_bytes tensor,
                                     struct ft_err *err)
{
    enum { EXTERNAL_DATA = 13 };
    struct ft_pb_cursor cursor = ft_pb_open(tensor);
    struct ft_pb_field f;
    struct ft_bytes location = {0};
    bool more = true;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return location.size > 0 ? add_external(l, dir, location, err) : FT_OK;
        }
        if (f.number == EXTERNAL_DATA && f.wire == FT_PB_BYTES) {
            FT_RETURN_IF_FAILED(read_location(f.bytes, &location, err));
        }
    }
}

/* Graphs stand in attributes of nodes: as deep as the loader reads. */
static enum ft_status look_inside(struct list *l, const char *dir, enum place in, struct ft_bytes message,
                                  int depth, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    if (in == TENSOR) {
        return look_at_tensor(l, dir, message, err);
    }
    if (depth == FT_MAX_NESTING) {
        return FT_FAIL(err, LIMIT, "graphs nest more than %d deep", FT_MAX_NESTING);
    }
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        for (size_t i = 0; f.wire == FT_PB_BYTES && i < sizeof INSIDE / sizeof INSIDE[0]; i++) {
            if (INSIDE[i].in == in && INSIDE[i].field == f.number) {
                FT_RETURN_IF_FAILED(look_inside(l, dir, INSIDE[i].to, f.bytes, depth + 1, err));
            }
        }
    }
}

/* dir/name: an ONNX file and its data. */
static enum ft_status add_onnx(struct list *l, const char *dir, const char *name, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_mapping map = {0};
    char *inside = NULL;
    char *path = NULL;
    FT_TRY(add(l, dir, name, err));
    FT_TRY(below(dir, name, &inside, err));
    FT_TRY(ft_path_join(l->from, inside, &path, err));
    FT_TRY(ft_file_map(path, &map, err));
    if (look_inside(l, dir, MODEL, map.bytes, 0, err) != FT_OK) {
        st = err->code == FT_NOMEM ? err->code : ft_err_wrap(err, "%.300s is no ONNX model", path);
    }
done:
    ft_file_unmap(&map);
    ft_free(path);
    ft_free(inside);
    return st;
}

/* ---- Hugging Face and sentence-transformers */

/* What the loader reads of a folder as the model's or a module's, but for weights. */
static enum ft_status add_texts(struct list *l, const char *dir, struct ft_err *err)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "modules.json",
                                        "config_sentence_transformers.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        FT_RETURN_IF_FAILED(add(l, dir, names[i], err));
    }
    for (size_t i = 0; ft_hf_source_name(i) != NULL; i++) {
        FT_RETURN_IF_FAILED(add(l, dir, ft_hf_source_name(i), err));
    }
    return FT_OK;
}

/* The files that an index of shards names. */
static enum ft_status add_shards(struct list *l, const char *dir, const struct ft_json *index,
                                 struct ft_err *err)
{
    const struct ft_json *map = ft_json_get(index, "weight_map");
    for (struct ft_json_iter *it = ft_json_first(map); it != NULL; it = ft_json_next(map, it)) {
        const char *name = ft_json_text(ft_json_value(it), NULL);
        if (name != NULL && strchr(name, '/') == NULL) {
            FT_RETURN_IF_FAILED(add(l, dir, name, err));
        }
    }
    return FT_OK;
}

static enum ft_status add_weights(struct list *l, const char *dir, struct ft_err *err)
{
    static const char single[] = "model.safetensors";
    static const char several[] = "model.safetensors.index.json";
    struct ft_json *index = NULL;
    size_t before = l->out->count;
    const struct ft_files files = {.path = l->from, .below = dir, .root_name = ""};
    FT_RETURN_IF_FAILED(add(l, dir, single, err));
    if (l->out->count > before) {
        return FT_OK;
    }
    enum ft_status st = ft_files_json(&files, several, FT_MAX_MODEL_JSON_BYTES, &index, err);
    if (st == FT_OK && index != NULL) {
        st = add(l, dir, several, err);
    }
    if (st == FT_OK) {
        st = add_shards(l, dir, index, err);
    }
    ft_json_free(index);
    return st;
}

/* What modules.json names, each in a folder of its own. */
static enum ft_status add_modules(struct list *l, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *modules = NULL;
    const struct ft_files files = {.path = l->from, .below = "", .root_name = ""};
    FT_TRY(ft_hf_json(&files, "modules.json", &modules, err));
    for (size_t i = 0; i < ft_json_count(modules); i++) {
        const char *path = NULL;
        FT_TRY(ft_hf_module_path(ft_json_at(modules, i), &path, err));
        if (path[0] != '\0') {
            FT_TRY(add_texts(l, path, err));
            FT_TRY(add_weights(l, path, err));
        }
    }
done:
    ft_json_free(modules);
    return st;
}

static enum ft_status add_folder(struct list *l, struct ft_err *err)
{
    static const char *const onnx[][2] = {{"", "model.onnx"}, {"onnx", "model.onnx"}};
    FT_RETURN_IF_FAILED(add_texts(l, "", err));
    FT_RETURN_IF_FAILED(add_modules(l, err));
    size_t before = l->out->count;
    FT_RETURN_IF_FAILED(add_weights(l, "", err));
    for (size_t i = 0; l->out->count == before && i < 2; i++) {
        bool has = false;
        const struct ft_files files = {.path = l->from, .below = onnx[i][0], .root_name = ""};
        FT_RETURN_IF_FAILED(ft_files_has(&files, onnx[i][1], &has, err));
        if (has) {
            FT_RETURN_IF_FAILED(add_onnx(l, onnx[i][0], onnx[i][1], err));
            FT_RETURN_IF_FAILED(add_texts(l, onnx[i][0], err));
        }
    }
    return FT_OK;
}

/* ---- an artifact of ours */

static enum ft_status add_artifact(struct list *l, struct ft_err *err)
{
    static const char *const names[] = {"config.yml",          "metadata.yml", "metrics.json",
                                        "metrics.yml",         "README.md",    "preprocess/prep.json",
                                        "models/input-map.yml"};
    enum ft_status st = FT_OK;
    struct ft_dir_list models = {0};
    char *path = NULL;
    char *dir = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        FT_TRY(add(l, "", names[i], err));
    }
    FT_TRY(add_texts(l, "", err));
    FT_TRY(add_modules(l, err));
    FT_TRY(add_weights(l, "", err));
    FT_TRY(ft_path_join(l->from, "models", &path, err));
    FT_TRY(ft_dir_list(path, &models, err));
    for (size_t i = 0; i < models.count; i++) {
        bool has = false;
        ft_free(dir);
        dir = NULL;
        FT_TRY(ft_path_join("models", models.names[i], &dir, err));
        const struct ft_files files = {.path = l->from, .below = dir, .root_name = ""};
        FT_TRY(add(l, dir, "metadata.yml", err));
        FT_TRY(ft_files_has(&files, "model.onnx", &has, err));
        FT_TRY(has ? add_onnx(l, dir, "model.onnx", err) : FT_OK);
    }
done:
    ft_free(dir);
    ft_free(path);
    ft_dir_list_release(&models);
    return st;
}

/* ---- any MODEL */

/* The folder that `path` lies in, "." if it names none, and its own name in it. */
static enum ft_status split(const char *path, char **dir, const char **base, struct ft_err *err)
{
    *base = ft_path_base(path);
    FT_RETURN_IF_FAILED(ft_new_text(*base == path ? "." : path, dir, err));
    if (*base != path) {
        (*dir)[*base - path] = '\0';
    }
    return FT_OK;
}

/* An .onnx file: of texts with what lies beside it, or above a folder "onnx". */
static enum ft_status list_file(struct list *l, const char *path, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *dir = NULL;
    char *folder = NULL;
    const char *base = NULL;
    FT_TRY(split(path, &dir, &base, err));
    if (ft_path_has_suffix(path, ".zip")) { /* all that is read lies in it */
        l->from = dir;
        FT_TRY(ft_new_text(base, &l->out->entry, err));
        FT_TRY(add(l, "", base, err));
        goto done;
    }
    FT_TRY(ft_hf_beside_folder(dir, &folder, err));
    bool above = folder != NULL && strcmp(folder, dir) != 0;
    l->from = above ? folder : dir;
    FT_TRY(below(above ? "onnx" : "", base, &l->out->entry, err));
    FT_TRY(add_onnx(l, above ? "onnx" : "", base, err));
    if (folder != NULL) {
        FT_TRY(add_texts(l, "", err));
        FT_TRY(add_modules(l, err));
    }
done:
    ft_free(folder);
    ft_free(dir);
    return st;
}

/* "minilm" for ".../minilm", ".../minilm/" and "." in it. */
static enum ft_status folder_name(const char *path, char **name, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *whole = NULL; /* realpath()'s, from malloc() */
    char *text = NULL;
    FT_TRY(ft_new_text(path, &text, err));
    ft_path_trim(text);
    const char *base = ft_path_base(text);
    if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
        whole = realpath(path, NULL);
        base = whole != NULL ? ft_path_base(whole) : "";
    }
    st = ft_new_text(base[0] != '\0' ? base : "model", name, err);
done:
    free(whole);
    ft_free(text);
    return st;
}

static enum ft_status list_folder(struct list *l, const char *path, struct ft_err *err)
{
    bool artifact = false;
    FT_RETURN_IF_FAILED(folder_name(path, &l->out->entry, err));
    l->from = path;
    l->to = l->out->entry;
    FT_RETURN_IF_FAILED(ft_artifact_probe(path, &artifact, err));
    FT_RETURN_IF_FAILED(artifact ? add_artifact(l, err) : add_folder(l, err));
    return l->out->count > 0 ? FT_OK : FT_FAIL(err, NOT_FOUND, "%.600s holds no file of a model", path);
}

static int by_name(const void *a, const void *b)
{
    const struct ft_carry_file *x = a;
    const struct ft_carry_file *y = b;
    return strcmp(x->name, y->name);
}

enum ft_status ft_carry_list(const char *path, struct ft_carry *carry, struct ft_err *err)
{
    struct list l = {.out = carry, .to = ""};
    enum ft_path_kind kind = ft_path_kind(path);
    *carry = (struct ft_carry){0};
    if (kind == FT_PATH_NONE || kind == FT_PATH_OTHER) {
        return kind == FT_PATH_NONE ? FT_FAIL(err, NOT_FOUND, "no model at %.600s", path)
                                    : FT_FAIL(err, INVALID, "%.600s is neither a file nor a folder", path);
    }
    FT_RETURN_IF_FAILED(kind == FT_PATH_DIR ? list_folder(&l, path, err) : list_file(&l, path, err));
    if (carry->count > 1) {
        qsort(carry->files, carry->count, sizeof *carry->files, by_name);
    }
    return FT_OK;
}

void ft_carry_release(struct ft_carry *carry)
{
    for (size_t i = 0; i < carry->count; i++) {
        ft_free(carry->files[i].name);
        ft_free(carry->files[i].path);
    }
    ft_free(carry->files);
    ft_free(carry->entry);
    *carry = (struct ft_carry){0};
}
