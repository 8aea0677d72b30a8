add_entry() {
    local number
    number=$(find "$LOGBOOK/entries" -type f | wc -l)
    cp "$1" "$LOGBOOK/entries/$((number + 1))"
}

list_entries() {
    local entry
    for entry in "$LOGBOOK"/entries/*; do
        printf '%s: %s\n' "${entry##*/}" "$(<"$entry")"
    done
}
