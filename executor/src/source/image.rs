//! Base images: resolved before the graph is solved, fetched only when a step needs their files.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use lap_cache::content::ContentError;
use lap_cache::digest::Digest;
use lap_cache::image::Image;
use lap_cache::layer::{LayerError, decompress};
use lap_cache::snapshot::{LayerRef, Snapshot};
use lap_cache::store::Store;
use lap_solver::platform::Platform;

/// What goes wrong in a [`Fetch`], of whatever kind.
pub type FetchFailure = Box<dyn std::error::Error + Send + Sync>;

/// Brings layers of an image into the store, unpacked.
pub trait Fetch: Send + Sync {
    /// Fetches those of the image's layers that have these diff IDs.
    fn fetch<'a>(
        &'a self,
        image: &'a Image,
        layers: Vec<Digest>,
    ) -> Pin<Box<dyn Future<Output = Result<(), FetchFailure>> + Send + 'a>>;
}

/// An image whose manifest and config are known.
#[derive(Clone)]
pub struct Base {
    /// The image.
    pub image: Arc<Image>,
    /// Where its layers come from if they are not in the store; nothing where its blobs are.
    pub remote: Option<Arc<dyn Fetch>>,
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = self.remote.is_some();
        f.debug_struct("Base").field("image", &self.image.digest()).field("remote", &remote).finish()
    }
}

/// The images that a build may stand on, by reference and platform as the graph names them.
#[derive(Debug, Clone, Default)]
pub struct Bases {
    images: HashMap<(String, Platform), Base>,
}

/// A base image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageSourceError {
    /// The graph names an image that was not resolved before.
    #[error("image {reference} for {platform} was not resolved")]
    Unresolved {
        /// The image.
        reference: String,
        /// The platform.
        platform: Platform,
    },
    /// A layer is neither in the store nor can it be fetched.
    #[error("layer {0} is in no image of this build and not in the store")]
    Unknown(Digest),
    /// Fetching failed.
    #[error("cannot fetch the layers of {0}")]
    Fetch(Digest, #[source] FetchFailure),
    /// A blob of the store cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer cannot be unpacked.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The compression of a blob is broken.
    #[error("cannot decompress layer {0}")]
    Decompress(Digest, #[source] std::io::Error),
}

impl Bases {
    /// Adds an image under the name that the graph has for it.
    pub fn insert(&mut self, reference: String, platform: Platform, base: Base) {
        self.images.insert((reference, platform), base);
    }

    /// The file system of an image, whether its layers are there or not.
    pub(crate) fn snapshot(&self, reference: &str, platform: &Platform) -> Result<Snapshot, ImageSourceError> {
        let base = self.images.get(&(reference.to_owned(), platform.clone())).ok_or_else(|| {
            ImageSourceError::Unresolved { reference: reference.to_owned(), platform: platform.clone() }
        })?;
        Ok(Snapshot { layers: base.image.diff_ids().map(LayerRef::foreign).collect() })
    }

    /// Whether a layer that is not in the store could be had.
    pub(crate) fn knows(&self, layer: &Digest) -> bool {
        self.images.values().any(|base| base.image.diff_ids().any(|diff_id| diff_id == *layer))
    }

    /// Brings every layer of `snapshot` into the store.
    pub(crate) async fn ensure(&self, store: &Store, snapshot: &Snapshot) -> Result<(), ImageSourceError> {
        let mut missing = Vec::new();
        for layer in &snapshot.layers {
            if store.layer(&layer.diff_id)?.is_none() && !missing.contains(&layer.diff_id) {
                missing.push(layer.diff_id);
            }
        }
        for base in self.images.values() {
            let (wanted, rest): (Vec<_>, Vec<_>) =
                missing.into_iter().partition(|layer| base.image.diff_ids().any(|diff_id| diff_id == *layer));
            missing = rest;
            if wanted.is_empty() {
                continue;
            }
            match &base.remote {
                Some(remote) => {
                    let failed = |error| ImageSourceError::Fetch(base.image.digest(), error);
                    remote.fetch(&base.image, wanted).await.map_err(failed)?;
                }
                None => unpack(store.clone(), Arc::clone(&base.image), wanted).await?,
            }
        }
        missing.first().map_or(Ok(()), |layer| Err(ImageSourceError::Unknown(*layer)))
    }
}

/// Unpacks layers whose blobs the store has, all at once.
async fn unpack(store: Store, image: Arc<Image>, wanted: Vec<Digest>) -> Result<(), ImageSourceError> {
    let parents: Vec<Digest> = image.diff_ids().collect();
    let work = move || {
        use rayon::prelude::*;
        let layers: Vec<_> =
            image.layers.iter().enumerate().filter(|(_, layer)| wanted.contains(&layer.diff_id)).collect();
        let unpack = |(index, parents): (usize, &[Digest])| {
            let layer = &image.layers[index];
            let blob = store.content().open(&layer.digest)?;
            let tar = decompress(blob).map_err(|error| ImageSourceError::Decompress(layer.digest, error))?;
            store.unpack(tar, Some(layer.diff_id), parents)?;
            Ok::<(), ImageSourceError>(())
        };
        // A hard link into a lower layer fails while that is not there: what failed is tried again, bottom up.
        let all = layers.par_iter().map(|(index, _)| unpack((*index, &parents[..*index])).is_ok()).collect::<Vec<_>>();
        for ((index, _), done) in layers.iter().zip(all) {
            if !done {
                unpack((*index, &parents[..*index]))?;
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Ok(()))
}
