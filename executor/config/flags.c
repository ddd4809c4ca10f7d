#include "executor/config/config.h"

#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/config/internal.h"

enum { KEY_TEXT = 128 };

/* "--key=value" or "--key": the key, and the value behind '=' or NULL. False: not a flag. */
static bool split(const char *word, char key[KEY_TEXT], const char **value)
{
    if (strncmp(word, "--", 2) != 0 || word[2] == '\0') {
        return false;
    }
    size_t length = strcspn(word + 2, "=");
    (void)snprintf(key, KEY_TEXT, "%.*s", (int)(length < KEY_TEXT ? length : KEY_TEXT - 1), word + 2);
    *value = word[2 + length] == '=' ? word + 3 + length : NULL;
    return true;
}

/* A value that does not fit is wrong usage; in a file it is bad input. */
static enum ft_status set_flag(struct ft_config *config, const char *key, const char *value,
                               struct ft_err *err)
{
    enum ft_status st = ft_config_set(config, "command line", key, value, err);
    if (st == FT_INVALID || st == FT_LIMIT) {
        st = err->code = FT_USAGE;
    }
    return st;
}

/* One flag of ours at argv[*at]; *at moves to its last word. */
static enum ft_status take_flag(struct ft_config *config, int argc, char **argv, int *at, bool files,
                                struct ft_err *err)
{
    char key[KEY_TEXT];
    char where[KEY_TEXT + 8];
    const char *value = NULL;
    if (!split(argv[*at], key, &value)) {
        return FT_FAIL(err, USAGE, "'%.200s' is not a flag: --KEY VALUE", argv[*at]);
    }
    bool is_file = strcmp(key, "config") == 0;
    const struct ft_setting *setting = is_file ? NULL : ft_setting_find(key);
    (void)snprintf(where, sizeof where, "--%s", key);
    if (!is_file && setting == NULL) {
        return ft_setting_unknown("command line", key, err);
    }
    bool more = *at + 1 < argc;
    if (value == NULL && setting != NULL && setting->kind == FT_SETTING_BOOL &&
        !(more && (strcmp(argv[*at + 1], "true") == 0 || strcmp(argv[*at + 1], "false") == 0))) {
        value = "true";
    }
    if (value == NULL) {
        if (!more) {
            return FT_FAIL(err, USAGE, "%s needs a value", where);
        }
        value = argv[++*at];
    }
    if (is_file != files) {
        return FT_OK;
    }
    return is_file ? ft_config_read_file(config, value, err) : set_flag(config, key, value, err);
}

enum ft_status ft_config_flags(struct ft_config *config, int argc, char **argv, struct ft_err *err)
{
    for (int pass = 0; pass < 2; pass++) { /* files first: flags win wherever they stand */
        for (int i = 0; i < argc; i++) {
            FT_RETURN_IF_FAILED(take_flag(config, argc, argv, &i, pass == 0, err));
        }
    }
    return FT_OK;
}

/* Flags of `jina executor` 3.34 that ask for nothing this program does differently; others warn. */
static const char *const QUIET[] = {
    "native",
    "workspace-id",
    "polling",
    "noblock-on-start",
    "k8s-namespace",
    "replicas",
    "replica-id",
    "shards",
    "shard-id",
    "timeout-ready",
    "timeout-ctrl",
    "log-config",
    "runtime-cls",
    "pod-role",
    "protocol",
    "floating",
    "gpus",
    "entrypoint",
    "volumes",
    "docker-kwargs",
    "env",
    "py-modules",
    "allow-concurrent",
    "uses-metas",
    "uses-requests",
    "exit-on-exceptions",
    "output-array-type",
    "extra-search-paths",
    "grpc-server-options",
};

static bool is_quiet(const char *key)
{
    for (size_t i = 0; i < sizeof QUIET / sizeof QUIET[0]; i++) {
        if (strcmp(QUIET[i], key) == 0) {
            return true;
        }
    }
    return false;
}

/* "k: v" or "k=v". */
static enum ft_status take_pair(struct ft_config *config, const char *word, struct ft_err *err)
{
    size_t length = strcspn(word, ":=");
    char key[KEY_TEXT];
    if (word[length] == '\0' || length >= sizeof key) {
        return FT_FAIL(err, USAGE, "--uses-with: '%.64s' is not {JSON}, k=v or 'k: v'", word);
    }
    (void)snprintf(key, sizeof key, "%.*s", (int)length, word);
    const char *value = word + length + 1;
    struct ft_json *pair = ft_json_object();
    enum ft_status st = ft_json_set(pair, key, ft_json_of_text(value + strspn(value, " ")), err);
    if (st == FT_OK) {
        st = ft_config_read_json(config, "--uses-with", pair, err);
    }
    ft_json_free(pair);
    return st;
}

