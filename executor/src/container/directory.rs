//! The directories of containers: making, finding, reading, replacing, removing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lap_cache::fs::durable;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::{Config, CreateOptions};
use super::error::ContainerError;
use super::state::State;
use super::{Containers, time};

/// A container: what it is and what it is doing.
#[derive(Debug, Clone)]
pub struct Container {
    /// What it was made to be.
    pub config: Config,
    /// What it is doing, confirmed when it was read.
    pub state: State,
    pub(super) dir: PathBuf,
}

/// The file that makes a directory a container.
pub(super) const CONFIG: &str = "config.json";

impl Container {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// The directory with its changes to the image.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    pub(super) fn etc(&self) -> PathBuf {
        self.dir.join("etc")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Looks again at what it is doing; an error where it is gone.
    ///
    /// # Errors
    /// Where its state cannot be read.
    pub fn refresh(&mut self) -> Result<(), ContainerError> {
        let state: State = read_json(&self.dir.join("state.json"))?;
        self.state = state.confirmed(&self.dir);
        Ok(())
    }

    /// Whether this process has just made it: nothing was ever written in it.
    pub(super) fn is_fresh(&self) -> bool {
        let own = i32::try_from(std::process::id()).ok();
        self.state == State::Created && self.config.creator.as_ref().map(|creator| creator.pid) == own
    }

    pub(super) fn set_state(&mut self, state: State) -> Result<(), ContainerError> {
        write_json(&self.dir, "state.json", &state)?;
        self.state = state;
        Ok(())
    }
}

impl Containers {
    /// Makes a container; it does not run yet.
    ///
    /// # Errors
    /// Where the options make no sense or the name is taken.
    pub fn create(&self, options: CreateOptions) -> Result<Container, ContainerError> {
        let root = self.root();
        private_dir(&root)?;
        // Two commands at once must not take the same name.
        let lock_path = root.join(".lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = open.map_err(ContainerError::file("open", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| ContainerError::file("lock", &lock_path)(error.into()))?;
        let all = self.all()?;
        self.sweep(&all);
        let config = Config::merge(options, new_id()?, time::now())?;
        if let Some(other) = all.into_iter().find(|other| other.config.name == config.name) {
            return Err(ContainerError::NameTaken { name: config.name, id: other.config.id });
        }
        let dir = root.join(&config.id);
        private_dir(&dir)?;
        for name in ["upper", "work", "etc"] {
            private_dir(&dir.join(name))?;
        }
        // The root of the container's own tree is for every user in it.
        fs::set_permissions(dir.join("upper"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(ContainerError::file("chmod", dir.join("upper")))?;
        // Nobody looks into it before it has a config.
        let state = dir.join("state.json");
        serde_json::to_vec(&State::Created)
            .map_err(io::Error::from)
            .and_then(|json| {
                let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&state)?;
                file.write_all(&json)
            })
            .map_err(ContainerError::file("write", &state))?;
        // Last: without it the directory is no container.
        write_json(&dir, CONFIG, &config)?;
        Ok(Container { config, state: State::Created, dir })
    }

    /// All containers, newest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn list(&self) -> Result<Vec<Container>, ContainerError> {
        let mut all = self.all()?;
        all.sort_by_key(|one| std::cmp::Reverse(one.config.created));
        Ok(all)
    }

    /// The container with this name, this id, or the only one whose id begins so.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub fn find(&self, wanted: &str) -> Result<Container, ContainerError> {
        let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
        let mut all = self.all()?;
        if let Some(at) = all.iter().position(|one| one.config.name == wanted || one.config.id == wanted) {
            return Ok(all.swap_remove(at));
        }
        all.retain(|one| !wanted.is_empty() && one.config.id.starts_with(wanted));
        match all.len() {
            0 => Err(ContainerError::NotFound { wanted: wanted.to_owned() }),
            1 => Ok(all.swap_remove(0)),
            count => Err(ContainerError::Ambiguous { wanted: wanted.to_owned(), count }),
        }
    }

    pub(super) fn by_id(&self, id: &str) -> Result<Container, ContainerError> {
        let dir = self.root().join(id);
        let config: Config = read_json(&dir.join(CONFIG))?;
        let state: State = read_json(&dir.join("state.json"))?;
        Ok(Container { state: state.confirmed(&dir), config, dir })
    }

    fn all(&self) -> Result<Vec<Container>, ContainerError> {
        // One that is being made or removed right now is none.
        Ok(self.ids()?.into_iter().filter_map(|id| self.by_id(&id).ok()).collect())
    }

    /// The names of the directories of containers, also of those half made.
    pub(super) fn ids(&self) -> Result<Vec<String>, ContainerError> {
        let root = self.root();
        let entries = match fs::read_dir(&root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(ContainerError::file("list", &root))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).collect())
    }

    /// Removes a container's directory: first what makes it a container.
    pub(super) fn remove_dir(&self, container: &Container) -> Result<(), ContainerError> {
        let config = container.dir.join(CONFIG);
        match durable::unlink_path(&config) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ContainerError::file("remove", config)(error));
            }
            _ => {}
        }
        let root = self.root();
        let dir = lap_cache::fs::open_dir(&root).map_err(|error| fs_error("open", &root, error.errno()))?;
        lap_cache::fs::remove_tree(dir.as_fd(), container.config.id.as_bytes())
            .map_err(|error| fs_error("remove", &container.dir, error.errno()))
    }
}

fn fs_error(act: &'static str, path: &Path, errno: Option<rustix::io::Errno>) -> ContainerError {
    let source = errno.map_or_else(|| io::Error::other("failed"), io::Error::from);
    ContainerError::file(act, path)(source)
}

fn new_id() -> Result<String, ContainerError> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(ContainerError::file("read", "/dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A directory that only its owner can enter; one that is there already is fine.
pub(super) fn private_dir(path: &Path) -> Result<(), ContainerError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(ContainerError::file("create", path))
}

/// Bytes of a file that describes a container, at most.
const LARGEST_FILE: u64 = 16 << 20;

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ContainerError> {
    let bytes = File::open(path).and_then(|file| lap_cache::fs::read_limited(file, LARGEST_FILE));
    let bytes = bytes.map_err(ContainerError::file("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| ContainerError::file("read", path)(error.into()))
}

/// Replaces a file whole: readers see the old or the new one.
pub(super) fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), ContainerError> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        drop(file);
        durable::rename_path(&temporary, &path)
    };
    write().map_err(ContainerError::file("write", &path))
}
