#include "executor/config/config.h"

#include <stdio.h>
#include <string.h>

#include "executor/codec/yaml.h"
#include "executor/config/internal.h"

enum { COLUMNS = 100 };

/* What a setting takes, for the help: "0 .. 65535", "a|b". */
static void range_text(const struct ft_setting *setting, char out[128])
{
    out[0] = '\0';
    if (setting->kind == FT_SETTING_INT) {
        (void)snprintf(out, 128, ", %lld .. %lld", (long long)setting->min, (long long)setting->max);
    } else if (setting->choices != NULL) {
        (void)snprintf(out, 128, ", %s",
                       setting->choices[0] == '|' ? setting->choices + 1 : setting->choices);
    }
}

enum ft_status ft_config_help(struct ft_buf *out, struct ft_err *err)
{
    static const char *const shown[] = {"TEXT", "N", "", "A,B,...", "JSON"};
    FT_RETURN_IF_FAILED(ft_buf_text(out, "  --config FILE             Settings from a config.yml.\n", err));
    for (size_t i = 0; ft_setting_at(i) != NULL; i++) {
        const struct ft_setting *setting = ft_setting_at(i);
        char flag[64];
        char range[128];
        int used = snprintf(flag, sizeof flag, "--%s %s", setting->name, shown[setting->kind]);
        for (char *c = flag; *c != '\0' && *c != ' '; c++) {
            *c = *c == '_' ? '-' : *c;
        }
        range_text(setting, range);
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "  %-25s %s (default %s%s)\n", used > 0 ? flag : "",
                                          setting->help,
                                          setting->standard[0] != '\0' ? setting->standard : "empty", range));
    }
    return FT_OK;
}

/* A comment wrapped at blanks. */
static enum ft_status put_comment(struct ft_buf *out, const char *text, struct ft_err *err)
{
    while (*text != '\0') {
        size_t length = strlen(text);
        if (length > COLUMNS) {
            length = COLUMNS;
            while (length > 0 && text[length] != ' ') {
                length--;
            }
        }
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "  # %.*s\n", (int)length, text));
        text += length + strspn(text + length, " ");
    }
    return FT_OK;
}

/* "  key: value" as YAML, every line indented. */
static enum ft_status put_value(struct ft_buf *out, const struct ft_config *config,
                                const struct ft_setting *setting, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    struct ft_json *one = ft_json_object();
    if (one == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory writing settings");
    }
    FT_TRY(ft_json_set(one, setting->name, ft_setting_value(config, setting), err));
    FT_TRY(ft_yaml_write(one, &text, err));
    for (const char *line = (const char *)text.data; line != NULL && *line != '\0';) {
        size_t length = strcspn(line, "\n");
        FT_TRY(ft_buf_printf(out, err, "  %.*s\n", (int)length, line));
        line += length + (line[length] == '\n' ? 1 : 0);
    }
done:
    ft_json_free(one);
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_config_dump(struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_config config = {0};
    FT_TRY(ft_config_init(&config, err));
    FT_TRY(ft_buf_text(
        out,
        "# Settings of the service: finetuner serve --config config.yml, or\n"
        "# jina executor --uses config.yml. Every setting with its default; the file may leave out any.\n"
        "# Made by the program's own table of settings; a test keeps the two equal.\n"
        "jtype: Finetuner\n"
        "metas:\n"
        "  description: Fine-tunes embedding models on labelled Documents and serves them.\n"
        "with:\n",
        err));
    for (size_t i = 0; ft_setting_at(i) != NULL; i++) {
        const struct ft_setting *setting = ft_setting_at(i);
        char range[128];
        range_text(setting, range);
        FT_TRY(put_comment(out, setting->help, err));
        if (range[0] != '\0') {
            FT_TRY(ft_buf_printf(out, err, "  # (%s)\n", range + 2));
        }
        FT_TRY(put_value(out, &config, setting, err));
    }
done:
    ft_config_release(&config);
    return st;
}
