/* prep_probe DIMS OPTIONS FILE...: what ft_prep_item() makes of image files, for
 * tests/oracle/test_prep_oracle.py. DIMS is the model's input without the batch ("3,32,32"), OPTIONS is JSON.
 * Raw float32 rows go to stdout. */
/* links: ft_prep ft_codec ft_base */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/prep/prep.h"

static enum ft_status set_up(const char *dims_text, const char *options_text, struct ft_prep *prep,
                             struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *options = NULL;
    int64_t dims[FT_MAX_RANK] = {0};
    int rank = 0;
    const char *p = dims_text;
    while (*p != '\0' && rank < FT_MAX_RANK) {
        char *end = NULL;
        dims[rank++] = strtoll(p, &end, 10);
        p = *end == ',' ? end + 1 : end;
    }
    FT_TRY(ft_prep_infer(dims, rank, prep, err));
    FT_TRY(ft_json_parse(ft_bytes_of_text(options_text), &options, err));
    FT_TRY(ft_prep_read(options, prep, err));
done:
    ft_json_free(options);
    return st;
}

static enum ft_status put_file(const struct ft_prep *prep, const char *path, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    float *row = NULL;
    struct ft_content content = {.kind = FT_CONTENT_BLOB};
    FT_TRY(ft_file_read(path, FT_MAX_DOC_BYTES, &file, err));
    FT_TRY(ft_new(ft_prep_elements(prep), sizeof *row, &row, err));
    content.bytes = ft_buf_bytes(&file);
    FT_TRY(ft_prep_item(prep, &content, row, err));
    if (fwrite(row, sizeof *row, ft_prep_elements(prep), stdout) != ft_prep_elements(prep)) {
        st = FT_FAIL(err, IO, "cannot write");
    }
done:
    ft_free(row);
    ft_buf_release(&file);
    return st;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    struct ft_prep prep;
    if (argc < 4) {
        (void)fprintf(stderr, "prep_probe DIMS OPTIONS FILE...\n");
        return 2;
    }
    enum ft_status st = set_up(argv[1], argv[2], &prep, &err);
    for (int i = 3; i < argc && st == FT_OK; i++) {
        st = put_file(&prep, argv[i], &err);
    }
    if (st != FT_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    return st == FT_OK ? 0 : 3;
}
