/* Tokenizers: what is refused and how, roles, truncation, memory. Ids against Hugging Face's:
 * tests/oracle/test_tokenizers.py. */
/* links: ft_prep ft_codec ft_base */
#include "tests/support.h"

#include <stdlib.h>

#include "executor/prep/tokenizer.h"

static struct ft_tokenizer *read_json(const char *json)
{
    struct ft_err err = {0};
    struct ft_tokenizer *t = NULL;
    ASSERT_OK(ft_tokenizer_read(ft_bytes_of_text(json), "tokenizer.json", &t, &err));
    return t;
}

/* The ids of a text as "2 5 3". */
static const char *ids_of(const struct ft_tokenizer *t, const char *text, size_t max_tokens,
                          struct ft_tokens *tokens)
{
    static char out[512];
    struct ft_err err = {0};
    ASSERT_OK(ft_tokenizer_encode(t, text, strlen(text), max_tokens, tokens, &err));
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < tokens->count; i++) {
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%d", i > 0 ? " " : "", tokens->ids[i]);
    }
    return out;
}

#define ADDED(id, content) "{\"id\":" #id ",\"content\":\"" content "\",\"special\":true}"
#define BERT_AROUND                                                                                          \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\","   \
    "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":1}},{\"SpecialToken\":{\"id\":\"[SEP]\","       \
    "\"type_id\":2}}],\"special_tokens\":{\"[CLS]\":{\"ids\":[2]},\"[SEP]\":{\"ids\":[3]}}},"
#define BERT_MODEL                                                                                           \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","        \
    "\"max_input_chars_per_word\":8,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,"             \
    "\"[MASK]\":4,\"play\":5,\"##ing\":6,\"##ed\":7,\"e\":8,\"!\":9,\"##e\":10}}"
#define BERT                                                                                                 \
    "{\"truncation\":{\"direction\":\"Right\",\"max_length\":12},\"added_tokens\":[" ADDED(                  \
        0, "[PAD]") "," ADDED(1,                                                                             \
                              "[UNK]") "," ADDED(2,                                                          \
                                                 "[CLS]") "," ADDED(3,                                       \
                                                                    "[SEP]") "," ADDED(4,                    \
                                                                                       "[MAS"                \
                                                                                       "K]") "],"            \
                                                                                             "\"normalizer"  \
                                                                                             "\":{\"type\":" \
                                                                                             "\"BertNormali" \
                                                                                             "zer\","        \
                                                                                             "\"lowercase\"" \
                                                                                             ":true},\"pre_" \
                                                                                             "tokenizer\":{" \
                                                                                             "\"type\":"     \
                                                                                             "\"BertPreToke" \
                                                                                             "nizer\"}"      \
                                                                                             "," BERT_AROUND \
                                                                                                 BERT_MODEL  \
                                                                                             "}"

static void words_are_cut_into_pieces(void **state)
{
    (void)state;
    struct ft_tokenizer *t = read_json(BERT);
    struct ft_tokens tokens = {0};
    assert_string_equal(ids_of(t, "Playing PLAYED\t\xc3\x89!", 0, &tokens), "2 5 6 5 7 8 9 3");
    assert_int_equal(tokens.type_ids[0], 0);
    assert_int_equal(tokens.type_ids[1], 1);
    assert_int_equal(tokens.type_ids[tokens.count - 1], 2);
    assert_string_equal(ids_of(t, "", 0, &tokens), "2 3");
    assert_string_equal(ids_of(t, "playx eeeeeeee eeeeeeeee", 0, &tokens), "2 1 8 10 10 10 10 10 10 10 1 3");
    assert_string_equal(ids_of(t, "e[MASK]e [mask]", 0, &tokens), "2 8 4 8 1 1 1 3");
    ft_tokens_release(&tokens);
    ft_tokenizer_free(t);
}

static void broken_utf8_is_a_replacement_character(void **state)
{
    (void)state;
    struct ft_tokenizer *t =
        read_json("{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"u\":0,"
                  "\"\xef\xbf\xbd\":1,\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\":2,\"a\xef\xbf\xbd\":3}}}");
    struct ft_tokens tokens = {0};
    assert_string_equal(ids_of(t, "\xff", 0, &tokens), "1");
    assert_string_equal(ids_of(t, "\xed\xa0\x80", 0, &tokens), "2");
    assert_string_equal(ids_of(t, "\xe2\x82", 0, &tokens), "1");
    assert_string_equal(ids_of(t, "a\xf0\x9f\x98", 0, &tokens), "3");
    ft_tokens_release(&tokens);
    ft_tokenizer_free(t);
}

static void texts_are_cut_to_leave_room(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_tokenizer *t = read_json(BERT);
    struct ft_tokens tokens = {0};
    assert_string_equal(ids_of(t, "e ! play e", 4, &tokens), "2 8 9 3");
    assert_string_equal(ids_of(t, "e ! play e", 2, &tokens), "2 3");
    assert_string_equal(ids_of(t, "e ! play e", 6, &tokens), "2 8 9 5 8 3");
    assert_int_equal(ft_tokenizer_encode(t, "e", 1, 1, &tokens, &err), FT_USAGE);
    assert_int_equal(tokens.count, 0);
    assert_int_equal(ft_tokenizer_max_tokens(t), 12);
    assert_int_equal(ft_tokenizer_special_count(t), 2);
    ft_tokenizer_free(t);
    t = read_json("{\"truncation\":{\"direction\":\"Left\",\"max_length\":3},\"pre_tokenizer\":{\"type\":"
                  "\"Whitespace\"}," BERT_AROUND BERT_MODEL "}");
    assert_string_equal(ids_of(t, "e ! play e", 4, &tokens), "2 5 8 3");
    ft_tokens_release(&tokens);
    ft_tokenizer_free(t);
}

static void tokens_have_names_and_roles(void **state)
{
    (void)state;
    struct ft_tokenizer *t = read_json(BERT);
    assert_int_equal(ft_tokenizer_size(t), 11);
    assert_int_equal(ft_tokenizer_id_end(t), 11);
    assert_int_equal(ft_tokenizer_id(t, ft_bytes_of_text("##ing")), 6);
    assert_int_equal(ft_tokenizer_id(t, ft_bytes_of_text("none")), -1);
    assert_true(ft_bytes_is(ft_tokenizer_token(t, 5), "play"));
    assert_null(ft_tokenizer_token(t, 11).data);
    assert_null(ft_tokenizer_token(t, -1).data);
    assert_int_equal(ft_tokenizer_role(t, FT_TOKEN_PAD), 0);
    assert_int_equal(ft_tokenizer_role(t, FT_TOKEN_UNK), 1);
    assert_int_equal(ft_tokenizer_role(t, FT_TOKEN_CLS), 2);
    assert_int_equal(ft_tokenizer_role(t, FT_TOKEN_SEP), 3);
    assert_int_equal(ft_tokenizer_role(t, FT_TOKEN_MASK), 4);
    ft_tokenizer_free(t);
}

/* The same buffer and cache for two tokenizers that say different things of one word. */
static void words_of_another_tokenizer_are_forgotten(void **state)
{
    (void)state;
    struct ft_tokenizer *a = read_json("{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":"
                                       "{\"u\":0,\"x\":1}}}");
    struct ft_tokenizer *b = read_json("{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":"
                                       "{\"u\":0,\"x\":2}}}");
    struct ft_tokens tokens = {0};
    for (int i = 0; i < 3; i++) {
        assert_string_equal(ids_of(a, "x", 0, &tokens), "1");
        assert_string_equal(ids_of(b, "x", 0, &tokens), "2");
    }
    ft_tokens_release(&tokens);
    ft_tokenizer_free(a);
    ft_tokenizer_free(b);
}

#define VOCAB "[PAD]\n[UNK]\r\n[CLS]\n[SEP]\n[MASK]\nplay\n##ing\nPlay\n"

#define MERGED_VOCAB                                                                                         \
    "{\"<s>\":0,\"<pad>\":1,\"</s>\":2,\"<unk>\":3,\"<mask>\":4,\"a\":5,\"b\":6,\"ab\":7,\"\xc4\xa0\":8,"    \
    "\"\xc4\xa0"                                                                                             \
    "ab\":9}"
#define MERGES "#version: 0.2\na b\n\xc4\xa0 ab\n"

static void older_files_are_read(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_tokenizer *t = NULL;
    struct ft_tokens tokens = {0};
    ASSERT_OK(ft_tokenizer_read_vocab(ft_bytes_of_text(VOCAB), true, "vocab.txt", &t, &err));
    assert_string_equal(ids_of(t, "Playing", 0, &tokens), "2 5 6 3");
    ft_tokenizer_free(t);
    ASSERT_OK(ft_tokenizer_read_vocab(ft_bytes_of_text(VOCAB), false, "vocab.txt", &t, &err));
    assert_string_equal(ids_of(t, "Playing", 0, &tokens), "2 7 6 3");
    ft_tokenizer_free(t);
    const char *vocab = MERGED_VOCAB;
    const char *merges = MERGES;
    ASSERT_OK(
        ft_tokenizer_read_merges(ft_bytes_of_text(vocab), ft_bytes_of_text(merges), "vocab.json", &t, &err));
    assert_string_equal(ids_of(t, "ab ab ba<mask>", 0, &tokens), "0 7 9 8 6 5 4 2");
    ft_tokenizer_free(t);
    ft_tokens_release(&tokens);
    assert_int_equal(ft_tokenizer_read_vocab(ft_bytes_of_text("[PAD]\na\n"), true, "v", &t, &err),
                     FT_INVALID);
    assert_null(t);
    assert_int_equal(ft_tokenizer_read_merges(ft_bytes_of_text("[1]"), ft_bytes_of_text(""), "v", &t, &err),
                     FT_INVALID);
    assert_int_equal(ft_tokenizer_read_merges(ft_bytes_of_text(vocab), ft_bytes_of_text("a"), "v", &t, &err),
                     FT_INVALID);
    assert_null(t);
}

/* ---- refusals ---- */

#define WORDS "\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"u\":0}}"
#define SPLIT(pattern)                                                                                       \
    "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":" pattern ",\"behavior\":\"Isolated\"}," WORDS "}"
#define REGEX(pattern) SPLIT("{\"Regex\":\"" pattern "\"}")
#define BPE(more) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1}," more "}}"
#define UNIGRAM(more) "{\"model\":{\"type\":\"Unigram\"," more "}}"
#define POST(text) "{\"post_processor\":" text "," WORDS "}"

static const struct {
    const char *json;
    enum ft_status status;
    const char *says;
} refusals[] = {
    {"", FT_INVALID, ""},
    {"[]", FT_INVALID, "not a tokenizer.json"},
    {"{\"model\":{}}", FT_INVALID, "\"type\""},
    {"{\"model\":{\"type\":\"Char\"}}", FT_UNSUPPORTED, "model \"Char\""},
    {"{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"a\":0}}}", FT_INVALID, "\"u\""},
    {"{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":[]}}", FT_INVALID, "model.vocab"},
    {"{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"u\":-1}}}", FT_LIMIT, "id"},
    {"{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"u\":99999999}}}", FT_LIMIT,
     "99999999"},
    {"{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"vocab\":{\"u\":1}}}", FT_INVALID, "prefix"},
    {"{\"normalizer\":{\"type\":\"Odd\"}," WORDS "}", FT_UNSUPPORTED, "normalizer \"Odd\""},
    {"{\"normalizer\":{\"type\":\"Sequence\"}," WORDS "}", FT_INVALID, "normalizers"},
    {"{\"normalizer\":{\"type\":\"Strip\",\"strip_left\":3}," WORDS "}", FT_INVALID, "strip_left"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}," WORDS "}", FT_INVALID,
     "charsmap"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}," WORDS "}",
     FT_INVALID, "charsmap"},
    {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," WORDS "}", FT_UNSUPPORTED, "\"UnicodeScripts\""},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}," WORDS "}", FT_INVALID,
     "replacement"},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":\"x\"}," WORDS "}",
     FT_INVALID, "prepend_scheme"},
    {"{\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"x\"}," WORDS "}", FT_INVALID, "behavior"},
    {SPLIT("{}"), FT_INVALID, "pattern"},
    {SPLIT("{\"String\":\"\"}"), FT_UNSUPPORTED, "empty"},
    {REGEX("\\\\bword"), FT_UNSUPPORTED, "escape"},
    {REGEX("(a)\\\\1"), FT_UNSUPPORTED, "escape"},
    {REGEX("\\\\p{Han}"), FT_UNSUPPORTED, "general category"},
    {REGEX("\\\\pL"), FT_UNSUPPORTED, "braces"},
    {REGEX("[a[bc]]"), FT_UNSUPPORTED, "class in a class"},
    {REGEX("[a&&b]"), FT_UNSUPPORTED, "intersection"},
    {REGEX("[]a]"), FT_UNSUPPORTED, "bracket"},
    {REGEX("[\\\\W]"), FT_UNSUPPORTED, "\\W"},
    {REGEX("a(?i)b"), FT_UNSUPPORTED, "group"},
    {REGEX("(?i:stra)"), FT_UNSUPPORTED, "case"},
    {REGEX("(?i:\\\\p{Lu})"), FT_UNSUPPORTED, "case"},
    {REGEX("a*"), FT_UNSUPPORTED, "nothing"},
    {REGEX("a{,3}b"), FT_UNSUPPORTED, "{,n}"},
    {REGEX("a{1,3}+"), FT_UNSUPPORTED, "}+"},
    {REGEX("a)"), FT_INVALID, ")"},
    {REGEX("(a"), FT_INVALID, "regular expression"},
    {BPE("\"merges\":{}"), FT_INVALID, "model.merges"},
    {BPE("\"merges\":[\"a b\"]"), FT_INVALID, "a b"},
    {BPE("\"merges\":[\"a c\"]"), FT_INVALID, "a c"},
    {BPE("\"merges\":[3]"), FT_INVALID, "no pair"},
    {BPE("\"merges\":[\"a b c\"]"), FT_INVALID, "no pair"},
    {BPE("\"merges\":[],\"dropout\":0.1"), FT_UNSUPPORTED, "dropout"},
    {BPE("\"merges\":[],\"unk_token\":\"x\""), FT_INVALID, "\"x\""},
    {BPE("\"merges\":[],\"byte_fallback\":true,\"end_of_word_suffix\":\"x\""), FT_UNSUPPORTED,
     "byte_fallback"},
    {UNIGRAM("\"vocab\":{}"), FT_INVALID, "model.vocab"},
    {UNIGRAM("\"vocab\":[[\"a\",0]]"), FT_UNSUPPORTED, "unk_id"},
    {UNIGRAM("\"unk_id\":1,\"vocab\":[[\"a\",0]]"), FT_UNSUPPORTED, "unk_id"},
    {UNIGRAM("\"unk_id\":0,\"vocab\":[[\"a\"]]"), FT_INVALID, "entry 0"},
    {POST("{\"type\":\"Odd\"}"), FT_UNSUPPORTED, "post_processor \"Odd\""},
    {POST("{\"type\":\"BertProcessing\",\"cls\":[\"a\",1]}"), FT_INVALID, "sep"},
    {POST("{\"type\":\"BertProcessing\",\"cls\":[\"a\",-1],\"sep\":[\"a\",1]}"), FT_INVALID, "-1"},
    {POST("{\"type\":\"TemplateProcessing\",\"single\":[]}"), FT_UNSUPPORTED, "without the text"},
    {POST("{\"type\":\"TemplateProcessing\",\"single\":[{}]}"), FT_INVALID, "piece 0"},
    {POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}]}"),
     FT_UNSUPPORTED, "not the text once"},
    {POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\",\"type_id\":0}}]}"),
     FT_INVALID, "\"x\""},
    {"{\"added_tokens\":{}," WORDS "}", FT_INVALID, "added_tokens"},
    {"{\"added_tokens\":[{}]," WORDS "}", FT_INVALID, "content"},
    {"{\"truncation\":{}," WORDS "}", FT_INVALID, "max_length"},
    {"{\"truncation\":{\"max_length\":3,\"direction\":\"Up\"}," WORDS "}", FT_INVALID, "Up"},
};

