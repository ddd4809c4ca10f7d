#include "executor/wire/jina.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/wire/docarray_v2.h"
#include "executor/wire/internal.h"
#include "executor/wire/struct.h"

/* Field numbers of jina/SPEC.md 1.1 and 1.2. */
enum {
    ENVELOPE_HEADER = 1,
    ENVELOPE_PARAMETERS = 2,
    ENVELOPE_ROUTES = 3,
    ENVELOPE_DATA = 4, /* DataContentProto; of a single request the Document itself */
    HEADER_ID = 1,
    HEADER_STATUS = 2,
    HEADER_ENDPOINT = 3,
    DATA_DOCS = 1,
    DATA_DOCS_BYTES = 2,
    DOC_ID = 1,
    DOC_BLOB = 2,
    DOC_TAGS = 17
};

/* What Python's pickles begin with; no DocListProto does: it would be a field 16. */
enum { PICKLE = 0x80 };

static const char RESULTS[] = "__results__";

static enum ft_status scan_header(struct ft_bytes header, struct ft_jina_request *request, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(header);
    struct ft_pb_field field;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (field.number == HEADER_ID) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&field, &request->id, err));
        } else if (field.number == HEADER_ENDPOINT) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&field, &request->endpoint, err));
        }
    }
}

static enum ft_status add_doc(struct ft_jina_request *request, struct ft_bytes doc, struct ft_err *err)
{
    if (request->n_docs == FT_MAX_DOCUMENTS) {
        return FT_FAIL(err, LIMIT, "the request has more than %d Documents", FT_MAX_DOCUMENTS);
    }
    FT_RETURN_IF_FAILED(
        ft_grow(&request->docs, &request->docs_capacity, request->n_docs + 1, sizeof *request->docs, err));
    request->docs[request->n_docs++] = doc;
    if (request->flavour == FT_DOCARRAY_UNDECIDED) { /* the first that tells speaks for all */
        request->flavour = ft_docarray_sniff(doc);
    }
    return FT_OK;
}

static enum ft_status scan_docs(struct ft_bytes array, struct ft_jina_request *request, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(array);
    bool more = false;
    for (;;) {
        struct ft_bytes doc;
        FT_RETURN_IF_FAILED(ft_docarray_next(&cursor, &doc, &more, err));
        if (!more) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(add_doc(request, doc, err));
    }
}

static enum ft_status scan_data(struct ft_bytes data, struct ft_jina_request *request, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(data);
    struct ft_pb_field field;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            return FT_OK;
        }
        struct ft_bytes payload;
        if (field.number == DATA_DOCS) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&field, &payload, err));
            FT_RETURN_IF_FAILED(scan_docs(payload, request, err));
        } else if (field.number == DATA_DOCS_BYTES) {
            request->has_docs_bytes = true;
            FT_RETURN_IF_FAILED(ft_pb_bytes(&field, &payload, err));
            if (payload.size > 0 && payload.data[0] == PICKLE) {
                request->has_pickle = true;
            } else { /* v2: a DocListProto */
                FT_RETURN_IF_FAILED(scan_docs(payload, request, err));
            }
        }
    }
}

/* The fields of one envelope. `parameters` gathers the pieces of field 2, which merge as protobuf says. */
static enum ft_status scan_envelope(struct ft_bytes message, struct ft_jina_request *request,
                                    struct ft_buf *parameters, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            return FT_OK;
        }
        struct ft_bytes payload;
        if (field.number < ENVELOPE_HEADER || field.number > ENVELOPE_DATA) {
            continue;
        }
        FT_RETURN_IF_FAILED(ft_pb_bytes(&field, &payload, err));
        if (field.number == ENVELOPE_DATA && request->form == FT_JINA_SINGLE) {
            FT_RETURN_IF_FAILED(add_doc(request, payload, err));
        } else if (field.number == ENVELOPE_DATA) {
            FT_RETURN_IF_FAILED(scan_data(payload, request, err));
        } else if (parameters != NULL && field.number == ENVELOPE_HEADER) {
            FT_RETURN_IF_FAILED(scan_header(payload, request, err));
        } else if (parameters != NULL && field.number == ENVELOPE_PARAMETERS) {
            FT_RETURN_IF_FAILED(ft_buf_append(parameters, payload.data, payload.size, err));
        }
    }
}

static enum ft_status scan_list(struct ft_bytes message, struct ft_jina_request *request,
                                struct ft_buf *parameters, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    bool more = false;
    bool first = true;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            return first ? FT_FAIL(err, INVALID, "a DataRequestListProto without a request") : FT_OK;
        }
        if (field.number != 1) {
            continue;
        }
        struct ft_bytes one;
        FT_RETURN_IF_FAILED(ft_pb_bytes(&field, &one, err));
        if (first) {
            request->message = one;
        }
        FT_RETURN_IF_FAILED(scan_envelope(one, request, first ? parameters : NULL, err));
        first = false;
    }
}

