//! Listing directories: once each, sorted, in parallel where there is much, ignored entries left out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lap_solver::digest::Key;
use lap_solver::pattern::MatchInfo;
use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{Kind, Meta, Node, Tree, TreeError, digest, path};

/// Directories with fewer entries are not worth a second thread.
const PARALLEL: usize = 512;

impl Tree {
    /// What the directory `node` at `path` holds, sorted by name; nothing where it is no directory.
    ///
    /// # Errors
    /// Where it cannot be read, or is another directory than the one that was listed.
    pub fn entries<'n>(&self, path: &[u8], node: &'n Node) -> Result<&'n [Node], TreeError> {
        let Kind::Directory(listing) = &node.kind else { return Ok(&[]) };
        if let Some(entries) = listing.entries.get() {
            return Ok(entries);
        }
        let fd = self.open_listed(path, node)?;
        let xattrs = self.xattrs(fd.as_fd()).map_err(|error| TreeError::io("read attributes of", path, error))?;
        let entries = self.list(path, fd.as_fd(), &listing.matched)?;
        let _ = listing.xattrs.set(digest::of_xattrs(&xattrs));
        Ok(listing.entries.get_or_init(|| entries.into()))
    }

    /// Identity of a directory's own attributes; reads them if need be.
    pub(super) fn directory_xattrs(&self, path: &[u8], node: &Node) -> Result<Key, TreeError> {
        self.entries(path, node)?;
        match &node.kind {
            Kind::Directory(listing) => Ok(*listing.xattrs.get_or_init(|| digest::of_xattrs(&[]))),
            _ => Ok(digest::of_xattrs(&[])),
        }
    }

    /// Opens a directory and makes sure that it is the listed one.
    pub(crate) fn open_listed(&self, path: &[u8], node: &Node) -> Result<OwnedFd, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = path::open_beneath(self.fd(), path, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => TreeError::changed(path),
            error => TreeError::io("open directory", path, error),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| TreeError::io("stat", path, error))?;
        let now = Meta::new(&stat, self.owners);
        if (now.dev, now.ino) == (node.meta.dev, node.meta.ino) { Ok(fd) } else { Err(TreeError::changed(path)) }
    }

    fn list(&self, path: &[u8], fd: BorrowedFd<'_>, matched: &MatchInfo) -> Result<Vec<Node>, TreeError> {
        let mut names = read_names(fd).map_err(|error| TreeError::io("read directory", path, error))?;
        names.sort_unstable();
        let one = |name: &Vec<u8>| self.entry(path, fd, name, matched).transpose();
        if names.len() < PARALLEL {
            names.iter().filter_map(one).collect()
        } else {
            names.par_iter().with_min_len(PARALLEL / 4).filter_map(one).collect()
        }
    }

    /// One entry, unless it is ignored, gone, or of a kind that is in no tree.
    fn entry(
        &self,
        parent: &[u8],
        fd: BorrowedFd<'_>,
        name: &[u8],
        matched: &MatchInfo,
    ) -> Result<Option<Node>, TreeError> {
        let (ignored, matched) = match &self.ignore {
            None => (None, MatchInfo::default()),
            Some(matcher) => {
                let at = path::join(parent, name);
                let text = String::from_utf8_lossy(&at).into_owned();
                let (ignored, matched) = matcher.matches_using_parents(&text, matched);
                if ignored && !matcher.may_reinclude_below(&text) {
                    return Ok(None);
                }
                (ignored.then_some(at), matched)
            }
        };
        let stat = match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // As if it had been removed before the directory was read.
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(TreeError::io("stat", &path::join(parent, name), error)),
        };
        let Some(node) = Node::new(name, &stat, self.owners, matched) else { return Ok(None) };
        match ignored {
            None => Ok(Some(node)),
            // An ignored directory is there only if something in it is.
            Some(at) if node.is_dir() => Ok((!self.entries(&at, &node)?.is_empty()).then_some(node)),
            Some(_) => Ok(None),
        }
    }

    /// Lists everything below `node`, in parallel.
    ///
    /// # Errors
    /// Where a directory cannot be read.
    pub fn load(&self, path: &[u8], node: &Node) -> Result<(), TreeError> {
        self.entries(path, node)?
            .par_iter()
            .filter(|entry| entry.is_dir())
            .try_for_each(|entry| self.load(&path::join(path, &entry.name), entry))
    }
}

