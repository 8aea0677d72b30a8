//! The init: walks the plan on one thread, then runs the command.
//!
//! It starts as a fresh execution of this program in new namespaces, so nothing of the caller's memory, threads or
//! locks is here. It leaves through exec or as the reaping process 1.

mod command;
mod devices;
mod mounts;
mod reaper;
mod tree;

use std::ffi::OsString;
use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::process::DumpableBehavior;

use super::error::{Failure, FailureKind};
use super::plan::{Action, Plan};
use super::status::{self, Message};
use crate::sys;

pub(crate) use command::Identified;

/// Bytes of a failure's text that are reported.
const LONGEST_TEXT: usize = 8192;

/// Runs the init of a sandbox; the argument is the number of the plan's descriptor.
pub(crate) fn main(plan: Option<OsString>) -> i32 {
    let Some(plan) = plan.and_then(|number| number.to_str()?.parse().ok()) else { return 125 };
    // Other processes of the sandbox must not look into this one.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let Ok(plan) = sys::take_fd(plan)
        .map_err(Failure::from)
        .and_then(|fd| Plan::from_memory(fd).during(|| "read the plan".to_owned()))
    else {
        return 125;
    };
    sys::close_other_fds(&plan.descriptors());
    sys::reset_signals();
    let Ok(status) = sys::take_fd(plan.status) else { return 125 };
    match carry_out(&plan, &status) {
        Ok(code) => code,
        Err(mut failure) => {
            // A command may be megabytes long; a packet is not.
            if failure.act.len() > LONGEST_TEXT {
                failure.act = failure.act.chars().take(LONGEST_TEXT / 4).chain("...".chars()).collect();
            }
            drop(status::send(status.as_fd(), &Message::Failed(failure), None));
            125
        }
    }
}

fn carry_out(plan: &Plan, status: &OwnedFd) -> Result<i32, Failure> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Opened before any other tree is entered: nobody else chooses what it is.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .during(|| "open /dev/null".to_owned())?;
    let mut inside = mounts::Inside::default();
    for action in &plan.actions {
        act(&mut inside, plan, action)?;
    }
    let identified = Identified::find(&plan.command)?;
    let cwd = command::working_directory(&plan.command)?;
    let created = inside.leave();
    if !created.is_empty() {
        status::send(status.as_fd(), &Message::Created(created), None).during(|| "report mount points".to_owned())?;
    }
    let terminal = plan.command.terminal.map(|made| devices::terminal(made.size, status, !plan.guest)).transpose()?;
    if plan.reaper {
        reaper::run(plan, status, &identified, cwd, terminal, null)
    } else {
        drop(null);
        Err(command::become_it(plan, status, &identified, &cwd, terminal))
    }
}

fn act(inside: &mut mounts::Inside, plan: &Plan, action: &Action) -> Result<(), Failure> {
    match action {
        Action::JoinCgroups(fds) => mounts::join_cgroups(fds),
        Action::CgroupNamespace => nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
            .during(|| "unshare(CLONE_NEWCGROUP)".to_owned()),
        Action::JoinNamespaces(pidfd) => mounts::join_namespaces(*pidfd),
        Action::JoinNetwork(fd) => {
            let fd = sys::take_fd(*fd)?;
            rustix::thread::move_into_link_name_space(fd.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))
                .during(|| "join the network namespace".to_owned())
        }
        Action::LoopbackUp => Ok(sys::loopback_up()?),
        Action::SetHostname(name) => {
            rustix::system::sethostname(name.as_bytes()).during(|| format!("set the host name to {name:?}"))
        }
        Action::Base(etc) => inside.base(etc),
        Action::Root(stack) => inside.root(stack),
        Action::Proc => inside.proc(),
        Action::Sys { writable } => inside.sys(*writable),
        Action::CgroupFs(shown) => inside.cgroup_fs(shown),
        Action::Dev { shm_size, bind_nodes } => {
            devices::dev(inside, *shm_size, *bind_nodes, plan.command.terminal.is_some())
        }
        Action::Mask(paths) => inside.mask(paths),
        Action::ReadOnly(paths) => inside.read_only(paths),
        Action::Mount(mount) => inside.mount(plan, mount),
        Action::ReadOnlyRoot => inside.read_only_root(),
        Action::Pivot => inside.pivot(),
    }
}

impl From<sys::CallError> for Failure {
    fn from(error: sys::CallError) -> Self {
        Self { kind: FailureKind::Setup, act: error.call, errno: error.source.raw_os_error(), hint: None }
    }
}

/// Turns an error number into a failure that names the act.
pub(super) trait During<T> {
    /// Names the act with its arguments.
    fn during(self, act: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<std::io::Error> + Display> During<T> for Result<T, E> {
    fn during(self, act: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: std::io::Error = error.into();
            let errno = error.raw_os_error();
            let act = if errno.is_some() { act() } else { format!("{}: {error}", act()) };
            Failure { kind: FailureKind::Setup, act, errno, hint: None }
        })
    }
}

/// A failure that has no error number.
pub(super) fn refuse(act: impl Into<String>, hint: &str) -> Failure {
    Failure { kind: FailureKind::Setup, act: act.into(), errno: None, hint: Some(hint.to_owned()) }
}
