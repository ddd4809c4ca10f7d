/* tokenizer.json, part by part. */
#include "executor/prep/tok.h"

#include <string.h>

#include "executor/base/alloc.h"

enum ft_status ft_tok_get_text(const struct ft_json *object, const char *key, const char **out,
                               struct ft_err *err)
{
    *out = ft_json_text(ft_json_get(object, key), NULL);
    return *out != NULL ? FT_OK : FT_FAIL(err, INVALID, "\"%s\" is missing or no text", key);
}

enum ft_status ft_tok_get_bool(const struct ft_json *object, const char *key, bool *inout, struct ft_err *err)
{
    const struct ft_json *value = ft_json_get(object, key);
    if (value == NULL) {
        return FT_OK;
    }
    if (ft_json_kind(value) != FT_JSON_BOOL) {
        return FT_FAIL(err, INVALID, "\"%s\" is neither true nor false", key);
    }
    *inout = ft_json_bool(value);
    return FT_OK;
}

enum ft_status ft_tok_keep(struct ft_tokenizer *t, const char *text, struct ft_bytes *out, struct ft_err *err)
{
    const char *copy = NULL;
    size_t size = strlen(text);
    FT_RETURN_IF_FAILED(ft_arena_text(&t->arena, text, size, &copy, err));
    *out = ft_bytes_of(copy, size);
    return FT_OK;
}

/* One character of a text. */
static enum ft_status get_char(const struct ft_json *object, const char *key, uint32_t *out,
                               struct ft_err *err)
{
    const char *text = NULL;
    size_t size = 0;
    FT_RETURN_IF_FAILED(ft_tok_get_text(object, key, &text, err));
    if (text[0] != '\0') {
        *out = ft_tok_point((const uint8_t *)text, &size);
    }
    return size > 0 && text[size] == '\0' ? FT_OK : FT_FAIL(err, INVALID, "\"%s\" is not one character", key);
}

/* {"String": ".."} or {"Regex": ".."} */
static enum ft_status get_pattern(struct ft_tokenizer *t, const struct ft_json *object,
                                  struct ft_bytes *string, struct ft_tok_regex **regex, struct ft_err *err)
{
    const struct ft_json *pattern = ft_json_get(object, "pattern");
    const char *text = ft_json_text(ft_json_get(pattern, "String"), NULL);
    if (text != NULL) {
        return text[0] != '\0' ? ft_tok_keep(t, text, string, err)
                               : FT_FAIL(err, UNSUPPORTED, "an empty \"pattern\"");
    }
    text = ft_json_text(ft_json_get(pattern, "Regex"), NULL);
    return text != NULL ? ft_tok_regex_new(text, regex, err)
                        : FT_FAIL(err, INVALID, "\"pattern\" is neither String nor Regex");
}

typedef enum ft_status (*read_part)(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err);

static enum ft_status each(struct ft_tokenizer *t, const struct ft_json *json, const char *key,
                           read_part read, struct ft_err *err)
{
    const struct ft_json *list = ft_json_get(json, key);
    if (ft_json_kind(list) != FT_JSON_ARRAY) {
        return FT_FAIL(err, INVALID, "\"%s\" of a Sequence is no list", key);
    }
    for (size_t i = 0; i < ft_json_count(list); i++) {
        FT_RETURN_IF_FAILED(read(t, ft_json_at(list, i), err));
    }
    return FT_OK;
}

/* ---- normalizers ---- */

static const struct {
    const char *type;
    enum ft_tok_normal_kind kind;
} normalizers[] = {
    {"BertNormalizer", FT_TOK_BERT},
    {"NFC", FT_TOK_NFC},
    {"NFD", FT_TOK_NFD},
    {"NFKC", FT_TOK_NFKC},
    {"NFKD", FT_TOK_NFKD},
    {"Lowercase", FT_TOK_LOWERCASE},
    {"StripAccents", FT_TOK_STRIP_ACCENTS},
    {"Strip", FT_TOK_STRIP},
    {"Replace", FT_TOK_REPLACE},
    {"Prepend", FT_TOK_PREPEND},
    {"Precompiled", FT_TOK_PRECOMPILED},
    {"Nmt", FT_TOK_NMT},
    {"ByteLevel", FT_TOK_BYTES},
};

static enum ft_status get_content(struct ft_tokenizer *t, const struct ft_json *json, const char *key,
                                  const char **out, struct ft_err *err)
{
    const char *text = NULL;
    struct ft_bytes kept = {0};
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, key, &text, err));
    FT_RETURN_IF_FAILED(ft_tok_keep(t, text, &kept, err));
    *out = (const char *)kept.data;
    return FT_OK;
}

