//! Directories of this machine: the build context and named contexts.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use lap_cache::store::Store;
use lap_solver::digest::Key;
use lap_solver::pattern::Matcher;

use crate::tree::{Owners, StatCache, Tree, TreeError};

/// Below the store: what is known of the files of contexts.
const STATS: &str = "stats";

/// A directory that steps may copy from or mount.
#[derive(Debug, Clone)]
pub struct LocalSource {
    /// The directory; it may be reached through symbolic links.
    pub dir: PathBuf,
    /// What of it is left out.
    pub ignore: Matcher,
}

/// A context while it is used.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) tree: Arc<Tree>,
    stats: Arc<StatCache>,
}

impl Local {
    /// Opens the directory; nothing of it is read yet.
    pub(crate) fn open(source: &LocalSource, store: &Store) -> Result<Self, TreeError> {
        let dir = std::path::absolute(&source.dir).unwrap_or_else(|_| source.dir.clone());
        let name = Key::of("stats", dir.as_os_str().as_bytes()).to_hex();
        let stats = Arc::new(StatCache::open(store.root().join(STATS).join(name)));
        let tree = Tree::open(&source.dir, Some(source.ignore.clone()), Owners::Root)?;
        Ok(Self { tree: Arc::new(tree.with_stats(Arc::clone(&stats))), stats })
    }

    /// Writes down the digests that were computed, for the next build.
    pub(crate) fn save(&self) -> io::Result<()> {
        self.stats.save()
    }
}
