//! Logical lines: physical lines joined at continuations, comments between them dropped.
//!
//! A logical line keeps where its pieces came from, so that every word has a place in the source.

use std::ops::Range;

use crate::source::{Source, Span};

/// A line as instructions see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogicalLine {
    pub(crate) text: String,
    /// Offset in `text`, offset in the source; in order.
    pieces: Vec<(usize, usize)>,
    pub(crate) span: Span,
    /// Physical lines, counted from 0.
    pub(crate) lines: Range<usize>,
    pub(crate) empty_continuation: bool,
}

impl LogicalLine {
    /// Where a part of the text stands in the source.
    pub(crate) fn place(&self, range: Range<usize>) -> Span {
        let start = self.offset(range.start);
        let last = if range.end > range.start { self.offset(range.end - 1) + 1 } else { start };
        Span { start, end: last.max(start) }
    }

    fn offset(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(own, _)| *own <= at).saturating_sub(1);
        self.pieces.get(piece).map_or(self.span.start, |(own, source)| source + (at - own))
    }
}

/// Reads the logical line that begins at physical line `first`; `None` where that one is empty or a comment.
pub(crate) fn read(source: &Source, first: usize, escape: char) -> Option<LogicalLine> {
    let physical = source.line(first);
    let content = content(source, physical, first == 0);
    let start = physical.end - ending(source, physical) - content.trim_start().len();
    let content = content.trim_start();
    let (part, mut more) = continuation(content, escape);
    if !more && part.is_empty() || content.starts_with('#') {
        return None;
    }
    let mut line = LogicalLine {
        text: part.to_owned(),
        pieces: vec![(0, start)],
        span: Span { start, end: start + content.len() },
        lines: first..first + 1,
        empty_continuation: false,
    };
    while more && line.lines.end < source.line_count() {
        let physical = source.line(line.lines.end);
        line.lines.end += 1;
        let content = source.slice(physical).trim_end_matches(['\r', '\n']);
        let trimmed = content.trim_start();
        if trimmed.starts_with('#') {
            continue;
        }
        if trimmed.is_empty() {
            line.empty_continuation = true;
            continue;
        }
        let part;
        (part, more) = continuation(content, escape);
        line.pieces.push((line.text.len(), physical.start));
        line.text.push_str(part);
        line.span.end = physical.start + content.len();
    }
    Some(line)
}

/// A physical line without its ending, the first one of a file also without byte order mark.
fn content(source: &Source, physical: Span, first: bool) -> &str {
    let text = source.slice(physical).trim_end_matches(['\r', '\n']);
    if first { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text }
}

fn ending(source: &Source, physical: Span) -> usize {
    let text = source.slice(physical);
    text.len() - text.trim_end_matches(['\r', '\n']).len()
}

/// A line without its continuation, and whether it had one: the escape letter, not itself escaped, and blanks.
fn continuation(text: &str, escape: char) -> (&str, bool) {
    let Some(rest) = text.trim_end_matches([' ', '\t']).strip_suffix(escape) else { return (text, false) };
    if rest.ends_with(escape) { (text, false) } else { (rest, true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogicalLine {
        read(&Source::new("Dockerfile", text.as_bytes()), 0, '\\').unwrap()
    }

    #[test]
    fn lines_are_joined_and_keep_their_places() {
        let text = "\u{feff}  RUN a \\ \t\n# no\n\n   b\\\r\n c\nNEXT";
        let joined = line(text);
        assert_eq!(joined.text, "RUN a    b c");
        assert!(joined.empty_continuation);
        assert_eq!(joined.lines, 0..5);
        let at = joined.text.find('c').unwrap();
        assert_eq!(joined.place(at..at + 1).start, text.find('c').unwrap());
        assert_eq!(joined.place(0..3), Span { start: 5, end: 8 });
    }

    #[test]
    fn escaped_escapes_and_blank_lines() {
        assert_eq!(line("A \\\\\nB").text, "A \\\\");
        assert_eq!(line("A \\").text, "A ");
        assert_eq!(line("\\\nA").text, "A");
        assert!(read(&Source::new("", b"  \n"), 0, '\\').is_none());
        assert!(read(&Source::new("", b"# x \\\n"), 0, '\\').is_none());
    }
}
