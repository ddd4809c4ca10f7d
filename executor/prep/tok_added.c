/* Added tokens: taken out of a text before anything else sees it; the longest from the left. */
#include "executor/prep/tok.h"

#include <string.h>

#include "executor/base/alloc.h"

/* ---- finding ---- */

static bool has_flag(const uint8_t *text, size_t at, uint32_t flag)
{
    size_t n = 0;
    return (ft_tok_flags(ft_tok_point(text + at, &n)) & flag) != 0;
}

/* The longest token at text[at]; its place in t->added, or -1. */
static int32_t token_at(const struct ft_tok_added_set *set, struct ft_bytes text, size_t at, size_t *end)
{
    int32_t place = -1;
    int32_t node = FT_TOK_ROOT;
    for (size_t i = at; i < text.size; i++) {
        node = ft_tok_step(&set->trie, node, text.data[i]);
        if (node < 0) {
            break;
        }
        if (set->trie.nodes[node].value >= 0) {
            place = set->trie.nodes[node].value;
            *end = i + 1;
        }
    }
    return place;
}

static bool is_single_word(struct ft_bytes text, size_t begin, size_t end)
{
    return (begin == 0 || !has_flag(text.data, ft_tok_before(text.data, begin), FT_TOK_WORD)) &&
           (end == text.size || !has_flag(text.data, end, FT_TOK_WORD));
}

static size_t spaces_before(struct ft_bytes text, size_t begin, size_t from)
{
    while (begin > from) {
        size_t last = ft_tok_before(text.data, begin);
        if (!has_flag(text.data, last, FT_TOK_SPACE)) {
            break;
        }
        begin = last;
    }
    return begin;
}

static size_t spaces_behind(struct ft_bytes text, size_t end)
{
    size_t n = 0;
    while (end < text.size && (ft_tok_flags(ft_tok_point(text.data + end, &n)) & FT_TOK_SPACE) != 0) {
        end += n;
    }
    return end;
}

bool ft_tok_added_next(const struct ft_tokenizer *t, const struct ft_tok_added_set *set, struct ft_bytes text,
                       struct ft_tok_found *found)
{
    size_t at = set->any ? found->at : text.size;
    for (; at < text.size; at++) {
        size_t end = 0;
        int32_t place = set->starts[text.data[at]] ? token_at(set, text, at, &end) : -1;
        if (place < 0) {
            continue;
        }
        const struct ft_tok_added *token = t->added + place;
        if (token->single_word && !is_single_word(text, at, end)) {
            at = end - 1; /* looked at and left: nothing inside it is looked for */
            continue;
        }
        size_t done = found->end;
        found->begin = token->lstrip ? spaces_before(text, at, done < at ? done : at) : at;
        /* Spaces taken in are not skipped: a token that begins in them is found as well. */
        found->at = end;
        found->end = token->rstrip ? spaces_behind(text, end) : end;
        found->id = token->id;
        return true;
    }
    return false;
}

/* ---- reading ---- */

static enum ft_status added_id(struct ft_tokenizer *t, struct ft_bytes content, int32_t highest, int32_t *id)
{
    *id = ft_tokenizer_id(t, content);
    if (*id < 0) { /* what the file says is not asked: so do they */
        *id = highest >= (int32_t)t->model_size ? highest + 1 : (int32_t)t->model_size;
    }
    return FT_OK;
}

static enum ft_status read_token(struct ft_tokenizer *t, const struct ft_json *json, struct ft_tok_added *a,
                                 struct ft_err *err)
{
    const char *content = NULL;
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, "content", &content, err));
    FT_RETURN_IF_FAILED(ft_tok_keep(t, content, &a->content, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "single_word", &a->single_word, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "lstrip", &a->lstrip, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "rstrip", &a->rstrip, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "special", &a->special, err));
    a->normalized = !a->special;
    return ft_tok_get_bool(json, "normalized", &a->normalized, err);
}

