//! The store: one directory, many processes, no daemon.
//!
//! ```text
//! format                  {"version":1,"mode":"root"}: checked before anything else
//! oci-layout index.json   the names, as an OCI image layout
//! blobs/sha256/<hex>      verified bytes, never changed
//! layers/<hex>/fs         a layer unpacked, named by diff ID; an overlay lower directory
//! layers/<hex>/layer.json what is known of it
//! layer-blobs/<hex>.json  blobs known of a layer, here or elsewhere, by diff ID
//! partial/<hex>           what came of a blob whose download was cut short, by its digest; locked while it is added to
//! *.lock                  names.lock, layer-blobs.lock: writers one by one; gc.lock: who claims and who prunes;
//!                         steps.lock: who executes which step
//! secret.key              what codes of credentials are made with; see `mac`
//! records/ names/ caches/ containers/
//! tmp/<session>/          what a living process is making, and claims; locked by it
//! ```
//!
//! Nothing is visible before it is complete: it is made below `tmp/` and renamed into place.
//!
//! **What survives a power cut.** Blobs and names are synced one by one. Layers are big: they are written without
//! a sync and `layer.json` names the boot it was written in; a layer of another boot is not believed. At the end of
//! a build [`Store::sync`] syncs the file system, takes that mark off every layer it has used, and syncs once more;
//! names come after that. So a record may be lost, but what is believed is whole, and what has a name is there.

mod lease;
mod mac;
mod session;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{FlockOperation, Mode as FileMode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fs::{self, Act, FsError, durable};

pub(crate) use lease::Claim;
pub use lease::Lease;
pub(crate) use session::Session;

/// Version of the layout that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Directories of the store.
pub(crate) const DIRECTORIES: [&str; 7] = ["blobs/sha256", "layers", "records", "names", "caches", "containers", "tmp"];

/// In whose name the store is kept; whiteouts and opaque directories are marked differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// By the real root: `trusted.overlay.*`.
    Root,
    /// By root of a user namespace: `user.overlay.*`, mounted with `userxattr`.
    User,
}

impl Mode {
    /// The attribute that makes an overlay directory opaque.
    #[must_use]
    pub const fn opaque_xattr(self) -> &'static [u8] {
        match self {
            Self::Root => b"trusted.overlay.opaque",
            Self::User => b"user.overlay.opaque",
        }
    }
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A call of the file system failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The store was written by another version.
    #[error("store {} has format version {found}, this program reads {FORMAT_VERSION}", root.display())]
    Version {
        /// The store.
        root: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The store belongs to the other mode.
    #[error("store {} was made in {found:?} mode and cannot be used in {wanted:?} mode", root.display())]
    WrongMode {
        /// The store.
        root: PathBuf,
        /// Its mode.
        found: Mode,
        /// The mode it was opened in.
        wanted: Mode,
    },
    /// The directory has files but is no store.
    #[error("{} is not empty and not a store", root.display())]
    NotAStore {
        /// The directory.
        root: PathBuf,
    },
    /// A file of the store does not say what it should.
    #[error("read {}: {source}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Format {
    version: u32,
    mode: Mode,
}

/// An open store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    dir: OwnedFd,
    mode: Mode,
    boot: OnceLock<String>,
    session: Mutex<Option<Arc<Session>>>,
    /// Layers used or made in this process that no sync is known to have covered.
    unsynced: Mutex<BTreeSet<Digest>>,
    /// Whether a file that images depend on was written without a sync.
    unsynced_files: AtomicBool,
    claims: Mutex<lease::Claims>,
    /// See [`Store::mac`].
    secret: OnceLock<[u8; 32]>,
    /// Bytes that this process has brought in.
    grown: AtomicU64,
}

