//! The store as a destination: blobs as they are, layers of this machine unpacked, the name last.

use std::io;
use std::sync::Mutex;

use lap_solver::event::Events;
use lap_solver::platform::Platform;

use super::plan::Plan;
use super::source::Source;
use super::{CopyError, in_parallel};
use crate::digest::Digest;
use crate::export::archive::report;
use crate::image::blobs::KnownBlob;
use crate::image::manifest::Document;
use crate::image::{ImageError, Reference, platform as platforms};
use crate::load::unpack;
use crate::store::{Store, lock};

/// Blobs that were not there before; they go again unless they are kept.
struct New<'a> {
    store: &'a Store,
    blobs: Mutex<Vec<Digest>>,
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        let left = lock(&self.blobs).drain(..).collect();
        self.store.drop_unreached(&left);
    }
}

/// Writes an image, or an index with all of its images.
pub(super) fn write(
    source: &Source,
    plan: &Plan,
    store: &Store,
    names: &[Reference],
    platform: &Platform,
    events: &Events,
) -> Result<(), CopyError> {
    if let Some(digest) = plan.foreign.first() {
        return Err(CopyError::Foreign { digest: *digest });
    }
    let new = New { store, blobs: Mutex::default() };
    let content = store.content();
    in_parallel(&plan.blobs, |blob| {
        let (digest, size) = (blob.digest, blob.descriptor.size());
        if content.has(&digest)? != Some(size) {
            let mut target = content.ingest(Some((digest, size)))?;
            let mut reader = plan.open(blob, source)?;
            io::copy(&mut reader, &mut target).map_err(|source| CopyError::Blob { digest, source })?;
            target.commit()?;
            lock(&new.blobs).push(digest);
        }
        report(&digest, size, events);
        Ok(())
    })?;
    for item in plan.documents() {
        if content.has(&item.digest)?.is_none() {
            content.put(&item.bytes)?;
            lock(&new.blobs).push(item.digest);
        }
    }
    let artifact = store.artifact(&plan.digest())?;
    let here = match &plan.root.document {
        Document::Manifest(_) => Some(plan.digest()),
        Document::Index(index) => {
            let entry = platforms::select(index.manifests(), platform);
            entry.map(crate::image::manifest::digest_of).transpose().map_err(ImageError::from)?
        }
    };
    for image in artifact.runnable() {
        if Some(image.digest()) == here {
            unpack(store, image, events)?;
        }
        for layer in &image.layers {
            store.remember_blob(&layer.diff_id, KnownBlob::of(layer.descriptor.clone()))?;
        }
    }
    for name in names {
        store.name_point(name, artifact.descriptor())?;
    }
    if names.is_empty() {
        store.keep(artifact.descriptor())?;
    }
    lock(&new.blobs).clear();
    plan.keep();
    source.keep();
    Ok(())
}
