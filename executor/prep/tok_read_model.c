/* The models BPE and Unigram of a tokenizer.json. */
#include "executor/prep/tok.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"

/* ---- BPE ---- */

static enum ft_status get_optional(struct ft_tokenizer *t, const struct ft_json *json, const char *key,
                                   struct ft_bytes *out, struct ft_err *err)
{
    const char *text = ft_json_text(ft_json_get(json, key), NULL);
    return text != NULL ? ft_tok_keep(t, text, out, err) : FT_OK;
}

enum ft_status ft_tok_prepare_bpe(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    struct ft_tok_model *m = &t->model;
    const struct ft_json *dropout = ft_json_get(json, "dropout");
    if (ft_json_kind(dropout) != FT_JSON_NULL && ft_json_real(dropout) != 0) {
        return FT_FAIL(err, UNSUPPORTED, "model.dropout is not supported: ids would be random");
    }
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "fuse_unk", &m->fuse_unk, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "byte_fallback", &m->byte_fallback, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "ignore_merges", &m->ignore_merges, err));
    FT_RETURN_IF_FAILED(get_optional(t, json, "continuing_subword_prefix", &m->prefix, err));
    FT_RETURN_IF_FAILED(get_optional(t, json, "end_of_word_suffix", &m->suffix, err));
    bool affixes = m->prefix.size > 0 || m->suffix.size > 0;
    if (affixes && m->byte_fallback) {
        return FT_FAIL(err, UNSUPPORTED,
                       "model.byte_fallback together with prefix or suffix is not supported");
    }
    /* Characters for bytes need not be written where nothing but the model reads them. */
    struct ft_tok_pre *last = t->pre_count > 0 ? t->pres + t->pre_count - 1 : NULL;
    m->raw_bytes = last != NULL && last->kind == FT_TOK_PRE_BYTES && !affixes && !m->byte_fallback;
    if (m->raw_bytes) {
        last->map = false;
    }
    return FT_OK;
}

static void read_byte_ids(struct ft_tok_model *m)
{
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        uint8_t raw = (uint8_t)byte;
        (void)snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        m->byte_ids[byte] =
            ft_tok_find(&m->vocab, m->raw_bytes ? ft_bytes_of(&raw, 1) : ft_bytes_of_text(name));
    }
}

static enum ft_status merge_error(const char *left, size_t left_size, const char *right, struct ft_err *err)
{
    return FT_FAIL(err, INVALID, "model.merges: \"%.*s %.100s\" is not of the vocabulary",
                   left_size < 100 ? (int)left_size : 100, left, right);
}

struct merge_reader {
    struct ft_tok_model *m;
    const struct ft_json *vocab;
    struct ft_buf name;
    struct ft_err *err;
};

static enum ft_status id_of(struct merge_reader *r, const char *text, size_t size, int32_t *id)
{
    r->name.size = 0;
    FT_RETURN_IF_FAILED(ft_buf_append(&r->name, text, size, r->err));
    const struct ft_json *value = ft_json_get(r->vocab, (const char *)r->name.data);
    *id = value != NULL ? (int32_t)ft_json_int(value) : -1;
    return FT_OK;
}

static void put_merge(struct ft_tok_model *m, struct ft_tok_merge merge)
{
    size_t at = (size_t)((merge.pair * 0x9e3779b97f4a7c15u) >> 20) & m->merge_mask;
    while (m->merges[at].pair != FT_TOK_NO_PAIR && m->merges[at].pair != merge.pair) {
        at = (at + 1) & m->merge_mask;
    }
    m->merges[at] = merge; /* of a pair that stands there twice the last counts */
}

static enum ft_status read_merge(struct merge_reader *r, const struct ft_json *json, size_t rank)
{
    const char *left = ft_json_text(ft_json_kind(json) == FT_JSON_ARRAY ? ft_json_at(json, 0) : json, NULL);
    const char *right = ft_json_text(ft_json_at(json, 1), NULL);
    size_t size = left != NULL ? strlen(left) : 0;
    if (ft_json_kind(json) == FT_JSON_TEXT) {
        const char *space = strchr(left, ' ');
        size = space != NULL ? (size_t)(space - left) : 0;
        right = space != NULL && strchr(space + 1, ' ') == NULL ? space + 1 : NULL;
    }
    if (left == NULL || right == NULL || (ft_json_kind(json) == FT_JSON_ARRAY && ft_json_count(json) != 2)) {
        return FT_FAIL(r->err, INVALID, "model.merges: entry %zu is no pair", rank);
    }
    int32_t ids[3];
    FT_RETURN_IF_FAILED(id_of(r, left, size, ids));
    FT_RETURN_IF_FAILED(id_of(r, right, strlen(right), ids + 1));
    size_t cut = r->m->prefix.size;
    if (ids[0] < 0 || ids[1] < 0 || strlen(right) < cut) {
        return merge_error(left, size, right, r->err);
    }
    r->name.size = 0;
    FT_RETURN_IF_FAILED(ft_buf_append(&r->name, left, size, r->err));
    FT_RETURN_IF_FAILED(ft_buf_text(&r->name, right + cut, r->err));
    const struct ft_json *both = ft_json_get(r->vocab, (const char *)r->name.data);
    if (both == NULL) {
        return merge_error(left, size, right, r->err);
    }
    put_merge(r->m, (struct ft_tok_merge){(uint64_t)(uint32_t)ids[0] << 32 | (uint32_t)ids[1], (uint32_t)rank,
                                          (int32_t)ft_json_int(both)});
    return FT_OK;
}

