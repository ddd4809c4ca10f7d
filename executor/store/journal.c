#include "executor/store/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/arena.h"
#include "executor/base/file.h"
#include "executor/codec/digest.h"
#include "executor/store/journal_format.h"
#include "executor/store/manifest.h"
#include "executor/wire/docarray_v1.h"

enum { BATCH_BYTES = 64 << 20 }; /* one fsync covers at most about this much, so that nobody waits for long */

/* A Document ready to be written. */
struct prepared {
    struct ft_bytes id;
    struct ft_bytes message;
};

/* One call of ft_journal_append(). */
struct request {
    const struct prepared *docs;
    size_t count;
    size_t bytes;
    struct ft_journal_result result;
    struct ft_err err;
    bool done;
    struct request *next;
};

/* Where the last record with some id lies. */
struct slot {
    uint64_t hash;
    uint64_t at; /* 0 = free */
};

struct undo {
    size_t slot;
    struct slot before;
};

struct ft_journal {
    char *path;
    int fd;
    uint64_t salt;
    pthread_mutex_t mutex; /* guards all up to `writing`, and stats */
    pthread_cond_t turn;   /* a batch is done */
    struct request *first;
    struct request **last;
    bool writing; /* some caller writes a batch; it alone touches what follows, without the mutex */
    struct ft_journal_stats stats;
    bool broken; /* an fsync failed: what the disk holds is unknown */
    uint64_t size;
    uint32_t sequence; /* of the acknowledgement slot written last */
    struct slot *slots;
    size_t n_slots; /* a power of two */
    size_t used;
    struct undo *undo; /* of the batch being built */
    size_t n_undo;
    size_t undo_capacity;
    struct ft_buf batch; /* groups not yet written; begins at offset `size` */
    struct ft_buf old;   /* a stored record, read for comparing */
};

static enum ft_status io_error(const struct ft_journal *j, const char *verb, int cause, struct ft_err *err)
{
    char reason[128];
    return FT_FAIL(err, IO, "cannot %s %.600s: %s", verb, j->path, strerror_r(cause, reason, sizeof reason));
}

/* ---- the index of ids ---- */

static uint64_t hash_of(uint64_t salt, struct ft_bytes id)
{
    uint64_t h = 0xcbf29ce484222325ULL ^ salt;
    for (size_t i = 0; i < id.size; i++) {
        h = (h ^ id.data[i]) * 0x100000001b3ULL;
    }
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    return h ^ h >> 33;
}