impl Store {
    /// Opens the store at `root`, or makes one where there is nothing. What dead processes left below `tmp/` goes
    /// away in the background.
    ///
    /// # Errors
    /// Where it is of another version or mode, or cannot be read or made.
    pub fn open(root: &Path, mode: Mode) -> Result<Self, StoreError> {
        let dir = match fs::open_dir(root) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                std::fs::create_dir_all(root).act("make directory", root)?;
                fs::open_dir(root)?
            }
            result => result?,
        };
        // Mounts and renames must not depend on the working directory.
        let root = std::path::absolute(root).act("resolve", root)?;
        match read_format(&dir, &root)? {
            None => create_locked(&dir, &root, mode)?,
            Some(Format { version, .. }) if version != FORMAT_VERSION => {
                return Err(StoreError::Version { root, found: version });
            }
            Some(Format { mode: found, .. }) if found != mode => {
                return Err(StoreError::WrongMode { root, found, wanted: mode });
            }
            Some(_) => {}
        }
        let store = Self::of(root, dir, mode);
        session::remove_leftovers(&store)?;
        Ok(store)
    }

    /// Opens a store that is there, whatever is wrong with it, and changes nothing: to check it. A format that
    /// cannot be read counts as ours.
    pub(crate) fn open_damaged(root: &Path, mode: Mode) -> Result<Self, StoreError> {
        let dir = fs::open_dir(root)?;
        let root = std::path::absolute(root).act("resolve", root)?;
        let is_ours = |name: &Vec<u8>| [&b"blobs"[..], b"layers", b"records"].contains(&name.as_slice());
        match read_format(&dir, &root) {
            Ok(Some(Format { version, .. })) if version != FORMAT_VERSION => {
                Err(StoreError::Version { root, found: version })
            }
            Ok(Some(Format { mode: found, .. })) if found != mode => {
                Err(StoreError::WrongMode { root, found, wanted: mode })
            }
            Ok(None) if !fs::sorted_names(&dir)?.iter().any(is_ours) => Err(StoreError::NotAStore { root }),
            Ok(_) | Err(StoreError::Corrupt { .. }) => Ok(Self::of(root, dir, mode)),
            Err(error) => Err(error),
        }
    }

    fn of(root: PathBuf, dir: OwnedFd, mode: Mode) -> Self {
        let inner = Inner {
            root,
            dir,
            mode,
            boot: OnceLock::new(),
            session: Mutex::new(None),
            unsynced: Mutex::new(BTreeSet::new()),
            unsynced_files: AtomicBool::new(false),
            claims: Mutex::default(),
            secret: OnceLock::new(),
            grown: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Where the store lies; absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// In whose name it is kept.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.inner.mode
    }

    /// The store's directory, for `*at` calls.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.inner.dir.as_fd()
    }

    /// Makes every layer that this process has made or used survive a power cut: `syncfs`, then the marks. Does
    /// nothing where all of them were synced before.
    ///
    /// # Errors
    /// Where the kernel reports that data could not be written.
    pub fn sync(&self) -> Result<(), StoreError> {
        let unsynced = std::mem::take(&mut *lock(&self.inner.unsynced));
        let files = self.inner.unsynced_files.swap(false, Ordering::Relaxed);
        if unsynced.is_empty() && !files {
            return Ok(());
        }
        let synced = self.sync_layers(&unsynced);
        if synced.is_err() {
            lock(&self.inner.unsynced).extend(unsynced);
            self.inner.unsynced_files.store(true, Ordering::Relaxed);
        }
        synced
    }

    /// Remembers that a file was written which the next [`Self::sync`] must cover.
    pub(crate) fn note_unsynced_file(&self) {
        self.inner.unsynced_files.store(true, Ordering::Relaxed);
    }

    fn sync_layers(&self, layers: &BTreeSet<Digest>) -> Result<(), StoreError> {
        let sync = || durable::sync_file_system(&self.inner.dir).act("sync the file system of", self.root());
        sync()?;
        if layers.is_empty() {
            return Ok(());
        }
        for diff_id in layers {
            self.mark_synced(diff_id)?;
        }
        // That the marks are gone must survive too, or the next boot believes none of these layers.
        Ok(sync()?)
    }

    /// Remembers a layer that the next [`Self::sync`] must cover.
    pub(crate) fn note_unsynced(&self, diff_id: Digest) {
        lock(&self.inner.unsynced).insert(diff_id);
    }

    /// Remembers that this process has brought in about so many bytes.
    pub(crate) fn note_growth_of(&self, bytes: u64) {
        self.inner.grown.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was remembered since the last time, in bytes.
    pub(crate) fn take_growth(&self) -> u64 {
        self.inner.grown.swap(0, Ordering::Relaxed)
    }

    /// Names this run of the kernel.
    pub(crate) fn boot_id(&self) -> &str {
        self.inner.boot.get_or_init(|| {
            // Where it cannot be read, no layer written now is believed after a restart of the process either.
            let unknown = |_| format!("process-{}", std::process::id());
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(unknown, |id| id.trim().to_owned())
        })
    }

    /// The directory below `tmp/` where this process makes things; made on first use.
    pub(crate) fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut session = lock(&self.inner.session);
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let made = Arc::new(Session::create(self)?);
        *session = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Puts a small file at `path` (relative to the store) whole or not at all. With `durable` it survives a power
    /// cut when this returns, as does its name.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_file(&self, path: &str, bytes: &[u8], durable: bool) -> Result<(), StoreError> {
        let session = self.session()?;
        let (file, name) = session.create_file()?;
        let written = io::Write::write_all(&mut &file, bytes).act("write", self.root().join(path));
        let result = written.map_err(StoreError::from).and_then(|()| self.publish_file(&file, &name, path, durable));
        if result.is_err() {
            session.discard_file(&name);
        }
        result
    }

    /// Renames a complete file of the session to `path`; its directory is made where it is missing.
    pub(crate) fn publish_file(
        &self,
        file: &std::fs::File,
        name: &str,
        path: &str,
        durable: bool,
    ) -> Result<(), StoreError> {
        let session = self.session()?;
        if durable {
            durable::sync_file(file).act("sync", self.root().join(path))?;
        }
        let rename = || durable::rename(session.dir(), name, self.dir(), path);
        let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
        match rename() {
            Err(Errno::NOENT) => {
                make_directories(self.dir(), parent)?;
                rename().act("rename to", self.root().join(path))?;
            }
            result => result.act("rename to", self.root().join(path))?,
        }
        if durable {
            sync_directory(self.dir(), parent)?;
        }
        Ok(())
    }

    /// Removes the file at `path` (relative to the store); a missing one is fine.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove_file(&self, path: &str) -> Result<(), StoreError> {
        match durable::unlink(self.dir(), path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FsError::new("remove", self.root().join(path), errno).into()),
        }
    }

    /// Reads a small file at `path` (relative to the store), if it is there.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(read_small(self.dir(), path).act("read", self.root().join(path))?)
    }
}

