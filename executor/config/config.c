#include "executor/config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"
#include "executor/config/internal.h"

static void *field(struct ft_config *config, const struct ft_setting *setting)
{
    return (char *)config + setting->offset;
}

static const void *const_field(const struct ft_config *config, const struct ft_setting *setting)
{
    return (const char *)config + setting->offset;
}

static void list_release(struct ft_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        ft_free(list->items[i]);
    }
    ft_free(list->items);
    *list = (struct ft_list){0};
}

static enum ft_status list_add(struct ft_list *list, const char *text, size_t size, struct ft_err *err)
{
    char **items = ft_realloc(list->items, (list->count + 1) * sizeof *items);
    if (items == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading settings");
    }
    list->items = items;
    items[list->count] = ft_strndup(text, size);
    if (items[list->count] == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading settings");
    }
    list->count++;
    return FT_OK;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *c = choices;; c++) {
        const char *end = strchrnul(c, '|');
        if ((size_t)(end - c) == length && strncasecmp(c, value, length) == 0) {
            return true;
        }
        if (*end == '\0') {
            return false;
        }
        c = end;
    }
}

static enum ft_status set_text(struct ft_config *config, const struct ft_setting *setting, const char *where,
                               const char *value, struct ft_err *err)
{
    if (setting->choices != NULL && !is_choice(setting->choices, value)) {
        return FT_FAIL(err, INVALID, "%s: %s: '%.64s' is not one of %s", where, setting->name, value,
                       setting->choices[0] == '|' ? setting->choices + 1 : setting->choices);
    }
    if (strlen(value) > FT_MAX_NAME_BYTES) {
        return FT_FAIL(err, INVALID, "%s: %s is longer than %d bytes", where, setting->name,
                       FT_MAX_NAME_BYTES);
    }
    char *copy = NULL;
    FT_RETURN_IF_FAILED(ft_new_text(value, &copy, err));
    char **text = field(config, setting);
    ft_free(*text);
    *text = copy;
    return FT_OK;
}

static enum ft_status set_int(struct ft_config *config, const struct ft_setting *setting, const char *where,
                              int64_t value, struct ft_err *err)
{
    if (value < setting->min || value > setting->max) {
        return FT_FAIL(err, INVALID, "%s: %s: %lld is not in %lld .. %lld", where, setting->name,
                       (long long)value, (long long)setting->min, (long long)setting->max);
    }
    *(int64_t *)field(config, setting) = value;
    return FT_OK;
}

static enum ft_status set_int_text(struct ft_config *config, const struct ft_setting *setting,
                                   const char *where, const char *value, struct ft_err *err)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (value[0] == '\0' || *end != '\0' || errno != 0) {
        return FT_FAIL(err, INVALID, "%s: %s: '%.64s' is not a whole number in %lld .. %lld", where,
                       setting->name, value, (long long)setting->min, (long long)setting->max);
    }
    return set_int(config, setting, where, number, err);
}

static enum ft_status set_list_text(struct ft_config *config, const struct ft_setting *setting,
                                    const char *value, struct ft_err *err)
{
    struct ft_list list = {0};
    enum ft_status st = FT_OK;
    while (*value != '\0' && st == FT_OK) {
        const char *end = strchrnul(value, ',');
        if (end > value) {
            st = list_add(&list, value, (size_t)(end - value), err);
        }
        value = *end == ',' ? end + 1 : end;
    }
    if (st == FT_OK) {
        list_release(field(config, setting));
        *(struct ft_list *)field(config, setting) = list;
        return FT_OK;
    }
    list_release(&list);
    return st;
}

static enum ft_status set_json(struct ft_config *config, const struct ft_setting *setting, const char *where,
                               const struct ft_json *value, struct ft_err *err)
{
    if (ft_json_kind(value) != FT_JSON_OBJECT) {
        return FT_FAIL(err, INVALID, "%s: %s is not an object", where, setting->name);
    }
    struct ft_json *copy = ft_json_copy(value);
    if (copy == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading settings");
    }
    struct ft_json **json = field(config, setting);
    ft_json_free(*json);
    *json = copy;
    return FT_OK;
}

