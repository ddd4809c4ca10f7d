/* Texts from documents to embeddings and gradients: batches of tokens, plans by size, packed and padded. */
/* links: ft_train ft_model ft_graph ft_kernels ft_codec ft_base */
#include <math.h>
#include <unistd.h>

#include "executor/graph/pack.h"
#include "executor/model/blocks.h"
#include "executor/train/buckets.h"
#include "executor/train/feed.h"
#include "executor/train/encoder_internal.h"
#include "executor/train/step.h"
#include "tests/graph_test.h"
#include "tests/support.h"

enum { WORDS = 256, PLACES = 64, WIDTH = 16, HEADS = 2, TEXTS = 60, LABELS = 5 };

/* ---- a tokenizer, an encoder of texts, documents */

static struct ft_tokenizer *tokenizer(void)
{
    struct ft_err err = {0};
    struct ft_tokenizer *t = NULL;
    struct ft_buf json = {0};
    OK(ft_buf_text(&json,
                   "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [], "
                   "\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
                   "\"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"[SEP]\", 3], \"cls\": "
                   "[\"[CLS]\", 2]}, \"decoder\": null, \"model\": {\"type\": \"WordPiece\", \"unk_token\": "
                   "\"[UNK]\", \"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100, "
                   "\"vocab\": {\"[PAD]\": 0, \"[UNK]\": 1, \"[CLS]\": 2, \"[SEP]\": 3",
                   &err));
    for (int i = 0; i < 26; i++) {
        OK(ft_buf_printf(&json, &err, ", \"%c\": %d", 'a' + i, 4 + i));
    }
    OK(ft_buf_text(&json, "}}}", &err));
    OK(ft_tokenizer_read(ft_buf_bytes(&json), "tokenizer.json", &t, &err));
    ft_buf_release(&json);
    return t;
}

struct net {
    struct ft_graph *g;
    ft_value ids, mask;
    int params;
};

static ft_value param(struct net *net, struct ft_type t, double lo, double hi)
{
    struct ft_err err = {0};
    float data[WORDS * WIDTH];
    ft_value v = FT_NO_VALUE;
    for (int64_t i = 0; i < ft_elements(&t); i++) {
        data[i] =
            (float)test_uniform(ft_rand_at(7, FT_RAND_TEST, (uint64_t)net->params), (uint64_t)i, lo, hi);
    }
    net->params++;
    OK(ft_graph_param(net->g, "", &t, FT_PARAM_WEIGHT, data, &v, &err));
    return v;
}

static ft_value add(struct net *net, enum ft_op op, const struct ft_attrs *a, int n, const ft_value *in)
{
    struct ft_err err = {0};
    ft_value out[FT_MAX_OUTPUTS];
    OK(ft_graph_add(net->g, op, a, in, n, "here", out, &err));
    return out[0];
}
#define ADD(net, op, attrs, ...)                                                                             \
    add(net, op, &(struct ft_attrs)attrs, (int)(sizeof((ft_value[]){__VA_ARGS__}) / sizeof(ft_value)),       \
        (ft_value[]){__VA_ARGS__})
#define ATTRS(...)                                                                                           \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

static ft_value linear(struct net *net, ft_value x)
{
    x = ADD(net, FT_OP_MATMUL, ATTRS(.alpha = 1, .trans_b = 1), x,
            param(net, shape(2, WIDTH, WIDTH), -0.4, 0.4));
    return ADD(net, FT_OP_ADD, ATTRS(0), x, param(net, shape(1, WIDTH), -0.1, 0.1));
}

