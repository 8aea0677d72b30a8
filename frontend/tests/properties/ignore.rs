//! Ignore files against a reference that makes a regular expression of each line and asks every folder above a path.

use lap_frontend::ignore;
use lap_solver::pattern::{MatchInfo, Matcher, match_name};
use proptest::prelude::*;
use regex::Regex;

use crate::cases;

/// A pattern as a regular expression; `**` crosses folders where `double` says so.
fn translated(pattern: &str, double: bool) -> Option<Regex> {
    if let Some(rest) = pattern.strip_prefix("**").filter(|_| double)
        && !rest.starts_with('/')
        && !rest.contains(['*', '?', '[', ']', '\\'])
    {
        // moby's short cut for `**` before plain letters: any text that ends with them.
        return Some(Regex::new(&format!("(?s){}$", regex::escape(rest))).unwrap());
    }
    let letters: Vec<char> = pattern.chars().collect();
    let mut out = "^".to_owned();
    let mut at = 0;
    while at < letters.len() {
        let rest: String = letters[at..].iter().collect();
        let length = match letters[at] {
            '*' if double && rest.starts_with("**") => {
                let slash = usize::from(rest.starts_with("**/"));
                out.push_str(if rest.len() == 2 + slash { ".*" } else { "(.*/)?" });
                2 + slash
            }
            '*' => {
                out.push_str("[^/]*");
                1
            }
            '?' => {
                out.push_str("[^/]");
                1
            }
            '\\' => {
                out.push_str(&regex::escape(&letters.get(at + 1)?.to_string()));
                2
            }
            '[' => {
                let (text, length) = class(&letters[at..])?;
                out.push_str(&text);
                length
            }
            letter => {
                out.push_str(&regex::escape(&letter.to_string()));
                1
            }
        };
        at += length;
    }
    Some(Regex::new(&format!("(?s){out}$")).unwrap())
}

/// `[a-z]` and `[^a]`, as Go reads them: not empty, no bare `-`, `]` only escaped. An empty range matches nothing.
fn class(letters: &[char]) -> Option<(String, usize)> {
    let negated = letters.get(1) == Some(&'^');
    let mut at = 1 + usize::from(negated);
    let mut ranges = Vec::new();
    let letter = |at: &mut usize| {
        let escaped = letters.get(*at) == Some(&'\\');
        *at += usize::from(escaped);
        let found = *letters.get(*at)?;
        *at += 1;
        (escaped || !matches!(found, '-' | ']')).then_some(found)
    };
    while ranges.is_empty() || letters.get(at) != Some(&']') {
        let low = letter(&mut at)?;
        let high = if letters.get(at) == Some(&'-') {
            at += 1;
            letter(&mut at)?
        } else {
            low
        };
        ranges.push((low, high));
    }
    let ranges: String = ranges
        .iter()
        .filter(|(low, high)| low <= high)
        .map(|(low, high)| format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(*low), u32::from(*high)))
        .collect();
    let text = match (negated, ranges.is_empty()) {
        (true, true) => ".".to_owned(),
        (false, true) => "[a&&b]".to_owned(),
        (true, false) => format!("[^{ranges}]"),
        (false, false) => format!("[{ranges}]"),
    };
    Some((text, at + 1))
}

/// Go's `path.Clean`, one rule after the other until none applies.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    while let Some(at) = parts.windows(2).position(|pair| pair[0] != ".." && pair[1] == "..") {
        parts.drain(at..at + 2);
    }
    if path.starts_with('/') {
        while parts.first() == Some(&"..") {
            parts.remove(0);
        }
        return format!("/{}", parts.join("/"));
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Whether an ignore file ignores a path; nothing where one of its lines is no pattern.
fn reference(text: &str, path: &str) -> Option<bool> {
    let mut ignored = false;
    let mut above: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
    above.push(path);
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = if line.starts_with('#') { "" } else { line.trim() };
        let (exception, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if pattern.is_empty() {
            if exception {
                return None;
            }
            continue;
        }
        let cleaned = clean(pattern);
        let pattern = if cleaned == "/" { "/" } else { cleaned.trim_start_matches('/') };
        // The list is read once more, mark and all.
        let line = clean(format!("{}{pattern}", if exception { "!" } else { "" }).trim());
        let (exception, pattern) = match line.strip_prefix('!') {
            Some("") => return None,
            Some(rest) => (true, rest),
            None => (false, line.as_str()),
        };
        let regex = translated(pattern, true)?;
        if above.iter().any(|dir| regex.is_match(dir)) {
            ignored = !exception;
        }
    }
    Some(ignored)
}

fn own(text: &str, path: &str) -> Option<bool> {
    let matcher = Matcher::new(&ignore::parse(text)).ok()?;
    let walked = walk(&matcher, path);
    assert_eq!(matcher.matches(path), walked, "asking and walking differ: {text:?} {path}");
    Some(walked)
}

/// As a walk from the top asks.
fn walk(matcher: &Matcher, path: &str) -> bool {
    let mut info = MatchInfo::default();
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let mut matched = false;
    for end in ends {
        (matched, info) = matcher.matches_using_parents(&path[..end], &info);
    }
    matched
}

fn paths() -> impl Strategy<Value = String> {
    "[ab.é]{1,3}(/[ab.]{1,2}){0,3}"
        .prop_filter("no folder called . or ..", |path| path.split('/').all(|part| !matches!(part, "." | "..")))
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn ignore_files_mean_what_the_reference_says(
        lines in prop::collection::vec("!?/?(\\*\\*/?|\\*|\\?|a|b|é|\\.|/|\\[ab\\]|\\[\\^a\\]|\\[a-c\\]|\\\\a){1,6}/?", 0..5),
        path in paths(),
    ) {
        let text = lines.join("\n");
        prop_assert_eq!(own(&text, &path), reference(&text, &path), "{:?} {}", text, path);
    }

    #[test]
    fn noise_in_ignore_files_too(text in "[ab/.*?!\\[\\]^\\\\# \n\t-]{0,16}", path in paths()) {
        prop_assert_eq!(own(&text, &path), reference(&text, &path), "{:?} {}", text, path);
    }

    #[test]
    fn names_mean_what_the_reference_says(pattern in "[ab*?/\\[\\]^\\\\-]{0,8}", name in "[ab/^-]{0,6}") {
        let reference = translated(&pattern, false).map(|regex| regex.is_match(&name));
        prop_assert_eq!(match_name(&pattern, &name).ok(), reference, "{} {}", pattern, name);
    }
}
