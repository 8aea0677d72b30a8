//! Images: their names, documents, layers, and how they are put together.
//!
//! An [`Image`] is an immutable view of a manifest and its config, both kept as the very bytes whose digests count.
//! Its layers need not be there: an image that a build only starts from is known by manifest and config alone, and
//! its layers are fetched when a step needs their files.

pub mod artifact;
pub mod assemble;
pub mod attest;
pub mod blobs;
pub mod compare;
pub mod compress;
pub mod estargz;
pub mod index;
pub mod manifest;
pub mod platform;
pub mod reference;

use lap_solver::image::ImageConfig;
use lap_solver::platform::Platform;
use oci_spec::image::{Descriptor, ImageManifest};

use crate::archive::Limits;
use crate::content::ContentError;
use crate::digest::Digest;
use crate::layer::LayerError;
use crate::store::{Store, StoreError};

pub use assemble::{AssembleOptions, Blobs, assemble, recompressed, written};
pub use compress::Compression;
pub use index::{Artifact, Index};
pub use manifest::{Document, ManifestError};
pub use reference::Reference;

/// One image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// Of the manifest; media type, digest and size.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The manifest's bytes.
    pub raw_manifest: Vec<u8>,
    /// The config.
    pub config: ImageConfig,
    /// The config's bytes.
    pub raw_config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<ImageLayer>,
    digest: Digest,
    id: Digest,
}

/// A layer of an image.
#[derive(Debug, Clone)]
pub struct ImageLayer {
    /// Of the blob, compressed or not.
    pub descriptor: Descriptor,
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// Why an image cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The manifest is no good.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The config is not JSON of the right shape.
    #[error("image config {digest} is malformed")]
    Config {
        /// Of the config.
        digest: Digest,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The config is larger than any config has reason to be.
    #[error("image config {digest} has {size} bytes, the limit is {}", manifest::CONFIG_LIMIT)]
    ConfigTooLarge {
        /// Of the config.
        digest: Digest,
        /// Announced size in bytes.
        size: u64,
    },
    /// Config and manifest disagree about the number of layers.
    #[error("the manifest has {layers} layers, the config {diff_ids} diff IDs")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// A diff ID that is no sha256 digest.
    #[error("diff ID {number} of the config is {text:?}, not a sha256 digest")]
    DiffId {
        /// Counted from zero.
        number: usize,
        /// What stands there.
        text: String,
    },
    /// An index where a single image was asked for.
    #[error("{digest} is an index of several images, not an image")]
    IsAnIndex {
        /// Of the document.
        digest: Digest,
    },
    /// An index that has nothing for a platform.
    #[error("{digest} is an index without an image for {wanted}")]
    NoPlatform {
        /// Of the index.
        digest: Digest,
        /// The platform.
        wanted: Platform,
    },
    /// A layer that cannot be had from anywhere.
    #[error("layer {diff_id} is not in the store, and where to fetch it from is not known")]
    LayerMissing {
        /// The layer.
        diff_id: Digest,
    },
    /// A layer whose tar cannot be made again bit for bit, and whose blob is gone.
    #[error("layer {diff_id} came from elsewhere, and its blob is no longer in the store")]
    NotReproducible {
        /// The layer.
        diff_id: Digest,
    },
    /// A document of ours has no JSON form.
    #[error("write the {what} of an image")]
    Write {
        /// Manifest, config or index.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Reading or writing a blob failed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer could not be read or unpacked.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A layer cannot be written as an eStargz.
    #[error("write layer {diff_id} as an eStargz")]
    Estargz {
        /// The layer.
        diff_id: Digest,
        /// Why.
        source: estargz::EstargzError,
    },
    /// Compressing a layer failed.
    #[error("compress layer {diff_id}")]
    Compress {
        /// The layer.
        diff_id: Digest,
        /// Why.
        source: std::io::Error,
    },
}

impl Image {
    /// Puts an image together from verified bytes; `announced` is the manifest's media type where one was told.
    ///
    /// # Errors
    /// Where a document is malformed, or they do not fit each other.
    pub fn read(raw_manifest: Vec<u8>, announced: Option<&str>, raw_config: Vec<u8>) -> Result<Self, ImageError> {
        let digest = Digest::of(&raw_manifest);
        let Document::Manifest(manifest) = Document::read(&raw_manifest, announced)? else {
            return Err(ImageError::IsAnIndex { digest });
        };
        let id = manifest::digest_of(manifest.config())?;
        let config: ImageConfig =
            serde_json::from_slice(&raw_config).map_err(|source| ImageError::Config { digest: id, source })?;
        let layers = pair_layers(&manifest, &config)?;
        let media_type = match (manifest.media_type(), announced) {
            (Some(inside), _) => inside.to_string(),
            (None, Some(announced)) if manifest::is_manifest(announced) => announced.to_owned(),
            (None, _) => oci_spec::image::MediaType::ImageManifest.to_string(),
        };
        let descriptor = manifest::descriptor(&media_type, digest, raw_manifest.len() as u64)?;
        Ok(Self { descriptor, manifest: *manifest, raw_manifest, config, raw_config, layers, digest, id })
    }

    /// Digest of the manifest: what a registry calls the image.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Digest of the config: what Docker calls the image ID.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// Diff IDs of the layers, lowest first.
    pub fn diff_ids(&self) -> impl Iterator<Item = Digest> + '_ {
        self.layers.iter().map(|layer| layer.diff_id)
    }

    /// For each layer the command of the history that made it; nothing where the history does not say.
    #[must_use]
    pub fn commands(&self) -> Vec<Option<&str>> {
        let made = self.config.history.iter().filter(|entry| !entry.empty_layer);
        let commands: Vec<Option<&str>> = made.map(|entry| entry.created_by.as_deref()).collect();
        if commands.len() == self.layers.len() { commands } else { vec![None; self.layers.len()] }
    }

    /// What machine it runs on.
    #[must_use]
    pub fn platform(&self) -> Platform {
        platform::normalise(&self.config.os, &self.config.architecture, self.config.variant.as_deref())
    }

    /// Whether a machine of this platform runs it. One that does not say what it is for suits any.
    #[must_use]
    pub fn suits(&self, wanted: &Platform) -> bool {
        self.config.architecture.is_empty() || platform::acceptable(wanted).contains(&self.platform())
    }

    /// Bytes of manifest, config and layers as they travel.
    #[must_use]
    pub fn transfer_size(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| layer.descriptor.size());
        layers.fold(self.descriptor.size().saturating_add(self.raw_config.len() as u64), u64::saturating_add)
    }
}

