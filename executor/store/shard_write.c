#include "executor/store/shard_write.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/codec/digest.h"

enum { BUFFER_BYTES = 1 << 18 };

/* One section of the file being written from its first byte to its last. */
struct stream {
    uint64_t at;
    uint32_t crc;
    struct ft_buf buf;
};

struct writer {
    const struct ft_shard_plan *plan;
    char *temporary, *path;
    int fd;
    size_t *class_at; /* (n_sources) the next class of each */
    uint64_t classes, documents, labels_size, records_size;
    uint64_t labels_done, records_done; /* of the second pass */
    struct stream streams[FT_SHARD_SECTIONS + 1];
};

enum { TABLE, LABELS, OFFSETS, IDS, RECORDS };

static uint64_t padded(uint64_t size)
{
    return (size + 7) / 8 * 8;
}

static enum ft_status io_error(const struct writer *w, const char *verb, struct ft_err *err)
{
    char reason[128];
    return FT_FAIL(err, IO, "cannot %s %.600s: %s", verb, w->temporary,
                   strerror_r(errno, reason, sizeof reason));
}

static enum ft_status write_at(const struct writer *w, struct ft_bytes bytes, uint64_t at, struct ft_err *err)
{
    size_t done = 0;
    while (done < bytes.size) {
        ssize_t n = pwrite(w->fd, bytes.data + done, bytes.size - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR) {
            return io_error(w, "write", err);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return FT_OK;
}

static enum ft_status flush(const struct writer *w, struct stream *s, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(write_at(w, ft_buf_bytes(&s->buf), s->at, err));
    s->at += s->buf.size;
    s->buf.size = 0;
    return FT_OK;
}

static enum ft_status put(struct writer *w, int section, const void *data, size_t size, struct ft_err *err)
{
    struct stream *s = &w->streams[section];
    if (section != RECORDS) { /* records have checksums of their own */
        s->crc = ft_crc32(s->crc, ft_bytes_of(data, size));
    }
    if (s->buf.size + size > BUFFER_BYTES) {
        FT_RETURN_IF_FAILED(flush(w, s, err));
    }
    return ft_buf_append(&s->buf, data, size, err);
}

/* ---- the classes of all sources, side by side ---- */

/* The least label that some source still has; false: none has any. */
static bool next_label(const struct writer *w, struct ft_bytes *label)
{
    bool any = false;
    for (size_t s = 0; s < w->plan->n_sources; s++) {
        const struct ft_segment *segment = w->plan->sources[s].segment;
        if (w->class_at[s] < segment->classes) {
            struct ft_bytes mine = ft_segment_class(segment, w->class_at[s]).label;
            *label = !any || ft_bytes_compare(mine, *label) < 0 ? mine : *label;
            any = true;
        }
    }
    return any;
}

typedef enum ft_status (*each_document)(struct writer *w, size_t source, size_t document, struct ft_err *err);

/* Call `each` for every Document of the class that stays; all sources move on behind it. */
static enum ft_status walk_class(struct writer *w, struct ft_bytes label, each_document each,
                                 struct ft_err *err)
{
    bool drop = label.size == 0 && w->plan->drop_deletions;
    for (size_t s = 0; s < w->plan->n_sources; s++) {
        const struct ft_shard_source *source = &w->plan->sources[s];
        if (w->class_at[s] == source->segment->classes) {
            continue;
        }
        struct ft_segment_class c = ft_segment_class(source->segment, w->class_at[s]);
        if (!ft_bytes_equal(c.label, label)) {
            continue;
        }
        w->class_at[s]++;
        for (size_t i = c.first; i < c.first + c.count && !drop; i++) {
            if (!ft_segment_is_dead(source->dead, i)) {
                FT_RETURN_IF_FAILED(each(w, s, i, err));
            }
        }
    }
    return FT_OK;
}

/* ---- first pass: how large everything is ---- */

static enum ft_status count_document(struct writer *w, size_t source, size_t document, struct ft_err *err)
{
    struct ft_journal_record record;
    const struct ft_segment *segment = w->plan->sources[source].segment;
    if (!ft_segment_record(segment, document, &record)) {
        return ft_segment_read(segment, document, &record, err); /* says what is wrong */
    }
    if (w->documents >= UINT32_MAX - 1) {
        return FT_FAIL(err, LIMIT, "more than %u Documents in one shard", UINT32_MAX - 1);
    }
    w->documents++;
    w->records_size += record.end - record.at;
    return FT_OK;
}

static enum ft_status first_pass(struct writer *w, struct ft_err *err)
{
    struct ft_bytes label = {0};
    memset(w->class_at, 0, (w->plan->n_sources + 1) * sizeof *w->class_at);
    while (next_label(w, &label)) {
        uint64_t before = w->documents;
        FT_RETURN_IF_FAILED(walk_class(w, label, count_document, err));
        if (w->documents > before) {
            w->classes++;
            w->labels_size += label.size + 1;
        }
    }
    return FT_OK;
}

/* ---- second pass ---- */

static enum ft_status put_document(struct writer *w, size_t source, size_t document, struct ft_err *err)
{
    struct ft_shard_source *from = &w->plan->sources[source];
    struct ft_journal_record record;
    uint8_t head[FT_JOURNAL_RECORD];
    uint8_t offset[FT_SHARD_OFFSET];
    /* Of a journal every checksum was looked at when it was opened. */
    if (!from->segment->is_journal || !ft_segment_record(from->segment, document, &record)) {
        FT_RETURN_IF_FAILED(ft_segment_read(from->segment, document, &record, err));
    }
    ft_journal_put_record(head, w->plan->salt, record.id, record.doc);
    ft_put_u64(offset, w->records_done);
    FT_RETURN_IF_FAILED(put(w, OFFSETS, offset, sizeof offset, err));
    FT_RETURN_IF_FAILED(put(w, RECORDS, head, sizeof head, err));
    FT_RETURN_IF_FAILED(put(w, RECORDS, record.id.data, record.id.size, err));
    FT_RETURN_IF_FAILED(put(w, RECORDS, record.doc.data, record.doc.size, err));
    w->records_done += record.end - record.at;
    from->placed[document] = (uint32_t)w->documents++;
    return FT_OK;
}

static enum ft_status second_pass(struct writer *w, struct ft_err *err)
{
    struct ft_bytes label = {0};
    memset(w->class_at, 0, (w->plan->n_sources + 1) * sizeof *w->class_at);
    w->documents = 0;
    while (next_label(w, &label)) {
        uint8_t row[FT_SHARD_CLASS] = {0};
        uint64_t before = w->documents;
        if (ft_cancelled(w->plan->cancel)) {
            return FT_FAIL(err, CANCELLED, "writing %.600s was cut short", w->path);
        }
        FT_RETURN_IF_FAILED(walk_class(w, label, put_document, err));
        if (w->documents == before) {
            continue;
        }
        ft_put_u64(row, w->labels_done);
        ft_put_u32(row + 8, (uint32_t)label.size);
        ft_put_u64(row + 16, before);
        ft_put_u64(row + 24, w->documents - before);
        FT_RETURN_IF_FAILED(put(w, TABLE, row, sizeof row, err));
        FT_RETURN_IF_FAILED(put(w, LABELS, label.data, label.size, err));
        FT_RETURN_IF_FAILED(put(w, LABELS, "", 1, err));
        w->labels_done += label.size + 1;
    }
    return FT_OK;
}

/* The sources' lists of ids, each sorted, as one. */
static enum ft_status merge_ids(struct writer *w, struct ft_err *err)
{
    size_t *at = w->class_at;
    memset(at, 0, (w->plan->n_sources + 1) * sizeof *at);
    for (;;) {
        const struct ft_shard_source *from = NULL;
        struct ft_segment_id least = {0};
        size_t which = 0;
        for (size_t s = 0; s < w->plan->n_sources; s++) {
            const struct ft_shard_source *source = &w->plan->sources[s];
            while (at[s] < source->segment->documents &&
                   source->placed[ft_segment_id(source->segment, at[s]).document] == FT_SHARD_GONE) {
                at[s]++;
            }
            if (at[s] < source->segment->documents) {
                struct ft_segment_id id = ft_segment_id(source->segment, at[s]);
                if (from == NULL || id.hash < least.hash) {
                    from = source;
                    least = id;
                    which = s;
                }
            }
        }
        if (from == NULL) {
            return FT_OK;
        }
        uint8_t row[FT_SHARD_ID] = {0};
        ft_put_u64(row, least.hash);
        ft_put_u32(row + 8, from->placed[least.document]);
        FT_RETURN_IF_FAILED(put(w, IDS, row, sizeof row, err));
        at[which]++;
    }
}

/* ---- the file ---- */

static void place_streams(struct writer *w)
{
    const uint64_t sizes[FT_SHARD_SECTIONS] = {w->classes * FT_SHARD_CLASS, w->labels_size,
                                               w->documents * FT_SHARD_OFFSET, w->documents * FT_SHARD_ID};
    w->streams[0].at = FT_SHARD_HEAD;
    for (int k = 0; k < FT_SHARD_SECTIONS; k++) {
        w->streams[k + 1].at = w->streams[k].at + padded(sizes[k]);
    }
}

static enum ft_status put_head(struct writer *w, uint64_t file_size, struct ft_err *err)
{
    uint8_t head[FT_SHARD_HEAD] = {0};
    memcpy(head, ft_shard_magic, sizeof ft_shard_magic);
    ft_put_u32(head + 8, FT_SHARD_VERSION);
    const uint64_t counts[] = {w->plan->salt,  w->classes,      w->documents,
                               w->labels_size, w->records_size, file_size};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        ft_put_u64(head + 16 + 8 * i, counts[i]);
    }
    for (int k = 0; k < FT_SHARD_SECTIONS; k++) {
        ft_put_u32(head + 64 + 4 * k, w->streams[k].crc);
    }
    ft_put_u32(head + 12, ft_crc32(0, ft_bytes_of(head, sizeof head)));
    return write_at(w, ft_bytes_of(head, sizeof head), 0, err);
}

static enum ft_status fill(struct writer *w, struct ft_err *err)
{
    uint64_t documents = w->documents;
    place_streams(w);
    uint64_t file_size = w->streams[RECORDS].at + w->records_size;
    FT_RETURN_IF_FAILED(second_pass(w, err));
    FT_RETURN_IF_FAILED(merge_ids(w, err));
    for (int k = 0; k <= FT_SHARD_SECTIONS; k++) {
        FT_RETURN_IF_FAILED(flush(w, &w->streams[k], err));
    }
    assert(w->documents == documents && w->streams[RECORDS].at == file_size);
    FT_RETURN_IF_FAILED(put_head(w, file_size, err));
    return fsync(w->fd) == 0 ? FT_OK : io_error(w, "fsync", err);
}

static enum ft_status open_writer(struct writer *w, struct ft_err *err)
{
    char name[FT_STORE_NAME];
    char temporary[FT_STORE_NAME + 8];
    ft_shard_name(w->plan->number, name);
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", name);
    FT_RETURN_IF_FAILED(ft_path_join(w->plan->dir, name, &w->path, err));
    FT_RETURN_IF_FAILED(ft_path_join(w->plan->dir, temporary, &w->temporary, err));
    FT_RETURN_IF_FAILED(ft_new(w->plan->n_sources + 1, sizeof *w->class_at, &w->class_at, err));
    for (size_t s = 0; s < w->plan->n_sources; s++) {
        const struct ft_shard_source *source = &w->plan->sources[s];
        memset(source->placed, 0xff, source->segment->documents * sizeof *source->placed);
    }
    return FT_OK;
}

enum ft_status ft_shard_write(const struct ft_shard_plan *plan, size_t *documents, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct writer w = {.plan = plan, .fd = -1};
    *documents = 0;
    FT_TRY(open_writer(&w, err));
    FT_TRY(first_pass(&w, err));
    if (w.documents == 0) {
        goto done;
    }
    w.fd = open(w.temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w.fd < 0) {
        st = io_error(&w, "make", err);
        goto done;
    }
    FT_TRY(fill(&w, err));
    FT_TRY(ft_path_rename(w.temporary, w.path, err));
    *documents = (size_t)w.documents;
done:
    if (w.fd >= 0) {
        (void)close(w.fd);
        if (st != FT_OK) {
            (void)unlink(w.temporary);
        }
    }
    for (int k = 0; k <= FT_SHARD_SECTIONS; k++) {
        ft_buf_release(&w.streams[k].buf);
    }
    ft_free(w.class_at);
    ft_free(w.temporary);
    ft_free(w.path);
    return st;
}
