//! The build cache's memory: what each step yielded, by content key, with everything the key was made of.
//!
//! A record is one small JSON file, put in place by rename and not synced: a power cut may lose it, and one that
//! cannot be read or names a layer that is not there counts as absent. Beside the records lie two indexes:
//! *adoptions* (op and content ID to the layer that first had them, so that a step that yields the same content
//! again yields the same layer, times and all: early cut-off) and *selections* (what was hashed of a snapshot
//! before).

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use lap_solver::digest::Key;
use lap_solver::graph::Vertex;
use lap_solver::key::KeyInputs;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fs;
use crate::layer::LayerError;
use crate::snapshot::{LayerRef, Snapshot};
use crate::store::{Store, StoreError, lock};

/// What a step yielded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The content key, which names the record.
    pub key: Key,
    /// The root file system after the step.
    pub snapshot: Snapshot,
    /// What the key was made of, with [stand-ins](Records::conceal) for credentials.
    pub inputs: KeyInputs,
    /// The definition key of the step that made it first.
    pub definition: Key,
    /// What that step was called.
    pub name: String,
    /// When it was recorded, in seconds since 1970.
    pub created: u64,
}

/// A file that a step takes of a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its path below the context.
    pub path: String,
    /// Digest of its content; none for what has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Key>,
    /// Kind, mode and owner.
    pub about: String,
}

/// The records of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Records {
    store: Store,
    /// Layers seen to be there, in this process.
    present: Arc<Mutex<HashSet<Digest>>>,
}

