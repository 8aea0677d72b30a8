//! The two plain forms that many databases have: paragraphs of `Key: value` lines, and TOML's arrays of tables.

use std::collections::BTreeMap;

/// Paragraphs of fields, as in dpkg's status or Python's metadata: `Key: value`, lines that begin with a blank go on.
/// Only the first line of a field is kept.
pub(super) fn paragraphs(text: &str) -> impl Iterator<Item = BTreeMap<&str, &str>> {
    blocks(text).map(|lines| {
        let mut fields = BTreeMap::new();
        for line in lines {
            if let Some((key, value)) = line.split_once(':')
                && !key.is_empty()
                && !key.starts_with([' ', '\t'])
            {
                fields.entry(key).or_insert_with(|| value.trim());
            }
        }
        fields
    })
}

/// Runs of lines between empty ones.
fn blocks(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        let block: Vec<&str> =
            lines.by_ref().skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty()).collect();
        (!block.is_empty()).then_some(block)
    })
}

/// The string values of every `[[package]]` of a lock file in TOML (Cargo, Poetry, uv). Such files are machine-made:
/// one key a line.
pub(super) fn toml_packages(text: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut packages = Vec::new();
    let mut current: Option<BTreeMap<&str, &str>> = None;
    for line in text.lines() {
        if line.starts_with('[') {
            packages.extend(current.take());
            current = (line.trim_end() == "[[package]]").then(BTreeMap::new);
        } else if let Some(fields) = &mut current
            && let Some((key, value)) = line.split_once(" = ")
            && let Some(value) = value.trim().strip_prefix('"').and_then(|value| value.strip_suffix('"'))
        {
            fields.entry(key.trim()).or_insert(value);
        }
    }
    packages.extend(current);
    packages
}
