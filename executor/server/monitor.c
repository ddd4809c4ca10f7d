#include "executor/server/monitor.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/base/metrics.h"
#include "executor/rpc/page.h"
#include "executor/server/models.h"

/* The class of Jina's executors; ours is what jtype in config.yml says. */
static const char EXECUTOR[] = "Finetuner";

enum family {
    JINA_RECEIVING,
    JINA_FAILED,
    JINA_SUCCESSFUL,
    JINA_PROCESS,
    JINA_DOCUMENTS,
    JINA_RECEIVED,
    JINA_RECEIVED_OLD,
    JINA_SENT,
    REQUESTS,
    REQUEST_SECONDS,
    RECEIVED_BYTES,
    SENT_BYTES,
    BATCHES,
    BATCH_SECONDS,
    CALLS,
    MESSAGE_BYTES,
    QUEUE,
    STORED,
    DUPLICATES,
    DELETED,
    JOURNAL_BYTES,
    SYNCS,
    STORE_FAILURES,
    SEALS,
    MERGES,
    MERGES_FAILED,
    OPEN_DOCUMENTS,
    OPEN_SHARDS,
    RUNS,
    MODELS,
    MODELS_BYTES,
    SERVING,
    MEMORY,
    MEMORY_PEAK,
    STARTED
};

#define SECONDS                                                                                              \
    {                                                                                                        \
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60                       \
    }
#define DOCUMENTS                                                                                            \
    {                                                                                                        \
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096                                              \
    }
#define OF_RUNTIME                                                                                           \
    {                                                                                                        \
        "runtime_name"                                                                                       \
    }
#define OF_ENDPOINT                                                                                          \
    {                                                                                                        \
        "executor_endpoint", "executor", "runtime_name"                                                      \
    }

