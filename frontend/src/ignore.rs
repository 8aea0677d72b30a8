//! `.dockerignore`: lines to patterns for [`lap_solver::pattern::Matcher`].

use lap_solver::path;
use lap_solver::pattern::{BadPattern, Matcher};

/// A line of an ignore file that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {source}")]
pub struct BadLine {
    file: String,
    /// Counted from 1.
    pub line: usize,
    source: BadPattern,
}

/// As [`parse`], for a file whose lines must be patterns; `file` is what the error calls it.
///
/// # Errors
/// The first line that is none.
pub fn read(file: &str, text: &str) -> Result<Vec<String>, BadLine> {
    for (line, own) in (1..).zip(text.lines()) {
        // The mark of byte order stands on the first line, where it is taken away.
        Matcher::new(&parse(own)).map_err(|source| BadLine { file: file.to_owned(), line, source })?;
    }
    Ok(parse(text))
}

/// The patterns of an ignore file, in order, as moby's `ignorefile` reads them.
///
/// A `#` in the first column starts a comment. Leading slashes mean nothing; `!` takes back.
#[must_use]
pub fn parse(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().filter(|line| !line.starts_with('#')).filter_map(pattern).collect()
}

fn pattern(line: &str) -> Option<String> {
    let line = line.trim();
    let (mark, rest) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest.trim()));
    if rest.is_empty() {
        // A lone `!` is kept so that the matcher refuses it.
        return (!mark.is_empty()).then(|| mark.to_owned());
    }
    let cleaned = path::clean(rest);
    let relative = if cleaned.len() > 1 { cleaned.trim_start_matches('/') } else { &cleaned };
    Some(format!("{mark}{relative}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_patterns() {
        let text = "\u{feff}# comment\n # no comment\n\n/a/b/\n! /c\r\n../d\n*/./e\n/\n!\n";
        for (text, want) in [
            ("a\n[\n", ".dockerignore:2: syntax error in pattern \"[\""),
            ("\u{feff}!", ".dockerignore:1: illegal exclusion pattern: \"!\""),
        ] {
            assert_eq!(read(".dockerignore", text).unwrap_err().to_string(), want);
        }
        assert_eq!(read("", "\u{feff}#[\na\r\n").unwrap(), ["a"]);
        assert_eq!(parse(text), ["# no comment", "a/b", "!c", "../d", "*/e", "/", "!"]);
    }
}
