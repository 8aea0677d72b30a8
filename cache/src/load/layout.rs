//! One image out of an OCI layout that is a directory (OCI image spec, "Image Layout").

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lap_solver::event::Events;
use lap_solver::platform::Platform;
use oci_spec::image::{Descriptor, ImageIndex};
use rustix::fs::OFlags;

use super::{Contents, Found, INDEX_DEPTH, LoadError, finish};
use crate::fs;
use crate::image::manifest::{self, Document, MANIFEST_LIMIT, annotation};
use crate::image::{Image, ImageError, platform as platforms};
use crate::layer::LayerError;
use crate::names::{IMAGE_NAME, REF_NAME};
use crate::store::Store;

/// Takes the image that `which` (a tag, name or digest) names in the layout at `path`; without a name, the only one
/// or the one called `latest`. It gets no name in the store.
///
/// # Errors
/// Where it is no layout, has no such image, or the image is not sound.
pub fn load_layout(
    store: &Store,
    path: &Path,
    which: Option<&str>,
    platform: &Platform,
    events: &Events,
) -> Result<Image, LoadError> {
    let dir = fs::open_dir(path).map_err(LayerError::from).map_err(ImageError::from)?;
    let layout = Layout { dir: &dir };
    let entry = &entry_of_layout(&layout.read("index.json")?, which)?;
    let mut contents = Contents::default();
    let result = layout.bring(&mut contents, store, platform, entry).and_then(|()| {
        let image = contents.oci_image(store, platform, entry)?;
        let loaded = finish(store, Found { names: Vec::new(), content: image.clone().into() }, events)?;
        Ok((loaded, image))
    });
    contents.forget(store, result.as_ref().map_or(&[][..], |(loaded, _)| std::slice::from_ref(loaded)));
    Ok(result?.1)
}

/// The entry of an `index.json` that `which` names, or the only one.
pub(crate) fn entry_of_layout(index: &[u8], which: Option<&str>) -> Result<Descriptor, LoadError> {
    let malformed = |source| LoadError::Malformed { name: "index.json".to_owned(), source };
    let index: ImageIndex = serde_json::from_slice(index).map_err(malformed)?;
    let wanted = which.map_or("latest", |name| name.strip_prefix('@').unwrap_or(name));
    let named = |entry: &&Descriptor| {
        let called = |name: &str| {
            annotation(entry, name).is_some_and(|text| {
                let tag = text.rsplit_once(':').map(|(_, tag)| tag);
                text == wanted || tag == Some(wanted)
            })
        };
        entry.digest().to_string() == wanted || called(REF_NAME) || called(IMAGE_NAME)
    };
    match (index.manifests().iter().find(named), index.manifests().as_slice()) {
        (Some(entry), _) => Ok(entry.clone()),
        (None, [entry]) if which.is_none() => Ok(entry.clone()),
        _ => Err(LoadError::Missing { name: wanted.to_owned() }),
    }
}

struct Layout<'a> {
    dir: &'a std::os::fd::OwnedFd,
}

impl Layout<'_> {
    /// Links do not lead out of the layout, and nothing but a file is opened.
    fn open(&self, name: &str) -> Result<File, LoadError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match fs::open_in_root(self.dir, name.as_bytes(), flags) {
            Ok(file) => Ok(file.into()),
            Err(_) => Err(LoadError::Missing { name: name.to_owned() }),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, LoadError> {
        let mut bytes = Vec::new();
        self.open(name)?.take(MANIFEST_LIMIT + 1).read_to_end(&mut bytes).map_err(LoadError::Read)?;
        let size = bytes.len() as u64;
        match size > MANIFEST_LIMIT {
            true => Err(LoadError::TooLarge { name: name.to_owned(), size, limit: MANIFEST_LIMIT }),
            false => Ok(bytes),
        }
    }

    /// Brings what an image for `platform` is made of into the store, checked.
    fn bring(
        &self,
        contents: &mut Contents,
        store: &Store,
        platform: &Platform,
        entry: &Descriptor,
    ) -> Result<(), LoadError> {
        let mut entry = entry.clone();
        for _ in 0..=INDEX_DEPTH {
            self.blob(contents, store, &entry)?;
            let raw = contents.blob(store, &entry, MANIFEST_LIMIT)?;
            let announced = entry.media_type().to_string();
            match Document::read(&raw, Some(&announced)).map_err(ImageError::from)? {
                Document::Index(index) => {
                    let none = || LoadError::NoPlatform { wanted: platform.to_string() };
                    entry = platforms::select(index.manifests(), platform).ok_or_else(none)?.clone();
                }
                Document::Manifest(document) => {
                    self.blob(contents, store, document.config())?;
                    for layer in document.layers() {
                        self.blob(contents, store, layer)?;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn blob(&self, contents: &mut Contents, store: &Store, descriptor: &Descriptor) -> Result<(), LoadError> {
        let digest = manifest::digest_of(descriptor).map_err(ImageError::from)?;
        if store.content().has(&digest)?.is_some() {
            return Ok(());
        }
        let name = format!("blobs/sha256/{}", digest.hex());
        let mut blob = store.content().ingest(Some((digest, descriptor.size())))?;
        io::copy(&mut self.open(&name)?, &mut blob).map_err(LoadError::Read)?;
        blob.commit()?;
        contents.new.insert(digest);
        Ok(())
    }
}
