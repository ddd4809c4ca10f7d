/* The older files: made into the tokenizer.json that transformers makes of them, and read as one. */
#include "executor/prep/tok.h"

#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/digest.h"

/* The next line of a text, without its end (\n, \r\n or \r); false: none is left. */
static bool next_line(struct ft_bytes text, size_t *at, struct ft_bytes *line)
{
    if (*at >= text.size) {
        return false;
    }
    size_t end = *at;
    while (end < text.size && text.data[end] != '\n' && text.data[end] != '\r') {
        end++;
    }
    *line = ft_bytes_of(text.data + *at, end - *at);
    bool two = end + 1 < text.size && text.data[end] == '\r' && text.data[end + 1] == '\n';
    *at = end + (two ? 2 : 1);
    return true;
}

/* parent[key] becomes a new object or list; *child is borrowed from it. */
static enum ft_status set_new(struct ft_json *parent, const char *key, struct ft_json *take,
                              struct ft_json **child, struct ft_err *err)
{
    *child = take;
    return ft_json_set(parent, key, take, err);
}

/* parent[key] becomes a new object of a type. */
static enum ft_status set_part(struct ft_json *parent, const char *key, const char *type,
                               struct ft_json **child, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(set_new(parent, key, ft_json_object(), child, err));
    return ft_json_set(*child, "type", ft_json_of_text(type), err);
}

/* The special tokens of a family in the order of their ids as added tokens; a missing one is refused. */
static enum ft_status set_added(struct ft_json *root, const struct ft_json *vocab, const char *const names[],
                                size_t count, struct ft_err *err)
{
    struct ft_json *list = NULL;
    FT_RETURN_IF_FAILED(set_new(root, "added_tokens", ft_json_array(), &list, err));
    for (size_t i = 0; i < count; i++) {
        if (ft_json_get(vocab, names[i]) == NULL) {
            return FT_FAIL(err, INVALID, "the vocabulary lacks \"%s\"", names[i]);
        }
        struct ft_json *token = ft_json_object();
        FT_RETURN_IF_FAILED(ft_json_push(list, token, err));
        FT_RETURN_IF_FAILED(ft_json_set(token, "content", ft_json_of_text(names[i]), err));
        FT_RETURN_IF_FAILED(ft_json_set(token, "special", ft_json_of_bool(true), err));
    }
    return FT_OK;
}

static enum ft_status set_pair(struct ft_json *post, const char *key, const struct ft_json *vocab,
                               const char *token, struct ft_err *err)
{
    struct ft_json *pair = NULL;
    FT_RETURN_IF_FAILED(set_new(post, key, ft_json_array(), &pair, err));
    FT_RETURN_IF_FAILED(ft_json_push(pair, ft_json_of_text(token), err));
    return ft_json_push(pair, ft_json_of_int(ft_json_int(ft_json_get(vocab, token))), err);
}

/* root.post_processor, of one kind whose first token is cls and whose last is sep. */
static enum ft_status set_post(struct ft_json *root, const char *type, const struct ft_json *vocab,
                               const char *cls, const char *sep, struct ft_err *err)
{
    struct ft_json *post = NULL;
    FT_RETURN_IF_FAILED(set_part(root, "post_processor", type, &post, err));
    FT_RETURN_IF_FAILED(set_pair(post, "cls", vocab, cls, err));
    return set_pair(post, "sep", vocab, sep, err);
}

static enum ft_status new_root(struct ft_json **root, struct ft_err *err)
{
    *root = ft_json_object();
    return *root != NULL ? FT_OK : FT_FAIL(err, NOMEM, "no memory for a tokenizer");
}

/* ---- vocab.txt ---- */

static enum ft_status read_lines(struct ft_bytes text, struct ft_json *vocab, struct ft_err *err)
{
    struct ft_bytes line = {0};
    size_t at = 0;
    for (int64_t id = 0; next_line(text, &at, &line); id++) {
        if (!ft_utf8_valid(line) || memchr(line.data, 0, line.size) != NULL) {
            return FT_FAIL(err, INVALID, "line %lld is not UTF-8", (long long)id + 1);
        }
        char *token = ft_strndup((const char *)line.data, line.size);
        if (token == NULL) {
            return FT_FAIL(err, NOMEM, "no memory for a token of %zu bytes", line.size);
        }
        /* Of a token that stands there twice the last line counts: it is a dict to transformers. */
        enum ft_status st = ft_json_set(vocab, token, ft_json_of_int(id), err);
        ft_free(token);
        FT_RETURN_IF_FAILED(st);
    }
    return FT_OK;
}

