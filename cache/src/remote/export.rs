//! Writing what a build yields into caches, beside the build.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lap_solver::digest::Key;
use lap_solver::event::Events;
use oci_spec::image::Descriptor;
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::task::JoinSet;

use super::import::{Imports, within};
use super::mounts::{Mounts, UsedMount};
use super::{Backend, Claim, Document, Entry, Name, RemoteError};
use crate::digest::Digest;
use crate::image::assemble::{AssembleOptions, layer_blob, own_blob};
use crate::image::{Compression, manifest};
use crate::snapshot::LayerRef;
use crate::store::{Store, lock};

/// Steps that are sent to a cache at once.
const PARALLEL: usize = 4;
/// How long the first answer may take.
const FIRST: Duration = Duration::from_secs(10);
/// How long a document may take.
const DOCUMENT: Duration = Duration::from_secs(20);
/// The slowest rate, in bytes a second, that is put up with, after a minute.
const SLOWEST: u64 = 64 << 10;

/// Which blobs a cache gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Those of the result. Of other stages only keys: a build that changes nothing of them does not need them.
    #[default]
    Min,
    /// Those of every step.
    Max,
}

/// How blobs are made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Packing {
    /// Of layers that are made here.
    pub compression: Compression,
    /// Whether layers from elsewhere in another compression are made anew.
    pub force: bool,
}

/// One result that is exported.
#[derive(Debug, Clone)]
pub struct Part {
    /// Definition of the last step.
    pub definition: Key,
    /// Definitions of all steps that it needs.
    pub steps: HashSet<Key>,
    /// Definitions of the steps that made its own layers.
    pub result: HashSet<Key>,
}

/// A cache to write.
#[derive(Debug)]
pub struct Target {
    /// Where it is.
    pub backend: Arc<dyn Backend>,
    /// Which blobs.
    pub mode: Mode,
    /// How they are made.
    pub packing: Packing,
    /// Of which results.
    pub parts: Vec<Part>,
    /// Whether the cache mounts that were used are written too.
    pub mounts: bool,
    /// Whether a failure is only told.
    pub ignore_error: bool,
}

/// A step that has a result.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its definition key.
    pub definition: Key,
    /// Its content key.
    pub key: Key,
    /// The layer that it added.
    pub layer: Option<LayerRef>,
    /// Whether it was executed: then its entry takes the place of an older one.
    pub executed: bool,
}

/// A cache that could not be written, or not be tidied up.
#[derive(Debug)]
pub struct Failed {
    /// Name of the cache.
    pub label: String,
    /// What it could not be: "export to", "reset".
    pub act: &'static str,
    /// Why.
    pub error: RemoteError,
    /// Whether that is only told.
    pub ignore: bool,
}

/// The caches that a build writes. Cheap to clone; without targets it only remembers what an inline cache needs.
#[derive(Debug, Clone)]
pub struct Exports {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    imports: Imports,
    targets: Vec<Writing>,
    tasks: Mutex<JoinSet<()>>,
    steps: Mutex<HashMap<Key, Step>>,
    selections: Mutex<BTreeMap<Key, Key>>,
    mounts: Mounts,
    /// Layers whose blob is being made.
    making: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
}

#[derive(Debug)]
struct Writing {
    target: Target,
    permits: Arc<Semaphore>,
    /// Whether it answers at all.
    answers: OnceCell<bool>,
    done: Mutex<HashMap<Key, Entry>>,
    /// Whether nothing more is written.
    off: watch::Sender<bool>,
    error: Mutex<Option<RemoteError>>,
}

