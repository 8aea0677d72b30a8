//! Digests of file contents, with the extended attributes that are copied.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

use lap_solver::digest::Key;
use rustix::io::Errno;

use super::{Kind, Node, Owners, Tree, TreeError};

/// An extended attribute: name and value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

impl Tree {
    /// Digest of a regular file's content and attributes, computed once.
    ///
    /// # Errors
    /// Where it cannot be read, or changed since it was listed or while it was read.
    pub(crate) fn file_digest(&self, path: &[u8], node: &Node) -> Result<Key, TreeError> {
        let Kind::File(known) = &node.kind else { return Ok(of_xattrs(&[])) };
        if let Some(key) = known.get() {
            return Ok(*key);
        }
        if let Some(key) = self.stats.as_ref().and_then(|stats| stats.get(&node.meta)) {
            return Ok(*known.get_or_init(|| key));
        }
        let started = SystemTime::now();
        let mut file = self.open_file(path, node)?;
        let key = self.of_file(&mut file).map_err(|error| TreeError::io("read", path, error))?;
        self.check_unchanged(file.as_fd(), path, node)?;
        if let Some(stats) = &self.stats {
            stats.put(&node.meta, started, key);
        }
        Ok(*known.get_or_init(|| key))
    }

    /// Attributes of a file that go with it into an image. Those that a user gave to a file of a context stay behind,
    /// as its owner does: BuildKit does not send them either.
    pub(crate) fn xattrs(&self, fd: BorrowedFd<'_>) -> io::Result<Vec<Xattr>> {
        let mut found = xattrs(fd)?;
        if self.owners == Owners::Root {
            found.retain(|(name, _)| !name.starts_with(b"user."));
        }
        Ok(found)
    }

    fn of_file(&self, file: &mut File) -> io::Result<Key> {
        let attributes = self.xattrs(file.as_fd())?;
        of_content(file, &attributes)
    }
}

fn of_content(file: &mut File, attributes: &[Xattr]) -> io::Result<Key> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let content = Key::from_bytes(*hasher.finalize().as_bytes());
    Ok(if attributes.is_empty() { content } else { Key::of("file", &(content, of_xattrs(attributes))) })
}

/// Identity of a set of attributes.
pub(super) fn of_xattrs(attributes: &[Xattr]) -> Key {
    Key::of("xattrs", attributes)
}

/// The attributes of an open file or directory that go along with it, sorted.
fn xattrs(fd: BorrowedFd<'_>) -> io::Result<Vec<Xattr>> {
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::flistxattr(fd, &mut names[..]) {
            Ok(0) | Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_copied(name)) {
        let mut value = vec![0; rustix::fs::fgetxattr_query(fd, name).unwrap_or(0)];
        match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// What the overlay keeps about its own files, and what labels of the machine's security modules say, stays behind.
fn is_copied(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
}
