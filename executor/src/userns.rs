//! The user namespace of an unprivileged `lap`.
//!
//! Before anything else such a `lap` becomes root of a namespace in which the user's own id is 0 and, where
//! `/etc/subuid` and `/etc/subgid` grant ranges, the ids from 1 on are those. Everything after that is the same code as
//! root's. All `lap` processes of a user share one namespace while any of them lives, so that they can enter each
//! other's containers: a small file of the run directory names its members.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::CloneFlags;
use rustix::fs::FlockOperation;
use rustix::mount::MountPropagationFlags;
use serde::{Deserialize, Serialize};

use crate::container::ProcessId;
use crate::sys;

/// What entering did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entered {
    /// The process is root already; nothing was done.
    Root,
    /// The user's id ranges are mapped.
    Ranges,
    /// Only the user's own id is mapped, and why: files of other owners cannot be unpacked as such.
    SingleId(String),
}

/// Why the namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// The program is installed setuid.
    #[error("this program must not be installed setuid")]
    Setuid,
    /// A call failed.
    #[error("{act}")]
    Os {
        /// What was tried.
        act: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A helper that maps ids failed.
    #[error("{program} refused the ranges of /etc/subuid and /etc/subgid: {message}")]
    Helper {
        /// The helper.
        program: &'static str,
        /// What it said.
        message: String,
    },
}

impl UserNamespaceError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Setuid => Some("remove the setuid bit; unprivileged users need none"),
            Self::Os { .. } => Some(
                "user namespaces may be switched off here: see the sysctls user.max_user_namespaces and kernel.unprivileged_userns_clone, or run as root",
            ),
            Self::Helper { .. } => Some("check the user's lines in /etc/subuid and /etc/subgid"),
        }
    }
}

/// A process in the user's namespace.
#[derive(Debug, Serialize, Deserialize)]
struct Member {
    process: ProcessId,
    entered: Entered,
}

/// Makes an unprivileged process root of the user's namespace, with mounts of its own. To be called in `main` before
/// any thread exists.
///
/// # Errors
/// Where the machine refuses user namespaces, or the ranges are wrong.
pub fn enter(run_dir: &Path) -> Result<Entered, UserNamespaceError> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    if uid != rustix::process::geteuid() || gid != rustix::process::getegid() {
        return Err(UserNamespaceError::Setuid);
    }
    if uid.is_root() {
        return Ok(Entered::Root);
    }
    let mut members = Members::open(run_dir)?;
    let entered = match members.join() {
        Some(entered) => entered,
        None => create(uid.as_raw(), gid.as_raw())?,
    };
    members.add(entered.clone())?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(|error| os("unshare(CLONE_NEWNS)", error.into()))?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| os("make mounts private", error.into()))?;
    Ok(entered)
}

/// Keeps the namespace findable while this process lives: for processes that outlive the one that entered.
pub(crate) fn stay(run_dir: &Path) -> Result<(), UserNamespaceError> {
    let mut members = Members::open(run_dir)?;
    match members.alive.first().map(|member| member.entered.clone()) {
        Some(entered) => members.add(entered),
        None => members.add(Entered::Ranges),
    }
}

/// The file of members, locked.
struct Members {
    path: PathBuf,
    file: File,
    alive: Vec<Member>,
}

impl Members {
    fn open(run_dir: &Path) -> Result<Self, UserNamespaceError> {
        let path = run_dir.join("user-namespace");
        let read = || -> io::Result<(File, String)> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok((file, text))
        };
        let (file, text) = read().map_err(|source| os(&format!("open {}", path.display()), source))?;
        let members = text.lines().filter_map(|line| serde_json::from_str::<Member>(line).ok());
        let alive = members.filter(|member| member.process.is_alive()).collect();
        Ok(Self { path, file, alive })
    }

    /// Enters the namespace of a living member.
    fn join(&self) -> Option<Entered> {
        self.alive.iter().find_map(|member| {
            let process = member.process.open()?;
            nix::sched::setns(&process, CloneFlags::CLONE_NEWUSER).ok()?;
            Some(member.entered.clone())
        })
    }

    /// Adds this process, and forgets the dead.
    fn add(&mut self, entered: Entered) -> Result<(), UserNamespaceError> {
        let own = i32::try_from(std::process::id()).ok().and_then(ProcessId::of);
        self.alive.extend(own.map(|process| Member { process, entered }));
        let write = || -> io::Result<()> {
            let mut text = String::new();
            for member in &self.alive {
                text.push_str(&serde_json::to_string(member)?);
                text.push('\n');
            }
            rustix::fs::ftruncate(self.file.as_fd(), 0)?;
            rustix::fs::seek(self.file.as_fd(), rustix::fs::SeekFrom::Start(0))?;
            (&self.file).write_all(text.as_bytes())
        };
        write().map_err(|source| os(&format!("write {}", self.path.display()), source))
    }
}

/// A range of ids that the user may use: first and how many.
type Range = (u32, u32);

