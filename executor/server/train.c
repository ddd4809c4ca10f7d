#include "executor/base/log.h"
#include "executor/server/internal.h"

/* What makes a Document an example. */
static enum ft_status check_document(const struct ft_document *doc, struct ft_err *err)
{
    if (doc->id.size > FT_MAX_ID_BYTES) {
        return FT_FAIL(err, LIMIT, "the id has %zu bytes, more than %d", doc->id.size, FT_MAX_ID_BYTES);
    }
    if (!doc->has_label) {
        return FT_FAIL(err, INVALID,
                       "no label: tags.finetuner_label is missing, empty, or neither text nor a number");
    }
    switch (doc->content.kind) {
    case FT_CONTENT_NONE:
        return FT_FAIL(err, INVALID, "no content: neither text, blob nor tensor");
    case FT_CONTENT_URI:
        return FT_FAIL(err, UNSUPPORTED, "a uri is not fetched by the service: send the content");
    case FT_CONTENT_TEXT:
    case FT_CONTENT_BLOB:
    case FT_CONTENT_TENSOR:
        break;
    }
    return FT_OK;
}

static enum ft_status store(struct ft_request *request, const char *dataset, struct ft_journal_result *result,
                            struct ft_err *err)
{
    size_t count = request->jina.n_docs;
    /* All are looked at before one is stored: a request is stored whole or not at all. */
    for (size_t i = 0; i < count; i++) {
        if (check_document(&request->docs[i], err) != FT_OK) {
            return ft_wrap_document(request, i, err);
        }
    }
    return count > 0
               ? ft_datasets_append(request->service->datasets, dataset, request->docs, count, result, err)
               : FT_OK;
}

/* The Documents go on as they came; what happened to them stands in the results. */
static void answer_stored(struct ft_request *request, const char *dataset,
                          const struct ft_journal_result *result)
{
    struct ft_err err = {0};
    struct ft_json *object = ft_json_object();
    if (object != NULL &&
        (ft_json_set(object, "dataset", ft_json_of_text(dataset), &err) != FT_OK ||
         ft_json_set(object, "stored", ft_json_of_int((int64_t)result->stored), &err) != FT_OK ||
         ft_json_set(object, "duplicates", ft_json_of_int((int64_t)result->duplicates), &err) != FT_OK)) {
        ft_json_free(object);
        object = NULL;
    }
    ft_request_results(request, object);
}

void ft_endpoint_train(struct ft_request *request)
{
    struct ft_err err = {0};
    struct ft_journal_result result = {0};
    const char *dataset = NULL;
    enum ft_status st = ft_request_text(request, "dataset", &dataset, &err);
    dataset = dataset != NULL ? dataset : "default";
    if (st == FT_OK && !ft_dataset_name_valid(dataset)) {
        st = FT_FAIL(&err, INVALID,
                     "parameters.dataset: '%.64s' is no name: 1 to 64 letters, digits, '-', '_', '.', "
                     "not starting with '.'",
                     dataset);
    }
    if (st == FT_OK) {
        st = ft_request_docs(request, &err);
    }
    if (st == FT_OK) {
        st = store(request, dataset, &result, &err);
    }
    if (st != FT_OK) {
        ft_request_fail(request, &err);
        return;
    }
    answer_stored(request, dataset, &result);
}
