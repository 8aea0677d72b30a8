//! What a file system says about an entry, as plain data: read from a tree, compared, and put back.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, FileType, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::{Act, FsError, bytes_path};

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A point in time since 1970 UTC; before it where `seconds` is negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999, counted forward from `seconds`.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// 1970-01-01 00:00:00 UTC.
    pub const EPOCH: Self = Self { seconds: 0, nanoseconds: 0 };
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, unread.
        target: Vec<u8>,
    },
    /// A character device; 0:0 is an overlay whiteout.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name; archives cannot hold it.
    Socket,
}

/// Everything about an entry but its name and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Extended attributes, the overlay's own among them.
    pub xattrs: Xattrs,
}

impl Metadata {
    /// Whether this is the overlay's whiteout: a character device 0:0.
    #[must_use]
    pub const fn is_whiteout(&self) -> bool {
        matches!(self.kind, Kind::CharDevice { major: 0, minor: 0 })
    }

    /// Whether this is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }
}

/// Which inode an entry is, to find hard links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    /// The file system's device.
    pub device: u64,
    /// Number within it.
    pub number: u64,
    /// How many names it has.
    pub links: u64,
}

/// Reads an entry's metadata without following a link; `name` may be `.`.
///
/// # Errors
/// Where it is missing or cannot be read.
pub fn metadata_at(dir: impl AsFd, name: &[u8]) -> Result<(Metadata, Inode), FsError> {
    let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).act("stat", bytes_path(name))?;
    metadata_of(dir, name, &stat)
}

/// Completes `stat` of `name` in `dir` with link target and extended attributes.
///
/// # Errors
/// Where they cannot be read, or the type is unknown.
pub fn metadata_of(dir: impl AsFd, name: &[u8], stat: &Stat) -> Result<(Metadata, Inode), FsError> {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File { size: u64::try_from(stat.st_size).unwrap_or(0) },
        FileType::Directory => Kind::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&dir, name, Vec::new()).act("read link", bytes_path(name))?;
            Kind::Symlink { target: target.into_bytes() }
        }
        FileType::CharacterDevice => Kind::CharDevice { major, minor },
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return Err(FsError::new("tell the type of", bytes_path(name), Errno::INVAL)),
    };
    let metadata = Metadata {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
        xattrs: xattrs_at(&dir, name)?,
    };
    let inode = Inode { device: stat.st_dev, number: stat.st_ino, links: stat.st_nlink };
    Ok((metadata, inode))
}

/// All extended attributes of `name` in `dir`, of a symbolic link itself too.
///
/// There is no `*xattrat` call before Linux 6.13, so the directory is named through `/proc/self/fd`: one component
/// behind a descriptor, never followed.
///
/// # Errors
/// Where they cannot be read; a file system without attributes has none.
pub fn xattrs_at(dir: impl AsFd, name: &[u8]) -> Result<Xattrs, FsError> {
    let path = proc_path(dir, name)?;
    let mut buffer = vec![0; 1024];
    let length = loop {
        match rustix::fs::llistxattr(&*path, &mut buffer[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 8, 0),
            Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
            Err(errno) => return Err(FsError::new("list extended attributes of", bytes_path(name), errno)),
        }
    };
    let mut xattrs = Xattrs::new();
    for attribute in buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if let Some(value) = value_of(&path, attribute).act("read an extended attribute of", bytes_path(name))? {
            xattrs.insert(attribute.to_vec(), value);
        }
    }
    Ok(xattrs)
}

/// One attribute's value; nothing where it went away meanwhile or is not for us to read.
fn value_of(path: &CString, attribute: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match rustix::fs::lgetxattr(&**path, attribute, &mut buffer[..]) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 16, 0),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// Sets extended attributes of `name` in `dir`, of a symbolic link itself too. Returns the names that the file
/// system or our rights do not allow (`ENOTSUP`, `EPERM`).
///
/// # Errors
/// Where setting fails otherwise.
pub fn apply_xattrs<'a>(dir: impl AsFd, name: &[u8], xattrs: &'a Xattrs) -> Result<Vec<&'a [u8]>, FsError> {
    let mut refused = Vec::new();
    if xattrs.is_empty() {
        return Ok(refused);
    }
    let path = proc_path(dir, name)?;
    for (attribute, value) in xattrs {
        match rustix::fs::lsetxattr(&*path, &attribute[..], value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP | Errno::PERM) => refused.push(&attribute[..]),
            Err(errno) => return Err(FsError::new("set an extended attribute of", bytes_path(name), errno)),
        }
    }
    Ok(refused)
}

/// Removes one extended attribute of `name` in `dir`; a missing one is fine.
pub(crate) fn remove_xattr(dir: impl AsFd, name: &[u8], attribute: &[u8]) -> Result<(), FsError> {
    match rustix::fs::lremovexattr(&*proc_path(dir, name)?, attribute) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(errno) => Err(FsError::new("remove an extended attribute of", bytes_path(name), errno)),
    }
}

/// Sets the modification time of `name` in `dir`, of a symbolic link itself too; the access time becomes the same.
///
/// # Errors
/// Where the entry is missing or not ours.
pub fn apply_times(dir: impl AsFd, name: &[u8], mtime: Timestamp) -> Result<(), FsError> {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).act("set the times of", bytes_path(name))
}

/// `/proc/self/fd/<dir>/<name>`; `name` is one component.
pub(crate) fn proc_path(dir: impl AsFd, name: &[u8]) -> Result<CString, FsError> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    if name.contains(&b'/') {
        return Err(FsError::new("name one component", bytes_path(name), Errno::INVAL));
    }
    path.extend_from_slice(name);
    CString::new(path).map_err(|_| FsError::new("name", bytes_path(name), Errno::INVAL))
}