/* Texts to look for, as they look in the text: normalised ones through the normalizers. */
static enum ft_status pattern_of(const struct ft_tokenizer *t, const struct ft_tok_added *a,
                                 struct ft_tok_scratch *s, struct ft_arena *arena, struct ft_bytes *out,
                                 struct ft_err *err)
{
    *out = a->content;
    if (!a->normalized) {
        return FT_OK;
    }
    s->text.size = 0;
    FT_RETURN_IF_FAILED(ft_buf_append(&s->text, a->content.data, a->content.size, err));
    FT_RETURN_IF_FAILED(ft_tok_normalize(t, s, err));
    const char *copy = NULL;
    FT_RETURN_IF_FAILED(ft_arena_text(arena, (const char *)s->text.data, s->text.size, &copy, err));
    *out = ft_bytes_of(copy, s->text.size);
    return FT_OK;
}

/* Special ones come first: of two that look the same the first counts. */
static enum ft_status build_set(const struct ft_tokenizer *t, bool normalized, struct ft_tok_scratch *s,
                                struct ft_tok_added_set *set, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_tok_key *keys = NULL;
    struct ft_arena arena = {0};
    size_t count = 0;
    FT_TRY(ft_new(t->added_count + 1, sizeof *keys, &keys, err));
    for (size_t i = 0; i < t->added_count; i++) {
        if (t->added[i].normalized != normalized) {
            continue;
        }
        struct ft_bytes text = {0};
        FT_TRY(pattern_of(t, t->added + i, s, &arena, &text, err));
        if (text.size > 0) {
            keys[count++] = (struct ft_tok_key){text, (int32_t)i};
            set->starts[text.data[0]] = true;
        }
    }
    set->any = count > 0;
    FT_TRY(ft_tok_trie_build(keys, count, true, &set->trie, err));
done:
    ft_arena_release(&arena);
    ft_free(keys);
    return st;
}

/* Special tokens to the front, each kind in its order. */
static enum ft_status sort_added(struct ft_tokenizer *t, struct ft_err *err)
{
    struct ft_tok_added *sorted = NULL;
    FT_RETURN_IF_FAILED(ft_new(t->added_count + 1, sizeof *sorted, &sorted, err));
    size_t count = 0;
    for (int special = 1; special >= 0; special--) {
        for (size_t i = 0; i < t->added_count; i++) {
            if (t->added[i].special == (special == 1)) {
                sorted[count++] = t->added[i];
            }
        }
    }
    ft_free(t->added);
    t->added = sorted;
    t->added_capacity = t->added_count + 1;
    return FT_OK;
}

enum ft_status ft_tok_read_added(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_tokens tokens = {0};
    int32_t highest = -1;
    size_t count = ft_json_count(json);
    if (json != NULL && ft_json_kind(json) != FT_JSON_ARRAY && ft_json_kind(json) != FT_JSON_NULL) {
        return FT_FAIL(err, INVALID, "added_tokens is no list");
    }
    for (size_t i = 0; i < count; i++) {
        struct ft_tok_added a = {0};
        FT_TRY(read_token(t, ft_json_at(json, i), &a, err));
        if (a.content.size == 0) {
            continue;
        }
        FT_TRY(added_id(t, a.content, highest, &a.id));
        highest = a.id > highest ? a.id : highest;
        FT_TRY(ft_tok_name(t, a.content, a.id, err));
        FT_TRY(ft_grow(&t->added, &t->added_capacity, t->added_count + 1, sizeof *t->added, err));
        t->added[t->added_count++] = a;
    }
    FT_TRY(sort_added(t, err));
    FT_TRY(ft_new(1, sizeof *tokens.scratch, &tokens.scratch, err));
    FT_TRY(build_set(t, false, tokens.scratch, &t->raw, err));
    FT_TRY(build_set(t, true, tokens.scratch, &t->normal, err));
done:
    ft_tokens_release(&tokens);
    return st;
}
