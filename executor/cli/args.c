#include "executor/cli/args.h"

#include <string.h>

#include "executor/base/file.h"

/* "learning_rate" and "learning-rate" are one option. */
static void dash_words(char *key)
{
    for (char *p = key; *p != '\0'; p++) {
        if (*p == '_') {
            *p = '-';
        }
    }
}

static enum ft_status take_option(int argc, char **argv, int *i, ft_args_flag takes_none,
                                  struct ft_args *args, struct ft_err *err)
{
    char *key = argv[*i] + 2;
    char *equals = strchr(key, '=');
    char *value = NULL;
    if (equals != NULL) {
        *equals = '\0';
        value = equals + 1;
    }
    dash_words(key);
    if (args->n_options == FT_ARGS_MAX) {
        return FT_FAIL(err, USAGE, "more than %d options", FT_ARGS_MAX);
    }
    if (value == NULL && !takes_none(key)) {
        if (*i + 1 >= argc) {
            return FT_FAIL(err, USAGE, "--%s needs a value, if there is such an option (--help lists them)",
                           key);
        }
        value = argv[++*i];
    }
    if (value != NULL && strcmp(key, "out") == 0) {
        ft_path_trim(value); /* what is made beside a folder must not come to lie in it */
    }
    args->key[args->n_options] = key;
    args->value[args->n_options++] = value;
    return FT_OK;
}

enum ft_status ft_args_parse(int argc, char **argv, ft_args_flag takes_none, struct ft_args *args,
                             struct ft_err *err)
{
    *args = (struct ft_args){0};
    bool options = true;
    for (int i = 0; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && strcmp(argv[i], "-h") == 0) {
            args->key[args->n_options++] = "help";
        } else if (options && strncmp(argv[i], "--", 2) == 0) {
            FT_RETURN_IF_FAILED(take_option(argc, argv, &i, takes_none, args, err));
        } else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
            return FT_FAIL(err, USAGE, "unknown option %s (options start with two dashes)", argv[i]);
        } else if (args->n_positional == FT_ARGS_MAX) {
            return FT_FAIL(err, USAGE, "more than %d arguments", FT_ARGS_MAX);
        } else {
            /* A folder is named by its last part, whether a shell completed a slash or not. */
            ft_path_trim(argv[i]);
            args->positional[args->n_positional++] = argv[i];
        }
    }
    return FT_OK;
}

enum ft_status ft_usage(struct ft_err *err)
{
    if (err->code == FT_INVALID || err->code == FT_LIMIT || err->code == FT_CORRUPT) {
        err->code = FT_USAGE;
    }
    return err->code;
}
