#include <stdio.h>
#include <string.h>

#include "executor/cli/cli.h"
#include "executor/prep/augment.h"
#include "executor/prep/prep.h"

static const struct ft_command commands[] = {
    {"fit", "fit MODEL DATA [--eval DATA] [--out DIR|FILE.zip] [--server HOST:PORT] [options]",
     "fine-tune: a trained model and labelled data in, a better embedding model out", ft_cmd_fit,
     ft_help_fit},
    {"encode", "encode MODEL DATA [--out FILE] [--server HOST:PORT] [options]",
     "embeddings of documents, one float32 row each, in input order", ft_cmd_encode, ft_help_model},
    {"evaluate", "evaluate MODEL DATA [--index DATA] [--limit 20] [--out FILE] [options]",
     "retrieval quality of a model on labelled documents", ft_cmd_evaluate, ft_help_model},
    {"inspect", "inspect MODEL [options]", "layers, shapes, parameters, and what tailoring would do, and why",
     ft_cmd_inspect, ft_help_model},
    {"tailor", "tailor MODEL --out FILE.onnx|DIR|FILE.zip [options]",
     "the embedding model, untrained: head cut, pooled, projected, normalised", ft_cmd_tailor, ft_help_model},
    {"serve", "serve [--config config.yml] [--model MODEL] [--port P] [--workspace DIR] [--KEY VALUE ...]",
     "a gRPC executor for Jina Flows: /train, /fit, /encode", ft_cmd_serve, ft_help_serve},
    {"datasets",
     "datasets list|verify NAME ...|export NAME --out FILE.bin|compact NAME|delete NAME [--id ID ...] "
     "[--server HOST:PORT | --workspace DIR] [--json]",
     "Documents that a service keeps: list, check, export, compact, delete", ft_cmd_datasets,
     ft_help_datasets},
    {"models", "models list|delete NAME [--server HOST:PORT | --workspace DIR] [--json]",
     "models that a service has beside its runs: list, delete", ft_cmd_models, ft_help_models},
    {"push", "push DATA --server HOST:PORT [--dataset NAME] [options]",
     "labelled data to a dataset of a running service", ft_cmd_push, ft_help_push},
    {"runs", "runs [RUN | cancel RUN | delete RUN] --server HOST:PORT [options]",
     "the runs of a service: list, show, cancel, delete", ft_cmd_runs, ft_help_runs},
    {"watch", "watch RUN --server HOST:PORT [--from N] [options]", "a service's run, as it goes on",
     ft_cmd_watch, ft_help_runs},
    {"pull", "pull RUN --server HOST:PORT [--out DIR|FILE.zip] [options]", "the artifact of a service's run",
     ft_cmd_pull, ft_help_runs},
    {"ping", "ping HOST:PORT [--tls] [--tls-ca FILE] [--tls-cert FILE --tls-key FILE]",
     "is a server there and serving? exit code 0 or 5", ft_cmd_ping, NULL},
    {"worker", "worker --run ID --data-dir DIR", "one run of a service; started by `serve`, not by people",
     ft_cmd_worker, NULL},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

const struct ft_command *ft_command_at(int i)
{
    return i >= 0 && i < COMMANDS ? &commands[i] : NULL;
}

const struct ft_command *ft_command_find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static const struct ft_topic topics[] = {
    {"presets", "how images of known models are prepared: --prep-options '{\"preset\": NAME}'",
     ft_prep_presets_help},
    {"augment", "random changes of training images: --augment", ft_augment_help},
};
enum { TOPICS = sizeof topics / sizeof topics[0] };

const struct ft_topic *ft_topic_at(int i)
{
    return i >= 0 && i < TOPICS ? &topics[i] : NULL;
}

const struct ft_topic *ft_topic_find(const char *name)
{
    for (int i = 0; i < TOPICS; i++) {
        if (strcmp(topics[i].name, name) == 0) {
            return &topics[i];
        }
    }
    return NULL;
}

void ft_topic_help(const struct ft_topic *topic)
{
    struct ft_buf text = {0};
    struct ft_err err = {0};
    if (topic->text(&text, &err) == FT_OK) {
        (void)fwrite(text.data, 1, text.size, stdout);
    }
    ft_buf_release(&text);
}

void ft_command_help(const struct ft_command *command)
{
    printf("usage: finetuner %s\n\n%s.\n\n", command->usage, command->summary);
    if (command->help != NULL) {
        command->help(command->name);
    }
}
