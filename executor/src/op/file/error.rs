//! Why files could not be changed.

use std::io;

use super::chmod::BadMode;
use super::owner::OwnerError;
use crate::tree::{TreeError, shown};

/// A file action failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading the source failed.
    #[error(transparent)]
    Source(#[from] TreeError),
    /// A system call on the destination failed.
    #[error("cannot {act} {path:?}")]
    Target {
        /// What was tried.
        act: &'static str,
        /// Path in the changed file system.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file cannot take the place of a directory.
    #[error("cannot replace directory {path:?} with a file")]
    ReplaceDirectory {
        /// The directory.
        path: String,
    },
    /// A directory cannot take the place of something else.
    #[error("cannot make directory {path:?}: something else is there")]
    NotADirectory {
        /// What is in the way.
        path: String,
    },
    /// Symbolic links that lead in circles, or very far.
    #[error("too many symbolic links in {path:?}")]
    Links {
        /// Path in the changed file system.
        path: String,
    },
    /// An owner that cannot be understood or found.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// A mode that cannot be understood.
    #[error(transparent)]
    Mode(#[from] BadMode),
    /// An archive could not be unpacked.
    #[error("cannot unpack {path:?}")]
    Unpack {
        /// The archive.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The build was given up.
    #[error("cancelled")]
    Cancelled,
    /// An action of the graph names an input that the step does not have.
    #[error("the step has no input {0}")]
    NoInput(u32),
}

impl FileError {
    pub(super) fn target(act: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Target { act, path: shown(path), source: source.into() }
    }
}
