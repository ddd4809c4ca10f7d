/* A run of a service, watched from here until it ends; what is told of it then. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "executor/cli/remote.h"
#include "executor/cli/screen.h"

struct watch {
    struct ft_remote *remote;
    const char *id;
    int64_t next;    /* event */
    uint64_t events; /* that came */
    struct ft_screen screen;
    struct ft_json *run; /* as it ended */
};

static void show(struct watch *w, const struct ft_json *event)
{
    const struct ft_fit_events tell = ft_screen_events(&w->screen);
    const struct ft_json *e = ft_json_get(event, "progress");
    if (e != NULL) {
        const struct ft_fit_progress p = {
            .epoch = ft_json_int(ft_json_get(e, "epoch")),
            .epochs = ft_json_int(ft_json_get(e, "epochs")),
            .step = ft_json_int(ft_json_get(e, "step")),
            .steps = ft_json_int(ft_json_get(e, "steps")),
            .loss = ft_json_real(ft_json_get(e, "loss")),
            .samples_per_second = ft_json_real(ft_json_get(e, "samples_per_second")),
            .eta_seconds = ft_json_real(ft_json_get(e, "eta_seconds")),
            .active_share = ft_json_real(ft_json_get(e, "active_share")),
        };
        tell.progress(tell.arg, &p);
    }
    e = ft_json_get(event, "stage");
    if (e != NULL) {
        tell.stage(tell.arg, ft_v1_text(e, "title"), ft_json_int(ft_json_get(e, "done")),
                   ft_json_int(ft_json_get(e, "total")), ft_json_real(ft_json_get(e, "eta_seconds")));
    }
    e = ft_json_get(event, "note");
    if (e != NULL) {
        tell.note(tell.arg, ft_v1_text(e, "text"));
    }
    e = ft_json_get(event, "metrics");
    if (e != NULL) {
        tell.metrics(tell.arg, ft_v1_text(e, "when"), ft_json_int(ft_json_get(e, "epoch")),
                     ft_json_get(e, "metrics"));
    }
}

static enum ft_status take(void *arg, struct ft_bytes message, struct ft_err *err)
{
    struct watch *w = arg;
    struct ft_json *event = NULL;
    struct ft_v1_fault fault = {{0}, 0};
    FT_RETURN_IF_FAILED(ft_v1_read(FT_V1_EVENT, message, &event, &fault, err));
    w->remote->reached = true;
    w->next = ft_json_int(ft_json_get(event, "index")) + 1;
    w->events++;
    show(w, event);
    enum ft_status st = FT_OK;
    const struct ft_json *run = ft_json_get(event, "run");
    if (run != NULL) {
        ft_json_free(w->run);
        w->run = ft_json_copy(run);
        st = w->run != NULL ? FT_OK : FT_FAIL(err, NOMEM, "out of memory watching");
    }
    ft_json_free(event);
    return st;
}

static uint64_t far(const void *watch)
{
    return ((const struct watch *)watch)->events;
}

static enum ft_status watch_stream(void *arg, struct ft_err *err)
{
    struct watch *w = arg;
    char stopped[160];
    (void)snprintf(stopped, sizeof stopped, "not watched any longer; run %.100s goes on", w->id);
    const struct ft_remote_question events = {.method = "Watch",
                                              .type = FT_V1_WATCH_REQUEST,
                                              .run = w->id,
                                              .from_key = "from",
                                              .from = w->next,
                                              .stopped = stopped,
                                              .take = take,
                                              .arg = w};
    FT_RETURN_IF_FAILED(ft_remote_follow(w->remote, &events, err));
    return w->run != NULL ? FT_OK
                          : FT_FAIL(err, UNAVAILABLE, "the service ended the stream before the run's end");
}

enum ft_status ft_remote_watch(struct ft_remote *remote, const char *id, int64_t from, bool quiet, bool json,
                               struct ft_json **run, struct ft_err *err)
{
    struct watch w = {.remote = remote, .id = id, .next = from};
    *run = NULL;
    ft_screen_init(&w.screen, quiet, json);
    const struct ft_remote_work work = {watch_stream, far, &w, NULL, &w.screen.bar};
    enum ft_status st = ft_remote_keep_on(remote, &work, NULL, err);
    if (st != FT_OK) {
        ft_json_free(w.run);
        return st;
    }
    *run = w.run;
    return FT_OK;
}

void ft_remote_hint(const struct ft_remote *remote, const char *id)
{
    static const char *const verbs[][2] = {{"watch", ""}, {"pull", " --out tuned.zip"}, {"runs cancel", ""}};
    (void)fprintf(stderr, "run %s goes on in the service:\n", id);
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        (void)fprintf(stderr, "  finetuner %s %s", verbs[i][0], id);
        ft_remote_print_options(remote);
        (void)fprintf(stderr, "%s\n", verbs[i][1]);
    }
}

/* What `fit --json` prints, of a run that may have ended otherwise than well. */
static enum ft_status summary_of(const struct ft_json *run, const char *out, struct ft_json **summary,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_json *told = ft_json_get(run, "summary");
    struct ft_json *s = told != NULL ? ft_json_copy(told) : ft_json_object();
    *summary = NULL;
    if (s == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory telling of a run");
    }
    FT_TRY(ft_json_set(s, "run", ft_json_copy(ft_json_get(run, "id")), err));
    FT_TRY(ft_json_set(s, "status", ft_json_copy(ft_json_get(run, "status")), err));
    FT_TRY(ft_json_set(s, "out", out != NULL ? ft_json_of_text(out) : ft_json_null(), err));
    *summary = s;
    s = NULL;
done:
    ft_json_free(s);
    return st;
}

enum ft_status ft_remote_tell(const struct ft_json *run, const char *out, bool json, struct ft_err *err)
{
    struct ft_json *summary = NULL;
    const char *status = ft_json_text(ft_json_get(run, "status"), NULL);
    const char *reason = ft_json_text(ft_json_get(run, "reason"), NULL);
    bool finished = status != NULL && strcmp(status, "FINISHED") == 0;
    enum ft_status st = summary_of(run, out, &summary, err);
    if (st == FT_OK && json) {
        st = ft_print_json(summary, err);
    } else if (st == FT_OK && finished) {
        ft_screen_summary(summary);
    }
    ft_json_free(summary);
    if (st == FT_OK && !finished) {
        bool cancelled = status != NULL && strcmp(status, "CANCELLED") == 0;
        const char *id = ft_json_text(ft_json_get(run, "id"), NULL);
        st = cancelled
                 ? FT_FAIL(err, CANCELLED, "run %s was cancelled", id)
                 : FT_FAIL(err, INTERNAL, "run %s failed: %s", id, reason != NULL ? reason : "no reason");
    }
    return st;
}
