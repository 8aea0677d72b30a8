//! What earlier builds yielded, as far as it can still be used.

use lap_cache::snapshot::Snapshot;
use lap_solver::digest::Key;
use lap_solver::graph::Vertex;
use lap_solver::key::KeyInputs;
use lap_solver::worker::Index;

use super::{BuildWorker, Output, WorkerError};

impl Index<Output, WorkerError> for BuildWorker {
    fn lookup(&self, key: &Key, _vertex: &Vertex) -> Result<Option<Output>, WorkerError> {
        let found = self.records.lookup(key, |layer| self.options.bases.knows(&layer.diff_id))?;
        Ok(found.map(Output::Layers))
    }

    fn record(&self, key: &Key, inputs: &KeyInputs, vertex: &Vertex, output: Output) -> Result<Output, WorkerError> {
        match output {
            Output::Layers(snapshot) => Ok(Output::Layers(self.records.record(key, inputs, vertex, snapshot)?)),
            local @ Output::Local(_) => Ok(local),
        }
    }
}

impl BuildWorker {
    /// Whether every layer is in the store.
    pub(super) fn has_layers(&self, snapshot: &Snapshot) -> Result<bool, WorkerError> {
        for layer in &snapshot.layers {
            if self.store().layer(&layer.diff_id)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The identity of a part of a root file system, if it was computed before.
    pub(super) fn known_selection(&self, name: &Key) -> Result<Option<Key>, WorkerError> {
        Ok(self.records.selection(name)?)
    }

    /// Remembers the identity of a part of a root file system.
    pub(super) fn remember_selection(&self, name: &Key, found: Key) -> Result<(), WorkerError> {
        Ok(self.records.set_selection(name, found)?)
    }
}
