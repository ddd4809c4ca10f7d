#include "executor/prep/prep.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/prep/internal.h"

/* One row a preprocessor. */
struct prep_row {
    const char *name;
    enum ft_status (*item)(const struct ft_prep *prep, const struct ft_content *content, float *row,
                           struct ft_err *err);
};
static const struct prep_row rows[] = {
    [FT_PREP_IMAGE] = {"image", ft_prep_image_item},
    [FT_PREP_VECTOR] = {"vector", ft_prep_vector_item},
    [FT_PREP_TEXT] = {"text", NULL}, /* its rows are ragged: ft_prep_text() */
};

static const char *const resizes[] = {
    [FT_RESIZE_EXACT] = "exact", [FT_RESIZE_SHORT] = "short", [FT_RESIZE_NONE] = "none"};
static const char *const filters[] = {
    [FT_FILTER_BILINEAR] = "bilinear", [FT_FILTER_BICUBIC] = "bicubic", [FT_FILTER_NEAREST] = "nearest",
    [FT_FILTER_BOX] = "box",           [FT_FILTER_HAMMING] = "hamming", [FT_FILTER_LANCZOS] = "lanczos"};
enum { FILTERS = sizeof filters / sizeof *filters };
static const char *const layouts[] = {"chw", "hwc"};

size_t ft_prep_elements(const struct ft_prep *prep)
{
    size_t n = prep->kind == FT_PREP_TEXT ? 0 : 1;
    for (int i = 0; i < prep->rank; i++) {
        n *= (size_t)prep->dims[i];
    }
    return n;
}

enum ft_status ft_prep_item(const struct ft_prep *prep, const struct ft_content *content, float *row,
                            struct ft_err *err)
{
    assert(rows[prep->kind].item != NULL);
    return rows[prep->kind].item(prep, content, row, err);
}

/* ---- inference ---- */

static bool product_fits(const int64_t *dims, int rank)
{
    size_t n = sizeof(float);
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0 || !ft_mul_size(n, dims[i] == 0 ? 1 : (size_t)dims[i], &n) || n > FT_MAX_DOC_BYTES) {
            return false;
        }
    }
    return true;
}

static void set_image_defaults(struct ft_prep *p)
{
    p->kind = FT_PREP_IMAGE;
    p->resize = FT_RESIZE_EXACT;
    p->filter = FT_FILTER_BILINEAR;
    p->scale = 1.0F / 255.0F;
    p->exif = true;
    p->max_pixels = FT_MAX_IMAGE_PIXELS;
    for (int k = 0; k < 4; k++) {
        p->mean[k] = 0.0F;
        p->std[k] = 1.0F;
    }
}

static bool is_channels(int64_t n)
{
    return n == 1 || n == 3;
}

enum ft_status ft_prep_infer(const int64_t *dims, int rank, struct ft_prep *prep, struct ft_err *err)
{
    *prep = (struct ft_prep){.kind = FT_PREP_VECTOR, .rank = rank};
    assert(rank >= 0);
    if (rank > FT_MAX_RANK || !product_fits(dims, rank)) {
        *prep = (struct ft_prep){0};
        return FT_FAIL(err, LIMIT, "one row of the model's input is too large");
    }
    bool known = true;
    for (int i = 0; i < rank; i++) {
        prep->dims[i] = dims[i];
        known = known && dims[i] > 0;
    }
    if (rank == 3 && (is_channels(dims[0]) || is_channels(dims[2]))) {
        set_image_defaults(prep);
        prep->channels_last = !is_channels(dims[0]);
        prep->channels = prep->channels_last ? dims[2] : dims[0];
        prep->height = prep->channels_last ? dims[0] : dims[1];
        prep->width = prep->channels_last ? dims[1] : dims[2];
    }
    if (!known) {
        return FT_FAIL(err, UNSUPPORTED,
                       "the model's input has no fixed %s; give the preprocess option \"%s\"",
                       prep->kind == FT_PREP_IMAGE ? "height and width" : "shape",
                       prep->kind == FT_PREP_IMAGE ? "size" : "shape");
    }
    return FT_OK;
}

