//! Garbage: what the cache holds, and how it is kept within its limits.
//!
//! Roots are images with a name or kept without one, containers, and what living processes have claimed (see
//! [`crate::store::Lease`]). All else is cache: layers that records of steps lead to, cache mounts, mirrors of
//! repositories, indexes. A prune looks first, without keeping anybody waiting; then, alone for a moment, it reads the
//! roots once more and renames what it takes out of sight, records before the layers that they name; the files
//! are removed after that. Killed at any point, it leaves a store that works: what was renamed lies below `tmp/`
//! and goes with the next command.

mod auto;
mod filter;
mod inventory;
mod policy;
mod reach;
mod usage;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use filter::{Filter, FilterError};
pub(crate) use inventory::files_below;
pub use policy::{Limits, Rule, choose};
pub(crate) use reach::digests_of_file;
pub use usage::{Kind, Usage};

use inventory::{Inventory, Thing};
use reach::Reach;

use crate::digest::Digest;
use crate::fs::{self, Act};
use crate::image::ImageError;
use crate::names::Entry;
use crate::store::{Store, StoreError};

/// What a prune has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Parts of the cache, in the order of their going.
    pub parts: Vec<Usage>,
    /// Bytes that were freed on the disk.
    pub bytes: u64,
    /// Bytes of cache that are left, besides what images have too.
    pub left: u64,
}

/// Whether images without a name count as images, or as cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// They stay.
    Kept,
    /// They go with the layers that they are made of.
    Cache,
}

impl Store {
    /// The parts of the build cache, biggest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn usage(&self) -> Result<Vec<Usage>, ImageError> {
        let mut parts = Inventory::of(self, |_| true)?.parts;
        parts.sort_by(|one, two| two.size.cmp(&one.size).then_with(|| one.id.cmp(&two.id)));
        Ok(parts)
    }

    /// Bytes of the store's disk: all, and those that are free for its owner.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn disk(&self) -> Result<(u64, u64), StoreError> {
        let found = rustix::fs::fstatvfs(self.dir()).act("ask for the free space of", self.root())?;
        Ok((found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize))
    }

    /// Bytes on the disk of a layer; 0 where it is not there.
    #[must_use]
    pub fn layer_space(&self, diff_id: &Digest) -> u64 {
        if self.layer_dir(diff_id).exists() { inventory::layer_size(self, diff_id) } else { 0 }
    }

    /// Bytes on the disk of everything below a path, links counted once.
    #[must_use]
    pub fn space_of(path: &Path) -> u64 {
        inventory::tree_size(path)
    }

    /// Removes parts of the cache by these rules, one after the other, and what nothing leads to where it is older
    /// than `grace`.
    ///
    /// # Errors
    /// Where the store cannot be read, or something cannot be removed.
    pub fn prune(&self, rules: &[Rule], grace: Option<Duration>, unnamed: Unnamed) -> Result<Pruned, ImageError> {
        let keeps = |entry: &Entry| unnamed == Unnamed::Kept || entry.name.is_some();
        let found = Inventory::of(self, keeps)?;
        let chosen = choose_by(&found, rules, grace, self.disk()?.1);
        let forget = forgotten(&found, rules);
        let total: u64 = found.parts.iter().filter(|part| !part.shared).map(|part| part.size).sum();
        if chosen.is_empty() && forget.is_empty() {
            return Ok(Pruned { left: total, ..Pruned::default() });
        }
        let mut pruned = self.remove(&found, &chosen, &forget, unnamed)?;
        pruned.left = total.saturating_sub(pruned.bytes);
        Ok(pruned)
    }

    /// Removes what was chosen, as far as nobody has come to need it since.
    fn remove(
        &self,
        found: &Inventory,
        chosen: &[usize],
        forget: &[PathBuf],
        unnamed: Unnamed,
    ) -> Result<Pruned, ImageError> {
        let session = self.session()?;
        let (mut pruned, mut taken) = (Pruned::default(), Vec::new());
        let alone = self.alone()?;
        // Claims before roots: who lets go of a claim has given what he made a name before.
        let claims = Reach::of_claims(self)?;
        let mut stays = Reach::of_roots(self, |entry| unnamed == Unnamed::Kept || entry.name.is_some())?;
        stays.layers.extend(claims.layers);
        stays.blobs.extend(claims.blobs);
        let goes = |at: &&usize| match &found.things[**at] {
            Thing::Layer(digest) => !stays.layers.contains(digest),
            Thing::Blob(digest) => !stays.blobs.contains(digest),
            Thing::Locked { .. } | Thing::Files(_) => true,
        };
        let chosen: Vec<usize> = chosen.iter().filter(goes).copied().collect();
        let digest_of = |at: &usize| match &found.things[*at] {
            Thing::Layer(digest) | Thing::Blob(digest) => Some(*digest),
            _ => None,
        };
        let digests: BTreeSet<Digest> = chosen.iter().filter_map(digest_of).collect();
        if unnamed == Unnamed::Cache {
            self.drop_unnamed(&digests)?;
        }
        let useless = found.referrers.iter().filter(|one| !one.digests.is_disjoint(&digests)).map(|one| &one.path);
        for path in useless.chain(forget).filter(|path| !path.as_os_str().is_empty()) {
            remove_file(path)?;
        }
        for at in chosen {
            let before = taken.len();
            match &found.things[at] {
                Thing::Layer(diff_id) => {
                    taken.extend(self.take(&session, &format!("layers/{}", diff_id.hex()))?);
                    for blob in self.layer_blobs(diff_id)?.iter().filter(|blob| blob.made_by.is_none()) {
                        let digest = crate::image::manifest::digest_of(&blob.descriptor)?;
                        if !stays.blobs.contains(&digest) {
                            taken.extend(self.take(&session, &blob_path(&digest))?);
                        }
                    }
                }
                Thing::Blob(digest) => taken.extend(self.take(&session, &blob_path(digest))?),
                Thing::Files(paths) => paths.iter().try_for_each(|path| remove_file(path))?,
                Thing::Locked { path, lock } => taken.extend(self.take_locked(&session, path, lock)?),
            }
            if taken.len() > before || matches!(found.things[at], Thing::Files(_)) {
                pruned.bytes += found.parts[at].size;
                pruned.parts.push(found.parts[at].clone());
            }
        }
        drop(alone);
        for name in taken {
            fs::remove_entry(session.dir(), name.as_bytes()).map_err(StoreError::from)?;
        }
        Ok(pruned)
    }

    /// Removes blobs that were brought in for something that came to nothing, but for those that an image has: a name
    /// that could not be synced is there nevertheless. Failing leaves them to the next prune.
    pub(crate) fn drop_unreached(&self, blobs: &BTreeSet<Digest>) {
        if blobs.is_empty() {
            return;
        }
        let Ok(reach) = Reach::of_roots(self, |_| true) else { return };
        for digest in blobs.difference(&reach.blobs) {
            drop(self.content().remove(digest));
        }
    }

    /// Removes only what nothing leads to and is older than `grace`.
    ///
    /// # Errors
    /// As [`Self::prune`].
    pub fn prune_unreferenced(&self, grace: Duration) -> Result<Pruned, ImageError> {
        self.prune(&[], Some(grace), Unnamed::Kept)
    }

    /// Puts something out of sight; its name in the session.
    fn take(&self, session: &crate::store::Session, path: &str) -> Result<Option<String>, StoreError> {
        let name = session.fresh_name();
        match fs::durable::rename(self.dir(), path, session.dir(), &name) {
            Ok(()) => Ok(Some(name)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(fs::FsError::new("remove", self.root().join(path), errno).into()),
        }
    }

    /// The same with a directory that is used under a lock; nothing where somebody has it.
    pub(crate) fn take_locked(
        &self,
        session: &crate::store::Session,
        path: &Path,
        lock: &Path,
    ) -> Result<Option<String>, StoreError> {
        let lock = std::fs::File::options().create(true).append(true).open(lock).act("open", lock)?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let Ok(relative) = path.strip_prefix(self.root()) else { return Ok(None) };
        self.take(session, &relative.to_string_lossy())
    }

    /// Takes images without a name out of the index of which something goes.
    fn drop_unnamed(&self, digests: &BTreeSet<Digest>) -> Result<(), ImageError> {
        for entry in self.names()?.into_iter().filter(|entry| entry.name.is_none()) {
            let mut reach = Reach::default();
            reach.image(self, &entry.digest)?;
            if !reach.layers.is_disjoint(digests) || !reach.blobs.is_disjoint(digests) {
                self.image_remove(&entry.digest)?;
            }
        }
        Ok(())
    }
}

