//! Directories kept between builds, and who may use them at once: across processes, by `flock`.
//!
//! `caches/<hash of what it is>/<n>/` is a copy (`<n>.part` while it is filled), `<n>.lock` its lock. `shared` users hold a shared lock, `private` and
//! `locked` ones an exclusive lock; `private` takes the first copy that nobody uses, `locked` waits for the first one.
//! What it is: its id and how it begins (mode, owner, initial content), as in BuildKit. The id is never a path.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lap_cache::remote::UsedMount;
use lap_solver::digest::Key;
use lap_solver::graph::CacheSharing;
use rustix::fs::{FlockOperation, Gid, Mode, Uid};
use rustix::io::Errno;
use serde::Serialize;

/// What a directory that is being filled is called in the end of its name.
const PART: &str = "part";
/// More users of one private cache at once are refused.
const MAX_COPIES: u32 = 1024;

/// A cache directory in use. Dropping it lets others have it.
#[derive(Debug)]
pub(super) struct CacheDir {
    /// What it is.
    pub(super) name: Key,
    pub(super) path: PathBuf,
    /// Whether it was made just now and may be filled. Only where nobody else has it: a shared one is filled under an
    /// exclusive lock, which [`CacheDir::share`] then gives up.
    pub(super) is_new: bool,
    lock: File,
    lock_path: PathBuf,
    sharing: CacheSharing,
}

/// How a cache directory begins.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct NewCache {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Identity of its initial content.
    pub(super) content: Option<Key>,
}

impl NewCache {
    /// What the cache `id` that begins like this is known by.
    pub(super) fn name(self, id: &str) -> Key {
        Key::of("cache mount", &(id, self))
    }
}

impl CacheDir {
    /// Takes the cache `id` below `caches`; waits where somebody else has it and it is `locked`.
    pub(super) async fn take(caches: &Path, id: &str, sharing: CacheSharing, new: NewCache) -> io::Result<Self> {
        let name = new.name(id);
        let dir = caches.join(name.to_hex());
        std::fs::create_dir_all(&dir)?;
        let about = dir.join("about");
        if !about.exists() {
            // For people who look at what the cache holds.
            drop(std::fs::write(about, id));
        }
        let mut pause = Duration::from_millis(5);
        loop {
            let copies = if sharing == CacheSharing::Locked { 1 } else { MAX_COPIES };
            for copy in 0..copies {
                if let Some(taken) = Self::try_take(&dir, name, copy, sharing, new)? {
                    return Ok(taken);
                }
            }
            if sharing != CacheSharing::Locked {
                return Err(io::Error::other(format!("{MAX_COPIES} users at once")));
            }
            // No blocking lock: it could not be given up when the build is.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn try_take(dir: &Path, name: Key, copy: u32, sharing: CacheSharing, new: NewCache) -> io::Result<Option<Self>> {
        let lock_path = dir.join(format!("{copy}.lock"));
        let lock = File::options().create(true).append(true).open(&lock_path)?;
        let mut path = dir.join(copy.to_string());
        loop {
            match Self::try_lock(&lock, &path, sharing)? {
                // Pruned between the look and the lock: who makes it anew must be alone.
                Some(exclusive) if !exclusive && !path.exists() => {
                    rustix::fs::flock(&lock, FlockOperation::Unlock)?;
                }
                Some(_) => break,
                None => return Ok(None),
            }
        }
        // Its time says when the directory was last used.
        lock.set_modified(SystemTime::now())?;
        let is_new = !path.exists();
        if is_new {
            path.set_extension(PART);
            make(&path, new)?;
        }
        Ok(Some(Self { name, path, is_new, lock, lock_path, sharing }))
    }

    /// Whether the lock that was taken is exclusive; nothing where it cannot be had.
    fn try_lock(lock: &File, path: &Path, sharing: CacheSharing) -> io::Result<Option<bool>> {
        let exclusive = sharing != CacheSharing::Shared || !path.exists();
        let operation = match exclusive {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        match rustix::fs::flock(lock, operation) {
            Ok(()) => Ok(Some(exclusive)),
            Err(Errno::WOULDBLOCK) if sharing == CacheSharing::Shared && exclusive => {
                // Somebody is making it right now.
                rustix::fs::flock(lock, FlockOperation::LockShared)?;
                Ok(Some(false))
            }
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// To be called once a new cache is filled: from here on others find it.
    pub(super) fn share(&mut self) -> io::Result<()> {
        if self.is_new {
            let whole = self.path.with_extension("");
            std::fs::rename(&self.path, &whole)?;
            self.path = whole;
        }
        if self.sharing == CacheSharing::Shared {
            rustix::fs::flock(&self.lock, FlockOperation::LockShared)?;
        }
        Ok(())
    }

    /// What is told to caches of elsewhere.
    pub(super) fn used(&self, step: Key, id: &str) -> UsedMount {
        let (path, lock) = (self.path.clone(), self.lock_path.clone());
        UsedMount { step, name: self.name, id: id.to_owned(), path, lock, shared: self.sharing == CacheSharing::Shared }
    }
}

fn make(path: &Path, new: NewCache) -> io::Result<()> {
    // Left by somebody who was killed.
    if path.exists() {
        std::fs::remove_dir_all(path)?;
    }
    std::fs::create_dir(path)?;
    let dir = File::open(path)?;
    rustix::fs::fchown(&dir, Some(Uid::from_raw(new.uid)), Some(Gid::from_raw(new.gid)))?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(new.mode & 0o7777))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn new() -> NewCache {
        NewCache {
            mode: 0o750,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            content: None,
        }
    }

    async fn take(dir: &Path, id: &str, sharing: CacheSharing) -> CacheDir {
        let mut cache = CacheDir::take(dir, id, sharing, new()).await.unwrap();
        cache.share().unwrap();
        cache
    }

    #[tokio::test]
    async fn sharing_decides_who_has_which_copy() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path(), "pip", CacheSharing::Shared).await;
        let second = take(dir.path(), "pip", CacheSharing::Shared).await;
        assert!(first.is_new && !second.is_new);
        assert_eq!(first.path, second.path);
        assert_eq!(std::fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o750);

        let own = take(dir.path(), "pip", CacheSharing::Private).await;
        assert_ne!(own.path, first.path);
        let path = own.path.clone();
        drop(own);
        assert_eq!(take(dir.path(), "pip", CacheSharing::Private).await.path, path, "a free copy is used again");

        let waiting = CacheDir::take(dir.path(), "pip", CacheSharing::Locked, new());
        let waiting = tokio::time::timeout(Duration::from_millis(50), waiting).await;
        assert!(waiting.is_err(), "a locked cache waits for its users");
        drop((first, second));
        let locked = take(dir.path(), "pip", CacheSharing::Locked).await;
        assert!(!locked.is_new);
    }

    #[tokio::test]
    async fn an_id_is_never_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let caches = dir.path().join("caches");
        for id in ["../../canary", "/", "", "a/../../b"] {
            let taken = take(&caches, id, CacheSharing::Shared).await;
            assert_eq!(taken.path.parent().unwrap().parent().unwrap(), caches, "{id:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
