//! What the result of a graph is wrapped in: the image a target stands for.

use serde::{Deserialize, Serialize};

use crate::graph::{Imported, VertexId};
use crate::image::{History, ImageConfig};
use crate::platform::Platform;

/// The image that one target becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIntent {
    /// The step whose result is the root file system; none for an image without layers (`FROM scratch` alone).
    pub root: Option<VertexId>,
    /// The config without `rootfs` and `history` of this build; `history` holds what the base brought.
    pub config: ImageConfig,
    /// One entry an instruction of this build, oldest first.
    pub history: Vec<HistoryIntent>,
    /// The platform of the image.
    pub platform: Platform,
}

impl ImageIntent {
    /// The same image of a graph that this one's graph was imported into.
    #[must_use]
    pub fn moved(&self, places: &Imported) -> Self {
        let moved = |entry: &HistoryIntent| HistoryIntent {
            entry: entry.entry.clone(),
            vertex: entry.vertex.map(|vertex| places.place(vertex)),
        };
        Self {
            root: self.root.map(|root| places.place(root)),
            config: self.config.clone(),
            history: self.history.iter().map(moved).collect(),
            platform: self.platform.clone(),
        }
    }
}

/// A history entry, and the step that may have made a layer for it.
///
/// Whether it did is known only after the step: the entry becomes an `empty_layer` one where the step's result has
/// no layer more than its first input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryIntent {
    /// The entry; `empty_layer` and `created` are filled in later.
    pub entry: History,
    /// The step; none for instructions that only change the config.
    pub vertex: Option<VertexId>,
}
