#include "executor/train/named.h"

#include <inttypes.h>
#include <string.h>

int ft_named_index(const char *words, const char *word)
{
    size_t n = strlen(word);
    int i = 0;
    for (const char *at = words; *at != '\0'; i++) {
        size_t length = strcspn(at, " ");
        if (length == n && memcmp(at, word, n) == 0) {
            return i;
        }
        at += length;
        at += strspn(at, " ");
    }
    return -1;
}

enum ft_status ft_named_check(const char *who, const struct ft_json *object, const char *known,
                              struct ft_err *err)
{
    enum ft_json_kind kind = ft_json_kind(object);
    if (kind != FT_JSON_NULL && kind != FT_JSON_OBJECT) {
        return FT_FAIL(err, INVALID, "options of %s are a JSON %s, wanted an object", who,
                       ft_json_kind_name(kind));
    }
    for (struct ft_json_iter *it = ft_json_first(object); it != NULL; it = ft_json_next(object, it)) {
        if (ft_named_index(known, ft_json_key(it)) < 0) {
            return FT_FAIL(err, INVALID, "%s has no option \"%s\"; it has: %s", who, ft_json_key(it),
                           known[0] != '\0' ? known : "none");
        }
    }
    return FT_OK;
}

/* NULL when absent or null. */
static const struct ft_json *present(const struct ft_json *object, const char *key)
{
    const struct ft_json *value = ft_json_get(object, key);
    return ft_json_kind(value) == FT_JSON_NULL ? NULL : value;
}

enum ft_status ft_named_real(const char *who, const struct ft_json *object, const char *key, double low,
                             double high, double *value, struct ft_err *err)
{
    const struct ft_json *json = present(object, key);
    if (json == NULL) {
        return FT_OK;
    }
    double x = ft_json_real(json);
    if (!ft_json_is_number(json) || !(x >= low && x <= high)) {
        return FT_FAIL(err, INVALID, "%s: %s must be a number of %g .. %g", who, key, low, high);
    }
    *value = x;
    return FT_OK;
}

enum ft_status ft_named_int(const char *who, const struct ft_json *object, const char *key, int64_t low,
                            int64_t high, int64_t *value, struct ft_err *err)
{
    const struct ft_json *json = present(object, key);
    if (json == NULL) {
        return FT_OK;
    }
    int64_t x = ft_json_int(json);
    if (!ft_json_is_integral(json) || x < low || x > high) {
        return FT_FAIL(err, INVALID, "%s: %s must be a whole number of %" PRId64 " .. %" PRId64, who, key,
                       low, high);
    }
    *value = x;
    return FT_OK;
}

enum ft_status ft_named_bool(const char *who, const struct ft_json *object, const char *key, bool *value,
                             struct ft_err *err)
{
    const struct ft_json *json = present(object, key);
    if (json == NULL) {
        return FT_OK;
    }
    if (ft_json_kind(json) != FT_JSON_BOOL) {
        return FT_FAIL(err, INVALID, "%s: %s must be true or false", who, key);
    }
    *value = ft_json_bool(json);
    return FT_OK;
}

enum ft_status ft_named_choice(const char *who, const struct ft_json *object, const char *key,
                               const char *choices, int *choice, struct ft_err *err)
{
    const struct ft_json *json = present(object, key);
    if (json == NULL) {
        return FT_OK;
    }
    const char *text = ft_json_text(json, NULL);
    int i = text != NULL ? ft_named_index(choices, text) : -1;
    if (i < 0) {
        return FT_FAIL(err, INVALID, "%s: %s must be one of: %s", who, key, choices);
    }
    *choice = i;
    return FT_OK;
}

enum ft_status ft_named_only(const char *who, const struct ft_json *object, const char *key, const char *only,
                             struct ft_err *err)
{
    const struct ft_json *json = present(object, key);
    if (json == NULL) {
        return FT_OK;
    }
    struct ft_buf text = {0};
    enum ft_status st = ft_json_write(json, 0, &text, err);
    if (st == FT_OK && !ft_bytes_is(ft_buf_bytes(&text), only)) {
        st = FT_FAIL(err, UNSUPPORTED, "%s: %s is %.*s; only %s is built", who, key,
                     ft_bytes_shown(ft_buf_bytes(&text)), (const char *)text.data, only);
    }
    ft_buf_release(&text);
    return st;
}
