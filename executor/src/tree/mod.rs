//! A file tree that is read where it lies: a build context, or the file system of a stage.
//!
//! Directories are listed when they are first asked for, each once, sorted by name; an ignored entry is as if it were
//! not there. Everything is reached from one directory fd without following symbolic links ([`Tree::resolve`] follows
//! them inside the tree), so nothing outside is ever read. Nothing but regular files is opened, so nothing blocks.
//! Contents are read against the metadata of the listing: a file that changed in between is an error.

mod digest;
mod error;
mod list;
pub(crate) mod path;
mod select;
mod stat_cache;
mod walk;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use lap_solver::digest::Key;
use lap_solver::pattern::{MatchInfo, Matcher};
use rustix::fs::{FileType, Mode, OFlags};

pub use error::TreeError;
pub(crate) use path::shown;
pub use select::Selection;
pub use stat_cache::StatCache;
pub use walk::{Matched, Verdict, Walk};

use path::{ResolveError, Step};

/// Whose files they are said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As stored.
    Kept,
    /// Everything is root's: a context has no owners of meaning to an image.
    Root,
}

/// A file tree below one directory.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// Where it lies, absolute, if it was opened by name.
    dir: Option<PathBuf>,
    node: Node,
    ignore: Option<Matcher>,
    owners: Owners,
    stats: Option<Arc<StatCache>>,
}

/// One entry of a [`Tree`].
#[derive(Debug)]
pub struct Node {
    /// Name in its directory; empty for the root.
    pub name: Box<[u8]>,
    /// Owner, mode, times.
    pub meta: Meta,
    /// Its kind, with what only that kind has.
    pub kind: Kind,
}

/// Kinds of entries. Sockets are left out of every listing, as they are of every layer.
#[derive(Debug)]
pub enum Kind {
    /// A directory.
    Directory(Listing),
    /// A regular file.
    File(OnceLock<Key>),
    /// A symbolic link.
    Symlink(OnceLock<Box<[u8]>>),
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A named pipe.
    Fifo,
}

/// What is known of a directory's entries.
#[derive(Debug, Default)]
pub struct Listing {
    entries: OnceLock<Box<[Node]>>,
    matched: MatchInfo,
    xattrs: OnceLock<Key>,
}

/// Metadata of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file.
    pub size: u64,
    /// Seconds and nanoseconds of the last change of the content.
    pub mtime: (i64, u32),
    /// Seconds and nanoseconds of the last change of anything.
    pub ctime: (i64, u32),
    /// Device it lies on.
    pub dev: u64,
    /// Inode on that device.
    pub ino: u64,
    /// Names of the inode.
    pub links: u64,
    /// Number of a device node.
    pub rdev: u64,
}

impl Meta {
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "nanoseconds and sizes are not negative"
    )]
    fn new(stat: &rustix::fs::Stat, owners: Owners) -> Self {
        let (uid, gid) = match owners {
            Owners::Kept => (stat.st_uid, stat.st_gid),
            Owners::Root => (0, 0),
        };
        Self {
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
            dev: stat.st_dev,
            ino: stat.st_ino,
            links: stat.st_nlink,
            rdev: stat.st_rdev,
        }
    }

    /// Whether both are of the same content of the same inode.
    fn same_content(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.size, self.mtime, self.ctime)
            == (other.dev, other.ino, other.size, other.mtime, other.ctime)
    }
}

impl Node {
    /// Whether it is a directory.
    #[must_use]
    pub const fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Of what `stat` tells; nothing for a socket or an overlay whiteout, which are in no tree.
    fn new(name: &[u8], stat: &rustix::fs::Stat, owners: Owners, matched: MatchInfo) -> Option<Self> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory(Listing { matched, ..Listing::default() }),
            FileType::RegularFile => Kind::File(OnceLock::new()),
            FileType::Symlink => Kind::Symlink(OnceLock::new()),
            FileType::BlockDevice => Kind::Block,
            FileType::CharacterDevice if stat.st_rdev != 0 => Kind::Char,
            FileType::Fifo => Kind::Fifo,
            _ => return None,
        };
        Some(Self { name: name.into(), meta: Meta::new(stat, owners), kind })
    }
}

