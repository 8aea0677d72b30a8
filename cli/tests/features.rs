//! docs/features.md names tests that exist, and leaves no feature that is needed without one.

#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// What the tree has: names of functions, and names of files and folders of sources.
struct Tree {
    functions: BTreeSet<String>,
    files: BTreeSet<String>,
    modules: BTreeSet<String>,
}

fn tree() -> Tree {
    let mut tree = Tree { functions: BTreeSet::new(), files: BTreeSet::new(), modules: BTreeSet::new() };
    let mut paths = Vec::new();
    for name in ["solver", "frontend", "cache", "executor", "cli"] {
        sources(&workspace().join(name), &mut paths);
    }
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        tree.functions.extend(text.split("fn ").skip(1).map(|rest| {
            rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect::<String>()
        }));
        tree.files.insert(path.file_name().unwrap().to_string_lossy().into_owned());
        tree.modules.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
        tree.modules.extend(path.parent().unwrap().file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    tree
}

/// Whether a text looks like the name of a test, of which there are none of fewer than four words outside of paths.
fn is_long_name(text: &str) -> bool {
    text.matches('_').count() >= 3
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What is wrong with a text in backticks; most are no tests.
fn wrong(quoted: &str, tree: &Tree) -> Option<String> {
    for part in quoted.split([':', ' ', ',']).filter(|part| !part.is_empty()) {
        let (name, cut) = part.strip_suffix('…').map_or((part, false), |start| (start, true));
        let known = |name: &str| {
            tree.functions.contains(name) || (cut && tree.functions.iter().any(|own| own.starts_with(name)))
        };
        if part.ends_with(".rs") && !part.contains('/') && !tree.files.contains(part) {
            return Some(format!("there is no file {part}"));
        }
        if is_long_name(name.trim_end_matches('_')) && !known(name) {
            return Some(format!("there is no test {part}"));
        }
    }
    if let Some((_, last)) = quoted.rsplit_once("::").filter(|_| !quoted.contains(' ')) {
        let known = tree.functions.contains(last) || tree.modules.contains(last) || matches!(last, "tests");
        let is_path = quoted
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b':'));
        if is_path && !known {
            return Some(format!("there is no {quoted}"));
        }
    }
    None
}

/// The cells of a row; `\|` is no border.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{1}");
    inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

#[test]
fn features_have_tests_that_exist_or_reasons() {
    let text = std::fs::read_to_string(workspace().join("docs/features.md")).unwrap();
    let tree = tree();
    let (mut faults, mut rows) = (Vec::new(), 0);
    for (number, line) in (1..).zip(text.lines()) {
        if !line.starts_with('|')
            || line.starts_with("|---")
            || line.starts_with("| Feature")
            || line.starts_with("| Attack")
        {
            continue;
        }
        let cells = cells(line);
        let last = cells.last().unwrap();
        rows += 1;
        if last.is_empty() {
            faults.push(format!("line {number}: {} has neither test nor reason", cells[0]));
        }
        for quoted in last.split('`').skip(1).step_by(2) {
            faults.extend(wrong(quoted, &tree).map(|fault| format!("line {number}: {fault}")));
        }
    }
    assert!(rows > 100, "the tables are not read: {rows} rows");
    assert!(faults.is_empty(), "docs/features.md:\n{}", faults.join("\n"));
}
