//! What earlier builds yielded, as far as it can still be used.

use std::sync::{Arc, PoisonError};

use lap_cache::remote::Step;
use lap_cache::snapshot::{LayerRef, Snapshot};
use lap_solver::digest::Key;
use lap_solver::graph::{Op, Vertex};
use lap_solver::key::KeyInputs;
use lap_solver::worker::{Index, Turn};

use super::turn::StepLock;
use super::{BuildWorker, Options, Output, WorkerError, root_of};
use crate::tree::{Selection, Tree};

impl Index<Output, WorkerError> for BuildWorker {
    type Guard = StepLock;

    async fn lookup(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        outputs: &[Output],
    ) -> Result<Option<Output>, WorkerError> {
        let found = match self.recorded(key)? {
            Some(snapshot) => Some(snapshot),
            None => self.imported(key, inputs, vertex, outputs).await?,
        };
        if let Some(snapshot) = &found {
            self.export(key, inputs, vertex, snapshot, false);
        }
        Ok(found.map(Output::Layers))
    }

    fn missed(&self, inputs: &KeyInputs) {
        for identity in &inputs.inputs {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(identity).cloned();
            if let Some((tree, selections)) = seen {
                // Without it the next miss is explained less exactly, no more.
                drop(self.records.set_listing(identity, || Ok::<_, WorkerError>(tree.listing(&selections)?)));
            }
        }
    }

    async fn turn(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        waiting: impl FnOnce() + Send,
    ) -> Result<Turn<StepLock, Output>, WorkerError> {
        let lock = StepLock::take(self.store().root(), key, waiting).await.map_err(WorkerError::Turn)?;
        let Some(snapshot) = self.recorded(key)? else { return Ok(Turn::Ours(lock)) };
        self.export(key, inputs, vertex, &snapshot, false);
        Ok(Turn::Theirs(Output::Layers(snapshot)))
    }

    fn record(&self, key: &Key, inputs: &KeyInputs, vertex: &Vertex, output: Output) -> Result<Output, WorkerError> {
        match output {
            Output::Layers(snapshot) => {
                let snapshot = self.records.record(key, inputs, vertex, snapshot)?;
                self.export(key, inputs, vertex, &snapshot, true);
                Ok(Output::Layers(snapshot))
            }
            local @ Output::Local(_) => Ok(local),
        }
    }
}

impl BuildWorker {
    /// What the own store knows under a key, if the layers can be had.
    fn recorded(&self, key: &Key) -> Result<Option<Snapshot>, WorkerError> {
        let Options { bases, imports, .. } = &self.options;
        let elsewhere = |layer: &LayerRef| bases.knows(&layer.diff_id) || imports.claim(&layer.diff_id).is_some();
        Ok(self.records.lookup(key, elsewhere)?)
    }

    /// What a cache of elsewhere says that the step added, on the root that the step has here.
    async fn imported(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        outputs: &[Output],
    ) -> Result<Option<Snapshot>, WorkerError> {
        let root = match &vertex.op {
            Op::Exec(exec) => exec.root,
            Op::File(file) => file.root,
            // Costs nothing to do.
            Op::Merge | Op::Source(_) => return Ok(None),
        };
        let imports = &self.options.imports;
        let Some((entry, _)) = imports.lookup(key).await else { return Ok(None) };
        let mut snapshot = root_of(root, outputs)?;
        if let Some(claim) = entry.layer {
            snapshot = snapshot.with(LayerRef { diff_id: claim.diff_id, identity: claim.identity });
        }
        // What others say stays out of the records until the layers have come and are what was said.
        if imports.is_proved(&snapshot) {
            return Ok(Some(self.records.record(key, inputs, vertex, snapshot)?));
        }
        imports.adopt(*key, inputs, vertex, &snapshot);
        Ok(Some(snapshot))
    }

    /// Tells the caches that are written of a result.
    fn export(&self, key: &Key, inputs: &KeyInputs, vertex: &Vertex, snapshot: &Snapshot, executed: bool) {
        let Some(exports) = &self.options.exports else { return };
        if matches!(vertex.op, Op::Exec(_) | Op::File(_)) {
            // A step that changed nothing hands its input on.
            let changed = !inputs.inputs.contains(&snapshot.identity());
            let layer = if changed { snapshot.layers.last().copied() } else { None };
            exports.note(Step { definition: vertex.definition, key: *key, layer, executed });
        }
    }

    /// Whether every layer is in the store.
    pub(super) fn has_layers(&self, snapshot: &Snapshot) -> Result<bool, WorkerError> {
        for layer in &snapshot.layers {
            if self.store().layer(&layer.diff_id)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Remembers which files of a context have an identity, until a step that needs them misses.
    pub(super) fn saw(&self, identity: Key, tree: Arc<Tree>, selections: Vec<Selection>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(identity, (tree, selections));
    }

    /// The identity of a part of a root file system, if it was computed before, here or elsewhere.
    pub(super) fn known_selection(&self, name: &Key) -> Result<Option<Key>, WorkerError> {
        let known = self.records.selection(name)?.or_else(|| self.options.imports.selection(name));
        if let (Some(exports), Some(found)) = (&self.options.exports, known) {
            exports.note_selection(*name, found);
        }
        Ok(known)
    }

    /// Remembers the identity of a part of a root file system.
    pub(super) fn remember_selection(&self, name: &Key, found: Key) -> Result<(), WorkerError> {
        if let Some(exports) = &self.options.exports {
            exports.note_selection(*name, found);
        }
        Ok(self.records.set_selection(name, found)?)
    }
}
