//! Digests of a directory's files by their metadata, kept between builds.
//!
//! A digest is trusted while device, inode, size, mtime and ctime are the same. As in git's index, a file that had
//! just been changed when it was hashed could be changed again within the same tick of the clock: such a digest is
//! not kept. The file on disk is checked as a whole; one that is damaged or of another version counts as empty.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use lap_solver::digest::Key;

use super::Meta;

const MAGIC: &[u8; 8] = b"lapstat1";
const RECORD: usize = 8 * 3 + 12 * 2 + 32 + 1;
/// Coarsest clock of the file systems that contexts lie on.
const RACY: Duration = Duration::from_secs(2);
/// How many saves a record survives without being asked for.
const KEEP: u8 = 16;

/// Digests of files by metadata.
#[derive(Debug)]
pub struct StatCache {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<(u64, u64), Record>,
    dirty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    key: Key,
    /// Saves since it was last asked for.
    age: u8,
}

impl StatCache {
    /// What is kept in `file`; empty where there is nothing that can be used.
    #[must_use]
    pub fn open(file: PathBuf) -> Self {
        let records = std::fs::read(&file).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { file, state: Mutex::new(State { records, dirty: false }) }
    }

    pub(super) fn get(&self, meta: &Meta) -> Option<Key> {
        let mut state = self.state.lock().ok()?;
        let record = state.records.get_mut(&(meta.dev, meta.ino))?;
        if (record.size, record.mtime, record.ctime) != (meta.size, meta.mtime, meta.ctime) {
            return None;
        }
        record.age = 0;
        Some(record.key)
    }

    /// Keeps a digest, unless the file changed so shortly before `started` that a later change could look the same.
    pub(super) fn put(&self, meta: &Meta, started: SystemTime, key: Key) {
        let changed = SystemTime::UNIX_EPOCH + Duration::new(meta.ctime.0.try_into().unwrap_or(0), meta.ctime.1);
        if started.duration_since(changed).is_ok_and(|age| age > RACY)
            && let Ok(mut state) = self.state.lock()
        {
            let record = Record { size: meta.size, mtime: meta.mtime, ctime: meta.ctime, key, age: 0 };
            state.records.insert((meta.dev, meta.ino), record);
            state.dirty = true;
        }
    }

    /// Writes what is known, if anything is new, so that a reader sees the old or the new file and nothing between.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let Ok(mut state) = self.state.lock() else { return Ok(()) };
        if !state.dirty {
            return Ok(());
        }
        for record in state.records.values_mut() {
            record.age = record.age.saturating_add(1);
        }
        state.records.retain(|_, record| record.age <= KEEP);
        let bytes = encode(&state.records);
        let parent = self.file.parent().unwrap_or_else(|| std::path::Path::new("."));
        std::fs::create_dir_all(parent)?;
        let temporary = self.file.with_extension(format!("{}", std::process::id()));
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&bytes)?;
        drop(file);
        lap_cache::fs::durable::rename_path(&temporary, &self.file)?;
        state.dirty = false;
        Ok(())
    }
}

fn encode(records: &HashMap<(u64, u64), Record>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + 32 + records.len() * RECORD);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 32]);
    for ((dev, ino), record) in records {
        for number in [*dev, *ino, record.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (seconds, nanoseconds) in [record.mtime, record.ctime] {
            bytes.extend_from_slice(&seconds.to_le_bytes());
            bytes.extend_from_slice(&nanoseconds.to_le_bytes());
        }
        bytes.extend_from_slice(record.key.as_bytes());
        bytes.push(record.age);
    }
    let sum = blake3::hash(&bytes[40..]);
    bytes[8..40].copy_from_slice(sum.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<HashMap<(u64, u64), Record>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, rest) = rest.split_at_checked(32)?;
    if blake3::hash(rest).as_bytes() != sum || rest.len() % RECORD != 0 {
        return None;
    }
    rest.chunks_exact(RECORD).map(record).collect()
}

fn record(mut bytes: &[u8]) -> Option<((u64, u64), Record)> {
    let dev = u64::from_le_bytes(take(&mut bytes)?);
    let ino = u64::from_le_bytes(take(&mut bytes)?);
    let size = u64::from_le_bytes(take(&mut bytes)?);
    let mtime = (i64::from_le_bytes(take(&mut bytes)?), u32::from_le_bytes(take(&mut bytes)?));
    let ctime = (i64::from_le_bytes(take(&mut bytes)?), u32::from_le_bytes(take(&mut bytes)?));
    let key = Key::from_bytes(take(&mut bytes)?);
    Some(((dev, ino), Record { size, mtime, ctime, key, age: *bytes.first()? }))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(ino: u64, ctime: i64) -> Meta {
        Meta {
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 3,
            mtime: (ctime, 5),
            ctime: (ctime, 7),
            dev: 1,
            ino,
            links: 1,
            rdev: 0,
        }
    }

    #[test]
    fn digests_survive_saving_and_any_change_of_metadata_loses_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stats/context");
        let cache = StatCache::open(file.clone());
        let key = Key::of("t", "content");
        cache.put(&meta(1, 1000), SystemTime::now(), key);
        cache.save().unwrap();
        let again = StatCache::open(file.clone());
        assert_eq!(again.get(&meta(1, 1000)), Some(key));
        for changed in
            [meta(2, 1000), meta(1, 1001), Meta { size: 4, ..meta(1, 1000) }, Meta { dev: 2, ..meta(1, 1000) }]
        {
            assert_eq!(again.get(&changed), None);
        }
        let mut bytes = std::fs::read(&file).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(StatCache::open(file).get(&meta(1, 1000)), None, "a damaged file counts as empty");
    }

    #[test]
    fn a_file_that_changed_just_before_it_was_hashed_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let cache = StatCache::open(dir.path().join("stats"));
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (ctime, started, kept) in [(1000, 1000, false), (1000, 1002, false), (1000, 1003, true), (1000, 900, false)]
        {
            let key = Key::of("t", &started);
            cache.put(&meta(started, ctime), at(started), key);
            assert_eq!(cache.get(&meta(started, ctime)).is_some(), kept, "ctime {ctime}, hashed at {started}");
        }
    }
}
