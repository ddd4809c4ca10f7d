/*
 * target.h - the one function of a fuzz target: libFuzzer calls it with FT_FUZZ, else fuzz/replay.c does.
 */
#ifndef FT_TESTS_FUZZ_TARGET_H
#define FT_TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
