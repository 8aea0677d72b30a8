//! A sandbox that runs.

use std::os::fd::OwnedFd;

use super::SandboxError;

/// A sandbox that runs. Dropping it kills every process in it and removes its control group.
#[derive(Debug)]
pub struct Running {
    /// Process 1 of the sandbox, as seen from here.
    pub pid: i32,
    /// Refers to process 1; readable when it is dead.
    pub pidfd: OwnedFd,
    /// Write end of the command's input, if asked for.
    pub stdin: Option<OwnedFd>,
    /// Read end of its output, if asked for.
    pub stdout: Option<OwnedFd>,
    /// Read end of its errors, if asked for.
    pub stderr: Option<OwnedFd>,
    /// Master of its terminal, if asked for. The end of a terminal reads as `EIO`.
    pub terminal: Option<OwnedFd>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + n where signal n killed it.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the sandbox since its memory limit was reached.
    pub oom_killed: bool,
}

impl Running {
    /// Waits for the command; afterwards every process of the sandbox is dead and its control group gone.
    ///
    /// # Errors
    /// Where the system refuses to wait.
    pub fn wait(self) -> Result<Exit, SandboxError> {
        Err(SandboxError::Invalid { what: "no sandbox yet".to_owned() })
    }

    /// Kills every process of the sandbox. [`Running::wait`] then returns.
    ///
    /// # Errors
    /// Where the system refuses the signal.
    pub fn kill(&self) -> Result<(), SandboxError> {
        Err(SandboxError::Invalid { what: "no sandbox yet".to_owned() })
    }
}
