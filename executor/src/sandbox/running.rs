//! A sandbox that runs: waiting, killing, and leaving nothing behind.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timestamps};
use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::SandboxError;
use super::cgroup::Group;
use super::status::{self, CreatedEntry, Message};

/// A sandbox that runs. Dropping it kills every process in it and removes its control group.
#[derive(Debug)]
pub struct Running {
    /// Process 1 of the sandbox, as seen from here.
    pub pid: i32,
    /// Refers to process 1; readable when it is dead.
    pub pidfd: OwnedFd,
    /// Write end of the command's input, if asked for.
    pub stdin: Option<OwnedFd>,
    /// Read end of its output, if asked for. It ends when the sandbox does: leftover processes are killed.
    pub stdout: Option<OwnedFd>,
    /// Read end of its errors, if asked for.
    pub stderr: Option<OwnedFd>,
    /// Master of its terminal, if asked for. The end of a terminal reads as `EIO`.
    pub terminal: Option<OwnedFd>,
    pub(super) status: OwnedFd,
    pub(super) group: Group,
    pub(super) upper: Option<PathBuf>,
    pub(super) created: Vec<CreatedEntry>,
    pub(super) exit: Option<Exit>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Exit code; 128 + n where signal n killed it.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the sandbox since its memory limit was reached.
    pub oom_killed: bool,
}

/// Kills a sandbox while another thread waits for it.
#[derive(Debug)]
pub struct Killer(OwnedFd);

impl Killer {
    /// Kills every process of the sandbox; nothing happens if it has ended already.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
    }
}

impl Running {
    /// Waits for the command; afterwards every process of the sandbox is dead, its control group gone, and mount
    /// points that had to be made are removed from the upper directory. Asking again gives the same answer.
    ///
    /// # Errors
    /// Where the system refuses to wait.
    pub fn wait(&mut self) -> Result<Exit, SandboxError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        // The kernel reports the death of process 1 only after every other process of its namespace is gone.
        let status = loop {
            match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        let status = status.map_err(|error| SandboxError::Os {
            what: format!("wait for process {}", self.pid),
            source: error.into(),
        })?;
        let mut exit = Exit { code: 0, signal: None, oom_killed: self.group.oom_killed() };
        match status.map(|status| (status.terminating_signal(), status.exit_status())) {
            Some((Some(signal), _)) => (exit.code, exit.signal) = (128 + signal, Some(signal)),
            Some((None, Some(code))) => exit.code = code,
            _ => exit.code = 125,
        }
        while let Ok(Some((message, _))) = status::receive(&self.status, false) {
            if let Message::Ended(status) = message {
                exit.code = code_of(status);
                exit.signal = signal_of(status);
            }
        }
        self.exit = Some(exit);
        self.group = Group::default();
        self.remove_mount_points();
        Ok(exit)
    }

    /// Kills every process of the sandbox. [`Running::wait`] then returns.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Something that can kill the sandbox from another thread.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn killer(&self) -> Result<Killer, SandboxError> {
        let copy = self.pidfd.try_clone();
        copy.map(Killer).map_err(|source| SandboxError::Os { what: "dup a process descriptor".to_owned(), source })
    }

    /// Sends a signal to process 1.
    ///
    /// # Errors
    /// Where there is no such signal, or the process is gone.
    pub fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        super::send_signal(&self.pidfd, signal)
    }

    /// Directories of the control group, in every hierarchy that has one.
    #[must_use]
    pub fn control_groups(&self) -> &[PathBuf] {
        self.group.dirs()
    }

    /// Lets the sandbox live on without this value: no killing, no waiting, no tidying.
    pub fn forget(mut self) {
        self.exit = Some(Exit { code: 0, signal: None, oom_killed: false });
        std::mem::forget(std::mem::take(&mut self.group));
    }

    /// Takes back the mount points that were made, last first, where they are still empty, and puts the times of
    /// their parents back.
    fn remove_mount_points(&mut self) {
        let Some(upper) = self.upper.take() else { return };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(upper) = rustix::fs::open(&upper, flags, Mode::empty()) else { return };
        for entry in self.created.drain(..).rev() {
            let (parent, name) = entry.path.rsplit_once('/').unwrap_or((".", &entry.path));
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(dir) = rustix::fs::openat2(&upper, parent, flags, Mode::empty(), resolve) else { continue };
            let Ok(before) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let removed = if entry.directory {
                rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)
            } else if before.st_size == 0 {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())
            } else {
                continue;
            };
            if removed.is_err() {
                continue;
            }
            let (tv_sec, tv_nsec) = entry.parent_mtime;
            let time = rustix::fs::Timespec { tv_sec, tv_nsec: tv_nsec as _ };
            let _ = rustix::fs::futimens(&dir, &Timestamps { last_access: time, last_modification: time });
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.exit.is_none() {
            self.kill();
            drop(self.wait());
        }
    }
}

/// The exit code of a wait status: 128 + n for signal n.
pub(crate) fn code_of(status: i32) -> i32 {
    signal_of(status).map_or((status >> 8) & 0xff, |signal| 128 + signal)
}

/// The signal of a wait status.
fn signal_of(status: i32) -> Option<i32> {
    Some(status & 0x7f).filter(|signal| *signal != 0)
}
