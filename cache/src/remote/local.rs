//! A cache in a directory: documents as files, blobs as in an OCI layout. What is written appears whole or not at
//! all, so several builds may use one directory at once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use oci_spec::image::Descriptor;

use super::{Answer, Backend, DOCUMENT_LIMIT, Document, FORMAT, Name, RemoteError};
use crate::digest::Digest;
use crate::image::manifest;
use crate::store::Store;

/// A directory.
#[derive(Debug)]
pub struct LocalCache {
    label: String,
    root: PathBuf,
    documents: PathBuf,
}

/// Numbers the files that are being written by this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl LocalCache {
    /// The cache `tag` in the directory `root`, which is made when something is written.
    #[must_use]
    pub fn new(root: &Path, tag: &str) -> Self {
        // Any text may be a tag, no text may leave the directory.
        let tag: String =
            tag.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
        let documents = root.join(format!("lapstrake-cache-{FORMAT}")).join(&tag);
        Self { label: format!("local cache {} ({tag})", root.display()), root: root.to_owned(), documents }
    }

    fn document_path(&self, name: Name) -> PathBuf {
        self.documents.join(match name {
            Name::Latest => "latest.json".to_owned(),
            Name::Definition(key) => format!("definitions/{key}.json"),
            Name::Step(key) => format!("steps/{key}.json"),
        })
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RemoteError {
    move |source| RemoteError::File { act, path: path.to_owned(), source }
}

/// A file of at most `limit` bytes; nothing where there is none.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed("read", path))?,
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(Some(bytes))
}

fn write(path: &Path, reader: &mut dyn Read) -> Result<(), RemoteError> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(failed("make directory", parent))?;
    let part = parent.join(format!(".part-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    let written = (|| {
        let mut file = File::create_new(&part)?;
        io::copy(reader, &mut file)?;
        file.flush()?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    })();
    if written.is_err() {
        // Half a file is of no use; where it cannot be removed the first error counts.
        drop(std::fs::remove_file(&part));
    }
    written.map_err(failed("write", path))
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
        let path = self.document_path(name);
        Box::pin(blocking(move || Ok(read(&path, DOCUMENT_LIMIT)?.and_then(|bytes| Document::read(&bytes)))))
    }

    fn put_document<'a>(&'a self, name: Name, document: &'a Document) -> Answer<'a, ()> {
        let path = self.document_path(name);
        Box::pin(async move {
            let bytes = document.to_bytes().map_err(RemoteError::Write)?;
            blocking(move || write(&path, &mut &*bytes)).await
        })
    }

    fn fetch<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        let (size, store) = (blob.size(), store.clone());
        Box::pin(async move {
            let digest = manifest::digest_of(blob)?;
            let path = self.blob_path(&digest);
            let work = move || {
                let mut file = File::open(&path).map_err(failed("read", &path))?;
                let mut ingest = store.content().ingest(Some((digest, size)))?;
                io::copy(&mut file, &mut ingest).map_err(failed("read", &path))?;
                ingest.commit()?;
                Ok(())
            };
            blocking(work).await
        })
    }

    fn send<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        let (size, store) = (blob.size(), store.clone());
        Box::pin(async move {
            let digest = manifest::digest_of(blob)?;
            let path = self.blob_path(&digest);
            let work = move || {
                if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size) {
                    return Ok(());
                }
                write(&path, &mut store.content().open(&digest)?)
            };
            blocking(work).await
        })
    }
}
