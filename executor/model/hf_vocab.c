#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/hf_internal.h"

/*
 * vocab.txt, or vocab.json with merges.txt, as the tokenizer.json that transformers makes of them: WordPiece
 * for BERT and its like, WordPiece between <s> and </s> for MPNet, byte-level BPE for RoBERTa. Special tokens
 * are called as tokenizer_config.json says, else by the family's names.
 */

enum { SPECIALS = 5 };
enum special { CLS, SEP, UNK, PAD, MASK };

struct vocab {
    const struct ft_json *config; /* tokenizer_config.json or NULL */
    struct ft_json *tokens;       /* {"token": id} */
    const char *special[SPECIALS];
    bool roberta; /* <s> text </s> by RobertaProcessing */
    char *path;
};

static enum ft_status name_specials(struct vocab *v, bool mpnet, struct ft_err *err)
{
    static const char *const keys[SPECIALS] = {"cls_token", "sep_token", "unk_token", "pad_token",
                                               "mask_token"};
    static const char *const bert[SPECIALS] = {"[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"};
    static const char *const roberta[SPECIALS] = {"<s>", "</s>", "<unk>", "<pad>", "<mask>"};
    for (int i = 0; i < SPECIALS; i++) {
        const struct ft_json *said = ft_json_get(v->config, keys[i]);
        const char *text =
            ft_json_text(ft_json_kind(said) == FT_JSON_OBJECT ? ft_json_get(said, "content") : said, NULL);
        const char *usual = mpnet && i == UNK ? bert[i] : v->roberta ? roberta[i] : bert[i];
        v->special[i] = text != NULL ? text : usual;
        if (i <= UNK && ft_json_get(v->tokens, v->special[i]) == NULL) {
            return FT_FAIL(err, INVALID, "%s has no token %.40s", v->path, v->special[i]);
        }
    }
    return FT_OK;
}

/* ---- writing */

static enum ft_status put_json(struct ft_buf *out, struct ft_json *take_json, struct ft_err *err)
{
    enum ft_status st = take_json == NULL ? FT_FAIL(err, NOMEM, "no memory for a tokenizer")
                                          : ft_json_write(take_json, 0, out, err);
    ft_json_free(take_json);
    return st;
}

static enum ft_status put_text(struct ft_buf *out, const char *before, const char *text, const char *after,
                               struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_text(out, before, err));
    FT_RETURN_IF_FAILED(put_json(out, ft_json_of_text(text), err));
    return ft_buf_text(out, after, err);
}

static int64_t id_of(const struct vocab *v, enum special which)
{
    return ft_json_int(ft_json_get(v->tokens, v->special[which]));
}

/* Special tokens that the vocabulary has, by id. */
static enum ft_status put_added(const struct vocab *v, struct ft_buf *out, struct ft_err *err)
{
    int64_t last = -1;
    const char *comma = "";
    FT_RETURN_IF_FAILED(ft_buf_text(out, "\"added_tokens\":[", err));
    for (int n = 0; n < SPECIALS; n++) {
        int next = -1;
        for (int i = 0; i < SPECIALS; i++) {
            bool there = ft_json_get(v->tokens, v->special[i]) != NULL && id_of(v, (enum special)i) > last;
            if (there && (next < 0 || id_of(v, (enum special)i) < id_of(v, (enum special)next))) {
                next = i;
            }
        }
        if (next < 0) {
            break;
        }
        last = id_of(v, (enum special)next);
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "%s{\"id\":%lld,\"content\":", comma, (long long)last));
        FT_RETURN_IF_FAILED(put_text(out, "", v->special[next],
                                     ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                                     "\"normalized\":false,\"special\":true}",
                                     err));
        comma = ",";
    }
    return ft_buf_text(out, "],", err);
}

static enum ft_status put_roberta_processor(const struct vocab *v, struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(put_text(out, "{\"type\":\"RobertaProcessing\",\"sep\":[", v->special[SEP], "", err));
    FT_RETURN_IF_FAILED(ft_buf_printf(out, err, ",%lld],", (long long)id_of(v, SEP)));
    FT_RETURN_IF_FAILED(put_text(out, "\"cls\":[", v->special[CLS], "", err));
    return ft_buf_printf(out, err, ",%lld],\"trim_offsets\":true,\"add_prefix_space\":false},",
                         (long long)id_of(v, CLS));
}

