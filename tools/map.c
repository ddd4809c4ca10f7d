/*
 * map - a picture of an embedding before and after fine-tuning: every document a dot of its label's colour,
 * laid out by t-SNE.
 *
 * Usage: map DATA BEFORE.npy AFTER.npy OUT.png [FONT.ttf]      the .npy files are what `finetuner encode
 * MODEL DATA` wrote for DATA. Left before, right after, the labels below. Of many documents some are taken,
 * as many of each label as of others.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <ft2build.h>
#include FT_FREETYPE_H

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/image.h"
#include "executor/codec/npy.h"
#include "executor/store/dataset.h"
#include "tools/tsne.h"

enum {
    SIDE = 640,
    EDGE = 24,
    HEAD = 48,
    LINE = 30,
    COLUMNS = 5,
    ROWS_OF_LABELS = 6,
    DOT = 4,
    DOTS = 1500,
    COLOURS = 20
};
enum { WIDTH = 2 * SIDE + 3 * EDGE, HEIGHT = HEAD + SIDE + 2 * EDGE + ROWS_OF_LABELS * LINE };
enum { LETTERS = 18 }; /* pixels high */

struct sheet {
    FT_Face face;
    uint8_t pixels[HEIGHT][WIDTH][3];
};

/* matplotlib's tab20: the ten strong colours, then the ten light ones. */
static const uint8_t colours[COLOURS][3] = {
    {31, 119, 180},  {255, 127, 14},  {44, 160, 44},   {214, 39, 40},   {148, 103, 189},
    {140, 86, 75},   {227, 119, 194}, {127, 127, 127}, {188, 189, 34},  {23, 190, 207},
    {174, 199, 232}, {255, 187, 120}, {152, 223, 138}, {255, 152, 150}, {197, 176, 213},
    {196, 156, 148}, {247, 182, 210}, {199, 199, 199}, {219, 219, 141}, {158, 218, 229}};

static void blend(struct sheet *s, int y, int x, const uint8_t rgb[3], int share)
{
    if (y < 0 || y >= HEIGHT || x < 0 || x >= WIDTH) {
        return;
    }
    for (int c = 0; c < 3; c++) {
        s->pixels[y][x][c] = (uint8_t)((s->pixels[y][x][c] * (255 - share) + rgb[c] * share) / 255);
    }
}

static void dot(struct sheet *s, int y, int x, const uint8_t rgb[3])
{
    for (int i = -DOT; i <= DOT; i++) {
        for (int k = -DOT; k <= DOT; k++) {
            float inside = (float)DOT + 0.5F - sqrtf((float)(i * i + k * k));
            blend(s, y + i, x + k, rgb, inside >= 1.0F ? 230 : inside > 0.0F ? (int)(230.0F * inside) : 0);
        }
    }
}

static void letter(struct sheet *s, int y, int x)
{
    static const uint8_t black[3] = {30, 30, 30};
    const FT_GlyphSlot slot = s->face->glyph;
    for (int i = 0; i < (int)slot->bitmap.rows; i++) {
        for (int k = 0; k < (int)slot->bitmap.width; k++) {
            blend(s, y - slot->bitmap_top + i, x + slot->bitmap_left + k, black,
                  slot->bitmap.buffer[i * slot->bitmap.pitch + k]);
        }
    }
}

/* y: the line the letters stand on. Bytes beyond ASCII become question marks. */
static void write_text(struct sheet *s, int y, int x, const char *text)
{
    for (; *text != '\0'; text++) {
        FT_ULong c = (unsigned char)*text < 128 ? (FT_ULong)*text : '?';
        if (FT_Load_Char(s->face, c, FT_LOAD_RENDER) == 0) {
            letter(s, y, x);
            x += (int)(s->face->glyph->advance.x >> 6);
        }
    }
}

/* At most DOTS documents, spread over the labels: rounds over them, a document each. */
static size_t choose(const struct ft_dataset *data, uint32_t items[DOTS])
{
    size_t chosen = 0;
    bool more = true;
    for (size_t round = 0; more && chosen < DOTS; round++) {
        more = false;
        for (size_t c = 0; c < ft_dataset_classes(data) && chosen < DOTS; c++) {
            if (round < ft_dataset_class_count(data, c)) {
                items[chosen++] = ft_dataset_class_item(data, c, round);
                more = true;
            }
        }
    }
    return chosen;
}

static enum ft_status lay_out(const char *path, const struct ft_dataset *data, const uint32_t *items,
                              size_t count, float *xy, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    struct ft_npy npy;
    float *rows = NULL;
    FT_TRY(ft_file_read(path, FT_MAX_MODEL_BYTES, &file, err));
    FT_TRY(ft_npy_parse(ft_buf_bytes(&file), &npy, err));
    if (strcmp(npy.dtype, "<f4") != 0 || npy.rank != 2 || npy.dims[0] != (int64_t)ft_dataset_count(data)) {
        FT_TRY(FT_FAIL(err, INVALID, "%s is not a float32 matrix of %zu rows", path, ft_dataset_count(data)));
    }
    size_t row = (size_t)npy.dims[1] * sizeof *rows;
    FT_TRY(ft_new(count, row, &rows, err));
    for (size_t i = 0; i < count; i++) {
        memcpy((uint8_t *)rows + i * row, npy.data.data + items[i] * row, row);
    }
    FT_TRY(tsne(rows, count, npy.dims[1], xy, err));
done:
    ft_free(rows);
    ft_buf_release(&file);
    return st;
}

