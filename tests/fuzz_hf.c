/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
/* covers: executor/model/hf.c executor/model/hf_bert.c executor/model/hf_build.c executor/model/hf_config.c
 * executor/model/hf_modernbert.c executor/model/hf_modules.c executor/model/hf_nomic.c
 * executor/model/hf_source.c executor/model/hf_t5.c executor/model/hf_text.c executor/model/hf_vocab.c
 * executor/model/hf_weight.c */
/* One file of a sentence-transformers folder is any bytes, the others are a sound BERT of one layer: refused
 * with a reason, or a model that is written as ONNX. The first byte says which file it is (files[]). */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/safetensors.h"
#include "executor/model/hf.h"
#include "executor/model/onnx.h"

enum { VOCAB = 8, WIDTH = 4, INNER = 6, PLACES = 9, MOST = 32, PATH = 512 };

static char folder[PATH - 64];
static float numbers[VOCAB * WIDTH + INNER * WIDTH + PLACES * WIDTH];

static const struct {
    char letter;
    const char *name, *sound; /* NULL: not there */
} files[] = {
    {'c', "config.json",
     "{\"model_type\":\"bert\",\"vocab_size\":8,\"hidden_size\":4,\"num_hidden_layers\":1,"
     "\"num_attention_heads\":2,\"intermediate_size\":6,\"max_position_embeddings\":9}"},
    {'m', "modules.json",
     "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
     "{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"},"
     "{\"idx\":2,\"name\":\"2\",\"path\":\"2_Dense\",\"type\":\"sentence_transformers.models.Dense\"},"
     "{\"idx\":3,\"name\":\"3\",\"path\":\"3_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}"
     "]"},
    {'p', "1_Pooling/config.json", "{\"word_embedding_dimension\":4,\"pooling_mode_mean_tokens\":true}"},
    {'d', "2_Dense/config.json",
     "{\"in_features\":4,\"out_features\":3,\"bias\":true,\"activation_function\":"
     "\"torch.nn.modules.activation.Tanh\"}"},
    {'s', "sentence_bert_config.json", "{\"max_seq_length\":9,\"do_lower_case\":false}"},
    {'q', "config_sentence_transformers.json",
     "{\"prompts\":{\"query\":\"q: \"},\"default_prompt_name\":null}"},
    {'k', "tokenizer_config.json", NULL},
    {'t', "tokenizer.json", NULL},
    {'v', "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n"},
};
enum { FILES = sizeof files / sizeof *files };

static void leave(void)
{
    struct ft_err err = {0};
    if (ft_path_remove(folder, &err) != FT_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
}

/* ---- the sound folder */

static void put(const char *name, const void *data, size_t size)
{
    char path[PATH];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert(file != NULL);
    size_t written = fwrite(data, 1, size, file);
    assert(written == size);
    (void)fclose(file);
}

static void put_sound(size_t i)
{
    if (files[i].sound != NULL) {
        put(files[i].name, files[i].sound, strlen(files[i].sound));
        return;
    }
    char path[PATH];
    (void)snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
    (void)remove(path);
}

struct set {
    struct ft_tensor_out tensors[MOST];
    char names[MOST][64];
    int64_t dims[MOST][2];
    size_t n;
};

static void add(struct set *s, const char *module, const char *part, int64_t rows, int64_t columns)
{
    size_t i = s->n++;
    assert(i < MOST);
    (void)snprintf(s->names[i], sizeof s->names[i], "%s.%s", module, part);
    s->dims[i][0] = rows;
    s->dims[i][1] = columns;
    s->tensors[i] = (struct ft_tensor_out){
        .name = s->names[i], .rank = columns > 0 ? 2 : 1, .dims = s->dims[i], .data = numbers};
}

static void put_tensors(const char *name, const struct set *s)
{
    struct ft_err err = {0};
    struct ft_buf file = {0};
    enum ft_status st = ft_safetensors_write(s->tensors, s->n, &file, &err);
    assert(st == FT_OK);
    put(name, file.data, file.size);
    ft_buf_release(&file);
}

static void put_weights(void)
{
    static const struct {
        const char *module;
        int64_t rows, columns;
    } linear[] = {{"attention.self.query", WIDTH, WIDTH},   {"attention.self.key", WIDTH, WIDTH},
                  {"attention.self.value", WIDTH, WIDTH},   {"attention.output.dense", WIDTH, WIDTH},
                  {"attention.output.LayerNorm", WIDTH, 0}, {"intermediate.dense", INNER, WIDTH},
                  {"output.dense", WIDTH, INNER},           {"output.LayerNorm", WIDTH, 0}};
    static struct set bert;
    static struct set dense;
    add(&bert, "embeddings.word_embeddings", "weight", VOCAB, WIDTH);
    add(&bert, "embeddings.position_embeddings", "weight", PLACES, WIDTH);
    add(&bert, "embeddings.token_type_embeddings", "weight", 2, WIDTH);
    add(&bert, "embeddings.LayerNorm", "weight", WIDTH, 0);
    add(&bert, "embeddings.LayerNorm", "bias", WIDTH, 0);
    for (size_t i = 0; i < sizeof linear / sizeof *linear; i++) {
        char module[48];
        (void)snprintf(module, sizeof module, "encoder.layer.0.%s", linear[i].module);
        add(&bert, module, "weight", linear[i].rows, linear[i].columns);
        add(&bert, module, "bias", linear[i].rows, 0);
    }
    put_tensors("model.safetensors", &bert);
    add(&dense, "linear", "weight", 3, WIDTH);
    add(&dense, "linear", "bias", 3, 0);
    put_tensors("2_Dense/model.safetensors", &dense);
}

static void make_folder(void)
{
    static const char *const parts[] = {"1_Pooling", "2_Dense", "3_Normalize"};
    struct ft_err err = {0};
    char *made = NULL;
    enum ft_status st = ft_dir_temp("hf", &made, &err);
    assert(st == FT_OK && strlen(made) < sizeof folder);
    memcpy(folder, made, strlen(made) + 1);
    ft_free(made);
    (void)atexit(leave);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char path[PATH];
        (void)snprintf(path, sizeof path, "%s/%s", folder, parts[i]);
        st = ft_dir_make(path, &err);
        assert(st == FT_OK);
    }
    for (size_t i = 0; i < FILES; i++) {
        put_sound(i);
    }
    put_weights();
}

/* ---- */

static void load(bool sound)
{
    struct ft_err err = {0};
    struct ft_model *model = NULL;
    struct ft_buf out = {0};
    enum ft_status st = ft_hf_load(folder, &model, &err);
    assert((st == FT_OK) == (model != NULL));
    assert(!sound || st == FT_OK);
    assert(st == FT_OK || (err.text[0] != '\0' && st != FT_NOMEM && st != FT_INTERNAL));
    if (st == FT_OK) {
        st = ft_onnx_write(model->graph, "fuzz", NULL, &out, &err);
        assert(st == FT_OK);
    }
    ft_buf_release(&out);
    ft_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (folder[0] == '\0') {
        make_folder();
        load(true);
    }
    for (size_t i = 0; i < FILES && size > 0; i++) {
        if (files[i].letter == (char)data[0]) {
            put(files[i].name, data + 1, size - 1);
            load(false);
            put_sound(i);
        }
    }
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
