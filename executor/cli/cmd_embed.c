/* encode and evaluate: both embed a dataset with a model. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/cli/remote.h"
#include "executor/eval/metrics.h"
#include "executor/train/encoder.h"

struct embedded {
    struct ft_dataset *data;
    float *rows; /* (count, dim) */
};

static void embedded_release(struct embedded *e)
{
    ft_free(e->rows);
    ft_dataset_free(e->data);
    *e = (struct embedded){0};
}

/* Texts take as long as they have tokens. */
static void on_progress(void *arg, const struct ft_encode_done *d)
{
    struct ft_bar *bar = arg;
    char rest[96];
    bool texts = d->tokens_all > 0;
    size_t done = texts ? d->tokens : d->done;
    size_t all = texts ? d->tokens_all : d->count;
    int n = snprintf(rest, sizeof rest, "%.0f documents/s", ft_bar_pace(bar, (int64_t)d->done));
    if (texts) {
        (void)snprintf(rest + n, sizeof rest - (size_t)n, ", %.0f tokens/s",
                       ft_bar_pace(bar, (int64_t)d->tokens));
    }
    ft_bar_draw(bar, "Encoding", (int64_t)done, (int64_t)all, rest);
}

/* out->data is open already. */
static enum ft_status embed(struct ft_encoder *encoder, bool quiet, struct embedded *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_bar bar;
    ft_bar_init(&bar, quiet);
    size_t elements = 0;
    if (!ft_mul_size(ft_dataset_count(out->data), (size_t)ft_encoder_dim(encoder), &elements)) {
        FT_TRY(FT_FAIL(err, LIMIT, "too many documents"));
    }
    FT_TRY(ft_new(elements, sizeof(float), &out->rows, err));
    st = ft_encoder_dataset(encoder, out->data, out->rows, ft_cli_cancel(), on_progress, &bar, err);
    ft_bar_clear(&bar);
done:
    return st;
}

/* The data's labels help the head rule, as they do in fit: both must cut at the same place. */
static enum ft_status open_encoder(const struct ft_args *args, const struct ft_model_args *m,
                                   const struct ft_dataset *data, struct ft_encoder **encoder,
                                   struct ft_err *err)
{
    struct ft_tailor_options tailor = m->tailor;
    if (tailor.labels == 0) {
        tailor.labels = (int64_t)ft_dataset_classes(data);
    }
    enum ft_precision precision = FT_PRECISION_F32;
    FT_RETURN_IF_FAILED(ft_precision_parse(m->precision, &precision, err));
    struct ft_encoder_spec spec = {
        .model_path = args->positional[0],
        .tailor = &tailor,
        .model_options = &m->model,
        .prep_options = m->prep,
        .device = m->device,
        .precision = precision,
        .threads = (int)m->threads,
        .batch_max = m->batch_size,
        .memory = m->memory,
    };
    FT_RETURN_IF_FAILED(ft_encoder_open(&spec, encoder, err));
    if (!m->quiet) {
        (void)fprintf(stderr, "model %s: %s\n", ft_path_base(args->positional[0]),
                      ft_encoder_about(*encoder));
        const char *padded = ft_encoder_padded(*encoder);
        if (padded != NULL && padded[0] != '\0') {
            (void)fprintf(stderr, "texts are padded to the longest of a batch: %s\n", padded);
        }
        const char *note = ft_encoder_precision_note(*encoder);
        if (note != NULL) {
            (void)fprintf(stderr, "%s\n", note);
        }
        if (precision == FT_PRECISION_INT8) {
            (void)fprintf(stderr, "%s products in int8\n", ft_encoder_int8(*encoder));
        }
        if (ft_encoder_batch_max(*encoder) < m->batch_size) {
            (void)fprintf(stderr, "batches of %" PRId64 " documents, the most that fits\n",
                          ft_encoder_batch_max(*encoder));
        }
    }
    return FT_OK;
}

/* tokens, and whether texts ran as they are ("packed") or not, and why. */
static enum ft_status texts_json(const struct ft_encoder *encoder, struct ft_json *json, struct ft_err *err)
{
    const char *padded = ft_encoder_padded(encoder);
    if (padded == NULL) {
        return FT_OK;
    }
    int64_t tokens = (int64_t)ft_encoder_tokens(encoder);
    FT_RETURN_IF_FAILED(ft_json_set(json, "tokens", ft_json_of_int(tokens), err));
    FT_RETURN_IF_FAILED(ft_json_set(json, "packed", ft_json_of_bool(padded[0] == '\0'), err));
    return padded[0] != '\0' ? ft_json_set(json, "padded_because", ft_json_of_text(padded), err) : FT_OK;
}

