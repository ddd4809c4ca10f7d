/* What is put around a text: every post-processor of one text comes down to ids in front and ids behind. */
#include "executor/prep/tok.h"

#include <string.h>

#include "executor/base/alloc.h"

static enum ft_status put(struct ft_tokenizer *t, size_t at, int32_t id, int32_t type, struct ft_err *err)
{
    size_t capacity = t->around_capacity;
    FT_RETURN_IF_FAILED(ft_grow(&t->around_ids, &capacity, t->around_count + 1, sizeof *t->around_ids, err));
    capacity = t->around_capacity;
    FT_RETURN_IF_FAILED(
        ft_grow(&t->around_types, &capacity, t->around_count + 1, sizeof *t->around_types, err));
    t->around_capacity = capacity;
    size_t behind = t->around_count - at;
    memmove(t->around_ids + at + 1, t->around_ids + at, behind * sizeof *t->around_ids);
    memmove(t->around_types + at + 1, t->around_types + at, behind * sizeof *t->around_types);
    t->around_ids[at] = id;
    t->around_types[at] = type;
    t->around_count++;
    return FT_OK;
}

static enum ft_status check_id(int64_t id, struct ft_err *err)
{
    return id >= 0 && id < FT_MAX_VOCABULARY
               ? FT_OK
               : FT_FAIL(err, INVALID, "the id %lld of a special token", (long long)id);
}

/* ["[SEP]", 102] */
static enum ft_status read_pair(const struct ft_json *json, const char *key, int32_t *id, struct ft_err *err)
{
    const struct ft_json *pair = ft_json_get(json, key);
    const struct ft_json *number = ft_json_at(pair, 1);
    if (ft_json_count(pair) != 2 || !ft_json_is_integral(number)) {
        return FT_FAIL(err, INVALID, "post_processor.%s is no pair of token and id", key);
    }
    FT_RETURN_IF_FAILED(check_id(ft_json_int(number), err));
    *id = (int32_t)ft_json_int(number);
    return FT_OK;
}

/* BertProcessing and RobertaProcessing: all types are 0. */
static enum ft_status read_cls_sep(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    int32_t cls = 0;
    int32_t sep = 0;
    FT_RETURN_IF_FAILED(read_pair(json, "cls", &cls, err));
    FT_RETURN_IF_FAILED(read_pair(json, "sep", &sep, err));
    t->type_id = 0;
    for (size_t i = 0; i < t->around_count; i++) {
        t->around_types[i] = 0;
    }
    FT_RETURN_IF_FAILED(put(t, 0, cls, 0, err));
    t->before_count++;
    return put(t, t->around_count, sep, 0, err);
}

/* ---- templates ---- */

struct template
{
    struct ft_tokenizer *t;
    const struct ft_json *specials;
    size_t before; /* ids put in front so far */
    bool text;     /* the text has been put */
    struct ft_err *err;
};

static enum ft_status type_of(const struct ft_json *piece, int32_t *type, struct ft_err *err)
{
    const struct ft_json *json = ft_json_get(piece, "type_id");
    int64_t value = ft_json_int(json);
    if (!ft_json_is_integral(json) || value < 0 || value > INT32_MAX) {
        return FT_FAIL(err, INVALID, "post_processor.single: a piece without type_id");
    }
    *type = (int32_t)value;
    return FT_OK;
}

static enum ft_status put_text(struct template *p, const struct ft_json *piece)
{
    const char *name = ft_json_text(ft_json_get(piece, "id"), NULL);
    int32_t type = 0;
    FT_RETURN_IF_FAILED(type_of(piece, &type, p->err));
    if (name == NULL || strcmp(name, "A") != 0 || p->text) {
        return FT_FAIL(p->err, UNSUPPORTED,
                       "post_processor: a template of one text that is not the text once");
    }
    /* All that an earlier one put around the text is text to this one. */
    p->t->type_id = type;
    for (size_t i = p->before; i < p->t->around_count; i++) {
        p->t->around_types[i] = type;
    }
    p->text = true;
    return FT_OK;
}

static enum ft_status put_special(struct template *p, const struct ft_json *piece)
{
    const char *name = ft_json_text(ft_json_get(piece, "id"), NULL);
    const struct ft_json *ids = name != NULL ? ft_json_get(ft_json_get(p->specials, name), "ids") : NULL;
    int32_t type = 0;
    FT_RETURN_IF_FAILED(type_of(piece, &type, p->err));
    if (ft_json_kind(ids) != FT_JSON_ARRAY) {
        return FT_FAIL(p->err, INVALID, "post_processor.special_tokens lacks \"%s\"",
                       name != NULL ? name : "");
    }
    for (size_t i = 0; i < ft_json_count(ids); i++) {
        int64_t id = ft_json_is_integral(ft_json_at(ids, i)) ? ft_json_int(ft_json_at(ids, i)) : -1;
        FT_RETURN_IF_FAILED(check_id(id, p->err));
        FT_RETURN_IF_FAILED(put(p->t, p->text ? p->t->around_count : p->before, (int32_t)id, type, p->err));
        p->before += p->text ? 0 : 1;
    }
    return FT_OK;
}

static enum ft_status read_template(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    const struct ft_json *pieces = ft_json_get(json, "single");
    struct template p = {.t = t, .specials = ft_json_get(json, "special_tokens"), .err = err};
    for (size_t i = 0; i < ft_json_count(pieces); i++) {
        const struct ft_json *piece = ft_json_at(pieces, i);
        const struct ft_json *text = ft_json_get(piece, "Sequence");
        const struct ft_json *special = ft_json_get(piece, "SpecialToken");
        if (text != NULL) {
            FT_RETURN_IF_FAILED(put_text(&p, text));
        } else if (special != NULL) {
            FT_RETURN_IF_FAILED(put_special(&p, special));
        } else {
            return FT_FAIL(err, INVALID, "post_processor.single: piece %zu is neither text nor token", i);
        }
    }
    if (!p.text) {
        return FT_FAIL(err, UNSUPPORTED, "post_processor: a template without the text");
    }
    t->before_count += p.before;
    return FT_OK;
}

enum ft_status ft_tok_read_post(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    if (ft_json_kind(json) == FT_JSON_NULL) {
        return FT_OK;
    }
    const char *type = NULL;
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, "type", &type, err));
    if (strcmp(type, "TemplateProcessing") == 0) {
        return read_template(t, json, err);
    }
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        return read_cls_sep(t, json, err);
    }
    if (strcmp(type, "ByteLevel") == 0) { /* offsets only */
        return FT_OK;
    }
    if (strcmp(type, "Sequence") == 0) {
        const struct ft_json *list = ft_json_get(json, "processors");
        for (size_t i = 0; i < ft_json_count(list); i++) {
            FT_RETURN_IF_FAILED(ft_tok_read_post(t, ft_json_at(list, i), err));
        }
        return FT_OK;
    }
    return FT_FAIL(err, UNSUPPORTED, "post_processor \"%s\" is not supported", type);
}
