//! Getting layers into the store: each is downloaded, checked, kept as a blob and unpacked in one pass, side by side
//! with the others.
//!
//! A thread per layer reads from the network through a short queue, so the slower of download and unpacking sets the
//! pace and nothing piles up. A layer whose hard links point into a lower layer that is not there yet is unpacked
//! again, from its blob, after all others.

use std::io::{self, Read};
use std::sync::Arc;

use lap_solver::event::{Action, Events};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::download::{Sink, Wanted};
use super::{Client, Progress, RegistryError};
use crate::content::Ingest;
use crate::content::partial::Kept;
use crate::digest::Digest;
use crate::image::blobs::{KnownBlob, Origin};
use crate::image::{Image, ImageError, ImageLayer, manifest, may_pass_later};
use crate::layer::{self, LayerError};
use crate::store::Store;

/// Chunks (of up to a few 10 KiB) between network and unpacking.
const QUEUE: usize = 32;

/// The stack that layers belong to, lowest first.
type Chain = Arc<[Digest]>;

/// One layer to bring in.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) diff_id: Digest,
    wanted: Wanted,
    unpack: bool,
    keep_blob: bool,
    foreign: Option<String>,
}

impl Job {
    fn new(layer: &ImageLayer, origins: Vec<Origin>) -> Self {
        let wanted = Wanted { digest: layer.digest, size: layer.descriptor.size(), origins };
        let foreign = manifest::is_foreign(&layer.descriptor).then(|| layer.descriptor.media_type().to_string());
        Self { diff_id: layer.diff_id, wanted, unpack: true, keep_blob: true, foreign }
    }

    /// A blob that is missing is no reason to fetch: only the files are wanted.
    pub(super) const fn without_blob(&mut self) {
        self.keep_blob = false;
    }
}

/// All layers of an image, each once.
pub(super) fn jobs_of_image(store: &Store, image: &Image, origin: &Origin) -> Result<Vec<Job>, RegistryError> {
    let mut jobs: Vec<Job> = Vec::new();
    for layer in &image.layers {
        if jobs.iter().any(|job| job.diff_id == layer.diff_id) {
            continue;
        }
        jobs.push(Job::new(layer, origins(store, layer, Some(origin))?));
    }
    Ok(jobs)
}

/// The blobs of an image's layers, without unpacking them.
pub(super) fn jobs_of_blobs(store: &Store, image: &Image) -> Result<Vec<Job>, RegistryError> {
    let mut jobs = Vec::new();
    for layer in store.missing_blobs(image)? {
        let origins = origins(store, layer, None)?;
        if origins.is_empty() {
            return Err(ImageError::NotReproducible { diff_id: layer.diff_id }.into());
        }
        jobs.push(Job { unpack: false, ..Job::new(layer, origins) });
    }
    Ok(jobs)
}

/// The layers of a stack that are not unpacked, with the best blob that is known of each.
pub(super) fn jobs_of_chain(store: &Store, chain: &[Digest]) -> Result<Vec<Job>, RegistryError> {
    let mut jobs: Vec<Job> = Vec::new();
    for diff_id in chain {
        let is_there = store.layer(diff_id).map_err(|source| unpacking(*diff_id, source))?.is_some();
        if is_there || jobs.iter().any(|job| job.diff_id == *diff_id) {
            continue;
        }
        let known = store.layer_blobs(diff_id)?;
        let mut best: Option<(bool, &KnownBlob)> = None;
        for blob in known.iter().filter(|blob| blob.diff_id.is_none()) {
            let digest = manifest::digest_of(&blob.descriptor).map_err(ImageError::from)?;
            let here = store.content().has(&digest)? == Some(blob.descriptor.size());
            if here || (best.is_none() && !blob.origins.is_empty()) {
                best = Some((here, blob));
            }
            if here {
                break;
            }
        }
        let Some((_, blob)) = best else { return Err(ImageError::LayerMissing { diff_id: *diff_id }.into()) };
        let digest = manifest::digest_of(&blob.descriptor).map_err(ImageError::from)?;
        let layer = ImageLayer { descriptor: blob.descriptor.clone(), digest, diff_id: *diff_id };
        jobs.push(Job { keep_blob: false, ..Job::new(&layer, blob.origins.iter().cloned().collect()) });
    }
    Ok(jobs)
}