/* ---- options in ---- */

static enum ft_status bad(const char *key, const char *wanted, struct ft_err *err)
{
    return FT_FAIL(err, INVALID, "preprocess option \"%s\" must be %s", key, wanted);
}

/* The index of `json`'s text among the names. */
static bool one_of(const struct ft_json *json, const char *const *names, size_t count, size_t *which)
{
    const char *text = ft_json_text(json, NULL);
    for (size_t i = 0; text != NULL && i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            *which = i;
            return true;
        }
    }
    return false;
}

static bool extent(const struct ft_json *json, int64_t *out)
{
    int64_t v = ft_json_is_integral(json) ? ft_json_int(json) : 0;
    if (v < 1 || v > 65536) {
        return false;
    }
    *out = v;
    return true;
}

static enum ft_status read_size(const struct ft_json *json, struct ft_prep *p, struct ft_err *err)
{
    bool pair = ft_json_kind(json) == FT_JSON_ARRAY && ft_json_count(json) == 2;
    if (!extent(pair ? ft_json_at(json, 0) : json, &p->height) ||
        !extent(pair ? ft_json_at(json, 1) : json, &p->width)) {
        return bad("size", "one number or [height, width], each 1 to 65536", err);
    }
    return FT_OK;
}

static enum ft_status read_shape(const struct ft_json *json, struct ft_prep *p, struct ft_err *err)
{
    size_t rank = ft_json_count(json);
    if (ft_json_kind(json) != FT_JSON_ARRAY || rank > FT_MAX_RANK || (int)rank != p->rank) {
        return bad("shape", "the extents of one row, as many as the model's input has", err);
    }
    for (size_t i = 0; i < rank; i++) {
        const struct ft_json *item = ft_json_at(json, i);
        int64_t v = ft_json_is_integral(item) ? ft_json_int(item) : 0;
        if (v < 1 || (p->dims[i] != 0 && p->dims[i] != v)) {
            return bad("shape", "numbers of 1 and more that agree with the model's input", err);
        }
        p->dims[i] = v;
    }
    return FT_OK;
}

/* One number for all channels, or one for each. */
static enum ft_status read_channel_values(const char *key, const struct ft_json *json, float out[4],
                                          bool positive, struct ft_err *err)
{
    size_t n = ft_json_kind(json) == FT_JSON_ARRAY ? ft_json_count(json) : 0;
    const char *wanted =
        positive ? "one number above 0 or one for each channel" : "one number or one for each channel";
    if (n > 4 || (n == 0 && !ft_json_is_number(json))) {
        return bad(key, wanted, err);
    }
    for (size_t k = 0; k < 4; k++) {
        const struct ft_json *item = n == 0 ? json : ft_json_at(json, k < n ? k : n - 1);
        float v = ft_json_is_number(item) ? (float)ft_json_real(item) : NAN;
        if (!isfinite(v) || (positive && v <= 0.0F)) {
            return bad(key, wanted, err);
        }
        out[k] = v;
    }
    return FT_OK;
}

/* The number of values must be 1 or the channels; known only once all keys were read. */
static enum ft_status check_channel_counts(const struct ft_json *options, const struct ft_prep *p,
                                           struct ft_err *err)
{
    static const char *const keys[] = {"mean", "std"};
    for (size_t i = 0; i < 2; i++) {
        const struct ft_json *json = ft_json_get(options, keys[i]);
        size_t n = ft_json_kind(json) == FT_JSON_ARRAY ? ft_json_count(json) : 1;
        if (n != 1 && n != (size_t)p->channels) {
            return FT_FAIL(err, INVALID, "preprocess option \"%s\" has %zu values for %lld channels", keys[i],
                           n, (long long)p->channels);
        }
    }
    return FT_OK;
}

