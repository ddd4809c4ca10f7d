#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "executor/config/internal.h"

enum ft_status ft_config_substitute(const char *where, const char *text, struct ft_buf *out,
                                    struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_text(out, "", err));
    for (;;) {
        const char *open = strstr(text, "${{");
        if (open == NULL) {
            return ft_buf_text(out, text, err);
        }
        const char *close = strstr(open, "}}");
        const char *name = open + 3 + strspn(open + 3, " ");
        size_t length = strcspn(name, " }");
        char key[256];
        if (close == NULL || strncasecmp(name, "ENV.", 4) != 0 || length < 5 || length >= sizeof key) {
            return FT_FAIL(err, INVALID, "%s: '%.64s' is not ${{ ENV.NAME }}", where, open);
        }
        (void)snprintf(key, sizeof key, "%.*s", (int)(length - 4), name + 4);
        const char *value = getenv(key);
        if (value == NULL) {
            return FT_FAIL(err, INVALID, "%s: the environment has no %s", where, key);
        }
        FT_RETURN_IF_FAILED(ft_buf_append(out, text, (size_t)(open - text), err));
        FT_RETURN_IF_FAILED(ft_buf_text(out, value, err));
        text = close + 2;
    }
}

/* Jina reads what was put in as a number or a truth value where it looks like one (its helper.parse_arg). */
static struct ft_json *typed(const char *text)
{
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    for (int truth = 0; truth < 2; truth++) {
        if (strcasecmp(text, truth != 0 ? "true" : "false") == 0) {
            return ft_json_of_bool(truth != 0);
        }
    }
    if (ft_json_parse(ft_bytes_of_text(text), &json, &err) == FT_OK && ft_json_is_number(json)) {
        return json;
    }
    ft_json_free(json);
    return ft_json_of_text(text);
}

/* *made: NULL when there is no memory for it, or the environment's text is not UTF-8. */
static enum ft_status substitute_text(const char *where, const struct ft_json *value, bool types,
                                      struct ft_json **made, struct ft_err *err)
{
    const char *text = ft_json_text(value, NULL);
    struct ft_buf out = {0};
    if (strstr(text, "${{") == NULL) {
        *made = ft_json_copy(value);
        return FT_OK;
    }
    enum ft_status st = ft_config_substitute(where, text, &out, err);
    if (st == FT_OK) {
        *made = types ? typed((const char *)out.data) : ft_json_of_text((const char *)out.data);
    }
    ft_buf_release(&out);
    return st;
}

static enum ft_status substitute_children(const char *where, const struct ft_json *value, bool types,
                                          struct ft_json *into, struct ft_err *err)
{
    struct ft_json *child = NULL;
    for (size_t i = 0; ft_json_kind(value) == FT_JSON_ARRAY && i < ft_json_count(value); i++) {
        FT_RETURN_IF_FAILED(ft_config_substitute_json(where, ft_json_at(value, i), types, &child, err));
        FT_RETURN_IF_FAILED(ft_json_push(into, child, err));
    }
    for (struct ft_json_iter *it = ft_json_first(value); it != NULL; it = ft_json_next(value, it)) {
        FT_RETURN_IF_FAILED(ft_config_substitute_json(where, ft_json_value(it), types, &child, err));
        FT_RETURN_IF_FAILED(ft_json_set(into, ft_json_key(it), child, err));
    }
    return FT_OK;
}

/* Recurses as deep as a parser of ours lets a tree be. */
enum ft_status ft_config_substitute_json(const char *where, const struct ft_json *value, bool types,
                                         struct ft_json **out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    enum ft_json_kind kind = ft_json_kind(value);
    struct ft_json *made = NULL;
    *out = NULL;
    if (kind == FT_JSON_TEXT) {
        FT_TRY(substitute_text(where, value, types, &made, err));
    } else if (kind == FT_JSON_ARRAY || kind == FT_JSON_OBJECT) {
        made = kind == FT_JSON_ARRAY ? ft_json_array() : ft_json_object();
        st = made != NULL ? substitute_children(where, value, types, made, err) : FT_OK;
    } else {
        made = ft_json_copy(value);
    }
    if (st == FT_OK && made == NULL) {
        st = FT_FAIL(err, NOMEM, "%s: no memory for a value, or it is not UTF-8", where);
    }
done:
    if (st == FT_OK) {
        *out = made;
    } else {
        ft_json_free(made);
    }
    return st;
}
