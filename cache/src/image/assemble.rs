//! From layers and a config to an image: layer blobs, config blob, manifest blob.
//!
//! A blob is compressed once and remembered ([`super::blobs`]). A layer that came from elsewhere keeps the blob it
//! came in, whatever its compression, and need not be here at all as long as it is known where to fetch it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lap_solver::event::{Action, Event, Events};
use lap_solver::image::ImageConfig;
use oci_spec::image::{Descriptor, MediaType};

use super::blobs::KnownBlob;
use super::compress::Compression;
use super::manifest::{self, docker};
use super::{Image, ImageError};
use crate::digest::{Digest, Sha256Stream};
use crate::layer::LayerError;
use crate::store::{Store, lock};

/// How an image is put together.
#[derive(Debug, Clone, Default)]
pub struct AssembleOptions {
    /// Of layers that are made here.
    pub compression: Compression,
    /// Whether layers that came from elsewhere in another compression are compressed anew too. Their blobs must be in
    /// the store.
    pub force: bool,
    /// Docker's schema 2 instead of OCI media types.
    pub docker_media_types: bool,
    /// Of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// When blobs of layers that were made here come into being.
    pub blobs: Blobs,
}

/// When layer blobs are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Blobs {
    /// At once.
    #[default]
    Written,
    /// When an export or a push asks for them: until then a layer made here is described as the uncompressed tar that
    /// its directory gives at any time.
    Deferred,
}

/// Makes an image of `layers` (diff IDs, lowest first) and `config`, whose `rootfs` is filled in; its `history` is
/// taken as it is. Manifest and config are put into the store, and so are layer blobs that had to be made.
///
/// # Errors
/// Where a layer is neither here nor known to be elsewhere, or its blob cannot be made.
pub fn assemble(
    store: &Store,
    layers: &[Digest],
    mut config: ImageConfig,
    options: &AssembleOptions,
    events: &Events,
) -> Result<Image, ImageError> {
    let blobs = match options.blobs {
        Blobs::Written => layer_blobs(store, layers, options, events)?,
        Blobs::Deferred => {
            let blob = |diff_id| described(store, diff_id, options, events);
            layers.iter().map(blob).collect::<Result<_, _>>()?
        }
    };
    config.rootfs.diff_ids = layers.iter().map(Digest::to_string).collect();
    let raw_config = serde_json::to_vec(&config).map_err(|source| ImageError::Write { what: "config", source })?;
    wrap(store, &blobs, raw_config, options)
}

/// The same image with every layer made here as a blob in the store ([`Blobs::Deferred`] leaves that open). Its config
/// stays as it is, to the byte; an image that has nothing deferred stays as it is altogether.
///
/// # Errors
/// As [`assemble`].
pub fn written(store: &Store, image: &Image, options: &AssembleOptions, events: &Events) -> Result<Image, ImageError> {
    let mut deferred = false;
    for layer in &image.layers {
        deferred |= layer.digest == layer.diff_id
            && store.content().has(&layer.digest)?.is_none()
            && store.gives_tar(&layer.diff_id)?;
    }
    if !deferred {
        return Ok(image.clone());
    }
    let layers: Vec<Digest> = image.diff_ids().collect();
    wrap(store, &layer_blobs(store, &layers, options, events)?, image.raw_config.clone(), options)
}

/// Writes the manifest over a config and layer blobs.
fn wrap(
    store: &Store,
    blobs: &[Descriptor],
    raw_config: Vec<u8>,
    options: &AssembleOptions,
) -> Result<Image, ImageError> {
    let layers: Vec<Descriptor> =
        blobs.iter().map(|blob| in_family(blob, options.docker_media_types)).collect::<Result<_, _>>()?;
    let (manifest_type, config_type) = match options.docker_media_types {
        true => (docker::MANIFEST.to_owned(), docker::CONFIG.to_owned()),
        false => (MediaType::ImageManifest.to_string(), MediaType::ImageConfig.to_string()),
    };
    let config_descriptor = manifest::descriptor(&config_type, Digest::of(&raw_config), raw_config.len() as u64)?;
    let write = |source| ImageError::Write { what: "manifest", source };
    let mut document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": serde_json::to_value(config_descriptor).map_err(write)?,
        "layers": serde_json::to_value(layers).map_err(write)?,
    });
    if !options.annotations.is_empty() {
        document["annotations"] = serde_json::to_value(&options.annotations).map_err(write)?;
    }
    let raw_manifest = manifest::canonical_json(&document).map_err(write)?;

    let image = Image::read(raw_manifest, Some(&manifest_type), raw_config)?;
    store.put_image(&image)?;
    Ok(image)
}

