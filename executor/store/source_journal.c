#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/store/internal.h"
#include "executor/store/journal_format.h"
#include "executor/store/manifest.h"
#include "executor/wire/docarray.h"

static enum ft_status add_group(struct ft_dataset *ds, const char *dir, const struct ft_journal_group *group,
                                size_t *position, struct ft_err *err)
{
    uint64_t at = group->at + FT_JOURNAL_GROUP;
    char where[640];
    for (uint32_t i = 0; i < group->records; i++, (*position)++) {
        struct ft_journal_record record = ft_journal_record_at(ds->map.bytes, at);
        struct ft_document doc;
        at = record.end;
        (void)snprintf(where, sizeof where, "%.600s: Document %zu", dir, *position);
        enum ft_status st = ft_docarray_scan(record.doc, FT_DOCARRAY_UNDECIDED, &ds->arena, &doc, err);
        if (st == FT_OK) {
            doc.id = record.id; /* also of Documents that came without one */
            st = ft_dataset_add(ds, &doc, where, err);
        }
        if (st != FT_OK) {
            return ft_err_wrap(err, "%s", where);
        }
    }
    return FT_OK;
}

/* What is acknowledged must be whole. Behind it another process may be writing: complete groups count, and
 * the first that is not ends the reading. */
static enum ft_status read_groups(struct ft_dataset *ds, const char *dir, struct ft_err *err)
{
    struct ft_bytes file = ds->map.bytes;
    struct ft_journal_head head;
    struct ft_journal_group group;
    uint64_t at = FT_JOURNAL_HEAD;
    size_t position = 0;
    if (ft_journal_read_head(file, &head, err) != FT_OK) {
        return ft_err_wrap(err, "%.600s/journal", dir);
    }
    if (head.acknowledged > file.size) {
        return FT_FAIL(err, CORRUPT, "%.600s/journal: acknowledged data are missing from offset %zu on", dir,
                       file.size);
    }
    while (at < file.size) {
        const char *wrong = ft_journal_check_group(file, head.salt, at, &group);
        if (wrong != NULL && at < head.acknowledged) {
            return FT_FAIL(err, CORRUPT, "%.600s/journal: %s (offset %llu)", dir, wrong,
                           (unsigned long long)at);
        }
        if (wrong != NULL) {
            break;
        }
        FT_RETURN_IF_FAILED(add_group(ds, dir, &group, &position, err));
        at = group.end;
    }
    return FT_OK;
}

enum ft_status ft_dataset_open_journal(const char *dir, struct ft_dataset **dataset, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *ds = NULL;
    char *path = NULL;
    *dataset = NULL;
    FT_TRY(ft_new(1, sizeof *ds, &ds, err));
    ds->need_labels = true;
    FT_TRY(ft_manifest_check(dir, err));
    FT_TRY(ft_path_join(dir, "journal", &path, err));
    FT_TRY(ft_file_map(path, &ds->map, err));
    FT_TRY(read_groups(ds, dir, err));
    FT_TRY(ft_dataset_index(ds, err));
    *dataset = ds;
    ds = NULL;
done:
    ft_free(path);
    ft_dataset_free(ds);
    return st;
}
