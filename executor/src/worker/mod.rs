//! Carries out the steps of a build against the store: the solver's [`Worker`] and [`Index`].

mod error;
mod files;
mod identity;
mod index;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lap_cache::digest::Digest;
use lap_cache::layer::LayerInfo;
use lap_cache::records::Records;
use lap_cache::registry::{Client, RegistryConfig};
use lap_cache::remote::{Exports, Imports};
use lap_cache::snapshot::{LayerRef, Snapshot};
use lap_cache::store::Store;
use lap_solver::digest::Key;
use lap_solver::event::Events;
use lap_solver::graph::{self, Op, Vertex, VertexId};
use lap_solver::worker::Worker;

pub use error::WorkerError;
pub(crate) use files::Source;
pub use turn::StepLock;

use crate::emulation::Emulators;
use crate::grant::{GrantError, Grants};
use crate::network::Network;
use crate::op;
use crate::sandbox::{Limits, Rlimit};
use crate::source::image::Bases;
use crate::source::local::{Local, LocalSource};
use crate::source::{Remote, git, http};
use crate::tree::{Selection, Tree};

/// What a step yields. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Output {
    /// A root file system, whether its layers are in the store or not yet.
    Layers(Snapshot),
    /// A directory of this machine.
    Local(Arc<Tree>),
}

impl Output {
    /// The layers, if it is a root file system.
    #[must_use]
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Layers(snapshot) => Some(snapshot),
            Self::Local(_) => None,
        }
    }
}

/// How a command reaches other machines unless it asks otherwise.
#[derive(Debug, Clone)]
pub enum Uplink {
    /// Its own namespace on a bridge with NAT.
    Bridge(Network),
    /// The machine's own network, where there is nothing better; the caller has told the user.
    Host,
    /// Not at all.
    None,
}

/// The commits that git sources turned out to be, by URL and ref (empty for HEAD). Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Commits(Arc<Mutex<BTreeMap<(String, String), String>>>);

impl Commits {
    /// All that are known so far.
    #[must_use]
    pub fn all(&self) -> BTreeMap<(String, String), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, url: &str, reference: Option<&str>, commit: &str) {
        let key = (url.to_owned(), reference.unwrap_or_default().to_owned());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, commit.to_owned());
    }
}

/// In place of an address in [`Options::add_hosts`]: this machine, as the network of a step has it.
pub const HOST_GATEWAY: &str = "host-gateway";

/// What a build is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where layers and records are.
    pub store: Store,
    /// Build contexts by the name that the graph has for them.
    pub contexts: BTreeMap<String, LocalSource>,
    /// Base images, resolved.
    pub bases: Bases,
    /// Fetches and unpacks what is not in the store; the client that resolved the bases.
    pub registry: Client,
    /// Caches of elsewhere that are read; the same for all workers of one build.
    pub imports: Imports,
    /// Caches of elsewhere that are written, where any are; the same for all workers of one build.
    pub exports: Option<Exports>,
    /// Secrets, agents, and walls that may be left out.
    pub grants: Grants,
    /// What the default network is.
    pub uplink: Uplink,
    /// Lines added to `/etc/hosts`: name, and address or [`HOST_GATEWAY`].
    pub add_hosts: Vec<(String, String)>,
    /// Name of the machine that commands see.
    pub hostname: String,
    /// Limits of each command.
    pub limits: Limits,
    /// Process limits of each command.
    pub rlimits: Vec<Rlimit>,
    /// Size of `/dev/shm` in bytes; nothing is 64 MiB.
    pub shm_size: Option<u64>,
    /// Parent of the commands' control groups.
    pub cgroup_parent: Option<String>,
    /// Where commits are noted; the same for all workers of one build.
    pub commits: Commits,
    /// Runs programs of other architectures.
    pub emulators: Arc<Emulators>,
    /// Whoever wants to know.
    pub events: Events,
}

