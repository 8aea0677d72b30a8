//! RUN: a command in a sandbox over the root's layers; what it leaves in the upper directory becomes a layer.

mod cache_mount;
mod etc;
mod failed;
mod mounts;
mod output;
mod ssh;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lap_cache::snapshot::{Snapshot, Workspace};
use lap_solver::digest::Key;
use lap_solver::event::Event;
use lap_solver::graph::{Exec, Network, Security, Vertex, VertexId};

use crate::emulation::EmulationError;
use crate::network::{Attachment, NetworkError};
use crate::sandbox::{self, NetworkSetup, Rootfs, SandboxError, Spec, Stdio};
use crate::worker::{BuildWorker, Output, Uplink, WorkerError, root_of, with_layer};
pub use failed::{Entered, Entry, FailedStep};
use mounts::Prepared;
use output::End;

/// A command failed, or could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The command ran and failed.
    #[error("{}", describe(*code, *oom_killed, *memory))]
    Failed {
        /// Its exit code; 128 + n where signal n killed it.
        code: i32,
        /// Whether the kernel killed it since its memory limit was reached.
        oom_killed: bool,
        /// That limit in bytes.
        memory: Option<u64>,
        /// The end of its output, both streams as they came.
        tail: Vec<u8>,
        /// Whether it left no room on the file system of the store.
        store_full: bool,
        /// Whether what it left is kept, so that one can look at it.
        kept: bool,
    },
    /// The command was killed since it ran for too long.
    #[error("killed after {limit:?}, the longest that --timeout lets it run")]
    TimedOut {
        /// For how long it might have run.
        limit: Duration,
        /// The end of its output, both streams as they came.
        tail: Vec<u8>,
        /// Whether what it left is kept, so that one can look at it.
        kept: bool,
    },
    /// The sandbox could not be started.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// There is no network for it.
    #[error("cannot connect the step to the network")]
    Network(#[from] NetworkError),
    /// A cache mount cannot be used.
    #[error("cannot use cache mount {id:?}")]
    Cache {
        /// Its id.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// An SSH agent cannot be forwarded.
    #[error("cannot forward ssh agent {id:?}")]
    Ssh {
        /// Its id.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// Programs of the platform cannot run here.
    #[error(transparent)]
    Emulation(#[from] EmulationError),
    /// A mount's source is not there.
    #[error("cannot mount {source_path:?} at {target:?}")]
    Mount {
        /// Where it should be mounted.
        target: String,
        /// The path of the input.
        source_path: String,
        /// Why.
        source: Box<WorkerError>,
    },
    /// The output of the command cannot be read, or the command not be watched.
    #[error("cannot watch the command")]
    Watch(#[source] io::Error),
}

fn describe(code: i32, oom_killed: bool, memory: Option<u64>) -> String {
    match (oom_killed, memory) {
        (true, Some(limit)) => format!("out of memory: the limit is {} MiB (exit code: {code})", limit >> 20),
        (true, None) => format!("out of memory: the machine has no more (exit code: {code})"),
        (false, _) => format!("exit code: {code}"),
    }
}

/// Runs the command of a step; gives the root file system after it. Dropping the future kills the command.
///
/// Where no file of the root gives privileges, no process of the step can gain any. A step that installs such a file
/// and fails may have failed for just that: it runs once more, from the start, with the files in force.
pub(crate) async fn run(
    worker: &Arc<BuildWorker>,
    id: VertexId,
    vertex: &Vertex,
    key: &Key,
    exec: &Exec,
    inputs: Vec<Output>,
) -> Result<Snapshot, WorkerError> {
    worker.options.grants.check(exec)?;
    let root = root_of(exec.root, &inputs)?;
    let step = Step { worker, id, vertex, exec, root: &root, inputs: &inputs };
    let mut tried = step.attempt(true).await?;
    if tried.failed() && tried.gains_nothing && installs_privileges(worker, &tried.workspace).await? {
        let message = "the step failed, and installed setuid programs or file capabilities, which give nothing in a \
                       step on an image without any: it runs once more with them in force";
        worker.options.events.send(Event::Warning { vertex: Some(id), message: message.to_owned() });
        tried = step.attempt(false).await?;
    }
    let Attempt { end, tail, workspace, gains_nothing } = tried;
    match end {
        End::Exit(exit) if exit.code == 0 => commit(worker, root, workspace).await,
        End::Exit(exit) => {
            let memory = worker.options.limits.memory;
            let (code, oom_killed, store_full) = (exit.code, exit.oom_killed, is_full(&workspace, &tail));
            let told = describe(code, oom_killed, memory);
            // A store without room is not to be filled with what did not fit.
            let kept = !store_full && failed::keep(&step, key, workspace, gains_nothing, &told);
            Err(ExecError::Failed { code, oom_killed, memory, tail, store_full, kept }.into())
        }
        End::Late(limit) => {
            let kept = failed::keep(&step, key, workspace, gains_nothing, &format!("killed after {limit:?}"));
            Err(ExecError::TimedOut { limit, tail, kept }.into())
        }
    }
}

/// What a step is made of.
struct Step<'a> {
    worker: &'a Arc<BuildWorker>,
    id: VertexId,
    vertex: &'a Vertex,
    exec: &'a Exec,
    root: &'a Snapshot,
    inputs: &'a [Output],
}

/// A command that has ended.
struct Attempt {
    end: End,
    tail: Vec<u8>,
    workspace: Workspace,
    gains_nothing: bool,
}

impl Attempt {
    /// Whether the command itself failed.
    const fn failed(&self) -> bool {
        matches!(self.end, End::Exit(exit) if exit.code != 0)
    }
}

impl Step<'_> {
    /// Runs the command once; `guard` asks that it gains no privileges where none can be needed.
    async fn attempt(&self, guard: bool) -> Result<Attempt, WorkerError> {
        let Self { worker, id, vertex, exec, root, inputs } = *self;
        if let (Network::Default, Uplink::Bridge(bridge)) = (exec.network, &worker.options.uplink) {
            // Making a network namespace is the dearest part: it goes on meanwhile.
            bridge.prepare();
        }
        let (emulators, platform) = (Arc::clone(&worker.options.emulators), exec.platform.clone());
        let user_namespace =
            tokio::task::spawn_blocking(move || emulators.prepare(&platform)).await?.map_err(ExecError::from)?;
        worker.ensure_layers(root).await?;
        let network = attach(worker, exec.network).await?;
        let mut prepared = mounts::prepare(worker, vertex.definition, exec, inputs).await?;

        let (store, parents) = (worker.store().clone(), root.diff_ids());
        let guard = guard && exec.security == Security::Sandbox && !prepared.may_give_privileges;
        let (workspace, plan, gains_nothing) = tokio::task::spawn_blocking(move || {
            let workspace = store.workspace()?;
            let plan = store.overlay(&parents, Some(&workspace))?;
            let gains_nothing = guard && !store.may_give_privileges(&parents)?;
            Ok::<_, WorkerError>((workspace, plan, gains_nothing))
        })
        .await??;
        let rootfs =
            Rootfs { lowers: plan.lowers, upper: plan.upper, work: plan.work, volatile: true, readonly: false };
        let spec = Spec {
            user_namespace,
            no_new_privileges: gains_nothing,
            ..spec(worker, id, vertex, exec, rootfs, network.as_ref(), &mut prepared)?
        };
        let running = tokio::task::spawn_blocking(move || sandbox::spawn(spec)).await?.map_err(ExecError::from)?;

        let limit = vertex.metadata.timeout.map(Duration::from_nanos);
        let (end, tail) = output::follow(running, id, &worker.options.events, limit).await?;
        Ok(Attempt { end, tail, workspace, gains_nothing })
    }
}

/// Whether what a step wrote holds files that give privileges.
async fn installs_privileges(worker: &BuildWorker, workspace: &Workspace) -> Result<bool, WorkerError> {
    let (store, upper) = (worker.store().clone(), workspace.upper());
    tokio::task::spawn_blocking(move || {
        let upper = std::fs::File::open(upper).map_err(ExecError::Watch)?;
        Ok(store.directory_gives_privileges(upper)?)
    })
    .await?
}

/// Whether a failed command met the end of the store's file system: nothing is left of it, or little and the command
/// says so.
fn is_full(workspace: &Workspace, tail: &[u8]) -> bool {
    const NOTHING: u64 = 1 << 20;
    const LITTLE: u64 = 512 << 20;
    let Ok(stat) = rustix::fs::statvfs(workspace.path()) else { return false };
    let (bytes, inodes) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_files == 0 || stat.f_favail > 0);
    let complains = String::from_utf8_lossy(tail).contains("No space left on device");
    bytes < NOTHING || !inodes || complains && bytes < LITTLE
}

async fn commit(worker: &BuildWorker, root: Snapshot, workspace: Workspace) -> Result<Snapshot, WorkerError> {
    let store = worker.store().clone();
    tokio::task::spawn_blocking(move || {
        let layer = store.commit(workspace, &root.diff_ids(), false)?;
        Ok(with_layer(root, layer.as_ref()))
    })
    .await?
}

/// The network namespace of a step that has one of its own with a way out.
async fn attach(worker: &BuildWorker, network: Network) -> Result<Option<Attachment>, WorkerError> {
    let (Network::Default, Uplink::Bridge(bridge)) = (network, &worker.options.uplink) else { return Ok(None) };
    let bridge = bridge.clone();
    let attached = tokio::task::spawn_blocking(move || bridge.attach()).await?;
    Ok(Some(attached.map_err(ExecError::from)?))
}

fn spec(
    worker: &BuildWorker,
    id: VertexId,
    vertex: &Vertex,
    exec: &Exec,
    rootfs: Rootfs,
    network: Option<&Attachment>,
    prepared: &mut Prepared,
) -> Result<Spec, WorkerError> {
    let options = &worker.options;
    let setup = match (exec.network, &options.uplink, network) {
        (_, _, Some(attached)) => {
            let namespace = attached.namespace().try_clone_to_owned().map_err(ExecError::Watch)?;
            NetworkSetup::Namespace(namespace)
        }
        (Network::Host, _, _) | (Network::Default, Uplink::Host, _) => NetworkSetup::Host,
        _ => NetworkSetup::None,
    };
    let mut env = exec.env.clone();
    for variable in &vertex.metadata.proxy_env {
        let name = variable.split('=').next().unwrap_or_default();
        // What the Dockerfile sets wins.
        if !exec.env.iter().any(|other| other.split('=').next() == Some(name)) {
            env.push(variable.clone());
        }
    }
    env.append(&mut prepared.env);
    Ok(Spec {
        rootfs,
        args: exec.args.clone(),
        env,
        cwd: exec.cwd.clone(),
        user: exec.user.clone(),
        hostname: options.hostname.clone(),
        mounts: std::mem::take(&mut prepared.mounts),
        etc: etc::files(options, id, &setup, network.map(Attachment::gateway))?,
        network: setup,
        security: match exec.security {
            Security::Sandbox => sandbox::Security::Sandbox,
            Security::Insecure => sandbox::Security::Insecure,
        },
        rlimits: options.rlimits.clone(),
        limits: options.limits.clone(),
        cgroup_parent: options.cgroup_parent.clone(),
        stdio: Stdio::Pipes { stdin: false },
        shm_size: options.shm_size,
        ..Spec::default()
    })
}
