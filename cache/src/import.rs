//! A root file system in a tar becomes an image of one layer.
//!
//! The layer is one of ours, not the tar that came: it can be written again bit for bit, and equal trees give equal
//! layers however they were packed.

use std::io::Read;

use lap_solver::event::Events;
use lap_solver::image::{ContainerConfig, History, ImageConfig};
use lap_solver::platform::Platform;

use crate::fs;
use crate::image::{AssembleOptions, Image, ImageError, assemble};
use crate::layer::{LayerError, Owner};
use crate::store::Store;
use crate::tarball;

/// What the imported image says of itself.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// What machine its programs run on.
    pub platform: Platform,
    /// What a container of it runs (`--change`).
    pub config: ContainerConfig,
    /// Comment of its history entry (`--message`); Docker writes `Imported from -`.
    pub comment: Option<String>,
    /// When it was made (RFC 3339).
    pub created: Option<String>,
    /// Compression and media types.
    pub assemble: AssembleOptions,
}

/// Makes an image of the tar `reader` (any compression). It is kept in the store without a name.
///
/// # Errors
/// Where the tar is not sound, or the store cannot be written.
pub fn import(
    store: &Store,
    reader: impl Read + Send,
    options: &ImportOptions,
    events: &Events,
) -> Result<Image, ImageError> {
    let workspace = store.workspace()?;
    let root = fs::open_dir(&workspace.upper()).map_err(LayerError::from)?;
    tarball::extract_into(&root, b"", reader, Owner::Archive, store.mode())?;
    drop(root);
    let layer = store.commit(workspace, &[], true)?;
    let layers: Vec<_> = layer.iter().map(|layer| layer.diff_id).collect();
    let history = History {
        comment: options.comment.clone(),
        created: options.created.clone(),
        empty_layer: layers.is_empty(),
        ..History::default()
    };
    let config = ImageConfig {
        architecture: options.platform.architecture.clone(),
        os: options.platform.os.clone(),
        variant: options.platform.variant.clone(),
        created: options.created.clone(),
        config: options.config.clone(),
        history: vec![history],
        ..ImageConfig::default()
    };
    let image = assemble(store, &layers, config, &options.assemble, events)?;
    store.image_keep(&image)?;
    Ok(image)
}