/* One row each, in the order of enum family. */
static const struct ft_metric FAMILIES[] = {
    [JINA_RECEIVING] = {"jina_receiving_request_seconds",
                        FT_METRIC_SUMMARY,
                        "Time spent processing request",
                        OF_RUNTIME,
                        {0},
                        true},
    [JINA_FAILED] =
        {"jina_failed_requests_total", FT_METRIC_COUNTER, "Number of failed requests", OF_RUNTIME, {0}, true},
    [JINA_SUCCESSFUL] = {"jina_successful_requests_total",
                         FT_METRIC_COUNTER,
                         "Number of successful requests",
                         OF_RUNTIME,
                         {0},
                         true},
    [JINA_PROCESS] = {"jina_process_request_seconds",
                      FT_METRIC_SUMMARY,
                      "Time spent when calling the executor request method",
                      OF_ENDPOINT,
                      {0},
                      true},
    [JINA_DOCUMENTS] = {"jina_document_processed_total",
                        FT_METRIC_COUNTER,
                        "Number of Documents that have been processed by the executor",
                        OF_ENDPOINT,
                        {0},
                        true},
    [JINA_RECEIVED] = {"jina_received_request_bytes",
                       FT_METRIC_SUMMARY,
                       "The size in bytes of the requests received",
                       OF_ENDPOINT,
                       {0},
                       true},
    [JINA_RECEIVED_OLD] = {"jina_request_size_bytes",
                           FT_METRIC_SUMMARY,
                           "Deprecated name of jina_received_request_bytes",
                           OF_ENDPOINT,
                           {0},
                           true},
    [JINA_SENT] = {"jina_sent_response_bytes",
                   FT_METRIC_SUMMARY,
                   "The size in bytes of the responses sent",
                   OF_ENDPOINT,
                   {0},
                   true},
    [REQUESTS] = {.name = "finetuner_requests_total",
                  .kind = FT_METRIC_COUNTER,
                  .help = "gRPC calls that are over, by method and status",
                  .labels = {"method", "code"}},
    [REQUEST_SECONDS] = {.name = "finetuner_request_seconds",
                         .kind = FT_METRIC_HISTOGRAM,
                         .help = "How long gRPC calls took; of streams, the whole stream",
                         .labels = {"method"},
                         .bounds = SECONDS},
    [RECEIVED_BYTES] = {.name = "finetuner_received_bytes_total",
                        .kind = FT_METRIC_COUNTER,
                        .help = "Bytes of the messages of gRPC calls that are over, as unpacked",
                        .labels = {"method"}},
    [SENT_BYTES] = {.name = "finetuner_sent_bytes_total",
                    .kind = FT_METRIC_COUNTER,
                    .help = "Bytes of the answers of gRPC calls that are over",
                    .labels = {"method"}},
    [BATCHES] = {.name = "finetuner_batch_documents",
                 .kind = FT_METRIC_HISTOGRAM,
                 .help = "Documents of the batches that were embedded",
                 .bounds = DOCUMENTS},
    [BATCH_SECONDS] = {.name = "finetuner_batch_seconds",
                       .kind = FT_METRIC_HISTOGRAM,
                       .help = "How long batches took to embed",
                       .bounds = SECONDS},
    [CALLS] = {.name = "finetuner_calls", .kind = FT_METRIC_GAUGE, .help = "gRPC calls in hand"},
    [MESSAGE_BYTES] = {.name = "finetuner_message_bytes",
                       .kind = FT_METRIC_GAUGE,
                       .help = "Bytes of messages in hand, either way"},
    [QUEUE] = {.name = "finetuner_queue",
               .kind = FT_METRIC_GAUGE,
               .help = "What waits: to be read, for a handler, for a step of finetuner.v1, for the model",
               .labels = {"queue"}},
    [STORED] = {.name = "finetuner_documents_stored_total",
                .kind = FT_METRIC_COUNTER,
                .help = "Documents that were stored durably, new and replaced ones"},
    [DUPLICATES] = {.name = "finetuner_documents_duplicate_total",
                    .kind = FT_METRIC_COUNTER,
                    .help = "Documents that were stored already"},
    [DELETED] = {.name = "finetuner_documents_deleted_total",
                 .kind = FT_METRIC_COUNTER,
                 .help = "Documents that were deleted"},
    [JOURNAL_BYTES] = {.name = "finetuner_journal_bytes_total",
                       .kind = FT_METRIC_COUNTER,
                       .help = "Bytes written to journals"},
    [SYNCS] = {.name = "finetuner_journal_syncs_total",
               .kind = FT_METRIC_COUNTER,
               .help = "fsyncs of journals; one serves many requests"},
    [STORE_FAILURES] = {.name = "finetuner_store_failures_total",
                        .kind = FT_METRIC_COUNTER,
                        .help = "Batches that the disk refused"},
    [SEALS] = {.name = "finetuner_seals_total",
               .kind = FT_METRIC_COUNTER,
               .help = "Journals that were made into shards"},
    [MERGES] = {.name = "finetuner_merges_total",
                .kind = FT_METRIC_COUNTER,
                .help = "Shards that were made of shards"},
    [MERGES_FAILED] = {.name = "finetuner_merge_failures_total",
                       .kind = FT_METRIC_COUNTER,
                       .help =
                           "Attempts to make one shard of several that failed: one is damaged, or the disk "
                           "is full"},
    [OPEN_DOCUMENTS] = {.name = "finetuner_open_documents",
                        .kind = FT_METRIC_GAUGE,
                        .help = "Documents in datasets that were written to since the start"},
    [OPEN_SHARDS] = {.name = "finetuner_open_shards",
                     .kind = FT_METRIC_GAUGE,
                     .help = "Shards of datasets that were written to since the start"},
    [RUNS] = {.name = "finetuner_runs",
              .kind = FT_METRIC_GAUGE,
              .help = "Runs by state, all that are registered",
              .labels = {"state"}},
    [MODELS] = {.name = "finetuner_models", .kind = FT_METRIC_GAUGE, .help = "Models that are loaded"},
    [MODELS_BYTES] = {.name = "finetuner_models_bytes",
                      .kind = FT_METRIC_GAUGE,
                      .help = "Bytes that loaded models take"},
    [SERVING] = {.name = "finetuner_serving",
                 .kind = FT_METRIC_GAUGE,
                 .help = "1: health says SERVING; 0: it is going down, until the process ends"},
    [MEMORY] = {.name = "process_resident_memory_bytes",
                .kind = FT_METRIC_GAUGE,
                .help = "Resident memory size in bytes"},
    [MEMORY_PEAK] = {.name = "finetuner_resident_memory_peak_bytes",
                     .kind = FT_METRIC_GAUGE,
                     .help = "Most memory that was resident at once"},
    [STARTED] = {.name = "process_start_time_seconds",
                 .kind = FT_METRIC_GAUGE,
                 .help = "Start of the service, in seconds since 1970"},
};
enum { N_FAMILIES = sizeof FAMILIES / sizeof FAMILIES[0] };