static enum ft_status read_bert(const struct ft_json *json, struct ft_tok_normalizer *n, struct ft_err *err)
{
    n->clean = n->chinese = n->lower = true;
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "clean_text", &n->clean, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "handle_chinese_chars", &n->chinese, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "lowercase", &n->lower, err));
    n->accents = n->lower; /* where strip_accents is null */
    return ft_json_kind(ft_json_get(json, "strip_accents")) == FT_JSON_NULL
               ? FT_OK
               : ft_tok_get_bool(json, "strip_accents", &n->accents, err);
}

static enum ft_status read_options(struct ft_tokenizer *t, const struct ft_json *json,
                                   struct ft_tok_normalizer *n, struct ft_err *err)
{
    const char *text = NULL;
    switch (n->kind) {
    case FT_TOK_BERT:
        return read_bert(json, n, err);
    case FT_TOK_STRIP:
        n->left = n->right = true;
        FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "strip_left", &n->left, err));
        return ft_tok_get_bool(json, "strip_right", &n->right, err);
    case FT_TOK_REPLACE:
        FT_RETURN_IF_FAILED(get_pattern(t, json, &n->pattern, &n->regex, err));
        return get_content(t, json, "content", &n->content, err);
    case FT_TOK_PREPEND:
        return get_content(t, json, "prepend", &n->content, err);
    case FT_TOK_PRECOMPILED:
        FT_RETURN_IF_FAILED(ft_tok_get_text(json, "precompiled_charsmap", &text, err));
        return ft_tok_charsmap_read(text, &n->charsmap, err);
    case FT_TOK_NFC:
    case FT_TOK_NFD:
    case FT_TOK_NFKC:
    case FT_TOK_NFKD:
    case FT_TOK_LOWERCASE:
    case FT_TOK_STRIP_ACCENTS:
    case FT_TOK_NMT:
    case FT_TOK_BYTES:
        break;
    }
    return FT_OK;
}

enum ft_status ft_tok_read_normalizer(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    if (ft_json_kind(json) == FT_JSON_NULL) {
        return FT_OK;
    }
    const char *type = NULL;
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, "type", &type, err));
    if (strcmp(type, "Sequence") == 0) {
        return each(t, json, "normalizers", ft_tok_read_normalizer, err);
    }
    for (size_t i = 0; i < sizeof normalizers / sizeof *normalizers; i++) {
        if (strcmp(type, normalizers[i].type) == 0) {
            FT_RETURN_IF_FAILED(ft_grow(&t->normalizers, &t->normalizer_capacity, t->normalizer_count + 1,
                                        sizeof *t->normalizers, err));
            struct ft_tok_normalizer *n = t->normalizers + t->normalizer_count++;
            n->kind = normalizers[i].kind;
            return read_options(t, json, n, err);
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "normalizer \"%s\" is not supported", type);
}

/* ---- pre-tokenizers ---- */

static const struct {
    const char *type;
    enum ft_tok_pre_kind kind;
} pres[] = {
    {"BertPreTokenizer", FT_TOK_PRE_BERT},
    {"Whitespace", FT_TOK_PRE_WHITESPACE},
    {"WhitespaceSplit", FT_TOK_PRE_WHITESPACE_SPLIT},
    {"ByteLevel", FT_TOK_PRE_BYTES},
    {"Metaspace", FT_TOK_PRE_METASPACE},
    {"Split", FT_TOK_PRE_SPLIT},
    {"Punctuation", FT_TOK_PRE_PUNCTUATION},
    {"Digits", FT_TOK_PRE_DIGITS},
    {"CharDelimiterSplit", FT_TOK_PRE_DELIMITER},
};

static enum ft_status get_behavior(const struct ft_json *json, bool optional, enum ft_tok_behavior *out,
                                   struct ft_err *err)
{
    static const struct {
        const char *name;
        enum ft_tok_behavior behavior;
    } names[] = {{"Removed", FT_TOK_REMOVED},
                 {"Isolated", FT_TOK_ISOLATED},
                 {"MergedWithPrevious", FT_TOK_WITH_PREVIOUS},
                 {"MergedWithNext", FT_TOK_WITH_NEXT},
                 {"Contiguous", FT_TOK_CONTIGUOUS}};
    *out = FT_TOK_ISOLATED;
    if (optional && ft_json_get(json, "behavior") == NULL) {
        return FT_OK;
    }
    const char *name = NULL;
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, "behavior", &name, err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].behavior;
            return FT_OK;
        }
    }
    return FT_FAIL(err, INVALID, "behavior \"%s\"", name);
}

