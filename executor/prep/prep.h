/*
 * prep.h - from content (image file, tensor, vector) to one row of a model's input batch.
 *
 * A preprocessor is a row in a table (image, vector; text later): infer options from the model's input, read
 * and write them as JSON, turn one item into floats. Options are inferred from the input's shape and can be
 * overridden.
 *
 * image: decode (PNG, JPEG, WebP; or a tensor (H, W), (H, W, C), (C, H, W) of |u1 or float) -> turned as
 * EXIF says (option `exif`, on unless switched off: Pillow's ImageOps.exif_transpose()) -> RGB or grey as the
 * model wants -> resize (Pillow 13's / torchvision's antialiased filter on 8-bit pixels, bit for bit) ->
 * centre crop -> / 255 -> (x - mean) / std per channel -> CHW or HWC as the input's shape says. Float tensors
 * are taken as they are (no /255, no mean and std: finetuner/SPEC E.5) and must have the input's size; |u1
 * tensors are pixels. vector: a tensor with the input's number of elements per row, any numeric dtype,
 * converted to float. Thread-safety: const objects may be used by any number of threads.
 */
#ifndef FT_PREP_PREP_H
#define FT_PREP_PREP_H

#include <stdbool.h>

#include "executor/codec/content.h"
#include "executor/codec/json.h"
#include "executor/prep/pixels.h"

enum ft_prep_kind { FT_PREP_IMAGE, FT_PREP_VECTOR };
enum ft_resize {
    FT_RESIZE_EXACT, /* to height x width, aspect ratio given up: torchvision Resize((h, w)) */
    FT_RESIZE_SHORT, /* short side to `resize_to`, then centre crop: torchvision Resize(s), CenterCrop(h, w)
                      */
    FT_RESIZE_NONE
};

struct ft_prep { /* plain value, freely copied */
    enum ft_prep_kind kind;
    int rank; /* of one row as the model wants it, without the batch axis */
    int64_t dims[FT_MAX_RANK];
    /* image */
    int64_t channels, height, width;
    bool channels_last; /* the model's input is (N, H, W, C) */
    enum ft_resize resize;
    int64_t resize_to;
    enum ft_filter filter;
    float scale;           /* 1/255 */
    float mean[4], std[4]; /* per channel, after scale; default 0 and 1 */
    bool invert;           /* 255 - pixel: dark-on-light data for a light-on-dark model */
    bool exif;             /* image files are turned as their EXIF orientation says; default true */
    int64_t max_pixels;    /* of an image file, by its header, before it is decoded */
};

/* dims: one row of the model's input, without the batch axis. (C, H, W) or (H, W, C) with C in 1, 3 -> image;
 * anything else
 * -> vector. FT_UNSUPPORTED when an extent is unknown (0), saying which option gives it. */
FT_MUST_CHECK enum ft_status ft_prep_infer(const int64_t *dims, int rank, struct ft_prep *prep,
                                           struct ft_err *err);
/* image:
 * {"kind","preset","size","channels","layout","resize","resize_to","filter","scale","mean","std","invert",
 * "exif","max_pixels"},
 * where "preset" names a bundle of the others (ft_prep_presets_help()) over which the rest is read,
 * vector: {"kind", "shape"}. "size" is a number or [height, width]; mean and std one number or one per
 * channel. Unknown keys and bad values are FT_INVALID with what is accepted, and so are options that do not
 * fill the model's input. Reads over the values already in *prep, which stays as it was on failure. NULL
 * options only check. */
FT_MUST_CHECK enum ft_status ft_prep_read(const struct ft_json *options, struct ft_prep *prep,
                                          struct ft_err *err);
/* One line a preset: its name and what it stands for. */
FT_MUST_CHECK enum ft_status ft_prep_presets_help(struct ft_buf *out, struct ft_err *err);
/* What people forget, as a sentence; NULL: nothing. `said`: mean and std were given. */
const char *ft_prep_hint(const struct ft_prep *prep, bool said);
FT_MUST_CHECK enum ft_status ft_prep_write(const struct ft_prep *prep, struct ft_json **options,
                                           struct ft_err *err);
size_t ft_prep_elements(const struct ft_prep *prep); /* floats per row */
/* What an item is before it is resized: decoded, turned, in the model's channels, inverted if asked.
 * FT_INVALID: it has no pixels (a float tensor, a vector). */
FT_MUST_CHECK enum ft_status ft_prep_pixels(const struct ft_prep *prep, const struct ft_content *content,
                                            struct ft_pixels *pixels, struct ft_err *err);
/* One item into row[ft_prep_elements()]. Errors say what the item is and what was expected; the caller adds
 * where. */
FT_MUST_CHECK enum ft_status ft_prep_item(const struct ft_prep *prep, const struct ft_content *content,
                                          float *row, struct ft_err *err);
#endif
