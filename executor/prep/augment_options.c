#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/codec/json.h"
#include "executor/prep/augment.h"

/* How an option's value is written. FACTOR: x means max(0, 1 - x) .. 1 + x, TURN: -x .. x, as in torchvision;
 * both also take [low, high] as PAIR does. */
enum kind { NUMBER, PAIR, FACTOR, TURN };

static const struct row {
    const char *key;
    enum kind kind;
    size_t at;
    double low, high; /* accepted, of each number */
    double start[2];  /* default */
    const char *help;
} rows[] = {
#define AT(field) offsetof(struct ft_augment, field)
    {"crop", PAIR, AT(crop), 0, 1, {0, 0}, "[0.08, 1]: a window of so much of the area (RandomResizedCrop)"},
    {"ratio", PAIR, AT(ratio), 0.01, 100, {0.75, 4.0 / 3.0}, "of its width to its height"},
    {"pad", NUMBER, AT(pad), 0, 4096, {0, 0}, "4: moved by up to so many pixels (RandomCrop with padding)"},
    {"rotate", TURN, AT(rotate), -180, 180, {0, 0}, "15: by up to so many degrees (RandomRotation)"},
    {"flip", NUMBER, AT(flip), 0, 1, {0, 0}, "0.5: mirrored so often (RandomHorizontalFlip)"},
    {"brightness", FACTOR, AT(brightness), 0, 100, {1, 1}, "0.4: times 0.6 to 1.4 (ColorJitter)"},
    {"contrast", FACTOR, AT(contrast), 0, 100, {1, 1}, "likewise"},
    {"saturation", FACTOR, AT(saturation), 0, 100, {1, 1}, "likewise"},
    {"hue", TURN, AT(hue), -0.5, 0.5, {0, 0}, "0.1: by up to a tenth of the circle (ColorJitter)"},
    {"grayscale", NUMBER, AT(greyscale), 0, 1, {0, 0}, "0.2: made grey so often (RandomGrayscale)"},
    {"blur", NUMBER, AT(blur), 0, 1, {0, 0}, "0.5: blurred so often (GaussianBlur)"},
    {"sigma", PAIR, AT(sigma), 0.01, 100, {0.1, 2.0}, "of the blur"},
    {"kernel", NUMBER, AT(kernel), 0, 255, {0, 0}, "of the blur, odd; 0: a tenth of the shorter side"},
    {"erase", NUMBER, AT(erase), 0, 1, {0, 0}, "0.25: a rectangle is blanked so often (RandomErasing)"},
    {"erase_scale", PAIR, AT(erase_scale), 0, 1, {0.02, 0.33}, "its share of the area"},
    {"erase_ratio", PAIR, AT(erase_ratio), 0.01, 100, {0.3, 3.3}, "of its height to its width"},
#undef AT
};
enum { ROWS = sizeof rows / sizeof *rows };

static const struct {
    const char *name;
    const char *options;
} presets[] = {
    {"none", "{}"},
    {"light", "{\"crop\": [0.8, 1], \"flip\": 0.5, \"brightness\": 0.1, \"contrast\": 0.1}"},
    /* Near the first view of SimCLR and of torchvision's reference training. */
    {"strong", "{\"crop\": [0.25, 1], \"flip\": 0.5, \"brightness\": 0.4, \"contrast\": 0.4, \"saturation\": "
               "0.4, \"hue\": 0.1, \"grayscale\": 0.1, \"blur\": 0.2, \"erase\": 0.25}"},
};
enum { PRESETS = sizeof presets / sizeof *presets };

static double *field(struct ft_augment *a, const struct row *row)
{
    return (double *)(void *)((char *)a + row->at);
}

static const double *value(const struct ft_augment *a, const struct row *row)
{
    return (const double *)(const void *)((const char *)a + row->at);
}

static enum ft_status bad(const struct row *row, struct ft_err *err)
{
    static const char *const wanted[] = {[NUMBER] = "a number",
                                         [PAIR] = "[low, high]",
                                         [FACTOR] = "a number or [low, high]",
                                         [TURN] = "a number or [low, high]"};
    return FT_FAIL(err, INVALID, "augment option \"%s\" must be %s, of %g to %g", row->key, wanted[row->kind],
                   row->low, row->high);
}

static bool number_of(const struct ft_json *json, const struct row *row, double *out)
{
    *out = ft_json_is_number(json) ? ft_json_real(json) : NAN;
    return *out >= row->low && *out <= row->high; /* false for NaN */
}

static enum ft_status read_row(const struct row *row, const struct ft_json *json, double *out,
                               struct ft_err *err)
{
    double v[2] = {0, 0};
    bool pair = row->kind != NUMBER && ft_json_kind(json) == FT_JSON_ARRAY && ft_json_count(json) == 2;
    if (pair) {
        if (!number_of(ft_json_at(json, 0), row, &v[0]) || !number_of(ft_json_at(json, 1), row, &v[1]) ||
            v[0] > v[1]) {
            return bad(row, err);
        }
    } else {
        if (row->kind == PAIR || !number_of(json, row, &v[0]) || (row->kind == TURN && v[0] < 0)) {
            return bad(row, err);
        }
        v[1] = row->kind == FACTOR ? 1 + v[0] : v[0];
        v[0] = row->kind == FACTOR ? (v[0] < 1 ? 1 - v[0] : 0) : row->kind == TURN ? -v[0] : v[0];
    }
    memcpy(out, v, (row->kind == NUMBER ? 1 : 2) * sizeof *v);
    return FT_OK;
}