impl Exports {
    /// Writes what comes to `targets`.
    #[must_use]
    pub fn new(store: &Store, targets: Vec<Target>, imports: Imports) -> Self {
        let writing = |target| Writing {
            target,
            permits: Arc::new(Semaphore::new(PARALLEL)),
            answers: OnceCell::new(),
            done: Mutex::default(),
            off: watch::Sender::new(false),
            error: Mutex::default(),
        };
        let inner = Inner {
            store: store.clone(),
            imports,
            targets: targets.into_iter().map(writing).collect(),
            tasks: Mutex::default(),
            steps: Mutex::default(),
            selections: Mutex::default(),
            mounts: Mounts::default(),
            making: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.targets.is_empty()
    }

    /// A step has its result: it is sent in the background. Must be called within a runtime.
    pub fn note(&self, step: Step) {
        let before = lock(&self.inner.steps).insert(step.definition, step.clone());
        // A build that was begun anew tells steps twice.
        if before.is_some_and(|before| before.key == step.key && before.layer == step.layer) {
            return;
        }
        for number in 0..self.inner.targets.len() {
            let (inner, step) = (Arc::clone(&self.inner), step.clone());
            lock(&self.inner.tasks).spawn(async move {
                let Some(writing) = inner.targets.get(number) else { return };
                let send = async {
                    // Never closed.
                    let _permit = Arc::clone(&writing.permits).acquire_owned().await;
                    inner.send(writing, &step).await;
                };
                // What is under way when a cache fails is given up: nobody waits for it twice.
                tokio::select! {
                    () = send => {}
                    () = writing.is_off() => {}
                }
            });
        }
    }

    /// A step uses a cache mount.
    pub fn note_mount(&self, used: UsedMount) {
        self.inner.mounts.note(used);
    }

    /// The identity of a part of a result.
    pub fn note_selection(&self, question: Key, answer: Key) {
        lock(&self.inner.selections).insert(question, answer);
    }

    /// Waits until all steps are sent and writes the documents that name them.
    pub async fn finish(&self) -> Vec<Failed> {
        let mut tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        while tasks.join_next().await.is_some() {}
        let mut failed = Vec::new();
        for writing in &self.inner.targets {
            let target = &writing.target;
            let mut fail = |act, error, ignore| {
                failed.push(Failed { label: target.backend.label().to_owned(), act, error, ignore });
            };
            let kept = if *writing.off.borrow() { Ok(Vec::new()) } else { self.inner.complete(writing).await };
            let kept = kept.unwrap_or_else(|error| {
                writing.fail(error);
                Vec::new()
            });
            let error = lock(&writing.error).take();
            if let Some(error) = error {
                fail("export to", error, target.ignore_error);
            } else if let Err(error) = target.backend.tidy(&kept).await {
                fail("reset", error, true);
            }
        }
        failed
    }

    /// Makes the blobs that the image of `layers` will have in every target, so that the image does not depend on how
    /// far the background work has come.
    ///
    /// # Errors
    /// Where a blob cannot be made.
    pub fn prepare(&self, layers: &[Digest]) -> Result<(), RemoteError> {
        let own: Vec<Digest> = {
            let steps = lock(&self.inner.steps);
            let made = steps.values().filter_map(|step| step.layer).map(|layer| layer.diff_id);
            made.filter(|layer| layers.contains(layer)).collect()
        };
        for writing in &self.inner.targets {
            for layer in &own {
                self.inner.blob_of(layer, writing.target.packing)?;
            }
        }
        Ok(())
    }

    /// The document of an inline cache: what is known of the steps of `part`, whose image has the layers that `place`
    /// names in the place of those that the steps made. With `timeless` no time stands in it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn inline(
        &self,
        part: &Part,
        place: impl Fn(&Digest) -> Digest,
        timeless: bool,
    ) -> Result<Document, RemoteError> {
        let steps: Vec<Step> = {
            let all = lock(&self.inner.steps);
            part.steps.iter().filter_map(|definition| all.get(definition).cloned()).collect()
        };
        let mut entries = Vec::new();
        for step in steps {
            let mut entry = self.inner.entry(&step)?;
            if let Some(claim) = &mut entry.layer {
                // The manifest says as what blob the image has it.
                claim.blob = None;
                let own = part.result.contains(&step.definition);
                if own {
                    claim.diff_id = place(&claim.diff_id);
                }
                if timeless || !own {
                    (claim.made_at, claim.ran) = (0, None);
                }
            }
            entries.push(entry);
        }
        Ok(Document::new(entries, self.inner.selections()))
    }
}

impl Inner {
    fn selections(&self) -> Vec<(Key, Key)> {
        lock(&self.selections).iter().map(|(question, answer)| (*question, *answer)).collect()
    }

    /// What there is to say of a step, without a blob.
    fn entry(&self, step: &Step) -> Result<Entry, RemoteError> {
        let Some(LayerRef { diff_id, identity }) = step.layer else { return Ok(Entry { key: step.key, layer: None }) };
        let told = self.imports.claim(&diff_id);
        let made_at = self.store.layer_made_at(&diff_id)?.map(|at| at.as_secs());
        let made_at = made_at.or_else(|| told.as_ref().map(|claim| claim.made_at)).unwrap_or(0);
        let ran = self.store.layer_ran(&diff_id)?.or_else(|| told.and_then(|claim| claim.ran));
        Ok(Entry { key: step.key, layer: Some(Claim { diff_id, identity, made_at, ran, blob: None }) })
    }

    async fn send(self: &Arc<Self>, writing: &Writing, step: &Step) {
        if *writing.off.borrow() || !writing.target.wants(step) {
            return;
        }
        let ask = || async {
            let answer = within(FIRST, writing.target.backend.document(Name::Latest)).await;
            !matches!(answer, Err(RemoteError::Silent { .. }))
        };
        if !*writing.answers.get_or_init(ask).await {
            writing.fail(RemoteError::Silent { limit: FIRST });
            return;
        }
        match self.send_to(writing, step).await {
            Ok(entry) => drop(lock(&writing.done).insert(step.definition, entry)),
            Err(error) => writing.fail(error),
        }
    }

