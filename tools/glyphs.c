/*
 * glyphs - letters and digits in the fonts that Debian packages, as labelled pictures: class = character.
 *
 * Usage: glyphs OUT [FONT_FOLDER ...]      (default font folder: /usr/share/fonts)
 * Writes 32 x 32 grey PNGs, black on white, each glyph scaled so that its longer side fills all but a margin
 * and centred: OUT/train/<class>/<font>.png    42 characters, fonts of training families
 *   OUT/test/<class>/<font>.png     the same characters in held-out font families
 *   OUT/unseen/<class>/<font>.png   20 characters that are in neither, all fonts
 * Classes are named upper_A, lower_a, digit_3: safe on file systems that fold case. A font takes part when it
 * draws all 62 characters and does not draw them exactly as an earlier font does. Of the Noto families only
 * the Latin ones are taken: the others repeat Noto Sans. Deterministic for the same fonts.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ft2build.h>
#include FT_FREETYPE_H

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/digest.h"
#include "executor/codec/image.h"

enum { SIDE = 32, INK = 28, CHARACTERS = 62, RENDER = 128, TEST_FAMILY_EVERY = 6, MAX_FONTS = 4096 };

static const char characters[CHARACTERS + 1] =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/* Never trained on: digits, upper and lower case, easy and hard ones, among them look-alikes (0 O o, 1 l, 5
 * S). */
static const char unseen[] = "0157BEGMOQSadeglortw";

struct font {
    char *path;
    char *name;   /* file name without suffix */
    char *family; /* the name up to the first '-' or '_': what differs only in weight or slant stands before
                     it */
    uint8_t pixels[CHARACTERS][SIDE * SIDE];
    char digest[FT_SHA256_HEX];
};

struct fonts {
    struct font *items[MAX_FONTS];
    size_t count;
};

