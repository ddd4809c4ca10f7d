#!/usr/bin/env bash
# Fuzz targets under ASan and UBSan, two at a time: those of what strangers send (models, data files, configs, the wire) for
# SECONDS each (default 60), those of the formats below them for a quarter of it. Prints line coverage of the files that the
# target names in a comment `/* covers: path ... */`. One seed tries the same inputs in the same order, so that longer runs
# contain the shorter ones; other seeds look elsewhere. Usage: tools/fuzz.sh [SECONDS [SEED [TARGET ...]]]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
export seed=${2:-1}
cmake --preset asan >/dev/null
targets=${*:3}
[ -n "$targets" ] || targets=$(cd tests && ls fuzz_*.c | sed 's/\.c$//')
# shellcheck disable=SC2086
ninja -C build-asan $targets >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
one() {
    local t=$1
    mkdir -p "$work/$t"
    if ! LLVM_PROFILE_FILE="$work/$t.profraw" "build-asan/tests/$t" -max_total_time="$2" -seed="$seed" -timeout=25 -rss_limit_mb=4096 \
        -verbosity=0 -print_final_stats=1 -artifact_prefix="$work/" "$work/$t" "tests/fuzz/$t" >"$work/$t.log" 2>&1; then
        tail -40 "$work/$t.log"
        echo "$t: FAILED"
        return 1
    fi
    llvm-profdata-14 merge -o "$work/$t.profdata" "$work/$t.profraw"
    local covers runs
    covers=$(awk '/covers:/ {p = 1} p {print} p && /\*\// {exit}' "tests/$t.c" | sed 's/.*covers://; s/\*\///; s/^ \*//' | tr '\n' ' ')
    [ -n "${covers// /}" ] || { echo "$t: no line says what it covers"; return 1; }
    runs=$(sed -n 's/stat::number_of_executed_units: *//p' "$work/$t.log")
    # shellcheck disable=SC2086
    llvm-cov-14 report "build-asan/tests/$t" -instr-profile="$work/$t.profdata" $covers 2>/dev/null |
        awk -v t="$t" -v r="$runs" '/^TOTAL/ {printf "%-16s %9s runs, line coverage %s\n", t, r, $10}'
}
export -f one
export work
for t in $targets; do
    case $t in
    fuzz_onnx | fuzz_shard | fuzz_safetensors | fuzz_hf | fuzz_dataset | fuzz_config | fuzz_wire | fuzz_jina | fuzz_v1 | fuzz_runs) echo "$t $seconds" ;;
    *) echo "$t $((seconds / 4 + 1))" ;;
    esac
done | xargs -P "$(nproc)" -L 1 bash -c 'one "$@"' one