static enum ft_status read_choice(const char *key, const struct ft_json *json, struct ft_prep *p,
                                  struct ft_err *err)
{
    size_t which = 0;
    if (strcmp(key, "resize") == 0) {
        if (!one_of(json, resizes, 3, &which)) {
            return bad(key, "\"exact\", \"short\" or \"none\"", err);
        }
        p->resize = (enum ft_resize)which;
    } else if (strcmp(key, "filter") == 0) {
        if (!one_of(json, filters, FILTERS, &which)) {
            return bad(key, "\"bilinear\", \"bicubic\", \"nearest\", \"box\", \"hamming\" or \"lanczos\"",
                       err);
        }
        p->filter = (enum ft_filter)which;
    } else {
        if (!one_of(json, layouts, 2, &which)) {
            return bad(key, "\"chw\" or \"hwc\"", err);
        }
        p->channels_last = which == 1;
    }
    return FT_OK;
}

static enum ft_status read_number(const char *key, const struct ft_json *json, struct ft_prep *p,
                                  struct ft_err *err)
{
    if (strcmp(key, "channels") == 0) {
        int64_t v = ft_json_is_integral(json) ? ft_json_int(json) : 0;
        if (!is_channels(v)) {
            return bad(key, "1 or 3", err);
        }
        p->channels = v;
        return FT_OK;
    }
    if (strcmp(key, "resize_to") == 0) {
        return extent(json, &p->resize_to) ? FT_OK : bad(key, "a number of pixels, 1 to 65536", err);
    }
    if (strcmp(key, "max_pixels") == 0) {
        int64_t n = ft_json_is_integral(json) ? ft_json_int(json) : 0;
        if (n < 1 || n > FT_MAX_IMAGE_PIXELS) {
            return FT_FAIL(err, INVALID, "preprocess option \"max_pixels\" must be 1 to %d",
                           FT_MAX_IMAGE_PIXELS);
        }
        p->max_pixels = n;
        return FT_OK;
    }
    float v = ft_json_is_number(json) ? (float)ft_json_real(json) : 0.0F;
    if (!isfinite(v) || v <= 0.0F) {
        return bad(key, "a number above 0", err);
    }
    p->scale = v;
    return FT_OK;
}

