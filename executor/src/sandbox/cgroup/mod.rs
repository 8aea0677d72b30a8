//! Control groups: one a sandbox, on version 1, version 2, and both side by side.
//!
//! A group is made before the sandbox starts, joined by the init itself, and removed when everything in it is dead.
//! Only the hierarchies that carry a limit are touched, since each costs two directories and a write.

mod facts;
mod hierarchy;
mod settings;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

pub use facts::ControlGroups;
use hierarchy::Hierarchies;
pub(crate) use hierarchy::hierarchies;
use settings::{optional, settings};

use super::SandboxError;
use super::spec::Limits;

/// Where groups are made if the caller says nothing.
pub(crate) const DEFAULT_PARENT: &str = "/lapstrake";

/// Those that limits are for.
const CONTROLLERS: [&str; 4] = ["cpuset", "cpu", "memory", "pids"];

/// The group of one sandbox: a directory in each hierarchy that limits it. Dropping it removes what is empty.
#[derive(Debug, Default)]
pub(crate) struct Group {
    dirs: Vec<PathBuf>,
    memory: Option<MemoryEvents>,
}

#[derive(Debug)]
enum MemoryEvents {
    V1(PathBuf),
    V2(PathBuf),
}

impl Group {
    /// Makes the group `parent`/`name` with these limits.
    pub(crate) fn create(parent: Option<&str>, name: &str, limits: &Limits) -> Result<Self, SandboxError> {
        Self::create_in(hierarchies(), parent, name, limits)
    }

