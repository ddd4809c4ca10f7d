#include "executor/store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"

static enum ft_status io_error(const struct ft_journal *j, const char *verb, int cause, struct ft_err *err)
{
    char reason[128];
    return FT_FAIL(err, IO, "cannot %s %.600s: %s", verb, j->path, strerror_r(cause, reason, sizeof reason));
}

/* ---- reading ---- */

static enum ft_status visit_group(struct ft_bytes file, const struct ft_journal_group *group,
                                  const struct ft_journal_walk *walk, struct ft_err *err)
{
    uint64_t at = group->at + FT_JOURNAL_GROUP;
    for (uint32_t i = 0; i < group->records && walk->visit != NULL; i++) {
        struct ft_journal_record record = ft_journal_record_at(file, at);
        FT_RETURN_IF_FAILED(walk->visit(walk->arg, &record, err));
        at = record.end;
    }
    return FT_OK;
}

enum ft_status ft_journal_walk(struct ft_bytes file, const char *path, const struct ft_journal_walk *walk,
                               struct ft_journal_head *head, uint64_t *end, struct ft_err *err)
{
    uint64_t at = FT_JOURNAL_HEAD;
    *end = 0;
    if (ft_journal_read_head(file, head, err) != FT_OK) {
        return ft_err_wrap(err, "%.600s", path);
    }
    uint64_t must = walk->limit > 0 ? walk->limit : head->acknowledged;
    if (must > file.size) {
        return FT_FAIL(err, CORRUPT, "%.600s: acknowledged data are missing from offset %zu on", path,
                       file.size);
    }
    if (walk->limit > 0) {
        file.size = (size_t)walk->limit;
    }
    while (at < file.size) {
        struct ft_journal_group group;
        const char *wrong = ft_journal_check_group(file, head->salt, at, &group);
        if (wrong == NULL) {
            FT_RETURN_IF_FAILED(visit_group(file, &group, walk, err));
            at = group.end;
            continue;
        }
        if (at < must || (walk->owner && ft_journal_was_durable(file, head->salt, at, at))) {
            return FT_FAIL(err, CORRUPT, "%.600s: %s (offset %llu)", path, wrong, (unsigned long long)at);
        }
        break;
    }
    *end = at;
    return FT_OK;
}

static enum ft_status read_at(const struct ft_journal *j, uint64_t at, uint8_t *out, size_t size,
                              struct ft_err *err)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(j->fd, out + done, size - done, (off_t)(at + done));
        if (n == 0) {
            return FT_FAIL(err, CORRUPT, "%.600s ends at a record (offset %llu)", j->path,
                           (unsigned long long)at);
        }
        if (n < 0 && errno != EINTR) {
            return io_error(j, "read", errno, err);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return FT_OK;
}

enum ft_status ft_journal_read(const struct ft_journal *j, uint64_t at, struct ft_buf *buf,
                               struct ft_journal_record *record, struct ft_err *err)
{
    uint8_t sizes[FT_JOURNAL_RECORD];
    FT_RETURN_IF_FAILED(read_at(j, at, sizes, sizeof sizes, err));
    size_t size = FT_JOURNAL_RECORD + (size_t)ft_get_u32(sizes) + ft_get_u32(sizes + 4);
    buf->size = 0;
    FT_RETURN_IF_FAILED(ft_buf_reserve(buf, size, err));
    FT_RETURN_IF_FAILED(read_at(j, at, buf->data, size, err));
    buf->size = size;
    *record = ft_journal_record_at(ft_buf_bytes(buf), 0);
    return FT_OK;
}

/* ---- writing ---- */

enum ft_status ft_journal_create(const char *path, struct ft_err *err)
{
    uint8_t head[FT_JOURNAL_HEAD];
    uint64_t salt = 0;
    if (getrandom(&salt, sizeof salt, 0) != (ssize_t)sizeof salt) {
        return FT_FAIL(err, INTERNAL, "getrandom gives nothing");
    }
    ft_journal_put_head(head, salt);
    return ft_file_write(path, ft_bytes_of(head, sizeof head), err);
}

static enum ft_status acknowledge(struct ft_journal *j, uint64_t size, struct ft_err *err)
{
    uint8_t slot[FT_JOURNAL_SLOT];
    uint32_t sequence = j->sequence + 1;
    off_t at = FT_JOURNAL_SLOT_AT + (off_t)(sequence % 2) * FT_JOURNAL_SLOT;
    ft_journal_put_slot(slot, j->salt, size, sequence);
    if (pwrite(j->fd, slot, sizeof slot, at) != (ssize_t)sizeof slot) {
        return io_error(j, "write", errno, err);
    }
    j->sequence = sequence;
    return FT_OK;
}

static enum ft_status recover(struct ft_journal *j, ft_journal_visit visit, void *arg, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_mapping map = {0};
    struct ft_journal_head head;
    const struct ft_journal_walk walk = {.visit = visit, .arg = arg, .owner = true};
    FT_TRY(ft_file_map(j->path, &map, err));
    FT_TRY(ft_journal_walk(map.bytes, j->path, &walk, &head, &j->size, err));
    j->salt = head.salt;
    j->sequence = head.sequence;
    j->cut = map.bytes.size - j->size;
    if (j->cut > 0 && ftruncate(j->fd, (off_t)j->size) != 0) {
        st = io_error(j, "cut", errno, err);
        goto done;
    }
    FT_TRY(acknowledge(j, j->size, err));
    if (fsync(j->fd) != 0) {
        st = io_error(j, "fsync", errno, err);
    }
done:
    ft_file_unmap(&map);
    return st;
}

enum ft_status ft_journal_open(const char *path, ft_journal_visit visit, void *arg, struct ft_journal *j,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    *j = (struct ft_journal){.fd = -1};
    FT_TRY(ft_new_text(path, &j->path, err));
    j->fd = open(path, O_RDWR | O_CLOEXEC);
    if (j->fd < 0) {
        st = io_error(j, "open", errno, err);
        goto done;
    }
    FT_TRY(recover(j, visit, arg, err));
done:
    if (st != FT_OK) {
        ft_journal_close(j);
    }
    return st;
}

void ft_journal_close(struct ft_journal *j)
{
    if (j->path != NULL && j->fd >= 0) {
        (void)fdatasync(j->fd); /* the last acknowledgement; the data themselves are durable */
        (void)close(j->fd);
    }
    ft_free(j->path);
    *j = (struct ft_journal){.fd = -1};
}

enum ft_status ft_journal_write(struct ft_journal *j, struct ft_bytes groups, bool *intact,
                                struct ft_err *err)
{
    size_t done = 0;
    *intact = true;
    while (done < groups.size) {
        ssize_t n = pwrite(j->fd, groups.data + done, groups.size - done, (off_t)(j->size + done));
        if (n < 0 && errno != EINTR) {
            enum ft_status st = io_error(j, "write", errno, err);
            *intact = ftruncate(j->fd, (off_t)j->size) == 0;
            return st;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (fdatasync(j->fd) != 0) {
        /* The kernel may have dropped the pages: nothing can be said of them any more. */
        enum ft_status st = io_error(j, "fsync", errno, err);
        *intact = false;
        (void)ftruncate(j->fd, (off_t)j->size);
        return st;
    }
    /* Only now: the slot never claims more than is durable. It need not be durable itself, see the walk. */
    *intact = false; /* if this fails the caller is told so, while the file holds the groups */
    FT_RETURN_IF_FAILED(acknowledge(j, j->size + groups.size, err));
    *intact = true;
    j->size += groups.size;
    return FT_OK;
}
