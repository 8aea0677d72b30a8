//! Finding results in the caches of elsewhere, and fetching their layers when somebody needs the files.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lap_solver::digest::Key;
use lap_solver::event::{Event, Events};
use lap_solver::graph::Vertex;
use lap_solver::key::KeyInputs;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use super::{Backend, Claim, Document, Entry, Name, RemoteError, mounts};
use crate::digest::Digest;
use crate::layer::{LayerError, Span};
use crate::records::Records;
use crate::snapshot::Snapshot;
use crate::store::{Store, lock};

/// How long a build waits for the first documents of all caches.
const FIRST: Duration = Duration::from_secs(10);
/// How long a step waits for an answer.
const STEP: Duration = Duration::from_secs(5);
/// The slowest rate, in bytes a second, at which a blob is waited for, after a time of grace.
const SLOWEST: u64 = 64 << 10;
const GRACE: Duration = Duration::from_secs(30);
/// Blobs in transit at once.
const PARALLEL: usize = 6;

/// A cache to read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub backend: Arc<dyn Backend>,
    /// Whether it keeps entries by step, too.
    pub by_step: bool,
    /// Whether new cache mounts begin with what it has of them. Unlike a step's result a mount has no key that says
    /// what must be in it, and later builds use it: whoever may write this cache is trusted with all of them.
    pub mounts: bool,
}

/// The caches that a build reads. Cheap to clone; without sources it does nothing.
#[derive(Debug, Clone, Default)]
pub struct Imports {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    events: Events,
    sources: Vec<Reading>,
    /// Definitions of what is built.
    definitions: Vec<Key>,
    first: OnceCell<()>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Reading {
    source: Source,
    /// It failed: it is left alone for the rest of the build.
    off: AtomicBool,
    /// Nothing was ever written to it, or it is an image with all it knows in itself.
    no_steps: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    /// Entries by key, with the number of the source.
    entries: HashMap<Key, (Entry, usize)>,
    absent: HashSet<Key>,
    selections: HashMap<Key, Key>,
    /// Layers of entries that were taken.
    layers: HashMap<Digest, (Claim, usize)>,
    /// Those of them that are what was said.
    vouched: HashSet<Digest>,
    /// Layers that cannot be had, or are not what was said.
    banned: HashSet<Digest>,
    /// Results that become records when their layer has proved to be what was said.
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    key: Key,
    inputs: KeyInputs,
    vertex: Vertex,
    snapshot: Snapshot,
}

/// Layers that a cache named cannot be had. Solve again after [`Imports::recover`].
#[derive(Debug, Clone, Default, thiserror::Error)]
#[error("the cache does not have what it named")]
pub struct Lost {
    layers: Vec<Digest>,
}

impl Imports {
    /// Reads `sources`, in order of preference, for graphs of these definitions.
    #[must_use]
    pub fn new(store: &Store, sources: Vec<Source>, definitions: Vec<Key>, events: &Events) -> Self {
        if sources.is_empty() {
            return Self::default();
        }
        let reading = |source: Source| {
            let no_steps = AtomicBool::new(!source.by_step);
            Reading { source, off: AtomicBool::new(false), no_steps }
        };
        let inner = Inner {
            store: store.clone(),
            events: events.clone(),
            sources: sources.into_iter().map(reading).collect(),
            definitions,
            first: OnceCell::new(),
            known: Mutex::default(),
        };
        Self { inner: Some(Arc::new(inner)) }
    }

    /// What a cache knows of a key: the entry, and the name of the cache. Never fails: a cache that does is left alone.
    pub async fn lookup(&self, key: &Key) -> Option<(Entry, String)> {
        let inner = self.inner.as_ref()?;
        inner.first.get_or_init(|| inner.read_first()).await;
        let known = lock(&inner.known).entries.get(key).cloned();
        let found = match known {
            Some(found) => Some(found),
            None => inner.ask(key).await,
        };
        let (entry, source) = found?;
        if !inner.accept(&entry, source).await {
            return None;
        }
        Some((entry, inner.sources.get(source)?.source.backend.label().to_owned()))
    }

