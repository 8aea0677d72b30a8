//! One more command in a running container.

use lap_solver::image::ContainerConfig;

use super::Containers;
use super::directory::Container;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::error::ContainerError;
use super::state::State;
use crate::sandbox::{self, Enter, Running, Security, Stdio};

/// What `exec` is given.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `-e`, over the container's environment.
    pub env: Vec<String>,
    /// `-w`; the container's where absent.
    pub working_dir: Option<String>,
    /// `-u`; the container's where absent.
    pub user: Option<String>,
    /// `-t`: a terminal of the container.
    pub tty: bool,
    /// `-i`: open input.
    pub interactive: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// Columns and rows of the terminal.
    pub size: Option<(u16, u16)>,
}

impl Containers {
    /// Starts a command in a running container, with the container's walls. Dropping the result kills the command.
    ///
    /// # Errors
    /// Where the container does not run or the command cannot be started.
    pub fn exec(&self, container: &Container, options: ExecOptions) -> Result<Running, ContainerError> {
        let config = &container.config;
        let not_running = || ContainerError::State { id: config.id.clone(), problem: "is not running" };
        let State::Running(live) = &container.state else { return Err(not_running()) };
        let target = live.process.open().ok_or_else(not_running)?;
        let mut env = ContainerConfig { env: config.env.clone(), ..ContainerConfig::default() };
        if options.tty && env.env_value("TERM").is_none() {
            env.set_env("TERM", "xterm");
        }
        for entry in &options.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            env.set_env(name, value);
        }
        let privileged = config.privileged || options.privileged;
        Ok(sandbox::enter(Enter {
            target,
            control_groups: live.control_groups.clone(),
            args: options.command,
            env: env.env,
            cwd: options.working_dir.unwrap_or_else(|| config.working_dir.clone()),
            user: options.user.unwrap_or_else(|| config.user.clone()),
            groups: config.groups.clone(),
            security: if privileged { Security::Insecure } else { Security::Sandbox },
            cap_add: config.cap_add.clone(),
            cap_drop: config.cap_drop.clone(),
            no_new_privileges: !(options.privileged && config.no_new_privileges.is_none())
                && self.gains_nothing(container)?,
            user_namespace: other_user_namespace(live.process.pid)?,
            stdio: match options.tty {
                true => Stdio::Pty { size: options.size },
                false => Stdio::Pipes { stdin: options.interactive },
            },
        })?)
    }
}

/// The user namespace of a process, where it is not ours: emulators are registered there.
fn other_user_namespace(pid: i32) -> Result<Option<OwnedFd>, ContainerError> {
    let open = |process: &str| {
        let path = format!("/proc/{process}/ns/user");
        File::open(&path).map_err(ContainerError::file("open", path))
    };
    let (ours, theirs) = (open("self")?, open(&pid.to_string())?);
    let number = |file: &File| file.metadata().map(|metadata| metadata.ino()).ok();
    Ok((number(&ours) != number(&theirs)).then(|| theirs.into()))
}