static enum ft_status encode_json(const struct ft_encoder *encoder, size_t count, double seconds,
                                  const char *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *json = ft_json_object();
    FT_TRY(ft_json_set(json, "count", ft_json_of_int((int64_t)count), err));
    FT_TRY(ft_json_set(json, "dim", ft_json_of_int(ft_encoder_dim(encoder)), err));
    FT_TRY(texts_json(encoder, json, err));
    if (ft_encoder_int8(encoder)[0] != '\0') {
        FT_TRY(ft_json_set(json, "int8_products", ft_json_of_text(ft_encoder_int8(encoder)), err));
    }
    FT_TRY(ft_json_set(json, "seconds", ft_json_of_real(seconds), err));
    FT_TRY(ft_json_set(json, "out", ft_json_of_text(out), err));
    FT_TRY(ft_print_json(json, err));
done:
    ft_json_free(json);
    return st;
}

enum ft_status ft_cmd_encode(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_args args;
    struct ft_model_args m = {0};
    struct ft_encoder *encoder = NULL;
    struct embedded data = {0};
    if (ft_remote_wanted(argc, argv)) {
        return ft_remote_encode(argc, argv, err);
    }
    FT_TRY(ft_args_parse(argc, argv, ft_model_args_flag, &args, err));
    FT_TRY(ft_model_args_read("encode", &args, &m, err));
    FT_TRY(ft_args_want(&args, 2, ft_command_find("encode")->usage, err));
    const char *out = m.out != NULL ? m.out : "embeddings.npy";
    FT_TRY(ft_out_check(out, FT_ROWS_NPY, FT_ROWS_LINES, err));
    FT_TRY(ft_dataset_open(args.positional[1], false, &data.data, err));
    FT_TRY(open_encoder(&args, &m, data.data, &encoder, err));
    double start = ft_clock_seconds();
    FT_TRY(embed(encoder, m.quiet, &data, err));
    double seconds = ft_clock_seconds() - start;
    size_t count = ft_dataset_count(data.data);
    FT_TRY(ft_write_rows(out, data.data, data.rows, ft_encoder_dim(encoder), err));
    if (m.json) {
        FT_TRY(encode_json(encoder, count, seconds, out, err));
    } else {
        printf("%zu documents, %" PRId64 " dimensions, %.2f s, %.0f documents/s -> %s\n", count,
               ft_encoder_dim(encoder), seconds, seconds > 0 ? (double)count / seconds : 0.0, out);
    }
done:
    embedded_release(&data);
    ft_encoder_free(encoder);
    ft_model_args_release(&m);
    return st;
}

static int by_name(const void *key, const void *element)
{
    return strcmp(key, *(const char *const *)element);
}

/* Class numbers of `data` in `base`'s numbering; a class that base does not have gets a number of its own. */
static enum ft_status joint_labels(const struct ft_dataset *base, const struct ft_dataset *data,
                                   int32_t **labels, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const char **names = NULL;
    int32_t *map = NULL;
    size_t n_base = ft_dataset_classes(base);
    size_t n_data = ft_dataset_classes(data);
    *labels = NULL;
    FT_TRY(ft_new(n_base, sizeof *names, &names, err));
    FT_TRY(ft_new(n_data, sizeof *map, &map, err));
    FT_TRY(ft_new(ft_dataset_count(data), sizeof **labels, labels, err));
    for (size_t c = 0; c < n_base; c++) {
        names[c] = ft_dataset_class_name(base, c);
    }
    for (size_t c = 0; c < n_data; c++) {
        const char **hit = bsearch(ft_dataset_class_name(data, c), names, n_base, sizeof *names, by_name);
        map[c] = hit != NULL ? (int32_t)(hit - names) : (int32_t)(n_base + c);
    }
    for (size_t i = 0; i < ft_dataset_count(data); i++) {
        int32_t c = ft_dataset_class_of(data, i);
        (*labels)[i] = c < 0 ? -1 : map[c];
    }
done:
    ft_free(map);
    ft_free(names);
    return st;
}

static enum ft_status evaluate_json(const struct ft_metrics *metrics, double seconds, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *json = ft_json_object();
    struct ft_json *values = ft_json_object();
    double value = 0;
    const char *name = NULL;
    for (size_t i = 0; (name = ft_metrics_at(metrics, i, &value)) != NULL; i++) {
        FT_TRY(ft_json_set(values, name, ft_json_of_real(value), err));
    }
    struct ft_json *taken = values;
    values = NULL;
    FT_TRY(ft_json_set(json, "metrics", taken, err));
    FT_TRY(ft_json_set(json, "queries", ft_json_of_int((int64_t)metrics->queries), err));
    FT_TRY(ft_json_set(json, "seconds", ft_json_of_real(seconds), err));
    FT_TRY(ft_print_json(json, err));
done:
    ft_json_free(values);
    ft_json_free(json);
    return st;
}