static void draw_side(struct sheet *s, const struct ft_dataset *data, const uint32_t *items, size_t count,
                      const float *xy, int left)
{
    float low[2] = {xy[0], xy[1]};
    float high[2] = {xy[0], xy[1]};
    for (size_t k = 0; k < 2 * count; k++) {
        low[k % 2] = xy[k] < low[k % 2] ? xy[k] : low[k % 2];
        high[k % 2] = xy[k] > high[k % 2] ? xy[k] : high[k % 2];
    }
    for (size_t i = 0; i < count; i++) {
        int at[2];
        for (size_t k = 0; k < 2; k++) {
            float part = high[k] > low[k] ? (xy[2 * i + k] - low[k]) / (high[k] - low[k]) : 0.5F;
            at[k] = DOT + (int)(part * (float)(SIDE - 2 * DOT));
        }
        dot(s, HEAD + at[1], left + at[0], colours[(size_t)ft_dataset_class_of(data, items[i]) % COLOURS]);
    }
}

static void draw_labels(struct sheet *s, const struct ft_dataset *data)
{
    for (size_t c = 0; c < ft_dataset_classes(data) && c < (size_t)COLUMNS * ROWS_OF_LABELS; c++) {
        int y = HEAD + SIDE + EDGE + LINE * ((int)c / COLUMNS);
        int x = EDGE + (WIDTH - EDGE) / COLUMNS * ((int)c % COLUMNS);
        dot(s, y + LINE / 2, x + DOT, colours[c % COLOURS]);
        write_text(s, y + LINE / 2 + LETTERS / 3, x + 4 * DOT, ft_dataset_class_name(data, c));
    }
}

static enum ft_status open_font(FT_Library *library, const char *path, FT_Face *face, struct ft_err *err)
{
    if (FT_Init_FreeType(library) != 0 || FT_New_Face(*library, path, 0, face) != 0 ||
        FT_Set_Pixel_Sizes(*face, 0, LETTERS) != 0) {
        return FT_FAIL(err, NOT_FOUND, "%s is not a font: give another as the fifth argument", path);
    }
    return FT_OK;
}

static enum ft_status run(char **argv, const char *font, struct ft_err *err)
{
    static const char *const titles[2] = {"before", "after"};
    enum ft_status st = FT_OK;
    struct ft_dataset *data = NULL;
    struct sheet *sheet = NULL;
    FT_Library library = NULL;
    uint32_t *items = NULL;
    float *xy = NULL;
    struct ft_buf png = {0};
    FT_TRY(ft_dataset_open(argv[1], true, &data, err));
    FT_TRY(ft_new(1, sizeof *sheet, &sheet, err));
    sheet->face = NULL;
    memset(sheet->pixels, 255, sizeof sheet->pixels);
    FT_TRY(open_font(&library, font, &sheet->face, err));
    FT_TRY(ft_new(DOTS, sizeof *items, &items, err));
    FT_TRY(ft_new((size_t)2 * DOTS, sizeof *xy, &xy, err));
    size_t count = choose(data, items);
    for (int side = 0; side < 2; side++) {
        int left = EDGE + side * (SIDE + EDGE);
        FT_TRY(lay_out(argv[2 + side], data, items, count, xy, err));
        draw_side(sheet, data, items, count, xy, left);
        write_text(sheet, HEAD - LETTERS, left + SIDE / 2 - LETTERS, titles[side]);
    }
    draw_labels(sheet, data);
    size_t lines = (ft_dataset_classes(data) + COLUMNS - 1) / COLUMNS;
    int height = HEAD + SIDE + 2 * EDGE + LINE * (lines < ROWS_OF_LABELS ? (int)lines : ROWS_OF_LABELS);
    FT_TRY(ft_png_encode(&sheet->pixels[0][0][0], height, WIDTH, 3, &png, err));
    FT_TRY(ft_file_write(argv[4], ft_buf_bytes(&png), err));
done:
    ft_buf_release(&png);
    ft_free(xy);
    ft_free(items);
    (void)FT_Done_FreeType(library); /* NULL is fine; faces go with it */
    ft_free(sheet);
    ft_dataset_free(data);
    return st;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    if (argc != 5 && argc != 6) {
        (void)fputs("usage: map DATA BEFORE.npy AFTER.npy OUT.png [FONT.ttf]\n", stderr);
        return 2;
    }
    if (run(argv, argc == 6 ? argv[5] : "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", &err) != FT_OK) {
        (void)fprintf(stderr, "map: %s\n", err.text);
        return 1;
    }
    return 0;
}
