//! Build records: what each build did, step by step, with everything that was put out.
//!
//! A record is one file, `builds/<id>.jsonl`: a line that tells of the build and its steps, and a line an event, with
//! its time in milliseconds. It is written when the build is over, whole or not at all, and not synced: a power cut
//! may lose the last ones. `builds/of/<identity>` names the last build of the same thing, to be compared with.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use lap_solver::digest::Key;
use lap_solver::event::Event;
use lap_solver::key::KeyInputs;
use lap_solver::why::Difference;
use serde::{Deserialize, Serialize};

use crate::fs::{self, Act};
use crate::store::{Store, StoreError};

/// Where records lie.
pub(crate) const BUILDS: &str = "builds";
/// A first line longer than this is none of ours.
const HEAD_LIMIT: u64 = 64 << 20;
/// Records that are kept in any case, and how long the others are: BuildKit's numbers.
const KEEP: usize = 50;
const KEEP_FOR: Duration = Duration::from_secs(48 * 3600);

/// How something ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was not taken up, or not ended.
    #[default]
    Pending,
    /// An earlier result was used.
    Cached,
    /// It was done.
    Done,
    /// It failed.
    Failed,
    /// It was given up.
    Cancelled,
}

/// Why a step was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Why {
    /// The user wanted it (`--no-cache`, `--no-cache-filter`).
    NoCache,
    /// There is no earlier build of the same thing with such a step.
    Never,
    /// It did not succeed the last time.
    Failed,
    /// Its result was removed from the cache.
    Pruned,
    /// It differs from the last time.
    Changed {
        /// In what.
        differences: Vec<Reason>,
    },
}

/// A difference in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reason {
    /// A file that a step takes of a context.
    File {
        /// Its path in the context.
        file: String,
        /// What of it: `content`, `mode or owner`, `added`, `removed`.
        change: String,
        /// Digest of its content; none where it was not there.
        before: Option<Key>,
        /// The same now.
        after: Option<Key>,
    },
    /// Further files.
    MoreFiles {
        /// How many.
        more_files: usize,
    },
    /// An image that a step begins with or copies from.
    Image {
        /// Its name.
        image: String,
    },
    /// The result of another step.
    Step {
        /// What that is called.
        step: String,
    },
    /// A part of the step itself.
    Other(Difference),
}

/// A step of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `RUN make`.
    pub name: String,
    /// Name of the stage, or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Position in the stage, and how many steps it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<(u32, u32)>,
    /// Lines of the Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<(u32, u32)>,
    /// Steps that it uses, by number from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<u32>,
    /// Whether it brings something in from outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub source: bool,
    /// Its definition key.
    pub definition: Option<Key>,
    /// Its content key, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The content key of an earlier build, where this one did not come so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Key>,
    /// What the key was made of, where the step did not succeed: there is no record of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_of: Option<KeyInputs>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ran, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// When it was taken up, in milliseconds from the beginning of the build.
    #[serde(default)]
    pub started: u64,
    /// When it began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<u64>,
    /// When it was over.
    #[serde(default)]
    pub ended: u64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is known of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Version of this form.
    pub version: u32,
    /// Names the record.
    pub id: String,
    /// Builds with the same identity are of the same thing.
    pub identity: Key,
    /// For people: the image's name, or the directory of the context.
    pub name: String,
    /// The context, as it was given.
    #[serde(default)]
    pub context: String,
    /// The Dockerfile.
    #[serde(default)]
    pub file: String,
    /// When it began, in milliseconds since 1970.
    pub started: u64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its steps, in the order of the graph.
    pub steps: Vec<Step>,
}

/// Version of [`Build`].
pub const VERSION: u32 = 1;

/// The build records of a store.
#[derive(Debug, Clone)]
pub struct Builds {
    store: Store,
}

