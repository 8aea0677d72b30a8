//! Cache mounts (`RUN --mount=type=cache`) in caches of elsewhere.
//!
//! A directory is written as one tar in a fixed order and cut where its content says so (FastCDC, 2020), so one in
//! which little has changed gives mostly the chunks that it gave before. Only the others are compressed and sent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastcdc::v2020::StreamCDC;
use lap_solver::digest::Key;
use oci_spec::image::Descriptor;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::import::within;
use super::{Backend, Document, Name, RemoteError};
use crate::digest::Digest;
use crate::fs;
use crate::image::manifest;
use crate::store::{Store, lock};
use crate::tarball;

/// Sizes of chunks in bytes: each is a blob, and every blob costs a question.
const SMALLEST: usize = 256 << 10;
const AVERAGE: usize = 1 << 20;
const LARGEST: usize = 4 << 20;
/// More chunks would not fit into a document.
const MOST: usize = 20_000;
const LEVEL: i32 = 3;
const MEDIA_TYPE: &str = "application/vnd.lapstrake.cache.mount.v1.chunk+zstd";
/// Chunks in transit at once.
const PARALLEL: usize = 6;
/// How long a document, and a chunk, may take.
const DOCUMENT: Duration = Duration::from_secs(10);
const TRANSFER: Duration = Duration::from_secs(90);
/// How long the builds of others that use a mount are waited for.
const BUSY: Duration = Duration::from_secs(10);

/// A part of a cache mount's tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// The blob that holds them, compressed.
    pub blob: Descriptor,
}

impl Chunk {
    pub(super) fn is_plausible(&self) -> bool {
        let limit = LARGEST as u64;
        self.size <= limit && self.blob.size() <= limit * 2 && manifest::digest_of(&self.blob).is_ok()
    }
}

/// A cache mount that a step has used.
#[derive(Debug, Clone)]
pub struct UsedMount {
    /// Definition of the step.
    pub step: Key,
    /// What the mount is, the same on every machine.
    pub name: Key,
    /// What it is called in the Dockerfile.
    pub id: String,
    /// Its directory.
    pub path: PathBuf,
    /// The file whose lock says who uses it.
    pub lock: PathBuf,
    /// Whether others may use it meanwhile.
    pub shared: bool,
}

/// The cache mounts that a build has used.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    used: Mutex<BTreeMap<Key, UsedMount>>,
}

impl Mounts {
    pub(super) fn note(&self, used: UsedMount) {
        lock(&self.used).insert(used.name, used);
    }

    /// Sends those that `steps` have used.
    pub(super) async fn send(
        &self,
        backend: &Arc<dyn Backend>,
        store: &Store,
        steps: &HashSet<Key>,
    ) -> Result<(), RemoteError> {
        let used: Vec<UsedMount> =
            lock(&self.used).values().filter(|used| steps.contains(&used.step)).cloned().collect();
        for mount in used {
            send(backend, store, mount).await?;
        }
        Ok(())
    }
}

async fn send(backend: &Arc<dyn Backend>, store: &Store, mount: UsedMount) -> Result<(), RemoteError> {
    let name = Name::Mount(mount.name);
    let there = within(DOCUMENT, backend.document(name)).await?.map(|document| document.chunks).unwrap_or_default();
    let known: HashMap<Digest, Chunk> = there.iter().map(|chunk| (chunk.digest, chunk.clone())).collect();
    let held = take(&mount).await?;
    let (store_of_chunks, known) = (store.clone(), Arc::new(known));
    let known_of_chunks = Arc::clone(&known);
    let chunks = blocking(move || pack(&store_of_chunks, &mount.path, &known_of_chunks)).await?;
    drop(held);
    if chunks == there {
        return Ok(());
    }
    let mut new: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    for chunk in chunks.iter().filter(|chunk| !known.contains_key(&chunk.digest)) {
        new.insert(chunk.digest, chunk.blob.clone());
    }
    let (backend_of_blobs, store) = (Arc::clone(backend), store.clone());
    each(new.into_values(), move |blob| {
        let (backend, store) = (Arc::clone(&backend_of_blobs), store.clone());
        async move { within(TRANSFER, backend.send(&blob, &store)).await }
    })
    .await?;
    within(TRANSFER, backend.put_document(name, &Document::of_mount(chunks))).await
}

