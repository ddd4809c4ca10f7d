/* links: ft_codec ft_base */
/* covers: executor/codec/csv.c */
/* Any text: records whose fields can be read to their last byte, then the end or one clear refusal. */
#include "tests/fuzz/target.h"

#include <assert.h>

#include "executor/base/alloc.h"
#include "executor/codec/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_csv csv;
    struct ft_bytes fields[FT_CSV_MAX_FIELDS];
    size_t count = 0;
    size_t bytes = 0;
    unsigned sum = 0;
    int line = 0;
    ft_csv_open(&csv, ft_bytes_of(data, size));
    for (;;) {
        enum ft_status st = ft_csv_next(&csv, fields, &count, &err);
        assert(st == FT_OK || st == FT_INVALID || st == FT_LIMIT);
        if (st != FT_OK || count == 0) {
            break;
        }
        assert(csv.line > line);
        line = csv.line;
        for (size_t i = 0; i < count; i++) {
            bytes += fields[i].size;
            for (size_t k = 0; k < fields[i].size; k++) {
                sum += fields[i].data[k];
            }
        }
    }
    assert(bytes <= size && sum <= 255 * size);
    ft_csv_release(&csv);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