fn read_names(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut dir = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = dir.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use lap_solver::pattern::Matcher;

    use super::super::{Owners, Tree};

    fn tree(dir: &Path, ignore: &[&str]) -> Tree {
        Tree::open(dir, Some(Matcher::new(ignore).unwrap()), Owners::Root).unwrap()
    }

    fn all(tree: &Tree) -> Vec<String> {
        fn below(tree: &Tree, path: &[u8], node: &super::Node, found: &mut Vec<String>) {
            for entry in tree.entries(path, node).unwrap() {
                let at = super::path::join(path, &entry.name);
                found.push(String::from_utf8_lossy(&at).into_owned());
                below(tree, &at, entry, found);
            }
        }
        let mut found = Vec::new();
        tree.load(b"", tree.root()).unwrap();
        below(tree, b"", tree.root(), &mut found);
        found
    }

    #[test]
    fn ignored_entries_are_not_there_and_exceptions_are() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/b", "a/c/d", "node_modules/x/y"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for path in ["a/b/keep.txt", "a/b/drop.txt", "a/c/d/keep.txt", "node_modules/x/y/z", "top.txt"] {
            fs::write(dir.path().join(path), path).unwrap();
        }
        let everything = ["a", "a/b", "a/b/drop.txt", "a/b/keep.txt", "a/c", "a/c/d", "a/c/d/keep.txt"];
        let modules = ["node_modules", "node_modules/x", "node_modules/x/y", "node_modules/x/y/z", "top.txt"];
        let no_ignore = all(&tree(dir.path(), &[]));
        assert_eq!(no_ignore, [&everything[..], &modules[..]].concat());
        for (ignore, want) in [
            (
                &["node_modules"][..],
                &["a", "a/b", "a/b/drop.txt", "a/b/keep.txt", "a/c", "a/c/d", "a/c/d/keep.txt", "top.txt"][..],
            ),
            (&["a", "!a/b/keep.txt", "node_modules"], &["a", "a/b", "a/b/keep.txt", "top.txt"]),
            (&["**", "!**/d"], &["a", "a/c", "a/c/d", "a/c/d/keep.txt"]),
            (&["*"], &[]),
            (&["**/*.txt", "node_modules/*"], &["a", "a/b", "a/c", "a/c/d", "node_modules"]),
        ] {
            assert_eq!(all(&tree(dir.path(), ignore)), want, "{ignore:?}");
        }
    }

    #[test]
    fn links_and_odd_files_are_listed_and_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        symlink("../../../etc", dir.path().join("up")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::Mode::from(0o644)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let tree = tree(dir.path(), &[]);
        assert_eq!(all(&tree), ["out", "pipe", "up"]);
        assert_eq!(tree.resolve(b"/out").unwrap(), b"etc/passwd");
        assert_eq!(tree.resolve(b"up/passwd").unwrap(), b"etc/passwd");
        assert!(tree.lookup(b"etc/passwd").unwrap().is_none());
        let pipe = tree.lookup(b"pipe").unwrap().unwrap();
        assert!(tree.open_file(b"pipe", pipe).is_err());
    }

    #[test]
    fn a_file_that_changed_or_became_something_else_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["grown", "linked", "piped", "gone"] {
            fs::write(dir.path().join(name), "old").unwrap();
        }
        let tree = tree(dir.path(), &[]);
        all(&tree);
        fs::write(dir.path().join("grown"), "longer").unwrap();
        for name in ["linked", "piped", "gone"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        symlink("/etc/passwd", dir.path().join("linked")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("piped"), rustix::fs::Mode::from(0o644)).unwrap();
        for name in ["grown", "linked", "piped", "gone"] {
            let node = tree.lookup(name.as_bytes()).unwrap().unwrap();
            let error = tree.open_file(name.as_bytes(), node).unwrap_err().to_string();
            assert_eq!(error, format!("\"/{name}\" changed while reading"));
        }
    }
}
