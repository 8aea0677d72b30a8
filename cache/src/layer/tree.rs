//! Walking a layer's directory into a list of nodes, and taking out what does not differ from what lies below.
//!
//! Order: a directory before what it holds, names of a directory sorted by bytes. Directories are opened by their
//! path below the root (no component of which may be a link), so that no descriptor is held while the walk descends.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags};

use super::view::{Level, View};
use super::{LayerError, join};
use crate::fs::{self, Act, FsError, Inode, Kind, Metadata, Xattrs};

/// Levels of directories walked on one stack,
const LEVELS_PER_STACK: usize = 100;
/// which has this many bytes.
const STACK: usize = 4 << 20;

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct Node {
    /// Path below the layer's root; empty for the root itself.
    pub path: Vec<u8>,
    /// With only those attributes that go into an archive.
    pub metadata: Metadata,
    /// Which inode of the store it is.
    pub inode: Inode,
    /// Whether this directory hides what lies below.
    pub opaque: bool,
}

/// Walks a layer that is complete: everything in it belongs to it.
pub(super) fn walk(root: &OwnedFd, opaque_xattr: &[u8]) -> Result<Vec<Node>, LayerError> {
    let mut walk = Walk { root, opaque_xattr, below: None, nodes: Vec::new(), depth: 0 };
    walk.directory(b"", &Level::nowhere(b""), None)?;
    Ok(walk.nodes)
}

/// Walks an upper directory and removes from it what equals the merged view below: entries copied up but not
/// changed, whiteouts of nothing, opaque marks over nothing, sockets.
pub(super) fn reduce(root: &OwnedFd, opaque_xattr: &[u8], below: &View) -> Result<Vec<Node>, LayerError> {
    let mtime = fs::metadata_at(root, b".")?.0.mtime;
    let mut walk = Walk { root, opaque_xattr, below: Some(below), nodes: Vec::new(), depth: 0 };
    walk.directory(b"", &below.root(), Some(mtime))?;
    Ok(walk.nodes)
}

/// The root directory as a node.
pub(super) fn root_node(root: &OwnedFd) -> Result<Node, LayerError> {
    let (mut metadata, inode) = fs::metadata_at(root, b".")?;
    metadata.xattrs.retain(|name, _| is_exported(name));
    Ok(Node { path: Vec::new(), metadata, inode, opaque: false })
}

/// Whether an extended attribute goes into an archive. The overlay's own never do; of the others in `security.`
/// only file capabilities are the file's, labels belong to the machine.
pub(super) fn is_exported(name: &[u8]) -> bool {
    !is_overlay(name) && (!name.starts_with(b"security.") || name == b"security.capability")
}

/// Whether an extended attribute means something to overlayfs.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

struct Walk<'a> {
    root: &'a OwnedFd,
    opaque_xattr: &'a [u8],
    below: Option<&'a View>,
    nodes: Vec<Node>,
    depth: usize,
}

struct Child {
    name: Vec<u8>,
    metadata: Metadata,
    inode: Inode,
}

