#!/bin/sh
# Fuzzes one target, or all one after the other: run.sh [TARGET [SECONDS]]
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export RUSTC_BOOTSTRAP=1
targets=${1:-parse lower expand ignore archive bake}
seconds=${2:-60}
for target in $targets; do
	seeds=corpus/$target
	mkdir -p "$seeds"
	case $target in
	parse | lower) cp "$root"/testdata/dockerfiles/*.Dockerfile "$root"/testdata/errors/*.Dockerfile "$seeds" ;;
	bake)
		# The first byte is the form: 0 HCL, 1 JSON, 2 compose.
		for file in "$root"/testdata/bake/good/*.hcl "$root"/testdata/bake/good/*.json "$root"/testdata/bake/good/*.y*ml; do
			[ -f "$file" ] || continue
			case $file in *.hcl) form='\000' ;; *.json) form='\001' ;; *) form='\002' ;; esac
			{ printf "$form"; cat "$file"; } >"$seeds/$(basename "$file")"
		done
		;;
	archive) tar -C "$root" -cf "$seeds/plain.tar" testdata/demo; gzip -c "$seeds/plain.tar" >"$seeds/plain.tar.gz" ;;
	ignore) printf '# note\n*.log\n!keep.log\n**/a/[b-d]?\n\000a/b/c.log' >"$seeds/seed" ;;
	expand) printf '\000${a:-${e:+"x y"}}${a//\\/\\//-}${long##*a}' >"$seeds/seed" ;;
	esac
	cargo fuzz run --fuzz-dir . --sanitizer none "$target" -- -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=4096
done
