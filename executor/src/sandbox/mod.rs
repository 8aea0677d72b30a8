//! Runs one command behind walls.
//!
//! Everything is decided outside, in a serialisable plan; this program executes itself as the init of new
//! namespaces, which walks the plan on one thread and starts the command. Nothing clever happens between fork and exec.

pub(crate) mod caps;
pub(crate) mod cgroup;
mod enter;
mod error;
pub(crate) mod init;
pub(crate) mod launch;
pub(crate) mod plan;
mod pump;
mod running;
pub(crate) mod seccomp;
mod spec;
pub(crate) mod status;

use std::os::fd::OwnedFd;

use rustix::process::Signal;

pub use cgroup::ControlGroups;
pub(crate) use enter::{Enter, enter};
pub(crate) use error::kernel_hint;
pub use error::{Failure, FailureKind, SandboxError};
pub use pump::resize;
pub use running::{Exit, Killer, Running};
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
    launch::spawn(spec)
}

/// Sends a signal to the process a descriptor refers to.
pub(crate) fn send_signal(pidfd: &OwnedFd, signal: i32) -> Result<(), SandboxError> {
    let number = Signal::from_named_raw(signal)
        .ok_or_else(|| SandboxError::Invalid { what: format!("there is no signal {signal}") })?;
    rustix::process::pidfd_send_signal(pidfd, number)
        .map_err(|error| SandboxError::Os { what: format!("send signal {signal}"), source: error.into() })
}