/* `joined`: with a sum over the places of a batch, which no packed graph has. */
static struct ft_graph *encoder_graph(bool joined)
{
    struct ft_err err = {0};
    struct net net = {0};
    struct ft_type t = batched(shape(2, 1, 1));
    t.dtype = FT_I64;
    t.dim[1] = ft_dim_symbol(FT_SYMBOL_LENGTH);
    OK(ft_graph_new(&net.g, &err));
    OK(ft_graph_input(net.g, "input_ids", &t, &net.ids, &err));
    OK(ft_graph_input(net.g, "attention_mask", &t, &net.mask, &err));
    ft_value places = ADD(&net, FT_OP_POSITIONS, ATTRS(0), net.mask, net.ids);
    ft_value x = ADD(&net, FT_OP_GATHER, ATTRS(0), param(&net, shape(2, WORDS, WIDTH), -1, 1), net.ids);
    ft_value p = ADD(&net, FT_OP_GATHER, ATTRS(0), param(&net, shape(2, PLACES, WIDTH), -1, 1), places);
    x = ADD(&net, FT_OP_ADD, ATTRS(0), x, p);
    ft_value y = ADD(&net, FT_OP_ATTENTION, ATTRS(.group = HEADS, .alpha = 0.35F), linear(&net, x),
                     linear(&net, x), linear(&net, x), net.mask);
    x = ADD(&net, FT_OP_ADD, ATTRS(0), x, linear(&net, y));
    x = ADD(&net, FT_OP_LAYERNORM, ATTRS(.axis = 2, .eps = 1e-5F), x, param(&net, shape(1, WIDTH), 0.5, 1.5),
            param(&net, shape(1, WIDTH), -0.5, 0.5));
    if (joined) {
        ft_value sum = ADD(&net, FT_OP_REDUCE_SUM, ATTRS(.axes_count = 1, .axes = {1}, .keepdims = 1), x);
        sum = ADD(&net, FT_OP_SCALE, ATTRS(0), sum); /* nothing of it, but it is there */
        x = ADD(&net, FT_OP_ADD, ATTRS(0), x, sum);
    }
    x = ADD(&net, FT_OP_SEQ_POOL, ATTRS(.kind = FT_SEQ_MEAN), x, net.mask);
    OK(ft_graph_output(net.g, x, "embedding", &err));
    return net.g;
}

static void text_of(int i, char out[256])
{
    struct ft_rand r = ft_rand_at(3, FT_RAND_TEST, (uint64_t)i);
    int words = i == 0 ? 0 : i == 1 ? 100 : (int)(ft_rand_u32(r, 0) % 24);
    for (int k = 0; k < words; k++) {
        out[2 * k] = (char)('a' + ft_rand_u32(r, (uint64_t)k + 1) % 26);
        out[2 * k + 1] = ' ';
    }
    out[2 * words] = '\0';
}

static struct ft_dataset *dataset_of(const struct ft_buf *lines, bool labels)
{
    struct ft_err err = {0};
    struct ft_dataset *data = NULL;
    char path[] = "/tmp/ft-test-texts-XXXXXX.jsonl";
    int fd = mkstemps(path, 6);
    assert_true(fd >= 0);
    (void)close(fd);
    OK(ft_file_write(path, ft_buf_bytes(lines), &err));
    OK(ft_dataset_open(path, labels, &data, &err));
    (void)unlink(path);
    return data;
}

static struct ft_dataset *texts(void)
{
    struct ft_err err = {0};
    struct ft_buf lines = {0};
    for (int i = 0; i < TEXTS; i++) {
        char text[256];
        text_of(i, text);
        OK(ft_buf_printf(&lines, &err, "{\"text\": \"%s\", \"label\": \"%d\"}\n", text, i % LABELS));
    }
    struct ft_dataset *data = dataset_of(&lines, false);
    ft_buf_release(&lines);
    return data;
}

/* ---- sizes */

static void sizes_are_rounded_up_a_little(void **state)
{
    (void)state;
    int64_t last = 0;
    int distinct = 0;
    for (int64_t n = 1; n < 20000; n++) {
        int64_t up = ft_bucket_tokens(n);
        assert_true(up >= n && up >= last && up % (n <= 48 ? 6 : 16) == 0);
        assert_true(up - n <= 15 || (up - n) * 16 <= n);
        assert_int_equal(ft_bucket_tokens(up), up);
        distinct += up != last;
        last = up;
    }
    assert_in_range(distinct, 32, 128);
    assert_int_equal(ft_bucket_rows(5, 64), 8);
    assert_int_equal(ft_bucket_rows(33, 48), 48);
    assert_int_equal(ft_bucket_rows(1, 1), 1);
}

static struct ft_batch two_texts(void)
{
    struct ft_err err = {0};
    struct ft_batch b;
    OK(ft_batch_init_texts(&b, 3, 12, &err));
    for (int64_t r = 0; r < 2; r++) {
        size_t at = ft_batch_add_text(&b, (size_t)(2 + 3 * r));
        for (int64_t i = 0; i < 2 + 3 * r; i++) {
            b.texts.ids[at + (size_t)i] = 10 * (r + 1) + i;
        }
    }
    return b;
}

