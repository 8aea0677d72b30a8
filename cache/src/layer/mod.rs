//! Layers: a directory tree that differs from what lies below it, and its OCI form, a tar.
//!
//! A layer lies unpacked in `layers/<diff id>/fs`, in overlay form: a whiteout is a character device 0:0, an opaque
//! directory has the overlay's attribute. The tar has the OCI form (`.wh.<name>`, `.wh..wh..opq`; image spec,
//! "Image Layer Filesystem Changeset"). A layer of our own is a tar that can be written again from the directory,
//! bit for bit; of a foreign one (pulled, loaded) the original blob is the truth.

mod apply;
mod check;
mod commit;
mod decompress;
mod privilege;
mod retime;
mod stack;
mod stream;
mod tree;
mod view;
mod vouch;
mod whiteout;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lap_solver::digest::Key;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::archive::ArchiveError;
use crate::digest::Digest;
use crate::fs::FsError;
use crate::store::{Claim, Store, StoreError};

pub(crate) use apply::Applier;
pub use apply::{Extracted, Owner};
pub(crate) use check::LayerState;
pub use decompress::{Compression, decompress};
pub use retime::{Span, Times};
pub(crate) use stack::open_layer;
pub use stack::{Change, Hidden, Stack, StoredFile, Top, changes};
pub use tree::Node;
pub(crate) use tree::{exported, same_data};
pub(crate) use view::Level;
pub use view::{Found, View};

/// What is known of a stored layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// SHA-256 of the uncompressed tar.
    pub diff_id: Digest,
    /// Hash of what the layer holds without modification times; of a foreign layer a hash of its diff ID.
    pub content_id: Key,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// Bytes of data in regular files.
    pub bytes: u64,
    /// Devices, owners and attributes that could not be kept in an unprivileged store. The blob still has them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Paths of the regular files that are setuid or setgid or have capabilities, sorted. Nothing where that is not
    /// known: the layer is of an older store, or they are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<Vec<String>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Where a layer's tar comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made here: the directory gives the tar.
    Made {
        /// Whether the tar has an entry for the root directory.
        root_entry: bool,
    },
    /// Came from outside: the blob is the tar.
    Foreign,
}

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LayerFile {
    info: LayerInfo,
    origin: Origin,
    /// When it came into the store, in seconds since 1970.
    #[serde(default)]
    made_at: u64,
    /// The boot in which it was written, until a sync has covered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// When the step ran that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ran: Option<Span>,
}

impl LayerFile {
    /// Of a layer that comes into the store now.
    fn now(store: &Store, info: LayerInfo, origin: Origin) -> Self {
        let boot = Some(store.boot_id().to_owned());
        Self { info, origin, made_at: now().as_secs(), boot, ran: None }
    }
}

