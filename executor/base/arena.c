#include "executor/base/arena.h"

#include <string.h>

#include "executor/base/alloc.h"

enum { BLOCK_MIN = 16 * 1024, UNIT = 16 };

struct ft_arena_block {
    struct ft_arena_block *prev;
    size_t size; /* of the payload */
    size_t used;
    size_t pad; /* keeps the payload aligned to UNIT */
};

enum ft_status ft_arena_new(struct ft_arena *arena, size_t count, size_t size, void *out, struct ft_err *err)
{
    size_t bytes = 0;
    size_t block_bytes = 0;
    void *nothing = NULL;
    memcpy(out, &nothing, sizeof nothing);
    if (!ft_mul_size(count, size, &bytes) || !ft_add_size(bytes, UNIT - 1, &bytes)) {
        return FT_FAIL(err, NOMEM, "%zu x %zu bytes do not fit the address space", count, size);
    }
    bytes = bytes / UNIT * UNIT;
    struct ft_arena_block *b = arena->last;
    if (b == NULL || b->size - b->used < bytes) {
        size_t payload = bytes > BLOCK_MIN ? bytes : BLOCK_MIN;
        if (!ft_add_size(payload, sizeof *b, &block_bytes) || (b = ft_alloc(block_bytes)) == NULL) {
            return FT_FAIL(err, NOMEM, "no memory for %zu bytes", payload);
        }
        *b = (struct ft_arena_block){.prev = arena->last, .size = payload};
        arena->last = b;
    }
    char *p = (char *)(b + 1) + b->used;
    b->used += bytes;
    arena->used += bytes;
    memset(p, 0, bytes);
    memcpy(out, &p, sizeof p);
    return FT_OK;
}

enum ft_status ft_arena_text(struct ft_arena *arena, const char *text, size_t size, const char **out,
                             struct ft_err *err)
{
    char *copy = NULL;
    *out = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(arena, size + 1, 1, &copy, err));
    if (size > 0) {
        memcpy(copy, text, size);
    }
    *out = copy;
    return FT_OK;
}

void ft_arena_release(struct ft_arena *arena)
{
    struct ft_arena_block *b = arena->last;
    while (b != NULL) {
        struct ft_arena_block *prev = b->prev;
        ft_free(b);
        b = prev;
    }
    *arena = (struct ft_arena){0};
}