/// Pairs the manifest's layers with the config's diff IDs. Those of an artifact, which are no layers, have none.
fn pair_layers(manifest: &ImageManifest, config: &ImageConfig) -> Result<Vec<ImageLayer>, ImageError> {
    let (layers, diff_ids) = (manifest.layers(), &config.rootfs.diff_ids);
    if manifest.artifact_type().is_some() && diff_ids.is_empty() {
        let blob = |descriptor: &Descriptor| {
            let digest = manifest::digest_of(descriptor)?;
            Ok(ImageLayer { descriptor: descriptor.clone(), digest, diff_id: digest })
        };
        return layers.iter().map(blob).collect();
    }
    if layers.len() != diff_ids.len() {
        return Err(ImageError::LayerCount { layers: layers.len(), diff_ids: diff_ids.len() });
    }
    let pair = |(number, (descriptor, text)): (usize, (&Descriptor, &String))| {
        let shown = || text.chars().take(100).collect();
        let diff_id = text.parse().map_err(|_| ImageError::DiffId { number, text: shown() })?;
        Ok(ImageLayer { descriptor: descriptor.clone(), digest: manifest::digest_of(descriptor)?, diff_id })
    };
    layers.iter().zip(diff_ids).enumerate().map(pair).collect()
}

/// Whether a layer that [`Store::unpack_amid`] refused can be unpacked when those below it are there.
pub(crate) const fn may_pass_later(error: &LayerError) -> bool {
    matches!(error, LayerError::UnresolvedLink { .. } | LayerError::NeedsParents)
}

/// What a blob of `compressed` bytes may unpack to: as much as deflate can pack, and a GiB to spare. zstd packs zeros
/// far tighter, which only bombs need.
fn limits(compressed: u64) -> Limits {
    let limits = Limits::default();
    Limits { bytes: compressed.saturating_mul(1032).saturating_add(1 << 30).min(limits.bytes), ..limits }
}

