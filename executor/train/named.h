/*
 * named.h - reading {"option": value} objects whose options are known by name: losses, optimisers, schedules,
 * callbacks.
 *
 * Thread-safety: pure functions.
 */
#ifndef FT_TRAIN_NAMED_H
#define FT_TRAIN_NAMED_H

#include "executor/codec/json.h"

/* Every key must be one of `known`, names separated by blanks; else FT_INVALID lists them. NULL object is
 * fine. */
FT_MUST_CHECK enum ft_status ft_named_check(const char *who, const struct ft_json *object, const char *known,
                                            struct ft_err *err);
/* *value is left alone when the key is absent or null. FT_INVALID: not a number of low .. high. */
FT_MUST_CHECK enum ft_status ft_named_real(const char *who, const struct ft_json *object, const char *key,
                                           double low, double high, double *value, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_named_int(const char *who, const struct ft_json *object, const char *key,
                                          int64_t low, int64_t high, int64_t *value, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_named_bool(const char *who, const struct ft_json *object, const char *key,
                                           bool *value, struct ft_err *err);
/* The value must be one of `choices`, separated by blanks; *choice is its number. */
FT_MUST_CHECK enum ft_status ft_named_choice(const char *who, const struct ft_json *object, const char *key,
                                             const char *choices, int *choice, struct ft_err *err);
/* Number of `word` among blank-separated `words`; -1: none. */
int ft_named_index(const char *words, const char *word);
/* A key that is known but whose other values are not built: FT_UNSUPPORTED unless it is absent, null or
 * `only` (a JSON text, e.g. "false"). */
FT_MUST_CHECK enum ft_status ft_named_only(const char *who, const struct ft_json *object, const char *key,
                                           const char *only, struct ft_err *err);
#endif