enum ft_status ft_jina_request_scan(struct ft_bytes message, enum ft_jina_form form,
                                    struct ft_jina_request *request, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf parameters = {0};
    memset(request, 0, sizeof *request);
    request->form = form;
    if (form == FT_JINA_LIST) {
        FT_TRY(scan_list(message, request, &parameters, err));
    } else {
        request->message = message;
        FT_TRY(scan_envelope(message, request, &parameters, err));
    }
    FT_TRY(ft_struct_read(ft_buf_bytes(&parameters), &request->parameters, err));
done:
    if (st == FT_CORRUPT) {
        (void)ft_err_wrap(err, "request");
        request->message = ft_bytes_of(NULL, 0); /* nothing of it can be echoed */
    }
    ft_buf_release(&parameters);
    return st;
}

void ft_jina_request_release(struct ft_jina_request *request)
{
    ft_json_free(request->parameters);
    ft_free(request->docs);
    memset(request, 0, sizeof *request);
}

/* A Struct's map entry: is its key `__results__`, and what is its value's struct? */
static enum ft_status results_entry(struct ft_bytes entry, bool *is_results, struct ft_bytes *members,
                                    struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(entry);
    struct ft_pb_field field;
    struct ft_bytes value = {0};
    bool more = false;
    *is_results = false;
    *members = ft_bytes_of(NULL, 0);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            break;
        }
        if (field.number == 1) {
            struct ft_bytes key;
            FT_RETURN_IF_FAILED(ft_pb_bytes(&field, &key, err));
            *is_results = ft_bytes_is(key, RESULTS);
        } else if (field.number == 2) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&field, &value, err));
        }
    }
    cursor = ft_pb_open(value);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (field.number == 5) { /* Value.struct_value */
            FT_RETURN_IF_FAILED(ft_pb_bytes(&field, members, err));
        }
    }
}

/* Append {"__results__": {old members, key: results}} as a map entry. */
static enum ft_status put_results(struct ft_bytes old_members, const struct ft_jina_reply *reply,
                                  struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf members = {0};
    struct ft_buf value = {0};
    struct ft_buf entry = {0};
    FT_TRY(ft_buf_append(&members, old_members.data, old_members.size, err));
    FT_TRY(ft_struct_member(reply->results_key, reply->results, &members, err));
    FT_TRY(ft_pb_put_bytes(&value, 5, ft_buf_bytes(&members), err));
    FT_TRY(ft_pb_put_text(&entry, 1, RESULTS, err));
    FT_TRY(ft_pb_put_bytes(&entry, 2, ft_buf_bytes(&value), err));
    FT_TRY(ft_pb_put_bytes(out, 1, ft_buf_bytes(&entry), err));
done:
    ft_buf_release(&members);
    ft_buf_release(&value);
    ft_buf_release(&entry);
    return st;
}

/* The request's parameters with our results in them; *old gathers what stood there, *rest everything else. */
static enum ft_status split_parameters(struct ft_bytes parameters, struct ft_bytes *old, struct ft_buf *rest,
                                       struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(parameters);
    struct ft_pb_field field;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            return FT_OK;
        }
        bool is_results = false;
        struct ft_bytes members = {0};
        if (field.number == 1) {
            FT_RETURN_IF_FAILED(results_entry(field.bytes, &is_results, &members, err));
        }
        if (is_results) {
            *old = members;
        } else {
            FT_RETURN_IF_FAILED(ft_buf_append(rest, field.raw.data, field.raw.size, err));
        }
    }
}

static enum ft_status put_parameters(struct ft_bytes parameters, const struct ft_jina_reply *reply,
                                     struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_bytes old = {0};
    struct ft_buf payload = {0};
    FT_TRY(split_parameters(parameters, &old, &payload, err));
    FT_TRY(put_results(old, reply, &payload, err));
    FT_TRY(ft_pb_put_bytes(out, ENVELOPE_PARAMETERS, ft_buf_bytes(&payload), err));
done:
    ft_buf_release(&payload);
    return st;
}

/* Bytes of one Document in the answer. */
static enum ft_status doc_size(const struct ft_jina_request *request, const struct ft_jina_reply *reply,
                               struct ft_bytes doc, size_t *size, struct ft_err *err)
{
    *size = doc.size;
    return reply->embeddings != NULL ? ft_docarray_splice_size(doc, request->flavour, reply->dim, size, err)
                                     : FT_OK;
}

