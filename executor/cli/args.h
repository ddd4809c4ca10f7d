/*
 * args.h - a command line taken apart: positionals and --key value, --key=value, --flag.
 */
#ifndef FT_CLI_ARGS_H
#define FT_CLI_ARGS_H

#include <stdbool.h>

#include "executor/base/status.h"

enum { FT_ARGS_MAX = 128 };

struct ft_args {
    const char *positional[FT_ARGS_MAX];
    int n_positional;
    const char *key[FT_ARGS_MAX];   /* without the dashes, with '-' between words */
    const char *value[FT_ARGS_MAX]; /* NULL for a flag without a value */
    int n_options;
};

/* takes_none(key): true for flags. FT_USAGE: a value is missing, too many words. "-" is a positional, "--"
 * ends options. */
typedef bool (*ft_args_flag)(const char *key);
FT_MUST_CHECK enum ft_status ft_args_parse(int argc, char **argv, ft_args_flag takes_none,
                                           struct ft_args *args, struct ft_err *err);
/* A value that does not fit its option is the command line's fault: FT_INVALID and the like become FT_USAGE,
 * which is returned. What stands inside a file or a JSON object stays input. */
enum ft_status ft_usage(struct ft_err *err);
#endif
