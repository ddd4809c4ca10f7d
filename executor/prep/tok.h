/*
 * tok.h - the parts of a tokenizer and the scratch memory of one thread. Private to prep/.
 *
 * A text goes: valid UTF-8 -> split at added tokens (tok_added.c) -> normalised (tok_normalize.c) -> split at
 * added tokens that are normalised -> spans (tok_pretokenize.c) -> ids (tok_model.c and one file a model) ->
 * cut, special tokens put around (tok_post.c). Every step is described where `tokenizers` does something
 * unexpected.
 */
#ifndef FT_PREP_TOK_H
#define FT_PREP_TOK_H

#include "executor/base/arena.h"
#include "executor/base/limits.h"
#include "executor/codec/json.h"
#include "executor/prep/tok_trie.h"
#include "executor/prep/tok_unicode.h"
#include "executor/prep/tokenizer.h"

struct ft_tok_regex; /* tok_regex.c */

/* ---- what a tokenizer is made of ---- */

enum ft_tok_normal_kind {
    FT_TOK_BERT,
    FT_TOK_NFC,
    FT_TOK_NFD,
    FT_TOK_NFKC,
    FT_TOK_NFKD,
    FT_TOK_LOWERCASE,
    FT_TOK_STRIP_ACCENTS,
    FT_TOK_STRIP,
    FT_TOK_REPLACE,
    FT_TOK_PREPEND,
    FT_TOK_PRECOMPILED,
    FT_TOK_NMT,
    FT_TOK_BYTES
};

struct ft_tok_normalizer {
    enum ft_tok_normal_kind kind;
    bool clean, chinese, accents, lower; /* FT_TOK_BERT */
    bool left, right;                    /* FT_TOK_STRIP */
    const char *content;                 /* FT_TOK_REPLACE, FT_TOK_PREPEND; in the arena */
    struct ft_bytes pattern;             /* FT_TOK_REPLACE of a string */
    struct ft_tok_regex *regex;          /* FT_TOK_REPLACE of a regular expression */
    struct ft_tok_charsmap *charsmap;    /* FT_TOK_PRECOMPILED */
};

enum ft_tok_pre_kind {
    FT_TOK_PRE_BERT,
    FT_TOK_PRE_WHITESPACE,
    FT_TOK_PRE_WHITESPACE_SPLIT,
    FT_TOK_PRE_BYTES,
    FT_TOK_PRE_METASPACE,
    FT_TOK_PRE_SPLIT,
    FT_TOK_PRE_PUNCTUATION,
    FT_TOK_PRE_DIGITS,
    FT_TOK_PRE_DELIMITER
};

/* What becomes of the matches of a split (tokenizers' SplitDelimiterBehavior). */
enum ft_tok_behavior {
    FT_TOK_REMOVED,
    FT_TOK_ISOLATED,
    FT_TOK_WITH_PREVIOUS,
    FT_TOK_WITH_NEXT,
    FT_TOK_CONTIGUOUS
};

enum ft_tok_prefix { FT_TOK_NEVER, FT_TOK_FIRST, FT_TOK_ALWAYS };

struct ft_tok_pre {
    enum ft_tok_pre_kind kind;
    enum ft_tok_behavior behavior;
    enum ft_tok_prefix prefix;  /* Metaspace; of ByteLevel: always or never */
    bool split;                 /* Metaspace: at its sign; ByteLevel: by GPT-2's expression */
    bool map;                   /* ByteLevel: write bytes as characters; not where the model reads bytes */
    bool invert;                /* Split */
    uint32_t sign;              /* Metaspace's replacement, CharDelimiterSplit's delimiter */
    struct ft_bytes pattern;    /* Split at a string */
    struct ft_tok_regex *regex; /* Split by a regular expression */
};

enum ft_tok_model_kind { FT_TOK_WORDPIECE, FT_TOK_BPE, FT_TOK_UNIGRAM, FT_TOK_WORDLEVEL };

struct ft_tok_merge {
    uint64_t pair; /* left << 32 | right; FT_TOK_NO_PAIR: free */
    uint32_t rank;
    int32_t id;
};
#define FT_TOK_NO_PAIR UINT64_MAX

struct ft_tok_model {
    enum ft_tok_model_kind kind;
    struct ft_tok_trie vocab; /* of tokens; bytes of characters where raw_bytes */
    int32_t unk;              /* -1: none */
    /* WordPiece */
    int32_t continuing; /* the node behind "##"; FT_TOK_NOWHERE: no token begins with it */
    size_t max_chars;
    /* BPE */
    struct ft_tok_merge *merges; /* open addressing, merge_mask + 1 of them */
    size_t merge_mask;
    int32_t byte_ids[256]; /* of "<0x41>" with byte_fallback, of the character of a byte where raw_bytes */
    bool byte_fallback, fuse_unk, ignore_merges, raw_bytes;
    struct ft_bytes prefix, suffix; /* continuing_subword_prefix, end_of_word_suffix */
    /* Unigram */
    double *scores; /* by id */
    double unk_score;
};

