/*
 * csv.h - RFC 4180 records, streamed from memory; also tab-separated ("excel-tab") and the unix dialect.
 *
 * Quoted fields may hold separators, line ends and doubled quotes. Errors name the line.
 */
#ifndef FT_CODEC_CSV_H
#define FT_CODEC_CSV_H

#include "executor/base/bytes.h"

enum { FT_CSV_MAX_FIELDS = 64 };

struct ft_csv {
    struct ft_bytes text;
    size_t at;
    int line; /* 1-based line of the record read last */
    int next_line;
    char separator;    /* ',' ';' '\t' '|' */
    struct ft_buf own; /* unescaped fields of the current record */
};

/* Separator: the candidate that occurs equally often (and at least once) in the first records; ',' if none
 * does. */
void ft_csv_open(struct ft_csv *csv, struct ft_bytes text);
/* The fields stay valid until the next call. *count = 0 at the end; blank lines are skipped. FT_INVALID,
 * FT_LIMIT. */
FT_MUST_CHECK enum ft_status ft_csv_next(struct ft_csv *csv, struct ft_bytes fields[FT_CSV_MAX_FIELDS],
                                         size_t *count, struct ft_err *err);
void ft_csv_release(struct ft_csv *csv);
#endif
