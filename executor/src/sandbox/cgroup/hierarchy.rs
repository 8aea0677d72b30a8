//! Which control group hierarchies this machine has, and what their directories need before use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Its controllers, `name=x` for a named one without.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) root: PathBuf,
}

/// The hierarchies of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// Version 1.
    pub(crate) v1: Vec<Hierarchy>,
    /// Version 2.
    pub(crate) v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Where version 1 has a controller.
    pub(crate) fn v1_of(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|one| one.controllers.iter().any(|name| name == controller)).map(|one| one.root.as_path())
    }
}

/// The hierarchies that are mounted here; looked at once.
pub(crate) fn hierarchies() -> &'static Hierarchies {
    static FOUND: OnceLock<Hierarchies> = OnceLock::new();
    FOUND.get_or_init(|| parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()))
}

/// Reads mountinfo (proc_pid_mountinfo(5)).
fn parse(mountinfo: &str) -> Hierarchies {
    let mut found = Hierarchies::default();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(place) = before.split(' ').nth(4) else { continue };
        let mut after = after.split(' ');
        match (after.next(), after.next(), after.next()) {
            (Some("cgroup2"), ..) => {
                found.v2.get_or_insert_with(|| place.into());
            }
            (Some("cgroup"), _, Some(options)) => {
                let controllers =
                    options.split(',').filter(|option| !matches!(*option, "rw" | "ro" | "xattr" | "none" | "noprefix"));
                let controllers: Vec<String> = controllers
                    .filter(|option| !option.starts_with("release_agent") && *option != "clone_children")
                    .map(str::to_owned)
                    .collect();
                // The same one may be mounted in several places.
                if found.v1.iter().all(|other| other.controllers != controllers) {
                    found.v1.push(Hierarchy { controllers, root: place.into() });
                }
            }
            _ => {}
        }
    }
    found
}

/// Copies processors and memory nodes down to a directory where they are still empty.
pub(super) fn inherit_cpuset(root: &Path, dir: &Path) -> io::Result<()> {
    let mut level = root.to_path_buf();
    for part in dir.strip_prefix(root).unwrap_or(dir) {
        let above = level.clone();
        level.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if fs::read_to_string(level.join(file))?.trim().is_empty() {
                fs::write(level.join(file), fs::read_to_string(above.join(file))?.trim())?;
            }
        }
    }
    Ok(())
}

/// Lets the children of a directory of version 2 use a controller.
pub(super) fn enable(dir: &Path, controller: &str) -> io::Result<()> {
    let file = dir.join("cgroup.subtree_control");
    if fs::read_to_string(&file)?.split_whitespace().any(|one| one == controller) {
        return Ok(());
    }
    fs::write(&file, format!("+{controller}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read() {
        let found = parse(
            "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n33 1 0:1 / / rw - ext4 /dev/vda rw\n",
        );
        assert_eq!(found.v1_of("cpu"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(found.v1_of("memory"), None);
        assert_eq!(found.v1[1].controllers, ["name=systemd"]);
        assert_eq!(found.v2, Some("/sys/fs/cgroup/unified".into()));
    }
}