impl Records {
    /// The records of `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, present: Arc::default() }
    }

    /// The snapshot recorded under `key`, if all its layers are in the store, or `is_remote` says of those that are
    /// not that they can be fetched.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn lookup(&self, key: &Key, is_remote: impl Fn(&LayerRef) -> bool) -> Result<Option<Snapshot>, LayerError> {
        let Some(record) = self.get(key)? else { return Ok(None) };
        for layer in &record.snapshot.layers {
            if !self.has_layer(&layer.diff_id)? && !is_remote(layer) {
                return Ok(None);
            }
        }
        // Its time says when it was last of use.
        self.store.touch(&path("records", key));
        Ok(Some(record.snapshot))
    }

    /// Records what a step yielded. The snapshot that comes back is the one recorded: where the same op yielded a
    /// layer of the same content before, that layer takes the place of the new one.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn record(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        snapshot: Snapshot,
    ) -> Result<Snapshot, LayerError> {
        let snapshot = self.adopt(inputs, snapshot)?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (definition, name) = (vertex.definition, vertex.metadata.name.clone());
        let inputs = self.conceal(inputs.clone())?;
        let record = Record { key: *key, snapshot, inputs, definition, name, created };
        self.write(&path("records", key), &record)?;
        Ok(record.snapshot)
    }

    /// What a key was made of as it may be written down: the values of variables that are credentials by their names
    /// are replaced by codes, by which they can be told apart.
    ///
    /// # Errors
    /// Where the store's own key cannot be read or made.
    pub fn conceal(&self, mut inputs: KeyInputs) -> Result<KeyInputs, StoreError> {
        let mut failed = None;
        inputs.conceal(|value| match self.store.mac("variable", "", value.as_bytes()) {
            Ok(code) => code,
            Err(error) => {
                failed = Some(error);
                Key::of("no code", "")
            }
        });
        failed.map_or(Ok(inputs), Err)
    }

    /// The record under `key`, whether its layers are there or not.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let record: Option<Record> = self.read(&path("records", key))?;
        // A file under a wrong name is damage.
        Ok(record.filter(|record| record.key == *key))
    }

    /// All records that can be read, in order of key.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn all(&self) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        let top = fs::open_dir_at(self.store.dir(), b"records")?;
        for shelf in fs::sorted_names(&top)? {
            let Ok(dir) = fs::open_dir_at(&top, &shelf) else { continue };
            for name in fs::sorted_names(&dir)? {
                let key = std::str::from_utf8(&name).ok().and_then(|name| name.strip_suffix(".json"));
                if let Some(key) = key.and_then(|key| key.parse().ok()) {
                    records.extend(self.get(&key)?);
                }
            }
        }
        Ok(records)
    }

    /// Forgets a record; a missing one is fine.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn forget(&self, key: &Key) -> Result<(), StoreError> {
        self.store.remove_file(&path("records", key))
    }

    /// The identity that was found before for `question`, a hash of a snapshot's identity and the paths selected.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn selection(&self, question: &Key) -> Result<Option<Key>, StoreError> {
        self.read(&path("records/selections", question))
    }

    /// Remembers the identity of a selection.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn set_selection(&self, question: &Key, identity: Key) -> Result<(), StoreError> {
        self.write(&path("records/selections", question), &identity)
    }

    /// The files that a selection of this identity takes, if they were written down.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn listing(&self, identity: &Key) -> Result<Option<Vec<Listed>>, StoreError> {
        self.read(&path("records/listings", identity))
    }

    /// Writes down the files that a selection takes, where that was not done before.
    ///
    /// # Errors
    /// Where `files` fails, or the store cannot be written.
    pub fn set_listing<E: From<StoreError>>(
        &self,
        identity: &Key,
        files: impl FnOnce() -> Result<Vec<Listed>, E>,
    ) -> Result<(), E> {
        let path = path("records/listings", identity);
        if self.store.root().join(&path).exists() {
            return Ok(());
        }
        Ok(self.write(&path, &files()?)?)
    }

    /// The same snapshot with the top layer replaced by an earlier one that the same op yielded with the same
    /// content.
    fn adopt(&self, inputs: &KeyInputs, mut snapshot: Snapshot) -> Result<Snapshot, LayerError> {
        // A step that changed nothing hands its input on: its top layer is not the step's.
        if inputs.inputs.contains(&snapshot.identity()) {
            return Ok(snapshot);
        }
        let Some(top) = snapshot.layers.last_mut() else { return Ok(snapshot) };
        let path = path("records/adoptions", &Key::of("adoption", &(&inputs.op, top.identity)));
        match self.read::<Digest>(&path)? {
            Some(earlier) if earlier == top.diff_id => {}
            Some(earlier) if self.has_layer(&earlier)? => top.diff_id = earlier,
            _ => self.write(&path, &top.diff_id)?,
        }
        Ok(snapshot)
    }

    fn has_layer(&self, diff_id: &Digest) -> Result<bool, LayerError> {
        if lock(&self.present).contains(diff_id) {
            return Ok(true);
        }
        let found = self.store.layer(diff_id)?.is_some();
        if found {
            lock(&self.present).insert(*diff_id);
        }
        Ok(found)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.store.read_file(path)? else { return Ok(None) };
        // What cannot be read any more is as good as lost: the step runs again.
        Ok(serde_json::from_slice(&bytes).ok())
    }

    fn write<T: Serialize>(&self, path: &str, value: &T) -> Result<(), StoreError> {
        let corrupt = |source| StoreError::Corrupt { path: self.store.root().join(path), source };
        self.store.write_file(path, &serde_json::to_vec(value).map_err(corrupt)?, false)
    }
}

