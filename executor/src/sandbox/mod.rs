//! Runs one command behind walls.
//!
//! Everything is decided outside, in a serialisable plan; this program executes itself as the init of new
//! namespaces, which walks the plan on one thread and starts the command. Nothing clever happens between fork and exec.

mod error;
mod running;
mod spec;

use std::ffi::OsString;

pub use error::{Failure, FailureKind, SandboxError};
pub use running::{Exit, Running};
pub use spec::{
    EtcFiles, Init, Limits, MountSource, NetworkSetup, Rlimit, Rootfs, SandboxMount, Security, Spec, Stdio,
};

/// `argv[0]` of the init.
pub(crate) const INIT_NAME: &str = "lap-init";

/// Processes and threads of a sandbox where nothing else is asked.
pub const DEFAULT_PIDS: u64 = 32_768;

/// Starts a sandbox. Blocks until the command runs or failed to start.
///
/// # Errors
/// Where the request makes no sense, a limit cannot be set, or the command could not be started.
pub fn spawn(spec: Spec) -> Result<Running, SandboxError> {
    Err(SandboxError::Invalid { what: format!("no sandbox yet for {:?}", spec.args) })
}

/// The init of a sandbox.
pub(crate) fn init_main(_plan: Option<OsString>) -> i32 {
    125
}
