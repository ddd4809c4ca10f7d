#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/server/stored.h"
#include "executor/server/v1.h"
#include "executor/store/folder.h"

/* ---- pages of names */

/* {key: [{name}, ...], next_page_token}: the names behind `token`, at most `size`. Names are sorted. */
struct page {
    struct ft_json *list;
    const char *token;
    int64_t size;
    const char *last; /* the last name taken */
    bool more;
};

static enum ft_status page_begin(const struct ft_json *request, struct page *page, struct ft_v1_why *why)
{
    FT_RETURN_IF_FAILED(ft_v1_page(request, &page->size, &page->token, why));
    page->list = ft_json_array();
    return page->list != NULL ? FT_OK : FT_FAIL(&why->err, NOMEM, "out of memory listing");
}

/* Whether the name belongs to the page. */
static bool page_wants(struct page *page, const char *name)
{
    if (page->more || (*page->token != '\0' && strcmp(name, page->token) <= 0)) {
        return false;
    }
    page->more = ft_json_count(page->list) == (size_t)page->size;
    return !page->more;
}

static enum ft_status page_end(struct page *page, const char *key, struct ft_json **answer,
                               struct ft_err *err)
{
    struct ft_json *object = ft_json_object();
    struct ft_json *list = page->list;
    page->list = NULL;
    enum ft_status st = FT_OK;
    if (object == NULL) {
        ft_json_free(list);
        return FT_FAIL(err, NOMEM, "out of memory listing");
    }
    FT_TRY(ft_json_set(object, key, list, err));
    if (page->more) {
        FT_TRY(ft_json_set(object, "next_page_token", ft_json_of_text(page->last), err));
    }
    *answer = object;
    object = NULL;
done:
    ft_json_free(object);
    return st;
}

/* ---- datasets */

FT_V1_ANSWER(ft_v1_list_datasets)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list names = {0};
    struct page page = {0};
    FT_TRY(page_begin(request, &page, why));
    FT_TRY(ft_datasets_list(service->datasets, &names, &why->err));
    for (size_t i = 0; i < names.count; i++) {
        if (!ft_dataset_name_valid(names.names[i]) || !page_wants(&page, names.names[i])) {
            continue;
        }
        page.last = names.names[i];
        struct ft_json *dataset = ft_json_object();
        st = dataset != NULL ? ft_json_set(dataset, "name", ft_json_of_text(page.last), &why->err)
                             : FT_FAIL(&why->err, NOMEM, "out of memory listing");
        if (st != FT_OK) {
            ft_json_free(dataset);
            goto done;
        }
        FT_TRY(ft_json_push(page.list, dataset, &why->err));
    }
    FT_TRY(page_end(&page, "datasets", answer, &why->err));
done:
    ft_json_free(page.list);
    ft_dir_list_release(&names);
    return st;
}

static enum ft_status describe(const char *name, const struct ft_folder_info *info, struct ft_json **answer,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *d = ft_json_object();
    if (d == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory answering");
    }
    FT_TRY(ft_json_set(d, "name", ft_json_of_text(name), err));
    FT_TRY(ft_json_set(d, "documents", ft_json_of_int((int64_t)info->documents), err));
    FT_TRY(ft_json_set(d, "classes", ft_json_of_int((int64_t)info->classes), err));
    FT_TRY(ft_json_set(d, "bytes", ft_json_of_int((int64_t)info->bytes), err));
    *answer = d;
    d = NULL;
done:
    ft_json_free(d);
    return st;
}

FT_V1_ANSWER(ft_v1_get_dataset)
{
    enum ft_status st = FT_OK;
    struct ft_folder_info info = {0};
    const char *name = NULL;
    char *dir = NULL;
    FT_RETURN_IF_FAILED(ft_v1_need(request, "dataset", &name, why));
    ft_v1_at_fault(why, "dataset");
    FT_TRY(ft_datasets_dir(service->datasets, name, &dir, &why->err));
    ft_v1_at_fault(why, "");
    st = ft_folder_look(dir, &info, &why->err);
    if (st == FT_INVALID) { /* what is there is no dataset: not the request's fault */
        why->code = FT_RPC_INTERNAL;
    }
    FT_TRY(ft_v1_ours(why, st));
    FT_TRY(describe(name, &info, answer, &why->err));
done:
    ft_free(dir);
    return st;
}

FT_V1_ANSWER(ft_v1_delete_dataset)
{
    const char *name = NULL;
    FT_RETURN_IF_FAILED(ft_v1_need(request, "dataset", &name, why));
    enum ft_status st = ft_dataset_name_valid(name)
                            ? ft_datasets_remove(service->datasets, name, &why->err)
                            : FT_FAIL(&why->err, INVALID, "'%.64s' is no dataset's name", name);
    if (st == FT_INVALID || st == FT_NOT_FOUND) {
        ft_v1_at_fault(why, "dataset");
    }
    return st == FT_OK ? ft_v1_empty(answer, why) : st;
}

