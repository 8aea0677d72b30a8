//! The parts of the build cache as people see them.

use serde::Serialize;

/// What a part of the cache is, in BuildKit's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Kind {
    /// A layer that a step made, or that was fetched for one.
    #[default]
    #[serde(rename = "regular")]
    Regular,
    /// What is known of the files of contexts.
    #[serde(rename = "source.local")]
    Local,
    /// Git repositories and what was taken of them.
    #[serde(rename = "source.git.checkout")]
    Git,
    /// A directory of `RUN --mount=type=cache`.
    #[serde(rename = "exec.cachemount")]
    CacheMount,
    /// Indexes and blobs that can be made again from what is kept.
    #[serde(rename = "internal")]
    Internal,
}

impl Kind {
    /// BuildKit's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Local => "source.local",
            Self::Git => "source.git.checkout",
            Self::CacheMount => "exec.cachemount",
            Self::Internal => "internal",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Regular, Self::Local, Self::Git, Self::CacheMount, Self::Internal];
        all.into_iter().find(|kind| kind.name() == text)
    }
}

/// A part of the build cache.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Usage {
    /// Its name: of a layer the hexadecimal digits of its diff ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// The layers that it lies on directly.
    pub parents: Vec<String>,
    /// What it is.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// What made it.
    pub description: String,
    /// Whether a living process uses it.
    #[serde(rename = "InUse")]
    pub in_use: bool,
    /// Whether an image or a container has it too, so that removing it would free nothing.
    pub shared: bool,
    /// Whether steps may still change it.
    pub mutable: bool,
    /// Bytes on the disk.
    pub size: u64,
    /// When it was made, in seconds since 1970.
    #[serde(rename = "CreatedAt")]
    pub created: u64,
    /// When it was last of use, in seconds since 1970.
    #[serde(rename = "LastUsedAt")]
    pub last_used: u64,
    /// How many layers it lies on.
    #[serde(skip)]
    pub depth: usize,
}

impl Usage {
    /// Whether removing it would free its bytes now.
    #[must_use]
    pub const fn is_reclaimable(&self) -> bool {
        !self.in_use && !self.shared
    }
}
