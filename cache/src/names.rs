//! Names of images: the store's `index.json`, which is that of an OCI image layout.
//!
//! The index is the truth, not a copy of it. An entry with a name says what the name stands for; an entry without
//! one keeps an image that has lost its name or never had one (Docker's `<none>`). It is changed under a lock and
//! replaced by rename, so readers need no lock. `skopeo inspect oci:STORE:docker.io/library/app:latest` reads it.

use std::collections::BTreeMap;
use std::fs::File;

use oci_spec::image::{Descriptor, ImageIndex};

use crate::digest::Digest;
use crate::fs::Act;
use crate::image::manifest::{self, annotated, annotation};
use crate::image::{Image, ImageError, Reference};
use crate::store::{Store, StoreError};

/// OCI's annotation for the name of an index entry.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's annotation for the whole, normalised name; podman and Docker read it when they load.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// When the entry was set, in nanoseconds since 1970.
const SET_AT: &str = "io.lapstrake.set";

const INDEX: &str = "index.json";

/// An entry of the store's index.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name; none for an image that has none.
    pub name: Option<Reference>,
    /// Of the manifest.
    pub descriptor: Descriptor,
    /// Digest of the manifest.
    pub digest: Digest,
}

impl Entry {
    /// Whether this is what a name means: with a digest in it, any image of that repository with the digest.
    #[must_use]
    pub fn stands_for(&self, name: &Reference) -> bool {
        match (&self.name, name.digest()) {
            (Some(own), Some(digest)) => own.name() == name.name() && self.digest == digest,
            (Some(own), None) => own == name,
            (None, _) => false,
        }
    }

    /// When the entry was set, in seconds since 1970; 0 where another tool wrote it.
    #[must_use]
    pub fn set_at(&self) -> u64 {
        let nanos = annotation(&self.descriptor, SET_AT).and_then(|text| text.parse::<u64>().ok());
        nanos.unwrap_or(0) / 1_000_000_000
    }
}

/// What [`Store::image_remove`] and [`Store::name_remove`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Manifests that no entry stands for any more; their files go with the next prune.
    pub deleted: Vec<Digest>,
}

