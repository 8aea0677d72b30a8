//! Files that give privileges to whoever runs them: setuid and setgid programs, and those with capabilities.
//!
//! A command on a root file system without one may as well be kept from gaining any (`no_new_privs`). Each layer
//! knows its own; layers above it may have replaced or hidden them, so the stack is asked for each by name.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;

use super::view::View;
use super::{LayerError, tree};
use crate::digest::Digest;
use crate::fs::{self, Kind, Metadata, Xattrs};
use crate::store::Store;

/// A layer with more of them is not listed: it is as one of which nothing is known.
pub(super) const MOST: usize = 256;

const CAPABILITIES: &[u8] = b"security.capability";
const SET_ID: u32 = 0o6000;

/// Whether mode and attributes of a regular file give privileges.
pub(super) fn gives(mode: u32, xattrs: &Xattrs) -> bool {
    mode & SET_ID != 0 || xattrs.contains_key(CAPABILITIES)
}

fn is_privileged(metadata: &Metadata) -> bool {
    matches!(metadata.kind, Kind::File { .. }) && gives(metadata.mode, &metadata.xattrs)
}

/// The list for a layer's info, of paths sorted; nothing where they are too many, or cannot be written as text.
pub(super) fn listed(paths: BTreeSet<Vec<u8>>) -> Option<Vec<String>> {
    if paths.len() > MOST {
        return None;
    }
    paths.into_iter().map(|path| String::from_utf8(path).ok()).collect()
}

/// Those among the nodes of a layer.
pub(super) fn among(nodes: &[tree::Node]) -> Option<Vec<String>> {
    listed(nodes.iter().filter(|node| is_privileged(&node.metadata)).map(|node| node.path.clone()).collect())
}

