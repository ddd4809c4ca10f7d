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

enum ft_status ft_hf_json(const char *dir, const char *name, struct ft_json **json, struct ft_err *err)
{
    char *path = NULL;
    struct ft_buf text = {0};
    struct ft_json *read = NULL;
    enum ft_status st = FT_OK;
    *json = NULL;
    FT_TRY(ft_path_join(dir, name, &path, err));
    if (ft_path_kind(path) == FT_PATH_NONE) {
        goto done;
    }
    FT_TRY(ft_file_read(path, FT_MAX_MODEL_JSON_BYTES, &text, err));
    if ((st = ft_json_parse(ft_buf_bytes(&text), &read, err)) != FT_OK) {
        (void)ft_err_wrap(err, "%s", path);
        goto done;
    }
    *json = read;
    read = NULL;
done:
    ft_json_free(read);
    ft_buf_release(&text);
    ft_free(path);
    return st;
}

static enum ft_status has_file(const char *dir, const char *name, char **path, bool *has, struct ft_err *err)
{
    ft_free(*path);
    *path = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(dir, name, path, err));
    *has = ft_path_kind(*path) == FT_PATH_FILE;
    return FT_OK;
}

static enum ft_status open_weights(const char *dir, struct ft_safetensors **set, struct ft_err *err)
{
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
    char *path = NULL;
    bool has = false;
    enum ft_status st = FT_OK;
    *set = NULL;
    FT_TRY(has_file(dir, "model.safetensors", &path, &has, err));
    if (has) {
        FT_TRY(ft_safetensors_open(path, set, err));
        goto done;
    }
    FT_TRY(has_file(dir, "model.safetensors.index.json", &path, &has, err));
    if (has) {
        FT_TRY(ft_safetensors_open_index(path, set, err));
        goto done;
    }
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        FT_TRY(has_file(dir, pickles[i], &path, &has, err));
        if (has) {
            st =
                FT_FAIL(err, UNSUPPORTED,
                        "%s is a Python pickle, a program that is not run here; convert it once with Python: "
                        "from transformers import AutoModel; m = \"%s\"; "
                        "AutoModel.from_pretrained(m).save_pretrained(m)",
                        path, dir);
            goto done;
        }
    }
    st = FT_FAIL(err, NOT_FOUND, "no weights in %s: neither model.safetensors nor its index", dir);
done:
    ft_free(path);
    return st;
}

enum ft_status ft_hf_open(struct ft_hf *hf, const char *dir, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(open_weights(dir, &hf->weights, err));
    return ft_new(ft_safetensors_count(hf->weights), sizeof *hf->used, &hf->used, err);
}

void ft_hf_release(struct ft_hf *hf)
{
    ft_safetensors_close(hf->weights);
    ft_free(hf->used);
    ft_buf_release(&hf->missing);
}
