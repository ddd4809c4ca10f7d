/*
 * prep.h - from content (image file, tensor, vector, text) to one row of a model's input batch.
 *
 * A preprocessor is a row in a table (image, vector, text): infer options from the model's input, read
 * and write them as JSON, turn one item into floats. Options are inferred from the input's shape and can be
 * overridden.
 *
 * image: decode (PNG, JPEG, WebP; or a tensor (H, W), (H, W, C), (C, H, W) of |u1 or float) -> turned as
 * EXIF says (option `exif`, on unless switched off: Pillow's ImageOps.exif_transpose()) -> RGB or grey as the
 * model wants -> resize (Pillow 13's / torchvision's antialiased filter on 8-bit pixels, bit for bit) ->
 * centre crop -> / 255 -> (x - mean) / std per channel -> CHW or HWC as the input's shape says. Float tensors
 * are taken as they are (no /255, no mean and std: finetuner/SPEC E.5) and must have the input's size; |u1
 * tensors are pixels. vector: a tensor with the input's number of elements per row, any numeric dtype,
 * converted to float. text: the tokens of prefix + text, at most max_length with the special ones; a blob or
 * a file that is UTF-8 without zero bytes is a text too. Thread-safety: const objects may be used by any
 * number of threads.
 */
#ifndef FT_PREP_PREP_H
#define FT_PREP_PREP_H

#include <stdbool.h>

#include "executor/codec/content.h"
#include "executor/codec/json.h"
#include "executor/prep/pixels.h"
#include "executor/prep/tokenizer.h"

enum ft_prep_kind { FT_PREP_IMAGE, FT_PREP_VECTOR, FT_PREP_TEXT };
enum { FT_PREP_PREFIX = 256 };
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
    /* text; rank is 0 */
    const struct ft_tokenizer *tokenizer; /* borrowed: the model's */
    int64_t max_length, model_length;     /* tokens of a text; that the model takes at most */
    int64_t ids_end;                      /* rows of the model's table of tokens; 0: not known */
    char prefix[FT_PREP_PREFIX];          /* put before each text ("query: ") */
};

/* dims: one row of the model's input, without the batch axis. (C, H, W) or (H, W, C) with C in 1, 3 -> image;
 * anything else
 * -> vector. FT_UNSUPPORTED when an extent is unknown (0), saying which option gives it. */
FT_MUST_CHECK enum ft_status ft_prep_infer(const int64_t *dims, int rank, struct ft_prep *prep,
                                           struct ft_err *err);
/* For a model of texts: what it takes at most, no prefix. */
void ft_prep_infer_text(const struct ft_tokenizer *tokenizer, int64_t max_length, struct ft_prep *prep);
/* image:
 * {"kind","preset","size","channels","layout","resize","resize_to","filter","scale","mean","std","invert",
 * "exif","max_pixels"},
 * where "preset" names a bundle of the others (ft_prep_presets_help()) over which the rest is read,
 * vector: {"kind", "shape"}. text: {"kind", "max_length", "prefix"}. "size" is a number or [height, width];
 * mean and std one number or one per channel. Unknown keys and bad values are FT_INVALID with what is
 * accepted, and so are options that do not fill the model's input. Reads over the values already in *prep,
 * which stays as it was on failure. NULL options only check. */
FT_MUST_CHECK enum ft_status ft_prep_read(const struct ft_json *options, struct ft_prep *prep,
                                          struct ft_err *err);
/* One line a preset: its name and what it stands for. */
FT_MUST_CHECK enum ft_status ft_prep_presets_help(struct ft_buf *out, struct ft_err *err);
/* What people forget, as a sentence; NULL: nothing. `said`: mean and std were given. */
const char *ft_prep_hint(const struct ft_prep *prep, bool said);
FT_MUST_CHECK enum ft_status ft_prep_write(const struct ft_prep *prep, struct ft_json **options,
                                           struct ft_err *err);
size_t ft_prep_elements(const struct ft_prep *prep); /* floats per row; 0 of a text */
/* What an item is before it is resized: decoded, turned, in the model's channels, inverted if asked.
 * FT_INVALID: it has no pixels (a float tensor, a vector). */
FT_MUST_CHECK enum ft_status ft_prep_pixels(const struct ft_prep *prep, const struct ft_content *content,
                                            struct ft_pixels *pixels, struct ft_err *err);
/* One item into row[ft_prep_elements()]. Errors say what the item is and what was expected; the caller adds
 * where. */
FT_MUST_CHECK enum ft_status ft_prep_item(const struct ft_prep *prep, const struct ft_content *content,
                                          float *row, struct ft_err *err);
/* The same for texts: 1 .. max_length tokens; *tokens is zeroed or from an earlier call: ft_tokens_release().
 * FT_INVALID: it is no text, or has no tokens. */
FT_MUST_CHECK enum ft_status ft_prep_text(const struct ft_prep *prep, const struct ft_content *content,
                                          struct ft_tokens *tokens, struct ft_err *err);
#endif
