//! Loaded images become images of the store: their layers are unpacked, they are kept and named.

use std::io;
use std::sync::Mutex;

use lap_solver::event::{Action, Event, Events};

use super::{Found, LoadError, Loaded};
use crate::digest::Digest;
use crate::image::blobs::KnownBlob;
use crate::image::{Artifact, Image, may_pass_later};
use crate::layer::{LayerError, decompress};
use crate::store::{Store, lock};

/// Unpacks the layers of images, then keeps them under their names.
pub(super) fn finish(store: &Store, found: Found, events: &Events) -> Result<Loaded, LoadError> {
    let Found { names, content } = found;
    for image in content.runnable() {
        unpack(store, image, events)?;
    }
    for image in content.images() {
        for layer in &image.layers {
            store.remember_blob(&layer.diff_id, KnownBlob::of(layer.descriptor.clone()))?;
        }
        store.put_image(image)?;
    }
    if let Artifact::Index(index) = &content {
        store.content().put(&index.raw)?;
    }
    if names.is_empty() {
        store.keep(content.descriptor())?;
    }
    for name in &names {
        store.name_point(name, content.descriptor())?;
    }
    Ok(Loaded { names, content })
}

/// Unpacks the layers of an image whose blobs are in the store, side by side.
pub(crate) fn unpack(store: &Store, image: &Image, events: &Events) -> Result<(), LoadError> {
    let chain: Vec<Digest> = image.diff_ids().collect();
    let todo: Vec<usize> = (0..chain.len()).filter(|at| !chain[..*at].contains(&chain[*at])).collect();
    let next = Mutex::new(todo.into_iter());
    let failed: Mutex<Vec<(usize, LayerError)>> = Mutex::default();
    let one = |at: usize| -> Result<(), LayerError> {
        let layer = &image.layers[at];
        if store.layer(&layer.diff_id)?.is_none() {
            let file =
                store.content().open(&layer.digest).map_err(|error| LayerError::Read(io::Error::other(error)))?;
            let plain = decompress(file).map_err(LayerError::Read)?;
            store.unpack_amid(plain, layer.diff_id, layer.descriptor.size(), &chain)?;
        }
        let (id, size) = (layer.digest.to_string(), layer.descriptor.size());
        let (action, total) = (Action::Extract, Some(size));
        events.send(Event::Progress { id, action, vertex: None, current: size, total, done: true });
        Ok(())
    };
    let work = || {
        loop {
            let Some(at) = lock(&next).next() else { return };
            if let Err(error) = one(at) {
                lock(&failed).push((at, error));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..rayon::current_num_threads().min(chain.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut failed = std::mem::take(&mut *lock(&failed));
    failed.sort_by_key(|(at, _)| *at);
    for (at, error) in failed {
        let diff_id = chain[at];
        let again = if may_pass_later(&error) { one(at) } else { Err(error) };
        again.map_err(|source| LoadError::Layer { diff_id, source })?;
    }
    Ok(())
}