static void batches_are_filled_up_on_the_device(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    struct ft_batch b = two_texts();
    struct ft_text_in in;
    int64_t symbols[FT_MAX_SYMBOLS];
    const struct ft_text_limits limits = {.rows = 3, .tokens = 40, .longest = 6};
    static const int64_t ids[12] = {10, 11, 20, 21, 22, 23, 24};
    static const int64_t spans[6] = {0, 2, 2, 5, 7, 1};
    static const int64_t padded[18] = {10, 11, 0, 0, 0, 0, 20, 21, 22, 23, 24};
    static const int64_t mask[18] = {1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1};
    struct ft_text_inputs values = {0, FT_NO_VALUE, 1, true};
    OK(ft_device_open("cpu", 1, &device, &err));
    OK(ft_text_in_init(&in, device, &values, &limits, &err));
    ft_text_symbols(&values, &limits, 2, 7, 5, symbols);
    assert_int_equal(symbols[FT_SYMBOL_BATCH], 2);
    assert_int_equal(symbols[FT_SYMBOL_TOKENS], 12);
    symbols[FT_SYMBOL_BATCH] = 3; /* a row more than there is */
    OK(ft_text_in_put(&in, &b, symbols, &err));
    assert_memory_equal(in.ids, ids, sizeof ids);
    assert_memory_equal(in.seq, spans, sizeof spans);
    ft_text_in_release(&in);
    values.packed = false;
    OK(ft_text_in_init(&in, device, &values, &limits, &err));
    ft_text_symbols(&values, &limits, 2, 7, 5, symbols);
    assert_int_equal(symbols[FT_SYMBOL_LENGTH], 6); /* never more than the longest */
    symbols[FT_SYMBOL_BATCH] = 3;
    OK(ft_text_in_put(&in, &b, symbols, &err));
    assert_memory_equal(in.ids, padded, sizeof padded);
    assert_memory_equal(in.seq, mask, sizeof mask);
    assert_true(ft_text_fits(&values, &limits, 3, 18, 6));
    assert_false(ft_text_fits(&values, &limits, 4, 4, 1));
    ft_text_in_release(&in);
    ft_batch_release(&b);
    ft_device_close(device);
}

/* ---- embeddings */

struct world {
    struct ft_device *device;
    struct ft_tokenizer *tokenizer;
    struct ft_prep prep;
    struct ft_graph *graph, *packed;
    struct ft_params params;
};

static void open_world(struct world *w, bool joined)
{
    struct ft_err err = {0};
    char why[FT_ERR_TEXT];
    memset(w, 0, sizeof *w);
    OK(ft_device_open("cpu", 2, &w->device, &err));
    w->tokenizer = tokenizer();
    ft_prep_infer_text(w->tokenizer, PLACES, &w->prep);
    w->graph = encoder_graph(joined);
    OK(ft_input_pack(w->graph, &w->packed, why, &err));
    assert_true(joined == (w->packed == NULL));
    assert_true(joined == (why[0] != '\0'));
    OK(ft_params_init(&w->params, w->device, w->graph, NULL, &err));
}

static void close_world(struct world *w)
{
    ft_params_release(&w->params);
    ft_graph_free(w->packed);
    ft_graph_free(w->graph);
    ft_tokenizer_free(w->tokenizer);
    ft_device_close(w->device);
}

static struct ft_encoder *encoder(const struct world *w, const struct ft_graph *g, int64_t batch)
{
    struct ft_err err = {0};
    struct ft_encoder *e = NULL;
    const struct ft_encoder_parts parts = {w->device, g, "", &w->params, &w->prep};
    OK(ft_encoder_share(&parts, 2, batch, &e, &err));
    return e;
}

static float furthest(const float *a, const float *b, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmaxf(most, fabsf(a[i] - b[i]));
    }
    return most;
}

/* Batches are cut elsewhere, so matrix products have other shapes: float32 sums of 16 numbers may differ in
 * their order, and softmax in its last bits. */
static const float ROUNDING = 2e-6F;

