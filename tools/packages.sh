#!/usr/bin/env bash
# Debian 12 packages by name, one list a purpose: build, demo, images, test. Usage: tools/packages.sh build [demo] [images] [test]
# Installs what is missing; needs root or sudo.
set -euo pipefail
build="gcc cmake ninja-build pkg-config libdnnl-dev libgrpc-dev libnanopb-dev libjansson-dev libyaml-dev zlib1g-dev libzip-dev
 libjpeg62-turbo-dev libpng-dev libwebp-dev libutf8proc-dev libpcre2-dev libsqlite3-dev libssl-dev libcmocka-dev
 protobuf-compiler libprotobuf-dev libprotobuf-c-dev protobuf-c-compiler libmicrohttpd-dev"
demo="libfreetype-dev fonts-dejavu-core python3-pip unzip"
images="libfreetype-dev fonts-dejavu-core fonts-dejavu-extra fonts-liberation fonts-freefont-ttf fonts-croscore fonts-lato
 fonts-roboto-unhinted fonts-linuxlibertine fonts-crosextra-carlito fonts-crosextra-caladea fonts-cantarell fonts-open-sans
 fonts-texgyre fonts-comfortaa fonts-hack fonts-firacode fonts-noto-core fonts-noto-mono fonts-ebgaramond fonts-inconsolata
 fonts-junicode fonts-droid-fallback"
test="g++ libgrpc++-dev protobuf-compiler-grpc ruby-grpc git clang clang-format clang-tidy libomp-dev libclang-rt-14-dev llvm-14 python3-venv python3-pip python3-dev"
want=""
for purpose in "$@"; do
    case $purpose in
    build | demo | images | test) want="$want ${!purpose}" ;;
    *) echo "usage: tools/packages.sh build [demo] [images] [test]" >&2; exit 2 ;;
    esac
done
missing=""
for p in $want; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
sudo=""
if [ "$(id -u)" != 0 ]; then
    sudo=$(command -v sudo) || { echo "run as root, or install by hand:$missing" >&2; exit 1; }
fi
$sudo apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