/// Applies rules one after the other: what one has chosen is gone for the next.
fn choose_by(found: &Inventory, rules: &[Rule], grace: Option<Duration>, free: u64) -> Vec<usize> {
    let old = |at: &usize| {
        let limit = grace.map(|grace| now().saturating_sub(grace.as_secs()));
        limit.is_some_and(|limit| found.parts[*at].last_used <= limit)
    };
    let mut chosen: Vec<usize> = (0..found.parts.len()).filter(|at| found.orphan[*at]).filter(old).collect();
    let mut freed = chosen.iter().map(|at| found.parts[*at].size).sum::<u64>();
    for rule in rules {
        let mut parts = found.parts.clone();
        for at in &chosen {
            // As good as gone: nothing waits for it and it counts for nothing.
            (parts[*at].size, parts[*at].in_use) = (0, true);
        }
        let more = choose(&parts, rule, now(), free + freed);
        freed += more.iter().map(|at| found.parts[*at].size).sum::<u64>();
        chosen.extend(more);
    }
    chosen
}

/// Records of layers that images have too: a prune of everything forgets them, though that frees nothing.
fn forgotten(found: &Inventory, rules: &[Rule]) -> Vec<PathBuf> {
    let everything = |rule: &&Rule| {
        rule.all
            && rule.filters.is_empty()
            && rule.unused_for.is_zero()
            && (rule.reserved_space, rule.max_used_space, rule.min_free_space) == (0, 0, 0)
    };
    if !rules.iter().any(|rule| everything(&rule)) {
        return Vec::new();
    }
    let in_use: BTreeSet<&str> = found.parts.iter().filter(|part| part.in_use).map(|part| part.id.as_str()).collect();
    let unused = |digests: &BTreeSet<Digest>| !digests.iter().any(|digest| in_use.contains(digest.hex().as_str()));
    found.referrers.iter().filter(|one| unused(&one.digests)).map(|one| one.path.clone()).collect()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::durable::unlink_path(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Ok(Err(error).act("remove", path)?),
        _ => Ok(()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