static void evaluate_table(const struct ft_metrics *metrics)
{
    double value = 0;
    const char *name = NULL;
    for (size_t i = 0; (name = ft_metrics_at(metrics, i, &value)) != NULL; i++) {
        printf("%-20s %8.4f\n", name, value);
    }
    printf("%zu queries", metrics->queries);
    if (metrics->skipped > 0) {
        printf(", %zu left out (no label, or no relevant document in the index)", metrics->skipped);
    }
    putchar('\n');
}

static void on_searched(void *arg, size_t done, size_t total)
{
    char rest[64];
    struct ft_bar *bar = arg;
    (void)snprintf(rest, sizeof rest, "%.0f queries/s", ft_bar_pace(bar, (int64_t)done));
    ft_bar_draw(bar, "Searching", (int64_t)done, (int64_t)total, rest);
}

static enum ft_status measure(const struct ft_model_args *m, const struct embedded *queries,
                              const struct embedded *index, int64_t dim, struct ft_metrics *metrics,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_device *device = NULL;
    int32_t *query_labels = NULL;
    int32_t *index_labels = NULL;
    bool same = index->data == NULL;
    const struct embedded *in = same ? queries : index;
    struct ft_bar bar;
    struct ft_search search = {.queries = queries->rows,
                               .index = in->rows,
                               .n_queries = ft_dataset_count(queries->data),
                               .n_index = ft_dataset_count(in->data),
                               .dim = dim,
                               .k = (size_t)m->limit,
                               .exclude_self = same,
                               .progress = on_searched,
                               .progress_arg = &bar};
    FT_TRY(ft_metric_parse(m->metric, &search.metric, err));
    FT_TRY(joint_labels(in->data, queries->data, &query_labels, err));
    FT_TRY(joint_labels(in->data, in->data, &index_labels, err));
    FT_TRY(ft_device_open("cpu", (int)m->threads, &device, err));
    ft_bar_init_terminal(&bar, m->quiet || m->json);
    st = ft_metrics_run(device, &search, query_labels, index_labels, (size_t)m->limit, metrics, err);
    ft_bar_clear(&bar);
done:
    ft_device_close(device);
    ft_free(index_labels);
    ft_free(query_labels);
    return st;
}

enum ft_status ft_cmd_evaluate(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_args args;
    struct ft_model_args m = {0};
    struct ft_encoder *encoder = NULL;
    struct embedded queries = {0};
    struct embedded index = {0};
    struct ft_metrics metrics = {0};
    FT_TRY(ft_args_parse(argc, argv, ft_model_args_flag, &args, err));
    enum ft_metric metric = FT_METRIC_COSINE;
    FT_TRY(ft_model_args_read("evaluate", &args, &m, err));
    FT_TRY(ft_args_want(&args, 2, ft_command_find("evaluate")->usage, err));
    FT_TRY(ft_metric_parse(m.metric, &metric, err)); /* before the work, not after it */
    FT_TRY(ft_out_check(m.out, FT_ROWS_NPY, FT_ROWS_LINES, err));
    FT_TRY(ft_dataset_open(args.positional[1], true, &queries.data, err));
    if (m.index != NULL) {
        FT_TRY(ft_dataset_open(m.index, true, &index.data, err));
    }
    FT_TRY(open_encoder(&args, &m, queries.data, &encoder, err));
    double start = ft_clock_seconds();
    FT_TRY(embed(encoder, m.quiet, &queries, err));
    if (m.index != NULL) {
        FT_TRY(embed(encoder, m.quiet, &index, err));
    }
    if (m.out != NULL) {
        FT_TRY(ft_write_rows(m.out, queries.data, queries.rows, ft_encoder_dim(encoder), err));
    }
    FT_TRY(measure(&m, &queries, &index, ft_encoder_dim(encoder), &metrics, err));
    if (m.json) {
        FT_TRY(evaluate_json(&metrics, ft_clock_seconds() - start, err));
    } else {
        evaluate_table(&metrics);
    }
done:
    embedded_release(&index);
    embedded_release(&queries);
    ft_encoder_free(encoder);
    ft_model_args_release(&m);
    return st;
}