enum ft_status ft_setting_text(struct ft_config *config, const struct ft_setting *setting, const char *where,
                               const char *value, struct ft_err *err)
{
    struct ft_json *json = NULL;
    enum ft_status st = FT_OK;
    switch (setting->kind) {
    case FT_SETTING_TEXT:
        return set_text(config, setting, where, value, err);
    case FT_SETTING_INT:
        return set_int_text(config, setting, where, value, err);
    case FT_SETTING_BOOL:
        if (!is_choice("true|false", value)) {
            return FT_FAIL(err, INVALID, "%s: %s: '%.64s' is not true or false", where, setting->name, value);
        }
        *(bool *)field(config, setting) = is_choice("true", value);
        return FT_OK;
    case FT_SETTING_LIST:
        return set_list_text(config, setting, value, err);
    case FT_SETTING_JSON:
        st = ft_json_parse(ft_bytes_of_text(value), &json, err);
        if (st == FT_OK) {
            st = set_json(config, setting, where, json, err);
        } else {
            (void)ft_err_wrap(err, "%s: %s", where, setting->name);
        }
        ft_json_free(json);
        return st;
    }
    return FT_FAIL(err, INTERNAL, "setting %s has no kind", setting->name);
}

static enum ft_status set_list_json(struct ft_config *config, const struct ft_setting *setting,
                                    const char *where, const struct ft_json *value, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_list list = {0};
    for (size_t i = 0; i < ft_json_count(value); i++) {
        size_t size = 0;
        const char *text = ft_json_text(ft_json_at(value, i), &size);
        if (text == NULL) {
            st = FT_FAIL(err, INVALID, "%s: %s: item %zu is not text", where, setting->name, i + 1);
            goto done;
        }
        FT_TRY(list_add(&list, text, size, err));
    }
    list_release(field(config, setting));
    *(struct ft_list *)field(config, setting) = list;
    list = (struct ft_list){0};
done:
    list_release(&list);
    return st;
}

enum ft_status ft_setting_json(struct ft_config *config, const struct ft_setting *setting, const char *where,
                               const struct ft_json *value, struct ft_err *err)
{
    if (ft_json_kind(value) == FT_JSON_TEXT) {
        return ft_setting_text(config, setting, where, ft_json_text(value, NULL), err);
    }
    if (ft_json_kind(value) == FT_JSON_NULL && setting->kind == FT_SETTING_TEXT) {
        return ft_setting_text(config, setting, where, "", err);
    }
    if (setting->kind == FT_SETTING_JSON) {
        return set_json(config, setting, where, value, err);
    }
    if (setting->kind == FT_SETTING_LIST && ft_json_kind(value) == FT_JSON_ARRAY) {
        return set_list_json(config, setting, where, value, err);
    }
    if (setting->kind == FT_SETTING_BOOL && ft_json_kind(value) == FT_JSON_BOOL) {
        *(bool *)field(config, setting) = ft_json_bool(value);
        return FT_OK;
    }
    if (setting->kind == FT_SETTING_INT && ft_json_is_integral(value)) {
        return set_int(config, setting, where, ft_json_int(value), err);
    }
    static const char *const wanted[] = {"text", "a whole number", "true or false", "a list of texts",
                                         "an object"};
    return FT_FAIL(err, INVALID, "%s: %s is not %s", where, setting->name, wanted[setting->kind]);
}

