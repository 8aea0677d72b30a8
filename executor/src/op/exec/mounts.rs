//! Turning the mounts of a step into those of a sandbox, and holding what they need while the command runs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use lap_cache::snapshot::Workspace;
use lap_solver::digest::Key;
use lap_solver::graph::{CacheSharing, Copy, Exec, File, FileAction, Mount, MountKind, SecretFile, Unpack};

use super::ExecError;
use super::cache_mount::{CacheDir, NewCache};
use super::ssh::Forward;
use crate::op::file;
use crate::sandbox::{MountSource, Rootfs, SandboxMount};
use crate::tree::{Selection, Tree};
use crate::worker::{BuildWorker, CancelOnDrop, Output, Source, WorkerError};

/// Mode of an empty directory that is mounted.
const EMPTY_MODE: u32 = 0o755;

/// Mounts and variables, and what must live as long as the command.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<SandboxMount>,
    pub(super) env: Vec<String>,
    /// Whether something mounted may hold files that give privileges to whoever runs them: layers that do, and what
    /// is not made of layers (contexts where they lie, caches).
    pub(super) may_give_privileges: bool,
    /// Scratch directories for discarded writes, copies and sockets.
    workspaces: Vec<Workspace>,
    caches: Vec<CacheDir>,
    agents: Vec<Forward>,
}

pub(super) async fn prepare(
    worker: &Arc<BuildWorker>,
    step: Key,
    exec: &Exec,
    inputs: &[Output],
) -> Result<Prepared, WorkerError> {
    let mut prepared = Prepared::default();
    let caches = prepared.caches(worker, step, exec, inputs).await?;
    for (at, mount) in exec.mounts.iter().enumerate() {
        let source = match caches.get(&at) {
            Some(cache) => Some(MountSource::Bind { source: cache.clone(), below: None, recursive: false }),
            None => prepared.source(worker, mount, inputs).await?,
        };
        if let Some(source) = source {
            let readonly = mount.readonly || matches!(mount.kind, MountKind::Secret(_));
            prepared.mounts.push(SandboxMount { target: mount.target.clone(), readonly, source });
        }
    }
    for inline in &exec.files {
        let data = inline.data.clone().into_bytes();
        let source = MountSource::File { data, mode: inline.mode, uid: 0, gid: 0 };
        prepared.mounts.push(SandboxMount { target: inline.path.clone(), readonly: true, source });
    }
    for secret in &exec.secret_env {
        if let Some(value) = worker.secret(&secret.id, secret.required)? {
            prepared.env.push(format!("{}={}", secret.name, String::from_utf8_lossy(&value)));
        }
    }
    Ok(prepared)
}

impl Prepared {
    /// What is mounted; nothing for a secret or an agent that was not given and need not be.
    async fn source(
        &mut self,
        worker: &Arc<BuildWorker>,
        mount: &Mount,
        inputs: &[Output],
    ) -> Result<Option<MountSource>, WorkerError> {
        Ok(match &mount.kind {
            MountKind::Tmpfs { size } => Some(MountSource::Tmpfs { size: *size, mode: 0o1777 }),
            MountKind::Secret(secret) => self.secret(worker, secret)?,
            MountKind::Ssh(agent) => self.agent(worker, agent, &mount.target)?,
            MountKind::Bind { input: None, .. } => Some(MountSource::Tmpfs { size: None, mode: EMPTY_MODE }),
            MountKind::Bind { input: Some(input), source } => {
                let input = input_of(inputs, *input)?;
                let failed = |error| ExecError::Mount {
                    target: mount.target.clone(),
                    source_path: source.clone(),
                    source: Box::new(error),
                };
                Some(self.bind(worker, input, source, mount.readonly).await.map_err(failed)?)
            }
            // Taken before all others.
            MountKind::Cache { .. } => None,
        })
    }

