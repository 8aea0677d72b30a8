//! What failed steps left: `failed/<key>/` holds the upper directory of one and what is needed to go on there.
//!
//! It is used under a lock, `failed/<key>.lock`: shared by those who look into it, alone by who replaces or prunes it.
//! Nothing depends on it, so it is not synced.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lap_solver::digest::Key;

use crate::fs::{self, Act, FsError, durable};
use crate::snapshot::Workspace;
use crate::store::{Store, StoreError, make_directories};

/// Where they lie.
pub(crate) const FAILED: &str = "failed";
/// What is known of one.
const ABOUT: &str = "step.json";
/// The newest are kept, and no others,
const KEEP: usize = 10;
/// for as long as this.
const KEEP_FOR: Duration = Duration::from_secs(48 * 3600);

/// What a failed step left. It stays as long as this lives.
#[derive(Debug)]
pub struct Failed {
    /// The step's content key.
    pub key: Key,
    /// What was written of it.
    pub about: Vec<u8>,
    /// What it had changed when it failed, in overlay form.
    pub upper: PathBuf,
    _lock: File,
}

impl Store {
    /// Keeps what a step has left in `workspace`, with `about`, what is needed to go on there. An earlier failure of
    /// the step is replaced, unless somebody is looking into it.
    ///
    /// # Errors
    /// Where it cannot be kept.
    pub fn keep_failed(&self, workspace: Workspace, key: &Key, about: &[u8]) -> Result<(), StoreError> {
        make_directories(self.dir(), FAILED)?;
        let lock = self.lock_file(&format!("{FAILED}/{key}.lock"))?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let dir = workspace.open()?;
        for name in [&b"work"[..], b"merged"] {
            fs::remove_tree(&dir, name)?;
        }
        let path = workspace.path().join(ABOUT);
        std::fs::write(&path, about).act("write", path)?;
        let (session, target) = (self.session()?, format!("{FAILED}/{key}"));
        let before = session.fresh_name();
        match durable::rename(self.dir(), &target, session.dir(), &before) {
            Ok(()) => fs::remove_tree(session.dir(), before.as_bytes())?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(FsError::new("remove", self.root().join(target), errno).into()),
        }
        let name = workspace.name();
        durable::rename(session.dir(), name, self.dir(), &target).act("rename to", self.root().join(target))?;
        Ok(())
    }

    /// The failed steps that are kept, newest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn failed(&self) -> Result<Vec<Key>, StoreError> {
        let Ok(dir) = fs::open_dir_at(self.dir(), FAILED.as_bytes()) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for name in fs::sorted_names(dir)? {
            let Some(key) = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<Key>().ok()) else { continue };
            let about = self.root().join(FAILED).join(key.to_hex()).join(ABOUT);
            // One that is being removed, or that a power cut has left without it, is none.
            let Ok(made) = std::fs::metadata(about).and_then(|about| about.modified()) else { continue };
            found.push((std::cmp::Reverse(made), key));
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, key)| key).collect())
    }

    /// What a failed step left, if it is there and nobody removes it at this moment.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn open_failed(&self, key: &Key) -> Result<Option<Failed>, StoreError> {
        let path = format!("{FAILED}/{key}");
        if !self.root().join(&path).is_dir() {
            return Ok(None);
        }
        let lock = self.lock_file(&format!("{path}.lock"))?;
        if lock.try_lock_shared().is_err() {
            return Ok(None);
        }
        let Some(about) = self.read_file(&format!("{path}/{ABOUT}"))? else { return Ok(None) };
        Ok(Some(Failed { key: *key, about, upper: self.root().join(path).join("upper"), _lock: lock }))
    }

    /// Removes those that are neither young nor among the newest.
    pub(crate) fn trim_failed(&self) -> Result<(), StoreError> {
        for (at, key) in self.failed()?.iter().enumerate() {
            let path = self.root().join(FAILED).join(key.to_hex());
            let made = std::fs::metadata(path.join(ABOUT)).and_then(|about| about.modified());
            let age = made.ok().and_then(|made| SystemTime::now().duration_since(made).ok()).unwrap_or_default();
            if at < KEEP && age <= KEEP_FOR {
                continue;
            }
            let lock = path.with_extension("lock");
            let session = self.session()?;
            if let Some(name) = self.take_locked(&session, &path, &lock)? {
                fs::remove_tree(session.dir(), name.as_bytes())?;
                self.remove_file(&format!("{FAILED}/{key}.lock"))?;
            }
        }
        Ok(())
    }
}