/// The blob of each layer; those that are missing are made side by side. Equal layers are made once.
fn layer_blobs(
    store: &Store,
    layers: &[Digest],
    options: &AssembleOptions,
    events: &Events,
) -> Result<Vec<Descriptor>, ImageError> {
    let distinct: Vec<Digest> = layers.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let done: Mutex<BTreeMap<Digest, Descriptor>> = Mutex::default();
    let failed: Mutex<Option<ImageError>> = Mutex::default();
    let next = AtomicUsize::new(0);
    // Threads of their own, not rayon's: each waits for the pool, which compresses its blocks.
    let work = || {
        while let Some(diff_id) = distinct.get(next.fetch_add(1, Ordering::Relaxed)) {
            match layer_blob(store, diff_id, options, events) {
                Ok(blob) => drop(lock(&done).insert(*diff_id, blob)),
                Err(error) => {
                    next.store(distinct.len(), Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..distinct.len().min(rayon::current_num_threads()) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let done = lock(&done);
    let find = |diff_id: &Digest| done.get(diff_id).cloned().ok_or(ImageError::LayerMissing { diff_id: *diff_id });
    layers.iter().map(find).collect()
}

/// A blob that exists already, or what the layer's own tar would be.
fn described(
    store: &Store,
    diff_id: &Digest,
    options: &AssembleOptions,
    events: &Events,
) -> Result<Descriptor, ImageError> {
    if let Some(layer) = store.layer(diff_id)?
        && store.gives_tar(diff_id)?
        && store.layer_blobs(diff_id)?.is_empty()
    {
        return Ok(manifest::descriptor(&Compression::Uncompressed.media_type(false), *diff_id, layer.tar_size)?);
    }
    layer_blob(store, diff_id, options, events)
}

/// The blob of a layer: one that is known, or made now.
pub(crate) fn layer_blob(
    store: &Store,
    diff_id: &Digest,
    options: &AssembleOptions,
    events: &Events,
) -> Result<Descriptor, ImageError> {
    let compression = options.compression;
    let known = store.layer_blobs(diff_id)?;
    let key = compression.key();
    for blob in known.iter().filter(|blob| blob.made_by.as_ref() == Some(&key)) {
        if is_here(store, blob)? {
            return Ok(blob.descriptor.clone());
        }
    }
    let received = || known.iter().filter(|blob| blob.made_by.is_none());
    if options.force && received().next().is_some() {
        let wanted = |blob: &&KnownBlob| compression_of(&blob.descriptor) == compression.to_string();
        for blob in received().filter(wanted) {
            if !blob.origins.is_empty() || is_here(store, blob)? {
                return Ok(blob.descriptor.clone());
            }
        }
        for blob in received() {
            if is_here(store, blob)? {
                return make_blob(store, diff_id, Some(blob), compression, events);
            }
        }
    }
    for blob in received().filter(|blob| is_compressed(&blob.descriptor)) {
        if !blob.origins.is_empty() || is_here(store, blob)? {
            return Ok(blob.descriptor.clone());
        }
    }
    for blob in received() {
        if is_here(store, blob)? {
            return match compression {
                Compression::Uncompressed => Ok(blob.descriptor.clone()),
                _ => make_blob(store, diff_id, Some(blob), compression, events),
            };
        }
    }
    if let Some(blob) = received().find(|blob| !blob.origins.is_empty()) {
        return Ok(blob.descriptor.clone());
    }
    make_blob(store, diff_id, None, compression, events)
}

/// A blob of a layer that was made here, from its directory.
pub(crate) fn own_blob(store: &Store, diff_id: &Digest, compression: Compression) -> Result<Descriptor, ImageError> {
    make_blob(store, diff_id, None, compression, &Events::none())
}

fn is_here(store: &Store, blob: &KnownBlob) -> Result<bool, ImageError> {
    let size = store.content().has(&manifest::digest_of(&blob.descriptor)?)?;
    Ok(size == Some(blob.descriptor.size()))
}

/// The name of the compression that a media type tells.
fn compression_of(descriptor: &Descriptor) -> &'static str {
    let media_type = descriptor.media_type().as_ref();
    match () {
        () if media_type.ends_with("gzip") => "gzip",
        () if media_type.ends_with("zstd") => "zstd",
        () => "uncompressed",
    }
}

fn is_compressed(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type().as_ref();
    ["gzip", "zstd"].iter().any(|kind| media_type.ends_with(kind))
}

/// Compresses a layer, from the blob it came in where there is one, from its directory else.
fn make_blob(
    store: &Store,
    diff_id: &Digest,
    received: Option<&KnownBlob>,
    compression: Compression,
    events: &Events,
) -> Result<Descriptor, ImageError> {
    let total = store.layer(diff_id)?.map(|layer| layer.tar_size);
    if received.is_none() && total.is_none() {
        return Err(ImageError::LayerMissing { diff_id: *diff_id });
    }
    let failed = |source| ImageError::Compress { diff_id: *diff_id, source };
    let output = store.content().ingest(None)?;
    let report = Report { id: diff_id.to_string(), done: 0, reported: 0, total, events };
    let compressor = compression.writer(output).map_err(failed)?;
    let mut input = Sha256Stream::new(Reporting { inner: compressor, report });
    match received {
        Some(blob) => {
            let file = store.content().open(&manifest::digest_of(&blob.descriptor)?)?;
            let mut tar = crate::layer::decompress(file).map_err(failed)?;
            copy(&mut tar, &mut input).map_err(failed)?;
        }
        None => match store.write_tar(diff_id, &mut input) {
            Err(LayerError::Foreign { diff_id }) => return Err(ImageError::NotReproducible { diff_id }),
            result => drop(result?),
        },
    }
    let (Reporting { inner, mut report }, actual, _) = input.finish();
    if actual != *diff_id {
        return Err(LayerError::WrongDiffId { expected: *diff_id, actual }.into());
    }
    let (digest, size) = inner.finish().map_err(failed)?.commit()?;
    report.finish();
    let descriptor = manifest::descriptor(&compression.media_type(false), digest, size)?;
    let made_by = Some(compression.key());
    store.remember_blob(diff_id, KnownBlob { descriptor: descriptor.clone(), made_by, origins: BTreeSet::new() })?;
    Ok(descriptor)
}

fn copy(reader: &mut impl Read, writer: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => writer.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The same blob under the media type of the manifest's family, without what its former manifest said about it.
fn in_family(blob: &Descriptor, docker_types: bool) -> Result<Descriptor, ImageError> {
    let media_type = blob.media_type().as_ref();
    let compression = match media_type {
        _ if media_type.ends_with("gzip") => Compression::GZIP,
        _ if media_type.ends_with("zstd") => Compression::ZSTD,
        _ => Compression::Uncompressed,
    };
    // A layer that may not be distributed keeps its type and its addresses.
    if manifest::is_foreign(blob) {
        return Ok(blob.clone());
    }
    let digest = manifest::digest_of(blob)?;
    Ok(manifest::descriptor(&compression.media_type(docker_types), digest, blob.size())?)
}

struct Report<'a> {
    id: String,
    done: u64,
    reported: u64,
    total: Option<u64>,
    events: &'a Events,
}

impl Report<'_> {
    fn send(&mut self, done: bool) {
        self.reported = self.done;
        let (id, current, total) = (self.id.clone(), self.done, self.total);
        self.events.send(Event::Progress { id, action: Action::Export, vertex: None, current, total, done });
    }

    fn add(&mut self, count: usize) {
        self.done += count as u64;
        if self.done - self.reported >= 1 << 20 {
            self.send(false);
        }
    }

    fn finish(&mut self) {
        self.send(true);
    }
}

struct Reporting<'a, W> {
    inner: W,
    report: Report<'a>,
}

impl<W: Write> Write for Reporting<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.report.add(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
