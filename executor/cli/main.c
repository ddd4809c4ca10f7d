/* main: which command, what its failure means for the shell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/cli/cli.h"

static int exit_code(enum ft_status status)
{
    switch (status) {
    case FT_OK:
        return 0;
    case FT_USAGE:
        return 2;
    case FT_INVALID:
    case FT_UNSUPPORTED:
    case FT_CORRUPT:
    case FT_LIMIT:
    case FT_EXISTS:
        return 3;
    case FT_NOT_FOUND:
        return 4;
    case FT_UNAVAILABLE:
    case FT_BUSY:
        return 5;
    case FT_CANCELLED:
    case FT_DIVERGED:
    case FT_NOMEM:
    case FT_IO:
    case FT_INTERNAL:
    case FT_STATUS_COUNT:
        return 1;
    }
    return 1;
}

static void print_commands(void)
{
    puts("finetuner " FT_VERSION
         ": fine-tunes a model on your labelled documents so that its embeddings find better "
         "neighbours.\n\nCommands:");
    for (int i = 0; ft_command_at(i) != NULL; i++) {
        printf("  %-9s %s\n", ft_command_at(i)->name, ft_command_at(i)->summary);
    }
    puts("\nTopics:");
    for (int i = 0; ft_topic_at(i) != NULL; i++) {
        printf("  %-9s %s\n", ft_topic_at(i)->name, ft_topic_at(i)->summary);
    }
    puts("\nfinetuner help COMMAND or TOPIC tells more. Start with: finetuner inspect classifier.onnx");
}

/* libgomp reads its waiting policy before main() runs. Threads that spin starve the ones that prepare batches
 * or answer gRPC (3-80 times slower was measured), so the environment is set and the program started again,
 * once. */
static void wait_politely(char **argv, bool server)
{
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL) {
        return;
    }
    if (server) {
        (void)setenv("OMP_WAIT_POLICY", "passive", 1);
    } else {
        (void)setenv("GOMP_SPINCOUNT", "10000", 1);
    }
    (void)execv("/proc/self/exe", argv); /* on failure: run as we are */
}

static int report(const char *command, enum ft_status st, struct ft_err *err)
{
    /* Tables are buffered: a full disk shows only here. */
    if (st == FT_OK && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
        st = FT_FAIL(err, IO, "cannot write to standard output");
    }
    if (st != FT_OK && ft_log_format() == FT_LOG_JSON) {
        FT_LOG_ERROR_LINE("cli", "the command failed command=%s code=%d reason=\"%s\"", command,
                          exit_code(st), err->text);
    } else if (st != FT_OK) {
        (void)fprintf(stderr, "finetuner %s: %s\n", command, err->text);
    }
    return exit_code(st);
}

static int run(int argc, char **argv)
{
    struct ft_err err = {0};
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0) {
        puts("finetuner " FT_VERSION);
        return 0;
    }
    bool help = strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (help && argc == 2) {
        print_commands();
        return 0;
    }
    const struct ft_topic *topic = help ? ft_topic_find(argv[2]) : NULL;
    if (topic != NULL) {
        ft_topic_help(topic);
        return 0;
    }
    const struct ft_command *command = ft_command_find(help ? argv[2] : name);
    if (command == NULL) {
        (void)fprintf(stderr, "finetuner: unknown command '%s'; finetuner help lists them\n",
                      help ? argv[2] : name);
        return 2;
    }
    for (int i = 2; i < argc && !help; i++) {
        help = strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    }
    if (help) {
        ft_command_help(command);
        return 0;
    }
    bool server = strcmp(command->name, "serve") == 0 || strcmp(command->name, "worker") == 0;
    wait_politely(argv, server);
    return report(command->name, command->run(argc - 2, argv + 2, &err), &err);
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    if (argc > 0 && strcmp(ft_path_base(argv[0]), "jina") == 0) {
        wait_politely(argv, true);
        return report("(as jina)", ft_cmd_jina(argc - 1, argv + 1, &err), &err);
    }
    if (argc < 2) {
        print_commands();
        return 2;
    }
    return run(argc, argv);
}