fn create(uid: u32, gid: u32) -> Result<Entered, UserNamespaceError> {
    match ranges(uid) {
        Ok((uids, gids, helpers)) => {
            create_with_ranges(uid, gid, &uids, &gids, helpers)?;
            Ok(Entered::Ranges)
        }
        Err(reason) => {
            unshare_user()?;
            for (file, text) in [
                ("/proc/self/setgroups", "deny".to_owned()),
                ("/proc/self/uid_map", format!("0 {uid} 1")),
                ("/proc/self/gid_map", format!("0 {gid} 1")),
            ] {
                fs::write(file, &text).map_err(|source| os(&format!("write {text:?} to {file}"), source))?;
            }
            Ok(Entered::SingleId(reason))
        }
    }
}

fn unshare_user() -> Result<(), UserNamespaceError> {
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| os("unshare(CLONE_NEWUSER)", error.into()))
}

/// The helpers must run outside the new namespace, so they are children made before it: they wait for a byte that tells
/// that it is there, and both run at once.
fn create_with_ranges(
    uid: u32,
    gid: u32,
    uids: &[Range],
    gids: &[Range],
    helpers: [&'static str; 2],
) -> Result<(), UserNamespaceError> {
    let pid = std::process::id();
    let pipe = |error: rustix::io::Errno| os("pipe", error.into());
    let mut waiting = Vec::new();
    for (program, id, ranges) in [(helpers[0], uid, uids), (helpers[1], gid, gids)] {
        let (ready, tell_ready) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(pipe)?;
        let (result, tell_result) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(pipe)?;
        let child = sys::fork().map_err(|error| os(&error.call, error.source))?;
        let Some(child) = child else {
            drop((tell_ready, result));
            let said = help(program, pid, id, ranges, File::from(ready));
            drop(File::from(tell_result).write_all(said.as_bytes()));
            sys::leave(0);
        };
        waiting.push((program, child, tell_ready, result));
    }
    unshare_user()?;
    let mut failure = None;
    // Both are told before either is waited for.
    let told: Vec<_> = waiting
        .into_iter()
        .map(|(program, child, tell_ready, result)| {
            drop(File::from(tell_ready).write_all(b"x"));
            (program, child, result)
        })
        .collect();
    for (program, child, result) in told {
        let mut message = String::new();
        let read = File::from(result).read_to_string(&mut message);
        let _ = rustix::process::waitpid(rustix::process::Pid::from_raw(child), rustix::process::WaitOptions::empty());
        if read.is_err() || !message.is_empty() {
            failure =
                failure.or_else(|| Some(UserNamespaceError::Helper { program, message: message.trim().to_owned() }));
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Runs a helper with a clean environment; gives its complaint, empty where it has none.
fn help(program: &str, pid: u32, id: u32, ranges: &[Range], mut ready: File) -> String {
    let mut byte = [0];
    if ready.read_exact(&mut byte).is_err() {
        return "the namespace could not be made".to_owned();
    }
    let mut arguments = vec![pid, 0, id, 1];
    let mut next = 1;
    for (first, count) in ranges {
        arguments.extend([next, *first, *count]);
        next += count;
    }
    let output =
        Command::new(program).args(arguments.iter().map(u32::to_string)).env_clear().stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => String::new(),
        Ok(output) => format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr)),
        Err(error) => error.to_string(),
    }
}

/// Ranges of users, ranges of groups, and the helpers for both.
type Granted = (Vec<Range>, Vec<Range>, [&'static str; 2]);

/// The ranges of a user and the helpers that map them, or why there are none.
fn ranges(uid: u32) -> Result<Granted, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = user_name(&read("/etc/passwd"), uid);
    let of = |path: &str| {
        let found = parse_ranges(&read(path), uid, name.as_deref());
        if found.is_empty() { Err(format!("{path} grants no ids")) } else { Ok(found) }
    };
    let (uids, gids) = (of("/etc/subuid")?, of("/etc/subgid")?);
    let helper = |name: &str, places: [&'static str; 2]| {
        let found = places.into_iter().find(|path| Path::new(path).exists());
        found.ok_or_else(|| format!("{name} is not installed"))
    };
    let helpers = [
        helper("newuidmap", ["/usr/bin/newuidmap", "/bin/newuidmap"])?,
        helper("newgidmap", ["/usr/bin/newgidmap", "/bin/newgidmap"])?,
    ];
    Ok((uids, gids, helpers))
}

/// The login name of a user in the machine's passwd, without libc's name service.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The ranges that lines of `name:first:count` grant; ones that reach beyond what ids can be are not taken.
fn parse_ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<Range> {
    let mut left = u32::MAX - 2;
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(user), Some(first), Some(count), None) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if Some(user) != name && user.parse() != Ok(uid) {
            continue;
        }
        if let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>())
            && count > 0
            && first > 0
            && first.checked_add(count).is_some()
            && count <= left
        {
            left -= count;
            found.push((first, count));
        }
    }
    found
}

fn os(act: &str, source: io::Error) -> UserNamespaceError {
    UserNamespaceError::Os { act: act.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_checked() {
        let text =
            "# c\nada:100000:65536\nbob:1:2\n1000:300000:10\nada:4294967295:2\nada:5:0\nada:x:1\nada:0:5\nada:1:2:3\n";
        assert_eq!(parse_ranges(text, 1000, Some("ada")), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(parse_ranges(text, 7, None), []);
    }

    #[test]
    fn names_are_found() {
        assert_eq!(user_name("root:x:0:0::/:\nada:x:1000:1::/:\n", 1000).as_deref(), Some("ada"));
        assert_eq!(user_name("bad\n", 0), None);
    }
}
