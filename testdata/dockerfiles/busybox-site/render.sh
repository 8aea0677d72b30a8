set -e
from=$1
to=$2
find "$from" -name '*.txt' | sort | while read -r page; do
    name=${page#"$from"/}
    name=${name%.txt}
    mkdir -p "$to/$(dirname "$name")"
    { echo '<!doctype html>'; sed 's/&/\&amp;/g; s/</\&lt;/g; s/.*/<p>&<\/p>/' "$page"; } >"$to/$name.html"
done