    /// The identity of a part of a result, where a cache has told it.
    #[must_use]
    pub fn selection(&self, question: &Key) -> Option<Key> {
        lock(&self.inner.as_ref()?.known).selections.get(question).copied()
    }

    /// What a cache says of a layer that is in use.
    #[must_use]
    pub fn claim(&self, layer: &Digest) -> Option<Claim> {
        lock(&self.inner.as_ref()?.known).layers.get(layer).map(|(claim, _)| claim.clone())
    }

    /// When the step ran that made a layer.
    #[must_use]
    pub fn ran(&self, layer: &Digest) -> Option<Span> {
        self.claim(layer)?.ran
    }

    /// Whether the cache of that name has the blob of a layer.
    #[must_use]
    pub(super) fn blob_in(&self, label: &str, layer: &Digest) -> Option<Claim> {
        let inner = self.inner.as_ref()?;
        let (claim, source) = lock(&inner.known).layers.get(layer).cloned()?;
        let same = inner.sources.get(source).is_some_and(|reading| reading.source.backend.label() == label);
        (same && claim.blob.is_some()).then_some(claim)
    }

    /// Whether the cache of that name told the entry of a key.
    #[must_use]
    pub(super) fn told_by(&self, label: &str, key: &Key) -> bool {
        let Some(inner) = &self.inner else { return false };
        let source = lock(&inner.known).entries.get(key).map(|(_, source)| *source);
        let reading = source.and_then(|source| inner.sources.get(source));
        reading.is_some_and(|reading| reading.source.backend.label() == label)
    }

    /// Fills the directory of a new cache mount with what the first cache that knows it has of it. False where none
    /// does: the directory is empty then.
    pub async fn fill_mount(&self, name: Key, into: &Path) -> bool {
        let Some(inner) = &self.inner else { return false };
        for (number, reading) in inner.sources.iter().enumerate() {
            if !reading.source.mounts || reading.off.load(Ordering::Relaxed) {
                continue;
            }
            match mounts::fill(&reading.source.backend, &inner.store, name, into).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    inner.give_up(number, &error.chain());
                    // What cannot be removed is a mount half filled, as a command that was interrupted leaves it.
                    drop(mounts::clear(into));
                }
            }
        }
        false
    }

    /// Whether every layer of `snapshot` that came from a cache has proved to be what the cache said.
    #[must_use]
    pub fn is_proved(&self, snapshot: &Snapshot) -> bool {
        let Some(inner) = &self.inner else { return true };
        let known = lock(&inner.known);
        let proved = |layer: &Digest| !known.layers.contains_key(layer) || known.vouched.contains(layer);
        snapshot.layers.iter().all(|layer| proved(&layer.diff_id))
    }

    /// Remembers a result, to be recorded when its layers have proved to be what the cache said.
    pub fn adopt(&self, key: Key, inputs: &KeyInputs, vertex: &Vertex, snapshot: &Snapshot) {
        let Some(inner) = &self.inner else { return };
        let (inputs, vertex, snapshot) = (inputs.clone(), vertex.clone(), snapshot.clone());
        lock(&inner.known).pending.push(Pending { key, inputs, vertex, snapshot });
    }

    /// Brings the blobs of those `layers` into the store that caches have named and the store does not have.
    ///
    /// # Errors
    /// Which ones cannot be had.
    pub async fn bring(&self, layers: &[Digest]) -> Result<(), Lost> {
        let Some(inner) = &self.inner else { return Ok(()) };
        let wanted: Vec<(Claim, usize)> = {
            let known = lock(&inner.known);
            let held = layers.iter().filter_map(|layer| known.layers.get(layer).cloned());
            held.filter(|(claim, _)| !matches!(inner.store.layer(&claim.diff_id), Ok(Some(_)))).collect()
        };
        // Those that no cache has are known before anything is fetched.
        let nowhere = wanted.iter().filter(|(claim, _)| claim.blob.is_none());
        let nowhere: Vec<Digest> = nowhere.map(|(claim, _)| claim.diff_id).collect();
        if !nowhere.is_empty() {
            return Err(Lost { layers: nowhere });
        }
        let permits = Arc::new(Semaphore::new(PARALLEL));
        let mut tasks = JoinSet::new();
        for (claim, source) in wanted {
            let (inner, permits) = (Arc::clone(inner), Arc::clone(&permits));
            tasks.spawn(async move {
                // Never closed.
                let _permit = permits.acquire_owned().await;
                inner.bring_one(&claim, source).await.map_err(|()| claim.diff_id)
            });
        }
        let lost: Vec<Digest> = tasks.join_all().await.into_iter().filter_map(Result::err).collect();
        if lost.is_empty() { Ok(()) } else { Err(Lost { layers: lost }) }
    }

    /// Makes sure that those `layers` which came from caches are what the caches said; then results that end with
    /// them are recorded.
    ///
    /// # Errors
    /// [`LayerError`] where a layer cannot be read; else, inside, which ones are not what was said.
    pub fn vouch(&self, layers: &[Digest], records: &Records) -> Result<Result<(), Lost>, LayerError> {
        let Some(inner) = &self.inner else { return Ok(Ok(())) };
        let mut lost = Vec::new();
        for layer in layers {
            let held = lock(&inner.known).layers.get(layer).cloned();
            let Some((claim, source)) = held else { continue };
            if !inner.store.vouch(&claim.diff_id, &claim.identity, claim.made_at, claim.ran)? {
                inner.give_up(source, &format!("layer {layer} is not what the cache says it is"));
                lost.push(*layer);
                continue;
            }
            lock(&inner.known).vouched.insert(*layer);
        }
        let pending = std::mem::take(&mut lock(&inner.known).pending);
        for one in pending {
            if self.is_proved(&one.snapshot) {
                records.record(&one.key, &one.inputs, &one.vertex, one.snapshot)?;
            } else {
                lock(&inner.known).pending.push(one);
            }
        }
        Ok(if lost.is_empty() { Ok(()) } else { Err(Lost { layers: lost }) })
    }

    /// Forgets what depends on layers that cannot be had. False where that changes nothing: solving again would fail
    /// again.
    #[must_use]
    pub fn recover(&self, lost: &Lost) -> bool {
        let Some(inner) = &self.inner else { return false };
        let mut known = lock(&inner.known);
        let before = known.banned.len();
        known.banned.extend(&lost.layers);
        known.pending.clear();
        known.banned.len() > before
    }
}

