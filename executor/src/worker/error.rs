//! Why a step failed.

use lap_cache::layer::LayerError;
use lap_cache::registry::RegistryError;
use lap_cache::remote::Lost;
use lap_cache::store::StoreError;

use crate::grant::GrantError;
use crate::op::exec::ExecError;
use crate::op::file::FileError;
use crate::overlay::OverlayError;
use crate::source::git::GitError;
use crate::source::http::HttpError;
use crate::source::image::Unresolved;
use crate::tree::TreeError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A command failed, or could not be started.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Copying or making files failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A context or a file system could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The graph names a base image that was not resolved.
    #[error(transparent)]
    Image(#[from] Unresolved),
    /// Layers of a base image could not be had.
    #[error("cannot fetch the layers of a base image")]
    Fetch(#[from] RegistryError),
    /// A build cache does not have what it named; whoever solves can do so again without it.
    #[error(transparent)]
    CacheLost(#[from] Lost),
    /// Something was not granted.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer could not be read or made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Layers could not be stacked.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A context that the command line did not give.
    #[error("there is no context {0:?}")]
    NoContext(String),
    /// A step needs layers where it got a directory, or has too few inputs: a fault of whoever made the graph.
    #[error("input {0} of the step is missing or of the wrong kind")]
    Input(usize),
    /// A file from a web server could not be had.
    #[error(transparent)]
    Http(#[from] Box<HttpError>),
    /// A git repository could not be had.
    #[error(transparent)]
    Git(#[from] Box<GitError>),
    /// It cannot be told whether another build executes the step.
    #[error("cannot lock the store's steps.lock")]
    Turn(#[source] std::io::Error),
    /// The build was given up while the step ran.
    #[error("cancelled")]
    Cancelled,
    /// A thread of ours panicked.
    #[error("internal error: {0}")]
    Lost(#[from] tokio::task::JoinError),
}

impl WorkerError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Exec(ExecError::Sandbox(error)) => error.hint(),
            Self::Exec(ExecError::Network(error)) => error.hint(),
            Self::Overlay(error) => error.hint(),
            _ => None,
        }
    }
}
