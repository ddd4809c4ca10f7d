/*
 * internal.h - the table of settings, shared by the parser, the flags and the printers.
 */
#ifndef FT_CONFIG_INTERNAL_H
#define FT_CONFIG_INTERNAL_H

#include "executor/config/config.h"

enum ft_setting_kind { FT_SETTING_TEXT, FT_SETTING_INT, FT_SETTING_BOOL, FT_SETTING_LIST, FT_SETTING_JSON };

struct ft_setting {
    const char *name;
    enum ft_setting_kind kind;
    size_t offset;        /* in struct ft_config */
    const char *standard; /* the default, as a flag would write it */
    int64_t min, max;     /* INT */
    const char *choices;  /* TEXT: "a|b|c", NULL = any */
    const char *help;
};

/* NULL beyond the last. */
const struct ft_setting *ft_setting_at(size_t i);
/* '-' and '_' are the same; NULL: no such setting. */
const struct ft_setting *ft_setting_find(const char *name);
/* FT_USAGE naming the nearest setting. */
enum ft_status ft_setting_unknown(const char *where, const char *key, struct ft_err *err);
enum ft_status ft_setting_text(struct ft_config *config, const struct ft_setting *setting, const char *where,
                               const char *value, struct ft_err *err);
enum ft_status ft_setting_json(struct ft_config *config, const struct ft_setting *setting, const char *where,
                               const struct ft_json *value, struct ft_err *err);
/* Jina's ${{ ENV.NAME }}, also ${{ env.NAME }}: replaced by the environment's value. *out gets the whole
 * text. FT_INVALID: a name that is not set, or another ${{ }}. */
enum ft_status ft_config_substitute(const char *where, const char *text, struct ft_buf *out,
                                    struct ft_err *err);
/* The same in every text of a tree, lists and members inside included, as Jina does it; `types`: what results
 * is a number or a truth value where it looks like one. *out is the caller's. */
enum ft_status ft_config_substitute_json(const char *where, const struct ft_json *value, bool types,
                                         struct ft_json **out, struct ft_err *err);
/* ft_setting_json() of a value with ${{ ENV.NAME }} replaced. */
enum ft_status ft_setting_substituted(struct ft_config *config, const struct ft_setting *setting,
                                      const char *where, const struct ft_json *value, struct ft_err *err);
/* The value as JSON; NULL: out of memory. */
struct ft_json *ft_setting_value(const struct ft_config *config, const struct ft_setting *setting);
#endif