impl Walk<'_> {
    /// Adds what the directory holds. A step can nest directories deeper than the stack of a thread allows: every so
    /// many levels go on on the stack of another one.
    fn directory(&mut self, path: &[u8], level: &Level, mtime: Option<fs::Timestamp>) -> Result<(), LayerError> {
        self.depth += 1;
        let result = if self.depth.is_multiple_of(LEVELS_PER_STACK) {
            std::thread::scope(|scope| {
                let deeper = || self.entries(path, level, mtime);
                let spawned = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, deeper);
                match spawned.act("start a thread for", fs::bytes_path(path))?.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            })
        } else {
            self.entries(path, level, mtime)
        };
        self.depth -= 1;
        result
    }

    /// Adds what the directory holds; its time is put back where something was removed.
    fn entries(&mut self, path: &[u8], level: &Level, mtime: Option<fs::Timestamp>) -> Result<(), LayerError> {
        let shown = |error: FsError| FsError { path: fs::bytes_path(path).join(&error.path), ..error };
        let dir = fs::open_beneath(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut children = Vec::new();
        for name in fs::sorted_names(&dir).map_err(shown)? {
            let (metadata, inode) = fs::metadata_at(&dir, &name).map_err(shown)?;
            children.push(Child { name, metadata, inode });
        }
        drop(dir);
        let mut removed = false;
        for child in children {
            removed |= !self.child(path, child, level)?;
        }
        if let (true, Some(mtime)) = (removed, mtime) {
            let dir = fs::open_beneath(self.root, path, OFlags::PATH | OFlags::DIRECTORY)?;
            fs::apply_times(&dir, b".", mtime).map_err(shown)?;
        }
        Ok(())
    }

    /// Adds one entry and what is below; `false` where it was removed.
    fn child(&mut self, parent: &[u8], mut child: Child, level: &Level) -> Result<bool, LayerError> {
        let path = join(parent, &child.name);
        if child.name.starts_with(b".wh.") {
            return Err(LayerError::WhiteoutName { path: fs::bytes_path(&path).to_owned() });
        }
        let opaque = child.metadata.xattrs.get(self.opaque_xattr).is_some_and(|value| value == b"y");
        child.metadata.xattrs.retain(|name, _| is_exported(name));
        let node = Node { path, metadata: child.metadata, inode: child.inode, opaque };
        match (&node.metadata.kind, self.below) {
            (Kind::Directory, None) => {
                self.nodes.push(node.clone());
                self.directory(&node.path, level, None)?;
                Ok(true)
            }
            (Kind::Socket, None) => Ok(true),
            (_, None) => {
                self.nodes.push(node);
                Ok(true)
            }
            (Kind::Socket, Some(_)) => self.remove(parent, &child.name, AtFlags::empty()),
            (Kind::Directory, Some(below)) => self.merged_directory(parent, &child.name, node, level, below),
            (_, Some(below)) => {
                let same = match below.find_in(level, &child.name)? {
                    None => node.metadata.is_whiteout(),
                    // Another name of the same file could be left without it.
                    Some(_) if node.inode.links > 1 => false,
                    Some(found) => self.is_same(&node, &found, below)?,
                };
                if same {
                    return self.remove(parent, &child.name, AtFlags::empty());
                }
                self.nodes.push(node);
                Ok(true)
            }
        }
    }

    fn merged_directory(
        &mut self,
        parent: &[u8],
        name: &[u8],
        mut node: Node,
        level: &Level,
        below: &View,
    ) -> Result<bool, LayerError> {
        let lower = below.find_in(level, name)?;
        let over_directory =
            lower.as_ref().is_some_and(|found| FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory);
        if node.opaque && !over_directory {
            // Overlayfs marks every new directory; over nothing the mark says nothing.
            let dir = fs::open_beneath(self.root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
            fs::remove_xattr(&dir, name, self.opaque_xattr)?;
            node.opaque = false;
        }
        let inner = match over_directory && !node.opaque {
            true => below.enter(level, name)?,
            false => Level::nowhere(&node.path),
        };
        let position = self.nodes.len();
        self.nodes.push(node.clone());
        self.directory(&node.path, &inner, Some(node.metadata.mtime))?;
        let empty = self.nodes.len() == position + 1;
        if let (true, false, Some(found)) = (empty, node.opaque, &lower)
            && over_directory
            && self.is_same(&node, found, below)?
        {
            self.nodes.truncate(position);
            return self.remove(parent, name, AtFlags::REMOVEDIR);
        }
        Ok(true)
    }

    fn remove(&self, parent: &[u8], name: &[u8], flags: AtFlags) -> Result<bool, LayerError> {
        let dir = fs::open_beneath(self.root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::unlinkat(&dir, name, flags).act("remove", fs::bytes_path(name))?;
        Ok(false)
    }

    /// Whether an entry equals the one below in everything, its data too.
    fn is_same(&self, node: &Node, found: &super::view::Found<'_>, below: &View) -> Result<bool, LayerError> {
        let (stat, ours) = (&found.stat, &node.metadata);
        if (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid, stat.st_mtime)
            != (ours.mode, ours.uid, ours.gid, ours.mtime.seconds)
        {
            return Ok(false);
        }
        let (mut metadata, _) = below.metadata(found)?;
        metadata.xattrs.retain(|name, _| is_exported(name));
        if metadata != *ours {
            return Ok(false);
        }
        match ours.kind {
            Kind::File { size: 0 } => Ok(true),
            Kind::File { .. } => {
                let ours = File::from(fs::open_beneath(self.root, &node.path, OFlags::RDONLY)?);
                let theirs = File::from(fs::open_beneath(found.layer, &found.path, OFlags::RDONLY)?);
                Ok(same_data(ours, theirs).act("compare", fs::bytes_path(&node.path))?)
            }
            _ => Ok(true),
        }
    }
}

pub(crate) fn same_data(mut one: File, mut two: File) -> std::io::Result<bool> {
    let (mut ours, mut theirs) = (vec![0; 128 * 1024], Vec::with_capacity(128 * 1024));
    loop {
        let count = one.read(&mut ours)?;
        theirs.clear();
        // At the end of the first, one byte more of the second shows whether it ends too.
        two.by_ref().take(count.max(1) as u64).read_to_end(&mut theirs)?;
        if ours[..count] != theirs[..] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// Whether nothing at all is in a directory.
pub(super) fn is_empty(dir: impl AsFd) -> Result<bool, FsError> {
    for entry in rustix::fs::Dir::read_from(dir).act("read directory", "")? {
        let entry = entry.act("read directory", "")?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The attributes of a root directory that an archive would hold.
pub(crate) fn exported(xattrs: &Xattrs) -> Xattrs {
    xattrs.iter().filter(|(name, _)| is_exported(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
