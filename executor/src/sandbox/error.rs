//! Why a sandbox did not start.

use std::io;

use serde::{Deserialize, Serialize};

/// Why a sandbox did not start or could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The request makes no sense.
    #[error("{what}")]
    Invalid {
        /// Which part, and why.
        what: String,
    },
    /// A limit was asked for that this machine cannot set here.
    #[error("cannot limit {limit}: {reason}")]
    Limit {
        /// `memory`, `pids`, ...
        limit: &'static str,
        /// Why.
        reason: String,
    },
    /// A system call of ours failed on the outside.
    #[error("{what}")]
    Os {
        /// The act with its arguments.
        what: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The inside reported a failure before the command ran.
    #[error(transparent)]
    Inside(#[from] Failure),
}

/// A failure inside the sandbox before the command ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{act}{}", self.reason())]
pub struct Failure {
    /// What kind of failure, which decides the exit code.
    pub kind: FailureKind,
    /// The act with its arguments.
    pub act: String,
    /// The error number of the system.
    pub errno: Option<i32>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What kind of failure happened inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The sandbox could not be set up: exit code 125.
    Setup,
    /// The user or group does not exist in the image: 125.
    User,
    /// The working directory cannot be used: 125.
    Directory,
    /// The program exists but does not start: 126.
    NotExecutable,
    /// The program does not exist: 127.
    NotFound,
}

impl Failure {
    fn reason(&self) -> String {
        self.errno.map(|errno| format!(": {}", io::Error::from_raw_os_error(errno))).unwrap_or_default()
    }
}

impl SandboxError {
    /// The exit code Docker gives: 125 the sandbox failed, 126 not executable, 127 not found.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Inside(Failure { kind: FailureKind::NotExecutable, .. }) => 126,
            Self::Inside(Failure { kind: FailureKind::NotFound, .. }) => 127,
            _ => 125,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Inside(failure) => failure.hint.as_deref(),
            _ => None,
        }
    }
}
