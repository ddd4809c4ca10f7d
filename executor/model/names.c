#include "executor/model/import.h"

/* FNV-1a: names come from a file, but a file that makes them collide only slows its own import. */
static size_t hash_of(struct ft_bytes key)
{
    uint64_t h = 14695981039346656037ULL;
    for (size_t i = 0; i < key.size; i++) {
        h = (h ^ key.data[i]) * 1099511628211ULL;
    }
    return (size_t)(h ^ h >> 32);
}

enum ft_status ft_model_names_init(struct ft_names *names, size_t most, struct ft_arena *arena,
                                   struct ft_err *err)
{
    size_t size = 16;
    while (size < most * 2) {
        size *= 2;
    }
    *names = (struct ft_names){.mask = size - 1};
    FT_RETURN_IF_FAILED(ft_arena_new(arena, most, sizeof *names->keys, &names->keys, err));
    FT_RETURN_IF_FAILED(ft_arena_new(arena, size, sizeof *names->slots, &names->slots, err));
    for (size_t i = 0; i < size; i++) {
        names->slots[i] = -1;
    }
    return FT_OK;
}

static size_t place_of(const struct ft_names *names, struct ft_bytes key)
{
    size_t i = hash_of(key) & names->mask;
    while (names->slots[i] >= 0 && !ft_bytes_equal(names->keys[names->slots[i]], key)) {
        i = (i + 1) & names->mask;
    }
    return i;
}

int ft_model_names_find(const struct ft_names *names, struct ft_bytes key)
{
    return names->slots[place_of(names, key)];
}

int ft_model_names_add(struct ft_names *names, struct ft_bytes key)
{
    size_t i = place_of(names, key);
    if (names->slots[i] >= 0) {
        return -1;
    }
    names->keys[names->count] = key;
    names->slots[i] = (int)names->count;
    return (int)names->count++;
}