static const struct row *find(const char *key)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(key, rows[i].key) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

static enum ft_status unknown(const char *key, struct ft_err *err)
{
    char all[300] = "preset";
    for (size_t i = 0; i < ROWS; i++) {
        size_t n = strlen(all);
        (void)snprintf(all + n, sizeof all - n, ", %s", rows[i].key);
    }
    return FT_FAIL(err, INVALID, "unknown augment option \"%.100s\"; accepted: %s", key, all);
}

static enum ft_status read_object(const struct ft_json *json, struct ft_augment *a, struct ft_err *err);

static enum ft_status start_from(const char *name, struct ft_augment *a, struct ft_err *err)
{
    for (size_t i = 0; i < PRESETS && name != NULL; i++) {
        if (strcmp(name, presets[i].name) == 0) {
            struct ft_json *json = NULL;
            FT_RETURN_IF_FAILED(ft_json_parse(ft_bytes_of_text(presets[i].options), &json, err));
            enum ft_status st = read_object(json, a, err);
            ft_json_free(json);
            return st;
        }
    }
    return FT_FAIL(err, INVALID,
                   "augment is \"%.100s\", wanted none, light, strong or a JSON object of options",
                   name != NULL ? name : "");
}

/* Over what is there. */
static enum ft_status read_object(const struct ft_json *json, struct ft_augment *a, struct ft_err *err)
{
    const struct ft_json *preset = ft_json_get(json, "preset");
    if (preset != NULL) {
        FT_RETURN_IF_FAILED(start_from(ft_json_text(preset, NULL), a, err));
    }
    for (struct ft_json_iter *it = ft_json_first(json); it != NULL; it = ft_json_next(json, it)) {
        const char *key = ft_json_key(it);
        const struct row *row = find(key);
        if (strcmp(key, "preset") == 0) {
            continue;
        }
        if (row == NULL) {
            return unknown(key, err);
        }
        FT_RETURN_IF_FAILED(read_row(row, ft_json_value(it), field(a, row), err));
    }
    return FT_OK;
}

static bool is(const double range[2], double low, double high)
{
    return range[0] == low && range[1] == high;
}

static bool changes_something(const struct ft_augment *a)
{
    return a->crop[1] > 0 || a->pad > 0 || !is(a->rotate, 0, 0) || a->flip > 0 || !is(a->brightness, 1, 1) ||
           !is(a->contrast, 1, 1) || !is(a->saturation, 1, 1) || !is(a->hue, 0, 0) || a->greyscale > 0 ||
           a->blur > 0 || a->erase > 0;
}

static enum ft_status settle(struct ft_augment *a, struct ft_err *err)
{
    if (a->pad != floor(a->pad) || a->kernel != floor(a->kernel) ||
        (a->kernel > 0 && fmod(a->kernel, 2) != 1)) {
        return FT_FAIL(err, INVALID,
                       "augment option \"pad\" must be a whole number, \"kernel\" an odd one or 0");
    }
    a->on = changes_something(a);
    return FT_OK;
}

enum ft_status ft_augment_parse(const char *text, struct ft_augment *augment, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_augment a = {0};
    struct ft_json *json = NULL;
    memset(augment, 0, sizeof *augment);
    for (size_t i = 0; i < ROWS; i++) {
        memcpy(field(&a, &rows[i]), rows[i].start, (rows[i].kind == NUMBER ? 1 : 2) * sizeof(double));
    }
    const char *p = text != NULL ? text : "none";
    if (strchr(p, '{') == NULL) {
        FT_TRY(start_from(p, &a, err));
    } else {
        if (ft_json_parse(ft_bytes_of_text(p), &json, err) != FT_OK) {
            st = ft_err_wrap(err, "augment");
            goto done;
        }
        FT_TRY(read_object(json, &a, err));
    }
    FT_TRY(settle(&a, err));
    *augment = a;
done:
    ft_json_free(json);
    return st;
}

static struct ft_json *json_of(const struct row *row, const double *v)
{
    struct ft_err ignored = {0};
    if (row->kind == NUMBER) {
        return ft_json_of_real(v[0]);
    }
    struct ft_json *pair = ft_json_array();
    if (pair == NULL || ft_json_push(pair, ft_json_of_real(v[0]), &ignored) != FT_OK ||
        ft_json_push(pair, ft_json_of_real(v[1]), &ignored) != FT_OK) {
        ft_json_free(pair);
        return NULL;
    }
    return pair;
}

enum ft_status ft_augment_write(const struct ft_augment *augment, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *o = ft_json_object();
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for options");
    }
    for (size_t i = 0; i < ROWS; i++) {
        const double *v = value(augment, &rows[i]);
        bool told = v[0] != rows[i].start[0] || (rows[i].kind != NUMBER && v[1] != rows[i].start[1]);
        if (told) {
            FT_TRY(ft_json_set(o, rows[i].key, json_of(&rows[i], v), err));
        }
    }
    FT_TRY(ft_json_write(o, 0, out, err));
done:
    ft_json_free(o);
    return st;
}

enum ft_status ft_augment_help(struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_text(
        out, "Options of --augment, in the order in which they are done (off unless given):\n", err));
    for (size_t i = 0; i < ROWS; i++) {
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "  %-18s %s\n", rows[i].key, rows[i].help));
    }
    for (size_t i = 1; i < PRESETS; i++) {
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "  %-18s = %s\n", presets[i].name, presets[i].options));
    }
    return FT_OK;
}