struct ft_monitor {
    struct ft_service *service;
    struct ft_metrics *metrics;
    struct ft_page *page;
    const char *runtime; /* Jina's label runtime_name; borrowed from the config */

    pthread_mutex_t parts; /* held while parts of the service are asked; guards `alone` */
    bool alone;            /* they are not there any more: what they said last stays */
};

static struct ft_series *series(struct ft_monitor *monitor, enum family family, const char *value)
{
    return ft_metrics_series(monitor->metrics, family, &value);
}

static void set(struct ft_monitor *monitor, enum family family, double x)
{
    ft_series_set(ft_metrics_series(monitor->metrics, family, NULL), x);
}

enum ft_status ft_monitor_new(struct ft_service *service, struct ft_monitor **monitor, struct ft_err *err)
{
    struct ft_monitor *m = NULL;
    *monitor = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *m, &m, err));
    m->service = service;
    m->runtime = service->config->name;
    (void)pthread_mutex_init(&m->parts, NULL);
    enum ft_status st = ft_metrics_new(FAMILIES, N_FAMILIES, &m->metrics, err);
    if (st != FT_OK) {
        (void)pthread_mutex_destroy(&m->parts);
        ft_free(m);
        return st;
    }
    /* There from the start: a rate of a counter that appears with its first failure misses that one. */
    (void)series(m, JINA_FAILED, m->runtime);
    (void)series(m, JINA_SUCCESSFUL, m->runtime);
    set(m, STARTED, (double)ft_clock_unix_ms() / 1000);
    *monitor = m;
    return FT_OK;
}

void ft_monitor_free(struct ft_monitor *monitor)
{
    if (monitor != NULL) {
        ft_page_free(monitor->page);
        ft_metrics_free(monitor->metrics);
        (void)pthread_mutex_destroy(&monitor->parts);
        ft_free(monitor);
    }
}

/* ---- what happens */

void ft_monitor_over(void *arg, const struct ft_rpc_end *end)
{
    struct ft_monitor *monitor = arg;
    const char *method = end->method != NULL ? end->method->path + 1 : "unknown";
    const char *const labels[] = {method, ft_rpc_code_name(end->code)};
    FT_LOG_DEBUG_LINE("rpc", "call over method=%s status=%s seconds=%.6f bytes_in=%llu bytes_out=%llu",
                      method, labels[1], end->seconds, (unsigned long long)end->bytes_in,
                      (unsigned long long)end->bytes_out);
    ft_series_count(ft_metrics_series(monitor->metrics, REQUESTS, labels), 1);
    ft_series_add(series(monitor, REQUEST_SECONDS, method), end->seconds);
    ft_series_count(series(monitor, RECEIVED_BYTES, method), (double)end->bytes_in);
    ft_series_count(series(monitor, SENT_BYTES, method), (double)end->bytes_out);
}

void ft_monitor_request(struct ft_monitor *monitor, const struct ft_request *request, size_t sent,
                        bool failed)
{
    double now = ft_clock_seconds();
    const struct ft_jina_request *jina = &request->jina;
    ft_series_add(series(monitor, JINA_RECEIVING, monitor->runtime), now - request->came_at);
    ft_series_count(series(monitor, failed ? JINA_FAILED : JINA_SUCCESSFUL, monitor->runtime), 1);
    if (jina->endpoint.size == 0) { /* it could not be read */
        return;
    }
    const char *const labels[] = {ft_endpoint_label(monitor->service->config, jina->endpoint), EXECUTOR,
                                  monitor->runtime};
    struct ft_metrics *metrics = monitor->metrics;
    ft_series_add(ft_metrics_series(metrics, JINA_RECEIVED, labels), (double)jina->message.size);
    ft_series_add(ft_metrics_series(metrics, JINA_RECEIVED_OLD, labels), (double)jina->message.size);
    if (request->began_at > 0) { /* a handler had it */
        ft_series_add(ft_metrics_series(metrics, JINA_PROCESS, labels), now - request->began_at);
    }
    if (!failed) {
        ft_series_count(ft_metrics_series(metrics, JINA_DOCUMENTS, labels), (double)jina->n_docs);
        ft_series_add(ft_metrics_series(metrics, JINA_SENT, labels), (double)sent);
    }
}

