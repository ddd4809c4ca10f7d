/*
 * segment.h - the Documents of one shard or of one journal, grouped by class. Private to store/.
 *
 * A shard (`shard-NNNNNN.fts`) is immutable and mapped; of a journal the same index is built in memory, so
 * whoever reads Documents sees one thing. Ids are unique inside a segment: of a journal the last Document
 * with an id counts. Documents of a class stand in the order they came. A deletion is a record without a
 * Document; deletions are the class with the empty label, which comes first.
 *
 * Shard, little-endian, sections in this order, each padded with zeros to 8 bytes:
 *   head     96 bytes: magic 8, version 4, crc 4 (of the head with this field 0), salt 8, then in 8 bytes
 *            each: classes, documents, bytes of labels, bytes of records, bytes of the file; crc 4 of each of
 *            the next four sections; zeros
 *   classes  32 each: offset of the label 8, its bytes 4, zeros 4, first document 8, count 8; by label
 *   labels   each with a NUL behind it
 *   offsets  8 each: where the document's record lies among the records
 *   ids      16 each: hash of the id 8, document 4, zeros 4; by hash
 *   records  id bytes 4, Document bytes 4, crc 4 of sizes, id and Document (salted), id, Document: those of a
 *            journal (journal_format.h)
 * Opening checks the head, the four sections and what they say of each other; a record's own checksum is
 * looked at whenever it is read, so that nothing unchecked is trained on, embedded or written into another
 * shard, and of all records by ft_segment_verify(). Opening does not, since that takes as long as the disk
 * takes to read all: of 1,000,000 Documents of 1 KB opening takes 0.07 s, reading all of them 1.0 s from
 * memory and 1.7 to 2.6 s from a disk (2 cores, NVMe); and damage that comes later would not be seen.
 *
 * Thread-safety: a const segment may be read by any number of threads; the marks of dead Documents belong to
 * its owner.
 */
#ifndef FT_STORE_SEGMENT_H
#define FT_STORE_SEGMENT_H

#include "executor/base/file.h"
#include "executor/store/journal_format.h"
#include "executor/store/manifest.h"

enum {
    FT_SHARD_HEAD = 96,
    FT_SHARD_CLASS = 32,
    FT_SHARD_OFFSET = 8,
    FT_SHARD_ID = 16,
    FT_SHARD_SECTIONS = 4 /* with a checksum in the head */
};
extern const char ft_shard_magic[8];
enum { FT_SHARD_VERSION = 1 };

struct ft_segment {
    uint64_t number;
    bool is_journal;
    char *path;
    struct ft_mapping map;
    struct ft_bytes records; /* what offsets count from */
    uint64_t salt;           /* of the records' checksums */
    size_t classes;
    size_t documents; /* deletions among them */
    const uint8_t *class_table, *labels, *offsets, *ids;
    uint8_t *built; /* a journal's: the four above */
    uint64_t *dead; /* (documents) bits: a later segment replaces or deletes it; NULL: none */
    size_t n_dead;
};

FT_MUST_CHECK enum ft_status ft_segment_open_shard(const char *dir, uint64_t number,
                                                   struct ft_segment **segment, struct ft_err *err);
/* `id_salt` is the manifest's; file->end as there. */
FT_MUST_CHECK enum ft_status ft_segment_open_journal(const char *dir, const struct ft_manifest_file *file,
                                                     uint64_t id_salt, struct ft_segment **segment,
                                                     struct ft_err *err);
/* A shard's bytes, borrowed: for fuzzing. */
FT_MUST_CHECK enum ft_status ft_segment_of_bytes(struct ft_bytes file, struct ft_segment *segment,
                                                 struct ft_err *err);
void ft_segment_free(struct ft_segment *segment); /* NULL is fine */

struct ft_segment_class {
    struct ft_bytes label; /* a NUL follows */
    size_t first;
    size_t count;
};
struct ft_segment_class ft_segment_class(const struct ft_segment *segment, size_t c);
/* Number of the first class that holds Documents: 1 behind deletions. */
size_t ft_segment_first_class(const struct ft_segment *segment);
size_t ft_segment_deletions(const struct ft_segment *segment);
/* Document i with its checksum checked: FT_CORRUPT names the file and the id. */
FT_MUST_CHECK enum ft_status ft_segment_read(const struct ft_segment *segment, size_t i,
                                             struct ft_journal_record *record, struct ft_err *err);
/* The same without its checksum; false: its sizes leave the file. */
bool ft_segment_record(const struct ft_segment *segment, size_t i, struct ft_journal_record *record);
struct ft_segment_id {
    uint64_t hash;
    size_t document;
};
struct ft_segment_id ft_segment_id(const struct ft_segment *segment, size_t k); /* k-th by hash */
uint64_t ft_id_hash(uint64_t salt, struct ft_bytes id);

static inline bool ft_segment_is_dead(const uint64_t *dead, size_t i)
{
    return dead != NULL && (dead[i / 64] >> (i % 64) & 1) != 0;
}
/* Room for marks; ft_segment_mark() and ft_segment_revive() need it, ft_segment_kill() sees to it. */
FT_MUST_CHECK enum ft_status ft_segment_reserve_marks(struct ft_segment *segment, struct ft_err *err);
void ft_segment_mark(struct ft_segment *segment, size_t i);
void ft_segment_revive(struct ft_segment *segment, size_t i);
FT_MUST_CHECK enum ft_status ft_segment_kill(struct ft_segment *segment, size_t i, struct ft_err *err);
/* Mark in each what a later one of the list replaces or deletes. */
FT_MUST_CHECK enum ft_status ft_segments_resolve(struct ft_segment *const *segments, size_t count,
                                                 struct ft_err *err);
/* Read all of it: every record's checksum, place, id and order. FT_CORRUPT says which. */
FT_MUST_CHECK enum ft_status ft_segment_verify(const struct ft_segment *segment, uint64_t id_salt,
                                               struct ft_err *err);
#endif
