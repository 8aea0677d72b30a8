//! What the solver asks of the world: someone who executes steps, and an index that knows earlier results.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use crate::digest::Key;
use crate::graph::{Vertex, VertexId};
use crate::key::KeyInputs;

/// Executes steps.
///
/// A result is cheap to clone and says by itself what it is (layers, a local directory); the solver never looks in.
pub trait Worker: Send + Sync + 'static {
    /// What a step yields.
    type Output: Clone + Send + Sync + 'static;
    /// Why a step failed. Shared, since every waiter gets it.
    type Error: std::fmt::Display + Send + Sync + 'static;

    /// The identity of what `vertex` can see of its input number `input`: equal identities mean that the step
    /// cannot tell the two inputs apart. Must be cheap where the content was seen before.
    fn identity(
        self: &Arc<Self>,
        vertex: &Vertex,
        input: usize,
        output: &Self::Output,
    ) -> impl Future<Output = Result<Key, Self::Error>> + Send;

    /// What stands for the values of the secrets that are part of the step's key: see
    /// [`keyed_secrets`](crate::graph::Exec::keyed_secrets). Nobody can tell the values from it.
    ///
    /// # Errors
    /// Where a secret cannot be read.
    fn secrets(&self, id: VertexId, vertex: &Vertex) -> Result<BTreeMap<String, Key>, Self::Error>;

    /// Executes a step. Dropping the future cancels it: whatever it started is dead when the drop returns or soon after.
    fn execute(
        self: &Arc<Self>,
        id: VertexId,
        vertex: &Vertex,
        key: Key,
        inputs: Vec<Self::Output>,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// Who executes a step that several builds may want at the same moment.
#[derive(Debug)]
pub enum Turn<Guard, Output> {
    /// This build. The others wait until the guard is dropped.
    Ours(Guard),
    /// Another build has done it meanwhile; this is the result.
    Theirs(Output),
}

/// Knows what earlier builds yielded.
pub trait Index<Output, Error>: Send + Sync + 'static {
    /// Keeps other builds from executing a step that this one executes.
    type Guard: Send + 'static;

    /// The result recorded under `key`, if it can still be used. `inputs` are what the key was made of, `outputs` the
    /// results of the step's inputs, in order: a record of elsewhere may only say what a step added to them.
    ///
    /// # Errors
    /// Where the store cannot be read; a missing or unusable record is no error.
    fn lookup(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        outputs: &[Output],
    ) -> impl Future<Output = Result<Option<Output>, Error>> + Send;

    /// There is no result for a step of these inputs: a chance to remember what they are made of, so that the next
    /// miss can be explained.
    fn missed(&self, _inputs: &KeyInputs) {}

    /// Waits until no other build executes the step of `key`, and tells whether one has done so. `waiting` is called
    /// where that takes time. Must not be waited for by whoever holds another guard.
    ///
    /// # Errors
    /// Where the store cannot be locked or read.
    fn turn(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        waiting: impl FnOnce() + Send,
    ) -> impl Future<Output = Result<Turn<Self::Guard, Output>, Error>> + Send;

    /// Records a result. The returned one replaces it: an earlier equal result may be adopted.
    ///
    /// # Errors
    /// Where the store cannot be written.
    fn record(&self, key: &Key, inputs: &KeyInputs, vertex: &Vertex, output: Output) -> Result<Output, Error>;
}
