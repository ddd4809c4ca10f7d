/* A run's artifact: to a part file beside its place, checked against its hash, then renamed or unpacked. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/cli/remote.h"
#include "executor/codec/zip.h"
#include "executor/model/artifact.h"

struct pull {
    struct ft_remote *remote;
    const char *id;
    char *part; /* path of what is here so far */
    FILE *file;
    struct ft_sha256 *sha;
    uint64_t have, size;
    char sha256[FT_SHA256_HEX]; /* as the service says; "" before the first chunk */
    struct ft_bar bar;
};

static enum ft_status take(void *arg, struct ft_bytes message, struct ft_err *err)
{
    struct pull *p = arg;
    struct ft_v1_chunk chunk;
    char rest[64];
    FT_RETURN_IF_FAILED(ft_v1_chunk_read(message, &chunk, err));
    p->remote->reached = true;
    if (chunk.offset != p->have || (p->sha256[0] != '\0' && strcmp(p->sha256, chunk.sha256) != 0)) {
        return FT_FAIL(err, CORRUPT, "the artifact of run %s came in pieces that do not fit", p->id);
    }
    memcpy(p->sha256, chunk.sha256, sizeof p->sha256);
    if (chunk.data.size > 0 && fwrite(chunk.data.data, 1, chunk.data.size, p->file) != chunk.data.size) {
        return FT_FAIL(err, IO, "cannot write %.600s: %s", p->part, strerror(errno));
    }
    ft_sha256_add(p->sha, chunk.data);
    p->have += chunk.data.size;
    p->size = chunk.size;
    (void)snprintf(rest, sizeof rest, "%.1f MB/s", ft_bar_pace(&p->bar, (int64_t)p->have) / 1e6);
    ft_bar_draw(&p->bar, "Pulling", (int64_t)p->have, (int64_t)p->size, rest);
    return FT_OK;
}

static uint64_t far(const void *pull)
{
    return ((const struct pull *)pull)->have;
}

static enum ft_status pull_stream(void *arg, struct ft_err *err)
{
    struct pull *p = arg;
    const struct ft_remote_question all = {.method = "Pull",
                                           .type = FT_V1_PULL_REQUEST,
                                           .run = p->id,
                                           .from_key = "offset",
                                           .from = (int64_t)p->have,
                                           .stopped = "stopped; nothing was written",
                                           .take = take,
                                           .arg = p};
    FT_RETURN_IF_FAILED(ft_remote_follow(p->remote, &all, err));
    if (p->sha256[0] == '\0' || p->have != p->size) {
        return FT_FAIL(err, UNAVAILABLE, "the service ended the stream before the artifact's end");
    }
    return FT_OK;
}

/* All of it, checked and on the disk. */
static enum ft_status fetch(struct pull *p, struct ft_err *err)
{
    char hex[FT_SHA256_HEX];
    const struct ft_remote_work work = {pull_stream, far, p, NULL, &p->bar};
    FT_RETURN_IF_FAILED(ft_remote_keep_on(p->remote, &work, NULL, err));
    ft_sha256_finish(p->sha, hex);
    if (strcmp(hex, p->sha256) != 0) {
        return FT_FAIL(err, CORRUPT, "the artifact of run %s has SHA-256 %s, not %s as the service says",
                       p->id, hex, p->sha256);
    }
    if (fflush(p->file) != 0 || fsync(fileno(p->file)) != 0) {
        return FT_FAIL(err, IO, "cannot write %.600s: %s", p->part, strerror(errno));
    }
    return FT_OK;
}

/* The .zip holds one folder, named after the run. */
static enum ft_status unpack(const char *zip, const char *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf beside = {0};
    struct ft_dir_list inside = {0};
    char *folder = NULL;
    FT_TRY(ft_buf_printf(&beside, err, "%s.unpacked-%d", out, (int)getpid()));
    const char *dir = (const char *)beside.data;
    FT_TRY(ft_zip_unpack(zip, dir, FT_MAX_MODEL_BYTES, err));
    FT_TRY(ft_dir_list(dir, &inside, err));
    if (inside.count != 1) {
        st = FT_FAIL(err, CORRUPT, "the artifact holds %zu folders, not one", inside.count);
        goto done;
    }
    FT_TRY(ft_path_join(dir, inside.names[0], &folder, err));
    FT_TRY(ft_path_remove(out, err));
    FT_TRY(ft_path_rename(folder, out, err));
done:
    if (beside.data != NULL) {
        struct ft_err left = {0};
        (void)!ft_path_remove((const char *)beside.data, &left);
    }
    ft_free(folder);
    ft_dir_list_release(&inside);
    ft_buf_release(&beside);
    return st;
}

enum ft_status ft_remote_pull(struct ft_remote *remote, const char *id, const char *out, bool quiet,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf part = {0};
    struct pull p = {.remote = remote, .id = id};
    bool zip = ft_path_has_suffix(out, ".zip");
    ft_bar_init(&p.bar, quiet);
    FT_TRY(ft_artifact_check_place(out, err));
    FT_TRY(ft_out_make_folders(out, err));
    FT_TRY(ft_buf_printf(&part, err, "%s.part-%d", out, (int)getpid()));
    p.part = (char *)part.data;
    FT_TRY(ft_sha256_new(&p.sha, err));
    p.file = fopen(p.part, "wbe");
    if (p.file == NULL) {
        st = FT_FAIL(err, IO, "cannot write %.600s: %s", p.part, strerror(errno));
        goto done;
    }
    FT_TRY(fetch(&p, err));
    int closed = fclose(p.file);
    p.file = NULL;
    if (closed != 0) {
        st = FT_FAIL(err, IO, "cannot write %.600s: %s", p.part, strerror(errno));
        goto done;
    }
    FT_TRY(zip ? ft_path_rename(p.part, out, err) : unpack(p.part, out, err));
done:
    if (p.file != NULL) {
        (void)fclose(p.file);
    }
    if (p.part != NULL) {
        (void)unlink(p.part); /* gone already where it was renamed */
    }
    ft_sha256_free(p.sha);
    ft_buf_release(&part);
    return st;
}
