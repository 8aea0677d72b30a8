//! Who uses the network: one small file per run directory and network namespace, changed under a lock.
//!
//! Invariants: the file is replaced by rename, so a reader sees a whole one; whoever dies, at any point, is noticed by the
//! next one to take the lock, since each use names a process by number and time of start; a file of an earlier boot
//! counts as none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::NetworkError;
use super::link::Mac;
use super::namespace;
use super::subnet::Subnet;

/// A process, told from a later one with the same number by when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) pid: i32,
    /// Clock ticks between boot and its start (proc(5), field 22 of stat).
    start: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn this() -> Result<Self, NetworkError> {
        let pid = std::process::id().cast_signed();
        Self::of(pid)?.ok_or(NetworkError::NoProcess { pid })
    }

    /// The living process of that number.
    pub(crate) fn of(pid: i32) -> Result<Option<Self>, NetworkError> {
        let path = format!("/proc/{pid}/stat");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(parse_start(&text).map(|start| Self { pid, start })),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
            Err(error) => Err(NetworkError::file("read", path)(error)),
        }
    }

    /// Whether it still runs. What cannot be told counts as alive: nothing is taken from anyone by mistake.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).map_or(true, |found| found == Some(*self))
    }
}

/// The start time of a process that has not ended, from its line in `/proc/PID/stat`. The second field may hold anything.
fn parse_start(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" | "x" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// How far the bridge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Being made or removed: after a crash, remove what there is and begin again.
    Unsettled,
    /// Ready.
    Up,
}

/// The bridge and all that was changed for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bridge {
    pub(crate) phase: Phase,
    pub(crate) name: String,
    /// Chosen at random: tells our bridge from another of the same name.
    pub(crate) mac: Mac,
    pub(crate) subnet: Subnet,
    pub(crate) mtu: u32,
    /// The links on which forwarding was off and has to be off again.
    pub(crate) switched_on: Vec<String>,
    /// Whether rules of ours stand, or may stand, in another firewall's chains.
    pub(crate) rules_elsewhere: bool,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    boot: String,
    pub(crate) bridge: Option<Bridge>,
    /// Processes that want the bridge to stay, with or without a lease; one entry for each handle.
    pub(crate) holders: Vec<Owner>,
    pub(crate) leases: BTreeMap<Ipv4Addr, Owner>,
    /// The address leased last.
    pub(crate) last: Option<Ipv4Addr>,
}

impl State {
    /// Whether nobody needs the bridge.
    pub(crate) fn is_unused(&self) -> bool {
        self.holders.is_empty() && self.leases.is_empty()
    }

    /// Forgets dead owners and returns the addresses that they had.
    pub(crate) fn forget_dead(&mut self) -> Vec<Ipv4Addr> {
        self.holders.retain(Owner::is_alive);
        let dead: Vec<_> =
            self.leases.iter().filter(|(_, owner)| !owner.is_alive()).map(|(address, _)| *address).collect();
        for address in &dead {
            self.leases.remove(address);
        }
        dead
    }
}

/// Where the file lies.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// The directory for the network namespace of the calling thread. Nothing is made yet.
    pub(crate) fn new(run_dir: &Path) -> Result<Self, NetworkError> {
        Ok(Self { path: run_dir.join("network").join(namespace::current_number()?.to_string()) })
    }

    /// Whether anything was ever done here.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Waits until no other process or thread is at work here.
    pub(crate) fn lock(&self) -> Result<Locked<'_>, NetworkError> {
        // For us alone: whoever can open the directory can take the lock.
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.path).map_err(NetworkError::file("create directory", &self.path))?;
        let directory = File::open(&self.path).map_err(NetworkError::file("open", &self.path))?;
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
            .map_err(|error| NetworkError::file("lock", &self.path)(error.into()))?;
        Ok(Locked { place: self, _lock: directory })
    }
}

/// The right to read and change the state; given back on drop.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    place: &'a StateDirectory,
    _lock: File,
}

impl Locked<'_> {
    fn file(&self) -> PathBuf {
        self.place.path.join("state.json")
    }

    /// The state; an empty one if there is none of this boot.
    pub(crate) fn read(&self) -> Result<State, NetworkError> {
        let path = self.file();
        let boot = boot_id()?;
        let state = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| NetworkError::State { path, source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(NetworkError::file("read", path)(error)),
        };
        Ok(if state.boot == boot { state } else { State { boot, ..State::default() } })
    }

    /// Replaces the state. Not synced: after a loss of power the state is void anyway.
    pub(crate) fn write(&self, state: &State) -> Result<(), NetworkError> {
        let (path, fresh) = (self.file(), self.place.path.join("state.json.new"));
        let bytes = serde_json::to_vec(state).map_err(|source| NetworkError::State { path: path.clone(), source })?;
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let write = options.open(&fresh).and_then(|mut file| file.write_all(&bytes));
        write.map_err(NetworkError::file("write", &fresh))?;
        std::fs::rename(&fresh, &path).map_err(NetworkError::file("rename to", path))
    }

    /// Removes the state: nothing is left to remember.
    pub(crate) fn remove(&self) -> Result<(), NetworkError> {
        let path = self.file();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NetworkError::file("remove", path)(error)),
            _ => Ok(()),
        }
    }
}

fn boot_id() -> Result<String, NetworkError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(PATH).map_err(NetworkError::file("read", PATH))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let tail = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 100 200";
        assert_eq!(parse_start(&format!("42 (a b) {tail}")), Some(4711));
        assert_eq!(parse_start(&format!("42 (x) y) {tail}")), Some(4711));
        assert_eq!(parse_start("42 (x) Z 1 1"), None);
        assert_eq!(parse_start(""), None);
    }

    #[test]
    fn owners_live_and_die() {
        let this = Owner::this().unwrap();
        assert!(this.is_alive());
        assert!(!Owner { start: this.start + 1, ..this }.is_alive());
        let mut child = std::process::Command::new("/bin/sleep").arg("100").spawn().unwrap();
        let owner = Owner::of(child.id().cast_signed()).unwrap().unwrap();
        assert!(owner.is_alive());
        child.kill().unwrap();
        while owner.is_alive() {
            std::thread::yield_now(); // dead as soon as it is a zombie
        }
        child.wait().unwrap();
        assert!(!owner.is_alive());
    }

    #[test]
    fn the_state_survives_and_forgets_the_dead() {
        let directory = tempfile::tempdir().unwrap();
        let place = StateDirectory::new(directory.path()).unwrap();
        assert!(!place.exists());
        let locked = place.lock().unwrap();
        let mut state = locked.read().unwrap();
        assert!(state.is_unused());
        let this = Owner::this().unwrap();
        let dead = Owner { start: this.start + 1, ..this };
        let (first, second) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3));
        state.leases.extend([(first, this), (second, dead)]);
        state.holders.extend([dead, this]);
        locked.write(&state).unwrap();
        let mut again = locked.read().unwrap();
        assert_eq!(again, state);
        assert_eq!(again.forget_dead(), [second]);
        assert_eq!((again.leases.len(), again.holders.len()), (1, 1));
        locked.write(&State { boot: "another".into(), ..again }).unwrap();
        assert!(locked.read().unwrap().is_unused());
        locked.remove().unwrap();
        locked.remove().unwrap();
    }
}
