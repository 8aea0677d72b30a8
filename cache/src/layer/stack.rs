//! Layers one upon another, entry by entry: what each brings, what a later one hides, what is left on top.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;

use super::tree::{Node, walk};
use super::view::View;
use super::{LayerError, layer_path};
use crate::digest::Digest;
use crate::fs::{self, Kind};
use crate::store::Store;

/// The entries of a stack of layers.
#[derive(Debug, Default)]
pub struct Stack {
    tops: BTreeMap<Vec<u8>, Top>,
    files: Vec<StoredFile>,
}

/// An entry as an image shows it.
#[derive(Debug, Clone)]
pub struct Top {
    /// The layer that it is of, counted from the lowest, 0.
    pub layer: usize,
    /// What it is.
    pub node: Node,
    /// Its data, in the list of all.
    file: Option<usize>,
}

/// The data of a regular file in a layer, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Path below the root, without a slash before it. Of several names (hard links), the first.
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// The layer that holds it, counted from the lowest, 0.
    pub layer: usize,
    /// What hides it; nothing where the image shows it.
    pub hidden: Option<Hidden>,
    /// Names that the image shows.
    names: usize,
}

/// Why a file of a layer is not in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hidden {
    /// The layer that hides it.
    pub by: usize,
    /// Whether something else stands in its place.
    pub is_replaced: bool,
}

impl Stack {
    /// Of layers that are unpacked in the store, lowest first.
    ///
    /// # Errors
    /// Where one is not there or cannot be read.
    pub fn of(store: &Store, chain: &[Digest]) -> Result<Self, LayerError> {
        let mut stack = Self::default();
        for (layer, diff_id) in chain.iter().enumerate() {
            if store.layer(diff_id)?.is_none() {
                return Err(LayerError::Missing { diff_id: *diff_id });
            }
            let root = open_layer(store, diff_id)?;
            stack.lay(layer, walk(&root, store.mode().opaque_xattr())?);
        }
        Ok(stack)
    }

    /// What the image shows, in order of path (bytes, without a slash before them).
    #[must_use]
    pub const fn tops(&self) -> &BTreeMap<Vec<u8>, Top> {
        &self.tops
    }

    /// Every file's data in the layers, those of lower layers first.
    #[must_use]
    pub fn files(&self) -> &[StoredFile] {
        &self.files
    }

    /// Lays a layer on top; a directory stands before what it holds.
    fn lay(&mut self, layer: usize, nodes: Vec<Node>) {
        let mut inodes: HashMap<(u64, u64), usize> = HashMap::new();
        for node in nodes {
            if node.metadata.is_whiteout() {
                self.hide(&node.path, layer, false);
                self.hide_below(&node.path, layer);
                continue;
            }
            if node.metadata.is_directory() {
                let over_directory = self.tops.get(&node.path).is_some_and(|top| top.node.metadata.is_directory());
                if node.opaque {
                    self.hide_below(&node.path, layer);
                }
                if !over_directory {
                    self.hide(&node.path, layer, true);
                }
                self.tops.insert(node.path.clone(), Top { layer, node, file: None });
                continue;
            }
            self.hide(&node.path, layer, true);
            self.hide_below(&node.path, layer);
            let file = match node.metadata.kind {
                Kind::File { size } => {
                    let inode = (node.inode.device, node.inode.number);
                    let known = inodes.get(&inode).copied().filter(|_| node.inode.links > 1);
                    let number = known.unwrap_or(self.files.len());
                    match self.files.get_mut(number) {
                        Some(file) => file.names += 1,
                        None => {
                            let path = node.path.clone();
                            self.files.push(StoredFile { path, size, layer, hidden: None, names: 1 });
                            inodes.insert(inode, number);
                        }
                    }
                    Some(number)
                }
                _ => None,
            };
            self.tops.insert(node.path.clone(), Top { layer, node, file });
        }
    }

    fn hide(&mut self, path: &[u8], by: usize, is_replaced: bool) {
        let Some(top) = self.tops.remove(path) else { return };
        let Some(file) = top.file.and_then(|number| self.files.get_mut(number)) else { return };
        file.names -= 1;
        if file.names == 0 {
            file.hidden = Some(Hidden { by, is_replaced });
        }
    }

    /// Hides what a directory holds so far.
    fn hide_below(&mut self, path: &[u8], by: usize) {
        // Paths below it lie between `path/` and `path0`, the byte after the slash.
        let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
        let paths: Vec<Vec<u8>> = self.tops.range(from..to).map(|(path, _)| path.clone()).collect();
        for path in paths {
            self.hide(&path, by, false);
        }
    }
}