FT_V1_ANSWER(ft_v1_delete_documents)
{
    enum ft_status st = FT_OK;
    const struct ft_json *given = ft_json_get(request, "ids");
    size_t count = ft_json_count(given);
    struct ft_bytes *ids = NULL;
    const char *name = NULL;
    size_t deleted = 0;
    FT_TRY(ft_v1_need(request, "dataset", &name, why));
    FT_TRY(ft_new(count + 1, sizeof *ids, &ids, &why->err));
    for (size_t i = 0; i < count; i++) {
        ids[i] = ft_bytes_of_text(ft_json_text(ft_json_at(given, i), NULL));
        if (ids[i].size == 0 || ids[i].size > FT_MAX_ID_BYTES) {
            (void)snprintf(why->fault.field, sizeof why->fault.field, "ids[%zu]", i);
            st = FT_FAIL(&why->err, INVALID, "ids[%zu] has %zu bytes, not 1 to %d", i, ids[i].size,
                         FT_MAX_ID_BYTES);
            goto done;
        }
    }
    st = ft_datasets_delete_ids(service->datasets, name, ids, count, &deleted, &why->err);
    if (st == FT_INVALID || st == FT_NOT_FOUND) {
        ft_v1_at_fault(why, "dataset");
    }
    FT_TRY(ft_v1_ours(why, st));
    FT_TRY(ft_v1_empty(answer, why));
    FT_TRY(ft_json_set(*answer, "deleted", ft_json_of_int((int64_t)deleted), &why->err));
done:
    ft_free(ids);
    if (st != FT_OK) {
        ft_json_free(*answer);
        *answer = NULL;
    }
    return st;
}

/* ---- models */

static enum ft_status describe_model(const struct ft_stored *stored, bool configured, struct ft_json **answer,
                                     struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *m = ft_json_object();
    if (m == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory answering");
    }
    FT_TRY(ft_json_set(m, "name", ft_json_of_text(ft_path_base(stored->root)), err));
    FT_TRY(ft_json_set(m, "configured", ft_json_of_bool(configured), err));
    FT_TRY(ft_json_set(m, "bytes", ft_json_of_int((int64_t)stored->bytes), err));
    FT_TRY(ft_json_set(m, "sha256", ft_json_of_text(stored->sha256), err));
    *answer = m;
    m = NULL;
done:
    ft_json_free(m);
    return st;
}

/* What is damaged is there all the same: it is listed, and can be removed; a run that wants it tells. */
static enum ft_status look_up(struct ft_service *service, const char *name, bool configured,
                              struct ft_stored *stored, struct ft_err *err)
{
    enum ft_status st = configured ? ft_stored_at(service->config->model, stored, err)
                                   : ft_stored_find(ft_uploads_models(service->uploads), name, stored, err);
    if (st == FT_CORRUPT) {
        ft_err_clear(err);
        return FT_OK;
    }
    return st;
}

static enum ft_status add_model(struct ft_service *service, struct page *page, const char *name,
                                bool configured, struct ft_err *err)
{
    struct ft_json *model = NULL;
    struct ft_stored stored = {0};
    if (!page_wants(page, name)) {
        return FT_OK;
    }
    page->last = name;
    enum ft_status st = look_up(service, name, configured, &stored, err);
    if (st == FT_OK && stored.root != NULL) {
        st = describe_model(&stored, configured, &model, err);
    }
    if (st == FT_OK && model != NULL) {
        st = ft_json_push(page->list, model, err);
    }
    ft_stored_release(&stored);
    return st;
}

FT_V1_ANSWER(ft_v1_list_models)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list names = {0};
    struct page page = {0};
    const char *configured = service->config->model[0] != '\0' ? ft_path_base(service->config->model) : NULL;
    FT_TRY(page_begin(request, &page, why));
    FT_TRY(ft_dir_list(ft_uploads_models(service->uploads), &names, &why->err));
    for (size_t i = 0; i <= names.count; i++) {
        const char *name = i < names.count ? names.names[i] : NULL;
        if (configured != NULL && (name == NULL || strcmp(configured, name) <= 0)) { /* in its place */
            bool same = name != NULL && strcmp(configured, name) == 0; /* it hides the stored one */
            FT_TRY(add_model(service, &page, configured, true, &why->err));
            configured = NULL;
            if (same) {
                continue;
            }
        }
        if (name != NULL && ft_dataset_name_valid(name)) {
            FT_TRY(add_model(service, &page, name, false, &why->err));
        }
    }
    FT_TRY(page_end(&page, "models", answer, &why->err));
done:
    ft_json_free(page.list);
    ft_dir_list_release(&names);
    return ft_v1_ours(why, st);
}

/* A model of ListModels; FT_NOT_FOUND. ft_stored_release() in every case. */
static enum ft_status find_model(struct ft_service *service, const struct ft_json *request, bool *configured,
                                 struct ft_stored *stored, struct ft_v1_why *why)
{
    const char *name = NULL;
    FT_RETURN_IF_FAILED(ft_v1_need(request, "model", &name, why));
    *configured = ft_names_configured(service->config->model, name);
    FT_RETURN_IF_FAILED(ft_v1_ours(why, look_up(service, name, *configured, stored, &why->err)));
    if (stored->root == NULL) {
        ft_v1_at_fault(why, "model");
        return FT_FAIL(&why->err, NOT_FOUND, "there is no model '%.64s'", name);
    }
    return FT_OK;
}

FT_V1_ANSWER(ft_v1_get_model)
{
    bool configured = false;
    struct ft_stored stored = {0};
    enum ft_status st = find_model(service, request, &configured, &stored, why);
    if (st == FT_OK) {
        st = describe_model(&stored, configured, answer, &why->err);
    }
    ft_stored_release(&stored);
    return st;
}

FT_V1_ANSWER(ft_v1_delete_model)
{
    bool configured = false;
    struct ft_stored stored = {0};
    enum ft_status st = find_model(service, request, &configured, &stored, why);
    if (st == FT_OK && configured) {
        why->code = FT_RPC_FAILED_PRECONDITION;
        st = FT_FAIL(&why->err, BUSY, "'%s' is the configured model", ft_path_base(stored.root));
    } else if (st == FT_OK) {
        st = ft_uploads_remove(service->uploads, stored.root, &why->err);
    }
    ft_stored_release(&stored);
    return st == FT_OK ? ft_v1_empty(answer, why) : st;
}
