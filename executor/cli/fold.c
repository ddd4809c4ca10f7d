#include "executor/cli/fold.h"

#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"

enum { DEEPEST = 12, LONGEST_PERIOD = 64 };

/* ---- names */

/* Length of the first `depth` parts of an origin, the op's own part not counted. *parts: how many there are.
 */
static size_t prefix_length(const char *origin, int depth, int *parts)
{
    const char *last = strrchr(origin, '/');
    size_t end = last == NULL ? 0 : (size_t)(last - origin);
    size_t at = origin[0] == '/' ? 1 : 0;
    *parts = 0;
    while (at < end && *parts < depth) {
        at += strcspn(origin + at, "/");
        (*parts)++;
        if (at >= end || *parts == depth) {
            break;
        }
        at++;
    }
    return at < end ? at : end;
}

static bool same_part(const struct ft_layer *a, const struct ft_layer *b, int depth)
{
    int parts_a = 0;
    int parts_b = 0;
    size_t n = prefix_length(a->origin, depth, &parts_a);
    size_t m = prefix_length(b->origin, depth, &parts_b);
    return parts_a > 0 && parts_a == parts_b && n == m && strncmp(a->origin, b->origin, n) == 0;
}

const char *ft_fold_name(const struct ft_layer *layers, const struct ft_fold_line *line,
                         char out[FT_FOLD_NAME])
{
    const struct ft_layer *layer = &layers[line->first];
    int parts = 0;
    size_t n = prefix_length(layer->origin, line->depth, &parts);
    if (parts == 0) {
        const struct ft_layer *end = &layers[line->first + line->count - 1];
        (void)snprintf(out, FT_FOLD_NAME, line->count > 1 ? "%.38s .. %.38s" : "%.38s", layer->name,
                       end->name);
        return out;
    }
    size_t at = layer->origin[0] == '/' ? 1 : 0;
    /* torch writes /layer1/layer1.0: the first part says nothing that the second does not. */
    for (size_t next = at + strcspn(layer->origin + at, "/"); next < n;
         next = at + strcspn(layer->origin + at, "/")) {
        size_t size = next - at;
        if (strncmp(layer->origin + next + 1, layer->origin + at, size) != 0 ||
            layer->origin[next + 1 + size] != '.') {
            break;
        }
        at = next + 1;
    }
    (void)snprintf(out, FT_FOLD_NAME, "%.*s", (int)(n - at), layer->origin + at);
    return out;
}

const char *ft_fold_ops(const struct ft_layer *layers, const struct ft_fold_line *line, char out[FT_FOLD_OPS])
{
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < line->count; i++) {
        const char *op = layers[line->first + i].op;
        size_t same = 0;
        bool told = false;
        for (size_t k = 0; k < line->count; k++) {
            bool equal = strcmp(layers[line->first + k].op, op) == 0;
            told = told || (equal && k < i);
            same += equal;
        }
        if (told) {
            continue;
        }
        char number[24] = "";
        if (same > 1) {
            (void)snprintf(number, sizeof number, "%zu ", same);
        }
        if (at + strlen(number) + strlen(op) + sizeof ", , ..." > FT_FOLD_OPS) {
            memcpy(out + at, ", ...", sizeof ", ...");
            return out;
        }
        int n = snprintf(out + at, FT_FOLD_OPS - at, "%s%s%s", at > 0 ? ", " : "", number, op);
        at += n > 0 ? (size_t)n : 0;
    }
    return out;
}

/* ---- equal blocks */

static bool same_layer(const struct ft_layer *a, const struct ft_layer *b, bool strict)
{
    return strcmp(a->op, b->op) == 0 && a->trainable == b->trainable && a->cut_away == b->cut_away &&
           (a->params > 0) == (b->params > 0) &&
           (!strict || (a->params == b->params && ft_type_same_shape(&a->type, &b->type)));
}

static bool same_run(const struct ft_layer *a, const struct ft_layer *b, size_t count, bool strict)
{
    for (size_t i = 0; i < count; i++) {
        if (!same_layer(&a[i], &b[i], strict)) {
            return false;
        }
    }
    return true;
}

