/* links: ft_store ft_wire ft_codec ft_base */
/* covers: executor/store/source_jsonl.c executor/store/source_csv.c executor/store/source_docarray.c
 * executor/store/index.c */
/* A data file: the first byte says which kind. Either one clear refusal, or a dataset whose every part can be
 * looked at. */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/store/internal.h"

static void look(const struct ft_dataset *ds)
{
    struct ft_err err = {0};
    char hex[FT_SHA256_HEX];
    struct ft_buf own = {0};
    size_t labelled = 0;
    size_t in_classes = 0;
    for (size_t i = 0; i < ft_dataset_count(ds); i++) {
        const struct ft_document *doc = ft_dataset_doc(ds, i);
        struct ft_content content;
        int32_t c = ft_dataset_class_of(ds, i);
        assert((c >= 0) == doc->has_label);
        assert(c < 0 || strlen(ft_dataset_class_name(ds, (size_t)c)) <= FT_MAX_LABEL_BYTES);
        labelled += doc->has_label ? 1 : 0;
        assert(strncmp(ft_dataset_where(ds, i), "memory", 6) == 0);
        enum ft_status st = ft_dataset_content(ds, i, &own, &content, &err);
        assert(st == FT_OK || (st == FT_UNSUPPORTED && doc->content.kind == FT_CONTENT_URI));
    }
    for (size_t c = 0; c < ft_dataset_classes(ds); c++) {
        size_t n = ft_dataset_class_count(ds, c);
        in_classes += n;
        assert(n > 0 && ft_dataset_class_of(ds, ft_dataset_class_item(ds, c, n - 1)) == (int32_t)c);
        assert(c == 0 || strcmp(ft_dataset_class_name(ds, c - 1), ft_dataset_class_name(ds, c)) < 0);
    }
    assert(labelled == in_classes);
    enum ft_status st = ft_dataset_digest(ds, hex, &err);
    assert(st == FT_OK || st == FT_UNSUPPORTED);
    ft_buf_release(&own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const kinds[] = {"jsonl", "csv", "docarray"};
    struct ft_err err = {0};
    struct ft_dataset *ds = NULL;
    if (size == 0) {
        return 0;
    }
    for (int need_labels = 0; need_labels < 2; need_labels++) {
        enum ft_status st = ft_dataset_open_memory(kinds[data[0] % 3], ft_bytes_of(data + 1, size - 1),
                                                   need_labels == 1, &ds, &err);
        assert(st == FT_OK || st == FT_INVALID || st == FT_LIMIT || st == FT_CORRUPT || st == FT_UNSUPPORTED);
        assert((st == FT_OK) == (ds != NULL));
        assert(st == FT_OK || err.text[0] != '\0');
        if (ds != NULL) {
            look(ds);
        }
        ft_dataset_free(ds);
    }
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
