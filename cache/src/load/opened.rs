//! An archive whose blobs are in the store, to be copied from: nothing is unpacked or named.

use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::image::ImageIndex;

use super::layout::entry_of_layout;
use super::{Contents, DockerImage, LoadError, tags};
use crate::image::Reference;
use crate::image::manifest::MANIFEST_LIMIT;
use crate::layer::decompress;
use crate::store::Store;

/// An archive that was read. What it has put into the store goes with it, unless it is kept.
pub(crate) struct Opened {
    store: Store,
    contents: Contents,
    is_kept: AtomicBool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Opened {
    /// Reads an archive, compressed or not.
    pub(crate) fn read(store: &Store, reader: impl Read + Send) -> Result<Self, LoadError> {
        let contents = Contents::default();
        let mut opened = Self { store: store.clone(), contents, is_kept: AtomicBool::new(false) };
        opened.contents.read(store, decompress(reader).map_err(LoadError::Read)?)?;
        Ok(opened)
    }

    /// Where its blobs lie.
    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    /// What came in stays in the store.
    pub(crate) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// The bytes and the media type of the manifest or index that `which` names: a name of OCI's, a tag, a digest, or
    /// `@N` for the image number N; without it, of the only one.
    pub(crate) fn root(&self, which: Option<&str>) -> Result<(Vec<u8>, String), LoadError> {
        let number = which.and_then(|which| which.strip_prefix('@')?.parse::<usize>().ok());
        let docker: Vec<DockerImage> = self.contents.document("manifest.json")?.unwrap_or_default();
        if let Some(text) = self.contents.documents.get("index.json")
            && let Some(index) = self.contents.document::<ImageIndex>("index.json")?
            && !index.manifests().is_empty()
        {
            let entry = match number {
                Some(number) => index.manifests().get(number).cloned().ok_or_else(|| missing(which))?,
                None => {
                    // `app` is `app:latest` to whoever names an image.
                    let normal = which.and_then(|which| which.parse::<Reference>().ok()).map(|name| name.to_string());
                    let by_name = normal.and_then(|name| entry_of_layout(text, Some(&name)).ok());
                    by_name.map_or_else(|| entry_of_layout(text, which), Ok)?
                }
            };
            let raw = self.contents.blob(&self.store, &entry, MANIFEST_LIMIT)?;
            return Ok((raw, entry.media_type().to_string()));
        }
        let by_name = |text: &str| {
            let wanted = text.parse::<Reference>().ok();
            docker.iter().find(|image| tags(image).iter().any(|tag| Some(tag) == wanted.as_ref()))
        };
        let image = match (number, which, docker.as_slice()) {
            (Some(number), _, list) => list.get(number),
            (None, Some(name), _) => by_name(name),
            (None, None, [only]) => Some(only),
            (None, None, []) => return Err(LoadError::NoImages),
            (None, None, _) => None,
        };
        let found = self.contents.docker_image(&self.store, image.ok_or_else(|| missing(which))?)?;
        Ok((found.content.raw().to_vec(), found.content.descriptor().media_type().to_string()))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            self.contents.forget(&self.store, &[]);
        }
    }
}

fn missing(which: Option<&str>) -> LoadError {
    let name = which.unwrap_or("an image without a name (the archive has several: name one)");
    LoadError::Missing { name: name.to_owned() }
}
