//! What earlier builds yielded, as far as it can still be used.

use lap_cache::digest::Digest;
use lap_cache::snapshot::Snapshot;
use lap_solver::digest::Key;
use lap_solver::graph::Vertex;
use lap_solver::key::KeyInputs;
use lap_solver::worker::Index;

use super::{BuildWorker, Output, WorkerError};

impl Index<Output, WorkerError> for BuildWorker {
    fn lookup(&self, key: &Key, vertex: &Vertex) -> Result<Option<Output>, WorkerError> {
        let _ = (key, vertex);
        Ok(None)
    }

    fn record(&self, key: &Key, inputs: &KeyInputs, vertex: &Vertex, output: Output) -> Result<Output, WorkerError> {
        let _ = (key, inputs, vertex);
        Ok(output)
    }
}

impl BuildWorker {
    /// Whether every layer is in the store or can be fetched.
    fn is_usable(&self, snapshot: &Snapshot) -> Result<bool, WorkerError> {
        Ok(self.missing(snapshot)?.iter().all(|layer| self.options.bases.knows(layer)))
    }

    /// The layers that are not in the store.
    pub(super) fn missing(&self, snapshot: &Snapshot) -> Result<Vec<Digest>, WorkerError> {
        let mut missing = Vec::new();
        for layer in &snapshot.layers {
            if self.store().layer(&layer.diff_id)?.is_none() {
                missing.push(layer.diff_id);
            }
        }
        Ok(missing)
    }

    /// The identity of a part of a root file system, if it was computed before.
    pub(super) fn known_selection(&self, name: &Key) -> Result<Option<Key>, WorkerError> {
        let _ = name;
        Ok(None)
    }

    /// Remembers the identity of a part of a root file system.
    pub(super) fn remember_selection(&self, name: &Key, found: Key) -> Result<(), WorkerError> {
        let _ = (name, found);
        Ok(())
    }
}