/// The directory of an unpacked layer.
pub(crate) fn open_layer(store: &Store, diff_id: &Digest) -> Result<OwnedFd, LayerError> {
    let path = format!("{}/fs", layer_path(diff_id));
    Ok(fs::open_beneath(store.dir(), path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)?)
}

/// How an entry of an upper directory differs from the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added,
    /// It was there.
    Changed,
    /// It is gone.
    Deleted,
}

/// What an upper directory changes in the layers below, in order of path (without a slash before it).
///
/// # Errors
/// Where the directory or a layer cannot be read.
pub fn changes(store: &Store, upper: &Path, below: &[Digest]) -> Result<Vec<(Vec<u8>, Change)>, LayerError> {
    let view = View::open(store, below)?;
    let root = fs::open_dir(upper)?;
    let mut changes = Vec::new();
    for node in walk(&root, store.mode().opaque_xattr())? {
        let change = match (node.metadata.is_whiteout(), view.find(&node.path)?.is_some()) {
            (true, true) => Change::Deleted,
            // Made and removed again.
            (true, false) => continue,
            (false, true) => Change::Changed,
            (false, false) => Change::Added,
        };
        changes.push((node.path, change));
    }
    changes.sort();
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Inode, Metadata, Timestamp, Xattrs};

    fn node(path: &str, kind: Kind) -> Node {
        let metadata = Metadata { kind, mode: 0o644, uid: 0, gid: 0, mtime: Timestamp::EPOCH, xattrs: Xattrs::new() };
        let inode = Inode { device: 1, number: 0, links: 1 };
        Node { path: path.into(), metadata, inode, opaque: false }
    }

    fn file(path: &str, size: u64) -> Node {
        node(path, Kind::File { size })
    }

    fn gone(path: &str) -> Node {
        node(path, Kind::CharDevice { major: 0, minor: 0 })
    }

    fn link(path: &str, number: u64) -> Node {
        let inode = Inode { device: 1, number, links: 2 };
        Node { inode, ..file(path, 10) }
    }

    /// What is hidden: path, layer, by which, replaced.
    fn hidden(layers: Vec<Vec<Node>>) -> Vec<(String, usize, usize, bool)> {
        let mut stack = Stack::default();
        layers.into_iter().enumerate().for_each(|(number, nodes)| stack.lay(number, nodes));
        let hidden = stack.files().iter().filter_map(|file| {
            let Hidden { by, is_replaced } = file.hidden?;
            Some((String::from_utf8_lossy(&file.path).into_owned(), file.layer, by, is_replaced))
        });
        hidden.collect()
    }

    #[test]
    fn later_layers_hide_what_they_replace_and_remove() {
        let dir = |path: &str| node(path, Kind::Directory);
        let base = || vec![dir("a"), file("a/x", 1), dir("a/d"), file("a/d/y", 2), file("a0", 3), file("b", 4)];
        assert_eq!(hidden(vec![base(), vec![dir("a"), file("a/x", 5)]]), [("a/x".into(), 0, 1, true)]);
        assert_eq!(
            hidden(vec![base(), vec![gone("a")]]),
            [("a/x".into(), 0, 1, false), ("a/d/y".into(), 0, 1, false)],
            "all below, and nothing beside"
        );
        let opaque = Node { opaque: true, ..dir("a") };
        assert_eq!(
            hidden(vec![base(), vec![opaque, file("a/x", 1)]]),
            [("a/x".into(), 0, 1, false), ("a/d/y".into(), 0, 1, false)]
        );
        assert_eq!(hidden(vec![base(), vec![file("a/d", 9)]]), [("a/d/y".into(), 0, 1, false)]);
        assert_eq!(hidden(vec![base(), vec![dir("b"), file("b/z", 1)]]), [("b".into(), 0, 1, true)]);
        assert!(hidden(vec![base(), vec![dir("a"), dir("a/d")], vec![gone("none")]]).is_empty());
        // The same again and again.
        assert_eq!(hidden(vec![vec![file("f", 1)], vec![file("f", 1)], vec![file("f", 1)]]).len(), 2);
    }

    #[test]
    fn data_with_several_names_counts_once() {
        let links = || vec![link("one", 7), link("two", 7)];
        assert!(hidden(vec![links(), vec![gone("one")]]).is_empty(), "another name is left");
        assert_eq!(hidden(vec![links(), vec![gone("one"), gone("two")]]), [("one".into(), 0, 1, false)]);
        assert!(hidden(vec![links(), vec![link("three", 7)]]).is_empty(), "inodes of another layer are others");
    }
}
