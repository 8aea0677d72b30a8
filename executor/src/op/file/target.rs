//! The file system that is changed, reached from one directory fd. Links in it are followed inside it only.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use lap_cache::store::Mode as StoreMode;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::FileError;
use super::owner::Owner;
use crate::tree::path::{self, ResolveError, Step, open_beneath};
use crate::tree::{Meta, shown};

/// A root that is changed by nobody else meanwhile.
pub(super) struct Target<'r> {
    root: BorrowedFd<'r>,
    /// Of the store that the result is for.
    mode: StoreMode,
    /// Owners and devices that an unprivileged user cannot have.
    skipped: Cell<u64>,
    /// The directory used last: most entries lie in the same one as the entry before.
    last: RefCell<Option<(Vec<u8>, Rc<OwnedFd>)>>,
}

/// What an entry gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a> {
    pub(super) owner: Owner,
    pub(super) mode: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'r> Target<'r> {
    pub(super) const fn new(root: BorrowedFd<'r>, mode: StoreMode) -> Self {
        Self { root, mode, skipped: Cell::new(0), last: RefCell::new(None) }
    }

    /// In whose name the result's store is kept.
    pub(super) const fn mode(&self) -> StoreMode {
        self.mode
    }

    /// How many owners and devices were left out so far.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped.get()
    }

    /// Counts what was left out.
    pub(super) fn skip(&self, count: u64) {
        self.skipped.set(self.skipped.get() + count);
    }

    /// Whether a refusal is one that an unprivileged user has to live with.
    pub(super) fn is_beyond_us(&self, error: Errno) -> bool {
        self.mode == StoreMode::User && matches!(error, Errno::PERM | Errno::INVAL)
    }

    /// The root directory.
    pub(super) const fn root(&self) -> BorrowedFd<'r> {
        self.root
    }

    /// Others have changed directories: none that is known may be used any more.
    pub(super) fn forget(&self) {
        *self.last.borrow_mut() = None;
    }

    /// Where `path` leads, every link followed inside the root. What does not exist stays in the path.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        let found = path::resolve(path, |at| {
            let Some((parent, name)) = path::split(at) else { return Ok(Step::Other) };
            let Some(dir) = self.try_dir(parent)? else { return Ok(Step::Other) };
            match rustix::fs::readlinkat(&*dir, name, Vec::new()) {
                Ok(target) => Ok(Step::Link(target.into_bytes())),
                Err(Errno::INVAL | Errno::NOENT) => Ok(Step::Other),
                Err(error) => Err(FileError::target("read link", at, error)),
            }
        });
        found.map_err(|error| match error {
            ResolveError::TooManyLinks => FileError::Links { path: shown(path) },
            ResolveError::Look(error) => error,
        })
    }

    /// The directory at `path`; nothing where there is none.
    fn try_dir(&self, path: &[u8]) -> Result<Option<Rc<OwnedFd>>, FileError> {
        if let Some((known, dir)) = &*self.last.borrow()
            && known == path
        {
            return Ok(Some(Rc::clone(dir)));
        }
        match open_beneath(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(dir) => {
                let dir = Rc::new(dir);
                *self.last.borrow_mut() = Some((path.to_vec(), Rc::clone(&dir)));
                Ok(Some(dir))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(FileError::target("open directory", path, error)),
        }
    }

    /// The directory that holds `path`, and the last part's name.
    pub(super) fn parent<'p>(&self, path: &'p [u8]) -> Result<(Rc<OwnedFd>, &'p [u8]), FileError> {
        let (parent, name) = path::split(path).ok_or_else(|| FileError::target("replace", path, Errno::ISDIR))?;
        let dir = self.try_dir(parent)?.ok_or_else(|| FileError::NotADirectory { path: shown(parent) })?;
        Ok((dir, name))
    }

    /// The directory at `path`, open for reading.
    pub(super) fn dir(&self, path: &[u8]) -> Result<Rc<OwnedFd>, FileError> {
        self.try_dir(path)?.ok_or_else(|| FileError::NotADirectory { path: shown(path) })
    }

    /// What is at `path`, no link followed.
    pub(super) fn stat(&self, path: &[u8]) -> Result<Option<Stat>, FileError> {
        let found = match path::split(path) {
            None => rustix::fs::fstat(self.root),
            Some((parent, name)) => match self.try_dir(parent)? {
                Some(dir) => rustix::fs::statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW),
                None => return Ok(None),
            },
        };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(FileError::target("stat", path, error)),
        }
    }

    /// Makes the directory at `path` and those above it; such as exist stay as they are.
    pub(super) fn mkdir_all(&self, path: &[u8], mode: u32, owner: Owner) -> Result<(), FileError> {
        match self.stat(path)? {
            Some(stat) if is_dir(&stat) => return Ok(()),
            Some(_) => return Err(FileError::NotADirectory { path: shown(path) }),
            None => {}
        }
        if let Some((parent, _)) = path::split(path) {
            self.mkdir_all(parent, mode, owner)?;
        }
        self.mkdir(path)?;
        let dir = self.dir(path)?;
        self.finish(dir.as_fd(), path, &Attributes { owner, mode, mtime: None, xattrs: &[] })
    }

    /// Makes a directory that only its owner can enter, until it is finished.
    pub(super) fn mkdir(&self, path: &[u8]) -> Result<(), FileError> {
        let (dir, name) = self.parent(path)?;
        rustix::fs::mkdirat(&*dir, name, Mode::RWXU).map_err(|error| FileError::target("make directory", path, error))
    }

    /// Removes whatever is at `path`, but no directory.
    fn clear(&self, path: &[u8]) -> Result<(), FileError> {
        let (dir, name) = self.parent(path)?;
        match rustix::fs::unlinkat(&*dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Err(FileError::ReplaceDirectory { path: shown(path) }),
            Err(error) => Err(FileError::target("remove", path, error)),
        }
    }

    /// Makes a new entry at `path`, in place of what is there unless that is a directory.
    pub(super) fn create<T>(
        &self,
        act: &'static str,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, FileError> {
        let (dir, name) = self.parent(path)?;
        let made = match make(dir.as_fd(), name) {
            Err(Errno::EXIST) => {
                self.clear(path)?;
                make(dir.as_fd(), name)
            }
            made => made,
        };
        made.map_err(|error| FileError::target(act, path, error))
    }

    /// A new regular file at `path`.
    pub(super) fn create_file(&self, path: &[u8]) -> Result<File, FileError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.create("write", path, |dir, name| rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR))
            .map(File::from)
    }

    /// Gives an open file or directory its owner, mode, attributes and times, in the order in which none undoes another.
    pub(super) fn finish(&self, fd: BorrowedFd<'_>, path: &[u8], attributes: &Attributes<'_>) -> Result<(), FileError> {
        let (uid, gid) = ids(attributes.owner);
        let mode = self.mode_after(rustix::fs::fchown(fd, uid, gid), attributes.mode);
        mode.and_then(|mode| rustix::fs::fchmod(fd, mode))
            .and_then(|()| set_xattrs(fd, attributes.xattrs))
            .and_then(|()| attributes.mtime.map_or(Ok(()), |mtime| rustix::fs::futimens(fd, &times(mtime))))
            .map_err(|error| FileError::target("set the attributes of", path, error))
    }

    /// Gives an entry that is no link, file or directory its owner, mode and times.
    pub(super) fn finish_node(&self, path: &[u8], attributes: &Attributes<'_>) -> Result<(), FileError> {
        let (dir, name) = self.parent(path)?;
        let (uid, gid) = ids(attributes.owner);
        let owned = rustix::fs::chownat(&*dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        self.mode_after(owned, attributes.mode)
            // Made by us a moment ago, and no link: there is nothing to follow.
            .and_then(|mode| rustix::fs::chmodat(&*dir, name, mode, AtFlags::empty()))
            .and_then(|()| set_times(&dir, name, attributes))
            .map_err(|error| FileError::target("set the attributes of", path, error))
    }

    /// Gives a symbolic link its owner and times.
    pub(super) fn finish_link(&self, path: &[u8], attributes: &Attributes<'_>) -> Result<(), FileError> {
        let (dir, name) = self.parent(path)?;
        let (uid, gid) = ids(attributes.owner);
        let owned = rustix::fs::chownat(&*dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        self.mode_after(owned, 0)
            .and_then(|_| set_times(&dir, name, attributes))
            .map_err(|error| FileError::target("set the attributes of", path, error))
    }

    /// The mode that an entry may have after its owner was set or could not be.
    fn mode_after(&self, owned: Result<(), Errno>, mode: u32) -> Result<Mode, Errno> {
        match owned {
            Ok(()) => Ok(Mode::from_raw_mode(mode)),
            Err(error) if self.is_beyond_us(error) => {
                self.skip(1);
                // What was to run as somebody else must not run as root instead.
                Ok(Mode::from_raw_mode(mode & !0o6000))
            }
            Err(error) => Err(error),
        }
    }
}

fn set_xattrs(fd: BorrowedFd<'_>, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Errno> {
    for (name, value) in xattrs {
        match rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
            // A file system or a user that may not have it: the copy is made without, as BuildKit does.
            Ok(()) | Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

pub(super) fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn set_times(dir: &OwnedFd, name: &[u8], attributes: &Attributes<'_>) -> Result<(), Errno> {
    match attributes.mtime {
        Some(mtime) => rustix::fs::utimensat(dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW),
        None => Ok(()),
    }
}

fn ids(owner: Owner) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
}

impl Owner {
    /// The owner of an entry of a tree.
    pub(super) const fn of(meta: &Meta) -> Self {
        Self { uid: meta.uid, gid: meta.gid }
    }
}
