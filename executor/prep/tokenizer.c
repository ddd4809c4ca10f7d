#include "executor/prep/tokenizer.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/digest.h"
#include "executor/prep/tok.h"

/* ---- reading ---- */

static enum ft_status read_truncation(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    if (ft_json_kind(json) == FT_JSON_NULL) {
        return FT_OK;
    }
    const struct ft_json *most = ft_json_get(json, "max_length");
    const char *direction = ft_json_text(ft_json_get(json, "direction"), NULL);
    if (!ft_json_is_integral(most) || ft_json_int(most) < 0) {
        return FT_FAIL(err, INVALID, "truncation.max_length is no number");
    }
    t->max_tokens = (size_t)ft_json_int(most);
    t->cut_left = direction != NULL && strcmp(direction, "Left") == 0;
    if (direction != NULL && !t->cut_left && strcmp(direction, "Right") != 0) {
        return FT_FAIL(err, INVALID, "truncation.direction \"%s\"", direction);
    }
    return FT_OK;
}

static void find_roles(struct ft_tokenizer *t, const struct ft_json *json)
{
    static const char *const names[][2] = {
        {"[UNK]", "<unk>"}, {"[PAD]", "<pad>"}, {"[CLS]", "<s>"}, {"[SEP]", "</s>"}, {"[MASK]", "<mask>"}};
    for (int role = FT_TOKEN_UNK; role <= FT_TOKEN_MASK; role++) {
        int32_t id = ft_tokenizer_id(t, ft_bytes_of_text(names[role][0]));
        t->roles[role] = id >= 0 ? id : ft_tokenizer_id(t, ft_bytes_of_text(names[role][1]));
    }
    t->roles[FT_TOKEN_UNK] = t->model.unk >= 0 ? t->model.unk : t->roles[FT_TOKEN_UNK];
    const char *pad = ft_json_text(ft_json_get(ft_json_get(json, "padding"), "pad_token"), NULL);
    int32_t id = pad != NULL ? ft_tokenizer_id(t, ft_bytes_of_text(pad)) : -1;
    t->roles[FT_TOKEN_PAD] = id >= 0 ? id : t->roles[FT_TOKEN_PAD];
}

static enum ft_status read_all(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    if (ft_json_kind(json) != FT_JSON_OBJECT || ft_json_kind(ft_json_get(json, "model")) != FT_JSON_OBJECT) {
        return FT_FAIL(err, INVALID, "no \"model\": not a tokenizer.json");
    }
    FT_RETURN_IF_FAILED(ft_tok_read_normalizer(t, ft_json_get(json, "normalizer"), err));
    FT_RETURN_IF_FAILED(ft_tok_read_pre(t, ft_json_get(json, "pre_tokenizer"), err));
    FT_RETURN_IF_FAILED(ft_tok_read_model(t, ft_json_get(json, "model"), err));
    FT_RETURN_IF_FAILED(ft_tok_read_added(t, ft_json_get(json, "added_tokens"), err));
    FT_RETURN_IF_FAILED(ft_tok_read_post(t, ft_json_get(json, "post_processor"), err));
    FT_RETURN_IF_FAILED(read_truncation(t, ft_json_get(json, "truncation"), err));
    find_roles(t, json);
    return FT_OK;
}

enum ft_status ft_tokenizer_of(const struct ft_json *tree, const char *fingerprint,
                               struct ft_tokenizer **tokenizer, struct ft_err *err)
{
    struct ft_tokenizer *t = NULL;
    *tokenizer = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *t, &t, err));
    (void)snprintf(t->fingerprint, sizeof t->fingerprint, "%s", fingerprint);
    enum ft_status st = read_all(t, tree, err);
    if (st != FT_OK) {
        ft_tokenizer_free(t);
        return st;
    }
    *tokenizer = t;
    return FT_OK;
}

enum ft_status ft_tokenizer_read(struct ft_bytes json, const char *name, struct ft_tokenizer **tokenizer,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *tree = NULL;
    char hex[FT_SHA256_HEX];
    *tokenizer = NULL;
    if (json.size > FT_MAX_TOKENIZER_BYTES) {
        return FT_FAIL(err, LIMIT, "%s: %zu bytes; a tokenizer has at most %d", name, json.size,
                       FT_MAX_TOKENIZER_BYTES);
    }
    FT_TRY(ft_json_parse(json, &tree, err));
    ft_sha256_of(json, hex);
    FT_TRY(ft_tokenizer_of(tree, hex, tokenizer, err));
done:
    ft_json_free(tree);
    return st == FT_OK ? FT_OK : ft_err_wrap(err, "%s", name);
}

