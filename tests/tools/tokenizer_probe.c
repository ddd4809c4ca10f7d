/* tokenizer_probe KIND MAX_TOKENS FILE...: what a tokenizer makes of texts, for
 * tests/oracle/test_tokenizers.py. KIND is json (tokenizer.json), vocab or vocab-lower (vocab.txt), merges
 * (vocab.json merges.txt). Texts come on stdin, each behind its size in bytes (uint32, little-endian); for
 * each a count (int32), ids and type ids (int32) go to stdout. A failure of one text is a count of -1 and its
 * story on stderr. */
/* links: ft_prep ft_codec ft_base */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/prep/tokenizer.h"

static enum ft_status open_tokenizer(const char *kind, char **files, struct ft_tokenizer **t,
                                     struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf first = {0};
    struct ft_buf second = {0};
    FT_TRY(ft_file_read(files[0], FT_MAX_TOKENIZER_BYTES, &first, err));
    if (strcmp(kind, "json") == 0) {
        FT_TRY(ft_tokenizer_read(ft_buf_bytes(&first), files[0], t, err));
    } else if (strcmp(kind, "merges") == 0 && files[1] != NULL) {
        FT_TRY(ft_file_read(files[1], FT_MAX_TOKENIZER_BYTES, &second, err));
        FT_TRY(ft_tokenizer_read_merges(ft_buf_bytes(&first), ft_buf_bytes(&second), files[0], t, err));
    } else {
        FT_TRY(ft_tokenizer_read_vocab(ft_buf_bytes(&first), strcmp(kind, "vocab-lower") == 0, files[0], t,
                                       err));
    }
done:
    ft_buf_release(&first);
    ft_buf_release(&second);
    return st;
}

static bool put(const struct ft_tokenizer *t, const char *text, size_t size, size_t max_tokens,
                struct ft_tokens *tokens)
{
    struct ft_err err = {0};
    int32_t count = -1;
    if (ft_tokenizer_encode(t, text, size, max_tokens, tokens, &err) == FT_OK) {
        count = (int32_t)tokens->count;
    } else {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    size_t n = count > 0 ? (size_t)count : 0;
    return fwrite(&count, sizeof count, 1, stdout) == 1 &&
           fwrite(tokens->ids, sizeof(int32_t), n, stdout) == n &&
           fwrite(tokens->type_ids, sizeof(int32_t), n, stdout) == n;
}

static int put_all(const struct ft_tokenizer *t, const struct ft_buf *texts, size_t max_tokens)
{
    struct ft_tokens tokens = {0};
    bool written = true;
    for (size_t at = 0; at + 4 <= texts->size && written;) {
        size_t size = ft_get_u32(texts->data + at);
        const char *text = (const char *)texts->data + at + 4;
        at += 4 + size;
        written = at <= texts->size && put(t, text, size, max_tokens, &tokens);
    }
    ft_tokens_release(&tokens);
    return written ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    struct ft_tokenizer *t = NULL;
    struct ft_buf texts = {0};
    if (argc < 4) {
        (void)fprintf(stderr, "tokenizer_probe KIND MAX_TOKENS FILE...\n");
        return 2;
    }
    enum ft_status st = open_tokenizer(argv[1], argv + 3, &t, &err);
    size_t n = 1;
    while (st == FT_OK && n > 0) {
        st = ft_buf_reserve(&texts, 1 << 20, &err);
        n = st == FT_OK ? fread(texts.data + texts.size, 1, 1 << 20, stdin) : 0;
        texts.size += n;
    }
    int code = st == FT_OK ? put_all(t, &texts, strtoull(argv[2], NULL, 10)) : 3;
    if (st != FT_OK) {
        (void)fprintf(stderr, "%s: %s\n", ft_status_text(st), err.text);
    }
    ft_tokenizer_free(t);
    ft_buf_release(&texts);
    return code;
}
