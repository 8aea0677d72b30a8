//! Blobs that came in part: kept under `partial/<hex>` until the rest is there, so that a pull that was cut short goes
//! on where it ended, in whichever process.
//!
//! Nothing is believed of them: their bytes are hashed with those that follow, and a whole that is not what its digest
//! says is thrown away. One process at a time has one, under a lock on the file itself.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};

use super::{Content, ContentError, Ingest, Place};
use crate::digest::{Digest, Sha256Stream};
use crate::fs::{Act, FsError};
use crate::store::Store;

/// Smaller blobs are fetched anew, in bytes.
const SMALLEST: u64 = 1 << 20;

/// Where they lie.
pub(crate) const DIRECTORY: &str = "partial";

fn path(digest: &Digest) -> String {
    format!("{DIRECTORY}/{}", digest.hex())
}

/// The bytes of a blob that were there already.
#[derive(Debug)]
pub(crate) struct Kept {
    file: File,
    /// How many there are.
    pub(crate) length: u64,
}

impl Content<'_> {
    /// As [`Self::ingest`], and what came before an interruption is kept for the next time. Those bytes have to be
    /// given to [`Ingest::pass`] before anything is written.
    pub(crate) fn resume(&self, digest: Digest, size: u64) -> Result<(Ingest, Option<Kept>), ContentError> {
        let opened = if size < SMALLEST { None } else { open(self.store, &digest)? };
        let Some(file) = opened else { return Ok((self.ingest(Some((digest, size)))?, None)) };
        let shown = || self.store.root().join(path(&digest));
        let mut length = file.metadata().act("stat", shown())?.len();
        if length > size {
            file.set_len(0).act("truncate", shown())?;
            length = 0;
        }
        let kept = match length {
            0 => None,
            length => Some(Kept { file: read_again(self.store, &digest)?, length }),
        };
        (&file).seek(SeekFrom::Start(length)).act("seek in", shown())?;
        let ingest = Ingest {
            store: self.store.clone(),
            session: self.store.session()?,
            place: Place::Partial(path(&digest)),
            stream: Some(Sha256Stream::new(file)),
            expected: Some((digest, size)),
        };
        Ok((ingest, kept))
    }

    /// Throws away what is there of a blob, unless another process is about to add to it.
    pub(crate) fn forget_partial(&self, digest: &Digest) -> Result<(), ContentError> {
        if let Some(_locked) = open(self.store, digest)? {
            self.store.remove_file(&path(digest))?;
        }
        Ok(())
    }
}

impl Ingest {
    /// Takes note of bytes that are in the file already.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream {
            stream.pass(bytes);
        }
    }
}

impl Read for Kept {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.length).unwrap_or(usize::MAX).min(buffer.len());
        match self.file.read(&mut buffer[..most])? {
            // It was that long when it was locked.
            0 if most > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.length -= count as u64;
                Ok(count)
            }
        }
    }
}

/// The file of a blob, locked; nothing where another process has it, or the name leads to something else.
fn open(store: &Store, digest: &Digest) -> Result<Option<File>, ContentError> {
    let path = path(digest);
    match rustix::fs::mkdirat(store.dir(), DIRECTORY, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(FsError::new("make directory", store.root().join(DIRECTORY), errno).into()),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let file = rustix::fs::openat(store.dir(), &path, flags, mode).act("open", store.root().join(&path))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || !is_at(store, &path, &file) {
        return Ok(None);
    }
    Ok(Some(OwnedFd::into(file)))
}

/// A descriptor of its own, whose position does not follow the writer's.
fn read_again(store: &Store, digest: &Digest) -> Result<File, ContentError> {
    let (path, flags) = (path(digest), OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC);
    let file = rustix::fs::openat(store.dir(), &path, flags, Mode::empty()).act("open", store.root().join(&path))?;
    Ok(OwnedFd::into(file))
}

/// Whether the name still is that file's: it may have become a blob between opening and locking.
fn is_at(store: &Store, path: &str, file: impl AsFd) -> bool {
    let named = rustix::fs::statat(store.dir(), path, AtFlags::SYMLINK_NOFOLLOW);
    let same = |one: &rustix::fs::Stat, two: &rustix::fs::Stat| (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino);
    matches!((named, rustix::fs::fstat(file)), (Ok(named), Ok(held)) if same(&named, &held))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::store::Mode as StoreMode;

    const SIZE: usize = 2 << 20;

    fn take_in(store: &Store, bytes: &[u8], announced: Digest) -> Result<(u64, Digest), ContentError> {
        let (mut blob, kept) = store.content().resume(announced, SIZE as u64).unwrap();
        let there = kept.as_ref().map_or(0, |kept| kept.length);
        if let Some(mut kept) = kept {
            let mut old = Vec::new();
            kept.read_to_end(&mut old).unwrap();
            blob.pass(&old);
        }
        blob.write_all(&bytes[usize::try_from(there).unwrap()..]).unwrap();
        Ok((there, blob.commit()?.0))
    }

    #[test]
    fn what_came_is_kept_checked_and_thrown_away_where_it_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreMode::User).unwrap();
        let bytes: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
        let digest = Digest::of(&bytes);
        let (mut blob, kept) = store.content().resume(digest, SIZE as u64).unwrap();
        assert!(kept.is_none());
        blob.write_all(&bytes[..5000]).unwrap();
        // Whoever comes second makes a file of his own, which leaves nothing.
        let (mut second, none) = store.content().resume(digest, SIZE as u64).unwrap();
        assert!(none.is_none());
        second.write_all(&bytes[..10]).unwrap();
        drop(second);
        drop(blob);
        assert_eq!(take_in(&store, &bytes, digest).unwrap(), (5000, digest));
        assert_eq!(store.content().has(&digest).unwrap(), Some(SIZE as u64));
        assert!(!dir.path().join(path(&digest)).exists());

        // Other bytes than those of the digest, of the right number and too many.
        store.content().remove(&digest).unwrap();
        std::fs::write(dir.path().join(path(&digest)), [7; 5000]).unwrap();
        assert!(matches!(take_in(&store, &bytes, digest), Err(ContentError::WrongDigest { .. })));
        assert_eq!(take_in(&store, &bytes, digest).unwrap().0, 0, "it was thrown away");
        store.content().remove(&digest).unwrap();
        std::fs::write(dir.path().join(path(&digest)), vec![7; SIZE + 1]).unwrap();
        assert_eq!(take_in(&store, &bytes, digest).unwrap().0, 0);
        let small = store.content().resume(digest, 100).unwrap().0;
        assert!(matches!(small.place, Place::Session(_)), "small blobs are not kept");
    }
}
