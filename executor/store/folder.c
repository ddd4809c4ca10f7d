#include "executor/store/folder.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/store/internal.h"
#include "executor/wire/docarray.h"

bool ft_dataset_name_hidden(const char *name)
{
    return name[0] == FT_DATASET_HIDDEN[0];
}

bool ft_dataset_name_valid(const char *name)
{
    size_t n = 0;
    for (; name[n] != '\0' && n < FT_DATASET_NAME; n++) {
        if (isalnum((unsigned char)name[n]) == 0 && strchr("-_.", name[n]) == NULL) {
            return false;
        }
    }
    return n > 0 && n < FT_DATASET_NAME && !ft_dataset_name_hidden(name);
}

static void add_up(const struct ft_dataset *ds, struct ft_folder_info *info)
{
    *info = (struct ft_folder_info){.documents = ds->count, .classes = ds->classes};
    for (size_t i = 0; i < ds->n_segments; i++) {
        const struct ft_segment *s = ds->segments[i];
        info->replaced += s->n_dead;
        info->shards += s->is_journal ? 0 : 1;
        info->journals += s->is_journal ? 1 : 0;
        info->bytes += s->is_journal ? s->records.size : s->map.bytes.size;
    }
}

enum ft_status ft_folder_look(const char *dir, struct ft_folder_info *info, struct ft_err *err)
{
    struct ft_dataset *ds = NULL;
    *info = (struct ft_folder_info){0};
    FT_RETURN_IF_FAILED(ft_dataset_open_set(dir, &ds, err));
    add_up(ds, info);
    ft_dataset_free(ds);
    return FT_OK;
}

enum ft_status ft_folder_verify(const char *dir, struct ft_folder_info *info, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *ds = NULL;
    *info = (struct ft_folder_info){0};
    FT_TRY(ft_dataset_open_set(dir, &ds, err));
    for (size_t i = 0; i < ds->n_segments; i++) {
        FT_TRY(ft_segment_verify(ds->segments[i], ds->id_salt, err));
    }
    add_up(ds, info);
done:
    ft_dataset_free(ds);
    return st;
}

/* ---- export ---- */

static void put_be(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
}

static bool write_part(FILE *f, const void *data, size_t size)
{
    return fwrite(data, 1, size, f) == size;
}

/* finetuner/SPEC.md C.5: which docarray, an 8-byte count, then 4-byte lengths and Documents, big-endian. */
static enum ft_status write_all(const struct ft_dataset *ds, FILE *f, struct ft_err *err)
{
    enum ft_docarray_flavour flavour = FT_DOCARRAY_UNDECIDED;
    uint8_t head[9] = {0};
    bool written = true;
    put_be(head + 1, ds->count, 8);
    for (size_t i = 0; i < ds->count && written; i++) {
        struct ft_arena arena = {0};
        struct ft_document doc;
        uint8_t size[4];
        enum ft_status st = ft_set_source_read(ds, i, &arena, &doc, err);
        ft_arena_release(&arena);
        FT_RETURN_IF_FAILED(st);
        enum ft_docarray_flavour mine = ft_docarray_sniff(doc.raw);
        mine = mine == FT_DOCARRAY_UNDECIDED ? FT_DOCARRAY_V1 : mine;
        if (i == 0) {
            flavour = mine;
            head[0] = mine == FT_DOCARRAY_V2 ? 2 : 1;
            written = write_part(f, head, sizeof head);
        } else if (mine != flavour) {
            return FT_FAIL(err, INVALID,
                           "%.600s holds Documents of docarray 0.21 and of 0.40: no file holds both",
                           ds->folder);
        }
        put_be(size, doc.raw.size, 4);
        written = written && write_part(f, size, sizeof size) && write_part(f, doc.raw.data, doc.raw.size);
    }
    if (ds->count == 0) {
        head[0] = 1;
        written = write_part(f, head, sizeof head);
    }
    return written ? FT_OK : FT_FAIL(err, IO, "cannot write: %s", strerrorname_np(errno));
}

enum ft_status ft_folder_export(const char *dir, const char *path, size_t *documents, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *ds = NULL;
    struct ft_buf temporary = {0};
    FILE *f = NULL;
    *documents = 0;
    FT_TRY(ft_dataset_open_set(dir, &ds, err));
    FT_TRY(ft_buf_printf(&temporary, err, "%s.tmp", path));
    f = fopen((const char *)temporary.data, "wb");
    if (f == NULL) {
        st = FT_FAIL(err, IO, "cannot write %.600s: %s", path, strerrorname_np(errno));
        goto done;
    }
    FT_TRY(write_all(ds, f, err));
    if (fflush(f) != 0 || fsync(fileno(f)) != 0) {
        st = FT_FAIL(err, IO, "cannot write %.600s: %s", path, strerrorname_np(errno));
        goto done;
    }
    FT_TRY(ft_path_rename((const char *)temporary.data, path, err));
    *documents = ds->count;
done:
    if (f != NULL) {
        (void)fclose(f);
        if (st != FT_OK) {
            (void)unlink((const char *)temporary.data);
        }
    }
    ft_buf_release(&temporary);
    ft_dataset_free(ds);
    return st;
}
