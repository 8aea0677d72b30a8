//! Going on where a command has failed: a shell over what it left, behind the same walls.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lap_cache::failed::Failed;
use lap_cache::snapshot::{Snapshot, Workspace};
use lap_solver::digest::Key;
use lap_solver::graph::{Exec, Metadata, MountKind, Op, Vertex, VertexId};
use lap_solver::pattern::Matcher;
use serde::{Deserialize, Serialize};

use super::mounts::{self, Prepared};
use super::{ExecError, Step, attach, spec};
use crate::network::Attachment;
use crate::sandbox::{self, Limits, Rlimit, Rootfs, Running, Spec, Stdio};
use crate::source::local::{Local, LocalSource};
use crate::worker::{BuildWorker, Output, WorkerError};

/// Everything that a failed step was run with, but for secrets and the proxies of the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedStep {
    /// What it is called.
    pub name: String,
    /// The command, its environment, mounts and walls.
    pub exec: Exec,
    /// Why it failed.
    pub error: String,
    /// When, in seconds since 1970.
    pub at: u64,
    definition: Key,
    root: Snapshot,
    inputs: Vec<Input>,
    gains_nothing: bool,
    hostname: String,
    /// Lines of `/etc/hosts`.
    pub add_hosts: Vec<(String, String)>,
    limits: Limits,
    rlimits: Vec<Rlimit>,
    shm_size: Option<u64>,
    cgroup_parent: Option<String>,
}

/// An input of the step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Input {
    Layers(Snapshot),
    Local {
        dir: PathBuf,
        ignore: Vec<String>,
    },
    /// A directory that is known by no name.
    Unknown,
}

impl FailedStep {
    /// Reads what was kept; nothing where it is of another version, or damaged.
    #[must_use]
    pub fn read(failed: &Failed) -> Option<Self> {
        serde_json::from_slice(&failed.about).ok()
    }

    /// The shell that its command was for, or `/bin/sh`.
    #[must_use]
    pub fn shell(&self) -> Vec<String> {
        match self.exec.args.as_slice() {
            [shell, flag, _] if flag.starts_with('-') => vec![shell.clone()],
            _ => vec!["/bin/sh".to_owned()],
        }
    }
}

/// Keeps what a step left; where that cannot be done, there is only no shell in it.
pub(super) fn keep(step: &Step<'_>, key: &Key, workspace: Workspace, gains_nothing: bool, error: &str) -> bool {
    let options = &step.worker.options;
    let input = |output: &Output| match output {
        Output::Layers(snapshot) => Input::Layers(snapshot.clone()),
        Output::Local(tree) => tree.dir().map_or(Input::Unknown, |dir| Input::Local {
            dir: dir.to_owned(),
            ignore: tree.ignored().map(Matcher::patterns).unwrap_or_default(),
        }),
    };
    let about = FailedStep {
        name: step.vertex.metadata.name.clone(),
        exec: step.exec.clone(),
        error: error.to_owned(),
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        definition: step.vertex.definition,
        root: step.root.clone(),
        inputs: step.inputs.iter().map(input).collect(),
        gains_nothing,
        hostname: options.hostname.clone(),
        add_hosts: options.add_hosts.clone(),
        limits: options.limits.clone(),
        rlimits: options.rlimits.clone(),
        shm_size: options.shm_size,
        cgroup_parent: options.cgroup_parent.clone(),
    };
    let Ok(about) = serde_json::to_vec(&about) else { return false };
    options.store.keep_failed(workspace, key, &about).is_ok()
}

/// How to go on.
#[derive(Debug)]
pub struct Entry {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Where its input and output go.
    pub stdio: Stdio,
    /// Whether what it changes is kept with the failed step; else it is thrown away.
    pub keep: bool,
}

/// A command where another one has failed. Wait for `running`, then drop it.
#[derive(Debug)]
pub struct Entered {
    /// The command.
    pub running: Running,
    _network: Option<Attachment>,
    _prepared: Prepared,
    _workspace: Workspace,
}

impl BuildWorker {
    /// Sets the options that a failed step was run with.
    pub fn resume(options: &mut crate::worker::Options, step: &FailedStep) {
        options.hostname.clone_from(&step.hostname);
        options.add_hosts.clone_from(&step.add_hosts);
        options.limits = step.limits.clone();
        options.rlimits.clone_from(&step.rlimits);
        options.shm_size = step.shm_size;
        options.cgroup_parent.clone_from(&step.cgroup_parent);
    }

    /// Runs a command where a step has failed, with its mounts, environment, user, directory, network and walls.
    /// Secrets and agents that are not granted any more are left out.
    ///
    /// # Errors
    /// Where something that the step had is not there any more, or the command cannot be started.
    pub async fn enter(
        self: &Arc<Self>,
        step: &FailedStep,
        failed: &Failed,
        entry: Entry,
    ) -> Result<Entered, WorkerError> {
        let exec = without_requirements(&step.exec);
        let mut inputs = Vec::new();
        for (at, input) in step.inputs.iter().enumerate() {
            inputs.push(match input {
                Input::Layers(snapshot) => Output::Layers(snapshot.clone()),
                Input::Local { dir, ignore } => {
                    let ignore = Matcher::new(ignore).unwrap_or_default();
                    let source = LocalSource { dir: dir.clone(), ignore };
                    Output::Local(Local::open(&source, &self.options.store)?.tree)
                }
                Input::Unknown => return Err(WorkerError::Input(at)),
            });
        }
        let (emulators, platform) = (Arc::clone(&self.options.emulators), exec.platform.clone());
        let user_namespace =
            tokio::task::spawn_blocking(move || emulators.prepare(&platform)).await?.map_err(ExecError::from)?;
        self.ensure_layers(&step.root).await?;
        let network = attach(self, exec.network).await?;
        let mut prepared = mounts::prepare(self, step.definition, &exec, &inputs).await?;
        let store = &self.options.store;
        let workspace = store.workspace()?;
        let plan = store.overlay(&step.root.diff_ids(), Some(&workspace))?;
        let mut rootfs =
            Rootfs { lowers: plan.lowers, upper: plan.upper, work: plan.work, volatile: true, readonly: false };
        if entry.keep {
            rootfs.upper = Some(failed.upper.clone());
        } else {
            rootfs.lowers.insert(0, failed.upper.clone());
        }
        let metadata = Metadata { name: step.name.clone(), ..Metadata::default() };
        let op = Op::Exec(exec.clone());
        let vertex = Vertex { op, inputs: Vec::new(), definition: step.definition, metadata };
        let spec = Spec {
            user_namespace,
            no_new_privileges: step.gains_nothing,
            args: entry.args,
            stdio: entry.stdio,
            ..spec(self, VertexId(0), &vertex, &exec, rootfs, network.as_ref(), &mut prepared)?
        };
        let running = tokio::task::spawn_blocking(move || sandbox::spawn(spec)).await?.map_err(ExecError::from)?;
        Ok(Entered { running, _network: network, _prepared: prepared, _workspace: workspace })
    }
}

/// The same step for somebody who may not have its secrets.
fn without_requirements(exec: &Exec) -> Exec {
    let mut exec = exec.clone();
    for mount in &mut exec.mounts {
        if let MountKind::Secret(secret) | MountKind::Ssh(secret) = &mut mount.kind {
            secret.required = false;
        }
    }
    for secret in &mut exec.secret_env {
        secret.required = false;
    }
    exec
}
