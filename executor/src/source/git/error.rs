//! Why a repository could not be had.

use std::io;

use lap_cache::fs::FsError;
use lap_cache::layer::LayerError;
use lap_cache::store::StoreError;

use crate::grant::GrantError;

/// Why a repository could not be had. Addresses are shown without logins.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// An address that git is not given.
    #[error("{url:?} is no repository to fetch from: {why}")]
    Address {
        /// The address.
        url: String,
        /// Why not.
        why: &'static str,
    },
    /// A ref that cannot be one.
    #[error("{0:?} is no branch, tag or commit")]
    BadRef(String),
    /// The repository does not have the ref.
    #[error("{url} has no branch, tag or commit {reference:?}")]
    NoRef {
        /// The repository.
        url: String,
        /// The ref.
        reference: String,
    },
    /// The commit is not there, or no longer.
    #[error("{url} does not give commit {commit}")]
    NoCommit {
        /// The repository.
        url: String,
        /// The commit.
        commit: String,
    },
    /// The commit is another one than was asked for.
    #[error("{url} is at commit {actual}, checksum {expected} was asked for")]
    Checksum {
        /// The repository.
        url: String,
        /// Asked for.
        expected: String,
        /// What the ref stands for.
        actual: String,
    },
    /// The directory is not in the commit.
    #[error("{url} has no directory {path:?} at commit {commit}")]
    NoDirectory {
        /// The repository.
        url: String,
        /// The directory.
        path: String,
        /// The commit.
        commit: String,
    },
    /// Submodules of submodules of submodules.
    #[error("{url} has more submodules than are fetched, or they lie too deep")]
    Submodules {
        /// The repository.
        url: String,
    },
    /// git is not installed.
    #[error("git is not installed: repositories are fetched with it")]
    NoGit(#[source] io::Error),
    /// git failed.
    #[error("git {act} failed: {message}")]
    Git {
        /// Which of its commands.
        act: String,
        /// What it said.
        message: String,
    },
    /// git could not be run or listened to.
    #[error("run git {act}")]
    Run {
        /// Which of its commands.
        act: String,
        /// Why.
        source: io::Error,
    },
    /// A token or agent cannot be had.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// A directory of the store cannot be used.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files cannot be unpacked, or the layer not be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A thread of ours ended without a result.
    #[error("cancelled")]
    Cancelled(#[from] tokio::task::JoinError),
}
