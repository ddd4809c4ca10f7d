/* links: ft_wire ft_codec ft_base */
/* covers: executor/wire/jina.c executor/wire/struct.c executor/wire/control.c
 * executor/wire/reflection.c */
/*
 * An envelope from a stranger: refused, or answered with something that reads back as the same request. The
 * first byte says which of the three envelopes it is.
 */
#include "tests/fuzz/target.h"

#include <assert.h>

#include "executor/base/alloc.h"
#include "executor/wire/control.h"
#include "executor/wire/jina.h"
#include "executor/wire/reflection.h"

static void reads_back(const struct ft_buf *out, const struct ft_jina_request *request, size_t docs)
{
    struct ft_err err = {0};
    struct ft_jina_request again;
    enum ft_jina_form form = request->form == FT_JINA_SINGLE ? FT_JINA_SINGLE : FT_JINA_DATA;
    enum ft_status st = ft_jina_request_scan(ft_buf_bytes(out), form, &again, &err);
    assert(st == FT_OK || st == FT_LIMIT);
    if (st == FT_OK) {
        assert(ft_bytes_equal(again.endpoint, request->endpoint));
        assert(again.n_docs == docs);
    }
    ft_jina_request_release(&again);
}

static void answer(const struct ft_jina_request *request, const struct ft_jina_reply *reply)
{
    struct ft_err err = {0};
    struct ft_buf out = {0};
    enum ft_status st = ft_jina_answer(request, reply, &out, &err);
    /* A Document that is no message cannot take an embedding; parameters may be no Struct. */
    assert(st == FT_OK || st == FT_CORRUPT);
    if (st == FT_OK) {
        bool one = request->form == FT_JINA_SINGLE && reply->embeddings != NULL && request->n_docs > 0;
        reads_back(&out, request, one ? 1 : request->n_docs);
    }
    ft_buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_err second = {0};
    struct ft_buf out = {0};
    struct ft_bytes name = {0};
    struct ft_jina_request request;
    if (size == 0) {
        return 0;
    }
    struct ft_bytes message = ft_bytes_of(data + 1, size - 1);
    enum ft_status st = ft_jina_request_scan(message, (enum ft_jina_form)(data[0] % 3), &request, &err);
    if (st == FT_OK) {
        static const float zeros[4096];
        struct ft_json *results = ft_json_of_int(1);
        const struct ft_jina_reply plain = {.route = ft_bytes_of_text("me")};
        const struct ft_jina_reply told = {.results_key = "me", .results = results};
        answer(&request, &plain);
        answer(&request, &told);
        if (request.n_docs > 0 && request.n_docs <= 1024) {
            const struct ft_jina_reply embedded = {.embeddings = zeros, .dim = 4};
            answer(&request, &embedded);
        }
        ft_json_free(results);
        (void)FT_FAIL(&err, INVALID, "no");
    }
    st = ft_jina_error(&request, &err, &out, &second);
    assert(st == FT_OK || st == FT_CORRUPT);
    ft_buf_release(&out);
    ft_jina_request_release(&request);
    static const char *const names[] = {"jina.JinaRPC", "/default"};
    st = ft_reflection_answer(message, names, 2, &out, &second);
    assert(st == FT_OK || st == FT_CORRUPT);
    ft_buf_release(&out);
    if (size < 8) { /* what does not depend on the input is looked at now and then */
        struct ft_json *texts = ft_json_object();
        st = ft_json_set(texts, "a", ft_json_of_text("b"), &second);
        assert(st == FT_OK);
        st = ft_info_write(texts, texts, &out, &second);
        assert(st == FT_OK);
        st = ft_discovery_write(names, 2, &out, &second);
        assert(st == FT_OK);
        st = ft_health_write(FT_HEALTH_SERVING, &out, &second);
        assert(st == FT_OK);
        ft_json_free(texts);
        ft_buf_release(&out);
    }
    (void)!ft_health_read(message, &name, &second);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
