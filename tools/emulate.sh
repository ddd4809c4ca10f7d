#!/usr/bin/env bash
# Run a program on a processor that this machine lacks: AVX-512 under Bochs, in a small Linux made on the fly.
# Usage: tools/emulate.sh [--cpu MODEL] [--with PATH]... [--env NAME=VALUE]... [--memory MIB] [--limit SECONDS] PROGRAM [ARG...]
# MODEL is one of `bochs --help cpu`: corei7_skylake_x (the default), corei7_icelake_u, tigerlake, ...
# The virtual machine sees the program, its shared libraries and each PATH (a file or a folder) where they are here; it starts in
# this folder. Output comes as it is written; the exit status is the program's, or 125 where there is none (limit, no memory).
# Needs bochs, bochs-term and genisoimage; takes a kernel, a boot loader and busybox from Debian once, uninstalled.
set -euo pipefail
cpu=corei7_skylake_x memory=1024 limit=1800 with=() env=()
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

cache=${XDG_CACHE_HOME:-$HOME/.cache}/finetuner-emulate
if [ ! -d "$cache/root" ]; then
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/XXXXXX")
    kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2 }')
    (cd "$new" && apt-get download -qq "$kernel" busybox-static isolinux syslinux-common >&2 &&
        for deb in *.deb; do dpkg-deb -x "$deb" .; done)
    mv -T "$new" "$cache/root"
fi

vm=$(mktemp -d)
bochs=
trap '[ -z "$bochs" ] || { kill -KILL "$bochs" && wait "$bochs"; } 2>/dev/null || true; rm -rf "$vm"' EXIT
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
echo c >"$vm/start" # Debian builds Bochs with its debugger: continue
cat >"$vm/bochsrc" <<END
cpu: model=$cpu, count=1, ips=100000000, reset_on_triple_fault=0
memory: guest=$memory, host=$memory
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$vm/cd.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$vm/output
com2: enabled=1, mode=file, dev=$vm/console
config_interface: textconfig
display_library: term
sound: driver=dummy
log: $vm/log
panic: action=fatal
error: action=ignore
info: action=ignore
END
TERM=vt100 bochs -q -f "$vm/bochsrc" -rc "$vm/start" >"$vm/screen" 2>&1 </dev/null &
bochs=$!
timeout "$limit" tail -n +1 -s 0.2 -f --pid="$bochs" "$vm/output" ||
    { echo "$0: stopped after $limit s" >&2; exit 125; }
status=$(sed -n 's/^emulate: status \([0-9]*\).*/\1/p' "$vm/console")
[ -n "$status" ] || { tail -n 20 "$vm/screen" "$vm/log" "$vm/console" >&2; exit 125; }
exit "$status"
