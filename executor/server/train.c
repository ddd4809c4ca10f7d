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

/* All are looked at before one is stored: a request is stored whole or not at all. */
enum ft_status ft_check_examples(const struct ft_document *docs, size_t count, size_t *failed,
                                 struct ft_err *err)
{
    for (*failed = 0; *failed < count; ++*failed) {
        if (check_document(&docs[*failed], err) != FT_OK) {
            return ft_wrap_document(docs, *failed, err);
        }
    }
    return FT_OK;
}

/* The Documents go on as they came; what happened to them stands in the results. */
static void answer_stored(void *arg, const struct ft_set_result *result, const struct ft_err *why)
{
    struct ft_request *request = arg;
    struct ft_err err = {0};
    if (why->code != FT_OK) {
        if (why->code == FT_IO) {
            FT_LOG_WARNING_LINE("server", "nothing stored dataset=%s reason=\"%s\"", request->dataset,
                                why->text);
        }
        ft_request_fail(request, why);
        return;
    }
    struct ft_json *object = ft_json_object();
    if (object != NULL &&
        (ft_json_set(object, "dataset", ft_json_of_text(request->dataset), &err) != FT_OK ||
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
    const char *name = NULL;
    size_t failed = 0;
    enum ft_status st = ft_request_text(request, "dataset", &name, &err);
    request->dataset = name != NULL ? name : "default";
    if (st == FT_OK && !ft_dataset_name_valid(request->dataset)) {
        st = FT_FAIL(&err, INVALID,
                     "parameters.dataset: '%.64s' is no name: 1 to 64 letters, digits, '-', '_', '.', "
                     "not starting with '.'",
                     request->dataset);
    }
    if (st == FT_OK) {
        st = ft_request_docs(request, &err);
    }
    if (st == FT_OK) {
        st = ft_check_examples(request->docs, request->jina.n_docs, &failed, &err);
    }
    if (st == FT_OK && request->jina.n_docs == 0) {
        const struct ft_set_result nothing = {0};
        answer_stored(request, &nothing, &err);
        return;
    }
    if (st == FT_OK) { /* the request is answered, perhaps by another thread, perhaps already */
        st = ft_datasets_submit(request->service->datasets, request->dataset, request->docs,
                                request->jina.n_docs, answer_stored, request, &err);
    }
    if (st != FT_OK) {
        ft_request_fail(request, &err);
    }
}
