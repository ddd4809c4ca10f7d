#!/usr/bin/env bash
# clang-tidy over our sources, two files at a time. Usage: tools/tidy.sh [file.c ...]
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f build-clang/compile_commands.json ] || cmake --preset clang -DFT_TESTS=OFF >/dev/null
ninja -C build-clang pb-c/finetuner/v1/finetuner.pb-c.h >/dev/null # what sources include that is made
if [ $# = 0 ]; then
    mapfile -t files < <(git ls-files 'executor/*.c' 'kernels/*.c')
else
    files=("$@")
fi
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy -p build-clang --quiet 2>/dev/null
