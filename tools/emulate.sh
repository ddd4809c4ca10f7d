#!/usr/bin/env bash
# Run a program on a processor that this machine lacks: AVX-512, VNNI and bf16 under Bochs, in a small Linux made on the fly.
# Usage: tools/emulate.sh [--cpu MODEL[+FEATURE...]] [--with PATH]... [--env NAME=VALUE]... [--memory MIB] [--limit SECONDS]
#        PROGRAM [ARG...]
# MODEL and FEATURE are of Bochs' `--help cpu` and cpu/decoder/features.h; the default is
# corei7_skylake_x+avx512bf16+avx512vnni. (Linux hangs or stops on the models from icelake on.)
# The virtual machine sees the program, its shared libraries and each PATH (a file or a folder) where they are here; it starts in
# this folder. Output comes as it is written; the exit status is the program's, or 125 where there is none (limit, no memory).
# Needs g++, make, curl, patch, bochsbios, vgabios and genisoimage; builds Bochs 3.0 from Debian's source once, which takes two
# minutes, and takes a kernel, a boot loader and busybox from Debian, uninstalled: all in ~/.cache/finetuner-emulate.
set -euo pipefail
cpu=corei7_skylake_x+avx512bf16+avx512vnni memory=1024 limit=1800 with=() env=()
while [[ ${1-} == --* ]]; do
    case $1 in
    --cpu) cpu=$2 ;;
    --with) with+=("$(realpath -s "$2")") ;;
    --env) env+=("$2") ;;
    --memory) memory=$2 ;;
    --limit) limit=$2 ;;
    *) break ;;
    esac
    shift 2
done
[[ $# -gt 0 && $1 != --* ]] || { sed -n '2,/^set/{/^#/s/^# //p}' "$0" >&2; exit 125; }
program=$(command -v "$1") || { echo "$0: no program $1" >&2; exit 125; }
program=$(realpath -s "$program")
shift
here=$(realpath "$(dirname "$0")")
features=${cpu#"${cpu%%+*}"} cpu=${cpu%%+*}
features=${features#+} features=${features//+/,}

cache=${XDG_CACHE_HOME:-$HOME/.cache}/finetuner-emulate
if [ ! -d "$cache/root" ]; then
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/XXXXXX")
    kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2 }')
    (cd "$new" && apt-get download -qq "$kernel" busybox-static isolinux syslinux-common >&2 &&
        for deb in *.deb; do dpkg-deb -x "$deb" .; done)
    mv -T "$new" "$cache/root"
fi

bochs=$cache/bochs-3.0/bochs
source=bochs_3.0+dfsg.orig.tar.xz sum=78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b
if [ ! -x "$bochs" ]; then
    new=$(mktemp -d "$cache/XXXXXX")
    mirror=$(apt-get download --print-uris bochsbios | sed "s/^'//; s#/pool/.*##")
    (cd "$new" && curl -sSfO "$mirror/pool/main/b/bochs/$source" && echo "$sum  $source" | sha256sum -c --quiet >&2 &&
        tar xf "$source" && cd bochs-3.0 && patch -s -p1 <"$here/emulate/bochs-3.0.patch" &&
        ./configure --with-nogui --enable-x86-64 --enable-avx --enable-evex --enable-all-optimizations --enable-memtype \
            --enable-pci --enable-cdrom --enable-repeat-speedups --disable-docbook CXXFLAGS=-O2 CFLAGS=-O2 >../log 2>&1 &&
        make -j"$(nproc)" >>../log 2>&1) || { tail -n 20 "$new/log" >&2; exit 125; }
    mv -T "$new/bochs-3.0" "$cache/bochs-3.0"
    rm -rf "$new"
fi

vm=$(mktemp -d)
machine=
trap '[ -z "$machine" ] || { kill -KILL "$machine" && wait "$machine"; } 2>/dev/null || true; rm -rf "$vm"' EXIT
mkdir -p "$vm"/{cd,root/{emulate,dev,proc,sys,tmp}}
cp "$cache/root/bin/busybox" "$vm/root/emulate/"
mapfile -t libraries < <(ldd "$program" 2>/dev/null | grep -o '/[^ ]*') # none where it is linked statically
cp -rL --parents "$program" "${libraries[@]}" "${with[@]}" "$vm/root"
mkdir -p "$vm/root$PWD"
cat >"$vm/root/init" <<END
#!/emulate/busybox sh
/emulate/busybox --install -s /emulate && export PATH=/emulate
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev
stty raw </dev/ttyS0
cd ${PWD@Q}
env ${env[*]@Q} ${program@Q} ${*@Q} </dev/null >/dev/ttyS0 2>&1
echo "emulate: status \$?" >/dev/ttyS1
poweroff -f
END
chmod +x "$vm/root/init"
(cd "$vm/root" && find . | "$cache/root/bin/busybox" cpio -o -H newc --quiet >"$vm/cd/initrd")
cp "$cache"/root/boot/vmlinuz-* "$vm/cd/vmlinuz"
cp "$cache"/root/usr/lib/{ISOLINUX/isolinux.bin,syslinux/modules/bios/ldlinux.c32} "$vm/cd/"
# Bochs tells a wrong size of the compact XSAVE area, whereupon Linux would do without AVX. trace_eval_init is a third of the boot.
parameters="console=ttyS1,115200 quiet panic=-1 mitigations=off clearcpuid=xsaves,xsavec initcall_blacklist=trace_eval_init"
printf 'default linux\nlabel linux\nkernel vmlinuz\nappend initrd=initrd %s\n' "$parameters" >"$vm/cd/isolinux.cfg"
genisoimage -quiet -o "$vm/cd.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$vm/cd"
touch "$vm"/{output,console}
cat >"$vm/bochsrc" <<END
cpu: model=$cpu, ${features:+add_features=\"$features\",} count=1, ips=100000000, reset_on_triple_fault=0
memory: guest=$memory, host=$memory
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$vm/cd.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$vm/output
com2: enabled=1, mode=file, dev=$vm/console
config_interface: textconfig
display_library: nogui
log: $vm/log
panic: action=fatal
error: action=ignore
info: action=ignore
END
"$bochs" -q -f "$vm/bochsrc" >"$vm/screen" 2>&1 </dev/null &
machine=$!
timeout "$limit" tail -n +1 -s 0.2 -f --pid="$machine" "$vm/output" ||
    { echo "$0: stopped after $limit s" >&2; exit 125; }
status=$(sed -n 's/^emulate: status \([0-9]*\).*/\1/p' "$vm/console")
[ -n "$status" ] || { tail -n 20 "$vm/screen" "$vm/log" "$vm/console" >&2; exit 125; }
exit "$status"