impl Builds {
    /// Of `store`.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes a record: the build, and its events as lines.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, build: &Build, events: &[u8]) -> Result<(), StoreError> {
        let path = path(&build.id);
        let corrupt = |source| StoreError::Corrupt { path: self.store.root().join(&path), source };
        let mut text = serde_json::to_vec(build).map_err(corrupt)?;
        text.push(b'\n');
        text.extend_from_slice(events);
        self.store.write_file(&path, &text, false)?;
        self.store.write_file(&of(&build.identity), build.id.as_bytes(), false)
    }

    /// The last build with this identity.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn last_of(&self, identity: &Key) -> Result<Option<Build>, StoreError> {
        let id = self.store.read_file(&of(identity))?.and_then(|id| String::from_utf8(id).ok());
        id.filter(|id| is_id(id)).map_or(Ok(None), |id| self.get(&id))
    }

    /// A record by its whole ID. One that cannot be read counts as absent.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<Build>, StoreError> {
        let Some(mut reader) = self.open(id)? else { return Ok(None) };
        let mut line = Vec::new();
        reader.by_ref().take(HEAD_LIMIT).read_until(b'\n', &mut line).act("read", self.path(id))?;
        Ok(serde_json::from_slice(&line).ok().filter(|build: &Build| build.version == VERSION))
    }

    /// The events of a build, with their times in milliseconds; each is given to `each`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn events<E: From<StoreError>>(
        &self,
        id: &str,
        mut each: impl FnMut(Duration, Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(reader) = self.open(id)? else { return Ok(()) };
        for line in reader.split(b'\n').skip(1) {
            let line = line.act("read", self.path(id)).map_err(StoreError::from)?;
            // A line of a later version is passed over.
            if let Ok((at, event)) = serde_json::from_slice::<(u64, Event)>(&line) {
                each(Duration::from_millis(at), event)?;
            }
        }
        Ok(())
    }

    /// All builds, newest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn list(&self) -> Result<Vec<Build>, StoreError> {
        let mut builds = Vec::new();
        for id in self.ids()? {
            builds.extend(self.get(&id)?);
        }
        builds.sort_by(|one, two| two.started.cmp(&one.started).then_with(|| two.id.cmp(&one.id)));
        Ok(builds)
    }

    /// The newest build.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn newest(&self) -> Result<Option<Build>, StoreError> {
        // IDs begin with the time.
        match self.ids()?.into_iter().max() {
            Some(id) => self.get(&id),
            None => Ok(None),
        }
    }

    /// Removes a record; a missing one is fine.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.store.remove_file(&path(id))
    }

    /// Removes the records that are neither among the newest fifty nor younger than two days.
    ///
    /// # Errors
    /// Where one cannot be removed.
    pub fn trim(&self, now: Duration) -> Result<(), StoreError> {
        let mut ids = self.ids()?;
        ids.sort_unstable_by(|one, two| two.cmp(one));
        for id in ids.iter().skip(KEEP) {
            let started = id.get(..11).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
            if now.saturating_sub(Duration::from_millis(started)) > KEEP_FOR {
                self.remove(id)?;
            }
        }
        Ok(())
    }

    /// Where a record lies.
    #[must_use]
    pub fn path(&self, id: &str) -> PathBuf {
        self.store.root().join(path(id))
    }

    fn open(&self, id: &str) -> Result<Option<BufReader<File>>, StoreError> {
        match File::open(self.path(id)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            opened => Ok(Some(BufReader::new(opened.act("open", self.path(id))?))),
        }
    }

    fn ids(&self) -> Result<Vec<String>, StoreError> {
        let Ok(dir) = fs::open_dir_at(self.store.dir(), BUILDS.as_bytes()) else { return Ok(Vec::new()) };
        let names = fs::sorted_names(&dir)?;
        let ids = names.iter().filter_map(|name| std::str::from_utf8(name).ok()?.strip_suffix(".jsonl"));
        Ok(ids.filter(|id| is_id(id)).map(str::to_owned).collect())
    }
}

/// An ID for a build that begins at this time since 1970: the time, then what tells it from others.
#[must_use]
pub fn new_id(started: Duration) -> String {
    let tail = Key::of("build", &(std::process::id(), started.as_nanos())).to_hex();
    format!("{:011x}{}", u64::try_from(started.as_millis()).unwrap_or(u64::MAX) & 0xfff_ffff_ffff, &tail[..13])
}

fn is_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn path(id: &str) -> String {
    format!("{BUILDS}/{id}.jsonl")
}

fn of(identity: &Key) -> String {
    format!("{BUILDS}/of/{identity}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Mode;

    fn build(id: &str, started: u64) -> Build {
        Build {
            version: VERSION,
            id: id.to_owned(),
            identity: Key::of("t", "x"),
            name: "app".into(),
            context: ".".into(),
            file: "Dockerfile".into(),
            started,
            took: 5,
            outcome: Outcome::Done,
            error: None,
            steps: vec![Step { name: "RUN x".into(), ..Step::default() }],
        }
    }

    #[test]
    fn records_are_written_found_listed_and_trimmed() {
        let root = tempfile::tempdir().unwrap();
        let builds = Builds::new(Store::open(root.path(), Mode::Root).unwrap());
        assert_eq!(builds.newest().unwrap(), None);
        let ids: Vec<String> = (0..60).map(|at| new_id(Duration::from_secs(1_000_000 + at))).collect();
        for (id, at) in ids.iter().zip(1_000_000..) {
            let event = Event::Warning { vertex: None, message: "w".into() };
            let line = serde_json::to_string(&(7, event)).unwrap() + "\nnot an event\n";
            builds.write(&build(id, at * 1000), line.as_bytes()).unwrap();
        }
        let last = builds.last_of(&Key::of("t", "x")).unwrap().unwrap();
        assert_eq!((&last.id, builds.newest().unwrap().unwrap().id), (&ids[59], ids[59].clone()));
        assert_eq!(builds.last_of(&Key::of("t", "y")).unwrap(), None);
        let mut seen = Vec::new();
        builds
            .events(&ids[0], |at, event| {
                seen.push((at, event));
                Ok::<_, StoreError>(())
            })
            .unwrap();
        assert_eq!(seen, [(Duration::from_millis(7), Event::Warning { vertex: None, message: "w".into() })]);
        assert_eq!(builds.list().unwrap()[0].id, ids[59]);
        builds.trim(Duration::from_secs(1_000_060)).unwrap();
        assert_eq!(builds.list().unwrap().len(), 60, "all are young");
        builds.trim(Duration::from_secs(2_000_000)).unwrap();
        assert_eq!(builds.list().unwrap().len(), 50, "the newest fifty stay");
    }
}
