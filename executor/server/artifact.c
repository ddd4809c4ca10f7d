#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/digest.h"
#include "executor/server/internal.h"

enum { PART_BYTES = 4 << 20 }; /* DESIGN 4 */

struct parts {
    struct ft_buf *bufs; /* one Document each */
    struct ft_bytes *docs;
    size_t count;
};

static void parts_release(struct parts *parts)
{
    for (size_t i = 0; parts->bufs != NULL && i < parts->count; i++) {
        ft_buf_release(&parts->bufs[i]);
    }
    ft_free(parts->bufs);
    ft_free(parts->docs);
}

/* What all parts of an artifact say. */
struct whole {
    enum ft_docarray_flavour flavour;
    const char *run;
    int64_t parts;
    char sha256[FT_SHA256_HEX];
};

/* One Document: id run/part, the bytes, tags run, part (from 0), parts, sha256 of the whole. */
static enum ft_status make_part(const struct whole *whole, int64_t part, struct ft_bytes bytes,
                                struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char id[FT_RUN_ID + 32];
    struct ft_json *tags = ft_json_object();
    if (tags == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory sending an artifact");
    }
    (void)snprintf(id, sizeof id, "%s/%lld", whole->run, (long long)part);
    FT_TRY(ft_json_set(tags, "run", ft_json_of_text(whole->run), err));
    FT_TRY(ft_json_set(tags, "part", ft_json_of_int(part), err));
    FT_TRY(ft_json_set(tags, "parts", ft_json_of_int(whole->parts), err));
    FT_TRY(ft_json_set(tags, "sha256", ft_json_of_text(whole->sha256), err));
    FT_TRY(ft_jina_blob_doc(whole->flavour, id, bytes, tags, out, err));
done:
    ft_json_free(tags);
    return st;
}

/* Parts of `file`: all, or the one asked for (part >= 0). */
static enum ft_status make_parts(enum ft_docarray_flavour flavour, const char *run, struct ft_bytes file,
                                 int64_t part, struct parts *parts, struct ft_err *err)
{
    size_t total = file.size == 0 ? 1 : (file.size + PART_BYTES - 1) / PART_BYTES;
    if (part >= (int64_t)total) {
        return FT_FAIL(err, NOT_FOUND, "run '%s' has %zu parts, numbered from 0", run, total);
    }
    size_t first = part >= 0 ? (size_t)part : 0;
    size_t count = part >= 0 ? 1 : total;
    struct whole whole = {.flavour = flavour, .run = run, .parts = (int64_t)total};
    ft_sha256_of(file, whole.sha256);
    FT_RETURN_IF_FAILED(ft_new(count, sizeof *parts->bufs, &parts->bufs, err));
    FT_RETURN_IF_FAILED(ft_new(count, sizeof *parts->docs, &parts->docs, err));
    for (size_t i = 0; i < count; i++) {
        size_t at = (first + i) * PART_BYTES;
        size_t size = file.size - at < PART_BYTES ? file.size - at : PART_BYTES;
        parts->count = i + 1;
        FT_RETURN_IF_FAILED(
            make_part(&whole, (int64_t)(first + i), ft_bytes_of(file.data + at, size), &parts->bufs[i], err));
        parts->docs[i] = ft_buf_bytes(&parts->bufs[i]);
    }
    return FT_OK;
}

/* Which docarray the client has: its Documents tell, else parameters.docarray. */
static enum ft_status client_flavour(const struct ft_request *request, enum ft_docarray_flavour *flavour,
                                     struct ft_err *err)
{
    const char *said = NULL;
    *flavour = request->jina.flavour;
    FT_RETURN_IF_FAILED(ft_request_text(request, "docarray", &said, err));
    if (said != NULL && strcmp(said, "v1") != 0 && strcmp(said, "v2") != 0) {
        return FT_FAIL(err, INVALID, "parameters.docarray is '%.16s', neither v1 (docarray < 0.30) nor v2",
                       said);
    }
    if (*flavour == FT_DOCARRAY_UNDECIDED) {
        *flavour = said != NULL && strcmp(said, "v2") == 0 ? FT_DOCARRAY_V2 : FT_DOCARRAY_V1;
    }
    return FT_OK;
}

void ft_endpoint_artifact(struct ft_request *request)
{
    enum ft_status st = FT_OK;
    struct ft_err failure = {0};
    struct ft_err *err = &failure;
    struct ft_mapping map = {0};
    struct parts parts = {0};
    char *path = NULL;
    const char *run = NULL;
    int64_t part = -1;
    enum ft_docarray_flavour flavour = FT_DOCARRAY_UNDECIDED;
    FT_TRY(client_flavour(request, &flavour, err));
    FT_TRY(ft_request_text(request, "run", &run, err));
    if (run == NULL) {
        st = FT_FAIL(err, INVALID, "parameters.run is missing: the id that /fit answered, or one of /runs");
        goto done;
    }
    FT_TRY(ft_request_int(request, "part", -1, 0, INT32_MAX, &part, err));
    FT_TRY(ft_runs_artifact(request->service->runs, run, &path, err));
    FT_TRY(ft_file_map(path, &map, err));
    FT_TRY(make_parts(flavour, run, map.bytes, part, &parts, err));
    if (request->form == FT_JINA_SINGLE && parts.count > 1) {
        st = FT_FAIL(err, INVALID,
                     "run '%s' has %zu parts and stream_doc answers with one Document: give parameters.part",
                     run, parts.count);
        goto done;
    }
done:
    if (st == FT_OK) {
        struct ft_jina_reply reply = {.docs = parts.docs, .n_docs = parts.count};
        ft_request_answer(request, &reply);
    } else {
        ft_request_fail(request, err);
    }
    parts_release(&parts);
    ft_file_unmap(&map);
    ft_free(path);
}
