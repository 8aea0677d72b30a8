//! What a container is doing, as its directory tells and the kernel confirms.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

/// What a container is doing. Kept as `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Made, never started.
    Created,
    /// Runs.
    Running(Live),
    /// Ended.
    Exited(Ended),
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Its process 1.
    pub process: ProcessId,
    /// Its watcher.
    pub supervisor: ProcessId,
    /// When it was started, in nanoseconds since 1970.
    pub started: u64,
    /// Its address on the bridge.
    pub address: Option<Ipv4Addr>,
    /// Its control groups.
    pub control_groups: Vec<PathBuf>,
}

/// A container that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Exit code; 255 where nobody was there to see it.
    pub code: i32,
    /// Whether memory ran out.
    pub oom_killed: bool,
    /// Why it could not be started, or why the code is not known.
    pub error: Option<String>,
    /// When it was started, in nanoseconds since 1970; 0 if never.
    pub started: u64,
    /// When it ended.
    pub finished: u64,
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it began, in clock ticks since the machine started.
    pub start: u64,
    /// Which start of the machine.
    pub boot: String,
}

impl ProcessId {
    /// A living process; nothing where it is dead, or a zombie.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start: start_time(&stat)?, boot: boot_id() })
    }

    /// Whether it still lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// A descriptor of the process, if it still lives.
    #[must_use]
    pub fn open(&self) -> Option<OwnedFd> {
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Looked at after opening: the number cannot have changed hands in between.
        self.is_alive().then_some(pidfd)
    }
}

/// Start time of a living process (proc_pid_stat(5), field 22).
fn start_time(stat: &str) -> Option<u64> {
    // The name before may hold anything, spaces and brackets too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let alive = !matches!(fields.next()?, "Z" | "X");
    fields.nth(18)?.parse().ok().filter(|_| alive)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl State {
    /// The state as it really is: what died without a word has ended.
    #[must_use]
    pub fn confirmed(self, dir: &Path) -> Self {
        match self {
            Self::Running(live) if !live.process.is_alive() && !live.supervisor.is_alive() => {
                let changed = fs::metadata(dir.join("state.json")).and_then(|meta| meta.modified()).ok();
                Self::Exited(Ended {
                    code: 255,
                    oom_killed: false,
                    error: Some("its watcher died, so the exit code is not known".to_owned()),
                    started: live.started,
                    finished: changed.map_or(live.started, super::time::nanos_of),
                })
            }
            other => other,
        }
    }

    /// `created`, `running` or `exited`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running(_) => "running",
            Self::Exited(_) => "exited",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive() && own.open().is_some());
        let other = ProcessId { start: own.start + 1, ..own.clone() };
        assert!(!other.is_alive() && other.open().is_none());
        assert!(!ProcessId { boot: "before".to_owned(), ..own }.is_alive());
    }

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let stat = "7 (a) R (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 0";
        assert_eq!(start_time(stat), Some(4242));
        assert_eq!(start_time(&stat.replace(") S ", ") Z ")), None);
    }
}