/* Document i in a field of that number, its length known before its first byte is written. */
static enum ft_status put_doc(const struct ft_jina_request *request, const struct ft_jina_reply *reply,
                              size_t i, uint32_t number, struct ft_buf *out, struct ft_err *err)
{
    struct ft_bytes doc = reply->docs != NULL ? reply->docs[i] : request->docs[i];
    size_t size = 0;
    FT_RETURN_IF_FAILED(doc_size(request, reply, doc, &size, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, number, size, err));
    if (reply->embeddings != NULL) {
        return ft_docarray_splice(doc, request->flavour, reply->embeddings + i * reply->dim, reply->dim, out,
                                  err);
    }
    return ft_buf_append(out, doc.data, doc.size, err);
}

/* data { docs { docs ... } } */
static enum ft_status put_docs(const struct ft_jina_request *request, const struct ft_jina_reply *reply,
                               size_t count, struct ft_buf *out, struct ft_err *err)
{
    size_t array = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size = 0;
        struct ft_bytes doc = reply->docs != NULL ? reply->docs[i] : request->docs[i];
        FT_RETURN_IF_FAILED(doc_size(request, reply, doc, &size, err));
        array += 1 + ft_wire_varint_size(size) + size;
    }
    size_t data = 1 + ft_wire_varint_size(array) + array;
    FT_RETURN_IF_FAILED(ft_buf_reserve(out, data + 16, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, ENVELOPE_DATA, data, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, DATA_DOCS, array, err));
    for (size_t i = 0; i < count; i++) {
        FT_RETURN_IF_FAILED(put_doc(request, reply, i, 1, out, err));
    }
    return FT_OK;
}

/* Do the request's own Documents go out as they came? */
static bool keeps_docs(const struct ft_jina_request *request, const struct ft_jina_reply *reply)
{
    if (reply->docs != NULL) {
        return false;
    }
    if (request->has_docs_bytes) { /* always answered with docs (SPEC 3.2) */
        return request->has_pickle;
    }
    return request->n_docs == 0 || (reply->embeddings == NULL && request->form != FT_JINA_LIST);
}

static enum ft_status put_data(const struct ft_jina_request *request, const struct ft_jina_reply *reply,
                               struct ft_buf *out, struct ft_err *err)
{
    size_t count = reply->docs != NULL ? reply->n_docs : request->n_docs;
    if (request->form == FT_JINA_SINGLE) {
        return count > 0 ? put_doc(request, reply, 0, ENVELOPE_DATA, out, err) : FT_OK;
    }
    return put_docs(request, reply, count, out, err);
}

static enum ft_status put_route(struct ft_bytes route, struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(
        ft_pb_put_header(out, ENVELOPE_ROUTES, 1 + ft_wire_varint_size(route.size) + route.size, err));
    return ft_pb_put_bytes(out, 1, route, err);
}

enum ft_status ft_jina_answer(const struct ft_jina_request *request, const struct ft_jina_reply *reply,
                              struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf data = {0};
    struct ft_buf parameters = {0};
    struct ft_pb_cursor cursor = ft_pb_open(request->message);
    struct ft_pb_field field;
    bool more = false;
    bool keep = keeps_docs(request, reply);
    for (;;) {
        FT_TRY(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            break;
        }
        if (field.number == ENVELOPE_DATA) {
            if (keep) {
                FT_TRY(ft_buf_append(&data, field.raw.data, field.raw.size, err));
            }
        } else if (field.number == ENVELOPE_PARAMETERS && reply->results_key != NULL) {
            FT_TRY(ft_buf_append(&parameters, field.bytes.data, field.bytes.size, err));
        } else {
            FT_TRY(ft_buf_append(out, field.raw.data, field.raw.size, err));
        }
    }
    if (reply->results_key != NULL) {
        FT_TRY(put_parameters(ft_buf_bytes(&parameters), reply, out, err));
    }
    if (reply->route.size > 0) {
        FT_TRY(put_route(reply->route, out, err));
    }
    if (keep) {
        FT_TRY(ft_buf_append(out, data.data, data.size, err));
    } else {
        FT_TRY(put_data(request, reply, out, err));
    }
done:
    ft_buf_release(&data);
    ft_buf_release(&parameters);
    return st;
}

/* "not found" -> "NotFound": clients show it where Python shows an exception's class. */
static void class_name(enum ft_status code, char out[32])
{
    size_t n = 0;
    bool upper = true;
    for (const char *c = ft_status_text(code); *c != '\0' && n < 31; c++) {
        if (isalpha((unsigned char)*c) == 0) {
            upper = true;
            continue;
        }
        out[n++] = upper ? (char)toupper((unsigned char)*c) : *c;
        upper = false;
    }
    out[n] = '\0';
}

