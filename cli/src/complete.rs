//! Images with all their blobs, for whoever takes them out of the store.

use lap_cache::image::{Artifact, AssembleOptions, Compression, Image, written};
use lap_solver::event::Events;

use crate::command::App;
use crate::registry::{block_on, client};

/// The image with every layer blob in the store. One whose layers have not been compressed yet gets another manifest
/// with the same config and annotations, and its names move there.
///
/// # Errors
/// Where a blob can be neither made nor fetched.
pub(crate) fn complete(app: &App, image: Image, events: &Events) -> anyhow::Result<Image> {
    complete_by(app, image, Compression::default(), events)
}

/// The same, with another compression for the layers that have none yet.
///
/// # Errors
/// As [`complete`].
pub(crate) fn complete_by(app: &App, image: Image, compression: Compression, events: &Events) -> anyhow::Result<Image> {
    let store = app.store()?;
    if store.missing_blobs(&image)?.is_empty() {
        return Ok(image);
    }
    let whole = written(store, &image, &AssembleOptions { compression, ..AssembleOptions::like(&image) }, events)?;
    let client = client(&app.settings, &[])?;
    block_on(async { Ok(client.ensure_blobs(&whole, store, events).await?) })?;
    if whole.digest() != image.digest() {
        for entry in store.names()?.into_iter().filter(|entry| entry.digest == image.digest()) {
            match entry.name {
                Some(name) => drop(store.name_set(&name, &whole)?),
                None => store.image_keep(&whole)?,
            }
        }
        store.image_remove(&image.digest())?;
    }
    Ok(whole)
}

/// An index with every layer blob of its images in the store. Their manifests are written when it is.
///
/// # Errors
/// Where a blob can be neither found nor fetched.
pub(crate) fn complete_index(app: &App, index: Artifact, events: &Events) -> anyhow::Result<Artifact> {
    let store = app.store()?;
    for image in index.images() {
        if !store.missing_blobs(image)?.is_empty() {
            let client = client(&app.settings, &[])?;
            block_on(async { Ok(client.ensure_blobs(image, store, events).await?) })?;
        }
    }
    Ok(index)
}
