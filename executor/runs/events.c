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

/* The event of a line, which may be no event: *event stays NULL. */
static enum ft_status parse_event(struct ft_bytes line, int64_t index, struct ft_json **event,
                                  struct ft_err *err)
{
    struct ft_err bad = {0};
    *event = NULL;
    enum ft_status st = ft_json_parse(line, event, &bad);
    if (st != FT_OK) { /* a full disk cut it in two: the rest of the journal still tells */
        return st == FT_NOMEM ? FT_FAIL(err, NOMEM, "out of memory reading events") : FT_OK;
    }
    if (ft_json_kind(*event) == FT_JSON_OBJECT) {
        st = ft_json_set(*event, "index", ft_json_of_int(index), err);
    }
    if (st != FT_OK || ft_json_kind(*event) != FT_JSON_OBJECT) {
        ft_json_free(*event);
        *event = NULL;
    }
    return st;
}

enum ft_status ft_events_collect(struct ft_bytes text, const char *kind, struct ft_runs_place *place,
                                 int64_t first, int64_t limit, struct ft_json *array, struct ft_err *err)
{
    struct ft_bytes line;
    while (limit > 0 && next_line(text, &place->at, &line)) {
        struct ft_json *event = NULL;
        if (!is_kind(line, kind) || place->index++ < first) {
            continue;
        }
        FT_RETURN_IF_FAILED(parse_event(line, place->index - 1, &event, err));
        if (event != NULL) {
            FT_RETURN_IF_FAILED(ft_json_push(array, event, err));
            limit--;
        }
    }
    return FT_OK;
}

int64_t ft_events_count(struct ft_bytes text, const char *kind)
{
    struct ft_bytes line;
    int64_t count = 0;
    for (size_t at = 0; next_line(text, &at, &line);) {
        count += is_kind(line, kind) ? 1 : 0;
    }
    return count;
}

/* Mapped; empty when the run has not begun. */
static enum ft_status map_journal(struct ft_runs *runs, const char *id, struct ft_mapping *map,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    enum ft_run_state state = FT_RUN_CREATED;
    char *path = NULL;
    /* Also keeps strangers' paths out: the id is in the database. */
    FT_RETURN_IF_FAILED(ft_runs_state(runs, id, &state, err));
    FT_RETURN_IF_FAILED(ft_run_path(runs->data_dir, id, "events.jsonl", &path, err));
    if (ft_path_kind(path) == FT_PATH_FILE) {
        st = ft_file_map(path, map, err);
    }
    ft_free(path);
    return st;
}

struct wanted {
    const char *kind;    /* NULL: all */
    int64_t from, limit; /* from < 0: that many before the end, whatever the place says */
};

static enum ft_status read_events(struct ft_runs *runs, const char *id, struct wanted wanted,
                                  struct ft_runs_place *place, struct ft_json **events, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_mapping map = {0};
    struct ft_json *array = NULL;
    *events = NULL;
    FT_TRY(map_journal(runs, id, &map, err));
    array = ft_json_array();
    if (array == NULL) {
        st = FT_FAIL(err, NOMEM, "out of memory reading events");
        goto done;
    }
    if (wanted.from < 0) {
        wanted.from += ft_events_count(map.bytes, wanted.kind);
    }
    FT_TRY(ft_events_collect(map.bytes, wanted.kind, place, wanted.from, wanted.limit, array, err));
    *events = array;
    array = NULL;
done:
    ft_file_unmap(&map);
    ft_json_free(array);
    return st;
}

enum ft_status ft_runs_events(struct ft_runs *runs, const char *id, const char *kind, int64_t from,
                              int64_t limit, struct ft_json **events, struct ft_err *err)
{
    struct ft_runs_place start = {0, 0};
    return read_events(runs, id, (struct wanted){kind, from, limit}, &start, events, err);
}

enum ft_status ft_runs_events_on(struct ft_runs *runs, const char *id, struct ft_runs_place *place,
                                 int64_t from, int64_t limit, struct ft_json **events, struct ft_err *err)
{
    return read_events(runs, id, (struct wanted){NULL, from > 0 ? from : 0, limit}, place, events, err);
}