/// Waits until nobody writes into a mount who wants it for himself.
async fn take(mount: &UsedMount) -> Result<File, RemoteError> {
    let failed = |source| RemoteError::File { act: "lock", path: mount.lock.clone(), source };
    let file = File::open(&mount.lock).map_err(failed)?;
    let operation = match mount.shared {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    let wait = async {
        while let Err(error) = rustix::fs::flock(&file, operation) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(error.into()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    tokio::time::timeout(BUSY, wait).await.map_err(|_| RemoteError::MountBusy { id: mount.id.clone() })??;
    Ok(file)
}

/// Cuts the tar of a directory into chunks. Those that are not `known` are in the store then.
fn pack(store: &Store, path: &Path, known: &HashMap<Digest, Chunk>) -> Result<Vec<Chunk>, RemoteError> {
    let failed = |source: io::Error| RemoteError::File { act: "read", path: path.to_owned(), source };
    let root = fs::open_dir(path).map_err(crate::layer::LayerError::from)?;
    let (reader, writer) = io::pipe().map_err(failed)?;
    std::thread::scope(|scope| {
        let written = scope.spawn(move || store.directory_tar(&root, BufWriter::with_capacity(1 << 18, writer)));
        let cut = StreamCDC::new(reader, SMALLEST, AVERAGE, LARGEST);
        let chunks: Result<Vec<Chunk>, RemoteError> = cut
            .enumerate()
            .map(|(number, chunk)| {
                let data = chunk.map_err(|error| failed(error.into()))?.data;
                if number >= MOST {
                    return Err(failed(io::Error::from(io::ErrorKind::FileTooLarge)));
                }
                let digest = Digest::of(&data);
                known.get(&digest).map_or_else(|| keep(store, digest, &data), |chunk| Ok(chunk.clone()))
            })
            .collect();
        let written = written.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Who reads no further makes the writer fail too: the reader's reason comes first.
        let chunks = chunks?;
        written?;
        Ok(chunks)
    })
}

/// Puts a chunk into the store.
fn keep(store: &Store, digest: Digest, data: &[u8]) -> Result<Chunk, RemoteError> {
    let packed = zstd::bulk::compress(data, LEVEL).map_err(|source| RemoteError::File {
        act: "compress",
        path: digest.to_string().into(),
        source,
    })?;
    let blob = store.content().put(&packed)?;
    Ok(Chunk { digest, size: data.len() as u64, blob: manifest::descriptor(MEDIA_TYPE, blob, packed.len() as u64)? })
}

/// Fills the new directory `into` with what a cache has of a mount. False where it has nothing.
pub(super) async fn fill(
    backend: &Arc<dyn Backend>,
    store: &Store,
    name: Key,
    into: &Path,
) -> Result<bool, RemoteError> {
    let document = within(DOCUMENT, backend.document(Name::Mount(name))).await?;
    let chunks = document.map(|document| document.chunks).unwrap_or_default();
    if chunks.is_empty() {
        return Ok(false);
    }
    let blobs: BTreeMap<Digest, Descriptor> = chunks.iter().map(|chunk| (chunk.digest, chunk.blob.clone())).collect();
    let (backend, of_blobs) = (Arc::clone(backend), store.clone());
    each(blobs.into_values(), move |blob| {
        let (backend, store) = (Arc::clone(&backend), of_blobs.clone());
        async move {
            if store.content().has(&manifest::digest_of(&blob)?)? == Some(blob.size()) {
                return Ok(());
            }
            within(TRANSFER, backend.fetch(&blob, &store)).await
        }
    })
    .await?;
    let (store, into) = (store.clone(), into.to_owned());
    blocking(move || unpack(&store, chunks, &into)).await?;
    Ok(true)
}

fn unpack(store: &Store, chunks: Vec<Chunk>, into: &Path) -> Result<(), RemoteError> {
    let root = fs::open_dir(into).map_err(crate::layer::LayerError::from)?;
    let parts = Parts { store, chunks: chunks.into_iter(), now: io::Cursor::default() };
    tarball::extract_plain(root, parts, store.mode())?;
    Ok(())
}

/// Removes what is in a directory.
pub(super) fn clear(directory: &Path) -> Result<(), fs::FsError> {
    let root = fs::open_dir(directory)?;
    for name in fs::sorted_names(&root)? {
        fs::remove_entry(&root, &name)?;
    }
    Ok(())
}

/// The bytes of chunks, one after another.
struct Parts<'a> {
    store: &'a Store,
    chunks: std::vec::IntoIter<Chunk>,
    now: io::Cursor<Vec<u8>>,
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.now.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(chunk) = self.chunks.next() else { return Ok(0) };
            self.now = io::Cursor::new(self.open(&chunk)?);
        }
    }
}

impl Parts<'_> {
    /// The bytes of a chunk, which are what was said.
    fn open(&self, chunk: &Chunk) -> io::Result<Vec<u8>> {
        let digest = manifest::digest_of(&chunk.blob).map_err(io::Error::other)?;
        let packed = self.store.content().open(&digest).map_err(io::Error::other)?;
        let mut data = Vec::new();
        zstd::Decoder::new(packed)?.take(LARGEST as u64 + 1).read_to_end(&mut data)?;
        if data.len() as u64 != chunk.size || Digest::of(&data) != chunk.digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a part of the cache mount is not what was said"));
        }
        Ok(data)
    }
}

/// Does the same with every blob, some at once. The first error ends it.
async fn each<W>(blobs: impl Iterator<Item = Descriptor>, work: impl Fn(Descriptor) -> W) -> Result<(), RemoteError>
where
    W: Future<Output = Result<(), RemoteError>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(PARALLEL));
    let mut tasks = JoinSet::new();
    for blob in blobs {
        let (permits, work) = (Arc::clone(&permits), work(blob));
        tasks.spawn(async move {
            // Never closed.
            let _permit = permits.acquire_owned().await;
            work.await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|_| RemoteError::Cancelled)??;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RemoteError::Cancelled)?
}
