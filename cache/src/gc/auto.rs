//! Keeping the cache within its limits without being asked, after a build.
//!
//! Looking costs more than most builds, so it is done when it may be needed: after some time, when the disk is nearly
//! full, or when what was made since the last look may have filled what was left below the cap.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Limits, Pruned, Unnamed, now};
use crate::builds::Builds;
use crate::fs::Act;
use crate::image::ImageError;
use crate::store::{Store, StoreError};

/// What the last look found.
const STATE: &str = "gc.json";
/// Bytes made since then, eight bytes a build.
const GROWN: &str = "gc.grown";
/// Seconds after which it is looked again.
const INTERVAL: u64 = 15 * 60;
/// Age below which nothing goes only since nothing leads to it.
pub(super) const GRACE: Duration = Duration::from_secs(600);

#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// In seconds since 1970.
    at: u64,
    /// Bytes that may be made before the cap is reached.
    room: u64,
}

impl Store {
    /// Keeps the cache within these limits; nothing where there was no need to look.
    ///
    /// # Errors
    /// Where the store cannot be read, or something cannot be removed.
    pub fn collect(&self, limits: &Limits) -> Result<Option<Pruned>, ImageError> {
        let Some(grown) = self.note_growth()? else { return Ok(None) };
        let state = self.read_file(STATE)?.and_then(|text| serde_json::from_slice::<State>(&text).ok());
        let (_, free) = self.disk()?;
        let due = state.is_none_or(|state| {
            // A clock that went back is no reason to wait for it.
            grown >= state.room || free < limits.min_free_space || now().abs_diff(state.at) > INTERVAL
        });
        if !due {
            return Ok(None);
        }
        let pruned = self.prune(&limits.rules(), Some(GRACE), Unnamed::Cache)?;
        Builds::new(self.clone()).trim(Duration::from_secs(now()))?;
        self.trim_failed()?;
        let state =
            State { at: now(), room: limits.max_used_space.max(limits.reserved_space).saturating_sub(pruned.left) };
        self.write_file(STATE, &serde_json::to_vec(&state).unwrap_or_default(), false)?;
        self.remove_file(GROWN)?;
        Ok(Some(pruned))
    }

    /// Writes down what this process made, and tells what all have made since the last look; nothing where it made
    /// nothing.
    fn note_growth(&self) -> Result<Option<u64>, StoreError> {
        let (path, made) = (self.root().join(GROWN), self.take_growth());
        if made == 0 {
            return Ok(None);
        }
        let file = File::options().create(true).append(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&made.to_le_bytes())).act("write", &path)?;
        let text = self.read_file(GROWN)?.unwrap_or_default();
        let (numbers, _) = text.as_chunks::<8>();
        Ok(Some(numbers.iter().map(|number| u64::from_le_bytes(*number)).fold(0, u64::saturating_add)))
    }
}