/// The time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Why a layer could not be read, made or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A call of the file system failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The layer is not in the store.
    #[error("layer {diff_id} is not in the store")]
    Missing {
        /// The layer.
        diff_id: Digest,
    },
    /// Only the blob of a foreign layer has exactly the bytes of its diff ID.
    #[error("layer {diff_id} was not made here: its tar is the blob it came in")]
    Foreign {
        /// The layer.
        diff_id: Digest,
    },
    /// The tar is not the one announced.
    #[error("layer {expected} has diff ID {actual}")]
    WrongDiffId {
        /// What the image config says.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The tar is none, or damaged, or too large.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry that no layer may have.
    #[error("archive entry {} {why}", path.display())]
    Refused {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A hard link to a file that neither the layer nor the ones below have.
    #[error("hard link {} to {}: no such file in the layer", path.display(), target.display())]
    UnresolvedLink {
        /// The link.
        path: PathBuf,
        /// What it names.
        target: PathBuf,
    },
    /// Directories of the layer are as in layers below that are not there yet; unpack again when they are.
    #[error("the layer needs the ones below it, which are not in the store")]
    NeedsParents,
    /// A step made a file whose name means something else in an image.
    #[error("{}: names beginning with .wh. cannot be kept in an image layer", path.display())]
    WhiteoutName {
        /// The file.
        path: PathBuf,
    },
    /// Somebody still wrote while the layer was read.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The stream of bytes failed: network, decompression.
    #[error("read the layer: {0}")]
    Read(#[source] std::io::Error),
    /// The writer failed.
    #[error("write the layer: {0}")]
    Write(#[source] std::io::Error),
}

impl Store {
    /// What is known of a layer, if it is in the store and whole.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<LayerInfo>, LayerError> {
        Ok(self.layer_file(diff_id)?.map(|file| file.info))
    }

    /// How long after 1970 a layer came into the store, to the second; nothing where it is not there.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn layer_made_at(&self, diff_id: &Digest) -> Result<Option<Duration>, LayerError> {
        Ok(self.layer_file(diff_id)?.map(|file| Duration::from_secs(file.made_at)))
    }

    /// Whether [`Self::write_tar`] can give the tar of a layer: it was made here.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn gives_tar(&self, diff_id: &Digest) -> Result<bool, LayerError> {
        Ok(self.layer_file(diff_id)?.is_some_and(|file| matches!(file.origin, Origin::Made { .. })))
    }

    /// The directory of a layer, whether it is there or not; `fs` in it is the overlay's lower directory.
    #[must_use]
    pub fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.root().join(layer_path(diff_id))
    }

    /// The files of a layer, as an overlay takes them.
    #[must_use]
    pub fn layer_files(&self, diff_id: &Digest) -> PathBuf {
        self.layer_dir(diff_id).join("fs")
    }

    fn layer_file(&self, diff_id: &Digest) -> Result<Option<LayerFile>, LayerError> {
        // A file that a power cut left empty or torn is as good as none: the layer is made again.
        let look = || self.read_file(&format!("{}/layer.json", layer_path(diff_id)));
        let Some(bytes) = self.claiming(Claim::Layer(*diff_id), look)?? else { return Ok(None) };
        let Ok(file) = serde_json::from_slice::<LayerFile>(&bytes) else { return Ok(None) };
        match &file.boot {
            Some(boot) if boot != self.boot_id() => return Ok(None),
            Some(_) => self.note_unsynced(*diff_id),
            None => {}
        }
        Ok(Some(file))
    }

    /// Takes the mark of an unsynced layer away.
    pub(crate) fn mark_synced(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let path = format!("{}/layer.json", layer_path(diff_id));
        let Some(bytes) = self.read_file(&path)? else { return Ok(()) };
        let corrupt = |source| StoreError::Corrupt { path: self.root().join(&path), source };
        let mut file: LayerFile = serde_json::from_slice(&bytes).map_err(corrupt)?;
        if file.boot.take().is_some() {
            self.put_layer_file(&file)?;
        }
        Ok(())
    }

    /// Writes anew what is known of a layer that is there.
    fn put_layer_file(&self, file: &LayerFile) -> Result<(), StoreError> {
        let path = format!("{}/layer.json", layer_path(&file.info.diff_id));
        let corrupt = |source| StoreError::Corrupt { path: self.root().join(&path), source };
        self.write_file(&path, &serde_json::to_vec(file).map_err(corrupt)?, false)
    }

    /// Removes a layer; a missing one is fine. Who calls it knows that nobody uses it.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove_layer(&self, diff_id: &Digest) -> Result<(), LayerError> {
        let session = self.session()?;
        let name = session.fresh_name();
        match crate::fs::durable::rename(self.dir(), layer_path(diff_id), session.dir(), &name) {
            Ok(()) => Ok(crate::fs::remove_tree(session.dir(), name.as_bytes())?),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FsError::new("remove", self.layer_dir(diff_id), errno).into()),
        }
    }

    /// The diff IDs of all layers in the store, whole or not, sorted.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn layers(&self) -> Result<Vec<Digest>, LayerError> {
        let names = crate::fs::sorted_names(crate::fs::open_dir_at(self.dir(), b"layers")?)?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(std::str::from_utf8(name).ok()?).ok()).collect())
    }
}

pub(crate) fn layer_path(diff_id: &Digest) -> String {
    format!("layers/{}", diff_id.hex())
}

/// `name` in the directory `parent`; an empty parent is the root.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match (parent, name) {
        (b"", _) => name.to_vec(),
        (_, b"") => parent.to_vec(),
        _ => [parent, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests;