void ft_tokenizer_free(struct ft_tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->normalizer_count; i++) {
        ft_tok_regex_free(t->normalizers[i].regex);
        ft_tok_charsmap_free(t->normalizers[i].charsmap);
    }
    for (size_t i = 0; i < t->pre_count; i++) {
        ft_tok_regex_free(t->pres[i].regex);
    }
    ft_free(t->normalizers);
    ft_free(t->pres);
    ft_tok_trie_release(&t->model.vocab);
    ft_free(t->model.merges);
    ft_free(t->model.scores);
    ft_free(t->tokens);
    ft_free(t->added);
    ft_tok_trie_release(&t->raw.trie);
    ft_tok_trie_release(&t->normal.trie);
    ft_free(t->around_ids);
    ft_free(t->around_types);
    ft_arena_release(&t->arena);
    ft_free(t);
}

/* ---- encoding ---- */

static enum ft_status scratch_for(const struct ft_tokenizer *t, struct ft_tokens *tokens, struct ft_err *err)
{
    if (tokens->scratch == NULL) {
        FT_RETURN_IF_FAILED(ft_new(1, sizeof *tokens->scratch, &tokens->scratch, err));
    }
    struct ft_tok_scratch *s = tokens->scratch;
    if (s->cache == NULL) {
        FT_RETURN_IF_FAILED(ft_new(FT_TOK_CACHE_SIZE, sizeof *s->cache, &s->cache, err));
    } else if (memcmp(s->fingerprint, t->fingerprint, sizeof s->fingerprint) != 0) {
        memset(s->cache, 0, FT_TOK_CACHE_SIZE * sizeof *s->cache);
    }
    memcpy(s->fingerprint, t->fingerprint, sizeof s->fingerprint);
    return FT_OK;
}

/* One text under way: `enough` ids and the rest need not be done. */
struct encoding {
    const struct ft_tokenizer *t;
    struct ft_tok_scratch *s;
    struct ft_tokens *out;
    size_t enough;
    struct ft_err *err;
};

static enum ft_status set_text(struct ft_buf *buf, struct ft_bytes text, struct ft_err *err)
{
    buf->size = 0;
    return ft_buf_append(buf, text.data, text.size, err);
}

/* s->text, normalised and without added tokens, to ids. */
static enum ft_status words_to_ids(struct encoding *e, bool first)
{
    FT_RETURN_IF_FAILED(ft_tok_pretokenize(e->t, e->s, first, e->err));
    for (size_t i = 0; i < e->s->span_count && e->out->count < e->enough; i++) {
        struct ft_tok_span span = e->s->spans[i];
        struct ft_bytes word = ft_bytes_of(e->s->text.data + span.begin, span.end - span.begin);
        FT_RETURN_IF_FAILED(ft_tok_model_ids(&e->t->model, word, e->s, e->out, e->err));
    }
    return FT_OK;
}

/* s->text, normalised, to ids: between the added tokens that are looked for there. */
static enum ft_status normal_to_ids(struct encoding *e, bool first)
{
    struct ft_tok_found found = {0};
    struct ft_bytes text = ft_buf_bytes(&e->s->text);
    if (!ft_tok_added_next(e->t, &e->t->normal, text, &found)) {
        return words_to_ids(e, first);
    }
    struct ft_buf keep = e->s->normal;
    e->s->normal = e->s->text;
    e->s->text = keep;
    size_t done = 0;
    do {
        if (done < found.begin) {
            struct ft_bytes piece = ft_bytes_of(text.data + done, found.begin - done);
            FT_RETURN_IF_FAILED(set_text(&e->s->text, piece, e->err));
            FT_RETURN_IF_FAILED(words_to_ids(e, first && done == 0));
        }
        FT_RETURN_IF_FAILED(ft_tok_push(e->out, found.id, e->err));
        done = found.end;
    } while (e->out->count < e->enough && ft_tok_added_next(e->t, &e->t->normal, text, &found));
    if (done < text.size && e->out->count < e->enough) {
        FT_RETURN_IF_FAILED(set_text(&e->s->text, ft_bytes_of(text.data + done, text.size - done), e->err));
        return words_to_ids(e, first && done == 0);
    }
    return FT_OK;
}

static enum ft_status piece_to_ids(struct encoding *e, struct ft_bytes piece, bool first)
{
    FT_RETURN_IF_FAILED(set_text(&e->s->text, piece, e->err));
    FT_RETURN_IF_FAILED(ft_tok_normalize(e->t, e->s, e->err));
    return e->s->text.size > 0 ? normal_to_ids(e, first && e->s->first) : FT_OK;
}

static enum ft_status text_to_ids(struct encoding *e, struct ft_bytes text)
{
    struct ft_tok_found found = {0};
    size_t done = 0;
    while (e->out->count < e->enough && ft_tok_added_next(e->t, &e->t->raw, text, &found)) {
        if (done < found.begin) {
            FT_RETURN_IF_FAILED(
                piece_to_ids(e, ft_bytes_of(text.data + done, found.begin - done), done == 0));
        }
        FT_RETURN_IF_FAILED(ft_tok_push(e->out, found.id, e->err));
        done = found.end;
    }
    return done < text.size && e->out->count < e->enough
               ? piece_to_ids(e, ft_bytes_of(text.data + done, text.size - done), done == 0)
               : FT_OK;
}