/// Where a layer's blob can be had: `first`, then wherever else it has been seen.
fn origins(store: &Store, layer: &ImageLayer, first: Option<&Origin>) -> Result<Vec<Origin>, RegistryError> {
    let mut list: Vec<Origin> = first.into_iter().cloned().collect();
    for blob in store.layer_blobs(&layer.diff_id)? {
        if blob.descriptor.digest() == layer.descriptor.digest() {
            list.extend(blob.origins.into_iter().filter(|origin| Some(origin) != first));
        }
    }
    Ok(list)
}

impl Client {
    /// Carries out `jobs`; `chain` is the stack they belong to, lowest first.
    pub(super) async fn fetch(
        &self,
        jobs: Vec<Job>,
        chain: &[Digest],
        store: &Store,
        events: &Events,
    ) -> Result<(), RegistryError> {
        let chain: Chain = Arc::from(chain);
        let mut tasks = JoinSet::new();
        for (number, job) in jobs.iter().enumerate() {
            let (client, store, events, job) = (self.clone(), store.clone(), events.clone(), job.clone());
            let chain = Arc::clone(&chain);
            let permits = Arc::clone(&self.transport.downloads);
            tasks.spawn(async move {
                // Never closed.
                let _permit = permits.acquire_owned().await;
                (number, client.fetch_one(job, &chain, &store, &events).await)
            });
        }
        let mut again = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            match joined.map_err(|_| RegistryError::Cancelled)? {
                (_, Ok(())) => {}
                // The blob is right and in the store; what it needs may only have come later.
                (number, Err(RegistryError::Layer { source, .. })) if may_pass_later(&source) => again.push(number),
                // Dropping the set ends the others.
                (_, Err(error)) => return Err(error),
            }
        }
        again.sort_unstable();
        for number in again {
            let Some(job) = jobs.get(number).cloned() else { continue };
            unpack_blob(&job, &chain, store, events).await?;
        }
        Ok(())
    }

    async fn fetch_one(&self, job: Job, chain: &Chain, store: &Store, events: &Events) -> Result<(), RegistryError> {
        let Wanted { digest, size, .. } = job.wanted;
        let unpacked = store.layer(&job.diff_id).map_err(|source| unpacking(digest, source))?.is_some();
        let has_blob = store.content().has(&digest)? == Some(size);
        let wants_files = job.unpack && !unpacked;
        if !wants_files && (has_blob || !job.keep_blob) {
            Progress::ended(&digest, Action::Exists, size, events);
            return Ok(());
        }
        if has_blob {
            return unpack_blob(&job, chain, store, events).await;
        }
        if let Some(media_type) = job.foreign {
            return Err(RegistryError::ForeignLayer { digest, media_type });
        }
        let job = Job { unpack: wants_files, ..job };
        match self.receive(&job, chain, store, events).await {
            // Once more from the start: what came, now or before, was damaged on the way, or is a lie.
            Err(error) if error.is_corruption() => {
                store.content().forget_partial(&digest)?;
                let again = self.receive(&job, chain, store, events).await;
                if again.as_ref().is_err_and(RegistryError::is_corruption) {
                    store.content().forget_partial(&digest)?;
                }
                again
            }
            result => result,
        }
    }

    /// Downloads a blob and unpacks it on the way.
    async fn receive(&self, job: &Job, chain: &Chain, store: &Store, events: &Events) -> Result<(), RegistryError> {
        let Wanted { digest, size, .. } = job.wanted;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut progress = Progress::new(&digest, Action::Download, size, events);
        let (blob, kept) = store.content().resume(digest, size)?;
        let there = kept.as_ref().map_or(0, |kept| kept.length);
        progress.at(there);
        let consumer = {
            let (job, chain, store, events) = (job.clone(), Arc::clone(chain), store.clone(), events.clone());
            tokio::task::spawn_blocking(move || {
                let tee = Tee { kept, chunks: receiver, chunk: Vec::new(), at: 0, left: size, blob, failed: None };
                consume(&job, &chain, &store, tee, &events)
            })
        };
        let mut sink = Queue(sender);
        let sent = self.download(&job.wanted, there, &mut sink, &mut progress).await;
        drop(sink);
        let stored = consumer.await.map_err(|_| RegistryError::Cancelled)?;
        // What the network says comes first: the rest follows from it.
        sent?;
        if stored.is_ok() {
            progress.done();
        }
        stored
    }
}