impl Store {
    /// All entries, in order of their making.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn names(&self) -> Result<Vec<Entry>, ImageError> {
        let mut entries = Vec::new();
        for descriptor in self.read_index()? {
            // What another tool wrote that is no image name of ours counts as unnamed.
            let text = annotation(&descriptor, IMAGE_NAME).or_else(|| annotation(&descriptor, REF_NAME));
            let name = text.and_then(|text| text.parse().ok());
            let digest = manifest::digest_of(&descriptor)?;
            entries.push(Entry { name, descriptor, digest });
        }
        Ok(entries)
    }

    /// The manifest a name stands for. With a digest in the reference, any image of that repository with the digest.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn name_get(&self, name: &Reference) -> Result<Option<Digest>, ImageError> {
        Ok(self.names()?.iter().find(|entry| entry.stands_for(name)).map(|entry| entry.digest))
    }

    /// Makes `name` stand for `image`. Returns the image it stood for before, which stays in the index without a name
    /// where it has no other.
    ///
    /// # Errors
    /// Where the index cannot be written.
    pub fn name_set(&self, name: &Reference, image: &Image) -> Result<Option<Digest>, ImageError> {
        self.name_point(name, &image.descriptor)
    }

    /// Makes `name` stand for a manifest or an index that is in the store; else as [`Self::name_set`].
    ///
    /// # Errors
    /// Where the index cannot be written.
    pub fn name_point(&self, name: &Reference, target: &Descriptor) -> Result<Option<Digest>, ImageError> {
        let digest = manifest::digest_of(target)?;
        // What has a name survives a power cut, so what the name leads to comes to the disk first: also layers that a
        // build made which was killed, and which this process only found.
        self.sync()?;
        self.edit_index(|entries| {
            let before = take_name(entries, name)?;
            entries.retain(|entry| !is_unnamed(entry) || entry.digest() != target.digest());
            entries.push(named_entry(target, Some(name)));
            Ok(before.filter(|before| *before != digest))
        })
    }

    /// Keeps an image that has no name.
    ///
    /// # Errors
    /// Where the index cannot be written.
    pub fn image_keep(&self, image: &Image) -> Result<(), ImageError> {
        self.keep(&image.descriptor)
    }

    /// Keeps a manifest or an index that has no name.
    ///
    /// # Errors
    /// Where the index cannot be written.
    pub fn keep(&self, target: &Descriptor) -> Result<(), ImageError> {
        self.sync()?;
        self.edit_index(|entries| {
            if !entries.iter().any(|entry| entry.digest() == target.digest()) {
                entries.push(named_entry(target, None));
            }
            Ok(())
        })
    }

    /// Takes a name away; the image goes with its last name. Nothing is removed where the name is not known.
    ///
    /// # Errors
    /// Where the index cannot be written.
    pub fn name_remove(&self, name: &Reference) -> Result<Removed, ImageError> {
        self.edit_index(|entries| {
            let Some(digest) = take_name(entries, name)? else { return Ok(Removed::default()) };
            // `take_name` keeps an image that lost its last name; here it is meant to go.
            entries.retain(|entry| !is_unnamed(entry) || entry.digest().as_ref() != digest.to_string());
            let left = entries.iter().any(|entry| entry.digest().as_ref() == digest.to_string());
            let deleted = if left { Vec::new() } else { vec![digest] };
            Ok(Removed { untagged: vec![name.clone()], deleted })
        })
    }

    /// Takes an image out of the index with all its names.
    ///
    /// # Errors
    /// Where the index cannot be written.
    pub fn image_remove(&self, digest: &Digest) -> Result<Removed, ImageError> {
        self.edit_index(|entries| {
            let is_it = |entry: &Descriptor| entry.digest().as_ref() == digest.to_string();
            let untagged = entries.iter().filter(|entry| is_it(entry)).filter_map(name_of).collect();
            let before = entries.len();
            entries.retain(|entry| !is_it(entry));
            let deleted = if entries.len() < before { vec![*digest] } else { Vec::new() };
            Ok(Removed { untagged, deleted })
        })
    }

    /// An exclusive lock on a file of the store, held until it is dropped.
    pub(crate) fn lock(&self, file_name: &str) -> Result<File, StoreError> {
        let file = self.lock_file(file_name)?;
        file.lock().act("lock", self.root().join(file_name))?;
        Ok(file)
    }

    /// A file to lock, made where it is missing.
    pub(crate) fn lock_file(&self, file_name: &str) -> Result<File, StoreError> {
        let path = self.root().join(file_name);
        use std::os::unix::fs::OpenOptionsExt as _;
        Ok(File::options().create(true).append(true).mode(0o600).open(&path).act("open", &path)?)
    }

    fn read_index(&self) -> Result<Vec<Descriptor>, ImageError> {
        let Some(bytes) = self.read_file(INDEX)? else { return Ok(Vec::new()) };
        let corrupt = |source| StoreError::Corrupt { path: self.root().join(INDEX), source };
        let index: ImageIndex = serde_json::from_slice(&bytes).map_err(corrupt)?;
        Ok(index.manifests().clone())
    }

    fn edit_index<T>(&self, edit: impl FnOnce(&mut Vec<Descriptor>) -> Result<T, ImageError>) -> Result<T, ImageError> {
        let _lock = self.lock("names.lock")?;
        let before = self.read_index()?;
        let mut entries = before.clone();
        let result = edit(&mut entries)?;
        if entries != before {
            self.write_file(INDEX, &index_json(entries)?, true)?;
        }
        Ok(result)
    }
}

/// The text of an `index.json`.
pub(crate) fn index_json(manifests: Vec<Descriptor>) -> Result<Vec<u8>, ImageError> {
    let write = |source| ImageError::Write { what: "index", source };
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": oci_spec::image::MediaType::ImageIndex.to_string(),
        "manifests": serde_json::to_value(manifests).map_err(write)?,
    });
    manifest::canonical_json(&document).map_err(write)
}

fn name_of(entry: &Descriptor) -> Option<Reference> {
    annotation(entry, IMAGE_NAME).or_else(|| annotation(entry, REF_NAME))?.parse().ok()
}

fn is_unnamed(entry: &Descriptor) -> bool {
    name_of(entry).is_none()
}

/// Takes `name` off the entry that has it. Where the image has no other entry, one without a name is left.
fn take_name(entries: &mut Vec<Descriptor>, name: &Reference) -> Result<Option<Digest>, ImageError> {
    let Some(at) = entries.iter().position(|entry| name_of(entry).as_ref() == Some(name)) else { return Ok(None) };
    let digest = manifest::digest_of(&entries[at])?;
    let others = entries.iter().filter(|entry| entry.digest() == entries[at].digest()).count() > 1;
    match others {
        true => drop(entries.remove(at)),
        false => {
            let mut annotations = entries[at].annotations().clone().unwrap_or_default();
            annotations.remove(REF_NAME);
            annotations.remove(IMAGE_NAME);
            entries[at].set_annotations(Some(annotations));
        }
    }
    Ok(Some(digest))
}

fn named_entry(target: &Descriptor, name: Option<&Reference>) -> Descriptor {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut annotations = BTreeMap::from([(SET_AT.to_owned(), now.as_nanos().to_string())]);
    if let Some(name) = name {
        annotations.insert(REF_NAME.to_owned(), name.to_string());
        annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
    }
    annotated(target.clone(), &annotations)
}
