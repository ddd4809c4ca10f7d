/*
 * support.h - what several test programs share: golden files, lines of them, and the out-of-memory loop.
 */
#ifndef FT_TESTS_SUPPORT_H
#define FT_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"

#define ASSERT_OK(call)                                                                                      \
    do {                                                                                                     \
        enum ft_status ok_st_ = (call);                                                                      \
        if (ok_st_ != FT_OK) {                                                                               \
            fail_msg("%s: %s: %s", #call, ft_status_text(ok_st_), err.text);                                 \
        }                                                                                                    \
    } while (0)

/* A golden file below tests/data; ft_buf_release(). */
static inline struct ft_buf golden(const char *name)
{
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(FT_TEST_DATA, name, &path, &err));
    ASSERT_OK(ft_file_read(path, (size_t)64 << 20, &buf, &err));
    ft_free(path);
    return buf;
}

/* The next line of a golden text as up to two fields parted by a tab; false at the end. Lines are cut in
 * place. */
static inline bool next_line(struct ft_buf *text, size_t *at, char **first, char **second)
{
    if (*at >= text->size) {
        return false;
    }
    char *line = (char *)text->data + *at;
    char *end = strchr(line, '\n');
    *at = end == NULL ? text->size : (size_t)(end - (char *)text->data) + 1;
    if (end != NULL) {
        *end = '\0';
    }
    char *tab = strchr(line, '\t');
    if (tab != NULL) {
        *tab = '\0';
    }
    *first = line;
    *second = tab != NULL ? tab + 1 : NULL;
    return true;
}

static inline int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *found = strchr(digits, c);
    assert_true(c != '\0' && found != NULL);
    return (int)(found - digits);
}

/* Decodes in place; the bytes stand where the text stood. */
static inline struct ft_bytes unhex(char *text)
{
    size_t n = strlen(text) / 2;
    uint8_t *to = (uint8_t *)text;
    for (size_t i = 0; i < n; i++) {
        to[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    }
    return ft_bytes_of(to, n);
}

/* Runs `run(arg)` with the 1st, 2nd, ... of its allocations failing. Each time it must say FT_NOMEM, and
 * whatever it says it must leave nothing behind. */
typedef enum ft_status (*oom_run)(void *arg, struct ft_err *err);

static inline void fail_each_allocation(oom_run run, void *arg)
{
    struct ft_err err = {0};
    ASSERT_OK(run(arg, &err)); /* whatever is made once for the process is made now */
    struct ft_alloc_stats before = ft_alloc_stats();
    ASSERT_OK(run(arg, &err));
    uint64_t calls = ft_alloc_stats().calls - before.calls;
    assert_int_equal(ft_alloc_stats().live_blocks, before.live_blocks);
    assert_true(calls > 0);
    for (uint64_t n = 1; n <= calls; n++) {
        ft_err_clear(&err);
        ft_alloc_fail_at(n);
        enum ft_status st = run(arg, &err);
        ft_alloc_fail_at(0);
        if (st != FT_NOMEM || err.code != FT_NOMEM) {
            fail_msg("allocation %llu of %llu failed and the answer was: %s: %s", (unsigned long long)n,
                     (unsigned long long)calls, ft_status_text(st), err.text);
        }
        assert_int_equal(ft_alloc_stats().live_blocks, before.live_blocks);
    }
}

#endif
