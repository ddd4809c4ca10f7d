/*
 * carry.h - the files that a MODEL is read from, so that it can be carried to another machine.
 *
 * What is listed is what ft_model_load() reads, and no more: an .onnx file with its external data and, of
 * texts, what it reads beside it (Optimum's layout); of a Hugging Face or sentence-transformers folder
 * config, tokenizer, modules and weights, or the ONNX file where there are no safetensors; of an artifact its
 * own layout; a .zip as it is. Symbolic links are followed. Files that a model would lack are left to the
 * loader. Thread-safety: any thread.
 */
#ifndef FT_MODEL_CARRY_H
#define FT_MODEL_CARRY_H

#include <stddef.h>

#include "executor/base/status.h"

struct ft_carry_file {
    char *name; /* where it goes: relative, "minilm/config.json" */
    char *path; /* where it lies here */
};
struct ft_carry {
    char *entry; /* what is loaded, relative like the files: "minilm", "classifier.onnx", "onnx/model.onnx" */
    struct ft_carry_file *files; /* sorted by the bytes of their names, each once */
    size_t count;
};
/* FT_NOT_FOUND, FT_IO, FT_CORRUPT (an .onnx file that is none), FT_INVALID (a module's path). *carry:
 * ft_carry_release() in every case. */
FT_MUST_CHECK enum ft_status ft_carry_list(const char *path, struct ft_carry *carry, struct ft_err *err);
void ft_carry_release(struct ft_carry *carry);
#endif
