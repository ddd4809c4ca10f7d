/* Which ids a dataset holds, and where. */
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/store/set_internal.h"

enum ft_status ft_index_reserve(struct ft_set *set, size_t more, struct ft_err *err)
{
    size_t n = set->n_slots == 0 ? 64 : set->n_slots;
    while ((set->used + more) * 4 > n * 3) {
        n *= 2;
    }
    if (n == set->n_slots) {
        return FT_OK;
    }
    struct ft_set_slot *fresh = NULL;
    FT_RETURN_IF_FAILED(ft_new(n, sizeof *fresh, &fresh, err));
    set->used = 0;
    for (size_t i = 0; i < set->n_slots; i++) {
        if (set->slots[i].place == 0 || set->slots[i].place == FT_PLACE_GONE) {
            continue;
        }
        size_t at = (size_t)set->slots[i].hash & (n - 1);
        while (fresh[at].place != 0) {
            at = (at + 1) & (n - 1);
        }
        fresh[at] = set->slots[i];
        set->used++;
    }
    ft_free(set->slots);
    set->slots = fresh;
    set->n_slots = n;
    return FT_OK;
}

static struct ft_segment *shard_of(const struct ft_set *set, uint64_t place)
{
    for (size_t i = 0; i < set->n_shards; i++) {
        if (set->shards[i]->number == place >> FT_PLACE_BITS) {
            return set->shards[i];
        }
    }
    return NULL;
}

static enum ft_status load(struct ft_set *set, uint64_t place, struct ft_journal_record *record,
                           struct ft_err *err)
{
    uint64_t number = place >> FT_PLACE_BITS;
    uint64_t where = place & (((uint64_t)1 << FT_PLACE_BITS) - 1);
    const struct ft_segment *shard = shard_of(set, place);
    if (shard != NULL) {
        return ft_segment_read(shard, (size_t)where, record, err);
    }
    if (number == set->active.number && set->batch.size > 0 && where >= set->active.file.size) {
        *record = ft_journal_record_at(ft_buf_bytes(&set->batch), where - set->active.file.size);
        return FT_OK;
    }
    const struct ft_journal *journal = number == set->active.number ? &set->active.file : NULL;
    for (size_t i = 0; i < set->n_sealing && journal == NULL; i++) {
        journal = set->sealing[i].number == number ? &set->sealing[i].file : NULL;
    }
    if (journal == NULL) {
        return FT_FAIL(err, INTERNAL, "%.600s: an id leads to a file that is gone", set->dir);
    }
    return ft_journal_read(journal, where, &set->old, record, err);
}

enum ft_status ft_index_find(struct ft_set *set, struct ft_bytes id, uint64_t hash, size_t *slot,
                             struct ft_journal_record *record, struct ft_err *err)
{
    size_t at = (size_t)hash & (set->n_slots - 1);
    *record = (struct ft_journal_record){0};
    for (; set->slots[at].place != 0; at = (at + 1) & (set->n_slots - 1)) {
        if (set->slots[at].hash != hash || set->slots[at].place == FT_PLACE_GONE) {
            continue;
        }
        FT_RETURN_IF_FAILED(load(set, set->slots[at].place, record, err));
        if (ft_bytes_equal(record->id, id)) {
            break;
        }
        *record = (struct ft_journal_record){0};
    }
    *slot = at;
    return FT_OK;
}

enum ft_status ft_index_set(struct ft_set *set, size_t slot, struct ft_set_slot now, bool before, bool after,
                            bool undo, struct ft_err *err)
{
    struct ft_set_slot old = set->slots[slot];
    struct ft_segment *shard = old.place != 0 ? shard_of(set, old.place) : NULL;
    if (undo) {
        FT_RETURN_IF_FAILED(
            ft_grow(&set->undo, &set->undo_capacity, set->n_undo + 1, sizeof *set->undo, err));
    }
    if (shard != NULL) {
        FT_RETURN_IF_FAILED(
            ft_segment_kill(shard, (size_t)(old.place & (((uint64_t)1 << FT_PLACE_BITS) - 1)), err));
    }
    if (undo) {
        set->undo[set->n_undo++] = (struct ft_set_undo){.slot = slot, .before = old};
    }
    set->used += old.place == 0 ? 1 : 0;
    set->live += (after ? 1U : 0U);
    set->live -= (before ? 1U : 0U);
    set->slots[slot] = now;
    return FT_OK;
}

void ft_index_roll_back(struct ft_set *set)
{
    while (set->n_undo > 0) {
        struct ft_set_undo u = set->undo[--set->n_undo];
        struct ft_segment *shard = u.before.place != 0 ? shard_of(set, u.before.place) : NULL;
        if (shard != NULL) {
            ft_segment_revive(shard, (size_t)(u.before.place & (((uint64_t)1 << FT_PLACE_BITS) - 1)));
        }
        set->used -= u.before.place == 0 ? 1 : 0;
        set->slots[u.slot] = u.before;
    }
    set->live = set->live_before;
}

static uint64_t place_in(const struct ft_segment *segment, size_t document)
{
    return ft_place(segment->number, segment->is_journal
                                         ? ft_get_u64(segment->offsets + document * FT_SHARD_OFFSET)
                                         : document);
}

void ft_index_move(struct ft_set *set, const struct ft_segment *from, size_t k, const uint32_t *placed,
                   struct ft_segment *to)
{
    struct ft_segment_id id = ft_segment_id(from, k);
    uint64_t old = place_in(from, id.document);
    bool stays = placed[id.document] != UINT32_MAX;
    for (size_t at = (size_t)id.hash & (set->n_slots - 1); set->slots[at].place != 0;
         at = (at + 1) & (set->n_slots - 1)) {
        if (set->slots[at].place == old) {
            set->slots[at].place = stays ? place_in(to, placed[id.document]) : FT_PLACE_GONE;
            return;
        }
    }
    if (stays) { /* replaced while the shard was being written */
        ft_segment_mark(to, placed[id.document]);
    }
}
