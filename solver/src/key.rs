//! The content key of a step, and the inputs it was made of, so that a miss can be explained.

use serde::{Deserialize, Serialize};

use crate::digest::Key;
use crate::graph::{Op, Vertex};

/// Everything a content key is made of, stored with each record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInputs {
    /// The step itself.
    pub op: Op,
    /// What the step sees of each input, in order.
    pub inputs: Vec<Key>,
}

impl KeyInputs {
    /// Of a step whose inputs have these identities.
    #[must_use]
    pub fn new(vertex: &Vertex, inputs: Vec<Key>) -> Self {
        Self { op: vertex.op.clone(), inputs }
    }

    /// The content key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::of("step", &(&self.op, &self.inputs))
    }
}
