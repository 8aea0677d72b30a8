//! Why a container command failed.

use std::io;
use std::path::PathBuf;

use crate::network::NetworkError;
use crate::sandbox::SandboxError;

/// Why a container command failed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No container has this name or id.
    #[error("No such container: {wanted}")]
    NotFound {
        /// What was asked for.
        wanted: String,
    },
    /// Several ids begin so.
    #[error("{wanted} is the beginning of {count} container ids")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// How many.
        count: usize,
    },
    /// The name is taken.
    #[error("the container name {name:?} is in use by container {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// The container that has it.
        id: String,
    },
    /// The request makes no sense.
    #[error("{what}")]
    Invalid {
        /// Which part, and why.
        what: String,
    },
    /// The container is not in the state that the command needs.
    #[error("container {id} {problem}")]
    State {
        /// The container.
        id: String,
        /// `is not running`, `is running: stop it first, or use --force`, ...
        problem: &'static str,
    },
    /// Its sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Programs of the image's platform cannot run here.
    #[error(transparent)]
    Emulation(#[from] crate::emulation::EmulationError),
    /// The process that watches it reported a failure.
    #[error("{message}")]
    Supervisor {
        /// What it said.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// The exit code for the user: 125, 126 or 127.
        code: i32,
    },
    /// Its network failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Its image's layers are not in the store.
    #[error("layers of the image")]
    Layers(#[from] lap_cache::layer::LayerError),
    /// A file operation failed.
    #[error("{act} {}", path.display())]
    File {
        /// `read`, `write`, ...
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ContainerError {
    pub(super) fn file(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { act, path, source }
    }

    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// Docker's exit code for the failure: 125 the container failed, 126 not executable, 127 not found.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Sandbox(error) => error.exit_code(),
            Self::Supervisor { code, .. } => *code,
            _ => 125,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Sandbox(error) => error.hint(),
            Self::Supervisor { hint, .. } => hint.as_deref(),
            Self::Network(error) => error.hint(),
            Self::NameTaken { .. } => Some("remove or rename that container, or choose another name"),
            _ => None,
        }
    }
}
