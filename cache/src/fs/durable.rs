//! Transitions of what is on disk: after each of them a reader, or the next boot, sees something else.
//!
//! Whatever publishes or takes away something durable goes through here, so that a test can let each of them fail
//! (see [`crate::fault`]).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::fault;

/// Brings a file's bytes to the disk.
///
/// # Errors
/// Where the kernel reports that they could not be written. They must not be believed then, whatever a second try says.
pub fn sync_file(file: &File) -> io::Result<()> {
    fault::point()?;
    file.sync_all()
}

/// Brings the names in a directory to the disk.
///
/// # Errors
/// As [`sync_file`].
pub fn sync_directory(dir: impl AsFd) -> Result<(), Errno> {
    fault::point()?;
    rustix::fs::fsync(dir)
}

/// Brings everything of a file system to the disk.
///
/// # Errors
/// As [`sync_file`].
pub fn sync_file_system(dir: impl AsFd) -> Result<(), Errno> {
    fault::point()?;
    rustix::fs::syncfs(dir)
}

/// Renames, and replaces what was called so.
///
/// # Errors
/// Those of renameat(2).
pub fn rename(from: impl AsFd, old: impl Arg, to: impl AsFd, new: impl Arg) -> Result<(), Errno> {
    fault::point()?;
    rustix::fs::renameat(from, old, to, new)
}

/// Renames, but replaces nothing.
///
/// # Errors
/// Those of renameat2(2); `EXIST` where something is called so.
pub fn rename_new(from: impl AsFd, old: impl Arg, to: impl AsFd, new: impl Arg) -> Result<(), Errno> {
    fault::point()?;
    rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE)
}

/// Renames by path, and replaces what was called so.
///
/// # Errors
/// Those of rename(2).
pub fn rename_path(from: &Path, to: &Path) -> io::Result<()> {
    fault::point()?;
    std::fs::rename(from, to)
}

/// Removes a name of a file.
///
/// # Errors
/// Those of unlinkat(2).
pub fn unlink(dir: impl AsFd, path: impl Arg) -> Result<(), Errno> {
    fault::point()?;
    rustix::fs::unlinkat(dir, path, AtFlags::empty())
}

/// Removes a name of a file by path.
///
/// # Errors
/// Those of unlink(2).
pub fn unlink_path(path: &Path) -> io::Result<()> {
    fault::point()?;
    std::fs::remove_file(path)
}

/// Puts a whole file at `path` so that it, and its name, survive a power cut: `part`, which has been written, is
/// synced and renamed, and the directory synced.
///
/// # Errors
/// Where one of these fails.
pub fn publish(file: &File, part: &Path, path: &Path) -> io::Result<()> {
    sync_file(file)?;
    rename_path(part, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    Ok(sync_directory(File::open(parent)?)?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    fn sources(dir: &std::path::Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(path);
            }
        }
    }

    /// What publishes by another way would never be tried with a crash before it.
    #[test]
    fn every_transition_of_the_store_can_be_made_to_fail() {
        let mut files = Vec::new();
        for below in ["store", "layer", "gc", "fsck", "export"] {
            sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(below), &mut files);
        }
        let mut others = Vec::new();
        for path in files.iter().filter(|path| !path.to_string_lossy().contains("tests")) {
            let text = std::fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for call in ["fs::renameat", "fs::rename(", ".sync_all(", "fs::syncfs(", "rustix::fs::fsync("] {
                if code.contains(call) {
                    others.push(format!("{}: {call}", path.display()));
                }
            }
        }
        assert!(others.is_empty(), "{others:#?}");
    }
}
