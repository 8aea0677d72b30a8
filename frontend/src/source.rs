//! A text with a name, and places in it.

use serde::{Deserialize, Serialize};

/// Bytes `start..end` of a [`Source`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A line and a column, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// A Dockerfile's text under the name the user gave it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    starts: Vec<usize>,
}

impl Source {
    /// Takes bytes; what is no UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let after_newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let mut starts: Vec<usize> = std::iter::once(0).chain(after_newlines).collect();
        if starts.len() > 1 && starts.last() == Some(&text.len()) {
            starts.pop();
        }
        Self { name: name.to_owned(), text, starts }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text; spans count its bytes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The number of lines; an empty text has none.
    #[must_use]
    pub fn line_count(&self) -> usize {
        if self.text.is_empty() { 0 } else { self.starts.len() }
    }

    /// The bytes of line `index` (counted from 0) with its line ending.
    #[must_use]
    pub fn line(&self, index: usize) -> Span {
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        Span { start, end: self.starts.get(index + 1).copied().unwrap_or(self.text.len()) }
    }

    /// The text of a span; empty where it lies outside.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// Line and column of a byte.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let index = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.starts.get(index).copied().unwrap_or(0);
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or("");
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Position { line: count(index + 1), column: count(before.chars().count() + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let source = Source::new("Dockerfile", "añb\r\nc\n".as_bytes());
        assert_eq!(source.line_count(), 2);
        assert_eq!(source.slice(source.line(0)), "añb\r\n");
        assert_eq!(source.position(3), Position { line: 1, column: 3 });
        assert_eq!(source.position(6), Position { line: 2, column: 1 });
        assert_eq!(source.position(99).line, 2);
        assert_eq!(Source::new("", b"").line_count(), 0);
    }
}
