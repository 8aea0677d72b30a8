//! Running one more command in a sandbox that runs.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use super::cgroup::Group;
use super::plan::{Action, Command, Plan, Terminal, check_command, last_of_each_name, store_filter};
use super::running::Running;
use super::spec::{Security, Stdio};
use super::{SandboxError, caps, launch};

/// A command for the namespaces of a process.
#[derive(Debug)]
pub(crate) struct Enter {
    /// The process.
    pub(crate) target: OwnedFd,
    /// Its control groups.
    pub(crate) control_groups: Vec<PathBuf>,
    /// Program and arguments.
    pub(crate) args: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    /// Working directory, which must exist.
    pub(crate) cwd: String,
    /// `user[:group]`.
    pub(crate) user: String,
    /// Further groups.
    pub(crate) groups: Vec<String>,
    /// Which walls.
    pub(crate) security: Security,
    /// Capabilities added to the default set.
    pub(crate) cap_add: Vec<String>,
    /// Capabilities taken away.
    pub(crate) cap_drop: Vec<String>,
    /// Whether setuid gives nothing.
    pub(crate) no_new_privileges: bool,
    /// Entered at last.
    pub(crate) user_namespace: Option<OwnedFd>,
    /// Input and output.
    pub(crate) stdio: Stdio,
}

/// Runs a command in the namespaces, control groups and walls of a sandbox. Dropping the result kills that command only.
pub(crate) fn enter(enter: Enter) -> Result<Running, SandboxError> {
    check_command(&enter.args, &enter.env, &enter.cwd)?;
    let walls = enter.security == Security::Sandbox;
    let capabilities = if walls { caps::resolve(&enter.cap_add, &enter.cap_drop)? } else { caps::ALL };
    // Opened here, removed by nobody: the group belongs to the container.
    let group = std::mem::ManuallyDrop::new(Group::adopt(enter.control_groups.clone()));
    let procs = group.procs().map_err(|source| launch::os("open cgroup.procs of the container", source))?;
    let plan = |status| {
        let mut blobs = Vec::new();
        let filter = walls.then(|| store_filter(&mut blobs, capabilities));
        Ok(Plan {
            status,
            actions: vec![
                Action::JoinCgroups(procs.iter().map(AsRawFd::as_raw_fd).collect()),
                Action::JoinNamespaces(enter.target.as_raw_fd()),
            ],
            command: Command {
                args: enter.args.clone(),
                env: last_of_each_name(&enter.env),
                cwd: enter.cwd.clone(),
                create_cwd: false,
                user: enter.user.clone(),
                groups: enter.groups.clone(),
                capabilities,
                no_new_privileges: enter.no_new_privileges,
                rlimits: Vec::new(),
                filter,
                terminal: match enter.stdio {
                    Stdio::Pty { size } => Some(Terminal { size }),
                    _ => None,
                },
                own_stdio: matches!(enter.stdio, Stdio::Pipes { .. } | Stdio::Pty { .. }),
                user_namespace: enter.user_namespace.as_ref().map(AsRawFd::as_raw_fd),
            },
            reaper: true,
            attached: true,
            guest: true,
            blobs,
        })
    };
    launch::start(plan, 0, &enter.stdio, Group::default(), None)
}
