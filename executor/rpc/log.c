#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <grpc/support/log.h>

#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/rpc/internal.h"

/*
 * gRPC calls it an error when a stranger connects who does not speak TLS, or not HTTP/2: whoever scans ports
 * would write our log. So what one place in gRPC says is logged at most once a minute, with how often it was
 * said since; level DEBUG shows all of it.
 *
 * gRPC's log function is the process's, without an argument: what it remembers cannot live anywhere else.
 */

enum { PLACES = 32, QUIET_SECONDS = 60, TEXT = 301 };

struct place {
    const char *file; /* gRPC's literal; NULL: nobody yet, or all that found no place of their own */
    int line;
    bool used;
    double logged_at; /* ft_clock_seconds() */
    size_t left_out;  /* since then */
    char text[TEXT];  /* the last one's */
};

static struct {
    pthread_mutex_t mutex; /* guards the places */
    struct place places[PLACES];
} said = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Mutex held. */
static struct place *place_of(const char *file, int line)
{
    for (size_t i = 0; i < PLACES - 1; i++) {
        struct place *place = &said.places[i];
        if (!place->used) {
            place->file = file;
            place->line = line;
        }
        if (place->line == line && strcmp(place->file, file) == 0) {
            return place;
        }
    }
    return &said.places[PLACES - 1];
}

static void say_left_out(struct place *place, double now)
{
    ft_log_line(FT_LOG_WARNING, "rpc", "grpc says text=\"%s\" more=%zu", place->text, place->left_out);
    place->left_out = 0;
    place->logged_at = now;
}

static void log_error(const gpr_log_func_args *args)
{
    double now = ft_clock_seconds();
    (void)pthread_mutex_lock(&said.mutex);
    struct place *place = place_of(args->file, args->line);
    bool first = !place->used;
    bool again = !first && now - place->logged_at > QUIET_SECONDS;
    (void)snprintf(place->text, sizeof place->text, "%s", args->message);
    place->left_out += first ? 0 : 1;
    place->used = true;
    if (first) {
        place->logged_at = now;
    }
    if (again) {
        say_left_out(place, now);
    }
    (void)pthread_mutex_unlock(&said.mutex);
    if (!again) {
        ft_log_line(first ? FT_LOG_WARNING : FT_LOG_DEBUG, "rpc", "grpc says text=\"%.300s\"", args->message);
    }
}

static void log_grpc(gpr_log_func_args *args)
{
    if (args->severity == GPR_LOG_SEVERITY_ERROR) {
        log_error(args);
    } else {
        ft_log_line(FT_LOG_DEBUG, "rpc", "grpc says text=\"%.300s\"", args->message);
    }
}

void ft_rpc_log_init(void)
{
    gpr_set_log_function(log_grpc);
}

void ft_rpc_log_tend(bool all)
{
    double now = ft_clock_seconds();
    (void)pthread_mutex_lock(&said.mutex);
    for (size_t i = 0; i < PLACES; i++) {
        struct place *place = &said.places[i];
        if (place->left_out > 0 && (all || now - place->logged_at > QUIET_SECONDS)) {
            say_left_out(place, now);
        }
    }
    (void)pthread_mutex_unlock(&said.mutex);
}
