/*
 * input.h - what a graph reads: its one data input, or the inputs of a text, with the preprocessing for it;
 * and the optional random numbers.
 *
 * Thread-safety: pure functions.
 */
#ifndef FT_TRAIN_INPUT_H
#define FT_TRAIN_INPUT_H

#include "executor/model/model.h"
#include "executor/prep/prep.h"

/* Values of a graph of texts, padded or packed (graph/pack.h); FT_NO_VALUE where the graph has none. */
struct ft_text_inputs {
    ft_value ids;   /* "input_ids" (N, S) or (T) I64 */
    ft_value types; /* "token_type_ids", the same shape */
    ft_value seq;   /* "attention_mask" (N, S), or "spans" (N, 2) I64 */
    bool packed;
};
struct ft_input {
    bool is_text;
    ft_value data; /* (N, ...) float; FT_NO_VALUE for a text */
    struct ft_text_inputs text;
    ft_value rng;       /* (2) I64 "rng", or FT_NO_VALUE */
    ft_value embedding; /* the first output, (N, D) */
    int64_t dim;        /* D */
};
/* FT_UNSUPPORTED: several data inputs, another type, a fixed batch; said with what to do about it. A text is
 * known by an I64 input named "input_ids". */
FT_MUST_CHECK enum ft_status ft_input_find(const struct ft_graph *graph, struct ft_input *input,
                                           struct ft_err *err);
/* Of a graph of texts or a part of one (graph/frontier.h): those inputs of a text that it reads. */
struct ft_text_inputs ft_input_texts(const struct ft_graph *graph);
/* Its input of random numbers, or FT_NO_VALUE. */
ft_value ft_input_rng(const struct ft_graph *graph);
/* The tokenizer that a model of texts brings; NULL where it brings none. The caller's: ft_tokenizer_free().
 */
FT_MUST_CHECK enum ft_status ft_input_tokenizer(const struct ft_model *model, struct ft_tokenizer **tokenizer,
                                                struct ft_err *err);
/* Inferred from the input's shape, then what the model brings, then what the user says (may be NULL). The
 * tokenizer is borrowed by *prep. FT_UNSUPPORTED: a model of texts without one, or a prefix
 * where the model pools without the tokens of a prompt. */
FT_MUST_CHECK enum ft_status ft_input_prep(const struct ft_graph *graph, const struct ft_model *model,
                                           const struct ft_tokenizer *tokenizer,
                                           const struct ft_json *options, struct ft_prep *prep,
                                           struct ft_err *err);
/* The packed form of a tailored graph of texts, with the same parameter numbers: the caller's, NULL where it
 * cannot be packed, which `padded` explains, or has no texts (padded: ""). */
FT_MUST_CHECK enum ft_status ft_input_pack(const struct ft_graph *graph, struct ft_graph **packed,
                                           char padded[FT_ERR_TEXT], struct ft_err *err);
/* What people forget to say, as a sentence; NULL: nothing. */
const char *ft_input_hint(const struct ft_model *model, const struct ft_json *options,
                          const struct ft_prep *prep);
#endif
