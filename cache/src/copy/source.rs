//! Where the documents and blobs of a copy come from. Manifests are checked here; blobs are checked while they pass.

use std::io::Read;
use std::path::Path;

use lap_solver::event::Events;
use oci_spec::image::Descriptor;

use super::CopyError;
use super::folder::Folder;
use super::remote;
use super::stop::Stop;
use super::verified::Verified;
use crate::digest::Digest;
use crate::image::manifest::{self, Document, MANIFEST_LIMIT};
use crate::image::{ImageError, Reference};
use crate::load::{LoadError, Opened, entry_of_layout};
use crate::registry::Client;
use crate::store::Store;

/// A manifest or an index, verified.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Media type, digest and size.
    pub(super) descriptor: Descriptor,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
    pub(super) document: Document,
}

impl Item {
    /// Reads a document whose bytes are right; `announced` is its media type where that is known.
    pub(super) fn read(bytes: Vec<u8>, announced: Option<&str>) -> Result<Self, CopyError> {
        let document = Document::read(&bytes, announced).map_err(ImageError::from)?;
        let digest = Digest::of(&bytes);
        let (inside, default) = match &document {
            Document::Manifest(manifest) => (manifest.media_type(), oci_spec::image::MediaType::ImageManifest),
            Document::Index(index) => (index.media_type(), oci_spec::image::MediaType::ImageIndex),
        };
        let is_ours = |text: &&str| manifest::is_manifest(text) || manifest::is_index(text);
        let media_type = match inside {
            Some(inside) => inside.to_string(),
            None => announced.filter(is_ours).map_or_else(|| default.to_string(), str::to_owned),
        };
        let descriptor = manifest::descriptor(&media_type, digest, bytes.len() as u64).map_err(ImageError::from)?;
        Ok(Self { descriptor, digest, bytes, document })
    }
}

/// Where an image is copied from.
#[derive(Debug)]
pub struct Source {
    from: Place,
    stop: Stop,
}

#[derive(Debug)]
enum Place {
    Registry { client: Client, name: Reference, runtime: tokio::runtime::Handle, events: Events },
    Layout { dir: Folder, name: Option<String> },
    Directory(Folder),
    Archive { archive: Box<Opened>, name: Option<String> },
    Store { store: Store, root: Descriptor },
}

impl From<Place> for Source {
    fn from(from: Place) -> Self {
        Self { from, stop: Stop::default() }
    }
}

impl Source {
    /// A name in a registry; transfers are carried by `runtime`, and nothing here may be called on its threads.
    #[must_use]
    pub fn registry(client: Client, name: Reference, runtime: tokio::runtime::Handle, events: Events) -> Self {
        Place::Registry { client, name, runtime, events }.into()
    }

    /// An image of an OCI layout.
    ///
    /// # Errors
    /// Where it is no directory.
    pub fn layout(path: &Path, name: Option<String>) -> Result<Self, CopyError> {
        Ok(Place::Layout { dir: Folder::at(path)?, name }.into())
    }

    /// A directory of skopeo's.
    ///
    /// # Errors
    /// Where it is no directory.
    pub fn directory(path: &Path) -> Result<Self, CopyError> {
        Ok(Place::Directory(Folder::at(path)?).into())
    }

    /// An image of an archive, OCI's or Docker's. What it holds lies in the store as long as this lives.
    ///
    /// # Errors
    /// Where the archive is not sound.
    pub fn archive(store: &Store, reader: impl Read + Send, name: Option<String>) -> Result<Self, CopyError> {
        Ok(Place::Archive { archive: Box::new(Opened::read(store, reader)?), name }.into())
    }

    /// What a descriptor stands for in the store. Its blobs must be there.
    #[must_use]
    pub fn store(store: &Store, root: Descriptor) -> Self {
        Place::Store { store: store.clone(), root }.into()
    }

    /// The same, with reads that end when `stop` is asked for.
    #[must_use]
    pub fn heeding(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// What ends the copy early.
    pub(super) const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The registry's name, where it is one.
    pub(super) const fn remote(&self) -> Option<&Reference> {
        match &self.from {
            Place::Registry { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Leaves what an archive has put into the store there.
    pub(super) fn keep(&self) {
        if let Place::Archive { archive, .. } = &self.from {
            archive.keep();
        }
    }

    /// What is to be copied.
    pub(super) fn root(&self) -> Result<Item, CopyError> {
        match &self.from {
            Place::Registry { client, name, runtime, .. } => {
                let (bytes, announced) = self.stop.wait(runtime, client.raw_manifest(name, None))?;
                Item::read(bytes, announced.as_deref())
            }
            Place::Layout { dir, name } => {
                let text = dir.read("index.json", MANIFEST_LIMIT)?;
                let entry = entry_of_layout(&text, name.as_deref())?;
                self.manifest(&entry)
            }
            Place::Directory(dir) => Item::read(dir.read("manifest.json", MANIFEST_LIMIT)?, None),
            Place::Archive { archive, name } => {
                let (bytes, announced) = archive.root(name.as_deref())?;
                Item::read(bytes, Some(&announced))
            }
            Place::Store { root, .. } => self.manifest(root),
        }
    }

    /// A manifest or index that a verified document describes.
    pub(super) fn manifest(&self, wanted: &Descriptor) -> Result<Item, CopyError> {
        let digest = manifest::digest_of(wanted).map_err(ImageError::from)?;
        if wanted.size() > MANIFEST_LIMIT {
            let name = digest.to_string();
            return Err(LoadError::TooLarge { name, size: wanted.size(), limit: MANIFEST_LIMIT }.into());
        }
        let announced = wanted.media_type().to_string();
        let reader: Box<dyn Read + Send> = match &self.from {
            Place::Registry { client, name, runtime, .. } => {
                let (bytes, _) = self.stop.wait(runtime, client.raw_manifest(name, Some(wanted)))?;
                return Item::read(bytes, Some(&announced));
            }
            Place::Directory(dir) => Box::new(dir.open(&format!("{}.manifest.json", digest.hex()))?),
            _ => return self.document(wanted).and_then(|bytes| Item::read(bytes, Some(&announced))),
        };
        let bytes = collect(Verified::new(reader, digest, wanted.size()), digest)?;
        Item::read(bytes, Some(&announced))
    }

    /// A small blob that a verified document describes.
    fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, CopyError> {
        let digest = manifest::digest_of(wanted).map_err(ImageError::from)?;
        collect(self.open(wanted)?, digest)
    }

    /// The bytes of a blob, which are an error where they are not those described.
    pub(super) fn open(&self, wanted: &Descriptor) -> Result<Box<dyn Read + Send>, CopyError> {
        let digest = manifest::digest_of(wanted).map_err(ImageError::from)?;
        let size = wanted.size();
        let reader: Box<dyn Read + Send> = match &self.from {
            Place::Registry { client, name, runtime, events } => {
                let blob = (digest, size);
                Box::new(remote::receive(client, name, runtime, blob, &self.stop, events))
            }
            Place::Layout { dir, .. } => Box::new(dir.open(&format!("blobs/sha256/{}", digest.hex()))?),
            Place::Directory(dir) => Box::new(dir.open(&digest.hex())?),
            Place::Archive { archive, .. } => Box::new(archive.store().content().open(&digest)?),
            Place::Store { store, .. } => Box::new(store.content().open(&digest)?),
        };
        Ok(Box::new(Verified::new(self.stop.heed(reader), digest, size)))
    }
}

/// All of a document.
fn collect(mut reader: impl Read, digest: Digest) -> Result<Vec<u8>, CopyError> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|source| CopyError::Blob { digest, source })?;
    Ok(bytes)
}
