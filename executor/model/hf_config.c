#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/model/hf_internal.h"

/* NULL where the key is absent or null: transformers then takes its default. */
static const struct ft_json *value_of(const struct ft_hf *hf, const char *key)
{
    const struct ft_json *json = ft_json_get(hf->config, key);
    return ft_json_kind(json) == FT_JSON_NULL ? NULL : json;
}

enum ft_status ft_hf_int(const struct ft_hf *hf, const char *key, int64_t fallback, const int64_t range[2],
                         int64_t *out, struct ft_err *err)
{
    const struct ft_json *json = value_of(hf, key);
    *out = json != NULL ? ft_json_int(json) : fallback;
    if ((json != NULL && !ft_json_is_integral(json)) || *out < range[0] || *out > range[1]) {
        return FT_FAIL(err, INVALID, "%s: %s must be a whole number in %lld .. %lld", hf->config_path, key,
                       (long long)range[0], (long long)range[1]);
    }
    return FT_OK;
}

enum ft_status ft_hf_positive(const struct ft_hf *hf, const char *key, double fallback, double most,
                              double *out, struct ft_err *err)
{
    const struct ft_json *json = value_of(hf, key);
    *out = json != NULL ? ft_json_real(json) : fallback;
    if ((json != NULL && !ft_json_is_number(json)) || !(*out > 0.0) || *out > most) {
        return FT_FAIL(err, INVALID, "%s: %s must be a number above 0, at most %g", hf->config_path, key,
                       most);
    }
    return FT_OK;
}

enum ft_status ft_hf_probability(const struct ft_hf *hf, const char *key, double fallback, double *out,
                                 struct ft_err *err)
{
    const struct ft_json *json = value_of(hf, key);
    *out = json != NULL ? ft_json_real(json) : fallback;
    if ((json != NULL && !ft_json_is_number(json)) || !(*out >= 0.0 && *out <= 1.0)) {
        return FT_FAIL(err, INVALID, "%s: %s must be a number of 0 to 1", hf->config_path, key);
    }
    return FT_OK;
}

enum ft_status ft_hf_flag(const struct ft_hf *hf, const char *key, bool fallback, bool *out,
                          struct ft_err *err)
{
    const struct ft_json *json = value_of(hf, key);
    *out = json != NULL ? ft_json_bool(json) : fallback;
    if (json != NULL && ft_json_kind(json) != FT_JSON_BOOL) {
        return FT_FAIL(err, INVALID, "%s: %s must be true or false", hf->config_path, key);
    }
    return FT_OK;
}

enum ft_status ft_hf_text(const struct ft_hf *hf, const char *key, const char *fallback, const char **out,
                          struct ft_err *err)
{
    const struct ft_json *json = value_of(hf, key);
    *out = json != NULL ? ft_json_text(json, NULL) : fallback;
    if (*out == NULL) {
        return FT_FAIL(err, INVALID, "%s: %s must be a text", hf->config_path, key);
    }
    return FT_OK;
}

enum ft_status ft_hf_only(const struct ft_hf *hf, const char *key, const char *value, struct ft_err *err)
{
    const struct ft_json *json = value_of(hf, key);
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    if (json == NULL) {
        return FT_OK;
    }
    FT_TRY(ft_json_write(json, 0, &text, err));
    if (strcmp((const char *)text.data, value) != 0) {
        st = FT_FAIL(err, UNSUPPORTED, "%s: %s is %.100s; only %s is built", hf->config_path, key,
                     (const char *)text.data, value);
    }
done:
    ft_buf_release(&text);
    return st;
}

/* Far beyond any model, and so that no product of two of them overflows. */
static const int64_t most_vocab[2] = {1, 1 << 24};
static const int64_t most_width[2] = {1, 1 << 17};
static const int64_t most_layers[2] = {1, 1024};
static const int64_t most_inner[2] = {1, 1 << 20};
static const int64_t most_types[2] = {1, 1024};