static void a_text_has_one_embedding_in_any_batch(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct world w;
    static float packed[TEXTS * WIDTH], padded[TEXTS * WIDTH], one[WIDTH];
    struct ft_dataset *data = texts();
    open_world(&w, false);
    struct ft_encoder *a = encoder(&w, w.packed, 8);
    struct ft_encoder *b = encoder(&w, w.graph, 5);
    OK(ft_encoder_dataset(a, data, packed, NULL, NULL, NULL, &err));
    OK(ft_encoder_dataset(b, data, padded, NULL, NULL, NULL, &err));
    assert_true(ft_encoder_tokens(a) == ft_encoder_tokens(b));
    assert_true(furthest(packed, padded, TEXTS * WIDTH) <= ROUNDING);
    for (int i = 0; i < TEXTS; i++) {
        size_t failed = 0;
        OK(ft_encoder_documents(i % 2 == 0 ? a : b, ft_dataset_doc(data, (size_t)i), 1, one, &failed, &err));
        assert_true(furthest(one, packed + i * WIDTH, WIDTH) <= ROUNDING);
        assert_true(i == 0 || furthest(one, packed + (i - 1) * WIDTH, WIDTH) > 0.01F);
    }
    ft_encoder_free(a);
    ft_encoder_free(b);
    ft_dataset_free(data);
    close_world(&w);
}

static void what_cannot_be_packed_runs_padded(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct world w, plain;
    static float padded[TEXTS * WIDTH], packed[TEXTS * WIDTH];
    struct ft_dataset *data = texts();
    open_world(&w, true);
    open_world(&plain, false);
    struct ft_encoder *a = encoder(&w, w.graph, 16);
    struct ft_encoder *b = encoder(&plain, plain.packed, 16);
    OK(ft_encoder_dataset(a, data, padded, NULL, NULL, NULL, &err));
    OK(ft_encoder_dataset(b, data, packed, NULL, NULL, NULL, &err));
    assert_true(furthest(packed, padded, TEXTS * WIDTH) <= ROUNDING);
    ft_encoder_free(a);
    ft_encoder_free(b);
    ft_dataset_free(data);
    close_world(&w);
    close_world(&plain);
}

static void what_is_no_text_is_named(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct world w;
    float out[2 * WIDTH];
    struct ft_buf lines = {0};
    size_t failed = 0;
    OK(ft_buf_text(&lines,
                   "{\"text\": \"a b\"}\n{\"blob\": \"YSBi\"}\n{\"blob\": \"/w==\"}\n"
                   "{\"id\": \"third\", \"tensor\": [1, 2]}\n",
                   &err));
    struct ft_dataset *data = dataset_of(&lines, false);
    open_world(&w, false);
    struct ft_encoder *e = encoder(&w, w.packed, 4);
    FAILS(INVALID, ".jsonl:3: the model wants a text, this is a blob that is not UTF-8",
          ft_encoder_dataset(e, data, out, NULL, NULL, NULL, &err));
    OK(ft_encoder_documents(e, ft_dataset_doc(data, 0), 1, out, &failed, &err));
    OK(ft_encoder_documents(e, ft_dataset_doc(data, 1), 1, out + WIDTH, &failed, &err)); /* "a b" too */
    assert_memory_equal(out, out + WIDTH, WIDTH * sizeof *out);
    struct ft_document docs[3] = {*ft_dataset_doc(data, 0), *ft_dataset_doc(data, 1),
                                  *ft_dataset_doc(data, 3)};
    FAILS(INVALID, "the model wants a text, this is a ",
          ft_encoder_documents(e, docs, 3, out, &failed, &err));
    assert_int_equal(failed, 2);
    ft_encoder_free(e);
    ft_dataset_free(data);
    ft_buf_release(&lines);
    close_world(&w);
}

/* ---- options */

