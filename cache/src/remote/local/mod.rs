//! A cache in a directory: an OCI image layout whose `index.json` names the newest export of each tag, and beside it
//! the documents of definitions and steps as files. What is written appears whole or not at all, so several builds may
//! use one directory at once.

mod directory;
mod reset;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use oci_spec::image::Descriptor;

use self::directory::Directory;
use super::{Answer, Backend, DOCUMENT_LIMIT, Document, MEDIA_TYPE, Name, RemoteError};
use crate::digest::Digest;
use crate::image::artifact::{ArtifactForm, document_in};
use crate::image::manifest::{self, MANIFEST_LIMIT};
use crate::store::Store;

/// What of a directory is read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// The exports of a tag.
    Tag(String),
    /// One export, by the digest that `index.json` named it with. It is only read.
    Digest(Digest),
}

impl Default for Selected {
    fn default() -> Self {
        Self::Tag("latest".to_owned())
    }
}

/// A directory.
#[derive(Debug, Clone)]
pub struct LocalCache {
    label: String,
    directory: Arc<Directory>,
    selected: Selected,
    form: ArtifactForm,
    reset: bool,
    /// Held while this build writes, so that no other one resets the directory.
    writing: Arc<OnceLock<File>>,
}

impl LocalCache {
    /// The cache that `selected` names in the directory `root`, which is made when something is written.
    #[must_use]
    pub fn new(root: &Path, selected: Selected) -> Self {
        let name = match &selected {
            Selected::Tag(tag) => tag.clone(),
            Selected::Digest(digest) => digest.to_string(),
        };
        Self {
            label: format!("local cache {} ({name})", root.display()),
            directory: Arc::new(Directory::new(root, &name)),
            selected,
            form: ArtifactForm::default(),
            reset: false,
            writing: Arc::default(),
        }
    }

    /// What is written has that `form`. With `reset`, an export leaves nothing behind that no tag names.
    #[must_use]
    pub fn written_as(self, form: ArtifactForm, reset: bool) -> Self {
        Self { form, reset, ..self }
    }

    fn read(&self, name: Name) -> Result<Option<Document>, RemoteError> {
        let digest = match (&self.selected, name) {
            (Selected::Digest(digest), Name::Latest) => *digest,
            (Selected::Digest(_), _) => return Ok(None),
            (Selected::Tag(tag), Name::Latest) => match self.directory.tagged(tag)? {
                Some(entry) => manifest::digest_of(&entry)?,
                None => return Ok(None),
            },
            (Selected::Tag(_), name) => {
                let bytes = directory::read(&self.directory.document(name), DOCUMENT_LIMIT)?;
                return Ok(bytes.and_then(|bytes| Document::read(&bytes)));
            }
        };
        let bytes = self.directory.blob(&digest, MANIFEST_LIMIT)?;
        // What another program keeps there under that name is no cache of ours.
        let Some(document) = document_in(&bytes, MEDIA_TYPE) else { return Ok(None) };
        let bytes = self.directory.blob(&manifest::digest_of(&document)?, DOCUMENT_LIMIT)?;
        Ok(Document::read(&bytes))
    }

    fn write(&self, name: Name, document: &Document) -> Result<(), RemoteError> {
        self.hold()?;
        let bytes = document.to_bytes().map_err(RemoteError::Write)?;
        let (Selected::Tag(tag), Name::Latest) = (&self.selected, name) else {
            return directory::write(&self.directory.document(name), &mut &*bytes);
        };
        let config = self.put_blob(MEDIA_TYPE, &bytes)?;
        let bytes = self.form.write(&config, &document.blobs())?;
        let entry = self.put_blob(&self.form.media_type(), &bytes)?;
        self.directory.set_tag(tag, entry)
    }

    fn put_blob(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, RemoteError> {
        let digest = Digest::of(bytes);
        directory::write(&self.directory.blob_path(&digest), &mut &*bytes)?;
        Ok(manifest::descriptor(media_type, digest, bytes.len() as u64)?)
    }

    /// Announces that this build writes, until the cache is dropped.
    fn hold(&self) -> Result<(), RemoteError> {
        if self.writing.get().is_none() {
            // Two threads may come here at once: either lock is as good.
            drop(self.writing.set(self.directory.hold()?));
        }
        Ok(())
    }
}

/// Runs work that waits for a disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RemoteError::Cancelled)?
}

impl Backend for LocalCache {
    fn label(&self) -> &str {
        &self.label
    }

    fn document(&self, name: Name) -> Answer<'_, Option<Document>> {
        let this = self.clone();
        Box::pin(blocking(move || this.read(name)))
    }

    fn put_document<'a>(&'a self, name: Name, document: &'a Document) -> Answer<'a, ()> {
        let (this, document) = (self.clone(), document.clone());
        Box::pin(blocking(move || this.write(name, &document)))
    }

    fn fetch<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        let (this, blob, store) = (self.clone(), blob.clone(), store.clone());
        Box::pin(blocking(move || {
            let digest = manifest::digest_of(&blob)?;
            let path = this.directory.blob_path(&digest);
            let mut file = directory::open(&path).map_err(directory::failed("read", &path))?;
            let mut ingest = store.content().ingest(Some((digest, blob.size())))?;
            io::copy(&mut file, &mut ingest).map_err(directory::failed("read", &path))?;
            ingest.commit()?;
            Ok(())
        }))
    }

    fn send<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        let (this, blob, store) = (self.clone(), blob.clone(), store.clone());
        Box::pin(blocking(move || {
            this.hold()?;
            let digest = manifest::digest_of(&blob)?;
            let path = this.directory.blob_path(&digest);
            if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == blob.size()) {
                return Ok(());
            }
            directory::write(&path, &mut store.content().open(&digest)?)
        }))
    }

    fn tidy<'a>(&'a self, kept: &'a [Name]) -> Answer<'a, ()> {
        let (this, kept) = (self.clone(), kept.to_vec());
        Box::pin(blocking(move || match this.writing.get() {
            Some(lock) if this.reset => reset::reset(&this.directory, lock, &kept),
            _ => Ok(()),
        }))
    }
}
