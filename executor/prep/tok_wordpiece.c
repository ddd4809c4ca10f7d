#include "executor/prep/tok.h"

static bool is_longer(struct ft_bytes word, size_t max_chars)
{
    if (word.size <= max_chars) {
        return false;
    }
    size_t chars = 0;
    for (size_t i = 0; i < word.size; i++) {
        chars += (word.data[i] & 0xc0) != 0x80 ? 1 : 0;
    }
    return chars > max_chars;
}

/* The longest token at the front, then the longest continuation, ...; where one is missing all of the word is
 * unknown. Tokens are valid UTF-8, so they end where characters end. */
enum ft_status ft_tok_wordpiece(const struct ft_tok_model *m, struct ft_bytes word, struct ft_tokens *out,
                                struct ft_err *err)
{
    size_t before = out->count;
    if (is_longer(word, m->max_chars)) {
        return ft_tok_push(out, m->unk, err);
    }
    int32_t node = FT_TOK_ROOT;
    for (size_t at = 0; at < word.size;) {
        int32_t id = -1;
        size_t end = at;
        for (size_t i = at; i < word.size && node >= 0; i++) {
            node = ft_tok_step(&m->vocab, node, word.data[i]);
            if (node >= 0 && m->vocab.nodes[node].value >= 0) {
                id = m->vocab.nodes[node].value;
                end = i + 1;
            }
        }
        if (id < 0) {
            out->count = before;
            return ft_tok_push(out, m->unk, err);
        }
        FT_RETURN_IF_FAILED(ft_tok_push(out, id, err));
        at = end;
        node = m->continuing;
    }
    return FT_OK;
}
