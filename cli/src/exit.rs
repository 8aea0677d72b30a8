//! Exit codes, and the error that carries one.

use std::fmt;

/// The operation failed.
pub(crate) const FAILED: i32 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: i32 = 2;
/// `run` could not start (Docker's code).
pub(crate) const NOT_STARTED: i32 = 125;
/// Ended by Ctrl-C: 128 + SIGINT.
pub(crate) const INTERRUPTED: i32 = 130;

/// An error whose exit code is not [`FAILED`], or one that was shown already.
#[derive(Debug)]
pub(crate) struct WithCode {
    pub(crate) code: i32,
    pub(crate) error: Option<anyhow::Error>,
}

impl WithCode {
    /// `error` ends the program with `code`.
    pub(crate) fn wrap(code: i32, error: anyhow::Error) -> anyhow::Error {
        Self { code, error: Some(error) }.into()
    }
}

impl fmt::Display for WithCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{error:#}"),
            None => write!(f, "exit code {}", self.code),
        }
    }
}

impl std::error::Error for WithCode {}