    fn secret(&self, worker: &BuildWorker, secret: &SecretFile) -> Result<Option<MountSource>, WorkerError> {
        let data = worker.secret(&secret.id, secret.required)?;
        let SecretFile { mode, uid, gid, .. } = *secret;
        Ok(data.map(|data| MountSource::File { data, mode, uid, gid }))
    }

    fn agent(
        &mut self,
        worker: &BuildWorker,
        agent: &SecretFile,
        target: &str,
    ) -> Result<Option<MountSource>, WorkerError> {
        let Some(socket) = worker.options.grants.agent(&agent.id, agent.required)? else { return Ok(None) };
        let workspace = worker.store().workspace()?;
        let failed = |source| ExecError::Ssh { id: agent.id.clone(), source };
        let forward = Forward::start(workspace.path(), "ssh", socket.clone(), agent.mode, agent.uid, agent.gid)
            .map_err(failed)?;
        let source = MountSource::Bind { source: forward.socket.clone(), below: None, recursive: false };
        self.workspaces.push(workspace);
        self.agents.push(forward);
        // The first one, unless the Dockerfile says otherwise: later variables of a name win, so ours goes first.
        if self.agents.len() == 1 {
            self.env.insert(0, format!("SSH_AUTH_SOCK={target}"));
        }
        Ok(Some(source))
    }

    async fn bind(
        &mut self,
        worker: &Arc<BuildWorker>,
        input: &Output,
        path: &str,
        readonly: bool,
    ) -> Result<MountSource, WorkerError> {
        let below = Some(path.to_owned()).filter(|path| path != "/" && !path.is_empty());
        let lowers = match input {
            Output::Layers(snapshot) => {
                worker.ensure_layers(snapshot).await?;
                if snapshot.layers.is_empty() {
                    return Ok(MountSource::Tmpfs { size: None, mode: EMPTY_MODE });
                }
                let layers = snapshot.diff_ids();
                self.may_give_privileges |= worker.store().may_give_privileges(&layers)?;
                worker.store().overlay(&layers, None)?.lowers
            }
            Output::Local(tree) => {
                self.may_give_privileges = true;
                tree.existing(path.as_bytes())?;
                match tree.dir() {
                    Some(dir) if !tree.is_filtered() && readonly => {
                        let source = MountSource::Bind { source: dir.to_owned(), below, recursive: false };
                        return Ok(source);
                    }
                    Some(dir) if !tree.is_filtered() => vec![dir.to_owned()],
                    _ => return self.copied(worker, tree, path).await,
                }
            }
        };
        let (mut upper, mut work) = (None, None);
        if !readonly {
            let workspace = worker.store().workspace()?;
            (upper, work) = (Some(workspace.upper()), Some(workspace.work()));
            self.workspaces.push(workspace);
        }
        let rootfs = Rootfs { lowers, upper, work, volatile: true, readonly };
        Ok(MountSource::Layers { rootfs, below })
    }

    /// A context of which something is ignored: what is not is copied, since a mount cannot leave anything out.
    async fn copied(
        &mut self,
        worker: &Arc<BuildWorker>,
        tree: &Arc<Tree>,
        path: &str,
    ) -> Result<MountSource, WorkerError> {
        let (_, node) = tree.existing(path.as_bytes())?;
        let dest = if node.is_dir() { "/copy/" } else { "/copy" };
        let workspace = worker.store().workspace()?;
        fill(workspace.upper(), Output::Local(Arc::clone(tree)), path.to_owned(), dest.to_owned(), worker).await?;
        let source = workspace.upper().join("copy");
        self.workspaces.push(workspace);
        Ok(MountSource::Bind { source, below: None, recursive: false })
    }

