//! Mounts of the sandbox, all by descriptor: nothing of the image or the host is reached by a name that either
//! controls.
//!
//! A memory file system of our own (the base) carries what we make ourselves: the lowest layer with the mount points
//! that images lack, device nodes, small files, the empty directory that masks. It is attached over the host's root,
//! where pivoting leaves it behind.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use super::super::error::Failure;
use super::super::plan::{Plan, PlannedMount, PlannedSource, Stack};
use super::super::status::CreatedEntry;
use super::tree::{make_dir, open_at, open_in, open_or_create, open_plain, write_file};
use super::{During, refuse};
use crate::overlay::classic::{self, Flavour};
use crate::sys;

/// What has been mounted so far.
#[derive(Debug, Default)]
pub(super) struct Inside {
    base: Option<OwnedFd>,
    root: Option<OwnedFd>,
    host: Option<OwnedFd>,
    created: Vec<CreatedEntry>,
}

/// Joins control groups.
pub(super) fn join_cgroups(fds: &[RawFd]) -> Result<(), Failure> {
    for fd in fds {
        let file = sys::take_fd(*fd)?;
        rustix::io::write(&file, b"0").during(|| "join the control group".to_owned())?;
    }
    Ok(())
}

/// Enters every namespace of a process that differs from ours; a user namespace is shared already.
pub(super) fn join_namespaces(pidfd: RawFd) -> Result<(), Failure> {
    use nix::sched::CloneFlags;
    let process = sys::take_fd(pidfd)?;
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    nix::sched::setns(&process, all).during(|| "enter the container's namespaces".to_owned())
}

/// A new file system with these options, not attached anywhere.
pub(super) fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during(|| format!("fsopen({kind})"))?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)
            .during(|| format!("fsconfig({kind}, {key}={value})"))?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).during(|| format!("mount a new {kind}"))?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .during(|| format!("fsmount({kind})"))
}

/// A second mount of what a descriptor refers to.
pub(super) fn clone_tree(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Failure> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(fd, "", flags).during(|| "open_tree(CLONE)".to_owned())
}

/// Attaches a mount at the place a descriptor refers to.
pub(super) fn attach(mount: BorrowedFd<'_>, at: BorrowedFd<'_>, what: &str) -> Result<(), Failure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", at, "", flags).during(|| format!("attach {what}"))
}

const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const READONLY: u64 = libc::MOUNT_ATTR_RDONLY;

impl Inside {
    pub(super) fn base_dir(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.base.as_ref().map(AsFd::as_fd).ok_or_else(|| refuse("no base in the plan", "this is a bug"))
    }

    pub(super) fn root_dir(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(|| refuse("no root in the plan", "this is a bug"))
    }

    /// The mount points that were made in the root. Everything that is still open is closed.
    pub(super) fn leave(self) -> Vec<CreatedEntry> {
        self.created
    }

