//! Heredocs: `<<EOF`, `<<-EOF`, `<<"EOF"`, `3<<EOF`.

use serde::{Deserialize, Serialize};

use crate::source::Span;
use crate::word::{Empty, Lexer};

/// A heredoc and its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// Whether variables in the body are expanded (the delimiter was not quoted).
    pub expand: bool,
    /// Whether leading tabs are stripped (`<<-`).
    pub strip_tabs: bool,
    /// The file descriptor before `<<`; 0 where there was none.
    pub descriptor: u32,
    /// The body as written, with line endings.
    pub content: String,
    /// The body's place in the source.
    pub span: Span,
}

impl Heredoc {
    /// The body without the leading tabs that `<<-` strips.
    #[must_use]
    pub fn body(&self) -> String {
        if self.strip_tabs { without_tabs(&self.content) } else { self.content.clone() }
    }
}

fn without_tabs(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// Reads a word that may open a heredoc; its body stays empty.
pub(crate) fn opener(word: &str) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let rest = word[digits..].strip_prefix("<<")?;
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let [name] = <[String; 1]>::try_from(lexer.expand(rest, &Empty).ok()?.words).ok()?;
    let [raw] = <[String; 1]>::try_from(Lexer { raw_quotes: true, ..lexer }.expand(rest, &Empty).ok()?.words).ok()?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = quotes(&name) == quotes(&raw);
    let descriptor = word[..digits].parse().unwrap_or(0);
    Some(Heredoc { name, expand, strip_tabs, descriptor, content: String::new(), span: Span::default() })
}

/// The heredocs that a logical line opens, in order.
pub(crate) fn openers(line: &str) -> Vec<Heredoc> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    let words = lexer.expand(line, &Empty).map(|expanded| expanded.words).unwrap_or_default();
    words.iter().filter_map(|word| opener(word)).collect()
}

/// Whether a physical line ends `heredoc`.
pub(crate) fn ends(heredoc: &Heredoc, line: &str) -> bool {
    let line = line.trim_end_matches(['\r', '\n']);
    let line = if heredoc.strip_tabs { line.trim_start_matches('\t') } else { line };
    line == heredoc.name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openers_are_read() {
        let read = |word: &str| opener(word).map(|doc| (doc.name, doc.expand, doc.strip_tabs, doc.descriptor));
        assert_eq!(read("<<EOF"), Some(("EOF".into(), true, false, 0)));
        assert_eq!(read("3<<-\"E O F\""), Some(("E O F".into(), false, true, 3)));
        assert_eq!(read("<<'a'b"), Some(("ab".into(), false, false, 0)));
        assert_eq!(read("<< EOF"), Some(("EOF".into(), true, false, 0)));
        for word in ["<<", "<<<EOF", "<EOF", "a<<EOF", "<<a b", "<<'a"] {
            assert_eq!(read(word), None, "{word}");
        }
    }

    #[test]
    fn several_a_line() {
        let names: Vec<String> = openers("COPY <<one \"<<two\" <<'three' /x").into_iter().map(|doc| doc.name).collect();
        assert_eq!(names, ["one", "three"]);
    }

    #[test]
    fn tabs_are_stripped() {
        let heredoc = Heredoc { content: "\t\ta\n b\n\tc".into(), strip_tabs: true, ..opener("<<-x").unwrap() };
        assert_eq!(heredoc.body(), "a\n b\nc");
        assert!(ends(&heredoc, "\tx\r\n"));
    }
}
