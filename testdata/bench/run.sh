#!/usr/bin/env bash
# run.sh [LAP]: the benchmarks beside buildah and podman, in one run on a fresh file system. Prints medians and ratios.
#
# ext4 is slow where many files were just deleted, so everything lies on a new file system image, mounted by loop.
# Needs root, and the packages busybox-static, buildah, podman, runc, docker-registry, skopeo and umoci. With BENCH=transfers
# only the images that travel are measured.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
testdata/install.sh busybox-static buildah podman runc e2fsprogs docker-registry skopeo umoci
lap=${1:-}
if [ -z "$lap" ]; then
    lap=$(cargo build --release --quiet --message-format=json | sed -n 's/.*"executable":"\([^"]*\/lap\)".*/\1/p' | tail -n 1)
fi
lap=$(realpath "$lap")

image=$(mktemp "${TMPDIR:-/tmp}/lap-bench.XXXXXX")
disk=$(mktemp -d)
registry=
finish() { [ -z "$registry" ] || kill "$registry" 2>/dev/null || true; umount -l "$disk" 2>/dev/null || true; rm -rf "$image" "$disk"; }
trap finish EXIT
truncate -s 12G "$image"
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$image"
mount -o loop "$image" "$disk"

export LAP_ROOT=$disk/lap
peer=(--root "$disk/peer" --runroot "$disk/peer-run")
buildah() { command buildah "${peer[@]}" "$@"; }
podman() { command podman "${peer[@]}" --runtime runc "$@"; }

median() { # COUNT COMMAND...: milliseconds, with tenths
    local count=$1 start end i
    shift
    for ((i = 0; i < count; i++)); do
        start=$(date +%s%N)
        "$@" >/dev/null 2>&1 || { echo "failed: $*" >&2; exit 1; }
        end=$(date +%s%N)
        echo $(((end - start) / 100000))
    done | sort -n | awk '{v[NR] = $1} END {printf "%.1f\n", v[int((NR + 1) / 2)] / 10}'
}
row() { # TITLE OURS THEIRS NAME
    awk -v t="$1" -v a="$2" -v b="$3" -v n="$4" 'BEGIN {printf "%-34s %9.1f ms   %-8s %9.1f ms   %6.1fx\n", t, a, n, b, b / a}'
}

printf '%-34s %12s   %-8s %12s   %7s\n' scenario lap peer "" ratio

# Five layers of 120 MB each, digits that gzip makes less than half of, from Debian's registry on loopback into empty stores.
transfers() {
    mkdir -p "$disk/five"
    for i in 1 2 3 4 5; do
        mkdir -p "$disk/five/$i"
        # The same bytes each time.
        head -c 39183673 /dev/zero | openssl enc -aes-128-ctr -K "$(printf %032d "$i")" -iv "$(printf %032d 0)" |
            od -An -v -tx1 | split -b 5M - "$disk/five/$i/"
    done
    { echo FROM scratch; for i in 1 2 3 4 5; do echo "COPY $i /$i"; done } >"$disk/five/Dockerfile"
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' \
        "$disk/registry" "$port" >"$disk/registry.yml"
    docker-registry serve "$disk/registry.yml" >/dev/null 2>&1 &
    registry=$!
    local name=127.0.0.1:$port/five:1
    "$lap" build -q -t "$name" "$disk/five" >/dev/null
    until "$lap" push -q "$name" >/dev/null 2>&1; do kill -0 "$registry" && sleep 0.2; done

    our_pull() { LAP_ROOT=$disk/pulled "$lap" pull -q "$name"; }
    podman_pull() { podman pull -q --tls-verify=false "$name"; }
    umoci_pull() {
        skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$name" "oci:$disk/layout:1" &&
            umoci unpack --image "$disk/layout:1" "$disk/unpacked"
    }
    forget() { rm -rf "$disk/pulled" "$disk/layout" "$disk/unpacked"; podman rmi -fa >/dev/null 2>&1 || true; sync; }
    # Side by side, so that what else the machine does slows all of them.
    local ours=() podmans=() umocis=()
    for _ in $(seq "${ROUNDS:-3}"); do
        forget; ours+=("$(median 1 our_pull)")
        forget; podmans+=("$(median 1 podman_pull)")
        forget; umocis+=("$(median 1 umoci_pull)")
    done
    forget
    middle() { printf '%s\n' "$@" | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
    best() { printf '%s\n' "$@" | sort -n | head -n 1; }
    row "pull 5 layers, 600 MB: median" "$(middle "${ours[@]}")" "$(middle "${podmans[@]}")" podman
    row "pull 5 layers, 600 MB: best" "$(best "${ours[@]}")" "$(best "${podmans[@]}")" podman
    row "pull and unpack: median" "$(middle "${ours[@]}")" "$(middle "${umocis[@]}")" "skopeo+umoci"
    row "pull and unpack: best" "$(best "${ours[@]}")" "$(best "${umocis[@]}")" "skopeo+umoci"

    "$lap" save -o "$disk/five.tar" "$name" 2>/dev/null
    podman load -q -i "$disk/five.tar" >/dev/null
    their_push() { podman push -q --tls-verify=false "$name"; }
    their_push >/dev/null 2>&1
    row "push of what is there" "$(median 9 "$lap" push -q "$name")" "$(median 3 their_push)" podman
    kill "$registry"
    registry=
}

transfers
[ "${BENCH:-all}" = all ] || exit 0

testdata/bases/make.sh busybox "$disk/busybox.tar"
"$lap" import "$disk/busybox.tar" localhost/busybox:latest >/dev/null
"$lap" save localhost/busybox:latest -o "$disk/busybox.oci" 2>/dev/null
buildah pull -q "docker-archive:$disk/busybox.oci" >/dev/null

context() { mkdir -p "$disk/$1"; cat >"$disk/$1/Dockerfile"; }
base="FROM localhost/busybox:latest"
{ echo "$base"; for i in $(seq 10); do echo "RUN echo $i > /f$i"; done; } | context ten
{ echo "$base"; for i in $(seq 50); do echo "RUN true # $i"; done; } | context fifty
{
    for i in $(seq 8); do echo "$base AS s$i"; echo "RUN sleep 1; echo $i > /out"; done
    echo "FROM scratch"
    for i in $(seq 8); do echo "COPY --from=s$i /out /out$i"; done
} | context eight

ours() { "$lap" build -q --network none "$@"; }
theirs() { buildah bud -q --layers --runtime runc --isolation oci --network none "$@"; }
# Its own limits are above what a container of a machine may have.
their_run() {
    podman run --rm --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network none localhost/busybox:latest true
}

ours "$disk/ten" >/dev/null && theirs "$disk/ten" >/dev/null
row "cached rebuild, 10 steps" "$(median 9 ours "$disk/ten")" "$(median 3 theirs "$disk/ten")" buildah
row "50 sequential RUN true" "$(median 3 ours --no-cache "$disk/fifty")" "$(median 1 theirs --no-cache "$disk/fifty")" buildah
row "8 stages of sleep 1" "$(median 2 ours --no-cache "$disk/eight")" "$(median 1 theirs --jobs 8 --no-cache "$disk/eight")" buildah
row "run --rm --network none true" \
    "$(median 21 "$lap" run --rm --network none localhost/busybox:latest true)" \
    "$(median 5 their_run)" podman
row "run --rm true (bridge)" \
    "$(median 11 "$lap" run --rm localhost/busybox:latest true)" \
    "$(median 3 their_run)" "podman*"
echo "* podman without a network: its bridge needs packages that are not installed by default"
