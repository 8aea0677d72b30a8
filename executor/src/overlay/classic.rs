//! Overlays by `mount(2)`, for kernels before 6.7, whose overlayfs takes no single layers by `fsconfig`.
//!
//! All directories are named by descriptor (`/proc/self/fd/N`): the options must fit into one page, and a layer's path
//! alone has a hundred bytes. That is enough for some 230 layers.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use lap_cache::store::Mode as StoreMode;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};

/// The directories of an overlay, open.
#[derive(Debug)]
pub(crate) struct Directories {
    /// Top first.
    pub(crate) lowers: Vec<OwnedFd>,
    /// Upper and work directory.
    pub(crate) upper: Option<(OwnedFd, OwnedFd)>,
}

/// What besides its directories an overlay is mounted with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flavour {
    /// Whether marks are attributes that an unprivileged user may set.
    pub(crate) userxattr: bool,
    /// Whether a crash of the machine may lose the upper.
    pub(crate) volatile: bool,
}

/// Whether an answer to `lowerdir+` means that the kernel is too old for it.
pub(crate) fn is_unknown_option(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::OPNOTSUPP)
}

/// Mounts an overlay on `place`, which is named by path.
pub(crate) fn mount(directories: &Directories, flavour: Flavour, flags: MountFlags, place: &str) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options(directories, flavour)).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("lapstrake", place, "overlay", flags, Some(options.as_c_str()))
}

fn options(directories: &Directories, flavour: Flavour) -> String {
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lowers: Vec<String> = directories.lowers.iter().map(name).collect();
    let mut options = format!("lowerdir={},index=off", lowers.join(":"));
    if let Some((upper, work)) = &directories.upper {
        options.push_str(&format!(",upperdir={},workdir={}", name(upper), name(work)));
        if flavour.volatile {
            options.push_str(",volatile");
        }
    }
    // A layer has to be whole in itself; with userxattr the kernel has it so anyway.
    options.push_str(if flavour.userxattr { ",userxattr" } else { ",redirect_dir=nofollow,metacopy=off" });
    options
}

/// Opens directories for an overlay.
pub(crate) fn open(lowers: &[impl AsRef<Path>], upper: Option<(&Path, &Path)>) -> Result<Directories, Errno> {
    let dir = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let lowers = lowers.iter().map(|path| dir(path.as_ref())).collect::<Result<_, _>>()?;
    let upper = upper.map(|(upper, work)| Ok::<_, Errno>((dir(upper)?, dir(work)?))).transpose()?;
    Ok(Directories { lowers, upper })
}

/// The root of an overlay that is mounted nowhere: made by a thread with a mount namespace of its own, which ends with
/// it. The descriptor keeps the mount.
pub(super) fn detached(
    lowers: &[impl AsRef<Path>],
    upper: Option<(&Path, &Path)>,
    mode: StoreMode,
) -> Result<OwnedFd, Errno> {
    // In the thread's namespace the mount may lie over one of the directories themselves.
    let place = lowers.first().map(|path| path.as_ref().to_path_buf()).ok_or(Errno::INVAL)?;
    let lowers: Vec<PathBuf> = lowers.iter().map(|path| path.as_ref().to_path_buf()).collect();
    let upper = upper.map(|(upper, work)| (upper.to_path_buf(), work.to_path_buf()));
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
    if upper.is_none() {
        flags |= MountFlags::RDONLY;
    }
    let flavour = Flavour { userxattr: mode == StoreMode::User, volatile: true };
    let work = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS)
            .map_err(|error| Errno::from_raw_os_error(error as i32))?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        // Overlayfs takes directories of the mounter's own namespace only.
        let upper = upper.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
        let directories = open(&lowers, upper)?;
        mount(&directories, flavour, flags, &place.to_string_lossy())?;
        rustix::fs::open(&place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    std::thread::spawn(work).join().unwrap_or(Err(Errno::FAULT))
}

/// Moves a mount that lies at `name` in `parent` into the air: mounted nowhere, alive as long as the descriptor.
pub(crate) fn lift(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};
    let mounted = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&mounted, "", flags)?;
    unmount(format!("/proc/self/fd/{}", mounted.as_raw_fd()), UnmountFlags::DETACH)?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_by_mount_is_the_same() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED an_overlay_by_mount_is_the_same: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b", "upper", "work"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("a/f"), "top").unwrap();
        std::fs::write(path("b/f"), "bottom").unwrap();
        std::fs::write(path("b/g"), "below").unwrap();
        let read = |root: &OwnedFd, name: &str| {
            let file = rustix::fs::openat(root, name, OFlags::RDONLY, Mode::empty()).unwrap();
            std::io::read_to_string(std::fs::File::from(file)).unwrap()
        };
        let root = detached(&[path("a"), path("b")], None, StoreMode::Root).unwrap();
        assert_eq!((read(&root, "f").as_str(), read(&root, "g").as_str()), ("top", "below"));
        drop(root);
        let (upper, work) = (path("upper"), path("work"));
        let root = detached(&[path("a"), path("b")], Some((&upper, &work)), StoreMode::Root).unwrap();
        rustix::fs::mkdirat(&root, "new", Mode::RWXU).unwrap();
        drop(root);
        assert!(path("upper/new").is_dir());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
    }
}
