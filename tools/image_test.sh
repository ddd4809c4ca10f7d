#!/usr/bin/env bash
# The container image built and run for real, without a Docker engine. Usage: tools/image_test.sh [--built]
# Needs root, `apt-get install buildah debootstrap iproute2 binutils` and a Python with tests/requirements-jina.txt (FT_JINA_PYTHON;
# .venv-jina/bin/python, which tools/test.sh makes). --built: check the image of the last call, build nothing.
#
# Where docker.io cannot be reached, FT_IMAGE_BASE=debootstrap makes a stand-in for debian:bookworm-slim from Debian's packages, once.
# FT_IMAGE_STORE is where images are kept (build-image); FT_IMAGE_OPTIONS are more words for `buildah build`, such as
# `-v /etc/apt/apt.conf.d:/etc/apt/apt.conf.d:ro` where apt needs settings of this machine's.
#
# Not part of tools/test.sh: it needs root, mounts and a base image, which not every machine that runs the tests has or may load.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
store=$(realpath -m "${FT_IMAGE_STORE:-$here/build-image}")
python=${FT_JINA_PYTHON:-$here/.venv-jina/bin/python}
base=docker.io/library/debian:bookworm-slim
export FT_BUILDAH="buildah --root $store/images --runroot $store/run" FT_IMAGE=finetuner

case ${1:-} in
'' | --built) ;;
*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
for program in buildah nsenter ip readelf; do
    command -v $program >/dev/null || { echo "tools/image_test.sh: no $program: see the head of this file" >&2; exit 1; }
done
"$python" -c 'import jina, docker, yaml' || { echo "tools/image_test.sh: $python needs tests/requirements-jina.txt" >&2; exit 1; }

# What the published image leaves out of minbase, it leaves out too.
make_base() {
    local root=$store/base
    rm -rf "$root"
    mkdir -p "$store"
    debootstrap --variant=minbase bookworm "$root" "${FT_MIRROR:-http://deb.debian.org/debian}" >"$store/debootstrap.log"
    rm -rf "$root"/usr/share/{doc,locale,man,info}/* "$root"/var/{cache/apt,lib/apt/lists,log}/*
    printf 'path-exclude %s\n' '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' >"$root/etc/dpkg/dpkg.cfg.d/slim"
    tar -C "$root" -cf "$store/base.tar" .
    printf 'FROM scratch\nADD base.tar /\nCMD ["bash"]\n' | $FT_BUILDAH build --isolation chroot --format docker -t $base -f - "$store" >/dev/null
    rm -rf "$root" "$store/base.tar"
}

if [ "${1:-}" != --built ]; then
    if ! $FT_BUILDAH inspect --type image $base >/dev/null 2>&1; then
        if [ "${FT_IMAGE_BASE:-}" = debootstrap ]; then
            echo "== $base: made by debootstrap, not the published one"
            make_base
        else
            $FT_BUILDAH pull $base || { echo "tools/image_test.sh: FT_IMAGE_BASE=debootstrap makes a stand-in" >&2; exit 1; }
        fi
    fi
    echo "== buildah build"
    start=$SECONDS
    # shellcheck disable=SC2086
    $FT_BUILDAH build --layers --pull=never --isolation chroot --network host --format docker ${FT_IMAGE_OPTIONS:-} \
        -t $FT_IMAGE -f "$here/Dockerfile" "$here" >"$store/build.log" 2>&1 || { tail -40 "$store/build.log"; exit 1; }
    echo "built in $((SECONDS - start)) s"
fi
"$python" "$here/tests/image/check.py"
