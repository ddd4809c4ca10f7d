#include "executor/train/callbacks.h"

#include <stdio.h>
#include <string.h>

#include "executor/train/named.h"

static const char known[] = "BestModelCheckpoint EarlyStopping EvaluationCallback";

static enum ft_status parse_monitor(const char *who, const struct ft_json *o, struct ft_monitor *m,
                                    struct ft_err *err)
{
    int mode = 0;
    const char *what = ft_json_text(ft_json_get(o, "monitor"), NULL);
    m->on = true;
    (void)snprintf(m->what, sizeof m->what, "%s", what != NULL ? what : "val_loss");
    FT_RETURN_IF_FAILED(ft_named_choice(who, o, "mode", "auto min max", &mode, err));
    m->larger_is_better = mode == 2 || (mode == 0 && strstr(m->what, "loss") == NULL);
    return FT_OK;
}

static enum ft_status parse_best(const char *who, const struct ft_json *o, struct ft_callbacks *c,
                                 struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_named_check(who, o, "monitor mode verbose save_dir", err));
    FT_RETURN_IF_FAILED(ft_named_only(who, o, "save_dir", "null", err));
    return parse_monitor(who, o, &c->best_model, err);
}

static enum ft_status parse_early(const char *who, const struct ft_json *o, struct ft_callbacks *c,
                                  struct ft_err *err)
{
    struct ft_monitor *m = &c->early_stopping;
    const struct ft_json *baseline = ft_json_get(o, "baseline");
    FT_RETURN_IF_FAILED(ft_named_check(who, o, "monitor mode patience min_delta baseline verbose", err));
    FT_RETURN_IF_FAILED(parse_monitor(who, o, m, err));
    m->patience = 2;
    FT_RETURN_IF_FAILED(ft_named_int(who, o, "patience", 1, 1000000, &m->patience, err));
    FT_RETURN_IF_FAILED(ft_named_real(who, o, "min_delta", -1e9, 1e9, &m->min_delta, err));
    FT_RETURN_IF_FAILED(ft_named_real(who, o, "baseline", -1e9, 1e9, &m->baseline, err));
    m->has_baseline = ft_json_kind(baseline) != FT_JSON_NULL;
    return FT_OK;
}

static enum ft_status parse_evaluation(const char *who, const struct ft_json *o, struct ft_callbacks *c,
                                       struct ft_err *err)
{
    /* Of Finetuner's fields these change what is measured and are not built. */
    static const struct {
        const char *key, *only;
    } fixed[] = {{"query_data", "null"},       {"index_data", "null"},   {"model", "null"},
                 {"index_model", "null"},      {"multi_modal", "false"}, {"steps_per_interval", "null"},
                 {"gather_examples", "false"}, {"caption", "null"},      {"output_model_names", "false"},
                 {"query_sample_size", "null"}};
    static const char *const distances[] = {"cosine", "euclidean", "sqeuclidean"};
    int distance = 0;
    FT_RETURN_IF_FAILED(
        ft_named_check(who, o,
                       "query_data index_data model index_model multi_modal batch_size exclude_self "
                       "limit distance steps_per_interval gather_examples num_example_queries "
                       "num_workers caption output_model_names query_sample_size",
                       err));
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        FT_RETURN_IF_FAILED(ft_named_only(who, o, fixed[i].key, fixed[i].only, err));
    }
    c->evaluate = true;
    FT_RETURN_IF_FAILED(ft_named_int(who, o, "batch_size", 1, 65536, &c->eval_batch_size, err));
    FT_RETURN_IF_FAILED(ft_named_int(who, o, "limit", 1, 100000, &c->limit, err));
    FT_RETURN_IF_FAILED(ft_named_bool(who, o, "exclude_self", &c->exclude_self, err));
    FT_RETURN_IF_FAILED(ft_named_choice(who, o, "distance", "cosine euclidean sqeuclidean", &distance, err));
    (void)snprintf(c->distance, sizeof c->distance, "%s", distances[distance]);
    return FT_OK;
}

enum ft_status ft_callbacks_parse(const struct ft_json *list, struct ft_callbacks *c, struct ft_err *err)
{
    memset(c, 0, sizeof *c);
    c->exclude_self = true;
    (void)snprintf(c->distance, sizeof c->distance, "cosine");
    for (size_t i = 0; i < ft_json_count(list); i++) {
        const struct ft_json *one = ft_json_at(list, i);
        const char *name = ft_json_text(one, NULL);
        const struct ft_json *options = NULL;
        if (name == NULL) {
            FT_RETURN_IF_FAILED(ft_named_check("a callback", one, "name options", err));
            name = ft_json_text(ft_json_get(one, "name"), NULL);
            options = ft_json_get(one, "options");
        }
        switch (name != NULL ? ft_named_index(known, name) : -1) {
        case 0:
            FT_RETURN_IF_FAILED(parse_best(name, options, c, err));
            break;
        case 1:
            FT_RETURN_IF_FAILED(parse_early(name, options, c, err));
            break;
        case 2:
            FT_RETURN_IF_FAILED(parse_evaluation(name, options, c, err));
            break;
        default:
            return FT_FAIL(err, INVALID, "callback %zu is \"%s\"; known: %s", i,
                           name != NULL ? name : "without a name", known);
        }
    }
    return FT_OK;
}

bool ft_monitor_check(struct ft_monitor *m, double current, int64_t epoch)
{
    double best = m->has_baseline ? m->baseline : m->best;
    bool first = !m->has_best && !m->has_baseline;
    bool better =
        first || (m->larger_is_better ? current - m->min_delta > best : current + m->min_delta < best);
    if (better) {
        m->has_best = true;
        m->best = current;
        m->best_epoch = epoch;
        m->counter = 0;
    } else {
        m->counter++;
    }
    return better;
}

bool ft_monitor_stops(const struct ft_monitor *m)
{
    return m->on && m->patience > 0 && m->counter == m->patience;
}

enum ft_status ft_monitor_write(const struct ft_monitor *m, struct ft_json **json, struct ft_err *err)
{
    struct ft_json *o = ft_json_object();
    enum ft_status st = FT_OK;
    *json = NULL;
    if (o == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a callback's state");
    }
    FT_TRY(ft_json_set(o, "has_best", ft_json_of_bool(m->has_best), err));
    FT_TRY(ft_json_set(o, "best", ft_json_of_real(m->best), err));
    FT_TRY(ft_json_set(o, "best_epoch", ft_json_of_int(m->best_epoch), err));
    FT_TRY(ft_json_set(o, "counter", ft_json_of_int(m->counter), err));
    *json = o;
    o = NULL;
done:
    ft_json_free(o);
    return st;
}

void ft_monitor_read(struct ft_monitor *m, const struct ft_json *json)
{
    m->has_best = ft_json_bool(ft_json_get(json, "has_best"));
    m->best = ft_json_real(ft_json_get(json, "best"));
    m->best_epoch = ft_json_int(ft_json_get(json, "best_epoch"));
    m->counter = ft_json_int(ft_json_get(json, "counter"));
}