impl Tree {
    /// The tree below the directory `dir`, which may itself be reached through symbolic links.
    ///
    /// # Errors
    /// Where it is no directory that can be read.
    pub fn open(dir: &Path, ignore: Option<Matcher>, owners: Owners) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|source| TreeError::Io {
            act: "open directory",
            path: dir.display().to_string(),
            source: source.into(),
        })?;
        let dir = std::path::absolute(dir).ok();
        Ok(Self { dir, ..Self::over(root, ignore, owners)? })
    }

    /// The tree below an open directory.
    ///
    /// # Errors
    /// Where it is no directory.
    pub fn over(root: OwnedFd, ignore: Option<Matcher>, owners: Owners) -> Result<Self, TreeError> {
        let stat = rustix::fs::fstat(&root).map_err(|error| TreeError::io("stat", b"", error))?;
        let node = Node::new(b"", &stat, owners, MatchInfo::default())
            .filter(Node::is_dir)
            .ok_or_else(|| TreeError::io("open directory", b"", io::Error::from(io::ErrorKind::NotADirectory)))?;
        let ignore = ignore.filter(|matcher| !matcher.is_empty());
        Ok(Self { root, dir: None, node, ignore, owners, stats: None })
    }

    /// Remembers digests of files between builds in `stats`.
    #[must_use]
    pub fn with_stats(mut self, stats: Arc<StatCache>) -> Self {
        self.stats = Some(stats);
        self
    }

    /// The root.
    #[must_use]
    pub const fn root(&self) -> &Node {
        &self.node
    }

    /// The open directory that everything is reached from.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where it lies, if it was opened by name.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Whether entries of the directory may be missing in the tree.
    #[must_use]
    pub const fn is_filtered(&self) -> bool {
        self.ignore.is_some()
    }

    /// What is left out of the directory.
    #[must_use]
    pub const fn ignored(&self) -> Option<&Matcher> {
        self.ignore.as_ref()
    }

    /// The entry at `path`, no symbolic link followed; nothing where nothing is.
    ///
    /// # Errors
    /// Where a directory on the way cannot be listed.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<&Node>, TreeError> {
        let mut node = &self.node;
        let mut at: Vec<u8> = Vec::new();
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            if !node.is_dir() {
                return Ok(None);
            }
            let entries = self.entries(&at, node)?;
            let Ok(found) = entries.binary_search_by(|entry| (*entry.name).cmp(part)) else { return Ok(None) };
            node = &entries[found];
            at = path::join(&at, part);
        }
        Ok(Some(node))
    }

    /// Where `path` leads with every symbolic link followed inside the tree. What does not exist stays in the path.
    ///
    /// # Errors
    /// Where links lead in circles or a directory on the way cannot be listed.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, TreeError> {
        let found = path::resolve(path, |at| match self.lookup(at)? {
            Some(node) if matches!(node.kind, Kind::Symlink(_)) => Ok(Step::Link(self.target(at, node)?.to_vec())),
            _ => Ok(Step::Other),
        });
        found.map_err(|error| match error {
            ResolveError::TooManyLinks => TreeError::Links { path: shown(path) },
            ResolveError::Look(error) => error,
        })
    }

    /// Where a symbolic link points; empty for anything else.
    ///
    /// # Errors
    /// Where it cannot be read or is no link any more.
    pub fn target<'n>(&self, path: &[u8], node: &'n Node) -> Result<&'n [u8], TreeError> {
        let Kind::Symlink(target) = &node.kind else { return Ok(b"") };
        if let Some(target) = target.get() {
            return Ok(target);
        }
        let (parent, name) = path::split(path).ok_or_else(|| TreeError::changed(path))?;
        let dir = path::open_beneath(self.fd(), parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .map_err(|error| TreeError::io("open directory", parent, error))?;
        let read = rustix::fs::readlinkat(&dir, name, Vec::new()).map_err(|error| match error {
            rustix::io::Errno::INVAL | rustix::io::Errno::NOENT => TreeError::changed(path),
            error => TreeError::io("read link", path, error),
        })?;
        Ok(target.get_or_init(|| read.as_bytes().into()))
    }

    /// When the newest file or link was last changed, in seconds since 1970; nothing in a tree without any. Times of
    /// directories also tell of what is ignored, and do not count.
    ///
    /// # Errors
    /// Where a directory cannot be listed.
    pub fn newest(&self) -> Result<Option<i64>, TreeError> {
        let mut newest = None;
        let mut open: Vec<(Vec<u8>, &Node)> = vec![(Vec::new(), &self.node)];
        while let Some((at, dir)) = open.pop() {
            for node in self.entries(&at, dir)? {
                if node.is_dir() {
                    open.push((path::join(&at, &node.name), node));
                } else {
                    newest = newest.max(Some(node.meta.mtime.0));
                }
            }
        }
        Ok(newest)
    }

    /// Opens a regular file for reading, and makes sure that it is still the listed one.
    ///
    /// # Errors
    /// Where it cannot be opened, or changed since it was listed.
    pub fn open_file(&self, path: &[u8], node: &Node) -> Result<File, TreeError> {
        // Non-blocking, since it may have become a pipe meanwhile.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = path::open_beneath(self.fd(), path, flags, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO => TreeError::changed(path),
            error => TreeError::io("open", path, error),
        })?;
        self.check_unchanged(fd.as_fd(), path, node)?;
        Ok(File::from(fd))
    }

    /// Makes sure that an open file is still as it was listed.
    ///
    /// # Errors
    /// Where it is not.
    pub fn check_unchanged(&self, fd: BorrowedFd<'_>, path: &[u8], node: &Node) -> Result<(), TreeError> {
        let stat = rustix::fs::fstat(fd).map_err(|error| TreeError::io("stat", path, error))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if regular && Meta::new(&stat, self.owners).same_content(&node.meta) {
            Ok(())
        } else {
            Err(TreeError::changed(path))
        }
    }
}
