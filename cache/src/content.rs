//! Blobs: bytes named by their SHA-256, verified when they come in and again when they are read into memory.

pub(crate) mod partial;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::digest::{Digest, Sha256Stream};
use crate::fs::{Act, FsError, durable};
use crate::store::{Claim, Session, Store, StoreError};

/// Why a blob could not be taken in or given out.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A call of the file system failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The store does not have it.
    #[error("blob {digest} is not in the store")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The bytes are not those that were announced.
    #[error("blob {expected} has digest {actual}")]
    WrongDigest {
        /// What was announced, or the name in the store.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// There are fewer or more bytes than announced.
    #[error("blob {digest} has {actual} bytes, {expected} were announced")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came (one more than announced where the rest was not read).
        actual: u64,
    },
    /// The blob is larger than the reader takes.
    #[error("blob {digest} has {size} bytes, the limit here is {limit}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

/// The blobs of a store; from [`Store::content`].
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    store: &'a Store,
}

impl Store {
    /// The blobs.
    #[must_use]
    pub const fn content(&self) -> Content<'_> {
        Content { store: self }
    }
}

fn name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Content<'_> {
    /// The size of a blob in bytes, if it is there.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn has(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        let look = || rustix::fs::statat(self.store.dir(), name(digest), AtFlags::SYMLINK_NOFOLLOW);
        match self.store.claiming(Claim::Blob(*digest), look)? {
            Ok(stat) => Ok(Some(u64::try_from(stat.st_size).unwrap_or(0))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FsError::new("stat", self.path(digest), errno).into()),
        }
    }

    /// Opens a blob for reading. The bytes are not checked again: who reads them must hash or trust them.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn open(&self, digest: &Digest) -> Result<File, ContentError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let look = || rustix::fs::openat(self.store.dir(), name(digest), flags, Mode::empty());
        match self.store.claiming(Claim::Blob(*digest), look)? {
            Ok(file) => Ok(OwnedFd::into(file)),
            Err(Errno::NOENT) => Err(ContentError::Missing { digest: *digest }),
            Err(errno) => Err(FsError::new("open", self.path(digest), errno).into()),
        }
    }

    /// Reads a blob of at most `limit` bytes into memory and checks its digest.
    ///
    /// # Errors
    /// Where it is missing, larger, or damaged.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ContentError> {
        let file = self.open(digest)?;
        let mut bytes = Vec::new();
        let size = file.metadata().act("stat", self.path(digest))?.len();
        if size > limit {
            return Err(ContentError::TooLarge { digest: *digest, size, limit });
        }
        file.take(limit).read_to_end(&mut bytes).act("read", self.path(digest))?;
        match Digest::of(&bytes) {
            actual if actual == *digest => Ok(bytes),
            actual => Err(ContentError::WrongDigest { expected: *digest, actual }),
        }
    }

    /// Where a blob lies, or would.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.store.root().join(name(digest))
    }

    /// Begins to take in a blob; `expected` are its announced digest and size.
    ///
    /// # Errors
    /// Where nothing can be written.
    pub fn ingest(&self, expected: Option<(Digest, u64)>) -> Result<Ingest, ContentError> {
        let session = self.store.session()?;
        let (file, name) = session.create_file()?;
        let place = Place::Session(name);
        Ok(Ingest { store: self.store.clone(), session, place, stream: Some(Sha256Stream::new(file)), expected })
    }

    /// Puts bytes that are in memory. Nothing is written where the blob is already there.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = Digest::of(bytes);
        if self.has(&digest)? != Some(bytes.len() as u64) {
            self.store.write_file(&name(&digest), bytes, true)?;
        }
        Ok(digest)
    }

    /// Removes a blob; a missing one is fine.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), ContentError> {
        match durable::unlink(self.store.dir(), name(digest)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FsError::new("remove", self.path(digest), errno).into()),
        }
    }
}

/// A blob coming in. Visible after [`Self::commit`]; dropping it before leaves nothing, but for what can be resumed.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    session: Arc<Session>,
    place: Place,
    /// Nothing once it is committed.
    stream: Option<Sha256Stream<File>>,
    expected: Option<(Digest, u64)>,
}

/// Where a blob lies while it comes in.
#[derive(Debug)]
enum Place {
    /// In the session, under this name: gone with it.
    Session(String),
    /// At this path of the store: kept for the next time ([`partial`]).
    Partial(String),
}

impl Ingest {
    /// Bytes written so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.stream.as_ref().map_or(0, Sha256Stream::count)
    }

    /// The digest of the bytes written so far.
    #[must_use]
    pub(crate) fn digest(&self) -> Digest {
        self.stream.as_ref().map_or_else(|| Digest::of(b""), |stream| stream.clone_state().finish().1)
    }

    /// Checks digest and size against what was announced, makes the blob durable and visible.
    ///
    /// # Errors
    /// Where the bytes are not those announced, or cannot be made durable.
    pub fn commit(mut self) -> Result<(Digest, u64), ContentError> {
        // Set since `ingest`; only this function takes it, and it consumes the value.
        let Some(stream) = self.stream.take() else { return Err(self.closed().into()) };
        let (file, actual, count) = stream.finish();
        let result = self.check(actual, count).and_then(|()| {
            self.store.claiming(Claim::Blob(actual), || ())?;
            self.store.note_growth_of(count);
            let from = self.move_into_session()?;
            self.store.publish_file(&file, &from, &name(&actual), true)?;
            Ok((actual, count))
        });
        if result.is_err() {
            self.discard();
        }
        result
    }

    /// The file's name in the session, where it goes if it is not there yet.
    fn move_into_session(&mut self) -> Result<String, ContentError> {
        if let Place::Partial(path) = &self.place {
            let fresh = self.session.fresh_name();
            let moved = rustix::fs::renameat(self.store.dir(), path, self.session.dir(), &fresh);
            moved.act("rename", self.store.root().join(path))?;
            self.place = Place::Session(fresh);
        }
        match &self.place {
            Place::Session(name) => Ok(name.clone()),
            Place::Partial(_) => Err(self.closed().into()),
        }
    }

    fn discard(&self) {
        match &self.place {
            Place::Session(name) => self.session.discard_file(name),
            // What cannot be removed is found wrong once more.
            Place::Partial(path) => drop(self.store.remove_file(path)),
        }
    }

    fn check(&self, actual: Digest, count: u64) -> Result<(), ContentError> {
        match self.expected {
            Some((digest, expected)) if expected != count => {
                Err(ContentError::WrongSize { digest, expected, actual: count })
            }
            Some((expected, _)) if expected != actual => Err(ContentError::WrongDigest { expected, actual }),
            _ => Ok(()),
        }
    }

    fn closed(&self) -> FsError {
        let path = match &self.place {
            Place::Session(name) => self.session.path().join(name),
            Place::Partial(path) => self.store.root().join(path),
        };
        FsError::new("write", path, Errno::BADF)
    }
}

impl Write for Ingest {
    /// Writes at most what was announced: the first byte too many is an error.
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Err(Errno::BADF.into()) };
        if let Some((digest, expected)) = self.expected
            && stream.count() + buffer.len() as u64 > expected
        {
            let error = ContentError::WrongSize { digest, expected, actual: expected + 1 };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let Some(stream) = &self.stream else { return };
        let empty = || stream.inner().metadata().is_ok_and(|found| found.len() == 0);
        if matches!(self.place, Place::Session(_)) || empty() {
            self.discard();
        }
    }
}
