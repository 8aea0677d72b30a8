//! Base images: resolved before the graph is solved, fetched only when a step needs their files.

use std::collections::{HashMap, HashSet};

use lap_cache::digest::Digest;
use lap_cache::image::Image;
use lap_cache::snapshot::{LayerRef, Snapshot};
use lap_solver::platform::Platform;

/// The images that a build may stand on, by reference and platform as the graph names them.
///
/// Their layers need not be in the store: where they come from is known to the registry client that resolved them.
#[derive(Debug, Clone, Default)]
pub struct Bases {
    images: HashMap<(String, Platform), Vec<Digest>>,
    layers: HashSet<Digest>,
}

/// The graph names an image that was not resolved before.
#[derive(Debug, thiserror::Error)]
#[error("image {reference} for {platform} was not resolved")]
pub struct Unresolved {
    /// The image.
    pub reference: String,
    /// The platform.
    pub platform: Platform,
}

impl Bases {
    /// Adds an image under the name that the graph has for it.
    pub fn insert(&mut self, reference: String, platform: Platform, image: &Image) {
        let layers: Vec<Digest> = image.diff_ids().collect();
        self.layers.extend(&layers);
        self.images.insert((reference, platform), layers);
    }

    /// The file system of an image, whether its layers are there or not.
    pub(crate) fn snapshot(&self, reference: &str, platform: &Platform) -> Result<Snapshot, Unresolved> {
        let layers = self
            .images
            .get(&(reference.to_owned(), platform.clone()))
            .ok_or_else(|| Unresolved { reference: reference.to_owned(), platform: platform.clone() })?;
        Ok(Snapshot { layers: layers.iter().map(|layer| LayerRef::foreign(*layer)).collect() })
    }

    /// Whether a layer that is not in the store could be had.
    pub(crate) fn knows(&self, layer: &Digest) -> bool {
        self.layers.contains(layer)
    }
}