    async fn send_to(self: &Arc<Self>, writing: &Writing, step: &Step) -> Result<Entry, RemoteError> {
        let Writing { target, .. } = writing;
        let backend = &target.backend;
        let mut entry = self.entry(step)?;
        if let Some(claim) = &mut entry.layer
            && target.wants_blob(step)
        {
            match self.imports.blob_in(backend.label(), &claim.diff_id) {
                Some(there) if !target.packing.force => claim.blob = there.blob,
                _ => claim.blob = Some(self.send_blob(target, claim.diff_id).await?),
            }
        }
        let name = Name::Step(step.key);
        let known = !step.executed
            && (self.imports.told_by(backend.label(), &step.key)
                || within(DOCUMENT, backend.document(name)).await?.is_some_and(|there| covers(&there, &entry)));
        if !known {
            let document = Document::new(vec![entry.clone()], Vec::new());
            within(DOCUMENT, backend.put_document(name, &document)).await?;
        }
        Ok(entry)
    }

    async fn send_blob(self: &Arc<Self>, target: &Target, diff_id: Digest) -> Result<Descriptor, RemoteError> {
        // What another cache holds, and nobody has needed yet.
        self.imports.bring(&[diff_id]).await?;
        let (inner, packing) = (Arc::clone(self), target.packing);
        let make = move || inner.blob_of(&diff_id, packing);
        let blob = tokio::task::spawn_blocking(make).await.map_err(|_| RemoteError::Cancelled)??;
        let limit = DOCUMENT + Duration::from_secs(blob.size() / SLOWEST);
        within(limit, target.backend.send(&blob, &self.store)).await?;
        Ok(blob)
    }

    /// The blob of a layer, in the store.
    fn blob_of(&self, diff_id: &Digest, packing: Packing) -> Result<Descriptor, RemoteError> {
        let Packing { compression, force } = packing;
        let making = Arc::clone(lock(&self.making).entry(*diff_id).or_default());
        let _one_at_a_time = lock(&making);
        let options = AssembleOptions { compression, force, ..AssembleOptions::default() };
        let blob = layer_blob(&self.store, diff_id, &options, &Events::none())?.descriptor;
        if self.store.content().has(&manifest::digest_of(&blob)?)? == Some(blob.size()) {
            return Ok(blob);
        }
        // Known to be elsewhere only: the layer's own directory gives one as good.
        Ok(own_blob(&self.store, diff_id, compression)?)
    }

    async fn complete(&self, writing: &Writing) -> Result<Vec<Name>, RemoteError> {
        let names = self.conclude(writing).await?;
        self.send_mounts(writing).await?;
        Ok(names)
    }

    /// Writes the cache mounts of a target, for whom they are wanted.
    async fn send_mounts(&self, writing: &Writing) -> Result<(), RemoteError> {
        let target = &writing.target;
        if !target.mounts {
            return Ok(());
        }
        let steps: HashSet<Key> = target.parts.iter().flat_map(|part| &part.steps).copied().collect();
        self.mounts.send(&target.backend, &self.store, &steps).await
    }

    /// Writes the documents that name all entries of a build. Returns the names of all that it has written.
    async fn conclude(&self, writing: &Writing) -> Result<Vec<Name>, RemoteError> {
        let done = lock(&writing.done).clone();
        let target = &writing.target;
        let selections = self.selections();
        let mut names: Vec<Name> = done.values().map(|entry| Name::Step(entry.key)).collect();
        for part in &target.parts {
            let entries = part.steps.iter().filter_map(|definition| done.get(definition).cloned()).collect();
            let document = Document::new(entries, selections.clone());
            let name = Name::Definition(part.definition);
            within(DOCUMENT, target.backend.put_document(name, &document)).await?;
            names.push(name);
        }
        let document = Document::new(done.into_values().collect(), selections);
        within(DOCUMENT, target.backend.put_document(Name::Latest, &document)).await?;
        Ok(names)
    }
}

impl Target {
    fn wants(&self, step: &Step) -> bool {
        self.parts.iter().any(|part| part.steps.contains(&step.definition))
    }

    fn wants_blob(&self, step: &Step) -> bool {
        self.mode == Mode::Max || self.parts.iter().any(|part| part.result.contains(&step.definition))
    }
}

impl Writing {
    /// The first error counts, and nothing more is written.
    fn fail(&self, error: RemoteError) {
        lock(&self.error).get_or_insert(error);
        self.off.send_replace(true);
    }

    /// Waits until nothing more is written.
    async fn is_off(&self) {
        // The sender is here, so it is not gone.
        drop(self.off.subscribe().wait_for(|off| *off).await);
    }
}

/// Whether a document says all that an entry does.
fn covers(document: &Document, entry: &Entry) -> bool {
    let wanted: BTreeSet<bool> = entry.layer.iter().map(|claim| claim.blob.is_some()).collect();
    document.entries.iter().any(|there| {
        there.key == entry.key
            && there.layer.is_some() == entry.layer.is_some()
            && there.layer.iter().all(|claim| claim.blob.is_some() || !wanted.contains(&true))
    })
}
