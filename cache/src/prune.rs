//! Removing what nothing needs any more: blobs and layers that no name, container or build record leads to.
//!
//! Commands that make or use images hold a [`Lease`]; pruning needs to be alone. So what is in work, and not yet
//! named, cannot be taken; a time of grace protects what somebody without a lease has just brought in.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci_spec::image::Descriptor;

use crate::digest::Digest;
use crate::fs::Act;
use crate::image::manifest::{self, Document, MANIFEST_LIMIT};
use crate::image::{Image, ImageError};
use crate::store::{Store, StoreError};

const LOCK: &str = "gc.lock";
/// A file of a record or container larger than this is none of ours.
const REFERRER_LIMIT: u64 = 16 << 20;

/// A shared claim on the whole store, until it is dropped: nothing is pruned meanwhile.
#[derive(Debug)]
pub struct Lease {
    _lock: File,
}

/// What a prune has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Blobs.
    pub blobs: u64,
    /// Layers.
    pub layers: u64,
    /// Bytes: of blobs, and of the files in layers.
    pub bytes: u64,
}

/// Blobs and layers that something leads to.
#[derive(Default)]
struct Reachable {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
}

impl Store {
    /// Claims the store for use; waits while somebody prunes.
    ///
    /// # Errors
    /// Where the lock cannot be had.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let file = self.lock_file(LOCK)?;
        file.lock_shared().act("lock", self.root().join(LOCK))?;
        Ok(Lease { _lock: file })
    }

    /// Removes blobs and layers that nothing leads to and that are older than `grace`. `None` where somebody uses
    /// the store: then nothing is removed.
    ///
    /// # Errors
    /// Where the store cannot be read, or something cannot be removed.
    pub fn prune_unreferenced(&self, grace: Duration) -> Result<Option<Pruned>, ImageError> {
        let lock = self.lock_file(LOCK)?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let old = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let reachable = self.reachable()?;
        let mut pruned = Pruned::default();
        for diff_id in self.layers()? {
            let stamp = self.layer_dir(&diff_id).join("layer.json");
            if reachable.layers.contains(&diff_id) || is_younger(&stamp, old) {
                continue;
            }
            pruned.bytes += self.layer(&diff_id)?.map_or(0, |layer| layer.bytes);
            pruned.layers += 1;
            self.remove_layer(&diff_id)?;
        }
        for digest in self.blobs()? {
            let path = self.content().path(&digest);
            if reachable.blobs.contains(&digest) || is_younger(&path, old) {
                continue;
            }
            pruned.bytes += self.content().has(&digest)?.unwrap_or(0);
            pruned.blobs += 1;
            self.content().remove(&digest)?;
        }
        Ok(Some(pruned))
    }

    fn reachable(&self) -> Result<Reachable, ImageError> {
        let mut reachable = Reachable::default();
        for entry in self.names()? {
            self.reach(&entry.descriptor, &mut reachable)?;
        }
        for place in ["containers", "records"] {
            self.mentioned(&self.root().join(place), &mut reachable)?;
        }
        // Of what is kept, the blob that it came in is kept too: it cannot be made again.
        for diff_id in reachable.layers.clone() {
            for blob in self.layer_blobs(&diff_id)?.into_iter().filter(|blob| blob.made_by.is_none()) {
                reachable.blobs.extend(manifest::digest_of(&blob.descriptor).ok());
            }
        }
        Ok(reachable)
    }

    /// Adds an image, or all images of an index, with everything they need. What is missing needs nothing.
    fn reach(&self, descriptor: &Descriptor, reachable: &mut Reachable) -> Result<(), ImageError> {
        let digest = manifest::digest_of(descriptor)?;
        if !reachable.blobs.insert(digest) || self.content().has(&digest)?.is_none() {
            return Ok(());
        }
        let raw = self.content().read(&digest, MANIFEST_LIMIT)?;
        match Document::read(&raw, None)? {
            Document::Index(index) => index.manifests().iter().try_for_each(|entry| self.reach(entry, reachable)),
            Document::Manifest(document) => {
                reachable.blobs.insert(manifest::digest_of(document.config())?);
                for layer in document.layers() {
                    reachable.blobs.insert(manifest::digest_of(layer)?);
                }
                if let Ok(image) = self.image(&digest) {
                    reachable.layers.extend(Image::diff_ids(&image));
                }
                Ok(())
            }
        }
    }

    /// Adds every digest that stands in a file below `place`, as blob and as layer, whatever it means there.
    fn mentioned(&self, place: &Path, reachable: &mut Reachable) -> Result<(), ImageError> {
        let mut directories = vec![place.to_owned()];
        while let Some(directory) = directories.pop() {
            let listing = match std::fs::read_dir(&directory) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                result => result.act("read directory", &directory).map_err(StoreError::from)?,
            };
            for entry in listing {
                let entry = entry.act("read directory", &directory).map_err(StoreError::from)?;
                let Ok(metadata) = entry.metadata() else { continue };
                // A container's file system mentions nothing of ours.
                if metadata.is_dir()
                    && !matches!(entry.file_name().to_str(), Some("upper" | "work" | "merged" | "rootfs"))
                {
                    directories.push(entry.path());
                } else if metadata.is_file() && metadata.len() <= REFERRER_LIMIT {
                    let mut text = Vec::new();
                    // One that is gone meanwhile mentions nothing.
                    if File::open(entry.path()).and_then(|mut file| file.read_to_end(&mut text)).is_ok() {
                        for digest in digests_in(&text) {
                            reachable.layers.insert(digest);
                            let descriptor = manifest::descriptor("", digest, 0)?;
                            self.reach_if_image(&descriptor, digest, reachable);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A digest of unknown meaning: where it is a manifest, the image is kept; else the blob alone.
    fn reach_if_image(&self, descriptor: &Descriptor, digest: Digest, reachable: &mut Reachable) {
        if self.reach(descriptor, reachable).is_err() {
            reachable.blobs.insert(digest);
        }
    }

    fn blobs(&self) -> Result<Vec<Digest>, ImageError> {
        let directory = self.root().join("blobs/sha256");
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&directory).act("read directory", &directory).map_err(StoreError::from)? {
            let entry = entry.act("read directory", &directory).map_err(StoreError::from)?;
            all.extend(entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        Ok(all)
    }
}

fn is_younger(path: &Path, than: SystemTime) -> bool {
    std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).is_ok_and(|changed| changed > than)
}

/// Every `sha256:<64 digits>` in a text.
fn digests_in(text: &[u8]) -> Vec<Digest> {
    const PREFIX: &[u8] = b"sha256:";
    let starts = text.windows(PREFIX.len()).enumerate().filter(|(_, window)| *window == PREFIX);
    let hex = |at: usize| std::str::from_utf8(text.get(at + PREFIX.len()..at + PREFIX.len() + 64)?).ok();
    starts.filter_map(|(at, _)| Digest::from_hex(hex(at)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_any_text() {
        let digest = Digest::of(b"x");
        let text = format!("{{\"a\":\"{digest}\",\"b\":\"sha256:zz\",\"c\":[\"{digest}\"]}} sha256:");
        assert_eq!(digests_in(text.as_bytes()), [digest, digest]);
    }
}
