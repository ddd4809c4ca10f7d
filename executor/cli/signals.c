#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "executor/cli/cli.h"

/* A signal handler can reach nothing but a global: the second exception to "no global mutable state". */
static struct ft_cancel cancel;

static void on_signal(int number)
{
    if (atomic_exchange(&cancel.asked, true)) {
        if (getpid() == 1) { /* of a container: it is spared what signals do by default */
            _exit(128 + number);
        }
        (void)signal(number, SIG_DFL);
        (void)raise(number);
    }
}

struct ft_cancel *ft_cli_cancel(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    return &cancel;
}
