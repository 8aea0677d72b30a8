//! Registries as ends of a copy. From one to another, blobs pass through a short queue and never touch the disk.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use lap_solver::event::Events;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::plan::{Blob, Plan};
use super::source::{Item, Source};
use super::stop::Stop;
use super::{CopyError, in_parallel};
use crate::digest::Digest;
use crate::image::Reference;
use crate::registry::{Chunk, Client, OpenBlob, RegistryError, Relayed, lacks_blob};
use crate::store::lock;

/// Chunks between the network and whoever reads.
const QUEUE: usize = 32;

/// A blob that a registry sends, as a reader. Reads block.
pub(super) struct Incoming {
    chunks: mpsc::Receiver<Chunk>,
    chunk: Vec<u8>,
    at: usize,
}

/// Begins to fetch a blob.
pub(super) fn receive(
    client: &Client,
    name: &Reference,
    runtime: &Handle,
    blob: (Digest, u64),
    stop: &Stop,
    events: &Events,
) -> Incoming {
    let (sender, chunks) = mpsc::channel(QUEUE);
    let (client, name, stop, events) = (client.clone(), name.clone(), stop.clone(), events.clone());
    // It ends when the receiver goes away, too.
    drop(runtime.spawn(async move {
        tokio::select! {
            () = client.stream_blob(&name, blob, sender, &events) => {}
            () = stop.asked() => {}
        }
    }));
    Incoming { chunks, chunk: Vec::new(), at: 0 }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.chunks.blocking_recv() {
                Some(chunk) => (self.chunk, self.at) = (chunk.map_err(io::Error::other)?, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// A name in a registry.
pub(super) struct Target<'a> {
    pub(super) client: &'a Client,
    pub(super) name: &'a Reference,
    pub(super) runtime: &'a Handle,
}

/// Blobs side by side, then manifests, those that others name before these.
pub(super) fn write(
    source: &Arc<Source>,
    plan: &Arc<Plan>,
    target: &Target<'_>,
    events: &Events,
) -> Result<(), CopyError> {
    if let Some(wanted) = target.name.digest()
        && wanted != plan.digest()
    {
        return Err(CopyError::OtherDigest { wanted, actual: plan.digest() });
    }
    in_parallel(&plan.blobs, |blob| send(source, plan, blob, target, true, events))?;
    for item in &plan.below {
        put(source, plan, item, &item.digest.to_string(), target, events)?;
    }
    let name = target.name.tag().map_or_else(|| plan.digest().to_string(), str::to_owned);
    put(source, plan, &plan.root, &name, target, events)
}

fn put(
    source: &Arc<Source>,
    plan: &Arc<Plan>,
    item: &Item,
    name: &str,
    target: &Target<'_>,
    events: &Events,
) -> Result<(), CopyError> {
    let put = || {
        let sending = target.client.relay_manifest(target.name, name, &item.descriptor, &item.bytes);
        source.stop().wait(target.runtime, sending)
    };
    match put() {
        // A registry whose HEAD has lied.
        Err(CopyError::Registry(error)) if lacks_blob(&error) => {
            in_parallel(&plan.blobs, |blob| send(source, plan, blob, target, false, events))?;
            put()
        }
        result => result,
    }
}

fn send(
    source: &Arc<Source>,
    plan: &Arc<Plan>,
    blob: &Blob,
    target: &Target<'_>,
    is_offered: bool,
    events: &Events,
) -> Result<(), CopyError> {
    let mount_from = source.remote().filter(|from| from.registry() == target.name.registry() && !blob.is_made);
    let mount_from = mount_from.map(Reference::repository).filter(|from| *from != target.name.repository());
    let failed: Arc<Mutex<Option<io::Error>>> = Arc::default();
    let digest = blob.digest;
    let open: OpenBlob = {
        let (source, plan, blob, failed) = (Arc::clone(source), Arc::clone(plan), blob.clone(), Arc::clone(&failed));
        Arc::new(move || {
            // What could not be read once is not sent again.
            if let Some(source) = lock(&failed).take() {
                return Err(RegistryError::Unread { digest, source });
            }
            let reader = plan.open(&blob, &source);
            let reader = reader.map_err(|error| RegistryError::Unread { digest, source: io::Error::other(error) })?;
            Ok(Box::new(Watched { reader, failed: Arc::clone(&failed) }))
        })
    };
    let relayed = Relayed {
        digest,
        size: blob.descriptor.size(),
        mount_from: mount_from.map(str::to_owned).into_iter().collect(),
        is_offered,
        open: &open,
    };
    let result = source.stop().wait(target.runtime, target.client.relay_blob(target.name, relayed, events));
    match lock(&failed).take() {
        Some(source) if result.is_err() => Err(CopyError::Blob { digest, source }),
        _ => result,
    }
}

/// Remembers why a blob could not be read: the HTTP client only says that the body ended.
struct Watched {
    reader: Box<dyn Read + Send>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            let kind = error.kind();
            *lock(&self.failed) = Some(error);
            kind.into()
        })
    }
}
