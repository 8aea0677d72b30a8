#!/usr/bin/env bash
# make.sh busybox|busybox-arm64|debian OUT.tar: a base image's root file system from Debian's packages, for `lap import OUT.tar NAME`.
#
# busybox: the one static binary, a link for each of its programs, and the few files a system needs.
# busybox-arm64: the same with Debian's binary for arm64, fetched with lists of packages of its own.
# debian:  what mmdebstrap unpacks (essential packages and apt) from this machine's own package sources, with its
#          package configuration, so that `RUN apt-get update` asks whom this machine asks.
# Needs the packages busybox-static and mmdebstrap.
set -euo pipefail

kind=${1:?usage: make.sh busybox|busybox-arm64|debian OUT.tar}
out=$(realpath -m "${2:?usage: make.sh busybox|busybox-arm64|debian OUT.tar}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$(dirname "$out")"

pack() { # DIR
    tar -C "$1" --sort=name --mtime=@1672531200 --owner=0 --group=0 --numeric-owner -cf "$out.part" .
    mv "$out.part" "$out"
}

busybox_root() { # PROGRAM
    local root=$work/root program
    program=$1
    mkdir -p "$root"/{bin,dev,etc,home,lib,mnt,opt,proc,root,run,sbin,srv,sys,tmp,usr/bin,usr/sbin,var/log,var/tmp}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    chmod 700 "$root/root"
    cp "$program" "$root/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"
    done
    ln "$root/bin/busybox" "$root/usr/bin/env"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnobody:x:65534:\n' >"$root/etc/group"
    pack "$root"
}

busybox_arm64() {
    local apt=(apt-get -q -o APT::Architectures::=arm64 -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache"
        -o APT::Sandbox::User=root)
    mkdir -p "$work"/{lists,cache/archives}/partial
    (cd "$work" && "${apt[@]}" update && "${apt[@]}" download busybox-static:arm64) >&2
    dpkg-deb -x "$work"/busybox-static_*_arm64.deb "$work/package"
    busybox_root "$work/package/bin/busybox"
}

debian() {
    local suite sources=() file root=$work/root
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian*.sources /etc/apt/sources.list.d/debian*.list; do
        [ -s "$file" ] && sources+=("$file")
    done
    mmdebstrap --quiet --variant=apt \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$work/raw.tar" "${sources[@]}"
    mkdir "$root"
    tar -C "$root" -xf "$work/raw.tar" --exclude='./dev/*'
    # What tells this machine's package manager whom to ask tells the image's, too.
    cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
    rm -f "$root"/etc/apt/apt.conf.d/*packagekit* "$root"/etc/apt/apt.conf.d/*appstream*
    cp -a /etc/apt/trusted.gpg.d/. "$root/etc/apt/trusted.gpg.d/"
    [ -d /etc/apt/preferences.d ] && cp -a /etc/apt/preferences.d/. "$root/etc/apt/preferences.d/"
    printf 'Acquire::Languages "none";\nAPT::Install-Recommends "false";\nDPkg::Use-Pty "false";\n' \
        >"$root/etc/apt/apt.conf.d/99lean"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root/etc/hostname" "$root/etc/resolv.conf"
    pack "$root"
}

case $kind in
    busybox) busybox_root "$(type -P busybox)" ;;
    busybox-arm64) busybox_arm64 ;;
    debian) debian ;;
    *) echo "make.sh: unknown kind $kind: busybox, busybox-arm64 or debian" >&2; exit 2 ;;
esac