fn path(directory: &str, key: &Key) -> String {
    let hex = key.to_hex();
    format!("{directory}/{}/{hex}.json", &hex[..2])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::layer::LayerInfo;
    use crate::store::Mode;
    use lap_solver::graph::{Metadata, Op};

    fn vertex(name: &str) -> Vertex {
        let metadata = Metadata { name: name.into(), ..Metadata::default() };
        Vertex { op: Op::Merge, inputs: vec![], definition: Key::of("t", name), metadata }
    }

    /// A layer with one file, whose time alone differs.
    fn layer(store: &Store, mtime: u64) -> LayerInfo {
        let workspace = store.workspace().unwrap();
        let file = std::fs::File::create(workspace.upper().join("f")).unwrap();
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(mtime)).unwrap();
        store.commit(workspace, &[], false).unwrap().unwrap()
    }

    #[test]
    fn a_record_is_found_while_its_layers_are_there() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), Mode::Root).unwrap();
        let layer = layer(&store, 1);
        let snapshot = Snapshot { layers: vec![(&layer).into()] };
        let inputs = KeyInputs { op: Op::Merge, inputs: vec![], secrets: BTreeMap::new() };
        let key = inputs.key();
        let records = Records::new(store.clone());
        assert_eq!(records.lookup(&key, |_| false).unwrap(), None);
        assert_eq!(records.record(&key, &inputs, &vertex("RUN x"), snapshot.clone()).unwrap(), snapshot);
        assert_eq!(records.lookup(&key, |_| false).unwrap(), Some(snapshot.clone()));
        assert_eq!(records.all().unwrap().len(), 1);

        store.remove_layer(&layer.diff_id).unwrap();
        let again = Records::new(store.clone());
        assert_eq!(again.lookup(&key, |_| false).unwrap(), None);
        assert_eq!(again.lookup(&key, |_| true).unwrap(), Some(snapshot));
        std::fs::write(store.root().join(path("records", &key)), b"{").unwrap();
        assert_eq!(again.lookup(&key, |_| true).unwrap(), None);
    }

    #[test]
    fn equal_content_of_the_same_op_adopts_the_earlier_layer() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), Mode::Root).unwrap();
        let (one, two) = (layer(&store, 1), layer(&store, 2));
        assert_ne!(one.diff_id, two.diff_id);
        assert_eq!(one.content_id, two.content_id);
        let records = Records::new(store);
        let record = |input: &str, info: &LayerInfo| {
            let inputs = KeyInputs { op: Op::Merge, inputs: vec![Key::of("t", input)], secrets: BTreeMap::new() };
            let snapshot = Snapshot { layers: vec![info.into()] };
            records.record(&inputs.key(), &inputs, &vertex("v"), snapshot).unwrap()
        };
        assert_eq!(record("a", &one).layers[0].diff_id, one.diff_id);
        assert_eq!(record("b", &two).layers[0].diff_id, one.diff_id);

        // A step that changed nothing keeps the layers it got.
        let same = Snapshot { layers: vec![(&two).into()] };
        let inputs = KeyInputs { op: Op::Merge, inputs: vec![same.identity()], secrets: BTreeMap::new() };
        assert_eq!(records.record(&inputs.key(), &inputs, &vertex("v"), same.clone()).unwrap(), same);
    }

    #[test]
    fn credentials_are_in_no_record() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::new(Store::open(root.path(), Mode::Root).unwrap());
        let op = |token: &str| -> Op {
            serde_json::from_value(serde_json::json!({"exec": {
                "root": 0, "args": ["make"], "cwd": "/", "platform": {"os": "linux", "architecture": "amd64"},
                "env": [format!("API_TOKEN={token}"), "VERSION=visible"],
            }}))
            .unwrap()
        };
        let record = |token: &str| {
            let inputs = KeyInputs { op: op(token), inputs: vec![], secrets: BTreeMap::new() };
            records.record(&inputs.key(), &inputs, &vertex("v"), Snapshot::default()).unwrap();
            records.get(&inputs.key()).unwrap().unwrap()
        };
        let (one, two, again) = (record("hunter1"), record("hunter2"), record("hunter1"));
        let text = serde_json::to_string(&(&one, &two)).unwrap();
        assert!(!text.contains("hunter") && text.contains("VERSION=visible"), "{text}");
        assert_ne!(one.inputs, two.inputs, "a change can be told");
        assert_eq!(one.inputs, again.inputs);
    }

    #[test]
    fn selections_are_remembered() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::new(Store::open(root.path(), Mode::Root).unwrap());
        let (question, answer) = (Key::of("t", "q"), Key::of("t", "a"));
        assert_eq!(records.selection(&question).unwrap(), None);
        records.set_selection(&question, answer).unwrap();
        assert_eq!(records.selection(&question).unwrap(), Some(answer));
    }
}
