//! What can go wrong while a tree is read.

use std::io;

use crate::tree::shown;

/// A file tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A system call failed.
    #[error("cannot {act} {path:?}")]
    Io {
        /// What was tried: `read`, `open directory`.
        act: &'static str,
        /// Path below the tree's root.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is read now is not what was there when the tree was listed.
    #[error("{path:?} changed while reading")]
    Changed {
        /// Path below the tree's root.
        path: String,
    },
    /// Nothing is there.
    #[error("{path:?}: not found")]
    NotFound {
        /// Path as asked for.
        path: String,
    },
    /// It is there, but the ignore file leaves it out.
    #[error("{path:?}: not found: it is there, but excluded by the ignore file (.dockerignore)")]
    Ignored {
        /// Path as asked for.
        path: String,
    },
    /// Symbolic links that lead in circles, or very far.
    #[error("too many symbolic links in {path:?}")]
    Links {
        /// Path as asked for.
        path: String,
    },
    /// A pattern that Go's `filepath.Match` refuses.
    #[error(transparent)]
    Pattern(#[from] lap_solver::pattern::BadPattern),
}

impl TreeError {
    pub(crate) fn io(act: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { act, path: shown(path), source: source.into() }
    }

    pub(crate) fn changed(path: &[u8]) -> Self {
        Self::Changed { path: shown(path) }
    }

    pub(crate) fn not_found(path: &[u8]) -> Self {
        Self::NotFound { path: shown(path) }
    }
}
