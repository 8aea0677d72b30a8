//! What is known of the blobs of a layer: which there are, how they were made, where they can be had.
//!
//! Kept in `layer-blobs/<hex of the diff ID>.json`, apart from the unpacked layer: a layer that was never fetched
//! has blobs elsewhere too, and a layer's blob is compressed once and found here ever after.

use std::collections::BTreeSet;

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use super::ImageError;
use crate::digest::Digest;
use crate::store::{Store, StoreError};

/// A repository that has, or had, a blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// `host[:port]`, as in a reference.
    pub registry: String,
    /// Within it.
    pub repository: String,
}

/// One blob of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBlob {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// Which compression of ours made it; none for a blob that was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// Where it can be had.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub origins: BTreeSet<Origin>,
    /// The blob gives a tar with this diff ID instead, of the same files: an eStargz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
}

impl KnownBlob {
    /// A blob that was received, nobody knows from where.
    #[must_use]
    pub const fn of(descriptor: Descriptor) -> Self {
        Self { descriptor, made_by: None, origins: BTreeSet::new(), diff_id: None }
    }
}

fn path(diff_id: &Digest) -> String {
    format!("layer-blobs/{}.json", diff_id.hex())
}

impl Store {
    /// The blobs known of a layer.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn layer_blobs(&self, diff_id: &Digest) -> Result<Vec<KnownBlob>, StoreError> {
        match self.read_file(&path(diff_id))? {
            // A file that cannot be parsed is worth as much as none: it only saves work.
            Some(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            None => Ok(Vec::new()),
        }
    }

    /// Remembers a blob of a layer, or more about one that is known.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember_blob(&self, diff_id: &Digest, blob: KnownBlob) -> Result<(), ImageError> {
        let known = self.layer_blobs(diff_id)?;
        if merge(known.clone(), blob.clone()) == known {
            return Ok(());
        }
        let _lock = self.lock("layer-blobs.lock")?;
        let merged = merge(self.layer_blobs(diff_id)?, blob);
        let bytes = serde_json::to_vec(&merged).map_err(|source| ImageError::Write { what: "blob list", source })?;
        self.note_unsynced_file();
        Ok(self.write_file(&path(diff_id), &bytes, false)?)
    }

    /// Remembers where the layers of an image can be had.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember_origin(&self, image: &super::Image, origin: &Origin) -> Result<(), ImageError> {
        for layer in &image.layers {
            let origins = BTreeSet::from([origin.clone()]);
            let blob = KnownBlob { origins, ..KnownBlob::of(layer.descriptor.clone()) };
            self.remember_blob(&layer.diff_id, blob)?;
        }
        Ok(())
    }
}

/// Adds a blob to a list. How one was made is kept: pushing ours and pulling it back does not make it foreign.
fn merge(mut known: Vec<KnownBlob>, new: KnownBlob) -> Vec<KnownBlob> {
    match known.iter_mut().find(|old| old.descriptor.digest() == new.descriptor.digest()) {
        Some(old) => {
            old.origins.extend(new.origins);
            old.made_by = new.made_by.or_else(|| old.made_by.take());
        }
        None => known.push(new),
    }
    known
}
