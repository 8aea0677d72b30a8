//! The one event vocabulary: what happens, in ids and numbers, to whoever looks.
//!
//! Libraries never print. They tell an [`Observer`]; the command line folds events into what it shows, a recorder
//! writes them down. Events carry no time: whoever receives them stamps them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Key;
use crate::graph::VertexId;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step was taken up: its key is being looked up, or it runs.
    Started {
        /// The step.
        vertex: VertexId,
    },
    /// An earlier result is used.
    Cached {
        /// The step.
        vertex: VertexId,
        /// The key that found it.
        key: Key,
    },
    /// Another build executes the step at this moment: its result is waited for.
    Waiting {
        /// The step.
        vertex: VertexId,
    },
    /// The step is being executed (it was no hit).
    Running {
        /// The step.
        vertex: VertexId,
        /// Its key.
        key: Key,
        /// What it sees of each input, as far as its key is made of that.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        inputs: Vec<Key>,
        /// What stands for the values of its secrets, as far as its key is made of them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        secrets: BTreeMap<String, Key>,
    },
    /// The step is done.
    Completed {
        /// The step.
        vertex: VertexId,
    },
    /// The step failed; the error itself travels in the result.
    Failed {
        /// The step.
        vertex: VertexId,
        /// One line.
        message: String,
    },
    /// The step was given up because another one failed or the user cancelled.
    Cancelled {
        /// The step.
        vertex: VertexId,
    },
    /// Output of a step.
    Log {
        /// The step.
        vertex: VertexId,
        /// Which of its streams.
        stream: Stream,
        /// Bytes as they came, not cut at lines.
        #[serde(with = "lossy")]
        data: Vec<u8>,
    },
    /// A part of the work whose size is known or not: a blob in transit, a layer being unpacked or exported.
    Progress {
        /// Stable name within the build or command: `sha256:… download`.
        id: String,
        /// What is being done.
        action: Action,
        /// The step it belongs to.
        vertex: Option<VertexId>,
        /// Done so far, in bytes unless the action says otherwise.
        current: u64,
        /// All of it, where known.
        total: Option<u64>,
        /// Whether this part is over.
        done: bool,
    },
    /// Something the user should know that is no failure.
    Warning {
        /// The step it belongs to.
        vertex: Option<VertexId>,
        /// One line.
        message: String,
    },
    /// A check of a Dockerfile found something.
    Finding {
        /// Name of the check.
        rule: String,
        /// One line.
        message: String,
        /// Name of the file.
        file: String,
        /// Where it stands in it, from 1; 0 is the whole file.
        line: u32,
    },
}

/// Output streams of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a [`Event::Progress`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Asking a registry what a reference stands for.
    Resolve,
    /// Fetching a blob.
    Download,
    /// Unpacking a layer.
    Extract,
    /// Compressing or writing a layer out.
    Export,
    /// Sending a blob.
    Upload,
    /// It was there already.
    Exists,
}

/// Receives events. Must not block for long: steps wait for it.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn observe(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync> Observer for F {
    fn observe(&self, event: Event) {
        self(event);
    }
}

/// A shared observer that can be handed around.
#[derive(Clone)]
pub struct Events(Arc<dyn Observer>);

impl Events {
    /// Sends to `observer`.
    pub fn new(observer: impl Observer + 'static) -> Self {
        Self(Arc::new(observer))
    }

    /// Nobody looks.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells the observer.
    pub fn send(&self, event: Event) {
        self.0.observe(event);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// Log bytes as text in the printed form.
mod lossy {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(data))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(String::deserialize(deserializer)?.into_bytes())
    }
}
