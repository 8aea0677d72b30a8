//! Leases: what a living process uses is not taken from it.
//!
//! A process with a [`Lease`] writes the name of everything that it finds or makes in the store to a list of its own,
//! `tmp/<session>/claims`, before it looks or publishes. Who prunes reads the lists of all living processes while it
//! holds `gc.lock` alone, and takes nothing that is on one. So pruning does not wait for builds, and a build waits
//! for a prune only while that renames what it has chosen: the files themselves are removed after the lock is free.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::Write as _;

use rustix::fs::{AtFlags, FlockOperation, OFlags, Timespec, Timestamps, UTIME_NOW};

use super::{Store, StoreError, lock};
use crate::digest::Digest;
use crate::fs::{self, Act};

const LOCK: &str = "gc.lock";
const CLAIMS: &str = "claims";

/// What can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Claim {
    Layer(Digest),
    Blob(Digest),
}

/// Claims of this process.
#[derive(Debug, Default)]
pub(super) struct Claims {
    leases: usize,
    made: HashSet<Claim>,
    list: Option<File>,
    lock: Option<File>,
}

/// As long as one lives, nothing that this process finds or makes in the store is pruned.
#[derive(Debug)]
pub struct Lease {
    store: Store,
}

impl Store {
    /// Claims from now on what this process finds or makes in the store.
    ///
    /// # Errors
    /// Where the list of claims cannot be made.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let session = self.session()?;
        let mut claims = lock(&self.inner.claims);
        if claims.list.is_none() {
            claims.lock = Some(self.lock_file(LOCK)?);
            let path = session.path().join(CLAIMS);
            claims.list = Some(File::options().create(true).append(true).open(&path).act("create", &path)?);
        }
        claims.leases += 1;
        Ok(Lease { store: self.clone() })
    }

    /// Looks at something, or makes it, while nobody prunes, and claims it first. Without a lease it only looks.
    /// `look` must not claim anything itself.
    pub(crate) fn claiming<T>(&self, claim: Claim, look: impl FnOnce() -> T) -> Result<T, StoreError> {
        let mut claims = lock(&self.inner.claims);
        if claims.leases == 0 || claims.made.contains(&claim) {
            drop(claims);
            return Ok(look());
        }
        let (Some(list), Some(gc)) = (&claims.list, &claims.lock) else { return Ok(look()) };
        let line = match claim {
            Claim::Layer(digest) => format!("layer {digest}\n"),
            Claim::Blob(digest) => format!("blob {digest}\n"),
        };
        rustix::fs::flock(gc, FlockOperation::LockShared).act("lock", self.root().join(LOCK))?;
        let written = (&mut &*list).write_all(line.as_bytes()).act("write the claims in", self.root());
        let seen = written.map(|()| look());
        rustix::fs::flock(gc, FlockOperation::Unlock).act("unlock", self.root().join(LOCK))?;
        let seen = seen?;
        claims.made.insert(claim);
        drop(claims);
        if let Claim::Layer(diff_id) = claim {
            // Its time says when it was last used. A layer that is not there has none.
            self.touch(&format!("{}/layer.json", crate::layer::layer_path(&diff_id)));
        }
        Ok(seen)
    }

    /// Marks a file of the store as used now, as far as that can be done.
    pub(crate) fn touch(&self, path: &str) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(self.dir(), path, &times, AtFlags::SYMLINK_NOFOLLOW);
    }

    /// Keeps every other process from claiming, until it is dropped. Only for moments.
    pub(crate) fn alone(&self) -> Result<File, StoreError> {
        let file = self.lock_file(LOCK)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).act("lock", self.root().join(LOCK))?;
        Ok(file)
    }

    /// What living processes have claimed: layers and blobs.
    pub(crate) fn claimed(&self) -> Result<(BTreeSet<Digest>, BTreeSet<Digest>), StoreError> {
        let (mut layers, mut blobs) = (BTreeSet::new(), BTreeSet::new());
        let tmp = fs::open_dir_at(self.dir(), b"tmp")?;
        for name in fs::sorted_names(&tmp)? {
            let Ok(dir) = fs::open_dir_at(&tmp, &name) else { continue };
            if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
                continue;
            }
            let Ok(file) =
                rustix::fs::openat(&dir, CLAIMS, OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            else {
                continue;
            };
            let text = std::io::read_to_string(File::from(file)).act("read the claims in", self.root())?;
            for line in text.lines() {
                match line.split_once(' ') {
                    Some(("layer", digest)) => layers.extend(digest.parse::<Digest>()),
                    Some(("blob", digest)) => blobs.extend(digest.parse::<Digest>()),
                    _ => {}
                }
            }
        }
        Ok((layers, blobs))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut claims = lock(&self.store.inner.claims);
        claims.leases -= 1;
        if claims.leases == 0 {
            claims.made.clear();
            // A list that stays keeps more than it must until this process ends, no less.
            drop(claims.list.as_ref().map(|list| list.set_len(0)));
        }
    }
}