static void what_is_not_built_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct ft_err err = {0};
        struct ft_tokenizer *t = NULL;
        enum ft_status st = ft_tokenizer_read(ft_bytes_of_text(refusals[i].json), "the file", &t, &err);
        if (st != refusals[i].status || t != NULL || strstr(err.text, refusals[i].says) == NULL ||
            strstr(err.text, "the file") == NULL) {
            fail_msg("%s: %s: %s", refusals[i].json, ft_status_text(st), err.text);
        }
    }
    assert_int_equal(ft_alloc_stats().live_blocks, 0);
}

/* ---- memory ---- */

#define UNIGRAM_FULL                                                                                         \
    "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Replace\","     \
    "\"pattern\":{\"Regex\":\" {2,}|x\"},\"content\":\" \"}]},\"pre_tokenizer\":{\"type\":\"Metaspace\","    \
    "\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"first\"},\"added_tokens\":[{\"content\":\"<s>\"," \
    "\"normalized\":true,\"lstrip\":true}],\"model\":{\"type\":\"Unigram\",\"unk_id\":0,"                    \
    "\"byte_fallback\":true,\"vocab\":[[\"u\",0.0],[\"\xe2\x96\x81\",-2.5],[\"a\",-3.25],[\"ab\",-1.5],"     \
    "[\"<0x41>\",-1]]}}"

