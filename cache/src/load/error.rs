//! What can be wrong with an archive.

use std::io;

use crate::archive::ArchiveError;
use crate::content::ContentError;
use crate::digest::Digest;
use crate::image::ImageError;
use crate::layer::LayerError;

/// Why an archive could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The stream is no sound tar.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The stream cannot be read or decompressed.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// Neither an OCI layout nor a Docker archive.
    #[error("the archive holds no images: it has neither index.json nor manifest.json")]
    NoImages,
    /// A document is malformed.
    #[error("{name} in the archive is malformed")]
    Malformed {
        /// The entry.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A document is larger than it has reason to be.
    #[error("{name} in the archive has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The entry.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// In bytes.
        limit: u64,
    },
    /// Two entries of one name.
    #[error("{name} is in the archive twice")]
    Twice {
        /// The entry.
        name: String,
    },
    /// A file that another one names.
    #[error("{name} is not in the archive")]
    Missing {
        /// The file.
        name: String,
    },
    /// A name that leads out of the archive.
    #[error("{name:?} is no name of a file in an archive")]
    Name {
        /// The name.
        name: String,
    },
    /// A blob whose size is not that of its descriptor.
    #[error("blob {digest} has {actual} bytes in the archive, {expected} were announced")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// In the descriptor.
        expected: u64,
        /// In the archive.
        actual: u64,
    },
    /// Nothing for the platform.
    #[error("the archive has no image for {wanted}")]
    NoPlatform {
        /// The platform.
        wanted: String,
    },
    /// An image is no good.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blob could not be stored, or is not what it is called.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer could not be unpacked.
    #[error("layer {diff_id}")]
    Layer {
        /// The layer.
        diff_id: Digest,
        /// Why.
        source: LayerError,
    },
}