static void options_of_texts(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_tokenizer *t = tokenizer();
    struct ft_prep p;
    static const struct {
        const char *options, *part; /* NULL: taken */
    } cases[] = {{"{\"max_length\": 10, \"prefix\": \"query: \"}", NULL},
                 {"{\"kind\": \"text\"}", NULL},
                 {"{\"max_length\": 2}", "3 to 64"},
                 {"{\"max_length\": 65}", "3 to 64"},
                 {"{\"prefix\": 3}", "less than 256 bytes"},
                 {"{\"kind\": \"image\"}", "the model takes texts"},
                 {"{\"mean\": 3}", "accepted: kind, max_length, prefix"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_json *json = NULL;
        ft_prep_infer_text(t, PLACES, &p);
        OK(ft_json_parse(ft_bytes_of_text(cases[i].options), &json, &err));
        if (cases[i].part == NULL) {
            OK(ft_prep_read(json, &p, &err));
        } else {
            FAILS(INVALID, cases[i].part, ft_prep_read(json, &p, &err));
        }
        ft_json_free(json);
    }
    struct ft_json *json = NULL;
    struct ft_buf text = {0};
    p.max_length = 7;
    OK(ft_prep_write(&p, &json, &err));
    OK(ft_json_write(json, 0, &text, &err));
    assert_non_null(strstr((const char *)text.data, "\"max_length\": 7"));
    struct ft_content content = {.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text("b c d e f g h i")};
    struct ft_tokens tokens = {0};
    (void)snprintf(p.prefix, sizeof p.prefix, "a ");
    OK(ft_prep_text(&p, &content, &tokens, &err));
    assert_int_equal(tokens.count, 7);
    static const int32_t want[7] = {2, 4, 5, 6, 7, 8, 3};
    assert_memory_equal(tokens.ids, want, sizeof want);
    ft_tokens_release(&tokens);
    ft_buf_release(&text);
    ft_json_free(json);
    ft_tokenizer_free(t);
}

/* ---- tailoring */

static ft_value named(struct net *net, const char *name, struct ft_type t)
{
    struct ft_err err = {0};
    static const float zeros[WORDS * WIDTH];
    ft_value v = FT_NO_VALUE;
    OK(ft_graph_param(net->g, name, &t, FT_PARAM_WEIGHT, zeros, &v, &err));
    return v;
}

/* Embeddings, two blocks, a dense layer: rows of tokens. */
static struct ft_graph *two_blocks(void)
{
    static const char *const names[3] = {"encoder.layer.0.dense.weight", "encoder.layer.1.dense.weight",
                                         "after.weight"};
    struct ft_err err = {0};
    struct net net = {0};
    struct ft_type t = batched(shape(2, 1, 1));
    t.dtype = FT_I64;
    t.dim[1] = ft_dim_symbol(FT_SYMBOL_LENGTH);
    OK(ft_graph_new(&net.g, &err));
    OK(ft_graph_input(net.g, "input_ids", &t, &net.ids, &err));
    ft_value x =
        ADD(&net, FT_OP_GATHER, ATTRS(0), named(&net, "embeddings.weight", shape(2, WORDS, WIDTH)), net.ids);
    for (int i = 0; i < 3; i++) {
        x = ADD(&net, FT_OP_MATMUL, ATTRS(.alpha = 1), x, named(&net, names[i], shape(2, WIDTH, WIDTH)));
    }
    OK(ft_graph_output(net.g, x, "last_hidden_state", &err));
    return net.g;
}

static void tokens_are_pooled_and_blocks_frozen(void **state)
{
    (void)state;
    static const struct {
        const char *freeze, *flags; /* of the four weights, in their order */
    } cases[] = {{"", "...."},         {"embeddings", "f..."}, {"1", "ff.."},
                 {"2", "fff."},        {"true", "ff.."},       {"encoder.layer.1,embeddings", "f.f."},
                 {"*.dense.*", ".ff."}};
    static const int kinds[] = {FT_SEQ_MEAN, FT_SEQ_MEAN,         -1, FT_SEQ_MAX, FT_SEQ_FIRST,
                                FT_SEQ_LAST, FT_SEQ_WEIGHTED_MEAN};
    struct ft_err err = {0};
    struct ft_model model = {.graph = two_blocks()};
    struct ft_graph *g = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_tailor_options o = {.freeze = cases[i].freeze};
        OK(ft_tailor(&model, &o, &g, NULL, &err));
        for (int p = 0; p < 4; p++) {
            assert_int_equal(ft_graph_param_frozen(g, p), cases[i].flags[p] == 'f');
        }
        ft_graph_free(g);
    }
    struct ft_tailor_options many = {.freeze = "3"};
    FAILS(INVALID, "3 layers are asked for, the model has 2", ft_tailor(&model, &many, &g, NULL, &err));
    for (int k = FT_POOLER_DEFAULT; k <= FT_POOLER_WEIGHTED_MEAN; k++) {
        struct ft_tailor_options o = {.pooler = (enum ft_pooler)k};
        OK(ft_tailor(&model, &o, &g, NULL, &err));
        const struct ft_node *last = ft_graph_node(g, ft_graph_nodes(g) - 1);
        assert_int_equal(last->op, k == FT_POOLER_GEM ? FT_OP_POW : FT_OP_SEQ_POOL);
        assert_true(k == FT_POOLER_GEM || last->attrs.kind == kinds[k]);
        assert_int_equal(ft_graph_inputs(g), 2); /* and the mask */
        ft_graph_free(g);
    }
    ft_graph_free(model.graph);
}

