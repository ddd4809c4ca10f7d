/*
 * config.h - every setting of the service: one table (settings.c) makes the defaults, the parser of
 * config.yml, the flags, the help text and the shipped config.yml.
 *
 * config.yml is ours and a legal Jina executor file: `jtype`, `metas`, `py_modules`, `requests`,
 * `dynamic_batching` are Jina's, our settings stand under `with:`. Unknown keys and bad values are errors
 * naming file, line, key and what is accepted. Later sources win: table, file, flags. Thread-safety: a const
 * struct ft_config may be read by any number of threads.
 */
#ifndef FT_CONFIG_CONFIG_H
#define FT_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"
#include "executor/codec/json.h"

struct ft_list { /* owned texts */
    char **items;
    size_t count;
};

struct ft_config {
    /* where it listens */
    char *host;
    int64_t port; /* 0 = any free one */
    /* what it is and where it keeps things */
    char *name;      /* `--name`: results stand under it; routes carry the part before the first '/' */
    char *workspace; /* DATA_DIR */
    /* the model served before any run has finished; "" = none */
    char *model;
    char *cut;
    bool keep_head;
    bool normalize;
    int64_t output_dim;
    char *pooler;
    char *input_shape;
    struct ft_json *prep; /* object */
    /* encoding */
    struct ft_list encode_on;
    struct ft_list endpoints; /* advertised beside /default */
    int64_t encode_batch_size;
    int64_t encode_batch_tokens;
    int64_t encode_wait_ms;
    int64_t encode_queue;
    int64_t models_memory_mb;
    /* the process */
    char *device;
    char *precision;
    int64_t threads;
    int64_t handlers;
    int64_t request_queue;
    int64_t message_mb;
    int64_t messages_mb; /* 0 = half of the machine's memory */
    int64_t shard_kib;
    int64_t upload_mb;  /* 0 = none are taken */
    int64_t uploads_mb; /* of all that are not finished */
    int64_t upload_idle_seconds;
    int64_t runs_at_once;
    int64_t run_threads;
    int64_t run_nice;
    int64_t drain_seconds;
    char *tls_cert, *tls_key, *tls_client_ca; /* files in PEM; "" = none */
    bool monitoring;                          /* a page for Prometheus */
    int64_t port_monitoring;                  /* 0 = any free one */
    char *log_format;                         /* "" = the environment's FINETUNER_LOG_FORMAT */
    char *log_level;                          /* "" = the environment's JINA_LOG_LEVEL */
};

/* Defaults. On failure nothing is owned; else ft_config_release(). */
FT_MUST_CHECK enum ft_status ft_config_init(struct ft_config *config, struct ft_err *err);
void ft_config_release(struct ft_config *config); /* a zeroed struct is fine */

/* One setting from a text; key with '_' or '-'. `where` goes in front of errors ("--port", "config.yml:7").
 * FT_USAGE: no such key, with the nearest known one; FT_INVALID: bad value, with the accepted range. */
FT_MUST_CHECK enum ft_status ft_config_set(struct ft_config *config, const char *where, const char *key,
                                           const char *value, struct ft_err *err);
/* The same from JSON: --uses-with. Every member of `object` is a setting; ${{ ENV.NAME }} in a text, however
 * deep it stands, is replaced, FT_INVALID if the environment lacks it. */
FT_MUST_CHECK enum ft_status ft_config_read_json(struct ft_config *config, const char *where,
                                                 const struct ft_json *object, struct ft_err *err);
/* config.yml; FT_NOT_FOUND, FT_INVALID naming "path:line". */
FT_MUST_CHECK enum ft_status ft_config_read_file(struct ft_config *config, const char *path,
                                                 struct ft_err *err);

/* The same from the file's text; `path` is only shown. */
FT_MUST_CHECK enum ft_status ft_config_read_text(struct ft_config *config, const char *path,
                                                 struct ft_bytes text, struct ft_err *err);

/* `finetuner serve` words after the subcommand: --config FILE is read first wherever it stands, then --key
 * value,
 * --key=value; a boolean may stand alone. FT_USAGE. Without --config, ./config.yml is not read. */
FT_MUST_CHECK enum ft_status ft_config_flags(struct ft_config *config, int argc, char **argv,
                                             struct ft_err *err);
/* `jina executor` words after the subcommand (jina/SPEC.md 4.5): --uses FILE, --uses-with {JSON} or k=v ...,
 * --name,
 * --workspace, --host, --port and --port-monitoring (first value counts), --monitoring; Jina's other flags
 * and unknown ones warn and go on. The workspace becomes the folder of --name below --workspace, where Jina's
 * replicas share one. */
FT_MUST_CHECK enum ft_status ft_config_jina_flags(struct ft_config *config, int argc, char **argv,
                                                  struct ft_err *err);

/* One line a setting: "  --port N   ... (default 54321, 0 to 65535)". */
FT_MUST_CHECK enum ft_status ft_config_help(struct ft_buf *out, struct ft_err *err);
/* The shipped config.yml: every setting with its default and its help as a comment. */
FT_MUST_CHECK enum ft_status ft_config_dump(struct ft_buf *out, struct ft_err *err);
/* Every setting and its value, for a log or a run's record. *object is the caller's. */
FT_MUST_CHECK enum ft_status ft_config_write(const struct ft_config *config, struct ft_json **object,
                                             struct ft_err *err);

/* The deployment's name: config->name up to the first '/'; borrowed. */
struct ft_bytes ft_config_short_name(const struct ft_config *config);
#endif