impl Store {
    /// The image whose manifest has this digest.
    ///
    /// # Errors
    /// Where manifest or config are missing or damaged, or it is an index.
    pub fn image(&self, manifest_digest: &Digest) -> Result<Image, ImageError> {
        let raw_manifest = self.content().read(manifest_digest, manifest::MANIFEST_LIMIT)?;
        let Document::Manifest(parsed) = Document::read(&raw_manifest, None)? else {
            return Err(ImageError::IsAnIndex { digest: *manifest_digest });
        };
        let config = manifest::digest_of(parsed.config())?;
        let raw_config = self.content().read(&config, manifest::CONFIG_LIMIT)?;
        Image::read(raw_manifest, None, raw_config)
    }

    /// Keeps manifest and config of an image; config first, so that a manifest never lacks it.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn put_image(&self, image: &Image) -> Result<(), ImageError> {
        self.content().put(&image.raw_config)?;
        self.content().put(&image.raw_manifest)?;
        Ok(())
    }

    /// The layers of an image that are not unpacked in the store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn missing_layers(&self, image: &Image) -> Result<Vec<Digest>, ImageError> {
        let mut missing = Vec::new();
        for diff_id in image.diff_ids() {
            if self.layer(&diff_id)?.is_none() && !missing.contains(&diff_id) {
                missing.push(diff_id);
            }
        }
        Ok(missing)
    }

    /// Unpacks the blob of a layer (already decompressed from `compressed` bytes) that belongs into `chain`, while
    /// others of the chain are being unpacked too. The few layers that need those below are refused where these are not there yet.
    ///
    /// # Errors
    /// One of [`may_pass_later`] where it helps to try again when the others are done; else as [`Store::unpack`].
    pub(crate) fn unpack_amid(
        &self,
        plain: impl std::io::Read,
        diff_id: Digest,
        compressed: u64,
        chain: &[Digest],
    ) -> Result<(), LayerError> {
        let below: Vec<Digest> = chain.iter().take_while(|parent| **parent != diff_id).copied().collect();
        let mut there = Vec::with_capacity(below.len());
        for parent in &below {
            if self.layer(parent)?.is_some() {
                there.push(*parent);
            }
        }
        let complete = there.len() == below.len();
        self.unpack_over(plain, Some(diff_id), &there, complete, limits(compressed)).map(drop)
    }

    /// The layers of an image whose blobs are not in the store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn missing_blobs<'a>(&self, image: &'a Image) -> Result<Vec<&'a ImageLayer>, ImageError> {
        let mut missing: Vec<&ImageLayer> = Vec::new();
        for layer in &image.layers {
            let seen = missing.iter().any(|other| other.digest == layer.digest);
            if !seen && self.content().has(&layer.digest)?.is_none() {
                missing.push(layer);
            }
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    fn manifest(layers: usize) -> Vec<u8> {
        let blob = serde_json::json!({"mediaType": "x/y", "digest": format!("sha256:{HEX}"), "size": 1});
        let layers = vec![blob.clone(); layers];
        serde_json::json!({"schemaVersion": 2, "config": blob, "layers": layers}).to_string().into_bytes()
    }

    #[test]
    fn documents_that_do_not_fit_are_refused() {
        let one = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:{HEX}"]}}}}"#
        );
        assert_eq!(Image::read(manifest(1), None, one.clone().into()).unwrap().layers.len(), 1);
        assert!(matches!(Image::read(manifest(2), None, one.into()), Err(ImageError::LayerCount { .. })));
        for empty in ["{}", r#"{"rootfs":null,"history":null,"config":null}"#] {
            assert!(Image::read(manifest(0), None, empty.into()).unwrap().layers.is_empty(), "{empty}");
            assert!(matches!(Image::read(manifest(1), None, empty.into()), Err(ImageError::LayerCount { .. })));
        }
        let bad = r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#;
        assert!(matches!(Image::read(manifest(1), None, bad.into()), Err(ImageError::DiffId { number: 0, .. })));
        for broken in ["", "null", "[]", "{", "12"] {
            assert!(
                matches!(Image::read(manifest(0), None, broken.into()), Err(ImageError::Config { .. })),
                "{broken}"
            );
        }
    }
}