static void depths_are_read_from_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int block;
    } cases[] = {{"encoder.layer.11.output.dense.weight", 11},
                 {"layers.3.attn.Wo.weight", 3},
                 {"encoder.block.0.layer.1.SelfAttention.q.weight", 0},
                 {"/encoder/layer.2/Add", 2},
                 {"embeddings.LayerNorm.weight", -1},
                 {"layer.weight", -1},
                 {"layer1.0.conv1.weight", -1},
                 {"2_Dense.linear.weight", -1},
                 {"", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(ft_block_of(cases[i].name), cases[i].block);
    }
    struct ft_graph *g = two_blocks();
    int depth[4];
    assert_int_equal(ft_block_depths(g, depth), 2);
    for (int p = 0; p < 4; p++) {
        assert_int_equal(depth[p], p);
    }
    ft_graph_free(g);
}

/* ---- batches of training */

static struct ft_sampler *sampler_of(const struct ft_dataset *data, struct ft_sampler_classes *classes,
                                     struct ft_sampler_shape *shape)
{
    struct ft_err err = {0};
    struct ft_sampler *sampler = NULL;
    *classes = ft_sampler_classes_of(data);
    OK(ft_sampler_fit_shape(classes, 12, 4, shape, &err));
    OK(ft_sampler_new(classes, shape, 3, &sampler, &err));
    return sampler;
}

static void batches_are_the_same_whatever_is_kept(void **state)
{
    (void)state;
    enum { SETS = 3, STEPS = 40 };
    static const size_t keep[SETS] = {SIZE_MAX, 0, 600};
    struct ft_err err = {0};
    struct world w;
    struct ft_rows rows[SETS];
    struct ft_feed *feed[SETS];
    struct ft_sampler *sampler[SETS];
    struct ft_sampler_classes classes;
    struct ft_sampler_shape shape;
    struct ft_dataset *data = texts();
    size_t most = 0;
    size_t seen = 0;
    open_world(&w, false);
    for (int i = 0; i < SETS; i++) {
        OK(ft_rows_init(&rows[i], data, &w.prep, 3, keep[i], NULL, &err));
        sampler[i] = sampler_of(data, &classes, &shape);
        OK(ft_texts_most(&rows[i].texts, &classes, &shape, &most, &err));
        OK(ft_feed_new(&rows[i], NULL, sampler[i], &(struct ft_feed_size){shape.batch, most}, &feed[i],
                       &err));
    }
    assert_int_equal(rows[0].texts.longest, PLACES);
    assert_int_equal(rows[0].texts.kept, TEXTS);
    assert_int_equal(rows[1].texts.kept, 0);
    assert_in_range(rows[2].texts.kept, 1, TEXTS - 1);
    for (int n = 0; n < STEPS; n++) {
        const struct ft_batch *b[SETS] = {NULL};
        for (int i = 0; i < SETS; i++) {
            OK(ft_feed_next(feed[i], &b[i], &err));
            assert_int_equal(b[i]->texts.tokens, b[0]->texts.tokens);
            assert_memory_equal(b[i]->texts.ids, b[0]->texts.ids, b[0]->texts.tokens * sizeof(int64_t));
            assert_memory_equal(b[i]->texts.spans, b[0]->texts.spans, 2 * shape.batch * sizeof(int64_t));
        }
        assert_true(b[0]->texts.tokens <= most);
        seen = b[0]->texts.tokens > seen ? b[0]->texts.tokens : seen;
        for (int i = 0; i < SETS; i++) {
            ft_feed_done(feed[i], b[i]);
        }
    }
    assert_true(seen > most / 2);
    for (int i = 0; i < SETS; i++) {
        ft_feed_free(feed[i]);
        ft_sampler_free(sampler[i]);
        ft_rows_release(&rows[i]);
    }
    ft_dataset_free(data);
    close_world(&w);
}

/* ---- steps */