static enum ft_status put_template_token(const struct vocab *v, enum special which, struct ft_buf *out,
                                         struct ft_err *err)
{
    const char *name = v->special[which];
    FT_RETURN_IF_FAILED(put_text(out, "", name, "", err));
    FT_RETURN_IF_FAILED(put_text(out, ":{\"id\":", name, "", err));
    FT_RETURN_IF_FAILED(ft_buf_printf(out, err, ",\"ids\":[%lld],", (long long)id_of(v, which)));
    return put_text(out, "\"tokens\":[", name, "]}", err);
}

/* [CLS] A [SEP], or [CLS] A [SEP] B [SEP] of two types. */
static enum ft_status put_template(const struct vocab *v, struct ft_buf *out, struct ft_err *err)
{
    static const char special[] = "{\"SpecialToken\":{\"id\":";
    static const char first[] = ",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},";
    const char *cls = v->special[CLS];
    const char *sep = v->special[SEP];
    FT_RETURN_IF_FAILED(ft_buf_text(out, "{\"type\":\"TemplateProcessing\",\"single\":[", err));
    FT_RETURN_IF_FAILED(put_text(out, special, cls, first, err));
    FT_RETURN_IF_FAILED(put_text(out, special, sep, ",\"type_id\":0}}],\"pair\":[", err));
    FT_RETURN_IF_FAILED(put_text(out, special, cls, first, err));
    FT_RETURN_IF_FAILED(
        put_text(out, special, sep, ",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}},", err));
    FT_RETURN_IF_FAILED(put_text(out, special, sep, ",\"type_id\":1}}],\"special_tokens\":{", err));
    FT_RETURN_IF_FAILED(put_template_token(v, CLS, out, err));
    FT_RETURN_IF_FAILED(ft_buf_text(out, ",", err));
    FT_RETURN_IF_FAILED(put_template_token(v, SEP, out, err));
    return ft_buf_text(out, "}},", err);
}