static enum ft_status reserve_slots(struct ft_journal *j, size_t more, struct ft_err *err)
{
    size_t n = j->n_slots == 0 ? 64 : j->n_slots;
    while ((j->used + more) * 2 > n) {
        n *= 2;
    }
    if (n == j->n_slots) {
        return FT_OK;
    }
    struct slot *fresh = NULL;
    FT_RETURN_IF_FAILED(ft_new(n, sizeof *fresh, &fresh, err));
    for (size_t i = 0; i < j->n_slots; i++) {
        if (j->slots[i].at != 0) {
            size_t at = (size_t)j->slots[i].hash & (n - 1);
            while (fresh[at].at != 0) {
                at = (at + 1) & (n - 1);
            }
            fresh[at] = j->slots[i];
        }
    }
    ft_free(j->slots);
    j->slots = fresh;
    j->n_slots = n;
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

/* The record at an offset, from the file or from the batch; valid until the next call. */
static enum ft_status load_record(struct ft_journal *j, uint64_t at, struct ft_journal_record *record,
                                  struct ft_err *err)
{
    uint8_t sizes[FT_JOURNAL_RECORD];
    if (at >= j->size) {
        *record = ft_journal_record_at(ft_buf_bytes(&j->batch), at - j->size);
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(read_at(j, at, sizes, sizeof sizes, err));
    size_t size = FT_JOURNAL_RECORD + (size_t)ft_get_u32(sizes) + ft_get_u32(sizes + 4);
    j->old.size = 0;
    FT_RETURN_IF_FAILED(ft_buf_reserve(&j->old, size, err));
    FT_RETURN_IF_FAILED(read_at(j, at, j->old.data, size, err));
    j->old.size = size;
    *record = ft_journal_record_at(ft_buf_bytes(&j->old), 0);
    return FT_OK;
}

/* The slot of `id`: *record is what it holds, or the slot is free and *record zero. */
static enum ft_status find(struct ft_journal *j, struct ft_bytes id, uint64_t hash, size_t *slot,
                           struct ft_journal_record *record, struct ft_err *err)
{
    size_t at = (size_t)hash & (j->n_slots - 1);
    *record = (struct ft_journal_record){0};
    for (; j->slots[at].at != 0; at = (at + 1) & (j->n_slots - 1)) {
        if (j->slots[at].hash != hash) {
            continue;
        }
        FT_RETURN_IF_FAILED(load_record(j, j->slots[at].at, record, err));
        if (ft_bytes_equal(record->id, id)) {
            break;
        }
        *record = (struct ft_journal_record){0};
    }
    *slot = at;
    return FT_OK;
}

static void set_slot(struct ft_journal *j, size_t slot, uint64_t hash, uint64_t at)
{
    j->used += j->slots[slot].at == 0 ? 1 : 0;
    j->slots[slot] = (struct slot){.hash = hash, .at = at};
}

/* ---- opening ---- */

static enum ft_status make_file(const struct ft_journal *j, struct ft_err *err)
{
    uint8_t head[FT_JOURNAL_HEAD];
    uint64_t salt = 0;
    if (getrandom(&salt, sizeof salt, 0) != (ssize_t)sizeof salt) {
        return FT_FAIL(err, INTERNAL, "getrandom gives nothing");
    }
    ft_journal_put_head(head, salt);
    return ft_file_write(j->path, ft_bytes_of(head, sizeof head), err);
}

/* Put one checked group's ids into the index. */
static enum ft_status index_group(struct ft_journal *j, struct ft_bytes file,
                                  const struct ft_journal_group *group, struct ft_err *err)
{
    uint64_t at = group->at + FT_JOURNAL_GROUP;
    FT_RETURN_IF_FAILED(reserve_slots(j, group->records, err));
    for (uint32_t i = 0; i < group->records; i++) {
        struct ft_journal_record record = ft_journal_record_at(file, at);
        uint64_t hash = hash_of(j->salt, record.id);
        size_t slot = (size_t)hash & (j->n_slots - 1);
        while (j->slots[slot].at != 0 &&
               (j->slots[slot].hash != hash ||
                !ft_bytes_equal(ft_journal_record_at(file, j->slots[slot].at).id, record.id))) {
            slot = (slot + 1) & (j->n_slots - 1);
        }
        set_slot(j, slot, hash, record.at);
        at = record.end;
    }
    return FT_OK;
}

/* Check all groups; *end is where the good ones stop. */
static enum ft_status replay(struct ft_journal *j, struct ft_bytes file, uint64_t *end, struct ft_err *err)
{
    struct ft_journal_head head;
    uint64_t at = FT_JOURNAL_HEAD;
    if (ft_journal_read_head(file, &head, err) != FT_OK) {
        return ft_err_wrap(err, "%.600s", j->path);
    }
    j->salt = head.salt;
    j->sequence = head.sequence;
    if (head.acknowledged > file.size) {
        return FT_FAIL(err, CORRUPT, "%.600s: acknowledged data are missing from offset %zu on", j->path,
                       file.size);
    }
    while (at < file.size) {
        struct ft_journal_group group;
        const char *wrong = ft_journal_check_group(file, j->salt, at, &group);
        if (wrong == NULL) {
            FT_RETURN_IF_FAILED(index_group(j, file, &group, err));
            at = group.end;
            continue;
        }
        if (at < head.acknowledged || ft_journal_was_durable(file, j->salt, at, at)) {
            return FT_FAIL(err, CORRUPT, "%.600s: %s (offset %llu)", j->path, wrong, (unsigned long long)at);
        }
        break;
    }
    *end = at;
    return FT_OK;
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

static enum ft_status recover(struct ft_journal *j, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_mapping map = {0};
    uint64_t end = 0;
    FT_TRY(ft_file_map(j->path, &map, err));
    FT_TRY(replay(j, map.bytes, &end, err));
    j->size = end;
    j->stats = (struct ft_journal_stats){.ids = j->used, .bytes = end, .cut = map.bytes.size - end};
    if (j->stats.cut > 0 && ftruncate(j->fd, (off_t)end) != 0) {
        st = io_error(j, "cut", errno, err);
        goto done;
    }
    FT_TRY(acknowledge(j, end, err));
    if (fsync(j->fd) != 0) {
        st = io_error(j, "fsync", errno, err);
    }
done:
    ft_file_unmap(&map);
    return st;
}

static enum ft_status lock_file(struct ft_journal *j, struct ft_err *err)
{
    if (ft_path_kind(j->path) == FT_PATH_NONE) {
        FT_RETURN_IF_FAILED(make_file(j, err));
    }
    j->fd = open(j->path, O_RDWR | O_CLOEXEC);
    if (j->fd < 0) {
        return io_error(j, "open", errno, err);
    }
    if (flock(j->fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? FT_FAIL(err, UNAVAILABLE, "%.600s is open in another process", j->path)
                                    : io_error(j, "lock", errno, err);
    }
    return FT_OK;
}

enum ft_status ft_journal_open(const char *dir, struct ft_journal **journal, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_journal *j = NULL;
    *journal = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *j, &j, err));
    j->fd = -1;
    j->last = &j->first;
    if (pthread_mutex_init(&j->mutex, NULL) != 0 || pthread_cond_init(&j->turn, NULL) != 0) {
        ft_free(j);
        return FT_FAIL(err, NOMEM, "cannot make a mutex or a condition");
    }
    FT_TRY(ft_dir_make(dir, err));
    FT_TRY(ft_manifest_ensure(dir, err));
    FT_TRY(ft_path_join(dir, "journal", &j->path, err));
    FT_TRY(lock_file(j, err));
    FT_TRY(recover(j, err));
    *journal = j;
    j = NULL;
done:
    ft_journal_close(j);
    return st;
}

void ft_journal_close(struct ft_journal *journal)
{
    if (journal == NULL) {
        return;
    }
    assert(!journal->writing && journal->first == NULL);
    if (journal->fd >= 0) {
        (void)fdatasync(journal->fd); /* the last acknowledgement; the data themselves are durable */
        (void)close(journal->fd);
    }
    (void)pthread_cond_destroy(&journal->turn);
    (void)pthread_mutex_destroy(&journal->mutex);
    ft_free(journal->path);
    ft_free(journal->slots);
    ft_free(journal->undo);
    ft_buf_release(&journal->batch);
    ft_buf_release(&journal->old);
    ft_free(journal);
}

/* ---- what a call brings ---- */

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

static enum ft_status prepare(const struct ft_document *doc, struct ft_arena *arena, struct prepared *out,
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

/* ---- one batch: groups of several calls, one fsync ---- */

static enum ft_status add_document(struct ft_journal *j, const struct prepared *doc,
                                   struct ft_journal_result *result, struct ft_err *err)
{
    uint64_t hash = hash_of(j->salt, doc->id);
    struct ft_journal_record stored;
    size_t slot = 0;
    uint8_t head[FT_JOURNAL_RECORD];
    FT_RETURN_IF_FAILED(find(j, doc->id, hash, &slot, &stored, err));
    if (stored.id.data != NULL && ft_bytes_equal(stored.doc, doc->message)) {
        result->duplicates++;
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_grow(&j->undo, &j->undo_capacity, j->n_undo + 1, sizeof *j->undo, err));
    uint64_t at = j->size + j->batch.size;
    ft_journal_put_record(head, j->salt, doc->id, doc->message);
    FT_RETURN_IF_FAILED(ft_buf_append(&j->batch, head, sizeof head, err));
    FT_RETURN_IF_FAILED(ft_buf_append(&j->batch, doc->id.data, doc->id.size, err));
    FT_RETURN_IF_FAILED(ft_buf_append(&j->batch, doc->message.data, doc->message.size, err));
    j->undo[j->n_undo++] = (struct undo){.slot = slot, .before = j->slots[slot]};
    set_slot(j, slot, hash, at);
    result->stored++;
    return FT_OK;
}

static enum ft_status add_group(struct ft_journal *j, struct request *r, struct ft_err *err)
{
    uint8_t head[FT_JOURNAL_GROUP] = {0};
    uint8_t commit[FT_JOURNAL_COMMIT];
    size_t start = j->batch.size;
    struct ft_journal_result result = {0};
    FT_RETURN_IF_FAILED(ft_buf_append(&j->batch, head, sizeof head, err));
    for (size_t i = 0; i < r->count; i++) {
        FT_RETURN_IF_FAILED(add_document(j, &r->docs[i], &result, err));
    }
    if (result.stored == 0) {
        j->batch.size = start;
    } else {
        size_t body = j->batch.size - start - sizeof head;
        ft_journal_put_commit(commit, j->salt, j->size + start);
        FT_RETURN_IF_FAILED(ft_buf_append(&j->batch, commit, sizeof commit, err));
        ft_journal_put_group(j->batch.data + start, j->salt, (uint32_t)result.stored, body, j->size);
    }
    r->result = result;
    return FT_OK;
}

static enum ft_status write_batch(struct ft_journal *j, struct ft_err *err)
{
    size_t done = 0;
    while (done < j->batch.size) {
        ssize_t n = pwrite(j->fd, j->batch.data + done, j->batch.size - done, (off_t)(j->size + done));
        if (n < 0 && errno != EINTR) {
            enum ft_status st = io_error(j, "write", errno, err);
            j->broken = ftruncate(j->fd, (off_t)j->size) != 0;
            return st;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (fdatasync(j->fd) != 0) {
        j->broken =
            true; /* the kernel may have dropped the pages: nothing can be said of the file any more */
        return io_error(j, "fsync", errno, err);
    }
    /* Only now: the slot never claims more than is durable. It need not be durable itself, see replay(). */
    j->size += j->batch.size;
    enum ft_status st = acknowledge(j, j->size, err);
    j->broken = st != FT_OK; /* the caller is told that it failed, while the file holds it */
    return st;
}

static void roll_back(struct ft_journal *j)
{
    while (j->n_undo > 0) {
        struct undo u = j->undo[--j->n_undo];
        j->used -= u.before.at == 0 ? 1 : 0;
        j->slots[u.slot] = u.before;
    }
}

static enum ft_status commit_requests(struct ft_journal *j, struct request *list, uint64_t *groups,
                                      struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t docs = 0;
    j->batch.size = 0;
    j->n_undo = 0;
    *groups = 0;
    if (j->broken) {
        return FT_FAIL(err, IO, "%.600s failed before; it must be opened anew", j->path);
    }
    for (struct request *r = list; r != NULL; r = r->next) {
        docs += r->count;
    }
    FT_TRY(reserve_slots(j, docs, err)); /* before the first undo: it moves slots */
    for (struct request *r = list; r != NULL; r = r->next) {
        FT_TRY(add_group(j, r, err));
        *groups += r->result.stored > 0 ? 1 : 0;
    }
    if (j->batch.size > 0) {
        FT_TRY(write_batch(j, err));
    }
    j->n_undo = 0;
done:
    if (st != FT_OK) {
        roll_back(j);
    }
    if (j->batch.capacity > BATCH_BYTES / 4) {
        ft_buf_release(&j->batch);
    }
    return st;
}

/* With the mutex held: take the requests that wait, write them without it, wake their callers. */
static void lead(struct ft_journal *j)
{
    struct request *list = j->first;
    struct request *last = list;
    struct ft_err err = {0};
    uint64_t groups = 0;
    size_t bytes = list->bytes;
    while (last->next != NULL && bytes + last->next->bytes <= BATCH_BYTES) {
        last = last->next;
        bytes += last->bytes;
    }
    j->first = last->next;
    j->last = j->first == NULL ? &j->first : j->last;
    last->next = NULL;
    j->writing = true;
    (void)pthread_mutex_unlock(&j->mutex);
    enum ft_status st = commit_requests(j, list, &groups, &err);
    (void)pthread_mutex_lock(&j->mutex);
    for (struct request *r = list; r != NULL; r = r->next) {
        if (st != FT_OK) {
            r->err = err;
            r->result = (struct ft_journal_result){0};
        }
        r->done = true;
    }
    j->stats.ids = j->used;
    j->stats.bytes = j->size;
    j->stats.groups += st == FT_OK ? groups : 0;
    j->stats.syncs += st == FT_OK && groups > 0 ? 1 : 0;
    j->writing = false;
    (void)pthread_cond_broadcast(&j->turn);
}

static void run_request(struct ft_journal *j, struct request *r)
{
    (void)pthread_mutex_lock(&j->mutex);
    *j->last = r;
    j->last = &r->next;
    while (!r->done) {
        if (j->writing) {
            (void)pthread_cond_wait(&j->turn, &j->mutex);
        } else {
            lead(j);
        }
    }
    (void)pthread_mutex_unlock(&j->mutex);
}

enum ft_status ft_journal_append(struct ft_journal *journal, const struct ft_document *docs, size_t count,
                                 struct ft_journal_result *result, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_arena arena = {0};
    struct prepared *prepared = NULL;
    struct request r = {.count = count};
    *result = (struct ft_journal_result){0};
    if (count > UINT32_MAX) {
        return FT_FAIL(err, LIMIT, "more than %u Documents in one call", UINT32_MAX);
    }
    FT_TRY(ft_arena_new(&arena, count, sizeof *prepared, &prepared, err));
    for (size_t i = 0; i < count; i++) {
        FT_TRY(check_document(&docs[i], i, err));
        FT_TRY(prepare(&docs[i], &arena, &prepared[i], err));
        r.bytes += prepared[i].id.size + prepared[i].message.size + FT_JOURNAL_RECORD;
    }
    if (count == 0) {
        goto done;
    }
    r.docs = prepared;
    run_request(journal, &r);
    st = r.err.code;
    if (st != FT_OK) {
        *err = r.err;
    }
    *result = r.result;
done:
    ft_arena_release(&arena);
    return st;
}

struct ft_journal_stats ft_journal_stats(struct ft_journal *journal)
{
    (void)pthread_mutex_lock(&journal->mutex);
    struct ft_journal_stats stats = journal->stats;
    (void)pthread_mutex_unlock(&journal->mutex);
    return stats;
}
