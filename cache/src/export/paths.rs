//! Which names a result has: to tell results apart, and to remove from a directory what is not in them.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags, statat};

use super::ExportError;
use crate::digest::Digest;
use crate::fs::{self, Act, bytes_path};
use crate::layer::{View, join};
use crate::store::Store;

/// Names, and whether each is a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths(BTreeMap<Vec<u8>, bool>);

/// Every name in the merged tree of `layers` (diff IDs, lowest first), and those of further files.
///
/// # Errors
/// Where a layer is missing or cannot be read.
pub fn paths(store: &Store, layers: &[Digest], files: &[(String, Vec<u8>)]) -> Result<Paths, ExportError> {
    let view = View::open(store, layers)?;
    let mut paths: BTreeMap<Vec<u8>, bool> = files.iter().map(|(path, _)| (path.as_bytes().to_vec(), false)).collect();
    let mut stack = vec![view.root()];
    while let Some(level) = stack.pop() {
        for name in view.names(&level)? {
            let Some(found) = view.find_in(&level, &name)? else { continue };
            let directory = FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory;
            if directory {
                stack.push(view.enter(&level, &name)?);
            }
            paths.insert(found.path.clone(), directory);
        }
    }
    Ok(Paths(paths))
}

impl Paths {
    /// Adds those of another result, which lies in the directory `above`. Returns a name that both have and that is
    /// not a directory in both: one would replace the other.
    pub fn add(&mut self, above: &[u8], other: Self) -> Option<Vec<u8>> {
        let mut twice = None;
        if !above.is_empty() {
            self.0.insert(above.to_vec(), true);
        }
        for (path, directory) in other.0 {
            let path = join(above, &path);
            match self.0.insert(path.clone(), directory) {
                Some(before) if !(before && directory) => drop(twice.get_or_insert(path)),
                _ => {}
            }
        }
        twice
    }

    /// Removes everything from a directory that is not among these. Links are removed, not followed.
    ///
    /// # Errors
    /// Where something cannot be read or removed.
    pub fn remove_others(&self, directory: &Path) -> Result<(), ExportError> {
        let root = fs::open_dir(directory)?;
        self.tidy(std::os::fd::AsFd::as_fd(&root), b"")
    }

    fn tidy(&self, dir: BorrowedFd<'_>, path: &[u8]) -> Result<(), ExportError> {
        for name in fs::sorted_names(dir)? {
            let path = join(path, &name);
            match self.0.get(&path) {
                None => fs::remove_entry(dir, &name)?,
                Some(true) => {
                    let stat = statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW).act("read", bytes_path(&path))?;
                    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                        let inner = fs::open_beneath(dir, &name, flags)?;
                        self.tidy(std::os::fd::AsFd::as_fd(&inner), &path)?;
                    }
                }
                Some(false) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[(&str, bool)]) -> Paths {
        Paths(list.iter().map(|(path, directory)| (path.as_bytes().to_vec(), *directory)).collect())
    }

    #[test]
    fn what_is_not_in_the_result_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("out"), dir.path().join("elsewhere"));
        std::fs::create_dir_all(inside.join("keep/sub")).unwrap();
        std::fs::create_dir_all(inside.join("old/deep")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        for file in ["out/keep/a", "out/keep/b", "out/old/deep/c", "out/d", "elsewhere/precious"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("kept-link")).unwrap();
        let result = paths(&[("keep", true), ("keep/a", false), ("kept-link", true)]);
        result.remove_others(&inside).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["keep", "kept-link"]);
        assert_eq!(std::fs::read_dir(inside.join("keep")).unwrap().count(), 1);
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn results_that_share_more_than_directories_are_told() {
        let mut all = Paths::default();
        assert_eq!(all.add(b"", paths(&[("d", true), ("d/a", false)])), None);
        assert_eq!(all.add(b"", paths(&[("d", true), ("d/b", false)])), None);
        assert_eq!(all.add(b"", paths(&[("d", true), ("d/a", false)])), Some(b"d/a".to_vec()));
        assert_eq!(all.add(b"linux_arm64", paths(&[("d/a", false)])), None);
    }
}