static enum ft_status bert_tree(struct ft_bytes text, bool lower, struct ft_json *root, struct ft_err *err)
{
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    struct ft_json *normalizer = NULL;
    struct ft_json *pre = NULL;
    struct ft_json *model = NULL;
    struct ft_json *vocab = NULL;
    FT_RETURN_IF_FAILED(set_part(root, "normalizer", "BertNormalizer", &normalizer, err));
    FT_RETURN_IF_FAILED(ft_json_set(normalizer, "lowercase", ft_json_of_bool(lower), err));
    FT_RETURN_IF_FAILED(set_part(root, "pre_tokenizer", "BertPreTokenizer", &pre, err));
    FT_RETURN_IF_FAILED(set_part(root, "model", "WordPiece", &model, err));
    FT_RETURN_IF_FAILED(ft_json_set(model, "unk_token", ft_json_of_text("[UNK]"), err));
    FT_RETURN_IF_FAILED(ft_json_set(model, "continuing_subword_prefix", ft_json_of_text("##"), err));
    FT_RETURN_IF_FAILED(set_new(model, "vocab", ft_json_object(), &vocab, err));
    FT_RETURN_IF_FAILED(read_lines(text, vocab, err));
    FT_RETURN_IF_FAILED(set_added(root, vocab, special, sizeof special / sizeof *special, err));
    return set_post(root, "BertProcessing", vocab, "[CLS]", "[SEP]", err);
}

enum ft_status ft_tokenizer_read_vocab(struct ft_bytes vocab, bool lower, const char *name,
                                       struct ft_tokenizer **tokenizer, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *root = NULL;
    char hex[FT_SHA256_HEX];
    char fingerprint[FT_SHA256_HEX + 6];
    *tokenizer = NULL;
    if (vocab.size > FT_MAX_TOKENIZER_BYTES) {
        st = FT_FAIL(err, LIMIT, "%zu bytes of vocabulary", vocab.size);
        goto done;
    }
    FT_TRY(new_root(&root, err));
    FT_TRY(bert_tree(vocab, lower, root, err));
    ft_sha256_of(vocab, hex);
    /* Another tokenizer than the same file gives with the other case. */
    (void)snprintf(fingerprint, sizeof fingerprint, "%s%s", hex, lower ? " lower" : "");
    FT_TRY(ft_tokenizer_of(root, fingerprint, tokenizer, err));
done:
    ft_json_free(root);
    return st == FT_OK ? FT_OK : ft_err_wrap(err, "%s", name);
}

/* ---- vocab.json and merges.txt ---- */

static enum ft_status read_merges(struct ft_bytes text, struct ft_json *merges, struct ft_err *err)
{
    struct ft_bytes line = {0};
    size_t at = 0;
    while (next_line(text, &at, &line)) {
        if (line.size == 0 || (line.size >= 8 && memcmp(line.data, "#version", 8) == 0)) {
            continue;
        }
        if (!ft_utf8_valid(line) || memchr(line.data, 0, line.size) != NULL) {
            return FT_FAIL(err, INVALID, "merges: \"%.*s\" is not UTF-8", ft_bytes_shown(line), line.data);
        }
        FT_RETURN_IF_FAILED(ft_json_push(merges, ft_json_of_bytes(line), err));
    }
    return FT_OK;
}

static enum ft_status roberta_tree(struct ft_bytes vocab_text, struct ft_bytes merges_text,
                                   struct ft_json *root, struct ft_err *err)
{
    static const char *const special[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
    struct ft_json *pre = NULL;
    struct ft_json *model = NULL;
    struct ft_json *vocab = NULL;
    struct ft_json *merges = NULL;
    FT_RETURN_IF_FAILED(set_part(root, "pre_tokenizer", "ByteLevel", &pre, err));
    FT_RETURN_IF_FAILED(ft_json_set(pre, "add_prefix_space", ft_json_of_bool(false), err));
    FT_RETURN_IF_FAILED(set_part(root, "model", "BPE", &model, err));
    FT_RETURN_IF_FAILED(ft_json_parse(vocab_text, &vocab, err));
    FT_RETURN_IF_FAILED(ft_json_set(model, "vocab", vocab, err));
    FT_RETURN_IF_FAILED(set_new(model, "merges", ft_json_array(), &merges, err));
    FT_RETURN_IF_FAILED(read_merges(merges_text, merges, err));
    FT_RETURN_IF_FAILED(set_added(root, vocab, special, sizeof special / sizeof *special, err));
    return set_post(root, "RobertaProcessing", vocab, "<s>", "</s>", err);
}

enum ft_status ft_tokenizer_read_merges(struct ft_bytes vocab, struct ft_bytes merges, const char *name,
                                        struct ft_tokenizer **tokenizer, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *root = NULL;
    struct ft_sha256 *sha = NULL;
    char hex[FT_SHA256_HEX];
    *tokenizer = NULL;
    if (vocab.size > FT_MAX_TOKENIZER_BYTES || merges.size > FT_MAX_TOKENIZER_BYTES) {
        st = FT_FAIL(err, LIMIT, "%zu and %zu bytes of vocabulary and merges", vocab.size, merges.size);
        goto done;
    }
    FT_TRY(new_root(&root, err));
    FT_TRY(roberta_tree(vocab, merges, root, err));
    FT_TRY(ft_sha256_new(&sha, err));
    ft_sha256_add(sha, vocab);
    ft_sha256_add(sha, merges);
    ft_sha256_finish(sha, hex);
    FT_TRY(ft_tokenizer_of(root, hex, tokenizer, err));
done:
    ft_sha256_free(sha);
    ft_json_free(root);
    return st == FT_OK ? FT_OK : ft_err_wrap(err, "%s", name);
}
