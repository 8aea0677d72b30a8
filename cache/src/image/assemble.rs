//! From layers and a config to an image: layer blobs, config blob, manifest blob.
//!
//! A blob is compressed once and remembered ([`super::blobs`]). A layer that came from elsewhere keeps the blob it
//! came in, whatever its compression, and need not be here at all as long as it is known where to fetch it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lap_solver::event::{Action, Event, Events};
use lap_solver::image::ImageConfig;
use oci_spec::image::{Descriptor, MediaType};

use super::blobs::KnownBlob;
use super::compress::Compression;
use super::estargz::{self, EstargzError};
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

impl AssembleOptions {
    /// Those that give an image's manifest its family and annotations again.
    #[must_use]
    pub fn like(image: &Image) -> Self {
        Self {
            docker_media_types: image.descriptor.media_type().as_ref() == docker::MANIFEST,
            annotations: image.manifest.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
            ..Self::default()
        }
    }
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
    config.rootfs.diff_ids = blobs.iter().map(|blob| blob.diff_id.to_string()).collect();
    let raw_config = serde_json::to_vec(&config).map_err(|source| ImageError::Write { what: "config", source })?;
    wrap(store, &blobs, raw_config, options)
}

/// The same image with every layer made here as a blob in the store ([`Blobs::Deferred`] leaves that open). Its config
/// stays as it is, to the byte, so the compression must be one that keeps diff IDs (not eStargz); an image that has
/// nothing deferred stays as it is altogether.
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

/// The same image with every layer compressed by `compression`, which must be one that keeps diff IDs (not eStargz); a
/// layer that is compressed so already stays as it is, at whatever level. The config stays, to the byte, and so do the
/// manifest's annotations. Blobs of layers that came from elsewhere must be in the store.
///
/// # Errors
/// As [`assemble`].
pub fn recompressed(
    store: &Store,
    image: &Image,
    compression: Compression,
    events: &Events,
) -> Result<Image, ImageError> {
    let mut options = AssembleOptions { compression, force: true, ..AssembleOptions::like(image) };
    // Docker's schema 2 has no zstd.
    options.docker_media_types &= !matches!(compression, Compression::Zstd(_));
    let layers: Vec<Digest> = image.diff_ids().collect();
    wrap(store, &layer_blobs(store, &layers, &options, events)?, image.raw_config.clone(), &options)
}

/// A layer in an image: its blob, and what gunzip and its like give of it.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: Digest,
}