    /// Cuts off mount propagation and attaches the base over the host's root.
    pub(super) fn base(&mut self, etc: &[String]) -> Result<(), Failure> {
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .during(|| "make mounts private".to_owned())?;
        let open = |path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty());
        self.host = Some(open("/").during(|| "open /".to_owned())?);
        let base = new_filesystem("tmpfs", &[("mode", "0700")], MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        rustix::mount::move_mount(base.as_fd(), "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during(|| "attach the base".to_owned())?;
        let dir = base.as_fd();
        let skeleton = make_dir(dir, "skeleton", 0o755)?;
        for name in ["dev", "proc", "sys"] {
            make_dir(skeleton.as_fd(), name, 0o755)?;
        }
        if !etc.is_empty() {
            let dir = make_dir(skeleton.as_fd(), "etc", 0o755)?;
            etc.iter().try_for_each(|name| write_file(dir.as_fd(), name, 0o644, b""))?;
        }
        for name in ["empty", "root", "nodes", "files", "stacks"] {
            make_dir(dir, name, 0o755)?;
        }
        self.base = Some(base);
        Ok(())
    }

    /// Mounts the root.
    pub(super) fn root(&mut self, stack: &Stack) -> Result<(), Failure> {
        let base = self.base_dir()?;
        let skeleton = open_at(base, "skeleton")?;
        let empty = open_at(base, "empty")?;
        let root = overlay(stack, &[&skeleton, &empty], open_at(base, "stacks")?.as_fd())?;
        attach(root.as_fd(), open_at(base, "root")?.as_fd(), "the root")?;
        self.root = Some(root);
        Ok(())
    }

    /// The place of a file system of the kernel, which no image may redirect.
    pub(super) fn fixed_place(&self, path: &str) -> Result<OwnedFd, Failure> {
        let place = match open_plain(self.root_dir()?, path) {
            Ok(place) => place,
            Err(Errno::LOOP) => {
                return Err(refuse(
                    format!("{path} of the image is a symbolic link"),
                    "a root file system needs a real directory there, or nothing",
                ));
            }
            other => other.during(|| format!("open {path} of the image"))?,
        };
        match super::tree::file_type(place.as_fd()).during(|| format!("stat {path}"))? {
            FileType::Directory => Ok(place),
            _ => Err(refuse(
                format!("{path} of the image is not a directory"),
                "a root file system needs a real directory there, or nothing",
            )),
        }
    }

    pub(super) fn proc(&self) -> Result<(), Failure> {
        let place = self.fixed_place("/proc")?;
        let flags =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        attach(new_filesystem("proc", &[], flags)?.as_fd(), place.as_fd(), "/proc")
    }

    pub(super) fn sys(&self, writable: bool) -> Result<(), Failure> {
        let place = self.fixed_place("/sys")?;
        let mut flags =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        if !writable {
            flags |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        match new_filesystem("sysfs", &[], flags) {
            Ok(sys) => attach(sys.as_fd(), place.as_fd(), "/sys"),
            // In a user namespace with the host's network, the kernel gives no sysfs of one's own.
            Err(failure) if failure.errno == Some(libc::EPERM) => {
                let host = open_in(self.host_dir()?, "/sys", OFlags::PATH).during(|| "open /sys".to_owned())?;
                let sys = clone_tree(host.as_fd(), true)?;
                sys::mount_set_attributes(sys.as_fd(), READONLY, true)?;
                attach(sys.as_fd(), place.as_fd(), "/sys")
            }
            Err(failure) => Err(failure),
        }
    }

    fn host_dir(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.host.as_ref().map(AsFd::as_fd).ok_or_else(|| refuse("no base in the plan", "this is a bug"))
    }

    /// Control groups, read-only. Of version 1, the sandbox's own directories are bound: a new mount of a hierarchy
    /// costs milliseconds.
    pub(super) fn cgroup_fs(&self, shown: &[(String, String)]) -> Result<(), Failure> {
        let Ok(place) = open_plain(self.root_dir()?, "/sys/fs/cgroup") else { return Ok(()) };
        let flags =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        if shown.is_empty() {
            // A kernel or machine without version 2 shows none.
            if let Ok(v2) = new_filesystem("cgroup2", &[], flags | MountAttrFlags::MOUNT_ATTR_RDONLY) {
                attach(v2.as_fd(), place.as_fd(), "/sys/fs/cgroup")?;
            }
            return Ok(());
        }
        let dir = new_filesystem("tmpfs", &[("mode", "0755"), ("size", "65536")], flags)?;
        attach(dir.as_fd(), place.as_fd(), "/sys/fs/cgroup")?;
        for (name, path) in shown {
            let group = rustix::fs::open(path.as_str(), OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
                .during(|| format!("open {path}"))?;
            let mount = clone_tree(group.as_fd(), false)?;
            sys::mount_set_attributes(mount.as_fd(), READONLY | NODEV, false)?;
            attach(mount.as_fd(), make_dir(dir.as_fd(), name, 0o555)?.as_fd(), path)?;
        }
        Ok(sys::mount_set_attributes(dir.as_fd(), READONLY, false)?)
    }

    /// Lays an empty file or directory over what exists of `paths`.
    pub(super) fn mask(&self, paths: &[String]) -> Result<(), Failure> {
        let root = self.root_dir()?;
        let base = self.base_dir()?;
        let throttles = (0..).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
        let throttles = throttles.take_while(|path| open_plain(root, path).is_ok());
        let empty = open_at(base, "empty")?;
        // Ours: nothing of the image has run yet that could have replaced it.
        let null = open_plain(root, "/dev/null").during(|| "open /dev/null".to_owned())?;
        for path in paths.iter().cloned().chain(throttles) {
            let Ok(place) = open_plain(root, &path) else { continue };
            let directory =
                super::tree::file_type(place.as_fd()).during(|| format!("stat {path}"))? == FileType::Directory;
            let cover = clone_tree(if directory { empty.as_fd() } else { null.as_fd() }, false)?;
            sys::mount_set_attributes(cover.as_fd(), READONLY, false)?;
            attach(cover.as_fd(), place.as_fd(), &path)?;
        }
        Ok(())
    }

    pub(super) fn read_only(&self, paths: &[String]) -> Result<(), Failure> {
        let root = self.root_dir()?;
        for path in paths {
            let Ok(place) = open_plain(root, path) else { continue };
            let mount = clone_tree(place.as_fd(), true)?;
            sys::mount_set_attributes(mount.as_fd(), READONLY, true)?;
            attach(mount.as_fd(), place.as_fd(), path)?;
        }
        Ok(())
    }

    /// One mount of the caller's. None of them gives access to devices, unless it is itself one.
    pub(super) fn mount(&mut self, plan: &Plan, mount: &PlannedMount) -> Result<(), Failure> {
        let target = &mount.target;
        let tree = self.source(plan, &mount.source, target)?;
        let kind = super::tree::file_type(tree.as_fd()).during(|| format!("stat the source of {target}"))?;
        let mut attributes = 0;
        if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            attributes |= NODEV;
        }
        if mount.readonly {
            attributes |= READONLY;
        }
        if attributes != 0 {
            sys::mount_set_attributes(tree.as_fd(), attributes, true)?;
        }
        let mut created = std::mem::take(&mut self.created);
        let place = open_or_create(self.root_dir()?, target, kind == FileType::Directory, &mut created)?;
        self.created = created;
        let magic = rustix::fs::fstatfs(place.as_fd()).during(|| format!("statfs {target}"))?.f_type;
        if [libc::PROC_SUPER_MAGIC, libc::SYSFS_MAGIC].contains(&magic) {
            return Err(refuse(
                format!("mount point {target} lies in /proc or /sys"),
                "nothing can be mounted into the kernel's own file systems",
            ));
        }
        attach(tree.as_fd(), place.as_fd(), target)
    }

    fn source(&self, plan: &Plan, source: &PlannedSource, target: &str) -> Result<OwnedFd, Failure> {
        match source {
            PlannedSource::Path { path, below, recursive } => {
                let place = rustix::fs::open(path.as_str(), OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
                    .during(|| format!("open {path}, to be mounted at {target}"))?;
                bind(place, below.as_deref(), *recursive, target)
            }
            PlannedSource::Fd { fd, below, recursive } => {
                bind(sys::take_fd(*fd)?, below.as_deref(), *recursive, target)
            }
            PlannedSource::Layers { stack, below } => {
                let base = self.base_dir()?;
                let (skeleton, empty) = (
                    make_dir(base, &format!("lowest-{target_hash}", target_hash = short(target)), 0o755)?,
                    open_at(base, "empty")?,
                );
                let tree = overlay(stack, &[&skeleton, &empty], open_at(base, "stacks")?.as_fd())?;
                let Some(below) = below.as_deref().filter(|path| *path != "/") else { return Ok(tree) };
                // Older kernels clone only what is attached somewhere.
                let place = make_dir(open_at(base, "stacks")?.as_fd(), &short(target), 0o700)?;
                attach(tree.as_fd(), place.as_fd(), "a stack of layers")?;
                bind(tree, Some(below), false, target)
            }
            PlannedSource::Tmpfs { size, mode } => {
                let mode = format!("{mode:o}");
                let size = size.map(|size| size.to_string());
                let mut options = vec![("mode", mode.as_str())];
                options.extend(size.as_deref().map(|size| ("size", size)));
                new_filesystem("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)
            }
            PlannedSource::File { data, mode, uid, gid } => {
                let files = open_at(self.base_dir()?, "files")?;
                let name = short(target);
                write_file(files.as_fd(), &name, *mode, plan.blob(*data))?;
                rustix::fs::chownat(
                    files.as_fd(),
                    name.as_str(),
                    Some(rustix::fs::Uid::from_raw(*uid)),
                    Some(rustix::fs::Gid::from_raw(*gid)),
                    rustix::fs::AtFlags::empty(),
                )
                .during(|| format!("chown {target} to {uid}:{gid}"))?;
                clone_tree(open_at(files.as_fd(), &name)?.as_fd(), false)
            }
        }
    }

    pub(super) fn read_only_root(&self) -> Result<(), Failure> {
        Ok(sys::mount_set_attributes(self.root_dir()?, READONLY, false)?)
    }

    /// Makes the root `/`; the host's tree and the base above it are let go.
    pub(super) fn pivot(&mut self) -> Result<(), Failure> {
        rustix::process::fchdir(self.root_dir()?).during(|| "enter the root".to_owned())?;
        rustix::process::pivot_root(".", ".").during(|| "pivot_root".to_owned())?;
        let host = self.host.take().ok_or_else(|| refuse("no base in the plan", "this is a bug"))?;
        rustix::process::fchdir(host.as_fd()).during(|| "enter the old root".to_owned())?;
        // The base lies over the host's root: two mounts, topmost first.
        for what in ["the base", "the host's root"] {
            rustix::mount::unmount(".", UnmountFlags::DETACH).during(|| format!("unmount {what}"))?;
        }
        self.base = None;
        rustix::process::chdir("/").during(|| "chdir /".to_owned())
    }
}

/// A name of ours for a target.
fn short(target: &str) -> String {
    blake3::hash(target.as_bytes()).to_hex()[..16].to_owned()
}

fn bind(place: OwnedFd, below: Option<&str>, recursive: bool, target: &str) -> Result<OwnedFd, Failure> {
    match below {
        None => clone_tree(place.as_fd(), recursive),
        Some(below) => {
            let inner = open_in(place.as_fd(), below, OFlags::PATH)
                .during(|| format!("open {below} in the source of the mount at {target}"))?;
            clone_tree(inner.as_fd(), recursive)
        }
    }
}

/// An overlay of a stack over our own lowest directories. The second of these is needed only where overlayfs asks for
/// two layers. In `stacks` an older kernel's mount lies for a moment.
fn overlay(stack: &Stack, lowest: &[&OwnedFd; 2], stacks: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).during(|| "fsopen(overlay)".to_owned())?;
    let fs = context.as_fd();
    let set = |key: &str, value: &str| {
        rustix::mount::fsconfig_set_string(fs, key, value).during(|| format!("fsconfig(overlay, {key}={value})"))
    };
    set("source", "lapstrake")?;
    let needed = if stack.upper.is_none() && stack.lowers.is_empty() { 2 } else { 1 };
    match add_lowers(fs, stack, &lowest[..needed]) {
        Err(failure) if failure.errno.map(Errno::from_raw_os_error).is_some_and(classic::is_unknown_option) => {
            return classic_overlay(stack, &lowest[..needed], stacks);
        }
        added => added?,
    }
    if let Some((upper, work)) = &stack.upper {
        set_dir(fs, "upperdir", upper)?;
        set_dir(fs, "workdir", work)?;
        if stack.volatile {
            rustix::mount::fsconfig_set_flag(fs, "volatile").during(|| "fsconfig(overlay, volatile)".to_owned())?;
        }
    }
    // The upper becomes a layer by itself: it must not refer to what lies below.
    for (key, value) in [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")] {
        if !stack.userxattr || key == "index" {
            set(key, value)?;
        }
    }
    if stack.userxattr {
        rustix::mount::fsconfig_set_flag(fs, "userxattr").during(|| "fsconfig(overlay, userxattr)".to_owned())?;
    }
    if let Err(error) = rustix::mount::fsconfig_create(fs) {
        let mut failure = Failure {
            kind: super::super::error::FailureKind::Setup,
            act: format!("mount an overlay of {} layers", stack.lowers.len()),
            errno: Some(error.raw_os_error()),
            hint: None,
        };
        failure.hint = Some(log_of(&context)).filter(|log| !log.is_empty());
        return Err(failure);
    }
    rustix::mount::fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)
        .during(|| "fsmount(overlay)".to_owned())
}

/// Strings of a file system's configuration end at 255 bytes, and a backslash is an escape: a descriptor is neither.
fn set_dir(fs: BorrowedFd<'_>, key: &str, path: &str) -> Result<(), Failure> {
    if path.len() < 255 && !path.contains(['\\', ':', ',']) {
        return rustix::mount::fsconfig_set_string(fs, key, path).during(|| format!("fsconfig(overlay, {key}={path})"));
    }
    let dir = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .during(|| format!("open {path}"))?;
    rustix::mount::fsconfig_set_fd(fs, key, dir.as_fd())
        .during(|| format!("fsconfig(overlay, {key}={path} by descriptor)"))
}

fn add_lowers(fs: BorrowedFd<'_>, stack: &Stack, lowest: &[&OwnedFd]) -> Result<(), Failure> {
    for lower in &stack.lowers {
        set_dir(fs, "lowerdir+", lower)?;
    }
    for dir in lowest {
        rustix::mount::fsconfig_set_fd(fs, "lowerdir+", dir.as_fd())
            .during(|| "fsconfig(overlay, lowerdir+=our own)".to_owned())?;
    }
    Ok(())
}

/// The same by `mount(2)`.
fn classic_overlay(stack: &Stack, lowest: &[&OwnedFd], stacks: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let upper = stack.upper.as_ref().map(|(upper, work)| (Path::new(upper), Path::new(work)));
    let mut directories = classic::open(&stack.lowers, upper).during(|| "open the layers".to_owned())?;
    for dir in lowest {
        directories.lowers.push(rustix::io::fcntl_dupfd_cloexec(dir, 0).during(|| "dup".to_owned())?);
    }
    let place = make_dir(stacks, "classic", 0o700)?;
    let flavour = Flavour { userxattr: stack.userxattr, volatile: stack.volatile };
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    classic::mount(&directories, flavour, MountFlags::NODEV, &path)
        .during(|| format!("mount an overlay of {} layers", stack.lowers.len()))?;
    let tree = classic::lift(stacks, "classic").during(|| "take the overlay from its place".to_owned())?;
    rustix::fs::unlinkat(stacks, "classic", rustix::fs::AtFlags::REMOVEDIR).during(|| "rmdir".to_owned())?;
    Ok(tree)
}

/// What the kernel said about a file system's configuration.
fn log_of(context: &OwnedFd) -> String {
    let mut log = String::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        log.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    log.trim().to_owned()
}