static enum ft_status read_metaspace(const struct ft_json *json, struct ft_tok_pre *p, struct ft_err *err)
{
    const char *scheme = ft_json_text(ft_json_get(json, "prepend_scheme"), NULL);
    bool prefix = true;
    p->split = true;
    p->prefix = FT_TOK_ALWAYS;
    FT_RETURN_IF_FAILED(get_char(json, "replacement", &p->sign, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "split", &p->split, err));
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "add_prefix_space", &prefix, err));
    if (scheme != NULL && strcmp(scheme, "always") != 0) {
        if (strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0) {
            return FT_FAIL(err, INVALID, "prepend_scheme \"%s\"", scheme);
        }
        p->prefix = strcmp(scheme, "first") == 0 ? FT_TOK_FIRST : FT_TOK_NEVER;
    }
    if (!prefix && scheme != NULL && p->prefix != FT_TOK_NEVER) {
        return FT_FAIL(err, INVALID, "prepend_scheme \"%s\" without add_prefix_space", scheme);
    }
    p->prefix = prefix ? p->prefix : FT_TOK_NEVER;
    return FT_OK;
}

static enum ft_status read_bytes(const struct ft_json *json, struct ft_tok_pre *p, struct ft_err *err)
{
    bool prefix = true;
    p->split = p->map = true;
    FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "add_prefix_space", &prefix, err));
    p->prefix = prefix ? FT_TOK_ALWAYS : FT_TOK_NEVER;
    return ft_tok_get_bool(json, "use_regex", &p->split, err);
}

static enum ft_status read_pre_options(struct ft_tokenizer *t, const struct ft_json *json,
                                       struct ft_tok_pre *p, struct ft_err *err)
{
    bool individual = false;
    switch (p->kind) {
    case FT_TOK_PRE_BYTES:
        return read_bytes(json, p, err);
    case FT_TOK_PRE_METASPACE:
        return read_metaspace(json, p, err);
    case FT_TOK_PRE_SPLIT:
        FT_RETURN_IF_FAILED(get_pattern(t, json, &p->pattern, &p->regex, err));
        FT_RETURN_IF_FAILED(get_behavior(json, false, &p->behavior, err));
        return ft_tok_get_bool(json, "invert", &p->invert, err);
    case FT_TOK_PRE_PUNCTUATION:
        return get_behavior(json, true, &p->behavior, err);
    case FT_TOK_PRE_DIGITS:
        FT_RETURN_IF_FAILED(ft_tok_get_bool(json, "individual_digits", &individual, err));
        p->behavior = individual ? FT_TOK_ISOLATED : FT_TOK_CONTIGUOUS;
        return FT_OK;
    case FT_TOK_PRE_DELIMITER:
        p->behavior = FT_TOK_REMOVED;
        return get_char(json, "delimiter", &p->sign, err);
    case FT_TOK_PRE_BERT:
    case FT_TOK_PRE_WHITESPACE:
    case FT_TOK_PRE_WHITESPACE_SPLIT:
        p->behavior = FT_TOK_REMOVED;
        break;
    }
    return FT_OK;
}

enum ft_status ft_tok_read_pre(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    if (ft_json_kind(json) == FT_JSON_NULL) {
        return FT_OK;
    }
    const char *type = NULL;
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, "type", &type, err));
    if (strcmp(type, "Sequence") == 0) {
        return each(t, json, "pretokenizers", ft_tok_read_pre, err);
    }
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        if (strcmp(type, pres[i].type) == 0) {
            FT_RETURN_IF_FAILED(ft_grow(&t->pres, &t->pre_capacity, t->pre_count + 1, sizeof *t->pres, err));
            struct ft_tok_pre *p = t->pres + t->pre_count++;
            p->kind = pres[i].kind;
            return read_pre_options(t, json, p, err);
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "pre_tokenizer \"%s\" is not supported", type);
}

/* ---- vocabularies ---- */

enum ft_status ft_tok_name(struct ft_tokenizer *t, struct ft_bytes token, int64_t id, struct ft_err *err)
{
    if (id < 0 || id >= FT_MAX_VOCABULARY) {
        return FT_FAIL(err, LIMIT, "the id %lld of a token; ids are below %d", (long long)id,
                       FT_MAX_VOCABULARY);
    }
    FT_RETURN_IF_FAILED(ft_grow(&t->tokens, &t->token_capacity, (size_t)id + 1, sizeof *t->tokens, err));
    t->size += t->tokens[id].data == NULL ? 1 : 0;
    t->tokens[id] = token;
    t->id_end = id >= t->id_end ? (int32_t)id + 1 : t->id_end;
    return FT_OK;
}

