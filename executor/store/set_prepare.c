/* What a call brings, made ready to be written. */
#include <string.h>

#include "executor/base/limits.h"
#include "executor/codec/digest.h"
#include "executor/store/set_internal.h"
#include "executor/wire/docarray_v1.h"

static enum ft_status check_document(const struct ft_document *doc, size_t position, struct ft_err *err)
{
    bool content = doc->content.kind != FT_CONTENT_NONE && doc->content.bytes.size > 0;
    if (doc->has_label && content && doc->id.size <= FT_MAX_ID_BYTES && doc->raw.size <= FT_MAX_DOC_BYTES) {
        return FT_OK;
    }
    const char *wrong = !doc->has_label ? "no label (tags.finetuner_label must be text or a number)"
                        : !content      ? "no content"
                                        : "too large an id or too many bytes";
    return FT_FAIL(err, INVALID, "Document %zu (id \"%.*s\") has %s", position, ft_bytes_shown(doc->id),
                   (const char *)doc->id.data, wrong);
}

static void add_part(struct ft_sha256 *sha, struct ft_bytes part)
{
    uint8_t size[8];
    ft_put_u64(size, part.size);
    ft_sha256_add(sha, ft_bytes_of(size, sizeof size));
    ft_sha256_add(sha, part);
}

/* The id of a Document without one: content and label decide, so that a request sent twice is stored once. */
static enum ft_status derive_id(const struct ft_document *doc, struct ft_arena *arena, struct ft_bytes *id,
                                struct ft_err *err)
{
    const struct ft_content *c = &doc->content;
    struct ft_sha256 *sha = NULL;
    char hex[FT_SHA256_HEX];
    const char *kept = NULL;
    uint8_t head[16 + 8 * FT_MAX_RANK] = {doc->label_is_number ? 1 : 0, (uint8_t)c->kind, (uint8_t)c->rank};
    memcpy(head + 8, c->dtype, sizeof c->dtype);
    for (int k = 0; k < c->rank; k++) {
        ft_put_u64(head + 16 + 8 * (size_t)k, (uint64_t)c->dims[k]);
    }
    FT_RETURN_IF_FAILED(ft_sha256_new(&sha, err));
    add_part(sha, ft_bytes_of(head, sizeof head));
    add_part(sha, doc->label);
    add_part(sha, c->bytes);
    ft_sha256_finish(sha, hex);
    ft_sha256_free(sha);
    FT_RETURN_IF_FAILED(ft_arena_text(arena, hex, FT_SHA256_HEX - 1, &kept, err));
    *id = ft_bytes_of_text(kept);
    return FT_OK;
}

static enum ft_status prepare(const struct ft_document *doc, struct ft_arena *arena, struct ft_set_item *out,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf written = {0};
    const char *kept = NULL;
    out->id = doc->id;
    out->message = doc->raw;
    if (doc->id.size == 0) {
        FT_TRY(derive_id(doc, arena, &out->id, err));
    }
    if (doc->raw.size == 0) {
        FT_TRY(ft_docarray_v1_write(doc, &written, err));
        if (written.size > FT_MAX_DOC_BYTES) {
            st =
                FT_FAIL(err, LIMIT, "a Document has %zu bytes, more than %d", written.size, FT_MAX_DOC_BYTES);
            goto done;
        }
        FT_TRY(ft_arena_text(arena, (const char *)written.data, written.size, &kept, err));
        out->message = ft_bytes_of(kept, written.size);
    }
done:
    ft_buf_release(&written);
    return st;
}

enum ft_status ft_set_prepare(struct ft_set_request *r, const struct ft_document *docs, size_t count,
                              struct ft_err *err)
{
    if (count > UINT32_MAX) {
        return FT_FAIL(err, LIMIT, "more than %u Documents in one call", UINT32_MAX);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&r->arena, count, sizeof *r->items, &r->items, err));
    for (size_t i = 0; i < count; i++) {
        FT_RETURN_IF_FAILED(check_document(&docs[i], i, err));
        FT_RETURN_IF_FAILED(prepare(&docs[i], &r->arena, &r->items[i], err));
        r->bytes += r->items[i].id.size + r->items[i].message.size + FT_JOURNAL_RECORD;
    }
    r->count = count;
    return FT_OK;
}
