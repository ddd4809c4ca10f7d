/*
 * limits.h - every limit on input from outside, in one place, with its reason.
 */
#ifndef FT_BASE_LIMITS_H
#define FT_BASE_LIMITS_H

enum {
    FT_MAX_RANK = 8,                    /* dimensions of a tensor; ONNX models in the wild stay below 7 */
    FT_MAX_NESTING = 64,                /* protobuf, JSON and YAML depth: both decoders recurse beyond it */
    FT_MAX_NODES = 200000,              /* nodes of an imported graph; large LLM exports have some 20,000 */
    FT_MAX_NAME_BYTES = 4096,           /* names of nodes, tensors, files inside an archive */
    FT_MAX_LABEL_BYTES = 4096,          /* a finetuner_label */
    FT_MAX_ID_BYTES = 1024,             /* a Document's id */
    FT_MAX_LINE_BYTES = 256 << 20,      /* a JSONL line or CSV record: a large image in base64 */
    FT_MAX_DOC_BYTES = 256 << 20,       /* a Document on the wire */
    FT_MAX_DOCUMENTS = 1 << 20,         /* in one message: they take some 200 bytes each beside it */
    FT_MAX_CONFIG_BYTES = 1 << 20,      /* config.yml, metadata.yml, run options */
    FT_MAX_MODEL_JSON_BYTES = 16 << 20, /* config.json and its like in a Hugging Face folder */
    FT_MAX_IMAGE_PIXELS = 178956970,    /* Pillow's default DecompressionBombError limit */
    FT_MAX_ZIP_ENTRIES = 100000,
    FT_MAX_TOKENIZER_BYTES = 256 << 20, /* a tokenizer.json; that of 250,000 tokens has 17 MB */
    FT_MAX_VOCABULARY = 1 << 22,        /* ids of tokens */
    FT_MAX_MODEL_FILES = 1000           /* that a model is sent as; a large one has some 50 */
};

/* Larger than an int. */
#define FT_MAX_MODEL_BYTES ((size_t)16 << 30)  /* an ONNX file or one external data file */
#define FT_MAX_TENSOR_BYTES ((size_t)16 << 30) /* one tensor in memory */
#define FT_MAX_DATA_BYTES ((size_t)64 << 30)   /* a CSV or DocumentArray file */

#endif