struct memory_case {
    const char *json, *text;
};

static enum ft_status read_and_encode(void *arg, struct ft_err *err)
{
    const struct memory_case *c = arg;
    struct ft_tokenizer *t = NULL;
    struct ft_tokens tokens = {0};
    enum ft_status st = ft_tokenizer_read(ft_bytes_of_text(c->json), "tokenizer.json", &t, err);
    for (int i = 0; i < 2 && st == FT_OK; i++) {
        st = ft_tokenizer_encode(t, c->text, strlen(c->text), 0, &tokens, err);
    }
    ft_tokens_release(&tokens);
    ft_tokenizer_free(t);
    return st;
}

static enum ft_status read_older(void *arg, struct ft_err *err)
{
    (void)arg;
    struct ft_tokenizer *t = NULL;
    enum ft_status st = ft_tokenizer_read_vocab(ft_bytes_of_text(VOCAB), true, "vocab.txt", &t, err);
    ft_tokenizer_free(t);
    if (st == FT_OK) {
        st = ft_tokenizer_read_merges(ft_bytes_of_text(MERGED_VOCAB), ft_bytes_of_text(MERGES), "vocab.json",
                                      &t, err);
        ft_tokenizer_free(t);
    }
    return st;
}

static void no_memory_is_a_status(void **state)
{
    (void)state;
    struct memory_case cases[] = {
        {BERT, "playing \xff \xc3\x89 [MASK] e!"},
        {UNIGRAM_FULL, "ab  a <s>A\xef\xac\x81"
                       "b \xf0\x9f\x98\x80 e\xcc\x81"},
        {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
         "\"Regex\":\"[ab]+\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\"}]},\"model\":{\"type\":"
         "\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}",
         "abababababababababababababababababababababababababababababababababababababababab b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fail_each_allocation(read_and_encode, cases + i);
    }
    fail_each_allocation(read_older, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_cut_into_pieces),
        cmocka_unit_test(broken_utf8_is_a_replacement_character),
        cmocka_unit_test(texts_are_cut_to_leave_room),
        cmocka_unit_test(tokens_have_names_and_roles),
        cmocka_unit_test(words_of_another_tokenizer_are_forgotten),
        cmocka_unit_test(older_files_are_read),
        cmocka_unit_test(what_is_not_built_is_refused_by_name),
        cmocka_unit_test(no_memory_is_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
