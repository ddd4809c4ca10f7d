#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/hf_internal.h"

/* What a folder says about texts: its tokenizer, the longest text, a prompt in front of each. */

enum { LENGTH_UNSAID = 512, LENGTH_MOST = 1 << 20 };

/* A length of a file: 0 where it says nothing, or the huge number that transformers writes for "no limit". */
static enum ft_status read_length(const struct ft_json *json, const char *key, int64_t *length,
                                  struct ft_err *err)
{
    const struct ft_json *value = ft_json_get(json, key);
    *length = 0;
    if (ft_json_kind(value) == FT_JSON_NULL || ft_json_real(value) > (double)LENGTH_MOST) {
        return FT_OK;
    }
    *length = ft_json_int(value);
    if (!ft_json_is_integral(value) || *length < 1) {
        return FT_FAIL(err, INVALID, "%s must be a number of tokens", key);
    }
    return FT_OK;
}

static int64_t least(int64_t a, int64_t b) /* 0: no limit */
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* sentence-transformers' limit goes before the tokenizer's; neither can be beyond the model's places. */
static enum ft_status find_length(const struct ft_json *transformer, const struct ft_json *tokenizer,
                                  int64_t places, int64_t *length, struct ft_err *err)
{
    int64_t said = 0;
    int64_t kept = 0;
    FT_RETURN_IF_FAILED(read_length(transformer, "max_seq_length", &said, err));
    FT_RETURN_IF_FAILED(read_length(tokenizer, "model_max_length", &kept, err));
    *length = least(said != 0 ? said : kept, places);
    *length = *length != 0 ? *length : LENGTH_UNSAID;
    return FT_OK;
}

/* ---- prompt: config_sentence_transformers.json's default, if it names one */

static enum ft_status read_prompt(const struct ft_files *files, struct ft_model *model, struct ft_err *err)
{
    const struct ft_json *json = model->hf->prompts;
    const char *text = NULL;
    const struct ft_json *name = ft_json_get(json, "default_prompt_name");
    if (ft_json_kind(name) == FT_JSON_NULL) {
        return FT_OK;
    }
    if (ft_json_text(name, NULL) != NULL) {
        text = ft_json_text(ft_json_get(ft_json_get(json, "prompts"), ft_json_text(name, NULL)), NULL);
    }
    if (text == NULL) {
        return FT_FAIL(err, INVALID,
                       "%s/config_sentence_transformers.json: default_prompt_name names no prompt",
                       files->path);
    }
    return ft_new_text(text, &model->prompt, err);
}

/* ---- tokenizer.json */

static bool lowers(const struct ft_json *normalizer)
{
    const char *type = ft_json_text(ft_json_get(normalizer, "type"), NULL);
    const struct ft_json *list = ft_json_get(normalizer, "normalizers");
    if (type == NULL) {
        return false;
    }
    for (size_t i = 0; i < ft_json_count(list); i++) {
        if (lowers(ft_json_at(list, i))) {
            return true;
        }
    }
    return strcmp(type, "Lowercase") == 0 ||
           (strcmp(type, "BertNormalizer") == 0 && ft_json_bool(ft_json_get(normalizer, "lowercase")));
}

static enum ft_status push_copy(struct ft_json *list, const struct ft_json *json, struct ft_err *err)
{
    return ft_json_push(list, ft_json_copy(json), err);
}

/* {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, ...]} */
static enum ft_status lowered(const struct ft_json *normalizer, struct ft_json **out, struct ft_err *err)
{
    const struct ft_json *inner = ft_json_get(normalizer, "normalizers");
    struct ft_json *list = ft_json_array();
    struct ft_json *lower = ft_json_object();
    struct ft_json *all = ft_json_object();
    enum ft_status st = FT_OK;
    if (list == NULL || lower == NULL || all == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory for a normalizer");
        goto done;
    }
    FT_TRY(ft_json_set(lower, "type", ft_json_of_text("Lowercase"), err));
    FT_TRY(push_copy(list, lower, err));
    for (size_t i = 0; i < ft_json_count(inner); i++) {
        FT_TRY(push_copy(list, ft_json_at(inner, i), err));
    }
    if (inner == NULL && ft_json_kind(normalizer) != FT_JSON_NULL) {
        FT_TRY(push_copy(list, normalizer, err));
    }
    FT_TRY(ft_json_set(all, "type", ft_json_of_text("Sequence"), err));
    st = ft_json_set(all, "normalizers", list, err);
    list = NULL;
    FT_TRY(st);
    *out = all;
    all = NULL;
done:
    ft_json_free(list);
    ft_json_free(lower);
    ft_json_free(all);
    return st;
}

/* do_lower_case: as sentence-transformers does it, by a Lowercase in front of the file's own normalizer. */
static enum ft_status lower_tokenizer(struct ft_json *json, struct ft_err *err)
{
    struct ft_json *normalizer = NULL;
    FT_RETURN_IF_FAILED(lowered(ft_json_get(json, "normalizer"), &normalizer, err));
    return ft_json_set(json, "normalizer", normalizer, err);
}

/* truncation_side of tokenizer_config.json goes before the direction of tokenizer.json, as in transformers.
 */
