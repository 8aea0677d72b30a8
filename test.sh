#!/usr/bin/env bash
# Installs what the tests need and runs all of them: unit, sandbox and end-to-end.
# A test that cannot run here prints SKIPPED with the reason; the count stands at the end.
set -euo pipefail
cd "$(dirname "$0")"

testdata/install.sh busybox-static chromium mmdebstrap docker-registry skopeo umoci podman buildah runc jq uidmap gcc libc6-dev \
    curl zstd iproute2 nftables strace user-mode-linux git apache2-utils qemu-user-static openssh-server \
    python3-venv

# A server of S3, which Debian does not have.
if ! command -v moto_server >/dev/null; then
    [ -x target/moto/bin/moto_server ] || { python3 -m venv target/moto && target/moto/bin/pip -q install 'moto[server,s3]'; } ||
        echo "moto cannot be installed: the tests of S3 are skipped"
    PATH=$PATH:$PWD/target/moto/bin
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --workspace --no-fail-fast -- --nocapture --test-threads=2 2>&1 | tee "$log" || status=$?

passed=$(grep -oE '[0-9]+ passed' "$log" | awk '{n += $1} END {print n + 0}')
failed=$(grep -oE '[0-9]+ failed' "$log" | awk '{n += $1} END {print n + 0}')
skipped=$(grep -c '^SKIPPED' "$log" || true)
grep '^SKIPPED' "$log" | sort | uniq -c || true
[ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
