//! Containers: a sandbox with a name, state on disk and a life longer than one command.
//!
//! Each has a directory below the store's `containers/`: `config.json` (what was asked, never changed), `state.json`
//! (replaced whole), `upper` and `work` of its overlay, `etc` with its network files, `log`. There is no daemon: who
//! starts a container watches it, in the foreground the caller itself, detached a process of this program that
//! outlives it. What a dead watcher left is seen for what it is by everyone who looks.
//!
//! Named volumes lie below the store's `volumes/`.

mod config;
mod directory;
mod error;
mod exec;
mod inspect;
mod logs;
mod start;
mod state;
mod stop;
mod supervise;
mod sweep;
mod time;

use std::path::{Path, PathBuf};

use lap_cache::store::Store;

pub use config::{Config, CreateOptions, Emulated, NetworkMode, Volume, VolumeSource, signal_number};
pub use directory::Container;
pub use error::ContainerError;
pub use exec::ExecOptions;
pub use logs::{LogEntry, LogOptions, Stream};
pub use start::{Attached, Notice};
pub use state::{Ended, Live, ProcessId, State};
pub(crate) use supervise::{SUPERVISOR_NAME, main as supervisor_main};
pub use time::rfc3339;

/// The containers of a store.
#[derive(Debug, Clone)]
pub struct Containers {
    store: Store,
    run_dir: PathBuf,
}

impl Containers {
    /// Containers of a store; networks keep their state below `run_dir`.
    #[must_use]
    pub fn new(store: Store, run_dir: &Path) -> Self {
        Self { store, run_dir: run_dir.to_path_buf() }
    }

    fn root(&self) -> PathBuf {
        self.store.root().join("containers")
    }

    fn volume_dir(&self, name: &str) -> PathBuf {
        self.store.root().join("volumes").join(name)
    }
}