struct ft_tok_added {
    struct ft_bytes content;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
};

/* A normalised added token is found in the normalised text, the others in the text as it came. */
struct ft_tok_added_set {
    struct ft_tok_trie trie; /* values: places in `added` */
    bool starts[256];        /* bytes that one begins with */
    bool any;
};

struct ft_tokenizer {
    struct ft_arena arena; /* texts below */
    char fingerprint[72];  /* of the file: whose ids a cache holds */
    struct ft_tok_normalizer *normalizers;
    size_t normalizer_count, normalizer_capacity;
    struct ft_tok_pre *pres;
    size_t pre_count, pre_capacity;
    struct ft_tok_model model;
    struct ft_bytes *tokens; /* by id; {NULL, 0}: none */
    size_t token_capacity;
    int32_t id_end;
    size_t size;       /* tokens of the model and added ones */
    size_t model_size; /* tokens of the model */
    struct ft_tok_added *added;
    size_t added_count, added_capacity;
    struct ft_tok_added_set raw, normal;
    /* What is put around a text. */
    int32_t *around_ids, *around_types; /* before_count, then after_count */
    size_t around_count, around_capacity, before_count;
    int32_t type_id; /* of the text itself */
    size_t max_tokens;
    bool cut_left;
    int32_t roles[FT_TOKEN_MASK + 1];
};

/* ---- scratch of one thread ---- */

struct ft_tok_span {
    size_t begin, end; /* in scratch->text */
    bool first;        /* begins where the text given to encode began */
};

struct ft_tok_symbol {
    int32_t id;
    int32_t previous, next; /* -1: none */
};

struct ft_tok_best { /* Viterbi: the best way to a place in the span */
    double score;
    int32_t id;    /* of the last token on it */
    uint32_t from; /* where that begins; UINT32_MAX: not reached */
};

enum { FT_TOK_CACHED_BYTES = 24, FT_TOK_CACHED_IDS = 9, FT_TOK_CACHE_SIZE = 1 << 14 };

/* A word and its ids in one cache line; a later word of the same place takes it over. */
struct ft_tok_cached {
    uint64_t key[FT_TOK_CACHED_BYTES / 8]; /* padded with zeros */
    uint8_t size, count;                   /* size 0: free */
    uint16_t unused;
    int32_t ids[FT_TOK_CACHED_IDS];
};

struct ft_tok_scratch {
    char fingerprint[72]; /* of the tokenizer that filled the cache */
    struct ft_tok_cached *cache;
    struct ft_buf clean;  /* the text, where it was not UTF-8 */
    struct ft_buf normal; /* the normalised text, where added tokens cut it */
    struct ft_buf text;   /* what is worked on */
    struct ft_buf other;  /* what it becomes; the two change places */
    struct ft_buf shadow; /* what PCRE2 sees */
    struct ft_tok_span *spans, *fresh;
    size_t span_count, span_capacity, fresh_count, fresh_capacity;
    struct ft_tok_points points;
    struct ft_tok_symbol *symbols;
    size_t symbol_capacity;
    uint64_t *heap; /* rank << 32 | place */
    size_t heap_count, heap_capacity;
    struct ft_tok_best *best;
    size_t best_capacity;
    struct ft_tok_match *match; /* PCRE2's */
    bool
        first; /* s->text begins with what the text before normalisation began with: nothing was taken away */
};

/* ---- the steps ---- */

/* scratch->text to its normalised form. */
FT_MUST_CHECK enum ft_status ft_tok_normalize(const struct ft_tokenizer *t, struct ft_tok_scratch *s,
                                              struct ft_err *err);
/* Append every byte as the character that byte-level models write for it. */
FT_MUST_CHECK enum ft_status ft_tok_map_bytes(struct ft_bytes in, struct ft_buf *out, struct ft_err *err);
uint32_t ft_tok_byte_char(uint8_t byte);
enum { FT_TOK_BYTE_CHARS = 0x144 };                       /* all of them are below */
void ft_tok_char_bytes(int16_t bytes[FT_TOK_BYTE_CHARS]); /* by character; -1: stands for no byte */

/* sentencepiece's table of replacements. FT_INVALID: not one. */
FT_MUST_CHECK enum ft_status ft_tok_charsmap_read(const char *base64, struct ft_tok_charsmap **map,
                                                  struct ft_err *err);
void ft_tok_charsmap_free(struct ft_tok_charsmap *map);
FT_MUST_CHECK enum ft_status ft_tok_charsmap_apply(const struct ft_tok_charsmap *map,
                                                   struct ft_tok_scratch *s, struct ft_err *err);

/* A regular expression of Oniguruma's as far as it means the same to PCRE2 (tok_regex.c says what is
 * refused); the ones that well-known tokenizers split with have code of their own. */
