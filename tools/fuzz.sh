#!/usr/bin/env bash
# Every fuzz target for SECONDS (default 60) under ASan and UBSan, two at a time; prints line coverage of the parser that the
# target names in a line `/* covers: path ... */`. Usage: tools/fuzz.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
cmake --preset fuzz >/dev/null
targets=$(cd tests && ls fuzz_*.c | sed 's/\.c$//')
# shellcheck disable=SC2086
ninja -C build-fuzz $targets >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
one() {
    local t=$1
    mkdir -p "$work/$t"
    if ! LLVM_PROFILE_FILE="$work/$t.profraw" "build-fuzz/tests/$t" -max_total_time="$2" -timeout=10 -rss_limit_mb=4096 \
        -verbosity=0 -print_final_stats=1 -artifact_prefix="$work/" "$work/$t" "tests/fuzz/$t" >"$work/$t.log" 2>&1; then
        tail -40 "$work/$t.log"
        echo "$t: FAILED"
        return 1
    fi
    llvm-profdata-14 merge -o "$work/$t.profdata" "$work/$t.profraw"
    local covers runs
    covers=$(sed -n 's/.*covers: \([^*]*\).*/\1/p' "tests/$t.c" | head -1)
    runs=$(sed -n 's/stat::number_of_executed_units: *//p' "$work/$t.log")
    # shellcheck disable=SC2086
    llvm-cov-14 report "build-fuzz/tests/$t" -instr-profile="$work/$t.profdata" $covers 2>/dev/null |
        awk -v t="$t" -v r="$runs" '/^TOTAL/ {printf "%-16s %9s runs, line coverage %s\n", t, r, $10}'
}
export -f one
export work
printf '%s\n' $targets | xargs -P "$(nproc)" -I{} bash -c 'one {} '"$seconds"