    fn create_in(
        hierarchies: &Hierarchies,
        parent: Option<&str>,
        name: &str,
        limits: &Limits,
    ) -> Result<Self, SandboxError> {
        let parent = parent.unwrap_or(DEFAULT_PARENT).trim_matches('/');
        if parent.split('/').any(|part| part == "..") {
            return Err(SandboxError::Invalid { what: format!("control group parent {parent:?} leads upwards") });
        }
        // What somebody with limits left lies in hierarchies that we may not touch otherwise.
        for root in CONTROLLERS.iter().filter_map(|controller| hierarchies.v1_of(controller)) {
            sweep(&root.join(parent));
        }
        if let Some(root) = &hierarchies.v2 {
            sweep(&root.join(parent));
        }
        let mut group = Self::default();
        for controller in CONTROLLERS {
            let v1 = hierarchies.v1_of(controller);
            let settings = settings(limits, controller, v1.is_some())?;
            let Some(first) = settings.first() else { continue };
            let asked = settings.iter().any(|setting| setting.asked);
            let made = match (v1, &hierarchies.v2) {
                (Some(root), _) => group.in_v1(root, parent, name, controller),
                (None, Some(root)) => group.in_v2(root, parent, name, controller),
                (None, None) => Err(io::Error::other("no control groups are mounted")),
            };
            let written = made.and_then(|dir| {
                settings.iter().try_for_each(|setting| {
                    fs::write(dir.join(setting.file), &setting.value)
                        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", setting.file)))
                        .or_else(|error| if optional(setting) { Ok(()) } else { Err(error) })
                })
            });
            if let Err(error) = written
                && asked
            {
                let mut reason = format!("the control group of {} cannot be set up: {error}", first.controller);
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) {
                    reason.push_str("; limits need root, or control groups that were delegated to you");
                }
                return Err(SandboxError::Limit { limit: first.controller, reason });
            }
        }
        Ok(group)
    }

    /// The files a process of one thread writes itself into.
    ///
    /// In version 1 that is `tasks`: moving only oneself takes no lock against every fork of the machine, where
    /// `cgroup.procs` waits some 10 ms for one.
    pub(crate) fn procs(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |dir: &PathBuf| match fs::OpenOptions::new().write(true).open(dir.join("tasks")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(fs::OpenOptions::new().write(true).open(dir.join("cgroup.procs"))?.into())
            }
            other => Ok(other?.into()),
        };
        self.dirs.iter().map(open).collect()
    }

    /// The directories of the group, for processes that join later.
    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Whether the kernel killed a process of the group for want of memory.
    pub(crate) fn oom_killed(&self) -> bool {
        let (path, key) = match &self.memory {
            None => return false,
            Some(MemoryEvents::V1(dir)) => (dir.join("memory.oom_control"), "oom_kill "),
            Some(MemoryEvents::V2(dir)) => (dir.join("memory.events"), "oom_kill "),
        };
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix(key)).any(|count| count.trim() != "0")
    }

    /// A group made earlier, by its directories.
    pub(crate) fn adopt(dirs: Vec<PathBuf>) -> Self {
        let memory = dirs.iter().find_map(|dir| {
            if dir.join("memory.oom_control").exists() {
                Some(MemoryEvents::V1(dir.clone()))
            } else {
                dir.join("memory.events").exists().then(|| MemoryEvents::V2(dir.clone()))
            }
        });
        Self { dirs, memory }
    }

    fn in_v1(&mut self, root: &Path, parent: &str, name: &str, controller: &str) -> io::Result<PathBuf> {
        let above = root.join(parent);
        let dir = above.join(name);
        let fresh = !self.dirs.contains(&dir);
        if fresh {
            make(&above, &dir, |above| {
                // An empty cpuset takes no process.
                if controller == "cpuset" { hierarchy::inherit_cpuset(root, above) } else { Ok(()) }
            })?;
            self.dirs.push(dir.clone());
        }
        if controller == "cpuset" {
            hierarchy::inherit_cpuset(root, &dir)?;
        }
        if controller == "memory" {
            self.memory = Some(MemoryEvents::V1(dir.clone()));
        }
        Ok(dir)
    }

    fn in_v2(&mut self, root: &Path, parent: &str, name: &str, controller: &str) -> io::Result<PathBuf> {
        let available = fs::read_to_string(root.join("cgroup.controllers"))?;
        if !available.split_whitespace().any(|one| one == controller) {
            return Err(io::Error::other(format!("this machine has no {controller} controller here")));
        }
        let above = root.join(parent);
        let dir = above.join(name);
        make(&above, &dir, |above| {
            hierarchy::enable(root, controller)?;
            let mut level = root.to_path_buf();
            for part in above.strip_prefix(root).unwrap_or(above) {
                level.push(part);
                hierarchy::enable(&level, controller)?;
            }
            Ok(())
        })?;
        if !self.dirs.contains(&dir) {
            self.dirs.push(dir.clone());
        }
        if controller == "memory" {
            self.memory = Some(MemoryEvents::V2(dir.clone()));
        }
        Ok(dir)
    }

    /// Removes the directories. The kernel may need a moment after the last process is gone.
    fn remove(&mut self) {
        for dir in self.dirs.drain(..) {
            let mut pause = Duration::from_micros(200);
            while let Err(error) = fs::remove_dir(&dir) {
                if error.kind() == io::ErrorKind::NotFound || pause > Duration::from_millis(500) {
                    break;
                }
                sleep(pause);
                pause *= 2;
            }
            // The last one out takes the parent along; it is in use otherwise.
            if let Some(parent) = dir.parent() {
                drop(fs::remove_dir(parent));
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Under which name below `/sys/fs/cgroup` a group of version 1 is looked for, and where it is.
pub(super) fn shown_as(dir: &Path) -> Option<(String, String)> {
    let hierarchy = hierarchies().v1.iter().find(|one| dir.starts_with(&one.root))?;
    Some((hierarchy.root.file_name()?.to_str()?.to_owned(), dir.to_str()?.to_owned()))
}

/// Makes `dir` below `above`, which another sandbox may just be removing.
fn make(above: &Path, dir: &Path, prepare: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    for _ in 0..100 {
        fs::create_dir_all(above)?;
        let made = prepare(above).and_then(|()| fs::create_dir(dir));
        match made {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Ok(()) => return Ok(()),
            Err(error) => {
                // It is in use otherwise.
                drop(fs::remove_dir(above));
                return Err(error);
            }
        }
    }
    Err(io::Error::other(format!("{} keeps disappearing", above.display())))
}

/// Removes, once in the life of this process, empty groups whose makers were killed before they could, and the
/// directory above them. A group's name begins with its maker's process number.
fn sweep(above: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if !SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(above.to_path_buf()) {
        return;
    }
    let Ok(entries) = fs::read_dir(above) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.split_once('-')).and_then(|(pid, _)| pid.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // One with living processes stays: the kernel refuses.
            drop(fs::remove_dir(entry.path()));
        }
    }
    drop(fs::remove_dir(above));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like version 2, as far as plain files can.
    #[test]
    fn version_two_gets_its_controllers_enabled_and_its_limits_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_path_buf();
        fs::create_dir(root.join("p")).unwrap();
        fs::write(root.join("cgroup.controllers"), "cpu memory pids").unwrap();
        for level in ["", "p"] {
            fs::write(root.join(level).join("cgroup.subtree_control"), "").unwrap();
        }
        let hierarchies = Hierarchies { v1: Vec::new(), v2: Some(root.clone()) };
        let limits =
            Limits { memory: Some(1 << 20), nano_cpus: Some(1_000_000_000), pids: Some(9), ..Limits::default() };
        let group = Group::create_in(&hierarchies, Some("/p"), "g", &limits).unwrap();
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        assert_eq!(read("p/g/memory.max"), "1048576");
        assert_eq!(read("p/g/memory.swap.max"), "1048576");
        assert_eq!(read("p/g/cpu.max"), "100000 100000");
        assert_eq!(read("p/g/pids.max"), "9");
        assert_eq!(read("cgroup.subtree_control"), "+pids", "the last one written to a plain file");
        assert_eq!(group.dirs(), [root.join("p/g")]);
        assert!(!group.oom_killed());
        fs::write(root.join("p/g/memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert!(group.oom_killed());
        std::mem::forget(group);
        // A controller that is not there is an error only where it was asked for.
        let cpuset = Limits { cpuset: Some("0".to_owned()), pids: Some(0), ..Limits::default() };
        assert!(Group::create_in(&hierarchies, Some("/p"), "h", &cpuset).is_err());
        let nothing = Hierarchies::default();
        assert!(Group::create_in(&nothing, None, "h", &Limits::default()).unwrap().dirs().is_empty());
        assert!(Group::create_in(&nothing, None, "h", &limits).is_err());
    }

    #[test]
    fn no_parent_leads_upwards() {
        assert!(Group::create(Some("/../x"), "n", &Limits::default()).is_err());
    }
}
