#include <assert.h>
#include <string.h>

#include "executor/prep/internal.h"

enum { LONGEST_TEXT = 1 << 20 }; /* tokens: no model has so many places */

void ft_prep_infer_text(const struct ft_tokenizer *tokenizer, int64_t max_length, struct ft_prep *prep)
{
    assert(max_length > 0);
    *prep = (struct ft_prep){
        .kind = FT_PREP_TEXT, .tokenizer = tokenizer, .max_length = max_length, .model_length = max_length};
}

/* ---- options */

static enum ft_status read_length(const struct ft_json *json, struct ft_prep *p, struct ft_err *err)
{
    int64_t n = ft_json_is_integral(json) ? ft_json_int(json) : 0;
    int64_t least = (int64_t)ft_tokenizer_special_count(p->tokenizer) + 1;
    if (n < least || n > p->model_length || n > LONGEST_TEXT) {
        return FT_FAIL(
            err, INVALID,
            "preprocess option \"max_length\" must be a number of tokens, %lld to %lld, which is what the "
            "model takes",
            (long long)least, (long long)p->model_length);
    }
    p->max_length = n;
    return FT_OK;
}

static enum ft_status read_prefix(const struct ft_json *json, struct ft_prep *p, struct ft_err *err)
{
    size_t size = 0;
    const char *text = ft_json_text(json, &size);
    if (text == NULL || size >= sizeof p->prefix || memchr(text, '\0', size) != NULL) {
        return FT_FAIL(err, INVALID, "preprocess option \"prefix\" must be a text of less than %zu bytes",
                       sizeof p->prefix);
    }
    memcpy(p->prefix, text, size);
    p->prefix[size] = '\0';
    return FT_OK;
}

enum ft_status ft_prep_text_key(const char *key, const struct ft_json *json, struct ft_prep *prep,
                                struct ft_err *err)
{
    if (strcmp(key, "max_length") == 0) {
        return read_length(json, prep, err);
    }
    if (strcmp(key, "prefix") == 0) {
        return read_prefix(json, prep, err);
    }
    return FT_FAIL(err, INVALID,
                   "unknown preprocess option \"%.100s\" of a text; accepted: kind, max_length, prefix", key);
}

enum ft_status ft_prep_text_write(const struct ft_prep *prep, struct ft_json *o, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_json_set(o, "max_length", ft_json_of_int(prep->max_length), err));
    return ft_json_set(o, "prefix", ft_json_of_text(prep->prefix), err);
}

/* ---- one text */

/* A file or blob is a text when it reads as one. */
static bool is_text(const struct ft_content *content)
{
    struct ft_bytes b = content->bytes;
    return content->kind == FT_CONTENT_TEXT || (content->kind == FT_CONTENT_BLOB && b.size > 0 &&
                                                memchr(b.data, '\0', b.size) == NULL && ft_utf8_valid(b));
}

/* A Document is one text; batches have no room for other types (train/text_in.h). A tokenizer may know tokens
 * that its model has no row for. */
static enum ft_status check_tokens(const struct ft_prep *prep, const struct ft_tokens *tokens,
                                   struct ft_err *err)
{
    for (size_t i = 0; i < tokens->count; i++) {
        if (prep->ids_end > 0 && tokens->ids[i] >= prep->ids_end) {
            return FT_FAIL(
                err, INVALID,
                "the text has token %d, and the model's table ends at %lld: tokenizer.json and the weights "
                "are not of one model",
                (int)tokens->ids[i], (long long)prep->ids_end - 1);
        }
        if (tokens->type_ids[i] != 0) {
            return FT_FAIL(err, UNSUPPORTED,
                           "the tokenizer gives a single text tokens of type %d; only type 0 is built",
                           (int)tokens->type_ids[i]);
        }
    }
    return FT_OK;
}

enum ft_status ft_prep_text(const struct ft_prep *prep, const struct ft_content *content,
                            struct ft_tokens *tokens, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char shown[FT_CONTENT_TEXT_BYTES];
    struct ft_buf whole = {0};
    struct ft_bytes text = content->bytes;
    assert(prep->kind == FT_PREP_TEXT);
    if (!is_text(content)) {
        return FT_FAIL(err, INVALID, "the model wants a text, this is %s%s", ft_content_shown(content, shown),
                       content->kind == FT_CONTENT_BLOB ? " that is not UTF-8" : "");
    }
    if (prep->prefix[0] != '\0') {
        FT_TRY(ft_buf_text(&whole, prep->prefix, err));
        FT_TRY(ft_buf_append(&whole, text.data, text.size, err));
        text = ft_buf_bytes(&whole);
    }
    FT_TRY(ft_tokenizer_encode(prep->tokenizer, (const char *)text.data, text.size, (size_t)prep->max_length,
                               tokens, err));
    if (tokens->count == 0) {
        FT_TRY(FT_FAIL(err, INVALID, "the text has no tokens, so there is nothing to embed"));
    }
    FT_TRY(check_tokens(prep, tokens, err));
done:
    ft_buf_release(&whole);
    return st;
}
