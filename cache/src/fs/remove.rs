//! Removing trees by descriptor: never through a link, never across a mount, at any depth.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Act, FsError, bytes_path, sorted_names};

/// Descriptors held at once; a directory below is moved up before its content goes.
const MAX_HELD: usize = 128;

/// Removes whatever `name` is in `dir`; a missing entry is fine.
///
/// # Errors
/// Where something below cannot be removed; what came before it is gone.
pub fn remove_entry(dir: impl AsFd, name: &[u8]) -> Result<(), FsError> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => remove_tree(dir, name),
        Err(errno) => Err(FsError::new("remove", bytes_path(name), errno)),
    }
}

/// Removes the directory `name` in `dir` and everything below; a missing one is fine.
///
/// # Errors
/// As [`remove_entry`]; a mount point below is an error (`EXDEV`), its content is never touched.
pub fn remove_tree(dir: impl AsFd, name: &[u8]) -> Result<(), FsError> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(errno) => return Err(FsError::new("remove directory", bytes_path(name), errno)),
    }
    let Some(top) = open_here(&dir, name)? else { return Ok(()) };
    let mut lifted = 0;
    // What lay too deep was moved up into `top`: until nothing is left there.
    while !empty(&top, &top, 0, &mut lifted)? {}
    remove_directory(&dir, name)
}

/// Empties `dir`; answers whether all is gone, otherwise something was moved into `top`.
fn empty(top: &OwnedFd, dir: &OwnedFd, depth: usize, lifted: &mut u64) -> Result<bool, FsError> {
    let mut all = true;
    for name in sorted_names(dir)? {
        match rustix::fs::unlinkat(dir, &name[..], AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(FsError::new("remove", bytes_path(&name), errno)),
        }
        if rustix::fs::unlinkat(dir, &name[..], AtFlags::REMOVEDIR).is_ok() {
            continue;
        }
        if depth >= MAX_HELD {
            *lifted += 1;
            let above = format!(".lap-removing-{lifted}");
            rustix::fs::renameat(dir, &name[..], top, above.as_bytes()).act("move", bytes_path(&name))?;
            all = false;
            continue;
        }
        let Some(below) = open_here(dir, &name)? else { continue };
        all &= empty(top, &below, depth + 1, lifted)?;
        remove_directory(dir, &name)?;
    }
    Ok(all)
}

fn remove_directory(dir: impl AsFd, name: &[u8]) -> Result<(), FsError> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(FsError::new("remove directory", bytes_path(name), errno)),
    }
}

/// The directory; none where somebody else was faster to remove it.
fn open_here(dir: impl AsFd, name: &[u8]) -> Result<Option<OwnedFd>, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = || rustix::fs::openat2(&dir, name, flags, Mode::empty(), resolve);
    match open() {
        // Without rights over other people's files, a directory of our own may still forbid us to read it.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(&dir, name, Mode::RWXU, AtFlags::empty())
                .act("change the mode of", bytes_path(name))?;
            open().map(Some).act("open directory", bytes_path(name))
        }
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some).act("open directory", bytes_path(name)),
    }
}