enum ft_status ft_tok_read_bpe(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    struct ft_tok_model *m = &t->model;
    const struct ft_json *merges = ft_json_get(json, "merges");
    size_t count = ft_json_count(merges);
    size_t room = 16;
    if (ft_json_kind(merges) != FT_JSON_ARRAY || count > FT_MAX_VOCABULARY) {
        return FT_FAIL(err, INVALID, "model.merges is no list, or one of too many");
    }
    while (room < 2 * count) {
        room *= 2;
    }
    FT_RETURN_IF_FAILED(ft_new(room, sizeof *m->merges, &m->merges, err));
    m->merge_mask = room - 1;
    for (size_t i = 0; i < room; i++) {
        m->merges[i].pair = FT_TOK_NO_PAIR;
    }
    struct merge_reader r = {.m = m, .vocab = ft_json_get(json, "vocab"), .err = err};
    enum ft_status st = FT_OK;
    for (size_t i = 0; i < count && st == FT_OK; i++) {
        st = read_merge(&r, ft_json_at(merges, i), i);
    }
    ft_buf_release(&r.name);
    FT_RETURN_IF_FAILED(st);
    m->continuing = ft_tok_walk(&m->vocab, FT_TOK_ROOT, m->prefix);
    read_byte_ids(m);
    const char *unk = ft_json_text(ft_json_get(json, "unk_token"), NULL);
    if (unk == NULL) {
        return FT_OK;
    }
    const struct ft_json *id = ft_json_get(ft_json_get(json, "vocab"), unk);
    m->unk = id != NULL ? (int32_t)ft_json_int(id) : -1;
    return id != NULL ? FT_OK : FT_FAIL(err, INVALID, "model.vocab lacks its unknown token \"%s\"", unk);
}

/* ---- Unigram ---- */

/* serde_json reads digits as a whole number and divides by a power of ten, rounding twice; equal sums of
 * scores are common, so the same bits are needed. The number is written with the fewest digits that give it,
 * as files have it. */
static double as_serde(double x)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*e", digits - 1, fabs(x));
        if (strtod(text, NULL) == fabs(x)) {
            break;
        }
    }
    char *e = strchr(text, 'e');
    long exponent = strtol(e + 1, NULL, 10);
    while (e[-1] == '0') { /* 1.500000e+00 is 15 / 10 */
        e--;
    }
    uint64_t whole = 0;
    long places = -1;
    for (const char *p = text; p < e; p++) {
        if (*p >= '0' && *p <= '9') {
            whole = 10 * whole + (uint64_t)(*p - '0');
            places++;
        }
    }
    exponent -= places;
    double y = (double)whole;
    /* Powers beyond 1e22 are not exact; strtod() rounds them as a compiler does. */
    char power[16];
    (void)snprintf(power, sizeof power, "1e%ld", labs(exponent) <= 308 ? labs(exponent) : 308);
    y = exponent < 0 ? y / strtod(power, NULL) : y * strtod(power, NULL);
    return x < 0 ? -y : y;
}

static enum ft_status read_piece(struct ft_tokenizer *t, const struct ft_json *json, size_t id,
                                 struct ft_tok_key *key, struct ft_err *err)
{
    const char *token = ft_json_text(ft_json_at(json, 0), NULL);
    const struct ft_json *score = ft_json_at(json, 1);
    if (ft_json_count(json) != 2 || token == NULL || !ft_json_is_number(score)) {
        return FT_FAIL(err, INVALID, "model.vocab: entry %zu is no pair of token and score", id);
    }
    FT_RETURN_IF_FAILED(ft_tok_keep(t, token, &key->text, err));
    FT_RETURN_IF_FAILED(ft_tok_name(t, key->text, (int64_t)id, err));
    key->value = (int32_t)id;
    double x = ft_json_real(score);
    t->model.scores[id] = ft_json_kind(score) == FT_JSON_REAL && x != 0 ? as_serde(x) : x;
    return FT_OK;
}

enum ft_status ft_tok_read_unigram(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_tok_model *m = &t->model;
    struct ft_tok_key *keys = NULL;
    const struct ft_json *vocab = ft_json_get(json, "vocab");
    const struct ft_json *unk = ft_json_get(json, "unk_id");
    size_t count = ft_json_count(vocab);
    size_t used = 0;
    double lowest = INFINITY;
    if (ft_json_kind(vocab) != FT_JSON_ARRAY || count > FT_MAX_VOCABULARY) {
        return FT_FAIL(err, INVALID, "model.vocab is no list, or one of too many");
    }
    if (!ft_json_is_integral(unk) || ft_json_int(unk) < 0 || (size_t)ft_json_int(unk) >= count) {
        return FT_FAIL(err, UNSUPPORTED, "model.unk_id is not of the vocabulary");
    }
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "byte_fallback", &m->byte_fallback, err));
    FT_TRY(ft_new(count, sizeof *keys, &keys, err));
    FT_TRY(ft_new(count, sizeof *m->scores, &m->scores, err));
    for (size_t i = 0; i < count; i++) {
        FT_TRY(read_piece(t, ft_json_at(vocab, i), i, keys + used, err));
        lowest = m->scores[i] < lowest ? m->scores[i] : lowest;
        used += keys[used].text.size > 0 ? 1 : 0;
    }
    m->unk = (int32_t)ft_json_int(unk);
    m->unk_score = lowest - 10; /* kUnkPenalty of sentencepiece */
    t->model_size = count;
    FT_TRY(ft_tok_trie_build(keys, used, false, &m->vocab, err));
    read_byte_ids(m);
done:
    ft_free(keys);
    return st;
}