static bool wanted(const char *name)
{
    if (!ft_path_has_suffix(name, ".ttf") && !ft_path_has_suffix(name, ".otf")) {
        return false;
    }
    if (strncmp(name, "Noto", 4) != 0) {
        return true;
    }
    static const char *const latin[] = {"NotoSans-",        "NotoSerif-",        "NotoSansMono-",
                                        "NotoSansDisplay-", "NotoSerifDisplay-", "NotoMono-"};
    for (size_t i = 0; i < sizeof latin / sizeof latin[0]; i++) {
        if (strncmp(name, latin[i], strlen(latin[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Average the drawn bitmap down by INK / largest: a plain area filter. */
static void place(const FT_Bitmap *bitmap, int largest, uint8_t *cell)
{
    int rows = (int)bitmap->rows;
    int width = (int)bitmap->width;
    int out_rows = (rows * INK + largest / 2) / largest;
    int out_width = (width * INK + largest / 2) / largest;
    out_rows = out_rows < 1 ? 1 : out_rows;
    out_width = out_width < 1 ? 1 : out_width;
    int top = (SIDE - out_rows) / 2;
    int left = (SIDE - out_width) / 2;
    memset(cell, 255, SIDE * SIDE);
    for (int i = 0; i < out_rows * out_width; i++) {
        int y = i / out_width;
        int x = i % out_width;
        int y0 = y * rows / out_rows;
        int y1 = (y + 1) * rows / out_rows;
        int x0 = x * width / out_width;
        int x1 = (x + 1) * width / out_width;
        y1 = y1 > y0 ? y1 : y0 + 1;
        x1 = x1 > x0 ? x1 : x0 + 1;
        int sum = 0;
        for (int j = 0; j < (y1 - y0) * (x1 - x0); j++) {
            sum += bitmap->buffer[(y0 + j / (x1 - x0)) * bitmap->pitch + x0 + j % (x1 - x0)];
        }
        cell[(top + y) * SIDE + left + x] = (uint8_t)(255 - sum / ((y1 - y0) * (x1 - x0)));
    }
}

static bool render(FT_Face face, int c)
{
    FT_UInt index = FT_Get_Char_Index(face, (FT_ULong)characters[c]);
    if (index == 0 || FT_Load_Glyph(face, index, FT_LOAD_RENDER | FT_LOAD_NO_HINTING) != 0) {
        return false;
    }
    const FT_Bitmap *bitmap = &face->glyph->bitmap;
    return bitmap->rows > 0 && bitmap->width > 0 && bitmap->pixel_mode == FT_PIXEL_MODE_GRAY;
}

/* False: this font cannot draw all characters. */
static bool draw(FT_Face face, struct font *font)
{
    if (!FT_IS_SCALABLE(face) || FT_Select_Charmap(face, FT_ENCODING_UNICODE) != 0 ||
        FT_Set_Pixel_Sizes(face, 0, RENDER) != 0) {
        return false;
    }
    int largest = 1;
    for (int c = 0; c < CHARACTERS; c++) {
        if (!render(face, c)) {
            return false;
        }
        int rows = (int)face->glyph->bitmap.rows;
        int width = (int)face->glyph->bitmap.width;
        largest = rows > largest ? rows : largest;
        largest = width > largest ? width : largest;
    }
    for (int c = 0; c < CHARACTERS; c++) {
        if (!render(face, c)) {
            return false;
        }
        place(&face->glyph->bitmap, largest, font->pixels[c]);
    }
    ft_sha256_of(ft_bytes_of(font->pixels, sizeof font->pixels), font->digest);
    return true;
}

static void font_free(struct font *font)
{
    if (font != NULL) {
        ft_free(font->path);
        ft_free(font->name);
        ft_free(font->family);
        ft_free(font);
    }
}

static bool drawn_before(const struct fonts *fonts, const struct font *font)
{
    for (size_t i = 0; i < fonts->count; i++) {
        if (strcmp(fonts->items[i]->digest, font->digest) == 0 ||
            strcmp(fonts->items[i]->name, font->name) == 0) {
            return true;
        }
    }
    return false;
}

static enum ft_status add_font(FT_Library library, const char *path, struct fonts *fonts, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct font *font = NULL;
    FT_Face face = NULL;
    const char *base = ft_path_base(path);
    FT_TRY(ft_new(1, sizeof *font, &font, err));
    FT_TRY(ft_new_text(path, &font->path, err));
    FT_TRY(ft_new_text(base, &font->name, err));
    font->name[strlen(base) - strlen(".ttf")] = '\0';
    FT_TRY(ft_new_text(font->name, &font->family, err));
    font->family[strcspn(font->family, "-_")] = '\0';
    if (FT_New_Face(library, path, 0, &face) == 0 && draw(face, font) && !drawn_before(fonts, font)) {
        if (fonts->count == MAX_FONTS) {
            FT_TRY(FT_FAIL(err, LIMIT, "more than %d fonts", MAX_FONTS));
        }
        fonts->items[fonts->count++] = font;
        font = NULL;
    }
done:
    if (face != NULL) {
        (void)FT_Done_Face(face);
    }
    font_free(font);
    return st;
}

static enum ft_status walk(FT_Library library, const char *folder, int depth, struct fonts *fonts,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list list = {0};
    char *path = NULL;
    FT_TRY(ft_dir_list(folder, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        ft_free(path);
        path = NULL;
        FT_TRY(ft_path_join(folder, list.names[i], &path, err));
        enum ft_path_kind kind = ft_path_kind(path);
        if (kind == FT_PATH_DIR && depth < 8) {
            FT_TRY(walk(library, path, depth + 1, fonts, err));
        } else if (kind == FT_PATH_FILE && wanted(list.names[i])) {
            FT_TRY(add_font(library, path, fonts, err));
        }
    }
done:
    ft_free(path);
    ft_dir_list_release(&list);
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct font *const *)a)->name, (*(struct font *const *)b)->name);
}

static enum ft_status write_one(const char *out, const char *part, int c, const struct font *font,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf path = {0};
    struct ft_buf png = {0};
    char sign = characters[c];
    const char *kind = isdigit((unsigned char)sign)   ? "digit"
                       : isupper((unsigned char)sign) ? "upper"
                                                      : "lower";
    FT_TRY(ft_buf_printf(&path, err, "%s/%s/%s_%c", out, part, kind, sign));
    FT_TRY(ft_dir_make((const char *)path.data, err));
    FT_TRY(ft_buf_printf(&path, err, "/%s.png", font->name));
    FT_TRY(ft_png_encode(font->pixels[c], SIDE, SIDE, 1, &png, err));
    FILE *file = fopen((const char *)path.data, "wb"); /* thousands of small files: no fsync each */
    if (file == NULL || fwrite(png.data, 1, png.size, file) != png.size || fclose(file) != 0) {
        FT_TRY(FT_FAIL(err, IO, "cannot write %s", (const char *)path.data));
    }
done:
    ft_buf_release(&png);
    ft_buf_release(&path);
    return st;
}

static enum ft_status write_all(const char *out, const struct fonts *fonts, struct ft_err *err)
{
    size_t counts[3] = {0};
    static const char *const parts[3] = {"train", "test", "unseen"};
    size_t families = 0;
    size_t test_fonts = 0;
    for (size_t f = 0; f < fonts->count; f++) {
        const struct font *font = fonts->items[f];
        families += f == 0 || strcmp(font->family, fonts->items[f - 1]->family) != 0;
        bool held_out = families % TEST_FAMILY_EVERY == 4;
        test_fonts += held_out;
        for (int c = 0; c < CHARACTERS; c++) {
            int part = strchr(unseen, characters[c]) != NULL ? 2 : held_out;
            FT_RETURN_IF_FAILED(write_one(out, parts[part], c, font, err));
            counts[part]++;
        }
    }
    printf("%zu fonts of %zu families (%zu fonts held out): train %zu, test %zu, unseen %zu pictures\n",
           fonts->count, families, test_fonts, counts[0], counts[1], counts[2]);
    return FT_OK;
}

static enum ft_status run(int argc, char **argv, struct fonts *fonts, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    FT_Library library = NULL;
    if (FT_Init_FreeType(&library) != 0) {
        return FT_FAIL(err, INTERNAL, "FreeType does not start");
    }
    if (argc == 2) {
        FT_TRY(walk(library, "/usr/share/fonts", 0, fonts, err));
    }
    for (int i = 2; i < argc; i++) {
        FT_TRY(walk(library, argv[i], 0, fonts, err));
    }
    if (fonts->count == 0) {
        FT_TRY(FT_FAIL(err, NOT_FOUND, "no font that draws 0-9 A-Z a-z was found"));
    }
    qsort(fonts->items, fonts->count, sizeof fonts->items[0], by_name);
    FT_TRY(write_all(argv[1], fonts, err));
done:
    (void)FT_Done_FreeType(library);
    return st;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    struct fonts *fonts = NULL;
    if (argc < 2) {
        (void)fputs("usage: glyphs OUT [FONT_FOLDER ...]\n", stderr);
        return 2;
    }
    enum ft_status st = ft_new(1, sizeof *fonts, &fonts, &err);
    if (st == FT_OK) {
        st = run(argc, argv, fonts, &err);
    }
    for (size_t i = 0; fonts != NULL && i < fonts->count; i++) {
        font_free(fonts->items[i]);
    }
    ft_free(fonts);
    if (st != FT_OK) {
        (void)fprintf(stderr, "glyphs: %s\n", err.text);
    }
    return st == FT_OK ? 0 : 1;
}
