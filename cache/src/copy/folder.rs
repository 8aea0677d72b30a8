//! A directory of blobs and documents on this machine, read and written through its descriptor: links in it lead
//! nowhere else, and what a failed copy has added goes again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::CopyError;
use crate::fs::{self, Act, FsError};
use crate::load::LoadError;
use crate::store::lock;

/// A directory.
#[derive(Debug)]
pub(super) struct Folder {
    dir: OwnedFd,
    path: PathBuf,
}

/// What was added to directories; removed again unless it is kept.
#[derive(Debug, Default)]
pub(super) struct Added {
    files: Mutex<Vec<PathBuf>>,
    directories: Mutex<Vec<PathBuf>>,
}

impl Added {
    /// It stays.
    pub(super) fn keep(&self) {
        lock(&self.files).clear();
        lock(&self.directories).clear();
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        for file in lock(&self.files).drain(..) {
            drop(std::fs::remove_file(file));
        }
        // Those inside first; one that others use by now is not empty and stays.
        for directory in lock(&self.directories).drain(..).rev() {
            drop(std::fs::remove_dir(directory));
        }
    }
}

impl Folder {
    /// A directory that is there.
    pub(super) fn at(path: &Path) -> Result<Self, CopyError> {
        Ok(Self { dir: fs::open_dir(path)?, path: path.to_owned() })
    }

    /// A directory that is made where it is missing, with those above it.
    pub(super) fn make(path: &Path, added: &Added) -> Result<Self, CopyError> {
        let missing: Vec<&Path> =
            path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
        for path in missing.into_iter().rev() {
            match std::fs::create_dir(path) {
                Ok(()) => lock(&added.directories).push(path.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(FsError::new("make directory", path, error).into()),
            }
        }
        Self::at(path)
    }

    /// A directory in it, made where it is missing; a link is refused.
    pub(super) fn make_inside(&self, name: &str, added: &Added) -> Result<Self, CopyError> {
        let path = self.path.join(name);
        match rustix::fs::mkdirat(&self.dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => lock(&added.directories).push(path.clone()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(FsError::new("make directory", path, errno).into()),
        }
        let dir =
            fs::open_dir_at(&self.dir, name.as_bytes()).map_err(|error| FsError { path: path.clone(), ..error })?;
        Ok(Self { dir, path })
    }

    /// A file in it. Links stay inside, and nothing but a file is opened.
    fn open_file(&self, name: &str) -> Result<File, FsError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let shown = |error: FsError| FsError { path: self.path.join(name), ..error };
        let file = fs::open_in_root(&self.dir, name.as_bytes(), flags).map_err(shown)?;
        let stat = rustix::fs::fstat(&file).act("stat", self.path.join(name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FsError::new("read", self.path.join(name), io::Error::other("it is no file")));
        }
        Ok(file.into())
    }

    /// As [`Self::open_file`]; a file that is missing is told by its name.
    pub(super) fn open(&self, name: &str) -> Result<File, CopyError> {
        self.open_file(name).map_err(|error| match error.errno() {
            Some(Errno::NOENT) => LoadError::Missing { name: self.path.join(name).display().to_string() }.into(),
            _ => error.into(),
        })
    }

    /// All of a document in it.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, CopyError> {
        let file = self.open(name)?;
        let size = file.metadata().act("stat", self.path.join(name))?.len();
        if size > limit {
            return Err(LoadError::TooLarge { name: name.to_owned(), size, limit }.into());
        }
        Ok(fs::read_limited(file, limit).act("read", self.path.join(name))?)
    }

    /// Names in it, sorted; those that are no text are left out.
    pub(super) fn names(&self) -> Result<Vec<String>, CopyError> {
        let again = fs::open_dir_at(&self.dir, b".")?;
        Ok(fs::sorted_names(again)?.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    /// Whether a file of this size is there.
    pub(super) fn has(&self, name: &str, size: u64) -> bool {
        rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && u64::try_from(stat.st_size) == Ok(size)
        })
    }

    /// Writes a file beside itself and puts it in place when it is whole and durable. What was there is replaced.
    pub(super) fn put(&self, name: &str, reader: &mut dyn Read, added: &Added) -> Result<(), io::Error> {
        let temporary = format!(".{name}.{}", std::process::id());
        let mode = Mode::from_raw_mode(0o644);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // One of a process of the same number that was killed.
        let _ = rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty());
        let mut file = File::from(rustix::fs::openat(&self.dir, &temporary, flags, mode)?);
        let fresh = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).is_err();
        let result = io::copy(reader, &mut file)
            .and_then(|_| file.flush())
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(rustix::fs::renameat(&self.dir, &temporary, &self.dir, name)?));
        match result {
            Ok(()) if fresh => lock(&added.files).push(self.path.join(name)),
            Ok(()) => {}
            Err(_) => drop(rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty())),
        }
        result
    }

    /// The same for a document.
    pub(super) fn put_bytes(&self, name: &str, bytes: &[u8], added: &Added) -> Result<(), CopyError> {
        Ok(self.put(name, &mut &*bytes, added).act("write", self.path.join(name))?)
    }

    /// Removes a file; failing leaves it.
    pub(super) fn remove(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }

    /// What was written survives a power cut.
    pub(super) fn sync(&self) -> Result<(), CopyError> {
        Ok(rustix::fs::fsync(&self.dir).act("sync", &self.path)?)
    }
}
