//! Copying images between registries, layouts, archives, directories and the store, as they are: whatever the ends, the
//! bytes of manifests and blobs are the same unless another form was asked for.
//!
//! First every document is read and checked ([`plan`]), then blobs are streamed from the [`source`] to the destination
//! (each is what its digest says before its last byte is passed on), and what makes them an image is written last. A
//! copy that fails leaves nothing behind that it has made, but for blobs in a registry, which nothing names.

mod convert;
mod directory;
mod folder;
mod layout;
mod location;
mod plan;
mod remote;
mod source;
mod stop;
mod store;
mod verified;

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use lap_solver::event::Events;
use lap_solver::platform::Platform;

use crate::content::ContentError;
use crate::digest::Digest;
use crate::export::ExportError;
use crate::fs::FsError;
use crate::image::{Compression, ImageError, Reference};
use crate::load::LoadError;
use crate::registry::{Client, RegistryError};
use crate::store::{Store, StoreError, lock};

pub use location::{Location, NotALocation};
pub use plan::Plan;
pub use source::Source;
pub use stop::{Heeding, Stop};

/// Blobs on their way at once.
const PARALLEL: usize = 6;

/// Why an image could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A registry failed or refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An archive or a layout is no good.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A document is no good.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blob of the store is no good.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An archive cannot be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A call of the file system failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A blob cannot be read, or is not what it is called.
    #[error("copy blob {digest}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The copy was asked to end.
    #[error("interrupted")]
    Interrupted,
    /// The documents of all images together are larger than they have reason to be.
    #[error("the manifests of the image have more than {limit} bytes together")]
    TooMuch {
        /// In bytes.
        limit: u64,
    },
    /// Nothing in the index runs on the platform.
    #[error("there is no image for {wanted} (there are: {offered})")]
    NoPlatform {
        /// The platform.
        wanted: Platform,
        /// What there is.
        offered: String,
    },
    /// An index within an index within an index.
    #[error("{digest} is an index of indexes, nested too deeply")]
    Nested {
        /// Of the innermost.
        digest: Digest,
    },
    /// Digests were to be kept, but the destination needs another form.
    #[error("the digest of {digest} cannot be kept: {why}")]
    Changed {
        /// Of the manifest as it is.
        digest: Digest,
        /// What would change it.
        why: &'static str,
    },
    /// The image has no such form.
    #[error("manifest {digest} cannot be converted: {why}")]
    Form {
        /// Of the manifest.
        digest: Digest,
        /// Why not.
        why: String,
    },
    /// The directory is in use for something else.
    #[error("{path} is neither empty nor a directory of an image")]
    Occupied {
        /// The directory.
        path: String,
    },
    /// A layer that may only be had from elsewhere.
    #[error("layer {digest} may only be fetched from where its manifest says: it cannot be kept here")]
    Foreign {
        /// The layer.
        digest: Digest,
    },
    /// The destination's name has a digest that is another's.
    #[error("the destination's name says {wanted}, the image is {actual}")]
    OtherDigest {
        /// In the name.
        wanted: Digest,
        /// Of what is copied.
        actual: Digest,
    },
}

/// Which images of an index are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// The one for a platform.
    Platform(Platform),
    /// The index with all of them.
    All,
    /// The index alone: the images are there already.
    IndexOnly,
}

/// Families of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI's.
    Oci,
    /// Docker's, schema 2.
    Docker,
}

/// What happens to layers on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompress {
    /// They stay as they are.
    Keep,
    /// Those that are not compressed are.
    Plain(Compression),
    /// Those compressed otherwise are too.
    All(Compression),
}

/// What is copied, and in which form.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which images.
    pub select: Select,
    /// Media types to convert to.
    pub format: Option<Format>,
    /// Compression of layers.
    pub recompress: Recompress,
    /// Fail rather than change a digest.
    pub preserve_digests: bool,
}

/// Where a copy goes.
#[derive(Debug, Clone)]
pub enum Destination<'a> {
    /// A registry.
    Registry {
        /// To reach it by.
        client: &'a Client,
        /// The name there.
        name: &'a Reference,
        /// The runtime that carries the transfers.
        runtime: &'a tokio::runtime::Handle,
    },
    /// An OCI layout.
    Layout {
        /// The directory, made where it is missing.
        path: &'a Path,
        /// The name in it.
        name: Option<&'a str>,
    },
    /// A directory of skopeo's.
    Directory(&'a Path),
    /// The store.
    Store {
        /// The store.
        store: &'a Store,
        /// The names there.
        names: &'a [Reference],
        /// Of its images, the one for this platform is unpacked.
        platform: &'a Platform,
    },
}

/// Copies what was planned. The digest is that of the manifest or index at the destination.
///
/// # Errors
/// Where a blob cannot be read, is not what it is called, or the destination cannot be written.
pub fn copy(
    source: &Arc<Source>,
    plan: &Arc<Plan>,
    destination: &Destination<'_>,
    events: &Events,
) -> Result<Digest, CopyError> {
    match destination {
        Destination::Registry { client, name, runtime } => {
            remote::write(source, plan, &remote::Target { client, name, runtime }, events)?;
        }
        Destination::Layout { path, name } => layout::write(source, plan, path, *name, events)?,
        Destination::Directory(path) => directory::write(source, plan, path, events)?,
        Destination::Store { store, names, platform } => store::write(source, plan, store, names, platform, events)?,
    }
    Ok(plan.digest())
}

/// Copies what was planned into a tar: an OCI layout, and with `docker` what `docker load` reads over the same blobs.
///
/// # Errors
/// As [`copy`].
pub fn write_archive(
    source: &Source,
    plan: &Plan,
    name: &ArchiveName<'_>,
    writer: impl Write,
    events: &Events,
) -> Result<Digest, CopyError> {
    layout::write_archive(source, plan, name, writer, events)?;
    Ok(plan.digest())
}

/// What an image is called in an archive.
#[derive(Debug, Clone, Copy)]
pub enum ArchiveName<'a> {
    /// In an OCI archive: `org.opencontainers.image.ref.name`.
    Oci(Option<&'a str>),
    /// In a Docker archive: its tags.
    Docker(&'a [Reference]),
}

/// Does something with each item on a few threads; the first error ends it.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), CopyError> + Sync) -> Result<(), CopyError> {
    let next = Mutex::new(items.iter());
    let failed: Mutex<Option<CopyError>> = Mutex::default();
    let one = || {
        loop {
            if lock(&failed).is_some() {
                return;
            }
            let Some(item) = lock(&next).next() else { return };
            if let Err(error) = work(item) {
                lock(&failed).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..PARALLEL.min(items.len()) {
            scope.spawn(one);
        }
        one();
    });
    let failed = lock(&failed).take();
    failed.map_or(Ok(()), Err)
}
