#include "executor/base/status.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *ft_status_text(enum ft_status code)
{
    static const char *const texts[] = {
#define FT_STATUS_TEXT(name, text) text,
        FT_STATUS_LIST(FT_STATUS_TEXT)
#undef FT_STATUS_TEXT
    };
    assert((int)code >= 0 && code < FT_STATUS_COUNT);
    return texts[code];
}

/* Input from outside ends up in messages: keep them one printable line and cut at a character's border. */
static void make_one_line(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == 0x7f) {
            *p = '?';
        }
    }
    size_t n = strlen(text);
    if (n + 1 < FT_ERR_TEXT) {
        return;
    }
    while (n > 0 && ((unsigned char)text[n - 1] & 0xc0) == 0x80) {
        text[--n] = '\0';
    }
    if (n > 0 && ((unsigned char)text[n - 1] & 0x80) != 0) {
        text[n - 1] = '\0';
    }
}

enum ft_status ft_err_set(struct ft_err *err, enum ft_status code, const char *file, int line,
                          const char *fmt, ...)
{
    assert(err != NULL);
    assert(code != FT_OK);
    err->code = code;
    err->file = file;
    err->line = line;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    make_one_line(err->text);
    return code;
}

enum ft_status ft_err_wrap(struct ft_err *err, const char *fmt, ...)
{
    assert(err != NULL && err->code != FT_OK);
    char context[FT_ERR_TEXT];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(context, sizeof context, fmt, args);
    va_end(args);
    /* The innermost cause is what may be lost last: the context in front of it is cut first, at a character.
     */
    size_t old = strnlen(err->text, FT_ERR_TEXT - 1);
    size_t room = old + 3 < FT_ERR_TEXT ? FT_ERR_TEXT - 3 - old : 0;
    size_t shown = strnlen(context, FT_ERR_TEXT - 1);
    if (shown > room) {
        shown = room;
        while (shown > 0 && ((unsigned char)context[shown] & 0xc0) == 0x80) {
            shown--;
        }
    }
    if (shown > 0) {
        memmove(err->text + shown + 2, err->text, old + 1);
        memcpy(err->text, context, shown);
        memcpy(err->text + shown, ": ", 2);
    }
    make_one_line(err->text);
    return err->code;
}

void ft_err_clear(struct ft_err *err)
{
    memset(err, 0, sizeof *err);
}
