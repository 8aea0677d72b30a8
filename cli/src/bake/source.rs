//! Bake files as text, and what is wrong at which place of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The text of a bake file.
#[derive(Debug, Clone)]
pub(crate) struct Source(Arc<(String, String)>);

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        Self(Arc::new((name.to_owned(), text.to_owned())))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.0
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.1
    }

    /// Something is wrong in this place.
    pub(crate) fn fault(&self, span: Option<Range<usize>>, message: impl Into<String>) -> Fault {
        let place = span.map(|span| Place { source: self.clone(), start: span.start });
        let message = if place.is_none() { format!("{}: {}", self.name(), message.into()) } else { message.into() };
        Fault { message, place }
    }
}

#[derive(Debug, Clone)]
struct Place {
    source: Source,
    /// In bytes.
    start: usize,
}

impl Place {
    /// The line before which nothing but the start of the line stands, and both counted from 1.
    fn line(&self) -> (usize, usize, &str) {
        let text = self.source.text();
        let mut start = self.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[begin..].lines().next().unwrap_or_default();
        (text[..begin].matches('\n').count() + 1, text[begin..start].chars().count() + 1, line)
    }
}

/// What is wrong with a bake file, and where.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    message: String,
    place: Option<Place>,
}

impl Fault {
    /// A fault that has no place, or none yet.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None }
    }

    /// Gives it a place unless it has one.
    pub(crate) fn at(self, source: &Source, span: Option<Range<usize>>) -> Self {
        if self.place.is_some() || span.is_none() { self } else { source.fault(span, self.message) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else { return f.write_str(&self.message) };
        let (number, column, line) = place.line();
        let tabs_kept: String = line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{}:{number}:{column}: {}", place.source.name(), self.message)?;
        write!(f, "{number:4} | {line}\n     | {tabs_kept}^")
    }
}

impl std::error::Error for Fault {}
