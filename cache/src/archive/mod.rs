//! The tar format: a reader that trusts nothing and a writer that gives the same bytes for the same input.
//!
//! The reader knows ustar, GNU (long names, old sparse files, base-256 numbers) and PAX (POSIX.1-2017 `pax`, with
//! GNU's sparse 0.0, 0.1 and 1.0 and the `SCHILY.xattr` records). Where readers in the wild disagree on what an
//! archive means, it is refused. It resolves no path: see [`crate::layer`] and [`crate::tarball`].

mod header;
mod pax;
mod reader;
mod writer;

use crate::fs::{Timestamp, Xattrs};

pub use reader::Reader;
pub(crate) use writer::{end, entry_header, padding};

/// Size of every unit of a tar.
pub(crate) const BLOCK: usize = 512;

/// How much of an archive is believed. Beyond it reading stops with [`ArchiveError::Limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of the whole stream.
    pub bytes: u64,
    /// Bytes of a name or of a link's target (`PATH_MAX` without its end).
    pub path: usize,
    /// Bytes of one extended header, all extended attributes of an entry with it.
    pub extended_header: usize,
    /// Pieces of one sparse file.
    pub extents: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 16_000_000, bytes: 1 << 42, path: 4095, extended_header: 1 << 20, extents: 1 << 20 }
    }
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream below failed.
    #[error("read the archive: {0}")]
    Read(#[from] std::io::Error),
    /// The stream ends in the middle.
    #[error("archive ends in the middle of {within}")]
    Truncated {
        /// What was being read.
        within: &'static str,
    },
    /// A header whose checksum is wrong: not a tar, or damaged.
    #[error("not a tar header at byte {offset}")]
    NotAHeader {
        /// Where in the stream.
        offset: u64,
    },
    /// A field does not hold what it should.
    #[error("archive entry at byte {offset} has a bad {field}")]
    BadField {
        /// Where in the stream.
        offset: u64,
        /// Which field.
        field: &'static str,
    },
    /// A kind of entry that file systems do not have.
    #[error("archive entry {path:?} has unknown type {kind:?}")]
    UnknownType {
        /// The entry.
        path: String,
        /// Its type flag.
        kind: char,
    },
    /// More than a budget allows.
    #[error("archive exceeds the limit of {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
}

/// One entry. Its path is as written: nothing is normalised or checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name, bytes without a NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner; names are ignored.
    pub uid: u32,
    /// Group; names are ignored.
    pub gid: u32,
    /// Last change.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its stored data follows.
    File {
        /// Bytes of the file when it is written out.
        size: u64,
        /// Where the stored data belongs; the whole file where absent.
        extents: Option<Vec<Extent>>,
    },
    /// Another name of an entry before.
    HardLink {
        /// Path of that entry.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A directory.
    Directory,
    /// A character device.
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
}

/// A piece of a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// Whether a block is a header with a right checksum.
pub(crate) fn is_header(block: &[u8; BLOCK]) -> bool {
    let block = header::Block(*block);
    !block.is_zero() && block.checksum_ok()
}

#[cfg(test)]
mod tests;
