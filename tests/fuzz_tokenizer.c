/* links: ft_prep ft_codec ft_base */
/* covers: executor/prep/tokenizer.c executor/prep/tok_added.c executor/prep/tok_bpe.c
 * executor/prep/tok_charsmap.c executor/prep/tok_files.c executor/prep/tok_model.c
 * executor/prep/tok_normalize.c executor/prep/tok_post.c executor/prep/tok_pretokenize.c
 * executor/prep/tok_read.c executor/prep/tok_read_model.c executor/prep/tok_regex.c executor/prep/tok_scan.c
 * executor/prep/tok_trie.c executor/prep/tok_unicode.c executor/prep/tok_unigram.c
 * executor/prep/tok_wordpiece.c */
/* A tokenizer's file, a zero byte, a text: the file is refused, or every id of the text is one of its tokens.
 * The first byte says what file it is: v vocab.txt, m vocab.json behind whose zero byte merges.txt stands,
 * else tokenizer.json. */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/prep/tokenizer.h"

static struct ft_bytes next(const uint8_t **data, size_t *size)
{
    const uint8_t *end = *size > 0 ? memchr(*data, 0, *size) : NULL;
    struct ft_bytes part = ft_bytes_of(*data, end != NULL ? (size_t)(end - *data) : *size);
    size_t used = part.size + (end != NULL ? 1 : 0);
    *data += used;
    *size -= used;
    return part;
}

static void encode(const struct ft_tokenizer *t, const uint8_t *text, size_t size)
{
    struct ft_err err = {0};
    struct ft_tokens tokens = {0};
    size_t around = ft_tokenizer_special_count(t);
    for (size_t most = 0; most < 3 * around + 12; most += around + 4) {
        enum ft_status st = ft_tokenizer_encode(t, (const char *)text, size, most, &tokens, &err);
        assert(st == FT_OK || st == FT_LIMIT); /* a regular expression that needs too long */
        assert(most == 0 || tokens.count <= most);
        for (size_t i = 0; i < tokens.count; i++) {
            assert(tokens.ids[i] >= 0 && tokens.type_ids[i] >= 0);
        }
    }
    ft_tokens_release(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_tokenizer *t = NULL;
    char kind = size > 0 ? (char)data[0] : 0;
    enum ft_status st = FT_OK;
    if (kind == 'v' || kind == 'm') {
        data++;
        size--;
    }
    struct ft_bytes file = next(&data, &size);
    if (kind == 'v') {
        st = ft_tokenizer_read_vocab(file, size % 2 == 0, "vocab.txt", &t, &err);
    } else if (kind == 'm') {
        struct ft_bytes merges = next(&data, &size);
        st = ft_tokenizer_read_merges(file, merges, "vocab.json", &t, &err);
    } else {
        st = ft_tokenizer_read(file, "tokenizer.json", &t, &err);
    }
    if (st == FT_OK) {
        encode(t, data, size);
    } else {
        assert(st == FT_INVALID || st == FT_UNSUPPORTED || st == FT_LIMIT || st == FT_CORRUPT);
        assert(t == NULL);
    }
    ft_tokenizer_free(t);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
