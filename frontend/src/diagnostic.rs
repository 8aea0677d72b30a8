//! What is wrong with a Dockerfile, where, and what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::source::{Position, Source, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The build can go on.
    Warning,
    /// It cannot.
    Error,
}

/// Who found it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The parser: the text is no Dockerfile.
    Syntax,
    /// Stage resolution or lowering: the text asks for something that cannot be.
    Meaning,
    /// A check; its name is one of [`crate::lint::RULES`].
    Rule(String),
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Who found it.
    pub code: Code,
    /// A fragment without full stop, in `BuildKit`'s words where it has some.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Name of the file.
    pub file: String,
    /// The bytes it is about.
    pub span: Span,
    /// Where they begin; line 0 is the whole file.
    pub position: Position,
}

impl Diagnostic {
    /// A finding about `span` of `source`.
    #[must_use]
    pub fn new(severity: Severity, code: Code, message: String, source: &Source, span: Span) -> Self {
        let position = source.position(span.start);
        Self { severity, code, message, hint: None, file: source.name().to_owned(), span, position }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Message and hint in `BuildKit`'s form, on one line.
    #[must_use]
    pub fn text(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        match self.code {
            Code::Syntax => format!("dockerfile parse error on line {}: {}{hint}", self.position.line, self.message),
            Code::Meaning | Code::Rule(_) => format!("{}{hint}", self.message),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        match line {
            0 => write!(f, "{}: ", self.file)?,
            _ => write!(f, "{}:{line}:{column}: ", self.file)?,
        }
        match &self.code {
            Code::Rule(rule) => write!(f, "{rule}: {}", self.text()),
            Code::Syntax | Code::Meaning => f.write_str(&self.text()),
        }
    }
}

/// A problem before it is known in which source its span lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The instruction's own span where absent.
    pub(crate) span: Option<Span>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, span: None }
    }

    pub(crate) fn at(mut self, span: Span) -> Self {
        self.span = self.span.or(Some(span));
        self
    }

    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = self.hint.or(hint);
        self
    }

    /// Adds "did you mean" where one of `options` is near `word`.
    pub(crate) fn suggest<'a>(self, word: &str, options: impl IntoIterator<Item = &'a str>) -> Self {
        let hint = crate::suggest::nearest(word, options).map(|near| format!("did you mean {near}?"));
        self.hint(hint)
    }

    pub(crate) fn into_diagnostic(self, code: Code, source: &Source, instruction: Span) -> Diagnostic {
        let span = self.span.unwrap_or(instruction);
        Diagnostic::new(Severity::Error, code, self.message, source, span).with_hint(self.hint)
    }
}