/// Locks, also where another thread panicked: the data are sets that are valid at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of the store's own files, apart from blobs and layers, at most.
const LARGEST_FILE: u64 = 64 << 20;

fn read_small(dir: impl AsFd, path: &str) -> Result<Option<Vec<u8>>, io::Error> {
    match rustix::fs::openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
        Ok(file) => Ok(Some(fs::read_limited(std::fs::File::from(file), LARGEST_FILE)?)),
    }
}

fn read_format(dir: &OwnedFd, root: &Path) -> Result<Option<Format>, StoreError> {
    let path = root.join("format");
    let Some(bytes) = read_small(dir, "format").act("read", &path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| StoreError::Corrupt { path, source })
}

/// Lays out an empty store, unless another process does it at the same moment.
fn create_locked(dir: &OwnedFd, root: &Path, mode: Mode) -> Result<(), StoreError> {
    rustix::fs::flock(dir, FlockOperation::LockExclusive).act("lock", root)?;
    let result = match read_format(dir, root)? {
        None => create(dir, root, mode),
        Some(Format { mode: found, .. }) if found != mode => {
            Err(StoreError::WrongMode { root: root.to_owned(), found, wanted: mode })
        }
        Some(_) => Ok(()),
    };
    rustix::fs::flock(dir, FlockOperation::Unlock).act("unlock", root)?;
    result
}

/// Lays out an empty store. The format file comes last and says that all is there.
fn create(dir: &OwnedFd, root: &Path, mode: Mode) -> Result<(), StoreError> {
    let ours = |name: &[u8]| {
        let name = name.split(|byte| *byte == b'.').next().unwrap_or_default();
        let known =
            DIRECTORIES.iter().filter_map(|path| path.split('/').next()).chain(["oci-layout", "index", "format"]);
        // A file system of its own begins with that one.
        known.into_iter().chain(["lost+found"]).any(|known| known.as_bytes() == name)
    };
    if fs::sorted_names(dir)?.iter().any(|name| !ours(name)) {
        return Err(StoreError::NotAStore { root: root.to_owned() });
    }
    rustix::fs::fchmod(dir, FileMode::RWXU).act("change the mode of", root)?;
    for path in DIRECTORIES {
        make_directories(dir, path)?;
    }
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    create_whole(dir, root, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    // A store that has lost its format keeps its names.
    if read_small(dir, "index.json").act("read", root.join("index.json"))?.is_none_or(|text| text.is_empty()) {
        create_whole(dir, root, "index.json", index)?;
    }
    create_whole(dir, root, "format", &format_json(mode))?;
    sync_directory(dir, "blobs")?;
    Ok(sync_directory(dir, ".")?)
}

/// The text of `format`.
pub(crate) fn format_json(mode: Mode) -> Vec<u8> {
    serde_json::json!({ "version": FORMAT_VERSION, "mode": mode }).to_string().into_bytes()
}

/// Makes a durable file whole, in the place of a half-made store's.
fn create_whole(dir: &OwnedFd, root: &Path, name: &str, bytes: &[u8]) -> Result<(), FsError> {
    let path = root.join(name);
    let temporary = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, &temporary, flags, FileMode::RUSR | FileMode::WUSR).act("create", &path)?;
    let mut file = std::fs::File::from(file);
    io::Write::write_all(&mut file, bytes).act("write", &path)?;
    durable::sync_file(&file).act("sync", &path)?;
    durable::rename(dir, &temporary, dir, name).act("create", path)
}

/// Makes `path` and what is missing above it, for the store's owner alone.
pub(crate) fn make_directories(dir: impl AsFd, path: &str) -> Result<(), FsError> {
    for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
        match rustix::fs::mkdirat(&dir, &path[..end], FileMode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(FsError::new("make directory", path, errno)),
        }
    }
    Ok(())
}

fn sync_directory(dir: impl AsFd, path: &str) -> Result<(), FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, path, flags, FileMode::empty()).act("open directory", path)?;
    durable::sync_directory(&opened).act("sync directory", path)
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
