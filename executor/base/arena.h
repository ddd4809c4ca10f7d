/*
 * arena.h - memory that is freed whole: one arena per request, imported graph or training step.
 *
 * Thread-safety: none; an arena belongs to one thread at a time.
 */
#ifndef FT_BASE_ARENA_H
#define FT_BASE_ARENA_H

#include <stddef.h>

#include "executor/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ft_arena {
    struct ft_arena_block *last; /* newest block; NULL when empty */
    size_t used;                 /* bytes handed out, for accounting */
};

/* A zeroed struct is an empty arena. Memory is zeroed and aligned to 16 bytes. */
FT_MUST_CHECK enum ft_status ft_arena_new(struct ft_arena *arena, size_t count, size_t size, void *out,
                                          struct ft_err *err);
/* A NUL-terminated copy of `size` bytes. */
FT_MUST_CHECK enum ft_status ft_arena_text(struct ft_arena *arena, const char *text, size_t size,
                                           const char **out, struct ft_err *err);
void ft_arena_release(struct ft_arena *arena);

#ifdef __cplusplus
}
#endif
#endif