struct ft_json *ft_setting_value(const struct ft_config *config, const struct ft_setting *setting)
{
    const void *at = const_field(config, setting);
    const struct ft_list *list = at;
    struct ft_json *array = NULL;
    struct ft_err err;
    switch (setting->kind) {
    case FT_SETTING_TEXT:
        return ft_json_of_text(*(char *const *)at);
    case FT_SETTING_INT:
        return ft_json_of_int(*(const int64_t *)at);
    case FT_SETTING_BOOL:
        return ft_json_of_bool(*(const bool *)at);
    case FT_SETTING_JSON:
        return ft_json_copy(*(struct ft_json *const *)at);
    case FT_SETTING_LIST:
        array = ft_json_array();
        for (size_t i = 0; array != NULL && i < list->count; i++) {
            if (ft_json_push(array, ft_json_of_text(list->items[i]), &err) != FT_OK) {
                ft_json_free(array);
                array = NULL;
            }
        }
        return array;
    }
    return NULL;
}

enum ft_status ft_config_init(struct ft_config *config, struct ft_err *err)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; ft_setting_at(i) != NULL; i++) {
        const struct ft_setting *setting = ft_setting_at(i);
        enum ft_status st = ft_setting_text(config, setting, "default", setting->standard, err);
        if (st != FT_OK) {
            ft_config_release(config);
            return st;
        }
    }
    return FT_OK;
}

void ft_config_release(struct ft_config *config)
{
    for (size_t i = 0; ft_setting_at(i) != NULL; i++) {
        void *at = field(config, ft_setting_at(i));
        switch (ft_setting_at(i)->kind) {
        case FT_SETTING_TEXT:
            ft_free(*(char **)at);
            break;
        case FT_SETTING_LIST:
            list_release(at);
            break;
        case FT_SETTING_JSON:
            ft_json_free(*(struct ft_json **)at);
            break;
        case FT_SETTING_INT:
        case FT_SETTING_BOOL:
            break;
        }
    }
    memset(config, 0, sizeof *config);
}

enum ft_status ft_setting_substituted(struct ft_config *config, const struct ft_setting *setting,
                                      const char *where, const struct ft_json *value, struct ft_err *err)
{
    struct ft_json *json = NULL;
    /* A text is read by its setting, which knows whether it wants a number. */
    bool types = setting->kind == FT_SETTING_JSON && ft_json_kind(value) != FT_JSON_TEXT;
    enum ft_status st = ft_config_substitute_json(where, value, types, &json, err);
    if (st == FT_OK) {
        st = ft_setting_json(config, setting, where, json, err);
    }
    ft_json_free(json);
    return st;
}

enum ft_status ft_config_set(struct ft_config *config, const char *where, const char *key, const char *value,
                             struct ft_err *err)
{
    const struct ft_setting *setting = ft_setting_find(key);
    return setting != NULL ? ft_setting_text(config, setting, where, value, err)
                           : ft_setting_unknown(where, key, err);
}

enum ft_status ft_config_read_json(struct ft_config *config, const char *where, const struct ft_json *object,
                                   struct ft_err *err)
{
    if (ft_json_kind(object) != FT_JSON_OBJECT) {
        return FT_FAIL(err, INVALID, "%s is not an object of settings", where);
    }
    for (struct ft_json_iter *it = ft_json_first(object); it != NULL; it = ft_json_next(object, it)) {
        const struct ft_setting *setting = ft_setting_find(ft_json_key(it));
        if (setting == NULL) {
            return ft_setting_unknown(where, ft_json_key(it), err);
        }
        FT_RETURN_IF_FAILED(ft_setting_substituted(config, setting, where, ft_json_value(it), err));
    }
    return FT_OK;
}

enum ft_status ft_config_write(const struct ft_config *config, struct ft_json **object, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *json = ft_json_object();
    *object = NULL;
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory writing settings");
    }
    for (size_t i = 0; ft_setting_at(i) != NULL; i++) {
        FT_TRY(ft_json_set(json, ft_setting_at(i)->name, ft_setting_value(config, ft_setting_at(i)), err));
    }
    *object = json;
    json = NULL;
done:
    ft_json_free(json);
    return st;
}

struct ft_bytes ft_config_short_name(const struct ft_config *config)
{
    return ft_bytes_of(config->name, (size_t)(strchrnul(config->name, '/') - config->name));
}
