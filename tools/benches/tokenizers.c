/* bench_tokenizers TOKENIZER.json ROUNDS: texts on stdin, each behind its size in bytes (uint32,
 * little-endian); prints their tokens and the seconds of the fastest round, one text a call.
 * tools/benches/tokenizers_peer.py drives it. */
#include <stdio.h>
#include <stdlib.h>

#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/prep/tokenizer.h"

static enum ft_status round_of(const struct ft_tokenizer *t, const struct ft_buf *texts,
                               struct ft_tokens *tokens, size_t *total, struct ft_err *err)
{
    *total = 0;
    for (size_t at = 0; at + 4 <= texts->size;) {
        size_t size = ft_get_u32(texts->data + at);
        const char *text = (const char *)texts->data + at + 4;
        at += 4 + size;
        if (at > texts->size) {
            return FT_FAIL(err, INVALID, "a text is cut off");
        }
        FT_RETURN_IF_FAILED(ft_tokenizer_encode(t, text, size, 0, tokens, err));
        *total += tokens->count;
    }
    return FT_OK;
}

static enum ft_status measure(const char *path, long rounds, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_tokenizer *t = NULL;
    struct ft_tokens tokens = {0};
    struct ft_buf file = {0};
    struct ft_buf texts = {0};
    size_t total = 0;
    double best = 1e30;
    FT_TRY(ft_file_read(path, FT_MAX_TOKENIZER_BYTES, &file, err));
    FT_TRY(ft_tokenizer_read(ft_buf_bytes(&file), path, &t, err));
    for (size_t n = 1; n > 0; texts.size += n) {
        FT_TRY(ft_buf_reserve(&texts, 1 << 20, err));
        n = fread(texts.data + texts.size, 1, 1 << 20, stdin);
    }
    FT_TRY(round_of(t, &texts, &tokens, &total, err));
    for (long i = 0; i < rounds; i++) {
        double began = ft_clock_seconds();
        FT_TRY(round_of(t, &texts, &tokens, &total, err));
        double took = ft_clock_seconds() - began;
        best = took < best ? took : best;
    }
    printf("%zu %.6f\n", total, best);
done:
    ft_tokens_release(&tokens);
    ft_tokenizer_free(t);
    ft_buf_release(&file);
    ft_buf_release(&texts);
    return st;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    if (argc != 3) {
        (void)fprintf(stderr, "bench_tokenizers TOKENIZER.json ROUNDS\n");
        return 2;
    }
    if (measure(argv[1], strtol(argv[2], NULL, 10), &err) != FT_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return 0;
}
