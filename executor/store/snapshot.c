#include "executor/store/snapshot.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/store/journal.h"
#include "executor/store/manifest.h"

enum { TRIES = 100 }; /* files of a manifest may be gone by the time they are linked: it is read again */

/* A link, or a copy where there are none. */
static enum ft_status take_file(const char *from, const char *to, const char *name, char **taken,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *source = NULL;
    struct ft_mapping map = {0};
    FT_TRY(ft_path_join(from, name, &source, err));
    FT_TRY(ft_path_join(to, name, taken, err));
    if (link(source, *taken) == 0) {
        goto done;
    }
    FT_TRY(ft_file_map(source, &map, err)); /* FT_NOT_FOUND when it is gone */
    FT_TRY(ft_file_write(*taken, map.bytes, err));
done:
    ft_file_unmap(&map);
    ft_free(source);
    return st;
}

/* What is acknowledged now; the journal goes on growing behind it. */
static enum ft_status take_journal(const char *from, const char *to, struct ft_manifest_file *file,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char name[FT_STORE_NAME];
    char *taken = NULL;
    struct ft_mapping map = {0};
    struct ft_journal_head head;
    ft_journal_name(file->number, name);
    FT_TRY(take_file(from, to, name, &taken, err));
    FT_TRY(ft_file_map(taken, &map, err));
    if (file->end == 0) {
        FT_TRY(ft_journal_read_head(map.bytes, &head, err));
        file->end = head.acknowledged;
    }
done:
    ft_file_unmap(&map);
    ft_free(taken);
    return st;
}

static enum ft_status take_all(const char *from, const char *to, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_manifest m = {0};
    FT_TRY(ft_manifest_read(from, &m, err));
    FT_TRY(ft_dir_make(to, err));
    for (size_t i = 0; i < m.n_shards; i++) {
        char name[FT_STORE_NAME];
        char *taken = NULL;
        ft_shard_name(m.shards[i].number, name);
        st = take_file(from, to, name, &taken, err);
        ft_free(taken);
        FT_TRY(st);
    }
    for (size_t i = 0; i < m.n_journals; i++) {
        FT_TRY(take_journal(from, to, &m.journals[i], err));
    }
    FT_TRY(ft_manifest_write(to, &m, err)); /* syncs the folder, links included */
done:
    ft_manifest_release(&m);
    return st;
}

enum ft_status ft_snapshot_make(const char *from, const char *to, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf fresh = {0};
    if (ft_path_kind(to) == FT_PATH_DIR) {
        return FT_OK;
    }
    FT_TRY(ft_buf_printf(&fresh, err, "%s.new", to));
    for (int i = 0; i < TRIES; i++) {
        FT_TRY(ft_path_remove((const char *)fresh.data, err)); /* of a start that was cut off */
        ft_err_clear(err);
        st = take_all(from, (const char *)fresh.data, err);
        if (st != FT_NOT_FOUND || ft_path_kind(from) != FT_PATH_DIR) {
            break;
        }
    }
    FT_TRY(st);
    FT_TRY(ft_path_rename((const char *)fresh.data, to, err));
done:
    ft_buf_release(&fresh);
    return st;
}
