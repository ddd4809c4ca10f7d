#!/usr/bin/env bash
# Includes point only to the rooms that tools/layers.txt allows; third-party headers stay in the room that owns them and
# out of public headers; every header compiles alone.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0
room_of() { case $1 in kernels/*) echo kernels ;; executor/*) local r=${1#executor/}; echo "${r%%/*}" ;; esac; }
while IFS= read -r file; do
    room=$(room_of "$file")
    allowed=" $room $(sed -n "s/^$room: *//p" tools/layers.txt) "
    while IFS= read -r target; do
        other=$(room_of "$target")
        case $allowed in *" $other "*) ;; *) echo "$file: room $room may not include $target"; bad=1 ;; esac
    done < <(sed -nE 's/^#include "((executor|kernels)\/[^"]+)".*/\1/p' "$file")
done < <(git ls-files 'executor/*.[ch]' 'kernels/*.[ch]' 'kernels/*.def')
owner() { # header pattern, the one room (or file pattern) that may include it
    while IFS= read -r file; do
        case $file in $2*) ;; *) echo "$file: only $2 may include <$1>"; bad=1 ;; esac
    done < <(git grep -lE "^#include [<\"]$1" -- 'executor/*.[ch]' 'kernels/*.[ch]' || true)
}
owner 'jansson' executor/codec; owner 'yaml\.h' executor/codec; owner 'zip\.h>' executor/codec; owner 'zlib' executor/codec
owner 'png\.h' executor/codec; owner 'jpeglib' executor/codec; owner 'pb_decode' executor/codec; owner 'openssl' executor/codec
owner '(oneapi/)?dnnl' kernels/cpu; owner 'omp\.h' kernels/cpu; owner 'sqlite3' executor/runs; owner 'curl' executor/runs
owner 'utf8proc' executor/prep; owner 'pcre2' executor/prep
owner 'grpc' executor/rpc; owner 'protobuf-c' executor/wire
if git grep -nE '^#include <(jansson|yaml\.h|zip\.h|zlib|png|jpeglib|openssl|dnnl|oneapi|sqlite3|curl|grpc|protobuf-c|utf8proc|pcre2)' -- 'executor/*.h' 'kernels/*.h' |
    grep -v -E 'internal|kernels/cpu/'; then
    echo "a third-party header shows in a public header"; bad=1
fi
while IFS= read -r header; do
    gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -I. -fsyntax-only -x c "$header" || { echo "$header does not compile alone"; bad=1; }
done < <(git ls-files 'executor/*.h' 'kernels/type.h' 'kernels/kernel.h' 'kernels/internal.h')
for header in executor/base/{status,alloc,arena,bytes,rand,clock,log,file,limits}.h kernels/{type,kernel,internal}.h; do
    g++ -std=c++17 -D_GNU_SOURCE -I. -fsyntax-only -x c++ "$header" || { echo "$header does not compile as C++17"; bad=1; }
done
if git grep -nE '\b(strcpy|strcat|sprintf|vsprintf|strtok|atoi|gmtime|rand|alloca|gets)\(' -- 'executor/*.[ch]' 'kernels/*.[ch]' |
    grep -vE '^[^:]*:[0-9]+: \*|/\*.*\b(rand|gets)\('; then
    echo "a banned call"; bad=1
fi
[ $bad = 0 ] && echo "layers: clean"
exit $bad
