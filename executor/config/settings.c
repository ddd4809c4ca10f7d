#include "executor/config/internal.h"

#include <ctype.h>
#include <stddef.h>

/* One row makes a setting: what it is called, where it lies, its default, what it takes, what it is for. */
#define ROW_TEXT(name, standard, choices, help)                                                              \
    {                                                                                                        \
#name, FT_SETTING_TEXT, offsetof(struct ft_config, name), standard, 0, 0, choices, help              \
    }
#define ROW_INT(name, standard, min, max, help)                                                              \
    {                                                                                                        \
#name, FT_SETTING_INT, offsetof(struct ft_config, name), standard, min, max, NULL, help              \
    }
#define ROW_BOOL(name, standard, help)                                                                       \
    {                                                                                                        \
#name, FT_SETTING_BOOL, offsetof(struct ft_config, name), standard, 0, 0, NULL, help                 \
    }
#define ROW_LIST(name, standard, help)                                                                       \
    {                                                                                                        \
#name, FT_SETTING_LIST, offsetof(struct ft_config, name), standard, 0, 0, NULL, help                 \
    }
#define ROW_JSON(name, standard, help)                                                                       \
    {                                                                                                        \
#name, FT_SETTING_JSON, offsetof(struct ft_config, name), standard, 0, 0, NULL, help                 \
    }

static const struct ft_setting SETTINGS[] = {
    ROW_TEXT(host, "0.0.0.0", NULL,
             "Address to listen on; 0.0.0.0 and :: are every address of this machine, of IPv4 and IPv6."),
    ROW_INT(port, "54321", 0, 65535, "Port of gRPC; 0 takes any free one, the log says which."),
    ROW_TEXT(name, "finetuner", NULL,
             "Name of this executor: results stand under it in parameters.__results__, and routes carry the "
             "part before "
             "the first '/'."),
    ROW_TEXT(workspace, "workspace", NULL,
             "Folder that keeps datasets, runs and tuned models. One process at a time."),
    ROW_TEXT(model, "", NULL,
             "Model that is served and tuned before any run has finished: an .onnx file, a Hugging Face or "
             "sentence-transformers folder, or an artifact of ours (folder or .zip). Empty: none."),
    ROW_TEXT(cut, "", NULL,
             "Layer of a plain .onnx whose output is the embedding; empty: found by the head rule."),
    ROW_BOOL(keep_head, "false", "Take the output of a plain .onnx as it is, nothing is cut off."),
    ROW_BOOL(normalize, "false", "L2-normalise the embeddings of a plain .onnx."),
    ROW_INT(output_dim, "0", 0, 65536, "Width of a projection put behind a plain .onnx; 0: none."),
    ROW_TEXT(pooler, "default", "default|avg|mean|GeM|max|cls|last|weighted_mean",
             "Pooling of a plain .onnx or a folder; default: its own."),
    ROW_TEXT(input_shape, "", NULL,
             "Input of a plain .onnx with free axes: \"N,3,224,224\" or \"height=224\"."),
    ROW_JSON(prep, "{}",
             "How inputs are prepared for a plain .onnx: size, mean, std and so on; empty: inferred."),
    ROW_LIST(
        encode_on, "/encode,/index,/search,/update,/default,/",
        "Endpoints that put embeddings into Documents. Others that we do not know pass through unchanged."),
    ROW_LIST(endpoints, "",
             "Endpoints told to gateways beside /default, such as /train,/fit,/encode: HTTP gateways of "
             "docarray v2 have a route for each. Neighbours in a chain that advertise the same ones need the "
             "same schema."),
    ROW_INT(encode_batch_size, "64", 1, 4096, "Documents computed at once."),
    ROW_INT(encode_batch_tokens, "1024", 0, 1048576,
            "Of texts: about how many tokens are computed before others have their turn; 0: no limit."),
    ROW_INT(encode_wait_ms, "0", 0, 10000,
            "How long the first request of a batch may wait for others to join it; 0: only those that wait "
            "already do."),
    ROW_INT(encode_queue, "1024", 1, 65536, "Requests that may wait for the model; more are refused."),
    ROW_INT(
        models_memory_mb, "0", 0, 16777216,
        "Memory that loaded models may take, in MB; the one not used longest goes first. While another is "
        "loaded it comes on top. 0: half of what this process may use."),
    ROW_TEXT(device, "auto", "auto|cpu|cuda", "Where embeddings are computed and runs train."),
    ROW_TEXT(
        precision, "f32", "f32|int8|bf16|bf16-emulated",
        "Of computing embeddings: int8 is faster for models of texts, bf16 for all where the processor has "
        "AVX512_BF16 or AMX; it needs AVX-512. bf16-emulated is slow. Runs train in their own."),
    ROW_INT(threads, "0", 0, 1024, "Threads that compute embeddings; 0: one for each processor."),
    ROW_INT(handlers, "4", 1, 256, "Threads that read requests, write journals and answer."),
    ROW_INT(request_queue, "256", 1, 65536,
            "Requests that may wait for a handler, and again as many that may wait to be read; more are "
            "refused."),
    ROW_INT(message_mb, "1024", 1, 2047, "Largest message, unpacked, in MiB; Jina itself sets no limit."),
    ROW_INT(messages_mb, "0", 0, 1048576,
            "Memory for messages in hand, in MiB; beyond it requests are refused. 0: half of this machine's "
            "memory."),
    ROW_INT(shard_kib, "65536", 1, 16777216,
            "KiB to which a dataset's journal grows before it is made into a shard."),
    ROW_INT(
        upload_mb, "4096", 0, 16777216,
        "Largest model that clients may send, in MiB; for a moment it takes about as much memory, when it "
        "is tried. 0: none may be sent."),
    ROW_INT(
        uploads_mb, "16384", 1, 16777216,
        "What models that are not all here yet may have on the disk together, in MiB. Those whose sending "
        "was cut are kept for a day, or until others need the room; one model has at most as much."),
    ROW_INT(upload_idle_seconds, "120", 1, 86400,
            "Whoever sends a model and says nothing for so long is not waited for; what came is kept for the "
            "rest."),
    ROW_INT(runs_at_once, "1", 1, 64, "Runs that train at the same time; others wait their turn."),
    ROW_INT(run_threads, "0", 0, 1024, "Threads of a run; 0: one for each processor."),
    ROW_INT(run_nice, "10", 0, 19, "How far a run stands back behind requests (nice)."),
    ROW_INT(
        drain_seconds, "8", 0, 600,
        "How long calls in hand may take after SIGTERM, and runs to write a checkpoint. Then calls are cut "
        "off, and runs are killed: they go on from the checkpoint before. Containers are killed after 10 s. "
        "A second SIGTERM ends at once."),
    ROW_TEXT(tls_cert, "", NULL,
             "File with the certificate that clients are shown, and those that vouch for it (PEM); with "
             "tls_key. A file that is replaced holds for new connections. Empty: plain text."),
    ROW_TEXT(tls_key, "", NULL, "File with its private key (PEM), without a passphrase."),
    ROW_TEXT(tls_client_ca, "", NULL,
             "File with certificates (PEM): only clients that show one signed by these are let in. Empty: "
             "all are."),
    ROW_BOOL(monitoring, "false", "Serve a page of figures for Prometheus, over HTTP."),
    ROW_INT(port_monitoring, "9090", 0, 65535, "Its port, on the same host; 0 takes any free one."),
    ROW_TEXT(
        log_format, "", "|text|json",
        "How a line of the log looks, of runs too: text, or one JSON object; empty: FINETUNER_LOG_FORMAT, "
        "or text."),
    ROW_TEXT(log_level, "", "|DEBUG|INFO|SUCCESS|WARNING|ERROR|CRITICAL",
             "Least level that is logged; empty: JINA_LOG_LEVEL, or INFO."),
};

