/* links: ft_store ft_wire ft_codec ft_base */
/* covers: executor/store/segment.c */
/* Any bytes as a shard. The first byte says how: 0 as they are; else their checksums are made right first, so
 * that what is behind them is reached. What opens can be walked, resolved against itself, read and verified.
 */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"
#include "executor/codec/digest.h"
#include "executor/store/segment.h"

static uint64_t padded(uint64_t size)
{
    return (size + 7) / 8 * 8;
}

/* Head and sections as far as the file goes; of records nothing. */
static void mend(uint8_t *file, size_t size)
{
    if (size < FT_SHARD_HEAD) {
        return;
    }
    const uint64_t counts[] = {ft_get_u64(file + 24), ft_get_u64(file + 40), ft_get_u64(file + 32),
                               ft_get_u64(file + 32)};
    const uint64_t units[] = {FT_SHARD_CLASS, 1, FT_SHARD_OFFSET, FT_SHARD_ID};
    uint64_t at = FT_SHARD_HEAD;
    for (int k = 0; k < FT_SHARD_SECTIONS; k++) {
        if (counts[k] > size || at > size || size - at < counts[k] * units[k]) {
            break;
        }
        uint64_t bytes = counts[k] * units[k];
        ft_put_u32(file + 64 + 4 * k, ft_crc32(0, ft_bytes_of(file + at, (size_t)bytes)));
        at += padded(bytes);
    }
    ft_put_u64(file + 56, size);
    if (at <= size) {
        ft_put_u64(file + 48, size - at);
    }
    memcpy(file, ft_shard_magic, sizeof ft_shard_magic);
    ft_put_u32(file + 12, 0);
    ft_put_u32(file + 12, ft_crc32(0, ft_bytes_of(file, FT_SHARD_HEAD)));
}

static void look(struct ft_segment *s)
{
    struct ft_err err = {0};
    struct ft_journal_record record;
    size_t documents = 0;
    for (size_t c = 0; c < s->classes; c++) {
        struct ft_segment_class class = ft_segment_class(s, c);
        assert(class.first == documents && class.count > 0 && class.label.size <= FT_MAX_LABEL_BYTES);
        assert(class.label.data[class.label.size] == 0);
        documents += class.count;
    }
    assert(documents == s->documents && ft_segment_deletions(s) <= documents);
    for (size_t i = 0; i < s->documents; i++) {
        enum ft_status st = ft_segment_read(s, i, &record, &err);
        assert(st == FT_OK || st == FT_CORRUPT);
        assert(ft_segment_id(s, i).document < s->documents);
    }
    enum ft_status st = ft_segment_verify(s, s->salt, &err);
    assert(st == FT_OK || st == FT_CORRUPT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    if (size == 0) {
        return 0;
    }
    uint8_t *file = ft_alloc(size); /* the first byte is not the shard's */
    struct ft_segment *twins[2] = {ft_calloc(1, sizeof(struct ft_segment)),
                                   ft_calloc(1, sizeof(struct ft_segment))};
    assert(file != NULL && twins[0] != NULL && twins[1] != NULL);
    memcpy(file, data + 1, size - 1);
    if (data[0] != 0) {
        mend(file, size - 1);
    }
    enum ft_status st = FT_OK;
    for (int i = 0; i < 2; i++) {
        st = ft_segment_of_bytes(ft_bytes_of(file, size - 1), twins[i], &err);
        assert(st == FT_OK || st == FT_CORRUPT || st == FT_UNSUPPORTED);
    }
    if (st == FT_OK) {
        look(twins[0]);
        st = ft_segments_resolve(twins, 2, &err); /* the second is newer: it hides all of the first */
        assert(st == FT_CORRUPT || (st == FT_OK && twins[0]->n_dead == twins[0]->documents));
    }
    ft_segment_free(twins[0]);
    ft_segment_free(twins[1]);
    ft_free(file);
    return 0;
}
