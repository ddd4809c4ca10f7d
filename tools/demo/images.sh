#!/usr/bin/env bash
# The demo on images, on a fresh Debian 12 (root or sudo): installs packages, builds, draws letters and digits in the
# fonts that Debian packages, fine-tunes a small PyTorch-made classifier on 42 characters and shows retrieval on 20 characters
# it never saw: P@1 and MAP@R before and after, and a picture of query -> nearest neighbours.
# Usage: tools/demo/images.sh [FOLDER]      results go to FOLDER (default: demo-images)
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-demo-images}
echo "== packages"
tools/packages.sh build images
echo "== build"
cmake --preset release -DFT_TOOLS=ON -DFT_TESTS=OFF >/dev/null
ninja -C build finetuner glyphs hits | tail -1
start=$(date +%s)
ft=build/finetuner
mkdir -p "$out"
echo "== data: characters in Debian's fonts"
rm -rf "$out/glyphs"
build/tools/glyphs "$out/glyphs"
echo "== the backbone"
$ft inspect tools/demo/characters.onnx
echo "== retrieval before, on characters never trained on"
$ft evaluate tools/demo/characters.onnx "$out/glyphs/unseen"
$ft encode tools/demo/characters.onnx "$out/glyphs/unseen" --out "$out/before.npy"
echo "== fine-tuning on 42 characters"
$ft fit tools/demo/characters.onnx "$out/glyphs/train" --eval "$out/glyphs/unseen" --out "$out/tuned.zip" \
    --steps 300 --seed 1
echo "== retrieval after"
$ft evaluate "$out/tuned.zip" "$out/glyphs/unseen"
$ft encode "$out/tuned.zip" "$out/glyphs/unseen" --out "$out/after.npy"
build/tools/hits "$out/glyphs/unseen" "$out/before.npy" "$out/after.npy" "$out/hits.png"
echo "== done in $(($(date +%s) - start)) s after the build: artifact $out/tuned.zip, picture $out/hits.png"
