//! `.dockerignore`: lines to patterns for [`lap_solver::pattern::Matcher`].

use lap_solver::path;

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
        assert_eq!(parse(text), ["# no comment", "a/b", "!c", "../d", "*/e", "/", "!"]);
    }
}
