/* One word to ids: what was met before from the cache, else by the model. */
#include "executor/prep/tok.h"

#include <string.h>

#include "executor/base/alloc.h"

enum ft_status ft_tok_push(struct ft_tokens *out, int32_t id, struct ft_err *err)
{
    if (out->count == out->capacity) {
        size_t capacity = out->capacity;
        FT_RETURN_IF_FAILED(ft_grow(&out->ids, &capacity, out->count + 1, sizeof *out->ids, err));
        capacity = out->capacity;
        FT_RETURN_IF_FAILED(ft_grow(&out->type_ids, &capacity, out->count + 1, sizeof *out->type_ids, err));
        out->capacity = capacity;
    }
    out->ids[out->count++] = id;
    return FT_OK;
}

static enum ft_status by_model(const struct ft_tok_model *m, struct ft_bytes word, struct ft_tok_scratch *s,
                               struct ft_tokens *out, struct ft_err *err)
{
    switch (m->kind) {
    case FT_TOK_WORDPIECE:
        return ft_tok_wordpiece(m, word, out, err);
    case FT_TOK_BPE:
        return ft_tok_bpe(m, word, s, out, err);
    case FT_TOK_UNIGRAM:
        return ft_tok_unigram(m, word, s, out, err);
    case FT_TOK_WORDLEVEL:
        break;
    }
    int32_t id = ft_tok_find(&m->vocab, word);
    return ft_tok_push(out, id >= 0 ? id : m->unk, err);
}

static inline struct ft_tok_cached *cached(struct ft_tok_scratch *s, struct ft_bytes word,
                                           uint64_t key[FT_TOK_CACHED_BYTES / 8])
{
    memset(key, 0, FT_TOK_CACHED_BYTES);
    memcpy(key, word.data, word.size);
    uint64_t h = (key[0] ^ word.size) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 29 ^ key[1]) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 32 ^ key[2]) * 0x94d049bb133111ebu;
    return s->cache + ((h >> 40) & (FT_TOK_CACHE_SIZE - 1));
}

enum ft_status ft_tok_model_ids(const struct ft_tok_model *m, struct ft_bytes word, struct ft_tok_scratch *s,
                                struct ft_tokens *out, struct ft_err *err)
{
    if (word.size > FT_TOK_CACHED_BYTES) {
        return by_model(m, word, s, out, err);
    }
    uint64_t key[FT_TOK_CACHED_BYTES / 8];
    struct ft_tok_cached *c = cached(s, word, key);
    if (c->size == word.size && c->key[0] == key[0] && c->key[1] == key[1] && c->key[2] == key[2]) {
        for (int i = 0; i < c->count; i++) {
            FT_RETURN_IF_FAILED(ft_tok_push(out, c->ids[i], err));
        }
        return FT_OK;
    }
    size_t before = out->count;
    FT_RETURN_IF_FAILED(by_model(m, word, s, out, err));
    size_t count = out->count - before;
    if (count > 0 && count <= FT_TOK_CACHED_IDS) {
        memcpy(c->key, key, sizeof key);
        memcpy(c->ids, out->ids + before, count * sizeof *c->ids);
        c->size = (uint8_t)word.size;
        c->count = (uint8_t)count;
    }
    return FT_OK;
}
