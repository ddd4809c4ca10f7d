/*
 * Unigram: the cut of a word with the highest sum of scores (Viterbi), as sentencepiece does it; ties and
 * rounding as tokenizers: sums from left to right in double, a later way must be better to win.
 */
#include "executor/prep/tok.h"

#include "executor/base/alloc.h"

static void offer(struct ft_tok_best *to, double score, int32_t id, size_t from)
{
    if (to->from == UINT32_MAX || score > to->score) {
        *to = (struct ft_tok_best){score, id, (uint32_t)from};
    }
}

/* Fills s->best[0 .. size]. */
static void viterbi(const struct ft_tok_model *m, struct ft_bytes word, struct ft_tok_best *best)
{
    for (size_t i = 0; i <= word.size; i++) {
        best[i] = (struct ft_tok_best){0, -1, UINT32_MAX};
    }
    size_t n = 0;
    for (size_t at = 0; at < word.size; at += n) {
        (void)ft_tok_point(word.data + at, &n);
        double score = best[at].score;
        bool has_character = false;
        int32_t node = FT_TOK_ROOT;
        for (size_t i = at; i < word.size; i++) {
            node = ft_tok_step(&m->vocab, node, word.data[i]);
            if (node < 0) {
                break;
            }
            int32_t id = m->vocab.nodes[node].value;
            if (id >= 0) {
                offer(best + i + 1, m->scores[id] + score, id, at);
                has_character = has_character || i + 1 - at == n;
            }
        }
        if (!has_character) {
            offer(best + at + n, m->unk_score + score, m->unk, at);
        }
    }
}

/* What no token covers: as a whole (neighbours are one unknown), byte by byte where there are tokens for all.
 */
static enum ft_status put_unknown(const struct ft_tok_model *m, struct ft_bytes text, struct ft_tokens *out,
                                  struct ft_err *err)
{
    int32_t id = ft_tok_find(&m->vocab, text);
    bool bytes = id < 0 && m->byte_fallback;
    for (size_t i = 0; i < text.size && bytes; i++) {
        bytes = m->byte_ids[text.data[i]] >= 0;
    }
    if (!bytes) {
        return ft_tok_push(out, id >= 0 ? id : m->unk, err);
    }
    for (size_t i = 0; i < text.size; i++) {
        FT_RETURN_IF_FAILED(ft_tok_push(out, m->byte_ids[text.data[i]], err));
    }
    return FT_OK;
}

enum ft_status ft_tok_unigram(const struct ft_tok_model *m, struct ft_bytes word, struct ft_tok_scratch *s,
                              struct ft_tokens *out, struct ft_err *err)
{
    if (word.size >= UINT32_MAX) {
        return FT_FAIL(err, LIMIT, "a word of %zu bytes", word.size);
    }
    FT_RETURN_IF_FAILED(ft_grow(&s->best, &s->best_capacity, word.size + 1, sizeof *s->best, err));
    struct ft_tok_best *best = s->best;
    viterbi(m, word, best);
    /* Turn the way around: best[end].from becomes the end of the next token. */
    uint32_t behind = UINT32_MAX;
    for (uint32_t at = (uint32_t)word.size; at != 0;) {
        uint32_t from = best[at].from;
        best[at].from = behind;
        behind = at;
        at = from;
    }
    for (uint32_t at = behind, begin = 0; at != UINT32_MAX;) {
        uint32_t next = best[at].from;
        if (best[at].id != m->unk) {
            FT_RETURN_IF_FAILED(ft_tok_push(out, best[at].id, err));
            begin = at;
        } else if (next == UINT32_MAX || best[next].id != m->unk) {
            FT_RETURN_IF_FAILED(put_unknown(m, ft_bytes_of(word.data + begin, at - begin), out, err));
            begin = at;
        }
        at = next;
    }
    return FT_OK;
}