void ft_monitor_batch(struct ft_monitor *monitor, size_t documents, double seconds)
{
    ft_series_add(ft_metrics_series(monitor->metrics, BATCHES, NULL), (double)documents);
    ft_series_add(ft_metrics_series(monitor->metrics, BATCH_SECONDS, NULL), seconds);
}

/* ---- the page */

static void ask_queues(struct ft_monitor *monitor)
{
    struct ft_service *service = monitor->service;
    set(monitor, CALLS, (double)ft_rpc_server_calls(service->rpc));
    set(monitor, MESSAGE_BYTES, (double)ft_rpc_server_bytes(service->rpc));
    ft_series_set(series(monitor, QUEUE, "read"), (double)ft_rpc_server_waiting(service->rpc));
    ft_series_set(series(monitor, QUEUE, "handler"), (double)ft_queue_size(service->requests));
    ft_series_set(series(monitor, QUEUE, "v1"), (double)ft_v1_waiting(service->v1));
    ft_series_set(series(monitor, QUEUE, "model"), (double)ft_encode_waiting(service->encode));
}

static void ask_store(struct ft_monitor *monitor)
{
    struct ft_set_stats s = ft_datasets_stats(monitor->service->datasets);
    set(monitor, STORED, (double)s.stored);
    set(monitor, DUPLICATES, (double)s.duplicates);
    set(monitor, DELETED, (double)s.deleted);
    set(monitor, JOURNAL_BYTES, (double)s.written);
    set(monitor, SYNCS, (double)s.syncs);
    set(monitor, STORE_FAILURES, (double)s.failures);
    set(monitor, SEALS, (double)s.seals);
    set(monitor, MERGES, (double)s.merges);
    set(monitor, MERGES_FAILED, (double)s.merges_failed);
    set(monitor, OPEN_DOCUMENTS, (double)s.ids);
    set(monitor, OPEN_SHARDS, (double)s.shards);
}

static enum ft_status ask_parts(struct ft_monitor *monitor, struct ft_err *err)
{
    struct ft_service *service = monitor->service;
    int64_t runs[FT_RUN_STATES];
    size_t models = 0;
    size_t bytes = 0;
    FT_RETURN_IF_FAILED(ft_runs_count(service->runs, runs, err));
    for (int i = 0; i < FT_RUN_STATES; i++) {
        ft_series_set(series(monitor, RUNS, ft_run_state_name((enum ft_run_state)i)), (double)runs[i]);
    }
    ask_queues(monitor);
    ask_store(monitor);
    ft_models_loaded(ft_encode_models(service->encode), &models, &bytes);
    set(monitor, MODELS, (double)models);
    set(monitor, MODELS_BYTES, (double)bytes);
    return FT_OK;
}

static enum ft_status write_page(void *arg, struct ft_buf *out, struct ft_err *err)
{
    struct ft_monitor *monitor = arg;
    (void)pthread_mutex_lock(&monitor->parts);
    enum ft_status st = monitor->alone ? FT_OK : ask_parts(monitor, err);
    (void)pthread_mutex_unlock(&monitor->parts);
    FT_RETURN_IF_FAILED(st);
    set(monitor, SERVING, atomic_load(&monitor->service->serving) ? 1 : 0);
    set(monitor, MEMORY, (double)ft_resident_memory());
    set(monitor, MEMORY_PEAK, (double)ft_peak_memory());
    return ft_metrics_write(monitor->metrics, out, err);
}

enum ft_status ft_monitor_listen(struct ft_monitor *monitor, struct ft_err *err)
{
    const struct ft_config *config = monitor->service->config;
    if (!config->monitoring) {
        return FT_OK;
    }
    enum ft_status st =
        ft_page_new(config->host, (int)config->port_monitoring, write_page, monitor, &monitor->page, err);
    return st == FT_OK ? FT_OK : ft_err_wrap(err, "port_monitoring");
}

int ft_monitor_port(const struct ft_monitor *monitor)
{
    return monitor->page != NULL ? ft_page_port(monitor->page) : 0;
}

void ft_monitor_detach(struct ft_monitor *monitor)
{
    struct ft_err err = {0};
    if (monitor == NULL || monitor->page == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&monitor->parts);
    (void)!ask_parts(monitor, &err); /* else what was there before stays */
    monitor->alone = true;
    (void)pthread_mutex_unlock(&monitor->parts);
}
