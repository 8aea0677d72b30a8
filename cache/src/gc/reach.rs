//! What must stay: everything that a name, a container or a living process leads to.
//!
//! All of it is read as it lies, without a claim of our own: the caller may hold the lock that claims wait for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use crate::digest::Digest;
use crate::image::ImageError;
use crate::image::manifest;
use crate::names::Entry;
use crate::store::{Store, StoreError};

/// A manifest, an index or a config that is larger than this is none.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// Blobs and layers that something leads to.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    pub(super) blobs: BTreeSet<Digest>,
    pub(super) layers: BTreeSet<Digest>,
}

impl Reach {
    /// What the images that `keeps` says yes to, and all containers, lead to.
    pub(super) fn of_roots(store: &Store, keeps: impl Fn(&Entry) -> bool) -> Result<Self, ImageError> {
        let mut reach = Self::default();
        for entry in store.names()?.iter().filter(|entry| keeps(entry)) {
            reach.image(store, &entry.digest)?;
        }
        for digest in container_digests(store)? {
            reach.layers.insert(digest);
            reach.image(store, &digest)?;
        }
        reach.add_originals(store)?;
        Ok(reach)
    }

    /// What living processes have claimed.
    pub(super) fn of_claims(store: &Store) -> Result<Self, ImageError> {
        let (layers, blobs) = store.claimed()?;
        let mut reach = Self { blobs: BTreeSet::new(), layers };
        for digest in blobs {
            reach.image(store, &digest)?;
        }
        reach.add_originals(store)?;
        Ok(reach)
    }

    /// Adds an image, or all images of an index, with everything they need. What is missing needs nothing.
    pub(super) fn image(&mut self, store: &Store, digest: &Digest) -> Result<(), ImageError> {
        if !self.blobs.insert(*digest) {
            return Ok(());
        }
        let Some(document) = document(store, digest)? else { return Ok(()) };
        let digest_in = |value: &serde_json::Value| value["digest"].as_str().and_then(|text| text.parse().ok());
        for entry in document["manifests"].as_array().into_iter().flatten() {
            if let Some(manifest) = digest_in(entry) {
                self.image(store, &manifest)?;
            }
        }
        self.blobs.extend(document["layers"].as_array().into_iter().flatten().filter_map(digest_in));
        if let Some(config) = digest_in(&document["config"]) {
            self.blobs.insert(config);
            if let Some(config) = self::document(store, &config)? {
                let ids = config["rootfs"]["diff_ids"].as_array().into_iter().flatten();
                self.layers.extend(ids.filter_map(|id| id.as_str()?.parse::<Digest>().ok()));
            }
        }
        Ok(())
    }

    /// Of what is kept, the blob that it came in is kept too: it cannot be made again.
    fn add_originals(&mut self, store: &Store) -> Result<(), StoreError> {
        for diff_id in &self.layers {
            for blob in store.layer_blobs(diff_id)?.into_iter().filter(|blob| blob.made_by.is_none()) {
                self.blobs.extend(manifest::digest_of(&blob.descriptor).ok());
            }
        }
        Ok(())
    }
}

/// A blob that is a JSON document; nothing where it is missing, too large or something else.
fn document(store: &Store, digest: &Digest) -> Result<Option<serde_json::Value>, StoreError> {
    let path = format!("blobs/sha256/{}", digest.hex());
    let small = std::fs::symlink_metadata(store.root().join(&path)).is_ok_and(|found| found.len() <= DOCUMENT_LIMIT);
    let text = if small { store.read_file(&path)? } else { None };
    // Layers are no documents: their first byte says so, without reading them as one.
    Ok(text.filter(|text| text.first() == Some(&b'{')).and_then(|text| serde_json::from_slice(&text).ok()))
}

/// Every digest in the configs of containers, whatever it means there.
fn container_digests(store: &Store) -> Result<BTreeSet<Digest>, StoreError> {
    let mut digests = BTreeSet::new();
    for entry in std::fs::read_dir(store.root().join("containers")).into_iter().flatten().flatten() {
        let path = format!("containers/{}/config.json", entry.file_name().to_string_lossy());
        // One that is gone meanwhile mentions nothing; one that is being made belongs to a process with claims.
        if entry.path().is_dir()
            && let Some(text) = store.read_file(&path)?
        {
            digests.extend(digests_in(&text));
        }
    }
    Ok(digests)
}

/// The digests in a file of at most 16 MiB; none where it cannot be read.
pub(crate) fn digests_of_file(path: &std::path::Path) -> Vec<Digest> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(DOCUMENT_LIMIT).read_to_end(&mut text));
    if read.is_ok() { digests_in(&text) } else { Vec::new() }
}

/// Every `sha256:<64 digits>` in a text.
pub(super) fn digests_in(text: &[u8]) -> Vec<Digest> {
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