impl Options {
    /// A build in `store` without contexts, images, grants, limits or network.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            contexts: BTreeMap::new(),
            bases: Bases::default(),
            registry: Client::new(RegistryConfig::default()),
            imports: Imports::default(),
            exports: None,
            grants: Grants::default(),
            uplink: Uplink::None,
            add_hosts: Vec::new(),
            hostname: "buildkitsandbox".to_owned(),
            limits: Limits::default(),
            rlimits: Vec::new(),
            shm_size: None,
            cgroup_parent: None,
            commits: Commits::default(),
            emulators: Arc::default(),
            events: Events::none(),
        }
    }
}

/// Contexts and what is taken of them, by identity.
type Seen = HashMap<Key, (Arc<Tree>, Vec<Selection>)>;

/// Carries out the steps of one build.
pub struct BuildWorker {
    pub(crate) options: Options,
    records: Records,
    locals: Mutex<HashMap<String, Local>>,
    /// What the identities of this build's contexts stand for.
    seen: Mutex<Seen>,
    /// Values of secrets that are in keys: what a step is run with is what its key was made of.
    keyed: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Held while base layers are fetched, so that two steps do not fetch the same ones.
    fetching: tokio::sync::Mutex<()>,
}

impl fmt::Debug for BuildWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildWorker").field("options", &self.options).finish_non_exhaustive()
    }
}

impl BuildWorker {
    /// A worker for one build. It is also its [`lap_solver::worker::Index`].
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        let records = Records::new(options.store.clone());
        Arc::new(Self {
            options,
            records,
            locals: Mutex::default(),
            seen: Mutex::default(),
            keyed: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// Brings every layer of `snapshot` into the store: what an export needs, and every step that reads files.
    ///
    /// # Errors
    /// Where a layer cannot be fetched or unpacked.
    pub async fn ensure_layers(&self, snapshot: &Snapshot) -> Result<(), WorkerError> {
        if self.has_layers(snapshot)? {
            return Ok(());
        }
        self.fetch(&snapshot.diff_ids()).await
    }

    /// Brings those layers of `snapshot` into the store that only a build cache has: what a result needs to outlive
    /// the cache. Layers of base images stay where they are.
    ///
    /// # Errors
    /// As [`Self::ensure_layers`].
    pub async fn ensure_imported(&self, snapshot: &Snapshot) -> Result<(), WorkerError> {
        let (mut chain, mut missing) = (Vec::new(), false);
        for layer in snapshot.diff_ids() {
            let here = self.store().layer(&layer)?.is_some();
            let imported = !here && self.options.imports.claim(&layer).is_some();
            missing |= imported;
            if here || imported {
                chain.push(layer);
            }
        }
        if missing { self.fetch(&chain).await } else { Ok(()) }
    }

    /// The content of a secret; nothing where it was not given and need not be.
    pub(crate) fn secret(&self, id: &str, required: bool) -> Result<Option<Vec<u8>>, GrantError> {
        let keyed = self.keyed.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if keyed.is_some() { Ok(keyed) } else { self.options.grants.secret(id, required) }
    }

    async fn fetch(&self, chain: &[Digest]) -> Result<(), WorkerError> {
        let _one_at_a_time = self.fetching.lock().await;
        let Options { imports, registry, store, events, .. } = &self.options;
        imports.bring(chain).await?;
        registry.ensure_layers(chain, store, events).await?;
        let (imports, records, chain) = (imports.clone(), self.records.clone(), chain.to_vec());
        Ok(tokio::task::spawn_blocking(move || imports.vouch(&chain, &records)).await???)
    }

    /// The commits that git sources of the whole build turned out to be, so far.
    #[must_use]
    pub fn commits(&self) -> BTreeMap<(String, String), String> {
        self.options.commits.all()
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.options.store
    }

    /// The tree of a context, opened once a build.
    fn local(&self, name: &str) -> Result<Arc<Tree>, WorkerError> {
        let mut locals = self.locals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(local) = locals.get(name) {
            return Ok(Arc::clone(&local.tree));
        }
        let source = self.options.contexts.get(name).ok_or_else(|| WorkerError::NoContext(name.to_owned()))?;
        let local = Local::open(source, self.store())?;
        let tree = Arc::clone(&local.tree);
        locals.insert(name.to_owned(), local);
        Ok(tree)
    }

    fn remote(&self) -> Remote {
        Remote {
            store: self.store().clone(),
            client: self.options.registry.clone(),
            grants: self.options.grants.clone(),
            events: self.options.events.clone(),
        }
    }

    async fn source(&self, source: &graph::Source) -> Result<Output, WorkerError> {
        match source {
            graph::Source::Image { reference, platform } => {
                Ok(Output::Layers(self.options.bases.snapshot(reference, platform)?))
            }
            graph::Source::Local { name } => Ok(Output::Local(self.local(name)?)),
            graph::Source::Http { url, checksum, filename } => {
                let found = http::fetch(&self.remote(), url, checksum.as_deref(), filename).await;
                Ok(Output::Layers(found.map_err(Box::new)?))
            }
            graph::Source::Git { url, reference, subdir, keep_git_dir, checksum, skip_submodules } => {
                let wanted = git::Wanted {
                    url: url.clone(),
                    reference: reference.clone(),
                    subdir: subdir.clone(),
                    keep_git_dir: *keep_git_dir,
                    checksum: checksum.clone(),
                    submodules: !skip_submodules,
                };
                let found = git::fetch(&self.remote(), &wanted).await.map_err(Box::new)?;
                self.options.commits.note(url, reference.as_deref(), &found.commit);
                Ok(Output::Layers(found.snapshot))
            }
        }
    }
}

impl Drop for BuildWorker {
    fn drop(&mut self) {
        let locals = self.locals.get_mut().unwrap_or_else(PoisonError::into_inner);
        for local in locals.values() {
            // Only costs time in the next build.
            drop(local.save());
        }
    }
}

impl Worker for BuildWorker {
    type Output = Output;
    type Error = WorkerError;

    async fn identity(self: &Arc<Self>, vertex: &Vertex, input: usize, output: &Output) -> Result<Key, WorkerError> {
        identity::of(self, vertex, input, output).await
    }

    fn secrets(&self, _: VertexId, vertex: &Vertex) -> Result<BTreeMap<String, Key>, WorkerError> {
        let mut codes = BTreeMap::new();
        let Op::Exec(exec) = &vertex.op else { return Ok(codes) };
        for (id, required) in exec.keyed_secrets() {
            if let Some(value) = self.secret(id, required)? {
                codes.insert(id.to_owned(), self.store().mac("secret", id, &value)?);
                self.keyed.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), value);
            }
        }
        Ok(codes)
    }

