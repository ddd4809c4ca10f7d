/* wire_probe < DocumentArrayProto (or DocListProto) > the same: every Document scanned, and spliced with the
 * embedding (position, -1.5, 2.25). What was scanned goes to stderr, a line of id, label, kind, dtype and
 * dims each. For test_docarray_oracle.py of tests/jina and tests/jina_v2. */
/* links: ft_wire ft_codec ft_base */
#include <stdio.h>

#include "executor/base/file.h"
#include "executor/wire/docarray.h"

static void tell(const struct ft_document *doc)
{
    (void)fprintf(stderr, "%.*s\t%d%d\t%.*s\t%d\t%zu\t%s\t", (int)doc->id.size, (const char *)doc->id.data,
                  doc->has_label, doc->label_is_number, (int)doc->label.size, (const char *)doc->label.data,
                  (int)doc->content.kind, doc->content.bytes.size, doc->content.dtype);
    for (int i = 0; i < doc->content.rank; i++) {
        (void)fprintf(stderr, i == 0 ? "%lld" : ",%lld", (long long)doc->content.dims[i]);
    }
    (void)fputc('\n', stderr);
}

static enum ft_status run(struct ft_bytes in, struct ft_arena *arena, struct ft_buf *out, struct ft_err *err)
{
    struct ft_pb_cursor docs = ft_pb_open(in);
    for (size_t i = 0;; i++) {
        struct ft_bytes message;
        struct ft_document doc;
        bool more = false;
        size_t size = 0;
        const float embedding[3] = {(float)i, -1.5F, 2.25F};
        FT_RETURN_IF_FAILED(ft_docarray_next(&docs, &message, &more, err));
        if (!more) {
            return FT_OK;
        }
        enum ft_docarray_flavour flavour = ft_docarray_sniff(message);
        FT_RETURN_IF_FAILED(ft_docarray_scan(message, flavour, arena, &doc, err));
        tell(&doc);
        FT_RETURN_IF_FAILED(ft_docarray_splice_size(message, flavour, 3, &size, err));
        FT_RETURN_IF_FAILED(ft_pb_put_header(out, 1, size, err));
        FT_RETURN_IF_FAILED(ft_docarray_splice(message, flavour, embedding, 3, out, err));
    }
}

int main(void)
{
    struct ft_err err = {0};
    struct ft_arena arena = {0};
    struct ft_buf in = {0};
    struct ft_buf out = {0};
    enum ft_status st = ft_file_read("/dev/stdin", FT_MAX_DOC_BYTES, &in, &err);
    if (st == FT_OK) {
        st = run(ft_buf_bytes(&in), &arena, &out, &err);
    }
    if (st != FT_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    bool written = fwrite(out.data, 1, out.size, stdout) == out.size;
    ft_buf_release(&in);
    ft_buf_release(&out);
    ft_arena_release(&arena);
    return st == FT_OK && written ? 0 : 3;
}