const struct ft_setting *ft_setting_at(size_t i)
{
    return i < sizeof SETTINGS / sizeof SETTINGS[0] ? &SETTINGS[i] : NULL;
}

static bool same_name(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        char x = *a == '-' ? '_' : *a;
        char y = *b == '-' ? '_' : *b;
        if (x != y) {
            return false;
        }
    }
    return *a == *b;
}

const struct ft_setting *ft_setting_find(const char *name)
{
    for (size_t i = 0; ft_setting_at(i) != NULL; i++) {
        if (same_name(name, SETTINGS[i].name)) {
            return &SETTINGS[i];
        }
    }
    return NULL;
}

/* Levenshtein's distance of short words. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32];
    size_t n = 0;
    while (b[n] != '\0' && n < 31) {
        n++;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != '\0' && i < 31; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            char x = a[i] == '-' ? '_' : (char)tolower((unsigned char)a[i]);
            size_t change = diagonal + (x == b[j] ? 0 : 1);
            size_t shift = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = change < shift ? change : shift;
        }
    }
    return row[n];
}

enum ft_status ft_setting_unknown(const char *where, const char *key, struct ft_err *err)
{
    const struct ft_setting *near = NULL;
    size_t best = 4; /* further away it is no misspelling */
    for (size_t i = 0; ft_setting_at(i) != NULL; i++) {
        size_t d = distance(key, SETTINGS[i].name);
        if (d < best) {
            best = d;
            near = &SETTINGS[i];
        }
    }
    if (near != NULL) {
        return FT_FAIL(err, USAGE, "%s: no setting is called '%.64s'; did you mean '%s'?", where, key,
                       near->name);
    }
    return FT_FAIL(err, USAGE, "%s: no setting is called '%.64s'; see finetuner help serve", where, key);
}