const fn unpacking(digest: Digest, source: LayerError) -> RegistryError {
    RegistryError::Layer { digest, source }
}

/// Unpacks a layer whose blob is in the store.
async fn unpack_blob(job: &Job, chain: &Chain, store: &Store, events: &Events) -> Result<(), RegistryError> {
    let (job, chain, store, events) = (job.clone(), Arc::clone(chain), store.clone(), events.clone());
    let work = move || {
        let Wanted { digest, size, .. } = job.wanted;
        let progress = Progress::new(&digest, Action::Extract, size, &events);
        let file = store.content().open(&digest)?;
        let plain = layer::decompress(file).map_err(|error| unpacking(digest, LayerError::Read(error)))?;
        store.unpack_amid(plain, job.diff_id, size, &chain).map_err(|source| unpacking(digest, source))?;
        progress.done();
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| RegistryError::Cancelled)?
}

/// The receiving end: writes the blob, unpacks it, and checks both.
fn consume(job: &Job, chain: &[Digest], store: &Store, mut tee: Tee, events: &Events) -> Result<(), RegistryError> {
    let Wanted { digest, size, .. } = job.wanted;
    let unpacked = if job.unpack {
        let progress = Progress::new(&digest, Action::Extract, size, events);
        let plain = layer::decompress(&mut tee).map_err(LayerError::Read);
        let result = plain.and_then(|plain| store.unpack_amid(plain, job.diff_id, size, chain));
        if result.is_ok() {
            progress.done();
        }
        result
    } else {
        Ok(())
    };
    // The digest is that of the whole blob, also of what follows the end of the tar.
    let drained = io::copy(&mut tee, &mut io::sink());
    if let Some(error) = tee.failed {
        return Err(RegistryError::StoreBlob { digest, source: error });
    }
    if tee.left > 0 || drained.is_err() {
        return Err(RegistryError::Cancelled);
    }
    tee.blob.commit()?;
    unpacked.map_err(|source| unpacking(digest, source))
}

struct Queue(mpsc::Sender<Vec<u8>>);

impl Sink for Queue {
    type Gone = mpsc::error::SendError<Vec<u8>>;

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Self::Gone> {
        self.0.send(bytes.to_vec()).await
    }
}

/// Reads what is there of a blob already, then what the network brings, which is written to the blob on the way.
struct Tee {
    kept: Option<Kept>,
    chunks: mpsc::Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    left: u64,
    blob: Ingest,
    /// Why the blob could not be written.
    failed: Option<io::Error>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.length > 0) {
            let count = kept.read(buffer).inspect_err(|error| self.failed = Some(error.kind().into()))?;
            self.blob.pass(&buffer[..count]);
            self.left = self.left.saturating_sub(count as u64);
            return Ok(count);
        }
        while self.at == self.chunk.len() {
            if self.failed.is_some() {
                return Err(io::ErrorKind::Other.into());
            }
            match self.chunks.blocking_recv() {
                Some(chunk) => {
                    if let Err(error) = io::Write::write_all(&mut self.blob, &chunk) {
                        self.failed = Some(error);
                        return Err(io::ErrorKind::Other.into());
                    }
                    self.left = self.left.saturating_sub(chunk.len() as u64);
                    (self.chunk, self.at) = (chunk, 0);
                }
                None if self.left == 0 => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
