//! The path layer: everything that touches an untrusted tree goes through a directory descriptor.
//!
//! Paths of a root file system are resolved by the kernel with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`
//! or walked one component at a time with `O_NOFOLLOW`; path strings are never joined. Names are bytes.

pub mod durable;
mod metadata;
mod remove;
mod resolve;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

pub use metadata::{
    Inode, Kind, Metadata, Timestamp, Xattrs, apply_times, apply_xattrs, metadata_at, metadata_of, xattrs_at,
};
pub(crate) use metadata::{proc_path, remove_xattr};
pub use remove::{remove_entry, remove_tree};
pub use resolve::{
    InRoot, NewDirectory, make_directory, mkdir_all_in_root, open_beneath, open_in_root, parent_in_root, split_last,
};

/// Reads to the end of what must not be longer than `limit` bytes.
///
/// # Errors
/// Where it cannot be read or is longer.
pub fn read_limited(reader: impl io::Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(reader, limit.saturating_add(1)), &mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} KiB", limit >> 10)));
    }
    Ok(bytes)
}

/// A call of the file system failed: which, on what, why.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}: {source}", path.display())]
pub struct FsError {
    /// What was tried ("open", "make directory").
    pub act: &'static str,
    /// On which path, as far as it is known.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

impl FsError {
    /// Names the act and the path of a failed call.
    pub fn new(act: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { act, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// The error number of the failed call.
    #[must_use]
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        rustix::io::Errno::from_io_error(&self.source)
    }
}

/// Adds the act and the path to the error of a call.
pub trait Act<T> {
    /// Names the act and the path of a failed call.
    ///
    /// # Errors
    /// Where the call failed.
    fn act(self, act: &'static str, path: impl AsRef<Path>) -> Result<T, FsError>;
}

impl<T> Act<T> for Result<T, rustix::io::Errno> {
    fn act(self, act: &'static str, path: impl AsRef<Path>) -> Result<T, FsError> {
        self.map_err(|errno| FsError::new(act, path, errno))
    }
}

impl<T> Act<T> for io::Result<T> {
    fn act(self, act: &'static str, path: impl AsRef<Path>) -> Result<T, FsError> {
        self.map_err(|error| FsError::new(act, path, error))
    }
}

/// Opens a directory of the host that we trust (the store's own), for reading.
///
/// # Errors
/// Where it is missing or no directory.
pub fn open_dir(path: &Path) -> Result<OwnedFd, FsError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .act("open directory", path)
}

/// Opens the directory `name` in `dir` without following a symbolic link.
///
/// # Errors
/// Where it is missing, or no directory.
pub fn open_dir_at(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).act("open directory", bytes_path(name))
}

/// Names in the directory behind `dir`, without `.` and `..`, sorted by bytes.
///
/// # Errors
/// Where it cannot be read.
pub fn sorted_names(dir: impl AsFd) -> Result<Vec<Vec<u8>>, FsError> {
    // A descriptor of its own, so that reading starts at the first entry.
    let entries = rustix::fs::Dir::read_from(dir).act("read directory", "")?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.act("read directory", "")?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Bytes of a Unix path as a path.
#[must_use]
pub fn bytes_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
#[cfg(test)]
mod tests;
