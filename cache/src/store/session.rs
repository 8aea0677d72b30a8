//! What a process is making, below `tmp/<session>/`. The directory is locked as long as the process lives, so that
//! the next one can tell a dead one's leftovers and remove them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Store, StoreError};
use crate::fs::{self, Act};

/// A locked directory below `tmp/`, removed on drop.
#[derive(Debug)]
pub(crate) struct Session {
    tmp: OwnedFd,
    name: String,
    /// Holds the lock.
    dir: OwnedFd,
    path: PathBuf,
    count: AtomicU64,
}

impl Session {
    pub(super) fn create(store: &Store) -> Result<Self, StoreError> {
        let tmp = fs::open_dir_at(store.dir(), b"tmp")?;
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut attempt = started.as_nanos();
        loop {
            let name = format!("{}-{attempt:x}", std::process::id());
            attempt += 1;
            match rustix::fs::mkdirat(&tmp, &name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(fs::FsError::new("make directory", store.root().join("tmp"), errno).into()),
            }
            // Somebody may take it for a leftover until it is locked; then another one is made.
            let Ok(dir) = fs::open_dir_at(&tmp, name.as_bytes()) else { continue };
            if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err()
                || !is_linked(&tmp, &name, &dir)
            {
                continue;
            }
            let path = store.root().join("tmp").join(&name);
            return Ok(Self { tmp, name, dir, path, count: AtomicU64::new(0) });
        }
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A name nobody else uses in this session.
    pub(crate) fn fresh_name(&self) -> String {
        self.count.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// An empty file and its name in the session.
    pub(crate) fn create_file(&self) -> Result<(File, String), StoreError> {
        let name = self.fresh_name();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = rustix::fs::openat(&self.dir, &name, flags, mode).act("create", self.path.join(&name))?;
        Ok((File::from(file), name))
    }

    /// Removes a file that will not be published. Failing leaves a leftover, which goes with the session.
    pub(crate) fn discard_file(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }

    /// An empty directory, as a descriptor, and its name in the session.
    pub(crate) fn create_directory(&self) -> Result<(OwnedFd, String), StoreError> {
        let name = self.fresh_name();
        rustix::fs::mkdirat(&self.dir, &name, Mode::RWXU).act("make directory", self.path.join(&name))?;
        Ok((fs::open_dir_at(&self.dir, name.as_bytes())?, name))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What cannot be removed now is a leftover for the next process.
        drop(fs::remove_tree(&self.tmp, self.name.as_bytes()));
    }
}

fn is_linked(tmp: &OwnedFd, name: &str, dir: &OwnedFd) -> bool {
    let (Ok(named), Ok(held)) = (rustix::fs::statat(tmp, name, AtFlags::SYMLINK_NOFOLLOW), rustix::fs::fstat(dir))
    else {
        return false;
    };
    (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
}

/// Looks for directories whose process is gone and removes them on a thread of its own.
pub(super) fn remove_leftovers(store: &Store) -> Result<(), StoreError> {
    let tmp = match fs::open_dir_at(store.dir(), b"tmp") {
        // A read-only or damaged store can still be read.
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    let mut leftovers = Vec::new();
    for name in fs::sorted_names(&tmp)? {
        let Ok(dir) = fs::open_dir_at(&tmp, &name) else { continue };
        if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            leftovers.push((name, dir));
        }
    }
    if !leftovers.is_empty() {
        let remove = move || {
            for (name, _locked) in leftovers {
                // A mount or a damaged directory stays; the next process tries again.
                drop(fs::remove_tree(&tmp, &name));
            }
        };
        drop(std::thread::Builder::new().name("leftovers".into()).spawn(remove));
    }
    Ok(())
}