    /// Takes the caches of all mounts; tells their directories by the mounts' positions.
    ///
    /// Each is taken once, as the strictest of its mounts wants it, and all steps take theirs in one order: so nobody
    /// waits for somebody who waits for him.
    async fn caches(
        &mut self,
        worker: &Arc<BuildWorker>,
        step: Key,
        exec: &Exec,
        inputs: &[Output],
    ) -> Result<BTreeMap<usize, PathBuf>, WorkerError> {
        let mut wanted: BTreeMap<Key, Wanted<'_>> = BTreeMap::new();
        for (at, mount) in exec.mounts.iter().enumerate() {
            let MountKind::Cache { id, sharing, input, source, mode, uid, gid } = &mount.kind else { continue };
            let initial = input.map(|input| input_of(inputs, input)).transpose()?;
            let content = match initial {
                Some(input) => Some(worker.selection_identity(input, vec![Selection::Path(source.clone())]).await?),
                None => None,
            };
            let new = NewCache { mode: *mode, uid: *uid, gid: *gid, content };
            let initial = initial.map(|input| (input, source.as_str()));
            let first = Wanted { id, sharing: *sharing, new, initial, mounts: Vec::new() };
            let entry = wanted.entry(new.name(id)).or_insert(first);
            entry.sharing = entry.sharing.max(*sharing);
            entry.mounts.push(at);
        }
        let mut taken = BTreeMap::new();
        for wanted in wanted.values() {
            let path = self.cache(worker, step, wanted).await?;
            taken.extend(wanted.mounts.iter().map(|at| (*at, path.clone())));
        }
        Ok(taken)
    }

    async fn cache(
        &mut self,
        worker: &Arc<BuildWorker>,
        step: Key,
        wanted: &Wanted<'_>,
    ) -> Result<PathBuf, WorkerError> {
        let Wanted { id, sharing, new, initial, .. } = *wanted;
        let failed = |source| ExecError::Cache { id: id.to_owned(), source };
        let mut cache =
            CacheDir::take(&worker.store().root().join("caches"), id, sharing, new).await.map_err(failed)?;
        if cache.is_new
            && !worker.options.imports.fill_mount(cache.name, &cache.path).await
            && let Some((input, path)) = initial
        {
            if let Output::Layers(snapshot) = input {
                worker.ensure_layers(snapshot).await?;
            }
            fill(cache.path.clone(), input.clone(), path.to_owned(), "/".to_owned(), worker).await?;
        }
        cache.share().map_err(failed)?;
        if let Some(exports) = &worker.options.exports {
            exports.note_mount(cache.used(step, id));
        }
        self.may_give_privileges = true;
        let path = cache.path.clone();
        self.caches.push(cache);
        Ok(path)
    }
}

/// A cache that a step mounts, perhaps more than once.
struct Wanted<'a> {
    id: &'a str,
    sharing: CacheSharing,
    new: NewCache,
    /// What a new one begins with.
    initial: Option<(&'a Output, &'a str)>,
    mounts: Vec<usize>,
}

fn input_of(inputs: &[Output], input: u32) -> Result<&Output, WorkerError> {
    inputs.get(input as usize).ok_or(WorkerError::Input(input as usize))
}

/// Copies a path of an input into a directory of ours.
async fn fill(
    into: PathBuf,
    input: Output,
    path: String,
    dest: String,
    worker: &BuildWorker,
) -> Result<(), WorkerError> {
    let cancel = CancelOnDrop::default();
    let (store, cancelled) = (worker.store().clone(), cancel.flag());
    let work = move || {
        let source = Source::open(&store, &input)?;
        let root: OwnedFd = std::fs::File::open(into).map_err(ExecError::Watch)?.into();
        let copy = Copy {
            from: Some(0),
            source: path,
            dest,
            owner: None,
            keep_owner: true,
            mode: None,
            wildcard: false,
            unpack: Unpack::No,
            include: Vec::new(),
            exclude: Vec::new(),
            parents: false,
        };
        let step = File { root: None, actions: vec![FileAction::Copy(copy)] };
        file::apply(&step, root.as_fd(), |_| Some(source.tree()), store.mode(), &cancelled)?;
        Ok(())
    };
    tokio::task::spawn_blocking(work).await?
}