impl Inner {
    /// Reads the newest documents of all sources, side by side.
    async fn read_first(self: &Arc<Self>) {
        let mut tasks = JoinSet::new();
        for number in 0..self.sources.len() {
            let inner = Arc::clone(self);
            tasks.spawn(async move { (number, inner.read_source(number).await) });
        }
        let mut read = tasks.join_all().await;
        read.sort_by_key(|(number, _)| *number);
        let mut known = lock(&self.known);
        for (number, documents) in read {
            for document in documents {
                known.take(document, number);
            }
        }
    }

    async fn read_source(&self, number: usize) -> Vec<Document> {
        let Some(reading) = self.sources.get(number) else { return Vec::new() };
        let backend = &reading.source.backend;
        let all = async {
            let mut asked = JoinSet::new();
            for definition in &self.definitions {
                let (backend, name) = (Arc::clone(backend), Name::Definition(*definition));
                asked.spawn(async move { backend.document(name).await });
            }
            let latest = backend.document(Name::Latest).await?;
            let mut documents = Vec::new();
            for answer in asked.join_all().await {
                documents.extend(answer?);
            }
            if latest.is_none() && documents.is_empty() {
                reading.no_steps.store(true, Ordering::Relaxed);
            }
            documents.extend(latest);
            Ok(documents)
        };
        match within(FIRST, all).await {
            Ok(documents) => documents,
            Err(error) => {
                self.give_up(number, &error.chain());
                Vec::new()
            }
        }
    }