static struct ft_step *step_of(const struct world *w, const struct ft_graph *g, size_t batch, int64_t tokens)
{
    struct ft_err err = {0};
    struct ft_step *step = NULL;
    struct ft_step_spec spec = {
        .device = w->device, .graph = g, .batch = batch, .tokens = tokens, .longest = PLACES, .clip_norm = 1};
    OK(ft_loss_parse("TripletMarginLoss", NULL, "none", NULL, &spec.loss, &err));
    OK(ft_optim_parse("AdamW", NULL, &spec.optim, &err));
    OK(ft_step_new(&spec, &step, &err));
    return step;
}

static void draw(const struct ft_rows *rows, struct ft_sampler *sampler, struct ft_batch *batch)
{
    struct ft_err err = {0};
    ft_sampler_next(sampler, batch->items, batch->labels);
    OK(ft_rows_batch(rows, FT_ROWS_AS_THEY_ARE, batch, NULL, &err));
}

/* Packed and padded are one model; and plans of other sizes leave nothing behind. */
static void steps_do_not_depend_on_form_or_history(void **state)
{
    (void)state;
    enum { STEPS = 12 };
    struct ft_err err = {0};
    struct world w;
    struct ft_rows rows;
    struct ft_sampler_classes classes;
    struct ft_sampler_shape shape;
    struct ft_dataset *data = texts();
    struct ft_batch batch;
    struct ft_step_result a, b, again;
    size_t most = 0;
    open_world(&w, false);
    OK(ft_rows_init(&rows, data, &w.prep, 1, SIZE_MAX, NULL, &err));
    struct ft_sampler *sampler = sampler_of(data, &classes, &shape);
    OK(ft_texts_most(&rows.texts, &classes, &shape, &most, &err));
    OK(ft_rows_batch_init(&rows, shape.batch, most, &batch, &err));
    struct ft_step *packed = step_of(&w, w.packed, shape.batch, (int64_t)most);
    struct ft_step *padded = step_of(&w, w.graph, shape.batch, (int64_t)most);
    size_t plans = 0;
    const struct ft_plan *last = NULL;
    for (int n = 0; n < STEPS; n++) {
        draw(&rows, sampler, &batch);
        OK(ft_step_gradients(packed, &batch, &a, &err));
        OK(ft_step_gradients(padded, &batch, &b, &err));
        plans += ft_step_plan(packed) != last;
        last = ft_step_plan(packed);
        assert_true(fabs(a.loss - b.loss) <= 1e-5 * fabs(b.loss)); /* float32, other orders of sums */
        assert_true(fabs(a.grad_norm - b.grad_norm) <= 1e-4 * b.grad_norm);
        const struct ft_flat *one = &ft_step_optim(packed)->grads;
        const struct ft_flat *other = &ft_step_optim(padded)->grads;
        assert_true(one->count == other->count);
        assert_true(furthest(one->data, other->data, one->count) <= 1e-4F * (float)b.grad_norm);
    }
    assert_true(plans > 2);
    ft_sampler_seek(sampler, STEPS - 1);
    draw(&rows, sampler, &batch);
    OK(ft_step_gradients(packed, &batch, &again, &err));
    assert_true(again.loss == a.loss && again.grad_norm == a.grad_norm);
    ft_step_free(packed);
    packed = step_of(&w, w.packed, shape.batch, (int64_t)most);
    OK(ft_step_gradients(packed, &batch, &again, &err));
    assert_true(again.loss == a.loss && again.grad_norm == a.grad_norm);
    ft_step_free(packed);
    ft_step_free(padded);
    ft_batch_release(&batch);
    ft_sampler_free(sampler);
    ft_rows_release(&rows);
    ft_dataset_free(data);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_rounded_up_a_little),
        cmocka_unit_test(batches_are_filled_up_on_the_device),
        cmocka_unit_test(a_text_has_one_embedding_in_any_batch),
        cmocka_unit_test(what_cannot_be_packed_runs_padded),
        cmocka_unit_test(what_is_no_text_is_named),
        cmocka_unit_test(options_of_texts),
        cmocka_unit_test(tokens_are_pooled_and_blocks_frozen),
        cmocka_unit_test(depths_are_read_from_names),
        cmocka_unit_test(batches_are_the_same_whatever_is_kept),
        cmocka_unit_test(steps_do_not_depend_on_form_or_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
