//! Resolving paths inside a root: by `openat2`, and, where components are missing, one component at a time.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Act, FsError, bytes_path};

/// The kernel's own bound on symbolic links in one resolution.
const MAX_LINKS: usize = 40;
/// `openat2` answers EAGAIN where a rename raced with a `..`; it is tried this often.
const MAX_RETRIES: usize = 64;

/// How directories that are missing on the way are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDirectory {
    /// Permission bits, independent of the umask.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl NewDirectory {
    /// What an archive without an entry for the directory means: 0755, root.
    pub const ROOT_0755: Self = Self { mode: 0o755, uid: 0, gid: 0 };
}

/// A directory found or made inside a root.
#[derive(Debug)]
pub struct InRoot {
    /// Opened with `O_PATH`: good for `*at` calls, reopen `.` to read it.
    pub dir: OwnedFd,
    /// Where it really lies below the root, without symbolic links; empty for the root.
    pub path: Vec<u8>,
    /// How many of its last components were made.
    pub made: usize,
}

/// Opens `path` inside `root`, following symbolic links as a process chrooted there would.
///
/// # Errors
/// Where it is missing or cannot be opened so.
pub fn open_in_root(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, FsError> {
    open_resolving(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `root` where no component is a symbolic link.
///
/// # Errors
/// Where it is missing, leads through a link, or cannot be opened so.
pub fn open_beneath(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, FsError> {
    open_resolving(root, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn open_resolving(root: impl AsFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, FsError> {
    let target = if path.is_empty() { b"." } else { path };
    for _ in 0..MAX_RETRIES {
        match rustix::fs::openat2(&root, target, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result.act("open", bytes_path(path)),
        }
    }
    Err(FsError::new("open", bytes_path(path), Errno::AGAIN))
}

/// Splits a path into its directory and its last name. Slashes at the end do not count.
#[must_use]
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let path = &path[..end];
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Opens (`O_PATH`) the directory of `path` inside `root` and names the last component, which is not looked at.
///
/// # Errors
/// Where the directory is missing, or the last component is empty, `.` or `..`.
pub fn parent_in_root(root: impl AsFd, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), FsError> {
    let (parent, name) = split_last(path);
    if matches!(name, b"" | b"." | b"..") {
        return Err(FsError::new("find the parent of", bytes_path(path), Errno::INVAL));
    }
    Ok((open_in_root(root, parent, OFlags::PATH | OFlags::DIRECTORY)?, name.to_vec()))
}

/// Opens the directory `path` inside `root`; what is missing is made. Links are followed inside the root, one whose
/// target is missing gets the target made.
///
/// # Errors
/// Where a component is no directory, there are too many links, or a directory cannot be made.
pub fn mkdir_all_in_root(root: impl AsFd, path: &[u8], new: NewDirectory) -> Result<InRoot, FsError> {
    let mut todo: VecDeque<Vec<u8>> = components(path).collect();
    let mut here = Walk { root: root.as_fd().try_clone_to_owned().act("open", "/")?, dir: None, path: Vec::new() };
    let (mut links, mut made) = (0, 0);
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            here.up()?;
            continue;
        }
        let failed = |act, errno| FsError::new(act, bytes_path(path), errno);
        match rustix::fs::statat(here.fd(), &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                make_directory(here.fd(), &name, new)?;
                made += 1;
                here.down(&name)?;
            }
            Err(errno) => return Err(failed("stat", errno)),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => here.down(&name)?,
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(failed("follow links of", Errno::LOOP));
                    }
                    let target =
                        rustix::fs::readlinkat(here.fd(), &name[..], Vec::new()).act("read link", bytes_path(path))?;
                    let target = target.as_bytes();
                    if target.first() == Some(&b'/') {
                        here.restart();
                    }
                    for component in components(target).collect::<Vec<_>>().into_iter().rev() {
                        todo.push_front(component);
                    }
                }
                _ => return Err(failed("enter", Errno::NOTDIR)),
            },
        }
    }
    let dir = match here.dir {
        Some(dir) => dir,
        None => open_beneath(&here.root, b"", OFlags::PATH | OFlags::DIRECTORY)?,
    };
    Ok(InRoot { dir, path: here.path, made })
}

/// Makes one directory with exactly this mode and owner.
///
/// # Errors
/// Where it exists or cannot be made.
pub fn make_directory(dir: impl AsFd, name: &[u8], new: NewDirectory) -> Result<(), FsError> {
    let shown = bytes_path(name);
    rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)).act("make directory", shown)?;
    let made = open_beneath(&dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    if (new.uid, new.gid) != (0, 0) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(new.uid), rustix::fs::Gid::from_raw(new.gid));
        rustix::fs::fchown(&made, Some(uid), Some(gid)).act("change the owner of", shown)?;
    }
    rustix::fs::fchmod(&made, Mode::from_raw_mode(new.mode)).act("change the mode of", shown)
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

/// A position below a root. Its path holds no links, so that `..` is its text without the last component.
struct Walk {
    root: OwnedFd,
    /// Nothing at the root itself.
    dir: Option<OwnedFd>,
    path: Vec<u8>,
}

impl Walk {
    fn fd(&self) -> &OwnedFd {
        self.dir.as_ref().unwrap_or(&self.root)
    }

    fn restart(&mut self) {
        self.dir = None;
        self.path.clear();
    }

    fn down(&mut self, name: &[u8]) -> Result<(), FsError> {
        self.dir = Some(open_beneath(self.fd(), name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW)?);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        Ok(())
    }

    fn up(&mut self) -> Result<(), FsError> {
        let length = split_last(&self.path).0.len();
        self.path.truncate(length);
        self.dir = match self.path.is_empty() {
            true => None,
            false => Some(open_beneath(&self.root, &self.path, OFlags::PATH | OFlags::DIRECTORY)?),
        };
        Ok(())
    }
}
