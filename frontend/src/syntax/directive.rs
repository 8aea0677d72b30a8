//! Parser directives: `# key=value` in the very first lines.

use serde::{Deserialize, Serialize};

use crate::source::Span;

/// The keys there are.
const KEYS: [&str; 3] = ["check", "escape", "syntax"];

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// `check`, `escape` or `syntax`.
    pub key: String,
    /// Its value, trimmed.
    pub value: String,
    /// The line.
    pub span: Span,
}

/// Splits a line that may be a directive: after `#`, a known key, `=` and a value.
pub(crate) fn split(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let (key, value) = (key.trim_end().to_ascii_lowercase(), value.trim());
    (KEYS.contains(&key.as_str()) && !value.is_empty()).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_keys_are_directives() {
        assert_eq!(split("# Escape = ` "), Some(("escape".to_owned(), "`")));
        assert_eq!(split("#syntax=docker/dockerfile:1"), Some(("syntax".to_owned(), "docker/dockerfile:1")));
        for line in ["# other=1", "# escape", "# escape=", "## escape=`", "escape=`", "# a b=c"] {
            assert_eq!(split(line), None, "{line}");
        }
    }
}
