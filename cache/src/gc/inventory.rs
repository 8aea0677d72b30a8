//! What the cache holds: layers, mounts, repositories, indexes, and who mentions them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::reach::{Reach, digests_of_file};
use super::usage::{Kind, Usage};
use crate::content::partial;
use crate::digest::Digest;
use crate::failed::FAILED;
use crate::image::{ImageError, manifest};
use crate::names::Entry;
use crate::records::Record;
use crate::store::Store;

/// What is removed when a part goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Thing {
    /// A layer with the blobs that it came in.
    Layer(Digest),
    Blob(Digest),
    /// A directory that is used under a lock.
    Locked {
        path: PathBuf,
        lock: PathBuf,
    },
    /// Files that can go at any time.
    Files(Vec<PathBuf>),
}

/// A file that leads to layers or blobs, and is worth nothing without them.
#[derive(Debug, Clone)]
pub(super) struct Referrer {
    pub(super) path: PathBuf,
    pub(super) digests: BTreeSet<Digest>,
    used: u64,
    record: Option<Record>,
    kind: Kind,
}

/// Everything in the cache.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) parts: Vec<Usage>,
    pub(super) things: Vec<Thing>,
    /// Whether nothing leads to it, so that it is of no use to anybody.
    pub(super) orphan: Vec<bool>,
    pub(super) referrers: Vec<Referrer>,
}

impl Inventory {
    /// Of a store of which `keeps` says which images count as such, and are not part of the cache.
    pub(super) fn of(store: &Store, keeps: impl Fn(&Entry) -> bool) -> Result<Self, ImageError> {
        // Who claims something and then lets it go has given it a name before.
        let claims = Reach::of_claims(store)?;
        let roots = Reach::of_roots(store, &keeps)?;
        let mut found = Self { referrers: referrers(store)?, ..Self::default() };
        for entry in store.names()?.into_iter().filter(|entry| !keeps(entry)) {
            let mut reach = Reach::default();
            reach.image(store, &entry.digest)?;
            let digests = reach.layers.into_iter().chain(reach.blobs).collect();
            let used = entry.set_at();
            found.referrers.push(Referrer { path: PathBuf::new(), digests, used, record: None, kind: Kind::Regular });
        }
        let originals = found.layers(store, &roots, &claims)?;
        found.blobs(store, &roots, &claims, &originals)?;
        found.directories(store);
        found.partials(store);
        found.failed(store)?;
        found.indexes(store);
        Ok(found)
    }

    fn add(&mut self, part: Usage, thing: Thing, orphan: bool) {
        self.parts.push(part);
        self.things.push(thing);
        self.orphan.push(orphan);
    }

    /// Returns the blobs that belong to layers.
    fn layers(&mut self, store: &Store, roots: &Reach, claims: &Reach) -> Result<BTreeSet<Digest>, ImageError> {
        let mut mentions: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
        for (at, referrer) in self.referrers.iter().enumerate() {
            referrer.digests.iter().for_each(|digest| mentions.entry(*digest).or_default().push(at));
        }
        let (mut originals, mut places) = (BTreeSet::new(), BTreeMap::new());
        for diff_id in store.layers()? {
            let stamp = store.layer_dir(&diff_id).join("layer.json");
            let (made, touched) =
                fs::symlink_metadata(&stamp).map_or((0, 0), |found| (created(&found), modified(&found)));
            let mine: Vec<&Referrer> =
                mentions.get(&diff_id).into_iter().flatten().map(|at| &self.referrers[*at]).collect();
            let top = |referrer: &&&Referrer| {
                referrer
                    .record
                    .as_ref()
                    .is_some_and(|record| record.snapshot.layers.last().is_some_and(|last| last.diff_id == diff_id))
            };
            let maker = mine
                .iter()
                .filter(top)
                .filter_map(|referrer| referrer.record.as_ref())
                .min_by_key(|record| record.created);
            let mut size = layer_size(store, &diff_id);
            let mut description = maker.map(|record| record.name.clone());
            for blob in store.layer_blobs(&diff_id)?.into_iter().filter(|blob| blob.made_by.is_none()) {
                let digest = manifest::digest_of(&blob.descriptor)?;
                if let Ok(found) = fs::symlink_metadata(store.content().path(&digest)) {
                    size += on_disk(&found);
                    originals.insert(digest);
                }
                let origin =
                    blob.origins.first().map(|origin| format!("pulled from {}/{}", origin.registry, origin.repository));
                description = description.or(origin);
            }
            let kind = match mine.as_slice() {
                [] => Kind::Regular,
                _ if mine.iter().all(|referrer| referrer.kind == Kind::Git) => Kind::Git,
                _ => Kind::Regular,
            };
            let part = Usage {
                id: diff_id.hex(),
                kind,
                description: description.unwrap_or_default(),
                in_use: claims.layers.contains(&diff_id),
                shared: roots.layers.contains(&diff_id),
                size,
                created: maker.map_or(made, |record| record.created),
                last_used: mine.iter().map(|referrer| referrer.used).fold(touched, u64::max),
                ..Usage::default()
            };
            let orphan = mine.is_empty() && part.is_reclaimable();
            places.insert(diff_id, self.parts.len());
            self.add(part, Thing::Layer(diff_id), orphan);
        }
        let stacks: Vec<Vec<Digest>> =
            self.referrers.iter().filter_map(|one| Some(one.record.as_ref()?.snapshot.diff_ids())).collect();
        for stack in stacks {
            for (depth, pair) in stack.windows(2).enumerate() {
                if let (Some(below), Some(above)) = (places.get(&pair[0]), places.get(&pair[1])) {
                    let part = &mut self.parts[*above];
                    part.depth = part.depth.max(depth + 1);
                    let parent = pair[0].hex();
                    if below != above && !part.parents.contains(&parent) {
                        part.parents.push(parent);
                    }
                }
            }
        }
        Ok(originals)
    }