/* The text as Python's repr() has it: what a description shows. */
static enum ft_status put_repr(const char *text, struct ft_buf *out, struct ft_err *err)
{
    char quote = strchr(text, '\'') != NULL && strchr(text, '"') == NULL ? '"' : '\'';
    FT_RETURN_IF_FAILED(ft_buf_append(out, &quote, 1, err));
    for (const char *c = text; *c != '\0'; c++) {
        unsigned char u = (unsigned char)*c;
        if (*c == '\\' || *c == quote) {
            FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "\\%c", *c));
        } else if (*c == '\n' || *c == '\r' || *c == '\t') {
            FT_RETURN_IF_FAILED(ft_buf_append(out, *c == '\n' ? "\\n" : *c == '\r' ? "\\r" : "\\t", 2, err));
        } else if (u < 0x20 || u == 0x7f) {
            FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "\\x%02x", u));
        } else {
            FT_RETURN_IF_FAILED(ft_buf_append(out, c, 1, err));
        }
    }
    return ft_buf_append(out, &quote, 1, err);
}

/* StatusProto {code: ERROR, description: "Class('text')", exception {name, args, stacks, executor}}: as if a
 * Python executor had raised Class('text'). */
static enum ft_status put_status(const struct ft_err *why, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf exception = {0};
    struct ft_buf line = {0};
    char name[32];
    class_name(why->code, name);
    FT_TRY(ft_pb_put_text(&exception, 1, name, err));
    FT_TRY(ft_pb_put_text(&exception, 2, why->text, err));
    FT_TRY(ft_buf_printf(&line, err, "%s: %s\n", name, why->text));
    FT_TRY(ft_pb_put_bytes(&exception, 3, ft_buf_bytes(&line), err));
    FT_TRY(ft_pb_put_text(&exception, 4, "Finetuner", err));
    line.size = 0;
    FT_TRY(ft_buf_printf(&line, err, "%s(", name));
    FT_TRY(put_repr(why->text, &line, err));
    FT_TRY(ft_buf_append(&line, ")", 1, err));
    FT_TRY(ft_pb_put_varint(out, 1, 1, err));
    FT_TRY(ft_pb_put_bytes(out, 2, ft_buf_bytes(&line), err));
    FT_TRY(ft_pb_put_bytes(out, 3, ft_buf_bytes(&exception), err));
done:
    ft_buf_release(&exception);
    ft_buf_release(&line);
    return st;
}

/* A header's fields with the status put where its number belongs and any old one left out. */
static enum ft_status put_header(struct ft_bytes header, struct ft_bytes status, struct ft_buf *out,
                                 struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(header);
    struct ft_pb_field field;
    bool more = false;
    bool put = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!put && (!more || field.number > HEADER_STATUS)) {
            FT_RETURN_IF_FAILED(ft_pb_put_bytes(out, HEADER_STATUS, status, err));
            put = true;
        }
        if (!more) {
            return FT_OK;
        }
        if (field.number != HEADER_STATUS) {
            FT_RETURN_IF_FAILED(ft_buf_append(out, field.raw.data, field.raw.size, err));
        }
    }
}

enum ft_status ft_jina_error(const struct ft_jina_request *request, const struct ft_err *why,
                             struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf status = {0};
    struct ft_buf old = {0};
    struct ft_buf header = {0};
    struct ft_buf rest = {0};
    struct ft_pb_cursor cursor = ft_pb_open(request->message);
    struct ft_pb_field field;
    bool more = false;
    for (;;) {
        FT_TRY(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            break;
        }
        if (field.number == ENVELOPE_HEADER) {
            FT_TRY(ft_buf_append(&old, field.bytes.data, field.bytes.size, err));
        } else {
            FT_TRY(ft_buf_append(&rest, field.raw.data, field.raw.size, err));
        }
    }
    FT_TRY(put_status(why, &status, err));
    FT_TRY(put_header(ft_buf_bytes(&old), ft_buf_bytes(&status), &header, err));
    FT_TRY(ft_pb_put_bytes(out, ENVELOPE_HEADER, ft_buf_bytes(&header), err));
    FT_TRY(ft_buf_append(out, rest.data, rest.size, err));
done:
    ft_buf_release(&status);
    ft_buf_release(&old);
    ft_buf_release(&header);
    ft_buf_release(&rest);
    return st;
}

enum ft_status ft_jina_blob_doc(enum ft_docarray_flavour flavour, const char *id, struct ft_bytes blob,
                                const struct ft_json *tags, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf fields = {0};
    if (flavour == FT_DOCARRAY_V2) {
        return ft_docarray_v2_blob(id, blob, tags, out, err);
    }
    FT_TRY(ft_struct_write(tags, &fields, err));
    FT_TRY(ft_pb_put_text(out, DOC_ID, id, err));
    FT_TRY(ft_pb_put_bytes(out, DOC_BLOB, blob, err));
    FT_TRY(ft_pb_put_bytes(out, DOC_TAGS, ft_buf_bytes(&fields), err));
done:
    ft_buf_release(&fields);
    return st;
}