impl Store {
    /// Whether the root file system of these layers (lowest first) holds a file that gives privileges to whoever
    /// runs it. Where that is not known, as of layers of an older store, it may.
    ///
    /// # Errors
    /// Where a layer is missing or cannot be read.
    pub fn may_give_privileges(&self, layers: &[Digest]) -> Result<bool, LayerError> {
        let mut candidates = BTreeSet::new();
        for diff_id in layers {
            let info = self.layer(diff_id)?.ok_or(LayerError::Missing { diff_id: *diff_id })?;
            let Some(privileged) = info.privileged else { return Ok(true) };
            candidates.extend(privileged);
        }
        if candidates.is_empty() {
            return Ok(false);
        }
        let view = View::open(self, layers)?;
        for path in candidates {
            let Some(found) = view.find(path.as_bytes())? else { continue };
            if FileType::from_raw_mode(found.stat.st_mode) == FileType::RegularFile
                && is_privileged(&view.metadata(&found)?.0)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a directory of this machine, such as the upper one of an overlay, holds such a file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn directory_gives_privileges(&self, directory: impl AsFd) -> Result<bool, LayerError> {
        let root: OwnedFd = fs::open_dir_at(directory, b".")?;
        Ok(tree::walk(&root, self.mode().opaque_xattr())?.iter().any(|node| is_privileged(&node.metadata)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::archive::Entry;
    use crate::layer::tests::{directory, file, is_root, link, scratch, tar};

    const CAPABLE: &[u8] = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

    /// A layer of what `make` puts into its upper directory.
    fn layer(store: &Store, below: &[Digest], make: impl FnOnce(&Path)) -> (Digest, Option<Vec<String>>) {
        let workspace = store.workspace().unwrap();
        make(&workspace.upper());
        let info = store.commit(workspace, below, true).unwrap().unwrap();
        (info.diff_id, info.privileged)
    }

    fn program(path: impl AsRef<Path>, mode: u32) {
        std::fs::write(&path, "#!").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn layers_made_here_list_what_gives_privileges() {
        if !is_root("layers_made_here_list_what_gives_privileges") {
            return;
        }
        let scratch = scratch();
        let store = &scratch.store;
        let (plain, none) = layer(store, &[], |upper| {
            program(upper.join("plain"), 0o755);
            // A directory hands its group on, and gives nobody any rights.
            std::fs::create_dir(upper.join("dir")).unwrap();
            std::fs::set_permissions(upper.join("dir"), std::fs::Permissions::from_mode(0o6755)).unwrap();
        });
        assert_eq!(none.as_deref(), Some(&[][..]));
        assert!(!store.may_give_privileges(&[plain]).unwrap());

        let (set, listed) = layer(store, &[plain], |upper| {
            program(upper.join("su"), 0o4755);
            program(upper.join("wall"), 0o2755);
            program(upper.join("ping"), 0o755);
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(upper.join("ping"), "security.capability", CAPABLE, flags).unwrap();
        });
        assert_eq!(listed.unwrap(), ["ping", "su", "wall"]);
        assert!(store.may_give_privileges(&[plain, set]).unwrap());

        // What a layer above replaces or hides is not there any more.
        let (tamed, _) = layer(store, &[plain, set], |upper| {
            program(upper.join("su"), 0o755);
            program(upper.join("ping"), 0o755);
            let whiteout = FileType::CharacterDevice;
            let mode = rustix::fs::Mode::empty();
            rustix::fs::mknodat(rustix::fs::CWD, upper.join("wall"), whiteout, mode, 0).unwrap();
        });
        assert!(!store.may_give_privileges(&[plain, set, tamed]).unwrap());
    }

    #[test]
    fn unpacked_layers_list_it_by_every_name() {
        if !is_root("unpacked_layers_list_it_by_every_name") {
            return;
        }
        let scratch = scratch();
        let store = &scratch.store;
        let set = Entry { mode: 0o4755, ..file(b"bin/su", 0) };
        let bytes = tar(&[
            (directory(b"bin"), b""),
            (set, b""),
            (link(b"bin/sudo", b"bin/su"), b""),
            (Entry { mode: 0o4755, ..file(b"gone", 0) }, b""),
            (file(b"gone", 0), b""),
        ]);
        let info = store.unpack(&bytes[..], None, &[]).unwrap();
        assert_eq!(info.privileged.unwrap(), ["bin/su", "bin/sudo", "gone"]);
        assert!(store.may_give_privileges(&[info.diff_id]).unwrap());

        // A hard link into a layer below is a copy of what it names.
        let bytes = tar(&[(link(b"copy", b"bin/su"), b"")]);
        let above = store.unpack(&bytes[..], None, &[info.diff_id]).unwrap();
        assert_eq!(above.privileged.unwrap(), ["copy"]);

        let bytes = tar(&[(Entry { mode: 0o4755, ..file(b"x", 0) }, b""), (file(b"x", 0), b"")]);
        let replaced = store.unpack(&bytes[..], None, &[]).unwrap();
        assert!(!store.may_give_privileges(&[replaced.diff_id]).unwrap());
    }

    #[test]
    fn what_is_not_known_may_give_them() {
        let scratch = scratch();
        let store = &scratch.store;
        let (diff_id, _) = layer(store, &[], |upper| program(upper.join("plain"), 0o755));
        assert!(!store.may_give_privileges(&[diff_id]).unwrap());
        let path = store.layer_dir(&diff_id).join("layer.json");
        let old = std::fs::read_to_string(&path).unwrap().replace(r#","privileged":[]"#, "");
        assert!(!old.contains("privileged"), "{old}");
        std::fs::write(&path, old).unwrap();
        assert!(store.may_give_privileges(&[diff_id]).unwrap());
        let many = (0..=MOST).map(|number| number.to_string().into_bytes()).collect();
        assert_eq!(listed(many), None);
        assert_eq!(listed(BTreeSet::from([b"\xff".to_vec()])), None);
    }

    #[test]
    fn a_directory_is_looked_through() {
        let (scratch, dir) = (scratch(), tempfile::tempdir().unwrap());
        let store = &scratch.store;
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        let held = std::fs::File::open(dir.path()).unwrap();
        assert!(!store.directory_gives_privileges(&held).unwrap());
        program(dir.path().join("deep/su"), 0o4755);
        assert!(store.directory_gives_privileges(&held).unwrap());
    }
}