/* Cut to `room` ids and put the special tokens around them. */
static enum ft_status finish(const struct ft_tokenizer *t, struct ft_tokens *out, size_t room,
                             struct ft_err *err)
{
    size_t before = t->before_count;
    size_t behind = t->around_count - before;
    size_t kept = out->count < room ? out->count : room;
    size_t from = t->cut_left ? out->count - kept : 0;
    for (size_t i = 0; i < t->around_count; i++) {
        FT_RETURN_IF_FAILED(ft_tok_push(out, 0, err));
    }
    if (out->ids == NULL) {
        return FT_OK;
    }
    memmove(out->ids + before, out->ids + from, kept * sizeof *out->ids);
    if (t->around_count > 0) {
        memcpy(out->ids, t->around_ids, before * sizeof *out->ids);
        memcpy(out->type_ids, t->around_types, before * sizeof *out->ids);
        memcpy(out->ids + before + kept, t->around_ids + before, behind * sizeof *out->ids);
        memcpy(out->type_ids + before + kept, t->around_types + before, behind * sizeof *out->ids);
    }
    for (size_t i = before; i < before + kept; i++) {
        out->type_ids[i] = t->type_id;
    }
    out->count = before + kept + behind;
    return FT_OK;
}

enum ft_status ft_tokenizer_encode(const struct ft_tokenizer *t, const char *text, size_t size,
                                   size_t max_tokens, struct ft_tokens *tokens, struct ft_err *err)
{
    tokens->count = 0;
    if (max_tokens > 0 && max_tokens < t->around_count) {
        return FT_FAIL(err, USAGE, "at most %zu tokens, and the tokenizer itself adds %zu", max_tokens,
                       t->around_count);
    }
    FT_RETURN_IF_FAILED(scratch_for(t, tokens, err));
    struct ft_bytes bytes = ft_bytes_of(text, size);
    if (!ft_utf8_valid(bytes)) {
        tokens->scratch->clean.size = 0;
        FT_RETURN_IF_FAILED(ft_tok_repair(bytes, &tokens->scratch->clean, err));
        bytes = ft_buf_bytes(&tokens->scratch->clean);
    }
    size_t room = max_tokens > 0 ? max_tokens - t->around_count : SIZE_MAX;
    struct encoding e = {t, tokens->scratch, tokens, t->cut_left ? SIZE_MAX : room, err};
    enum ft_status st = text_to_ids(&e, bytes);
    if (st == FT_OK) {
        st = finish(t, tokens, room, err);
    }
    tokens->count = st == FT_OK ? tokens->count : 0;
    return st;
}

void ft_tokens_release(struct ft_tokens *tokens)
{
    struct ft_tok_scratch *s = tokens->scratch;
    if (s != NULL) {
        ft_free(s->cache);
        ft_buf_release(&s->clean);
        ft_buf_release(&s->normal);
        ft_buf_release(&s->text);
        ft_buf_release(&s->other);
        ft_buf_release(&s->shadow);
        ft_free(s->spans);
        ft_free(s->fresh);
        ft_free(s->points.at);
        ft_free(s->symbols);
        ft_free(s->heap);
        ft_free(s->best);
        ft_tok_match_free(s->match);
        ft_free(s);
    }
    ft_free(tokens->ids);
    ft_free(tokens->type_ids);
    *tokens = (struct ft_tokens){0};
}

/* ---- questions ---- */

size_t ft_tokenizer_size(const struct ft_tokenizer *t)
{
    return t->size;
}

int32_t ft_tokenizer_id_end(const struct ft_tokenizer *t)
{
    return t->id_end;
}

int32_t ft_tokenizer_id(const struct ft_tokenizer *t, struct ft_bytes token)
{
    for (size_t i = 0; i < t->added_count; i++) {
        if (ft_bytes_equal(t->added[i].content, token)) {
            return t->added[i].id;
        }
    }
    if (!t->model.raw_bytes) {
        return ft_tok_find(&t->model.vocab, token);
    }
    /* The trie has bytes; this is for a few special tokens. */
    for (int32_t id = 0; id < t->id_end; id++) {
        if (t->tokens[id].data != NULL && ft_bytes_equal(t->tokens[id], token)) {
            return id;
        }
    }
    return -1;
}

struct ft_bytes ft_tokenizer_token(const struct ft_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->id_end ? t->tokens[id] : (struct ft_bytes){0};
}

int32_t ft_tokenizer_role(const struct ft_tokenizer *t, enum ft_token_role role)
{
    assert(role <= FT_TOKEN_MASK);
    return t->roles[role];
}

size_t ft_tokenizer_max_tokens(const struct ft_tokenizer *t)
{
    return t->max_tokens;
}

size_t ft_tokenizer_special_count(const struct ft_tokenizer *t)
{
    return t->around_count;
}