static void add_line(struct ft_fold *fold, const struct ft_layer *layers, struct ft_fold_line line,
                     bool strict)
{
    struct ft_fold_line *last = fold->n_lines > 0 ? &fold->lines[fold->n_lines - 1] : NULL;
    if (last != NULL && last->count == line.count && last->first + last->count * last->times == line.first &&
        same_run(&layers[last->first], &layers[line.first], line.count, strict)) {
        last->times++;
        return;
    }
    fold->lines[fold->n_lines++] = line;
}

static void fold_by_name(const struct ft_layer *layers, size_t n, int depth, bool strict,
                         struct ft_fold *fold)
{
    fold->n_lines = 0;
    for (size_t i = 0; i < n;) {
        size_t count = 1;
        while (i + count < n && layers[i].cut_away == layers[i + count].cut_away &&
               same_part(&layers[i], &layers[i + count], depth)) {
            count++;
        }
        add_line(fold, layers, (struct ft_fold_line){i, count, 1, depth}, strict);
        i += count;
    }
}

/* How often the period at i comes, and the period that covers most; 1 when nothing is repeated. */
static size_t best_period(const struct ft_layer *layers, size_t n, size_t i, bool strict, size_t *period)
{
    size_t best = 1;
    *period = 1;
    for (size_t p = 1; p <= LONGEST_PERIOD && i + 2 * p <= n; p++) {
        size_t times = 1;
        while (i + (times + 1) * p <= n && same_run(&layers[i], &layers[i + times * p], p, strict)) {
            times++;
        }
        if (times > 1 && times * p > best * *period) {
            best = times;
            *period = p;
        }
    }
    return best;
}

/* Repetitions become one line; so does what stands between them, if it is long. */
static void fold_by_period(const struct ft_layer *layers, size_t n, bool strict, struct ft_fold *fold)
{
    enum { SHORT = 3 };
    size_t begun = 0; /* of what is not repeated */
    fold->n_lines = 0;
    for (size_t i = 0; i <= n;) {
        size_t period = 1;
        size_t times = i < n ? best_period(layers, n, i, strict, &period) : 2;
        bool edge = i < n && i > begun && layers[i].cut_away != layers[begun].cut_away;
        if (times * period < 2 * SHORT && i < n && !edge) {
            i++;
            continue;
        }
        if (i - begun > SHORT) {
            fold->lines[fold->n_lines++] = (struct ft_fold_line){begun, i - begun, 1, 0};
        } else {
            for (; begun < i; begun++) {
                fold->lines[fold->n_lines++] = (struct ft_fold_line){begun, 1, 1, 0};
            }
        }
        begun = i;
        if (i == n) {
            break;
        }
        if (times * period >= 2 * SHORT) {
            fold->lines[fold->n_lines++] = (struct ft_fold_line){i, period, times, 0};
            i += times * period;
            begun = i;
        }
    }
}

enum ft_status ft_fold_layers(const struct ft_layer *layers, size_t n, size_t page, struct ft_fold *fold,
                              struct ft_err *err)
{
    memset(fold, 0, sizeof *fold);
    FT_RETURN_IF_FAILED(ft_new(n + 1, sizeof *fold->lines, &fold->lines, err));
    if (n <= page) {
        for (size_t i = 0; i < n; i++) {
            fold->lines[fold->n_lines++] = (struct ft_fold_line){i, 1, 1, 0};
        }
        return FT_OK;
    }
    /* Equal blocks of equal sizes as deep as fits; then blocks of the same ops in any size. */
    for (int loose = 0; loose < 2; loose++) {
        for (int depth = DEEPEST; depth > 0; depth--) {
            fold_by_name(layers, n, depth, loose == 0, fold);
            if (fold->n_lines <= page) {
                return FT_OK;
            }
        }
        fold_by_period(layers, n, loose == 0, fold);
        if (fold->n_lines <= page) {
            return FT_OK;
        }
    }
    return FT_OK;
}
