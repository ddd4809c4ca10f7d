#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/runs/internal.h"

/* The next whole line; a last line without its newline is still being written. */
static bool next_line(struct ft_bytes text, size_t *at, struct ft_bytes *line)
{
    if (*at >= text.size) {
        return false;
    }
    const uint8_t *start = text.data + *at;
    const uint8_t *end = memchr(start, '\n', text.size - *at);
    if (end == NULL) {
        return false;
    }
    *line = ft_bytes_of(start, (size_t)(end - start));
    *at += line->size + 1;
    return true;
}

/* Is it of that kind? Every line begins {"event": "KIND", as worker.c writes it. */
static bool is_kind(struct ft_bytes line, const char *kind)
{
    static const char start[] = "{\"event\": \"";
    size_t head = sizeof start - 1;
    size_t length = kind != NULL ? strlen(kind) : 0;
    return kind == NULL || (line.size > head + length && memcmp(line.data, start, head) == 0 &&
                            memcmp(line.data + head, kind, length) == 0 && line.data[head + length] == '"');
}

static enum ft_status collect(struct ft_bytes text, const char *kind, int64_t from, int64_t limit,
                              struct ft_json *array, struct ft_err *err)
{
    struct ft_bytes line;
    int64_t count = 0;
    for (size_t at = 0; from < 0 && next_line(text, &at, &line);) {
        count += is_kind(line, kind) ? 1 : 0;
    }
    int64_t first = from >= 0 ? from : (count + from > 0 ? count + from : 0);
    int64_t n = 0;
    for (size_t at = 0; limit > 0 && next_line(text, &at, &line);) {
        if (!is_kind(line, kind) || n++ < first) {
            continue;
        }
        struct ft_json *event = NULL;
        enum ft_status st = ft_json_parse(line, &event, err);
        if (st != FT_OK && st != FT_NOMEM) {
            continue; /* a full disk cut it in two; the rest of the journal still tells */
        }
        FT_RETURN_IF_FAILED(st);
        if (ft_json_kind(event) != FT_JSON_OBJECT) {
            ft_json_free(event);
            continue;
        }
        st = ft_json_set(event, "index", ft_json_of_int(n - 1), err);
        if (st != FT_OK) {
            ft_json_free(event);
            return st;
        }
        FT_RETURN_IF_FAILED(ft_json_push(array, event, err));
        limit--;
    }
    return FT_OK;
}

enum ft_status ft_runs_events(struct ft_runs *runs, const char *id, const char *kind, int64_t from,
                              int64_t limit, struct ft_json **events, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    enum ft_run_state state = FT_RUN_CREATED;
    char *path = NULL;
    struct ft_mapping map = {0};
    struct ft_json *array = NULL;
    *events = NULL;
    FT_TRY(ft_runs_state(runs, id, &state,
                         err)); /* also keeps strangers' paths out: the id is in the database */
    FT_TRY(ft_run_path(runs->data_dir, id, "events.jsonl", &path, err));
    array = ft_json_array();
    if (array == NULL) {
        st = FT_FAIL(err, NOMEM, "out of memory reading events");
        goto done;
    }
    if (ft_path_kind(path) == FT_PATH_FILE) { /* else the run has not begun */
        FT_TRY(ft_file_map(path, &map, err));
        FT_TRY(collect(map.bytes, kind, from, limit, array, err));
    }
    *events = array;
    array = NULL;
done:
    ft_free(path);
    ft_file_unmap(&map);
    ft_json_free(array);
    return st;
}