    fn blobs(
        &mut self,
        store: &Store,
        roots: &Reach,
        claims: &Reach,
        originals: &BTreeSet<Digest>,
    ) -> Result<(), ImageError> {
        let mentioned: BTreeMap<Digest, u64> =
            self.referrers.iter().flat_map(|one| one.digests.iter().map(|digest| (*digest, one.used))).collect();
        for entry in fs::read_dir(store.root().join("blobs/sha256")).into_iter().flatten().flatten() {
            let Some(digest) = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok()) else {
                continue;
            };
            if roots.blobs.contains(&digest) || originals.contains(&digest) {
                continue;
            }
            let Ok(found) = entry.metadata() else { continue };
            let part = Usage {
                id: digest.hex(),
                kind: Kind::Internal,
                description: "blob that no image names".to_owned(),
                in_use: claims.blobs.contains(&digest),
                size: on_disk(&found),
                created: created(&found),
                last_used: modified(&found).max(mentioned.get(&digest).copied().unwrap_or(0)),
                ..Usage::default()
            };
            let orphan = !part.in_use && !mentioned.contains_key(&digest);
            self.add(part, Thing::Blob(digest), orphan);
        }
        Ok(())
    }

    /// Cache mounts and mirrors of repositories: directories with a lock file beside them.
    fn directories(&mut self, store: &Store) {
        let caches = store.root().join("caches");
        for shelf in fs::read_dir(&caches).into_iter().flatten().flatten() {
            let git = shelf.file_name() == "git";
            let about = fs::read_to_string(shelf.path().join("about")).ok();
            for entry in fs::read_dir(shelf.path()).into_iter().flatten().flatten() {
                let Ok(found) = entry.metadata() else { continue };
                if !found.is_dir() {
                    continue;
                }
                let name = entry.file_name().to_string_lossy().into_owned();
                // Whoever fills a new one holds its lock, too.
                let lock = shelf.path().join(format!("{}.lock", name.trim_end_matches(".part")));
                let used = fs::symlink_metadata(&lock).map_or(0, |lock| modified(&lock));
                let shelf_name = shelf.file_name().to_string_lossy().into_owned();
                let part = Usage {
                    id: if git { name } else { format!("{shelf_name}-{name}") },
                    kind: if git { Kind::Git } else { Kind::CacheMount },
                    description: match (git, &about) {
                        (true, _) => "mirror of a git repository".to_owned(),
                        (false, Some(about)) => format!("cached mount {}", about.trim_end()),
                        (false, None) => "cached mount".to_owned(),
                    },
                    in_use: is_locked(&lock),
                    mutable: true,
                    size: tree_size(&entry.path()),
                    created: created(&found),
                    last_used: used.max(modified(&found)),
                    ..Usage::default()
                };
                self.add(part, Thing::Locked { path: entry.path(), lock }, false);
            }
        }
    }

    /// Blobs that came in part: locked where somebody fetches the rest.
    fn partials(&mut self, store: &Store) {
        for (path, found) in files_below(&store.root().join(partial::DIRECTORY)) {
            let part = Usage {
                id: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                kind: Kind::Internal,
                description: "part of a blob whose download was cut short".to_owned(),
                in_use: is_locked(&path),
                mutable: true,
                size: on_disk(&found),
                created: created(&found),
                last_used: modified(&found),
                ..Usage::default()
            };
            let orphan = !part.in_use;
            self.add(part, Thing::Locked { lock: path.clone(), path }, orphan);
        }
    }

    /// What failed steps left.
    fn failed(&mut self, store: &Store) -> Result<(), ImageError> {
        for key in store.failed()? {
            let path = store.root().join(FAILED).join(key.to_hex());
            let lock = path.with_extension("lock");
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let part = Usage {
                id: format!("failed-{key}"),
                kind: Kind::Internal,
                description: "what a failed step left, for lap debug".to_owned(),
                in_use: is_locked(&lock),
                size: tree_size(&path),
                created: created(&found),
                last_used: modified(&found),
                ..Usage::default()
            };
            self.add(part, Thing::Locked { path, lock }, false);
        }
        Ok(())
    }

    /// Small files that only save time.
    fn indexes(&mut self, store: &Store) {
        for (directory, kind, description) in [
            ("stats", Kind::Local, "digests of the files of a context"),
            ("records/selections", Kind::Internal, "digests of parts of layers"),
            ("records/adoptions", Kind::Internal, "layers by their content"),
            ("records/listings", Kind::Internal, "files of contexts, to explain misses"),
            ("builds", Kind::Internal, "records of builds"),
        ] {
            let files = files_below(&store.root().join(directory));
            // Those of a directory each, or all that belong together as one.
            let groups: Vec<Vec<(PathBuf, Metadata)>> = match kind {
                Kind::Local => files.into_iter().map(|file| vec![file]).collect(),
                _ if files.is_empty() => Vec::new(),
                _ => vec![files],
            };
            for group in groups {
                let (path, _) = &group[0];
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let part = Usage {
                    id: if kind == Kind::Local { name } else { directory.replace('/', "-") },
                    kind,
                    description: description.to_owned(),
                    size: group.iter().map(|(_, found)| on_disk(found)).sum(),
                    created: group.iter().map(|(_, found)| created(found)).min().unwrap_or(0),
                    last_used: group.iter().map(|(_, found)| modified(found)).max().unwrap_or(0),
                    ..Usage::default()
                };
                self.add(part, Thing::Files(group.into_iter().map(|(path, _)| path).collect()), false);
            }
        }
    }
}

