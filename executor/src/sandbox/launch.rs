//! Starting a sandbox from the outside.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use super::cgroup::{self, Group};
use super::error::{Failure, FailureKind};
use super::plan::{Host, Plan};
use super::running::Running;
use super::spec::{NetworkSetup, Spec, Stdio};
use super::status::{self, Message};
use super::{INIT_NAME, SandboxError};
use crate::sys;

/// The ends of the three standard streams.
#[derive(Default)]
struct Streams {
    inside: Vec<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Starts a sandbox; blocks until the command runs or failed to start.
pub(super) fn spawn(spec: Spec) -> Result<Running, SandboxError> {
    let group = Group::create(spec.cgroup_parent.as_deref(), &group_name(), &spec.limits)?;
    let procs = group.procs().map_err(|source| os("open cgroup.procs", source))?;
    let numbers = procs.iter().map(AsRawFd::as_raw_fd).collect();
    let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if matches!(spec.network, NetworkSetup::None) {
        namespaces |= libc::CLONE_NEWNET;
    }
    let upper = spec.rootfs.upper.clone();
    let dirs = group.dirs().to_vec();
    start(|status| Plan::new(&spec, host(), status, numbers, &dirs), namespaces, &spec.stdio, group, upper)
}

/// Starts the init with a plan that is made for its status socket.
pub(super) fn start(
    plan: impl FnOnce(RawFd) -> Result<Plan, SandboxError>,
    namespaces: i32,
    stdio: &Stdio,
    group: Group,
    upper: Option<PathBuf>,
) -> Result<Running, SandboxError> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|error| os("socketpair", error.into()))?;
    let plan = plan(theirs.as_raw_fd())?;
    let memory = plan.to_memory().map_err(|source| os("hand the plan over", source))?;
    let (streams, numbers) = streams(stdio).map_err(|error| os("make pipes", error.into()))?;
    let mut keep = plan.descriptors();
    keep.push(memory.as_raw_fd());
    let number = CString::new(memory.as_raw_fd().to_string()).unwrap_or_default();
    let name = CString::new(INIT_NAME).unwrap_or_default();
    let spawned = sys::spawn_self(own_program()?.as_fd(), &[name, number], namespaces, numbers, &keep)
        .map_err(|error| os(&error.call, error.source))?;
    drop((theirs, memory));

    let Streams { inside, stdin, stdout, stderr } = streams;
    drop(inside);
    let mut running = Running {
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        stdin,
        stdout,
        stderr,
        terminal: None,
        status: ours,
        group,
        upper,
        created: Vec::new(),
        exit: None,
    };
    // From here on dropping `running` tidies everything up.
    until_started(&mut running)?;
    Ok(running)
}

fn until_started(running: &mut Running) -> Result<(), SandboxError> {
    let mut ready = false;
    loop {
        let packet = status::receive(&running.status, true).map_err(|source| os("hear from the init", source))?;
        match packet {
            Some((Message::Terminal, fd)) => running.terminal = fd,
            Some((Message::Created(entries), _)) => running.created = entries,
            Some((Message::Ready, _)) => ready = true,
            Some((Message::Started, _)) => return Ok(()),
            Some((Message::Failed(failure), _)) => return Err(failure.into()),
            Some((Message::Ended(_), _)) => {}
            // Closed by exec.
            None if ready => return Ok(()),
            None => {
                let exit = running.wait()?;
                let why = if exit.oom_killed {
                    "the memory limit is too small even to start".to_owned()
                } else {
                    format!("the init of the sandbox ended with code {}", exit.code)
                };
                return Err(Failure { kind: FailureKind::Setup, act: why, errno: None, hint: None }.into());
            }
        }
    }
}

/// Our own program on a read-only mount that is attached nowhere: what runs inside can reach it through
/// `/proc/PID/exe`, but never write to it.
pub(crate) fn own_program() -> Result<&'static OwnedFd, SandboxError> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let open = || -> std::io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let open = |path: &CStr| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let own = open(c"/proc/self/exe")?;
        let mount = match rustix::mount::open_tree(&own, "", flags) {
            // The link leads to the mount we were executed from, which another mount namespace has: what lies at its
            // name here will do if it is the same file.
            Err(rustix::io::Errno::INVAL) => {
                let named = open(&rustix::fs::readlink("/proc/self/exe", Vec::new())?)?;
                let (own, found) = (rustix::fs::fstat(&own)?, rustix::fs::fstat(&named)?);
                if (own.st_dev, own.st_ino) != (found.st_dev, found.st_ino) {
                    return Err(std::io::Error::other("it was replaced while it runs: start it again"));
                }
                rustix::mount::open_tree(&named, "", flags)?
            }
            other => other?,
        };
        sys::mount_set_attributes(mount.as_fd(), libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID, false)
            .map_err(|error| error.source)?;
        Ok(mount)
    };
    let program = open().map_err(|source| os("mount our own program read-only", source))?;
    Ok(PROGRAM.get_or_init(|| program))
}

/// What the plan needs to know of this machine; looked at once.
pub(crate) fn host() -> Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    *HOST.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let whole: Vec<&str> = map.split_whitespace().collect();
        Host { user_namespace: whole != ["0", "0", "4294967295"], cgroup_v2: cgroup::hierarchies().v1.is_empty() }
    })
}

/// A name no other group has.
fn group_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    format!("{}-{count}-{:x}", std::process::id(), nanos & 0xffff_ffff_ffff)
}

fn streams(stdio: &Stdio) -> Result<(Streams, [RawFd; 3]), rustix::io::Errno> {
    let mut streams = Streams::default();
    let null = |write| {
        let access = if write { OFlags::WRONLY } else { OFlags::RDONLY };
        rustix::fs::open("/dev/null", access | OFlags::CLOEXEC, Mode::empty())
    };
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    match stdio {
        Stdio::Inherit => return Ok((streams, [0, 1, 2])),
        Stdio::Files { stdin, stdout, stderr } => {
            return Ok((streams, [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()]));
        }
        Stdio::Null | Stdio::Pty { .. } => streams.inside = vec![null(false)?, null(true)?, null(true)?],
        Stdio::Pipes { stdin } => {
            let first = if *stdin {
                let (read, write) = pipe()?;
                streams.stdin = Some(write);
                read
            } else {
                null(false)?
            };
            let (out_read, out_write) = pipe()?;
            let (err_read, err_write) = pipe()?;
            (streams.stdout, streams.stderr) = (Some(out_read), Some(err_read));
            streams.inside = vec![first, out_write, err_write];
        }
    }
    let numbers: Vec<RawFd> = streams.inside.iter().map(AsRawFd::as_raw_fd).collect();
    let numbers = <[RawFd; 3]>::try_from(numbers).unwrap_or([0, 1, 2]);
    Ok((streams, numbers))
}

pub(super) fn os(what: &str, source: std::io::Error) -> SandboxError {
    SandboxError::Os { what: what.to_owned(), source }
}
