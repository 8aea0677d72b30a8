//! How errors look: what failed, where, why, and what to do.

use std::fmt::Write as _;

use anyhow::Error;
use lap_cache::registry::RegistryError;

use crate::pipeline::Located;
use crate::ui::visible;

/// An error with advice.
#[derive(Debug)]
pub(crate) struct Advice {
    /// What to do about it.
    pub(crate) hint: String,
    error: Error,
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for Advice {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Adds advice to an error.
pub(crate) trait Hint<T> {
    /// What the user can do where this fails.
    fn hint(self, hint: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| advise(error, hint))
    }
}

/// An error with what the user can do about it.
pub(crate) fn advise(error: impl Into<Error>, hint: impl Into<String>) -> Error {
    Advice { hint: hint.into(), error: error.into() }.into()
}

/// What was rendered before it became an error, and then the line that scripts look for.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) shown: String,
    pub(crate) line: String,
    /// What was rendered.
    pub(crate) findings: Vec<lap_frontend::Diagnostic>,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Shown {}

/// Layers of the HTTP client that name themselves and no reason.
const CHATTER: [&str; 5] =
    ["error sending request", "client error (Connect)", "tcp connect error", "dns error", "error resolving DNS"];

/// `lap: what failed`, its causes a line each, and what to try. Ends with a line feed.
pub(crate) fn render(error: &Error, color: bool) -> String {
    let (red, plain) = if color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let located = error.downcast_ref::<Located>();
    let shown = error.downcast_ref::<Shown>().map(|shown| shown.shown.clone());
    let mut out = located.map(|located| located.before.clone()).or(shown).unwrap_or_default();
    let mut said = String::new();
    for cause in error.chain() {
        let text = visible(&cause.to_string());
        // A cause that its parent already spells out is not said twice.
        if said.ends_with(&text) || CHATTER.contains(&text.as_str()) {
            continue;
        }
        // Writing to a String cannot fail.
        if said.is_empty() {
            let _ = writeln!(out, "{red}lap:{plain} {text}");
        } else {
            let _ = writeln!(out, "  {text}");
        }
        said = text;
    }
    let advice = error.chain().find_map(|cause| cause.downcast_ref::<Advice>()).map(|advice| advice.hint.as_str());
    if let Some(hint) =
        advice.or_else(|| is_full(error).then_some(FULL)).or_else(|| of_registry(error)).or_else(|| of_kernel(error))
    {
        let _ = writeln!(out, "  try: {}", visible(hint));
    }
    out
}

/// What helps where no room is left.
pub(crate) const FULL: &str = "make room on the file system of the store, or use another store with --root";

/// What a registry's error advises.
fn of_registry(error: &Error) -> Option<&'static str> {
    error.chain().find_map(|cause| cause.downcast_ref::<RegistryError>()?.hint())
}

/// What helps where the kernel does not know a call.
fn of_kernel(error: &Error) -> Option<&'static str> {
    let unknown = |cause: &(dyn std::error::Error + 'static)| {
        let number = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        number == Some(rustix::io::Errno::NOSYS.raw_os_error())
    };
    error.chain().any(unknown).then_some("the kernel is too old: Linux 5.12 or later is needed")
}

/// Whether a file system or a quota is full.
fn is_full(error: &Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    error.chain().any(|cause| matches!(kind(cause), Some(StorageFull | QuotaExceeded)))
}

/// The lines of a Dockerfile around an instruction, in the form BuildKit shows them.
pub(crate) fn excerpt(file: &str, text: &str, first: u32, last: u32) -> String {
    const AROUND: u32 = 2;
    let mut out = format!("{file}:{first}\n--------------------\n");
    for (number, line) in (1..).zip(text.lines()) {
        if number + AROUND >= first && number <= last.saturating_add(AROUND) {
            let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
            let _ = writeln!(out, "{}", format!("{number:4} | {mark} {}", visible(line)).trim_end());
        }
    }
    out.push_str("--------------------\n");
    out
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = Err::<(), _>(std::io::Error::other("disk on fire"))
            .hint("put it out")
            .context("cannot write the image")
            .unwrap_err();
        assert_eq!(render(&error, false), "lap: cannot write the image\n  disk on fire\n  try: put it out\n");
    }

    #[test]
    fn a_full_disk_has_advice_and_control_characters_do_nothing() {
        let error = Error::new(std::io::Error::from_raw_os_error(28)).context("cannot write \x1b[2Jx");
        let text = render(&error, false);
        assert!(text.starts_with("lap: cannot write ␛[2Jx\n"), "{text}");
        assert!(text.contains("try: make room"), "{text}");
    }

    #[test]
    fn the_instruction_is_marked() {
        let text = excerpt("Dockerfile", "FROM a\nRUN b\nRUN c\nRUN d\nRUN e\n", 4, 4);
        assert_eq!(
            text,
            "Dockerfile:4\n--------------------\n   2 |     RUN b\n   3 |     RUN c\n   4 | >>> RUN d\n   5 |     RUN e\n--------------------\n"
        );
    }
}