    async fn execute(
        self: &Arc<Self>,
        id: VertexId,
        vertex: &Vertex,
        key: Key,
        inputs: Vec<Output>,
    ) -> Result<Output, WorkerError> {
        match &vertex.op {
            Op::Source(source) => self.source(source).await,
            Op::Exec(exec) => Ok(Output::Layers(op::exec::run(self, id, vertex, &key, exec, inputs).await?)),
            Op::File(file) => Ok(Output::Layers(files::run(self, id, file, inputs).await?)),
            Op::Merge => Ok(Output::Layers(op::merge::run(&inputs)?)),
        }
    }
}

/// The root file system among a step's inputs; an empty one where the step has none.
pub(crate) fn root_of(root: Option<u32>, inputs: &[Output]) -> Result<Snapshot, WorkerError> {
    let Some(root) = root else { return Ok(Snapshot::default()) };
    let input = inputs.get(root as usize).and_then(Output::snapshot);
    input.cloned().ok_or(WorkerError::Input(root as usize))
}

/// `root` with the layer that a step made on it, if it made one.
pub(crate) fn with_layer(root: Snapshot, layer: Option<&LayerInfo>) -> Snapshot {
    match layer {
        Some(layer) => root.with(LayerRef::from(layer)),
        None => root,
    }
}

/// Tells work on another thread that nobody waits for it any more, when dropped.
#[derive(Debug, Default)]
pub(crate) struct CancelOnDrop(Arc<AtomicBool>);

impl CancelOnDrop {
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
