#!/usr/bin/env bash
# The whole way once: base images from packages, a real multi-stage build, the cached rebuild, run, export, push, pull.
# Everything it makes is below a temporary directory, which it removes.
set -euo pipefail
cd "$(dirname "$0")"

testdata/install.sh busybox-static mmdebstrap docker-registry gcc libc6-dev curl

work=$(mktemp -d "${TMPDIR:-/tmp}/lap-demo.XXXXXX")
registry=
finish() {
    status=$?
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

export LAP_ROOT=$work/store
times=()
part() { # TITLE COMMAND...
    local title=$1 start end
    shift
    printf '\n\033[1m== %s\033[0m\n' "$title"
    [ "$1" = quietly ] && shift || echo "\$ $*"
    start=$(date +%s%N)
    "$@"
    end=$(date +%s%N)
    times+=("$(printf '%8d ms  %s' $(((end - start) / 1000000)) "$title")")
}

part "build lap itself (release)" cargo build --release --quiet
lap() { "$bin" "$@"; }
bin=$(cargo build --release --quiet --message-format=json | sed -n 's/.*"executable":"\([^"]*\/lap\)".*/\1/p' | tail -n 1)
ls -l "$bin"

part "busybox from its package" testdata/bases/make.sh busybox "$work/busybox.tar"
part "Debian from its packages" testdata/bases/make.sh debian "$work/debian.tar"
part "import busybox" lap import "$work/busybox.tar" busybox:local
part "import Debian" lap import "$work/debian.tar" debian:local
part "build: compiler by apt-get, Lua from source, final stage from scratch" lap build -t demo/lua:1 testdata/demo
part "the same again: everything cached" lap build -t demo/lua:1 testdata/demo
part "run it" lap run --rm --network none demo/lua:1
part "another program of the image" lap run --rm --network none --entrypoint /bin/answer demo/lua:1
part "the images" lap images
part "export an OCI archive" lap build -o "type=oci,dest=$work/lua.tar" testdata/demo
ls -l "$work/lua.tar"

port=$((20000 + RANDOM % 20000))
cat >"$work/registry.yml" <<YML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"}
YML
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry=$!
for _ in $(seq 100); do curl -fs "http://127.0.0.1:$port/v2/" >/dev/null && break; sleep 0.1; done

name=127.0.0.1:$port/demo/lua:1
part "name it for a registry" lap tag demo/lua:1 "$name"
part "push" lap push "$name"
part "push again: nothing to send" lap push "$name"
export LAP_ROOT=$work/other-store
part "pull into an empty store" lap pull "$name"
part "run what was pulled" lap run --rm --network none "$name"

printf '\n\033[1m== times\033[0m\n'
printf '%s\n' "${times[@]}"
