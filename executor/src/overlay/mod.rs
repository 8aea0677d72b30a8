//! File systems made of layers, reachable through a file descriptor only: no mount point, nothing to clean up.
//!
//! The mount is detached (`fsopen`, `fsmount`): it exists as long as the descriptor. Where one directory is the whole
//! file system it is opened as it is.

pub(crate) mod classic;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use lap_cache::snapshot::OverlayPlan;
use lap_cache::store::Mode as StoreMode;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::sandbox::kernel_hint;

/// Layers could not be stacked.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// A directory cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses the mount.
    #[error("cannot {act} an overlay of {lowers} layers{}", said(message))]
    Mount {
        /// Which call: `open`, `set lowerdir+ of`, `create`, `mount`.
        act: String,
        /// How many lower directories.
        lowers: usize,
        /// What the kernel said besides.
        message: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to show.
    #[error("a file system without any directory")]
    Empty,
}

impl OverlayError {
    /// What to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Mount { source, .. } => kernel_hint("mount an overlay", source.raw_os_error()?),
            Self::Open { .. } | Self::Empty => None,
        }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// A stack of layers, seen as one.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    /// Keeps a detached mount from being dissolved.
    _mount: Option<OwnedFd>,
}

impl View {
    /// Stacks what `plan` says.
    ///
    /// # Errors
    /// Where a directory is missing, or the kernel refuses the mount.
    pub fn open(plan: &OverlayPlan, mode: StoreMode) -> Result<Self, OverlayError> {
        match (&plan.upper, &plan.lowers[..]) {
            (None, []) => Err(OverlayError::Empty),
            (None, [only]) | (Some(only), []) => Ok(Self { root: open_dir(only)?, _mount: None }),
            _ => Self::mount(plan, mode),
        }
    }

    /// The root directory, open for reading.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn mount(plan: &OverlayPlan, mode: StoreMode) -> Result<Self, OverlayError> {
        let lowers = plan.lowers.len();
        let refused = |act: &str, message: String, error: Errno| OverlayError::Mount {
            act: act.to_owned(),
            lowers,
            message,
            source: error.into(),
        };
        let context =
            fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| refused("open", String::new(), error))?;
        let failed = |act: &'static str| {
            let context = context.as_fd();
            move |error: Errno| refused(act, messages(context), error)
        };
        for lower in &plan.lowers {
            match set_dir(context.as_fd(), "lowerdir+", lower)? {
                Err(error) if classic::is_unknown_option(error) => return Self::mount_classic(plan, mode),
                set => set.map_err(failed("set lowerdir+ of"))?,
            }
        }
        if let (Some(upper), Some(work)) = (&plan.upper, &plan.work) {
            set_dir(context.as_fd(), "upperdir", upper)?.map_err(failed("set upperdir of"))?;
            set_dir(context.as_fd(), "workdir", work)?.map_err(failed("set workdir of"))?;
            // Without it the kernel syncs the whole disk when the mount goes away.
            fsconfig_set_flag(&context, "volatile").map_err(failed("set volatile for"))?;
        }
        match mode {
            StoreMode::User => {
                fsconfig_set_flag(&context, "userxattr").map_err(failed("set userxattr for"))?;
            }
            StoreMode::Root => {
                // A layer has to be whole in itself.
                for option in ["redirect_dir", "metacopy"] {
                    fsconfig_set_string(&context, option, "off").map_err(failed("set options of"))?;
                }
            }
        }
        fsconfig_create(&context).map_err(failed("create"))?;
        let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        if plan.upper.is_none() {
            flags |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(failed("mount"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&mount, ".", flags, Mode::empty()).map_err(failed("enter"))?;
        Ok(Self { root, _mount: Some(mount) })
    }
}

impl View {
    fn mount_classic(plan: &OverlayPlan, mode: StoreMode) -> Result<Self, OverlayError> {
        let upper = plan.upper.as_deref().zip(plan.work.as_deref());
        let refused = |error: Errno| OverlayError::Mount {
            act: "mount".to_owned(),
            lowers: plan.lowers.len(),
            message: String::new(),
            source: error.into(),
        };
        Ok(Self { root: classic::detached(&plan.lowers, upper, mode).map_err(refused)?, _mount: None })
    }
}

/// Names a directory by descriptor, since paths may have 255 bytes at most; by path where the kernel is too old.
fn set_dir(context: BorrowedFd<'_>, key: &str, path: &Path) -> Result<Result<(), Errno>, OverlayError> {
    let dir = open_dir(path)?;
    Ok(match fsconfig_set_fd(context, key, &dir) {
        Err(Errno::INVAL) => fsconfig_set_string(context, key, path),
        set => set,
    })
}

fn open_dir(path: &Path) -> Result<OwnedFd, OverlayError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| OverlayError::Open { path: path.to_owned(), source: error.into() })
}

/// The messages that the kernel left in the context.
fn messages(context: BorrowedFd<'_>) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        lines.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
        if length == 0 || lines.len() == 8 {
            break;
        }
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_seen_as_one_and_changes_go_up() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: overlay mounts need root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["low", "high", "upper", "work"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("low/a"), "low").unwrap();
        std::fs::write(dir.path().join("low/b"), "low").unwrap();
        std::fs::write(dir.path().join("high/b"), "high").unwrap();
        let lowers = vec![dir.path().join("high"), dir.path().join("low")];
        let read = |view: &View, name: &str| {
            let file = rustix::fs::openat(view.root(), name, OFlags::RDONLY, Mode::empty()).unwrap();
            io::read_to_string(std::fs::File::from(file)).unwrap()
        };
        let plan = OverlayPlan { lowers: lowers.clone(), upper: None, work: None };
        let view = View::open(&plan, StoreMode::Root).unwrap();
        assert_eq!((read(&view, "a"), read(&view, "b")), ("low".into(), "high".into()));
        let made = rustix::fs::mkdirat(view.root(), "c", Mode::RWXU);
        assert_eq!(made, Err(Errno::ROFS));
        drop(view);

        let plan = OverlayPlan { lowers, upper: Some(dir.path().join("upper")), work: Some(dir.path().join("work")) };
        let view = View::open(&plan, StoreMode::Root).unwrap();
        rustix::fs::mkdirat(view.root(), "c", Mode::RWXU).unwrap();
        assert_eq!(read(&view, "b"), "high");
        drop(view);
        assert!(dir.path().join("upper/c").is_dir());
    }
}
