/*
 * Runs a fuzz target over every file of the folders (or files) given: the corpus as a regression test, with
 * any compiler. An empty corpus is a failure.
 */
#include "tests/fuzz/target.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        return -1;
    }
    long size = ftell(file);
    rewind(file);
    /* Exactly as long as the input, so that a sanitizer sees a read beyond it. */
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    if (data == NULL || size < 0 || fread(data, 1, (size_t)size, file) != (size_t)size) {
        perror(path);
        (void)fclose(file);
        free(data);
        return -1;
    }
    (void)fclose(file);
    (void)LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 1;
}

static int replay(const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(s.st_mode)) {
        return replay_file(path);
    }
    DIR *dir = opendir(path);
    if (dir == NULL) {
        perror(path);
        return -1;
    }
    int total = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL && total >= 0; entry = readdir(dir)) {
        char below[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        int n = snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        int count = n > 0 && n < (int)sizeof below ? replay(below) : -1;
        total = count < 0 ? -1 : total + count;
    }
    (void)closedir(dir);
    return total;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int count = replay(argv[i]);
        if (count < 0) {
            return 1;
        }
        total += count;
    }
    printf("%d inputs replayed\n", total);
    return total > 0 ? 0 : 1;
}