/* Items of --uses-with: JSON objects or pairs. */
static enum ft_status take_with(struct ft_config *config, char *const *words, int count, struct ft_err *err)
{
    for (int i = 0; i < count; i++) {
        const char *word = words[i] + strspn(words[i], " \t\n");
        if (word[0] != '{') {
            FT_RETURN_IF_FAILED(take_pair(config, word, err));
            continue;
        }
        struct ft_json *json = NULL;
        enum ft_status st = ft_json_parse(ft_bytes_of_text(word), &json, err);
        if (st == FT_OK) {
            st = ft_config_read_json(config, "--uses-with", json, err);
        } else {
            (void)ft_err_wrap(err, "--uses-with");
        }
        ft_json_free(json);
        FT_RETURN_IF_FAILED(st);
    }
    return FT_OK;
}

/* What one flag of Jina's means to us; count values follow it. */
static enum ft_status take_jina(struct ft_config *config, const char *key, char *const *values, int count,
                                struct ft_err *err)
{
    static const char *const same[] = {"name", "workspace", "host", "port", "port-monitoring"};
    if (strcmp(key, "uses-with") == 0) {
        return take_with(config, values, count, err);
    }
    if (strcmp(key, "ports") == 0 || strcmp(key, "host-in") == 0) {
        key = key[0] == 'p' ? "port" : "host";
    }
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        if (strcmp(key, same[i]) == 0) {
            if (count == 0) {
                return FT_FAIL(err, USAGE, "--%s needs a value", key);
            }
            return set_flag(config, key, values[0], err);
        }
    }
    if (strcmp(key, "monitoring") == 0) {
        return set_flag(config, key, count > 0 ? values[0] : "true", err);
    }
    if (strcmp(key, "quiet") == 0) {
        return ft_config_set(config, "--quiet", "log_level", "ERROR", err);
    }
    if (strcmp(key, "uses") != 0 && !is_quiet(key)) {
        FT_LOG_WARNING_LINE("config", "flag without effect here flag=--%s", key);
    }
    return FT_OK;
}

static enum ft_status take_uses(struct ft_config *config, const char *path, struct ft_err *err)
{
    if (!ft_path_has_suffix(path, ".yml") && !ft_path_has_suffix(path, ".yaml")) {
        return FT_FAIL(err, USAGE, "--uses: '%.200s' is not a config.yml", path);
    }
    return ft_config_read_file(config, path, err);
}

/* Executors of a Flow are given one folder, replicas too: Jina keeps them apart by name, and so do we. */
static enum ft_status own_workspace(struct ft_config *config, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(config->workspace, config->name, &path, err));
    enum ft_status st = ft_config_set(config, "--workspace", "workspace", path, err);
    ft_free(path);
    return st;
}

static bool has_flag(int argc, char *const *argv, const char *name)
{
    for (int i = 0; i < argc; i++) {
        char key[KEY_TEXT];
        const char *value = NULL;
        if (split(argv[i], key, &value) && strcmp(key, name) == 0) {
            return true;
        }
    }
    return false;
}

enum ft_status ft_config_jina_flags(struct ft_config *config, int argc, char **argv, struct ft_err *err)
{
    for (int pass = 0; pass < 3; pass++) { /* --uses, then --uses-with, then everything else */
        for (int i = 0; i < argc; i++) {
            char key[KEY_TEXT];
            const char *value = NULL;
            if (!split(argv[i], key, &value)) {
                if (pass == 2) {
                    FT_LOG_WARNING_LINE("config", "word without effect here word=\"%.64s\"", argv[i]);
                }
                continue;
            }
            char *inside = (char *)(uintptr_t)value; /* only read */
            int count = value != NULL ? 1 : 0;
            while (value == NULL && i + 1 + count < argc && strncmp(argv[i + 1 + count], "--", 2) != 0) {
                count++;
            }
            char *const *values = value != NULL ? &inside : argv + i + 1;
            bool with = strcmp(key, "uses-with") == 0;
            if (pass == 0 && strcmp(key, "uses") == 0 && count > 0) {
                FT_RETURN_IF_FAILED(take_uses(config, values[0], err));
            } else if (pass > 0 && with == (pass == 1)) {
                FT_RETURN_IF_FAILED(take_jina(config, key, values, count, err));
            }
            i += value != NULL ? 0 : count;
        }
    }
    return has_flag(argc, argv, "workspace") ? own_workspace(config, err) : FT_OK;
}