/// Everything that leads from a step or a source to layers.
fn referrers(store: &Store) -> Result<Vec<Referrer>, ImageError> {
    let mut found = Vec::new();
    for (directory, kind) in [("records", Kind::Regular), ("sources/git", Kind::Git), ("sources/http", Kind::Regular)] {
        for (path, metadata) in files_below(&store.root().join(directory)) {
            let index = path.strip_prefix(store.root().join("records")).is_ok_and(|below| {
                matches!(
                    below.iter().next().and_then(|name| name.to_str()),
                    Some("selections" | "adoptions" | "listings")
                )
            });
            if index || path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let record: Option<Record> = match directory {
                "records" => fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()),
                _ => None,
            };
            let digests = match &record {
                Some(record) => record.snapshot.diff_ids().into_iter().collect(),
                None => digests_of_file(&path).into_iter().collect(),
            };
            found.push(Referrer { path, digests, used: modified(&metadata), record, kind });
        }
    }
    Ok(found)
}

/// All files below a directory, sorted; none where it is not there.
pub(crate) fn files_below(directory: &Path) -> Vec<(PathBuf, Metadata)> {
    let (mut files, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => left.push(entry.path()),
                Ok(found) if found.is_file() => files.push((entry.path(), found)),
                _ => {}
            }
        }
    }
    files.sort_by(|one, two| one.0.cmp(&two.0));
    files
}

/// Whether somebody holds a lock, of any kind.
fn is_locked(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
}

/// Bytes on the disk of a layer. It never changes, so they are counted once.
pub(super) fn layer_size(store: &Store, diff_id: &Digest) -> u64 {
    let known = store.layer_dir(diff_id).join("disk");
    let read = fs::read_to_string(&known).ok();
    if let Some(size) = read.and_then(|text| text.strip_suffix('\n')?.parse().ok()) {
        return size;
    }
    let size = tree_size(&store.layer_dir(diff_id).join("fs"));
    // Where it cannot be kept, it is counted again.
    drop(fs::write(known, format!("{size}\n")));
    size
}

/// Bytes on the disk of everything below, links counted once.
pub(super) fn tree_size(path: &Path) -> u64 {
    let (mut size, mut left, mut linked) = (0, vec![path.to_owned()], HashSet::new());
    while let Some(directory) = left.pop() {
        size += fs::symlink_metadata(&directory).map_or(0, |found| on_disk(&found));
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => left.push(entry.path()),
                Ok(found) if found.nlink() > 1 && !linked.insert((found.dev(), found.ino())) => {}
                Ok(found) => size += on_disk(&found),
                Err(_) => {}
            }
        }
    }
    size
}

fn on_disk(found: &Metadata) -> u64 {
    found.blocks() * 512
}

fn modified(found: &Metadata) -> u64 {
    u64::try_from(found.mtime()).unwrap_or(0)
}

fn created(found: &Metadata) -> u64 {
    let birth = found.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    birth.map_or_else(|| modified(found), |since| since.as_secs())
}
