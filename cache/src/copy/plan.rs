//! What a copy consists of: every document, read and checked and in the form that is wanted, and the blobs below them.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use oci_spec::image::{Descriptor, ImageManifest};

use super::source::{Item, Source};
use super::{CopyError, Options, Select, convert};
use crate::digest::Digest;
use crate::image::manifest::{self, Document};
use crate::image::{ImageError, platform as platforms};
use crate::store::Store;

/// Indexes within indexes that are followed.
const DEPTH: usize = 3;
/// Bytes of all documents together.
const DOCUMENTS_LIMIT: u64 = 64 << 20;

/// A blob to copy.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    /// As the manifests at the destination describe it.
    pub(super) descriptor: Descriptor,
    pub(super) digest: Digest,
    /// Made on the way: it lies in the store.
    pub(super) is_made: bool,
}

/// What is to be copied.
#[derive(Debug)]
pub struct Plan {
    pub(super) root: Item,
    /// Manifests and indexes below the root, what an index names before the index.
    pub(super) below: Vec<Item>,
    /// Configs and layers, each once, in order of digest. Layers that may not be distributed are left out.
    pub(super) blobs: Vec<Blob>,
    /// Layers that were left out.
    pub(super) foreign: Vec<Digest>,
    /// Blobs that were made, and where.
    made: convert::Made,
}

impl Plan {
    /// Reads the documents of what `source` has, and puts them into the form that is wanted. `store` is where layers
    /// that have to be compressed are kept until they are copied.
    ///
    /// # Errors
    /// Where a document cannot be read, is not sound, or has no such form.
    pub fn new(source: &Source, options: &Options, store: Option<&Store>) -> Result<Self, CopyError> {
        let mut root = source.root()?;
        if let Select::Platform(platform) = &options.select {
            for _ in 0..=DEPTH {
                let Document::Index(index) = &root.document else { break };
                let entry = platforms::select(index.manifests(), platform).ok_or_else(|| CopyError::NoPlatform {
                    wanted: platform.clone(),
                    offered: offered(index.manifests()),
                })?;
                root = source.manifest(entry)?;
            }
            if let Document::Index(_) = &root.document {
                return Err(CopyError::Nested { digest: root.digest });
            }
        }
        let mut below = Vec::new();
        if options.select != Select::IndexOnly {
            let mut total = root.bytes.len() as u64;
            descend(source, &root, &mut below, &mut total, DEPTH)?;
        }
        let mut made = convert::Made::new(store);
        let (root, below) = convert::apply(source, root, below, options, &mut made)?;
        let mut blobs = BTreeMap::new();
        let mut foreign = Vec::new();
        for item in below.iter().chain([&root]) {
            let Document::Manifest(document) = &item.document else { continue };
            for descriptor in parts(document) {
                let digest = manifest::digest_of(descriptor).map_err(ImageError::from)?;
                if manifest::is_foreign(descriptor) {
                    foreign.push(digest);
                    continue;
                }
                let is_made = made.has(&digest);
                blobs.entry(digest).or_insert_with(|| Blob { descriptor: descriptor.clone(), digest, is_made });
            }
        }
        Ok(Self { root, below, blobs: blobs.into_values().collect(), foreign, made })
    }

    /// Digest of the manifest or index at the destination.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.root.digest
    }

    /// The bytes of a blob; an error where they are not those described.
    pub(super) fn open(&self, blob: &Blob, source: &Source) -> Result<Box<dyn Read + Send>, CopyError> {
        if blob.is_made { self.made.open(&blob.digest) } else { source.open(&blob.descriptor) }
    }

    /// Every document, the root last.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Item> {
        self.below.iter().chain([&self.root])
    }

    /// As [`Self::open`], for documents too.
    pub(super) fn open_any(&self, digest: &Digest, source: &Source) -> Result<Box<dyn Read + Send>, CopyError> {
        if let Some(item) = self.documents().find(|item| item.digest == *digest) {
            return Ok(Box::new(Cursor::new(item.bytes.clone())));
        }
        match self.blobs.binary_search_by(|blob| blob.digest.cmp(digest)) {
            Ok(at) => self.open(&self.blobs[at], source),
            Err(_) => Err(CopyError::Blob { digest: *digest, source: io::ErrorKind::NotFound.into() }),
        }
    }

    /// The blobs that were made stay in the store.
    pub(super) fn keep(&self) {
        self.made.keep();
    }
}

/// The blobs of a manifest.
pub(super) fn parts(document: &ImageManifest) -> impl Iterator<Item = &Descriptor> {
    std::iter::once(document.config()).chain(document.layers())
}

/// Reads what an index names.
fn descend(
    source: &Source,
    item: &Item,
    below: &mut Vec<Item>,
    total: &mut u64,
    depth: usize,
) -> Result<(), CopyError> {
    let Document::Index(index) = &item.document else { return Ok(()) };
    if depth == 0 {
        return Err(CopyError::Nested { digest: item.digest });
    }
    for entry in index.manifests() {
        let digest = manifest::digest_of(entry).map_err(ImageError::from)?;
        if below.iter().any(|other| other.digest == digest) {
            continue;
        }
        *total = total.saturating_add(entry.size());
        if *total > DOCUMENTS_LIMIT {
            return Err(CopyError::TooMuch { limit: DOCUMENTS_LIMIT });
        }
        let inner = source.manifest(entry)?;
        descend(source, &inner, below, total, depth - 1)?;
        below.push(inner);
    }
    Ok(())
}

fn offered(entries: &[Descriptor]) -> String {
    let list: Vec<String> = entries
        .iter()
        .filter_map(platforms::platform_of)
        .map(|platform| platform.to_string())
        .filter(|platform| platform != "unknown/unknown")
        .take(30)
        .collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}
