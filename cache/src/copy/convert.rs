//! Another form for manifests: other media types, other compression. Configs stay as they are, byte for byte, so an image
//! keeps its ID; what is not to be changed keeps its digest.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;

use oci_spec::image::{Descriptor, MediaType};
use serde_json::Value;

use super::source::{Item, Source};
use super::verified::Verified;
use super::{CopyError, Format, Options, Recompress};
use crate::digest::Digest;
use crate::image::index::REFERENCE_DIGEST;
use crate::image::manifest::{self, Document, docker};
use crate::image::{Compression, ImageError};
use crate::layer::decompress;
use crate::store::{Store, lock};

/// Blobs that were made for a copy. They lie in the store and go with this, unless they are kept.
#[derive(Debug)]
pub(super) struct Made {
    store: Option<Store>,
    /// With their sizes.
    blobs: BTreeMap<Digest, u64>,
    /// Those that were not there before.
    new: Mutex<Vec<Digest>>,
}

impl Made {
    pub(super) fn new(store: Option<&Store>) -> Self {
        Self { store: store.cloned(), blobs: BTreeMap::new(), new: Mutex::default() }
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    pub(super) fn open(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, CopyError> {
        match (&self.store, self.blobs.get(digest)) {
            (Some(store), Some(size)) => Ok(Box::new(Verified::new(store.content().open(digest)?, *digest, *size))),
            _ => Err(CopyError::Blob { digest: *digest, source: io::ErrorKind::NotFound.into() }),
        }
    }

    pub(super) fn keep(&self) {
        lock(&self.new).clear();
    }

    /// Compresses a layer anew.
    fn layer(&mut self, source: &Source, layer: &Descriptor, with: Compression) -> Result<(Digest, u64), CopyError> {
        let digest = manifest::digest_of(layer).map_err(ImageError::from)?;
        let failed = |source| CopyError::Blob { digest, source };
        let Some(store) = &self.store else { return Err(failed(io::ErrorKind::Unsupported.into())) };
        let plain = decompress(source.open(layer)?).map_err(failed)?;
        // As far as any layer may unpack.
        let mut plain = plain.take(crate::archive::Limits::default().bytes);
        let mut writer = with.writer(store.content().ingest(None)?).map_err(failed)?;
        io::copy(&mut plain, &mut writer).map_err(failed)?;
        let blob = writer.finish().map_err(failed)?;
        let is_new = store.content().has(&blob.digest())?.is_none();
        let (digest, size) = blob.commit()?;
        if is_new {
            lock(&self.new).push(digest);
        }
        self.blobs.insert(digest, size);
        Ok((digest, size))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(store) = &self.store else { return };
        for digest in lock(&self.new).drain(..) {
            drop(store.content().remove(&digest));
        }
    }
}

/// Converts documents, those below first.
pub(super) fn apply(
    source: &Source,
    root: Item,
    below: Vec<Item>,
    options: &Options,
    made: &mut Made,
) -> Result<(Item, Vec<Item>), CopyError> {
    if options.format.is_none() && options.recompress == Recompress::Keep {
        return Ok((root, below));
    }
    let mut changed: BTreeMap<String, Descriptor> = BTreeMap::new();
    let mut done = Vec::with_capacity(below.len());
    let mut convert = |item: Item| -> Result<Item, CopyError> {
        let new = match &item.document {
            Document::Manifest(_) => manifest_in(source, &item, options, made)?,
            Document::Index(_) => index_in(&item, options, &changed)?,
        };
        if new.digest != item.digest {
            if options.preserve_digests {
                let why = if options.format.is_some() {
                    "another format was asked for"
                } else {
                    "its layers would be compressed"
                };
                return Err(CopyError::Changed { digest: item.digest, why });
            }
            changed.insert(item.digest.to_string(), new.descriptor.clone());
        }
        Ok(new)
    };
    for item in below {
        done.push(convert(item)?);
    }
    Ok((convert(root)?, done))
}

fn manifest_in(source: &Source, item: &Item, options: &Options, made: &mut Made) -> Result<Item, CopyError> {
    let Document::Manifest(document) = &item.document else { return Ok(item.clone()) };
    let is_image = [MediaType::ImageConfig.as_ref(), docker::CONFIG].contains(&document.config().media_type().as_ref());
    let refuse = |why: String| CopyError::Form { digest: item.digest, why };
    let was_docker = item.descriptor.media_type().as_ref() == docker::MANIFEST;
    let to_docker = options.format.map_or(was_docker, |format| format == Format::Docker);
    if !is_image {
        return match options.format {
            Some(Format::Docker) => Err(refuse("it is no image, and Docker's form is for images".to_owned())),
            _ => Ok(item.clone()),
        };
    }
    let mut value: Value = read(item)?;
    let mut layers = Vec::new();
    for layer in document.layers() {
        let mut entry = serde_json::to_value(layer).map_err(write)?;
        let kind = Kind::of(layer.media_type().as_ref());
        let wanted = match (options.recompress, kind) {
            (Recompress::All(with), Some(kind)) if Kind::by(with) != kind => Some(with),
            (Recompress::Plain(with), Some(Kind::Plain)) => Some(with),
            _ => None,
        };
        let kind = match wanted {
            Some(with) => {
                let (digest, size) = made.layer(source, layer, with)?;
                entry = serde_json::json!({"digest": digest.to_string(), "size": size});
                Some(Kind::by(with))
            }
            None => kind,
        };
        match kind {
            Some(Kind::Zstd) if to_docker => return Err(refuse("Docker's form has no layers of zstd".to_owned())),
            Some(kind) => entry["mediaType"] = kind.media_type(to_docker).into(),
            None if options.format == Some(Format::Docker) => {
                return Err(refuse(format!(
                    "Docker's form has no layers of type {:?}",
                    layer.media_type().to_string()
                )));
            }
            None => {}
        }
        layers.push(entry);
    }
    value["layers"] = layers.into();
    let (config, own) = match to_docker {
        true => (docker::CONFIG.to_owned(), docker::MANIFEST.to_owned()),
        false => (MediaType::ImageConfig.to_string(), MediaType::ImageManifest.to_string()),
    };
    if options.format.is_some() {
        value["config"]["mediaType"] = config.into();
        value["mediaType"] = own.into();
        if to_docker && let Some(object) = value.as_object_mut() {
            // Schema 2 knows neither.
            object.remove("annotations");
            object.remove("artifactType");
            object.remove("subject");
        }
    }
    rewritten(item, &value)
}

fn index_in(item: &Item, options: &Options, changed: &BTreeMap<String, Descriptor>) -> Result<Item, CopyError> {
    let mut value: Value = read(item)?;
    for entry in value["manifests"].as_array_mut().into_iter().flatten() {
        if let Some(new) = entry["digest"].as_str().and_then(|digest| changed.get(digest)) {
            entry["digest"] = new.digest().to_string().into();
            entry["size"] = new.size().into();
            entry["mediaType"] = new.media_type().to_string().into();
        }
        let subject = entry.get_mut("annotations").and_then(|annotations| annotations.get_mut(REFERENCE_DIGEST));
        if let Some(subject) = subject
            && let Some(new) = subject.as_str().and_then(|digest| changed.get(digest))
        {
            *subject = new.digest().to_string().into();
        }
    }
    match options.format {
        Some(Format::Docker) => {
            value["mediaType"] = docker::INDEX.into();
            if let Some(object) = value.as_object_mut() {
                object.remove("annotations");
            }
        }
        Some(Format::Oci) => value["mediaType"] = MediaType::ImageIndex.to_string().into(),
        None => {}
    }
    rewritten(item, &value)
}

/// The item again where nothing has changed, else one of new bytes.
fn rewritten(item: &Item, value: &Value) -> Result<Item, CopyError> {
    if *value == read(item)? {
        return Ok(item.clone());
    }
    Item::read(manifest::canonical_json(value).map_err(write)?, None)
}

fn read(item: &Item) -> Result<Value, CopyError> {
    serde_json::from_slice(&item.bytes).map_err(write)
}

fn write(source: serde_json::Error) -> CopyError {
    ImageError::Write { what: "manifest", source }.into()
}

/// What a layer's media type says of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Gzip,
    Zstd,
}

impl Kind {
    /// Nothing for what is no layer, or may not be changed.
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            docker::LAYER => Some(Self::Plain),
            docker::LAYER_GZIP => Some(Self::Gzip),
            other if other == MediaType::ImageLayer.as_ref() => Some(Self::Plain),
            other if other == MediaType::ImageLayerGzip.as_ref() => Some(Self::Gzip),
            other if other == MediaType::ImageLayerZstd.as_ref() => Some(Self::Zstd),
            _ => None,
        }
    }

    const fn by(compression: Compression) -> Self {
        match compression {
            Compression::Uncompressed => Self::Plain,
            Compression::Gzip(_) | Compression::Estargz(_) => Self::Gzip,
            Compression::Zstd(_) => Self::Zstd,
        }
    }

    fn media_type(self, docker_types: bool) -> String {
        match self {
            Self::Plain => Compression::Uncompressed.media_type(docker_types),
            Self::Gzip => Compression::GZIP.media_type(docker_types),
            Self::Zstd => Compression::ZSTD.media_type(docker_types),
        }
    }
}
