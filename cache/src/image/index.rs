//! Indexes: several manifests under one digest, one for each platform, and what is attested of them.
//!
//! An attestation manifest has the shape of an image whose layers are statements ([`super::attest`]), so everything
//! here is an [`Image`]; what runs and what does not is told by the index's entries.

use std::collections::BTreeMap;

use lap_solver::platform::Platform;
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde_json::{Value, json};

use super::manifest::{self, Document, annotation, docker};
use super::{Image, ImageError, platform as platforms};
use crate::digest::Digest;
use crate::store::Store;

/// Annotation of an index entry that is no image: what it is.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Annotation of such an entry: the manifest that it speaks of.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// Value of [`REFERENCE_TYPE`] for attestations.
pub const ATTESTATION: &str = "attestation-manifest";
/// Indexes within indexes that are followed.
const DEPTH: usize = 3;

/// An index whose documents are all known.
#[derive(Debug, Clone)]
pub struct Index {
    /// Of the index.
    pub descriptor: Descriptor,
    /// The index's bytes.
    pub raw: Vec<u8>,
    /// Its entries, in order.
    pub entries: Vec<Entry>,
    digest: Digest,
}

/// An entry of an index.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The manifest and all below it.
    pub image: Image,
    /// Which image it is, or of which it speaks.
    pub role: Role,
}

/// What an entry of an index is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It runs.
    Runnable,
    /// It attests something of the manifest with this digest.
    Attests(Digest),
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Artifact {
    /// One image.
    Image(Box<Image>),
    /// Several, or one with attestations.
    Index(Box<Index>),
}

impl From<Image> for Artifact {
    fn from(image: Image) -> Self {
        Self::Image(Box::new(image))
    }
}

impl From<Index> for Artifact {
    fn from(index: Index) -> Self {
        Self::Index(Box::new(index))
    }
}

impl Artifact {
    /// Of the manifest or index.
    #[must_use]
    pub const fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Image(image) => &image.descriptor,
            Self::Index(index) => &index.descriptor,
        }
    }

    /// Digest of the manifest or index.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        match self {
            Self::Image(image) => image.digest(),
            Self::Index(index) => index.digest,
        }
    }

    /// The bytes of the manifest or index.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::Image(image) => &image.raw_manifest,
            Self::Index(index) => &index.raw,
        }
    }

    /// Every image in it, attestations too.
    #[must_use]
    pub fn images(&self) -> Vec<&Image> {
        match self {
            Self::Image(image) => vec![image],
            Self::Index(index) => index.entries.iter().map(|entry| &entry.image).collect(),
        }
    }

    /// The images in it that run.
    #[must_use]
    pub fn runnable(&self) -> Vec<&Image> {
        match self {
            Self::Image(image) => vec![image],
            Self::Index(index) => {
                let runs = index.entries.iter().filter(|entry| entry.role == Role::Runnable);
                runs.map(|entry| &entry.image).collect()
            }
        }
    }
}

impl Index {
    /// Writes an index over entries whose documents are in the store; what attests stands last, as BuildKit has it.
    /// It is of the family of its first entry: OCI's, or Docker's where that has Docker's media types.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn assemble(
        store: &Store,
        mut entries: Vec<Entry>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, ImageError> {
        entries.sort_by_key(|entry| entry.role != Role::Runnable);
        let write = |source| ImageError::Write { what: "index", source };
        let is_docker =
            entries.first().is_some_and(|entry| entry.image.descriptor.media_type().to_string() == docker::MANIFEST);
        let media_type = if is_docker { docker::INDEX.to_owned() } else { MediaType::ImageIndex.to_string() };
        let manifests = entries.iter().map(described).collect::<Result<Vec<_>, _>>().map_err(write)?;
        let mut document = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        if !annotations.is_empty() {
            document["annotations"] = serde_json::to_value(annotations).map_err(write)?;
        }
        let raw = manifest::canonical_json(&document).map_err(write)?;
        let digest = store.content().put(&raw)?;
        let descriptor = manifest::descriptor(&media_type, digest, raw.len() as u64)?;
        Ok(Self { descriptor, raw, entries, digest })
    }

    /// Digest of the index.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// The descriptor of an entry, with its platform.
fn described(entry: &Entry) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(&entry.image.descriptor)?;
    match entry.role {
        Role::Runnable => {
            let platform = entry.image.platform();
            value["platform"] = json!({"architecture": platform.architecture, "os": platform.os});
            if let Some(variant) = platform.variant {
                value["platform"]["variant"] = variant.into();
            }
            for key in ["os.version", "os.features"] {
                if let Some(more) = entry.image.config.other.get(key) {
                    value["platform"][key] = more.clone();
                }
            }
        }
        Role::Attests(subject) => {
            value["platform"] = json!({"architecture": "unknown", "os": "unknown"});
            value["annotations"] =
                json!({REFERENCE_DIGEST: subject.to_string(), REFERENCE_TYPE: ATTESTATION.to_owned()});
        }
    }
    Ok(value)
}

/// What an entry of an index says it is; nothing where it is of no use to us.
fn role_of(entry: &Descriptor) -> Option<Role> {
    match annotation(entry, REFERENCE_TYPE) {
        None => Some(Role::Runnable),
        Some(ATTESTATION) => Some(Role::Attests(annotation(entry, REFERENCE_DIGEST)?.parse().ok()?)),
        Some(_) => None,
    }
}

impl Store {
    /// The image that a manifest or an index stands for on `platform`.
    ///
    /// # Errors
    /// Where a document is missing or damaged, or the index has nothing for the platform.
    pub fn image_for(&self, digest: &Digest, platform: &Platform) -> Result<Image, ImageError> {
        let mut digest = *digest;
        for _ in 0..=DEPTH {
            let Some(index) = self.index_document(&digest)? else { return self.image(&digest) };
            let entry = platforms::select(index.manifests(), platform)
                .ok_or_else(|| ImageError::NoPlatform { digest, wanted: platform.clone() })?;
            digest = manifest::digest_of(entry)?;
        }
        Err(ImageError::IsAnIndex { digest })
    }

    /// The image, or the whole index with all images it names, that has this digest.
    ///
    /// # Errors
    /// Where a document is missing or damaged, or an index is in an index.
    pub fn artifact(&self, digest: &Digest) -> Result<Artifact, ImageError> {
        let Some(index) = self.index_document(digest)? else { return Ok(self.image(digest)?.into()) };
        let mut entries = Vec::new();
        for descriptor in index.manifests() {
            let role = role_of(descriptor).unwrap_or(Role::Runnable);
            entries.push(Entry { image: self.image(&manifest::digest_of(descriptor)?)?, role });
        }
        let raw = self.content().read(digest, manifest::MANIFEST_LIMIT)?;
        let media_type =
            index.media_type().as_ref().map_or_else(|| MediaType::ImageIndex.to_string(), MediaType::to_string);
        let descriptor = manifest::descriptor(&media_type, *digest, raw.len() as u64)?;
        Ok(Index { descriptor, raw, entries, digest: *digest }.into())
    }

    fn index_document(&self, digest: &Digest) -> Result<Option<Box<ImageIndex>>, ImageError> {
        let raw = self.content().read(digest, manifest::MANIFEST_LIMIT)?;
        Ok(match Document::read(&raw, None)? {
            Document::Index(index) => Some(index),
            Document::Manifest(_) => None,
        })
    }
}