    /// Asks all sources for one key, side by side; the first one in order counts.
    async fn ask(self: &Arc<Self>, key: &Key) -> Option<(Entry, usize)> {
        if lock(&self.known).absent.contains(key) {
            return None;
        }
        let mut tasks = JoinSet::new();
        for (number, reading) in self.sources.iter().enumerate() {
            if reading.off.load(Ordering::Relaxed) || reading.no_steps.load(Ordering::Relaxed) {
                continue;
            }
            let (backend, name) = (Arc::clone(&reading.source.backend), Name::Step(*key));
            tasks.spawn(async move { (number, within(STEP, backend.document(name)).await) });
        }
        let mut answers = tasks.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        for (number, answer) in answers {
            match answer {
                Ok(Some(document)) => lock(&self.known).take(document, number),
                Ok(None) => {}
                Err(error) => self.give_up(number, &error.chain()),
            }
        }
        let mut known = lock(&self.known);
        let found = known.entries.get(key).cloned();
        if found.is_none() {
            known.absent.insert(*key);
        }
        found
    }

    /// Whether an entry can be used: its layer is not known to be missing or another than it says.
    async fn accept(self: &Arc<Self>, entry: &Entry, source: usize) -> bool {
        let Some(claim) = entry.layer.clone() else { return true };
        {
            let mut known = lock(&self.known);
            if known.banned.contains(&claim.diff_id) {
                return false;
            }
            match known.layers.get(&claim.diff_id) {
                Some((other, _)) if other.identity != claim.identity => return false,
                Some((other, _)) if other.blob.is_some() || claim.blob.is_none() => {}
                _ => drop(known.layers.insert(claim.diff_id, (claim.clone(), source))),
            }
        }
        // A layer that is here already will not be fetched, so it is looked at now.
        let store = self.store.clone();
        let off = self.sources.get(source).is_none_or(|reading| reading.off.load(Ordering::Relaxed));
        let diff_id = claim.diff_id;
        // Whether it is here; nothing where it is of no use.
        let look = move || match store.layer(&diff_id)? {
            Some(_) => store.vouch(&diff_id, &claim.identity, claim.made_at, claim.ran).map(|is| is.then_some(true)),
            None => Ok::<_, LayerError>((!off).then_some(false)),
        };
        let look = tokio::task::spawn_blocking(look).await;
        if let Ok(Ok(Some(here))) = look {
            if here {
                lock(&self.known).vouched.insert(diff_id);
            }
            return true;
        }
        false
    }

    async fn bring_one(&self, claim: &Claim, source: usize) -> Result<(), ()> {
        let (Some(reading), Some(blob)) = (self.sources.get(source), &claim.blob) else { return Err(()) };
        if reading.off.load(Ordering::Relaxed) {
            return Err(());
        }
        let limit = GRACE + Duration::from_secs(blob.size() / SLOWEST);
        let backend = &reading.source.backend;
        let fetched = async {
            let digest = crate::image::manifest::digest_of(blob)?;
            if self.store.content().has(&digest)? != Some(blob.size()) {
                within(limit, backend.fetch(blob, &self.store)).await?;
            }
            Ok::<_, RemoteError>(self.store.remember_blob(&claim.diff_id, backend.origin_of(blob))?)
        };
        fetched.await.map_err(|error| self.give_up(source, &error.chain()))
    }

    /// Leaves a source alone from now on, and says so once.
    fn give_up(&self, source: usize, why: &str) {
        let Some(reading) = self.sources.get(source) else { return };
        if !reading.off.swap(true, Ordering::Relaxed) {
            let message = format!("{} is not used any more: {why}", reading.source.backend.label());
            self.events.send(Event::Warning { vertex: None, message });
        }
    }
}

impl Known {
    /// Takes in the entries of a document. What is known stays, unless only the new one has a blob.
    fn take(&mut self, document: Document, source: usize) {
        let has_blob = |entry: &Entry| entry.layer.as_ref().is_none_or(|claim| claim.blob.is_some());
        for entry in document.entries {
            match self.entries.get(&entry.key) {
                Some((known, _)) if has_blob(known) || !has_blob(&entry) => {}
                _ => drop(self.entries.insert(entry.key, (entry, source))),
            }
        }
        for (question, answer) in document.selections {
            self.selections.entry(question).or_insert(answer);
        }
    }
}

/// Ends what takes longer.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(RemoteError::Silent { limit }))
}
