//! Where the roots of the graph come from: this machine, registries, web servers, git repositories.

pub mod git;
pub mod http;
pub mod image;
pub mod local;

use std::path::PathBuf;

use lap_cache::layer::LayerError;
use lap_cache::registry::Client;
use lap_cache::snapshot::{LayerRef, Snapshot};
use lap_cache::store::{Store, StoreError};
use lap_solver::digest::Key;
use lap_solver::event::Events;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::grant::Grants;

/// What fetching from elsewhere needs.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where results and what is known of them are kept.
    pub store: Store,
    /// Speaks HTTP; its proxies and certificates are git's too.
    pub client: Client,
    /// Tokens and agents.
    pub grants: Grants,
    /// Whoever wants to know.
    pub events: Events,
}

impl Remote {
    /// What was written down of a source. What cannot be read counts as absent.
    fn recall<T: DeserializeOwned>(&self, kind: &str, key: &Key) -> Result<Option<T>, StoreError> {
        let text = self.store.read_file(&memory(kind, key))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    fn remember<T: Serialize>(&self, kind: &str, key: &Key, value: &T) -> Result<(), StoreError> {
        let text = serde_json::to_vec(value).unwrap_or_default();
        self.store.write_file(&memory(kind, key), &text, false)
    }

    /// Whether a layer that was remembered is still in the store.
    fn has(&self, layer: &LayerRef) -> Result<bool, LayerError> {
        Ok(self.store.layer(&layer.diff_id)?.is_some())
    }
}

/// Path in the store of what is known of a source.
fn memory(kind: &str, key: &Key) -> String {
    format!("sources/{kind}/{}.json", key.to_hex())
}

/// The directory of a source's files in the store. They must not be changed.
#[must_use]
pub fn directory(store: &Store, snapshot: &Snapshot) -> Option<PathBuf> {
    let [layer] = snapshot.layers.as_slice() else { return None };
    Some(store.layer_dir(&layer.diff_id).join("fs"))
}
