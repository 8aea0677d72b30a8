//! What can go wrong between here and a build cache.

use std::path::PathBuf;

use crate::content::ContentError;
use crate::image::{ImageError, ManifestError};
use crate::layer::LayerError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why a cache could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A registry, or another server, did not do as asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A file of a local cache could not be read or written.
    #[error("{act} {}", path.display())]
    File {
        /// "read", "write".
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No answer within the time that a build waits for a cache.
    #[error("no answer within {} s", limit.as_secs())]
    Silent {
        /// How long it was waited for.
        limit: std::time::Duration,
    },
    /// An answer that is no success.
    #[error("{url}: {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// Without query.
        url: String,
        /// HTTP status code.
        status: u16,
        /// What the server says about it.
        message: String,
    },
    /// An answer that is not what the protocol says.
    #[error("the server's answer cannot be understood")]
    Answer,
    /// A document of ours has no JSON form.
    #[error("write a document of the cache")]
    Write(#[source] serde_json::Error),
    /// The image is no good.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A descriptor is no good.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A blob is not what was announced, or could not be stored.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another cache, from which a layer was to be taken over, does not have it.
    #[error(transparent)]
    Lost(#[from] super::Lost),
    /// A directory that others are writing to.
    #[error("another build is writing to it")]
    Busy,
    /// Builds that run use a cache mount that is to be exported.
    #[error("the cache mount {id} is in use by other builds")]
    MountBusy {
        /// Its id.
        id: String,
    },
    /// A thread of ours ended without a result.
    #[error("a transfer was cancelled")]
    Cancelled,
}

impl RemoteError {
    /// The error with its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.ends_with(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        text
    }
}