/* {"token": id, ...}; tokens as the model meets them, which are bytes where it reads bytes. */
static enum ft_status token_key(struct ft_tokenizer *t, struct ft_bytes token,
                                const int16_t bytes_of[FT_TOK_BYTE_CHARS], struct ft_tok_key *key,
                                struct ft_err *err)
{
    key->text = token;
    if (!t->model.raw_bytes) {
        return FT_OK;
    }
    char *bytes = NULL;
    size_t count = 0;
    FT_RETURN_IF_FAILED(ft_arena_new(&t->arena, token.size + 1, 1, &bytes, err));
    size_t n = 0;
    for (size_t at = 0; at < token.size; at += n) {
        uint32_t c = ft_tok_point(token.data + at, &n);
        int byte = c < FT_TOK_BYTE_CHARS ? bytes_of[c] : -1;
        if (byte < 0) { /* no word has such a character */
            key->text.size = 0;
            return FT_OK;
        }
        bytes[count++] = (char)byte;
    }
    key->text = ft_bytes_of(bytes, count);
    return FT_OK;
}

static enum ft_status read_vocab(struct ft_tokenizer *t, const struct ft_json *vocab, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_tok_key *keys = NULL;
    size_t count = 0;
    if (ft_json_kind(vocab) != FT_JSON_OBJECT) {
        return FT_FAIL(err, INVALID, "model.vocab is no object");
    }
    int16_t bytes_of[FT_TOK_BYTE_CHARS];
    ft_tok_char_bytes(bytes_of);
    FT_TRY(ft_new(ft_json_count(vocab) + 1, sizeof *keys, &keys, err));
    for (struct ft_json_iter *it = ft_json_first(vocab); it != NULL; it = ft_json_next(vocab, it)) {
        const struct ft_json *id = ft_json_value(it);
        struct ft_bytes token = {0};
        FT_TRY(ft_tok_keep(t, ft_json_key(it), &token, err));
        FT_TRY(ft_tok_name(t, token, ft_json_is_integral(id) ? ft_json_int(id) : -1, err));
        FT_TRY(token_key(t, token, bytes_of, keys + count, err));
        keys[count].value = (int32_t)ft_json_int(id);
        count += keys[count].text.size > 0 ? 1 : 0;
    }
    t->model_size = ft_json_count(vocab);
    FT_TRY(ft_tok_trie_build(keys, count, false, &t->model.vocab, err));
done:
    ft_free(keys);
    return st;
}

/* The id of a token of the vocabulary by its name in the file. */
static int32_t id_by_name(const struct ft_json *vocab, const char *token)
{
    const struct ft_json *id = ft_json_get(vocab, token);
    return id != NULL ? (int32_t)ft_json_int(id) : -1;
}

static enum ft_status read_unk(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    const char *unk = NULL;
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, "unk_token", &unk, err));
    t->model.unk = id_by_name(ft_json_get(json, "vocab"), unk);
    return t->model.unk >= 0 ? FT_OK
                             : FT_FAIL(err, INVALID, "model.vocab lacks its unknown token \"%s\"", unk);
}

static enum ft_status read_wordpiece(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    const char *prefix = NULL;
    const struct ft_json *longest = ft_json_get(json, "max_input_chars_per_word");
    FT_RETURN_IF_FAILED(read_unk(t, json, err));
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, "continuing_subword_prefix", &prefix, err));
    if (longest != NULL && (!ft_json_is_integral(longest) || ft_json_int(longest) < 0)) {
        return FT_FAIL(err, INVALID, "model.max_input_chars_per_word is no number");
    }
    t->model.max_chars = longest != NULL ? (size_t)ft_json_int(longest) : 100;
    t->model.continuing = ft_tok_walk(&t->model.vocab, FT_TOK_ROOT, ft_bytes_of_text(prefix));
    return FT_OK;
}

enum ft_status ft_tok_read_model(struct ft_tokenizer *t, const struct ft_json *json, struct ft_err *err)
{
    const char *type = NULL;
    FT_RETURN_IF_FAILED(ft_tok_get_text(json, "type", &type, err));
    t->model.unk = -1;
    if (strcmp(type, "Unigram") == 0) {
        t->model.kind = FT_TOK_UNIGRAM;
        return ft_tok_read_unigram(t, json, err);
    }
    if (strcmp(type, "BPE") == 0) {
        t->model.kind = FT_TOK_BPE;
        FT_RETURN_IF_FAILED(ft_tok_prepare_bpe(t, json, err));
        FT_RETURN_IF_FAILED(read_vocab(t, ft_json_get(json, "vocab"), err));
        return ft_tok_read_bpe(t, json, err);
    }
    if (strcmp(type, "WordPiece") != 0 && strcmp(type, "WordLevel") != 0) {
        return FT_FAIL(err, UNSUPPORTED, "model \"%s\" is not supported", type);
    }
    FT_RETURN_IF_FAILED(read_vocab(t, ft_json_get(json, "vocab"), err));
    t->model.kind = strcmp(type, "WordPiece") == 0 ? FT_TOK_WORDPIECE : FT_TOK_WORDLEVEL;
    return t->model.kind == FT_TOK_WORDPIECE ? read_wordpiece(t, json, err) : read_unk(t, json, err);
}
