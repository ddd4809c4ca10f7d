/*
 * tokenizer.h - texts to token ids, id for id as Hugging Face's `tokenizers` gives them.
 *
 * Reads tokenizer.json, or the older vocab.txt (BERT) and vocab.json + merges.txt (RoBERTa). What a file asks
 * for and is not built here is refused by name while reading, never ignored. Two differences are on purpose:
 * texts are bytes, and what is not UTF-8 in them becomes U+FFFD as Python's bytes.decode("utf-8", "replace")
 * does; and an unknown token that the vocabulary lacks is refused while reading, not at the first text that
 * needs it. Padding is never done: batches are ragged (DESIGN 5.2).
 *
 * Thread-safety: a const struct ft_tokenizer may be used by any number of threads, each with its own struct
 * ft_tokens.
 */
#ifndef FT_PREP_TOKENIZER_H
#define FT_PREP_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"

struct ft_tokenizer; /* opaque */

/* The tokens of one text. A zeroed struct is empty; it is meant to be used again and again: it keeps its
 * memory, and the ids of words met before. ft_tokens_release(). */
struct ft_tokens {
    int32_t *ids;      /* (count) */
    int32_t *type_ids; /* (count), token_type_ids */
    size_t count;
    size_t capacity;
    struct ft_tok_scratch *scratch; /* private */
};
void ft_tokens_release(struct ft_tokens *tokens);

/* `json` is the text of a tokenizer.json, `name` what errors call it. *tokenizer is the caller's:
 * ft_tokenizer_free(). FT_INVALID: not such a file; FT_UNSUPPORTED names the part that is not built;
 * FT_LIMIT. */
FT_MUST_CHECK enum ft_status ft_tokenizer_read(struct ft_bytes json, const char *name,
                                               struct ft_tokenizer **tokenizer, struct ft_err *err);
/* BERT's vocab.txt, a token a line, with the defaults of transformers' BertTokenizerFast: [UNK], [CLS],
 * [SEP], [PAD] and [MASK] are special, Chinese characters stand alone, accents go where `lower` is set. */
FT_MUST_CHECK enum ft_status ft_tokenizer_read_vocab(struct ft_bytes vocab, bool lower, const char *name,
                                                     struct ft_tokenizer **tokenizer, struct ft_err *err);
/* vocab.json and merges.txt of a byte-level BPE with the defaults of transformers' RobertaTokenizerFast. */
FT_MUST_CHECK enum ft_status ft_tokenizer_read_merges(struct ft_bytes vocab, struct ft_bytes merges,
                                                      const char *name, struct ft_tokenizer **tokenizer,
                                                      struct ft_err *err);
void ft_tokenizer_free(struct ft_tokenizer *tokenizer); /* NULL is fine */

/* The ids of a text, the special tokens of the file's post-processor included. At most max_tokens of them:
 * the text is cut at its end (at its beginning where the file's truncation says "left") to leave room for the
 * special ones. max_tokens 0: the whole text, whatever the file says. FT_USAGE: fewer max_tokens than special
 * ones. */
FT_MUST_CHECK enum ft_status ft_tokenizer_encode(const struct ft_tokenizer *tokenizer, const char *text,
                                                 size_t size, size_t max_tokens, struct ft_tokens *tokens,
                                                 struct ft_err *err);

/* Tokens of the model and added ones; ids are below ft_tokenizer_id_end(), which a table of embeddings needs.
 */
size_t ft_tokenizer_size(const struct ft_tokenizer *tokenizer);
int32_t ft_tokenizer_id_end(const struct ft_tokenizer *tokenizer);
int32_t ft_tokenizer_id(const struct ft_tokenizer *tokenizer, struct ft_bytes token); /* -1: no such token */
/* Borrowed from the tokenizer; {NULL, 0} where no token has the id. */
struct ft_bytes ft_tokenizer_token(const struct ft_tokenizer *tokenizer, int32_t id);

/* Ids by role, -1 where there is none: the model's unknown token, the file's padding token, and else the
 * tokens called [PAD] or <pad>, [CLS] or <s>, [SEP] or </s>, [MASK] or <mask>. */
enum ft_token_role { FT_TOKEN_UNK, FT_TOKEN_PAD, FT_TOKEN_CLS, FT_TOKEN_SEP, FT_TOKEN_MASK };
int32_t ft_tokenizer_role(const struct ft_tokenizer *tokenizer, enum ft_token_role role);
size_t ft_tokenizer_max_tokens(const struct ft_tokenizer *tokenizer);    /* the file's truncation; 0: none */
size_t ft_tokenizer_special_count(const struct ft_tokenizer *tokenizer); /* added to every text */

#endif