static enum ft_status put_head(const struct vocab *v, struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_text(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,", err));
    return put_added(v, out, err);
}

/* ---- WordPiece */

/* A token a line; of equal ones the last counts, as in a Python dict. */
static enum ft_status read_lines(struct vocab *v, const struct ft_buf *text, struct ft_err *err)
{
    char *line = (char *)text->data;
    char *end = line + text->size;
    v->tokens = ft_json_object();
    if (v->tokens == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a vocabulary");
    }
    if (memchr(line, '\0', text->size) != NULL || !ft_utf8_valid(ft_buf_bytes(text))) {
        return FT_FAIL(err, INVALID, "%s is no text in UTF-8", v->path);
    }
    for (int64_t id = 0; line < end; id++) {
        char *next = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((next != NULL ? next : end) - line);
        line[size - (size > 0 && line[size - 1] == '\r')] = '\0'; /* the buffer ends with a NUL */
        FT_RETURN_IF_FAILED(ft_json_set(v->tokens, line, ft_json_of_int(id), err));
        line += size + 1;
    }
    return FT_OK;
}

static bool flag(const struct ft_json *config, const char *key, bool fallback)
{
    const struct ft_json *json = ft_json_get(config, key);
    return ft_json_kind(json) == FT_JSON_BOOL ? ft_json_bool(json) : fallback;
}

static enum ft_status put_wordpiece(const struct vocab *v, struct ft_buf *out, struct ft_err *err)
{
    const struct ft_json *accents = ft_json_get(v->config, "strip_accents");
    FT_RETURN_IF_FAILED(put_head(v, out, err));
    FT_RETURN_IF_FAILED(ft_buf_printf(
        out, err,
        "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":%s,"
        "\"strip_accents\":%s,\"lowercase\":%s},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
        "\"post_processor\":",
        flag(v->config, "tokenize_chinese_chars", true) ? "true" : "false",
        ft_json_kind(accents) != FT_JSON_BOOL ? "null"
        : ft_json_bool(accents)               ? "true"
                                              : "false",
        flag(v->config, "do_lower_case", true) ? "true" : "false"));
    FT_RETURN_IF_FAILED(v->roberta ? put_roberta_processor(v, out, err) : put_template(v, out, err));
    FT_RETURN_IF_FAILED(put_text(out,
                                 "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
                                 "\"model\":{\"type\":\"WordPiece\",\"unk_token\":",
                                 v->special[UNK],
                                 ",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
                                 "\"vocab\":",
                                 err));
    FT_RETURN_IF_FAILED(ft_json_write(v->tokens, 0, out, err));
    return ft_buf_text(out, "}}", err);
}

static enum ft_status from_lines(struct vocab *v, struct ft_buf *text, bool mpnet, struct ft_buf *out,
                                 struct ft_err *err)
{
    v->roberta = mpnet;
    if (text->size == 0) {
        return FT_FAIL(err, INVALID, "%s is empty", v->path);
    }
    FT_RETURN_IF_FAILED(read_lines(v, text, err));
    FT_RETURN_IF_FAILED(name_specials(v, mpnet, err));
    return put_wordpiece(v, out, err);
}

/* ---- byte-level BPE */

/* "a b" a line; lines that begin with #version are no merges. */
static enum ft_status put_merges(struct ft_buf *text, struct ft_buf *out, struct ft_err *err)
{
    char *line = (char *)text->data;
    char *end = line + text->size;
    const char *before = "";
    FT_RETURN_IF_FAILED(ft_buf_text(out, "\"merges\":[", err));
    while (line < end) {
        char *next = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((next != NULL ? next : end) - line);
        line[size - (size > 0 && line[size - 1] == '\r')] = '\0';
        if (line[0] != '\0' && strncmp(line, "#version", strlen("#version")) != 0) {
            FT_RETURN_IF_FAILED(put_text(out, before, line, "", err));
            before = ",";
        }
        line += size + 1;
    }
    return ft_buf_text(out, "]", err);
}

static enum ft_status put_bpe(const struct vocab *v, struct ft_buf *merges, struct ft_buf *out,
                              struct ft_err *err)
{
    const char *space = flag(v->config, "add_prefix_space", false) ? "true" : "false";
    FT_RETURN_IF_FAILED(put_head(v, out, err));
    FT_RETURN_IF_FAILED(ft_buf_printf(out, err,
                                      "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                                      "\"add_prefix_space\":%s,\"trim_offsets\":true,\"use_regex\":true},"
                                      "\"post_processor\":",
                                      space));
    FT_RETURN_IF_FAILED(put_roberta_processor(v, out, err));
    FT_RETURN_IF_FAILED(
        ft_buf_text(out,
                    "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
                    "\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                    "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,"
                    "\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":",
                    err));
    FT_RETURN_IF_FAILED(ft_json_write(v->tokens, 0, out, err));
    FT_RETURN_IF_FAILED(ft_buf_text(out, ",", err));
    FT_RETURN_IF_FAILED(put_merges(merges, out, err));
    return ft_buf_text(out, "}}", err);
}

static enum ft_status from_merges(struct vocab *v, const struct ft_buf *text, struct ft_buf *merges,
                                  struct ft_buf *out, struct ft_err *err)
{
    v->roberta = true;
    FT_RETURN_IF_FAILED(ft_json_parse_named(ft_buf_bytes(text), v->path, &v->tokens, err));
    if (ft_json_kind(v->tokens) != FT_JSON_OBJECT || merges->size == 0 ||
        memchr(merges->data, '\0', merges->size) != NULL || !ft_utf8_valid(ft_buf_bytes(merges))) {
        return FT_FAIL(err, INVALID, "%s and its merges.txt are no vocabulary in UTF-8", v->path);
    }
    FT_RETURN_IF_FAILED(name_specials(v, false, err));
    return put_bpe(v, merges, out, err);
}

static enum ft_status find_vocab(struct vocab *v, const struct ft_files *base, bool mpnet, struct ft_buf *out,
                                 struct ft_err *err)
{
    struct ft_buf text = {0};
    struct ft_buf merges = {0};
    bool has = false;
    bool has_merges = false;
    enum ft_status st = FT_OK;
    FT_TRY(ft_files_path(base, "vocab.txt", &v->path, err));
    FT_TRY(ft_files_read(base, "vocab.txt", FT_MAX_TOKENIZER_BYTES, &text, &has, err));
    if (has) {
        FT_TRY(from_lines(v, &text, mpnet, out, err));
        goto done;
    }
    ft_free(v->path);
    v->path = NULL;
    FT_TRY(ft_files_path(base, "vocab.json", &v->path, err));
    FT_TRY(ft_files_read(base, "vocab.json", FT_MAX_TOKENIZER_BYTES, &text, &has, err));
    FT_TRY(ft_files_read(base, "merges.txt", FT_MAX_TOKENIZER_BYTES, &merges, &has_merges, err));
    if (has && has_merges) {
        FT_TRY(from_merges(v, &text, &merges, out, err));
    }
done:
    ft_buf_release(&merges);
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_hf_vocab(const struct ft_files *base, const struct ft_json *config, bool mpnet,
                           struct ft_buf *out, struct ft_err *err)
{
    struct vocab v = {.config = config};
    enum ft_status st = find_vocab(&v, base, mpnet, out, err);
    if (st != FT_OK) {
        ft_buf_release(out);
    }
    ft_json_free(v.tokens);
    ft_free(v.path);
    return st;
}
