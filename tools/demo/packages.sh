#!/usr/bin/env bash
# Debian's package descriptions as labelled texts, for the demo and the benches: FOLDER/train.jsonl (30 sections), test.jsonl
# (other packages of them) and unseen.jsonl (15 sections more). apt's lists with long descriptions are fetched into FOLDER/apt:
# the machine's own lists, which may lack them, stay as they are. Usage: tools/demo/packages.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/apt/lists/partial"
cd "$1"
apt=(-o "Dir::State::Lists=$PWD/apt/lists" -o "Dir::Cache=$PWD/apt" -o Acquire::Languages=en -o APT::Sandbox::User="$(id -un)")
[ -n "$(ls apt/lists/*_Translation-en* 2>/dev/null)" ] || apt-get update -qq "${apt[@]}"
cat_all() { # records of one file end with an empty line, or the next file's first would join them
    for f in "$@"; do
        /usr/lib/apt/apt-helper cat-file "$f"
        echo
    done
}
{ cat_all apt/lists/*_Packages* && cat_all apt/lists/*_Translation-en*; } |
    LC_ALL=C awk -v dir=. -v unseen="admin devel doc games golang hamradio libdevel mail math misc php ruby sound tex video" \
        -v per_train=400 -v per_test=50 -v per_unseen=100 -f "$here/packages.awk"
for f in train test unseen; do
    [ -s "$f.jsonl" ] || { echo "$0: apt's lists have no $f documents: do they hold Debian's main section, with translations?" >&2; exit 1; }
done
