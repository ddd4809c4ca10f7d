/*
 * hits - a picture of what retrieval finds: one row a query, its nearest neighbours before and after
 * fine-tuning.
 *
 * Usage: hits DATA BEFORE.npy AFTER.npy OUT.png      DATA is a folder of class folders; the .npy files are
 * what `finetuner encode MODEL DATA` wrote for it. The first column is the query, then TOP neighbours before,
 * a gap, and TOP after. A green bar below a picture says same class, a red one another class.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/image.h"
#include "executor/codec/npy.h"
#include "executor/eval/search.h"
#include "executor/store/dataset.h"

enum { TOP = 10, ROWS = 16, CELL = 32, BAR = 3, GAP = 4, COLUMNS = 1 + 2 * TOP };
enum {
    STEP_X = CELL + GAP,
    STEP_Y = CELL + BAR + GAP,
    WIDTH = COLUMNS * STEP_X + 6 * GAP,
    HEIGHT = ROWS * STEP_Y + GAP
};

struct sheet {
    uint8_t pixels[HEIGHT][WIDTH][3];
};

static void fill(struct sheet *sheet, int y, int x, int h, const uint8_t rgb[3])
{
    for (int i = 0; i < h * CELL; i++) {
        memcpy(sheet->pixels[y + i / CELL][x + i % CELL], rgb, 3);
    }
}

/* Nearest-pixel scaling into a cell: the glyphs are CELL pixels already, other pictures need no more here. */
static enum ft_status draw(struct sheet *sheet, const struct ft_dataset *data, size_t item, int y, int x,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf own = {0};
    struct ft_content content = {0};
    struct ft_image image = {0};
    FT_TRY(ft_dataset_content(data, item, &own, &content, err));
    FT_TRY(ft_image_decode(content.bytes, FT_MAX_IMAGE_PIXELS, &image, err));
    for (int i = 0; i < CELL * CELL; i++) {
        int64_t from_y = (int64_t)(i / CELL) * image.height / CELL;
        int64_t from_x = (int64_t)(i % CELL) * image.width / CELL;
        memcpy(sheet->pixels[y + i / CELL][x + i % CELL], image.pixels + (from_y * image.width + from_x) * 3,
               3);
    }
done:
    ft_image_release(&image);
    ft_buf_release(&own);
    return st;
}

static enum ft_status nearest(struct ft_device *device, const char *path, size_t count, uint32_t *ids,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    struct ft_npy npy;
    FT_TRY(ft_file_read(path, FT_MAX_MODEL_BYTES, &file, err));
    FT_TRY(ft_npy_parse(ft_buf_bytes(&file), &npy, err));
    if (strcmp(npy.dtype, "<f4") != 0 || npy.rank != 2 || npy.dims[0] != (int64_t)count) {
        FT_TRY(FT_FAIL(err, INVALID, "%s is not a float32 matrix of %zu rows", path, count));
    }
    float *rows = NULL;
    FT_TRY(ft_new(npy.data.size, 1, &rows, err));
    memcpy(rows, npy.data.data, npy.data.size); /* the search wants aligned floats */
    struct ft_search search = {.queries = rows,
                               .index = rows,
                               .n_queries = count,
                               .n_index = count,
                               .dim = npy.dims[1],
                               .k = TOP,
                               .metric = FT_METRIC_COSINE,
                               .exclude_self = true};
    st = ft_search_run(device, &search, ids, NULL, err);
    ft_free(rows);
done:
    ft_buf_release(&file);
    return st;
}

static enum ft_status draw_row(struct sheet *sheet, const struct ft_dataset *data,
                               const uint32_t *const ids[2], size_t query, int row, struct ft_err *err)
{
    static const uint8_t green[3] = {40, 160, 60};
    static const uint8_t red[3] = {210, 50, 40};
    int y = GAP + row * STEP_Y;
    FT_RETURN_IF_FAILED(draw(sheet, data, query, y, GAP, err));
    for (int c = 0; c < 2 * TOP; c++) {
        int side = c / TOP;
        uint32_t hit = ids[side][query * TOP + (size_t)(c % TOP)];
        int x = GAP + (1 + c) * STEP_X + (1 + side) * 2 * GAP;
        if (hit == UINT32_MAX) {
            continue;
        }
        FT_RETURN_IF_FAILED(draw(sheet, data, hit, y, x, err));
        bool same = ft_dataset_class_of(data, hit) == ft_dataset_class_of(data, query);
        fill(sheet, y + CELL, x, BAR, same ? green : red);
    }
    return FT_OK;
}

static enum ft_status run(char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *data = NULL;
    struct ft_device *device = NULL;
    struct sheet *sheet = NULL;
    uint32_t *ids[2] = {NULL, NULL};
    struct ft_buf png = {0};
    FT_TRY(ft_dataset_open(argv[1], true, &data, err));
    FT_TRY(ft_device_open("cpu", 0, &device, err));
    size_t count = ft_dataset_count(data);
    FT_TRY(ft_new(1, sizeof *sheet, &sheet, err));
    memset(sheet, 255, sizeof *sheet);
    for (int side = 0; side < 2; side++) {
        FT_TRY(ft_new(count, TOP * sizeof *ids[side], &ids[side], err));
        FT_TRY(nearest(device, argv[2 + side], count, ids[side], err));
    }
    const uint32_t *const both[2] = {ids[0], ids[1]};
    for (int row = 0; row < ROWS; row++) {
        FT_TRY(draw_row(sheet, data, both, (2 * (size_t)row + 1) * count / (2 * ROWS), row, err));
    }
    FT_TRY(ft_png_encode(&sheet->pixels[0][0][0], HEIGHT, WIDTH, 3, &png, err));
    FT_TRY(ft_file_write(argv[4], ft_buf_bytes(&png), err));
done:
    ft_buf_release(&png);
    ft_free(ids[1]);
    ft_free(ids[0]);
    ft_free(sheet);
    ft_device_close(device);
    ft_dataset_free(data);
    return st;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    if (argc != 5) {
        (void)fputs("usage: hits DATA BEFORE.npy AFTER.npy OUT.png\n", stderr);
        return 2;
    }
    if (run(argv, &err) != FT_OK) {
        (void)fprintf(stderr, "hits: %s\n", err.text);
        return 1;
    }
    return 0;
}
