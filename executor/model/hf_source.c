#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/hf_internal.h"

/* What transformers and sentence-transformers read beside config, weights and tokenizer.json. Models of
 * SentencePiece are left out: tokenizer.json holds all that they say. */
static const char *const kept[] = {"tokenizer_config.json",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.txt",
                                   "vocab.json",
                                   "merges.txt"};
enum { KEPT = sizeof kept / sizeof *kept };

void ft_hf_source_free(struct ft_hf_source *source)
{
    if (source == NULL) {
        return;
    }
    for (size_t i = 0; i < source->n_files; i++) {
        ft_buf_release(&source->files[i].text);
    }
    ft_free(source->files);
    ft_json_free(source->config);
    ft_json_free(source->transformer);
    ft_json_free(source->prompts);
    ft_free(source);
}

/* Of sentence-transformers' Transformer module: max_seq_length and do_lower_case. Older versions named the
 * file after the family. */
static const char *const transformers[] = {
    "sentence_bert_config.json",   "sentence_roberta_config.json",     "sentence_distilbert_config.json",
    "sentence_albert_config.json", "sentence_xlm-roberta_config.json", "sentence_camembert_config.json"};
enum { TRANSFORMERS = sizeof transformers / sizeof *transformers };

const char *ft_hf_source_name(size_t i)
{
    if (i >= KEPT) {
        return i - KEPT < TRANSFORMERS ? transformers[i - KEPT] : NULL;
    }
    return kept[i];
}

static enum ft_status read_transformer(const struct ft_files *base, struct ft_json **json, struct ft_err *err)
{
    *json = NULL;
    for (size_t i = 0; *json == NULL && i < TRANSFORMERS; i++) {
        FT_RETURN_IF_FAILED(ft_hf_json(base, transformers[i], json, err));
    }
    return FT_OK;
}

static enum ft_status read_kept(const struct ft_files *base, struct ft_hf_source *s, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_new(KEPT, sizeof *s->files, &s->files, err));
    for (size_t i = 0; i < KEPT; i++) {
        bool found = false;
        struct ft_hf_file *file = &s->files[s->n_files];
        file->name = kept[i];
        enum ft_status st = ft_files_read(base, kept[i], FT_MAX_TOKENIZER_BYTES, &file->text, &found, err);
        if (st != FT_OK) {
            ft_buf_release(&file->text);
            return st;
        }
        s->n_files += found ? 1 : 0;
    }
    return FT_OK;
}

enum ft_status ft_hf_source_read(const struct ft_files *files, const struct ft_files *base,
                                 struct ft_json *take_config, struct ft_hf_source **source,
                                 struct ft_err *err)
{
    struct ft_hf_source *s = NULL;
    enum ft_status st = ft_new(1, sizeof *s, &s, err);
    *source = NULL;
    if (st != FT_OK) {
        ft_json_free(take_config);
        return st;
    }
    s->config = take_config;
    FT_TRY(read_transformer(base, &s->transformer, err));
    FT_TRY(ft_hf_json(files, "config_sentence_transformers.json", &s->prompts, err));
    FT_TRY(read_kept(base, s, err));
    *source = s;
    s = NULL;
done:
    ft_hf_source_free(s);
    return st;
}
