/*
 * internal.h - what the preprocessors share. Private to prep/.
 */
#ifndef FT_PREP_INTERNAL_H
#define FT_PREP_INTERNAL_H

#include "executor/prep/prep.h"

/* Element i .. of a tensor's bytes as floats; every NumPy dtype the wire reads. FT_UNSUPPORTED: another
 * dtype; FT_INVALID: NaN, infinity or beyond a float. No allocation. */
FT_MUST_CHECK enum ft_status ft_content_floats(const struct ft_content *tensor, float *out, size_t count,
                                               struct ft_err *err);
/* "float32 (3, 32, 32)" of a tensor, "text", "blob"; cut when too long. Returns out. */
enum { FT_CONTENT_TEXT_BYTES = 160 };
const char *ft_content_shown(const struct ft_content *content, char out[FT_CONTENT_TEXT_BYTES]);

/* Set what the named preset says; NULL changes nothing. FT_INVALID lists the names. */
FT_MUST_CHECK enum ft_status ft_prep_preset(const struct ft_json *name, struct ft_prep *prep,
                                            struct ft_err *err);
/* To the model's size as the options say; *out is new, `in` stays. */
FT_MUST_CHECK enum ft_status ft_prep_fit(const struct ft_prep *prep, const struct ft_pixels *in,
                                         struct ft_pixels *out, struct ft_err *err);
/* Pixels of the model's size to its row: scaled, normalised, in its layout. */
void ft_prep_floats(const struct ft_prep *prep, const struct ft_pixels *pixels, float *row);

/* Options of a text, in and out. */
FT_MUST_CHECK enum ft_status ft_prep_text_key(const char *key, const struct ft_json *json,
                                              struct ft_prep *prep, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_prep_text_write(const struct ft_prep *prep, struct ft_json *o,
                                                struct ft_err *err);

FT_MUST_CHECK enum ft_status ft_prep_image_item(const struct ft_prep *prep, const struct ft_content *content,
                                                float *row, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_prep_vector_item(const struct ft_prep *prep, const struct ft_content *content,
                                                 float *row, struct ft_err *err);
#endif