FT_MUST_CHECK enum ft_status ft_tok_regex_new(const char *pattern, struct ft_tok_regex **regex,
                                              struct ft_err *err);
void ft_tok_regex_free(struct ft_tok_regex *regex);
/* The first match in text[at ..]; *found false: none. Matches may be empty. The text before `at` is seen by
 * assertions. */
FT_MUST_CHECK enum ft_status ft_tok_regex_next(const struct ft_tok_regex *regex, struct ft_tok_scratch *s,
                                               struct ft_bytes text, size_t at, size_t range[2], bool *found,
                                               struct ft_err *err);
/* To be called once for a text before ft_tok_regex_next() on it. */
FT_MUST_CHECK enum ft_status ft_tok_regex_begin(const struct ft_tok_regex *regex, struct ft_tok_scratch *s,
                                                struct ft_bytes text, struct ft_err *err);
void ft_tok_match_free(struct ft_tok_match *match);

/* The end of GPT-2's piece at text[at]; at < size. */
size_t ft_tok_scan_gpt2(const uint8_t *text, size_t at, size_t size);
/* The same of cl100k's expression (Llama 3, Qwen 2) with pieces of at most `digits` digits. */
size_t ft_tok_scan_cl100k(const uint8_t *text, size_t at, size_t size, int digits);

/* s->text to s->spans. */
FT_MUST_CHECK enum ft_status ft_tok_pretokenize(const struct ft_tokenizer *t, struct ft_tok_scratch *s,
                                                bool first, struct ft_err *err);

/* Append the ids of one span. */
FT_MUST_CHECK enum ft_status ft_tok_model_ids(const struct ft_tok_model *m, struct ft_bytes word,
                                              struct ft_tok_scratch *s, struct ft_tokens *out,
                                              struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_wordpiece(const struct ft_tok_model *m, struct ft_bytes word,
                                              struct ft_tokens *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_bpe(const struct ft_tok_model *m, struct ft_bytes word,
                                        struct ft_tok_scratch *s, struct ft_tokens *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_unigram(const struct ft_tok_model *m, struct ft_bytes word,
                                            struct ft_tok_scratch *s, struct ft_tokens *out,
                                            struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_push(struct ft_tokens *out, int32_t id, struct ft_err *err);

/* A search for added tokens; begin with zeros. */
struct ft_tok_found {
    size_t at;         /* where it goes on */
    size_t begin, end; /* of the last one found, the spaces that it takes in included */
    int32_t id;
};
bool ft_tok_added_next(const struct ft_tokenizer *t, const struct ft_tok_added_set *set, struct ft_bytes text,
                       struct ft_tok_found *found);

/* ---- reading ---- */

/* A tokenizer of a parsed tokenizer.json; fingerprint: fewer than 72 characters that no other file has. */
FT_MUST_CHECK enum ft_status ft_tokenizer_of(const struct ft_json *tree, const char *fingerprint,
                                             struct ft_tokenizer **tokenizer, struct ft_err *err);

/* Members by name; a missing one or one of another kind is FT_INVALID naming it, unless optional. */
FT_MUST_CHECK enum ft_status ft_tok_get_text(const struct ft_json *object, const char *key, const char **out,
                                             struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_get_bool(const struct ft_json *object, const char *key, bool *inout,
                                             struct ft_err *err); /* missing: stays */
FT_MUST_CHECK enum ft_status ft_tok_keep(struct ft_tokenizer *t, const char *text, struct ft_bytes *out,
                                         struct ft_err *err); /* a copy in the arena */
FT_MUST_CHECK enum ft_status ft_tok_read_normalizer(struct ft_tokenizer *t, const struct ft_json *json,
                                                    struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_read_pre(struct ft_tokenizer *t, const struct ft_json *json,
                                             struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_read_model(struct ft_tokenizer *t, const struct ft_json *json,
                                               struct ft_err *err);
/* What must be known of a BPE before its vocabulary is read; then the rest. */
FT_MUST_CHECK enum ft_status ft_tok_prepare_bpe(struct ft_tokenizer *t, const struct ft_json *json,
                                                struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_read_bpe(struct ft_tokenizer *t, const struct ft_json *json,
                                             struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_read_unigram(struct ft_tokenizer *t, const struct ft_json *json,
                                                 struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_read_added(struct ft_tokenizer *t, const struct ft_json *json,
                                               struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tok_read_post(struct ft_tokenizer *t, const struct ft_json *json,
                                              struct ft_err *err);
/* Remember a token of an id; FT_INVALID: the id is taken, FT_LIMIT: beyond FT_MAX_VOCABULARY. */
FT_MUST_CHECK enum ft_status ft_tok_name(struct ft_tokenizer *t, struct ft_bytes token, int64_t id,
                                         struct ft_err *err);
#endif
