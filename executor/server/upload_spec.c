/* A ModelUpload as clients send it: checked before anything of it touches the disk. */
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"
#include "executor/server/upload.h"
#include "executor/store/folder.h"

enum { NAME_BYTES = 512, PART_BYTES = 255, PARTS = 8 };

static void at_fault(struct ft_v1_fault *fault, const char *field)
{
    (void)snprintf(fault->field, sizeof fault->field, "model.%s", field);
}

static void at_file(struct ft_v1_fault *fault, size_t i, const char *field)
{
    (void)snprintf(fault->field, sizeof fault->field, "model.files[%zu].%s", i, field);
}

/* `name` lies in the folder `folder`. */
static bool lies_in(const char *name, const char *folder)
{
    size_t size = strlen(folder);
    return strncmp(name, folder, size) == 0 && name[size] == '/';
}

/* A file's name below the model's folder, and nothing else: NULL, or why it is none. */
static const char *name_fault(const char *name)
{
    size_t parts = 0;
    if (strlen(name) > NAME_BYTES) {
        return "is longer than 512 bytes";
    }
    for (const char *c = name; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '\\') {
            return "has a control character or a backslash in it";
        }
    }
    for (const char *part = name;; parts++) {
        size_t size = strcspn(part, "/");
        if (size == 0) {
            return *name == '/' ? "is absolute" : "has an empty part";
        }
        if ((size == 1 && part[0] == '.') || (size == 2 && memcmp(part, "..", 2) == 0)) {
            return "has a part '.' or '..'";
        }
        if (size > PART_BYTES || parts == PARTS) {
            return "has a part of more than 255 bytes, or more than 8 parts";
        }
        if (part[size] == '\0') {
            break;
        }
        part += size + 1;
    }
    bool ours = strcmp(name, FT_UPLOAD_ABOUT) == 0 || lies_in(name, FT_UPLOAD_ABOUT);
    return ours ? "is a name of the service's own" : NULL;
}

static bool is_hash(const char *text)
{
    return strlen(text) == FT_SHA256_HEX - 1 && strspn(text, "0123456789abcdef") == FT_SHA256_HEX - 1;
}

static enum ft_status read_file(const struct ft_json *json, size_t i, struct ft_upload_spec *spec,
                                struct ft_v1_fault *fault, struct ft_err *err)
{
    struct ft_upload_file *f = &spec->files[i];
    f->name = ft_v1_text(json, "name");
    f->sha256 = ft_v1_text(json, "sha256");
    f->bytes = (uint64_t)ft_json_int(ft_json_get(json, "bytes"));
    at_file(fault, i, "name");
    const char *why = name_fault(f->name);
    if (why != NULL) {
        return FT_FAIL(err, INVALID, "the file name '%.200s' %s", f->name, why);
    }
    for (size_t k = 0; k < i; k++) {
        if (lies_in(f->name, spec->files[k].name)) {
            return FT_FAIL(err, INVALID, "'%.200s' is a file and a folder", spec->files[k].name);
        }
    }
    if (i > 0 && strcmp(spec->files[i - 1].name, f->name) >= 0) {
        return FT_FAIL(err, INVALID, "'%.200s' behind '%.200s': files are listed once, sorted by name",
                       f->name, spec->files[i - 1].name);
    }
    at_file(fault, i, "sha256");
    if (!is_hash(f->sha256)) {
        return FT_FAIL(err, INVALID, "the SHA-256 of '%.200s' is not 64 digits of 0-9, a-f", f->name);
    }
    return FT_OK;
}

/* Sizes that fit the limit one by one cannot overflow together before it is noticed. */
static enum ft_status add_bytes(struct ft_upload_spec *spec, size_t i, uint64_t bytes_max,
                                struct ft_v1_fault *fault, struct ft_err *err)
{
    at_file(fault, i, "bytes");
    if (spec->files[i].bytes > bytes_max - spec->bytes) {
        return FT_FAIL(err, LIMIT,
                       "the model has more than %llu bytes, which the service takes (upload_mb, uploads_mb)",
                       (unsigned long long)bytes_max);
    }
    spec->bytes += spec->files[i].bytes;
    return FT_OK;
}

static enum ft_status check_entry(struct ft_upload_spec *spec, struct ft_v1_fault *fault, struct ft_err *err)
{
    at_fault(fault, "entry");
    if (spec->entry[0] == '\0' && spec->count == 1) {
        spec->entry = spec->files[0].name;
    }
    for (size_t i = 0; i < spec->count; i++) {
        const char *name = spec->files[i].name;
        if (strcmp(name, spec->entry) == 0 || lies_in(name, spec->entry)) {
            return FT_OK;
        }
    }
    return FT_FAIL(err, INVALID, "entry '%.200s' is neither one of the files nor a folder of theirs",
                   spec->entry);
}

enum ft_status ft_upload_spec_read(const struct ft_json *model, uint64_t bytes_max,
                                   struct ft_upload_spec *spec, struct ft_v1_fault *fault, struct ft_err *err)
{
    const struct ft_json *files = ft_json_get(model, "files");
    *spec = (struct ft_upload_spec){.name = ft_v1_text(model, "name"), .entry = ft_v1_text(model, "entry")};
    at_fault(fault, "name");
    if (!ft_dataset_name_valid(spec->name)) {
        return FT_FAIL(err, INVALID,
                       "'%.64s' is no model's name: 1 to 64 letters, digits, '-', '_', '.', not starting "
                       "with '.'",
                       spec->name);
    }
    at_fault(fault, "files");
    size_t count = ft_json_count(files);
    if (count == 0 || count > FT_MAX_MODEL_FILES) {
        return FT_FAIL(err, INVALID, "a model of %zu files; it takes 1 to %d", count, FT_MAX_MODEL_FILES);
    }
    FT_RETURN_IF_FAILED(ft_new(count, sizeof *spec->files, &spec->files, err));
    for (size_t i = 0; i < count; i++) {
        FT_RETURN_IF_FAILED(read_file(ft_json_at(files, i), i, spec, fault, err));
        FT_RETURN_IF_FAILED(add_bytes(spec, i, bytes_max, fault, err));
        spec->count++;
    }
    FT_RETURN_IF_FAILED(check_entry(spec, fault, err));
    fault->field[0] = '\0';
    return ft_v1_model_digest(spec->entry, files, spec->sha256, err);
}

void ft_upload_spec_release(struct ft_upload_spec *spec)
{
    ft_free(spec->files);
    *spec = (struct ft_upload_spec){0};
}