static bool is_in(const char *key, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(key, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static enum ft_status read_image_key(const char *key, const struct ft_json *json, struct ft_prep *p,
                                     struct ft_err *err)
{
    static const char *const choices[] = {"resize", "filter", "layout"};
    static const char *const numbers[] = {"channels", "resize_to", "scale", "max_pixels"};
    if (is_in(key, choices, 3)) {
        return read_choice(key, json, p, err);
    }
    if (is_in(key, numbers, 4)) {
        return read_number(key, json, p, err);
    }
    if (strcmp(key, "size") == 0) {
        return read_size(json, p, err);
    }
    if (strcmp(key, "mean") == 0) {
        return read_channel_values(key, json, p->mean, false, err);
    }
    if (strcmp(key, "std") == 0) {
        return read_channel_values(key, json, p->std, true, err);
    }
    if (strcmp(key, "invert") == 0 || strcmp(key, "exif") == 0) {
        if (ft_json_kind(json) != FT_JSON_BOOL) {
            return bad(key, "true or false", err);
        }
        *(key[0] == 'i' ? &p->invert : &p->exif) = ft_json_bool(json);
        return FT_OK;
    }
    return FT_FAIL(err, INVALID,
                   "unknown preprocess option \"%.100s\" of an image; accepted: kind, size, channels, "
                   "layout, resize, resize_to, filter, scale, mean, std, invert, exif, max_pixels, preset",
                   key);
}

static enum ft_status read_kind(const struct ft_json *options, struct ft_prep *p, struct ft_err *err)
{
    static const char *const names[] = {"image", "vector", "text"};
    const struct ft_json *json = ft_json_get(options, "kind");
    size_t which = 0;
    if (json == NULL) {
        return FT_OK;
    }
    if (!one_of(json, names, 3, &which)) {
        return bad("kind", "\"image\", \"vector\" or \"text\"", err);
    }
    enum ft_prep_kind kind = (enum ft_prep_kind)which;
    if ((kind == FT_PREP_TEXT) != (p->kind == FT_PREP_TEXT)) {
        return FT_FAIL(err, INVALID, "preprocess option \"kind\" is \"%s\", but the model takes %s",
                       names[which], p->kind == FT_PREP_TEXT ? "texts" : "no texts");
    }
    if (kind == FT_PREP_IMAGE && p->kind != FT_PREP_IMAGE) {
        set_image_defaults(p);
    }
    p->kind = kind;
    return FT_OK;
}

/* The image must fill the model's row; free extents of the row are taken from it. */
static enum ft_status settle_image(struct ft_prep *p, struct ft_err *err)
{
    if (p->channels == 0 || p->height == 0 || p->width == 0) {
        return FT_FAIL(err, INVALID,
                       "preprocess options \"size\" and \"channels\" must be given for this model");
    }
    int64_t want[3] = {p->channels_last ? p->height : p->channels, p->channels_last ? p->width : p->height,
                       p->channels_last ? p->channels : p->width};
    if (!product_fits(want, 3)) {
        return FT_FAIL(err, LIMIT, "an image of %lld x %lld is too large", (long long)p->height,
                       (long long)p->width);
    }
    for (int i = 0; p->rank == 3 && i < 3; i++) {
        p->dims[i] = p->dims[i] == 0 ? want[i] : p->dims[i];
        if (p->dims[i] != want[i]) {
            return FT_FAIL(err, INVALID,
                           "the model's input is %lld x %lld x %lld; size, channels or layout do not agree",
                           (long long)p->dims[0], (long long)p->dims[1], (long long)p->dims[2]);
        }
    }
    if (ft_prep_elements(p) != (size_t)(want[0] * want[1] * want[2])) {
        return FT_FAIL(err, INVALID,
                       "the model's input has %zu numbers, an image of %lld x %lld x %lld does not fill it",
                       ft_prep_elements(p), (long long)p->channels, (long long)p->height,
                       (long long)p->width);
    }
    if (p->resize == FT_RESIZE_SHORT && p->resize_to == 0) {
        p->resize_to = p->height < p->width ? p->height : p->width;
    }
    return FT_OK;
}

static enum ft_status settle(const struct ft_json *options, struct ft_prep *p, struct ft_err *err)
{
    if (p->kind == FT_PREP_IMAGE) {
        FT_RETURN_IF_FAILED(check_channel_counts(options, p, err));
        return settle_image(p, err);
    }
    if (p->kind == FT_PREP_TEXT) {
        return FT_OK;
    }
    for (int i = 0; i < p->rank; i++) {
        if (p->dims[i] == 0) {
            return FT_FAIL(err, INVALID, "preprocess option \"shape\" must be given for this model");
        }
    }
    return product_fits(p->dims, p->rank) ? FT_OK
                                          : FT_FAIL(err, LIMIT, "one row of the model's input is too large");
}

enum ft_status ft_prep_read(const struct ft_json *options, struct ft_prep *prep, struct ft_err *err)
{
    struct ft_prep p = *prep;
    if (options != NULL && ft_json_kind(options) != FT_JSON_OBJECT) {
        return FT_FAIL(err, INVALID, "preprocess options must be a JSON object");
    }
    FT_RETURN_IF_FAILED(read_kind(options, &p, err));
    FT_RETURN_IF_FAILED(ft_prep_preset(ft_json_get(options, "preset"), &p, err));
    for (struct ft_json_iter *it = ft_json_first(options); it != NULL; it = ft_json_next(options, it)) {
        const char *key = ft_json_key(it);
        if (strcmp(key, "kind") == 0 || strcmp(key, "preset") == 0) {
            continue;
        }
        if (p.kind == FT_PREP_IMAGE) {
            FT_RETURN_IF_FAILED(read_image_key(key, ft_json_value(it), &p, err));
        } else if (p.kind == FT_PREP_TEXT) {
            FT_RETURN_IF_FAILED(ft_prep_text_key(key, ft_json_value(it), &p, err));
        } else if (strcmp(key, "shape") == 0) {
            FT_RETURN_IF_FAILED(read_shape(ft_json_value(it), &p, err));
        } else {
            return FT_FAIL(err, INVALID,
                           "unknown preprocess option \"%.100s\" of a vector; accepted: kind, shape", key);
        }
    }
    FT_RETURN_IF_FAILED(settle(options, &p, err));
    *prep = p;
    return FT_OK;
}

/* ---- options out ---- */

static enum ft_status set_reals(struct ft_json *object, const char *key, const float *values, int64_t count,
                                struct ft_err *err)
{
    struct ft_json *array = ft_json_array();
    for (int64_t i = 0; i < count; i++) {
        if (array == NULL || ft_json_push(array, ft_json_of_real((double)values[i]), err) != FT_OK) {
            ft_json_free(array);
            return FT_FAIL(err, NOMEM, "no memory for options");
        }
    }
    return ft_json_set(object, key, array, err);
}

static enum ft_status set_integers(struct ft_json *object, const char *key, const int64_t *values, int count,
                                   struct ft_err *err)
{
    struct ft_json *array = ft_json_array();
    for (int i = 0; i < count; i++) {
        if (array == NULL || ft_json_push(array, ft_json_of_int(values[i]), err) != FT_OK) {
            ft_json_free(array);
            return FT_FAIL(err, NOMEM, "no memory for options");
        }
    }
    return ft_json_set(object, key, array, err);
}

static enum ft_status write_image(const struct ft_prep *p, struct ft_json *o, struct ft_err *err)
{
    const int64_t size[2] = {p->height, p->width};
    FT_RETURN_IF_FAILED(set_integers(o, "size", size, 2, err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "channels", ft_json_of_int(p->channels), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "layout", ft_json_of_text(layouts[p->channels_last ? 1 : 0]), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "resize", ft_json_of_text(resizes[p->resize]), err));
    if (p->resize == FT_RESIZE_SHORT) {
        FT_RETURN_IF_FAILED(ft_json_set(o, "resize_to", ft_json_of_int(p->resize_to), err));
    }
    FT_RETURN_IF_FAILED(ft_json_set(o, "filter", ft_json_of_text(filters[p->filter]), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "scale", ft_json_of_real((double)p->scale), err));
    FT_RETURN_IF_FAILED(set_reals(o, "mean", p->mean, p->channels, err));
    FT_RETURN_IF_FAILED(set_reals(o, "std", p->std, p->channels, err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "invert", ft_json_of_bool(p->invert), err));
    FT_RETURN_IF_FAILED(ft_json_set(o, "exif", ft_json_of_bool(p->exif), err));
    return ft_json_set(o, "max_pixels", ft_json_of_int(p->max_pixels), err);
}

enum ft_status ft_prep_write(const struct ft_prep *prep, struct ft_json **options, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *o = ft_json_object();
    *options = NULL;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for options");
    }
    FT_TRY(ft_json_set(o, "kind", ft_json_of_text(rows[prep->kind].name), err));
    if (prep->kind == FT_PREP_IMAGE) {
        FT_TRY(write_image(prep, o, err));
    } else if (prep->kind == FT_PREP_TEXT) {
        FT_TRY(ft_prep_text_write(prep, o, err));
    } else {
        FT_TRY(set_integers(o, "shape", prep->dims, prep->rank, err));
    }
    *options = o;
    o = NULL;
done:
    ft_json_free(o);
    return st;
}
