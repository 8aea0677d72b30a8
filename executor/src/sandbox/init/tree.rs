//! Paths inside the root file system.
//!
//! Everything goes through descriptors: `openat2` with the root as `/` for what exists, and one component at a time,
//! never following a link by name, for what has to be made.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::error::Failure;
use super::super::status::CreatedEntry;
use super::During;

/// Opens a path with `root` as `/`.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // A rename in a shared directory makes the kernel ask for another try.
    for _ in 0..256 {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a path with `root` as `/` without following any link.
pub(super) fn open_plain(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The type of what a descriptor refers to.
pub(super) fn file_type(fd: BorrowedFd<'_>) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Opens a mount point, making what is missing: directories with mode 0755, and an empty file at the end unless
/// `directory` is set. What was made is noted in `created`.
pub(super) fn open_or_create(
    root: BorrowedFd<'_>,
    path: &str,
    directory: bool,
    created: &mut Vec<CreatedEntry>,
) -> Result<OwnedFd, Failure> {
    match open_in(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other.during(|| format!("open {path} in the image")),
    }
    let mut walk = Walk { root, open: Vec::new(), names: Vec::new(), links: 0 };
    let mut pending: VecDeque<String> = parts(path).collect();
    while let Some(part) = pending.pop_front() {
        if part == ".." {
            walk.open.pop();
            walk.names.pop();
            continue;
        }
        let last = pending.is_empty();
        walk.step(&part, directory || !last, &mut pending, created)
            .during(|| format!("make the mount point {path} in the image (at {part:?})"))?;
    }
    match walk.open.pop() {
        Some(fd) => Ok(fd),
        None => open_in(root, "/", OFlags::PATH).during(|| "open /".to_owned()),
    }
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    open: Vec<OwnedFd>,
    names: Vec<String>,
    links: u32,
}

impl Walk<'_> {
    fn step(
        &mut self,
        part: &str,
        directory: bool,
        pending: &mut VecDeque<String>,
        created: &mut Vec<CreatedEntry>,
    ) -> Result<(), Errno> {
        let parent = self.open.last().map_or(self.root, AsFd::as_fd);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = match rustix::fs::openat(parent, part, flags, Mode::empty()) {
            Ok(fd) if file_type(fd.as_fd())? == FileType::Symlink => {
                self.links += 1;
                if self.links > 40 {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(parent, part, Vec::new())?;
                let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
                if target.starts_with('/') {
                    // Absolute links of /proc are the kernel's magic ones.
                    if rustix::fs::fstatfs(&fd)?.f_type == libc::PROC_SUPER_MAGIC {
                        return Err(Errno::LOOP);
                    }
                    self.open.clear();
                    self.names.clear();
                }
                for part in parts(target).collect::<Vec<_>>().into_iter().rev() {
                    pending.push_front(part);
                }
                return Ok(());
            }
            Err(Errno::NOENT) => {
                let before = rustix::fs::fstat(parent)?;
                if directory {
                    rustix::fs::mkdirat(parent, part, Mode::from_raw_mode(0o755))?;
                } else {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    drop(rustix::fs::openat(parent, part, flags, Mode::from_raw_mode(0o644))?);
                }
                let next = rustix::fs::openat(parent, part, flags, Mode::empty())?;
                if before.st_dev == rustix::fs::fstat(self.root)?.st_dev {
                    let mut path = self.names.join("/");
                    if !path.is_empty() {
                        path.push('/');
                    }
                    path.push_str(part);
                    #[allow(
                        clippy::cast_possible_wrap,
                        clippy::unnecessary_cast,
                        reason = "the types differ by machine"
                    )]
                    let parent_mtime = (before.st_mtime as i64, before.st_mtime_nsec as i64);
                    created.push(CreatedEntry { path, directory, parent_mtime });
                }
                next
            }
            other => other?,
        };
        self.open.push(next);
        self.names.push(part.to_owned());
        Ok(())
    }
}

/// The names of a path, without empty ones and `.`.
fn parts(path: &str) -> impl Iterator<Item = String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned)
}

/// Makes a file with content in a directory of ours.
pub(super) fn write_file(dir: BorrowedFd<'_>, name: &str, mode: u32, data: &[u8]) -> Result<(), Failure> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode)).during(|| format!("create {name}"))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).during(|| format!("chmod {name} to {mode:o}"))?;
    std::io::Write::write_all(&mut std::fs::File::from(file), data).during(|| format!("write {name}"))
}

/// Opens something of ours by a plain name.
pub(super) fn open_at(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failure> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .during(|| format!("open {name}"))
}

/// Makes a directory of ours and opens it.
pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &str, mode: u32) -> Result<OwnedFd, Failure> {
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)).during(|| format!("mkdir {name}"))?;
    if mode & 0o7022 != 0 {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
            .during(|| format!("chmod {name} to {mode:o}"))?;
    }
    open_at(dir, name)
}
