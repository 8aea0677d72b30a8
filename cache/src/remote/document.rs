//! What a cache holds besides blobs: documents of entries, one entry a step.
//!
//! An entry says only what the step added to its root file system: whoever reads it puts that on the root that he has
//! himself. It holds digests and times, never the step's text, arguments or environment, so nothing secret can be in
//! it. The reader derives the key himself and takes an entry for no other.

use std::collections::HashSet;

use lap_solver::digest::Key;
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use super::Chunk;
use crate::digest::Digest;
use crate::image::manifest;
use crate::layer::Span;

/// Version of the format; documents of others are passed over. Part of the names under which documents are kept.
pub const FORMAT: u32 = 1;
/// The media type of documents; has the format's version.
pub(super) const MEDIA_TYPE: &str = "application/vnd.lapstrake.cache.v1+json";
/// Largest document that is read, in bytes.
pub const DOCUMENT_LIMIT: u64 = 8 << 20;
/// Entries of a document that are looked at.
const ENTRIES: usize = 20_000;

/// Some entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`FORMAT`].
    pub lapstrake_cache: u32,
    /// In order of key.
    pub entries: Vec<Entry>,
    /// Identities of parts of results: a hash of the question, and the answer. They spare fetching files only to
    /// hash them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selections: Vec<(Key, Key)>,
    /// The parts of a cache mount, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<Chunk>,
}

/// What a step yielded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The content key of the step.
    pub key: Key,
    /// The layer that the step added; none where it changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Claim>,
}

/// What a cache says of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// SHA-256 of its tar.
    pub diff_id: Digest,
    /// Its content ID.
    pub identity: Key,
    /// When it was made, in seconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub made_at: u64,
    /// When its step ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<Span>,
    /// The blob that the cache has of it. Without one the claim only lets later keys be derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Descriptor>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Document {
    /// Of these parts, in order.
    #[must_use]
    pub fn new(mut entries: Vec<Entry>, mut selections: Vec<(Key, Key)>) -> Self {
        entries.sort_by_key(|entry| entry.key);
        entries.dedup_by_key(|entry| entry.key);
        selections.sort_unstable();
        selections.dedup();
        Self { lapstrake_cache: FORMAT, entries, selections, chunks: Vec::new() }
    }

    /// Of a cache mount.
    #[must_use]
    pub const fn of_mount(chunks: Vec<Chunk>) -> Self {
        Self { lapstrake_cache: FORMAT, entries: Vec::new(), selections: Vec::new(), chunks }
    }

    /// Reads a document; nothing where it is none, or of another version.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let document: Self = serde_json::from_slice(bytes).ok()?;
        document.checked()
    }

    /// The document without what cannot be right.
    #[must_use]
    pub fn checked(mut self) -> Option<Self> {
        if self.lapstrake_cache != FORMAT || !self.chunks.iter().all(Chunk::is_plausible) {
            return None;
        }
        self.entries.truncate(ENTRIES);
        self.selections.truncate(ENTRIES);
        self.entries.retain(|entry| {
            let blob = entry.layer.as_ref().and_then(|claim| claim.blob.as_ref());
            blob.is_none_or(|blob| manifest::digest_of(blob).is_ok() && !manifest::is_foreign(blob))
        });
        Some(self)
    }

    /// The bytes that are kept.
    ///
    /// # Errors
    /// Never in practice: every part has a JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        manifest::canonical_json(self)
    }

    /// The blobs that the entries name, each once, in order.
    #[must_use]
    pub fn blobs(&self) -> Vec<Descriptor> {
        let layers = self.entries.iter().filter_map(|entry| entry.layer.as_ref()?.blob.as_ref());
        let all = layers.chain(self.chunks.iter().map(|chunk| &chunk.blob));
        let mut seen = HashSet::new();
        all.filter(|blob| seen.insert(blob.digest().to_string())).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_back_and_what_cannot_be_right_is_left_out() {
        let blob = manifest::descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest::of(b"b"), 1).unwrap();
        let claim = Claim {
            diff_id: Digest::of(b"d"),
            identity: Key::of("t", "i"),
            made_at: 5,
            ran: Some(Span { from: 1_700_000_000_000_000_000, to: 1_700_000_000_000_000_001 }),
            blob: Some(blob),
        };
        let entry = |name: &str, layer| Entry { key: Key::of("t", name), layer };
        let entries = vec![entry("one", Some(claim.clone())), entry("two", None), entry("two", None)];
        let document = Document::new(entries, vec![(Key::of("t", "q"), Key::of("t", "a"))]);
        assert_eq!((document.entries.len(), document.blobs().len()), (2, 1));
        assert_eq!(Document::read(&document.to_bytes().unwrap()), Some(document.clone()));

        let other = Document { lapstrake_cache: FORMAT + 1, ..document };
        assert_eq!(Document::read(&other.to_bytes().unwrap()), None);
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let blob = manifest::descriptor(foreign, Digest::of(b"b"), 1).unwrap();
        let lying = Document::new(vec![entry("one", Some(Claim { blob: Some(blob), ..claim }))], vec![]);
        assert_eq!(Document::read(&lying.to_bytes().unwrap()).unwrap().entries, []);
        for broken in ["", "{}", "[]", "{\"lapstrake_cache\":1}", "{\"lapstrake_cache\":1,\"entries\":[{\"key\":1}]}"] {
            assert_eq!(Document::read(broken.as_bytes()), None, "{broken}");
        }
    }
}