enum ft_status ft_hf_read_sizes(const struct ft_hf *hf, const struct ft_hf_keys *keys, struct ft_hf_sizes *s,
                                struct ft_err *err)
{
    const struct {
        const char *key;
        const int64_t *range;
        int64_t *out;
    } numbers[] = {
        {keys->vocab, most_vocab, &s->vocab},    {keys->hidden, most_width, &s->hidden},
        {keys->layers, most_layers, &s->layers}, {keys->heads, most_width, &s->heads},
        {keys->inner, most_inner, &s->inner},    {keys->positions, most_inner, &s->positions},
        {keys->types, most_types, &s->types},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].key != NULL) {
            FT_RETURN_IF_FAILED(
                ft_hf_int(hf, numbers[i].key, *numbers[i].out, numbers[i].range, numbers[i].out, err));
        }
    }
    if (keys->eps != NULL) {
        FT_RETURN_IF_FAILED(ft_hf_positive(hf, keys->eps, s->eps, 1.0, &s->eps, err));
    }
    if (keys->act != NULL) {
        FT_RETURN_IF_FAILED(ft_hf_text(hf, keys->act, s->act, &s->act, err));
    }
    if (!keys->any_heads && s->hidden % s->heads != 0) {
        return FT_FAIL(err, INVALID, "%s: %s %lld is not a multiple of %s %lld", hf->config_path,
                       keys->hidden, (long long)s->hidden, keys->heads, (long long)s->heads);
    }
    return FT_OK;
}

/* ---- files */

enum ft_status ft_hf_json(const struct ft_files *files, const char *name, struct ft_json **json,
                          struct ft_err *err)
{
    return ft_files_json(files, name, FT_MAX_MODEL_JSON_BYTES, json, err);
}

/* Out of a folder the file is mapped; out of a .zip it is read. */
static enum ft_status open_single(struct ft_hf *hf, const struct ft_files *files, const char *name,
                                  const char *path, struct ft_err *err)
{
    if (files->zip == NULL) {
        return ft_safetensors_open(path, &hf->weights, err);
    }
    FT_RETURN_IF_FAILED(ft_files_read(files, name, FT_MAX_MODEL_BYTES, &hf->weight_bytes, NULL, err));
    return ft_safetensors_parse(ft_buf_bytes(&hf->weight_bytes), &hf->weights, err) == FT_OK
               ? FT_OK
               : ft_err_wrap(err, "%s", path);
}

static enum ft_status open_index(struct ft_hf *hf, const struct ft_files *files, const char *path,
                                 struct ft_err *err)
{
    return files->zip == NULL ? ft_safetensors_open_index(path, &hf->weights, err)
                              : FT_FAIL(err, UNSUPPORTED, "%s: shards are not read out of a .zip", path);
}

static enum ft_status refuse_pickle(const char *path, const struct ft_files *files, struct ft_err *err)
{
    return FT_FAIL(err, UNSUPPORTED,
                   "%s is a Python pickle, a program that is not run here; convert it once with Python: "
                   "from transformers import AutoModel; m = \"%s\"; "
                   "AutoModel.from_pretrained(m).save_pretrained(m)",
                   path, files->path);
}

static enum ft_status open_weights(struct ft_hf *hf, const struct ft_files *files, struct ft_err *err)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "pytorch_model.bin.index.json"};
    char *path = NULL;
    bool has = false;
    enum ft_status st = FT_OK;
    for (size_t i = 0; !has && i < sizeof names / sizeof *names; i++) {
        ft_free(path);
        path = NULL;
        FT_TRY(ft_files_path(files, names[i], &path, err));
        FT_TRY(ft_files_has(files, names[i], &has, err));
        if (has) {
            st = i == 0   ? open_single(hf, files, names[i], path, err)
                 : i == 1 ? open_index(hf, files, path, err)
                          : refuse_pickle(path, files, err);
        }
    }
    if (!has) {
        st = FT_FAIL(err, NOT_FOUND, "no weights in %s%s%s: neither model.safetensors nor its index",
                     files->path, files->below[0] != '\0' ? "/" : "", files->below);
    }
done:
    ft_free(path);
    return st;
}

enum ft_status ft_hf_open(struct ft_hf *hf, const struct ft_files *files, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(open_weights(hf, files, err));
    return ft_new(ft_safetensors_count(hf->weights), sizeof *hf->used, &hf->used, err);
}

void ft_hf_release(struct ft_hf *hf)
{
    ft_safetensors_close(hf->weights);
    ft_buf_release(&hf->weight_bytes);
    ft_free(hf->used);
    ft_buf_release(&hf->missing);
}
