#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/store/internal.h"
#include "executor/wire/docarray.h"

/* What save_binary() of docarray's DocumentArray (0.21) and DocList (0.40) writes: 'protobuf'
 * (finetuner/SPEC.md C.5: 0x01, an 8-byte count, then 4-byte lengths and Documents, big-endian, each Document
 * compressed by itself) and 'protobuf-array' (one DocumentArrayProto, compressed as a whole). The
 * compressions are told by their first bytes: none of them begins a Document of docarray's. */

enum { WHERE_BYTES = 640, STREAM_HEAD = 9, STREAM_V1 = 1, STREAM_V2 = 2 };

enum packing { PACKING_NONE, PACKING_GZIP, PACKING_OTHER, PACKING_PICKLE };

static enum packing packing_of(struct ft_bytes b, const char **name)
{
    static const struct {
        size_t size;
        char magic[8];
        enum packing packing;
        const char *name;
    } known[] = {{2, "\x1f\x8b", PACKING_GZIP, "gzip"},     {3, "BZh", PACKING_OTHER, "bz2"},
                 {6, "\xfd\x37zXZ", PACKING_OTHER, "lzma"}, {4, "\x04\x22\x4d\x18", PACKING_OTHER, "lz4"},
                 {2, "\x78\x9c", PACKING_OTHER, "zlib"},    {2, "\x80\x03", PACKING_PICKLE, "pickle"},
                 {2, "\x80\x04", PACKING_PICKLE, "pickle"}, {2, "\x80\x05", PACKING_PICKLE, "pickle"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (b.size >= known[i].size && memcmp(b.data, known[i].magic, known[i].size) == 0) {
            *name = known[i].name;
            return known[i].packing;
        }
    }
    *name = "none";
    return PACKING_NONE;
}

static bool is_stream(struct ft_bytes bytes)
{
    return bytes.size > 0 && (bytes.data[0] == STREAM_V1 || bytes.data[0] == STREAM_V2);
}

bool ft_source_docarray_known(struct ft_bytes bytes)
{
    const char *name = NULL;
    return packing_of(bytes, &name) != PACKING_NONE ||
           (bytes.size >= STREAM_HEAD && is_stream(bytes) && bytes.data[1] == 0);
}

/* The plain bytes: `packed` itself, or decompressed and kept in the arena. */
static enum ft_status unpack(struct ft_dataset *ds, struct ft_bytes packed, size_t max_bytes,
                             struct ft_bytes *plain, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf out = {0};
    const char *name = NULL;
    *plain = (struct ft_bytes){0};
    switch (packing_of(packed, &name)) {
    case PACKING_NONE:
        *plain = packed;
        break;
    case PACKING_GZIP:
        FT_TRY(ft_gunzip(packed, max_bytes, &out, err));
        FT_TRY(ft_dataset_keep(ds, ft_buf_bytes(&out), plain, err));
        break;
    case PACKING_PICKLE:
        st = FT_FAIL(
            err, UNSUPPORTED,
            "written with docarray's pickle protocol, which can run code and is not read; save it with "
            "save_binary(file, protocol='protobuf')");
        break;
    case PACKING_OTHER:
        st = FT_FAIL(err, UNSUPPORTED,
                     "compressed with %s, which is not read; save it with compress='gzip' or None", name);
        break;
    }
done:
    ft_buf_release(&out);
    return st;
}

static enum ft_status add_document(struct ft_dataset *ds, const char *name, size_t position,
                                   struct ft_bytes message, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char where[WHERE_BYTES];
    struct ft_document doc;
    (void)snprintf(where, sizeof where, "%.600s: Document %zu", name, position);
    FT_TRY(ft_docarray_scan(message, FT_DOCARRAY_UNDECIDED, &ds->arena, &doc, err));
    FT_TRY(ft_dataset_add(ds, &doc, where, err));
done:
    if (st != FT_OK) {
        st = ft_err_wrap(err, "%s", where);
    }
    return st;
}

static uint64_t big_endian(const uint8_t *p, size_t size)
{
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static enum ft_status read_stream(struct ft_dataset *ds, const char *name, struct ft_bytes bytes,
                                  struct ft_err *err)
{
    if (bytes.size < STREAM_HEAD) {
        return FT_FAIL(err, CORRUPT, "%.600s ends inside its header", name);
    }
    uint64_t count = big_endian(bytes.data + 1, 8);
    size_t at = STREAM_HEAD;
    for (uint64_t i = 0; i < count; i++) {
        struct ft_bytes message;
        if (bytes.size - at < 4) {
            return FT_FAIL(err, CORRUPT, "%.600s ends after %zu of %zu Documents", name, (size_t)i,
                           (size_t)count);
        }
        size_t size = (size_t)big_endian(bytes.data + at, 4);
        at += 4;
        if (bytes.size - at < size) {
            return FT_FAIL(err, CORRUPT, "%.600s ends inside Document %zu of %zu", name, (size_t)i,
                           (size_t)count);
        }
        enum ft_status st = unpack(ds, ft_bytes_of(bytes.data + at, size), FT_MAX_DOC_BYTES, &message, err);
        if (st != FT_OK) {
            return ft_err_wrap(err, "%.600s: Document %zu", name, (size_t)i);
        }
        FT_RETURN_IF_FAILED(add_document(ds, name, (size_t)i, message, err));
        at += size;
    }
    if (at != bytes.size) {
        return FT_FAIL(err, CORRUPT, "%.600s has %zu bytes after its %zu Documents", name, bytes.size - at,
                       (size_t)count);
    }
    return FT_OK;
}

static enum ft_status read_array(struct ft_dataset *ds, const char *name, struct ft_bytes bytes,
                                 struct ft_err *err)
{
    struct ft_pb_cursor docs = ft_pb_open(bytes);
    struct ft_bytes message;
    bool more = false;
    for (size_t i = 0;; i++) {
        if (ft_docarray_next(&docs, &message, &more, err) != FT_OK) {
            return ft_err_wrap(err, "%.600s", name);
        }
        if (!more) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(add_document(ds, name, i, message, err));
    }
}

enum ft_status ft_source_docarray(struct ft_dataset *ds, const char *name, struct ft_bytes bytes,
                                  struct ft_err *err)
{
    struct ft_bytes plain;
    if (is_stream(bytes)) {
        return read_stream(ds, name, bytes, err);
    }
    if (unpack(ds, bytes, FT_MAX_DATA_BYTES, &plain, err) != FT_OK) {
        return ft_err_wrap(err, "%.600s", name);
    }
    const char *inner = NULL;
    if (packing_of(plain, &inner) == PACKING_PICKLE) { /* a pickle inside the gzip */
        enum ft_status st = unpack(ds, plain, 0, &plain, err);
        assert(st != FT_OK);
        (void)st;
        return ft_err_wrap(err, "%.600s", name);
    }
    return read_array(ds, name, plain, err);
}