static enum ft_status find_side(const struct ft_json *config, const char **direction, struct ft_err *err)
{
    const struct ft_json *value = ft_json_get(config, "truncation_side");
    const char *side = ft_json_text(value, NULL);
    *direction = NULL;
    if (ft_json_kind(value) == FT_JSON_NULL) {
        return FT_OK;
    }
    if (side == NULL || (strcmp(side, "left") != 0 && strcmp(side, "right") != 0)) {
        return FT_FAIL(err, INVALID,
                       "tokenizer_config.json: truncation_side %s%.40s%s must be \"left\" or \"right\"",
                       side != NULL ? "\"" : "", side != NULL ? side : "", side != NULL ? "\"" : "");
    }
    *direction = strcmp(side, "left") == 0 ? "Left" : "Right";
    return FT_OK;
}

static bool has_side(const struct ft_json *json, const char *direction)
{
    const char *now = ft_json_text(ft_json_get(ft_json_get(json, "truncation"), "direction"), NULL);
    return strcmp(now != NULL ? now : "Right", direction) == 0;
}

static enum ft_status set_side(struct ft_json *json, const char *direction, int64_t longest,
                               struct ft_err *err)
{
    struct ft_json *truncation = ft_json_copy(ft_json_get(json, "truncation"));
    if (ft_json_kind(truncation) != FT_JSON_OBJECT) {
        ft_json_free(truncation);
        truncation = ft_json_object();
    }
    if (truncation == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a tokenizer");
    }
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_set(truncation, "direction", ft_json_of_text(direction), err));
    if (ft_json_get(truncation, "max_length") == NULL) {
        FT_TRY(ft_json_set(truncation, "max_length", ft_json_of_int(longest), err));
        FT_TRY(ft_json_set(truncation, "strategy", ft_json_of_text("LongestFirst"), err));
        FT_TRY(ft_json_set(truncation, "stride", ft_json_of_int(0), err));
    }
    st = ft_json_set(json, "truncation", truncation, err);
    truncation = NULL;
done:
    ft_json_free(truncation);
    return st;
}

/* What other files say about the tokenizer is written into it, unless it says so itself: then it is whole,
 * here and in an artifact. */
static enum ft_status edit_tokenizer(const char *path, bool lower, const char *direction, int64_t longest,
                                     struct ft_buf *text, struct ft_err *err)
{
    struct ft_json *json = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_parse_named(ft_buf_bytes(text), path, &json, err));
    lower = lower && !lowers(ft_json_get(json, "normalizer"));
    bool turn = direction != NULL && !has_side(json, direction);
    if (ft_json_kind(json) != FT_JSON_OBJECT || (!lower && !turn)) {
        goto done; /* no object: who reads it says so */
    }
    if (lower) {
        FT_TRY(lower_tokenizer(json, err));
    }
    if (turn) {
        FT_TRY(set_side(json, direction, longest, err));
    }
    text->size = 0;
    FT_TRY(ft_json_write(json, 0, text, err));
done:
    ft_json_free(json);
    return st;
}

/* tokenizer.json, or made of the older files. A folder without any is a model to look at; who wants to give
 * it texts is told. */
static enum ft_status read_tokenizer(const struct ft_files *base, const struct ft_json *config, bool lower,
                                     struct ft_model *model, struct ft_err *err)
{
    const char *family = ft_json_text(ft_json_get(model->hf->config, "model_type"), NULL);
    const char *direction = NULL;
    char *path = NULL;
    bool found = false;
    enum ft_status st = FT_OK;
    FT_TRY(find_side(config, &direction, err));
    FT_TRY(ft_files_path(base, "tokenizer.json", &path, err));
    FT_TRY(ft_files_read(base, "tokenizer.json", FT_MAX_TOKENIZER_BYTES, &model->tokenizer, &found, err));
    if (!found) {
        bool mpnet = family != NULL && strcmp(family, "mpnet") == 0;
        FT_TRY(ft_hf_vocab(base, config, mpnet, &model->tokenizer, err));
    }
    if ((lower || direction != NULL) && model->tokenizer.size > 0) {
        FT_TRY(edit_tokenizer(path, lower, direction, model->max_length, &model->tokenizer, err));
    }
done:
    ft_free(path);
    return st;
}

enum ft_status ft_hf_text_options(const struct ft_files *files, const struct ft_files *base, int64_t places,
                                  struct ft_model *model, struct ft_err *err)
{
    struct ft_json *tokenizer = NULL;
    const struct ft_json *transformer = model->hf->transformer;
    enum ft_status st = FT_OK;
    FT_TRY(ft_hf_json(base, "tokenizer_config.json", &tokenizer, err));
    if ((st = find_length(transformer, tokenizer, places, &model->max_length, err)) != FT_OK) {
        (void)ft_err_wrap(err, "%s", files->path);
        goto done;
    }
    FT_TRY(read_prompt(files, model, err));
    FT_TRY(
        read_tokenizer(base, tokenizer, ft_json_bool(ft_json_get(transformer, "do_lower_case")), model, err));
done:
    ft_json_free(tokenizer);
    return st;
}