/// Writes the manifest over a config and layer blobs.
fn wrap(store: &Store, blobs: &[Blob], raw_config: Vec<u8>, options: &AssembleOptions) -> Result<Image, ImageError> {
    let layers: Vec<Descriptor> =
        blobs.iter().map(|blob| in_family(&blob.descriptor, options.docker_media_types)).collect::<Result<_, _>>()?;
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
) -> Result<Vec<Blob>, ImageError> {
    let distinct: Vec<Digest> = layers.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let done: Mutex<BTreeMap<Digest, Blob>> = Mutex::default();
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
fn described(store: &Store, diff_id: &Digest, options: &AssembleOptions, events: &Events) -> Result<Blob, ImageError> {
    if let Some(layer) = store.layer(diff_id)?
        && store.gives_tar(diff_id)?
        && store.layer_blobs(diff_id)?.iter().all(|blob| blob.diff_id.is_some())
    {
        let media_type = Compression::Uncompressed.media_type(false);
        let descriptor = manifest::descriptor(&media_type, *diff_id, layer.tar_size)?;
        return Ok(Blob { descriptor, diff_id: *diff_id });
    }
    layer_blob(store, diff_id, options, events)
}

/// The blob of a layer: one that is known, or made now.
pub(crate) fn layer_blob(
    store: &Store,
    diff_id: &Digest,
    options: &AssembleOptions,
    events: &Events,
) -> Result<Blob, ImageError> {
    let compression = options.compression;
    let known = store.layer_blobs(diff_id)?;
    let key = compression.key();
    for blob in known.iter().filter(|blob| blob.made_by.as_ref() == Some(&key)) {
        if is_here(store, blob)? {
            let descriptor = blob.descriptor.clone();
            return Ok(Blob { descriptor, diff_id: blob.diff_id.unwrap_or(*diff_id) });
        }
    }
    let taken = |blob: &KnownBlob| Ok(Blob { descriptor: blob.descriptor.clone(), diff_id: *diff_id });
    let received = || known.iter().filter(|blob| blob.made_by.is_none());
    if options.force && received().next().is_some() {
        for blob in received().filter(|blob| is_compressed_by(&blob.descriptor, compression)) {
            if !blob.origins.is_empty() || is_here(store, blob)? {
                return taken(blob);
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
            return taken(blob);
        }
    }
    for blob in received() {
        if is_here(store, blob)? {
            return match compression {
                Compression::Uncompressed => taken(blob),
                _ => make_blob(store, diff_id, Some(blob), compression, events),
            };
        }
    }
    if let Some(blob) = received().find(|blob| !blob.origins.is_empty()) {
        return taken(blob);
    }
    make_blob(store, diff_id, None, compression, events)
}

/// A blob of a layer that was made here, from its directory.
pub(crate) fn own_blob(store: &Store, diff_id: &Digest, compression: Compression) -> Result<Descriptor, ImageError> {
    Ok(make_blob(store, diff_id, None, compression, &Events::none())?.descriptor)
}

fn is_here(store: &Store, blob: &KnownBlob) -> Result<bool, ImageError> {
    let size = store.content().has(&manifest::digest_of(&blob.descriptor)?)?;
    Ok(size == Some(blob.descriptor.size()))
}

/// Whether a blob is what a compression would make of its layer. An eStargz is gzip too.
fn is_compressed_by(descriptor: &Descriptor, compression: Compression) -> bool {
    let media_type = descriptor.media_type().as_ref();
    match compression {
        Compression::Uncompressed => !is_compressed(descriptor),
        Compression::Gzip(_) => media_type.ends_with("gzip"),
        Compression::Estargz(_) => manifest::annotation(descriptor, estargz::TOC_DIGEST).is_some(),
        Compression::Zstd(_) => media_type.ends_with("zstd"),
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
) -> Result<Blob, ImageError> {
    let total = store.layer(diff_id)?.map(|layer| layer.tar_size);
    if received.is_none() && total.is_none() {
        return Err(ImageError::LayerMissing { diff_id: *diff_id });
    }
    let mut report = Report { id: diff_id.to_string(), done: 0, reported: 0, total, events };
    if let Compression::Estargz(level) = compression {
        return make_estargz(store, diff_id, received, level, report);
    }
    let failed = |source| ImageError::Compress { diff_id: *diff_id, source };
    let output = store.content().ingest(None)?;
    let compressor = compression.writer(output).map_err(failed)?;
    let mut input = Sha256Stream::new(Reporting { inner: compressor, report: &mut report });
    match received {
        Some(blob) => {
            let file = store.content().open(&manifest::digest_of(&blob.descriptor)?)?;
            let mut tar = crate::layer::decompress(file).map_err(failed)?;
            copy(&mut tar, &mut input).map_err(failed)?;
        }
        None => own_tar(store, diff_id, &mut input)?,
    }
    let (Reporting { inner, .. }, actual, _) = input.finish();
    if actual != *diff_id {
        return Err(LayerError::WrongDiffId { expected: *diff_id, actual }.into());
    }
    let (digest, size) = inner.finish().map_err(failed)?.commit()?;
    report.finish();
    let descriptor = manifest::descriptor(&compression.media_type(false), digest, size)?;
    let blob = KnownBlob { made_by: Some(compression.key()), ..KnownBlob::of(descriptor.clone()) };
    store.remember_blob(diff_id, blob)?;
    Ok(Blob { descriptor, diff_id: *diff_id })
}

fn own_tar(store: &Store, diff_id: &Digest, output: impl Write + Send) -> Result<(), ImageError> {
    match store.write_tar(diff_id, output) {
        Err(LayerError::Foreign { diff_id }) => Err(ImageError::NotReproducible { diff_id }),
        result => Ok(result.map(drop)?),
    }
}

/// The same as an eStargz, which has a diff ID of its own: as a layer by itself it is one that came from elsewhere.
fn make_estargz(
    store: &Store,
    layer: &Digest,
    received: Option<&KnownBlob>,
    level: u32,
    mut report: Report<'_>,
) -> Result<Blob, ImageError> {
    let compression = Compression::Estargz(level);
    let failed = |source| ImageError::Compress { diff_id: *layer, source };
    let refused = |source| ImageError::Estargz { diff_id: *layer, source };
    let mut output = store.content().ingest(None)?;
    let written = match received {
        Some(blob) => {
            let file = store.content().open(&manifest::digest_of(&blob.descriptor)?)?;
            let tar = crate::layer::decompress(file).map_err(failed)?;
            let tar = Reporting { inner: tar, report: &mut report };
            estargz::write(tar, &mut output, level).map_err(refused)?
        }
        None => {
            let (reader, writer) = estargz::pipe();
            let reader = Reporting { inner: reader, report: &mut report };
            std::thread::scope(|scope| {
                let made = scope.spawn(move || own_tar(store, layer, BufWriter::with_capacity(1 << 18, writer)));
                // Its end closes the pipe, so that a maker that is ahead of it ends too.
                let written = estargz::write(reader, &mut output, level);
                let made = made.join().unwrap_or_else(|_| Err(failed(io::ErrorKind::Other.into())));
                // A maker that gave up makes the reader fail too, and the other way round: the cause comes first.
                match (written, made) {
                    (Ok(written), made) => made.map(|()| written),
                    (Err(EstargzError::Io(_) | EstargzError::Archive(_)), Err(error)) => Err(error),
                    (Err(error), _) => Err(refused(error)),
                }
            })?
        }
    };
    if written.layer != *layer {
        return Err(LayerError::WrongDiffId { expected: *layer, actual: written.layer }.into());
    }
    let (digest, size) = output.commit()?;
    report.finish();
    let descriptor = manifest::descriptor(&compression.media_type(false), digest, size)?;
    let descriptor = manifest::annotated(
        descriptor,
        &BTreeMap::from([
            (estargz::TOC_DIGEST.to_owned(), written.toc.to_string()),
            (estargz::UNCOMPRESSED_SIZE.to_owned(), written.uncompressed.to_string()),
        ]),
    );
    let diff_id = written.diff_id;
    let known = KnownBlob::of(descriptor.clone());
    store.remember_blob(&diff_id, known.clone())?;
    let made_by = Some(compression.key());
    store.remember_blob(layer, KnownBlob { made_by, diff_id: Some(diff_id), ..known })?;
    Ok(Blob { descriptor, diff_id })
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

/// The same blob under the media type of the manifest's family, without what its former manifest said about it, but for
/// how an eStargz is read.
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
    let descriptor = manifest::descriptor(&compression.media_type(docker_types), digest, blob.size())?;
    let kept = |key: &str| Some((key.to_owned(), manifest::annotation(blob, key)?.to_owned()));
    // Docker's manifests have no annotations.
    let kept = [estargz::TOC_DIGEST, estargz::UNCOMPRESSED_SIZE].into_iter().filter(|_| !docker_types).filter_map(kept);
    Ok(manifest::annotated(descriptor, &kept.collect()))
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

/// Tells how many bytes went through.
struct Reporting<'a, 'b, T> {
    inner: T,
    report: &'a mut Report<'b>,
}

impl<R: Read> Read for Reporting<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.report.add(count);
        Ok(count)
    }
}

impl<W: Write> Write for Reporting<'_, '_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.report.add(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
