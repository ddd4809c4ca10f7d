/* prep_probe DIMS OPTIONS FILE...: what ft_prep_item() makes of image files, for
 * tests/oracle/test_prep_oracle.py. DIMS is the model's input without the batch ("3,32,32"), OPTIONS is JSON.
 * Raw float32 rows go to stdout.
 *
 * prep_probe -: one operation of prep/pixels.h a line on stdin, "CHANNELS FILE OPERATION NUMBERS...", with
 * explicit parameters and nothing random: "3 a.png resize 2 40 30". For each, three int32 (height, width,
 * channels) and the pixels go to stdout. The operation "decode 1" turns by EXIF; a failure is three zeros. */
/* links: ft_prep ft_codec ft_base */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/image.h"
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

/* ---- one operation ---- */

static enum ft_status load(const char *path, int channels, bool turn, struct ft_pixels *pixels,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    struct ft_image image = {0};
    FT_TRY(ft_file_read(path, FT_MAX_DOC_BYTES, &file, err));
    FT_TRY(ft_image_decode(ft_buf_bytes(&file), FT_MAX_IMAGE_PIXELS, &image, err));
    if (turn) {
        FT_TRY(ft_image_upright(&image, err));
    }
    struct ft_pixels rgb = {image.pixels, image.height, image.width, 3};
    image.pixels = NULL;
    st = ft_pixels_channels(&rgb, channels, pixels, err);
    ft_pixels_release(&rgb);
done:
    ft_image_release(&image);
    ft_buf_release(&file);
    return st;
}

static enum ft_status new_size(const struct ft_pixels *p, const char *op, const double *v,
                               struct ft_pixels *out, struct ft_err *err)
{
    if (strcmp(op, "resize") == 0) {
        return ft_pixels_resize(p, (int64_t)v[1], (int64_t)v[2], (enum ft_filter)(int)v[0], out, err);
    }
    if (strcmp(op, "window") == 0) {
        return ft_pixels_window(p, (int64_t)v[0], (int64_t)v[1], (int64_t)v[2], (int64_t)v[3], out, err);
    }
    if (strcmp(op, "crop") == 0) {
        return ft_pixels_crop(p, (int64_t)v[0], (int64_t)v[1], out, err);
    }
    return strcmp(op, "rotate") == 0 ? ft_pixels_rotate(p, v[0], out, err)
                                     : FT_FAIL(err, USAGE, "no operation \"%s\"", op);
}

static enum ft_status change(struct ft_pixels *p, const char *op, const double *v, struct ft_err *err)
{
    static const struct {
        const char *name;
        void (*adjust)(struct ft_pixels *, double);
    } adjusts[] = {{"brightness", ft_pixels_brightness},
                   {"contrast", ft_pixels_contrast},
                   {"saturation", ft_pixels_saturation},
                   {"hue", ft_pixels_hue}};
    for (size_t i = 0; i < sizeof adjusts / sizeof *adjusts; i++) {
        if (strcmp(op, adjusts[i].name) == 0) {
            adjusts[i].adjust(p, v[0]);
            return FT_OK;
        }
    }
    if (strcmp(op, "flip") == 0) {
        ft_pixels_flip(p);
    } else if (strcmp(op, "grey") == 0) {
        ft_pixels_grey(p);
    } else if (strcmp(op, "blur") == 0) {
        return ft_pixels_blur(p, (int64_t)v[0], v[1], err);
    } else if (strcmp(op, "decode") != 0) {
        struct ft_pixels out = {0};
        FT_RETURN_IF_FAILED(new_size(p, op, v, &out, err));
        ft_pixels_release(p);
        *p = out;
    }
    return FT_OK;
}

static bool put(const struct ft_pixels *p)
{
    const int32_t head[3] = {(int32_t)p->height, (int32_t)p->width, (int32_t)p->channels};
    size_t n = ft_pixels_bytes(p);
    return fwrite(head, sizeof head, 1, stdout) == 1 && (n == 0 || fwrite(p->data, 1, n, stdout) == n);
}

static int run_lines(void)
{
    char line[1024];
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct ft_err err = {0};
        struct ft_pixels pixels = {0};
        char *rest = NULL;
        int channels = (int)strtol(line, &rest, 10);
        const char *path = strtok_r(rest, " \n", &rest);
        const char *op = strtok_r(rest, " \n", &rest);
        double v[4] = {0};
        for (int i = 0; i < 4; i++) {
            v[i] = strtod(rest, &rest);
        }
        if (path == NULL || op == NULL) {
            return 2;
        }
        bool turn = strcmp(op, "decode") == 0 && v[0] != 0;
        if (load(path, channels, turn, &pixels, &err) != FT_OK || change(&pixels, op, v, &err) != FT_OK) {
            (void)fprintf(stderr, "%s: %s\n", path, err.text);
            ft_pixels_release(&pixels);
        }
        bool written = put(&pixels);
        ft_pixels_release(&pixels);
        if (!written) {
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    struct ft_prep prep;
    if (argc == 2 && strcmp(argv[1], "-") == 0) {
        return run_lines();
    }
    if (argc < 4) {
        (void)fprintf(stderr, "prep_probe DIMS OPTIONS FILE... | prep_probe -\n");
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
