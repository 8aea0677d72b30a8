//! Snapshots: a stack of layers as data. Nothing is mounted here; whoever mounts gets an [`OverlayPlan`].

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lap_solver::digest::Key;
use rustix::fs::{Gid, Mode, Uid};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fs::{self, Act, FsError, Metadata, NewDirectory};
use crate::layer::{LayerError, LayerInfo, View, exported};
use crate::store::{Session, Store, StoreError};

/// A layer by name, whether it is in the store or still remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerRef {
    /// Which layer.
    pub diff_id: Digest,
    /// What a step can see of it: the content ID of a layer made here, a hash of the diff ID of a foreign one.
    pub identity: Key,
}

impl LayerRef {
    /// A layer that came from outside.
    #[must_use]
    pub fn foreign(diff_id: Digest) -> Self {
        Self { diff_id, identity: Key::of("diff-id", &diff_id) }
    }
}

impl From<&LayerInfo> for LayerRef {
    fn from(info: &LayerInfo) -> Self {
        Self { diff_id: info.diff_id, identity: info.content_id }
    }
}

/// A root file system: layers, lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot {
    /// The layers, lowest first.
    pub layers: Vec<LayerRef>,
}

impl Snapshot {
    /// What a step sees of it: the identities of its layers, in order.
    #[must_use]
    pub fn identity(&self) -> Key {
        Key::of("snapshot", &self.layers.iter().map(|layer| layer.identity).collect::<Vec<_>>())
    }

    /// The diff IDs, lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// The same with one more layer on top.
    #[must_use]
    pub fn with(&self, layer: LayerRef) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }
}

/// What an overlay mount is made of. With `upper` absent it is read-only.
///
/// Mount it with `redirect_dir=off,metacopy=off` (a layer must be whole in itself), or, in
/// [`crate::store::Mode::User`], with `userxattr` alone: it implies both and the kernel refuses them beside it. One
/// lower directory alone and no upper is no overlay: bind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayPlan {
    /// Lower directories, top first.
    pub lowers: Vec<PathBuf>,
    /// Where changes go.
    pub upper: Option<PathBuf>,
    /// The overlay's own directory, on the same file system as `upper`.
    pub work: Option<PathBuf>,
}

/// Directories in which a step makes a layer. Removed on drop, or by the next process if this one dies.
#[derive(Debug)]
pub struct Workspace {
    session: Arc<Session>,
    name: String,
    path: PathBuf,
}

impl Workspace {
    /// The directory that becomes the layer.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// The overlay's work directory.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// An empty directory to mount on.
    #[must_use]
    pub fn merged(&self) -> PathBuf {
        self.path.join("merged")
    }

    /// The directory that holds the others; files of the step's own may be put there.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Workspace {
    /// Its name in the session.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory that holds the others.
    pub(crate) fn open(&self) -> Result<OwnedFd, FsError> {
        fs::open_dir_at(self.session.dir(), self.name.as_bytes())
    }

    fn set_root(&self, root: &Metadata) -> Result<(), FsError> {
        let upper = fs::open_dir_at(self.open()?, b"upper")?;
        let (uid, gid) = (Uid::from_raw(root.uid), Gid::from_raw(root.gid));
        rustix::fs::fchown(&upper, Some(uid), Some(gid)).act("change the owner of", self.upper())?;
        rustix::fs::fchmod(&upper, Mode::from_raw_mode(root.mode)).act("change the mode of", self.upper())?;
        let xattrs = exported(&root.xattrs);
        fs::apply_xattrs(&upper, b".", &xattrs)?;
        fs::apply_times(&upper, b".", root.mtime)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What cannot be removed now goes with the session, or with the next process.
        drop(fs::remove_tree(self.session.dir(), self.name.as_bytes()));
    }
}

impl Store {
    /// Makes an empty workspace.
    ///
    /// # Errors
    /// Where directories cannot be made.
    pub fn workspace(&self) -> Result<Workspace, StoreError> {
        let session = self.session()?;
        let (dir, name) = session.create_directory()?;
        let path = session.path().join(&name);
        for (name, mode) in [("upper", 0o755), ("work", 0o700), ("merged", 0o755)] {
            fs::make_directory(&dir, name.as_bytes(), NewDirectory { mode, uid: 0, gid: 0 })?;
        }
        Ok(Workspace { session, name, path })
    }

    /// What to mount to see `layers` (lowest first), writable where a workspace is given. The workspace's upper
    /// directory gets owner and mode of the root below it, since a mount shows those of its top directory.
    ///
    /// # Errors
    /// Where a layer is missing.
    pub fn overlay(&self, layers: &[Digest], workspace: Option<&Workspace>) -> Result<OverlayPlan, LayerError> {
        let below = View::open(self, layers)?;
        if let (Some(workspace), Some(root)) = (workspace, below.root_metadata()?) {
            workspace.set_root(&root)?;
        }
        let lowers = layers.iter().rev().map(|layer| self.layer_files(layer)).collect();
        Ok(OverlayPlan { lowers, upper: workspace.map(Workspace::upper), work: workspace.map(Workspace::work) })
    }
}
