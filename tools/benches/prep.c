/* bench_prep OPTIONS SECONDS FILE...: images a second on this thread, of decoding alone, of the whole way to
 * a row of 3 x 224 x 224, and of augmentation from decoded pixels. OPTIONS is JSON for the preprocessor.
 * tools/benches/prep.py makes the files and asks Pillow for the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/prep/augment.h"

enum { SIZE = 224, ROW = 3 * SIZE * SIZE };

struct bench {
    struct ft_prep prep;
    struct ft_augment augment;
    size_t count;
    struct ft_buf *files;
    struct ft_pixels *pixels;
    float *row;
};

typedef enum ft_status (*work)(struct bench *b, size_t i, uint64_t round, struct ft_err *err);

static struct ft_content content_of(const struct bench *b, size_t i)
{
    return (struct ft_content){.kind = FT_CONTENT_BLOB, .bytes = ft_buf_bytes(&b->files[i])};
}

static enum ft_status decode(struct bench *b, size_t i, uint64_t round, struct ft_err *err)
{
    struct ft_pixels pixels = {0};
    struct ft_content content = content_of(b, i);
    (void)round;
    enum ft_status st = ft_prep_pixels(&b->prep, &content, &pixels, err);
    ft_pixels_release(&pixels);
    return st;
}

static enum ft_status prepare(struct bench *b, size_t i, uint64_t round, struct ft_err *err)
{
    struct ft_content content = content_of(b, i);
    (void)round;
    return ft_prep_item(&b->prep, &content, b->row, err);
}

static enum ft_status augmented(struct bench *b, size_t i, uint64_t round, struct ft_err *err)
{
    struct ft_augment_draw draw;
    ft_augment_draw(&b->augment, &b->prep, &b->pixels[i], ft_rand_at(1, FT_RAND_AUGMENT, round), i, &draw);
    return ft_augment_row(&draw, &b->prep, &b->pixels[i], b->row, err);
}

static enum ft_status measure(struct bench *b, const char *what, work run, double seconds, struct ft_err *err)
{
    double began = ft_clock_seconds();
    double spent = 0;
    uint64_t done = 0;
    for (uint64_t round = 0; spent < seconds; round++) {
        for (size_t i = 0; i < b->count; i++) {
            FT_RETURN_IF_FAILED(run(b, i, round, err));
        }
        done += b->count;
        spent = ft_clock_seconds() - began;
    }
    printf("%-28s %8.1f images/s\n", what, (double)done / spent);
    return FT_OK;
}

static enum ft_status set_up(struct bench *b, char **argv, size_t count, struct ft_err *err)
{
    struct ft_json *options = NULL;
    FT_RETURN_IF_FAILED(ft_prep_infer((const int64_t[]){3, SIZE, SIZE}, 3, &b->prep, err));
    FT_RETURN_IF_FAILED(ft_json_parse(ft_bytes_of_text(argv[1]), &options, err));
    enum ft_status st = ft_prep_read(options, &b->prep, err);
    ft_json_free(options);
    if (st != FT_OK) {
        return st;
    }
    FT_RETURN_IF_FAILED(ft_new(count, sizeof *b->files, &b->files, err));
    FT_RETURN_IF_FAILED(ft_new(count, sizeof *b->pixels, &b->pixels, err));
    FT_RETURN_IF_FAILED(ft_new(ROW, sizeof *b->row, &b->row, err));
    for (b->count = 0; b->count < count; b->count++) {
        FT_RETURN_IF_FAILED(ft_file_read(argv[3 + b->count], FT_MAX_DOC_BYTES, &b->files[b->count], err));
        struct ft_content content = content_of(b, b->count);
        FT_RETURN_IF_FAILED(ft_prep_pixels(&b->prep, &content, &b->pixels[b->count], err));
    }
    return FT_OK;
}

static enum ft_status measure_augments(struct bench *b, double seconds, struct ft_err *err)
{
    static const char *const texts[] = {"light",
                                        "strong",
                                        "{\"flip\": 0.5}",
                                        "{\"crop\": [0.25, 1]}",
                                        "{\"brightness\": 0.4, \"contrast\": 0.4}",
                                        "{\"saturation\": 0.4}",
                                        "{\"hue\": 0.1}",
                                        "{\"blur\": 1}",
                                        "{\"rotate\": 15}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        FT_RETURN_IF_FAILED(ft_augment_parse(texts[i], &b->augment, err));
        FT_RETURN_IF_FAILED(measure(b, texts[i], augmented, seconds, err));
    }
    return FT_OK;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    struct bench b = {0};
    if (argc < 4) {
        (void)fprintf(stderr, "bench_prep OPTIONS SECONDS FILE...\n");
        return 2;
    }
    double seconds = strtod(argv[2], NULL);
    enum ft_status st = set_up(&b, argv, (size_t)argc - 3, &err);
    st = st == FT_OK ? measure(&b, "decode", decode, seconds, &err) : st;
    st = st == FT_OK ? measure(&b, "decode, resize, crop, floats", prepare, seconds, &err) : st;
    st = st == FT_OK ? measure_augments(&b, seconds / 3, &err) : st;
    if (st != FT_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    for (size_t i = 0; i < b.count; i++) {
        ft_buf_release(&b.files[i]);
        ft_pixels_release(&b.pixels[i]);
    }
    ft_free(b.files);
    ft_free(b.pixels);
    ft_free(b.row);
    return st == FT_OK ? 0 : 1;
}
