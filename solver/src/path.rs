//! Lexical paths, as Go's `path` package has them: no disk, no symbolic links.

/// The shortest equal path: no empty or `.` parts, `..` resolved where something stands before it; empty becomes `.`.
///
/// ```
/// assert_eq!(lap_solver::path::clean("/a//b/../c/."), "/a/c");
/// assert_eq!(lap_solver::path::clean("../a"), "../a");
/// ```
#[must_use]
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `second` below `first`, cleaned; empty where both are.
#[must_use]
pub fn join(first: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (true, true) => String::new(),
        (true, false) => clean(second),
        (false, true) => clean(first),
        (false, false) => clean(&format!("{first}/{second}")),
    }
}

/// The last part: `/` for a root, `.` for nothing.
#[must_use]
pub fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed.rsplit('/').next().unwrap_or(trimmed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, want) in [
            ("", "."),
            ("/", "/"),
            ("//a", "/a"),
            ("a/..", "."),
            ("a/../..", ".."),
            ("/../a", "/a"),
            ("../../a/./b/", "../../a/b"),
            ("./a", "a"),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("a", "../b"), "b");
        assert_eq!(base("/a/b/"), "b");
        assert_eq!(base("///"), "/");
    }
}
